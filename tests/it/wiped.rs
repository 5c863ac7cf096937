//! Logs that are changed under the monitor: rows deleted, ids given out again, the table emptied, replaced or restored.

use token_monitor::config::Flags;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, Page, eventually, flags, now};

/// A request that costs `quota`; the sum shows which rows were counted, and how often.
fn row(quota: i64) -> LogRow {
    LogRow { quota, created_at: now(), ..LogRow::default() }
}

/// So many rows, each of this quota.
fn rows(count: usize, quota: i64) -> Vec<LogRow> {
    vec![row(quota); count]
}

async fn shows(page: &Page, quota: f64) {
    let sum = |samples: &crate::support::Samples| samples.sum("newapi_quota_consumed_total", &[]);
    page.wait_samples(&format!("quota {quota}"), |samples| (sum(samples) - quota).abs() < 0.5).await;
}

/// Waits until the log was polled a few times more, and asserts that the quota is still the same.
async fn still_shows(page: &Page, quota: f64) {
    let polled = "token_monitor_tail_last_success_timestamp_seconds";
    for _ in 0..3 {
        let before = page.samples().await.get(polled);
        page.wait_samples("another poll", |samples| samples.get(polled) > before).await;
    }
    shows(page, quota).await;
    assert!((page.samples().await.sum("newapi_quota_consumed_total", &[]) - quota).abs() < 0.5);
}

async fn begun(engine: Engine) -> (Database, Folder, Flags) {
    let database = Database::create(engine, Version::V1_0_0Rc24).await;
    let folder = Folder::new();
    let flags = flags(&database.url, &folder.path());
    (database, folder, flags)
}

#[tokio::test]
async fn ids_that_sqlite_gives_out_again_are_other_rows() {
    let (database, _folder, flags) = begun(Engine::Sqlite).await;
    database.insert_logs(&rows(10, 1)).await;
    let monitor = Monitor::ready(&flags).await;
    let page = monitor.page();
    shows(&page, 10.0).await;
    database.exec("DELETE FROM logs WHERE id > 7").await;
    still_shows(&page, 10.0).await;
    assert_eq!(database.insert_log(&row(100)).await, 8, "SQLite gives the id out again");
    shows(&page, 110.0).await;
    database.insert_logs(&rows(5, 1000)).await;
    shows(&page, 5110.0).await;

    // Between two polls: the id of the last known row is there, with another row.
    database
        .exec(&format!(
            "BEGIN; DELETE FROM logs WHERE id = 13; {}; COMMIT",
            insert(&database, &[row(10_000)])
        ))
        .await;
    shows(&page, 15_110.0).await;
    still_shows(&page, 15_110.0).await;
    monitor.stop().await;
}

fn insert(database: &Database, rows: &[LogRow]) -> String {
    LogRow::insert(rows, database.engine, database.version)
}

#[tokio::test]
async fn a_wiped_sqlite_log_goes_on_from_id_one() {
    let (database, _folder, flags) = begun(Engine::Sqlite).await;
    database.insert_logs(&rows(10, 1)).await;
    let monitor = Monitor::ready(&flags).await;
    let page = monitor.page();
    database.exec("DELETE FROM logs").await;
    still_shows(&page, 10.0).await;
    for count in 1..=12 {
        // Through and beyond the ids that were used before.
        assert_eq!(database.insert_log(&row(100)).await, count);
        shows(&page, 10.0 + 100.0 * f64::from(i32::try_from(count).expect("small"))).await;
    }
    monitor.stop().await;
}

/// Fewer rows than before, as many, and more, in one transaction, so that no poll sees the empty table.
#[tokio::test]
async fn a_sqlite_log_that_is_wiped_and_refilled_at_once_is_noticed() {
    for count in [3, 10, 25] {
        let (database, _folder, flags) = begun(Engine::Sqlite).await;
        database.insert_logs(&rows(10, 1)).await;
        let monitor = Monitor::ready(&flags).await;
        let refill = insert(&database, &rows(count, 100));
        database.exec(&format!("BEGIN; DELETE FROM logs; {refill}; COMMIT")).await;
        let wanted = 10.0 + 100.0 * f64::from(u32::try_from(count).expect("small"));
        shows(&monitor.page(), wanted).await;
        still_shows(&monitor.page(), wanted).await;
        monitor.stop().await;
    }
}

#[tokio::test]
async fn a_log_that_is_wiped_and_refilled_while_the_monitor_is_down_is_noticed() {
    for engine in Engine::ALL {
        for count in [0, 3, 10, 25] {
            let (database, _folder, flags) = begun(engine).await;
            database.insert_logs(&rows(10, 1)).await;
            let monitor = Monitor::ready(&flags).await;
            shows(&monitor.page(), 10.0).await;
            monitor.stop().await;

            wipe(&database).await;
            if count > 0 {
                database.insert_logs(&rows(count, 100)).await;
            }
            let monitor = Monitor::ready(&flags).await;
            let wanted = 10.0 + 100.0 * f64::from(u32::try_from(count).expect("small"));
            shows(&monitor.page(), wanted).await;
            database.insert_log(&row(10_000)).await;
            shows(&monitor.page(), wanted + 10_000.0).await;
            monitor.stop().await;
        }
    }
}

/// Empties the log such that ids begin at 1 again.
async fn wipe(database: &Database) {
    database
        .exec(match database.engine {
            Engine::Sqlite => "DELETE FROM logs",
            Engine::MySql => "TRUNCATE TABLE logs",
            Engine::Postgres => "TRUNCATE TABLE logs RESTART IDENTITY",
        })
        .await;
}

#[tokio::test]
async fn a_truncated_log_goes_on_with_whatever_ids_come() {
    let ways = [
        (Engine::MySql, "TRUNCATE TABLE logs", 1),
        (Engine::MySql, "DELETE FROM logs", 11),
        (Engine::Postgres, "TRUNCATE TABLE logs", 11),
        (Engine::Postgres, "TRUNCATE TABLE logs RESTART IDENTITY", 1),
        (Engine::Postgres, "DELETE FROM logs", 11),
    ];
    for (engine, truncate, next_id) in ways {
        let (database, _folder, flags) = begun(engine).await;
        database.insert_logs(&rows(10, 1)).await;
        let monitor = Monitor::ready(&flags).await;
        let page = monitor.page();
        database.exec(truncate).await;
        still_shows(&page, 10.0).await;
        assert_eq!(database.insert_log(&row(100)).await, next_id, "{truncate}");
        shows(&page, 110.0).await;
        database.insert_logs(&rows(15, 1000)).await;
        shows(&page, 15_110.0).await;

        // And again, refilled before the next poll: PostgreSQL can do that in one transaction.
        let refill = insert(&database, &rows(40, 10_000));
        database.exec(&format!("BEGIN; {truncate}; {refill}; COMMIT")).await;
        shows(&page, 415_110.0).await;
        still_shows(&page, 415_110.0).await;
        monitor.stop().await;
    }
}

#[tokio::test]
async fn a_row_that_comes_late_into_a_truncated_log_is_counted() {
    for engine in [Engine::MySql, Engine::Postgres] {
        let (database, _folder, flags) = begun(engine).await;
        database.insert_logs(&rows(10, 1)).await;
        let monitor = Monitor::ready(&flags).await;
        wipe(&database).await;
        still_shows(&monitor.page(), 10.0).await;
        let mut slow = database.session().await;
        slow.exec(&format!("BEGIN; {}", insert(&database, &[row(100)]))).await;
        database.insert_log(&row(1000)).await;
        shows(&monitor.page(), 1010.0).await;
        slow.exec("COMMIT").await;
        shows(&monitor.page(), 1110.0).await;
        monitor.stop().await;
    }
}

#[tokio::test]
async fn a_clean_up_of_old_rows_changes_nothing() {
    for engine in Engine::ALL {
        let (database, _folder, flags) = begun(engine).await;
        let old: Vec<LogRow> =
            (0..500).map(|n| LogRow { created_at: now() - 86_400 + n, ..row(1) }).collect();
        database.insert_logs(&old).await;
        database.insert_logs(&rows(10, 1)).await;
        let monitor = Monitor::ready(&flags).await;
        shows(&monitor.page(), 510.0).await;
        database.exec(&format!("DELETE FROM logs WHERE created_at < {}", now() - 3600)).await;
        still_shows(&monitor.page(), 510.0).await;
        database.insert_log(&row(1000)).await;
        shows(&monitor.page(), 1510.0).await;
        monitor.stop().await;

        // All but the newest row, while nobody looks.
        database.exec("DELETE FROM logs WHERE quota = 1").await;
        let monitor = Monitor::ready(&flags).await;
        still_shows(&monitor.page(), 1510.0).await;
        monitor.stop().await;
    }
}

#[tokio::test]
async fn a_log_that_is_renamed_away_and_back_is_not_counted_again() {
    for engine in Engine::ALL {
        let (database, _folder, flags) = begun(engine).await;
        database.insert_logs(&rows(10, 1)).await;
        let monitor = Monitor::ready(&flags).await;
        let page = monitor.page();
        database.exec("ALTER TABLE logs RENAME TO logs_old").await;
        page.wait_samples("that the log is gone", |samples| samples.get("newapi_up") == Some(0.0)).await;
        let missing = page.samples().await.sum("token_monitor_tail_errors_total", &["missing_table"]);
        assert!(missing >= 1.0, "{engine:?}");
        assert!((page.samples().await.sum("newapi_quota_consumed_total", &[]) - 10.0).abs() < 0.5);
        database.exec("ALTER TABLE logs_old RENAME TO logs").await;
        page.wait_samples("that the log is back", |samples| samples.get("newapi_up") == Some(1.0)).await;
        still_shows(&page, 10.0).await;
        database.insert_log(&row(100)).await;
        shows(&page, 110.0).await;
        monitor.stop().await;
    }
}

/// As one does to start with a small table: an empty one takes its place, and its ids begin at 1.
#[tokio::test]
async fn a_new_log_in_the_place_of_the_old_one_is_followed() {
    for engine in Engine::ALL {
        let (database, _folder, flags) = begun(engine).await;
        database.insert_logs(&rows(10, 1)).await;
        let monitor = Monitor::ready(&flags).await;
        let copy = match engine {
            Engine::Sqlite => "CREATE TABLE logs AS SELECT * FROM logs_old WHERE 0",
            Engine::MySql => "CREATE TABLE logs LIKE logs_old",
            Engine::Postgres => "CREATE TABLE logs (LIKE logs_old)",
        };
        database.exec(&format!("ALTER TABLE logs RENAME TO logs_old; {copy}")).await;
        database.insert_log(&LogRow { id: Some(1), ..row(100) }).await;
        shows(&monitor.page(), 110.0).await;
        database.insert_log(&LogRow { id: Some(2), ..row(1000) }).await;
        shows(&monitor.page(), 1110.0).await;
        monitor.stop().await;
    }
}

/// A log that was replaced for a while, by one that used some of its ids again: its own rows were counted before.
#[tokio::test]
async fn a_log_that_comes_back_after_another_had_its_place_is_not_counted_twice() {
    for engine in Engine::ALL {
        let (database, _folder, flags) = begun(engine).await;
        database.insert_logs(&rows(10, 1)).await;
        database.exec("CREATE TABLE kept AS SELECT * FROM logs").await;
        let monitor = Monitor::ready(&flags).await;
        wipe(&database).await;
        still_shows(&monitor.page(), 10.0).await;
        database.insert_logs(&rows(3, 100)).await;
        shows(&monitor.page(), 310.0).await;
        database.exec("DELETE FROM logs; INSERT INTO logs SELECT * FROM kept").await;
        still_shows(&monitor.page(), 310.0).await;
        database.insert_log(&LogRow { id: Some(11), ..row(10_000) }).await;
        shows(&monitor.page(), 10_310.0).await;
        monitor.stop().await;
    }
}

/// What a replica shows that lags or is being restored: nothing, a part, and then all again.
#[tokio::test]
async fn a_log_that_is_emptied_and_restored_is_not_counted_twice() {
    for engine in Engine::ALL {
        let (database, _folder, flags) = begun(engine).await;
        let history: Vec<LogRow> =
            (0..6000).map(|n| LogRow { created_at: now() - 6000 + n, ..row(1) }).collect();
        database.insert_logs(&history).await;
        database.exec("CREATE TABLE kept AS SELECT * FROM logs").await;
        let monitor = Monitor::ready(&flags).await;
        let page = monitor.page();
        shows(&page, 6000.0).await;
        for part in ["id <= 100", "id <= 5990", "id > 0"] {
            database.exec("DELETE FROM logs").await;
            still_shows(&page, 6000.0).await;
            database.exec(&format!("INSERT INTO logs SELECT * FROM kept WHERE {part}")).await;
            still_shows(&page, 6000.0).await;
        }
        database.insert_log(&LogRow { id: Some(6001), ..row(10_000) }).await;
        shows(&page, 16_000.0).await;
        monitor.stop().await;

        // The same while nobody looks.
        database.exec("DELETE FROM logs").await;
        let monitor = Monitor::ready(&flags).await;
        still_shows(&monitor.page(), 16_000.0).await;
        database.exec("INSERT INTO logs SELECT * FROM kept").await;
        database.insert_log(&LogRow { id: Some(6002), ..row(100_000) }).await;
        shows(&monitor.page(), 116_000.0).await;
        still_shows(&monitor.page(), 116_000.0).await;
        monitor.stop().await;
    }
}

/// The newest rows are gone for a while: a replica that takes over before it has them all.
#[tokio::test]
async fn a_log_that_lost_its_newest_rows_for_a_while_is_not_counted_twice() {
    for engine in Engine::ALL {
        let (database, _folder, flags) = begun(engine).await;
        database.insert_logs(&rows(50, 1)).await;
        database.exec("CREATE TABLE kept AS SELECT * FROM logs").await;
        let monitor = Monitor::ready(&flags).await;
        database.exec("DELETE FROM logs WHERE id > 45").await;
        still_shows(&monitor.page(), 50.0).await;
        database.exec("INSERT INTO logs SELECT * FROM kept WHERE id > 45").await;
        still_shows(&monitor.page(), 50.0).await;
        database.insert_log(&LogRow { id: Some(51), ..row(100) }).await;
        shows(&monitor.page(), 150.0).await;
        eventually("the monitor is still ready", async || {
            matches!(monitor.page().get("/readyz").await, Some((200, _)))
        })
        .await;
        monitor.stop().await;
    }
}
