//! What the API answers while the log cannot be read, and before it was read.

use serde_json::json;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine, Proxy};
use crate::support::{Answer, Folder, Monitor, eventually, flags, now, problem};

/// Routes that tell of rows, for which the log is read.
const ROWS: [&str; 4] = ["logs", "logs?channel_id=1&limit=2", "logs/2", "requests/req-2"];

/// Routes that are answered from what is counted.
const COUNTED: [&str; 5] = ["overview", "trend", "slow-requests", "channels", "models"];

fn unavailable(what: &str, answer: &Answer, kind: &str) {
    let problem = problem(what, answer, 503);
    assert_eq!(problem["type"], kind, "{what}: {problem}");
    let seconds: u64 = answer.header("retry-after").parse().expect("whole seconds in Retry-After");
    assert!(seconds > 0);
    assert_eq!(problem["retry_after_seconds"], seconds, "{what}");
}

async fn answers_while_the_database_is_away(engine: Engine) {
    let (database, folder) = (Database::create(engine, Version::V1_0_0Rc24).await, Folder::new());
    let row = |number: i64| LogRow {
        created_at: now() - 60,
        use_time: number,
        request_id: format!("req-{number}"),
        other: Some(r#"{"admin_info":{"use_channel":["2","1"]}}"#.into()),
        ..LogRow::default()
    };
    database.insert_logs(&(1..=30).map(row).collect::<Vec<_>>()).await;
    let proxy = Proxy::in_front_of(&database.url);
    let monitor = Monitor::ready(&flags(&proxy.url(&database.url), &folder.path())).await;
    let api = monitor.api();
    let before = api.get("slow-requests?limit=5").await;
    assert!(before["items"][0]["detail_url"].is_string(), "{before}");

    for _ in 0..2 {
        proxy.refuse();
        proxy.drop_connections();
        let page = monitor.page();
        page.wait_samples("the log is away", |samples| samples.get("newapi_up") == Some(0.0)).await;
        for route in ROWS {
            let answer = api.ask(&format!("/api/v1/{route}")).await;
            unavailable(route, &answer, "/problems/database-unavailable");
            for secret in ["127.0.0.1", &proxy.port().to_string(), &database.name()] {
                assert!(!answer.text.contains(secret), "{route} tells {secret}: {}", answer.text);
            }
        }
        for route in COUNTED {
            api.get(route).await;
        }
        let overview = api.get("overview").await;
        assert_eq!(
            (&overview["totals"]["requests"], &overview["totals"]["slow_requests"]),
            (&json!(30), &json!(25))
        );
        // The same rows, as far as they are known without the log.
        let kept = api.get("slow-requests?limit=5").await;
        for at in 0..5 {
            let (kept, before) = (&kept["items"][at], &before["items"][at]);
            for field in
                ["id", "created_at", "duration_seconds", "model", "quota", "outcome", "over_threshold"]
            {
                assert_eq!(kept[field], before[field], "{field}");
            }
            assert_eq!((&kept["detail_url"], &kept["attempts"]), (&json!(null), &json!([])));
        }
        proxy.heal();
        eventually("rows are told again", async || api.ask("/api/v1/logs").await.status == 200).await;
        for route in ROWS {
            api.get(route).await;
        }
        assert_eq!(api.get("slow-requests?limit=5").await["items"], before["items"]);
    }
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_mariadb_is_away_sums_and_slow_requests_are_answered_and_rows_are_not() {
    answers_while_the_database_is_away(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_is_away_sums_and_slow_requests_are_answered_and_rows_are_not() {
    answers_while_the_database_is_away(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn until_the_history_is_read_the_api_says_that_it_is_not_ready() {
    let (database, folder) = (Database::create(Engine::Postgres, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&vec![LogRow { created_at: now(), ..LogRow::default() }; 500]).await;
    let mut lock = database.session().await;
    lock.exec("BEGIN; LOCK TABLE logs IN ACCESS EXCLUSIVE MODE").await;
    let monitor = Monitor::start(&flags(&database.url, &folder.path())).await;
    let api = monitor.api();
    for route in COUNTED.into_iter().chain(["logs"]) {
        let answer = api.ask(&format!("/api/v1/{route}")).await;
        unavailable(route, &answer, "/problems/not-ready");
        assert!(answer.text.contains("still being read"), "{}", answer.text);
    }
    api.get("openapi.json").await;
    // What is wrong is told as such also now.
    assert_eq!(api.problem("logs?limit=0", 400).await["parameter"], "limit");
    lock.exec("COMMIT").await;
    monitor.page().wait_ready().await;
    assert_eq!(api.get("overview").await["totals"]["requests"], 500);
    monitor.stop().await;
}
