//! That counts come back from monitor.db bit by bit, whatever was written in full and whatever in the journal.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::record::{LogRecord, Other, StreamStatus, Tried};
use crate::store::{Checkpoint, Committing, Keep, MIGRATIONS, Position, Store};
use crate::tail::seen::Chunk;
use crate::usage::{Context, ExtraLabel, Family, Leaf, Rules, Totals, Value};

const QUOTA_PER_UNIT: f64 = 500_000.0;

/// A row of the log, as far as counting looks at it.
#[derive(Debug, Clone)]
struct Row {
    kind: i32,
    channel_id: i64,
    model: u8,
    quota: i64,
    tokens: i64,
    milliseconds: i64,
    /// Tried on another channel before.
    retried: bool,
    task: bool,
}

impl Row {
    fn request(channel_id: i64, model: u8, milliseconds: i64) -> Self {
        Self {
            kind: 2,
            channel_id,
            model,
            quota: milliseconds * 7,
            tokens: milliseconds / 3,
            milliseconds,
            retried: false,
            task: false,
        }
    }

    fn record(&self) -> LogRecord<'_> {
        let other = Other {
            first_response_ms: Some(self.milliseconds as f64 / 3.0),
            stream_status: (self.milliseconds % 3 == 0)
                .then_some(StreamStatus { client_gone: self.milliseconds % 2 == 0, error: true }),
            has_task_id: self.task,
            status_code: Some(if self.retried { 429 } else { 500 }),
            use_channel: if self.retried { [9, self.channel_id].into() } else { Tried::new() },
            ..Other::default()
        };
        LogRecord {
            id: 1,
            created_at: 1_000,
            kind: self.kind.into(),
            channel_id: self.channel_id,
            model: format!("model-{}", self.model).into(),
            group: if self.model.is_multiple_of(2) { "even".into() } else { "odd".into() },
            quota: self.quota,
            prompt_tokens: self.tokens,
            completion_tokens: self.tokens / 2,
            duration_ms: self.milliseconds,
            stream: true,
            token_id: 1,
            other: Cow::Owned(other),
            ..LogRecord::default()
        }
    }
}

fn row() -> impl Strategy<Value = Row> {
    let kind = prop::sample::select(&[2, 2, 2, 2, 5, 5, 6, 3][..]);
    (kind, 1..4_i64, 0..4_u8, -9..900_000_i64, 0..9_000_i64, 0..400_000_i64, any::<bool>(), any::<bool>())
        .prop_map(|(kind, channel_id, model, quota, tokens, milliseconds, retried, task)| Row {
            kind,
            channel_id,
            model,
            quota,
            tokens,
            milliseconds,
            retried,
            task,
        })
}

/// What a tailer does.
#[derive(Debug, Clone)]
enum Step {
    /// Counts rows, each group with a commit of its own.
    Round {
        groups: Vec<Vec<Row>>,
        /// They come in as they happen.
        live: bool,
        /// Nobody was shown what it has, so it is changed in place.
        alone: bool,
        /// What is shown as 0 is shown as it is from now on.
        release: bool,
        /// The last commit fails.
        fails: bool,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let groups = prop::collection::vec(prop::collection::vec(row(), 0..6), 1..3);
    let often = prop::bool::weighted(0.85);
    let seldom = || prop::bool::weighted(0.2);
    prop_oneof![
        9 => (groups, often, seldom(), seldom(), seldom()).prop_map(|(groups, live, alone, release, fails)| {
            Step::Round { groups, live, alone, release, fails }
        }),
        1 => Just(Step::Restart),
    ]
}

fn rules(max_series: usize, extra_labels: &[ExtraLabel]) -> Rules {
    Rules { max_series, slow_over_seconds: 5.0, extra_labels: extra_labels.to_vec() }
}

fn observe(usage: &mut Usage, rows: &[Row], rules: &Rules, live: bool) {
    let offered_models = std::collections::HashSet::from(["model-0".to_owned()]);
    let context = Context {
        rules,
        quota_per_unit: QUOTA_PER_UNIT,
        offered_models: &offered_models,
        live,
        exemplars_since: 0,
    };
    for row in rows {
        usage.observe(&row.record(), &context);
    }
}

/// All counts as bytes, so that equal ones are equal floats.
fn bits<'a>(series: impl IntoIterator<Item = (&'a Key, &'a Series)>) -> BTreeMap<Key, Vec<u8>> {
    series.into_iter().map(|(key, series)| (key.clone(), postcard::to_allocvec(series).unwrap())).collect()
}

fn bits_of(usage: &Usage) -> BTreeMap<Key, Vec<u8>> {
    bits(usage.series().map(|(key, series)| (key.as_ref(), series)))
}

/// A follower of the log that has nothing but counts.
struct Follower {
    connection: Connection,
    usage: Usage,
    models: hashbrown::HashSet<String>,
    rules: Rules,
    longest: i64,
}

impl Follower {
    fn new(max_series: usize, longest: i64) -> Self {
        let connection = Connection::open_in_memory().unwrap();
        for migration in &MIGRATIONS {
            connection.execute_batch(migration).unwrap();
        }
        let usage = Usage::default();
        Self { connection, usage, models: hashbrown::HashSet::new(), rules: rules(max_series, &[]), longest }
    }

    fn number(&self, statement: &str) -> i64 {
        self.connection.query_row(statement, [], |row| row.get(0)).unwrap()
    }

    fn restored(&self) -> Usage {
        Usage::restore(load(&self.connection, 0).unwrap(), self.models.clone(), Totals::default())
    }

    fn commit(&mut self, next: &mut Usage, fails: bool) {
        let transaction = self.connection.transaction().unwrap();
        save_within(&transaction, next, self.longest).unwrap();
        if !fails {
            transaction.commit().unwrap();
            self.models.extend(next.changes().models.iter().cloned());
            next.committed();
        }
    }

    #[expect(clippy::fn_params_excessive_bools, reason = "each is a coin that a property test throws")]
    fn round(&mut self, groups: &[Vec<Row>], live: bool, alone: bool, release: bool, fails: bool) {
        let mut next =
            if alone { std::mem::take(&mut self.usage).into_successor() } else { self.usage.successor() };
        if release {
            next.release(next.version());
        }
        for (number, rows) in groups.iter().enumerate() {
            observe(&mut next, rows, &self.rules, live);
            self.commit(&mut next, fails && number + 1 == groups.len());
        }
        if !fails {
            self.usage = next;
        } else if alone || groups.len() > 1 {
            // Nobody else has what was committed.
            self.usage = self.restored().resumed(next.version());
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Round { groups, live, alone, release, fails } => {
                self.round(groups, *live, *alone, *release, *fails);
            }
            Step::Restart => self.usage = self.restored().resumed(0),
        }
    }

    /// What memory has is what the file has.
    fn agrees(&self) {
        let stored = load(&self.connection, 0).unwrap();
        assert_eq!(bits(&stored), bits_of(&self.usage));
        let restored = self.restored();
        assert!(Family::ALL.into_iter().all(|family| restored.size(family) == self.usage.size(family)));
        assert_eq!(restored.has_held(), self.usage.has_held());
        let length = self.number("SELECT ifnull(sum(length(data)), 0) FROM series_changes");
        assert!(length <= self.longest, "the journal has {length} bytes");
        assert_eq!(self.number("SELECT ifnull(max(bytes), 0) FROM series_changes"), length);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn memory_and_file_agree_after_every_commit_failure_and_restart(
        steps in prop::collection::vec(step(), 1..24),
        max_series in 2..12_usize,
        longest in 200..4_000_i64,
    ) {
        let mut follower = Follower::new(max_series, longest);
        for step in &steps {
            follower.step(step);
            follower.agrees();
        }
    }
}

/// A hundred label sets, each with a row of every length.
fn hundred() -> Follower {
    let mut follower = Follower::new(1_000, LONGEST_JOURNAL);
    let rows: Vec<Row> =
        (0..10_000).map(|at| Row::request(1, u8::try_from(at % 100).unwrap(), at * 3)).collect();
    follower.round(&[rows], false, true, false, false);
    follower
}

fn one_each(milliseconds: i64) -> Vec<Row> {
    (0..100).map(|model| Row::request(1, model, milliseconds)).collect()
}

#[test]
fn a_poll_writes_little_and_no_label_set_in_full() {
    let mut follower = hundred();
    let full = |follower: &Follower| bits(&load_in_full(&follower.connection));
    let before = full(&follower);
    let bytes: usize = before.values().map(Vec::len).sum();
    follower.round(&[one_each(1_234)], true, false, false, false);
    follower.agrees();
    assert_eq!(full(&follower), before);
    assert_eq!(follower.number("SELECT count(*) FROM series_changes"), 1);
    let written = follower.number("SELECT length(data) FROM series_changes");
    assert!(written < 12_000 && bytes > 36_000, "{written} bytes instead of {bytes}");
}

/// What stands in the table, without the journal.
fn load_in_full(connection: &Connection) -> BTreeMap<Key, Series> {
    let mut statement = connection.prepare("SELECT labels, cells FROM series").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap)
        .map(|(labels, cells): (String, Vec<u8>)| {
            (parse("labels", &labels).unwrap(), postcard::from_bytes(&cells).unwrap())
        })
        .collect()
}

#[test]
fn what_is_read_late_and_at_once_is_written_in_full() {
    let mut follower = hundred();
    follower.round(&[one_each(1_234)], true, false, false, false);
    // Another one of each, but not live: of these it is not known what they were.
    follower.round(&[one_each(2_345)], false, true, false, false);
    follower.agrees();
    assert_eq!(follower.number("SELECT count(*) FROM series_changes"), 0);

    // And too many at once.
    let many: Vec<Row> =
        (0..2_000).map(|at| Row::request(at / 100 + 2, u8::try_from(at % 100).unwrap(), at)).collect();
    follower.rules.max_series = 10_000;
    follower.round(std::slice::from_ref(&many), true, false, false, false);
    follower.round(&[one_each(3_456)], true, false, false, false);
    assert_eq!(follower.number("SELECT count(*) FROM series_changes"), 1);
    let mut next = follower.usage.successor();
    observe(&mut next, &many, &follower.rules, true);
    assert!(next.changes().in_full && next.changes().series.iter().all(|touched| touched.before.is_none()));
    follower.commit(&mut next, false);
    follower.usage = next;
    follower.agrees();
    assert_eq!(follower.number("SELECT count(*) FROM series_changes"), 0);
}

/// Commits as the tailer does.
fn commit(store: &Store, usage: &mut Usage, labels: &[ExtraLabel]) -> Result<(), StoreError> {
    commit_as(store, usage, labels, false)
}

fn commit_as(
    store: &Store,
    usage: &mut Usage,
    labels: &[ExtraLabel],
    durable: bool,
) -> Result<(), StoreError> {
    let checkpoint = Checkpoint {
        position: &Position::default(),
        usage,
        seen: None,
        forgotten: &[],
        history: &[],
        keep: Keep { since: 0, now: 1_000 },
        durable,
    };
    store.commit(&checkpoint, labels)?;
    usage.committed();
    Ok(())
}

/// What must outlive a power cut waits for the disk; of a catch-up only the end must.
#[test]
fn a_durable_commit_waits_for_the_disk_and_so_does_what_is_promised() {
    let (_dir, store, mut usage) = begun(&rules(1_000, &[]));
    let synchronous = |store: &Store| -> i64 {
        store.connection().pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
    };
    for (durable, expected) in [(false, 1), (true, 2), (false, 1)] {
        commit_as(&store, &mut usage, &[], durable).unwrap();
        assert_eq!(synchronous(&store), expected);
    }
    store.write(|_| Ok(())).unwrap();
    assert_eq!(synchronous(&store), 2);
}

/// Nobody waits for the file itself at the end of a catch-up, and after it everything is as it was.
#[test]
fn the_last_commit_of_a_catch_up_leaves_the_file_to_whoever_settles() {
    let (_dir, store, mut usage) = begun(&rules(1_000, &[]));
    let pages = |store: &Store| -> i64 {
        store.connection().pragma_query_value(None, "wal_autocheckpoint", |row| row.get(0)).unwrap()
    };
    commit_as(&store, &mut usage, &[], true).unwrap();
    assert_eq!(pages(&store), 16_000);
    store.settle().unwrap();
    assert_eq!(pages(&store), 1_000);
    commit_as(&store, &mut usage, &[], true).unwrap();
    assert_eq!(pages(&store), 1_000);
}

/// Has `committing` commit, with the number of the commit as where the tailer stands.
fn commit_by(committing: &mut Committing, usage: &mut Usage, number: i64) -> Result<(), StoreError> {
    let checkpoint = Checkpoint {
        position: &Position { last_id: number, ..Position::default() },
        usage,
        seen: Some(&Chunk { seq: number, seen_at: number, rows: vec![(number, 7)] }),
        forgotten: &[number - 2],
        history: &[],
        keep: Keep { since: 0, now: 1_000 },
        durable: false,
    };
    committing.commit(&checkpoint, Vec::new(), vec![(number, format!("channel {number}"))])?;
    usage.committed();
    Ok(())
}

#[test]
fn what_another_thread_commits_is_what_would_be_committed_here() {
    let rules = rules(1_000, &[]);
    let group = [ExtraLabel::Group];
    let (_dir, store, _) = begun(&rules);
    for labels in [&[][..], &group[..]] {
        // With other labels all that is stored must go.
        let mut usage = store.load(labels).unwrap().usage.successor();
        let rules = Rules { extra_labels: labels.to_vec(), ..rules.clone() };
        let mut committing = store.committing(labels).unwrap();
        for number in 1..6 {
            observe(&mut usage, &one_each(number * 97), &rules, false);
            commit_by(&mut committing, &mut usage, number).unwrap();
        }
        committing.end().unwrap();
        let loaded = store.load(labels).unwrap();
        assert_eq!(bits_of(&loaded.usage), bits_of(&usage));
        assert_eq!(loaded.usage.totals(), usage.totals());
        assert_eq!(loaded.position.map(|position| position.last_id), Some(5));
        assert_eq!(loaded.seen.iter().map(|chunk| chunk.seq).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(store.channel_names().unwrap().len(), 5);
        assert!(usage.knows_model("model-0") && loaded.usage.knows_model("model-0"));
    }
}

#[test]
fn a_commit_that_fails_on_another_thread_is_told_and_none_comes_after_it() {
    let rules = rules(1_000, &[]);
    let (_dir, store, mut usage) = begun(&rules);
    let before = bits_of(&usage);
    store.pretend("query_only", 1);
    let mut committing = store.committing(&[]).unwrap();
    let mut told = Vec::new();
    for number in 1..5 {
        observe(&mut usage, &one_each(number * 97), &rules, false);
        told.extend(commit_by(&mut committing, &mut usage, number).err());
    }
    told.extend(committing.end().err());
    assert!(matches!(told[..], [StoreError::Sql(_), StoreError::Gone(_), ..]), "{told:?}");
    store.pretend("query_only", 0);
    assert_eq!(bits_of(&store.load(&[]).unwrap().usage), before);
}

#[test]
fn counts_of_which_a_part_is_in_the_journal_are_not_committed_without_it() {
    let rules = rules(1_000, &[]);
    let (_dir, store, mut usage) = begun(&rules);
    observe(&mut usage, &one_each(3), &rules, true);
    commit(&store, &mut usage, &[]).unwrap();
    assert!(length(&store.connection()).unwrap() > 0);
    let mut committing = store.committing(&[]).unwrap();
    observe(&mut usage, &one_each(5), &rules, false);
    commit_by(&mut committing, &mut usage, 1).unwrap();
    let error = committing.end().unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

/// A monitor.db with one row of each label set, counted and committed.
fn begun(rules: &Rules) -> (tempfile::TempDir, Store, Usage) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("monitor.db")).unwrap();
    let mut usage = Usage::default().successor();
    observe(&mut usage, &one_each(1), rules, false);
    commit(&store, &mut usage, &[]).unwrap();
    (dir, store, usage)
}

#[test]
fn the_journal_begins_anew_when_it_is_long() {
    let rules = rules(1_000, &[]);
    let (_dir, store, mut usage) = begun(&rules);
    let (mut times, mut before) = (0, 0);
    for milliseconds in 0..250 {
        let mut next = usage.successor();
        observe(&mut next, &one_each(milliseconds * 97), &rules, true);
        commit(&store, &mut next, &[]).unwrap();
        usage = next;
        let now = length(&store.connection()).unwrap();
        assert!(now <= LONGEST_JOURNAL);
        times += i32::from(now < before);
        before = now;
    }
    assert!((2..6).contains(&times), "it began anew {times} times");
    assert_eq!(bits_of(&store.load(&[]).unwrap().usage), bits_of(&usage));
}

#[test]
fn a_monitor_db_that_refuses_a_commit_goes_on_where_it_was() {
    let rules = rules(1_000, &[]);
    let (_dir, store, mut usage) = begun(&rules);
    for (pragma, bad, good) in [("query_only", 1, 0), ("max_page_count", 1, 1_000_000)] {
        for milliseconds in 0..5 {
            let mut next = usage.successor();
            observe(&mut next, &one_each(milliseconds * 997), &rules, true);
            store.pretend(pragma, bad);
            commit(&store, &mut next, &[]).unwrap_err();
            store.pretend(pragma, good);
            assert_eq!(bits_of(&store.load(&[]).unwrap().usage), bits_of(&usage));
            // The same rows once more, and others, beginning with what was committed.
            let mut next = usage.successor();
            observe(&mut next, &one_each(milliseconds * 997), &rules, true);
            observe(&mut next, &one_each(milliseconds), &rules, true);
            commit(&store, &mut next, &[]).unwrap();
            usage = next;
            assert_eq!(bits_of(&store.load(&[]).unwrap().usage), bits_of(&usage));
        }
    }
}

#[test]
fn a_journal_from_before_a_change_of_labels_is_counted_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("monitor.db")).unwrap();
    let group = [ExtraLabel::Group];
    let mut usage = Usage::default().successor();
    let rules = rules(1_000, &group);
    for live in [false, true] {
        observe(&mut usage, &one_each(1_000), &rules, live);
        let odd = Row { model: 1, ..Row::request(1, 0, 500) };
        observe(&mut usage, &[odd], &rules, live);
        commit(&store, &mut usage, &group).unwrap();
    }
    assert!(length(&store.connection()).unwrap() > 0);
    let mut merged = store.load(&[]).unwrap().usage.successor();
    let requests: f64 = merged
        .series()
        .flat_map(|(_, series)| series.cells())
        .filter(|(leaf, _)| matches!(leaf, Leaf::Requests(..)))
        .map(|(_, cell)| if let Value::Number(number) = cell.value { number } else { 0.0 })
        .sum();
    assert_eq!(requests, 202.0);
    commit(&store, &mut merged, &[]).unwrap();
    assert_eq!(length(&store.connection()).unwrap(), 0);
    assert_eq!(bits_of(&store.load(&[]).unwrap().usage), bits_of(&merged));
}

#[test]
fn a_damaged_journal_is_said_to_be_so() {
    for damage in [
        "UPDATE series_changes SET data = substr(data, 1, 50), bytes = 50 WHERE seq = 1",
        "UPDATE series_changes SET data = data || x'00', bytes = bytes + 1",
        "UPDATE series_changes SET data = x'ff' || substr(data, 2)",
        "UPDATE series_changes SET data = 'text'",
        "UPDATE series_changes SET data = zeroblob(0)",
        "UPDATE series_changes SET bytes = 'text'",
        "UPDATE series_changes SET bytes = 0",
        "UPDATE series_changes SET seq = 7 WHERE seq = 2",
        "DELETE FROM series_changes WHERE seq = 1",
        "DELETE FROM series",
    ] {
        let mut follower = hundred();
        for milliseconds in [1, 2] {
            follower.round(&[one_each(milliseconds)], true, false, false, false);
        }
        follower.agrees();
        follower.connection.execute_batch(damage).unwrap();
        let error = load(&follower.connection, 0).unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{damage}: {error}");
    }
}
