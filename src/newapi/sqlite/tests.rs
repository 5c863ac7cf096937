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
    Query {
        taking: Some(format!("SELECT {TAKE}(id, pair, text) FROM t ORDER BY id")),
        ..Query::new("SELECT id, pair, text FROM t ORDER BY id", vec![], 2, 1)
    }
}

async fn read(file: &SqliteFile, query: Query) -> Result<Rows, ReadError> {
    file.read(query, Rows::default(), |rows| rows).await
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
            match read(&file, select()).await {
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
        assert_eq!(read(&file, select()).await.unwrap().len(), 300, "{mode}");
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
    let error = read(&SqliteFile::new(&path), select()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Busy, "{error}");
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(read(&SqliteFile::new(&path), select()).await.unwrap().len(), 51);
}

#[tokio::test]
async fn a_file_put_in_place_of_another_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = database(&dir, "delete");
    writer.execute("INSERT INTO t (pair, text) VALUES (1, 'old')", []).unwrap();
    let file = SqliteFile::new(&path);
    assert_eq!(read(&file, select()).await.unwrap().get(0).unwrap().text(0), "old");
    let other = tempfile::tempdir().unwrap();
    let (replacement, writer) = database(&other, "delete");
    writer.execute("INSERT INTO t (pair, text) VALUES (1, 'new')", []).unwrap();
    std::fs::copy(&replacement, dir.path().join("copy")).unwrap();
    std::fs::rename(dir.path().join("copy"), &path).unwrap();
    assert_eq!(read(&file, select()).await.unwrap().get(0).unwrap().text(0), "new");
}

#[tokio::test]
async fn each_failure_has_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let missing = read(&SqliteFile::new(&dir.path().join("missing.db")), select()).await.unwrap_err();
    assert_eq!(missing.reason, Reason::Unreachable);
    let (path, _writer) = database(&dir, "delete");
    let query = |sql: &str| Query::new(sql, vec![], 1, 0);
    let file = SqliteFile::new(&path);
    assert_eq!(read(&file, query("SELECT id FROM nope")).await.unwrap_err().reason, Reason::MissingTable);
    assert_eq!(read(&file, query("SELECT nope FROM t")).await.unwrap_err().reason, Reason::MissingColumn);
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, vec![7_u8; 9000]).unwrap();
    assert_eq!(read(&SqliteFile::new(&garbage), select()).await.unwrap_err().reason, Reason::Corrupt);
    assert!(read(&file, query("DELETE FROM t RETURNING id")).await.is_err(), "the file is read only");
}

/// The quick way takes rows when SQLite looks at them, which is not when it gives them out if it has to sort them.
#[tokio::test]
async fn rows_come_in_order_and_as_many_as_wanted_however_the_table_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = database(&dir, "delete");
    let file = SqliteFile::new(&path);
    for table in ["(id INTEGER PRIMARY KEY, n)", "(id BIGINT PRIMARY KEY, n)", "(id INTEGER, n)"] {
        writer.execute_batch(&format!("DROP TABLE t; CREATE TABLE t {table}")).unwrap();
        for id in [7, 3, 9, 1, 5] {
            writer.execute("INSERT INTO t VALUES (?1, 10 * ?1)", [id]).unwrap();
        }
        for (order, limit, wanted) in [
            ("id", 3, vec![3, 5, 7]),
            ("id", 9, vec![3, 5, 7, 9]),
            ("id DESC", 2, vec![9, 7]),
            ("id", 1, vec![3]),
            ("id", 0, vec![]),
        ] {
            let rest = format!("FROM t WHERE id > ? ORDER BY {order} LIMIT {limit}");
            let query = Query {
                taking: Some(format!("SELECT {TAKE}(id, n) {rest}")),
                ..Query::new(format!("SELECT id, n {rest}"), vec![1.into()], 2, 0)
            };
            let rows = read(&file, query).await.unwrap();
            let found: Vec<(i64, i64)> = rows.iter().map(|row| (row.int(0), row.int(1))).collect();
            let wanted: Vec<(i64, i64)> = wanted.into_iter().map(|id| (id, 10 * id)).collect();
            assert_eq!(found, wanted, "{table} {rest}");
        }
    }
}

/// SQLite keeps what it is given: both ways read it alike.
#[tokio::test]
async fn odd_values_are_the_same_by_either_way() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer) = database(&dir, "delete");
    let odd = "NULL, '', 'true', ' 12 ', 1.9, -9e99, x'00ff', 'é', 9223372036854775807, char(0)";
    let values: Vec<&str> = odd.split(", ").collect();
    writer.execute_batch("DROP TABLE t; CREATE TABLE t (id INTEGER PRIMARY KEY, number, text)").unwrap();
    for number in &values {
        for text in &values {
            writer.execute(&format!("INSERT INTO t (number, text) VALUES ({number}, {text})"), []).unwrap();
        }
    }
    let file = SqliteFile::new(&path);
    let plain = Query::new("SELECT id, number, text FROM t ORDER BY id", vec![], 2, 1);
    let taking = Some(format!("SELECT {TAKE}(id, number, text) FROM t ORDER BY id"));
    let rows = read(&file, Query { taking, ..plain.clone() }).await.unwrap();
    let expected = read(&file, plain).await.unwrap();
    let all = |rows: &Rows| -> Vec<(i64, i64, Vec<u8>)> {
        rows.iter().map(|row| (row.int(0), row.int(1), row.bytes(0).to_vec())).collect()
    };
    assert_eq!(all(&rows).len(), values.len() * values.len());
    assert_eq!(all(&rows), all(&expected));
}
