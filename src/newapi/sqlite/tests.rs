//! That reading takes no lock, and that a read which a writer disturbed is done again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn database(dir: &tempfile::TempDir, journal_mode: &str) -> (PathBuf, Connection) {
    let path = dir.path().join("one-api.db");
    let writer = Connection::open(&path).unwrap();
    writer.pragma_update(None, "journal_mode", journal_mode).unwrap();
    writer.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, pair INTEGER, text TEXT)").unwrap();
    (path, writer)
}

fn select() -> Query {
    Query { sql: "SELECT id, pair, text FROM t ORDER BY id".into(), params: vec![], ints: 2, texts: 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_waits_for_nobody_never_fails_and_readers_see_whole_transactions() {
    let dir = tempfile::tempdir().unwrap();
    for mode in ["delete", "truncate", "persist", "wal"] {
        let folder = tempfile::tempdir_in(dir.path()).unwrap();
        let (path, mut writer) = database(&folder, mode);
        writer.busy_timeout(Duration::ZERO).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&done);
        let writing = std::thread::spawn(move || {
            for round in 0..150 {
                // Both rows of a pair come in one transaction, and the text fills pages.
                let transaction = writer.transaction().expect("begin");
                for _ in 0..2 {
                    transaction
                        .execute("INSERT INTO t (pair, text) VALUES (?1, ?2)", (round, "x".repeat(3000)))
                        .expect("a reader made the writer fail");
                }
                transaction.commit().expect("a reader made the writer fail");
                std::thread::sleep(Duration::from_millis(2));
            }
            flag.store(true, Ordering::Relaxed);
        });
        let file = SqliteFile::new(&path);
        let (mut reads, mut last) = (0, 0);
        while !done.load(Ordering::Relaxed) {
            match file.read(select(), Rows::default()).await {
                Ok(rows) => {
                    assert_eq!(rows.len() % 2, 0, "{mode}: half a transaction was read");
                    assert!(rows.len() >= last, "{mode}: rows went away");
                    assert!((0_i64..).zip(rows.iter()).all(|(i, row)| row.int(1) == i / 2), "{mode}");
                    last = rows.len();
                    reads += 1;
                }
                Err(error) => assert_eq!(error.reason, Reason::Busy, "{mode}: {error}"),
            }
        }
        writing.join().unwrap();
        assert_eq!(file.read(select(), Rows::default()).await.unwrap().len(), 300, "{mode}");
        assert!(reads > 3, "{mode}: only {reads} reads got through");
    }
}

#[tokio::test]
async fn a_transaction_in_progress_is_waited_for_and_then_said_to_be_busy() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = database(&dir, "delete");
    writer
        .execute_batch("PRAGMA cache_spill=1; BEGIN IMMEDIATE; INSERT INTO t (pair, text) VALUES (1, 'x')")
        .unwrap();
    // The journal gets its header when a page is written, here by a spill.
    writer.execute_batch("PRAGMA cache_size=1").unwrap();
    for _ in 0..50 {
        writer.execute("INSERT INTO t (pair, text) VALUES (1, ?1)", ["y".repeat(4000)]).unwrap();
    }
    let error = SqliteFile::new(&path).read(select(), Rows::default()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Busy, "{error}");
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(SqliteFile::new(&path).read(select(), Rows::default()).await.unwrap().len(), 51);
}

#[tokio::test]
async fn a_file_put_in_place_of_another_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = database(&dir, "delete");
    writer.execute("INSERT INTO t (pair, text) VALUES (1, 'old')", []).unwrap();
    let file = SqliteFile::new(&path);
    assert_eq!(file.read(select(), Rows::default()).await.unwrap().get(0).unwrap().text(0), "old");
    let other = tempfile::tempdir().unwrap();
    let (replacement, writer) = database(&other, "delete");
    writer.execute("INSERT INTO t (pair, text) VALUES (1, 'new')", []).unwrap();
    std::fs::copy(&replacement, dir.path().join("copy")).unwrap();
    std::fs::rename(dir.path().join("copy"), &path).unwrap();
    assert_eq!(file.read(select(), Rows::default()).await.unwrap().get(0).unwrap().text(0), "new");
}

#[tokio::test]
async fn each_failure_has_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let missing =
        SqliteFile::new(&dir.path().join("missing.db")).read(select(), Rows::default()).await.unwrap_err();
    assert_eq!(missing.reason, Reason::Unreachable);
    let (path, _writer) = database(&dir, "delete");
    let query = |sql: &str| Query { sql: sql.into(), params: vec![], ints: 1, texts: 0 };
    let file = SqliteFile::new(&path);
    assert_eq!(
        file.read(query("SELECT id FROM nope"), Rows::default()).await.unwrap_err().reason,
        Reason::MissingTable
    );
    assert_eq!(
        file.read(query("SELECT nope FROM t"), Rows::default()).await.unwrap_err().reason,
        Reason::MissingColumn
    );
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, vec![7_u8; 9000]).unwrap();
    assert_eq!(
        SqliteFile::new(&garbage).read(select(), Rows::default()).await.unwrap_err().reason,
        Reason::Corrupt
    );
    assert!(
        file.read(query("DELETE FROM t RETURNING id"), Rows::default()).await.is_err(),
        "the file is read only"
    );
}
