//! What an operator is answered who disables and enables channels over the API, while the gateway does what it is
//! told, or not.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use token_monitor::config::Flags;

use crate::breaker::{ALONE, breaker_flags};
use crate::fakes::admin::{FakeAdmin, Fault, Style};
use crate::support::{Answer, Api, Folder, Monitor, eventually, problem};

/// A monitor that follows a gateway, and its API.
struct Desk {
    gateway: FakeAdmin,
    monitor: Monitor,
    api: Api,
    /// The API as its own document says it.
    document: Value,
    _folder: Folder,
}

impl Desk {
    async fn start(style: Style) -> Self {
        Self::with(style, |_| {}).await
    }

    async fn with(style: Style, change: impl FnOnce(&mut Flags)) -> Self {
        let (gateway, folder) = (FakeAdmin::start(style).await, Folder::new());
        let mut flags = breaker_flags(&gateway, &folder);
        change(&mut flags);
        let monitor = Monitor::start(&flags).await;
        monitor.page().wait_ready().await;
        let api = Api::new(monitor.address, flags.access_password.as_deref());
        let document = api.get("openapi.json").await;
        Self { gateway, monitor, api, document, _folder: folder }
    }

    /// The answer, which must be one of those that the document has for the route.
    async fn ask(&self, channel: i64, action: &str) -> Answer {
        let body = r#"{"reason": "it burns"}"#;
        let answer = self.api.post(&format!("/api/v1/channels/{channel}/{action}"), body).await;
        let documented = &self.documented(action)[answer.status.to_string()];
        assert!(documented.is_object(), "{action} does not tell of {}: {}", answer.status, answer.text);
        answer
    }

    fn documented(&self, action: &str) -> &Value {
        &self.document["paths"][format!("/api/v1/channels/{{id}}/{action}")]["post"]["responses"]
    }

    /// The act that is answered with this status, with the fields of the document.
    async fn act(&self, channel: i64, action: &str, status: u16) -> Value {
        let answer = self.ask(channel, action).await;
        assert_eq!(answer.status, status, "{action}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
        let act = answer.json();
        let fields = |value: &Value| value.as_object().expect("an object").keys().cloned().collect();
        let example = &self.documented(action)[status.to_string()]["content"]["application/json"]["example"];
        let (told, wanted): (BTreeSet<String>, BTreeSet<String>) = (fields(&act), fields(example));
        assert_eq!(told, wanted, "{action}");
        let kind = if action == "trip" { "trip" } else { "restore" };
        assert_eq!((&act["action"], &act["channel_id"]), (&kind.into(), &channel.into()), "{act}");
        assert_eq!(act["origin"], "operator", "{act}");
        act
    }

    /// A problem of this status, which the ledger tells of with this result and reason.
    async fn refused(&self, channel: i64, action: &str, status: u16, reason: &str) -> Value {
        let said = problem(reason, &self.ask(channel, action).await, status);
        let (kind, result) =
            if status == 409 { ("refused", "refused") } else { ("gateway-failed", "failed") };
        assert_eq!(said["type"], format!("/problems/{kind}"), "{said}");
        let act = &self.breaker().await["items"][0];
        assert_eq!((&act["result"], &act["reason"]), (&result.into(), &reason.into()), "{act}");
        assert_eq!(act["asked_because"], "it burns");
        let detail = format!("act {}: {}", act["id"], act["detail"].as_str().expect("words"));
        assert_eq!(said["detail"], detail);
        assert!(!detail.contains("demo-secret"), "{detail}");
        said
    }

    async fn breaker(&self) -> Value {
        self.api.get("breaker").await
    }

    async fn end(self) {
        self.monitor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_disables_and_enables_a_channel_is_told_that_it_is_done() {
    for style in Style::ALL {
        let desk = Desk::start(style).await;
        let act = desk.act(2, "trip", 200).await;
        assert_eq!((&act["result"], &act["restore"]), (&"done".into(), &"never".into()), "{style:?}");
        assert!(act["finished_at"].is_string() && act["channel_name"].is_string(), "{act}");
        assert_eq!(desk.gateway.status(2), 2, "{style:?}");
        let breaker = desk.breaker().await;
        assert_eq!(breaker["open"][0]["channel_id"], 2, "{breaker}");
        assert_eq!(breaker["items"][0]["asked_because"], "it burns", "{breaker}");

        let written = desk.gateway.written().len();
        assert_eq!(desk.act(2, "trip", 200).await["result"], "already_so", "{style:?}");
        assert_eq!(desk.gateway.written().len(), written, "what is so is not asked for");

        assert_eq!(desk.act(2, "reset", 200).await["result"], "done", "{style:?}");
        assert_eq!(desk.gateway.status(2), 1, "{style:?}");
        assert_eq!(desk.breaker().await["open"], Value::Array(Vec::new()));
        assert_eq!(desk.act(2, "reset", 200).await["result"], "already_so", "{style:?}");
        desk.end().await;
    }
    let desk = Desk::with(Style::New, |flags| flags.breaker_mode = Some("dry_run".to_owned())).await;
    let act = desk.act(2, "trip", 200).await;
    assert_eq!((&act["result"], &act["reason"]), (&"would_do".into(), &"dry_run".into()));
    assert_eq!((desk.gateway.status(2), desk.gateway.written().len()), (1, 0));
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guard_refuses_to_an_operator_is_409_and_nothing_is_sent() {
    let desk = Desk::with(Style::New, |flags| flags.breaker_protect = Some("5".to_owned())).await;
    desk.refused(5, "trip", 409, "protected").await;
    desk.refused(4711, "trip", 409, "unknown_channel").await;
    desk.refused(4711, "reset", 409, "unknown_channel").await;
    desk.refused(ALONE, "trip", 409, "last_of").await;
    desk.gateway.by_hand(7, 2);
    desk.refused(7, "reset", 409, "not_ours").await;
    assert_eq!(desk.gateway.written(), Vec::<String>::new());
    // Who has no password, or asks for what there is not, does not even stand in the ledger.
    let before = desk.breaker().await["items"][0]["id"].clone();
    let stranger = Api::new(desk.monitor.address, Some("old password"));
    for action in ["trip", "reset"] {
        let answer = stranger.post(&format!("/api/v1/channels/2/{action}"), "").await;
        problem(action, &answer, 401);
    }
    problem("no such action", &desk.api.post("/api/v1/channels/2/explode", "").await, 404);
    assert_eq!(desk.breaker().await["items"][0]["id"], before);
    desk.end().await;

    let desk = Desk::with(Style::New, |flags| flags.breaker_mode = Some("off".to_owned())).await;
    desk.refused(2, "trip", 409, "off").await;
    desk.refused(2, "reset", 409, "off").await;
    assert_eq!(desk.gateway.written(), Vec::<String>::new());
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_new_api_does_not_do_for_an_operator_is_502() {
    let desk = Desk::start(Style::New).await;
    let too_low = r#"{"code":"AUTH_INSUFFICIENT_PRIVILEGE","message":"x","success":false}"#;
    desk.gateway.writes([Fault::Answer(401, too_low)]);
    desk.refused(2, "trip", 502, "denied").await;
    desk.gateway.writes(vec![Fault::Answer(200, r#"{"message":"database is locked","success":false}"#); 3]);
    let said = desk.refused(2, "trip", 502, "rejected").await;
    assert!(said["detail"].as_str().expect("words").contains("database is locked"), "{said}");
    assert_eq!(desk.gateway.status(2), 1);
    // The way back fails in the same way, and the channel stays ours.
    desk.act(2, "trip", 200).await;
    desk.gateway.writes([Fault::Answer(401, too_low)]);
    desk.refused(2, "reset", 502, "denied").await;
    assert_eq!((desk.gateway.status(2), &desk.breaker().await["open"][0]["channel_id"]), (2, &2.into()));
    desk.act(2, "reset", 200).await;
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_has_waited_long_enough_is_told_that_it_is_under_way() {
    let desk = Desk::start(Style::New).await;
    for (action, status) in [("trip", 2), ("reset", 1)] {
        desk.gateway.always(Fault::Answer(503, ""));
        let began = Instant::now();
        let act = desk.act(2, action, 202).await;
        let waited = began.elapsed();
        assert!(waited >= Duration::from_secs(8) && waited < Duration::from_secs(15), "{waited:?}");
        assert_eq!((&act["result"], &act["finished_at"]), (&"pending".into(), &Value::Null), "{act}");
        desk.gateway.heal();
        eventually("it is done", async || desk.breaker().await["items"][0]["result"] == "done").await;
        assert_eq!(desk.gateway.status(2), status);
        assert_eq!(desk.breaker().await["items"][0]["id"], act["id"]);
    }
    desk.end().await;
}
