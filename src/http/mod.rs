//! The HTTP surface: one route table, thin handlers.

pub mod api;
mod auth;
mod body;
mod health;
mod home;
mod json;
mod limits;
mod metrics;
pub mod params;
pub mod problem;
mod serve;
mod webhook;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Access;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::state::State;
pub use api::{Answers, Api};
pub use auth::Guard;
use problem::Problem;
use serve::Bounds;
use webhook::Webhook;

/// What handlers may use; each takes the part it needs.
#[derive(Debug, Clone, FromRef)]
pub struct Parts {
    /// What the loops know.
    pub state: State,
    /// Answers scrapes.
    pub metrics: Metrics,
    /// Answers questions.
    pub api: Arc<Api>,
    /// Who may read what.
    pub guard: Arc<Guard>,
    /// The time.
    pub clock: Clock,
    /// Takes in what the webhook brings.
    pub webhook: Webhook,
}

impl Parts {
    /// Parts with a guard made of `access`.
    pub fn new(
        state: State,
        metrics: Metrics,
        api: Api,
        access: Access,
        clock: Clock,
        intake: Intake,
    ) -> Self {
        let (guard, webhook) = (Arc::new(Guard::new(access)), Webhook::new(intake, state.clone()));
        Self { state, metrics, api: Arc::new(api), guard, clock, webhook }
    }
}

/// All routes.
pub fn router(parts: Parts) -> Router {
    let guard = parts.guard.clone();
    Router::new()
        .route("/", get(home::page))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::scrape))
        // Both ways, for a redirect would turn a message into an empty request.
        .route(webhook::PATH, webhook::routes())
        .route(&format!("{}/", webhook::PATH), webhook::routes())
        .merge(api::router(&parts))
        // Said here, for the one that came with the API asks for its password.
        .fallback(no_such_page)
        .with_state(parts)
        .layer(from_fn_with_state(guard, only_own_host))
        .layer(map_response(harden))
        .layer(from_fn(limits::note))
}

async fn no_such_page() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "there is nothing here\n")
}

/// What a route says that only takes POST.
async fn only_posts() -> Response {
    let problem =
        Problem::new(problem::Kind::MethodNotAllowed, "this route only takes POST").accepted("POST");
    let mut response = problem.into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// Turns away who asks for a foreign host where no password is needed.
async fn only_own_host(Shared(guard): Shared<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.host(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal)
            if [api::BASE, webhook::PATH].iter().any(|base| request.uri().path().starts_with(base)) =>
        {
            Problem::from(refusal).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Nothing here is meant for frames, sniffers or other sites.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    response
}

/// Serves until `stop`; requests in progress are finished.
///
/// # Errors
/// None so far; the signature is that of all loops.
pub async fn serve(listener: TcpListener, parts: Parts, stop: CancellationToken) -> anyhow::Result<()> {
    serve::serve(listener, router(parts), Bounds::default(), stop).await;
    Ok(())
}
