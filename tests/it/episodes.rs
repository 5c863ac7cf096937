//! The circuit breaker from the webhook on, in the real program: what a payload asks for, what becomes of it, and what is
//! never said about it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use token_monitor::clock::Clock;
use token_monitor::config::Flags;
use token_monitor::demo::world::ADMIN_TOKEN;

use crate::alarms::{CHANNEL, Gateway, alertmanager_config, knows, password_file, prometheus};
use crate::breaker::breaker_flags;
use crate::fakes::admin::{FakeAdmin, Fault, Style};
use crate::fakes::{self, Fake, SECRETS};
use crate::night::Chats;
use crate::servers::{Alertmanager, Proxy};
use crate::support::{Api, Folder, Process, command, eventually, free_address};

const PASSWORD: &str = "ACCESS-PASSWORD-SECRET";
const METRICS_TOKEN: &str = "METRICS-TOKEN-SECRET";

/// The program that acts on a gateway.
struct Desk {
    gateway: FakeAdmin,
    folder: Folder,
    process: Process,
    api: Api,
}

impl Desk {
    async fn start(variables: &[(&'static str, String)], change: impl FnOnce(&mut Flags)) -> Self {
        let (gateway, folder, address) = (FakeAdmin::start(Style::New).await, Folder::new(), free_address());
        let mut flags = Flags {
            listen: Some(address.to_string()),
            access_password: Some(PASSWORD.to_owned()),
            metrics_token: Some(METRICS_TOKEN.to_owned()),
            wecom_webhook: None,
            ..breaker_flags(&gateway, &folder)
        };
        change(&mut flags);
        let mut command = command(&flags);
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        let process = Process::run(address, command);
        process.page().wait_ready().await;
        Self { gateway, folder, process, api: Api::new(address, Some(PASSWORD)) }
    }

    async fn call(&self, status: &str, alerts: &[Value]) {
        let body = json!({
            "receiver": "breaker", "status": status, "version": "4", "groupKey": "{}/{}", "groupLabels": {},
            "externalURL": "http://am:9093", "commonLabels": {}, "truncatedAlerts": 0, "alerts": alerts,
        });
        let answer = self.api.post("/webhook/alertmanager", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    async fn acts(&self) -> Vec<Value> {
        self.api.pages("breaker?limit=100").await.0
    }

    /// All acts, when they have ended.
    async fn ended(&self, number: usize) -> Vec<Value> {
        eventually("all acts have ended", async || {
            let acts = self.acts().await;
            acts.len() == number && acts.iter().all(|act| act["result"] != "pending")
        })
        .await;
        self.acts().await
    }
}

fn burning(channel: &str, status: &str) -> Value {
    let now = Clock::system().now();
    let ends_at = if status == "resolved" { now.to_string() } else { "0001-01-01T00:00:00Z".to_owned() };
    json!({
        "status": status, "startsAt": now.to_string(), "endsAt": ends_at, "fingerprint": "",
        "labels": {"alertname": "Burning", "severity": "critical", "action": "disable_channel", "channel_id": channel},
        "annotations": {"summary": format!("channel {channel} burns")}, "generatorURL": "http://prometheus:9090/graph",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_24_new_api_is_asked_directly_whatever_the_environment_says_of_proxies() {
    let dead = format!("http://{}", free_address());
    let proxies = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"];
    let variables: Vec<_> = proxies.iter().map(|name| (*name, dead.clone())).collect();
    let desk = Desk::start(&variables, |_| {}).await;
    desk.call("firing", &[burning("2", "firing")]).await;
    let acts = desk.ended(1).await;
    assert_eq!((&acts[0]["result"], desk.gateway.status(2)), (&"done".into(), 2), "{acts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_what_is_only_over_asks_for_nothing() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    let desk = Desk::start(&feishu.variables(), |_| {}).await;
    desk.call("resolved", &[burning("2", "resolved"), burning("5", "resolved")]).await;
    // What fires afterwards is heard, so the breaker was there.
    desk.call("firing", &[burning("7", "firing")]).await;
    let acts = desk.ended(1).await;
    assert_eq!(acts[0]["channel_id"], 7, "{acts:?}");
    let written: Vec<String> = desk.gateway.written();
    assert!(written.iter().all(|line| line.contains("/7/")), "{written:?}");
    assert_eq!((desk.gateway.status(2), desk.gateway.status(5), desk.gateway.status(7)), (1, 1, 2));
    let incidents = desk.api.get("incidents?channel_id=2,5").await;
    let states: Vec<&Value> =
        incidents["items"].as_array().expect("a list").iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["resolved", "resolved"], "they are written down");
    eventually("it is told", async || feishu.messages().len() == 1).await;
    assert!(!feishu.messages()[0].contains("channel 2 burns"), "{:?}", feishu.messages());
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_31_of_forty_channels_in_one_payload_few_are_disabled_and_the_message_names_the_rest() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    let desk =
        Desk::start(&feishu.variables(), |flags| flags.breaker_max_per_hour = Some("3".to_owned())).await;
    let served = "SELECT count(*) FROM (SELECT 1 FROM abilities a JOIN channels c ON c.id = a.channel_id \
                  WHERE a.enabled AND c.status = 1 GROUP BY a.`group`, a.model)";
    let before = desk.gateway.number(served);
    let alerts: Vec<Value> = (1..=40).map(|channel| burning(&channel.to_string(), "firing")).collect();
    desk.call("firing", &alerts).await;
    let acts = desk.ended(40).await;
    let of = |result: &str| -> BTreeSet<i64> {
        let of_result = acts.iter().filter(|act| act["result"] == result);
        of_result.map(|act| act["channel_id"].as_i64().expect("a channel")).collect()
    };
    assert_eq!(of("done").len(), 3, "{acts:#?}");
    assert_eq!(desk.gateway.number(served), before, "a model is served by nobody");
    let reasons: BTreeSet<&str> = acts.iter().filter_map(|act| act["reason"].as_str()).collect();
    assert!(reasons.contains("too_many") && reasons.contains("last_of"), "{reasons:?}");
    assert_eq!(of("refused").len() + of("already_so").len(), 37);
    // One message, perhaps in parts. All that were refused are in it, each as refused.
    eventually("it is told", async || !feishu.messages().is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let text = feishu.messages().join("\n");
    for channel in of("refused") {
        let heads = text.lines().filter(|line| line.contains(&format!("channel {channel} burns")));
        let refused: Vec<&str> = heads.filter(|line| line.contains("channel NOT disabled")).collect();
        assert!(!refused.is_empty(), "channel {channel} is not told of as refused: {text}");
    }
    for channel in of("done") {
        let done = format!("channel {channel} burns · channel disabled");
        assert!(text.contains(&done), "{done}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_29_no_answer_holds_a_secret_after_every_kind_of_failure() {
    let chats = Chats::start().await;
    chats.telegram.change(|telegram| telegram.revoked = true);
    chats.feishu.change(|feishu| feishu.removed = true);
    chats.wecom.change(|wecom| wecom.removed = true);
    let desk = Desk::start(&chats.variables(), |flags| flags.rust_log = Some("debug".to_owned())).await;
    // As a gateway may that repeats what it was sent.
    let denied = format!(r#"{{"message":"access token {ADMIN_TOKEN} is not known","success":false}}"#);
    let denied: &'static str = denied.leak();
    desk.gateway.writes([Fault::Answer(401, denied), Fault::Answer(502, "<html>"), Fault::DoneAndSilent]);
    for channel in ["2", "5", "7", "12;DROP"] {
        desk.call("firing", &[burning(channel, "firing")]).await;
    }
    desk.process.prints_times(3, "given up").await;
    eventually("the acts have ended", async || {
        let acts = desk.acts().await;
        acts.len() == 4 && acts.iter().all(|act| act["result"] != "pending")
    })
    .await;
    let wrong = Api::new(desk.process.address, Some("wrong-password"));
    let mut said = String::new();
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        said += &desk.process.page().get(path).await.expect("an answer").1;
    }
    for route in
        ["incidents", "deliveries", "breaker", "limits", "overview", "channels", "logs", "openapi.json"]
    {
        let answer = desk.api.ask(&format!("/api/v1/{route}")).await;
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
        said += &answer.text;
        write!(said, "{:?}", answer.headers).expect("writing to a text");
        said += &wrong.ask(&format!("/api/v1/{route}")).await.text;
    }
    said += &desk.api.post("/api/v1/channels/2/trip", r#"{"reason":"to see"}"#).await.text;
    said += &desk.api.post("/webhook/alertmanager", "{").await.text;
    assert!(
        said.contains("deliveries") && said.contains("unauthorized") && said.contains("Burning"),
        "{said}"
    );
    said += &desk.process.printed();
    desk.process.kill();
    for name in ["monitor.db", "monitor.db-wal"] {
        let bytes = std::fs::read(desk.folder.path().join(name)).unwrap_or_default();
        said += &String::from_utf8_lossy(&bytes);
    }
    for secret in SECRETS.into_iter().chain([PASSWORD, METRICS_TOKEN, ADMIN_TOKEN, "demo-secret"]) {
        let place = said.find(secret);
        let around = place.map(|place| said[..place].chars().rev().take(200).collect::<String>());
        let around = around.map(|around| around.chars().rev().collect::<String>());
        assert!(place.is_none(), "{secret} behind {around:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_34_an_alert_that_ends_because_its_exporter_cannot_be_read_enables_nothing() {
    let (gateway, secrets) = (Gateway::start(&[]).await, Folder::new());
    let secret = password_file(&secrets.path());
    let monitor: SocketAddr = gateway.process.address;
    let alertmanager = Alertmanager::start(&alertmanager_config(monitor, &secret));
    // Prometheus reads the monitor through this, Alertmanager calls it directly.
    let proxy = Proxy::start(monitor.port());
    let through = SocketAddr::new(monitor.ip(), proxy.port());
    let prometheus = prometheus(through, &[&alertmanager], &secret);
    knows(&prometheus, 1).await;
    let status = || -> i64 {
        let query = "SELECT status FROM channels WHERE id = ?1";
        gateway.database().query_one(query, [CHANNEL], |row| row.get(0)).expect("a status")
    };
    // Over since hours, and for hours to come.
    gateway.limit(&format!(
        "limits:\n\
         - name: burning\n  channel: {CHANNEL}\n  measure: cost_usd\n  max: 0.01\n  window: 24h\n  \
           action: disable_channel\n  restore: window_reset\n"
    ));
    eventually("the channel is disabled", async || status() == 2).await;
    proxy.refuse();
    proxy.drop_connections();
    let api = Api::new(monitor, Some(crate::alarms::PASSWORD));
    let incident = async || api.get(&format!("incidents?channel_id={CHANNEL}")).await["items"][0].clone();
    eventually("the alert is said to be over", async || incident().await["state"] == "resolved").await;
    for _ in 0..30 {
        assert_eq!(status(), 2, "no data is no recovery");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let act = api.get("breaker").await["items"][0].clone();
    assert_eq!((&act["action"], &act["hold"]), (&"trip".into(), &"open".into()), "{act}");
    // It can be read again, and the limit is as full as before.
    proxy.heal();
    eventually("the alert fires again", async || incident().await["state"] == "firing").await;
    assert_eq!(status(), 2);
}
