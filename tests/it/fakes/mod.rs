//! Stand-ins on loopback for those whom the monitor talks to: the three chat services, and new-api's admin API. They
//! answer as the real ones do, remember every request, and fail as a test wishes.

pub mod admin;
mod feishu;
mod telegram;
mod wecom;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use token_monitor::config::{DeliveryConfig, Flags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub use feishu::Feishu;
pub use telegram::Telegram;
pub use wecom::Wecom;

/// What a service does with one request instead of what it would do.
#[derive(Debug, Clone)]
pub enum Script {
    /// It answers this: status and JSON.
    Answer(u16, Value),
    /// It answers this: status and text, which is no JSON.
    Text(u16, &'static str),
    /// It says nothing and keeps the connection.
    Silence,
    /// It ends the connection in the middle of its answer.
    Cut,
    /// It takes the message and ends the connection without an answer.
    TakenAndCut,
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// What was sent.
    pub body: Value,
    /// The message is in the chat.
    pub taken: bool,
}

/// What makes one service different from the others.
pub trait Service: Send + 'static {
    /// The variables by which the monitor finds it.
    fn variables(&self, address: SocketAddr) -> Vec<(&'static str, String)>;

    /// Answers a request, `at` which time; true if the message is in the chat then.
    fn answer(&mut self, path: &str, body: &Value, at: Instant) -> (u16, Value, bool);

    /// The words of a message, whatever its shape.
    fn words(&self, body: &Value) -> String;
}

struct Inner<S> {
    service: S,
    scripts: VecDeque<Script>,
    delay: Duration,
    seen: Vec<Seen>,
}

/// A service that listens.
pub struct Fake<S> {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner<S>>>,
    listening: JoinHandle<()>,
}

impl<S> Drop for Fake<S> {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl<S: Service> Fake<S> {
    /// Starts it.
    pub async fn start(service: S) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (scripts, seen) = (VecDeque::new(), Vec::new());
        let inner = Arc::new(Mutex::new(Inner { service, scripts, delay: Duration::ZERO, seen }));
        let shared = Arc::clone(&inner);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, inner, listening }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next requests are dealt with like this, one each.
    pub fn script(&self, scripts: impl IntoIterator<Item = Script>) {
        self.lock().scripts.extend(scripts);
    }

    /// Every answer takes so long from now on.
    pub fn slow(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Changes the service.
    pub fn change(&self, change: impl FnOnce(&mut S)) {
        change(&mut self.lock().service);
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// The words of every message in the chat.
    pub fn messages(&self) -> Vec<String> {
        let inner = self.lock();
        inner.seen.iter().filter(|seen| seen.taken).map(|seen| inner.service.words(&seen.body)).collect()
    }

    /// The variables by which the monitor finds it.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        self.lock().service.variables(self.address)
    }
}

/// The flags of these variables.
pub fn flags_of(variables: &[(&'static str, String)], mut flags: Flags) -> Flags {
    for (name, value) in variables {
        let value = Some(value.clone());
        match *name {
            "TELEGRAM_BOT_TOKEN" => flags.telegram_bot_token = value,
            "TELEGRAM_CHAT_ID" => flags.telegram_chat_id = value,
            "TELEGRAM_THREAD_ID" => flags.telegram_thread_id = value,
            "TELEGRAM_API_BASE" => flags.telegram_api_base = value,
            "TELEGRAM_PROXY" => flags.telegram_proxy = value,
            "FEISHU_WEBHOOK" => flags.feishu_webhook = value,
            "FEISHU_SECRET" => flags.feishu_secret = value,
            "WECOM_WEBHOOK" => flags.wecom_webhook = value,
            other => panic!("no flag for {other}"),
        }
    }
    flags
}

/// The bots of these variables.
pub fn bots(variables: &[(&'static str, String)]) -> DeliveryConfig {
    let flags = flags_of(
        variables,
        Flags {
            database_url: Some("sqlite:///nowhere.db".to_owned()),
            listen: Some("127.0.0.1:0".to_owned()),
            ..Flags::default()
        },
    );
    let settings = token_monitor::config::Settings::from_flags(&flags).expect("readable settings");
    token_monitor::config::Config::resolve(&settings).expect("a sound configuration").delivery
}

/// Answers the requests of a connection, one after the other.
async fn serve<S: Service>(mut stream: TcpStream, inner: Arc<Mutex<Inner<S>>>) {
    let mut buffer = Vec::new();
    while let Some((path, body)) = request(&mut stream, &mut buffer).await {
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (script, delay) = {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            (inner.scripts.pop_front(), inner.delay)
        };
        let at = Instant::now();
        let note = |taken: bool| {
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.seen.push(Seen { at, body: body.clone(), taken });
        };
        let (status, text) = match script {
            Some(Script::Silence) => {
                note(false);
                std::future::pending().await
            }
            Some(Script::Cut) => {
                note(false);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"").await;
                return;
            }
            Some(Script::TakenAndCut) => return note(true),
            Some(Script::Text(status, text)) => {
                note(false);
                (status, text.to_owned())
            }
            Some(Script::Answer(status, answer)) => {
                note(false);
                (status, answer.to_string())
            }
            None => {
                let (status, answer, taken) = {
                    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
                    inner.service.answer(&path, &body, at)
                };
                note(taken);
                (status, answer.to_string())
            }
        };
        tokio::time::sleep(delay).await;
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&token_monitor::clock::Clock::system().now())
            .expect("a date");
        let head = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ndate: {date}\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        if stream.write_all(format!("{head}{text}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Path and body of the next request; None if there is none.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            if buffer.len() >= whole {
                let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
                let body = buffer[end + 4..whole].to_vec();
                buffer.drain(..whole);
                return Some((path, body));
            }
        }
        let mut chunk = [0; 8192];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Requests of the last so and so long.
#[derive(Debug, Default)]
pub struct Window(Vec<Instant>);

impl Window {
    /// Notes one; whether there are more than `most` in `time` with it. A request that is refused counts as well.
    pub fn exceeds(&mut self, at: Instant, most: usize, time: Duration) -> bool {
        self.0.retain(|seen| at.duration_since(*seen) < time);
        self.0.push(at);
        self.0.len() > most
    }
}

/// What no log, error or file may hold.
pub const SECRETS: [&str; 4] = ["TELEGRAM-SECRET", feishu::HOOK, feishu::SECRET, wecom::KEY];

/// The last part of a Feishu bot's address.
pub fn feishu_hook() -> &'static str {
    feishu::HOOK
}
