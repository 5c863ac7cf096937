//! Where answers come from: the routes ask here and nowhere else.
//!
//! Sums and lists come from the history, which holds every counted row; what it does not hold, such as texts, is
//! read from new-api's log by primary key. So no answer takes longer because the log is large.

mod alerting;
mod desk;
mod limits;
mod log;
mod rows;
mod states;
mod sums;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::params::{Filters, Position, Query, Window};
use super::super::problem::Problem;
use crate::detail::{BodySource, Context};
use crate::history::{Filter, Selection};
use crate::newapi::Database;
use crate::state::{Facts, State};
use crate::store::Store;
use desk::Desk;
use log::Log;

/// A page of a list, and the last row's place if there are more.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Sort keys of the last row; None if it is the last of all.
    pub next: Option<Position>,
}

/// Answers questions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Answers {
    state: State,
    store: Store,
    history: Desk,
    log: Log,
    slow_over_seconds: f64,
    timezone: TimeZone,
}

impl Answers {
    /// Answers from what the loops know, monitor.db, and the log. `log` should have connections of its own, so
    /// that questions never keep the follower waiting.
    ///
    /// # Errors
    /// If the threads that answer cannot be started.
    pub fn new(
        state: State,
        store: Store,
        log: Database,
        bodies: Option<BodySource>,
        slow_over_seconds: f64,
        timezone: TimeZone,
    ) -> std::io::Result<Self> {
        let history = Desk::open(&store.history())?;
        Ok(Self { state, store, history, log: Log::new(log, bodies), slow_over_seconds, timezone })
    }

    /// When today began where the operator lives.
    pub fn midnight(&self, now: Timestamp) -> Timestamp {
        let today = now.to_zoned_datetime(self.timezone.clone()).start_of_day();
        today.map_or(now, |midnight| midnight.timestamp())
    }

    /// From when on every row is known.
    pub fn known_from(&self) -> Timestamp {
        instant(self.state.tail().known_from)
    }

    /// What is known now; a problem while the first catch-up goes on, because half a history answers nothing.
    fn facts(&self) -> Result<Facts, Problem> {
        let tail = self.state.tail();
        if tail.caught_up {
            return Ok(self.state.facts());
        }
        let percent = tail.progress * 100.0;
        Err(Problem::not_ready(format!(
            "the history of the log is still being read: {percent:.0} % are done"
        )))
    }

    fn slow_over_ms(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        let ms = (self.slow_over_seconds * 1000.0) as u32;
        ms
    }
}

/// What rows are shown with.
fn context<'a>(facts: &'a Facts, answers: &Answers) -> Context<'a> {
    Context {
        channels: Some(&facts.directory.channels).filter(|_| answers.state.directory().ready),
        channel_names: &facts.channel_names,
        quota_per_unit: facts.directory.quota_per_unit,
        slow_over_seconds: answers.slow_over_seconds,
    }
}

/// The rows that a query is about.
fn selection(query: &Query) -> Selection {
    selected(&query.window, &query.filters)
}

fn selected(window: &Window, filters: &Filters) -> Selection {
    let (from, to) = window.seconds();
    let milliseconds = |length: std::time::Duration| u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
    Selection {
        from,
        to: to.unwrap_or(i64::MAX),
        filter: Filter {
            channels: filters.channel_ids.clone(),
            models: filters.models.clone(),
            groups: filters.groups.clone(),
            usernames: filters.usernames.clone(),
            token_names: filters.token_names.clone(),
            kinds: filters.kinds.iter().filter_map(|kind| u8::try_from(*kind).ok()).collect(),
            outcomes: filters.outcomes.clone(),
            min_duration_ms: filters.min_duration.map(milliseconds),
            stream: filters.stream,
        },
    }
}

/// An instant of the log as one of the calendar.
fn instant(second: i64) -> Timestamp {
    let bounds = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(second.clamp(bounds.0, bounds.1)).unwrap_or_default()
}
