//! That monitor.db answers as the rows would, also after a restart, while rows are added, and when it is damaged.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use rusqlite::params;

use super::*;
use crate::history::oracle_tests::{Question, check, pack, question, rows};
use crate::history::{BlockBuilder, Fact, Filter, Found, RowOutcome, Selection};
use crate::record::ErrorType;
use crate::store::Store;

const FOREVER: Keep = Keep { since: i64::MIN, now: 2_000_000_000 };

fn open(dir: &tempfile::TempDir) -> Store {
    Store::open(&dir.path().join("monitor.db")).unwrap()
}

fn commit(store: &Store, blocks: &[Block], keep: Keep) {
    let mut connection = store.connection();
    let transaction = connection.transaction().unwrap();
    append(&transaction, blocks, keep).unwrap();
    transaction.commit().unwrap();
}

fn found(id: i64, created_at: i64) -> Found {
    let fact = Fact {
        id,
        created_at,
        kind: 2,
        outcome: RowOutcome::Success,
        channel_id: 1,
        model: "m".into(),
        group: "g".into(),
        username: "u".into(),
        token_name: "t".into(),
        stream: true,
        retried: false,
        duration_ms: 1000,
        first_token_ms: Some(300),
        input_tokens: 1,
        output_tokens: 2,
        cache_read_tokens: 3,
        cache_write_tokens: 4,
        consumed: 5,
        refunded: 0,
        status_code: 0,
        error_type: ErrorType::Other,
    };
    Found { fact, quota_per_unit: 500_000.0 }
}

fn everything() -> Selection {
    Selection { from: i64::MIN, to: i64::MAX, filter: Filter::default() }
}

fn number(store: &Store, sql: &str) -> i64 {
    store.connection().query_row(sql, [], |row| row.get(0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_file_answers_as_the_rows_would_also_after_a_restart(
        rows in rows(400),
        batches in prop::collection::vec(1..40usize, 1..6),
        question in question(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut builder, mut rest) = (open(&dir), BlockBuilder::default(), rows.as_slice());
        // Waiting for the disk has no part in this.
        store.connection().pragma_update(None, "synchronous", "off").unwrap();
        for (at, size) in batches.iter().cycle().enumerate() {
            let (batch, later) = rest.split_at((*size).min(rest.len()));
            commit(&store, &pack(&mut builder, batch), FOREVER);
            rest = later;
            if rest.is_empty() {
                break;
            }
            if at % 7 == 5 {
                drop(store);
                store = open(&dir);
                store.connection().pragma_update(None, "synchronous", "off").unwrap();
            }
        }
        let connection = store.connection();
        check(&mut Stored(&connection), &rows, &Question::all());
        check(&mut Stored(&connection), &rows, &question);
    }
}

#[test]
fn thousands_of_small_commits_leave_few_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut builder) = (open(&dir), BlockBuilder::default());
    store.connection().pragma_update(None, "synchronous", "off").unwrap();
    for id in 0..2000 {
        commit(&store, &pack(&mut builder, &[found(id, id)]), FOREVER);
    }
    assert!(number(&store, "SELECT count(*) FROM history_blocks") < 60);
    assert_eq!(
        number(&store, "SELECT count(*) FROM history_columns"),
        17 * number(&store, "SELECT count(*) FROM history_blocks"),
        "columns of blocks that are gone"
    );
    let reader = store.history();
    assert_eq!(reader.overview(&everything(), 1).unwrap().totals.requests, 2000);
    assert_eq!(reader.newest(&everything(), Some(1500), 1).unwrap()[0], found(1499, 1499));
}

#[test]
fn old_blocks_are_dropped_a_few_at_a_time_and_a_wrong_clock_keeps_none_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut builder) = (open(&dir), BlockBuilder::default());
    let now = 1_700_000_000;
    for block in 0..40 {
        let rows: Vec<Found> = (0..4000).map(|row| found(block * 4000 + row, now)).collect();
        commit(&store, &pack(&mut builder, &rows), Keep { since: 0, now });
    }
    let late = [found(1_000_000, now * 2)];
    commit(&store, &pack(&mut builder, &late), Keep { since: 0, now });
    let blocks = || number(&store, "SELECT count(*) FROM history_blocks");
    assert_eq!(blocks(), 41);
    commit(&store, &[], Keep { since: now, now });
    assert_eq!(blocks(), 41, "a row as old as what is kept is kept");
    let (since, now) = (now + 1, now + 1);
    let counts: Vec<i64> = (0..4)
        .map(|_| {
            commit(&store, &[], Keep { since, now });
            blocks()
        })
        .collect();
    assert_eq!(counts, [25, 9, 1, 1]);
    commit(&store, &[], Keep { since: now + 25 * 3600, now });
    assert_eq!(blocks(), 0, "the row from the future");
    assert_eq!(number(&store, "SELECT count(*) FROM history_columns"), 0);
    assert_eq!(store.history().newest(&everything(), None, 5).unwrap(), []);
}

#[test]
fn readers_beside_a_writer_see_whole_commits_only() {
    const COMMITS: i64 = 300;
    const ROWS: i64 = 7;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    store.connection().pragma_update(None, "synchronous", "off").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // More readers than there are connections.
        for _ in 0..6 {
            let reader = store.history();
            let done = &done;
            scope.spawn(move || {
                let mut before = 0;
                while !done.load(Ordering::Relaxed) {
                    let answer = reader.overview(&everything(), 1).unwrap();
                    let requests = answer.totals.requests;
                    assert!(requests.is_multiple_of(ROWS.unsigned_abs()), "part of a commit: {requests}");
                    assert!(requests >= before, "an older state than before");
                    assert_eq!(answer.by_user.values().map(|user| user.requests).sum::<u64>(), requests);
                    before = requests;
                }
            });
        }
        let mut builder = BlockBuilder::default();
        for at in 0..COMMITS {
            let rows: Vec<Found> = (0..ROWS).map(|row| found(at * ROWS + row, at)).collect();
            commit(&store, &pack(&mut builder, &rows), FOREVER);
        }
        done.store(true, Ordering::Relaxed);
    });
    let all = store.history().overview(&everything(), 1).unwrap();
    assert_eq!(all.totals.requests, (COMMITS * ROWS).unsigned_abs());
}

#[test]
fn an_answer_does_not_wait_for_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut builder) = (open(&dir), BlockBuilder::default());
    commit(&store, &pack(&mut builder, &[found(1, 1)]), FOREVER);
    let mut connection = store.connection();
    let transaction = connection.transaction().unwrap();
    append(&transaction, &pack(&mut builder, &[found(2, 2)]), FOREVER).unwrap();
    // The writer holds its connection and has written, but not committed.
    assert_eq!(store.history().newest(&everything(), None, 5).unwrap(), [found(1, 1)]);
    transaction.commit().unwrap();
    assert_eq!(store.history().newest(&everything(), None, 5).unwrap(), [found(2, 2), found(1, 1)]);
}

#[test]
fn readers_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let refused = store.history().ask(|stored| Ok(stored.0.execute("DELETE FROM history_blocks", [])?));
    assert!(refused.is_err());
}

#[test]
fn a_damaged_value_is_said_to_be_so() {
    for damage in [
        "UPDATE history_columns SET data = x'05' WHERE place % 32 = 2",
        "UPDATE history_columns SET data = 'text' WHERE place % 32 = 2",
        "DELETE FROM history_columns WHERE place % 32 = 2",
        "UPDATE history_blocks SET rows = 4000000000",
        "UPDATE history_blocks SET rows = 'many'",
        "UPDATE history_blocks SET tier = -1",
        "UPDATE history_blocks SET quota_per_unit = 0.0",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut builder) = (open(&dir), BlockBuilder::default());
        commit(&store, &pack(&mut builder, &[found(1, 1), found(2, 2)]), FOREVER);
        store.connection().execute(damage, params![]).unwrap();
        let error = store.history().overview(&everything(), 1).unwrap_err();
        assert!(error.to_string().contains("monitor.db"), "{error}");
        assert!(matches!(error, StoreError::Damaged(_)), "{damage}: {error}");
    }
}
