//! The outbox in monitor.db: order, superseding, waiting, leases, and what passes with time.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use super::super::Store;
use super::*;
use crate::alert::{Alert, Status};
use crate::message::{AlertGroup, Change, Notice, Part, Told, Trouble};

const BOTH: [Target; 2] = [Target::Feishu, Target::Wecom];

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("monitor.db")).unwrap();
    (folder, store)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn alerts(names: &[(&str, i64, Change)]) -> Notice {
    let told = |(name, incident, change): &(&str, i64, Change)| Told {
        alert: Alert {
            status: if *change == Change::Resolved { Status::Resolved } else { Status::Firing },
            labels: BTreeMap::from([("alertname".to_owned(), (*name).to_owned())]),
            annotations: BTreeMap::new(),
            starts_at: at(0),
            ends_at: None,
            fingerprint: (*name).to_owned(),
            generator_url: None,
            silence_url: None,
            dashboard_url: None,
        },
        incident: *incident,
        change: *change,
        opened_at: at(0),
        act: None,
    };
    Notice::Alerts(AlertGroup {
        receiver: String::new(),
        external_url: None,
        truncated: 0,
        event: "event".into(),
        received_at: at(0),
        alerts: names.iter().map(told).collect(),
    })
}

fn alerts_acted_on() -> Notice {
    let Notice::Alerts(mut group) = alerts(&[("a", 1, Change::Opened)]) else { unreachable!() };
    group.alerts[0].act = Some(1);
    Notice::Alerts(group)
}

fn new(group: &str, name: &str, second: i64) -> NewNotice {
    NewNotice {
        group_key: group.into(),
        notice: alerts(&[(name, 1, Change::Opened)]),
        at: at(second),
        hold_until: None,
        waits_for: Vec::new(),
    }
}

fn enqueue(store: &Store, new: &NewNotice, targets: &[Target]) -> i64 {
    store.write(|w| w.enqueue(new, targets)).unwrap()
}

fn part(text: &str) -> Part {
    Part { rich: serde_json::json!({"text": text}), plain: text.into(), ..Part::default() }
}

fn lease(store: &Store, second: i64) -> Option<Leased> {
    store.lease(Target::Wecom, at(second)).unwrap()
}

/// Names of the alerts that a lease is to tell of.
fn names(leased: &Leased) -> Vec<String> {
    let Work::Compose { notice: Notice::Alerts(group), .. } = &leased.work else { panic!("{leased:?}") };
    group.alerts.iter().map(|told| told.alert.name().to_owned()).collect()
}

fn settle(store: &Store, id: i64, how: &Settled, second: i64) {
    store.write(|w| w.settle(id, how, at(second))).unwrap();
}

fn again(second: i64, counts: bool) -> Settled {
    Settled::Again { at: at(second), shape: Shape::Rich, counts, why: (None, "server", "down".into()) }
}

fn states(store: &Store) -> Vec<(i64, DeliveryState)> {
    let mut all = store
        .deliveries_page(
            None,
            1000,
            &DeliveryFilter { target: Some(Target::Wecom), ..DeliveryFilter::default() },
        )
        .unwrap();
    all.reverse();
    all.into_iter().map(|delivery| (delivery.id, delivery.state)).collect()
}

#[test]
fn without_targets_nothing_is_queued() {
    let (_folder, store) = store();
    assert_eq!(enqueue(&store, &new("g", "a", 0), &[]), 0);
    assert!(store.deliveries_page(None, 10, &DeliveryFilter::default()).unwrap().is_empty());
}

#[test]
fn a_message_becomes_its_parts_which_go_out_in_order() {
    let (_folder, store) = store();
    enqueue(&store, &new("g", "a", 0), &BOTH);
    enqueue(&store, &new("h", "b", 1), &BOTH);
    let first = lease(&store, 2).unwrap();
    assert_eq!(names(&first), ["a"]);
    assert!(store.write(|w| w.compose(first.id, &[part("1"), part("2")], &[], at(2))).unwrap());
    // A later notice of the group stays behind both parts; one of another group does not.
    enqueue(&store, &new("g", "c", 3), &BOTH);
    let other = lease(&store, 3).unwrap();
    assert_eq!(names(&other), ["b"]);
    assert_eq!(lease(&store, 3), None);
    settle(&store, first.id, &again(10, true), 3);
    assert_eq!(lease(&store, 9), None, "a part or a later notice went first");
    let again = lease(&store, 10).unwrap();
    assert_eq!((again.id, again.attempts, &again.work), (first.id, 1, &Work::Send(part("1"))));
    settle(&store, first.id, &Settled::Sent, 10);
    let second = lease(&store, 11).unwrap();
    assert_eq!(second.work, Work::Send(part("2")));
    assert_eq!(lease(&store, 11), None);
    settle(&store, second.id, &Settled::Dead { why: (Some(1), "rejected", "no".into()) }, 12);
    assert_eq!(names(&lease(&store, 12).unwrap()), ["c"]);
}

#[test]
fn a_newer_notice_takes_the_place_of_one_that_was_not_tried() {
    let (_folder, store) = store();
    enqueue(&store, &new("g", "a", 0), &BOTH);
    // Feishu's is tried, WeCom's is not.
    let tried = store.lease(Target::Feishu, at(0)).unwrap().unwrap();
    settle(&store, tried.id, &again(100, true), 1);
    enqueue(&store, &new("h", "other", 1), &BOTH);
    let newer = NewNotice { notice: alerts(&[("b", 2, Change::Opened)]), ..new("g", "", 2) };
    enqueue(&store, &newer, &BOTH);
    let newest = NewNotice { notice: alerts(&[("a", 1, Change::Resolved)]), ..new("g", "", 3) };
    enqueue(&store, &newest, &BOTH);
    assert_eq!(store.superseded(0).unwrap().1, BTreeMap::from([(Target::Feishu, 1), (Target::Wecom, 2)]));
    // It keeps the place in the queue.
    assert_eq!(names(&lease(&store, 4).unwrap()), ["a", "b"]);
    assert_eq!(names(&lease(&store, 4).unwrap()), ["other"]);
    assert_eq!(lease(&store, 4), None);
    // To Feishu the firing goes first, then the rest in one.
    let feishu = |second| store.lease(Target::Feishu, at(second)).unwrap();
    assert_eq!(names(&feishu(4).unwrap()), ["other"]);
    assert_eq!(feishu(4), None);
    let first = feishu(100).unwrap();
    assert_eq!(names(&first), ["a"]);
    settle(&store, first.id, &Settled::Sent, 100);
    assert_eq!(names(&feishu(100).unwrap()), ["a", "b"]);
}

#[test]
fn a_request_after_which_a_pause_was_asked_for_does_not_count() {
    let (_folder, store) = store();
    enqueue(&store, &new("g", "a", 0), &BOTH);
    let leased = lease(&store, 0).unwrap();
    settle(&store, leased.id, &again(60, false), 0);
    assert_eq!(store.next_due(Target::Wecom).unwrap(), Some(at(60)));
    // So a newer notice may still take its place.
    enqueue(&store, &new("g", "a", 1), &BOTH);
    assert_eq!(store.superseded(0).unwrap().1.get(&Target::Wecom), Some(&1));
    // What the target asked for is kept.
    assert_eq!((lease(&store, 59), lease(&store, 60).unwrap().attempts), (None, 0));
}

#[test]
fn a_message_waits_for_its_acts_but_not_for_ever() {
    let (_folder, store) = store();
    let waiting = NewNotice { hold_until: Some(at(10)), waits_for: vec![7, 8], ..new("g", "a", 0) };
    enqueue(&store, &waiting, &[Target::Wecom]);
    assert_eq!(lease(&store, 5), None);
    assert!(store.write(|w| w.release(7, at(5))).unwrap());
    assert_eq!(lease(&store, 5), None, "one act is not finished");
    assert!(store.write(|w| w.release(8, at(6))).unwrap());
    let leased = lease(&store, 6).unwrap();
    assert!(matches!(&leased.work, Work::Compose { waits, .. } if waits.is_empty()));

    let waiting = NewNotice { hold_until: Some(at(20)), waits_for: vec![9], ..new("h", "b", 10) };
    enqueue(&store, &waiting, &[Target::Wecom]);
    let leased = lease(&store, 20).unwrap();
    assert!(store.write(|w| w.compose(leased.id, &[part("pending")], &[9], at(20))).unwrap());
    assert!(!store.write(|w| w.release(9, at(21))).unwrap(), "nobody will tell of it");
    assert!(!store.write(|w| w.release(10, at(21))).unwrap(), "nothing waits for this one");
}

#[test]
fn an_act_that_ends_while_its_message_is_composed_is_told() {
    let (_folder, store) = store();
    let waiting = NewNotice { hold_until: Some(at(1)), waits_for: vec![7], ..new("g", "a", 0) };
    enqueue(&store, &waiting, &BOTH);
    let leased = lease(&store, 1).unwrap();
    assert!(store.write(|w| w.release(7, at(1))).unwrap());
    assert!(!store.write(|w| w.compose(leased.id, &[part("old")], &[7], at(1))).unwrap());
    let waits = store.write(|w| w.waits_of(leased.id)).unwrap();
    assert!(store.write(|w| w.compose(leased.id, &[part("new")], &waits, at(1))).unwrap());
}

#[test]
fn a_target_that_was_told_too_early_gets_a_message_about_the_act_alone() {
    let (_folder, store) = store();
    let waiting = NewNotice { hold_until: Some(at(1)), waits_for: vec![7], ..new("g", "a", 0) };
    enqueue(&store, &waiting, &BOTH);
    let early = lease(&store, 1).unwrap();
    store.write(|w| w.compose(early.id, &[part("pending")], &[7], at(1))).unwrap();
    settle(&store, early.id, &Settled::Sent, 1);
    assert!(store.write(|w| w.release(7, at(2))).unwrap());
    let act = lease(&store, 2).unwrap();
    assert!(matches!(act.work, Work::Compose { notice: Notice::Act { act: 7 }, .. }));
    assert_eq!(names(&store.lease(Target::Feishu, at(2)).unwrap().unwrap()), ["a"]);
    assert_eq!(store.lease(Target::Feishu, at(2)).unwrap(), None);
}

#[test]
fn what_a_superseded_notice_waited_for_is_waited_for() {
    let (_folder, store) = store();
    let waiting = NewNotice { hold_until: Some(at(10)), waits_for: vec![7], ..new("g", "a", 0) };
    enqueue(&store, &waiting, &[Target::Wecom]);
    enqueue(&store, &new("g", "a", 1), &[Target::Wecom]);
    assert_eq!(lease(&store, 2), None);
    assert!(store.write(|w| w.release(7, at(3))).unwrap());
    assert!(lease(&store, 3).is_some());
}

#[test]
fn a_lease_that_nobody_settled_returns() {
    let (folder, store) = store();
    enqueue(&store, &new("g", "a", 0), &[Target::Wecom]);
    let id = lease(&store, 0).unwrap().id;
    let end = |store: &Store, second, all| store.write(|w| w.end_leases(at(second), all)).unwrap();
    assert!(end(&store, 59, false).is_empty());
    assert_eq!(end(&store, 60, false), BTreeMap::from([(Target::Wecom, 1)]));
    assert_eq!(lease(&store, 60).unwrap().attempts, 1);
    // The clock was set back by a day.
    assert_eq!(end(&store, 60 - 86_400, false).len(), 1);
    assert!(lease(&store, 60 - 86_400).is_some());
    // The process is gone.
    drop(store);
    let store = Store::open(&folder.path().join("monitor.db")).unwrap();
    assert_eq!(end(&store, 61 - 86_400, true).len(), 1);
    let delivery = store.delivery(id).unwrap().unwrap();
    assert_eq!((delivery.state, delivery.reason.as_str()), (DeliveryState::Pending, "ambiguous"));
}

#[test]
fn what_is_too_old_is_given_up_and_told_once_to_the_others() {
    let (_folder, store) = store();
    for n in 0..20 {
        enqueue(&store, &new(&format!("g{n}"), "a", n), &[Target::Wecom]);
    }
    let day = 24 * 3600;
    let give_up = |second| store.write(|w| w.give_up(at(second), &BOTH)).unwrap();
    let tell =
        |second| store.write(|w| w.tell_dropped(Target::Wecom, &[Target::Feishu], at(second))).unwrap();
    assert!(give_up(day - 1).is_empty());
    let gone = GivenUp { target: Some(Target::Wecom), reason: "too_old", count: 10 };
    assert_eq!(give_up(day + 9), [gone]);
    assert_eq!(tell(day + 9), Some(10));
    assert_eq!(give_up(day + 19).len(), 1);
    assert_eq!(tell(day + 20), None, "a second message within the hour");
    assert_eq!(tell(day + 3700), Some(10));
    assert_eq!(tell(day + 7400), None);
    let digest = store.lease(Target::Feishu, at(day + 20)).unwrap().unwrap();
    let Work::Compose { notice: Notice::Trouble(trouble), .. } = digest.work else { panic!() };
    assert_eq!(trouble, Trouble::Dropped { target: Target::Wecom, messages: 10, since: at(0) });
}

#[test]
fn messages_for_a_target_that_is_gone_are_given_up() {
    let (_folder, store) = store();
    enqueue(&store, &new("g", "a", 0), &BOTH);
    let gone = GivenUp { target: Some(Target::Wecom), reason: "target_removed", count: 1 };
    assert_eq!(store.write(|w| w.give_up(at(1), &[Target::Feishu])).unwrap(), [gone]);
    assert_eq!(states(&store)[0].1, DeliveryState::Dead);
    assert!(store.lease(Target::Feishu, at(1)).unwrap().is_some());
}

#[test]
fn a_refusal_is_told_once_an_hour_for_each_reason() {
    let (_folder, store) = store();
    let tell = |reason: &str, second| {
        let others = [Target::Feishu];
        store.write(|w| w.tell_refusal(Target::Wecom, reason, "words", &others, at(second))).unwrap()
    };
    assert!(tell("unauthorized", 0));
    assert!(!tell("unauthorized", 3599));
    // The clock was set back by a day.
    assert!(tell("unauthorized", 3599 - 86_400));
    assert!(tell("rejected", 10));
    assert!(tell("unauthorized", 3600));
    assert_eq!(store.queues().unwrap()[&Target::Feishu].waiting, 4);
}

#[test]
fn people_look_at_deliveries_and_send_or_drop_them() {
    let (_folder, store) = store();
    for n in 0..5 {
        enqueue(&store, &new(&format!("g{n}"), "a", 0), &BOTH);
    }
    let page = store.deliveries_page(None, 3, &DeliveryFilter::default()).unwrap();
    let next = store.deliveries_page(Some(page[2].id), 100, &DeliveryFilter::default()).unwrap();
    assert_eq!((page.len(), next.len(), page[2].id - next[0].id), (3, 7, 1));
    assert_eq!(page[0].kind, "alerts");
    let id = lease(&store, 0).unwrap().id;
    assert!(!store.drop_delivery(id, at(0)).unwrap(), "it is being sent");
    settle(&store, id, &again(100, true), 0);
    assert!(store.drop_delivery(id, at(1)).unwrap());
    let dead = store
        .deliveries_page(
            None,
            10,
            &DeliveryFilter {
                state: Some(DeliveryState::Dead),
                target: Some(Target::Wecom),
                ..DeliveryFilter::default()
            },
        )
        .unwrap();
    assert_eq!((dead.len(), dead[0].reason.as_str(), dead[0].next_at), (1, "dropped", None));
    let days = 3 * 24 * 3600;
    assert!(store.retry_delivery(id, at(days)).unwrap());
    let only = store.write(|w| w.give_up(at(days), &BOTH)).unwrap();
    assert_eq!(only.iter().map(|gone| gone.count).sum::<u64>(), 9, "{only:?}");
    assert_eq!(lease(&store, days).unwrap().id, id);
    settle(&store, id, &Settled::Sent, days);
    assert!(!store.retry_delivery(id, at(days)).unwrap(), "it was sent");
    assert!(!store.drop_delivery(999, at(days)).unwrap());
}

#[test]
fn what_was_finished_long_ago_is_forgotten() {
    let (_folder, store) = store();
    enqueue(&store, &new("g", "a", 0), &[Target::Wecom]);
    enqueue(&store, &new("h", "b", 0), &[Target::Wecom]);
    let id = lease(&store, 0).unwrap().id;
    settle(&store, id, &Settled::Sent, 0);
    let days = 31 * 24 * 3600;
    store.write(|w| w.forget_deliveries(at(days))).unwrap();
    assert_eq!(states(&store), [(id + 1, DeliveryState::Pending)]);
    let notices: i64 =
        store.connection().query_row("SELECT count(*) FROM notices", [], |row| row.get(0)).unwrap();
    assert_eq!(notices, 1);
}

#[test]
fn a_row_that_nobody_can_read_does_not_stop_the_others() {
    let (_folder, store) = store();
    enqueue(&store, &new("g", "a", 0), &[Target::Wecom]);
    enqueue(&store, &new("h", "b", 0), &[Target::Wecom]);
    store.connection().execute("UPDATE notices SET facts = '{' WHERE id = 1", []).unwrap();
    assert_eq!(names(&lease(&store, 0).unwrap()), ["b"]);
    assert_eq!(states(&store)[0].1, DeliveryState::Dead);
}

#[test]
fn a_long_queue_is_bounded_and_its_head_is_found_at_once() {
    let (_folder, store) = store();
    let rows = 10_050;
    store
        .write(|w| {
            let mut urgent = new("g0", "a", 0);
            urgent.notice = alerts_acted_on();
            w.enqueue(&urgent, &[Target::Wecom])?;
            for n in 1..rows {
                w.enqueue(&new(&format!("g{n}"), "a", 0), &[Target::Wecom])?;
            }
            Ok(())
        })
        .unwrap();
    let gone = GivenUp { target: Some(Target::Wecom), reason: "too_many", count: 50 };
    assert_eq!(store.write(|w| w.give_up(at(1), &BOTH)).unwrap(), [gone]);
    let plan = |sql: &str| {
        let connection = store.connection();
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    };
    let head = plan(
        "SELECT d.id FROM deliveries d WHERE d.target = 'wecom' AND d.state IN ('pending', 'leased')
         AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.target = d.target AND e.group_key = d.group_key
         AND e.state IN ('pending', 'leased') AND e.message < d.message) ORDER BY d.later, d.message, d.part LIMIT 1",
    );
    assert!(head.contains("deliveries_live") && head.contains("deliveries_order"), "{head}");
    assert!(!head.contains("TEMP B-TREE"), "{head}");
    // What is urgent was not given up, though it is the oldest.
    let leased = lease(&store, 1).unwrap();
    assert_eq!(leased.id, 1);
    settle(&store, leased.id, &Settled::Sent, 1);
    assert_eq!(lease(&store, 1).unwrap().id, 52);
}

#[test]
fn times_are_kept_to_the_millisecond() {
    let (folder, store) = store();
    let late = at(0).checked_add(SignedDuration::from_millis(1234)).unwrap();
    store.write(|w| w.pause(Target::Telegram, late)).unwrap();
    store.save_moved_chat("-1", "-1001").unwrap();
    drop(store);
    let store = Store::open(Path::new(&folder.path().join("monitor.db"))).unwrap();
    assert_eq!(store.paused_until(Target::Telegram).unwrap(), Some(late));
    assert_eq!(store.moved_chat("-1").unwrap().as_deref(), Some("-1001"));
}
