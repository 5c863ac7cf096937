-- The tables of new-api v1.0.0-rc.24 on SQLite that token-monitor may read, as its migrations leave them.
-- Types, defaults and column order matter: other programs introspect them. `indexes.sql` holds the indexes.

CREATE TABLE `abilities` (
    `group` varchar(64),
    `model` varchar(255),
    `channel_id` integer,
    `enabled` numeric,
    `priority` integer DEFAULT 0,
    `weight` integer DEFAULT 0,
    `tag` text,
    PRIMARY KEY (`group`, `model`, `channel_id`)
);

CREATE TABLE `channels` (
    `id` integer,
    `type` integer DEFAULT 0,
    `key` text NOT NULL,
    `open_ai_organization` text,
    `test_model` text,
    `status` integer DEFAULT 1,
    `name` text,
    `weight` integer DEFAULT 0,
    `created_time` integer,
    `test_time` integer,
    `response_time` integer,
    `base_url` text DEFAULT "",
    `other` text,
    `balance` real,
    `balance_updated_time` integer,
    `models` text,
    `group` varchar(64) DEFAULT "default",
    `used_quota` integer DEFAULT 0,
    `model_mapping` text,
    `status_code_mapping` varchar(1024) DEFAULT "",
    `priority` integer DEFAULT 0,
    `auto_ban` integer DEFAULT 1,
    `other_info` text,
    `tag` text,
    `setting` text,
    `param_override` text,
    `header_override` text,
    `remark` varchar(255),
    `channel_info` json,
    `settings` text,
    PRIMARY KEY (`id`)
);

CREATE TABLE `logs` (
    `id` integer,
    `user_id` integer,
    `created_at` integer,
    `type` integer,
    `content` text,
    `username` text DEFAULT "",
    `token_name` text DEFAULT "",
    `model_name` text DEFAULT "",
    `quota` integer DEFAULT 0,
    `prompt_tokens` integer DEFAULT 0,
    `completion_tokens` integer DEFAULT 0,
    `use_time` integer DEFAULT 0,
    `is_stream` numeric,
    `channel_id` integer,
    `channel_name` text,
    `token_id` integer DEFAULT 0,
    `group` text,
    `ip` text DEFAULT "",
    `request_id` varchar(64) DEFAULT "",
    `upstream_request_id` varchar(128) DEFAULT "",
    `other` text,
    PRIMARY KEY (`id`)
);

CREATE TABLE `options` (
    `key` text,
    `value` text,
    PRIMARY KEY (`key`)
);

CREATE TABLE `perf_metrics` (
    `id` integer,
    `model_name` text,
    `group` text,
    `bucket_ts` integer,
    `request_count` integer DEFAULT 0,
    `success_count` integer DEFAULT 0,
    `total_latency_ms` integer DEFAULT 0,
    `ttft_sum_ms` integer DEFAULT 0,
    `ttft_count` integer DEFAULT 0,
    `output_tokens` integer DEFAULT 0,
    `generation_ms` integer DEFAULT 0,
    PRIMARY KEY (`id`)
);

CREATE TABLE `quota_data` (
    `id` integer,
    `user_id` integer,
    `username` text DEFAULT "",
    `model_name` text DEFAULT "",
    `created_at` integer,
    `use_group` text DEFAULT "",
    `token_id` integer DEFAULT 0,
    `channel_id` integer DEFAULT 0,
    `node_name` text DEFAULT "",
    `token_used` integer DEFAULT 0,
    `count` integer DEFAULT 0,
    `quota` integer DEFAULT 0,
    PRIMARY KEY (`id`)
);

CREATE TABLE `tokens` (
    `id` integer,
    `user_id` integer,
    `key` varchar(128),
    `status` integer DEFAULT 1,
    `name` text,
    `created_time` integer,
    `accessed_time` integer,
    `expired_time` integer DEFAULT -1,
    `remain_quota` integer DEFAULT 0,
    `unlimited_quota` numeric,
    `model_limits_enabled` numeric,
    `model_limits` text,
    `allow_ips` text DEFAULT "",
    `used_quota` integer DEFAULT 0,
    `group` text DEFAULT "",
    `cross_group_retry` numeric,
    `auto_groups` text,
    `deleted_at` datetime,
    PRIMARY KEY (`id`)
);

CREATE TABLE `users` (
    `id` integer,
    `username` text UNIQUE,
    `password` text NOT NULL,
    `display_name` text,
    `role` integer DEFAULT 1,
    `status` integer DEFAULT 1,
    `email` text,
    `github_id` text,
    `discord_id` text,
    `oidc_id` text,
    `wechat_id` text,
    `telegram_id` text,
    `access_token` char(32),
    `quota` integer DEFAULT 0,
    `used_quota` integer DEFAULT 0,
    `request_count` integer DEFAULT 0,
    `group` varchar(64) DEFAULT "default",
    `aff_code` varchar(32),
    `aff_count` integer DEFAULT 0,
    `aff_quota` integer DEFAULT 0,
    `aff_history` integer DEFAULT 0,
    `inviter_id` integer,
    `deleted_at` datetime,
    `linux_do_id` text,
    `setting` text,
    `remark` varchar(255),
    `stripe_customer` varchar(64),
    `created_at` integer,
    `last_login_at` integer DEFAULT 0,
    `auth_version` bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (`id`)
);
