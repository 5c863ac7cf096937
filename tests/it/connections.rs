//! Connections that ask for nothing, or very slowly: they are closed, and do not keep others out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Folder, Process, eventually, flags};

/// A head is waited for no longer than this, with time for a busy machine.
const PATIENCE: Duration = Duration::from_secs(50);

async fn start() -> (Process, Database, Folder) {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let process = Process::spawn(&flags(&database.url, &folder.path()));
    let page = process.page();
    eventually("it answers", async || page.get("/healthz").await.is_some()).await;
    (process, database, folder)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_4_one_who_drips_a_head_is_hung_up_on() {
    let (process, _database, _folder) = start().await;
    let (mut from, mut to) = connect(process.address).await.into_split();
    let head = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
    to.write_all(head.as_bytes()).await.expect("sending");
    let drip = async {
        while to.write_all(b"a").await.is_ok() {
            sleep(Duration::from_millis(300)).await;
        }
    };
    let (began, mut answer) = (Instant::now(), Vec::new());
    let hung_up = async {
        tokio::select! {
            read = from.read_to_end(&mut answer) => { read.ok(); }
            () = drip => {}
        }
    };
    timeout(PATIENCE, hung_up).await.expect("it hangs up");
    assert!(began.elapsed() > Duration::from_secs(5), "a slow line is no attack: {:?}", began.elapsed());
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_4_a_thousand_connections_that_ask_for_nothing_are_closed_and_cost_little() {
    let (process, _database, _folder) = start().await;
    let before = resident(&process);
    let mut idle = Vec::new();
    for _ in 0..900 {
        let mut stream = connect(process.address).await;
        stream.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.expect("sending");
        idle.push(stream);
    }
    sleep(Duration::from_secs(2)).await;
    let grown = resident(&process).saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB more", grown >> 20);
    // Who asks is answered, at the latest when the idle ones are closed.
    let page = process.page();
    let answered = async {
        while !matches!(page.get("/healthz").await, Some((200, _))) {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, answered).await.expect("it answers");
    let closed = async {
        for stream in &mut idle {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok();
        }
    };
    timeout(PATIENCE * 2, closed).await.expect("all are closed");
    process.kill();
}

/// Bytes of memory that a process holds.
pub fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1024
}
