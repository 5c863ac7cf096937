//! Paging: no row twice, none left out, whatever happens to the log meanwhile.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use token_monitor::config::Flags;
use tokio_util::sync::CancellationToken;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Api, Folder, Monitor, eventually, flags, now};

/// Rows at the start.
const ROWS: i64 = 50_000;

/// From this row on every second id is left for rows that come late.
const LATE_FROM: i64 = 49_000;

/// The id of the n-th row.
fn id_of(number: i64) -> i64 {
    if number <= LATE_FROM { number } else { LATE_FROM + 2 * (number - LATE_FROM) }
}

fn row(id: i64) -> LogRow {
    LogRow {
        id: Some(id),
        created_at: now() - 600 + id % 600,
        use_time: id * 7919 % 90,
        model_name: if id % 3 == 0 { "claude".into() } else { "gpt-4o".into() },
        channel_id: id % 5,
        ..LogRow::default()
    }
}

fn ids(items: &[Value]) -> Vec<i64> {
    items.iter().map(|item| item["id"].as_i64().expect("an id")).collect()
}

/// Adds rows at the end, and late ones among the youngest of the start, until `stop`; says how many.
async fn write(database: Arc<Database>, stop: CancellationToken) -> i64 {
    let (mut end, mut late) = (id_of(ROWS), LATE_FROM + 1);
    while !stop.is_cancelled() {
        let mut rows: Vec<LogRow> = (1..=5).map(|step| row(end + step)).collect();
        end += 5;
        if late < id_of(ROWS) {
            rows.push(row(late));
            late += 2;
        }
        database.insert_logs(&rows).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    end - id_of(ROWS)
}

/// Reads a list to its end; of the rows that were there at the start each must come once, newest first.
async fn each_comes_once(api: &Api, route: &str, wanted: impl Fn(i64) -> bool) {
    let at_start: Vec<i64> = (1..=ROWS).rev().map(id_of).filter(|id| wanted(*id)).collect();
    let (items, pages) = api.pages(route).await;
    let shown = ids(&items);
    assert!(pages > at_start.len() / 500, "{route}: {pages} pages");
    assert!(shown.is_sorted_by(|a, b| a > b), "{route}: not in order, or one twice");
    let is_of_start = |id: &i64| *id <= LATE_FROM || *id <= id_of(ROWS) && (*id - LATE_FROM) % 2 == 0;
    let of_start: Vec<i64> = shown.iter().copied().filter(is_of_start).collect();
    assert!(of_start == at_start, "{route}: {} rows instead of {}", of_start.len(), at_start.len());
    assert!(shown.iter().all(|id| wanted(*id)), "{route}: rows that do not pass");
}

async fn pages_while_a_writer_adds_rows(engine: Engine) {
    let (database, folder) = (Database::create(engine, Version::V1_0_0Rc24).await, Folder::new());
    let rows: Vec<LogRow> = (1..=ROWS).map(|number| row(id_of(number))).collect();
    database.insert_logs(&rows).await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let (database, stop) = (Arc::new(database), CancellationToken::new());
    let writing = tokio::spawn(write(Arc::clone(&database), stop.clone()));
    let api = monitor.api();
    let total = |answer: &Value| answer["totals"]["requests"].as_i64().expect("a number");
    eventually("new rows are counted", async || total(&api.get("overview").await) > ROWS + 20).await;

    each_comes_once(&api, "logs?limit=500", |_| true).await;
    each_comes_once(&api, "logs?limit=500&model=claude&channel_id=1,2", |id| {
        id % 3 == 0 && [1, 2].contains(&(id % 5))
    })
    .await;
    each_comes_once(&api, "logs?limit=500&window=24h&channel_id=0", |id| id % 5 == 0).await;

    // In another order: the slowest first, and new rows come in between.
    let slow = |id: i64| id * 7919 % 90 >= 70;
    let (items, _) = api.pages("slow-requests?limit=500&min_duration=70s").await;
    let key = |item: &Value| {
        (item["duration_seconds"].as_f64(), item["created_at"].to_string(), item["id"].as_i64())
    };
    assert!(items.is_sorted_by(|a, b| key(a) > key(b)), "the slowest are not in order, or one comes twice");
    let mut shown = ids(&items);
    shown.sort_unstable();
    let missing = (1..=ROWS).map(id_of).filter(|id| slow(*id) && shown.binary_search(id).is_err()).count();
    assert_eq!(missing, 0, "slow requests are missing");
    stop.cancel();
    assert!(writing.await.expect("rows were written") > 50, "the writer hardly wrote");
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_through_fifty_thousand_rows_on_sqlite_shows_each_once_while_rows_come() {
    pages_while_a_writer_adds_rows(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_through_fifty_thousand_rows_on_mariadb_shows_each_once_while_rows_come() {
    pages_while_a_writer_adds_rows(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_through_fifty_thousand_rows_on_postgres_shows_each_once_while_rows_come() {
    pages_while_a_writer_adds_rows(Engine::Postgres).await;
}

/// A clean-up takes more rows out of the middle than one answer looks at.
#[tokio::test(flavor = "multi_thread")]
async fn paging_over_rows_that_are_deleted_shows_the_others_once_and_ends() {
    for engine in Engine::ALL {
        let (database, folder) = (Database::create(engine, Version::V1_0_0Rc24).await, Folder::new());
        database.insert_logs(&(1..=9000).map(row).collect::<Vec<_>>()).await;
        let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
        let api = monitor.api();
        let first = api.get("logs?limit=500").await;
        let next = first["next"].as_str().expect("a second page").trim_start_matches("/api/v1/").to_owned();
        // The next page's first rows, more than eight pages in the middle, and the last ones.
        database
            .exec("DELETE FROM logs WHERE id BETWEEN 8400 AND 8450 OR id BETWEEN 1500 AND 7000 OR id < 20")
            .await;
        let (rest, _) = api.pages(&next).await;
        let shown = [ids(first["items"].as_array().expect("a list")), ids(&rest)].concat();
        let wanted: Vec<i64> = (20..1500).chain(7001..8400).chain(8451..=9000).rev().collect();
        assert!(shown == wanted, "{engine:?}: {} rows instead of {}", shown.len(), wanted.len());
        monitor.stop().await;
    }
}

#[tokio::test]
async fn a_wiped_sqlite_log_shows_only_rows_that_exist() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let monitor =
        Monitor::ready(&Flags { late_window: Some("0s".into()), ..flags(&database.url, &folder.path()) })
            .await;
    let api = monitor.api();
    let counted = async |requests: i64| {
        eventually("all rows are counted", async || {
            api.get("overview").await["totals"]["requests"] == requests
        })
        .await;
    };
    let named = |id: i64, token_name: &str| LogRow { token_name: token_name.into(), ..row(id) };
    database.insert_logs(&(1..=1000).map(|id| named(id, "old")).collect::<Vec<_>>()).await;
    counted(1000).await;
    let first = api.get("logs?limit=500").await;
    database.exec("DELETE FROM logs").await;
    for (from, to) in [(1, 10), (11, 600), (601, 1300)] {
        let rows: Vec<LogRow> = (from..=to)
            .map(|id| LogRow { created_at: now() - 1200 + id % 600, ..named(id, "new") })
            .collect();
        database.insert_logs(&rows).await;
        counted(1000 + to).await;
        let (items, _) = api.pages("logs?limit=100").await;
        assert_eq!(ids(&items), (1..=to).rev().collect::<Vec<_>>());
        assert!(items.iter().all(|item| item["token_name"] == "new"), "a row of the table that is gone");
        let (slow, _) = api.pages("slow-requests?limit=500").await;
        for item in slow.iter().filter(|item| item["detail_url"].is_string()) {
            assert_eq!(item["token_name"], "new", "only rows that exist have a detail: {item}");
        }
        assert_eq!(i64::try_from(slow.len()), Ok(1000 + to), "the history knows both");
    }
    // A page of before leads to rows that exist, or to the end.
    let next = first["next"].as_str().expect("a second page").trim_start_matches("/api/v1/");
    let (items, _) = api.pages(next).await;
    assert_eq!(ids(&items), (1..=500).rev().collect::<Vec<_>>());
    monitor.stop().await;
}
