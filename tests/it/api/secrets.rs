//! Nothing secret in any answer, on any page, or in the log of the program: marked secrets stand in every
//! column that must never be selected, in its own variables, in stored bodies, and wherever else a key may have
//! strayed.

use serde_json::{Map, Value, json};
use token_monitor::config::Flags;

use super::bodies::{MOST, binary, gzip, types};
use super::oracle::moment;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Api, Folder, Process, Samples, command, eventually, flags, free_address, now};

/// Stands in every secret.
const MARK: &str = "Marked0Secret";

const PASSWORD: &str = "Marked0SecretPassword";
const TOKEN: &str = "Marked0SecretToken";

/// What else is configured: the bots are where nobody is, so that all that can be said of a failure is said.
const CONFIGURED: [(&str, &str); 10] = [
    ("NEW_API_BASE_URL", "http://127.0.0.1:9"),
    ("NEW_API_KEY", "Marked0SecretKey"),
    ("BREAKER_MODE", "off"),
    ("TELEGRAM_BOT_TOKEN", "123456:Marked0SecretBot"),
    ("TELEGRAM_CHAT_ID", "-1001234567890"),
    ("TELEGRAM_API_BASE", "http://127.0.0.1:9"),
    ("TELEGRAM_PROXY", "http://user:Marked0SecretProxy@127.0.0.1:9"),
    ("FEISHU_WEBHOOK", "http://127.0.0.1:9/open-apis/bot/v2/hook/Marked0SecretHook"),
    ("FEISHU_SECRET", "Marked0SecretSignature"),
    ("WECOM_WEBHOOK", "http://127.0.0.1:9/cgi-bin/webhook/send?key=Marked0SecretGroup"),
];

/// Names of fields and headers that hold a credential, in the spellings that occur.
const NAMES: [&str; 28] = [
    "access_key",
    "AccessKeyId",
    "accessToken",
    "api-key",
    "apiSecret",
    "API_TOKEN",
    "Authorization",
    "auth_token",
    "bearer_token",
    "client_secret",
    "Cookie",
    "credential",
    "credentials",
    "id_token",
    "key",
    "passwd",
    "password",
    "private_key",
    "Proxy-Authorization",
    "refreshToken",
    "secret",
    "secret_access_key",
    "secretKey",
    "session_token",
    "Set-Cookie",
    "token",
    "X-Api-Key",
    "x-goog-api-key",
];

/// The user's address of the database. Its password is a secret, too.
async fn address(database: &Database) -> String {
    let user = database.name();
    match database.engine {
        Engine::Sqlite => database.url.clone(),
        Engine::MySql => {
            database.exec(&format!("CREATE USER {user}@'%' IDENTIFIED BY '{MARK}-database'")).await;
            database.exec(&format!("GRANT SELECT ON {user}.* TO {user}@'%'")).await;
            database.url.replace("root@", &format!("{user}:{MARK}-database@"))
        }
        // The tests' server asks for none.
        Engine::Postgres => database.url.replace("postgres@", &format!("postgres:{MARK}-database@")),
    }
}

/// Bodies as a fork may have stored them: in JSON, and in what is shown as a text, for it is none or not whole.
fn bodies() -> [(String, Vec<u8>); 5] {
    // With the line breaks of a private key, and quotes.
    let secret = json!(format!("{MARK}\n{MARK} \"{MARK}\""));
    let fields: Map<String, Value> = NAMES.iter().map(|name| ((*name).to_owned(), secret.clone())).collect();
    let headers: Map<String, Value> =
        NAMES.iter().map(|name| ((*name).to_owned(), json!([secret]))).collect();
    let said = format!(
        "use sk-{MARK}abcdefghijklmnop, AIza{MARK}{}, Bearer {MARK}.abcdefghijklmnop",
        "x".repeat(22)
    );
    let inside = Value::Object(fields.clone()).to_string();
    let sent = json!({"fields": fields, "headers": headers, "content": said, "arguments": inside});
    let nested =
        json!({"sent": sent, "credentials": {"deep": [{"a": secret}, secret]}, "token": [secret, secret]});
    let (sent, nested) = (sent.to_string(), nested.to_string());
    let long = format!("[{sent},\"{}\"]", "y".repeat(MOST));
    let events = format!("data: {sent}\n\ndata: [DONE]\n\n");
    let mut torn = gzip(&sent);
    torn.truncate(torn.len() - 8);
    [
        (nested.clone(), nested.clone().into_bytes()),
        (events.clone(), gzip(&nested)),
        (said.clone(), events.into_bytes()),
        (long, torn),
        (inside, said.into_bytes()),
    ]
}

/// A body for each row of the log.
async fn install_bodies(database: &Database) {
    let engine = database.engine;
    let (text, bytes) = types(engine);
    database
        .exec(&format!(
            "CREATE TABLE my_bodies (log_id bigint, asked {text}, answered {bytes}, request_headers {text})"
        ))
        .await;
    let (ids, bodies) = (1..=log().len(), bodies());
    for (id, (asked, answered)) in ids.zip(bodies.iter().cycle()) {
        let (asked, answered) = (engine.literal(asked), binary(engine, answered));
        let insert = format!("INSERT INTO my_bodies VALUES ({id}, {asked}, {answered}, '{MARK}-unasked')");
        database.exec(&insert).await;
    }
}

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
        let other = json!({"status_code": 401, "error_type": "openai_error", "error_code": sk, "admin_info": {"use_channel": ["1"]}});
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
                json!({
                    "admin_info": {"use_channel": ["1", "1"], "local_key": {"key": format!("{MARK}-nested")}, "note": sk},
                    "headers": {"Authorization": format!("Bearer {MARK}-header"), "x-api-key": format!("{MARK}-header")},
                    "access_token": format!("{MARK}-field"),
                    "list": [{"password": format!("{MARK}-list")}, sk],
                    "stream_status": {"status": "error", "end_reason": "eof", "end_error": format!("closed by {sk}")},
                }),
            )
        },
        LogRow { token_name: sk.clone(), ..row(2, String::new(), json!({})) },
        // Somebody sent the key for the model.
        LogRow { model_name: sk.clone(), ..failed(format!("no channel for {sk}")) },
        // And it was answered.
        LogRow { model_name: sk.clone(), ..row(2, String::new(), json!({})) },
        row(3, format!("the administrator set the key {sk}"), json!({"key": format!("{MARK}-manage")})),
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
    // Encoded, too: in base64 from each place that three bytes can begin at, and in hexadecimal.
    for mark in
        [MARK, "TWFya2VkMFNlY3Jld", "hcmtlZDBTZWNyZX", "NYXJrZWQwU2VjcmV0", "4d61726b656430536563726574"]
    {
        if let Some(at) = text.find(mark) {
            let near: String =
                text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
            panic!("{what} tells a secret: …{near}{mark}");
        }
    }
}

/// An answer of whatever status, seen to be clean.
async fn clean(api: &Api, what: &str, route: &str) -> (u16, String) {
    let answer = api.ask(&format!("/api/v1/{route}")).await;
    is_clean(&format!("{what} {route}"), &format!("{:?} {}", answer.headers, answer.text));
    (answer.status, answer.text)
}

/// What the breaker refuses, for it is off, stands in its ledger; an alert makes messages that do not arrive.
async fn make_trouble(api: &Api, what: &str) {
    for act in ["trip", "reset"] {
        let path = format!("/api/v1/channels/1/{act}");
        let answer = api.post(&path, r#"{"reason":"to see"}"#).await;
        assert_eq!(answer.status, 409, "{what} {path}: {}", answer.text);
        is_clean(&path, &format!("{:?} {}", answer.headers, answer.text));
    }
    let alert = json!({
        "status": "firing", "startsAt": moment(now()), "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "",
        "labels": {
            "alertname": "Burning", "severity": "critical", "action": "disable_channel", "channel_id": "1",
        },
        "annotations": {"summary": "it burns"}, "generatorURL": "http://prometheus:9090/graph",
    });
    let call = json!({
        "receiver": "breaker", "status": "firing", "version": "4", "groupKey": "{}/{}", "groupLabels": {},
        "externalURL": "http://am:9093", "commonLabels": {}, "truncatedAlerts": 0, "alerts": [alert],
    });
    let answer = api.post("/webhook/alertmanager", &call.to_string()).await;
    assert_eq!(answer.status, 200, "{what}: {}", answer.text);
    eventually("no bot is reached", async || {
        let deliveries = api.get("deliveries").await;
        let items = deliveries["items"].as_array().expect("a list");
        items.iter().filter(|one| one["error"].is_string()).count() == 3
    })
    .await;
}

/// Every route, and every row of the log in full.
async fn ask_everything(api: &Api, what: &str) {
    let mut read = 0;
    for route in ROUTES {
        let (status, text) = clean(api, what, route).await;
        assert!([200, 404].contains(&status), "{what} {route}: {text}");
        read += text.len();
    }
    for id in 1..=log().len() {
        let (status, text) = clean(api, what, &format!("logs/{id}")).await;
        assert_eq!(status, 200, "{what} logs/{id}: {text}");
        let detail: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(detail["bodies"]["available"], true, "{what} logs/{id}: {}", detail["bodies"]);
        for side in ["request", "response"] {
            let body = detail[side]["body"].to_string();
            assert!(body.contains("***"), "{what} logs/{id}: no secret was in the body of the {side}");
        }
        read += text.len();
    }
    assert!(read > 20_000, "{read} bytes of answers");
    // What is asked wrongly is not written down either.
    for route in ["logs?cursor=x", "logs?channel_id=1&channel_id=2", "nothing"] {
        clean(api, what, route).await;
    }
}

async fn tells_no_secret(engine: Engine, version: Version) {
    let what = format!("{engine:?} {version:?}");
    let (database, folder) = (Database::create(engine, version).await, Folder::new());
    install(&database).await;
    database.insert_logs(&log()).await;
    install_bodies(&database).await;
    let limits = folder.path().join("limits.yml");
    std::fs::write(&limits, LIMITS).expect("writing the limits");
    let listen = free_address();
    let flags = Flags {
        listen: Some(listen.to_string()),
        limits_file: Some(limits.display().to_string()),
        access_password: Some(PASSWORD.into()),
        metrics_token: Some(TOKEN.into()),
        body_table: Some("my_bodies".into()),
        body_request_column: Some("asked".into()),
        body_response_column: Some("answered".into()),
        body_join: Some("log_id".into()),
        rust_log: Some("debug".into()),
        ..flags(&address(&database).await, &folder.path())
    };
    let mut program = command(&flags);
    program.envs(CONFIGURED);
    let mut process = Process::run(listen, program);
    process.page().wait_ready().await;
    let api = Api::new(process.address, Some(PASSWORD));
    let limits = |samples: &Samples| samples.count("newapi_limit_used") > 3;
    eventually("limits are shown", async || limits(&Samples::parse(&api.ask("/metrics").await.text))).await;
    make_trouble(&api, &what).await;
    ask_everything(&api, &what).await;
    database.exec("DROP TABLE my_bodies").await;
    let (_, without_bodies) = clean(&api, &what, "logs/1").await;
    assert!(without_bodies.contains("cannot be read"), "{what}: {without_bodies}");
    let wrong = Api::new(process.address, Some(&format!("{MARK}-wrong-password")));
    clean(&wrong, "a refusal", "logs").await;
    for page in ["/", "/healthz", "/readyz", "/metrics"] {
        let answer = api.ask(page).await;
        assert_eq!(answer.status, 200, "{page}");
        is_clean(page, &answer.text);
    }
    let open_metrics = process.page().get_as("/metrics", "application/openmetrics-text;version=1.0.0").await;
    is_clean("/metrics", &open_metrics.expect("an answer").1);
    process.signal("TERM");
    process.exit_code().await;
    let printed = process.printed();
    for said in ["request", "to be sent again", "bodies cannot be read"] {
        assert!(printed.contains(said), "{said} is noted at this level: {printed}");
    }
    is_clean(&format!("{what}: the program's log"), &printed);
    if engine == Engine::MySql {
        database.exec(&format!("DROP USER {}@'%'", database.name())).await;
    }
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
