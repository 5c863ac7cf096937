//! Following the log: each row is counted exactly once, and shown only after it is committed.
//!
//! A round ([`Tailer::tick`]) reads the rows from the last known one on, asks about ids that were missing, and
//! commits position and counts in one transaction. The last known row is read again on purpose: if it is gone
//! or another row stands under its id, the table was changed under us ([`reread`]).

pub mod seen;

mod long_read;
mod names;
mod reread;
mod work;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::TailConfig;
use crate::history::{BlockBuilder, Recent};
use crate::limits::Period;
use crate::newapi::logs::{Spare, is_one_api};
use crate::newapi::{Database, LogReader, ReadError, Reason};
use crate::state::State;
use crate::store::{Loaded, Position, Store, StoreError};
use crate::usage::{Rules, Usage};
use names::Names;
use seen::Seen;
use work::Work;

/// Fewer rows than this are counted where they are read; more go to a thread of their own.
const INLINE_ROWS: usize = 200;

/// How long a round may go on after the signal to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// A catch-up tells how far it is this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Ranges of missing ids that one round asks about, and ids in one answer.
const PROBES_PER_ROUND: usize = 48;
const PROBE_IDS: u32 = 20_000;

/// Late rows fetched in one read.
const LATE_ROWS_PER_READ: usize = 500;

/// A month may be an hour longer than its days, and its beginning must not be gone before its end.
const KEEP_LONGER_SECONDS: i64 = 2 * 3600;

/// How often the first reading of the directory is looked for.
const DIRECTORY_PAUSE: Duration = Duration::from_millis(20);

/// The same while the log cannot be read either.
const LONGEST_DIRECTORY_PAUSE: Duration = Duration::from_secs(1);

/// Pauses after failed rounds grow from the poll interval to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// new-api's database could not be read.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// monitor.db could not be written.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A thread was lost.
    #[error("counting stopped: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl TailError {
    /// What is wrong, for pages that anybody may see.
    fn words(&self) -> String {
        match self {
            Self::Read(error) => error.words(),
            Self::Store(_) => "monitor.db cannot be written".to_owned(),
            Self::Worker(_) => "counting stopped".to_owned(),
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::Read(error) => error.reason,
            Self::Store(_) => Reason::Store,
            Self::Worker(_) => Reason::Query,
        }
    }
}

/// What a round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The end of the log.
    AtEnd,
    /// More rows wait.
    MoreWaiting,
}

/// Follows one log.
#[derive(Debug)]
pub struct Tailer {
    database: Database,
    store: Store,
    state: State,
    clock: Clock,
    config: TailConfig,
    rules: Rules,
    reader: Option<LogReader>,
    position: Position,
    /// The last committed counts. Those that nobody was shown are changed in place, so that a catch-up has them
    /// only once in memory; then this is None during a round, and after one that failed.
    usage: Option<Arc<Usage>>,
    /// Packs rows for the history; empty between rounds.
    history: BlockBuilder,
    /// Names of deleted channels that rows told.
    names: Names,
    /// None after a failed round, whose memory is not that of the checkpoint.
    seen: Option<Seen>,
    catch_up: Option<CatchUp>,
    /// Ends a long round early.
    stop: CancellationToken,
}

/// A long read from the beginning.
#[derive(Debug)]
struct CatchUp {
    began: Instant,
    first_id: i64,
    target_id: i64,
    rows: u64,
    reported: Instant,
}

/// Waits for a round. After `stop` it may still commit what it has, but not wait for a database that is away; what
/// was not committed is read again after the next start.
async fn finish<T>(mut round: Pin<Box<impl Future<Output = T>>>, stop: &CancellationToken) -> Option<T> {
    match stop.run_until_cancelled(&mut round).await {
        Some(result) => Some(result),
        None => tokio::time::timeout(STOP_PATIENCE, round).await.ok(),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl CatchUp {
    fn new(first_id: i64, target_id: i64) -> Self {
        let now = Instant::now();
        Self { began: now, first_id, target_id, rows: 0, reported: now }
    }
}

impl Tailer {
    /// Goes on from the checkpoint in `store`.
    ///
    /// # Errors
    /// If the checkpoint cannot be read.
    pub fn new(
        database: Database,
        store: Store,
        state: State,
        clock: Clock,
        config: TailConfig,
        rules: Rules,
    ) -> Result<Self, StoreError> {
        let Loaded { position, usage, seen } = store.load(&rules.extra_labels)?;
        let late_window = i64::try_from(config.late_window.as_millis()).unwrap_or(i64::MAX);
        let position = position.unwrap_or_default();
        let usage = Arc::new(usage);
        if position.caught_up {
            state.update_facts(|facts| {
                facts.usage = Some(Arc::clone(&usage));
                facts.commit = position.commits;
            });
        }
        let (now, caught_up, source) = (clock.unix_f64(), position.caught_up, database.address().to_owned());
        if !position.source.is_empty() && position.source != source {
            tracing::warn!(before = position.source, now = source, "the log has another address than before");
        }
        let engine = database.engine().to_string();
        state.update_tail(|tail| {
            tail.started_at = now;
            tail.caught_up = caught_up;
            tail.source = engine;
            tail.history_from = position.history_from;
            tail.known_from = position.history_from.max(position.kept_from);
            tail.last_id = position.last_id;
        });
        let seen =
            Some(Seen::restore(late_window, seen, position.last_id, position.holes_from, position.forgotten));
        Ok(Self {
            database,
            store,
            state,
            clock,
            config,
            rules,
            reader: None,
            position,
            usage: Some(usage),
            history: BlockBuilder::default(),
            names: Names::default(),
            seen,
            catch_up: None,
            stop: CancellationToken::new(),
        })
    }

    /// Follows the log until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        self.stop = stop.clone();
        self.wait_for_directory(&stop).await;
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let Some(round) = finish(Box::pin(self.tick()), &stop).await else { break };
            let pause = match round {
                Ok(progress) => {
                    self.succeeded(progress, failures);
                    failures = 0;
                    if progress == Progress::MoreWaiting { Duration::ZERO } else { self.config.poll_interval }
                }
                Err(error) => {
                    failures += 1;
                    self.failed(&error, failures)
                }
            };
            if !pause.is_zero() {
                stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
        let store = self.store.clone();
        spawn_blocking(move || store.settle()).await??;
        Ok(())
    }

    /// What a quota unit is worth must be known before the first row is counted. Until it is, the log is looked
    /// at, so that it is told what is wrong with it.
    async fn wait_for_directory(&mut self, stop: &CancellationToken) {
        let mut failures = 0_u32;
        while !self.state.directory().ready && !stop.is_cancelled() {
            let pause = if let Some(Err(error)) = stop.run_until_cancelled(self.reader()).await {
                failures += 1;
                self.failed(&error.into(), failures).min(LONGEST_DIRECTORY_PAUSE)
            } else {
                self.state.update_tail(|tail| tail.error = None);
                DIRECTORY_PAUSE
            };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    fn succeeded(&self, progress: Progress, failures: u32) {
        if failures > 0 {
            tracing::info!(after_failures = failures, "the log can be read again");
        }
        let now = self.clock.unix_f64();
        self.state.update_tail(|tail| {
            tail.up = true;
            tail.error = None;
            tail.last_success_at = Some(now);
            if progress == Progress::AtEnd {
                tail.reached_end_at = Some(now);
            }
        });
    }

    fn failed(&mut self, error: &TailError, failures: u32) -> Duration {
        let reason = error.reason();
        // The columns may have changed with an upgrade of new-api.
        if matches!(reason, Reason::MissingColumn | Reason::MissingTable | Reason::Query) {
            self.reader = None;
        }
        let pause = self.config.poll_interval.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        if failures == 1 || failures.is_multiple_of(20) {
            tracing::warn!(reason = reason.as_str(), failures, pause_ms, "following the log failed: {error}");
        }
        self.state.update_tail(|tail| {
            tail.up = matches!(reason, Reason::Store);
            tail.error = Some(error.words());
            *tail.errors.entry(reason).or_default() += 1;
        });
        pause
    }

    /// One round: reads, counts, commits, publishes.
    ///
    /// # Errors
    /// Nothing was counted that was not committed; the next round does it again.
    pub async fn tick(&mut self) -> Result<Progress, TailError> {
        let reader = self.reader().await?;
        if self.position.history_from == 0 {
            self.begin(&reader).await?;
        }
        if !self.position.caught_up && self.catch_up.is_none() {
            self.catch_up = Some(CatchUp::new(self.position.last_id, reader.last_id().await?.unwrap_or(0)));
        }
        let work = self.work()?;
        self.round(&reader, work).await
    }

    async fn round(&mut self, reader: &LogReader, work: Work) -> Result<Progress, TailError> {
        let mut work = reread::know_by_id(reader, work).await?;
        let mut batch = reader.from_id(self.position.last_id, reader.batch_rows(), Spare::default()).await?;
        if !work.holds_anchor(&batch) {
            work = self.reread(reader, work).await?;
            batch = reader.from_id(work.position.last_id, reader.batch_rows(), Spare::default()).await?;
        }
        if batch.at_end && batch.len() <= INLINE_ROWS {
            work = work.count(&batch.parse());
        } else {
            let at_end;
            (work, at_end) = self.count_on_another_core(reader, work, batch).await?;
            if !at_end {
                self.commit(work, false).await?;
                if self.catch_up.is_none() {
                    // There is much to read after a pause, too.
                    let target = reader.last_id().await?.unwrap_or(0);
                    self.catch_up = Some(CatchUp::new(self.position.last_id, target));
                }
                return Ok(Progress::MoreWaiting);
            }
        }
        work = self.probe(reader, work).await?;
        self.commit(work, true).await?;
        Ok(Progress::AtEnd)
    }

    async fn reader(&mut self) -> Result<LogReader, ReadError> {
        if let Some(reader) = &self.reader {
            return Ok(reader.clone());
        }
        let reader = LogReader::discover(self.database.clone()).await?;
        let columns = reader.columns();
        let features = [
            ("request_id", columns.has("request_id")),
            ("upstream_request_id", columns.has("upstream_request_id")),
            ("ip", columns.has("ip")),
            ("group", columns.has("group")),
            ("token_id", columns.has("token_id")),
            ("other", columns.has("other")),
            ("millisecond_duration", is_one_api(columns)),
        ];
        self.state.update_tail(|tail| tail.features = features.to_vec());
        self.reader = Some(reader.clone());
        Ok(reader)
    }

    /// When a history that is read now begins: `HISTORY` ago, or with the day, week or month of now if that is longer
    /// only because clocks were put back in it.
    fn reads_from(&self, now: i64) -> i64 {
        let history = seconds(self.config.history);
        let whole = Period::ALL.into_iter().filter(|period| period.seconds() <= history);
        let starts = whole.map(|period| period.span(&self.config.timezone, now).start);
        starts.fold(now.saturating_sub(history), i64::min).max(1)
    }

    /// Finds where the history begins.
    async fn begin(&mut self, reader: &LogReader) -> Result<(), TailError> {
        let from = self.reads_from(self.clock.unix());
        let first = reader.first_id_since(from).await?;
        let last = reader.last_id().await?.unwrap_or(0);
        self.position.history_from = from;
        // The row before the first one is the known one, without an anchor because nothing is known of it.
        self.position.last_id = first.map_or(last, |first| first - 1);
        tracing::info!(
            log = self.database.address(),
            first_id = self.position.last_id + 1,
            last_id = last,
            "reading the history of the log"
        );
        Ok(())
    }

    /// Material for a round: copies of what it changes. If the round fails they are dropped.
    fn work(&mut self) -> Result<Work, StoreError> {
        let late_window_ms = i64::try_from(self.config.late_window.as_millis()).unwrap_or(i64::MAX);
        let known = if let Some(known) = self.usage.take() {
            known
        } else {
            let Loaded { position, usage, .. } = self.store.load(&self.rules.extra_labels)?;
            // Before the first commit nothing is stored: where to begin is known only here.
            if let Some(position) = position {
                self.position = position;
            }
            let facts = self.state.facts();
            self.names.recover(self.store.channel_names()?, &facts.directory, &facts.channel_names);
            Arc::new(usage.resumed(facts.usage.map_or(0, |shown| shown.version())))
        };
        let seen = if let Some(seen) = self.seen.take() {
            seen
        } else {
            let position = &self.position;
            Seen::restore(
                late_window_ms,
                self.store.seen()?,
                position.last_id,
                position.holes_from,
                position.forgotten,
            )
        };
        let facts = self.state.facts();
        let mut usage = Arc::try_unwrap(known).map_or_else(
            |shown| {
                let next = shown.successor();
                self.usage = Some(shown);
                next
            },
            Usage::into_successor,
        );
        match self.state.scrapers(|scrapers| scrapers.all_have_seen(self.clock.unix_f64())) {
            Some(version) if usage.has_held() => {
                usage.release(version);
            }
            // Nobody has scraped yet, but Prometheus will know what a history says: shown as 0, it would be a counter
            // that began anew, and all of it counted twice.
            None if self.position.caught_up => {
                let told = self.store.told()?.filter(|told| *told <= self.position.last_id);
                if told.is_some() && told != self.position.told {
                    self.position.told = told;
                    if usage.has_held() {
                        usage.release(u64::MAX);
                    }
                }
            }
            _ => {}
        }
        self.position.source = self.database.address().to_owned();
        Ok(Work {
            usage,
            history: std::mem::take(&mut self.history),
            position: self.position.clone(),
            seen,
            directory: facts.directory,
            channel_names: facts.channel_names,
            names: self.names.clone(),
            rules: self.rules.clone(),
            now_ms: self.clock.now().as_millisecond(),
            late_window_ms,
            keep_seconds: seconds(self.config.history).saturating_add(KEEP_LONGER_SECONDS),
            rows: 0,
            recent: Recent::default(),
        })
    }

    /// Asks for the rows that were missing.
    async fn probe(&mut self, reader: &LogReader, mut work: Work) -> Result<Work, TailError> {
        for range in work.seen.due(work.now_ms, PROBES_PER_ROUND) {
            let mut first = range.0;
            loop {
                let ids = reader.ids_between(first, range.1, PROBE_IDS).await?;
                let full = ids.len() == PROBE_IDS as usize;
                let last = ids.last().copied();
                let late: Vec<i64> = ids.into_iter().filter(|id| work.seen.is_missing(*id)).collect();
                for ids in late.chunks(LATE_ROWS_PER_READ) {
                    let mut left = ids.to_vec();
                    while !left.is_empty() {
                        let rows = reader.with_ids(&left).await?;
                        work.count_late(&rows);
                        // They come in order, so what a cut read left out stands behind its last one.
                        let last = rows.last_id().filter(|_| rows.is_cut()).unwrap_or(i64::MAX);
                        left.retain(|id| *id > last);
                    }
                }
                match last {
                    Some(last) if full && last < range.1 => first = last + 1,
                    _ => break,
                }
            }
            work.seen.probed(range, work.now_ms);
        }
        Ok(work)
    }

    /// Commits what a round did, then shows it.
    async fn commit(&mut self, mut work: Work, at_end: bool) -> Result<(), TailError> {
        work.position.caught_up |= at_end;
        let rows = work.rows;
        let dirty = work.is_dirty() || work.position != self.position;
        if dirty {
            let (store, labels) = (self.store.clone(), self.rules.extra_labels.clone());
            work = spawn_blocking(move || work.commit(&store, &labels).map(|()| work)).await??;
        }
        self.seen = Some(work.seen);
        self.history = work.history;
        self.state.recent(|recent| recent.append(work.recent));
        self.names = work.names;
        self.position = work.position;
        if dirty || self.usage.is_none() {
            self.usage = Some(Arc::new(work.usage));
        }
        let caught_up = at_end && self.catch_up.is_some();
        self.publish(rows, dirty, at_end);
        if caught_up {
            // Now that everybody sees what was counted.
            let store = self.store.clone();
            drop(spawn_blocking(move || {
                if let Err(error) = store.settle() {
                    tracing::debug!("the commits of the catch-up stay in the write-ahead log: {error}");
                }
            }));
        }
        Ok(())
    }

    fn publish(&mut self, rows: u64, dirty: bool, at_end: bool) {
        let Position { caught_up, history_from, kept_from, commits, last_id, .. } = self.position;
        if let Some(catch_up) = &mut self.catch_up {
            catch_up.rows += rows;
        }
        let rows_read = self.catch_up.as_ref().map(|catch_up| catch_up.rows);
        let names = self.names.take_unshown();
        let counts = caught_up && (dirty || self.state.facts().usage.is_none());
        if counts || !names.is_empty() {
            self.state.update_facts(|facts| {
                if counts {
                    facts.usage.clone_from(&self.usage);
                    facts.commit = commits;
                }
                if !names.is_empty() {
                    Arc::make_mut(&mut facts.channel_names).extend(names);
                }
            });
        }
        if at_end && let Some(catch_up) = self.catch_up.take() {
            let seconds = catch_up.began.elapsed().as_secs_f64();
            tracing::info!(
                rows = catch_up.rows,
                seconds = format!("{seconds:.1}"),
                label_sets = self.usage.as_ref().map_or(0, |usage| usage.series().count()),
                "the history is read; following the log"
            );
        }
        self.state.update_tail(|tail| {
            tail.rows_read = rows_read.unwrap_or(tail.rows_read);
            tail.caught_up = caught_up;
            tail.history_from = history_from;
            tail.known_from = history_from.max(kept_from);
            tail.last_id = last_id;
            if caught_up {
                tail.progress = 1.0;
            }
        });
    }

    /// Tells how far a catch-up is: `rows` of this round were read, the last one with `last_id`.
    fn report(&mut self, rows: u64, last_id: i64) {
        let Some(catch_up) = &mut self.catch_up else { return };
        if catch_up.reported.elapsed() < REPORT_EVERY {
            return;
        }
        catch_up.reported = Instant::now();
        let seconds = catch_up.began.elapsed().as_secs_f64().max(0.001);
        let rows = catch_up.rows + rows;
        let span = (catch_up.target_id - catch_up.first_id).max(1) as f64;
        let progress = ((last_id - catch_up.first_id) as f64 / span).clamp(0.0, 1.0);
        let left = if progress > 0.0 { seconds / progress - seconds } else { 0.0 };
        self.state.update_tail(|tail| (tail.progress, tail.rows_read) = (progress, rows));
        tracing::info!(
            rows,
            rows_per_second = format!("{:.0}", rows as f64 / seconds),
            percent = format!("{:.1}", progress * 100.0),
            seconds_left = format!("{left:.0}"),
            "reading the history"
        );
    }
}
