//! A small gateway with a row of every kind in its log, and the monitor on it.

use token_monitor::breaker::act::{Kind, Outcome};
use token_monitor::clock::Clock;
use token_monitor::config::Flags;
use token_monitor::store::{Finished, Store};

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, flags, now};

/// A small installation with a row of every kind in its log.
pub struct Installation {
    pub monitor: Monitor,
    _folder: Folder,
    _database: Database,
}

impl Installation {
    pub async fn start() -> Self {
        let database = Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await;
        database.exec(CHANNELS).await;
        database.insert_logs(&every_kind_of_row(now() - 120)).await;
        Self::of(database).await
    }

    pub async fn of(database: Database) -> Self {
        let folder = Folder::new();
        let limits = folder.path().join("limits.yml");
        std::fs::write(&limits, LIMITS).expect("writing the limits");
        let flags = Flags {
            limits_file: Some(limits.display().to_string()),
            // Nothing is sent: there are no alerts.
            wecom_webhook: Some("http://127.0.0.1:9/cgi-bin/webhook/send?key=none".to_owned()),
            ..flags(&database.url, &folder.path())
        };
        trip_before(&folder);
        let monitor = Monitor::ready(&flags).await;
        monitor
            .page()
            .wait_samples("limits are shown", |samples| samples.count("newapi_limit_used") > 0)
            .await;
        Self { monitor, _folder: folder, _database: database }
    }

    /// Content type and body of a scrape.
    pub async fn scrape(&self, accept: Option<&str>) -> (String, Vec<u8>) {
        let mut request = reqwest::Client::new().get(format!("http://{}/metrics", self.monitor.address));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        (kind, answer.bytes().await.expect("a body").to_vec())
    }

    pub async fn text(&self, accept: Option<&str>) -> String {
        String::from_utf8(self.scrape(accept).await.1).expect("UTF-8")
    }
}

/// Has the breaker hold a channel that is disabled, by the word of a person.
fn trip_before(folder: &Folder) {
    let store = Store::open(&folder.path().join("monitor.db")).expect("a store");
    let now = Clock::system().now();
    let tripped = Finished {
        outcome: Outcome::Done,
        after: Some((2, None)),
        hold: true,
        restore_at: None,
        watch: false,
    };
    let written = store.write(|writing| {
        let act = writing.request_by_operator(Kind::Trip, 3, "it is old", now)?;
        writing.finish_act(act, now, &tripped)
    });
    written.expect("writing");
}

/// What may be used. Windows that roll, because a day may end while a test runs.
pub const LIMITS: &str = r#"
limits:
  - {name: azure-daily, channel: 1, model: "gpt-4o*", measure: cost_usd, max: 50, window: 24h, warn_at: 0.8, action: disable_channel, restore: window_reset}
  - {name: each-model, model: "*", measure: tokens, max: 100000, window: 7d, severity: warning}
  - {name: errors, measure: errors, max: 2, window: 1h, severity: info}
"#;

/// Its channels, for SQLite.
pub const CHANNELS: &str = r"
INSERT INTO channels (id, type, `key`, status, name, test_time, response_time, balance, balance_updated_time, models, `group`, used_quota, tag) VALUES
 (1, 3, 'secret', 1, 'azure-east', 1780000000, 850, 12.5, 1780000000, 'gpt-4o,gpt-4o-mini', 'default,vip', 123456, 'azure'),
 (2, 14, 'secret', 3, 'claude', 1780000060, 2100, 0, 0, 'claude-sonnet-4', 'default', 7, NULL),
 (3, 777, 'secret', 2, 'legacy', 0, 0, 0, 0, 'gpt-4o', 'default', 0, '');
INSERT INTO abilities (`group`, model, channel_id, enabled) VALUES
 ('default', 'gpt-4o', 1, 1), ('default', 'gpt-4o', 3, 0), ('vip', 'gpt-4o', 1, 1), ('default', 'gpt-4o-mini', 1, 1),
 ('default', 'claude-sonnet-4', 2, 0);
INSERT INTO options VALUES ('QuotaPerUnit', '500000');
";

/// Rows of every kind that counts differently, a second apart from `first` on. None is younger than now.
pub fn every_kind_of_row(first: i64) -> Vec<LogRow> {
    let row = |kind: i64, other: &str| LogRow { kind, other: Some(other.to_owned()), ..LogRow::default() };
    let answered = |other: &str, use_time, is_stream, request_id: &str| LogRow {
        use_time,
        is_stream,
        request_id: request_id.to_owned(),
        ..row(2, other)
    };
    let claude = |row: LogRow| LogRow { model_name: "claude-sonnet-4".to_owned(), channel_id: 2, ..row };
    let money = |quota, other: &str| LogRow { quota, use_time: 0, ..row(2, other) };
    let test = LogRow { token_name: "模型测试".to_owned(), token_id: 0, ..row(2, "{}") };
    let junk = LogRow {
        model_name: "no-such-model".to_owned(),
        ..row(5, r#"{"status_code":404,"error_type":"new_api_error"}"#)
    };
    let mut rows = vec![
        answered("{}", 2, false, "req-plain"),
        answered(
            r#"{"cache_tokens":64,"frt":812,"stream_status":{"status":"ok","end_reason":"done"},"admin_info":{"use_channel":["3","1"]}}"#,
            7,
            true,
            "req-retried",
        ),
        claude(answered(
            r#"{"usage_semantic":"anthropic","cache_tokens":700,"cache_creation_tokens":300,"frt":1500,"stream_status":{"status":"error","end_reason":"client_gone"}}"#,
            40,
            true,
            "req-gone",
        )),
        claude(answered(
            r#"{"input_tokens_total":1300,"cache_tokens":700,"cache_write_tokens":300,"frt":90,"stream_status":{"status":"error","end_reason":"eof"}}"#,
            2000,
            true,
            "req-broken",
        )),
        answered(r#"{"frt":-1000}"#, 11, true, &"x".repeat(200)),
        LogRow { channel_id: 9, ..answered("{}", 3, false, "req-deleted-channel") },
        row(5, r#"{"status_code":429,"error_type":"openai_error","admin_info":{"use_channel":["1"]}}"#),
        row(5, r#"{"error_type":"something new"}"#),
        junk,
        LogRow { quota: 250, ..row(6, r#"{"task_id":"t1","reason":"failed"}"#) },
        money(-40, "{}"),
        money(25_000, r#"{"violation_fee":true,"status_code":403}"#),
        money(300, r#"{"task_id":"t2"}"#),
        money(500, r#"{"task_id":"t3","is_task":true}"#),
        test,
        answered("", 1, false, "req-without-other"),
        answered("not JSON", 1, false, "req-not-json"),
        answered(r#"{"cache_tokens":"many"}"#, 1, false, "req-wrong-type"),
        LogRow { prompt_tokens: -5, ..answered("{}", 1, false, "req-bad-column") },
    ];
    rows.extend([0, 1, 3, 4, 7, 42].map(|kind| row(kind, "{}")));
    for (at, row) in (first..).zip(&mut rows) {
        row.created_at = at;
    }
    rows
}
