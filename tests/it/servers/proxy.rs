//! A network that fails on demand: a TCP proxy on loopback.
//!
//! It runs on threads of its own, so that it goes on while a test blocks its runtime.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How soon a thread sees that the mode has changed.
const TICK: Duration = Duration::from_millis(10);

/// `cut_after`'s budget when nothing is to be cut.
const UNLIMITED: u64 = u64::MAX;

/// A TCP proxy in front of a server of 127.0.0.1.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: u16,
    refusing: AtomicBool,
    stalled: AtomicBool,
    /// Connections with a lower number are silent for good.
    forgotten: AtomicUsize,
    ended: AtomicBool,
    /// Bytes that the server may still send, over all connections.
    budget: AtomicU64,
    accepted: AtomicUsize,
    /// Both ends of each connection.
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Starts a proxy in front of the server at this port of 127.0.0.1.
    pub fn start(target: u16) -> Self {
        let port = super::free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port for the proxy");
        // Not blocking, so that the thread sees the end.
        listener.set_nonblocking(true).expect("a listener that does not block");
        let shared = Arc::new(Shared {
            target,
            refusing: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            forgotten: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            budget: AtomicU64::new(UNLIMITED),
            accepted: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || for_thread.listen(&listener));
        Self { port, shared }
    }

    /// Starts a proxy in front of the server that the URL names.
    pub fn in_front_of(url: &str) -> Self {
        Self::start(url::Url::parse(url).ok().and_then(|url| url.port()).expect("a URL with a port"))
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's URL, through the proxy.
    pub fn url(&self, server: &str) -> String {
        let mut url = url::Url::parse(server).expect("a URL");
        url.set_port(Some(self.port)).expect("a URL that can have a port");
        url.into()
    }

    /// Ends every open connection with a reset or an end of stream; new ones work.
    pub fn drop_connections(&self) {
        self.shared.close_all();
    }

    /// Ends every new connection as soon as it is made; open ones work.
    pub fn refuse(&self) {
        self.shared.refusing.store(true, Ordering::SeqCst);
    }

    /// Passes nothing on, in either direction, and keeps connections open: what a firewall that drops packets does.
    pub fn stall(&self) {
        self.shared.stalled.store(true, Ordering::SeqCst);
    }

    /// Passes nothing on over the connections that are open now, for ever, and keeps them open; new ones work: what a
    /// firewall does that has forgotten them.
    pub fn forget_connections(&self) {
        self.shared.forgotten.store(self.accepted(), Ordering::SeqCst);
    }

    /// Passes this many bytes from the server on, over all connections, then ends every connection and refuses new
    /// ones: an answer that breaks off in the middle.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.budget.store(bytes, Ordering::SeqCst);
    }

    /// Ends what [`Self::refuse`], [`Self::stall`] and [`Self::cut_after`] began; what a stall held back is passed on.
    pub fn heal(&self) {
        self.shared.budget.store(UNLIMITED, Ordering::SeqCst);
        self.shared.refusing.store(false, Ordering::SeqCst);
        self.shared.stalled.store(false, Ordering::SeqCst);
    }

    /// How many connections were made so far, without those that were refused.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.close_all();
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, listener: &TcpListener) {
        while !self.ended.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((client, _)) => self.accept(client),
                Err(_) => thread::sleep(TICK),
            }
        }
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        // Dropping the client ends its connection.
        if self.refusing.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)) else { return };
        let number = self.accepted.fetch_add(1, Ordering::SeqCst);
        let handles = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(client_2), Ok(server_2), Ok(client_3), Ok(server_3)) = handles else { return };
        self.streams().extend([client_3, server_3]);
        // It may have ended meanwhile, and then nobody would close these two.
        if self.ended.load(Ordering::SeqCst) {
            self.close_all();
        }
        let (up, down) = (Arc::clone(self), Arc::clone(self));
        thread::spawn(move || up.copy(number, client, server_2, false));
        thread::spawn(move || down.copy(number, server, client_2, true));
    }

    /// Passes bytes on until either end closes.
    fn copy(&self, number: usize, mut from: TcpStream, mut to: TcpStream, from_server: bool) {
        from.set_nonblocking(false).and_then(|()| from.set_read_timeout(Some(TICK))).ok();
        to.set_nodelay(true).ok();
        let mut buffer = [0; 16 * 1024];
        while !self.ended.load(Ordering::SeqCst) {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            while self.is_silent(number) && !self.ended.load(Ordering::SeqCst) {
                thread::sleep(TICK);
            }
            let allowed = if from_server { self.take(n) } else { n };
            if to.write_all(&buffer[..allowed]).is_err() {
                break;
            }
            if allowed < n {
                self.refusing.store(true, Ordering::SeqCst);
                self.close_all();
            }
        }
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    }

    fn is_silent(&self, number: usize) -> bool {
        self.stalled.load(Ordering::SeqCst) || number < self.forgotten.load(Ordering::SeqCst)
    }

    /// Takes up to `n` bytes from what the server may still send.
    fn take(&self, n: usize) -> usize {
        let n = n as u64;
        let less = |left: u64| Some(if left == UNLIMITED { UNLIMITED } else { left.saturating_sub(n) });
        let left = self.budget.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        usize::try_from(left.unwrap_or_else(|left| left).min(n)).expect("no more than a buffer")
    }

    fn close_all(&self) {
        for stream in self.streams().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn streams(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
