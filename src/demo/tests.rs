//! The stand-in as a whole: made, reopened, driven.

use std::collections::HashMap;
use std::sync::LazyLock;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

const NOW: i64 = 1_790_000_000;

fn options(dir: &TempDir) -> Options {
    Options { dir: dir.path().join("demo"), ..Options::default() }
}

/// A stand-in that was made at [`NOW`], copied from one that all tests share: making it takes a while.
fn made(dir: &TempDir) -> Demo {
    static MADE: LazyLock<TempDir> = LazyLock::new(|| {
        let dir = TempDir::new().unwrap();
        drop(Demo::open(&options(&dir), NOW).unwrap());
        dir
    });
    std::fs::create_dir_all(options(dir).dir).unwrap();
    std::fs::copy(options(&MADE).dir.join(DATABASE), options(dir).dir.join(DATABASE)).unwrap();
    Demo::open(&options(dir), NOW).unwrap()
}

fn read(demo: &Demo) -> Connection {
    Connection::open(demo.database_path()).unwrap()
}

fn number(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// All columns of all rows but the id, in order.
fn rows(conn: &Connection) -> Vec<String> {
    let sql = "SELECT created_at || ' ' || type || ' ' || quota || ' ' || use_time || ' ' || request_id || ' ' || \
               content || ' ' || model_name || ' ' || upstream_request_id || ' ' || other FROM logs ORDER BY id";
    let mut statement = conn.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_fresh_stand_in_has_three_days_of_history_and_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut demo = made(&dir);
    let conn = read(&demo);
    let history = number(&conn, "SELECT count(*) FROM logs");
    assert!((60_000..110_000).contains(&history), "{history}");
    assert_eq!(number(&conn, "SELECT max(id) FROM logs"), history);
    assert!(number(&conn, "SELECT min(created_at) FROM logs") < NOW - HISTORY_SECONDS + 60);
    assert!((NOW - 10..NOW).contains(&number(&conn, "SELECT max(created_at) FROM logs")));
    let order =
        "SELECT count(*) FROM logs a JOIN logs b ON b.id = a.id + 1 WHERE b.created_at < a.created_at";
    assert_eq!(number(&conn, order), 0, "ids ascend with time");
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete", "as new-api has it");
    let spent = "SELECT sum(CASE type WHEN 2 THEN quota WHEN 6 THEN -quota ELSE 0 END) FROM logs";
    assert_eq!(number(&conn, spent), number(&conn, "SELECT sum(used_quota) FROM channels"));

    let written: usize = (0..60).map(|second| demo.tick(NOW + second).unwrap()).sum();
    assert!((80..400).contains(&written), "{written} in a minute");
    assert_eq!(number(&conn, "SELECT max(created_at) FROM logs"), NOW + 59);
    assert_eq!(demo.tick(NOW + 59).unwrap(), 0, "a second is written once");
}

#[test]
fn the_same_seed_and_time_give_the_same_database() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let mut made_again = Demo::open(&options(&dirs[0]), NOW).unwrap();
    // Reopened in the second in which it was made: nothing is missing.
    let mut reopened = made(&dirs[1]);
    for demo in [&mut made_again, &mut reopened] {
        demo.tick(NOW + 30).unwrap();
    }
    assert!(rows(&read(&made_again)) == rows(&read(&reopened)));
}

#[test]
fn reopening_fills_the_gap_without_a_duplicate() {
    let dir = TempDir::new().unwrap();
    let mut demo = made(&dir);
    demo.tick(NOW + 100).unwrap();
    drop(demo);
    // As if it had been killed while it wrote a second.
    let path = dir.path().join("demo/one-api.db");
    let conn = Connection::open(&path).unwrap();
    conn.execute("DELETE FROM logs WHERE id = (SELECT max(id) FROM logs)", []).unwrap();
    let before = rows(&conn);

    let later = NOW + 4 * 3600;
    let demo = Demo::open(&options(&dir), later).unwrap();
    let after = rows(&read(&demo));
    assert!(after.starts_with(&before), "what was there stays");
    let mut seen = HashMap::new();
    for row in &after {
        *seen.entry(row).or_insert(0) += 1;
    }
    assert!(seen.values().all(|count| *count == 1));
    let gaps = "SELECT max(b.created_at - a.created_at) FROM logs a JOIN logs b ON b.id = a.id + 1 \
                WHERE a.created_at > 1790000000 - 1000";
    assert!(number(&read(&demo), gaps) < 60, "{}", number(&read(&demo), gaps));
    assert!(after.len() > before.len() + 2000);
}

#[test]
fn after_a_long_time_three_days_are_filled() {
    let dir = TempDir::new().unwrap();
    drop(made(&dir));
    let later = NOW + 30 * 86_400;
    let demo = Demo::open(&options(&dir), later).unwrap();
    let new = number(&read(&demo), "SELECT count(*) FROM logs WHERE created_at > 1790000000");
    assert!((60_000..110_000).contains(&new), "{new}");
    let first = number(&read(&demo), "SELECT min(created_at) FROM logs WHERE created_at > 1790000000");
    assert!(first >= later - HISTORY_SECONDS);
}

#[test]
fn a_channel_switched_off_in_the_database_gets_no_more_requests() {
    let dir = TempDir::new().unwrap();
    let mut demo = made(&dir);
    demo.start_episode(Episode::Burn);
    demo.tick(NOW + 20).unwrap();
    let conn = read(&demo);
    let burnt = "SELECT count(*) FROM logs WHERE token_name = 'nightly-agent' AND channel_id = 4 AND \
                 created_at - use_time > 1790000020";
    conn.execute_batch(
        "UPDATE channels SET status = 2 WHERE id = 4; UPDATE abilities SET enabled = 0 WHERE channel_id = 4",
    )
    .unwrap();
    demo.tick(NOW + 150).unwrap();
    assert_eq!(number(&conn, burnt), 0);
    let begun = "SELECT count(*) FROM logs WHERE created_at - use_time > 1790000021 AND ";
    assert_eq!(number(&conn, &format!("{begun} channel_id = 4")), 0);
    assert!(number(&conn, &format!("{begun} channel_id = 5 AND model_name LIKE 'claude%'")) > 10);

    conn.execute_batch(
        "UPDATE channels SET status = 1 WHERE id = 4; UPDATE abilities SET enabled = 1 WHERE channel_id = 4",
    )
    .unwrap();
    // The job lasts three minutes, its last requests a few more.
    demo.tick(NOW + 600).unwrap();
    assert!(number(&conn, burnt) > 0, "the job was still hammering");
}

#[test]
fn what_is_no_database_of_the_demo_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("demo/one-api.db");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "something else, long enough to be taken for a database header, but it is none")
        .unwrap();
    let error = Demo::open(&options(&dir), NOW).unwrap_err();
    assert!(format!("{error:#}").contains("one-api.db"), "{error:#}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("something else"));
}

#[tokio::test]
async fn it_runs_until_it_is_stopped() {
    let dir = TempDir::new().unwrap();
    let demo = made(&dir);
    let conn = read(&demo);
    let stop = CancellationToken::new();
    let clock = Arc::new(AtomicI64::new(NOW));
    let ticking = Arc::clone(&clock);
    let task = tokio::spawn(demo.run(move || ticking.fetch_add(1, Ordering::Relaxed), stop.clone()));
    while clock.load(Ordering::Relaxed) < NOW + 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    task.await.unwrap().unwrap();
    assert!(number(&conn, "SELECT count(*) FROM logs WHERE created_at >= 1790000000") > 0);
}
