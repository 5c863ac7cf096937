//! `kill -9` at any instant: afterwards the counters are what the table says, and no scrape ever saw one fall.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use token_monitor::config::Flags;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::gateway::Gateway;
use crate::ledger::{agrees, mixed, traffic};
use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Folder, Page, Process, Samples, eventually, flags, free_address};
use crate::tally::{self, Labels, Tally};

const LATE_ROWS: &str = "token_monitor_late_rows_total";

/// Rows that are there before the first start, to be doubled.
const FIRST_ROWS: u64 = 30_000;

/// Doubles what is there. `group` needs quotes, which differ, so it is left out.
pub const DOUBLE: &str = "INSERT INTO logs (user_id, created_at, type, content, username, token_name, model_name, \
                      quota, prompt_tokens, completion_tokens, use_time, is_stream, channel_id, token_id, \
                      request_id, other) SELECT user_id, created_at, type, content, username, token_name, \
                      model_name, quota, prompt_tokens, completion_tokens, use_time, is_stream, channel_id, \
                      token_id, request_id, other FROM logs";

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_on_sqlite_lose_nothing_and_count_nothing_twice() {
    survives_kills(Engine::Sqlite, 20, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_kills_on_postgres_lose_nothing_and_count_nothing_twice() {
    survives_kills(Engine::Postgres, 8, 1).await;
}

/// Kills the program again and again while rows pour in, then compares.
async fn survives_kills(engine: Engine, kills: u64, doublings: u32) {
    let database = Database::create(engine, Version::V1_0_0Rc24).await;
    install(&database).await;
    database.insert_logs(&traffic(0, FIRST_ROWS)).await;
    for _ in 0..doublings {
        database.exec(DOUBLE).await;
    }
    let folder = Folder::new();
    let flags = flags(&database.url, &folder.path());
    let address = free_address();
    let gateway = Gateway::start(&database, |number| traffic(number, 1 + mixed(number) % 30)).await;

    // Before anything of the first catch-up is committed, and when a part of it is.
    let store = folder.path().join("monitor.db");
    kill_in_the_catch_up(address, &flags, async || true).await;
    // Doubled three times, they take longer than it takes to the first commit.
    let at_once = doublings < 3;
    kill_in_the_catch_up(address, &flags, async || at_once || committed_id(&store) > 0).await;
    let before = committed_id(&store);
    kill_in_the_catch_up(address, &flags, async || true).await;
    assert!(committed_id(&store) >= before, "a restart has gone back to the beginning");
    // Before this nothing was shown, so there was nothing that could fall.
    let scraper = Scraper::start(address);
    for kill in 3..kills {
        let process = Process::spawn_at(address, &flags);
        // Each second one dies somewhere in its start, the others while they follow the log.
        if kill % 2 == 0 {
            process.page().wait_ready().await;
        }
        sleep(Duration::from_millis(mixed(kill) % 700)).await;
        process.kill();
    }
    let written = gateway.stop().await;
    assert!(written > 1_000, "only {written} rows came while the program was killed");

    let process = Process::spawn_at(address, &flags);
    let page = process.page();
    page.wait_ready().await;
    agrees(&page, &database).await;
    let mut wanted = by_groups(&database).await;
    // How many came late depends on when the program was dead.
    let late = page.samples().await.get(LATE_ROWS).expect("always there");
    wanted.add(LATE_ROWS, &vec![], late);
    tally::agrees(&page, "each series after the kills", &wanted).await;
    scraper.stop().await;
    process.kill();
}

/// A channel that offers the models of [`traffic`], so that they are known before a row of theirs has succeeded.
async fn install(database: &Database) {
    let key = database.engine.identifier("key");
    let models = "model-0,model-1,model-2,model-3";
    let insert =
        format!("INSERT INTO channels (id, {key}, name, models) VALUES (1, '', 'first', '{models}')");
    database.exec(&insert).await;
}

/// What a page shows of rows such as [`traffic`] makes, which are too many to be counted one by one.
async fn by_groups(database: &Database) -> Tally {
    let groups = "type, channel_id, model_name, is_stream, use_time";
    let sums = "count(*), sum(prompt_tokens), sum(completion_tokens), sum(quota)";
    let mut tally = Tally::default();
    for row in database.rows(&format!("SELECT {groups}, {sums} FROM logs GROUP BY {groups}")).await {
        let text = |at: usize| row[at].clone().expect("a value");
        let number = |at: usize| text(at).parse::<f64>().expect("a number");
        let (seconds, rows, quota) = (number(4), number(5), number(8));
        let channel = text(1);
        let name = if channel == "1" { "first" } else { "" };
        let labels: Labels<'_> =
            vec![("channel_id", channel), ("channel_name", name.to_owned()), ("model", text(2))];
        let with = |more: &[(&'static str, &str)]| -> Labels<'static> {
            let more = more.iter().map(|(label, value)| (*label, (*value).to_owned()));
            labels.iter().cloned().chain(more).collect()
        };
        tally.add("token_monitor_log_rows_total", &vec![("type", text(0))], rows);
        if text(0) == "5" {
            let labels = with(&[("status_code", "429"), ("error_type", "openai_error")]);
            tally.add("newapi_errors_total", &labels, rows);
            continue;
        }
        let stream = if text(3) == "1" { "true" } else { "false" };
        tally.add("newapi_requests_total", &with(&[("outcome", "success"), ("stream", stream)]), rows);
        for (family, amount) in [
            ("newapi_input_tokens_total", number(6)),
            ("newapi_output_tokens_total", number(7)),
            ("newapi_quota_consumed_total", quota),
            ("newapi_cost_usd_total", quota / 500_000.0),
            ("newapi_slow_requests_total", if seconds > 5.0 { rows } else { 0.0 }),
        ] {
            tally.add(family, &labels, amount);
        }
        tally.observe_times(true, &with(&[("retried", "false")]), seconds, rows);
    }
    tally
}

/// Starts the program, and kills it soon after `condition` holds; it must still be reading the history then.
async fn kill_in_the_catch_up(address: SocketAddr, flags: &Flags, condition: impl AsyncFn() -> bool) {
    let process = Process::spawn_at(address, flags);
    let page = process.page();
    eventually("it answers", async || page.get("/healthz").await.is_some()).await;
    eventually("it is time to kill it", condition).await;
    sleep(Duration::from_millis(u64::from(process.child.id()) % 100)).await;
    let (status, readiness) = page.get("/readyz").await.expect("an answer");
    process.kill();
    assert!(status == 503 && readiness.contains("being read"), "the catch-up was over already: {readiness}");
}

/// The last row that monitor.db knows to be counted; 0 if there is none.
pub fn committed_id(store: &Path) -> i64 {
    let open = Connection::open_with_flags(store, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let position = open.and_then(|connection| {
        connection.query_row("SELECT value FROM state WHERE name = 'position'", [], |row| row.get(0))
    });
    let position: serde_json::Value =
        position.map_or_else(|_| json!({}), |text: String| serde_json::from_str(&text).expect("JSON"));
    position["last_id"].as_i64().unwrap_or(0)
}

/// Scrapes all the time, whoever answers, and compares each page with the ones before.
struct Scraper {
    stop: Arc<AtomicBool>,
    running: JoinHandle<u64>,
}

impl Scraper {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let running = tokio::spawn(async move {
            let (page, mut highest, mut scrapes) = (Page::new(address), Samples::default(), 0);
            while !until.load(Ordering::Relaxed) {
                // Nobody answers while the program is dead; half an answer is none.
                if let Some((200, text)) = page.get("/metrics").await {
                    scrapes += u64::from(!highest.0.is_empty());
                    never_less(&mut highest, Samples::parse(&text));
                }
                sleep(Duration::from_millis(10)).await;
            }
            scrapes
        });
        Self { stop, running }
    }

    /// Ends it; it must have seen enough, and nothing fall.
    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let scrapes = self.running.await.expect("no counter fell");
        assert!(scrapes > 30, "only {scrapes} pages with counts were compared");
    }
}

/// Compares the counters of a page with those shown before, which are replaced by it.
pub fn never_less(highest: &mut Samples, mut now: Samples) {
    now.0.retain(|series, _| is_lasting_counter(series));
    for (series, before) in &highest.0 {
        let value = now.get(series).unwrap_or_else(|| panic!("{series} was {before} and has disappeared"));
        assert!(value >= *before, "{series} fell from {before} to {value}");
    }
    *highest = now;
}

/// Counters and the parts of histograms, but for the count of failed polls, which is about this process only.
fn is_lasting_counter(series: &str) -> bool {
    let name = series.split('{').next().unwrap_or_default();
    let counts = ["_total", "_bucket", "_count", "_sum"].iter().any(|end| name.ends_with(end));
    counts && name != "token_monitor_tail_errors_total"
}
