//! What can go wrong with the databases goes wrong: it is told, and afterwards every row is counted once.

use std::time::{Duration, Instant};

use serde_json::Value;
use token_monitor::config::Flags;
use tokio::time::sleep;
use url::Url;

use crate::crash::DOUBLE;
use crate::ledger::{agrees, traffic};
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine, MySql, Postgres, Proxy, Session};
use crate::support::{Folder, Monitor, Page, Process, Samples, eventually, flags};

const LAG: &str = "token_monitor_tail_lag_seconds";
const REQUESTS: &str = "newapi_requests_total";
const VERSION: Version = Version::V1_0_0Rc24;

/// A server of the test's own.
enum Server {
    MySql(MySql),
    Postgres(Postgres),
}

impl Server {
    /// Starts one; `few` limits its connections.
    fn start(engine: Engine, few: bool) -> Self {
        match (engine, few) {
            (Engine::Sqlite, _) => panic!("SQLite has no server"),
            (Engine::MySql, false) => Self::MySql(MySql::start()),
            (Engine::MySql, true) => Self::MySql(MySql::start_with(&["--max-connections=12"])),
            (Engine::Postgres, false) => Self::Postgres(Postgres::start()),
            (Engine::Postgres, true) => Self::Postgres(Postgres::start_with(&[
                "max_connections=8",
                "superuser_reserved_connections=3",
                // Workers would take some of the few.
                "max_wal_senders=0",
            ])),
        }
    }

    async fn database(&self, engine: Engine) -> Database {
        Database::create_on(&self.url(""), engine, VERSION).await
    }

    fn url(&self, name: &str) -> String {
        match self {
            Self::MySql(server) => server.url(name),
            Self::Postgres(server) => server.url(name),
        }
    }

    fn stop(&mut self) {
        match self {
            Self::MySql(server) => server.stop(),
            Self::Postgres(server) => server.stop(),
        }
    }

    fn restart(&mut self) {
        match self {
            Self::MySql(server) => server.restart(),
            Self::Postgres(server) => server.restart(),
        }
    }
}

/// `/readyz` as a value, and whether it said yes.
async fn readiness(page: &Page) -> (bool, Value) {
    let (status, text) = page.get("/readyz").await.expect("an answer");
    (status == 200, serde_json::from_str(&text).expect("JSON"))
}

/// Whether a part is ready, and what is said of it.
async fn part(page: &Page, name: &str) -> (bool, String) {
    let (_, answer) = readiness(page).await;
    let parts = answer["parts"].as_array().expect("a list of parts");
    let part = parts.iter().find(|part| part["name"] == name).expect("the part");
    (part["ready"] == true, part["detail"].as_str().expect("a text").to_owned())
}

/// Waits until the log is reported as away for this reason: in the metrics, and in words.
async fn wait_away(page: &Page, reason: &str) -> Samples {
    let label = format!("reason=\"{reason}\"");
    let samples = page
        .wait_samples(&format!("newapi_up is 0 because of {reason}"), |samples| {
            samples.get("newapi_up") == Some(0.0) && errors(samples, &[&label]) > 0.0
        })
        .await;
    assert!(!readiness(page).await.0, "ready, although the log is away");
    let (ready, detail) = part(page, "log").await;
    assert!(!ready && detail.contains(&reason.replace('_', " ")), "{detail}");
    samples
}

fn errors(samples: &Samples, labels: &[&str]) -> f64 {
    samples.sum("token_monitor_tail_errors_total", labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_that_stops_is_followed_again_when_it_is_back() {
    stops_and_comes_back(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_stops_is_followed_again_when_it_is_back() {
    stops_and_comes_back(Engine::Postgres).await;
}

async fn stops_and_comes_back(engine: Engine) {
    let mut server = Server::start(engine, false);
    let (database, folder) = (server.database(engine).await, Folder::new());
    database.insert_logs(&traffic(0, 2000)).await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let page = monitor.page();
    agrees(&page, &database).await;
    let before = page.samples().await;

    database.insert_logs(&traffic(2000, 50)).await;
    server.stop();
    let first = wait_away(&page, "unreachable").await;
    let later = page
        .wait_samples("errors and lag grow", |samples| {
            errors(samples, &[]) > errors(&first, &[]) && samples.get(LAG) > first.get(LAG).map(|s| s + 2.0)
        })
        .await;
    // What was counted stays on the page.
    assert!(later.sum(REQUESTS, &[]) >= before.sum(REQUESTS, &[]));

    server.restart();
    database.reconnect().await;
    database.insert_logs(&traffic(3000, 50)).await;
    page.wait_ready().await;
    agrees(&page, &database).await;
    let after = page.samples().await;
    assert_eq!(after.get("newapi_up"), Some(1.0));
    assert!(after.get(LAG) < Some(2.0), "{:?}", after.get(LAG));
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_in_mid_read_loses_nothing_on_mariadb() {
    network_fails(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_fails_in_mid_read_loses_nothing_on_postgres() {
    network_fails(Engine::Postgres).await;
}

async fn network_fails(engine: Engine) {
    let (database, folder) = (Database::create(engine, VERSION).await, Folder::new());
    database.insert_logs(&traffic(0, 20_000)).await;
    let proxy = Proxy::in_front_of(&database.url);
    // Some rows come through, but not all.
    proxy.cut_after(1_500_000);
    let monitor = Monitor::start(&flags(&proxy.url(&database.url), &folder.path())).await;
    let page = monitor.page();
    let samples = page.wait_samples("the catch-up is cut", |samples| errors(samples, &[]) > 0.0).await;
    assert_eq!(samples.count(REQUESTS), 0, "counts are shown before the catch-up is complete");
    assert!(!readiness(&page).await.0);
    proxy.heal();
    page.wait_ready().await;
    agrees(&page, &database).await;

    // Connections that end between and in reads.
    for round in 0..20 {
        database.insert_logs(&traffic(30_000 + round * 100, 30)).await;
        proxy.drop_connections();
    }
    agrees(&page, &database).await;

    // Nobody answers, nobody hangs up.
    proxy.stall();
    database.insert_logs(&traffic(40_000, 100)).await;
    let before = page.samples().await;
    page.wait_samples("a silent connection is given up", |samples| {
        errors(samples, &[]) > errors(&before, &[]) && samples.get("newapi_up") == Some(0.0)
    })
    .await;
    proxy.heal();
    agrees(&page, &database).await;

    // New connections end at once.
    proxy.refuse();
    proxy.drop_connections();
    database.insert_logs(&traffic(50_000, 100)).await;
    wait_away(&page, "unreachable").await;
    proxy.heal();
    page.wait_ready().await;
    agrees(&page, &database).await;
    monitor.stop().await;
}

/// Makes a user who may read and nothing else, and gives the database's URL with that user in it.
async fn reader(database: &Database, name: &str, password: &str) -> String {
    if database.engine == Engine::MySql {
        database.exec(&format!("CREATE USER {name}@'%' IDENTIFIED BY '{password}'")).await;
        database.exec(&format!("GRANT SELECT ON {}.* TO {name}@'%'", database.name())).await;
    } else {
        database.exec(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'")).await;
        database.exec(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")).await;
    }
    with_user(&database.url, name, password)
}

fn with_user(url: &str, name: &str, password: &str) -> String {
    let mut url = Url::parse(url).expect("a URL");
    url.set_username(name).expect("a URL with a user");
    url.set_password(Some(password)).expect("a URL with a password");
    url.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_to_read_is_enough() {
    for engine in [Engine::MySql, Engine::Postgres] {
        let server = Server::start(engine, false);
        let (database, folder) = (server.database(engine).await, Folder::new());
        let url = reader(&database, "only_reads", "right").await;
        database.insert_logs(&traffic(0, 300)).await;
        let monitor = Monitor::ready(&flags(&url, &folder.path())).await;
        agrees(&monitor.page(), &database).await;
        database.insert_logs(&traffic(300, 300)).await;
        agrees(&monitor.page(), &database).await;
        assert!(errors(&monitor.page().samples().await, &[]) == 0.0);
        monitor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_without_room_is_reported_and_used_when_there_is_room() {
    no_room(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_without_room_is_reported_and_used_when_there_is_room() {
    no_room(Engine::Postgres).await;
}

async fn no_room(engine: Engine) {
    let server = Server::start(engine, true);
    let (database, folder) = (server.database(engine).await, Folder::new());
    database.insert_logs(&traffic(0, 500)).await;
    // The last connections are an administrator's, so the others must be ordinary users.
    let url = reader(&database, "only_reads", "right").await;
    let mut others = Vec::new();
    // One connection is the test's own, by which it made the tables.
    for _ in 0..if engine == Engine::MySql { 11 } else { 4 } {
        others.push(Session::open(engine, &url).await);
    }
    let monitor = Monitor::start(&flags(&url, &folder.path())).await;
    let page = monitor.page();
    wait_away(&page, "too_many_connections").await;
    assert!(!part(&page, "channels").await.0);

    drop(others);
    page.wait_ready().await;
    agrees(&page, &database).await;
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_reported_and_shown_nowhere() {
    const WRONG: &str = "wr0ng-Pa55word";
    for engine in [Engine::MySql, Engine::Postgres] {
        let server = Server::start(engine, false);
        let (database, folder) = (server.database(engine).await, Folder::new());
        let url = if engine == Engine::MySql {
            let url = reader(&database, "only_reads", "right").await;
            url.replace("right", WRONG)
        } else {
            // This server believes every password, but not that there is such a user.
            with_user(&database.url, "nobody_knows_me", WRONG)
        };
        let debug = Some("debug".to_owned());
        let process = Process::spawn(&Flags { rust_log: debug, ..flags(&url, &folder.path()) });
        let page = process.page();
        eventually("it answers", async || page.get("/healthz").await.is_some()).await;
        wait_away(&page, "access_denied").await;
        for path in ["/", "/readyz", "/metrics"] {
            let (_, text) = page.get(path).await.expect("an answer");
            assert!(!text.contains(WRONG), "{path} shows the password: {text}");
        }
        // What everybody may see tells nobody where the database is, and who is known there.
        let (user, address) = (user_of(&url), Url::parse(&url).expect("a URL"));
        let port = address.port().expect("a port").to_string();
        for path in ["/", "/readyz"] {
            let (_, text) = page.get(path).await.expect("an answer");
            for word in [&user, "127.0.0.1", "localhost", &port, address.path().trim_matches('/')] {
                assert!(!text.contains(word), "{path} shows {word}: {text}");
            }
        }
        let printed = process.printed();
        assert!(printed.contains("denied") && !printed.contains(WRONG), "{printed}");
        assert!(printed.contains(&user), "the log does not say who: {printed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_table_that_is_renamed_away_and_back_is_counted_once() {
    for engine in Engine::ALL {
        let (database, folder) = (Database::create(engine, VERSION).await, Folder::new());
        database.insert_logs(&traffic(0, 400)).await;
        let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
        let page = monitor.page();
        agrees(&page, &database).await;
        database.exec("ALTER TABLE logs RENAME TO logs_of_last_month").await;
        wait_away(&page, "missing_table").await;
        database.exec("ALTER TABLE logs_of_last_month RENAME TO logs").await;
        database.insert_logs(&traffic(400, 400)).await;
        page.wait_ready().await;
        agrees(&page, &database).await;
        monitor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_tells_the_main_database_from_the_log_database() {
    let (main, log) =
        (Database::create(Engine::Postgres, VERSION).await, Database::create(Engine::Sqlite, VERSION).await);
    log.insert_logs(&traffic(0, 400)).await;
    let (folder, proxy) = (Folder::new(), Proxy::in_front_of(&main.url));
    proxy.refuse();
    let flags =
        Flags { log_database_url: Some(log.url.clone()), ..flags(&proxy.url(&main.url), &folder.path()) };
    let monitor = Monitor::start(&flags).await;
    let page = monitor.page();
    eventually("the channels are missing", async || part(&page, "channels").await.1.contains("unreachable"))
        .await;
    assert!(!readiness(&page).await.0);
    let (_, said) = part(&page, "log").await;
    assert!(!said.contains("unreachable"), "the log is not away: {said}");
    proxy.heal();
    page.wait_ready().await;
    agrees(&page, &log).await;

    // Later: what is known of the channels stays good enough to count with.
    proxy.refuse();
    proxy.drop_connections();
    eventually("the channels are missing", async || !part(&page, "channels").await.0).await;
    log.insert_logs(&traffic(400, 400)).await;
    agrees(&page, &log).await;
    assert!(part(&page, "log").await.0, "the log is not away");
    assert_eq!(page.samples().await.get("newapi_up"), Some(1.0));
    proxy.heal();
    page.wait_ready().await;
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sqlite_file_that_comes_later_is_followed() {
    let (database, folder) = (Database::create(Engine::Sqlite, VERSION).await, Folder::new());
    database.insert_logs(&traffic(0, 400)).await;
    let (path, away) = (database.name(), format!("{}.away", database.name()));
    std::fs::rename(&path, &away).expect("moving the file away");
    let monitor = Monitor::start(&flags(&database.url, &folder.path())).await;
    let page = monitor.page();
    wait_away(&page, "unreachable").await;
    assert!(
        !part(&page, "log").await.1.contains("one-api.db"),
        "a page for everybody tells where the file is"
    );
    assert!(!std::path::Path::new(&path).exists(), "it must not make new-api's file");

    std::fs::rename(&away, &path).expect("moving the file back");
    page.wait_ready().await;
    agrees(&page, &database).await;
    monitor.stop().await;
}

/// new-api opens its file without a busy timeout that works: a reader that holds a lock makes it lose rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_catch_up_never_disturbs_an_sqlite_writer_without_patience() {
    const COMMITS: u64 = 300;
    let (database, folder) = (Database::create(Engine::Sqlite, VERSION).await, Folder::new());
    database.insert_logs(&traffic(0, 100_000)).await;
    let rows: Vec<String> = traffic(200_000, COMMITS)
        .iter()
        .map(|row| LogRow::insert(std::slice::from_ref(row), Engine::Sqlite, VERSION))
        .collect();
    let monitor = Monitor::start(&flags(&database.url, &folder.path())).await;
    let (page, path) = (monitor.page(), database.name());
    assert!(!readiness(&page).await.0, "the catch-up is over before it began");
    let writer = std::thread::spawn(move || {
        let connection = rusqlite::Connection::open(path).expect("opening the file");
        connection.busy_timeout(Duration::ZERO).expect("setting the timeout");
        let mode: String =
            connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("asking");
        assert_eq!(mode, "delete");
        for (commit, row) in rows.iter().enumerate() {
            connection.execute_batch(row).unwrap_or_else(|e| panic!("commit {commit} was disturbed: {e}"));
            std::thread::sleep(Duration::from_millis(3));
        }
    });
    let (mut during, mut finished) = (0, false);
    while !finished {
        finished = writer.is_finished();
        during += u32::from(!readiness(&page).await.0);
        sleep(Duration::from_millis(5)).await;
    }
    writer.join().expect("a writer that was not disturbed");
    assert!(during > 20, "the writer was done before the catch-up had begun: {during}");
    page.wait_ready().await;
    agrees(&page, &database).await;
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_db_that_cannot_be_written_delays_the_counts_and_loses_none() {
    let (database, folder) = (Database::create(Engine::Sqlite, VERSION).await, Folder::new());
    database.insert_logs(&traffic(0, 400)).await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let page = monitor.page();
    agrees(&page, &database).await;
    let before = page.samples().await;

    let other = rusqlite::Connection::open(folder.path().join("monitor.db")).expect("opening monitor.db");
    other.execute_batch("BEGIN IMMEDIATE").expect("locking it");
    let locked = Instant::now();
    database.insert_logs(&traffic(400, 400)).await;
    let samples = page
        .wait_samples("the store's failure is counted", |samples| {
            errors(samples, &["reason=\"store\""]) > 0.0
        })
        .await;
    assert!(locked.elapsed() > Duration::from_secs(4), "a short lock is waited for");
    // Nothing is wrong with new-api, and what is not committed is not shown.
    assert_eq!(samples.get("newapi_up"), Some(1.0));
    assert_eq!(samples.sum(REQUESTS, &[]).to_bits(), before.sum(REQUESTS, &[]).to_bits());
    assert!(!readiness(&page).await.0);
    assert!(part(&page, "log").await.1.contains("monitor.db"));

    other.execute_batch("ROLLBACK").expect("unlocking it");
    page.wait_ready().await;
    agrees(&page, &database).await;
    monitor.stop().await;
}

/// The user that a URL names.
fn user_of(url: &str) -> String {
    Url::parse(url).expect("a URL").username().to_owned()
}

/// The network passes a little now and then, so that reading takes long.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_pause_left_to_read_is_read_with_words_of_how_far_it_is() {
    let (database, folder) = (Database::create(Engine::MySql, VERSION).await, Folder::new());
    database.insert_logs(&traffic(0, 50)).await;
    let proxy = Proxy::in_front_of(&database.url);
    let flags = flags(&proxy.url(&database.url), &folder.path());
    let mut first = Process::spawn(&flags);
    first.page().wait_ready().await;
    agrees(&first.page(), &database).await;
    first.signal("TERM");
    first.exit_code().await;

    database.insert_logs(&traffic(50, 50_000)).await;
    for _ in 0..2 {
        database.exec(DOUBLE).await;
    }
    let second = Process::spawn(&flags);
    let began = Instant::now();
    let line = loop {
        proxy.stall();
        sleep(Duration::from_millis(400)).await;
        proxy.heal();
        sleep(Duration::from_millis(50)).await;
        let printed = second.printed();
        if let Some(line) = printed.lines().find(|line| line.contains("reading the history rows=")) {
            break line.to_owned();
        }
        assert!(began.elapsed() < Duration::from_secs(90), "not a word of how far it is: {printed}");
    };
    for word in ["rows_per_second=", "percent=", "seconds_left="] {
        assert!(line.contains(word), "{word}: {line}");
    }
    agrees(&second.page(), &database).await;
    second.prints("the history is read").await;
}
