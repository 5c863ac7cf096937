//! A client of the API that keeps its connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// No answer may take so long: the API gives up earlier.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

/// What came, and how long it took from the first byte sent to the last one read.
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    pub took: Duration,
}

impl Client {
    pub fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), body: Vec::new() })
    }

    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer<'_>> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let began = Instant::now();
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut status, mut length) = (String::new(), None, None);
        loop {
            line.clear();
            ensure!(self.stream.read_line(&mut line)? > 0, "the connection was closed: {path}");
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if status.is_none() {
                status = Some(text.split(' ').nth(1).context("a status")?.parse()?);
            } else if let Some((name, value)) = text.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse()?);
            }
        }
        self.body.resize(length.with_context(|| format!("no length: {path}"))?, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(Answer { status: status.context("a status")?, body: &self.body, took: began.elapsed() })
    }

    /// An answer that must be one.
    pub fn expect(&mut self, path: &str) -> anyhow::Result<Answer<'_>> {
        let answer = self.get(path)?;
        let words = || String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
        ensure!(answer.status == 200, "{path}: {} {}", answer.status, words());
        Ok(answer)
    }
}
