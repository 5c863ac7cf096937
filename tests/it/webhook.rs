//! The webhook as Alertmanager and Grafana call it: what it answers, what it leaves behind, and what it withstands.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use token_monitor::config::Flags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Answer, Api, Folder, Monitor, command, eventually, flags, problem};

const PASSWORD: &str = "the-password";

/// A monitor with one chat, which cannot be reached.
struct Desk {
    monitor: Monitor,
    client: reqwest::Client,
    flags: Flags,
    folder: Folder,
    database: Database,
}

impl Desk {
    async fn start(password: Option<&str>) -> Self {
        let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
        let flags = Flags {
            access_password: password.map(str::to_owned),
            metrics_token: Some("the-token".into()),
            feishu_webhook: Some("http://127.0.0.1:9/open-apis/bot/v2/hook/x".into()),
            ..flags(&database.url, &folder.path())
        };
        let client = token_monitor::outbound::client(None).expect("a client");
        let monitor = Monitor::start(&flags).await;
        Self { monitor, client, flags, folder, database }
    }

    fn api(&self) -> Api {
        Api::new(self.monitor.address, self.flags.access_password.as_deref())
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.monitor.address);
        self.client.post(url).header("content-type", "application/json")
    }

    /// Calls the webhook as it should be called.
    async fn call(&self, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.request("/webhook/alertmanager").body(body);
        sent(match &self.flags.access_password {
            Some(password) => request.bearer_auth(password),
            None => request,
        })
        .await
    }

    /// How often calls ended so.
    async fn counted(&self, result: &str) -> f64 {
        let (_, page) = self.monitor.page().get("/metrics").await.expect("an answer");
        let name = format!("token_monitor_webhooks_total{{result=\"{result}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&name)).expect("the sample");
        value.parse().expect("a number")
    }

    async fn incidents(&self) -> Vec<Value> {
        self.api().pages("incidents?limit=2").await.0
    }

    async fn deliveries(&self) -> Vec<Value> {
        self.api().pages("deliveries?target=feishu").await.0
    }
}

async fn sent(request: reqwest::RequestBuilder) -> Answer {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, text: answer.text().await.expect("a body") }
}

/// As Alertmanager 0.25 sends it, with a beginning that a test can tell apart.
fn body(name: &str, status: &str, starts_at: &str) -> String {
    json!({
        "receiver": "breaker", "status": status, "version": "4", "groupKey": "{}:{alertname=\"x\"}",
        "externalURL": "http://am:9093", "groupLabels": {}, "commonLabels": {}, "truncatedAlerts": 0,
        "alerts": [{
            "status": status, "labels": {"alertname": name, "severity": "critical", "channel_id": "3"},
            "annotations": {"summary": "it burns"}, "startsAt": starts_at, "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus:9090/graph", "fingerprint": format!("{name:0>16}"),
        }],
    })
    .to_string()
}

const START: &str = "2026-11-23T12:50:53.123456789+08:00";

#[tokio::test]
async fn fault_1_and_2_what_alertmanager_and_grafana_send_becomes_an_incident_and_a_message() {
    let desk = Desk::start(Some(PASSWORD)).await;
    let answer = desk.call(body("a", "firing", START)).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"result": "accepted"})));
    let grafana = body("b", "firing", START).replace(
        r#""version":"4""#,
        r#""version":"1","orgId":1,"title":"[FIRING:1]","state":"alerting","commonAnnotations":null"#,
    );
    assert_eq!(desk.call(grafana).await.status, 200);
    assert_eq!(desk.call(body("a", "resolved", START)).await.status, 200);

    let incidents = desk.incidents().await;
    let [newer, older] = incidents.as_slice() else { panic!("{incidents:?}") };
    assert_eq!(
        (&newer["rule"], &newer["state"], &older["state"]),
        (&json!("b"), &json!("firing"), &json!("resolved"))
    );
    assert_eq!(older["started_at"], "2026-11-23T04:50:53.123Z");
    assert_eq!((&older["notifications"], &older["severity"]), (&json!(2), &json!("critical")));
    assert_eq!((&older["channel_id"], &older["annotations"]["summary"]), (&json!(3), &json!("it burns")));
    assert_eq!(desk.api().get("incidents?state=firing").await["items"], json!([newer]));
    assert_eq!(desk.api().get("incidents?channel_id=4").await["items"], json!([]));
    assert!(!desk.deliveries().await.is_empty());
    desk.api().problem("incidents?state=dead", 400).await;
    desk.api().problem("deliveries?state=firing", 400).await;
    desk.monitor.stop().await;
}

#[tokio::test]
async fn fault_3_what_is_no_notification_is_refused_with_its_place() {
    let desk = Desk::start(Some(PASSWORD)).await;
    let whole = body("a", "firing", START);
    let bad_start = whole.replace(START, "soon");
    let cases = [
        ("hello".to_owned(), "not JSON"),
        (whole[..200].to_owned(), "not JSON"),
        ("{}".to_owned(), "alerts: is missing"),
        (r#"{"alerts":null}"#.to_owned(), "alerts: is missing"),
        ("[".repeat(500_000), "nested deeper"),
        (bad_start, "alerts[0].startsAt"),
    ];
    let number = cases.len();
    for (body, said) in cases {
        let problem = problem(said, &desk.call(body).await, 400);
        assert_eq!(problem["type"], "/problems/bad-body");
        assert!(problem["detail"].as_str().expect("a text").contains(said), "{problem}");
    }
    let counts = async || desk.counted("malformed").await == number as f64;
    eventually("they are counted", counts).await;
    assert_eq!(desk.call(r#"{"alerts":[]}"#).await.status, 200);
    assert!(desk.incidents().await.is_empty() && desk.deliveries().await.is_empty());
    desk.monitor.stop().await;
}

#[tokio::test]
async fn fault_4_a_body_without_end_is_refused_and_a_large_one_is_not() {
    let desk = Desk::start(Some(PASSWORD)).await;
    let long = vec![b' '; 17 * 1024 * 1024];
    problem("announced", &desk.call(long).await, 413);
    assert!(chunked(desk.monitor.address).await.starts_with("HTTP/1.1 413 "));
    eventually("they are counted", async || desk.counted("too_large").await == 2.0).await;
    // More than axum's own limit.
    let mut large = body("a", "firing", START);
    large.push_str(&" ".repeat(15 * 1024 * 1024));
    assert_eq!(desk.call(large).await.status, 200);
    desk.monitor.stop().await;
}

/// What is answered to 17 MiB of which nobody said how long they are.
async fn chunked(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "POST /webhook/alertmanager HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {PASSWORD}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sending");
    let piece = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    for _ in 0..17 {
        stream.write_all(piece.as_bytes()).await.expect("sending");
    }
    stream.write_all(b"0\r\n\r\n").await.expect("sending");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// What is answered to somebody who sends a head and then a byte now and then.
async fn dripped(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "POST /webhook/alertmanager HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {PASSWORD}\r\n\
         content-type: application/json\r\ncontent-length: 100000\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.expect("sending");
    let (mut from, mut to) = stream.into_split();
    let drip = async {
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        read = from.read_to_end(&mut answer) => { read.ok(); }
        () = drip => { from.read_to_end(&mut answer).await.ok(); }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn fault_4_one_who_drips_is_hung_up_on() {
    let desk = Desk::start(Some(PASSWORD)).await;
    let answer = dripped(desk.monitor.address).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(desk.call(body("a", "firing", START)).await.status, 200);
    desk.monitor.stop().await;
}

#[tokio::test]
async fn fault_5_only_the_password_opens_it() {
    let desk = Desk::start(Some(PASSWORD)).await;
    for path in ["/webhook/alertmanager", "/webhook/alertmanager/"] {
        let ask = || desk.request(path).body(body("a", "firing", START));
        problem("none", &sent(ask()).await, 401);
        problem("wrong", &sent(ask().bearer_auth("old")).await, 401);
        problem("empty", &sent(ask().bearer_auth("")).await, 401);
        problem("of the metrics", &sent(ask().bearer_auth("the-token")).await, 401);
        assert_eq!(sent(ask().bearer_auth(PASSWORD)).await.status, 200);
        assert_eq!(sent(ask().basic_auth("anyone", Some(PASSWORD))).await.status, 200);
    }
    assert_eq!(desk.incidents().await.len(), 1);
    let answer = desk.api().ask("/webhook/alertmanager").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    desk.monitor.stop().await;
}

#[tokio::test]
async fn a_page_of_another_site_cannot_call_it_where_no_password_is_needed() {
    let desk = Desk::start(None).await;
    let url = format!("http://{}/webhook/alertmanager", desk.monitor.address);
    let plain = || desk.client.post(&url).body(body("a", "firing", START));
    problem("no type", &sent(plain()).await, 415);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        problem(kind, &sent(plain().header("content-type", kind)).await, 415);
    }
    let foreign = plain().header("content-type", "application/json").header("host", "evil.example");
    problem("foreign", &sent(foreign).await, 403);
    assert!(desk.incidents().await.is_empty());
    for action in ["trip", "reset"] {
        let url = format!("http://{}/api/v1/channels/3/{action}", desk.monitor.address);
        problem(action, &sent(desk.client.post(&url)).await, 415);
        problem(action, &sent(desk.client.post(&url).header("content-type", "text/plain")).await, 415);
    }
    assert_eq!(desk.api().get("breaker").await["items"], json!([]));
    assert_eq!(desk.call(body("a", "firing", START)).await.status, 200);
    desk.monitor.stop().await;
}

#[tokio::test]
async fn who_brings_the_password_along_need_not_say_that_it_is_json() {
    let desk = Desk::start(Some(PASSWORD)).await;
    let post = |path: &str| desk.client.post(format!("http://{}{path}", desk.monitor.address));
    // A browser adds a Basic password that it remembers to what a page of another site sends, but never a Bearer.
    for kind in ["", "text/plain", "application/x-www-form-urlencoded"] {
        let call =
            || post("/webhook/alertmanager").header("content-type", kind).body(body("a", "firing", START));
        assert_eq!(sent(call().bearer_auth(PASSWORD)).await.status, 200, "{kind}");
        problem(kind, &sent(call().basic_auth("grafana", Some(PASSWORD))).await, 415);
    }
    for action in ["trip", "reset"] {
        let call = || post(&format!("/api/v1/channels/3/{action}"));
        // The breaker is off here, and says so.
        problem(action, &sent(call().bearer_auth(PASSWORD)).await, 409);
        problem(action, &sent(call().basic_auth("me", Some(PASSWORD))).await, 415);
        let json = call().header("content-type", "application/json");
        problem(action, &sent(json.basic_auth("me", Some(PASSWORD))).await, 409);
    }
    desk.monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_6_and_7_twins_and_redeliveries_are_one_event_and_one_message() {
    let desk = Desk::start(Some(PASSWORD)).await;
    let calls = (0..8).map(|_| desk.call(body("a", "firing", START)));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    let fresh = answers.iter().filter(|answer| answer.json()["result"] == "accepted").count();
    assert_eq!(fresh, 1);
    assert_eq!(desk.call(body("a", "firing", START)).await.json(), json!({"result": "duplicate"}));
    eventually("they are counted", async || desk.counted("duplicate").await == 8.0).await;
    assert_eq!(desk.counted("accepted").await, 1.0);
    let incidents = desk.incidents().await;
    assert_eq!((incidents.len(), &incidents[0]["notifications"]), (1, &json!(1)));
    assert_eq!(desk.deliveries().await.len(), 1);
    // Also after a restart.
    let Desk { monitor, client, flags, folder, database } = desk;
    monitor.stop().await;
    let desk = Desk { monitor: Monitor::start(&flags).await, client, flags, folder, database };
    assert_eq!(desk.call(body("a", "firing", START)).await.json(), json!({"result": "duplicate"}));
    desk.monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_12_while_monitor_db_is_locked_the_sender_is_told_to_come_again() {
    let desk = Desk::start(Some(PASSWORD)).await;
    let other = rusqlite::Connection::open(desk.folder.path().join("monitor.db")).expect("monitor.db");
    other.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    let answer = desk.call(body("a", "firing", START)).await;
    let told = problem("locked", &answer, 503);
    // Others wait for monitor.db as well, so patience may end before the lock is told of.
    let types = [json!("/problems/store-unavailable"), json!("/problems/timeout")];
    assert!(types.contains(&told["type"]), "{told}");
    assert!(!answer.text.contains("/tmp"), "{}", answer.text);
    other.execute_batch("ROLLBACK").expect("no lock");
    // A call that was given up may have been taken in all the same; then it is known.
    assert_eq!(desk.call(body("a", "firing", START)).await.status, 200);
    assert_eq!((desk.incidents().await.len(), desk.deliveries().await.len()), (1, 1));
    assert_eq!(desk.counted("unavailable").await, 1.0);
    desk.monitor.stop().await;
}

#[tokio::test]
async fn an_operator_is_told_what_is_wrong_with_a_request() {
    let desk = Desk::start(Some(PASSWORD)).await;
    let ask = |path: &str| desk.request(&format!("/api/v1/channels/{path}")).bearer_auth(PASSWORD);
    problem("no channel", &sent(ask("0/trip")).await, 400);
    problem("no channel", &sent(ask("x/reset")).await, 400);
    problem("a field", &sent(ask("3/trip").body(r#"{"why":"x"}"#)).await, 400);
    for odd in ["[]", " []", r#"["x"]"#, "null", "3", r#""x""#, " "] {
        problem(odd, &sent(ask("3/reset").body(odd)).await, 400);
    }
    problem("long", &sent(ask("3/trip").body(json!({"reason": "x".repeat(201)}).to_string())).await, 400);
    problem("longer", &sent(ask("3/trip").body("x".repeat(9_000))).await, 413);
    problem("a parameter", &sent(ask("3/trip?force=true")).await, 400);
    let anonymous = desk.request("/api/v1/channels/3/trip");
    problem("no password", &sent(anonymous).await, 401);
    let answer = desk.api().ask("/api/v1/channels/3/trip").await;
    problem("read", &answer, 405);
    assert_eq!(answer.header("allow"), "POST");
    assert_eq!(desk.api().get("breaker").await["items"], json!([]));
    desk.monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_listed_and_given_up_beside_a_running_monitor() {
    let desk = Desk::start(Some(PASSWORD)).await;
    desk.call(body("a", "firing", START)).await;
    let run = |arguments: &[&str]| {
        let mut command = command(&desk.flags);
        command.env("FEISHU_WEBHOOK", "http://127.0.0.1:9/open-apis/bot/v2/hook/x");
        let output = command.arg("deliveries").args(arguments).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, said) = run(&["list"]);
    assert!(code == Some(0) && said.starts_with("1  ") && said.contains("feishu"), "{said}");
    assert_eq!(run(&["list", "--state", "sent"]), (Some(0), "no deliveries\n".to_owned()));
    eventually("it waits", async || run(&["drop", "1"]) == (Some(0), "1 is given up\n".to_owned())).await;
    assert_eq!(desk.deliveries().await[0]["state"], "dead");
    assert_eq!(run(&["drop", "1", "7"]).0, Some(1));
    assert_eq!(run(&["retry", "--dead"]), (Some(0), "1 is sent again\n".to_owned()));
    assert_eq!(run(&["retry", "7"]).0, Some(1));
    assert_eq!(run(&["retry"]).0, Some(2));
    let (code, said) = run(&["list", "--target", "pager"]);
    assert!(code == Some(2) && said.contains("telegram, feishu, wecom"), "{said}");
    desk.monitor.stop().await;
}
