//! One row of new-api's `logs` as it is written, with every column of the newest version.
//!
//! The opposite of [`crate::record::LogRecord`], which is a row as it is read. Nothing here knows a database.

use std::borrow::Cow;

/// Text that is mostly one of a few names known at compile time.
pub type Text = Cow<'static, str>;

/// `logs.type`.
pub mod kind {
    /// A payment.
    pub const TOPUP: i64 = 1;
    /// An answered request, a channel test, a task's submission or settlement.
    pub const CONSUME: i64 = 2;
    /// An administrator's change.
    pub const MANAGE: i64 = 3;
    /// A gift and the like.
    pub const SYSTEM: i64 = 4;
    /// A failed attempt on a channel.
    pub const ERROR: i64 = 5;
    /// Money given back for a failed task.
    pub const REFUND: i64 = 6;
    /// A login.
    pub const LOGIN: i64 = 7;
}

/// All columns of `logs` but `id`, which the database gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// 0 for nobody.
    pub user_id: i64,
    /// Unix seconds at the end of the request.
    pub created_at: i64,
    /// The `type` column, see [`kind`].
    pub kind: i64,
    /// Free text.
    pub content: Text,
    /// The user's name.
    pub username: Text,
    /// The token's name.
    pub token_name: Text,
    /// The model that was asked for.
    pub model_name: Text,
    /// Money, 500000 to the dollar.
    pub quota: i64,
    /// With cached tokens for OpenAI's way of counting, without for Anthropic's.
    pub prompt_tokens: i64,
    /// Output.
    pub completion_tokens: i64,
    /// Whole seconds, lost time on earlier channels included.
    pub use_time: i64,
    /// Whether the answer was streamed.
    pub is_stream: bool,
    /// The channel of this attempt, 0 for none.
    pub channel_id: i64,
    /// new-api never writes it.
    pub channel_name: Option<Text>,
    /// 0 on rows that are nobody's.
    pub token_id: i64,
    /// Billing group.
    pub group: Text,
    /// Empty unless recorded.
    pub ip: Text,
    /// One for all rows of a request.
    pub request_id: Text,
    /// The provider's own.
    pub upstream_request_id: Text,
    /// The details, a JSON object.
    pub other: Text,
}
