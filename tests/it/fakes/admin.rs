//! new-api's admin API on a database of its own: the demo's, of each generation, with trouble on demand.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;
use serde_json::json;
use token_monitor::demo::world::ADMIN_TOKEN;
use token_monitor::demo::{Demo, Generation, Options};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Folder, now};

/// Which routes and which words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Up to rc.15.
    Old,
    /// rc.16 to rc.21: the new route, the old way to turn away.
    Mixed,
    /// rc.22 and later.
    New,
}

impl Style {
    pub const ALL: [Self; 3] = [Self::Old, Self::Mixed, Self::New];

    fn generation(self) -> Generation {
        if self == Self::Old { Generation::Put } else { Generation::Post }
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This is answered, and nothing done.
    Answer(u16, &'static str),
    /// The same with a `Retry-After` in seconds.
    Busy(u64),
    /// It is done, and this answered.
    DoneAnd(u16, &'static str),
    /// It is done, and nobody answers for longer than anybody waits.
    DoneAndSilent,
    /// It is answered as it should be, after some time.
    Slow(Duration),
    /// As if nothing was wrong.
    None,
}

/// What is to go wrong with requests that change something, one after the other, and what was asked.
#[derive(Debug, Default)]
struct Script {
    writes: VecDeque<Fault>,
    /// For every request, when the list is empty.
    always: Option<Fault>,
    asked: Vec<String>,
}

/// The gateway.
pub struct FakeAdmin {
    pub address: SocketAddr,
    pub database: PathBuf,
    folder: Folder,
    script: Arc<Mutex<Script>>,
    demo: Mutex<Demo>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// A demo's database takes seconds to make, so it is made once.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(Folder, PathBuf)> = OnceLock::new();
    let (_, path) = TEMPLATE.get_or_init(|| {
        let folder = Folder::new();
        let options = Options { dir: folder.path(), ..Options::default() };
        let demo = Demo::open(&options, now()).expect("a demo");
        let path = demo.database_path().to_owned();
        drop(demo);
        let connection = Connection::open(&path).expect("the demo's database");
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("all in one file");
        (folder, path)
    });
    path
}

impl FakeAdmin {
    pub async fn start(style: Style) -> Self {
        let folder = Folder::new();
        let to = folder.path().join("one-api.db");
        let from = tokio::task::spawn_blocking(template).await.expect("a template");
        std::fs::copy(from, &to).expect("a copy");
        Self::serve(style, folder, SocketAddr::from(([127, 0, 0, 1], 0)), Arc::default()).await
    }

    async fn serve(style: Style, folder: Folder, address: SocketAddr, script: Arc<Mutex<Script>>) -> Self {
        let options = Options { dir: folder.path(), generation: style.generation(), ..Options::default() };
        let demo = tokio::task::spawn_blocking(move || Demo::open(&options, now()).expect("a demo"));
        let demo = demo.await.expect("a demo");
        let told = (Arc::clone(&script), style);
        let router: Router = demo.admin_router().layer(middleware::from_fn_with_state(told, play));
        let listener = TcpListener::bind(address).await.expect("a port");
        let (address, stop) = (listener.local_addr().expect("an address"), CancellationToken::new());
        let end = stop.clone().cancelled_owned();
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = tokio::spawn(async move {
            axum::serve(listener, service).with_graceful_shutdown(end).await.expect("a server");
        });
        let database = demo.database_path().to_owned();
        Self { address, database, folder, script, demo: Mutex::new(demo), stop, served }
    }

    /// The same gateway after an upgrade, at the same address.
    pub async fn upgraded(self, style: Style) -> Self {
        self.stop.cancel();
        self.served.await.expect("it has ended");
        drop(self.demo);
        Self::serve(style, self.folder, self.address, self.script).await
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn database_url(&self) -> String {
        format!("sqlite://{}", self.database.display())
    }

    /// The next requests that change something go so.
    pub fn writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().expect("no panic").writes.extend(faults);
    }

    /// From now on all requests go so for which nothing else was said.
    pub fn always(&self, fault: Fault) {
        self.script.lock().expect("no panic").always = Some(fault);
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        let mut script = self.script.lock().expect("no panic");
        (script.always, script.writes) = (None, VecDeque::new());
    }

    /// What was asked, as `METHOD path body`.
    pub fn asked(&self) -> Vec<String> {
        self.script.lock().expect("no panic").asked.clone()
    }

    /// What was asked that changes something.
    pub fn written(&self) -> Vec<String> {
        self.asked().into_iter().filter(|line| !line.starts_with("GET ")).collect()
    }

    /// A person on new-api's own page.
    pub fn by_hand(&self, channel: i64, status: i64) {
        self.sql(&format!(
            "UPDATE abilities SET enabled = {} WHERE channel_id = {channel}",
            i64::from(status == 1)
        ));
        self.sql(&format!(
            "UPDATE channels SET status = {status}, other_info = json_set(COALESCE(NULLIF(other_info, ''), '{{}}'), \
             '$.status_time', {}) WHERE id = {channel}",
            now() + 1000
        ));
    }

    pub fn status(&self, channel: i64) -> i64 {
        self.number(&format!("SELECT status FROM channels WHERE id = {channel}"))
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.connection().query_row(sql, [], |row| row.get(0)).expect("a number")
    }

    pub fn sql(&self, sql: &str) {
        self.connection().execute_batch(sql).expect("done");
    }

    fn connection(&self) -> Connection {
        let connection = Connection::open(&self.database).expect("the database");
        connection.busy_timeout(Duration::from_secs(10)).expect("patience");
        connection
    }
}

type Told = (Arc<Mutex<Script>>, Style);

async fn play(State((script, style)): State<Told>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let line = format!("{} {} {}", parts.method, parts.uri.path(), String::from_utf8_lossy(&body));
    let is_read = parts.method == Method::GET;
    let fault = {
        let mut script = script.lock().expect("no panic");
        script.asked.push(line.trim().to_owned());
        let next = if is_read { None } else { script.writes.pop_front() };
        next.or_else(|| script.always.clone()).unwrap_or(Fault::None)
    };
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if style == Style::Mixed
        && let Some(refusal) = turned_away(header("authorization"), header("new-api-user"))
    {
        return refusal;
    }
    let request = Request::from_parts(parts, Body::from(body));
    match fault {
        Fault::Answer(status, body) => answer(status, body),
        Fault::Busy(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Fault::DoneAnd(status, body) => {
            next.run(request).await;
            answer(status, body)
        }
        Fault::DoneAndSilent => {
            next.run(request).await;
            silence().await
        }
        Fault::Slow(pause) => {
            tokio::time::sleep(pause).await;
            next.run(request).await
        }
        Fault::None => next.run(request).await,
    }
}

/// As rc.16 to rc.21 do.
fn turned_away(token: Option<&str>, user: Option<&str>) -> Option<Response> {
    let words = |status, text: &str| {
        let body = json!({ "message": format!("Unauthorized, {text}"), "success": false });
        Some(answer(status, &body.to_string()))
    };
    if token.map(|token| token.trim_start_matches("Bearer ")) != Some(ADMIN_TOKEN) {
        return words(200, "invalid access token");
    }
    match user {
        None => words(401, "New-Api-User header not provided"),
        Some("1") => None,
        Some(_) => words(401, "New-Api-User does not match logged in user"),
    }
}

async fn silence() -> Response {
    tokio::time::sleep(Duration::from_secs(20)).await;
    StatusCode::GATEWAY_TIMEOUT.into_response()
}

fn answer(status: u16, body: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_owned()).into_response()
}
