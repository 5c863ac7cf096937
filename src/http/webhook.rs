//! `POST /webhook/alertmanager`: what Alertmanager and Grafana have to tell.
//!
//! The status decides what a sender does next. Alertmanager comes again after a 5xx and after nothing else, so all that
//! may get better is a 503; and 200 is said only when all that follows from the call is in monitor.db.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use tokio::task::spawn_blocking;

use super::limits::{Gate, Limits};
use super::problem::{Kind, Problem};
use super::{Guard, Parts, body, only_posts};
use crate::alert::Notification;
use crate::intake::{Intake, Taken};
use crate::state::State;

/// Where it is, with or without a slash at its end.
pub const PATH: &str = "/webhook/alertmanager";

/// Longest body. Groups are not limited in size by default, and what is too large is lost.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Longest time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(5);

/// Calls in work, whose bodies are in memory; those that wait, and for how long; and how long one may take in all.
/// Alertmanager gives up a call after ten seconds at the earliest, and is to hear of a trouble before.
const LIMITS: Limits =
    Limits { working: 8, waiting: 256, patience: Duration::from_secs(2), time: Duration::from_secs(7) };

/// Takes in calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhook {
    intake: Intake,
    state: State,
    gate: Gate,
}

impl Webhook {
    /// A webhook that hands its calls to `intake`.
    pub fn new(intake: Intake, state: State) -> Self {
        Self { intake, state, gate: Gate::new(LIMITS) }
    }

    /// Reads and takes in a call.
    async fn take(&self, headers: &HeaderMap, body: Body) -> Result<Taken, Problem> {
        body::wants_json(headers)?;
        let work = async {
            let bytes = body::read(body, headers, MAX_BODY, BODY_TIME).await?;
            // A large one takes a while.
            let parsed = spawn_blocking(move || Notification::parse(&bytes)).await;
            let notification = parsed.map_err(|error| Problem::internal(&error))?.map_err(|bad| {
                // What was sent is not for the log.
                tracing::warn!(path = bad.path, "a call of the webhook cannot be understood");
                Problem::new(Kind::BadBody, bad.to_string())
            })?;
            Ok(self.intake.accept(notification).await?)
        };
        // A call that is given up may be taken in all the same; when it comes again, it is known.
        self.gate.enter(work).await
    }

    fn count(&self, result: &'static str) {
        self.state.update_alerting(|status| *status.webhooks.entry(result).or_insert(0) += 1);
    }
}

/// What stands at [`PATH`].
pub fn routes() -> MethodRouter<Parts> {
    post(receive).fallback(only_posts)
}

async fn receive(
    Shared(guard): Shared<Arc<Guard>>,
    Shared(webhook): Shared<Webhook>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // Nothing of the body is read for one who may not send it.
    let taken = match guard.api(&headers, peer.ip()).await {
        Ok(()) => webhook.take(&headers, body).await,
        Err(refusal) => Err(refusal.into()),
    };
    match taken {
        Ok(taken) => {
            webhook.count(taken.as_str());
            let said = format!("{{\"result\":\"{}\"}}\n", taken.as_str());
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], said).into_response()
        }
        Err(problem) => {
            webhook.count(result_of(problem.kind()));
            let mut response = problem.into_response();
            // What is left of a body that was not read is not the next request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

/// The label value of `result` for what went wrong.
fn result_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Unauthorized | Kind::TooManyFailures | Kind::ForeignHost => "unauthorized",
        Kind::BodyTooLarge => "too_large",
        Kind::BadBody | Kind::BodyTooSlow | Kind::NotJson => "malformed",
        _ => "unavailable",
    }
}
