//! Each route's answer to a fixed log at a fixed time, as it was agreed. `UPDATE_GOLDEN=1` accepts a change.

use token_monitor::clock::Clock;
use token_monitor::config::Flags;

use super::oracle::moment;
use crate::installation::{CHANNELS, LIMITS, every_kind_of_row};
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::snapshot::assert_golden;
use crate::support::{Answer, Folder, Monitor, flags};

/// 2026-11-23T05:34:20Z.
const NOW: i64 = 1_795_412_060;

/// Rows of the day before, a request that was tried twice, and a row of every kind.
fn log() -> Vec<LogRow> {
    let at = |created_at| LogRow { created_at, ..LogRow::default() };
    let mut rows = vec![
        LogRow { use_time: 9, quota: 4000, request_id: "req-yesterday".into(), ..at(NOW - 100_000) },
        LogRow { kind: 5, quota: 0, other: Some(r#"{"status_code":500}"#.into()), ..at(NOW - 99_990) },
    ];
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
        other: tried(
            r#""3","1""#,
            r#""cache_ratio":0.5,"cache_tokens":512,"completion_ratio":4,"frt":812,"group_ratio":1,"model_price":-1,"model_ratio":1.763,"stream_status":{"end_reason":"done","status":"ok"},"user_group_ratio":-1"#,
        ),
        ..at(NOW - 10)
    }));
    rows
}

/// The name of a golden file, the route, and the status of its answer.
fn routes() -> Vec<(&'static str, String, u16)> {
    let window = format!("from={}&to={}", moment(NOW - 300), moment(NOW));
    let list = [
        ("overview", "overview".to_owned(), 200),
        ("overview_filtered", "overview?window=1h&model=claude-sonnet-4&stream=true".to_owned(), 200),
        ("trend", format!("trend?{window}&step=1m"), 200),
        ("trend_by_channel", format!("trend?{window}&step=1m&by=channel"), 200),
        ("slow_requests", "slow-requests?limit=3".to_owned(), 200),
        ("logs", "logs?limit=5".to_owned(), 200),
        ("logs_filtered", "logs?type=5,6&limit=4".to_owned(), 200),
        ("log_retried", "logs/29".to_owned(), 200),
        ("log_failed", "logs/28".to_owned(), 200),
        ("log_anthropic", "logs/5".to_owned(), 200),
        ("log_refund", "logs/12".to_owned(), 200),
        ("log_broken_other", "logs/19".to_owned(), 200),
        ("request", "requests/req-story".to_owned(), 200),
        ("channels", "channels".to_owned(), 200),
        ("models", "models".to_owned(), 200),
        ("limits", "limits".to_owned(), 200),
        ("incidents", "incidents".to_owned(), 200),
        ("deliveries", "deliveries".to_owned(), 200),
        ("openapi", "openapi.json".to_owned(), 200),
        ("problem_parameter", "logs?limit=501".to_owned(), 400),
        ("problem_history", "overview?window=32d".to_owned(), 400),
        ("problem_not_found", "logs/4000".to_owned(), 404),
        ("problem_no_route", "nothing".to_owned(), 404),
    ];
    list.into()
}

/// The same for what is asked of an old version on another database: no request ids, other types, other answers.
fn routes_of_old_version() -> Vec<(&'static str, String, u16)> {
    let kept = [
        "overview",
        "trend_by_channel",
        "slow_requests",
        "logs_filtered",
        "log_retried",
        "log_anthropic",
        "log_refund",
        "log_broken_other",
        "channels",
        "models",
        "limits",
    ];
    let mut routes = routes();
    routes.retain(|(name, ..)| kept.contains(name));
    routes.push(("request", "requests/req-story".to_owned(), 404));
    routes
}

fn indented(answer: &Answer) -> String {
    let text = serde_json::to_string_pretty(&answer.json()).expect("JSON");
    // The document's own; the examples in it have none.
    let version = |number: &str| format!("\"version\": \"{number}\"");
    format!("{}\n", text.replace(&version(env!("CARGO_PKG_VERSION")), &version("<version>")))
}

async fn answers_as_agreed(
    database: Database,
    folder_of_files: &str,
    routes: Vec<(&'static str, String, u16)>,
) {
    let folder = Folder::new();
    for statement in CHANNELS.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
        database.exec(statement).await;
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
    let mut wrong = Vec::new();
    for (name, route, status) in routes {
        let answer = monitor.api().ask(&format!("/api/v1/{route}")).await;
        assert_eq!(answer.status, status, "{route}: {}", answer.text);
        let text = indented(&answer);
        // All files are written, and all differences are told.
        let file = format!("{folder_of_files}/{name}.json");
        let compared = std::panic::catch_unwind(|| assert_golden(&file, &text));
        wrong.extend(compared.is_err().then_some(name));
    }
    assert!(wrong.is_empty(), "these differ, see above: {wrong:?}");
    monitor.stop().await;
}

#[tokio::test]
async fn each_route_of_the_api_answers_as_it_was_agreed() {
    let database = Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await;
    answers_as_agreed(database, "api", routes()).await;
}

#[tokio::test]
async fn an_old_version_on_mariadb_is_answered_for_as_it_was_agreed() {
    let database = Database::create(Engine::MySql, Version::V0_6_3).await;
    answers_as_agreed(database, "api/mariadb_v0.6.3.1.1", routes_of_old_version()).await;
}
