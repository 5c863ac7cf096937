//! What a detail is made of besides its row, and what a row means.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::bodies::Bodies;
use super::mask;
use super::timing::Trial;
use crate::newapi::{Channel, Entry, other};
use crate::record::{ChannelId, Class, LogRecord, Other, Outcome, Request};

/// What rows are shown with.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// All channels that exist; None while new-api's directory was never read.
    pub channels: Option<&'a BTreeMap<ChannelId, Channel>>,
    /// Names of channels, deleted ones included.
    pub channel_names: &'a BTreeMap<ChannelId, String>,
    /// Quota that is worth one US dollar; for a single row, that was worth it when the row was counted.
    pub quota_per_unit: f64,
    /// A request that took longer is slow. Seconds.
    pub slow_over_seconds: f64,
}

/// What a detail needs besides its row.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// What rows are shown with.
    pub context: Context<'a>,
    /// Other rows of the same request, in any order. The row itself may be among them.
    pub siblings: &'a [Trial],
    /// Bodies of the request, or why there are none.
    pub bodies: Bodies,
}

impl Context<'_> {
    /// The channel's name: today's or, after its deletion, its last. Before it was ever seen it is the one that the
    /// row itself holds, else the empty string.
    pub fn channel_name(&self, id: ChannelId, recorded: Option<&str>) -> String {
        let today = self.channels.and_then(|channels| channels.get(&id)).map(|channel| channel.name.as_str());
        let remembered = || self.channel_names.get(&id).map(String::as_str);
        today.or_else(remembered).or(recorded).unwrap_or_default().to_owned()
    }

    /// US dollars for an amount of quota.
    pub(super) fn usd(&self, quota: f64) -> f64 {
        usd(quota, self.quota_per_unit)
    }
}

/// US dollars for an amount of quota.
pub(super) fn usd(quota: f64, quota_per_unit: f64) -> f64 {
    let usd = quota / quota_per_unit;
    if usd.is_finite() { usd } else { 0.0 }
}

/// An entry with its meaning.
#[derive(Debug)]
pub(super) struct Reading {
    /// What the row counts as.
    pub class: Class,
    /// Its tokens and times, of whatever class it is.
    pub request: Request,
    /// What counting reads of `other`.
    pub other: Other,
}

impl Entry {
    /// Decides what the row is, by the rules that it is counted by.
    pub(super) fn read(&self) -> Reading {
        // Only these types have an `other` that means what the others' does.
        let has_other = !self.one_api && matches!(self.kind, 2 | 5 | 6);
        let other = if has_other { other::parse(self.other.as_bytes()).0 } else { Other::default() };
        let mut record = LogRecord {
            created_at: self.created_at,
            kind: self.kind,
            channel_id: self.channel_id,
            token_name: self.token_name.as_str().into(),
            token_id: self.token_id,
            quota: self.quota,
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            duration_ms: self.duration_ms,
            stream: self.stream,
            one_api: self.one_api,
            other: Cow::Borrowed(&other),
            ..LogRecord::default()
        };
        let class = record.class();
        // Tests, fees and failed attempts have tokens and times too. They are read by the same rules when nothing
        // of what sets them apart is left.
        record.kind = 2;
        record.token_id = 1;
        record.quota = 0;
        let paid = record.other.to_mut();
        (paid.has_task_id, paid.violation_fee) = (false, false);
        let request = match record.class() {
            Class::Request(request) => request,
            _ => nothing(),
        };
        Reading { class, request, other }
    }

    pub(super) fn time(&self) -> String {
        time(self.created_at)
    }

    /// What stands in `content`, without credentials and without the status that new-api puts before an error.
    pub(super) fn message(&self) -> String {
        let text = self.content.strip_prefix("status_code=").map_or(self.content.as_str(), |rest| {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            rest.strip_prefix(',').map_or(self.content.as_str(), str::trim_start)
        });
        mask::text(text).into_owned()
    }
}

/// The address of the detail of the row with this id.
pub(super) fn detail_url(id: i64) -> String {
    format!("/api/v1/logs/{id}")
}

/// Unix seconds in RFC 3339. A time that no calendar has becomes the nearest that it has.
pub(super) fn time(second: i64) -> String {
    let bounds = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(second.clamp(bounds.0, bounds.1)).unwrap_or_default().to_string()
}

fn nothing() -> Request {
    Request {
        outcome: Outcome::Success,
        input_tokens: 0,
        output_tokens: 0,
        cache_read_tokens: 0,
        cache_write_tokens: 0,
        quota: 0,
        duration_seconds: 0.0,
        first_token_seconds: None,
        retried: false,
    }
}

/// The text, or None where it is empty.
pub(super) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
