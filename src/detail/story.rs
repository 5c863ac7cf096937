//! All rows of one request, told in the order in which they happened.

use serde::Serialize;
use utoipa::ToSchema;

use super::timing::{Attempt, Trial, attempts};
use super::{Context, LogRow};
use crate::newapi::Entry;
use crate::record::{Class, RowOutcome};

/// A request with its failed attempts and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RequestStory {
    /// What the rows share.
    pub request_id: String,
    /// How the request ended: as its answer did, else `error` if attempts failed.
    pub outcome: RowOutcome,
    /// All rows, in the order tried.
    pub items: Vec<LogRow>,
    /// What it came to.
    pub totals: StoryTotals,
    /// Channels in the order tried, a channel that was tried twice twice.
    pub channels: Vec<Attempt>,
}

/// Sums over the rows of one request.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct StoryTotals {
    /// Charged less given back, in new-api's own unit.
    pub quota: i64,
    /// The same in US dollars.
    pub cost_usd: f64,
    /// Seconds from the first attempt to the end: each row's time counts from the beginning, so it is the longest.
    pub duration_seconds: f64,
}

impl RequestStory {
    /// A story without rows.
    pub fn nothing() -> Self {
        Self {
            request_id: String::new(),
            outcome: RowOutcome::Other,
            items: Vec::new(),
            totals: StoryTotals { quota: 0, cost_usd: 0.0, duration_seconds: 0.0 },
            channels: Vec::new(),
        }
    }

    /// The story of these rows, in whatever order they come; None if there is none.
    pub fn new(entries: &[Entry], context: &Context<'_>) -> Option<Self> {
        let request_id = entries.first()?.request_id.clone();
        let trials = Trial::in_order(entries.iter());
        let items: Vec<LogRow> =
            trials.iter().map(|trial| LogRow::of(trial.entry, &trial.reading, context)).collect();
        let answered = trials.iter().rfind(|trial| matches!(trial.reading.class, Class::Request(_)));
        let failed = || trials.iter().rfind(|trial| trial.failed());
        let decides = answered.or_else(failed).or_else(|| trials.last())?;
        let quota = trials.iter().fold(0_i64, |sum, trial| match trial.reading.class {
            Class::Refund { .. } => sum.saturating_sub(trial.entry.quota),
            // Nobody pays for a test.
            Class::ChannelTest => sum,
            _ => sum.saturating_add(trial.entry.quota),
        });
        let totals = StoryTotals {
            quota,
            cost_usd: context.usd(quota as f64),
            duration_seconds: items.iter().map(|item| item.duration_seconds).fold(0.0, f64::max),
        };
        let outcome = RowOutcome::of(&decides.reading.class);
        let channels = attempts(&trials, context);
        Some(Self { request_id, outcome, items, totals, channels })
    }
}
