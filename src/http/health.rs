//! `/healthz` and `/readyz`: is the process alive, and is what it shows complete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::state;

/// One part of the whole.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Whether it works.
    pub ready: bool,
    /// If not, why; else what it does.
    pub detail: String,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, Serialize)]
pub struct Readiness {
    /// `ready` or `not ready`.
    pub status: &'static str,
    /// Every part.
    pub parts: Vec<Part>,
}

/// Alive as long as it answers: a loop that dies ends the process.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(state): State<state::State>) -> (StatusCode, Json<Readiness>) {
    let parts = parts(&state);
    let ready = parts.iter().all(|part| part.ready);
    let (code, status) =
        if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    (code, Json(Readiness { status, parts }))
}

/// The state of every part, in words.
pub fn parts(state: &state::State) -> Vec<Part> {
    let (tail, directory) = (state.tail(), state.directory());
    let part = |name, ready, detail: String| Part { name, ready, detail };
    let log = match (&tail.error, tail.up) {
        (Some(error), _) => part("log", false, error.clone()),
        (None, true) => part("log", true, tail.source.clone()),
        (None, false) => part("log", false, "not read yet".to_owned()),
    };
    let history = if tail.caught_up {
        part("history", true, "read".to_owned())
    } else {
        part("history", false, format!("being read, {:.1} % done", tail.progress * 100.0))
    };
    let channels = match (&directory.error, directory.ready) {
        (Some(error), _) => part("channels", false, error.clone()),
        (None, true) => part("channels", true, directory.source.clone()),
        (None, false) => part("channels", false, "not read yet".to_owned()),
    };
    vec![log, history, channels]
}
