//! What a call leads to, told in monitor.db.

use super::*;
use crate::breaker::act::Outcome;
use crate::store::{Delivery, Finished, Incident, IncidentFilter};

const TARGETS: [Target; 2] = [Target::Telegram, Target::Wecom];

/// A monitor.db, its intake, and a clock of our own.
struct Desk {
    intake: Intake,
    clock: Clock,
    start: Timestamp,
    _folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("monitor.db")).unwrap();
        let start: Timestamp = "2026-11-23T05:00:00Z".parse().unwrap();
        let clock = Clock::fixed(start);
        let timeout = Duration::from_secs(600);
        let intake = Intake::new(store, State::default(), clock.clone(), TARGETS.to_vec(), timeout);
        Self { intake, clock, start, _folder: folder }
    }

    /// Takes in a call that comes so many seconds after the start.
    fn call(&self, second: i64, body: &str) -> Taken {
        let at = self.start + SignedDuration::from_secs(second);
        self.clock.set(at);
        self.intake.take(Notification::parse(body.as_bytes()).unwrap(), at).unwrap()
    }

    fn incidents(&self) -> Vec<Incident> {
        self.intake.store.incidents_page(None, 100, &IncidentFilter::default()).unwrap()
    }

    /// What waits for one target, the oldest first.
    fn queue(&self) -> Vec<Delivery> {
        let mut queue = self
            .intake
            .store
            .deliveries_page(
                None,
                100,
                &crate::store::DeliveryFilter {
                    target: Some(Target::Telegram),
                    ..crate::store::DeliveryFilter::default()
                },
            )
            .unwrap();
        queue.reverse();
        queue
    }

    /// The messages for one target since the last look, by names and changes; each counts as sent.
    fn told(&self) -> Vec<Vec<(String, Change)>> {
        let now = self.clock.now() + SignedDuration::from_secs(60);
        let mut told = Vec::new();
        while let Some(leased) = self.intake.store.lease(Target::Telegram, now).unwrap() {
            let crate::store::LeasedWork::Compose { notice, .. } = leased.work else { panic!("{leased:?}") };
            if let Notice::Alerts(group) = &notice {
                let alerts = group.alerts.iter();
                told.push(alerts.map(|told| (told.alert.name().to_owned(), told.change)).collect());
            } else {
                told.push(vec![(format!("{notice:?}"), Change::Opened)]);
            }
            self.intake
                .store
                .write(|writing| writing.settle(leased.id, &crate::store::Settled::Sent, now))
                .unwrap();
        }
        told
    }
}

/// A call with these alerts.
fn call(alerts: &[String]) -> String {
    with_reason("", alerts)
}

fn with_reason(reason: &str, alerts: &[String]) -> String {
    format!(
        r#"{{"receiver":"breaker","groupKey":"{{}}:{{a=1}}","notification_reason":"{reason}","alerts":[{}]}}"#,
        alerts.join(",")
    )
}

/// An alert that began so many seconds after five o'clock.
fn firing(name: &str, began: i64) -> String {
    labelled(name, began, "")
}

fn labelled(name: &str, began: i64, labels: &str) -> String {
    let at = moment(began);
    format!(
        r#"{{"status":"firing","labels":{{"alertname":"{name}"{labels}}},"startsAt":"{at}","endsAt":"0001-01-01T00:00:00Z"}}"#
    )
}

fn resolved(name: &str, began: i64, ended: i64) -> String {
    let (began, ended) = (moment(began), moment(ended));
    format!(
        r#"{{"status":"resolved","labels":{{"alertname":"{name}"}},"startsAt":"{began}","endsAt":"{ended}"}}"#
    )
}

fn moment(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_410_000 + second).unwrap()
}

fn one(name: &str, change: Change) -> Vec<(String, Change)> {
    vec![(name.to_owned(), change)]
}

const DISABLE: &str = r#","action":"disable_channel","channel_id":"3","restore":"30m","limit":"daily""#;

#[test]
fn the_same_call_twice_is_one_event_and_one_message() {
    let desk = Desk::new();
    let body = call(&[firing("a", -5)]);
    assert_eq!(desk.call(0, &body), Taken::Accepted);
    assert_eq!(desk.call(1, &body), Taken::Duplicate);
    assert_eq!(desk.call(599, &body), Taken::Duplicate);
    assert_eq!(desk.told(), [one("a", Change::Opened)]);
    assert_eq!(desk.incidents()[0].notifications, 1);
}

#[test]
fn fault_8_a_reminder_is_told_once_and_its_twin_is_dropped() {
    let desk = Desk::new();
    desk.call(0, &call(&[firing("a", -5)]));
    desk.told();
    let reminder = with_reason("repeat interval elapsed", &[firing("a", -5)]);
    assert_eq!(desk.call(4 * 3600, &reminder), Taken::Accepted);
    assert_eq!(desk.call(4 * 3600 + 15, &reminder), Taken::Duplicate);
    assert_eq!(desk.told(), [one("a", Change::Repeated)]);
    // Reminders may be more frequent than twins are expected for other calls.
    assert_eq!(desk.call(4 * 3600 + 180, &reminder), Taken::Accepted);
    assert_eq!(desk.told(), [one("a", Change::Repeated)]);
    assert_eq!(desk.incidents().len(), 1);
}

#[test]
fn fault_9_firing_resolved_and_firing_again_are_three_messages_in_order() {
    let desk = Desk::new();
    desk.call(0, &call(&[firing("a", -5)]));
    let mut told = desk.told();
    desk.call(60, &call(&[resolved("a", -5, 50)]));
    told.extend(desk.told());
    desk.call(120, &call(&[firing("a", 110)]));
    told.extend(desk.told());
    assert_eq!(told, [one("a", Change::Opened), one("a", Change::Resolved), one("a", Change::Opened)]);
    let incidents = desk.incidents();
    assert_eq!(incidents.len(), 2);
    assert_eq!(incidents[1].resolved_at, Some(moment(50)));
    assert_eq!((incidents[0].resolved_at, incidents[0].started_at), (None, moment(110)));
}

#[test]
fn a_beginning_that_moves_is_the_same_episode() {
    let desk = Desk::new();
    desk.call(0, &call(&[labelled("a", -5, DISABLE)]));
    // Another replica of Prometheus saw it earlier, over the border of a minute.
    desk.call(20, &call(&[labelled("a", -70, DISABLE)]));
    desk.call(40, &call(&[labelled("a", -5, DISABLE)]));
    let incidents = desk.incidents();
    assert_eq!((incidents.len(), incidents[0].started_at), (1, moment(-70)));
    assert_eq!(desk.intake.store.acts_page(None, 10).unwrap().len(), 1, "one act of an episode");
    // An hour later it begins anew, and nobody said that it was over.
    desk.call(3_600, &call(&[labelled("a", 3_590, DISABLE)]));
    let incidents = desk.incidents();
    assert_eq!((incidents.len(), incidents[1].resolved_at), (2, Some(moment(3_600))));
    assert_eq!(desk.intake.store.acts_page(None, 10).unwrap().len(), 2);
}

#[test]
fn a_clock_ahead_of_ours_does_not_make_one_alert_many() {
    let desk = Desk::new();
    desk.call(0, &call(&[firing("a", 90)]));
    desk.call(10, &call(&[firing("a", 90), firing("b", 95)]));
    assert_eq!(desk.incidents().len(), 2);
}

#[test]
fn what_fires_again_from_the_same_beginning_was_never_over() {
    let desk = Desk::new();
    desk.call(0, &call(&[firing("a", -5)]));
    desk.call(400, &call(&[resolved("a", -5, 390)]));
    desk.told();
    desk.call(1_100, &call(&[firing("a", -5)]));
    assert_eq!(desk.told(), [one("a", Change::Opened)], "people were told that it is over");
    let incidents = desk.incidents();
    assert_eq!((incidents.len(), incidents[0].resolved_at), (1, None));
}

#[test]
fn what_fires_again_soon_from_the_same_beginning_is_no_twin() {
    let desk = Desk::new();
    let first = call(&[firing("a", -5)]);
    desk.call(0, &first);
    desk.call(200, &call(&[resolved("a", -5, 190)]));
    desk.told();
    assert_eq!(desk.call(230, &first), Taken::Duplicate, "it may be the late twin of the first");
    assert!(desk.told().is_empty());
    assert_eq!(desk.call(400, &first), Taken::Accepted);
    assert_eq!(desk.told(), [one("a", Change::Opened)]);
    assert_eq!(desk.incidents()[0].resolved_at, None);
}

#[test]
fn an_alert_of_a_clock_ahead_of_ours_ends_all_the_same() {
    let desk = Desk::new();
    desk.call(0, &call(&[firing("a", 90)]));
    desk.call(60, &call(&[resolved("a", 90, 150)]));
    assert_eq!(desk.incidents()[0].resolved_at, Some(moment(60)), "never later than now");
}

#[test]
fn an_end_without_a_beginning_is_noted_and_not_told() {
    let desk = Desk::new();
    assert_eq!(desk.call(0, &call(&[resolved("a", -50, -5)])), Taken::Accepted);
    assert!(desk.told().is_empty());
    assert_eq!(desk.incidents()[0].resolved_at, Some(moment(-5)));
    // Nor is an end that was told, when the group brings it again.
    desk.call(10, &call(&[firing("b", 9)]));
    desk.call(20, &call(&[resolved("b", 9, 15)]));
    desk.told();
    desk.call(30, &call(&[resolved("b", 9, 15), firing("c", 29)]));
    assert_eq!(desk.told(), [one("c", Change::Opened)]);
}

#[test]
fn the_end_of_an_earlier_episode_does_not_end_this_one() {
    let desk = Desk::new();
    desk.call(0, &call(&[firing("a", -5)]));
    desk.call(10, &call(&[resolved("a", -500, -300)]));
    assert_eq!(desk.incidents()[0].resolved_at, None);
}

#[test]
fn fault_10_a_mixed_group_lists_what_is_over_and_what_lasts() {
    let desk = Desk::new();
    let names = ["a", "b", "c", "d"];
    desk.call(0, &call(&names.map(|name| firing(name, -5))));
    desk.told();
    let mut alerts = vec![firing("a", -5)];
    alerts.extend(["b", "c", "d"].map(|name| resolved(name, -5, 50)));
    desk.call(60, &call(&alerts));
    let told = desk.told().remove(0);
    assert_eq!(told.len(), 4);
    assert_eq!(told[0], ("a".to_owned(), Change::Repeated));
    assert!(told[1..].iter().all(|(_, change)| *change == Change::Resolved));
}

#[test]
fn beside_news_only_the_worst_of_what_lasts_is_told() {
    let desk = Desk::new();
    let mut alerts: Vec<String> = (0..50).map(|number| firing(&format!("a{number}"), -5)).collect();
    alerts.push(labelled("bad", -5, r#","severity":"critical""#));
    desk.call(0, &call(&alerts));
    assert_eq!(desk.told()[0].len(), 51, "all of them are new");
    alerts.push(firing("new", 55));
    desk.call(60, &call(&alerts));
    let told = desk.told().remove(0);
    assert_eq!(told.len(), MAX_LASTING + 1);
    assert!(told.contains(&("bad".to_owned(), Change::Repeated)));
    assert!(told.contains(&("new".to_owned(), Change::Opened)));
}

#[test]
fn alerts_that_another_route_brings_as_well_are_told_once() {
    let desk = Desk::new();
    let body = call(&[firing("a", -5)]);
    desk.call(0, &body);
    desk.told();
    assert_eq!(desk.call(3, &body.replace("breaker", "critical")), Taken::Accepted);
    assert!(desk.told().is_empty());
    assert_eq!(desk.incidents()[0].notifications, 2);
}

#[test]
fn an_alert_that_asks_for_it_is_asked_of_the_breaker_and_its_message_waits() {
    let desk = Desk::new();
    desk.call(0, &call(&[labelled("a", -5, DISABLE), firing("b", -5)]));
    let acts = desk.intake.store.acts_page(None, 10).unwrap();
    let [record] = acts.as_slice() else { panic!("{acts:?}") };
    let act = &record.act;
    assert_eq!(act.channel_id, Some(3));
    assert_eq!(act.restore.as_str(), "30m");
    let incidents = desk.incidents();
    let asked = incidents.iter().find(|incident| incident.rule == "a").unwrap();
    assert_eq!((asked.act, asked.channel_id), (Some(act.id), Some(3)));
    let waiting: Vec<_> = desk.queue().iter().map(|delivery| delivery.next_at).collect();
    assert_eq!(waiting, [Some(desk.start + HOLD)]);
    // The reminder asks for nothing new and waits for nothing.
    desk.told();
    let done = Finished::without_effect(Outcome::Done);
    desk.intake.store.write(|writing| writing.finish_act(act.id, desk.start, &done)).unwrap();
    desk.call(4 * 3600, &call(&[labelled("a", -5, DISABLE), firing("b", -5)]));
    assert_eq!(desk.intake.store.acts_page(None, 10).unwrap().len(), 1);
    assert_eq!(desk.queue().last().unwrap().next_at, Some(desk.clock.now()));
}

#[test]
fn fault_30_what_is_over_or_is_no_channel_disables_none() {
    let desk = Desk::new();
    let over = resolved("a", -500, -5).replace(r#""alertname":"a""#, &format!(r#""alertname":"a"{DISABLE}"#));
    desk.call(0, &call(&[over]));
    assert!(desk.intake.store.acts_page(None, 10).unwrap().is_empty());
    for (number, label) in ["12;DROP", "-1", "", "0"].into_iter().enumerate() {
        let labels = DISABLE.replace(r#""channel_id":"3""#, &format!(r#""channel_id":"{label}""#));
        desk.call(10, &call(&[labelled(&format!("n{number}"), 5, &labels)]));
    }
    // Nor is the sum of models that a limit does not count by themselves, whose names anybody may make up.
    desk.call(20, &call(&[labelled("rest", 5, &format!(r#","model":"_other"{DISABLE}"#))]));
    // They are asked for all the same, so that the breaker refuses them and people hear of it.
    let acts = desk.intake.store.acts_page(None, 10).unwrap();
    assert_eq!((acts.len(), acts[0].channel_text.as_str()), (5, "_other"));
    assert!(acts.iter().all(|record| record.act.channel_id.is_none()));
}

#[test]
fn fault_12_a_full_disk_or_one_that_cannot_be_written_leaves_nothing_half_done() {
    let desk = Desk::new();
    let store = &desk.intake.store;
    let many: Vec<String> = (0..200).map(|number| labelled(&format!("a{number}"), -5, DISABLE)).collect();
    let body = Notification::parse(call(&many).as_bytes()).unwrap();
    for (pragma, bad, good) in [("query_only", 1, 0), ("max_page_count", 1, 1_000_000)] {
        store.pretend(pragma, bad);
        desk.intake.take(body.clone(), desk.start).unwrap_err();
        store.pretend(pragma, good);
        assert!(desk.incidents().is_empty() && desk.queue().is_empty(), "{pragma}");
        assert_eq!(store.pipeline().unwrap().last_webhook_at, None);
    }
    assert_eq!(desk.intake.take(body, desk.start).unwrap(), Taken::Accepted);
    assert_eq!(desk.incidents().len(), 100);
}

#[test]
fn the_watchdog_is_heard_and_never_told() {
    let desk = Desk::new();
    let dog = firing("Watchdog", -5_000);
    for second in [0, 60, 120] {
        assert_eq!(desk.call(second, &call(std::slice::from_ref(&dog))), Taken::Accepted);
    }
    assert!(desk.told().is_empty() && desk.incidents().is_empty());
    let pipeline = desk.intake.store.pipeline().unwrap();
    assert_eq!(pipeline.watchdog_at, Some(moment(120)));
    assert_eq!(pipeline.last_webhook_at, Some(moment(120)));
    // That it is over is no sign of life.
    desk.call(180, &call(&[resolved("Watchdog", -5_000, 170)]));
    assert_eq!(desk.intake.store.pipeline().unwrap().watchdog_at, Some(moment(120)));
    // In a call that was taken in before it counts.
    desk.call(200, &call(&[dog.clone(), firing("a", 190)]));
    assert_eq!(desk.call(230, &call(&[dog, firing("a", 190)])), Taken::Duplicate);
    assert_eq!(desk.intake.store.pipeline().unwrap().watchdog_at, Some(moment(230)));
}

#[test]
fn silence_is_told_once_also_over_a_restart_and_then_its_end() {
    let desk = Desk::new();
    let dog = call(&[firing("Watchdog", -5_000)]);
    desk.call(0, &dog);
    let watch = |from: i64, to: i64| {
        let mut watch = Watch::new(moment(from), desk.intake.watchdog_timeout);
        for second in from..to {
            desk.intake.look(&mut watch, moment(second));
        }
        desk.clock.set(moment(to));
        desk.told()
    };
    assert!(watch(0, 599).is_empty());
    // A restart of ours gives it the whole time again.
    assert!(watch(599, 1_100).is_empty());
    let told = watch(1_100, 1_900);
    assert_eq!(told.len(), 1);
    assert!(told[0][0].0.contains("PipelineSilent { since: 2026-11-23T05:00:00Z }"), "{told:?}");
    assert!(watch(1_900, 4_000).is_empty(), "told before");
    desk.call(4_000, &dog);
    let told = desk.told();
    assert!(told[0][0].0.contains("PipelineBack { since: 2026-11-23T05:00:00Z }"), "{told:?}");
    assert!(watch(4_001, 4_500).is_empty());
}

#[test]
fn an_empty_list_is_taken_in_and_leads_to_nothing() {
    let desk = Desk::new();
    assert_eq!(desk.call(0, &call(&[])), Taken::Accepted);
    assert_eq!(desk.call(1, &call(&[])), Taken::Accepted);
    assert!(desk.incidents().is_empty() && desk.queue().is_empty());
}

#[tokio::test]
async fn when_the_webhook_was_called_is_known_after_a_restart() {
    let desk = Desk::new();
    let body = call(&[firing("a", -5)]);
    desk.intake.accept(Notification::parse(body.as_bytes()).unwrap()).await.unwrap();
    assert_eq!(desk.intake.state.alerting().last_webhook_at, Some(seconds(desk.start)));
    let after = Intake { state: State::default(), ..desk.intake.clone() };
    after.remember();
    assert_eq!(after.state.alerting().last_webhook_at, Some(seconds(desk.start)));
    assert_eq!(after.state.alerting().last_watchdog_at, None);
    let dog = call(&[firing("Watchdog", -5)]);
    desk.clock.set(moment(60));
    after.accept(Notification::parse(dog.as_bytes()).unwrap()).await.unwrap();
    assert_eq!(after.state.alerting().last_watchdog_at, Some(seconds(moment(60))));
    let again = Intake { state: State::default(), ..desk.intake.clone() };
    again.remember();
    assert_eq!(again.state.alerting().last_watchdog_at, Some(seconds(moment(60))));
}

#[test]
fn messages_of_a_group_share_a_key_of_bounded_length_and_no_name_twice() {
    let of = |key: &str| {
        let mut notification = Notification::parse(call(&[]).as_bytes()).unwrap();
        notification.group_key = key.to_owned();
        group_key(&notification)
    };
    assert_eq!(of("x"), "alerts breaker x");
    assert!(of(&"x".repeat(5_000)).len() < 100);
    assert_ne!(of(&"x".repeat(5_000)), of(&"x".repeat(5_001)));
    let name = event_name(&[1; 32], moment(0));
    assert_eq!(name.len(), 8);
    assert_ne!(name, event_name(&[1; 32], moment(1)));
}
