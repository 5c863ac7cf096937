//! When a channel is enabled again, case by case.

use super::*;
use crate::breaker::guards::tests::record;
use crate::history::Measure;
use crate::limits::{Action, ChannelScope, Length, ModelScope, Period, Severity};

const NOW: i64 = 1_790_000_000;
const HOUR: i64 = 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A channel that was disabled at [`NOW`], for the limit `budget`.
fn tripped(restore: Restore, restore_at: Option<i64>) -> ActRecord {
    let mut record = record();
    record.state = ActState::Done;
    record.act.outcome = Outcome::Done;
    record.act.finished_at = Some(at(NOW));
    record.act.restore = restore;
    record.act.restore_at = restore_at.map(at);
    record.limit = Some("budget".into());
    record
}

fn limits(window: Window, standings: &[(f64, i64)]) -> LimitsStatus {
    let limit = Limit {
        name: "budget".into(),
        channel: ChannelScope::Each,
        model: ModelScope::Each,
        measure: Measure::CostUsd,
        max: 10.0,
        window,
        warn_at: Some(0.7),
        severity: Severity::Critical,
        action: Action::DisableChannel,
        restore: Restore::WindowReset,
    };
    let standing = |channel: i64, ratio: f64, resets_at: i64| Standing {
        limit: 0,
        channel_id: Some(channel),
        model: Some("m".into()),
        overflow: false,
        used: ratio * 10.0,
        max: 10.0,
        ratio,
        resets_at: Some(resets_at),
        exhausted_at: None,
    };
    let mut all: Vec<Standing> =
        standings.iter().map(|(ratio, resets_at)| standing(2, *ratio, *resets_at)).collect();
    // Another channel's is nobody's concern.
    all.push(standing(3, 9.0, NOW + 100 * HOUR));
    LimitsStatus { limits: vec![limit], standings: Some(all), looked: true, ..LimitsStatus::default() }
}

fn rolling() -> Window {
    Window::Rolling(Length::parse("1h").unwrap())
}

fn due(record: &ActRecord, limits: &LimitsStatus, now: i64) -> bool {
    due_since(record, limits, now, Some(NOW - HOUR))
}

fn due_since(record: &ActRecord, limits: &LimitsStatus, now: i64, followed: Option<i64>) -> bool {
    is_due(record, &Known { now: at(now), limits, followed_since: followed.map(at) })
}

#[test]
fn never_is_never_and_a_length_is_as_long_as_it_says() {
    let none = LimitsStatus::default();
    assert!(!due(&tripped(Restore::Never, None), &none, NOW + 1000 * HOUR));
    let after = tripped(Restore::After(Length::parse("2h").unwrap()), None);
    assert_eq!(expected(&after, at(NOW), &none), Some(at(NOW + 2 * HOUR)));
    assert!(!due(&after, &none, NOW + 2 * HOUR - 1));
    assert!(due(&after, &none, NOW + 2 * HOUR));
    // The instant that was written down counts, and needs no data.
    let written = tripped(after.act.restore.clone(), Some(NOW + HOUR));
    assert!(due_since(&written, &none, NOW + HOUR, None));
}

#[test]
fn a_calendar_window_resets_when_it_has_turned_for_every_key_of_the_channel() {
    let (midnight, next) = (NOW + 5 * HOUR, NOW + 29 * HOUR);
    let day = || Window::Calendar(Period::Day);
    let before = limits(day(), &[(1.2, midnight), (0.3, midnight)]);
    let trip = tripped(Restore::WindowReset, None);
    assert_eq!(expected(&trip, at(NOW), &before), Some(at(midnight)));
    let trip = tripped(Restore::WindowReset, Some(midnight));
    assert!(!due(&trip, &before, midnight - 1));
    assert!(!due(&trip, &before, midnight + 1), "the windows have not turned yet");
    let turned = limits(day(), &[(0.0, next), (0.1, next)]);
    assert!(due(&trip, &turned, midnight + 1));
    assert!(due(&trip, &limits(day(), &[]), midnight + 1), "no rows, no standing");
    assert!(!due(&trip, &limits(day(), &[(1.0, next)]), midnight + 1), "used up again");
    assert!(!due(&trip, &turned, midnight - 10), "a clock that was put back");
    assert!(
        !due(&tripped(Restore::WindowReset, None), &turned, midnight + 1),
        "nobody knows of which day it was"
    );
}

#[test]
fn a_rolling_window_resets_when_it_has_calmed_down() {
    let trip = tripped(Restore::WindowReset, None);
    assert!(!due(&trip, &limits(rolling(), &[(0.7, NOW)]), NOW + HOUR));
    assert!(due(&trip, &limits(rolling(), &[(0.69, NOW)]), NOW + HOUR));
    assert!(!due(&trip, &limits(rolling(), &[(0.69, NOW)]), NOW + 14), "what is shown may be behind");
    assert!(!due(&trip, &limits(rolling(), &[(0.1, NOW), (0.9, NOW)]), NOW + HOUR));
}

#[test]
fn no_data_is_no_recovery() {
    let (trip, calm) = (tripped(Restore::WindowReset, None), limits(rolling(), &[(0.0, NOW)]));
    assert!(due(&trip, &calm, NOW + HOUR));
    assert!(!due_since(&trip, &calm, NOW + HOUR, None), "the log is not followed");
    for unknown in [
        LimitsStatus { trouble: Some("rows are missing".into()), ..calm.clone() },
        LimitsStatus { standings: None, ..calm.clone() },
        LimitsStatus::default(),
    ] {
        assert!(!due(&trip, &unknown, NOW + HOUR), "{unknown:?}");
    }
    let tail = TailStatus {
        up: true,
        caught_up: true,
        reached_end_at: Some((NOW - 100) as f64),
        ..TailStatus::default()
    };
    assert!(is_followed(&tail, at(NOW)));
    for broken in [
        TailStatus { up: false, ..tail.clone() },
        TailStatus { caught_up: false, ..tail.clone() },
        TailStatus { reached_end_at: Some((NOW - 121) as f64), ..tail.clone() },
        TailStatus { reached_end_at: None, ..tail },
    ] {
        assert!(!is_followed(&broken, at(NOW)), "{broken:?}");
    }
}

#[test]
fn without_a_limit_an_alert_must_be_over_and_the_log_followed_for_ten_minutes() {
    let looked = LimitsStatus { looked: true, ..LimitsStatus::default() };
    for limit in [None, Some("one that was deleted".to_owned())] {
        let mut trip = tripped(Restore::WindowReset, None);
        trip.limit = limit;
        assert!(!due(&trip, &looked, NOW + HOUR), "it lasts");
        trip.over_at = Some(at(NOW + HOUR));
        assert!(!due(&trip, &looked, NOW + HOUR + 599));
        assert!(due(&trip, &looked, NOW + HOUR + 600));
        assert!(!due_since(&trip, &looked, NOW + HOUR + 600, Some(NOW + HOUR + 1)), "it was away");
    }
}

#[test]
fn what_failed_is_tried_again_for_a_day_and_what_was_said_is_not_said_in_vain() {
    let tried = |outcome: Outcome, state: ActState| ActRecord {
        act: crate::breaker::act::Act { outcome, ..tripped(Restore::Never, None).act },
        state,
        ..record()
    };
    let failed = || tried(Outcome::Unverified { status: None }, ActState::Done);
    let may = |tries: &[ActRecord], mode, now| may_try(tries, mode, at(now));
    assert!(may(&[], BreakerMode::Enforce, NOW) && may(&[], BreakerMode::DryRun, NOW));
    assert!(!may(&[], BreakerMode::Off, NOW));
    assert!(!may(&[tried(Outcome::Pending, ActState::Running)], BreakerMode::Enforce, NOW + HOUR));
    assert!(!may(&[failed()], BreakerMode::Enforce, NOW + HOUR - 1));
    assert!(may(&[failed()], BreakerMode::Enforce, NOW + HOUR));
    let all: Vec<ActRecord> = (0..MAX_TRIES).map(|_| failed()).collect();
    assert!(!may(&all, BreakerMode::Enforce, NOW + HOUR));
    let would = [tried(Outcome::WouldDo, ActState::Done)];
    assert!(!may(&would, BreakerMode::DryRun, NOW + HOUR) && may(&would, BreakerMode::Enforce, NOW + HOUR));
}
