//! Keeps the windows of the limits as they are: reads `limits.yml`, fills the windows from the history, then adds the
//! rows of each commit, and lets time pass.
//!
//! The windows hold nothing that is not in the history, so they are right at once after a start, a change of the file
//! or a jump of the clock: they are filled again, beside the tailer and without waiting for it.

mod file;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::MeterConfig;
use crate::history::Filter;
use crate::lifecycle::Hangup;
use crate::limits::file::{Known, LastGood, LimitsFile, parse};
use crate::limits::{Entry, Limit, SHORT, Standings, short_of};
use crate::record::ChannelId;
use crate::state::{Facts, LimitsStatus, State};
use crate::store::{HistoryReader, Store, StoreError};
use file::Look;
pub use file::read;

/// Time passes in steps of this length, and so often the file is looked at.
const STEP: Duration = Duration::from_millis(250);

/// Pause before windows that could not be filled are filled again, in seconds.
const RETRY_SECONDS: i64 = 10;

/// Follows limits.
#[derive(Debug)]
pub struct Meter {
    config: MeterConfig,
    state: State,
    store: Store,
    history: HistoryReader,
    clock: Clock,
    /// What the last look at the file found. A change counts when two looks agree: the file may be half written.
    found: Option<Look>,
    /// What was dealt with last, and the names of channels then; None before the first time.
    dealt_with: Option<(Look, BTreeMap<ChannelId, String>)>,
    /// The file is to be read now, changed or not.
    asked: bool,
    limits: Vec<Limit>,
    loaded_at: Option<f64>,
    error: Option<String>,
    windows: Option<Windows>,
    /// Why the windows are not as they should be, and when they are filled again, in unix seconds.
    trouble: Option<(String, i64)>,
    /// Limits of which it was told that their windows begin before what was kept.
    told_short: Vec<String>,
}

/// The windows, and the last commit whose rows are in them.
#[derive(Debug)]
struct Windows {
    standings: Standings,
    commit: u64,
}

impl Meter {
    /// Limits from the file that `config` names.
    pub fn new(config: MeterConfig, state: State, store: Store, clock: Clock) -> Self {
        let history = store.history();
        Self {
            config,
            state,
            store,
            history,
            clock,
            found: None,
            dealt_with: None,
            asked: true,
            limits: Vec::new(),
            loaded_at: None,
            error: None,
            windows: None,
            trouble: None,
            told_short: Vec::new(),
        }
    }

    /// Keeps the windows until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut changes, mut hangup) = (self.state.changes(), Hangup::listen()?);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = hangup.wait() => {
                    tracing::info!("SIGHUP: the file of limits is read again");
                    self.asked = true;
                }
                news = changes.changed() => news?,
                () = tokio::time::sleep(STEP) => {}
            }
            self = spawn_blocking(move || {
                self.step();
                self
            })
            .await?;
        }
    }

    /// Looks at the file, the rows and the time, and shows how things stand. Blocks.
    fn step(&mut self) {
        // Names of channels are needed to understand the file, and the history to fill the windows.
        if !self.state.directory().ready || !self.state.tail().caught_up {
            return;
        }
        self.look();
        self.count();
        self.state.show_limits(Arc::new(LimitsStatus {
            limits: self.limits.clone(),
            standings: self.windows.as_ref().map(|windows| windows.standings.read()),
            commit: self.windows.as_ref().map_or(0, |windows| windows.commit),
            looked: true,
            loaded_at: self.loaded_at,
            error: self.error.clone(),
            trouble: self.trouble.as_ref().map(|(trouble, _)| trouble.clone()),
        }));
    }

    fn look(&mut self) {
        let (found, names) = (file::look(&self.config.file), self.channel_names());
        let settled = self.found.replace(found.clone()).as_ref() == Some(&found);
        // A name that no channel had may be that of a new one.
        let known = self
            .dealt_with
            .as_ref()
            .is_some_and(|(look, channels)| *look == found && (self.error.is_none() || *channels == names));
        if !std::mem::take(&mut self.asked) && (known || !settled) {
            return;
        }
        if self.dealt_with.replace((found.clone(), names.clone())).is_none() {
            self.take_last_good();
        }
        let taken = match found {
            Look::Absent if self.limits.is_empty() && self.loaded_at.is_none() => {
                Ok(LimitsFile { limits: Vec::new(), warnings: Vec::new() })
            }
            Look::Absent => Err(format!(
                "{}: the file is gone; `limits: []` in it says that nothing is limited",
                self.config.file.path.display()
            )),
            Look::Unreadable(error) => Err(error),
            Look::Text(text) => self.parse(&text, &names).inspect(|_| {
                self.loaded_at = Some(self.clock.unix_f64());
                let good = LastGood { text, channels: names };
                if let Err(error) = self.store.save_limits(&good) {
                    tracing::warn!("the limits are in force, but cannot be remembered: {error}");
                }
            }),
        };
        match taken {
            Ok(file) => {
                for warning in &file.warnings {
                    tracing::warn!("{}: {warning}", self.config.file.path.display());
                }
                if self.loaded_at.is_some() {
                    tracing::info!(limits = file.limits.len(), "limits are in force");
                }
                self.error = None;
                self.take(file.limits);
            }
            Err(error) => {
                let kept = match (self.limits.len(), self.loaded_at) {
                    (0, _) => "NO LIMIT IS IN FORCE",
                    (_, None) => "those of the last run stay in force",
                    (_, Some(_)) => "the limits before stay in force",
                };
                tracing::error!("limits: {error}; {kept}");
                self.error = Some(error);
            }
        }
    }

    fn parse(&self, text: &str, channels: &BTreeMap<ChannelId, String>) -> Result<LimitsFile, String> {
        let known = Known { channels, history: self.config.history };
        parse(text, &known).map_err(|mistakes| format!("{}: {mistakes}", self.config.file.path.display()))
    }

    /// Takes over what was in force when the program last ran: until the file is read, and if it cannot be.
    fn take_last_good(&mut self) {
        let last = self.store.limits().map_err(|error| error.to_string());
        match last.and_then(|good| good.map(|good| self.parse(&good.text, &good.channels)).transpose()) {
            Ok(Some(file)) => self.take(file.limits),
            Ok(None) => {}
            Err(error) => tracing::error!("the limits of the last run cannot be used: {error}"),
        }
    }

    fn take(&mut self, limits: Vec<Limit>) {
        if limits != self.limits {
            self.windows = None;
        }
        self.limits = limits;
    }

    fn channel_names(&self) -> BTreeMap<ChannelId, String> {
        let directory = self.state.facts().directory;
        directory.channels.iter().map(|(id, channel)| (*id, channel.name.clone())).collect()
    }

    /// Brings the windows to the last commit and to the present. If that fails, they stay what they were.
    fn count(&mut self) {
        let now = self.clock.unix();
        if self.trouble.as_ref().is_some_and(|(_, again)| (again - RETRY_SECONDS..*again).contains(&now)) {
            return;
        }
        match self.catch_up(now) {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    tracing::info!("the windows of the limits are right again");
                }
            }
            Err(error) => {
                let trouble = format!("the windows of the limits cannot be brought up to date: {error}");
                if self.trouble.is_none() {
                    tracing::error!("{trouble}");
                }
                self.trouble = Some((trouble, now.saturating_add(RETRY_SECONDS)));
            }
        }
    }

    fn catch_up(&mut self, now: i64) -> Result<(), StoreError> {
        if self.trouble.is_none()
            && let Some(windows) = &mut self.windows
            && windows.standings.advance(now)
            && let Some(commits) = self.state.recent(|recent| recent.after(windows.commit))
        {
            let facts = self.state.facts();
            for commit in commits {
                commit.entries(&mut |entry| windows.standings.add(entry, |model| knows(&facts, model)))?;
                windows.commit = commit.number;
            }
            return Ok(());
        }
        let facts = self.state.facts();
        let (standings, commit) =
            fill(&self.history, &self.limits, &self.config, now, |model| knows(&facts, model))?;
        self.windows = Some(Windows { standings, commit });
        self.tell_short(now);
        Ok(())
    }

    /// Tells whose windows begin before what was kept, once as long as they are the same.
    fn tell_short(&mut self, now: i64) {
        let known_from = self.state.tail().known_from;
        let short = short_of(&self.limits, &self.config.timezone, now, known_from);
        if !short.is_empty() && short != self.told_short {
            tracing::warn!(
                limits = short.join(", "),
                read_from = %Timestamp::from_second(known_from).unwrap_or_default(),
                "{SHORT}"
            );
        }
        self.told_short = short;
    }
}

/// Whether a model is one that some channel offers or that ever answered, by the rule of all metrics.
fn knows(facts: &Facts, model: &str) -> bool {
    facts.directory.models.contains(model)
        || facts.usage.as_ref().is_some_and(|usage| usage.knows_model(model))
}

/// Windows that hold what the history does, and the last commit whose rows are in them. `knows` tells real models from names
/// that somebody may have invented.
///
/// # Errors
/// If the history cannot be read.
pub fn fill(
    history: &HistoryReader,
    limits: &[Limit],
    config: &MeterConfig,
    now: i64,
    knows: impl Fn(&str) -> bool,
) -> Result<(Standings, u64), StoreError> {
    let mut standings = Standings::new(limits, &config.timezone, config.max_series, now);
    let from = if limits.is_empty() { i64::MAX } else { standings.earliest() };
    let visit = &mut |entry: &Entry<'_>| standings.add(entry, &knows);
    let commit = history.entries(from, i64::MAX, &Filter::default(), visit)?;
    Ok((standings, commit))
}

#[cfg(test)]
mod tests;
