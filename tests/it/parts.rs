//! Long rounds commit in parts. When a later part cannot be committed the round begins again from monitor.db: nothing
//! is lost, nothing is there twice, and what was shown goes on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;
use token_monitor::clock::Clock;
use token_monitor::config::{Config, Flags, TailConfig};
use token_monitor::store::Store;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::crash::{DOUBLE, committed_id, never_less};
use crate::ledger::{Ledger, agrees, traffic};
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Api, Folder, Monitor, Page, Samples, eventually, flags, now, resolved};

/// Rows of a part: a tenth of what an operator's has, for the same story in a tenth of the time.
const PART: i64 = 20_000;

/// Rows of a read.
const BATCH: i64 = 500;

const STORE_ERRORS: &str = "token_monitor_tail_errors_total{reason=\"store\"}";

/// monitor.db refuses every commit beyond a row, as a disk that is full does, until it is healed.
struct Broken(Connection);

impl Broken {
    fn beyond(store: &Path, last_id: i64) -> Self {
        let connection = Connection::open(store).expect("opening monitor.db");
        let trigger = format!(
            "CREATE TRIGGER full BEFORE INSERT ON state WHEN NEW.name = 'position' \
             AND json_extract(NEW.value, '$.last_id') > {last_id} \
             BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        );
        connection.execute_batch(&trigger).expect("making the trigger");
        Self(connection)
    }

    fn heal(&self) {
        self.0.execute_batch("DROP TRIGGER full").expect("dropping the trigger");
    }
}

/// Waits until commits have failed so often, the first time with a part of the round in monitor.db.
async fn fails_after_a_part(page: &Page, store: &Path, before: i64, times: f64) -> Samples {
    page.wait_samples("a commit fails", |samples| samples.get(STORE_ERRORS) > Some(0.0)).await;
    // On a slow machine the round before ended by its time, with less.
    let parts = committed_id(store) - before;
    assert!((1..2 * PART).contains(&parts), "{parts} rows are committed, not one part");
    page.wait_samples("it fails again", |samples| samples.get(STORE_ERRORS) >= Some(times)).await
}

/// The history must hold each row of the log once: sums by channel and by model are those of SQL.
async fn history_agrees(api: &Api, database: &Database) {
    let overview = api.get("overview?window=2d").await;
    for (list, column) in [("by_channel", "channel_id"), ("by_model", "model_name")] {
        let sql = format!(
            "SELECT {column}, sum(type = 2), sum(type = 5), sum(prompt_tokens), sum(completion_tokens), sum(quota) \
             FROM logs GROUP BY {column}"
        );
        let rows = database.rows(&sql).await;
        let shown = overview[list].as_array().expect("a list");
        assert_eq!(shown.len(), rows.len(), "{list}");
        for row in rows {
            let key = |item: &Value| item["channel_id"].as_i64().map(|id| id.to_string());
            let name = |item: &Value| item["model"].as_str().map(str::to_owned);
            let of = |item: &&Value| if list == "by_channel" { key(item) } else { name(item) } == row[0];
            let item = shown.iter().find(of).unwrap_or_else(|| panic!("{list} lacks {row:?}"));
            let fields = ["requests", "errors", "input_tokens", "output_tokens", "quota"];
            let told = fields.map(|field| item[field].as_i64().map(|number| number.to_string()));
            assert_eq!(told, row[1..], "{list} {:?}: {fields:?}", row[0]);
        }
    }
}

async fn start(flags: &Flags) -> Monitor {
    let config = resolved(flags);
    let tail = TailConfig { commit_rows: PART.unsigned_abs(), ..config.tail };
    Monitor::start_with(Config { tail, ..config }, Clock::system()).await
}

async fn ready(flags: &Flags) -> Monitor {
    let monitor = start(flags).await;
    monitor.page().wait_ready().await;
    monitor
}

/// A part and more than half of another.
async fn many_rows(database: &Database) {
    database.insert_logs(&traffic(0, 4_000)).await;
    for _ in 0..3 {
        database.exec(DOUBLE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catch_up_whose_second_part_fails_counts_each_row_once() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    many_rows(&database).await;
    let store = folder.path().join("monitor.db");
    // Its tables are needed before the first start.
    drop(Store::open(&store).expect("a new monitor.db"));
    let broken = Broken::beyond(&store, PART + BATCH);

    let flags = flags(&database.url, &folder.path());
    let monitor = start(&flags).await;
    let page = monitor.page();
    let samples = fails_after_a_part(&page, &store, 0, 2.0).await;
    assert_eq!(samples.count("newapi_requests_total"), 0, "a part of the history is shown");
    assert!(matches!(page.get("/readyz").await, Some((503, _))));
    broken.heal();
    eventually("the history is read", async || matches!(page.get("/readyz").await, Some((200, _)))).await;
    agrees(&page, &database).await;
    history_agrees(&monitor.api(), &database).await;
    monitor.stop().await;

    let again = ready(&flags).await;
    agrees(&again.page(), &database).await;
    history_agrees(&again.api(), &database).await;
    again.stop().await;
}

/// Where to begin is stored with the first commit, and known before.
#[tokio::test(flavor = "multi_thread")]
async fn a_catch_up_whose_first_commit_fails_begins_where_the_history_does() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&traffic(0, 500)).await;
    database.exec("UPDATE logs SET created_at = created_at - 3 * 86400").await;
    database.insert_logs(&traffic(500, 20_000)).await;
    let store = folder.path().join("monitor.db");
    drop(Store::open(&store).expect("a new monitor.db"));
    let broken = Broken::beyond(&store, 0);

    let flags = Flags { history: Some("1d".to_owned()), ..flags(&database.url, &folder.path()) };
    let monitor = start(&flags).await;
    let page = monitor.page();
    page.wait_samples("it fails twice", |samples| samples.get(STORE_ERRORS) >= Some(2.0)).await;
    broken.heal();
    eventually("the history is read", async || matches!(page.get("/readyz").await, Some((200, _)))).await;
    // What is older was never counted, so the counts are those of a log without it.
    database.exec("DELETE FROM logs WHERE id <= 500").await;
    database.insert_logs(&traffic(20_500, 100)).await;
    agrees(&page, &database).await;
    monitor.stop().await;
}

/// Rows that are too old to come late are soon forgotten, and what was forgotten between two parts is no hole.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_history_that_was_read_in_parts_is_not_read_again_after_a_restart() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    many_rows(&database).await;
    database.exec("UPDATE logs SET created_at = created_at - 86400").await;
    let flags = flags(&database.url, &folder.path());
    let monitor = ready(&flags).await;
    agrees(&monitor.page(), &database).await;
    monitor.stop().await;

    let again = ready(&flags).await;
    for round in 0..3 {
        database.insert_logs(&traffic(1_000_000 + round, 1)).await;
        agrees(&again.page(), &database).await;
    }
    assert_eq!(again.page().samples().await.get("token_monitor_late_rows_total"), Some(0.0));
    history_agrees(&again.api(), &database).await;
    again.stop().await;
}

/// A scraper that comes less often than the log is polled. It sees no counter fall, and notes the first value of
/// each model's requests.
struct Watcher {
    stop: CancellationToken,
    running: JoinHandle<BTreeMap<&'static str, f64>>,
}

impl Watcher {
    fn start(address: SocketAddr, models: &'static [&'static str]) -> Self {
        let stop = CancellationToken::new();
        let until = stop.clone();
        let running = tokio::spawn(async move {
            let (page, mut highest, mut first) =
                (Page::seen_by(address, "watcher"), Samples::default(), BTreeMap::new());
            while !until.is_cancelled() {
                let samples = page.samples().await;
                for model in models {
                    let label = format!("model=\"{model}\"");
                    if samples.0.keys().any(|series| series.contains(&label)) {
                        first.entry(*model).or_insert(samples.sum("newapi_requests_total", &[&label]));
                    }
                }
                never_less(&mut highest, samples);
                sleep(Duration::from_millis(300)).await;
            }
            first
        });
        Self { stop, running }
    }

    async fn stop(self) -> BTreeMap<&'static str, f64> {
        self.stop.cancel();
        self.running.await.expect("no counter fell")
    }
}

fn request_for(model: &str) -> LogRow {
    LogRow { model_name: model.to_owned(), created_at: now(), ..LogRow::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_whose_second_part_fails_is_counted_once_and_the_page_goes_on() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&traffic(500_000, 1000)).await;
    let store = folder.path().join("monitor.db");
    let monitor = ready(&flags(&database.url, &folder.path())).await;
    let page = monitor.page();
    let watcher = Watcher::start(monitor.address, &["of-the-burst", "of-later"]);
    // Many states were shown before, more than the burst has parts.
    for row in 1..=20 {
        database.insert_log(&request_for("gpt-4o")).await;
        let wanted = 1000.0 + f64::from(row);
        let rows = |samples: &Samples| samples.sum("token_monitor_log_rows_total", &[]);
        page.wait_samples("each row by itself", |samples| (rows(samples) - wanted).abs() < 0.5).await;
    }
    agrees(&page, &database).await;

    let first = committed_id(&store);
    let broken = Broken::beyond(&store, first + PART + BATCH);
    database.exec("BEGIN").await;
    database.insert_log(&request_for("of-the-burst")).await;
    many_rows(&database).await;
    database.exec("COMMIT").await;
    let samples = fails_after_a_part(&page, &store, first, 2.0).await;
    // Ids are without gaps here: what could not be committed is not shown.
    let (shown, committed) =
        (Ledger::shown(&samples).rows, i32::try_from(committed_id(&store)).expect("few"));
    assert!(shown <= f64::from(committed), "{shown} rows are shown, {committed} committed");
    broken.heal();
    agrees(&page, &database).await;
    history_agrees(&monitor.api(), &database).await;

    // Label sets that were new in the failed round, and those after it, are shown as 0 first.
    database.insert_log(&request_for("of-later")).await;
    agrees(&page, &database).await;
    let first_shown = watcher.stop().await;
    assert_eq!(first_shown, [("of-later", 0.0), ("of-the-burst", 0.0)].into());
    monitor.stop().await;
}
