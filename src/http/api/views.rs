//! What the API answers, as it is written: field names say the unit, times are RFC 3339 in UTC, a channel is
//! always `channel_id` and `channel_name`.
//!
//! Every answer has an example, which goes into the document and is checked against its own schema by the tests.

use std::borrow::Cow;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::super::params::By;
use super::measures::{Active, ActiveChange, Measures, MeasuresChange};
use crate::detail::{Attempt, ChannelStatus, LogRow, RequestStory};
use crate::history::Measure;

/// Something that a route answers.
pub trait Answer: Serialize + ToSchema {
    /// One that a real installation could give.
    fn example() -> Self;

    /// The status with which it is answered.
    fn status(&self) -> StatusCode {
        StatusCode::OK
    }
}

/// A list, and where it goes on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct List<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// The next page as a link; None on the last one.
    pub next: Option<String>,
    /// The same as a value for `cursor`.
    pub next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A list that has no further page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None, next_cursor: None }
    }
}

// By hand, because the derived name would be the same for lists of anything.
impl<T: ToSchema> PartialSchema for List<T> {
    fn schema() -> RefOr<Schema> {
        let text_or_null = || {
            let kind = SchemaType::Array(vec![Type::String, Type::Null]);
            ObjectBuilder::new().schema_type(kind)
        };
        let items = ArrayBuilder::new().items(RefOr::Ref(Ref::from_schema_name(T::name())));
        let next = "The next page as a link; null on the last one.";
        let cursor = "The same as a value for `cursor`.";
        let list = ObjectBuilder::new()
            .property("items", items.build())
            .required("items")
            .property("next", text_or_null().description(Some(next)).build())
            .required("next")
            .property("next_cursor", text_or_null().description(Some(cursor)).build())
            .required("next_cursor");
        RefOr::T(list.build().into())
    }
}

impl<T: ToSchema> ToSchema for List<T> {
    fn name() -> Cow<'static, str> {
        format!("{}List", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

impl<T: Answer> Answer for List<T> {
    fn example() -> Self {
        Self::whole(vec![T::example()])
    }
}

/// What was spent in a window, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Overview {
    /// Beginning of the window.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// End of the window; now if it is open.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Everything together.
    pub totals: Totals,
    /// The totals against the window of the same length before.
    pub change: Change,
    /// By model, the most expensive first.
    pub by_model: Vec<ModelMeasures>,
    /// By channel, the most expensive first.
    pub by_channel: Vec<ChannelMeasures>,
    /// By user, the most expensive first.
    pub by_user: Vec<UserMeasures>,
}

/// Measures of everything.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Totals {
    /// Of all rows.
    #[serde(flatten)]
    pub measures: Measures,
    /// What had traffic.
    #[serde(flatten)]
    pub active: Active,
}

impl Change {
    /// When nothing is known of the window before.
    pub fn unknown() -> Self {
        Self { measures: MeasuresChange::default(), active: ActiveChange::default() }
    }
}

impl Totals {
    /// How much each differs from what it was `before`.
    pub fn change_since(&self, before: &Self) -> Change {
        Change {
            measures: self.measures.change_since(&before.measures),
            active: self.active.change_since(&before.active),
        }
    }
}

/// The totals against the window before: the same keys, as ratios.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Change {
    /// Of the measures.
    #[serde(flatten)]
    pub measures: MeasuresChange,
    /// Of what had traffic.
    #[serde(flatten)]
    pub active: ActiveChange,
}

/// What part of everything a group is.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Shares {
    /// Its part of all tokens, 0 to 1.
    #[schema(required = true)]
    pub tokens_share: Option<f64>,
    /// Its part of all cost, 0 to 1.
    #[schema(required = true)]
    pub cost_share: Option<f64>,
}

/// Measures of one model.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelMeasures {
    /// The model, as it was asked for.
    pub model: String,
    /// Its measures.
    #[serde(flatten)]
    pub measures: Measures,
    /// Its part of everything.
    #[serde(flatten)]
    pub shares: Shares,
}

/// Measures of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChannelMeasures {
    /// The channel; 0 for rows that never reached one.
    pub channel_id: i64,
    /// Its name today, or its last one.
    pub channel_name: String,
    /// Its measures.
    #[serde(flatten)]
    pub measures: Measures,
    /// Its part of everything.
    #[serde(flatten)]
    pub shares: Shares,
}

/// Measures of one user.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct UserMeasures {
    /// The user.
    pub username: String,
    /// Their measures.
    #[serde(flatten)]
    pub measures: Measures,
    /// Their part of everything.
    #[serde(flatten)]
    pub shares: Shares,
}

/// Measures over time.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Trend {
    /// Beginning of the first step.
    #[schema(value_type = String, format = DateTime)]
    pub from: Timestamp,
    /// End of the window; now if it is open.
    #[schema(value_type = String, format = DateTime)]
    pub to: Timestamp,
    /// Length of a step, seconds.
    pub step_seconds: u64,
    /// By what it is told apart; null for everything together.
    #[schema(required = true)]
    pub by: Option<By>,
    /// One for each step, and for each model, channel or user in it, in the order of time.
    pub items: Vec<TrendPoint>,
    /// Always null: all steps are here.
    #[schema(required = true)]
    pub next: Option<String>,
    /// Always null.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Measures of one step.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TrendPoint {
    /// Beginning of the step.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The model, if told apart by model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub model: Option<String>,
    /// The channel, if told apart by channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub channel_id: Option<i64>,
    /// The channel's name, if told apart by channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub channel_name: Option<String>,
    /// The user, if told apart by user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub username: Option<String>,
    /// The measures.
    #[serde(flatten)]
    pub measures: Measures,
}

/// A slow request.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SlowRequest {
    /// Its row.
    #[serde(flatten)]
    pub row: LogRow,
    /// Channels in the order tried; empty if the row is no longer in the log.
    pub attempts: Vec<Attempt>,
}

/// All rows of one request.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RequestRows {
    /// What they tell together.
    #[serde(flatten)]
    pub story: RequestStory,
    /// Always null: all rows are here.
    #[schema(required = true)]
    pub next: Option<String>,
    /// Always null.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// A channel today, with its measures in the window.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChannelState {
    /// The channel.
    pub channel_id: i64,
    /// Its name.
    pub channel_name: String,
    /// new-api's number of the provider; null for a deleted channel.
    #[schema(required = true)]
    pub r#type: Option<i64>,
    /// Name of the provider, if it is known.
    #[schema(required = true)]
    pub type_name: Option<&'static str>,
    /// Whether it takes requests.
    pub status: ChannelStatus,
    /// Comma list of groups.
    pub group: String,
    /// Free text by which new-api groups channels.
    pub tag: String,
    /// Balance at the provider, US dollars, if new-api ever asked.
    #[schema(required = true)]
    pub balance_usd: Option<f64>,
    /// Quota ever used.
    pub used_quota: i64,
    /// What its last test took, seconds.
    #[schema(required = true)]
    pub response_time_seconds: Option<f64>,
    /// When it was tested last.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub tested_at: Option<Timestamp>,
    /// Answers without a broken stream / (requests + errors); a client that left is no fault.
    #[schema(required = true)]
    pub success_share: Option<f64>,
    /// Its last failed attempt in the window.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// Its measures in the window.
    #[serde(flatten)]
    pub measures: Measures,
}

/// A model today, with its measures in the window.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ModelState {
    /// The model.
    pub model: String,
    /// Enabled channels by group.
    pub groups: Vec<GroupChannels>,
    /// Answers without a broken stream / (requests + errors); a client that left is no fault.
    #[schema(required = true)]
    pub success_share: Option<f64>,
    /// Its last failed attempt in the window.
    #[schema(required = true)]
    pub last_error: Option<LastError>,
    /// Its measures in the window.
    #[serde(flatten)]
    pub measures: Measures,
}

/// What may be used and how much of it is, the most used first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LimitList {
    /// Each key of each limit.
    pub items: Vec<LimitState>,
    /// The next page as a link; null on the last one.
    #[schema(required = true)]
    pub next: Option<String>,
    /// The same as a value for `cursor`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// When the limits in force were read; null if there are none, or if they are those of an earlier run.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub loaded_at: Option<Timestamp>,
    /// What is wrong with the file as it is now, or why the list is not up to date; the limits before stay in force.
    #[schema(required = true)]
    pub error: Option<String>,
}

/// A limit, or one key of a limit that counts each channel or model by itself.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LimitState {
    /// Its name in the file.
    pub limit: String,
    /// The channel; null if it is about several.
    #[schema(required = true)]
    pub channel_id: Option<i64>,
    /// The channel's name.
    #[schema(required = true)]
    pub channel_name: Option<String>,
    /// The model, or the pattern of models; null if it is about all; `_other` for models that no channel offers and no
    /// request was answered for.
    #[schema(required = true)]
    pub model: Option<String>,
    /// It sums what is not counted by itself: such models, and keys beyond MAX_SERIES.
    pub rest: bool,
    /// What is summed.
    #[schema(value_type = String)]
    pub measure: Measure,
    /// day, week, month, or a length such as 24h.
    pub window: String,
    /// Beginning of the window.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// How much is used, in the unit of the measure.
    pub used: f64,
    /// How much is allowed.
    pub max: f64,
    /// How much is left.
    pub remaining: f64,
    /// used / max.
    pub ratio: f64,
    /// The ratio that is worth a warning.
    #[schema(required = true)]
    pub warn_at: Option<f64>,
    /// critical, warning or info.
    pub severity: &'static str,
    /// notify or disable_channel.
    pub action: &'static str,
    /// never, window_reset, or a length.
    pub restore: String,
    /// When the window ends. Of a rolling one, when it will have calmed down; null if it is calm.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub resets_at: Option<Timestamp>,
    /// When it will be used up at the present rate; null if not in this window, or already.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub exhausted_at: Option<Timestamp>,
    /// The three biggest contributors; null for what is not counted by itself.
    #[schema(required = true)]
    pub contributors: Option<Vec<Contributor>>,
}

/// Who uses a limit.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Contributor {
    /// The channel, 0 for rows that never reached one.
    pub channel_id: i64,
    /// Its name.
    pub channel_name: String,
    /// The model.
    pub model: String,
    /// The user.
    pub username: String,
    /// Its part of `used`.
    pub used: f64,
    /// The same as a part of 1.
    #[schema(required = true)]
    pub share: Option<f64>,
}

/// How many channels serve a model to a group.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct GroupChannels {
    /// The group.
    pub group: String,
    /// Channels that are enabled for it.
    pub enabled_channels: u32,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LastError {
    /// Its row.
    pub id: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Status of the answer, if there was one.
    #[schema(required = true)]
    pub status_code: Option<u16>,
    /// Kind of error, from a fixed list.
    pub error_type: String,
    /// Where the row is told in full.
    pub detail_url: String,
}
