//! The request and the answer, built from what new-api recorded, with bodies where they are stored.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::bodies::Body;
use super::entry::{Reading, some};
use super::fields::Fields;
use super::row::{error, status_code};
use super::{json, mask};
use crate::newapi::Entry;
use crate::record::{Class, RowOutcome};

/// What was asked. Fields that are not known are left out.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RequestView {
    /// HTTP method: not recorded, but of all that new-api relays only `/v1/realtime` is not a POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// Path at new-api.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The model that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model that the channel was asked for: the same, unless it was mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_model: Option<String>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Billing group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Name of the API token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,
    /// Name of the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The client's address, where new-api was told to record it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Effort of reasoning that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    /// Formats from the client's to the channel's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conversion: Vec<String>,
    /// The body: JSON as it was sent, or a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub body: Option<Box<RawValue>>,
}

/// What was answered. Fields that are not known are left out.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResponseView {
    /// How it ended, or what else the row is.
    pub outcome: RowOutcome,
    /// HTTP status of a failed attempt; recorded for answered ones by the newest versions only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// Why the stream ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_end: Option<String>,
    /// Errors in the stream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stream_errors: Vec<String>,
    /// The family of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// The provider's or new-api's code of the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The error's text, or what else new-api noted on the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The provider's own key of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<String>,
    /// The body: JSON as it was sent, or a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub body: Option<Box<RawValue>>,
}

impl RequestView {
    pub(super) fn new(entry: &Entry, fields: &Fields<'_>, body: Option<Body>) -> Self {
        let path = fields.text("request_path");
        let method =
            path.as_deref().map(|path| if path.starts_with("/v1/realtime") { "GET" } else { "POST" });
        Self {
            method,
            path,
            model: some(&entry.model).map(masked),
            upstream_model: fields.text("upstream_model_name").or_else(|| some(&entry.model).map(masked)),
            stream: entry.stream,
            group: some(&entry.group),
            token_name: some(&entry.token_name).map(masked),
            username: some(&entry.username),
            ip: some(&entry.ip),
            reasoning_effort: fields.text("reasoning_effort"),
            conversion: fields.texts("request_conversion"),
            body: body.map(|body| body.shown),
        }
    }
}

impl ResponseView {
    pub(super) fn new(entry: &Entry, reading: &Reading, fields: &Fields<'_>, body: Option<Body>) -> Self {
        let stream = fields.object("stream_status");
        let mut stream_errors: Vec<String> = stream.text("end_error").into_iter().collect();
        stream_errors.extend(stream.texts("errors"));
        let upstream = stream.number("upstream_http_status").filter(|status| (100.0..600.0).contains(status));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
        let upstream = upstream.map(|status| status as u16);
        let failed = matches!(reading.class, Class::FailedAttempt { .. });
        let text = if failed { error(entry, &reading.class) } else { some(&entry.content).map(masked) };
        Self {
            outcome: RowOutcome::of(&reading.class),
            status_code: status_code(&reading.class).or(upstream),
            stream_end: stream.text("end_reason"),
            stream_errors,
            error_type: fields.text("error_type").or_else(|| fields.text("upstream_error_type")),
            error_code: fields
                .text("error_code")
                .or_else(|| fields.text("upstream_error_code"))
                .or_else(|| fields.text("violation_fee_code")),
            text,
            upstream_request_id: some(&entry.upstream_request_id),
            body: body.map(|body| body.shown),
        }
    }
}

/// The value as text for people: keys in their order, indented.
pub(super) fn shown<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).map(|json| json::laid_out(&json)).unwrap_or_default()
}

fn masked(text: impl AsRef<str>) -> String {
    mask::text(text.as_ref()).into_owned()
}
