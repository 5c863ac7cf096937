//! `GET /metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Guard;
use crate::metrics::{Format, Metrics};

pub(super) async fn scrape(
    State(metrics): State<Metrics>,
    State(guard): State<Arc<Guard>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    guard.metrics(&headers, peer.ip()).await.map_err(IntoResponse::into_response)?;
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let format = Format::negotiate(text(header::ACCEPT));
    let agent = text(header::USER_AGENT).unwrap_or_default();
    let parts = metrics.scrape(format, (peer.ip(), agent)).await.map_err(|error| {
        tracing::error!("metrics cannot be encoded: {error}");
        (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be encoded, see the log\n").into_response()
    })?;
    let length: usize = parts.iter().map(bytes::Bytes::len).sum();
    let body = Body::from_stream(futures_util::stream::iter(parts.map(Ok::<_, std::convert::Infallible>)));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}
