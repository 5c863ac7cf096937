//! Who uses a limit: the question to the history, and what of its answer counts.

use jiff::tz::TimeZone;

use super::{Glob, Limit, Measure, ModelScope, Standing, Window};
use crate::history::{Contributor, Filter, Selection};

/// Contributors that are told.
const TOLD: usize = 3;

impl Limit {
    /// When its present window began, in Unix seconds.
    pub fn since(&self, zone: &TimeZone, now: i64) -> i64 {
        match &self.window {
            Window::Calendar(period) => period.span(zone, now).start,
            Window::Rolling(length) => now.saturating_sub(length.seconds()),
        }
    }
}

/// Who uses a key of a limit most.
#[derive(Debug, Clone)]
pub struct Users {
    /// Rows to ask for.
    pub selection: Selection,
    /// What to sum.
    pub measure: Measure,
    /// How many to ask for.
    pub most: usize,
    /// A pattern is no condition that the history knows.
    pattern: Option<Glob>,
}

impl Users {
    /// Those of a key since its window began. What the sum of a limit's further keys is about cannot be asked for: None.
    pub fn of(limit: &Limit, standing: &Standing, zone: &TimeZone, now: i64) -> Option<Self> {
        if standing.is_rest() {
            return None;
        }
        let pattern = if let ModelScope::Glob(glob) = &limit.model { Some(glob.clone()) } else { None };
        let exact = standing.model.as_deref().filter(|_| pattern.is_none());
        let selection = Selection {
            from: limit.since(zone, now),
            to: i64::MAX,
            filter: Filter {
                channels: standing.channel_id.into_iter().collect(),
                models: exact.map(str::to_owned).into_iter().collect(),
                ..Filter::default()
            },
        };
        let most = if pattern.is_some() { usize::MAX } else { TOLD };
        Some(Self { selection, measure: limit.measure, most, pattern })
    }

    /// Whether one answer of the history can hold those of both.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.selection.from, self.measure) == (other.selection.from, other.measure)
    }

    /// The few that are told, of those of all channels and models.
    pub fn among(&self, all: &[Contributor]) -> Vec<Contributor> {
        let Filter { channels, models, .. } = &self.selection.filter;
        let wanted = |one: &&Contributor| {
            (channels.is_empty() || channels.contains(&one.channel_id))
                && (models.is_empty() || models.contains(&one.model))
                && self.pattern.as_ref().is_none_or(|glob| glob.matches(&one.model))
        };
        all.iter().filter(wanted).take(TOLD).cloned().collect()
    }

    /// The few that are told, of what the history answered.
    pub fn pick(&self, found: Vec<Contributor>) -> Vec<Contributor> {
        let fits = |one: &Contributor| self.pattern.as_ref().is_none_or(|glob| glob.matches(&one.model));
        found.into_iter().filter(fits).take(TOLD).collect()
    }
}
