//! One counted row, what can be asked about rows, and a row that was found.

use crate::record::{ChannelId, Class, ErrorType, LogRecord, MAX_DURATION_MS};

pub use crate::record::RowOutcome;

/// One counted row, as it goes into a block.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    pub model: &'a str,
    /// Billing group.
    pub group: &'a str,
    /// Name of the user.
    pub username: &'a str,
    /// Name of the API token.
    pub token_name: &'a str,
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

impl<'a> Fact<'a> {
    /// What `record`, which counts as `class`, tells.
    pub fn of(record: &'a LogRecord<'_>, class: &Class) -> Self {
        let mut fact = Self {
            id: record.id,
            created_at: record.created_at,
            kind: u8::try_from(record.kind).ok().filter(|kind| *kind <= 7).unwrap_or(u8::MAX),
            outcome: RowOutcome::of(class),
            channel_id: record.channel_id,
            model: &record.model,
            group: &record.group,
            username: &record.username,
            token_name: &record.token_name,
            stream: record.stream,
            retried: record.other.use_channel.len() > 1,
            duration_ms: u32::try_from(record.duration_ms.clamp(0, MAX_DURATION_MS)).unwrap_or(u32::MAX),
            first_token_ms: None,
            input_tokens: 0,
            output_tokens: 0,
            cache_read_tokens: 0,
            cache_write_tokens: 0,
            consumed: 0,
            refunded: 0,
            status_code: 0,
            error_type: ErrorType::Other,
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

/// A row that was found: a [`Fact`] that owns its texts.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of Fact")]
pub struct Found {
    pub id: i64,
    pub created_at: i64,
    pub kind: u8,
    pub outcome: RowOutcome,
    pub channel_id: ChannelId,
    pub model: String,
    pub group: String,
    pub username: String,
    pub token_name: String,
    pub stream: bool,
    pub retried: bool,
    pub duration_ms: u32,
    pub first_token_ms: Option<u32>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_tokens: u64,
    pub consumed: u64,
    pub refunded: u64,
    pub status_code: u16,
    pub error_type: ErrorType,
    /// new-api's quota for one US dollar when the row was read.
    pub quota_per_unit: f64,
    /// Which of new-api's tables the id belongs to, if it was ever wiped.
    pub generation: i64,
}

impl Found {
    /// What was charged, in US dollars.
    pub fn cost_usd(&self) -> f64 {
        self.consumed as f64 / self.quota_per_unit
    }

    /// What was given back, in US dollars.
    pub fn cost_refunded_usd(&self) -> f64 {
        self.refunded as f64 / self.quota_per_unit
    }

    /// The same row as a fact.
    pub fn fact(&self) -> Fact<'_> {
        Fact {
            id: self.id,
            created_at: self.created_at,
            kind: self.kind,
            outcome: self.outcome,
            channel_id: self.channel_id,
            model: &self.model,
            group: &self.group,
            username: &self.username,
            token_name: &self.token_name,
            stream: self.stream,
            retried: self.retried,
            duration_ms: self.duration_ms,
            first_token_ms: self.first_token_ms,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cache_read_tokens: self.cache_read_tokens,
            cache_write_tokens: self.cache_write_tokens,
            consumed: self.consumed,
            refunded: self.refunded,
            status_code: self.status_code,
            error_type: self.error_type,
        }
    }

    /// A row that owns what `fact` borrows.
    pub fn of(fact: &Fact<'_>, quota_per_unit: f64, generation: i64) -> Self {
        Self {
            id: fact.id,
            created_at: fact.created_at,
            kind: fact.kind,
            outcome: fact.outcome,
            channel_id: fact.channel_id,
            model: fact.model.to_owned(),
            group: fact.group.to_owned(),
            username: fact.username.to_owned(),
            token_name: fact.token_name.to_owned(),
            stream: fact.stream,
            retried: fact.retried,
            duration_ms: fact.duration_ms,
            first_token_ms: fact.first_token_ms,
            input_tokens: fact.input_tokens,
            output_tokens: fact.output_tokens,
            cache_read_tokens: fact.cache_read_tokens,
            cache_write_tokens: fact.cache_write_tokens,
            consumed: fact.consumed,
            refunded: fact.refunded,
            status_code: fact.status_code,
            error_type: fact.error_type,
            quota_per_unit,
            generation,
        }
    }
}
