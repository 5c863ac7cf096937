//! The stand-in's admin API: the channel routes of new-api in both generations, and a route that starts trouble.
//!
//! Answers are what real servers were recorded to say, byte for byte where it matters: status, `success`,
//! `message`, the order of fields. A channel's key is never sent, as in every version since 2025-06.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::admin_store::{self, Patch, Store};
use super::{Episode, Shared};

/// Which routes switch a channel, and how a bad token is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Up to rc.15: `PUT /api/channel/` with a status; `New-Api-User` is needed.
    Put,
    /// rc.22 and later: `POST /api/channel/{id}/status`; real 401 and 403; `New-Api-User` is ignored.
    Post,
}

impl Generation {
    /// What `GET /api/status` calls itself.
    fn version(self) -> &'static str {
        match self {
            Self::Put => "v1.0.0-rc.15",
            Self::Post => "v1.0.0-rc.24",
        }
    }
}

type App = State<Arc<Shared>>;

/// `{"data":…,"message":"","success":true}`, in new-api's order.
#[derive(Serialize)]
struct Success<T> {
    data: T,
    message: &'static str,
    #[serde(rename = "success")]
    done: bool,
}

fn success<T: Serialize>(data: T) -> Response {
    json_response(StatusCode::OK, &Success { data, message: "", done: true })
}

/// HTTP 200, as new-api answers what its handlers refuse.
fn refusal(message: impl Into<String>) -> Response {
    json_response(StatusCode::OK, &json!({ "message": message.into(), "success": false }))
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_string(body).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut admin =
        Router::new().route("/api/channel/", get(list).put(put)).route("/api/channel/{id}", get(show));
    if shared.generation == Generation::Post {
        admin = admin
            .route("/api/channel/{id}/status", post(set_status))
            .route("/api/channel/status/batch", post(set_status_batch));
    }
    admin
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), authenticate))
        .route("/api/status", get(status))
        .route("/demo/episode/{kind}", post(start_episode))
        .fallback(invalid_url)
        .method_not_allowed_fallback(invalid_url)
        .with_state(shared)
}

async fn invalid_url(method: Method, uri: Uri) -> Response {
    #[derive(Serialize)]
    struct Error {
        message: String,
        r#type: &'static str,
        param: &'static str,
        code: &'static str,
    }
    let message = format!("Invalid URL ({method} {})", uri.path());
    let error = Error { message, r#type: "invalid_request_error", param: "", code: "" };
    json_response(StatusCode::NOT_FOUND, &json_object("error", &error))
}

/// `{name: value}` that keeps the order of the value's fields.
fn json_object<'a, T>(name: &'a str, value: &'a T) -> std::collections::BTreeMap<&'a str, &'a T> {
    std::iter::once((name, value)).collect()
}

// --- who may ---

async fn authenticate(State(shared): App, request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let token = header("authorization").unwrap_or_default();
    let token = token.strip_prefix("Bearer ").unwrap_or(&token).to_owned();
    let (user_header, generation) = (header("new-api-user"), shared.generation);
    let asked = token.clone();
    let user = match on_store(&shared, move |store| store.user(&asked)).await {
        Ok(user) => user,
        Err(answer) => return answer,
    };
    let denied = match generation {
        Generation::Put => deny_old(&token, user.as_ref(), user_header.as_deref()),
        Generation::Post => deny_new(user.as_ref()),
    };
    match denied {
        Some(answer) => answer,
        None => next.run(request).await,
    }
}

const ADMIN_ROLE: i64 = 10;

fn deny_old(token: &str, user: Option<&admin_store::User>, user_header: Option<&str>) -> Option<Response> {
    let message = |status, text: &str| {
        let body = json!({ "message": format!("Unauthorized, {text}"), "success": false });
        Some(json_response(status, &body))
    };
    let unauthorized = StatusCode::UNAUTHORIZED;
    if token.is_empty() {
        return message(unauthorized, "not logged in and no access token provided");
    }
    let Some(user) = user else { return message(StatusCode::OK, "invalid access token") };
    match user_header.map(str::parse::<i64>) {
        None => message(unauthorized, "New-Api-User header not provided"),
        Some(Err(_)) => message(unauthorized, "New-Api-User format error"),
        Some(Ok(id)) if id != user.id => message(unauthorized, "New-Api-User does not match logged in user"),
        Some(Ok(_)) if user.status != 1 => message(StatusCode::OK, "user has been banned"),
        Some(Ok(_)) if user.role < ADMIN_ROLE => message(StatusCode::OK, "insufficient privileges"),
        Some(Ok(_)) => None,
    }
}

fn deny_new(user: Option<&admin_store::User>) -> Option<Response> {
    let deny = |status, code: &str, text: &str| {
        let body = json!({ "code": code, "message": format!("Unauthorized, {text}"), "success": false });
        Some(json_response(status, &body))
    };
    match user {
        None => deny(StatusCode::UNAUTHORIZED, "AUTH_UNAUTHORIZED", "invalid access token"),
        Some(user) if user.status != 1 => {
            deny(StatusCode::UNAUTHORIZED, "AUTH_USER_DISABLED", "user has been banned")
        }
        Some(user) if user.role < ADMIN_ROLE => {
            deny(StatusCode::FORBIDDEN, "AUTH_INSUFFICIENT_PRIVILEGE", "insufficient privileges")
        }
        Some(_) => None,
    }
}

// --- routes ---

async fn status(State(shared): App) -> Response {
    success(json!({
        "version": shared.generation.version(),
        "system_name": "New API (demo)",
        "start_time": shared.now(),
        "setup": true,
        "quota_per_unit": 500_000,
        "usd_exchange_rate": 7.3,
        "price": 7.3,
        "quota_display_type": "USD",
        "display_in_currency": true,
        "custom_currency_symbol": "¤",
        "custom_currency_exchange_rate": 1,
        "enable_data_export": false,
        "enable_batch_update": false,
    }))
}

async fn show(State(shared): App, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<i64>() else { return refusal(not_a_number(&id)) };
    match on_store(&shared, move |store| store.channel(id)).await {
        Ok(Some(channel)) => success(channel),
        Ok(None) => refusal("record not found"),
        Err(answer) => answer,
    }
}

/// What Go says of a number that is none.
fn not_a_number(text: &str) -> String {
    format!("strconv.Atoi: parsing \"{text}\": invalid syntax")
}

#[derive(Deserialize)]
struct Page {
    p: Option<i64>,
    page_size: Option<i64>,
}

async fn list(State(shared): App, Query(page): Query<Page>) -> Response {
    const DEFAULT_SIZE: i64 = 20;
    let number = page.p.unwrap_or(1).max(1);
    let size = page.page_size.filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE).min(100);
    match on_store(&shared, move |store| store.page(number, size)).await {
        Ok(page) => success(page),
        Err(answer) => answer,
    }
}

async fn put(State(shared): App, body: Bytes) -> Response {
    let patch = match Patch::parse(&body) {
        Ok(patch) => patch,
        Err(message) => return refusal(message),
    };
    if shared.generation == Generation::Post && patch.status.is_some() {
        return refusal(INVALID_PARAMETERS);
    }
    match on_store(&shared, move |store| store.patch(&patch)).await {
        Ok(Some(channel)) => success(channel),
        Ok(None) => refusal("record not found"),
        Err(answer) => answer,
    }
}

const INVALID_PARAMETERS: &str = "Invalid parameters";

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    ids: Vec<i64>,
    status: i64,
}

impl Wanted {
    fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().filter(|wanted: &Self| [1, 2].contains(&wanted.status))
    }
}

async fn set_status(State(shared): App, Path(id): Path<String>, body: Bytes) -> Response {
    let (Ok(id), Some(wanted)) = (id.parse::<i64>(), Wanted::parse(&body)) else {
        return refusal(INVALID_PARAMETERS);
    };
    let now = shared.now();
    let done =
        on_store(&shared, move |store| store.switch(&[id], wanted.status, "manual operation", now)).await;
    match done {
        Ok(changed) => success(changed > 0),
        Err(answer) => answer,
    }
}

async fn set_status_batch(State(shared): App, body: Bytes) -> Response {
    let Some(wanted) = Wanted::parse(&body).filter(|wanted| !wanted.ids.is_empty()) else {
        return refusal(INVALID_PARAMETERS);
    };
    let now = shared.now();
    let reason = "manual batch operation";
    match on_store(&shared, move |store| store.switch(&wanted.ids, wanted.status, reason, now)).await {
        Ok(changed) => success(changed),
        Err(answer) => answer,
    }
}

/// No part of new-api. Only for this machine: whoever cannot be told to be on it is turned away.
async fn start_episode(State(shared): App, Path(kind): Path<String>, request: Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if !peer.is_some_and(|ConnectInfo(address)| address.ip().is_loopback()) {
        let body = json!({ "message": "only for loopback", "success": false });
        return json_response(StatusCode::FORBIDDEN, &body);
    }
    let Some(kind) = Episode::parse(&kind) else {
        let body = json!({ "message": "one of slow, errors, burn", "success": false });
        return json_response(StatusCode::NOT_FOUND, &body);
    };
    shared.want(kind);
    success::<Value>(json!({ "episode": kind.as_str(), "seconds": kind.lasts() }))
}

/// Runs `work` with the database on a blocking thread. A failure becomes the answer that new-api would give.
async fn on_store<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&mut Store) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Response> {
    let shared = Arc::clone(shared);
    let done =
        tokio::task::spawn_blocking(move || work(&mut Store::open(&shared.path, shared.generation)?)).await;
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::warn!(%error, "demo admin api cannot use its database");
            Err(refusal(error.to_string()))
        }
        Err(error) => {
            tracing::error!(%error, "demo admin api crashed");
            Err(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
