//! The real program at night: what comes in by the webhook goes out to chats that are as strict as the real ones, whatever
//! stands in it, however much it is, and whenever the program dies.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use token_monitor::clock::Clock;
use token_monitor::config::Flags;
use token_monitor::store::{DeliveryFilter, IncidentFilter, Store};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::connections::resident;
use crate::fakes::{self, Fake, Script, Service};
use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Api, Folder, Process, command, eventually, flags, free_address};

const PASSWORD: &str = "the-password";

/// The three chats.
pub struct Chats {
    pub telegram: Fake<fakes::Telegram>,
    pub feishu: Fake<fakes::Feishu>,
    pub wecom: Fake<fakes::Wecom>,
}

impl Chats {
    pub async fn start() -> Self {
        Self {
            telegram: Fake::start(fakes::Telegram::default()).await,
            feishu: Fake::start(fakes::Feishu::default()).await,
            wecom: Fake::start(fakes::Wecom::default()).await,
        }
    }

    pub fn variables(&self) -> Vec<(&'static str, String)> {
        [self.telegram.variables(), self.feishu.variables(), self.wecom.variables()].concat()
    }

    pub fn messages(&self) -> [Vec<String>; 3] {
        [self.telegram.messages(), self.feishu.messages(), self.wecom.messages()]
    }
}

/// Requests that a chat did not take, with what they were.
fn refused<S: Service>(chat: &Fake<S>) -> Vec<Value> {
    chat.seen().into_iter().filter(|seen| !seen.taken).map(|seen| seen.body).collect()
}

/// The program with a password and these variables, on a database that is there.
struct Night {
    database: Database,
    folder: Folder,
    variables: Vec<(&'static str, String)>,
}

impl Night {
    async fn falls(variables: Vec<(&'static str, String)>) -> Self {
        let database = Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await;
        Self { database, folder: Folder::new(), variables }
    }

    /// Starts the program, which answers when this returns.
    async fn start(&self) -> Process {
        let address = free_address();
        let flags = Flags {
            listen: Some(address.to_string()),
            access_password: Some(PASSWORD.to_owned()),
            timezone: Some("Asia/Shanghai".to_owned()),
            ..flags(&self.database.url, &self.folder.path())
        };
        let mut command = command(&flags);
        command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        let process = Process::run(address, command);
        let page = process.page();
        eventually("it answers", async || page.get("/healthz").await.is_some()).await;
        process
    }

    /// What stands in monitor.db while nobody uses it: alerts, and messages that were sent or wait.
    fn kept(&self) -> (usize, usize) {
        let store = open(&self.folder.path());
        let incidents =
            store.incidents_page(None, 1000, &IncidentFilter::default()).expect("incidents").len();
        (incidents, store.deliveries_page(None, 1000, &DeliveryFilter::default()).expect("deliveries").len())
    }
}

fn open(folder: &Path) -> Store {
    Store::open(&folder.join("monitor.db")).expect("a store that nobody uses")
}

fn alert(labels: &Value, annotations: &Value) -> Value {
    json!({
        "status": "firing", "labels": labels, "annotations": annotations, "fingerprint": "",
        "startsAt": Clock::system().now().to_string(), "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
    })
}

/// A call of Alertmanager with these alerts.
pub fn payload(group: &str, alerts: &[Value]) -> String {
    json!({
        "receiver": "critical", "status": "firing", "version": "4", "groupKey": group, "groupLabels": {},
        "externalURL": "http://am:9093", "commonLabels": {}, "truncatedAlerts": 0, "alerts": alerts,
    })
    .to_string()
}

/// A critical alert of this name that fires since now.
pub fn named(name: &str) -> Value {
    alert(&json!({"alertname": name, "severity": "critical"}), &json!({"description": "it burns"}))
}

/// The status of a call of the webhook; None if nobody answered.
async fn call(address: SocketAddr, body: String) -> Option<u16> {
    let url = format!("http://{address}/webhook/alertmanager");
    let client = token_monitor::outbound::client(None).expect("a client");
    let request = client.post(url).bearer_auth(PASSWORD).header("content-type", "application/json");
    Some(request.body(body).send().await.ok()?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_1_an_alert_that_lasts_has_no_end_and_began_by_the_clock_of_the_reader() {
    let chats = Chats::start().await;
    let night = Night::falls(chats.variables()).await;
    let process = night.start().await;
    let now = Clock::system().now();
    for (index, (starts_at, shown)) in [
        // Nanoseconds, an offset, and neither.
        ("2026-11-23T12:50:53.123456789+08:00", "2026-11-23 12:50 +08:00"),
        ("2026-11-22T23:10:00-05:30", "2026-11-23 12:40 +08:00"),
        ("2026-03-08T15:59:59Z", "2026-03-08 23:59 +08:00"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("Lasts{index}");
        let mut one = named(&name);
        one["startsAt"] = starts_at.into();
        assert_eq!(call(process.address, payload(&name, &[one])).await, Some(200));
        let told = || chats.messages().map(|chat| chat.into_iter().find(|text| text.contains(&name)));
        eventually("all chats tell of it", async || told().iter().all(Option::is_some)).await;
        for text in told().into_iter().flatten() {
            assert!(text.contains(shown) && !text.contains("Lasted") && !text.contains("0001"), "{text}");
        }
        let incident = &Api::new(process.address, Some(PASSWORD)).get("incidents?limit=1").await["items"][0];
        assert_eq!((&incident["state"], &incident["resolved_at"]), (&"firing".into(), &Value::Null));
        let began: Timestamp = starts_at.parse().expect("a time");
        let told: Timestamp = incident["started_at"].as_str().expect("a time").parse().expect("a time");
        assert!(began.duration_since(told).as_millis().abs() < 1, "{incident}");
    }
    assert!(Clock::system().now().duration_since(now).as_secs() < 60);
    process.kill();
}

/// What people with a key can get into labels, and worse.
const HOSTILE: [&str; 14] = [
    "<at id=all></at>",
    "<at user_id=\"all\">x</at>",
    "<@all>",
    "</b><a href=\"http://evil\">x</a>",
    "<b>unclosed",
    "a < b && c > d; &amp; &#42; &nbsp;",
    "*_[]()~`>#+-=|{}.!",
    "[x](http://evil) ![](http://evil)",
    "``` code ``` `x",
    "@everyone @all @channel",
    "\u{202e}reversed\u{202c} \u{0}\u{7}\r\n# title\n> quote\n- list",
    "</font><font color=\"info\">green</font>",
    "{{ 7 * 7 }} {channel} {why} %s %n",
    "😀👩\u{200d}💻 告警 \u{1f3f4}\u{e0067}\u{e007f}",
];

/// What of a message is read as markup.
fn markup(body: &Value) -> String {
    let texts = [&body["text"], &body["markdown"]["content"]].into_iter();
    let elements = body["card"]["elements"].as_array().into_iter().flatten();
    let texts = texts.chain(elements.map(|element| &element["content"]));
    texts.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_20_hostile_texts_reach_every_chat_and_none_of_them_stumbles() {
    let chats = Chats::start().await;
    let night = Night::falls(chats.variables()).await;
    let process = night.start().await;
    let mut told = 0;
    for (index, hostile) in HOSTILE.into_iter().enumerate() {
        // As a name, in every label and annotation, alone and so often that it is cut.
        for (place, text) in [hostile.to_owned(), hostile.repeat(300)].into_iter().enumerate() {
            let alert = alert(
                &json!({
                    "alertname": format!("Hostile{index}x{place} {text}"), "severity": text, "channel_id": text,
                    "model": text, "limit": text, "group": text, text.clone(): text,
                }),
                &json!({"summary": text, "description": text, "runbook_url": text, "dashboard": text}),
            );
            let group = format!("{index}/{place}");
            assert_eq!(call(process.address, payload(&group, &[alert])).await, Some(200), "{hostile:?}");
            told += 1;
        }
    }
    let counts = || chats.messages().map(|chat| chat.len());
    let began = Instant::now();
    while counts().iter().any(|count| *count < told) {
        let printed = process.printed();
        assert!(!printed.contains("given up"), "{printed}");
        assert!(began.elapsed() < Duration::from_secs(150), "{:?} of {told}: {printed}", counts());
        sleep(Duration::from_millis(200)).await;
    }
    // Each was taken as it was composed: nothing was sent again in a plainer shape.
    let rich = |body: &Value| {
        body["parse_mode"] == "HTML" || body["card"].is_object() || body["markdown"].is_object()
    };
    for (name, bodies) in [
        ("telegram", refused(&chats.telegram)),
        ("feishu", refused(&chats.feishu)),
        ("wecom", refused(&chats.wecom)),
    ] {
        assert!(bodies.is_empty(), "{name} refused {} messages, first {:#}", bodies.len(), bodies[0]);
    }
    let seen = [chats.telegram.seen(), chats.feishu.seen(), chats.wecom.seen()].concat();
    for body in seen.iter().map(|seen| &seen.body) {
        assert!(rich(body), "{body:#}");
        let markup = markup(body);
        assert!(!markup.contains("<at ") && !markup.contains("<@"), "{markup}");
        assert!(!markup.contains("<a href=\"http://evil"), "{markup}");
        // In HTML that is no link.
        assert!(body["parse_mode"] == "HTML" || !markup.contains("](http://evil"), "{markup}");
    }
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_five_hundred_alerts_is_told_within_what_each_chat_allows_and_every_alert_is_named_or_counted()
 {
    const ALERTS: usize = 500;
    let chats = Chats::start().await;
    let night = Night::falls(chats.variables()).await;
    let process = night.start().await;
    call(process.address, payload("before", &[named("Before")])).await;
    eventually("all chats are awake", async || chats.messages().iter().all(|chat| chat.len() == 1)).await;
    let before = resident(&process);
    // One group of all of them, and at the same time a group for each, as another route of the sender may have it.
    let name = |number: usize| format!("Storm{number:03}");
    let all: Vec<Value> = (0..ALERTS)
        .map(|number| {
            let labels = json!({"alertname": name(number), "severity": "warning", "channel_id": "3"});
            alert(&labels, &json!({"description": "说明 😀 ".repeat(100)}))
        })
        .collect();
    assert_eq!(call(process.address, payload("storm", &all)).await, Some(200));
    let told = |text: &str| (0..ALERTS).filter(|number| text.contains(&name(*number))).collect::<Vec<_>>();
    let began = Instant::now();
    let covered = |messages: &[String]| -> usize {
        let named: BTreeSet<usize> = messages.iter().flat_map(|text| told(text)).collect();
        let counted = messages.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix('+'));
        let counted =
            counted.filter_map(|rest| rest.split(' ').next()?.replace(',', "").parse::<usize>().ok());
        named.len() + counted.sum::<usize>()
    };
    while chats.messages().iter().any(|chat| covered(&chat[1..]) < ALERTS) {
        let covered = chats.messages().map(|chat| covered(&chat[1..]));
        assert!(began.elapsed() < Duration::from_secs(60), "{covered:?}");
        sleep(Duration::from_millis(200)).await;
    }
    for (chat, messages) in ["telegram", "feishu", "wecom"].into_iter().zip(chats.messages()) {
        assert_eq!(covered(&messages[1..]), ALERTS, "{chat} tells of more than there were: {messages:#?}");
        assert!((2..=6).contains(&messages.len()), "{chat}: {} messages", messages.len());
    }
    // Then each alone, far more than a bot takes in a minute.
    for (number, one) in all.iter().enumerate() {
        let group = format!("alone/{number}");
        let mut one = one.clone();
        one["labels"]["alertname"] = format!("Alone{number:03}").into();
        assert_eq!(call(process.address, payload(&group, &[one])).await, Some(200));
    }
    sleep(Duration::from_secs(20)).await;
    // Whoever is asked too fast says so; nobody was.
    for (chat, bodies) in [
        ("telegram", refused(&chats.telegram)),
        ("feishu", refused(&chats.feishu)),
        ("wecom", refused(&chats.wecom)),
    ] {
        assert!(bodies.is_empty(), "{chat} refused {} requests", bodies.len());
    }
    let grown = resident(&process).saturating_sub(before);
    assert!(grown < 48 << 20, "{} MiB more than before the storm", grown >> 20);
    process.kill();
    let (incidents, deliveries) = night.kept();
    assert!(incidents >= 1000 && deliveries >= 1000, "{incidents} incidents, {deliveries} deliveries");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_4_a_dozen_bodies_without_end_cost_bounded_memory() {
    let night = Night::falls(Vec::new()).await;
    let process = night.start().await;
    let before = resident(&process);
    let most = {
        let calls = (0..24).map(|_| call(process.address, " ".repeat(17 << 20)));
        let small = (0..24).map(|_| call(process.address, " ".repeat((16 << 20) - 1)));
        let answers = futures_util::future::join(
            futures_util::future::join_all(calls),
            futures_util::future::join_all(small),
        );
        let mut answers = std::pin::pin!(answers);
        let mut most = before;
        loop {
            tokio::select! {
                (long, short) = &mut answers => {
                    assert!(long.iter().flatten().all(|status| [413, 503].contains(status)), "{long:?}");
                    assert!(short.iter().flatten().all(|status| [400, 408, 503].contains(status)), "{short:?}");
                    break most;
                }
                () = sleep(Duration::from_millis(20)) => most = most.max(resident(&process)),
            }
        }
    };
    // Eight calls are in work, each with a body of 16 MiB that may be copied once while it grows.
    let grown = most.saturating_sub(before);
    assert!(grown < 320 << 20, "{} MiB more", grown >> 20);
    assert_eq!(call(process.address, payload("after", &[named("After")])).await, Some(200));
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_13_kill_9_during_a_call_of_the_webhook_loses_nothing() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    let night = Night::falls(feishu.variables()).await;
    let copies = |name: &str| feishu.messages().iter().filter(|text| text.contains(name)).count();
    let body = |name: &str| payload(name, &[named(name)]);

    // In the middle of the body: nothing was taken in, and the sender comes again.
    let process = night.start().await;
    let half = body("Half");
    let mut stream = TcpStream::connect(process.address).await.expect("a connection");
    let head = format!(
        "POST /webhook/alertmanager HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {PASSWORD}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        half.len(),
        &half[..half.len() / 2],
    );
    stream.write_all(head.as_bytes()).await.expect("sending");
    sleep(Duration::from_millis(200)).await;
    process.kill();
    assert_eq!(night.kept(), (0, 0));
    let process = night.start().await;
    assert_eq!(call(process.address, half).await, Some(200));
    eventually("it is told", async || copies("Half") == 1).await;
    process.kill();

    // While it is taken in, at many moments. Whether it was shows only afterwards; the sender comes again if nobody answered.
    for round in 0..12_u64 {
        let name = format!("During{round:02}");
        let process = night.start().await;
        let (address, text) = (process.address, body(&name));
        let calling = tokio::spawn(async move { call(address, text).await });
        sleep(Duration::from_micros(round * 900)).await;
        process.kill();
        let answered = calling.await.expect("no panic");
        let process = night.start().await;
        if answered != Some(200) {
            assert_eq!(call(process.address, body(&name)).await, Some(200));
        }
        eventually("it is told", async || copies(&name) >= 1).await;
        let api = Api::new(process.address, Some(PASSWORD));
        let incidents = api.get("incidents?limit=100").await;
        let of_name =
            incidents["items"].as_array().expect("a list").iter().filter(|one| one["rule"] == *name);
        assert_eq!(of_name.count(), 1, "{name}");
        sleep(Duration::from_millis(100)).await;
        process.kill();
        // Killed while the chat was asked, the message may be there twice.
        assert!(copies(&name) <= 2, "{name}: {}", copies(&name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_13_kill_9_at_each_step_behind_the_answer_loses_nothing() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    let night = Night::falls(feishu.variables()).await;
    let copies = |name: &str| feishu.messages().iter().filter(|text| text.contains(name)).count();
    let body = |name: &str| payload(name, &[named(name)]);

    // Answered, and not yet sent: the chat hears of it after the next start.
    let process = night.start().await;
    feishu.slow(Duration::from_secs(1));
    assert_eq!(call(process.address, body("First")).await, Some(200));
    assert_eq!(call(process.address, body("Second")).await, Some(200));
    process.kill();
    feishu.slow(Duration::ZERO);
    let process = night.start().await;
    eventually("both are told", async || copies("First") >= 1 && copies("Second") >= 1).await;

    // Sent, and no answer yet: it is sent again, and is known by its event.
    feishu.script([Script::Silence]);
    let asked = feishu.seen().len();
    assert_eq!(call(process.address, body("Silent")).await, Some(200));
    eventually("it is asked", async || feishu.seen().len() > asked).await;
    process.kill();
    let process = night.start().await;
    eventually("it is told once", async || copies("Silent") == 1).await;

    // Taken, and not yet marked.
    feishu.slow(Duration::from_secs(2));
    assert_eq!(call(process.address, body("Taken")).await, Some(200));
    eventually("it is in the chat", async || copies("Taken") == 1).await;
    process.kill();
    feishu.slow(Duration::ZERO);
    let process = night.start().await;
    eventually("it is there twice", async || copies("Taken") == 2).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(copies("Taken"), 2, "the one ambiguous repeat");
    let events: BTreeSet<String> = feishu
        .messages()
        .iter()
        .filter(|text| text.contains("Taken"))
        .filter_map(|text| text.lines().rev().find_map(|line| line.strip_prefix("event ").map(str::to_owned)))
        .collect();
    assert_eq!(events.len(), 1, "both say that they are the same: {events:?}");
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_25_a_stop_accepts_nothing_more_while_it_ends_what_is_under_way() {
    let wecom = Fake::start(fakes::Wecom::default()).await;
    wecom.script([Script::Silence]);
    let night = Night::falls(wecom.variables()).await;
    let mut process = night.start().await;
    assert_eq!(call(process.address, payload("a", &[named("A")])).await, Some(200));
    eventually("a request is under way", async || wecom.seen().len() == 1).await;
    process.signal("TERM");
    eventually("nobody listens any more", async || TcpStream::connect(process.address).await.is_err()).await;
    assert!(process.child.try_wait().expect("asking").is_none(), "it ends what is under way");
    assert_eq!(call(process.address, payload("b", &[named("B")])).await, None);
    assert_eq!(process.exit_code().await, 0, "{}", process.printed());
    drop(process);
    assert_eq!(night.kept(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_ten_thousand_messages_that_wait_cost_bounded_memory() {
    let night = Night::falls(vec![(
        "WECOM_WEBHOOK",
        format!("http://{}/cgi-bin/webhook/send?key=none", free_address()),
    )])
    .await;
    let process = night.start().await;
    let before = resident(&process);
    process.kill();
    let store = open(&night.folder.path());
    let now = Clock::system().now();
    store
        .write(|writing| {
            for number in 0..10_000 {
                let mut told = crate::deliveries::told(
                    &format!("Waits{number}"),
                    token_monitor::message::Change::Opened,
                );
                told.alert.annotations.insert("description".to_owned(), "说明 ".repeat(100));
                let notice = crate::deliveries::notice(&format!("group{number}"), vec![told], now);
                writing.enqueue(&notice, &[token_monitor::message::Target::Wecom])?;
            }
            Ok(())
        })
        .expect("queued");
    drop(store);
    let process = night.start().await;
    let page = process.page();
    let waiting = "token_monitor_outbox_pending{target=\"wecom\"} 10000";
    eventually("all of them wait", async || {
        page.get("/metrics").await.is_some_and(|(_, text)| text.lines().any(|line| line == waiting))
    })
    .await;
    // More than the first looks at it.
    sleep(Duration::from_secs(12)).await;
    let grown = resident(&process).saturating_sub(before);
    assert!(grown < 32 << 20, "{} MiB more than with none", grown >> 20);
    process.kill();
}
