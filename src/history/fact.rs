//! One counted row, what can be asked about rows, and a row that was found.

use std::borrow::Cow;

use super::block::{Column, Columns};
use crate::record::{ChannelId, Class, ErrorType, LogRecord, MAX_DURATION_MS};

pub use crate::record::RowOutcome;

/// One counted row, as it goes into a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact<'a> {
    /// The log's primary key.
    pub id: i64,
    /// Unix seconds.
    pub created_at: i64,
    /// The `type` column, 0 to 7; 255 is anything else.
    pub kind: u8,
    /// What the row counts as.
    pub outcome: RowOutcome,
    /// The channel, 0 if there was none.
    pub channel_id: ChannelId,
    /// The model that was asked for.
    pub model: Cow<'a, str>,
    /// Billing group.
    pub group: Cow<'a, str>,
    /// Name of the user.
    pub username: Cow<'a, str>,
    /// Name of the API token.
    pub token_name: Cow<'a, str>,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// Whether more than one attempt was made.
    pub retried: bool,
    /// Duration in milliseconds.
    pub duration_ms: u32,
    /// Milliseconds to the first streamed chunk.
    pub first_token_ms: Option<u32>,
    /// Fresh, cached and cache-writing input together.
    pub input_tokens: u64,
    /// Output, reasoning included.
    pub output_tokens: u64,
    /// Read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Charged, in new-api's unit.
    pub consumed: u64,
    /// Given back, in new-api's unit.
    pub refunded: u64,
    /// HTTP status of a failed attempt, 0 if there is none.
    pub status_code: u16,
    /// Kind of a failed attempt.
    pub error_type: ErrorType,
}

impl Default for Fact<'_> {
    /// A row that tells nothing.
    fn default() -> Self {
        Self {
            id: 0,
            created_at: 0,
            kind: u8::MAX,
            outcome: RowOutcome::Other,
            channel_id: 0,
            model: Cow::Borrowed(""),
            group: Cow::Borrowed(""),
            username: Cow::Borrowed(""),
            token_name: Cow::Borrowed(""),
            stream: false,
            retried: false,
            duration_ms: 0,
            first_token_ms: None,
            input_tokens: 0,
            output_tokens: 0,
            cache_read_tokens: 0,
            cache_write_tokens: 0,
            consumed: 0,
            refunded: 0,
            status_code: 0,
            error_type: ErrorType::Other,
        }
    }
}

impl<'a> Fact<'a> {
    /// What `record`, which counts as `class`, tells.
    pub fn of(record: &'a LogRecord<'_>, class: &Class) -> Self {
        let mut fact = Self {
            id: record.id,
            created_at: record.created_at,
            kind: Self::kind_of(record.kind),
            outcome: RowOutcome::of(class),
            channel_id: record.channel_id,
            model: Cow::Borrowed(&record.model),
            group: Cow::Borrowed(&record.group),
            username: Cow::Borrowed(&record.username),
            token_name: Cow::Borrowed(&record.token_name),
            stream: record.stream,
            retried: record.other.use_channel.len() > 1,
            duration_ms: Self::duration_of(record.duration_ms),
            ..Self::default()
        };
        match class {
            Class::Request(request) => {
                fact.input_tokens = request.input_tokens;
                fact.output_tokens = request.output_tokens;
                fact.cache_read_tokens = request.cache_read_tokens;
                fact.cache_write_tokens = request.cache_write_tokens;
                fact.consumed = request.quota;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a week at most")]
                let ms = |seconds: f64| (seconds * 1000.0).round() as u32;
                fact.first_token_ms = request.first_token_seconds.map(ms);
            }
            Class::Settlement { consumed, refunded } => {
                (fact.consumed, fact.refunded) = (*consumed, *refunded);
            }
            Class::Refund { refunded } => fact.refunded = *refunded,
            Class::FailedAttempt { status_code, error_type } => {
                fact.status_code = status_code.unwrap_or(0);
                fact.error_type = *error_type;
            }
            Class::ChannelTest | Class::Unrelated => {}
        }
        fact
    }

    /// The `type` column as [`kind`](Self::kind).
    pub fn kind_of(kind: i64) -> u8 {
        u8::try_from(kind).ok().filter(|kind| *kind <= 7).unwrap_or(u8::MAX)
    }

    /// Milliseconds as [`duration_ms`](Self::duration_ms).
    pub fn duration_of(ms: i64) -> u32 {
        u32::try_from(ms.clamp(0, MAX_DURATION_MS)).unwrap_or(u32::MAX)
    }
}

/// Error types by the code that a block stores: append only.
const ERROR_TYPES: [ErrorType; 8] = [
    ErrorType::Other,
    ErrorType::NewApiError,
    ErrorType::OpenaiError,
    ErrorType::ClaudeError,
    ErrorType::GeminiError,
    ErrorType::UpstreamError,
    ErrorType::MidjourneyError,
    ErrorType::RerankError,
];

/// The code of an error type, 0 for one without a code.
#[expect(clippy::cast_possible_truncation, reason = "a place in a short list")]
pub(super) fn error_code(error_type: ErrorType) -> u8 {
    ERROR_TYPES.iter().position(|known| *known == error_type).unwrap_or(0) as u8
}

/// The error type with a code.
pub(super) fn error_type(code: u8) -> Option<ErrorType> {
    ERROR_TYPES.get(usize::from(code)).copied()
}

/// The rows that a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Unix seconds, inclusive.
    pub from: i64,
    /// Unix seconds, exclusive.
    pub to: i64,
    /// What the rows must have.
    pub filter: Filter,
}

impl Selection {
    /// Whether it is about this row.
    pub fn selects(&self, row: &Fact<'_>) -> bool {
        (self.from..self.to).contains(&row.created_at) && self.filter.passes(row)
    }
}

/// What rows must have. Nothing in a list is no condition, several are alternatives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Channels.
    pub channels: Vec<ChannelId>,
    /// Models.
    pub models: Vec<String>,
    /// Billing groups.
    pub groups: Vec<String>,
    /// Users.
    pub usernames: Vec<String>,
    /// API tokens.
    pub token_names: Vec<String>,
    /// Values of [`Fact::kind`].
    pub kinds: Vec<u8>,
    /// Outcomes.
    pub outcomes: Vec<RowOutcome>,
    /// Shortest duration.
    pub min_duration_ms: Option<u32>,
    /// Streamed or not.
    pub stream: Option<bool>,
}

impl Filter {
    /// Whether a row has it all.
    pub fn passes(&self, row: &Fact<'_>) -> bool {
        fn any<T, V: PartialEq<T>>(list: &[V], value: &T) -> bool {
            list.is_empty() || list.iter().any(|item| item == value)
        }
        any(&self.channels, &row.channel_id)
            && any(&self.models, &row.model)
            && any(&self.groups, &row.group)
            && any(&self.usernames, &row.username)
            && any(&self.token_names, &row.token_name)
            && any(&self.kinds, &row.kind)
            && any(&self.outcomes, &row.outcome)
            && self.min_duration_ms.is_none_or(|least| row.duration_ms >= least)
            && self.stream.is_none_or(|stream| row.stream == stream)
    }
}

/// What tells a row from others: where the log has it, and what it must have there, for an id can belong to another row
/// by then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Identity {
    /// The log's primary key.
    pub id: i64,
    /// Unix seconds.
    pub created_at: i64,
    /// See [`Fact::kind`].
    pub kind: u8,
    /// See [`Fact::channel_id`].
    pub channel_id: ChannelId,
    /// See [`Found::quota_per_unit`].
    pub quota_per_unit: f64,
}

impl Identity {
    /// The columns that it is made of.
    pub(super) const COLUMNS: Columns =
        Columns::of(&[Column::Id, Column::CreatedAt, Column::TagOf, Column::RouteOf]);
}

/// A row that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What it tells.
    pub fact: Fact<'static>,
    /// new-api's quota for one US dollar when the row was read.
    pub quota_per_unit: f64,
}

impl Found {
    /// What tells it from others.
    pub fn identity(&self) -> Identity {
        let Fact { id, created_at, kind, channel_id, .. } = self.fact;
        Identity { id, created_at, kind, channel_id, quota_per_unit: self.quota_per_unit }
    }
}
