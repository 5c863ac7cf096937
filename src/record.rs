//! One row of new-api's `logs` table, as the rest of the program sees it.
//!
//! Nothing here knows a column name, a database or the time: [`crate::newapi`] makes a [`LogRecord`] out of a
//! row, and [`crate::usage`] decides from [`LogRecord::class`] what it adds to.

use std::borrow::Cow;
use std::fmt;

use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// new-api's id of a channel. 0 stands on rows that never reached one.
pub type ChannelId = i64;

/// A row of the log. Absent columns and NULLs have become 0 or the empty string. Texts are borrowed from the rows
/// as they were read: copying them would take longer than counting them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogRecord<'a> {
    /// The table's primary key.
    pub id: i64,
    /// Unix seconds at the *end* of the request, by the clock of the gateway node that wrote the row.
    pub created_at: i64,
    /// new-api's `type` column: see [`Class`].
    pub kind: i64,
    /// The channel of the (last) attempt.
    pub channel_id: ChannelId,
    /// The model that was asked for.
    pub model: Cow<'a, str>,
    /// Billing group.
    pub group: Cow<'a, str>,
    /// Name of the API token.
    pub token_name: Cow<'a, str>,
    /// Id of the API token, 0 on rows that new-api writes by itself.
    pub token_id: i64,
    /// Name of the user.
    pub username: Cow<'a, str>,
    /// Money in new-api's own unit.
    pub quota: i64,
    /// `prompt_tokens` as written, which means different things for different providers: see [`Request`].
    pub prompt_tokens: i64,
    /// `completion_tokens` as written.
    pub completion_tokens: i64,
    /// Duration in milliseconds; whole seconds except on One API.
    pub duration_ms: i64,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// The per-request key, empty before v0.10.8.
    pub request_id: Cow<'a, str>,
    /// What the `other` column told.
    pub other: Cow<'a, Other>,
    /// What was wrong with the row; it counts all the same.
    pub defect: Option<Defect>,
    /// True if the schema is One API's, where type 5 is a channel test.
    pub one_api: bool,
}

/// The part of the `other` column that is read. Every field is absent on some version.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they are new-api's own flags, not states of ours")]
pub struct Other {
    /// Tokens read from the provider's cache.
    pub cache_read_tokens: Option<u64>,
    /// Tokens written to the provider's cache: the normalised total, or what the parts sum to.
    pub cache_write_tokens: Option<u64>,
    /// Total input, where new-api states it.
    pub input_tokens_total: Option<u64>,
    /// Anthropic's way of counting: `prompt_tokens` leaves out what was cached.
    pub anthropic: bool,
    /// Milliseconds to the first streamed chunk; negative where there was none.
    pub first_response_ms: Option<f64>,
    /// How the stream ended, from v0.13.
    pub stream_status: Option<StreamStatus>,
    /// An asynchronous task's id stands on its submission, settlement and refund.
    pub has_task_id: bool,
    /// The submission of a task, which is a request.
    pub is_task: bool,
    /// A fee charged in addition to an error.
    pub violation_fee: bool,
    /// HTTP status of a failed attempt.
    pub status_code: Option<u16>,
    /// Kind of a failed attempt.
    pub error_type: Option<ErrorType>,
    /// The channel's name at the time of a failed attempt, up to rc.2x.
    pub channel_name: Option<String>,
    /// Channels in the order tried.
    pub use_channel: Tried,
    /// Which key of a multi-key channel served the request.
    pub multi_key_index: Option<i64>,
}

/// Channels in the order tried: nearly always one or two, which need no memory of their own.
pub type Tried = SmallVec<[ChannelId; 2]>;

/// `other.stream_status`, as far as outcomes need it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamStatus {
    /// `end_reason` is `client_gone`.
    pub client_gone: bool,
    /// `status` is `error`.
    pub error: bool,
}

/// The closed set that the `error_type` label draws from; new-api passes on what an upstream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// Made by new-api itself.
    NewApiError,
    /// In OpenAI's error shape.
    OpenaiError,
    /// In Anthropic's error shape.
    ClaudeError,
    /// In Gemini's error shape.
    GeminiError,
    /// An upstream's answer of no known shape.
    UpstreamError,
    /// From the Midjourney relay.
    MidjourneyError,
    /// From a rerank request.
    RerankError,
    /// Anything else, or nothing.
    Other,
}

impl ErrorType {
    /// The known value that `text` is, else [`ErrorType::Other`].
    pub fn parse(text: &str) -> Self {
        match text {
            "new_api_error" => Self::NewApiError,
            "openai_error" => Self::OpenaiError,
            "claude_error" => Self::ClaudeError,
            "gemini_error" => Self::GeminiError,
            "upstream_error" => Self::UpstreamError,
            "midjourney_error" => Self::MidjourneyError,
            "rerank_error" => Self::RerankError,
            _ => Self::Other,
        }
    }

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewApiError => "new_api_error",
            Self::OpenaiError => "openai_error",
            Self::ClaudeError => "claude_error",
            Self::GeminiError => "gemini_error",
            Self::UpstreamError => "upstream_error",
            Self::MidjourneyError => "midjourney_error",
            Self::RerankError => "rerank_error",
            Self::Other => "other",
        }
    }
}

/// Why part of a row could not be used. A label value of `token_monitor_row_defects_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Defect {
    /// `other` is empty or NULL on a row that should have one.
    OtherEmpty,
    /// `other` is not a JSON object.
    OtherNotJson,
    /// A field of `other` has a type or value that it cannot have.
    OtherWrongType,
    /// A column holds a value that it cannot have, such as a negative number of tokens.
    BadColumn,
}

impl Defect {
    /// All of them, for metrics that start at 0.
    pub const ALL: [Self; 4] = [Self::OtherEmpty, Self::OtherNotJson, Self::OtherWrongType, Self::BadColumn];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherEmpty => "other_empty",
            Self::OtherNotJson => "other_not_json",
            Self::OtherWrongType => "other_wrong_type",
            Self::BadColumn => "bad_column",
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a row counts as.
#[derive(Debug, Clone, PartialEq)]
pub enum Class {
    /// One answered request.
    Request(Request),
    /// Money without a request: a task's settlement, a violation fee, a negative consumption.
    Settlement {
        /// Charged.
        consumed: u64,
        /// Given back.
        refunded: u64,
    },
    /// An administrator's test of a channel; nobody pays for it.
    ChannelTest,
    /// One failed attempt on a channel.
    FailedAttempt {
        /// HTTP status, if it is one.
        status_code: Option<u16>,
        /// From a closed set.
        error_type: ErrorType,
    },
    /// Money given back.
    Refund {
        /// In new-api's unit.
        refunded: u64,
    },
    /// Top-ups, administration, logins: counted by type only.
    Unrelated,
}

/// The facts of an answered request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// How it ended.
    pub outcome: Outcome,
    /// Fresh, cached and cache-writing input together.
    pub input_tokens: u64,
    /// Output, reasoning included.
    pub output_tokens: u64,
    /// Part of the input.
    pub cache_read_tokens: u64,
    /// Part of the input for Anthropic, beside it for others.
    pub cache_write_tokens: u64,
    /// Charged, in new-api's unit.
    pub quota: u64,
    /// Seconds, whole ones except on One API; lost time on earlier channels included.
    pub duration_seconds: f64,
    /// Seconds to the first streamed chunk.
    pub first_token_seconds: Option<f64>,
    /// Whether more than one attempt was made.
    pub retried: bool,
}

/// How an answered request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// In full, as far as is known.
    Success,
    /// The stream broke.
    StreamError,
    /// The client left.
    ClientGone,
}

impl Outcome {
    /// All of them, in the order of their label values in DESIGN.
    pub const ALL: [Self; 3] = [Self::Success, Self::StreamError, Self::ClientGone];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::StreamError => "stream_error",
            Self::ClientGone => "client_gone",
        }
    }
}

/// How an answered request ended, or what a row is that is none: [`Class`] without its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowOutcome {
    /// An answered request.
    Success,
    /// An answered request whose stream broke.
    StreamError,
    /// An answered request whose client left.
    ClientGone,
    /// A failed attempt.
    Error,
    /// Money given back.
    Refund,
    /// Money without a request.
    Settlement,
    /// A channel test: counts for nothing but itself.
    Test,
    /// No traffic: counts for nothing.
    Other,
}

impl RowOutcome {
    /// All of them. The history stores the place in this list: append only.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::StreamError,
        Self::ClientGone,
        Self::Error,
        Self::Refund,
        Self::Settlement,
        Self::Test,
        Self::Other,
    ];

    /// The outcome of a row that counts as `class`.
    pub fn of(class: &Class) -> Self {
        match class {
            Class::Request(request) => match request.outcome {
                Outcome::Success => Self::Success,
                Outcome::StreamError => Self::StreamError,
                Outcome::ClientGone => Self::ClientGone,
            },
            Class::Settlement { .. } => Self::Settlement,
            Class::ChannelTest => Self::Test,
            Class::FailedAttempt { .. } => Self::Error,
            Class::Refund { .. } => Self::Refund,
            Class::Unrelated => Self::Other,
        }
    }

    /// As people and parameters name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::StreamError => "stream_error",
            Self::ClientGone => "client_gone",
            Self::Error => "error",
            Self::Refund => "refund",
            Self::Settlement => "settlement",
            Self::Test => "test",
            Self::Other => "other",
        }
    }

    /// The one that is named so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// Whether the row is one answered request.
    pub fn answered(self) -> bool {
        matches!(self, Self::Success | Self::StreamError | Self::ClientGone)
    }
}

/// `token_name` of new-api's channel tests ("model test").
pub const CHANNEL_TEST_TOKEN: &str = "模型测试";

/// Longest duration that is believed, so that one absurd row cannot stretch a histogram: a week.
pub const MAX_DURATION_MS: i64 = 7 * 24 * 3600 * 1000;

impl LogRecord<'_> {
    /// Decides what the row counts as: the table of DESIGN section 4.
    pub fn class(&self) -> Class {
        match self.kind {
            2 => self.consumption(),
            5 if self.one_api => Class::ChannelTest,
            5 => Class::FailedAttempt {
                status_code: self.other.status_code,
                error_type: self.other.error_type.unwrap_or(ErrorType::Other),
            },
            6 => Class::Refund { refunded: non_negative(self.quota) },
            _ => Class::Unrelated,
        }
    }

    fn consumption(&self) -> Class {
        if self.token_id == 0 && self.token_name == CHANNEL_TEST_TOKEN {
            return Class::ChannelTest;
        }
        let settles_task = self.other.has_task_id && !self.other.is_task;
        if settles_task || self.other.violation_fee || self.quota < 0 {
            return Class::Settlement {
                consumed: non_negative(self.quota),
                refunded: if self.quota < 0 { self.quota.unsigned_abs() } else { 0 },
            };
        }
        Class::Request(self.request())
    }

    fn request(&self) -> Request {
        let other = &self.other;
        let cache_read_tokens = other.cache_read_tokens.unwrap_or(0);
        let cache_write_tokens = other.cache_write_tokens.unwrap_or(0);
        let prompt = non_negative(self.prompt_tokens);
        let input_tokens = match other.input_tokens_total {
            Some(total) => total,
            None if other.anthropic => {
                prompt.saturating_add(cache_read_tokens).saturating_add(cache_write_tokens)
            }
            None => prompt,
        };
        let status = other.stream_status.unwrap_or_default();
        Request {
            outcome: match (status.client_gone, status.error) {
                (true, _) => Outcome::ClientGone,
                (false, true) => Outcome::StreamError,
                (false, false) => Outcome::Success,
            },
            input_tokens,
            output_tokens: non_negative(self.completion_tokens),
            cache_read_tokens,
            cache_write_tokens,
            quota: non_negative(self.quota),
            duration_seconds: self.duration_ms.clamp(0, MAX_DURATION_MS) as f64 / 1000.0,
            // -1000 stands for "no first chunk", and the field is there on rows that were not streamed.
            first_token_seconds: other
                .first_response_ms
                .filter(|ms| self.stream && *ms > 0.0)
                .map(|ms| ms.min(MAX_DURATION_MS as f64) / 1000.0),
            retried: other.use_channel.len() > 1,
        }
    }

    /// Channels whose attempt was followed by one on another channel, once for each time, on the row of an answered
    /// request. Failed attempts repeat the beginning of the list and would count twice; tests and settlements
    /// are no requests.
    pub fn failovers(&self, class: &Class) -> impl Iterator<Item = ChannelId> + '_ {
        let whole = matches!(class, Class::Request(_));
        self.other.use_channel.windows(2).filter(move |pair| whole && pair[0] != pair[1]).map(|pair| pair[0])
    }

    /// What goes into [`fingerprint`](Self::fingerprint), but for columns that every version has.
    pub const FINGERPRINTED: [&'static str; 7] =
        ["channel_id", "token_id", "quota", "prompt_tokens", "completion_tokens", "model_name", "request_id"];

    /// A number that stays the same for the same row and differs for another one under the same id, as long as the log has
    /// the same columns. Only columns that new-api never changes go into it.
    pub fn fingerprint(&self) -> u64 {
        let numbers = [
            self.id,
            self.created_at,
            self.kind,
            self.channel_id,
            self.token_id,
            self.quota,
            self.prompt_tokens,
            self.completion_tokens,
        ]
        .map(i64::to_le_bytes);
        let print = xxh3_64(numbers.as_flattened());
        let print = xxh3_64_with_seed(self.model.as_bytes(), print);
        xxh3_64_with_seed(self.request_id.as_bytes(), print)
    }
}

/// What stands for a model whose name is a key.
const KEY_FOR_MODEL: &str = "sk-***";

/// The name of a model as it is counted and shown. Somebody sends their key for it now and then, and then it would
/// stand in labels, in monitor.db and in messages.
pub fn model_name(name: Cow<'_, str>) -> Cow<'_, str> {
    let is_key = name.len() > 3
        && name.as_bytes().first_chunk().is_some_and(|[s, k, dash]| {
            s.eq_ignore_ascii_case(&b's') && k.eq_ignore_ascii_case(&b'k') && *dash == b'-'
        });
    if is_key { Cow::Borrowed(KEY_FOR_MODEL) } else { name }
}

/// The number, or 0 where new-api wrote a negative one.
fn non_negative(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_sent_for_a_model_is_no_name() {
        for (name, wanted) in [
            ("gpt-4o", "gpt-4o"),
            ("sk-0123456789abcdef", "sk-***"),
            ("SK-proj-0123", "sk-***"),
            ("sk-", "sk-"),
            ("skylark-pro", "skylark-pro"),
            ("s", "s"),
            ("模型", "模型"),
            ("", ""),
        ] {
            assert_eq!(model_name(name.into()), wanted);
        }
    }
}
