//! `POST /webhook/alertmanager`: what Alertmanager and Grafana have to tell.
//!
//! The status decides what a sender does next. Alertmanager comes again after a 5xx and after nothing else, so all that
//! may get better is a 503; and 200 is said only when all that follows from the call is in monitor.db.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, State as Shared};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use futures_util::FutureExt as _;
use tokio::task::spawn_blocking;

use super::limits::{Gate, Limits, WaitsFor};
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

/// After a fault of ours a sender may come again so soon.
const SOON: Duration = Duration::from_secs(5);

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
        Self { intake, state, gate: Gate::new(LIMITS, WaitsFor::Nobody) }
    }

    /// Reads and takes in a call.
    async fn take(&self, headers: &HeaderMap, body: Body) -> Result<Taken, Problem> {
        body::wants_json(headers)?;
        let work = async {
            let bytes = body::read(body, headers, MAX_BODY, BODY_TIME).await?;
            // A large one takes a while.
            let parsed = blocking(move || Notification::parse(&bytes)).await;
            let notification = parsed.map_err(|bad| {
                // What was sent is not for the log.
                tracing::warn!(path = bad.path, "a call of the webhook cannot be understood");
                Problem::new(Kind::BadBody, bad.to_string())
            })?;
            Ok(self.intake.accept(notification).await?)
        };
        // A call that is given up may be taken in all the same; when it comes again, it is known.
        surviving(self.gate.enter(work)).await
    }

    fn count(&self, result: &'static str) {
        self.state.update_alerting(|status| *status.webhooks.entry(result).or_insert(0) += 1);
    }
}

/// Does what takes a while beside the others. A panic goes on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only the end of the program cancels it, and nobody is answered then.
        Err(_) => std::future::pending().await,
    }
}

/// A bug is no reason to lose an alert: Alertmanager comes again after a 503.
async fn surviving<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a call of the webhook panicked; its sender is asked to come again");
        Err(Problem::new(Kind::Again, "the program's log says more").retry_after(SOON))
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::message::Target;
    use crate::store::{DeliveryFilter, IncidentFilter, Store};

    #[tokio::test]
    async fn fault_12_a_disk_that_is_full_or_cannot_be_written_is_503_and_leaves_nothing_half_done() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("monitor.db")).unwrap();
        let (state, patience) = (State::default(), Duration::from_secs(600));
        let targets = vec![Target::Wecom];
        let intake = Intake::new(store.clone(), state.clone(), Clock::system(), targets, patience);
        let webhook = Webhook::new(intake, state);
        let alert = |number| {
            let labels =
                format!(r#"{{"alertname":"a{number}","action":"disable_channel","channel_id":"3"}}"#);
            format!(r#"{{"status":"firing","labels":{labels},"startsAt":"2026-11-23T04:50:53Z"}}"#)
        };
        let alerts: Vec<String> = (0..500).map(alert).collect();
        let body = format!(r#"{{"alerts":[{}]}}"#, alerts.join(","));
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let headers = HeaderMap::from_iter([kind]);
        let kept = || {
            let incidents = store.incidents_page(None, 999, &IncidentFilter::default()).unwrap().len();
            let acts = store.acts_page(None, 999).unwrap().len();
            (incidents, acts, store.deliveries_page(None, 999, &DeliveryFilter::default()).unwrap().len())
        };
        for (pragma, bad, good) in [("query_only", 1, 0), ("max_page_count", 1, 1_000_000)] {
            store.pretend(pragma, bad);
            let problem = webhook.take(&headers, Body::from(body.clone())).await.unwrap_err();
            store.pretend(pragma, good);
            let response = problem.into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{pragma}");
            assert!(response.headers().contains_key("retry-after"), "{pragma}");
            assert_eq!(kept(), (0, 0, 0), "{pragma}");
        }
        assert_eq!(webhook.take(&headers, Body::from(body)).await, Ok(Taken::Accepted));
        assert_eq!(kept(), (500, 500, 1));
    }

    #[tokio::test]
    async fn a_panic_is_a_reason_to_come_again() {
        let boom = || -> u8 { panic!("boom") };
        let here = surviving(async { Ok(boom()) }).await.unwrap_err();
        let beside = surviving(async { Ok(blocking(boom).await) }).await.unwrap_err();
        for problem in [here, beside] {
            let response = problem.clone().into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()["retry-after"], "5");
            assert_eq!(result_of(problem.kind()), "unavailable");
        }
        assert_eq!(surviving(async { Ok(blocking(|| 7).await) }).await, Ok(7));
    }
}
