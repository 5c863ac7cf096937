//! A monitor under test: the same [`App`] that the binary runs, or the binary itself, and what it shows.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use serde_json::Value;
use tempfile::NamedTempFile;
use token_monitor::app::App;
use token_monitor::clock::Clock;
use token_monitor::config::{Config, Flags, Settings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::samples::Samples;
use crate::servers::free_port;

/// How long anything may take to come true.
const PATIENCE: Duration = Duration::from_mins(1);

/// What most tests configure: loopback, a fast poll, its own monitor.db in `dir`.
pub fn flags(database_url: &str, dir: &std::path::Path) -> Flags {
    Flags {
        database_url: Some(database_url.to_owned()),
        monitor_database_url: Some(format!("sqlite://{}", dir.join("monitor.db").display())),
        listen: Some("127.0.0.1:0".to_owned()),
        poll_interval: Some("50ms".to_owned()),
        ..Flags::default()
    }
}

/// A monitor in this process.
pub struct Monitor {
    pub address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Monitor {
    /// Builds and starts it.
    pub async fn start(flags: &Flags) -> Self {
        Self::start_at(flags, Clock::system()).await
    }

    /// The same with a clock of the test's own.
    pub async fn start_at(flags: &Flags, clock: Clock) -> Self {
        Self::start_with(resolved(flags), clock).await
    }

    /// The same with what no variable says.
    pub async fn start_with(config: Config, clock: Clock) -> Self {
        let app = build(config, clock).await;
        let (address, stop) = (app.address(), CancellationToken::new());
        let running = tokio::spawn(app.run(stop.clone()));
        Self { address, stop, running }
    }

    /// The same, ready to be asked.
    pub async fn ready(flags: &Flags) -> Self {
        let monitor = Self::start(flags).await;
        monitor.page().wait_ready().await;
        monitor
    }

    /// What it shows.
    pub fn page(&self) -> Page {
        Page::new(self.address)
    }

    /// What it answers; it must have been started without a password.
    pub fn api(&self) -> Api {
        Api::new(self.address, None)
    }

    /// Stops it in good order; it must have had no failure.
    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("no failed loop");
    }
}

/// What these flags say.
pub fn resolved(flags: &Flags) -> Config {
    let settings = Settings::from_flags(flags).expect("readable settings");
    Config::resolve(&settings).expect("a sound configuration")
}

/// The real binary, ended with the value.
pub struct Process {
    pub child: Child,
    pub address: SocketAddr,
    output: NamedTempFile,
}

impl Process {
    /// Starts `token-monitor serve` with these flags as environment, on a free port.
    pub fn spawn(flags: &Flags) -> Self {
        Self::spawn_at(free_address(), flags)
    }

    /// The same at an address of one's own choice, as after a restart.
    pub fn spawn_at(address: SocketAddr, flags: &Flags) -> Self {
        Self::run(address, command(&Flags { listen: Some(address.to_string()), ..flags.clone() }))
    }

    /// Starts a command that will listen on `address`.
    pub fn run(address: SocketAddr, mut command: Command) -> Self {
        let output = NamedTempFile::new().expect("a file for what it prints");
        // Appending, so that neither stream overwrites the other.
        let file = OpenOptions::new().append(true).open(output.path()).expect("opening the file");
        let (out, err) = (file.try_clone().expect("a second handle"), file);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("the binary starts");
        Self { child, address, output }
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        let bytes = std::fs::read(self.output.path()).expect("reading what it printed");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until these words stand in what it has printed.
    pub async fn prints(&self, words: &str) {
        self.prints_times(1, words).await;
    }

    /// The same, until they stand there so often.
    pub async fn prints_times(&self, times: usize, words: &str) {
        let began = Instant::now();
        while self.printed().matches(words).count() < times {
            assert!(began.elapsed() < PATIENCE, "not {times} times {words:?} in:\n{}", self.printed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it has ended, and gives its exit code.
    pub async fn exit_code(&mut self) -> i32 {
        let child = std::cell::RefCell::new(&mut self.child);
        eventually("the process has ended", async || {
            child.borrow_mut().try_wait().expect("asking").is_some()
        })
        .await;
        self.child.wait().expect("it has ended").code().expect("not ended by a signal")
    }

    /// What it shows.
    pub fn page(&self) -> Page {
        Page::new(self.address)
    }

    /// SIGKILL: no handler, no last words.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(done.expect("kill runs").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that nobody has.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// The binary with a clean environment and these flags in it; add a subcommand with `.arg`.
pub fn command(flags: &Flags) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-monitor"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let variables = [
        ("DATABASE_URL", &flags.database_url),
        ("LOG_DATABASE_URL", &flags.log_database_url),
        ("MONITOR_DATABASE_URL", &flags.monitor_database_url),
        ("ACCESS_PASSWORD", &flags.access_password),
        ("METRICS_TOKEN", &flags.metrics_token),
        ("METRICS_PUBLIC", &flags.metrics_public),
        ("NEW_API_BASE_URL", &flags.new_api_base_url),
        ("NEW_API_KEY", &flags.new_api_key),
        ("BREAKER_MODE", &flags.breaker_mode),
        ("BREAKER_MAX_PER_HOUR", &flags.breaker_max_per_hour),
        ("WECOM_WEBHOOK", &flags.wecom_webhook),
        ("LISTEN", &flags.listen),
        ("POLL_INTERVAL", &flags.poll_interval),
        ("LATE_WINDOW", &flags.late_window),
        ("HISTORY", &flags.history),
        ("LIMITS_FILE", &flags.limits_file),
        ("MAX_SERIES", &flags.max_series),
        ("EXTRA_LABELS", &flags.extra_labels),
        ("TIMEZONE", &flags.timezone),
        ("LANGUAGE", &flags.language),
        ("LOG_FORMAT", &flags.log_format),
        ("RUST_LOG", &flags.rust_log),
        ("BODY_PRESET", &flags.body_preset),
        ("BODY_TABLE", &flags.body_table),
        ("BODY_REQUEST_COLUMN", &flags.body_request_column),
        ("BODY_RESPONSE_COLUMN", &flags.body_response_column),
        ("BODY_JOIN", &flags.body_join),
    ];
    for (name, value) in variables {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

/// The pages of a monitor.
#[derive(Clone)]
pub struct Page {
    base: String,
    client: reqwest::Client,
}

impl Page {
    /// Those at an address.
    pub fn new(address: SocketAddr) -> Self {
        Self::seen_by(address, "test")
    }

    /// The same, read by somebody else: monitors tell scrapers apart by their name.
    pub fn seen_by(address: SocketAddr, agent: &str) -> Self {
        provide_cryptography();
        let client = reqwest::Client::builder().user_agent(agent).timeout(Duration::from_secs(10)).build();
        Self { base: format!("http://{address}"), client: client.expect("a client") }
    }

    /// Status and body of a GET; None if nobody answers.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        self.get_as(path, "*/*").await
    }

    /// The same with an `Accept` header.
    pub async fn get_as(&self, path: &str, accept: &str) -> Option<(u16, String)> {
        let request = self.client.get(format!("{}{path}", self.base)).header("accept", accept);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    /// All samples of `/metrics` in the text format.
    pub async fn samples(&self) -> Samples {
        let (status, text) = self.get("/metrics").await.expect("an answer");
        assert_eq!(status, 200, "{text}");
        Samples::parse(&text)
    }

    /// Waits until `/readyz` says so.
    pub async fn wait_ready(&self) {
        eventually("the monitor is ready", async || matches!(self.get("/readyz").await, Some((200, _))))
            .await;
    }

    /// Waits until the samples are as wanted, and gives them.
    pub async fn wait_samples(&self, what: &str, wanted: impl Fn(&Samples) -> bool) -> Samples {
        eventually(what, async || wanted(&self.samples().await)).await;
        self.samples().await
    }
}

/// The JSON API of a monitor.
#[derive(Clone)]
pub struct Api {
    base: String,
    password: Option<String>,
    client: reqwest::Client,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// A header as text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header of ASCII"))
    }

    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl Api {
    /// That of an address, asked with a password or without one.
    pub fn new(address: SocketAddr, password: Option<&str>) -> Self {
        provide_cryptography();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
        Self { base: format!("http://{address}"), password: password.map(str::to_owned), client }
    }

    /// The answer to a request, of whatever status; `path` begins with `/`.
    pub async fn ask(&self, path: &str) -> Answer {
        self.send(self.client.get(format!("{}{path}", self.base))).await
    }

    /// The same with another method.
    pub async fn ask_by(&self, method: &str, path: &str) -> Answer {
        let method = method.parse().expect("a method");
        self.send(self.client.request(method, format!("{}{path}", self.base))).await
    }

    /// The answer to a POST of JSON.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let request = self.client.post(format!("{}{path}", self.base));
        self.send(request.header("content-type", "application/json").body(body.to_owned())).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let request = match &self.password {
            Some(password) => request.bearer_auth(password),
            None => request,
        };
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, text: answer.text().await.expect("a body") }
    }

    /// The JSON of an answer, which must be one; `route` is the path below `/api/v1/`.
    pub async fn get(&self, route: &str) -> Value {
        let answer = self.ask(&format!("/api/v1/{route}")).await;
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/json", "{route}");
        answer.json()
    }

    /// The items of a list from this page to its end, by the links to the next pages, and the number of pages.
    pub async fn pages(&self, route: &str) -> (Vec<Value>, usize) {
        let (mut items, mut pages) = (Vec::new(), 0);
        let mut next = Some(format!("/api/v1/{route}"));
        while let Some(path) = next {
            let answer = self.ask(&path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text);
            let Value::Object(mut page) = answer.json() else { panic!("no list: {}", answer.text) };
            let Some(Value::Array(some)) = page.remove("items") else { panic!("no items: {page:?}") };
            items.extend(some);
            next = page["next"].as_str().map(str::to_owned);
            pages += 1;
            assert!(pages < 1000, "{route} has no end");
        }
        (items, pages)
    }

    /// The problem of this status that is answered instead.
    pub async fn problem(&self, route: &str, status: u16) -> Value {
        let answer = self.ask(&format!("/api/v1/{route}")).await;
        problem(route, &answer, status)
    }
}

/// The problem that an answer is: complete, and of this status.
pub fn problem(what: &str, answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{what}: {}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{what}: {problem}");
    for field in ["type", "title", "detail"] {
        assert!(
            problem[field].as_str().is_some_and(|text| !text.is_empty()),
            "{what}: no {field}: {problem}"
        );
    }
    problem
}

/// A client of our own needs it where no monitor runs in this process.
pub fn provide_cryptography() {
    // Fails if there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Builds it. One that was stopped just before in this process, which does not end with it, may hold monitor.db for as long as a
/// read on another thread takes on a busy machine.
pub async fn build(config: Config, clock: Clock) -> App {
    let began = Instant::now();
    loop {
        match App::build(config.clone(), clock.clone()).await {
            Ok(app) => return app,
            Err(error) if error.to_string().contains("is in use by another") => {
                assert!(began.elapsed() < PATIENCE, "{error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => panic!("an app: {error:#}"),
        }
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "not true after {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A folder that goes away with the value, for monitor.db.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// A new one.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

/// Unix seconds now.
pub fn now() -> i64 {
    Clock::system().unix()
}
