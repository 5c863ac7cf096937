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
const LIMIT: Duration = Duration::from_secs(15);

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

/// All of them are turned away as busy.
fn overloaded(answers: &[(Answer, Duration)], at_least: Duration) {
    for (answer, took) in answers {
        assert_eq!(problem("an overload", answer, 503)["type"], "/problems/overloaded");
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
        let kind = problem("a silent database", &answer, 503)["type"].clone();
        assert!(
            ["/problems/timeout", "/problems/database-unavailable"].contains(&kind.as_str().unwrap_or(""))
        );
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        assert!(took < LIMIT + SLACK, "{took:?}");
    }

    proxy.heal();
    eventually("rows are told again", async || api.ask("/api/v1/logs/2").await.status == 200).await;
    // Every place was given back.
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
