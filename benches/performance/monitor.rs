//! The monitor that is measured: the real binary, or its follower alone.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use jiff::tz::TimeZone;
use token_monitor::clock::Clock;
use token_monitor::config::{COMMIT_ROWS, TailConfig};
use token_monitor::newapi::Database;
use token_monitor::newapi::dsn::Dsn;
use token_monitor::refresh::Refresher;
use token_monitor::state::State;
use token_monitor::store::Store;
use token_monitor::tail::{Progress, Tailer};
use token_monitor::usage::Rules;

use crate::data::Table;

/// The real binary.
pub struct Process {
    child: Child,
    address: SocketAddr,
    began: Instant,
}

impl Process {
    pub fn start(url: &str, store: &Path, poll: &str) -> anyhow::Result<Self> {
        Self::start_with(url, store, poll, &[])
    }

    /// The same with more variables.
    pub fn start_with(
        url: &str,
        store: &Path,
        poll: &str,
        variables: &[(&str, &OsStr)],
    ) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_token-monitor"))
            .env("DATABASE_URL", url)
            .env("MONITOR_DATABASE_URL", format!("sqlite://{}", store.display()))
            .env("LISTEN", address.to_string())
            .env("POLL_INTERVAL", poll)
            .env("MAX_SERIES", "100000")
            .env("RUST_LOG", "warn")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { child, address, began })
    }

    /// Waits for `/readyz`; gives the time since the start.
    pub fn wait_ready(&mut self) -> anyhow::Result<Duration> {
        loop {
            if self.get("/readyz", "*/*").is_ok_and(|body| body.contains("\"ready\",\"parts\"")) {
                return Ok(self.began.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the monitor ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn get(&self, path: &str, accept: &str) -> anyhow::Result<String> {
        let answer = get(self.address, path, accept)?;
        let text = String::from_utf8(answer)?;
        Ok(text.split_once("\r\n\r\n").context("a body")?.1.to_owned())
    }

    pub fn time_get(&self, path: &str, accept: &str) -> anyhow::Result<Duration> {
        let began = Instant::now();
        get(self.address, path, accept)?;
        Ok(began.elapsed())
    }

    /// Requests counted, as shown.
    pub fn requests(&self) -> anyhow::Result<f64> {
        let page = self.get("/metrics", "text/plain")?;
        let values = page.lines().filter(|line| line.starts_with("newapi_requests_total{"));
        Ok(values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        self.memory_mib("VmRSS:")
    }

    /// The most that was resident at any time.
    pub fn peak_mib(&self) -> anyhow::Result<f64> {
        self.memory_mib("VmHWM:")
    }

    fn memory_mib(&self, name: &'static str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(name)).context(name)?;
        let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
        Ok(kib / 1024.0)
    }

    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("a name")?.1.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        Ok(ticks / 100.0)
    }

    pub fn stop(mut self) -> anyhow::Result<()> {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(done.success() && self.child.wait()?.success(), "the monitor did not stop in good order");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str, accept: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A server that answers every request with the same bytes.
pub struct Copier {
    address: SocketAddr,
}

impl Copier {
    pub fn start(bytes: Vec<u8>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                // The whole request: a connection that is closed with something unread is reset.
                let mut request = Vec::new();
                let mut part = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut part) {
                        Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
                        _ => break,
                    }
                }
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
            }
        });
        Ok(Self { address })
    }

    pub fn time_get(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        get(self.address, "/", "*/*")?;
        Ok(began.elapsed())
    }
}

/// The follower without its loop: each round is asked for and timed.
pub struct Follower {
    tailer: Tailer,
}

impl Follower {
    pub async fn new(table: &Table, store: &Path) -> anyhow::Result<Self> {
        let database = Database::new(&Dsn::parse(&table.url)?);
        let (state, store) = (State::default(), Store::open(store)?);
        Refresher::new(database.clone(), store.clone(), state.clone())?.tick().await?;
        let config = TailConfig {
            poll_interval: Duration::from_secs(2),
            late_window: Duration::from_secs(300),
            history: Duration::from_secs(31 * 86_400),
            timezone: TimeZone::UTC,
            commit_rows: COMMIT_ROWS,
        };
        let rules = Rules { max_series: 100_000, slow_over_seconds: 5.0, extra_labels: Vec::new() };
        let mut tailer = Tailer::new(database, store, state, Clock::system(), config, rules)?;
        while tailer.tick().await? != Progress::AtEnd {}
        Ok(Self { tailer })
    }

    /// Adds rows, then times the round that reads them.
    pub async fn poll(&mut self, table: &Table, rows: usize) -> anyhow::Result<Duration> {
        table.insert(rows)?;
        // What the writer left to the disk is not part of a poll, but its commit would wait for it.
        ensure!(Command::new("sync").status()?.success(), "sync failed");
        let began = Instant::now();
        self.tailer.tick().await?;
        Ok(began.elapsed())
    }
}
