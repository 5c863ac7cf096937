//! The JSON API below `/api/v1`: authentication, limits, reading of queries, and the routes.
//!
//! A request is noted, its password checked, its query read, and only then it takes one of the few places at
//! work: who may not ask, or asks wrongly, costs nothing.

mod alerting;
mod answers;
mod examples;
mod measures;
mod openapi;
mod path;
mod routes;
mod views;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, RawPathParams, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;
use futures_util::FutureExt;
use jiff::Timestamp;
use tower_http::compression::predicate::SizeAbove;
use tower_http::compression::{CompressionLayer, CompressionLevel};

use super::body::{read, wants_json};
use super::json::Document;
use super::limits::{Gate, Limits, WaitsFor};
use super::params::{Known, Query};
use super::problem::{Kind, Problem};
use super::{Guard, Parts, only_posts};
use crate::clock::Clock;
pub use answers::{Answers, Page};
pub use measures::{Active, ActiveChange, Measures, MeasuresChange};
use routes::{Call, Route, Verb};
pub use views::{
    Answer, Change, ChannelMeasures, ChannelState, GroupChannels, LastError, List, ModelMeasures, ModelState,
    Overview, RequestRows, Shares, SlowRequest, Totals, Trend, TrendPoint, UserMeasures,
};

/// Where the API is.
pub const BASE: &str = "/api/v1";

/// Answers smaller than this are sent as they are: compressed they are hardly smaller.
const COMPRESS_ABOVE: u16 = 1024;

/// Longest body of a request, in bytes; and the longest time for it to arrive.
const MAX_BODY: usize = 8 * 1024;
const BODY_TIME: Duration = Duration::from_secs(5);

/// Everything that the routes share.
#[derive(Debug)]
pub struct Api {
    /// Where answers come from.
    answers: Answers,
    /// How far back anything is known.
    history: Duration,
    clock: Clock,
    /// For routes that read new-api's log, which may keep them waiting, and for those that do not.
    log_gate: Gate,
    gate: Gate,
    /// For those who ask for something to be done, and wait for it.
    act_gate: Gate,
    routes: Vec<Route>,
    /// The OpenAPI document, written.
    document: Document,
}

impl Api {
    /// The API over these answers.
    ///
    /// # Errors
    /// If its document cannot be written.
    pub fn new(answers: Answers, history: Duration, clock: Clock) -> anyhow::Result<Self> {
        let routes = routes::routes();
        let document = Document::of(&openapi::document(&routes))
            .map_err(|_| anyhow::anyhow!("the OpenAPI document cannot be written"))?;
        let [log_gate, gate, act_gate] = [WaitsFor::Database, WaitsFor::Nobody, WaitsFor::NewApi]
            .map(|waits_for| Gate::new(Limits::default(), waits_for));
        Ok(Self { answers, history, clock, log_gate, gate, act_gate, routes, document })
    }

    /// The time, to the second.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.unix()).unwrap_or_default()
    }
}

/// Everything below [`BASE`], with the answers for what is not there.
pub(super) fn router(parts: &Parts) -> Router<Parts> {
    let mut router = Router::new();
    for (index, route) in parts.api.routes.iter().enumerate() {
        let handler = move |State(api): State<Arc<Api>>,
                            path: Result<RawPathParams, RawPathParamsRejection>,
                            RawQuery(query): RawQuery,
                            headers: HeaderMap,
                            body: Body| async move {
            api.answer(index, path, query.as_deref().unwrap_or_default(), &headers, body).await
        };
        let method = match route.verb {
            Verb::Get => get(handler),
            Verb::Post => post(handler).fallback(only_posts),
        };
        router = router.route(&format!("{BASE}{}", route.path), method);
    }
    let compression = CompressionLayer::new()
        .gzip(true)
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESS_ABOVE));
    // Not `nest`, whose fallback does not get `/api/v1/`.
    let elsewhere = ["", "/", "/{*rest}"];
    let router = elsewhere
        .iter()
        .fold(router, |router, rest| router.route(&format!("{BASE}{rest}"), any(no_such_route)));
    router
        .method_not_allowed_fallback(method_not_allowed)
        .layer(compression)
        .layer(from_fn_with_state(parts.clone(), authorize))
}

/// Lets pass who knows the password.
async fn authorize(
    State(guard): State<Arc<Guard>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    guard.api(request.headers(), peer.ip()).await?;
    Ok(next.run(request).await)
}

async fn method_not_allowed() -> Response {
    let problem = Problem::new(Kind::MethodNotAllowed, "this route is only read").accepted("GET, HEAD");
    let mut response = problem.into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    response
}

async fn no_such_route(State(api): State<Arc<Api>>) -> Problem {
    let paths: Vec<String> = api.routes.iter().map(|route| format!("{BASE}{}", route.path)).collect();
    Problem::new(Kind::NoSuchRoute, "there is no such route in this API").accepted(paths.join(", "))
}

impl Api {
    async fn answer(
        self: Arc<Self>,
        index: usize,
        path: Result<RawPathParams, RawPathParamsRejection>,
        query: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        let Some(route) = self.routes.get(index) else {
            return Err(Problem::internal(&"a route is not in the table"));
        };
        // Rows have whole seconds, so nothing finer is true of a window.
        let now = self.now();
        let today = now.duration_since(self.answers.midnight(now)).unsigned_abs();
        let known = Known { now, today, history: self.history, known_from: self.answers.known_from() };
        let query = Query::parse(route.id, &route.accepts, query, known)?;
        let argument = argument(route, path)?;
        let body = match route.verb {
            Verb::Get => Bytes::new(),
            Verb::Post => {
                wants_json(headers)?;
                read(body, headers, MAX_BODY, BODY_TIME).await?
            }
        };
        let call = Call { api: self.clone(), query, argument, body };
        let work = async {
            // A bug in one answer is that answer's; the next request finds everything as it was.
            let answer = AssertUnwindSafe((route.handler)(call)).catch_unwind().await;
            answer.unwrap_or_else(|_| Err(Problem::internal(&format!("{} panicked", route.path))))
        };
        let gate = match route.verb {
            Verb::Post => &self.act_gate,
            Verb::Get if route.reads_log => &self.log_gate,
            Verb::Get => &self.gate,
        };
        Ok(gate.enter(work).await?.respond(headers, route.freshness))
    }
}

/// The value of the path's parameter, decoded.
fn argument(route: &Route, path: Result<RawPathParams, RawPathParamsRejection>) -> Result<String, Problem> {
    let Some(param) = route.in_path else { return Ok(String::new()) };
    let path = path.map_err(|_| {
        Problem::parameter(param.name(), "the path is not percent-encoded UTF-8", "percent-encoded UTF-8")
    })?;
    let value = path.iter().find(|(name, _)| *name == param.name()).map(|(_, value)| value.to_owned());
    Ok(value.unwrap_or_default())
}

#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod tests;
