//! The texts that flags and environment variables hold, before anything is checked.

use std::path::Path;

use clap::Args;

use super::Problem;
use crate::secret::Secret;

/// Address and port of the HTTP server, unless `LISTEN` says otherwise.
pub const LISTEN: &str = "0.0.0.0:3002";

/// Flags, each with its environment variable. All are optional texts: what is missing or wrong is said by
/// [`super::Config::resolve`], for all of them at once and in the same words.
#[derive(Clone, Default, Args)]
pub struct Flags {
    /// new-api's main database: mysql://user:pass@host:port/db, postgres://…, sqlite://path, or new-api's own
    /// SQL_DSN. Required
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// A file that holds DATABASE_URL
    #[arg(long, env = "DATABASE_URL_FILE", global = true, value_name = "FILE")]
    pub database_url_file: Option<String>,
    /// Guards the JSON API, the webhook and Grafana. Required unless listening on loopback only
    #[arg(long, env = "ACCESS_PASSWORD", hide_env_values = true, global = true, value_name = "SECRET")]
    pub access_password: Option<String>,
    /// A file that holds ACCESS_PASSWORD
    #[arg(long, env = "ACCESS_PASSWORD_FILE", global = true, value_name = "FILE")]
    pub access_password_file: Option<String>,
    /// new-api's address, for its admin API
    #[arg(long, env = "NEW_API_BASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub new_api_base_url: Option<String>,
    /// Access token of a new-api administrator (never an sk- key)
    #[arg(long, env = "NEW_API_KEY", hide_env_values = true, global = true, value_name = "SECRET")]
    pub new_api_key: Option<String>,
    /// A file that holds NEW_API_KEY
    #[arg(long, env = "NEW_API_KEY_FILE", global = true, value_name = "FILE")]
    pub new_api_key_file: Option<String>,
    /// Id of that administrator, sent as New-Api-User [default: 1]
    #[arg(long, env = "NEW_API_USER_ID", global = true, value_name = "ID")]
    pub new_api_user_id: Option<String>,
    /// Telegram bot token; goes with TELEGRAM_CHAT_ID
    #[arg(long, env = "TELEGRAM_BOT_TOKEN", hide_env_values = true, global = true, value_name = "SECRET")]
    pub telegram_bot_token: Option<String>,
    /// A file that holds TELEGRAM_BOT_TOKEN
    #[arg(long, env = "TELEGRAM_BOT_TOKEN_FILE", global = true, value_name = "FILE")]
    pub telegram_bot_token_file: Option<String>,
    /// Telegram chat; goes with TELEGRAM_BOT_TOKEN
    #[arg(long, env = "TELEGRAM_CHAT_ID", global = true, value_name = "ID", allow_hyphen_values = true)]
    pub telegram_chat_id: Option<String>,
    /// Telegram topic in which messages appear [default: none]
    #[arg(long, env = "TELEGRAM_THREAD_ID", global = true, value_name = "ID")]
    pub telegram_thread_id: Option<String>,
    /// Telegram's Bot API, if it is reached by another address [default: https://api.telegram.org]
    #[arg(long, env = "TELEGRAM_API_BASE", hide_env_values = true, global = true, value_name = "URL")]
    pub telegram_api_base: Option<String>,
    /// Proxy to Telegram, and to nothing else: http://, https:// or socks5h:// [default: none]
    #[arg(long, env = "TELEGRAM_PROXY", hide_env_values = true, global = true, value_name = "URL")]
    pub telegram_proxy: Option<String>,
    /// A file that holds TELEGRAM_PROXY
    #[arg(long, env = "TELEGRAM_PROXY_FILE", global = true, value_name = "FILE")]
    pub telegram_proxy_file: Option<String>,
    /// Address of a Feishu or Lark custom bot
    #[arg(long, env = "FEISHU_WEBHOOK", hide_env_values = true, global = true, value_name = "URL")]
    pub feishu_webhook: Option<String>,
    /// A file that holds FEISHU_WEBHOOK
    #[arg(long, env = "FEISHU_WEBHOOK_FILE", global = true, value_name = "FILE")]
    pub feishu_webhook_file: Option<String>,
    /// That bot's signature secret, if signatures are checked
    #[arg(long, env = "FEISHU_SECRET", hide_env_values = true, global = true, value_name = "SECRET")]
    pub feishu_secret: Option<String>,
    /// A file that holds FEISHU_SECRET
    #[arg(long, env = "FEISHU_SECRET_FILE", global = true, value_name = "FILE")]
    pub feishu_secret_file: Option<String>,
    /// A word that the bot wants in every message; "Token Monitor" is in each already
    #[arg(long, env = "FEISHU_KEYWORD", global = true, value_name = "WORD")]
    pub feishu_keyword: Option<String>,
    /// Address of a WeCom group bot
    #[arg(long, env = "WECOM_WEBHOOK", hide_env_values = true, global = true, value_name = "URL")]
    pub wecom_webhook: Option<String>,
    /// A file that holds WECOM_WEBHOOK
    #[arg(long, env = "WECOM_WEBHOOK_FILE", global = true, value_name = "FILE")]
    pub wecom_webhook_file: Option<String>,
    /// Own wording of messages about alerts, a template file, see docs/messages.md [default: none]
    #[arg(long, env = "MESSAGE_TEMPLATE", global = true, value_name = "FILE")]
    pub message_template: Option<String>,
    /// Where people open Grafana; links in messages begin there [default: none]
    #[arg(long, env = "GRAFANA_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub grafana_url: Option<String>,
    /// Where people read this project's files; runbooks that alerts name by a path are below it [default: none]
    #[arg(long, env = "RUNBOOK_URL", global = true, value_name = "URL")]
    pub runbook_url: Option<String>,
    /// Switching channels off by alerts: off, dry_run or enforce [default: enforce if NEW_API_BASE_URL and
    /// NEW_API_KEY are set, else off]
    #[arg(long, env = "BREAKER_MODE", global = true, value_name = "MODE")]
    pub breaker_mode: Option<String>,
    /// Also disable the last enabled channel of a group and model: true or false [default: false]
    #[arg(long, env = "BREAKER_ALLOW_LAST", global = true, value_name = "BOOL")]
    pub breaker_allow_last: Option<String>,
    /// At most so many channels are disabled in an hour [default: 10]
    #[arg(long, env = "BREAKER_MAX_PER_HOUR", global = true, value_name = "NUMBER")]
    pub breaker_max_per_hour: Option<String>,
    /// Ids of channels that are never disabled, as 1,7 [default: none]
    #[arg(long, env = "BREAKER_PROTECT", global = true, value_name = "LIST")]
    pub breaker_protect: Option<String>,
    /// A message is sent if the Watchdog alert stops arriving for so long [default: 10m]
    #[arg(long, env = "WATCHDOG_TIMEOUT", global = true, value_name = "DURATION")]
    pub watchdog_timeout: Option<String>,
    /// Where new-api's LOG_SQL_DSN points [default: DATABASE_URL]
    #[arg(long, env = "LOG_DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub log_database_url: Option<String>,
    /// A file that holds LOG_DATABASE_URL
    #[arg(long, env = "LOG_DATABASE_URL_FILE", global = true, value_name = "FILE")]
    pub log_database_url_file: Option<String>,
    /// Our own state [default: sqlite://data/monitor.db]
    #[arg(long, env = "MONITOR_DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub monitor_database_url: Option<String>,
    /// Address and port of the HTTP server [default: 0.0.0.0:3002]
    #[arg(long, env = "LISTEN", global = true, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Time zone of days in limits and times in messages, an IANA name [default: the system's]
    #[arg(long, env = "TIMEZONE", global = true, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// Language of messages: en or zh-CN [default: en]
    #[arg(long, env = "LANGUAGE", global = true, value_name = "LANGUAGE")]
    pub language: Option<String>,
    /// Pause between polls of the log [default: 2s]
    #[arg(long, env = "POLL_INTERVAL", global = true, value_name = "DURATION")]
    pub poll_interval: Option<String>,
    /// How late a row may become visible after a higher id [default: 5m]
    #[arg(long, env = "LATE_WINDOW", global = true, value_name = "DURATION")]
    pub late_window: Option<String>,
    /// How far back the first start reads the log [default: 31d]
    #[arg(long, env = "HISTORY", global = true, value_name = "DURATION")]
    pub history: Option<String>,
    /// A request that takes longer is slow [default: 5s]
    #[arg(long, env = "SLOW_REQUEST_THRESHOLD", global = true, value_name = "DURATION")]
    pub slow_request_threshold: Option<String>,
    /// Further labels, any of group,token,user,key [default: none]
    #[arg(long, env = "EXTRA_LABELS", global = true, value_name = "LIST")]
    pub extra_labels: Option<String>,
    /// Label sets per metric family; what exceeds it is summed as _other [default: 2000]
    #[arg(long, env = "MAX_SERIES", global = true, value_name = "NUMBER")]
    pub max_series: Option<String>,
    /// What may be used, see limits.example.yml; read again when it changes [default: limits.yml if it exists]
    #[arg(long, env = "LIMITS_FILE", global = true, value_name = "FILE")]
    pub limits_file: Option<String>,
    /// The fork of new-api whose table of bodies is to be shown: cppbear, liuxsh9, kill136 or apimeter
    /// [default: none]
    #[arg(long, env = "BODY_PRESET", global = true, value_name = "NAME")]
    pub body_preset: Option<String>,
    /// Table beside the log in which a fork stores bodies of requests [default: none]
    #[arg(long, env = "BODY_TABLE", global = true, value_name = "NAME")]
    pub body_table: Option<String>,
    /// Its column with what the client sent
    #[arg(long, env = "BODY_REQUEST_COLUMN", global = true, value_name = "NAME")]
    pub body_request_column: Option<String>,
    /// Its column with what the client got
    #[arg(long, env = "BODY_RESPONSE_COLUMN", global = true, value_name = "NAME")]
    pub body_response_column: Option<String>,
    /// Its column that says to which row it belongs, log_id or request_id [default: request_id]
    #[arg(long, env = "BODY_JOIN", global = true, value_name = "COLUMN")]
    pub body_join: Option<String>,
    /// A bearer token that opens /metrics and nothing else
    #[arg(long, env = "METRICS_TOKEN", hide_env_values = true, global = true, value_name = "SECRET")]
    pub metrics_token: Option<String>,
    /// A file that holds METRICS_TOKEN
    #[arg(long, env = "METRICS_TOKEN_FILE", global = true, value_name = "FILE")]
    pub metrics_token_file: Option<String>,
    /// Opens /metrics to everyone: true or false [default: false]
    #[arg(long, env = "METRICS_PUBLIC", global = true, value_name = "BOOL")]
    pub metrics_public: Option<String>,
    /// Our own log: text or json [default: text]
    #[arg(long, env = "LOG_FORMAT", global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// What to log, in the syntax of RUST_LOG [default: info]
    #[arg(long, env = "RUST_LOG", global = true, value_name = "FILTER")]
    pub rust_log: Option<String>,
}

/// The same with defaults in place, empty texts gone and secret files read.
#[derive(Clone)]
#[expect(missing_docs, reason = "each field is the variable of its name, see Flags")]
pub struct Settings {
    pub database_url: Option<String>,
    pub log_database_url: Option<String>,
    pub monitor_database_url: String,
    pub access_password: Option<Secret>,
    pub metrics_token: Option<Secret>,
    pub metrics_public: String,
    pub new_api_base_url: Option<String>,
    pub new_api_key: Option<Secret>,
    pub new_api_user_id: String,
    pub telegram_bot_token: Option<Secret>,
    pub telegram_chat_id: Option<String>,
    pub telegram_thread_id: Option<String>,
    pub telegram_api_base: String,
    pub telegram_proxy: Option<Secret>,
    pub feishu_webhook: Option<Secret>,
    pub feishu_secret: Option<Secret>,
    pub feishu_keyword: Option<String>,
    pub wecom_webhook: Option<Secret>,
    pub message_template: Option<String>,
    pub grafana_url: Option<String>,
    pub runbook_url: Option<String>,
    pub breaker_mode: Option<String>,
    pub breaker_allow_last: String,
    pub breaker_max_per_hour: String,
    pub breaker_protect: Option<String>,
    pub watchdog_timeout: String,
    pub listen: String,
    pub timezone: Option<String>,
    pub language: String,
    pub poll_interval: String,
    pub late_window: String,
    pub history: String,
    pub slow_request_threshold: String,
    pub extra_labels: Option<String>,
    pub max_series: String,
    pub limits_file: Option<String>,
    pub body_preset: Option<String>,
    pub body_table: Option<String>,
    pub body_request_column: Option<String>,
    pub body_response_column: Option<String>,
    pub body_join: Option<String>,
    /// `demo`: nothing but the stand-in can be harmed.
    pub demo: bool,
}

impl Settings {
    /// Fills in defaults and reads secret files.
    ///
    /// # Errors
    /// Every secret file that cannot be read, and every secret that is given twice.
    pub fn from_flags(flags: &Flags) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut secret = |variable, value: &Option<String>, file: &Option<String>| {
            secret(variable, value.as_deref(), file.as_deref()).unwrap_or_else(|problem| {
                problems.push(problem);
                None
            })
        };
        let text = |value: &Option<String>| value.clone().filter(|text| !text.trim().is_empty());
        let or = |value: &Option<String>, default: &str| text(value).unwrap_or_else(|| default.to_owned());
        let settings = Self {
            database_url: secret("DATABASE_URL", &flags.database_url, &flags.database_url_file),
            log_database_url: secret(
                "LOG_DATABASE_URL",
                &flags.log_database_url,
                &flags.log_database_url_file,
            ),
            access_password: secret("ACCESS_PASSWORD", &flags.access_password, &flags.access_password_file)
                .map(Secret::new),
            metrics_token: secret("METRICS_TOKEN", &flags.metrics_token, &flags.metrics_token_file)
                .map(Secret::new),
            new_api_key: secret("NEW_API_KEY", &flags.new_api_key, &flags.new_api_key_file).map(Secret::new),
            telegram_bot_token: secret(
                "TELEGRAM_BOT_TOKEN",
                &flags.telegram_bot_token,
                &flags.telegram_bot_token_file,
            )
            .map(Secret::new),
            feishu_webhook: secret("FEISHU_WEBHOOK", &flags.feishu_webhook, &flags.feishu_webhook_file)
                .map(Secret::new),
            feishu_secret: secret("FEISHU_SECRET", &flags.feishu_secret, &flags.feishu_secret_file)
                .map(Secret::new),
            wecom_webhook: secret("WECOM_WEBHOOK", &flags.wecom_webhook, &flags.wecom_webhook_file)
                .map(Secret::new),
            telegram_thread_id: text(&flags.telegram_thread_id),
            telegram_api_base: or(&flags.telegram_api_base, "https://api.telegram.org"),
            telegram_proxy: secret("TELEGRAM_PROXY", &flags.telegram_proxy, &flags.telegram_proxy_file)
                .map(Secret::new),
            feishu_keyword: text(&flags.feishu_keyword),
            message_template: text(&flags.message_template),
            grafana_url: text(&flags.grafana_url),
            runbook_url: text(&flags.runbook_url),
            breaker_mode: text(&flags.breaker_mode),
            breaker_allow_last: or(&flags.breaker_allow_last, "false"),
            breaker_max_per_hour: or(&flags.breaker_max_per_hour, "10"),
            breaker_protect: text(&flags.breaker_protect),
            watchdog_timeout: or(&flags.watchdog_timeout, "10m"),
            monitor_database_url: or(&flags.monitor_database_url, "sqlite://data/monitor.db"),
            metrics_public: or(&flags.metrics_public, "false"),
            new_api_base_url: text(&flags.new_api_base_url),
            new_api_user_id: or(&flags.new_api_user_id, "1"),
            telegram_chat_id: text(&flags.telegram_chat_id),
            listen: or(&flags.listen, LISTEN),
            timezone: text(&flags.timezone),
            language: or(&flags.language, "en"),
            poll_interval: or(&flags.poll_interval, "2s"),
            late_window: or(&flags.late_window, "5m"),
            history: or(&flags.history, "31d"),
            slow_request_threshold: or(&flags.slow_request_threshold, "5s"),
            extra_labels: text(&flags.extra_labels),
            max_series: or(&flags.max_series, "2000"),
            limits_file: text(&flags.limits_file),
            body_preset: text(&flags.body_preset),
            body_table: text(&flags.body_table),
            body_request_column: text(&flags.body_request_column),
            body_response_column: text(&flags.body_response_column),
            body_join: text(&flags.body_join),
            demo: false,
        };
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }
}

/// Longest secret file, so that a wrong path such as a device or a log is noticed.
const MAX_SECRET_FILE: u64 = 64 * 1024;

fn secret(
    variable: &'static str,
    value: Option<&str>,
    file: Option<&str>,
) -> Result<Option<String>, Problem> {
    // Nobody guards a door with blanks on purpose.
    let present = |text: &&str| !text.trim().is_empty();
    match (value.filter(present), file.filter(present)) {
        (None, None) => Ok(None),
        (Some(value), None) => Ok(Some(value.to_owned())),
        (Some(_), Some(_)) => Err(Problem {
            variable,
            message: format!("is given twice, also as {variable}_FILE; set one of them"),
        }),
        (None, Some(path)) => read_secret(Path::new(path))
            .map(Some)
            .map_err(|reason| Problem { variable, message: format!("{variable}_FILE `{path}` {reason}") }),
    }
}

fn read_secret(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if length > MAX_SECRET_FILE {
        return Err(format!("is {length} bytes long; a secret has at most {MAX_SECRET_FILE}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}
