//! Rows that become visible after rows with higher ids: a server gives out an id at INSERT and shows the row at COMMIT.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use token_monitor::clock::Clock;
use token_monitor::config::Flags;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, Page, eventually, flags, now};

/// Engines on which two writers write at once.
const SERVERS: [Engine; 2] = [Engine::MySql, Engine::Postgres];

/// A request that costs `quota`; sums of powers of ten show which rows were counted, and how often.
fn row(quota: i64) -> LogRow {
    LogRow { quota, created_at: now(), ..LogRow::default() }
}

/// A writer that holds back a row: its id is taken, its COMMIT is to come.
struct Writer(crate::servers::Session);

impl Writer {
    async fn holding(database: &Database, rows: &[LogRow]) -> Self {
        let mut session = database.session().await;
        session.exec("BEGIN").await;
        session.exec(&LogRow::insert(rows, database.engine, database.version)).await;
        Self(session)
    }

    async fn ends(mut self, how: &str) {
        self.0.exec(how).await;
    }
}

/// A new database with one row, and what a monitor of it is given.
async fn begun(engine: Engine, late_window: &str) -> (Database, Folder, Flags) {
    let database = Database::create(engine, Version::V1_0_0Rc24).await;
    database.insert_log(&row(1)).await;
    let folder = Folder::new();
    let flags = Flags { late_window: Some(late_window.to_owned()), ..flags(&database.url, &folder.path()) };
    (database, folder, flags)
}

/// Waits until the page shows this quota, and that so many rows came late.
async fn shows(page: &Page, quota: f64, late: f64) {
    let what = format!("quota {quota} and {late} late rows");
    let wanted = |samples: &crate::support::Samples| {
        (sum(samples), samples.sum("token_monitor_late_rows_total", &[])) == (quota, late)
    };
    page.wait_samples(&what, wanted).await;
}

fn sum(samples: &crate::support::Samples) -> f64 {
    samples.sum("newapi_quota_consumed_total", &[])
}

/// Waits until `begin` is this long ago, looking all the time that nothing is counted that should not be.
async fn stays(page: &Page, quota: f64, begin: Instant, time: Duration) {
    while begin.elapsed() < time {
        assert!((sum(&page.samples().await) - quota).abs() < 0.5, "a row was counted out of turn");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The row of the slower one of two writers is counted once, whenever it comes within the window.
async fn a_slow_writer(engine: Engine, late_window: &str, delay: Duration) {
    let (database, _folder, flags) = begun(engine, late_window).await;
    let monitor = Monitor::ready(&flags).await;
    let page = monitor.page();
    let slow = Writer::holding(&database, &[row(10)]).await;
    database.insert_log(&row(100)).await;
    shows(&page, 101.0, 0.0).await;
    stays(&page, 101.0, Instant::now(), delay).await;
    slow.ends("COMMIT").await;
    shows(&page, 111.0, 1.0).await;
    database.insert_log(&row(1000)).await;
    shows(&page, 1111.0, 1.0).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_row_that_is_committed_after_a_higher_id_is_counted_once() {
    tokio::join!(
        a_slow_writer(Engine::MySql, "20s", Duration::from_secs(3)),
        a_slow_writer(Engine::Postgres, "20s", Duration::from_secs(3)),
        a_slow_writer(Engine::MySql, "20s", Duration::ZERO),
        a_slow_writer(Engine::Postgres, "20s", Duration::ZERO),
    );
}

/// Longer than any timeout that could have been taken for the window.
#[tokio::test]
async fn a_row_that_is_committed_a_minute_after_a_higher_id_is_counted_once() {
    tokio::join!(
        a_slow_writer(Engine::MySql, "5m", Duration::from_secs(61)),
        a_slow_writer(Engine::Postgres, "5m", Duration::from_secs(61)),
    );
}

#[tokio::test]
async fn several_writers_that_commit_in_the_opposite_order_are_counted_once_each() {
    for engine in SERVERS {
        let (database, _folder, flags) = begun(engine, "20s").await;
        let monitor = Monitor::ready(&flags).await;
        let mut writers = Vec::new();
        for quota in [10, 100, 1000, 10_000] {
            writers.push(Writer::holding(&database, &[row(quota), row(2 * quota)]).await);
        }
        let (mut quota, mut late) = (1.0, 0.0);
        for own in [30_000.0, 3000.0, 300.0, 30.0] {
            writers.pop().expect("a writer").ends("COMMIT").await;
            quota += own;
            shows(&monitor.page(), quota, late).await;
            late += 2.0;
        }
        monitor.stop().await;
    }
}

/// The very first rows of an installation, too, and the first ones of a log that was quiet for all of the history.
#[tokio::test]
async fn a_late_row_below_the_first_row_of_an_empty_log_is_counted() {
    for engine in SERVERS {
        let database = Database::create(engine, Version::V1_0_0Rc24).await;
        let folder = Folder::new();
        let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
        let slow = Writer::holding(&database, &[row(10)]).await;
        database.insert_log(&row(100)).await;
        shows(&monitor.page(), 100.0, 0.0).await;
        slow.ends("COMMIT").await;
        shows(&monitor.page(), 110.0, 1.0).await;
        monitor.stop().await;
    }
}

#[tokio::test]
async fn a_row_that_was_under_way_during_the_first_catch_up_is_counted() {
    for engine in SERVERS {
        let (database, _folder, flags) = begun(engine, "20s").await;
        let slow = Writer::holding(&database, &[row(10)]).await;
        database.insert_log(&row(100)).await;
        let monitor = Monitor::ready(&flags).await;
        shows(&monitor.page(), 101.0, 0.0).await;
        slow.ends("COMMIT").await;
        shows(&monitor.page(), 111.0, 1.0).await;
        monitor.stop().await;
    }
}

#[tokio::test]
async fn a_rolled_back_insert_costs_nothing_and_its_id_is_given_up_after_the_window() {
    for engine in SERVERS {
        let (database, _folder, flags) = begun(engine, "1s").await;
        let monitor = Monitor::ready(&flags).await;
        let page = monitor.page();
        Writer::holding(&database, &[row(10)]).await.ends("ROLLBACK").await;
        assert_eq!(database.insert_log(&row(100)).await, 3, "{engine:?}: the id is not given out again");
        shows(&page, 101.0, 0.0).await;
        stays(&page, 101.0, Instant::now(), Duration::from_millis(1500)).await;

        // No server does this, but it shows that nobody asks for the id any more.
        database.insert_log(&LogRow { id: Some(2), ..row(10) }).await;
        database.insert_log(&row(1000)).await;
        shows(&page, 1101.0, 0.0).await;
        stays(&page, 1101.0, Instant::now(), Duration::from_millis(500)).await;
        monitor.stop().await;
    }
}

/// Many rolled back inserts between many rows: each hole is there for good, and rows follow without delay.
#[tokio::test]
async fn thousands_of_permanent_holes_hold_nothing_up() {
    for engine in SERVERS {
        let (database, _folder, flags) = begun(engine, "5m").await;
        let rows: Vec<LogRow> =
            (0..3000).map(|n| LogRow { id: Some(10 + 7 * n), created_at: now(), ..row(1) }).collect();
        let monitor = Monitor::ready(&flags).await;
        database.insert_logs(&rows).await;
        shows(&monitor.page(), 3001.0, 0.0).await;
        // One that does come, in the middle of them.
        database.insert_log(&LogRow { id: Some(10 + 7 * 1500 + 3), ..row(100_000) }).await;
        shows(&monitor.page(), 103_001.0, 1.0).await;
        monitor.stop().await;
    }
}

/// Nodes of a cluster give out ids in steps, each with its own offset, and at their own pace.
#[tokio::test]
async fn nodes_of_a_cluster_that_give_out_ids_in_steps_are_counted_once_each() {
    let (database, _folder, flags) = begun(Engine::MySql, "20s").await;
    let monitor = Monitor::ready(&flags).await;
    let mut nodes = Vec::new();
    for offset in 1..=3 {
        let mut node = database.session().await;
        node.exec(&format!("SET SESSION auto_increment_increment = 3, auto_increment_offset = {offset}"))
            .await;
        nodes.push(node);
    }
    let insert = |quota| LogRow::insert(&[row(quota)], database.engine, database.version);
    nodes[0].exec("BEGIN").await;
    nodes[0].exec(&insert(10)).await;
    for round in 0..20 {
        let node = &mut nodes[1 + round % 2];
        node.exec(&insert(100)).await;
    }
    let ids = database.rows("SELECT id FROM logs ORDER BY id").await;
    let step = |pair: &[Vec<Option<String>>]| pair.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert!(ids.windows(2).any(|pair| step(pair)[0] != step(pair)[1]) && ids.len() == 21);
    shows(&monitor.page(), 2001.0, 0.0).await;
    nodes[0].exec("COMMIT").await;
    shows(&monitor.page(), 2011.0, 1.0).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_hole_is_remembered_across_a_restart() {
    for engine in SERVERS {
        let (database, _folder, flags) = begun(engine, "1m").await;
        let monitor = Monitor::ready(&flags).await;
        let slow = Writer::holding(&database, &[row(10)]).await;
        database.insert_log(&row(100)).await;
        shows(&monitor.page(), 101.0, 0.0).await;
        monitor.stop().await;

        let monitor = Monitor::ready(&flags).await;
        shows(&monitor.page(), 101.0, 0.0).await;
        database.insert_log(&row(1000)).await;
        shows(&monitor.page(), 1101.0, 0.0).await;
        slow.ends("COMMIT").await;
        shows(&monitor.page(), 1111.0, 1.0).await;
        monitor.stop().await;
    }
}

/// It is looked for once more at the start, even if the window has passed by then.
#[tokio::test]
async fn a_row_that_was_committed_while_nobody_looked_is_counted_after_the_restart() {
    for (engine, window) in [(Engine::MySql, "1m"), (Engine::Postgres, "1m"), (Engine::Postgres, "1s")] {
        let (database, _folder, flags) = begun(engine, window).await;
        let monitor = Monitor::ready(&flags).await;
        let slow = Writer::holding(&database, &[row(10)]).await;
        database.insert_log(&row(100)).await;
        shows(&monitor.page(), 101.0, 0.0).await;
        monitor.stop().await;

        slow.ends("COMMIT").await;
        database.insert_log(&row(1000)).await;
        let monitor = Monitor::ready(&flags).await;
        shows(&monitor.page(), 1111.0, 1.0).await;
        monitor.stop().await;
    }
}

/// A late row below the first row that was ever read, with a restart in between.
#[tokio::test]
async fn a_hole_below_the_first_row_of_an_empty_log_is_remembered_across_a_restart() {
    let database = Database::create(Engine::Postgres, Version::V1_0_0Rc24).await;
    let folder = Folder::new();
    let flags = flags(&database.url, &folder.path());
    let monitor = Monitor::ready(&flags).await;
    let slow = Writer::holding(&database, &[row(10)]).await;
    database.insert_log(&row(100)).await;
    shows(&monitor.page(), 100.0, 0.0).await;
    monitor.stop().await;
    let monitor = Monitor::ready(&flags).await;
    slow.ends("COMMIT").await;
    shows(&monitor.page(), 110.0, 1.0).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_monitor_that_waits_for_nothing_counts_each_row_once_too() {
    let (database, _folder, flags) = begun(Engine::Postgres, "0s").await;
    let monitor = Monitor::ready(&flags).await;
    let slow = Writer::holding(&database, &[row(10)]).await;
    database.insert_log(&row(100)).await;
    shows(&monitor.page(), 101.0, 0.0).await;
    slow.ends("COMMIT").await;
    database.insert_log(&row(1000)).await;
    shows(&monitor.page(), 1101.0, 0.0).await;
    monitor.stop().await;
}

/// Nodes of the gateway whose clocks are an hour apart: ids decide, not times.
#[tokio::test]
async fn rows_of_nodes_whose_clocks_are_an_hour_apart_are_counted_once() {
    for engine in Engine::ALL {
        let (database, _folder, flags) = begun(engine, "1m").await;
        let skewed = |quota, skew| LogRow { created_at: now() + skew, ..row(quota) };
        for (quota, skew) in [(10, 3600), (100, -3600), (1000, 3600)] {
            database.insert_log(&skewed(quota, skew)).await;
        }
        let monitor = Monitor::ready(&flags).await;
        shows(&monitor.page(), 1111.0, 0.0).await;
        for (quota, skew) in [(10_000, -3600), (100_000, 3600), (1_000_000, -3600)] {
            database.insert_log(&skewed(quota, skew)).await;
            eventually("the row is counted", async || {
                sum(&monitor.page().samples().await) > f64::from(i32::try_from(quota).expect("small"))
            })
            .await;
        }
        if engine != Engine::Sqlite {
            let slow = Writer::holding(&database, &[skewed(10_000_000, -3600)]).await;
            database.insert_log(&skewed(100_000_000, 3600)).await;
            shows(&monitor.page(), 101_111_111.0, 0.0).await;
            slow.ends("COMMIT").await;
            shows(&monitor.page(), 111_111_111.0, 1.0).await;
        }
        monitor.stop().await;
        let monitor = Monitor::ready(&flags).await;
        let late = if engine == Engine::Sqlite { (1_111_111.0, 0.0) } else { (111_111_111.0, 1.0) };
        shows(&monitor.page(), late.0, late.1).await;
        monitor.stop().await;
    }
}

/// More text than one read brings, found when there is no time for another one.
#[tokio::test]
async fn late_rows_with_long_texts_are_all_counted() {
    let (database, _folder, flags) = begun(Engine::Sqlite, "60s").await;
    let begin = Clock::system().now();
    let clock = Clock::fixed(begin);
    let monitor = Monitor::start_at(&flags, clock.clone()).await;
    monitor.page().wait_ready().await;
    database.insert_log(&LogRow { id: Some(30), ..row(10) }).await;
    shows(&monitor.page(), 11.0, 0.0).await;
    let text = Some(format!(r#"{{"prompt":"{}"}}"#, "x".repeat(1_000_000)));
    let rows: Vec<LogRow> =
        (2..30).map(|id| LogRow { id: Some(id), other: text.clone(), ..row(100) }).collect();
    database.insert_logs(&rows).await;
    for seconds in [59, 61, 70] {
        clock.set(begin + SignedDuration::from_secs(seconds));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    shows(&monitor.page(), 2811.0, 28.0).await;
    monitor.stop().await;
}
