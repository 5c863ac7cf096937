//! Each guard by itself.

use std::collections::BTreeSet;

use super::*;
use crate::breaker::act::{Act, Outcome};
use crate::limits::Restore;
use crate::store::ActState;

const NOW: i64 = 1_790_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn config() -> BreakerConfig {
    BreakerConfig {
        mode: BreakerMode::Enforce,
        allow_last: false,
        max_per_hour: 3,
        protect: BTreeSet::from([9]),
    }
}

/// An alert of a minute ago about channel 2, asked for now.
pub fn record() -> ActRecord {
    ActRecord {
        act: Act {
            id: 1,
            kind: Kind::Trip,
            channel_id: Some(2),
            origin: Origin::Alert { incident: 1, rule: "Burning".into() },
            asked_at: at(NOW),
            outcome: Outcome::Pending,
            finished_at: None,
            restore: Restore::Never,
            restore_at: None,
        },
        state: ActState::Pending,
        channel_text: String::new(),
        reason: "Burning".into(),
        starts_at: Some(at(NOW - 60)),
        tried_from: at(NOW),
        over_at: None,
        attempts: 0,
        next_at: at(NOW),
        acted_at: None,
        told: None,
        limit: None,
        before_status: None,
        after_status: None,
        status_time: None,
        hold: None,
        held_until: None,
        watch: None,
    }
}

/// Makes a case of an alert that nothing speaks against.
type Change = fn(&mut ActRecord, &mut BreakerConfig, &mut u64);

#[test]
fn each_guard_refuses_for_its_own_reason() {
    let no_channel = |text: &str| Err(Refusal::NoChannel { text: text.into() });
    let cases: Vec<(&str, Change, Result<i64, Refusal>)> = vec![
        ("nothing", |_, _, _| {}, Ok(2)),
        ("off", |_, c, _| c.mode = BreakerMode::Off, Err(Refusal::Off)),
        ("dry run is decided as in earnest", |_, c, _| c.mode = BreakerMode::DryRun, Ok(2)),
        ("over", |r, _, _| r.over_at = Some(at(NOW)), Err(Refusal::Over)),
        (
            "no digits",
            |r, _, _| (r.act.channel_id, r.channel_text) = (None, "12;DROP".into()),
            no_channel("12;DROP"),
        ),
        ("absent", |r, _, _| r.act.channel_id = None, no_channel("")),
        ("negative", |r, _, _| r.act.channel_id = Some(-1), no_channel("-1")),
        ("zero", |r, _, _| r.act.channel_id = Some(0), no_channel("0")),
        ("protected", |r, _, _| r.act.channel_id = Some(9), Err(Refusal::Protected)),
        ("just young", |r, _, _| r.starts_at = Some(at(NOW - 1800)), Ok(2)),
        (
            "three days old",
            |r, _, _| r.starts_at = Some(at(NOW - 259_200)),
            Err(Refusal::TooOld { seconds: 259_200 }),
        ),
        (
            "old, but known for long and asked again",
            |r, _, _| {
                r.starts_at = Some(at(NOW - 259_200));
                r.act.asked_at = at(NOW - 259_100);
            },
            Ok(2),
        ),
        (
            "asked again, and waited too long since",
            |r, _, _| {
                r.act.asked_at = at(NOW - 9000);
                r.tried_from = at(NOW - 1801);
            },
            Err(Refusal::TooOld { seconds: 1801 }),
        ),
        ("a clock a little ahead", |r, _, _| r.starts_at = Some(at(NOW + 120)), Ok(2)),
        (
            "a clock far ahead",
            |r, _, _| r.starts_at = Some(at(NOW + 121)),
            Err(Refusal::FromTheFuture { seconds: 121 }),
        ),
        ("one less than too many", |_, _, n| *n = 2, Ok(2)),
        ("too many", |_, _, n| *n = 3, Err(Refusal::TooMany { per_hour: 3 })),
    ];
    judge(cases);
}

fn judge(cases: Vec<(&str, Change, Result<i64, Refusal>)>) {
    for (what, change, verdict) in cases {
        let (mut record, mut config, mut trips) = (record(), config(), 0);
        change(&mut record, &mut config, &mut trips);
        assert_eq!(at_first(&record, &config, trips, at(NOW)), verdict, "{what}");
    }
}

#[test]
fn people_may_more_often_but_not_everything() {
    judge(vec![
        (
            "a person may more often, and is never too late",
            |r, _, n| {
                r.act.origin = Origin::Operator;
                r.starts_at = None;
                r.tried_from = at(NOW - 9000);
                *n = 3;
            },
            Ok(2),
        ),
        (
            "a person may not touch what is protected",
            |r, _, _| (r.act.origin, r.act.channel_id) = (Origin::Operator, Some(9)),
            Err(Refusal::Protected),
        ),
        (
            "what is protected may be enabled",
            |r, _, _| (r.act.kind, r.act.channel_id) = (Kind::Restore, Some(9)),
            Ok(9),
        ),
    ]);
}

#[test]
fn only_an_enabled_channel_that_others_stand_in_for_is_disabled() {
    let pair = |model: &str| ("default".to_owned(), model.to_owned());
    let mut directory = Directory::default();
    directory.last_of.insert(6, vec![pair("a"), pair("b"), pair("c")]);
    let last = Refusal::LastOf { group: "default".into(), model: "a".into(), others: 2 };
    let cases = [
        (2, false, Some(1), Verdict::Go),
        (2, false, Some(2), Verdict::AlreadySo(2)),
        (6, false, Some(3), Verdict::AlreadySo(3)),
        (2, false, None, Verdict::Refused(Refusal::UnknownChannel)),
        (6, false, Some(1), Verdict::Refused(last)),
        (6, true, Some(1), Verdict::Go),
    ];
    for (channel, allow_last, status, verdict) in cases {
        let config = BreakerConfig { allow_last, ..config() };
        assert_eq!(of_trip(channel, &config, &directory, status), verdict, "{channel} {status:?}");
    }
}
