//! Connections: how many there are at once, how long one may take to ask, and how they end.
//!
//! Who opens connections and asks for nothing, or a letter at a time, needs no password to do so. Such a connection is closed,
//! and there are never so many that memory or the system's files run out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How connections are bounded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections at the same time. Further ones wait in the system's queue until one of them ends.
    connections: usize,
    /// How long the head of a request may take, from when the connection is free for it. So long an idle one is kept.
    head: Duration,
    /// Longest head of a request, in bytes.
    buffer: usize,
}

impl Default for Bounds {
    /// Some hundred connections are more than a Prometheus, an Alertmanager, a Grafana and some browsers open, and half of
    /// the 1024 files that systems give a process. Prometheus comes every 5 to 60 seconds; one that finds its connection
    /// closed opens another. A link of the API has at most some kilobytes.
    fn default() -> Self {
        Self { connections: 512, head: Duration::from_secs(30), buffer: 64 * 1024 }
    }
}

/// Pause after the system gave no connection for a reason of its own, such as too many open files.
const BREATH: Duration = Duration::from_millis(200);

/// Serves until `stop`. Then nothing is accepted any more, requests in progress are finished, and idle connections closed.
pub(super) async fn serve(listener: TcpListener, router: Router, bounds: Bounds, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(bounds.head).max_buf_size(bounds.buffer);
    let all = GracefulShutdown::new();
    loop {
        let next = async {
            // Never closed.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, accept(&listener).await)
        };
        let Some((place, (stream, peer))) = stop.run_until_cancelled(next).await else { break };
        let router = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
            let answer = router.call(request);
            async move { answer.await as Result<Response, Infallible> }
        });
        let connection = all.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // What a client does wrong, or too slowly, is its own trouble.
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }
    drop(listener);
    all.shutdown().await;
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are written at once and whole; nothing is won by waiting for more.
                let _ = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) => {
                tracing::debug!("no connection: {error}");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    use super::*;

    /// A server that answers `/` with the peer, and `/slow` after half a second.
    async fn start(bounds: Bounds) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let peer = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            "slow"
        };
        let router = Router::new().route("/", get(peer)).route("/slow", get(slow));
        (address, stop.clone(), tokio::spawn(serve(listener, router, bounds, stop)))
    }

    const BRIEF: Bounds = Bounds { connections: 2, head: Duration::from_millis(300), buffer: 8192 };

    async fn ask(stream: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// What comes until the connection is closed.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.ok();
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn requests_know_their_peer_and_an_idle_connection_is_closed() {
        let (address, stop, served) = start(BRIEF).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            ask(&mut stream, "/").await;
            let mut answer = [0; 1024];
            let read = stream.read(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
            assert!(answer.ends_with(&stream.local_addr().unwrap().to_string()), "{answer}");
        }
        let began = Instant::now();
        assert_eq!(rest(&mut stream).await, "");
        assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn one_who_drips_is_closed_however_he_drips() {
        let (address, stop, served) = start(BRIEF).await;
        let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
        to.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let drip = tokio::spawn(async move {
            while to.write_all(b"y").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut answer = Vec::new();
        from.read_to_end(&mut answer).await.ok();
        drop(from);
        drip.await.unwrap();
        // One that sends a head without end is closed as well.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(20_000)).as_bytes()).await.ok();
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn more_connections_than_there_may_be_wait_until_others_end() {
        let (address, stop, served) = start(BRIEF).await;
        let mut idle = Vec::new();
        for _ in 0..10 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let began = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, "/").await;
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 "));
        // Two at a time, ten before it, none of which says a word.
        assert!(began.elapsed() >= Duration::from_millis(5 * 250), "{:?}", began.elapsed());
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_stop_finishes_what_is_asked_and_closes_the_rest() {
        let bounds = Bounds { head: Duration::from_secs(60), connections: 9, ..BRIEF };
        let (address, stop, served) = start(bounds).await;
        let (mut busy, mut idle) =
            (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        ask(&mut idle, "/").await;
        ask(&mut busy, "/slow").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = Instant::now();
        stop.cancel();
        assert!(rest(&mut busy).await.ends_with("slow"));
        rest(&mut idle).await;
        served.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(TcpStream::connect(address).await.is_err(), "nothing is accepted any more");
    }
}
