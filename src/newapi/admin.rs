//! new-api's admin API, as far as the breaker needs it: one channel is read, one channel's status is set.
//!
//! Two generations of routes are known; which one runs is found by asking and remembered. Answers are judged by their body,
//! because new-api refuses with HTTP 200, and nothing of them is kept but what is named here: old versions put the channel's
//! key into them. No answer to a change is a confirmation: only reading back is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Admin;
use crate::outbound;
use crate::record::ChannelId;

/// A request takes no longer, so that one that hangs keeps the next act waiting for a moment only.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest text of new-api's that is repeated, in characters.
const MAX_DETAIL: usize = 200;

/// Longest pause that new-api is believed to need, in seconds; it asks for three minutes at most.
const MAX_RETRY_AFTER: u64 = 600;

/// Why new-api did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// No connection, or no answer in time. What was asked may have been done all the same.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// The access token is not accepted, or may not.
    #[error("not allowed: {0}")]
    Denied(String),
    /// Too many requests.
    #[error("too many requests")]
    RateLimited {
        /// How long new-api wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// An answer that says no, or that is none of new-api's.
    #[error("refused: {0}")]
    Rejected(String),
    /// new-api itself, or what stands before it, is in trouble.
    #[error("HTTP {0}")]
    Server(u16),
}

/// A channel, as far as it matters whether it is enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelStatus {
    /// 1 enabled, 2 disabled by hand, 3 by new-api itself.
    pub status: i64,
    /// Unix seconds of the last change of it, as far as new-api noted it: changes by PUT are not noted.
    pub status_time: Option<i64>,
}

/// How a channel is switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `POST /api/channel/{id}/status`, from rc.16 on.
    Post,
    /// `PUT /api/channel/`, before.
    Put,
}

impl Route {
    /// For the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST /api/channel/{id}/status",
            Self::Put => "PUT /api/channel/",
        }
    }
}

/// What new-api said to a change. No confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switched {
    /// The route that took it.
    pub route: Route,
    /// The newer route's `data`: false if it was so already, or if the channel is not known to that node.
    pub changed: Option<bool>,
}

/// A client of the admin API. Cheap to clone; clones know the same route.
#[derive(Debug, Clone)]
pub struct AdminClient {
    client: reqwest::Client,
    admin: Admin,
    /// 0 not known, else 1 + [`Route`].
    route: Arc<AtomicU8>,
}

/// What every answer has.
#[derive(Debug, Deserialize)]
struct Answer {
    success: Option<bool>,
    message: Option<String>,
    #[serde(default)]
    code: Value,
    #[serde(default)]
    data: Value,
    error: Option<RouteError>,
}

/// What a route that there is not answers.
#[derive(Debug, Deserialize)]
struct RouteError {
    #[serde(default)]
    message: String,
}

/// There is no such route, or it does not take this: the other one may.
enum Attempt {
    Done(Answer),
    WrongRoute(AdminError),
}

impl AdminClient {
    /// A client of this API.
    ///
    /// # Errors
    /// If there is no TLS.
    pub fn new(admin: Admin) -> anyhow::Result<Self> {
        Ok(Self { client: outbound::client(None)?, admin, route: Arc::default() })
    }

    /// The channel as it is; None if there is none of this id.
    ///
    /// # Errors
    /// If new-api does not say.
    pub async fn channel(&self, id: ChannelId) -> Result<Option<ChannelStatus>, AdminError> {
        let (status, answer) = self.ask(Method::GET, &format!("/api/channel/{id}"), None).await?;
        let answer = match accepted(status, answer) {
            Ok(answer) => answer,
            // GORM's words, in no language of new-api's.
            Err(AdminError::Rejected(words)) if words.contains("record not found") => return Ok(None),
            Err(error) => return Err(error),
        };
        let number = |field: &str| answer.data.get(field).and_then(Value::as_i64);
        let (Some(found), Some(status)) = (number("id"), number("status")) else {
            return Err(AdminError::Rejected("the answer tells no channel".to_owned()));
        };
        if found != id {
            return Err(AdminError::Rejected(format!("channel {found} was told instead")));
        }
        let info = answer.data.get("other_info").and_then(Value::as_str).unwrap_or_default();
        let info: Value = serde_json::from_str(info).unwrap_or_default();
        let status_time = info.get("status_time").and_then(Value::as_i64);
        Ok(Some(ChannelStatus { status, status_time }))
    }

    /// Asks for a channel's status to be 1, enabled, or 2, disabled.
    ///
    /// # Errors
    /// If new-api does not say that it did. It may have done so all the same.
    pub async fn set_status(&self, id: ChannelId, wanted: i64) -> Result<Switched, AdminError> {
        let first = self.route().unwrap_or(Route::Post);
        let second = if first == Route::Post { Route::Put } else { Route::Post };
        let mut refused = None;
        for route in [first, second] {
            match self.switch(route, id, wanted).await? {
                Attempt::Done(answer) => {
                    self.remember(route);
                    let changed = if route == Route::Post { answer.data.as_bool() } else { None };
                    return Ok(Switched { route, changed });
                }
                Attempt::WrongRoute(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or(AdminError::Rejected(String::new())))
    }

    /// Whether the key may switch channels, and by which route, without switching one: the newer route is asked for a
    /// channel whose id is no number, and the older one opens to whoever may read channels.
    ///
    /// # Errors
    /// If it may not, or nobody answers.
    pub async fn probe(&self) -> Result<Route, AdminError> {
        let (status, answer) = self.ask(Method::GET, "/api/channel/?p=1&page_size=1", None).await?;
        accepted(status, answer)?;
        let body = json!({ "status": 0 });
        let (status, answer) = self.ask(Method::POST, "/api/channel/none/status", Some(body)).await?;
        if is_no_route(status, answer.as_ref()) {
            return Ok(Route::Put);
        }
        match accepted(status, answer) {
            // Nobody has such an id, so nothing but a refusal of the id is expected.
            Ok(_) | Err(AdminError::Rejected(_)) => Ok(Route::Post),
            Err(error) => Err(error),
        }
    }

    fn route(&self) -> Option<Route> {
        match self.route.load(Ordering::Relaxed) {
            1 => Some(Route::Post),
            2 => Some(Route::Put),
            _ => None,
        }
    }

    fn remember(&self, route: Route) {
        let known = if route == Route::Post { 1 } else { 2 };
        if self.route.swap(known, Ordering::Relaxed) != known {
            tracing::info!(route = route.as_str(), "new-api's channels are switched by this route");
        }
    }

    async fn switch(&self, route: Route, id: ChannelId, wanted: i64) -> Result<Attempt, AdminError> {
        let (method, path, body) = match route {
            Route::Post => (Method::POST, format!("/api/channel/{id}/status"), json!({ "status": wanted })),
            Route::Put => (Method::PUT, "/api/channel/".to_owned(), json!({ "id": id, "status": wanted })),
        };
        let (status, answer) = self.ask(method, &path, Some(body)).await?;
        if is_no_route(status, answer.as_ref()) {
            return Ok(Attempt::WrongRoute(AdminError::Rejected(format!("there is no {}", route.as_str()))));
        }
        match accepted(status, answer) {
            Ok(answer) => Ok(Attempt::Done(answer)),
            Err(AdminError::Rejected(words)) if route == Route::Put && is_invalid_parameters(&words) => {
                Ok(Attempt::WrongRoute(AdminError::Rejected(words)))
            }
            Err(error) => Err(error),
        }
    }

    /// Status and body of an answer; None if the body is none of new-api's.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Option<Answer>), AdminError> {
        let base = self.admin.base_url.as_str().trim_end_matches('/');
        let mut request = self
            .client
            .request(method, format!("{base}{path}"))
            .timeout(TIMEOUT)
            .bearer_auth(self.admin.key.expose())
            .header("New-Api-User", self.admin.user_id);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|error| AdminError::Unreachable(outbound::words(error)))?;
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(AdminError::RateLimited { retry_after: retry_after(&answer) });
        }
        let body = outbound::body(answer).await.map_err(AdminError::Unreachable)?;
        // What is said may be kept and told; a server, or a proxy before it, may repeat what it was sent.
        let body = String::from_utf8_lossy(&body).replace(self.admin.key.expose(), "[secret]");
        Ok((status, serde_json::from_str(&body).ok()))
    }
}

/// The answer, if it says yes.
fn accepted(status: StatusCode, answer: Option<Answer>) -> Result<Answer, AdminError> {
    let words = |answer: &Answer| {
        let code = answer.code.as_str().unwrap_or_default();
        let message = answer.message.as_deref().unwrap_or_default();
        let error = answer.error.as_ref().map_or("", |error| error.message.as_str());
        detail([code, message, error].into_iter().find(|text| !text.is_empty()).unwrap_or_default())
    };
    let said = answer.as_ref().map(words).unwrap_or_default();
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        let said = if said.is_empty() { format!("HTTP {}", status.as_u16()) } else { said };
        return Err(AdminError::Denied(said));
    }
    if status.is_server_error() {
        return Err(AdminError::Server(status.as_u16()));
    }
    let Some(answer) = answer else {
        return Err(AdminError::Rejected(format!("HTTP {} without an answer of new-api's", status.as_u16())));
    };
    match answer.success {
        Some(true) if status.is_success() => Ok(answer),
        _ if is_denial(&answer) => Err(AdminError::Denied(said)),
        _ if said.is_empty() => {
            Err(AdminError::Rejected(format!("HTTP {} without a reason", status.as_u16())))
        }
        _ => Err(AdminError::Rejected(said)),
    }
}

/// The words with which versions before rc.22 turn away whoever may not, with HTTP 200, in their languages.
const DENIALS: [&str; 9] = [
    "unauthorized",
    "access token",
    "insufficient privilege",
    "has been banned",
    "无权",
    "未登录",
    "权限不足",
    "已被封禁",
    "无效的访问令牌",
];

fn is_denial(answer: &Answer) -> bool {
    let message = answer.message.as_deref().unwrap_or_default().to_lowercase();
    answer.code.as_str().is_some_and(|code| code.starts_with("AUTH_"))
        || DENIALS.iter().any(|words| message.contains(words))
}

/// rc.16 and later refuse a status in a PUT with these words, in the language of the user.
fn is_invalid_parameters(words: &str) -> bool {
    words.to_lowercase().contains("invalid param")
        || words.contains("无效的参数")
        || words.contains("参数错误")
}

/// What a version without the route says, or a server before it that knows the path by another method.
fn is_no_route(status: StatusCode, answer: Option<&Answer>) -> bool {
    let invalid_url = || {
        answer
            .and_then(|answer| answer.error.as_ref())
            .is_some_and(|error| error.message.contains("Invalid URL"))
    };
    status == StatusCode::METHOD_NOT_ALLOWED || status == StatusCode::NOT_FOUND && invalid_url()
}

fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let text = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER)))
}

/// Words of new-api's, short and on one line.
fn detail(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> Result<(), AdminError> {
        let answer: Option<Answer> = serde_json::from_str(body).ok();
        accepted(StatusCode::from_u16(status).unwrap(), answer).map(drop)
    }

    #[test]
    fn answers_are_judged_by_what_versions_were_recorded_to_say() {
        let denied = |text: &str| Err(AdminError::Denied(text.to_owned()));
        let rejected = |text: &str| Err(AdminError::Rejected(text.to_owned()));
        let cases = [
            (200, r#"{"data":true,"message":"","success":true}"#, Ok(())),
            (
                200,
                r#"{"message":"Unauthorized, invalid access token","success":false}"#,
                denied("Unauthorized, invalid access token"),
            ),
            (
                200,
                r#"{"message":"无权进行此操作，权限不足","success":false}"#,
                denied("无权进行此操作，权限不足"),
            ),
            (
                401,
                r#"{"message":"Unauthorized, New-Api-User header not provided","success":false}"#,
                denied("Unauthorized, New-Api-User header not provided"),
            ),
            (
                401,
                r#"{"code":"AUTH_UNAUTHORIZED","message":"x","success":false}"#,
                denied("AUTH_UNAUTHORIZED"),
            ),
            (403, "", denied("HTTP 403")),
            (200, r#"{"message":"Invalid parameters","success":false}"#, rejected("Invalid parameters")),
            (200, r#"{"success":false}"#, rejected("HTTP 200 without a reason")),
            (
                200,
                "<html>a page of somebody else</html>",
                rejected("HTTP 200 without an answer of new-api's"),
            ),
            (302, "", rejected("HTTP 302 without an answer of new-api's")),
            (404, r#"{"success":true}"#, rejected("HTTP 404 without a reason")),
            (502, "<html>", Err(AdminError::Server(502))),
        ];
        for (status, body, verdict) in cases {
            assert_eq!(judged(status, body), verdict, "{status} {body}");
        }
    }

    #[test]
    fn only_the_recorded_404_means_that_there_is_no_route() {
        let is = |status: u16, body: &str| {
            let answer: Option<Answer> = serde_json::from_str(body).ok();
            is_no_route(StatusCode::from_u16(status).unwrap(), answer.as_ref())
        };
        let recorded = r#"{"error":{"message":"Invalid URL (POST /api/channel/2/status)","type":"invalid_request_error","param":"","code":""}}"#;
        assert!(is(404, recorded) && is(405, ""));
        assert!(!is(404, "not here") && !is(200, recorded) && !is(404, r#"{"success":false}"#));
    }

    #[test]
    fn words_of_others_are_cut_and_stay_on_one_line() {
        let long = format!("a\nb\u{1b}[31m{}", "长".repeat(500));
        assert_eq!(detail(&long).chars().count(), MAX_DETAIL);
        assert!(detail(&long).starts_with("ab[31m长"));
    }
}
