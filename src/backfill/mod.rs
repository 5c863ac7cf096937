//! `token-monitor backfill`: the history of the log as OpenMetrics text, so that boards have a past on the first day.
//!
//! The log is read once, in the order of its ids, and counted by the same rules from the same row as the monitor counts it
//! ([`Usage`]). Whenever the time of the rows passes a [`steps`] boundary, what was counted by then is written
//! ([`samples`], [`mod@text`]). So the last sample equals what the live counters show at that moment, and they go on from it.

mod behind;
mod samples;
mod steps;
mod text;
mod wait;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::cli;
use crate::clock::Clock;
use crate::config::{Config, Flags, Settings};
use crate::lifecycle;
use crate::newapi::batches::{Batch, Batches, Demand, Queue};
use crate::newapi::logs::{Log, Logs, Spare};
use crate::newapi::{Database, Directory, LogReader, ReadError};
use crate::store::{Position, Store};
use crate::usage::{Context, FETCHED, Rules, Usage};
use behind::WrittenBehind;
use samples::{Samples, Target};
use steps::{FOLLOWING, Moments, Steps};
use wait::Patience;

/// How often a read that failed is tried again, and the first pause.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What a label set takes in the file at each step, in bytes: a hundred lines or so.
const BYTES_PER_STEP: i64 = 21_000;

/// Label sets that are expected if no monitor has counted them yet.
const USUAL_LABEL_SETS: i64 = 100;

/// The log has more label sets than thought, so that the file would become too large.
#[derive(Debug, thiserror::Error)]
#[error("the file would become larger than --max-megabytes allows")]
struct TooLarge {
    label_sets: i64,
}

/// How often it is begun again with fewer samples.
const MOST_TRIES: u32 = 8;

/// So many of the newest rows tell when the log ends.
const LATEST: u32 = 64;

const NO_THREAD: &str = "no thread can be started";

/// Progress is told this often.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// What to write.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The file to write. It appears when it is complete; an older one is replaced
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Prometheus' job_name for the monitor
    #[arg(long, value_name = "NAME", default_value = "token-monitor")]
    job: String,
    /// The monitor's target in Prometheus' configuration: the live series must have the same label
    #[arg(long, value_name = "HOST:PORT", default_value = "monitor-server:3002")]
    instance: String,
    /// About how large the file may become: if there is more history, its oldest part is left out
    #[arg(long, value_name = "MB", default_value_t = 8000)]
    max_megabytes: u32,
    /// How long to wait for databases that do not answer yet, and for a monitor that has not begun to count
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    rows: u64,
    samples: u64,
    bytes: u64,
}

/// Writes it. Exit 0 if the file is complete, 1 if not, 2 for a wrong configuration.
pub async fn run(flags: &Flags, arguments: &Arguments) -> ExitCode {
    // Nothing is served here, so nothing has to be guarded.
    let flags = Flags { listen: Some("127.0.0.1:0".to_owned()), ..flags.clone() };
    let config = match Settings::from_flags(&flags).and_then(|settings| Config::resolve(&settings)) {
        Ok(config) => config,
        Err(problems) => return cli::refuse(&problems),
    };
    let stop = CancellationToken::new();
    if let Err(error) = lifecycle::stop_on_signals(stop.clone()) {
        eprintln!("token-monitor: {error}");
        return ExitCode::FAILURE;
    }
    let Some(written) = stop.run_until_cancelled(Box::pin(write(config, arguments))).await else {
        // Nobody would look for it, and it is large.
        let _ = std::fs::remove_file(partial(&arguments.output));
        return ExitCode::FAILURE;
    };
    match written {
        Ok(written) => {
            let Written { rows, samples, bytes } = written;
            let file = arguments.output.display();
            let size = bytes.div_ceil(1_000_000);
            let empty = if rows == 0 { "the log has no rows within HISTORY\n" } else { "" };
            // Whoever reads may have seen enough.
            let _ = writeln!(
                std::io::stdout(),
                "{empty}{file}: {samples} samples of {rows} rows, {size} MB\n\
                 to load it into a Prometheus that has not recorded the monitor yet, while it is stopped:\n  \
                 promtool tsdb create-blocks-from --max-block-duration=54h openmetrics {file} DATA_FOLDER_OF_PROMETHEUS"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("token-monitor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn write(config: Config, arguments: &Arguments) -> anyhow::Result<Written> {
    let clock = Clock::system();
    let main = Database::new(&config.database);
    let log = config.log_database.as_ref().map_or_else(|| main.clone(), Database::new);
    let mut patience = Patience::of(arguments.wait);
    let (directory, reader) = patience.databases(&main, &log).await?;

    // Where the monitor began, if it did: from there its counters count.
    let path = &config.monitor_database;
    let monitor = patience.monitor(path).await?;
    match &monitor {
        None => tracing::warn!(
            file = %path.display(),
            "no monitor has counted with this MONITOR_DATABASE_URL: one that begins later than now counts less than this history"
        ),
        Some(monitor) if !monitor.position.caught_up => tracing::warn!(
            file = %path.display(),
            "the monitor has not counted the whole log yet: channels that were deleted may lack their names"
        ),
        Some(_) => {}
    }
    let counts = monitor.is_some();
    let planned = clock.unix().saturating_sub(i64::try_from(config.tail.history.as_secs())?).max(1);
    let known = monitor.as_ref().map(|known| known.position.history_from).filter(|from| *from > 0);
    let label_sets = monitor.as_ref().map_or(USUAL_LABEL_SETS, |known| known.label_sets.max(1));
    let max_bytes = u64::from(arguments.max_megabytes).saturating_mul(1_000_000);
    let mut target =
        Target { job: arguments.job.clone(), instance: arguments.instance.clone(), ..Target::default() };
    if let Some(known) = monitor {
        target.channel_names = known.names;
    }
    target.channel_names.extend(directory.channels.iter().map(|(id, channel)| (*id, channel.name.clone())));
    let history_from = known.unwrap_or(planned);
    let first = reader.first_id_since(history_from).await?;
    let last = reader.last_id().await?.unwrap_or(0);
    let first = first.unwrap_or(last.saturating_add(1));
    // One of them may have no time, or that of a clock that is behind.
    let newest = reader.newest_up_to(last, LATEST).await?.times().max().unwrap_or(0);
    if counts && let Err(error) = Store::open_beside(path).and_then(|store| store.save_told(last)) {
        tracing::warn!("what is new since the monitor began may be counted twice: {error}");
    }

    let partial = partial(&arguments.output);
    // A log that ended days ago is as finely told as one that goes on.
    let end = newest.clamp(history_from, clock.unix().max(history_from));
    let plan =
        Plan { end, rules: config.rules, directory, target, history_from, max_bytes, first, last, clock };
    let done = plan.write(&reader, &partial, label_sets).await;
    main.close().await;
    log.close().await;
    let written = done.and_then(|written| {
        std::fs::rename(&partial, &arguments.output)
            .with_context(|| format!("{} cannot be written", arguments.output.display()))?;
        Ok(written)
    });
    if written.is_err() {
        // Half a history is none; what is wrong with it is told already.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// What is to be written.
struct Plan {
    /// When the log ends; samples are finer the nearer they lie to it.
    end: i64,
    rules: Rules,
    directory: Directory,
    target: Target,
    history_from: i64,
    max_bytes: u64,
    first: i64,
    last: i64,
    clock: Clock,
}

impl Plan {
    /// Writes it to `partial`, with as many samples as so many label sets leave room for.
    async fn write(self, reader: &LogReader, partial: &Path, mut label_sets: i64) -> anyhow::Result<Written> {
        let (log, first_id, last_id) = (reader.database().address(), self.first, self.last);
        let mut tries = 0;
        loop {
            tries += 1;
            let file =
                File::create(partial).with_context(|| format!("{} cannot be written", partial.display()))?;
            let out = WrittenBehind::new(file).context(NO_THREAD)?;
            let most = i64::try_from(self.max_bytes)? / label_sets.saturating_mul(BYTES_PER_STEP);
            let steps = Steps::new(self.end, self.history_from, most);
            let since = jiff::Timestamp::from_second(steps.since())?.to_string();
            tracing::info!(log, first_id, last_id, since, "writing the history of the log");
            let counting = Counting {
                usage: Usage::default().into_successor(),
                rules: self.rules.clone(),
                directory: self.directory.clone(),
                history_from: self.history_from,
                moments: Moments::default(),
                steps,
                samples: Samples::new(out, self.target.clone(), &self.rules).context(NO_THREAD)?,
                max_bytes: self.max_bytes,
                clock: self.clock.clone(),
                rows: 0,
            };
            let done = follow(reader, counting, first_id, last_id).await;
            match done.as_ref().map_err(|error| error.downcast_ref::<TooLarge>()) {
                Err(Some(large)) if tries < MOST_TRIES => {
                    label_sets = label_sets.saturating_mul(2).max(large.label_sets);
                    tracing::info!(
                        label_sets,
                        "more label sets than thought: beginning again with fewer samples"
                    );
                }
                _ => return done,
            }
        }
    }
}

fn partial(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

type Names = std::collections::BTreeMap<crate::record::ChannelId, String>;

/// What a monitor has counted.
struct Monitor {
    position: Position,
    names: Names,
    label_sets: i64,
}

/// The monitor on this configuration, whether it runs or not; nothing if it never ran.
fn beside(path: &Path) -> anyhow::Result<Option<Monitor>> {
    if !path.exists() {
        return Ok(None);
    }
    let store = Store::open_beside(path)?;
    let Some(position) = store.position()? else { return Ok(None) };
    Ok(Some(Monitor { position, names: store.channel_names()?, label_sets: store.label_sets()? }))
}

/// Reads to the end of the log, while other threads count and write.
async fn follow(reader: &LogReader, counting: Counting, first: i64, last: i64) -> anyhow::Result<Written> {
    let Queue { sender, mut batches, give_back, spares } = Queue::new(reader);
    let work = spawn_blocking(move || {
        let (mut counting, mut before) = (counting, None::<Logs>);
        loop {
            // When rows happened is told by those after them, which may be in the next batch.
            let next = batches.blocking_recv().map(Batch::into_logs);
            if let Some(batch) = before {
                counting.count(&batch, next.as_ref())?;
                // If there are enough, this one goes.
                let _ = give_back.try_send(batch.into_spare());
            }
            if next.is_none() {
                return anyhow::Ok(counting);
            }
            before = next;
        }
    });
    let mut feeding =
        Feeding { sender, spares, first, last, next: Some(first), rows: 0, reported: Instant::now() };
    let read = read_to_the_end(reader, &mut feeding).await;
    drop(feeding);
    let counting = work.await??;
    read?;
    spawn_blocking(move || counting.finish()).await?
}

/// Hands what is read to the thread that counts it.
struct Feeding {
    sender: mpsc::Sender<Batch>,
    /// Memory that it gave back.
    spares: mpsc::Receiver<Spare>,
    first: i64,
    last: i64,
    /// Where to read on; None at the end of the log.
    next: Option<i64>,
    rows: u64,
    reported: Instant,
}

impl Feeding {
    fn spare(&mut self) -> Spare {
        self.spares.try_recv().unwrap_or_default()
    }

    fn report(&mut self, last_id: i64) {
        if self.reported.elapsed() < REPORT_EVERY {
            return;
        }
        self.reported = Instant::now();
        let (read, all) = (last_id.saturating_sub(self.first), self.last.saturating_sub(self.first).max(1));
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let percent = read as f64 / all as f64 * 100.0;
        let percent = format!("{:.0}", percent.min(100.0));
        tracing::info!(rows = self.rows, last_id, percent, "writing");
    }
}

impl Batches for Feeding {
    async fn take(&mut self, batch: Batch) -> Option<Spare> {
        let last_id = batch.raw().last_id().filter(|_| !batch.raw().at_end);
        self.rows += batch.raw().len() as u64;
        self.next = last_id.and_then(|id| id.checked_add(1));
        // Closed only when counting failed, which is told by itself.
        if self.sender.send(batch).await.is_err() {
            self.next = None;
        }
        self.next?;
        self.report(last_id?);
        Some(self.spare())
    }

    fn demand(&self) -> Demand {
        Demand::of(&self.sender)
    }
}

/// Reads, and waits for a database that is away for a moment.
async fn read_to_the_end(reader: &LogReader, feeding: &mut Feeding) -> Result<(), ReadError> {
    let mut failures = 0;
    while let Some(next) = feeding.next {
        let spare = feeding.spare();
        let read = reader.batches_from(next, spare, feeding).await;
        if feeding.next != Some(next) {
            // However it ended, there was something to read.
            failures = 0;
        }
        if let Err(error) = read {
            failures += 1;
            if failures == TRIES {
                return Err(error);
            }
            tracing::warn!(reason = error.reason.as_str(), "the log cannot be read: {error}");
            tokio::time::sleep(FIRST_PAUSE * (1 << (failures - 1))).await;
        }
    }
    Ok(())
}

/// Counts rows and writes what they come to.
struct Counting {
    usage: Usage,
    rules: Rules,
    directory: Directory,
    history_from: i64,
    moments: Moments,
    steps: Steps,
    samples: Samples,
    max_bytes: u64,
    clock: Clock,
    rows: u64,
}

impl Counting {
    /// Writes every moment that lies before `moment`.
    fn pass(&mut self, moment: i64) -> anyhow::Result<()> {
        if self.steps.begins(moment) {
            self.samples.adopt(&mut self.usage);
        }
        loop {
            let calm = self.samples.is_calm() && self.usage.changes().series.is_empty();
            let Some(step) = self.steps.passed(moment, calm) else { return Ok(()) };
            self.samples.write(&mut self.usage, step)?;
            if self.samples.bytes() > self.max_bytes {
                return Err(TooLarge { label_sets: self.samples.label_sets() }.into());
            }
        }
    }

    /// Counts a batch, whose rows `next` follows.
    fn count(&mut self, batch: &Logs, next: Option<&Logs>) -> anyhow::Result<()> {
        let following = next.into_iter().flat_map(|next| next.raw().times()).take(FOLLOWING);
        let times: Vec<i64> = batch.raw().times().chain(following).collect();
        let latest = self.clock.unix();
        let mut logs = batch.iter();
        let (mut at, mut group) = (0, Vec::with_capacity(FETCHED));
        loop {
            group.clear();
            group.extend(logs.by_ref().take(FETCHED));
            if group.is_empty() {
                return Ok(());
            }
            self.usage.fetch(group.iter().map(|log| (&log.record, &log.class)), &self.rules);
            for log in &group {
                self.count_one(log, &times[at..], latest)?;
                at += 1;
            }
        }
    }

    /// `times` are those of this row and of the following ones.
    fn count_one(&mut self, log: &Log<'_>, times: &[i64], latest: i64) -> anyhow::Result<()> {
        if log.record.created_at < self.history_from {
            return Ok(());
        }
        let moment = self.moments.of(times, latest);
        self.pass(moment)?;
        let context = Context {
            rules: &self.rules,
            quota_per_unit: self.directory.quota_per_unit,
            offered_models: &self.directory.models,
            live: false,
            exemplars_since: i64::MAX,
        };
        self.usage.observe_as(&log.class, &log.record, &context);
        self.rows += 1;
        Ok(())
    }

    /// Writes what was counted in the end, of every series: the live counters go on from there.
    fn finish(mut self) -> anyhow::Result<Written> {
        let now = self.clock.unix();
        self.pass(now)?;
        let (samples, bytes) = self.samples.finish(&mut self.usage, self.steps.last(now))?;
        Ok(Written { rows: self.rows, samples, bytes })
    }
}
