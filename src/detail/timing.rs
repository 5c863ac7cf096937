//! How long a request took, and which channels were tried for it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Context;
use super::entry::{Reading, detail_url};
use super::row::{error, status_code, summary};
use crate::newapi::Entry;
use crate::record::{ChannelId, Class};

/// Most attempts that are listed.
const MOST: usize = 64;

/// Stands where an attempt must have failed and no row says how.
const NOT_RECORDED: &str = "failed; new-api wrote no row for it (ERROR_LOG_ENABLED may be off)";

/// The same on versions without request ids.
const NOT_JOINED: &str = "failed; this version of new-api does not record which row tells of it";

/// The times of a request.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Timing {
    /// Seconds that the whole request took, earlier attempts included; whole ones except on One API.
    pub duration_seconds: f64,
    /// Seconds to the first streamed chunk; null without one.
    pub time_to_first_token_seconds: Option<f64>,
    /// Output tokens for each second of the whole request; null where no second was counted.
    pub tokens_per_second: Option<f64>,
    /// Whether it took longer than `SLOW_REQUEST_THRESHOLD`.
    pub over_threshold: bool,
    /// Channels in the order tried, a channel that was tried twice twice.
    pub attempts: Vec<Attempt>,
}

/// One attempt on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Attempt {
    /// The channel.
    pub channel_id: ChannelId,
    /// Its name today, or its last one; empty if it is not known.
    pub channel_name: String,
    /// HTTP status, if the attempt failed and was recorded.
    pub status_code: Option<u16>,
    /// What went wrong, in short; null if the attempt was answered.
    pub error: Option<String>,
    /// Address of the row that recorded the attempt.
    pub detail_url: Option<String>,
}

/// The attempts of the request that ended with this row, in the order tried. `siblings` may hold rows of others.
pub fn attempts_of(trial: &Trial, siblings: &[Trial], context: &Context<'_>) -> Vec<Attempt> {
    attempts(&Trial::all(trial, siblings), context)
}

impl Timing {
    pub(super) fn new(entry: &Entry, reading: &Reading, siblings: &[Trial], context: &Context<'_>) -> Self {
        let request = &reading.request;
        let duration = request.duration_seconds;
        let output = request.output_tokens;
        Self {
            duration_seconds: duration,
            time_to_first_token_seconds: request.first_token_seconds,
            tokens_per_second: (duration > 0.0 && output > 0)
                .then(|| (output as f64 / duration * 100.0).round() / 100.0),
            over_threshold: duration > context.slow_over_seconds,
            attempts: attempts_of(&Trial::of(entry, reading), siblings, context),
        }
    }
}

/// What a row tells of an attempt, without the texts that may be long: many are kept at the same time.
#[derive(Debug, Clone)]
pub struct Trial {
    pub(super) id: i64,
    request_id: String,
    created_at: i64,
    channel_id: ChannelId,
    pub(super) class: Class,
    /// Channels tried up to this attempt.
    tried: Vec<ChannelId>,
    /// The channel's name as the row tells it.
    channel_name: Option<String>,
    /// What went wrong, in short.
    error: Option<String>,
}

impl Trial {
    /// What this row tells.
    pub fn new(entry: &Entry) -> Self {
        Self::of(entry, &entry.read())
    }

    fn of(entry: &Entry, reading: &Reading) -> Self {
        Self {
            id: entry.id,
            request_id: entry.request_id.clone(),
            created_at: entry.created_at,
            channel_id: entry.channel_id,
            class: reading.class.clone(),
            tried: reading.other.use_channel.to_vec(),
            channel_name: reading.other.channel_name.clone(),
            error: error(entry, &reading.class).map(|error| summary(&error)),
        }
    }

    /// What the rows of one request share; empty on versions that have no such thing.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The rows of the request that `trial` belongs to, in the order in which they were tried.
    fn all<'a>(trial: &'a Self, siblings: &'a [Self]) -> Vec<&'a Self> {
        let same = |sibling: &&Self| {
            !trial.request_id.is_empty() && sibling.request_id == trial.request_id && sibling.id != trial.id
        };
        Self::in_order(std::iter::once(trial).chain(siblings.iter().filter(same)))
    }

    /// Rows hold the channels tried up to their own attempt, so the longer list is the later one. Ids and times
    /// decide where that says nothing; on ClickHouse ids are texts, and times whole seconds.
    pub(super) fn in_order<'a>(trials: impl Iterator<Item = &'a Self>) -> Vec<&'a Self> {
        let mut trials: Vec<&Self> = trials.collect();
        // Fees and what else belongs to a request come after its attempts.
        trials
            .sort_by_key(|trial| (!trial.is_attempt(), trial.tried.len(), !trial.failed(), trial.created_at));
        // A list may be absent on single rows of old versions; then only times are right for all.
        if trials.iter().any(|trial| trial.is_attempt() && trial.tried.is_empty()) {
            let key = |trial: &Self| (!trial.is_attempt(), trial.created_at, !trial.failed());
            trials.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.id.cmp(&b.id)));
        }
        trials
    }

    pub(super) fn failed(&self) -> bool {
        matches!(self.class, Class::FailedAttempt { .. })
    }

    /// Fees and settlements are no attempts.
    fn is_attempt(&self) -> bool {
        matches!(self.class, Class::FailedAttempt { .. } | Class::Request(_) | Class::ChannelTest)
    }

    fn attempt(&self, context: &Context<'_>) -> Attempt {
        Attempt {
            channel_id: self.channel_id,
            channel_name: context.channel_name(self.channel_id, self.channel_name.as_deref()),
            status_code: status_code(&self.class),
            error: self.error.clone(),
            detail_url: Some(detail_url(self.id)),
        }
    }
}

/// Joins the channels tried with the rows that tell how each attempt ended.
pub(super) fn attempts(trials: &[&Trial], context: &Context<'_>) -> Vec<Attempt> {
    let mut rows: Vec<&Trial> = trials.iter().copied().filter(|trial| trial.is_attempt()).collect();
    let order: &[ChannelId] =
        rows.iter().map(|trial| trial.tried.as_slice()).max_by_key(|tried| tried.len()).unwrap_or_default();
    let last = order.len().saturating_sub(1);
    let joined = trials.iter().all(|trial| !trial.request_id.is_empty());
    let unknown = if joined { NOT_RECORDED } else { NOT_JOINED };
    let mut attempts = Vec::new();
    for (index, channel) in order.iter().enumerate() {
        let is_here = |trial: &Trial| trial.channel_id == *channel && (trial.failed() || index == last);
        // The row of exactly this attempt, else the first one of this channel that cannot tell.
        let exact = rows.iter().position(|trial| is_here(trial) && trial.tried.len() == index + 1);
        let found = exact.or_else(|| rows.iter().position(|trial| is_here(trial) && trial.tried.is_empty()));
        attempts.push(if let Some(found) = found {
            rows.remove(found).attempt(context)
        } else {
            Attempt {
                channel_id: *channel,
                channel_name: context.channel_name(*channel, None),
                status_code: None,
                error: (index < last).then(|| unknown.to_owned()),
                detail_url: None,
            }
        });
    }
    // Rows that no list knows of stand before the last attempt, in their order; the one that was answered ends it.
    let (failed, answered): (Vec<_>, Vec<_>) = rows.into_iter().partition(|trial| trial.failed());
    let place = if order.is_empty() { 0 } else { last };
    for (offset, trial) in failed.into_iter().enumerate() {
        attempts.insert((place + offset).min(attempts.len()), trial.attempt(context));
    }
    attempts.extend(
        answered.into_iter().filter(|trial| trial.channel_id != 0).map(|trial| trial.attempt(context)),
    );
    attempts.truncate(MOST);
    attempts
}
