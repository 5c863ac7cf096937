//! Each route's answer to a fixed log at a fixed time, as it was agreed, for every version on every engine.
//! `UPDATE_GOLDEN=1` accepts a change.

use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use token_monitor::clock::Clock;
use token_monitor::config::Flags;

use super::oracle::moment;
use crate::installation::{CHANNELS, LIMITS, every_kind_of_row};
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::snapshot::assert_golden;
use crate::support::{Folder, Monitor, flags};

/// 2026-11-23T05:34:20Z.
const NOW: i64 = 1_795_412_060;

/// Answers in which new-api's version plays no part: there is one file of each.
const OF_ALL_VERSIONS: [&str; 10] = [
    "breaker",
    "deliveries",
    "incidents",
    "openapi",
    "problem_history",
    "problem_no_route",
    "problem_not_found",
    "problem_parameter",
    "reset",
    "trip",
];

/// Rows whose details stand in one file: all of [`priced`], and of the others what has no file of its own:
/// a broken stream, a deleted channel, negative money, a fee, a settlement, a test, a wrong type, no traffic.
const OTHER_DETAILS: [i64; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 14, 16, 21, 22, 23, 25, 28, 32];

/// Each test compares, and may write, those files of all versions.
static FILES: Mutex<()> = Mutex::new(());

/// What new-api records of a price, in each of its ways.
fn prices() -> [Value; 8] {
    // Anthropic's way of counting, with a cache whose entries live for different times, and a tool.
    let cached = json!({
        "admin_info": {"use_channel": ["2"]},
        "cache_creation_ratio": 1.25, "cache_creation_ratio_1h": 2, "cache_creation_ratio_5m": 1.25,
        "cache_creation_tokens": 900, "cache_creation_tokens_1h": 300, "cache_creation_tokens_5m": 600,
        "cache_ratio": 0.1, "cache_tokens": 2000, "completion_ratio": 5, "frt": 1234, "group_ratio": 0.8,
        "model_price": -1, "model_ratio": 1.5, "request_conversion": ["Claude Messages"],
        "request_path": "/v1/messages", "stream_status": {"end_reason": "eof", "status": "ok"},
        "usage_semantic": "anthropic", "user_group_ratio": -1,
        "web_search_call_count": 2, "web_search_price": 10,
    });
    let sound = json!({
        "audio": true, "audio_completion_ratio": 2, "audio_input": 60, "audio_output": 20, "audio_ratio": 20,
        "completion_ratio": 4, "group_ratio": 1, "model_price": -1, "model_ratio": 1.25,
        "request_path": "/v1/realtime", "text_input": 40, "text_output": 10,
        "user_group_ratio": 0.5, "ws": true,
    });
    let pictures = json!({
        "completion_ratio": 0, "group_ratio": 1, "model_price": 0.04, "model_ratio": 0,
        "request_path": "/v1/images/generations", "user_group_ratio": -1,
    });
    // A picture that was sent, and another model than was asked for.
    let tools = json!({
        "cache_tokens": 0, "completion_ratio": 4, "file_search_call_count": 1, "file_search_price": 2.5,
        "group_ratio": 1, "image": true, "image_output": 30, "image_ratio": 2, "is_model_mapped": true,
        "model_price": -1, "model_ratio": 2.5, "reasoning_effort": "high", "request_path": "/v1/responses",
        "tool_surcharges": [{"count": 3, "name": "web_search", "price": 10}],
        "upstream_model_name": "gpt-4o-2024-08-06", "user_group_ratio": -1,
    });
    let tiers = json!({
        "billing_mode": "tiered_expr", "expr_b64": "cCAqIDEuMjUgKyBjICogNQ==", "group_ratio": 1,
        "matched_tier": "large", "request_path": "/v1/chat/completions",
    });
    let task = json!({
        "admin_info": {"use_channel": ["1"]}, "group_ratio": 1, "is_task": true, "model_price": 0.8,
        "request_path": "/v1/videos", "task_id": "task_1",
    });
    let settled = json!({
        "actual_quota": 500_000, "group_ratio": 1, "model_price": 0.8, "pre_consumed_quota": 400_000,
        "reason": "longer than estimated", "task_id": "task_1",
    });
    let broken = json!({
        "completion_ratio": 4, "frt": 700, "group_ratio": 1, "model_price": -1, "model_ratio": 1.25,
        "request_path": "/v1/chat/completions",
        "stream_status": {
            "end_error": "unexpected EOF", "end_reason": "timeout", "errors": ["first", "second"],
            "status": "error",
        },
        "upstream_http_status": 200, "user_group_ratio": -1,
    });
    [cached, sound, pictures, tools, tiers, task, settled, broken]
}

/// Requests at these prices. They come first, and are too old for any window but that of the whole log.
fn priced(first: i64) -> Vec<LogRow> {
    let of = |quota: i64, (prompt_tokens, completion_tokens): (i64, i64), other: Value| LogRow {
        quota,
        prompt_tokens,
        completion_tokens,
        use_time: 4,
        request_id: format!("req-of-{quota}"),
        other: Some(other.to_string()),
        ..LogRow::default()
    };
    let [cached, sound, pictures, tools, tiers, task, settled, broken] = prices();
    let claude = of(13_460, (1000, 400), cached);
    let (pictures, task) = (of(60_000, (60, 0), pictures), of(1_600_000, (0, 0), task));
    let mut rows = vec![
        LogRow { model_name: "claude-sonnet-4".into(), channel_id: 2, is_stream: true, ..claude },
        of(1300, (100, 30), sound),
        // How many is told in words only.
        LogRow { content: "大小 1024x1024, 品质 standard, 生成数量 3".into(), ..pictures },
        of(16_775, (100, 20), tools),
        of(900, (800, 20), tiers),
        LogRow { content: "操作 generate, 计算参数：seconds: 4.00".into(), use_time: 0, ..task },
        LogRow { use_time: 0, ..of(100_000, (0, 0), settled) },
        LogRow { is_stream: true, ..of(1450, (1000, 40), broken) },
    ];
    for (at, row) in (first..).zip(&mut rows) {
        row.created_at = at;
    }
    rows
}

/// Rows of long ago, of the day before, a row of every kind, and a request that was tried twice.
fn log() -> Vec<LogRow> {
    let at = |created_at| LogRow { created_at, ..LogRow::default() };
    let mut rows = priced(NOW - 10 * 86_400);
    rows.extend([
        LogRow { use_time: 9, quota: 4000, request_id: "req-yesterday".into(), ..at(NOW - 100_000) },
        LogRow { kind: 5, quota: 0, other: Some(r#"{"status_code":500}"#.into()), ..at(NOW - 99_990) },
    ]);
    rows.extend(every_kind_of_row(NOW - 120));
    let tried = |use_channel: &str, rest: &str| {
        Some(format!(
            r#"{{"admin_info":{{"use_channel":[{use_channel}]}},"request_path":"/v1/chat/completions",{rest}}}"#
        ))
    };
    let of_story = |row: LogRow| LogRow {
        request_id: "req-story".into(),
        is_stream: true,
        username: "bob".into(),
        ..row
    };
    rows.push(of_story(LogRow {
        kind: 5,
        quota: 0,
        completion_tokens: 0,
        channel_id: 3,
        use_time: 2,
        content: "status_code=429, rate limit reached for key sk-abcdefgh".into(),
        other: tried(
            r#""3""#,
            r#""status_code":429,"error_type":"openai_error","error_code":"rate_limit_exceeded""#,
        ),
        ..at(NOW - 20)
    }));
    rows.push(of_story(LogRow {
        quota: 3867,
        prompt_tokens: 1203,
        completion_tokens: 311,
        use_time: 7,
        // Neither is in every version's log.
        ip: "192.0.2.7".into(),
        upstream_request_id: "req_0123456789".into(),
        other: tried(
            r#""3","1""#,
            r#""cache_ratio":0.5,"cache_tokens":512,"completion_ratio":4,"frt":812,"group_ratio":1,"model_price":-1,"model_ratio":1.763,"stream_status":{"end_reason":"done","status":"ok"},"user_group_ratio":-1"#,
        ),
        ..at(NOW - 10)
    }));
    for row in &mut rows {
        // What the column holds on servers that care.
        row.request_id.truncate(64);
    }
    rows
}

/// The statements of [`CHANNELS`], which are SQLite's, in the engine's own SQL.
fn channels(engine: Engine) -> Vec<String> {
    let sql = if engine == Engine::Postgres { CHANNELS.replace('`', "\"") } else { CHANNELS.to_owned() };
    let statements = sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty());
    let in_own_words = |statement: &str| {
        if !statement.starts_with("INSERT INTO abilities") {
            return statement.to_owned();
        }
        let enabled = |value| format!(", {})", engine.boolean(value));
        statement.replace(", 1)", &enabled(true)).replace(", 0)", &enabled(false))
    };
    statements.map(in_own_words).collect()
}

/// The name of a golden file, the route, and the status of its answer.
fn routes(version: Version) -> Vec<(&'static str, String, u16)> {
    let window = format!("from={}&to={}", moment(NOW - 300), moment(NOW));
    // Old versions have no request ids, which is said.
    let request = if version.has_column("request_id") { 200 } else { 404 };
    let list = [
        ("overview", "overview".to_owned(), 200),
        ("overview_filtered", "overview?window=1h&model=claude-sonnet-4&stream=true".to_owned(), 200),
        ("trend", format!("trend?{window}&step=1m"), 200),
        ("trend_by_channel", format!("trend?{window}&step=1m&by=channel"), 200),
        ("slow_requests", "slow-requests?limit=3".to_owned(), 200),
        ("logs", "logs?limit=5".to_owned(), 200),
        ("logs_filtered", "logs?type=5,6&limit=4".to_owned(), 200),
        ("log_retried", "logs/37".to_owned(), 200),
        ("log_failed", "logs/36".to_owned(), 200),
        ("log_anthropic", "logs/13".to_owned(), 200),
        ("log_refund", "logs/20".to_owned(), 200),
        ("log_broken_other", "logs/27".to_owned(), 200),
        ("request", "requests/req-story".to_owned(), request),
        ("channels", "channels".to_owned(), 200),
        ("models", "models".to_owned(), 200),
        ("limits", "limits".to_owned(), 200),
        ("incidents", "incidents".to_owned(), 200),
        ("deliveries", "deliveries".to_owned(), 200),
        ("breaker", "breaker".to_owned(), 200),
        ("openapi", "openapi.json".to_owned(), 200),
        ("problem_parameter", "logs?limit=501".to_owned(), 400),
        ("problem_history", "overview?window=32d".to_owned(), 400),
        ("problem_not_found", "logs/4000".to_owned(), 404),
        ("problem_no_route", "nothing".to_owned(), 404),
    ];
    list.into()
}

fn indented(answer: &Value) -> String {
    let text = serde_json::to_string_pretty(answer).expect("JSON");
    // The document's own; the examples in it have none.
    let version = |number: &str| format!("\"version\": \"{number}\"");
    format!("{}\n", text.replace(&version(env!("CARGO_PKG_VERSION")), &version("<version>")))
}

/// What every route answers, with the names of the golden files.
async fn answers(engine: Engine, version: Version) -> Vec<(&'static str, String)> {
    let (database, folder) = (Database::create(engine, version).await, Folder::new());
    for statement in channels(engine) {
        database.exec(&statement).await;
    }
    database.insert_logs(&log()).await;
    let limits = folder.path().join("limits.yml");
    std::fs::write(&limits, LIMITS).expect("writing the limits");
    let flags = Flags {
        timezone: Some("Asia/Shanghai".into()),
        limits_file: Some(limits.display().to_string()),
        ..flags(&database.url, &folder.path())
    };
    let clock = Clock::fixed(moment(NOW).parse().expect("a time"));
    let monitor = Monitor::start_at(&flags, clock).await;
    monitor.page().wait_samples("limits are shown", |samples| samples.count("newapi_limit_used") > 0).await;
    let (api, mut answers) = (monitor.api(), Vec::new());
    // The breaker is off and refuses both; its ledger, which is asked for below, tells of them.
    for act in ["trip", "reset"] {
        let answer = api.post(&format!("/api/v1/channels/1/{act}"), r#"{"reason":"to see"}"#).await;
        assert_eq!(answer.status, 409, "{engine:?} {version:?} {act}: {}", answer.text);
        answers.push((act, indented(&answer.json())));
    }
    for (name, route, status) in routes(version) {
        let answer = api.ask(&format!("/api/v1/{route}")).await;
        assert_eq!(answer.status, status, "{engine:?} {version:?} {route}: {}", answer.text);
        answers.push((name, indented(&answer.json())));
    }
    let mut details = Vec::new();
    for id in OTHER_DETAILS {
        details.push(api.get(&format!("logs/{id}")).await);
    }
    answers.push(("details", indented(&Value::Array(details))));
    monitor.stop().await;
    answers
}

/// The engines are compared with each other, and the first of them with the files: the same rows in tables of
/// the same version are the same answers, to the byte, so one folder of files holds for all three.
async fn every_engine_answers_as_agreed(version: Version, folder: &str) {
    let [sqlite, mysql, postgres] = Engine::ALL.map(|engine| Box::pin(answers(engine, version)));
    let (agreed, mysql, postgres) = tokio::join!(sqlite, mysql, postgres);
    let mut wrong = Vec::new();
    for (engine, answers) in [(Engine::MySql, mysql), (Engine::Postgres, postgres)] {
        assert_eq!(answers.len(), agreed.len(), "{engine:?}");
        for ((name, wanted), (_, found)) in agreed.iter().zip(&answers) {
            if found != wanted {
                let first = wanted.lines().zip(found.lines()).find(|(wanted, found)| wanted != found);
                wrong.push(format!("{name} of SQLite and of {engine:?}: {first:?}"));
            }
        }
    }
    let _alone = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, text) in &agreed {
        // All files are written, and all differences are told.
        let shared = OF_ALL_VERSIONS.contains(name);
        let file = if shared { format!("api/{name}.json") } else { format!("api/{folder}/{name}.json") };
        let compared = std::panic::catch_unwind(|| assert_golden(&file, text));
        wrong.extend(compared.is_err().then_some(file));
    }
    assert!(wrong.is_empty(), "these differ, see above: {wrong:#?}");
}

#[tokio::test]
async fn each_route_of_the_api_answers_as_it_was_agreed_on_every_engine() {
    every_engine_answers_as_agreed(Version::V1_0_0Rc24, "v1.0.0-rc.24").await;
}

#[tokio::test]
async fn each_route_answers_as_it_was_agreed_for_a_log_without_ids_of_upstream_requests() {
    every_engine_answers_as_agreed(Version::V0_13_2, "v0.13.2").await;
}

#[tokio::test]
async fn each_route_answers_as_it_was_agreed_for_a_log_without_ids_of_requests() {
    every_engine_answers_as_agreed(Version::V0_6_3, "v0.6.3.1.1").await;
}
