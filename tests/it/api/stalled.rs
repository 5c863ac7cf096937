//! A database that keeps its connections and does not answer: requests do not pile up, and those that need no log
//! do not notice.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine, Proxy};
use crate::support::{Answer, Api, Folder, Monitor, eventually, flags, now, problem};

/// What the API lets in, and how long it waits.
const WORKING: usize = 8;
const WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits for the database.
const READ: Duration = Duration::from_secs(5);

/// For a machine that has more to do.
const SLACK: Duration = Duration::from_secs(5);

/// Routes that need no log, whatever else goes on.
const WITHOUT_LOG: [&str; 7] =
    ["/api/v1/overview", "/api/v1/trend", "/api/v1/channels", "/api/v1/models", "/metrics", "/healthz", "/"];

/// An answer and how long it took.
async fn timed(api: Api, path: &'static str) -> (Answer, Duration) {
    let began = Instant::now();
    (api.ask(path).await, began.elapsed())
}

/// So many questions at once, in the background.
fn ask(api: &Api, times: usize) -> Vec<tokio::task::JoinHandle<(Answer, Duration)>> {
    (0..times).map(|_| tokio::spawn(timed(api.clone(), "/api/v1/logs/2"))).collect()
}

/// All of them are turned away as busy, and told with what.
fn overloaded(answers: &[(Answer, Duration)], at_least: Duration) {
    for (answer, took) in answers {
        let problem = problem("an overload", answer, 503);
        assert_eq!(problem["type"], "/problems/overloaded");
        assert!(
            problem["detail"].as_str().is_some_and(|why| why.contains("new-api's database")),
            "{problem}"
        );
        assert!((at_least..at_least + SLACK).contains(took), "{took:?}");
    }
}

async fn answers(asked: Vec<tokio::task::JoinHandle<(Answer, Duration)>>) -> Vec<(Answer, Duration)> {
    join_all(asked).await.into_iter().map(|answer| answer.expect("an answer")).collect()
}

async fn a_silent_database(engine: Engine) {
    let (database, folder) = (Database::create(engine, Version::V1_0_0Rc24).await, Folder::new());
    let row = LogRow { created_at: now() - 60, request_id: "req".into(), ..LogRow::default() };
    database.insert_logs(&vec![row; 30]).await;
    let proxy = Proxy::in_front_of(&database.url);
    let monitor = Monitor::ready(&flags(&proxy.url(&database.url), &folder.path())).await;
    let api = monitor.api();
    api.get("logs/2").await;

    proxy.stall();
    let working = ask(&api, WORKING);
    sleep(Duration::from_millis(500)).await;
    let waiting = ask(&api, WAITING);
    sleep(Duration::from_millis(500)).await;
    // There is no room to wait any more.
    overloaded(&answers(ask(&api, 10)).await, Duration::ZERO);
    for path in WITHOUT_LOG {
        let (answer, took) = timed(api.clone(), path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert!(took < PATIENCE, "{path} took {took:?}");
    }
    assert!(!working.iter().any(tokio::task::JoinHandle::is_finished), "the database has answered");
    overloaded(&answers(waiting).await, PATIENCE);
    for (answer, took) in answers(working).await {
        let problem = problem("a silent database", &answer, 503);
        assert_eq!(problem["type"], "/problems/database-unavailable");
        assert_eq!(problem["detail"], "new-api's database did not answer in time");
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        assert!((READ..READ + SLACK).contains(&took), "{took:?}");
    }
    // What is known without the log.
    let (slow, took) = timed(api.clone(), "/api/v1/slow-requests").await;
    let slow: serde_json::Value = serde_json::from_str(&slow.text).expect("JSON");
    assert_eq!(slow["items"].as_array().map(Vec::len), Some(20), "{slow}");
    assert!(slow["items"][0]["detail_url"].is_null() && took < READ + SLACK, "{slow} after {took:?}");

    // The network is back, but not for connections that it has forgotten.
    proxy.forget_connections();
    proxy.heal();
    eventually("rows are told again", async || api.ask("/api/v1/logs/2").await.status == 200).await;
    // Every place was given back, and every connection that does not answer was given up.
    for (answer, _) in answers(ask(&api, WORKING + WAITING)).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_that_does_not_answer_holds_up_only_who_needs_it() {
    a_silent_database(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_does_not_answer_holds_up_only_who_needs_it() {
    a_silent_database(Engine::Postgres).await;
}
