//! Alerts, messages and acts of a window and of a channel.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use token_monitor::alert::{Alert, Status};
use token_monitor::clock::Clock;
use token_monitor::config::Flags;
use token_monitor::limits::Restore;
use token_monitor::message::{Change, Target};
use token_monitor::store::{Store, TripRequest};

use crate::deliveries::{tell, told};
use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, eventually, flags};

/// A name, labels, hours since its beginning and, if it is over, since its end.
type Row = (&'static str, &'static [(&'static str, &'static str)], i64, Option<i64>);

/// Alerts of the tests.
const ALERTS: [Row; 4] = [
    ("Old", &[("channel_id", "3")], 24 * 40, Some(24 * 40 - 1)),
    ("Over", &[("channel_id", "3")], 10, Some(9)),
    ("Lasting", &[("channel_id", "4"), ("model", "gpt-4o")], 5, None),
    ("New", &[("model", "claude")], 0, None),
];

fn alert(name: &str, labels: &[(&str, &str)], starts_at: Timestamp) -> Alert {
    let mut alert = told(name, Change::Opened).alert;
    alert.labels.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    alert.starts_at = starts_at;
    alert
}

/// What stands in monitor.db before the start.
fn fill(store: &Store, now: Timestamp) {
    let before = |hours: i64| now - SignedDuration::from_hours(hours);
    for ((name, labels, began, ended), incident) in ALERTS.into_iter().zip(1..) {
        let mut alert = alert(name, labels, before(began));
        store.write(|w| w.note_alerts(&[alert.clone()], "r", before(began))).expect("noted");
        let mut told = told(name, Change::Opened);
        told.alert = alert.clone();
        tell(store, name, vec![told], &[Target::Wecom], before(began));
        if let Some(channel) = labels.iter().find(|(name, _)| *name == "channel_id") {
            let request = TripRequest {
                incident,
                rule: name.to_owned(),
                fingerprint: alert.fingerprint.clone(),
                channel: Ok(channel.1.parse().expect("a number")),
                starts_at: before(began),
                restore: Restore::Never,
                limit: None,
                at: before(began),
                process_began: before(began),
            };
            store.write(|w| w.request_trip(&request)).expect("asked");
        }
        if let Some(ended) = ended {
            alert.status = Status::Resolved;
            alert.ends_at = Some(before(ended));
            store.write(|w| w.note_alerts(&[alert.clone()], "r", before(ended))).expect("noted");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn incidents_deliveries_and_acts_are_those_of_the_window_and_of_the_channel() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let now = Timestamp::from_second(Clock::system().unix()).expect("now");
    let store = Store::open(&folder.path().join("monitor.db")).expect("a store");
    fill(&store, now);
    drop(store);
    let flags = Flags {
        wecom_webhook: Some("http://127.0.0.1:9/cgi-bin/webhook/send?key=none".to_owned()),
        ..flags(&database.url, &folder.path())
    };
    let monitor = Monitor::start(&flags).await;
    let api = monitor.api();
    let rules = async |query: &str| -> Vec<String> {
        let (items, _) = api.pages(&format!("incidents?limit=1&{query}")).await;
        items.iter().map(|item| item["rule"].as_str().expect("a rule").to_owned()).collect()
    };
    let at = |hours: i64| (now - SignedDuration::from_hours(hours)).as_second();
    assert_eq!(rules("").await, ["New", "Lasting", "Over", "Old"]);
    assert_eq!(rules("window=&from=&to=&channel_id=*&model=.*").await.len(), 4);
    // What was there in the window, whenever it began.
    assert_eq!(rules("window=1h").await, ["New", "Lasting"]);
    assert_eq!(rules(&format!("from={}&to={}", at(11), at(8))).await, ["Over"]);
    assert_eq!(rules(&format!("from={}&to={}", at(7), at(6))).await, [""; 0]);
    // Further back than the history of the log.
    assert_eq!(rules(&format!("from={}&to={}", at(24 * 50), at(24 * 30))).await, ["Old"]);
    assert_eq!(rules("channel_id=3").await, ["Over", "Old"]);
    assert_eq!(rules("channel_id=3,4&window=20h").await, ["Lasting", "Over"]);
    assert_eq!(rules("model=claude,gpt-4o&state=firing").await, ["New", "Lasting"]);
    assert_eq!(rules("model=claude").await, ["New"]);

    // The breaker is off, and says so of each act in a message of its own.
    eventually("the acts have ended", async || api.pages("deliveries").await.0.len() == 7).await;
    let count = async |query: &str| {
        let (items, _) = api.pages(&format!("deliveries?limit=2&{query}")).await;
        let of = |kind: &str| items.iter().filter(|item| item["kind"] == kind).count();
        (of("alerts"), of("act"))
    };
    assert_eq!(count("").await, (4, 3));
    assert_eq!(count("window=6h").await, (2, 3));
    assert_eq!(count(&format!("to={}", at(7))).await, (2, 0));
    assert_eq!(count("channel_id=3").await, (2, 2));
    assert_eq!(count("channel_id=4&window=6h&target=wecom").await, (1, 1));
    assert_eq!(count("channel_id=5").await, (0, 0));
    assert_eq!(count("channel_id=*").await, (4, 3));

    let channels = async |query: &str| -> Vec<Value> {
        let (items, _) = api.pages(&format!("breaker?limit=1&{query}")).await;
        items.iter().map(|item| item["channel_id"].clone()).collect()
    };
    assert_eq!(channels("").await, [4, 3, 3]);
    assert_eq!(channels("window=12h").await, [4, 3]);
    assert_eq!(channels(&format!("to={}", at(9))).await, [3, 3]);
    assert_eq!(channels("channel_id=4").await, [4]);
    for route in ["incidents", "deliveries", "breaker"] {
        api.problem(&format!("{route}?window=soon"), 400).await;
        api.problem(&format!("{route}?from={}&window=1h", at(2)), 400).await;
        api.problem(&format!("{route}?channel_id=three"), 400).await;
    }
    monitor.stop().await;
}
