//! Errors of the API as problem details (RFC 9457): what is wrong, with which parameter, and what is accepted.
//!
//! Every error below `/api/v1` is one of these. None holds an address, a password, or words of a database engine.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{CHALLENGE, Refusal};
use crate::newapi::{ReadError, Reason};
use crate::store::StoreError;

/// The media type of the answer.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Names of strangers are repeated up to this many characters, so that an answer does not grow with the question.
const LONGEST_ECHO: usize = 80;

/// Seconds after which asking again may help, where no better number is known.
const SOON: Duration = Duration::from_secs(5);

/// What kind of error: decides `type`, `title` and `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A parameter, of the query or of the path, is unknown, repeated or wrong.
    BadParameter,
    /// The query is not what a query must be.
    BadQuery,
    /// The body is not what it must be.
    BadBody,
    /// The body is too long.
    BodyTooLarge,
    /// The body takes too long to arrive.
    BodyTooSlow,
    /// The body does not say that it is JSON.
    NotJson,
    /// No or a wrong password.
    Unauthorized,
    /// Another host was asked for, and there is no password.
    ForeignHost,
    /// The route is there, the thing asked for is not.
    NotFound,
    /// No such route.
    NoSuchRoute,
    /// The route has other methods.
    MethodNotAllowed,
    /// The query is too long.
    QueryTooLong,
    /// Too many wrong passwords at once.
    TooManyFailures,
    /// A guard of the circuit breaker said no.
    Refused,
    /// new-api could not be made to do it.
    GatewayFailed,
    /// A fault of ours.
    Internal,
    /// A fault of ours, with what should be sent again.
    Again,
    /// The history is still being read.
    NotReady,
    /// new-api's database does not answer.
    DatabaseUnavailable,
    /// monitor.db does not answer.
    StoreUnavailable,
    /// Too many requests are waiting.
    Overloaded,
    /// The answer took too long.
    Timeout,
}

impl Kind {
    /// All of them, for documents and tests.
    pub const ALL: [Self; 22] = [
        Self::BadParameter,
        Self::BadQuery,
        Self::BadBody,
        Self::BodyTooLarge,
        Self::BodyTooSlow,
        Self::NotJson,
        Self::Unauthorized,
        Self::ForeignHost,
        Self::NotFound,
        Self::NoSuchRoute,
        Self::MethodNotAllowed,
        Self::QueryTooLong,
        Self::TooManyFailures,
        Self::Refused,
        Self::GatewayFailed,
        Self::Internal,
        Self::Again,
        Self::NotReady,
        Self::DatabaseUnavailable,
        Self::StoreUnavailable,
        Self::Overloaded,
        Self::Timeout,
    ];

    /// The stable `type`.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::BadParameter => "/problems/bad-parameter",
            Self::BadQuery => "/problems/bad-query",
            Self::BadBody => "/problems/bad-body",
            Self::BodyTooLarge => "/problems/body-too-large",
            Self::BodyTooSlow => "/problems/body-too-slow",
            Self::NotJson => "/problems/not-json",
            Self::Unauthorized => "/problems/unauthorized",
            Self::ForeignHost => "/problems/foreign-host",
            Self::NotFound => "/problems/not-found",
            Self::NoSuchRoute => "/problems/no-such-route",
            Self::MethodNotAllowed => "/problems/method-not-allowed",
            Self::QueryTooLong => "/problems/query-too-long",
            Self::TooManyFailures => "/problems/too-many-failures",
            Self::Refused => "/problems/refused",
            Self::GatewayFailed => "/problems/gateway-failed",
            Self::Internal => "/problems/internal",
            Self::Again => "/problems/send-again",
            Self::NotReady => "/problems/not-ready",
            Self::DatabaseUnavailable => "/problems/database-unavailable",
            Self::StoreUnavailable => "/problems/store-unavailable",
            Self::Overloaded => "/problems/overloaded",
            Self::Timeout => "/problems/timeout",
        }
    }

    /// The same for every problem of this kind.
    pub const fn title(self) -> &'static str {
        match self {
            Self::BadParameter => "A parameter is wrong",
            Self::BadQuery => "The query cannot be read",
            Self::BadBody => "The body cannot be used",
            Self::BodyTooLarge => "The body is too long",
            Self::BodyTooSlow => "The body took too long to arrive",
            Self::NotJson => "The body must be sent as JSON",
            Self::Unauthorized => "A password is needed",
            Self::ForeignHost => "The host is a foreign one",
            Self::NotFound => "There is no such thing",
            Self::NoSuchRoute => "There is no such route",
            Self::MethodNotAllowed => "The route does not have this method",
            Self::QueryTooLong => "The query is too long",
            Self::TooManyFailures => "Too many wrong passwords",
            Self::Refused => "The circuit breaker refuses",
            Self::GatewayFailed => "new-api did not do it",
            Self::Internal => "Something went wrong here",
            Self::Again => "Something went wrong here, and it should be sent again",
            Self::NotReady => "Not ready yet",
            Self::DatabaseUnavailable => "new-api's database does not answer",
            Self::StoreUnavailable => "monitor.db does not answer",
            Self::Overloaded => "Too many requests at once",
            Self::Timeout => "The answer took too long",
        }
    }

    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadParameter | Self::BadQuery | Self::BadBody => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Refused => StatusCode::CONFLICT,
            Self::GatewayFailed => StatusCode::BAD_GATEWAY,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForeignHost => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoSuchRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::QueryTooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyFailures => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Again
            | Self::NotReady
            | Self::DatabaseUnavailable
            | Self::StoreUnavailable
            | Self::Overloaded
            | Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// One error, on its way to becoming an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    parameter: Option<String>,
    accepted: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
}

/// A problem as it is sent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// What kind of problem, as a stable reference. One of a fixed list.
    #[serde(rename = "type")]
    #[schema(format = "uri-reference")]
    kind: &'static str,
    /// The kind in words, the same for every problem of the kind.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong this time.
    detail: &'a str,
    /// The parameter at fault, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameter: Option<&'a str>,
    /// What would be accepted instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    accepted: Option<&'a str>,
    /// Seconds after which asking again may help; the header Retry-After says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retry_after_seconds: Option<u64>,
}

impl Problem {
    /// What is wrong, in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// A problem of `kind`; `detail` says what is wrong this time.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), parameter: None, accepted: None, retry_after: None }
    }

    /// `parameter` is wrong in the way that `detail` says.
    pub fn parameter(
        parameter: &str,
        detail: impl Into<Cow<'static, str>>,
        accepted: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { parameter: Some(echo(parameter)), ..Self::new(Kind::BadParameter, detail).accepted(accepted) }
    }

    /// The thing asked for is not there.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// The history is not read yet.
    pub fn not_ready(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::NotReady, detail).retry_after(SOON)
    }

    /// A fault of ours; what it is goes to the log, not to the asker.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!("an API request failed: {cause}");
        Self::new(Kind::Internal, "the program's log says more")
    }

    /// Adds what is accepted.
    #[must_use]
    pub fn accepted(mut self, accepted: impl Into<Cow<'static, str>>) -> Self {
        self.accepted = Some(accepted.into());
        self
    }

    /// Adds when asking again may help.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// As it is sent.
    pub fn body(&self) -> ProblemBody<'_> {
        ProblemBody {
            kind: self.kind.uri(),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: &self.detail,
            parameter: self.parameter.as_deref(),
            accepted: self.accepted.as_deref(),
            retry_after_seconds: self.retry_seconds(),
        }
    }

    /// Whole seconds, never 0: "at once" would make a client spin.
    fn retry_seconds(&self) -> Option<u64> {
        self.retry_after.map(|delay| delay.as_secs().max(1))
    }
}

/// What somebody sent, short enough to be repeated.
pub fn echo(text: &str) -> String {
    let mut short: String = text.chars().take(LONGEST_ECHO).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // A struct of texts and numbers can always be written.
        let body = serde_json::to_vec(&self.body()).unwrap_or_default();
        let mut response = (self.kind.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut set = |name: HeaderName, value| headers.insert(name, value);
        if self.kind == Kind::Unauthorized {
            set(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        if let Some(seconds) = self.retry_seconds() {
            set(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unauthorized => Self::new(Kind::Unauthorized, "the password is missing or wrong")
                .accepted(
                    "Authorization: Bearer ACCESS_PASSWORD, or Basic with any user name and ACCESS_PASSWORD",
                ),
            Refusal::TooMany { retry_after } => Self::new(
                Kind::TooManyFailures,
                "many wrong passwords arrive at the moment, and this one was wrong as well",
            )
            .retry_after(retry_after),
            Refusal::ForeignHost => {
                Self::new(Kind::ForeignHost, "without a password no foreign host name is answered")
                    .accepted("an IP address or localhost as the host, or an ACCESS_PASSWORD")
            }
        }
    }
}

impl From<ReadError> for Problem {
    /// The engine's own words may name hosts and users, so they go to the log only.
    fn from(error: ReadError) -> Self {
        tracing::warn!(
            reason = error.reason.as_str(),
            "an API request could not read new-api's database: {error}"
        );
        if error.reason == Reason::Store {
            return store_unavailable();
        }
        Self::new(Kind::DatabaseUnavailable, error.reason.words()).retry_after(SOON)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!("an API request could not use monitor.db: {error}");
        store_unavailable()
    }
}

fn store_unavailable() -> Problem {
    Problem::new(Kind::StoreUnavailable, "monitor.db cannot be used; the program's log says why")
        .retry_after(SOON)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;

    async fn sent(problem: Problem) -> (Response, Value) {
        let (parts, body) = problem.into_response().into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, ().into_response().into_body()), serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_problem_names_the_parameter_and_what_is_accepted() {
        let problem = Problem::parameter("limit", "`900` is too much", "a whole number from 1 to 500");
        let (response, body) = sent(problem).await;
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let wanted = json!({
            "type": "/problems/bad-parameter", "title": "A parameter is wrong", "status": 400,
            "detail": "`900` is too much", "parameter": "limit", "accepted": "a whole number from 1 to 500",
        });
        assert_eq!(body, wanted);
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_told_without_its_address() {
        let words = "connection to mysql://root:hunter2@10.0.0.5:3306 refused";
        let (response, body) = sent(ReadError::new(Reason::Unreachable, words).into()).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(body["retry_after_seconds"], 5);
        assert_eq!(body["detail"], "new-api's database cannot be reached");
        let text = body.to_string();
        assert!(!text.contains("hunter2") && !text.contains("10.0.0.5"), "{text}");
    }

    #[tokio::test]
    async fn monitor_db_in_trouble_is_told_without_its_path() {
        let error = StoreError::Damaged("/srv/secret/monitor.db".to_owned());
        let (response, body) = sent(error.into()).await;
        assert_eq!((response.status().as_u16(), &body["type"]), (503, &json!("/problems/store-unavailable")));
        assert!(!body.to_string().contains("/srv"), "{body}");
    }

    #[tokio::test]
    async fn only_a_missing_password_asks_for_one() {
        for kind in Kind::ALL {
            let (response, body) = sent(Problem::new(kind, "x")).await;
            assert_eq!(response.headers().contains_key("www-authenticate"), kind == Kind::Unauthorized);
            assert_eq!(body["status"], kind.status().as_u16());
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
        }
        assert_eq!(Kind::ALL.map(Kind::uri).into_iter().collect::<BTreeSet<_>>().len(), Kind::ALL.len());
    }

    #[test]
    fn a_long_name_is_cut_and_a_wait_is_never_nothing() {
        let problem = Problem::parameter(&"é".repeat(500), "x", "y").retry_after(Duration::from_millis(3));
        assert_eq!(problem.body().parameter.unwrap().chars().count(), LONGEST_ECHO + 1);
        assert_eq!(problem.body().retry_after_seconds, Some(1));
    }
}
