//! The program itself: killed, stopped, listened to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use token_monitor::clock::Clock;
use token_monitor::config::Flags;
use token_monitor::message::Change::Opened;
use token_monitor::message::Target;
use token_monitor::store::{DeliveryFilter, DeliveryState, Store};
use tokio::time::sleep;

use super::{tell, told};
use crate::fakes::{self, Fake, SECRETS, Script};
use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Folder, Process, command, eventually, flags, free_address};

/// The program with these bots; its database is away, which does not concern it here.
fn start(address: SocketAddr, folder: &Path, variables: &[(&'static str, String)]) -> Process {
    let nowhere = format!("sqlite://{}", folder.join("nowhere.db").display());
    let flags = Flags { listen: Some(address.to_string()), ..flags(&nowhere, folder) };
    let mut command = command(&flags);
    command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
    // What everybody else would send through a proxy.
    let dead = format!("http://{}", free_address());
    command.env("HTTPS_PROXY", &dead).env("HTTP_PROXY", &dead).env("ALL_PROXY", &dead);
    command.env("RUST_LOG", "debug");
    Process::run(address, command)
}

/// Queues notices before the program starts, as its webhook would.
fn queue(folder: &Path, groups: std::ops::Range<usize>, targets: &[Target]) {
    let store = Store::open(&folder.join("monitor.db")).expect("a store that nobody uses");
    for group in groups {
        let alert = vec![told(&format!("Alert{group}"), Opened)];
        tell(&store, &format!("group{group:03}"), alert, targets, Clock::system().now());
    }
}

/// How often each group's message is in a chat.
fn copies(messages: &[String]) -> BTreeMap<String, usize> {
    let mut copies = BTreeMap::new();
    for message in messages {
        let event = message.split_whitespace().find(|word| word.starts_with("event-of-")).expect("an event");
        *copies.entry(event.to_owned()).or_insert(0) += 1;
    }
    copies
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_13_kill_at_any_moment_loses_nothing_and_repeats_at_most_what_was_under_way() {
    const KILLS: usize = 12;
    const GROUPS: usize = 18;
    let (telegram, feishu, wecom) = (
        Fake::start(fakes::Telegram::default()).await,
        Fake::start(fakes::Feishu::default()).await,
        Fake::start(fakes::Wecom::default()).await,
    );
    // Requests take a while, so that some are under way when the program is killed.
    let delay = Duration::from_millis(40);
    telegram.slow(delay);
    feishu.slow(delay);
    wecom.slow(delay);
    let all = [telegram.variables(), feishu.variables(), wecom.variables()].concat();
    let (folder, address) = (Folder::new(), free_address());
    let mut queued = 0;
    for kill in 0..KILLS {
        let more = queued + GROUPS / KILLS + usize::from(kill < GROUPS % KILLS);
        queue(&folder.path(), queued..more, &Target::ALL);
        queued = more;
        let process = start(address, &folder.path(), &all);
        // Some are killed before the first request, most among requests.
        let requests = feishu.seen().len();
        if kill % 4 != 0 {
            eventually("a request is made", async || feishu.seen().len() > requests).await;
        }
        sleep(Duration::from_millis(u64::try_from(kill * 11 % 90).expect("small"))).await;
        process.kill();
    }
    assert_eq!(queued, GROUPS);
    let process = start(address, &folder.path(), &all);
    eventually("Feishu has everything", async || copies(&feishu.messages()).len() == GROUPS).await;
    // One a second and twenty a minute, repeated ones included.
    let began = Instant::now();
    while copies(&telegram.messages()).len() < GROUPS || copies(&wecom.messages()).len() < GROUPS {
        assert!(began.elapsed() < Duration::from_secs(150), "{:?}", copies(&telegram.messages()));
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_millis(500)).await;
    process.kill();
    for (name, messages) in
        [("telegram", telegram.messages()), ("feishu", feishu.messages()), ("wecom", wecom.messages())]
    {
        let copies = copies(&messages);
        let repeated: usize = copies.values().map(|count| count - 1).sum();
        assert!(repeated <= KILLS, "{name}: {copies:?}");
        assert!(copies.values().all(|count| *count <= 1 + KILLS), "{name}: {copies:?}");
        println!("{name}: {} messages, {repeated} repeated by {KILLS} kills", messages.len());
    }
    let store = Store::open(&folder.path().join("monitor.db")).expect("a store");
    let all = store.deliveries_page(None, 1000, &DeliveryFilter::default()).expect("deliveries");
    assert_eq!(all.len(), 3 * GROUPS);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_a_stop_ends_what_is_under_way_and_the_rest_goes_out_after_the_next_start() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    feishu.slow(Duration::from_millis(400));
    let (folder, address) = (Folder::new(), free_address());
    queue(&folder.path(), 0..12, &[Target::Feishu]);
    let mut process = start(address, &folder.path(), &feishu.variables());
    eventually("some are sent", async || feishu.messages().len() >= 3).await;
    let began = Instant::now();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, 0, "{}", process.printed());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let sent = feishu.messages().len();
    assert!(sent < 12, "no backlog was left");
    drop(process);
    let store = Store::open(&folder.path().join("monitor.db")).expect("a store");
    let done = store
        .deliveries_page(
            None,
            100,
            &DeliveryFilter { state: Some(DeliveryState::Sent), ..DeliveryFilter::default() },
        )
        .expect("deliveries");
    assert_eq!(done.len(), sent, "a request that was under way is not marked");
    drop(store);
    let process = start(address, &folder.path(), &feishu.variables());
    eventually("all are sent", async || feishu.messages().len() >= 12).await;
    process.kill();
    assert!(copies(&feishu.messages()).values().all(|count| *count == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_a_silent_service_does_not_keep_the_program_and_a_second_signal_ends_it_at_once() {
    for (signals, code) in [(1, 0), (2, 1)] {
        let wecom = Fake::start(fakes::Wecom::default()).await;
        wecom.script([Script::Silence]);
        let (folder, address) = (Folder::new(), free_address());
        queue(&folder.path(), 0..1, &[Target::Wecom]);
        let mut process = start(address, &folder.path(), &wecom.variables());
        eventually("a request is under way", async || wecom.seen().len() == 1).await;
        let began = Instant::now();
        process.signal("TERM");
        if signals == 2 {
            sleep(Duration::from_millis(300)).await;
            process.signal("TERM");
        }
        assert_eq!(process.exit_code().await, code, "{}", process.printed());
        let most = if signals == 2 { 3 } else { 7 };
        assert!(began.elapsed() < Duration::from_secs(most), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_no_secret_is_logged_or_kept() {
    let (telegram, feishu, wecom) = (
        Fake::start(fakes::Telegram::default()).await,
        Fake::start(fakes::Feishu::default()).await,
        Fake::start(fakes::Wecom::default()).await,
    );
    // Every kind of failure first.
    telegram.script([Script::Cut, Script::Text(502, "no"), Script::Text(200, "<html>")]);
    feishu.script([Script::Cut, Script::Text(502, "no"), Script::Text(200, "<html>")]);
    wecom.script([Script::Cut, Script::Text(502, "no"), Script::Text(200, "<html>")]);
    let mut all = [telegram.variables(), feishu.variables(), wecom.variables()].concat();
    let (folder, address) = (Folder::new(), free_address());
    queue(&folder.path(), 0..2, &Target::ALL);
    let process = start(address, &folder.path(), &all);
    for (name, count) in [("feishu", 2), ("wecom", 2), ("telegram", 2)] {
        eventually(&format!("{name} has its messages"), async || {
            let messages = match name {
                "feishu" => feishu.messages(),
                "wecom" => wecom.messages(),
                _ => telegram.messages(),
            };
            messages.len() == count
        })
        .await;
    }
    telegram.change(|telegram| telegram.revoked = true);
    feishu.change(|feishu| feishu.removed = true);
    wecom.change(|wecom| wecom.removed = true);
    let mut printed = process.printed();
    let (_, metrics) = process.page().get("/metrics").await.expect("an answer");
    process.kill();
    queue(&folder.path(), 2..4, &Target::ALL);
    let process = start(address, &folder.path(), &all);
    process.prints_times(6, "given up").await;
    printed += &process.printed();
    process.kill();
    // Nobody there at all.
    for (_, value) in &mut all {
        for fake in [telegram.address, feishu.address, wecom.address] {
            *value = value.replace(&fake.to_string(), "127.0.0.1:1");
        }
    }
    queue(&folder.path(), 4..5, &Target::ALL);
    let process = start(address, &folder.path(), &all);
    process.prints_times(3, "to be sent again").await;
    printed += &process.printed();
    process.kill();
    let mut everything = printed.into_bytes();
    everything.extend(metrics.into_bytes());
    for name in ["monitor.db", "monitor.db-wal"] {
        everything.extend(std::fs::read(folder.path().join(name)).unwrap_or_default());
    }
    let everything = String::from_utf8_lossy(&everything);
    assert!(everything.contains("Alert4") && everything.contains("token_monitor_deliveries_total"));
    for secret in SECRETS {
        let found = everything.find(secret).map(|place| {
            everything.chars().skip(everything[..place].chars().count().saturating_sub(200)).take(300)
        });
        assert!(found.is_none(), "{secret}: {}", found.map(String::from_iter).unwrap_or_default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_sends_a_message_to_each_bot_only_if_asked() {
    let (telegram, feishu, wecom) = (
        Fake::start(fakes::Telegram::default()).await,
        Fake::start(fakes::Feishu::default()).await,
        Fake::start(fakes::Wecom::default()).await,
    );
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let all = [telegram.variables(), feishu.variables(), wecom.variables()].concat();
    let check = async |arguments: &[&str]| {
        let mut command = command(&flags(&database.url, &folder.path()));
        command.args(arguments).envs(all.iter().map(|(name, value)| (*name, value.as_str())));
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let output = output.expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check(&["check"]).await;
    assert_eq!((code, said.matches("is configured").count()), (Some(0), 3), "{said}");
    assert!(telegram.seen().is_empty() && feishu.seen().is_empty() && wecom.seen().is_empty());
    let (code, said) = check(&["check", "--send"]).await;
    assert_eq!((code, said.matches("took a test message").count()), (Some(0), 3), "{said}");
    let sent = [telegram.messages(), feishu.messages(), wecom.messages()].concat();
    assert_eq!(sent.iter().filter(|text| text.contains("Token Monitor")).count(), 3, "{sent:?}");
    wecom.change(|wecom| wecom.removed = true);
    feishu.change(|feishu| feishu.no_cards = true);
    let (code, said) = check(&["check", "--send"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("fail  wecom: unauthorized: invalid webhook url"), "{said}");
    assert!(said.contains("feishu: took a test message, but not at once: Bad Request"), "{said}");
    for secret in SECRETS {
        assert!(!said.contains(secret), "{said}");
    }
}
