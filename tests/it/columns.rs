//! A column of the log that goes away and comes back, while the monitor runs and while it does not.

use token_monitor::config::Flags;

use crate::ledger::traffic;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, Page, flags};
use crate::tally::{agrees, by_hand};

const VERSION: Version = Version::V1_0_0Rc24;

/// Whose columns a row may have while `request_id` is away.
const WITHOUT: Version = Version::V0_6_3;

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_and_goes_on_sqlite_costs_no_row() {
    comes_and_goes(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_and_goes_on_mariadb_costs_no_row() {
    comes_and_goes(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_and_goes_on_postgres_costs_no_row() {
    comes_and_goes(Engine::Postgres).await;
}

async fn comes_and_goes(engine: Engine) {
    let (database, folder) = (Database::create(engine, VERSION).await, Folder::new());
    let flags = flags(&database.url, &folder.path());
    database.insert_logs(&traffic(0, 300)).await;
    let monitor = Monitor::ready(&flags).await;
    shows_all(&monitor.page(), &database, true, "the history").await;

    // All rows that it knows have another fingerprint now.
    drop_column(&database).await;
    insert_without(&database, 300).await;
    shows_all(&monitor.page(), &database, false, "the column is gone").await;
    let samples = monitor.page().samples().await;
    let failed = samples.sum("token_monitor_tail_errors_total", &["reason=\"missing_column\""]);
    assert!(failed > 0.0, "{engine:?}: no read has failed, so nothing was found out by one");

    // No read fails because of it, so it may be looked for at the next start only.
    add_column(&database).await;
    database.insert_logs(&traffic(400, 50)).await;
    agrees(&monitor.page(), "the column is back", &by_hand(&database, &database, &[]).await).await;
    let monitor = restarted(monitor, &flags).await;
    shows_all(&monitor.page(), &database, true, "a start with the column").await;
    database.insert_logs(&traffic(500, 50)).await;
    shows_all(&monitor.page(), &database, true, "rows after that start").await;
    let found = monitor.api().get("requests/request-520").await;
    assert_eq!(found["request_id"], "request-520", "{engine:?}: {found}");

    monitor.stop().await;
    drop_column(&database).await;
    insert_without(&database, 600).await;
    let monitor = Monitor::ready(&flags).await;
    shows_all(&monitor.page(), &database, false, "a start without the column").await;
    insert_without(&database, 700).await;
    shows_all(&monitor.page(), &database, false, "rows after that one").await;
    monitor.stop().await;
}

/// The same, stopped and started.
async fn restarted(monitor: Monitor, flags: &Flags) -> Monitor {
    monitor.stop().await;
    Monitor::ready(flags).await
}

/// Waits until the page says whether there is the column, and shows every row once.
async fn shows_all(page: &Page, database: &Database, has_column: bool, what: &str) {
    let what = format!("{:?}, {what}", database.engine);
    let feature = "token_monitor_capability{feature=\"request_id\"}";
    let wanted = Some(f64::from(u8::from(has_column)));
    page.wait_samples(&what, |samples| samples.get(feature) == wanted).await;
    agrees(page, &what, &by_hand(database, database, &[]).await).await;
}

async fn drop_column(database: &Database) {
    // The servers drop the index with its column.
    if database.engine == Engine::Sqlite {
        database.exec("DROP INDEX idx_logs_request_id").await;
    }
    database.exec("ALTER TABLE logs DROP COLUMN request_id").await;
}

async fn add_column(database: &Database) {
    database.exec("ALTER TABLE logs ADD COLUMN request_id varchar(64) DEFAULT ''").await;
    database.exec("CREATE INDEX idx_logs_request_id ON logs (request_id)").await;
}

/// Some rows as they are written while there is no `request_id`.
async fn insert_without(database: &Database, first: u64) {
    database.exec(&LogRow::insert(&traffic(first, 50), database.engine, WITHOUT)).await;
}
