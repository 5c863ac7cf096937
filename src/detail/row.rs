//! A row of the log as lists show it.

use serde::Serialize;
use utoipa::ToSchema;

use super::entry::{Reading, detail_url, some, time, usd};
use super::fields::Fields;
use super::{Context, mask};
use crate::history::Found;
use crate::newapi::Entry;
use crate::record::{ChannelId, Class, Outcome, RowOutcome};

/// Longest error text of a list, in characters; the detail has all of it.
const LONGEST_SUMMARY: usize = 300;

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LogRow {
    /// new-api's id of the row.
    pub id: i64,
    /// What all rows of one request share; null before v0.10.8.
    pub request_id: Option<String>,
    /// The end of the request, RFC 3339 in UTC.
    pub created_at: String,
    /// new-api's number of the type.
    #[serde(rename = "type")]
    pub kind: i64,
    /// `topup`, `consume`, `manage`, `system`, `error`, `refund`, `login`, `test` or `unknown`.
    pub type_name: &'static str,
    /// The channel of the (last) attempt, 0 if there was none.
    pub channel_id: ChannelId,
    /// Its name today, or its last one; empty if it is not known.
    pub channel_name: String,
    /// The model that was asked for.
    pub model: String,
    /// Billing group.
    pub group: String,
    /// Name of the user.
    pub username: String,
    /// Name of the API token.
    pub token_name: String,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// Seconds that the whole request took, earlier attempts included; whole ones except on One API.
    pub duration_seconds: f64,
    /// Seconds to the first streamed chunk; null without one.
    pub time_to_first_token_seconds: Option<f64>,
    /// Input tokens, cached ones included for every provider.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Part of the input that was read from the provider's cache, in tokens.
    pub cache_read_tokens: u64,
    /// Tokens written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Charged, in new-api's own unit; on a refund, given back.
    pub quota: i64,
    /// The same in US dollars, by what a dollar was when the row was counted.
    pub cost_usd: f64,
    /// How it ended, or what else the row is.
    pub outcome: RowOutcome,
    /// HTTP status of a failed attempt.
    pub status_code: Option<u16>,
    /// What went wrong, in short.
    pub error: Option<String>,
    /// Whether it took longer than `SLOW_REQUEST_THRESHOLD`.
    pub over_threshold: bool,
    /// Address of the detail; null if the row is no longer in the log.
    #[schema(required = true)]
    pub detail_url: Option<String>,
}

impl LogRow {
    /// The row of an entry.
    pub fn new(entry: &Entry, context: &Context<'_>) -> Self {
        Self::of(entry, &entry.read(), context)
    }

    pub(super) fn of(entry: &Entry, reading: &Reading, context: &Context<'_>) -> Self {
        let request = &reading.request;
        Self {
            id: entry.id,
            request_id: some(&entry.request_id),
            created_at: entry.time(),
            kind: entry.kind,
            type_name: type_name(entry.kind, entry.one_api),
            channel_id: entry.channel_id,
            channel_name: context.channel_name(entry.channel_id, reading.other.channel_name.as_deref()),
            model: mask::text(&entry.model).into_owned(),
            group: entry.group.clone(),
            username: entry.username.clone(),
            token_name: mask::text(&entry.token_name).into_owned(),
            stream: entry.stream,
            duration_seconds: request.duration_seconds,
            time_to_first_token_seconds: request.first_token_seconds,
            input_tokens: request.input_tokens,
            output_tokens: request.output_tokens,
            cache_read_tokens: request.cache_read_tokens,
            cache_write_tokens: request.cache_write_tokens,
            quota: entry.quota,
            cost_usd: context.usd(entry.quota as f64),
            outcome: RowOutcome::of(&reading.class),
            status_code: status_code(&reading.class),
            error: error(entry, &reading.class).map(|error| summary(&error)),
            over_threshold: request.duration_seconds > context.slow_over_seconds,
            detail_url: Some(detail_url(entry.id)),
        }
    }

    /// Says its cost by what a dollar was when the row was counted.
    pub fn price_at(&mut self, quota_per_unit: f64) {
        self.cost_usd = usd(self.quota as f64, quota_per_unit);
    }

    /// The row as the history kept it, when it is no longer in the log or the log cannot be read.
    pub fn kept(Found { fact, quota_per_unit }: &Found, context: &Context<'_>) -> Self {
        let money = if fact.refunded > 0 { fact.refunded } else { fact.consumed };
        let quota = i64::try_from(money).unwrap_or(i64::MAX);
        let seconds = |ms: u32| f64::from(ms) / 1000.0;
        Self {
            id: fact.id,
            request_id: None,
            created_at: time(fact.created_at),
            kind: if fact.kind == u8::MAX { -1 } else { fact.kind.into() },
            type_name: type_name(fact.kind.into(), fact.outcome == RowOutcome::Test && fact.kind == 5),
            channel_id: fact.channel_id,
            channel_name: context.channel_name(fact.channel_id, None),
            model: mask::text(&fact.model).into_owned(),
            group: fact.group.to_string(),
            username: fact.username.to_string(),
            token_name: mask::text(&fact.token_name).into_owned(),
            stream: fact.stream,
            duration_seconds: seconds(fact.duration_ms),
            time_to_first_token_seconds: fact.first_token_ms.map(seconds),
            input_tokens: fact.input_tokens,
            output_tokens: fact.output_tokens,
            cache_read_tokens: fact.cache_read_tokens,
            cache_write_tokens: fact.cache_write_tokens,
            quota,
            cost_usd: usd(quota as f64, *quota_per_unit),
            outcome: fact.outcome,
            status_code: Some(fact.status_code).filter(|status| *status != 0),
            error: None,
            over_threshold: seconds(fact.duration_ms) > context.slow_over_seconds,
            detail_url: None,
        }
    }
}

/// new-api's types in words.
fn type_name(kind: i64, one_api: bool) -> &'static str {
    match kind {
        1 => "topup",
        2 => "consume",
        3 => "manage",
        4 => "system",
        5 if one_api => "test",
        5 => "error",
        6 => "refund",
        7 => "login",
        _ => "unknown",
    }
}

pub(super) fn status_code(class: &Class) -> Option<u16> {
    match class {
        Class::FailedAttempt { status_code, .. } => *status_code,
        _ => None,
    }
}

/// What went wrong on a failed attempt or a broken stream.
pub(super) fn error(entry: &Entry, class: &Class) -> Option<String> {
    match class {
        Class::FailedAttempt { .. } => {
            let message = entry.message();
            if !message.trim().is_empty() {
                return Some(message);
            }
            let fields = Fields::parse(&entry.other);
            fields.text("error_code").or_else(|| fields.text("error_type")).or(Some("no message".to_owned()))
        }
        Class::Request(request) if request.outcome != Outcome::Success => {
            let fields = Fields::parse(&entry.other);
            let stream = fields.object("stream_status");
            let words = [stream.text("end_reason"), stream.text("end_error")];
            let words: Vec<String> = words.into_iter().flatten().collect();
            Some(words.join(": ")).filter(|words| !words.is_empty())
        }
        _ => None,
    }
}

/// The beginning of a long text.
pub(super) fn summary(text: &str) -> String {
    match text.char_indices().nth(LONGEST_SUMMARY) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
