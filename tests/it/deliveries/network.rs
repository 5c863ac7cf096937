//! Networks that fail on the way.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use token_monitor::message::Target::{Feishu, Telegram, Wecom};
use token_monitor::store::DeliveryState::{Leased, Pending, Sent};

use super::World;
use crate::fakes::{self, Fake, Script, bots};
use crate::support::{Folder, eventually, free_address};

/// Variables of a Feishu bot at an address of another host or scheme.
fn feishu_at(base: &str) -> Vec<(&'static str, String)> {
    vec![("FEISHU_WEBHOOK", format!("{base}/open-apis/bot/v2/hook/{}", fakes::feishu_hook()))]
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_a_silent_target_holds_up_nobody_else_and_is_asked_again() {
    let (feishu, wecom) =
        (Fake::start(fakes::Feishu::default()).await, Fake::start(fakes::Wecom::default()).await);
    feishu.script([Script::Silence]);
    let world = World::new();
    let began = Instant::now();
    let running = world.run(bots(&[feishu.variables(), wecom.variables()].concat()));
    world.tell("g", &["A"], &[Feishu, Wecom]);
    world.wait_states(Wecom, &[Sent]).await;
    world.wait_states(Feishu, &[Leased]).await;
    assert!(began.elapsed() < Duration::from_secs(8));
    world.wait_states(Feishu, &[Sent]).await;
    assert_eq!(world.counted(Feishu, "retry", "ambiguous"), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_an_answer_that_breaks_off_is_ambiguous() {
    let wecom = Fake::start(fakes::Wecom::default()).await;
    wecom.script([Script::Cut, Script::TakenAndCut]);
    let world = World::new();
    let running = world.run(bots(&wecom.variables()));
    world.tell("g", &["A"], &[Wecom]);
    world.wait_states(Wecom, &[Sent]).await;
    // The second request was taken: its message is there twice, with the same short name of the event.
    let messages = wecom.messages();
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|text| text.contains("event-of-g")), "{messages:?}");
    assert_eq!(world.counted(Wecom, "retry", "ambiguous"), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_no_such_host_and_nobody_there_are_tried_again() {
    for base in ["http://no-such-host.invalid".to_owned(), format!("http://{}", free_address())] {
        let (world, wecom) = (World::new(), Fake::start(fakes::Wecom::default()).await);
        let running = world.run(bots(&[feishu_at(&base), wecom.variables()].concat()));
        world.tell("g", &["A"], &[Feishu, Wecom]);
        eventually("tried again", async || world.counted(Feishu, "retry", "unreachable") >= 2).await;
        world.wait_states(Wecom, &[Sent]).await;
        let delivery = &world.deliveries(Feishu)[0];
        assert!(!delivery.error.contains(fakes::feishu_hook()), "{}", delivery.error);
        running.stop().await;
    }
}

/// A port that speaks TLS with a certificate that nobody vouches for, and counts the requests that it could read.
fn untrusted() -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
    let folder = Folder::new();
    let [key, certificate] = ["key.pem", "certificate.pem"].map(|name| folder.path().join(name));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&certificate).expect("a certificate")],
            PrivateKeyDer::from_pem_file(&key).expect("a key"),
        )
        .expect("a server");
    let (config, read) = (Arc::new(config), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let (port, counter) = (listener.local_addr().expect("an address").port(), Arc::clone(&read));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let mut stream = stream;
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            if std::io::Read::read(&mut tls, &mut [0; 1024]).is_ok_and(|bytes| bytes > 0) {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"code\":0}");
            }
        }
    });
    (port, read)
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_23_a_certificate_that_nobody_vouches_for_is_never_accepted() {
    let (port, read) = untrusted();
    let world = World::new();
    let running = world.run(bots(&feishu_at(&format!("https://localhost:{port}"))));
    world.tell("g", &["A"], &[Feishu]);
    eventually("tried again", async || world.counted(Feishu, "retry", "unreachable") >= 2).await;
    let delivery = &world.deliveries(Feishu)[0];
    assert!(delivery.error.to_lowercase().contains("certificate"), "{}", delivery.error);
    assert_eq!(delivery.sent_at, None);
    running.stop().await;
    assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_24_a_proxy_that_is_down_concerns_telegram_only() {
    let dead = format!("http://user:PROXY-SECRET@{}", free_address());
    let (telegram, feishu, wecom) = (
        Fake::start(fakes::Telegram { proxy: Some(dead), ..fakes::Telegram::default() }).await,
        Fake::start(fakes::Feishu::default()).await,
        Fake::start(fakes::Wecom::default()).await,
    );
    let world = World::new();
    let all = [telegram.variables(), feishu.variables(), wecom.variables()].concat();
    let running = world.run(bots(&all));
    world.tell("g", &["A"], &[Telegram, Feishu, Wecom]);
    world.wait_states(Feishu, &[Sent]).await;
    world.wait_states(Wecom, &[Sent]).await;
    eventually("tried again", async || world.counted(Telegram, "retry", "unreachable") >= 2).await;
    let delivery = &world.deliveries(Telegram)[0];
    assert!(matches!(delivery.state, Pending | Leased) && telegram.seen().is_empty());
    assert!(!delivery.error.contains("SECRET"), "{}", delivery.error);
    running.stop().await;
}
