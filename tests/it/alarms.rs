//! From a row to a message: the demo burns money, and the real Prometheus and Alertmanager, configured as shipped, tell a
//! webhook about it in time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::extract::{Json, State};
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::Value;
use token_monitor::clock::Clock;
use token_monitor::config::Flags;

use crate::servers::{Alertmanager, Prometheus, free_port};
use crate::support::{Folder, Process, command, eventually, free_address};

pub const PASSWORD: &str = "the-password";

/// How long after the row that crossed a limit the message must be there, in seconds.
const IN_TIME: f64 = 30.0;

/// Where an episode by hand burns money.
pub const CHANNEL: i64 = 4;
pub const MODEL: &str = "claude-opus-4-1";

/// So much may still be spent when the limit is added: a few of the burning requests, and many of the ordinary ones.
const LEFT_USD: f64 = 0.3;

/// What the channel and the model have cost, in dollars, with each row: `id`, `created_at`, `cost`. There are neither refunds
/// nor tests of this model, and the demo is younger than the window.
const COSTS: &str = "SELECT id, created_at, SUM(quota) OVER (ORDER BY id) / 500000.0 AS cost \
                     FROM logs WHERE type = 2 AND channel_id = ?1 AND model_name = ?2";

// ---- configuration ----------------------------------------------------------------------------------------------

/// The text of a shipped file with other names of hosts and secrets, and nothing else changed.
pub fn shipped(file: &str, changes: &[(&str, &str)]) -> String {
    let path = checkout().join(file);
    let mut text = std::fs::read_to_string(&path).expect("a shipped file");
    for (from, to) in changes {
        assert!(text.contains(from), "{file} does not say {from} any more");
        text = text.replace(from, to);
    }
    text
}

pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of limits with one limit.
fn limits(max: f64) -> String {
    format!(
        "limits:\n\
         - name: burning\n  channel: {CHANNEL}\n  model: {MODEL}\n  measure: cost_usd\n  max: {max}\n  window: 7d\n  \
           warn_at: 0.5\n  action: disable_channel\n  restore: 30m\n"
    )
}

// ---- what arrives -----------------------------------------------------------------------------------------------

/// A message of Alertmanager.
#[derive(Clone)]
struct Message {
    /// Unix seconds.
    arrived: f64,
    authorization: String,
    payload: Value,
}

impl Message {
    /// The alerts of a name in it that are `firing` or `resolved`.
    fn alerts<'a>(&'a self, name: &'a str, status: &'a str) -> impl Iterator<Item = &'a Value> {
        let all = self.payload["alerts"].as_array().into_iter().flatten();
        all.filter(move |alert| alert["labels"]["alertname"] == name && alert["status"] == status)
    }
}

/// A webhook that remembers what it got.
#[derive(Clone, Default)]
struct Webhook {
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Webhook {
    /// Listens, and tells where.
    async fn listen() -> (Self, SocketAddr) {
        let webhook = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let routes =
            axum::Router::new().route("/webhook/alertmanager", post(receive)).with_state(webhook.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (webhook, address)
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.lock().expect("no panic").clone()
    }

    fn find(&self, name: &str, status: &str) -> Option<(Message, Value)> {
        self.messages().into_iter().find_map(|message| {
            let alert = message.alerts(name, status).next().cloned()?;
            Some((message, alert))
        })
    }

    /// Waits for the first message with such an alert.
    async fn wait(&self, name: &str, status: &str) -> (Message, Value) {
        eventually(&format!("{name} is {status}"), async || self.find(name, status).is_some()).await;
        self.find(name, status).expect("it was there")
    }
}

async fn receive(State(webhook): State<Webhook>, headers: HeaderMap, Json(payload): Json<Value>) {
    let authorization = headers.get("authorization").map_or("", |value| value.to_str().expect("ASCII"));
    let message =
        Message { arrived: Clock::system().unix_f64(), authorization: authorization.to_owned(), payload };
    webhook.messages.lock().expect("no panic").push(message);
}

// ---- the gateway ------------------------------------------------------------------------------------------------

/// `token-monitor demo` with a file of limits.
pub struct Gateway {
    pub process: Process,
    folder: Folder,
}

impl Gateway {
    /// Without limits, with more variables.
    pub async fn start(variables: &[(&'static str, String)]) -> Self {
        let (folder, address) = (Folder::new(), free_address());
        let mut command = command(&Flags {
            listen: Some(address.to_string()),
            access_password: Some(PASSWORD.to_owned()),
            ..Flags::default()
        });
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        command.arg("demo").current_dir(folder.path()).env("LIMITS_FILE", "limits.yml");
        let file = folder.path().join("limits.yml");
        std::fs::write(file, "limits: []\n").expect("writing limits");
        let gateway = Self { process: Process::run(address, command), folder };
        gateway.process.page().wait_ready().await;
        gateway
    }

    pub fn limit(&self, text: &str) {
        std::fs::write(self.folder.path().join("limits.yml"), text).expect("writing limits");
    }

    pub fn database(&self) -> rusqlite::Connection {
        let path: PathBuf = self.folder.path().join("data/demo/one-api.db");
        let connection = rusqlite::Connection::open(path).expect("the demo's database");
        connection.busy_timeout(std::time::Duration::from_secs(10)).expect("a timeout");
        connection
    }

    fn cost(&self) -> f64 {
        let query = format!("SELECT cost FROM ({COSTS}) ORDER BY id DESC LIMIT 1");
        self.database().query_one(&query, (CHANNEL, MODEL), |row| row.get(0)).expect("a cost")
    }

    /// When the row was made that brought the costs to `max`, in Unix seconds.
    fn crossed(&self, max: f64) -> Option<f64> {
        let query = format!("SELECT created_at FROM ({COSTS}) WHERE cost >= ?3 ORDER BY id LIMIT 1");
        let found: Result<i64, _> =
            self.database().query_one(&query, (CHANNEL, MODEL, max), |row| row.get(0));
        found.ok().map(|at| at as f64)
    }

    /// Starts the episode, with the address that the demo has printed.
    pub async fn burn(&self) {
        let printed = self.process.printed();
        let url = printed.split_whitespace().find(|word| word.ends_with("/demo/episode/burn"));
        let answer = reqwest::Client::new().post(url.expect("an address")).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

// ---- the story --------------------------------------------------------------------------------------------------

/// Starts both servers between a monitor and a webhook.
fn servers(monitor: SocketAddr, webhook: SocketAddr, folder: &Path) -> (Prometheus, Alertmanager) {
    let secret = password_file(folder);
    let alertmanager = Alertmanager::start(&alertmanager_config(webhook, &secret));
    (prometheus(monitor, &[&alertmanager], &secret), alertmanager)
}

/// A file with the password.
pub fn password_file(folder: &Path) -> String {
    let file = folder.join("access_password");
    std::fs::write(&file, PASSWORD).expect("writing the password");
    file.to_str().expect("a path of UTF-8").to_owned()
}

/// Alertmanager's configuration as shipped, for this webhook.
pub fn alertmanager_config(webhook: SocketAddr, secret: &str) -> String {
    let changes =
        [("monitor-server:3002", webhook.to_string()), ("/run/secrets/access_password", secret.to_owned())];
    shipped("alertmanager/alertmanager.yml", &changes.each_ref().map(|(from, to)| (*from, to.as_str())))
}

/// Prometheus with configuration and rules as shipped, for this monitor and these Alertmanagers.
pub fn prometheus(monitor: SocketAddr, alertmanagers: &[&Alertmanager], secret: &str) -> Prometheus {
    let port = free_port();
    let addresses: Vec<String> =
        alertmanagers.iter().map(|one| one.url().trim_start_matches("http://").to_owned()).collect();
    let config = shipped(
        "prometheus/prometheus.yml",
        &[
            ("monitor-server:3002", &monitor.to_string()),
            ("alertmanager:9093", &addresses.join(", ")),
            ("localhost:9090", &format!("127.0.0.1:{port}")),
            ("/run/secrets/access_password", secret),
        ],
    );
    Prometheus::start_with_rules(port, &config, &checkout().join("prometheus/rules"))
}

/// Waits until Prometheus sends to so many Alertmanagers. What fires before that is sent a minute later.
pub async fn knows(prometheus: &Prometheus, count: usize) {
    let known = async || prometheus.alertmanagers().await.as_array().is_some_and(|all| all.len() == count);
    eventually("Prometheus knows Alertmanager", known).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn burning_money_reaches_a_webhook_within_half_a_minute() {
    let (webhook, address) = Webhook::listen().await;
    let gateway = Gateway::start(&[]).await;
    let secrets = Folder::new();
    let (prometheus, alertmanager) = servers(gateway.process.address, address, &secrets.path());
    knows(&prometheus, 1).await;

    let max = gateway.cost() + LEFT_USD;
    gateway.limit(&limits(max));
    let (warned, warning) = webhook.wait("NewApiLimitWarning", "firing").await;
    assert_eq!(warned.payload["receiver"], "limits");
    assert_labels(&warning, &[("severity", "warning")]);
    assert_eq!(gateway.crossed(max), None, "over before anything burnt");

    gateway.burn().await;
    let (message, alert) = webhook.wait("NewApiLimitExceeded", "firing").await;
    let took = message.arrived - gateway.crossed(max).expect("a row that crossed it");
    assert!((0.0..=IN_TIME).contains(&took), "{took} s after the row");
    assert_eq!(message.payload["receiver"], "breaker");
    let breaking = [("severity", "critical"), ("action", "disable_channel"), ("restore", "30m")];
    assert_labels(&alert, &breaking);
    assert_texts(&alert, &format!(" of {max:.2} USD used"));
    eventually("the warning is held back", async || is_inhibited(&alertmanager, "NewApiLimitWarning").await)
        .await;

    gateway.limit(&limits(max * 10.0));
    let (_, resolved) = webhook.wait("NewApiLimitExceeded", "resolved").await;
    assert_labels(&resolved, &breaking);

    let messages = webhook.messages();
    for message in &messages {
        assert_eq!(message.authorization, format!("Bearer {PASSWORD}"));
        assert_eq!(
            (&message.payload["version"], &message.payload["truncatedAlerts"]),
            (&"4".into(), &0.into())
        );
    }
    let breaking = messages.iter().filter(|message| message.payload["receiver"] == "breaker");
    assert_eq!(breaking.count(), 2, "it breaks once, and is over once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_larger_alert_says_as_well_is_held_back_and_nothing_else() {
    let ((_webhook, address), folder) = (Webhook::listen().await, Folder::new());
    let alertmanager = Alertmanager::start(&alertmanager_config(address, &password_file(&folder.path())));
    let alert = |name: &str, labels: &[(&str, &str)]| {
        let mut all = serde_json::Map::from_iter([("alertname".to_owned(), name.into())]);
        all.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
        serde_json::json!({ "labels": all, "annotations": {"summary": "x"} })
    };
    let breaking =
        [("limit", "a"), ("channel_id", "3"), ("action", "disable_channel"), ("severity", "critical")];
    let (three, four, other) = (
        [("limit", "a"), ("channel_id", "3")],
        [("limit", "a"), ("channel_id", "4")],
        [("limit", "b"), ("channel_id", "3")],
    );
    let [one_model, another_model] =
        ["gpt-4o", "gpt-5"].map(|model| [("limit", "c"), ("channel_id", "3"), ("model", model)]);
    let smaller = [
        "NewApiChannelErrorRate",
        "NewApiChannelLatency",
        "NewApiChannelTimeToFirstToken",
        "NewApiSlowRequestShare",
    ];
    let mut alerts = vec![
        (alert("NewApiLimitExceeded", &breaking), false),
        (alert("NewApiLimitWarning", &three), true),
        (alert("NewApiLimitProjected", &three), true),
        (alert("NewApiLimitWarning", &four), false),
        (alert("NewApiLimitProjected", &other), false),
        (alert("NewApiLimitExceeded", &one_model), false),
        (alert("NewApiLimitWarning", &one_model), true),
        (alert("NewApiLimitWarning", &another_model), false),
        (alert("NewApiChannelFailing", &[("channel_id", "5")]), false),
        (alert("NewApiCostSpike", &[("channel_id", "5")]), false),
        (alert("NewApiDatabaseDown", &[("severity", "critical")]), false),
        (alert("NewApiTrafficSilent", &[("severity", "critical")]), true),
        (alert("TokenMonitorTailLagging", &[("severity", "critical")]), true),
        (alert("TokenMonitorRulesFailing", &[("severity", "critical")]), false),
        (alert("NewApiModelWithoutChannel", &[("model", "m"), ("group", "g")]), false),
        (alert("MyOwnRule", &[("severity", "warning")]), false),
    ];
    for name in smaller {
        alerts.push((alert(name, &[("channel_id", "5")]), true));
        alerts.push((alert(name, &[("channel_id", "6")]), false));
    }
    let sorted = |mut labels: Vec<String>| {
        labels.sort();
        labels
    };
    let held = async || {
        let all = alertmanager.alerts().await;
        let held = all.as_array().expect("a list").iter();
        let held = held.filter(|alert| alert["status"]["inhibitedBy"] != serde_json::json!([]));
        sorted(held.map(|alert| key(&alert["labels"])).collect())
    };
    let send = async |alerts: &[(Value, bool)]| {
        alertmanager.post_alerts(&alerts.iter().map(|(alert, _)| alert.clone()).collect()).await;
        let wanted = alerts.iter().filter(|(_, held)| *held);
        let wanted = sorted(wanted.map(|(alert, _)| key(&alert["labels"])).collect());
        eventually("the rest is held back", async || held().await == wanted).await;
    };
    send(&alerts).await;
    // Without the monitor nothing else is known, but what breaks a circuit, what Prometheus knows of itself, and what is
    // not ours goes on.
    alerts.push((alert("TokenMonitorDown", &[("severity", "critical")]), false));
    for (alert, held) in &mut alerts {
        let labels = &alert["labels"];
        let ours = labels["alertname"].as_str().is_some_and(|name| {
            !["MyOwnRule", "TokenMonitorDown", "TokenMonitorRulesFailing"].contains(&name)
        });
        *held = ours && labels["action"] != "disable_channel";
    }
    send(&alerts).await;
}

/// Labels as something to compare.
fn key(labels: &Value) -> String {
    let labels: std::collections::BTreeMap<String, String> =
        serde_json::from_value(labels.clone()).expect("labels");
    format!("{labels:?}")
}

/// Wants exactly the labels of this limit and these.
fn assert_labels(alert: &Value, more: &[(&str, &str)]) {
    let channel = CHANNEL.to_string();
    let mut expected = BTreeSet::from([
        ("limit", "burning"),
        ("channel_id", channel.as_str()),
        ("model", MODEL),
        ("measure", "cost_usd"),
        ("window", "7d"),
    ]);
    expected.extend(more);
    let labels = alert["labels"].as_object().expect("labels");
    let found = labels.iter().map(|(name, value)| (name.as_str(), value.as_str().expect("a text")));
    let found: BTreeSet<_> = found.filter(|(name, _)| *name != "alertname").collect();
    assert_eq!(found, expected, "{alert}");
}

/// Wants sentences that tell what, where and how much.
fn assert_texts(alert: &Value, amount: &str) {
    let text = |name: &str| alert["annotations"][name].as_str().expect("a text").to_owned();
    let (summary, description) = (text("summary"), text("description"));
    let place = format!("({CHANNEL}), model {MODEL}");
    assert!(summary.starts_with("Limit burning is exceeded: 10"), "{summary}");
    assert!(summary.contains("% used, channel ") && summary.ends_with(&place), "{summary}");
    assert!(description.contains(amount) && description.contains(&place), "{description}");
    assert!(description.contains("disable the channel"), "{description}");
    for text in [summary, description] {
        let ugly = ["  ", "\n", "{{", "<no value>", "error", " .", " ,"];
        assert!(!ugly.iter().any(|ugly| text.contains(ugly)) && text.trim() == text, "{text:?}");
    }
    assert!(text("runbook_url").ends_with("#newapilimitexceeded"));
}

async fn is_inhibited(alertmanager: &Alertmanager, name: &str) -> bool {
    let alerts = alertmanager.alerts().await;
    alerts.as_array().into_iter().flatten().any(|alert| {
        alert["labels"]["alertname"] == name && alert["status"]["inhibitedBy"] != serde_json::json!([])
    })
}
