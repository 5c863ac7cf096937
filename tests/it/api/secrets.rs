//! Nothing secret in any answer, on any page, or in the log of the program: marked secrets stand in every column that
//! must never be selected, and wherever else a key may have strayed.

use serde_json::Value;
use token_monitor::config::Flags;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Api, Folder, Process, Samples, eventually, flags, now};

/// Stands in every secret.
const MARK: &str = "Marked0Secret";

const PASSWORD: &str = "Marked0SecretPassword";
const TOKEN: &str = "Marked0SecretToken";

/// The tables with columns that must never be selected, filled with marks.
async fn install(database: &Database) {
    let engine = database.engine;
    let (group, key) = (engine.identifier("group"), engine.identifier("key"));
    let enabled = engine.boolean(true);
    for statement in [
        format!(
            "INSERT INTO channels (id, type, {key}, status, name, models, {group}, used_quota, other, setting, param_override) VALUES (1, 1, 'sk-{MARK}-channel', 1, 'main', 'gpt-4o', 'default', 5, '{MARK}-region', '{MARK}-setting', '{MARK}-override')"
        ),
        format!(
            "INSERT INTO abilities ({group}, model, channel_id, enabled) VALUES ('default', 'gpt-4o', 1, {enabled})"
        ),
        format!("INSERT INTO tokens (id, user_id, {key}, name) VALUES (1, 1, '{MARK}-token', 'default')"),
        format!(
            "INSERT INTO users (id, username, password, access_token, email) VALUES (1, 'alice', '{MARK}-hash', '{MARK}-access', '{MARK}@example.org')"
        ),
        format!(
            "INSERT INTO options ({key}, value) VALUES ('QuotaPerUnit', '500000'), ('SMTPToken', '{MARK}-smtp'), ('GitHubClientSecret', '{MARK}-github')"
        ),
        "CREATE TABLE tasks (id INTEGER, task_id VARCHAR(64), private_data TEXT, properties TEXT, data TEXT)"
            .into(),
        format!(
            "INSERT INTO tasks VALUES (1, 'task_1', '{MARK}-private', '{MARK}-properties', '{MARK}-data')"
        ),
        "CREATE TABLE midjourneys (id INTEGER, prompt TEXT, prompt_en TEXT)".into(),
        format!("INSERT INTO midjourneys VALUES (1, '{MARK}-prompt', '{MARK}-prompt-en')"),
    ] {
        database.exec(&statement).await;
    }
}

/// Rows with keys that strayed into the log.
fn log() -> Vec<LogRow> {
    let row = |kind: i64, content: String, other: Value| LogRow {
        kind,
        content,
        other: Some(other.to_string()),
        created_at: now() - 60,
        use_time: 30,
        ..LogRow::default()
    };
    let sk = format!("sk-{MARK}abcdefghijklmnop");
    let failed = |content: String| {
        let request_id = "req-of-all".to_owned();
        let other = serde_json::json!({"status_code": 401, "error_type": "openai_error", "error_code": sk, "admin_info": {"use_channel": ["1"]}});
        LogRow { request_id, ..row(5, content, other) }
    };
    vec![
        failed(format!("status_code=401, Incorrect API key provided: {sk}. You can find it")),
        failed(format!("Authorization: Bearer {MARK}.abcdefghijklmnopqrstuvwxyz was refused")),
        failed(format!(r#"{{"error":{{"api_key":"{MARK}-quoted","message":"bad"}}"#)),
        LogRow {
            request_id: "req-of-all".into(),
            is_stream: true,
            ..row(
                2,
                format!("used {sk}"),
                serde_json::json!({
                    "admin_info": {"use_channel": ["1", "1"], "local_key": {"key": format!("{MARK}-nested")}, "note": sk},
                    "headers": {"Authorization": format!("Bearer {MARK}-header"), "x-api-key": format!("{MARK}-header")},
                    "access_token": format!("{MARK}-field"),
                    "list": [{"password": format!("{MARK}-list")}, sk],
                    "stream_status": {"status": "error", "end_reason": "eof", "end_error": format!("closed by {sk}")},
                }),
            )
        },
        LogRow { token_name: sk.clone(), ..row(2, String::new(), serde_json::json!({})) },
        // Somebody sent the key for the model.
        LogRow { model_name: sk.clone(), ..failed(format!("no channel for {sk}")) },
        // And it was answered.
        LogRow { model_name: sk.clone(), ..row(2, String::new(), serde_json::json!({})) },
        row(
            3,
            format!("the administrator set the key {sk}"),
            serde_json::json!({"key": format!("{MARK}-manage")}),
        ),
        LogRow {
            other: Some(format!(r#"{{"broken":"{sk}", "api_key":"{MARK}-cut"#)),
            ..row(2, String::new(), Value::Null)
        },
    ]
}

const ROUTES: [&str; 22] = [
    "overview",
    "overview?window=31d",
    "trend",
    "trend?by=model",
    "trend?by=channel",
    "trend?by=user",
    "slow-requests",
    "slow-requests?request_id=req-of-all",
    "logs",
    "logs/latest",
    "logs?type=5",
    "logs?request_id=req-of-all",
    "requests/req-of-all",
    "requests/req-of-nobody",
    "channels",
    "models",
    "models?window=1h&type=2",
    "limits",
    "incidents",
    "deliveries",
    "breaker",
    "openapi.json",
];

/// Each model has sums of its own, and those who use them are told.
const LIMITS: &str = r#"
limits:
  - {name: each, model: "*", measure: requests, max: 1, window: 24h}
  - {name: failures, model: "*", measure: errors, max: 1, window: 24h}
  - {name: all, measure: requests, max: 1, window: 24h}
"#;

fn is_clean(what: &str, text: &str) {
    // Encoded, too.
    for mark in [MARK, "TWFya2VkMFNlY3JldA"] {
        if let Some(at) = text.find(mark) {
            let near: String =
                text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
            panic!("{what} tells a secret: …{near}{mark}");
        }
    }
}

async fn tells_no_secret(engine: Engine, version: Version) {
    let (database, folder) = (Database::create(engine, version).await, Folder::new());
    install(&database).await;
    database.insert_logs(&log()).await;
    let limits = folder.path().join("limits.yml");
    std::fs::write(&limits, LIMITS).expect("writing the limits");
    let flags = Flags {
        limits_file: Some(limits.display().to_string()),
        access_password: Some(PASSWORD.into()),
        metrics_token: Some(TOKEN.into()),
        rust_log: Some("debug".into()),
        ..flags(&database.url, &folder.path())
    };
    let process = Process::spawn(&flags);
    process.page().wait_ready().await;
    let api = Api::new(process.address, Some(PASSWORD));
    let limits = |samples: &Samples| samples.count("newapi_limit_used") > 3;
    eventually("limits are shown", async || limits(&Samples::parse(&api.ask("/metrics").await.text))).await;
    // The breaker refuses both, for it is off; what was asked is in its ledger, which is read below.
    for act in ["trip", "reset"] {
        let path = format!("/api/v1/channels/1/{act}");
        let answer = api.post(&path, r#"{"reason":"to see"}"#).await;
        assert_eq!(answer.status, 409, "{path}: {}", answer.text);
        is_clean(&path, &format!("{:?} {}", answer.headers, answer.text));
    }
    let mut read = 0;
    let details = (1..=log().len()).map(|id| format!("logs/{id}"));
    for route in ROUTES.map(str::to_owned).into_iter().chain(details) {
        let answer = api.ask(&format!("/api/v1/{route}")).await;
        assert!([200, 404].contains(&answer.status), "{engine:?} {version:?} {route}: {}", answer.text);
        is_clean(
            &format!("{engine:?} {version:?} {route}"),
            &format!("{:?} {}", answer.headers, answer.text),
        );
        read += answer.text.len();
    }
    assert!(read > 20_000, "{read} bytes of answers");
    // What is asked wrongly is not written down either.
    for route in ["logs?cursor=x", "logs?channel_id=1&channel_id=2", "nothing"] {
        is_clean(route, &api.ask(&format!("/api/v1/{route}")).await.text);
    }
    let wrong = Api::new(process.address, Some(&format!("{MARK}-wrong-password")));
    is_clean("a refusal", &wrong.ask("/api/v1/logs").await.text);
    for page in ["/", "/healthz", "/readyz", "/metrics"] {
        let answer = api.ask(page).await;
        assert_eq!(answer.status, 200, "{page}");
        is_clean(page, &answer.text);
    }
    let open_metrics = process.page().get_as("/metrics", "application/openmetrics-text;version=1.0.0").await;
    is_clean("/metrics", &open_metrics.expect("an answer").1);
    process.signal("TERM");
    let mut process = process;
    process.exit_code().await;
    let printed = process.printed();
    assert!(printed.contains("request"), "requests are noted at this level: {printed}");
    is_clean(&format!("{engine:?} {version:?}: the program's log"), &printed);
}

#[tokio::test]
async fn no_secret_of_a_sqlite_installation_is_told_anywhere() {
    for version in [Version::V0_6_3, Version::V0_13_2, Version::V1_0_0Rc24] {
        tells_no_secret(Engine::Sqlite, version).await;
    }
}

#[tokio::test]
async fn no_secret_of_a_mariadb_or_postgres_installation_is_told_anywhere() {
    for engine in [Engine::MySql, Engine::Postgres] {
        tells_no_secret(engine, Version::V1_0_0Rc24).await;
    }
}
