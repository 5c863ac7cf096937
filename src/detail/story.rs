//! All rows of one request, told in the order in which they happened.

use std::collections::HashMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::timing::{Attempt, Trial, attempts};
use super::{Context, LogRow};
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
    pub fn new(rows: Vec<(Trial, LogRow)>, context: &Context<'_>) -> Option<Self> {
        let request_id = rows.first()?.0.request_id().to_owned();
        let (trials, rows): (Vec<Trial>, Vec<LogRow>) = rows.into_iter().unzip();
        let trials = Trial::in_order(trials.iter());
        let mut rows: HashMap<i64, LogRow> = rows.into_iter().map(|row| (row.id, row)).collect();
        let items: Vec<LogRow> = trials.iter().filter_map(|trial| rows.remove(&trial.id)).collect();
        let answered = trials.iter().rfind(|trial| matches!(trial.class, Class::Request(_)));
        let failed = || trials.iter().rfind(|trial| trial.failed());
        let decides = answered.or_else(failed).or_else(|| trials.last())?;
        let sign = |item: &LogRow| match item.outcome {
            RowOutcome::Refund => -1_i8,
            // Nobody pays for a test.
            RowOutcome::Test => 0,
            _ => 1,
        };
        let quota = |item: &LogRow| item.quota.saturating_mul(sign(item).into());
        let totals = StoryTotals {
            quota: items.iter().map(quota).fold(0, i64::saturating_add),
            // What a dollar is may have changed between two rows.
            cost_usd: items.iter().map(|item| item.cost_usd * f64::from(sign(item))).sum(),
            duration_seconds: items.iter().map(|item| item.duration_seconds).fold(0.0, f64::max),
        };
        let outcome = RowOutcome::of(&decides.class);
        let channels = attempts(&trials, context);
        Some(Self { request_id, outcome, items, totals, channels })
    }
}
