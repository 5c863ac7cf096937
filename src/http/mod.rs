//! The HTTP surface: one route table, thin handlers.

mod auth;
mod health;
mod home;
mod metrics;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Access;
use crate::metrics::Metrics;
use crate::state::State;
pub use auth::Guard;

/// What handlers may use; each takes the part it needs.
#[derive(Debug, Clone, FromRef)]
pub struct Parts {
    /// What the loops know.
    pub state: State,
    /// Answers scrapes.
    pub metrics: Metrics,
    /// Who may read what.
    pub guard: Arc<Guard>,
    /// The time.
    pub clock: Clock,
}

impl Parts {
    /// Parts with a guard made of `access`.
    pub fn new(state: State, metrics: Metrics, access: Access, clock: Clock) -> Self {
        Self { state, metrics, guard: Arc::new(Guard::new(access)), clock }
    }
}

/// All routes.
pub fn router(parts: Parts) -> Router {
    Router::new()
        .route("/", get(home::page))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::scrape))
        .with_state(parts)
        .layer(axum::middleware::map_response(harden))
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
/// If the listener fails.
pub async fn serve(listener: TcpListener, parts: Parts, stop: CancellationToken) -> anyhow::Result<()> {
    let service = router(parts).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}
