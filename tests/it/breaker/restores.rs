//! A channel is enabled again once, in its time, and only if nobody touched it.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use token_monitor::breaker::act::{Outcome, Refusal};
use token_monitor::limits::{
    Action, ChannelScope, Limit, Measure, ModelScope, Period, Restore, Severity, Standing, Window,
};
use token_monitor::state::LimitsStatus;
use token_monitor::store::{ActState, Hold, TripRequest};

use super::{Story, refused};
use crate::fakes::admin::{Fault, Style};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn fault_33_a_person_who_enables_a_channel_has_it_and_one_who_disables_it_keeps_it_so() {
    for style in [Style::Old, Style::New] {
        let story = Story::begin(style).await;
        let length = Restore::parse("1h").expect("a length");
        let request = TripRequest { restore: length.clone(), ..story.request(1, 2) };
        let act = story.trip(request.clone()).await.act.id;
        story.gateway.by_hand(2, 1);
        story.pass(60);
        story.looks().await;
        assert_eq!(story.record(act).hold, Some(Hold::HandsOff), "{style:?}");
        assert!(story.steps(act).contains(&"hands_off".to_owned()));
        // The alert repeats within its episode.
        assert_eq!(story.ask(&[TripRequest { starts_at: story.now(), ..request }]), [act]);
        story.looks().await;
        assert_eq!(story.gateway.status(2), 1, "{style:?}");
        assert!(story.state.alerting().open.is_empty());
        // The person disables it; our time to enable it comes.
        story.gateway.by_hand(2, 2);
        story.pass(7200);
        story.looks().await;
        assert_eq!(story.gateway.status(2), 2, "{style:?}");

        // Enabled and disabled again before anybody looked: new versions note the time of that.
        if style == Style::New {
            let request = TripRequest { restore: length, ..story.request(2, 5) };
            let act = story.trip(request).await.act.id;
            story.gateway.by_hand(5, 2);
            story.pass(3601);
            eventually("hands off", async || story.record(act).hold == Some(Hold::HandsOff)).await;
            assert_eq!(story.gateway.status(5), 2);
            let tries = story.store.restores_of(act).expect("tries");
            assert_eq!(tries.len(), 1);
            assert_eq!(refused(&tries[0]), Refusal::HandsOff { status: Some(2) });
        }
        story.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_34_an_alert_that_ends_because_nobody_counts_enables_nothing() {
    let story = Story::begin(Style::New).await;
    let request = TripRequest { restore: Restore::WindowReset, ..story.request(1, 2) };
    let act = story.trip(request).await.act.id;
    let now = story.now();
    story.store.write(|writing| writing.incident_over(1, now)).expect("written");
    story.follow(false);
    story.pass(3600);
    story.looks().await;
    assert_eq!((story.gateway.status(2), story.record(act).hold), (2, Some(Hold::Open)));
    // The log is followed again: from then on it counts.
    story.follow(true);
    story.looks().await;
    assert_eq!(story.gateway.status(2), 2);
    // Its end is reached all the time.
    let later = story.clock.unix_f64() + 601.0;
    story.state.update_tail(|tail| tail.reached_end_at = Some(later));
    story.pass(601);
    eventually("it is enabled", async || story.gateway.status(2) == 1).await;
    eventually("it is written down", async || story.record(act).hold == Some(Hold::Restored)).await;
    assert_eq!(story.store.restores_of(act).expect("tries").len(), 1);
    // A later beginning of the alert, whose end nobody heard of, is another episode.
    let later = TripRequest { starts_at: story.now() + SignedDuration::from_secs(1), ..story.request(1, 2) };
    let again = story.trip(later).await;
    assert!(again.act.id > act);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_36_whatever_the_clock_does_a_channel_is_enabled_once_and_not_before_its_time() {
    let story = Story::begin(Style::New).await;
    let day = Restore::parse("24h").expect("a length");
    let act = story.trip(TripRequest { restore: day, ..story.request(1, 2) }).await.act.id;
    let at = story.record(act).act.restore_at.expect("an instant");
    let tripped = story.now();
    assert_eq!(at.duration_since(tripped).as_secs(), 86_400);
    for jump in [-86_400, 3600, -3600] {
        story.clock.set(tripped + SignedDuration::from_secs(jump));
        story.looks().await;
        assert_eq!(story.gateway.status(2), 2, "{jump}");
    }
    story.clock.set(at);
    eventually("it is enabled", async || story.gateway.status(2) == 1).await;
    eventually("it is written down", async || story.record(act).hold == Some(Hold::Restored)).await;
    // Back by a day, and over the instant again, while a person has it disabled.
    story.gateway.by_hand(2, 2);
    for instant in [tripped, at, at + SignedDuration::from_hours(24)] {
        story.clock.set(instant);
        story.looks().await;
    }
    assert_eq!(story.gateway.status(2), 2);
    assert_eq!(story.store.restores_of(act).expect("tries").len(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_36_a_window_of_twenty_five_hours_resets_once_and_when_it_ends() {
    let zone = TimeZone::get("Europe/Berlin").expect("a zone");
    let story = Story::begin(Style::New).await;
    let limit = Limit {
        name: "daily".to_owned(),
        channel: ChannelScope::One(2),
        model: ModelScope::Together,
        measure: Measure::Requests,
        max: 10.0,
        window: Window::Calendar(Period::Day),
        warn_at: None,
        severity: Severity::Critical,
        action: Action::DisableChannel,
        restore: Restore::WindowReset,
    };
    // Where the limit stands: over it until midnight, unused from then on.
    let show = |now: Timestamp, used: f64| {
        let span = Period::Day.span(&zone, now.as_second());
        let standing = Standing {
            limit: 0,
            channel_id: Some(2),
            model: None,
            overflow: false,
            used,
            max: 10.0,
            ratio: used / 10.0,
            resets_at: Some(span.end),
            exhausted_at: None,
        };
        story.state.show_limits(Arc::new(LimitsStatus {
            limits: vec![limit.clone()],
            standings: Some(vec![standing]),
            looked: true,
            ..LimitsStatus::default()
        }));
    };
    // On the last Sunday of October a day has 25 hours: from 22:00 to 23:00 UTC of the next day.
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    let tripped = at("2026-10-25T10:00:00Z");
    story.clock.set(tripped);
    show(tripped, 12.0);
    let request =
        TripRequest { restore: Restore::WindowReset, limit: Some("daily".to_owned()), ..story.request(1, 2) };
    let act = story.trip(request).await.act.id;
    let midnight = at("2026-10-25T23:00:00Z");
    assert_eq!(story.record(act).act.restore_at, Some(midnight));
    let pass_to = async |now: Timestamp, used: f64| {
        story.clock.set(now);
        show(now, used);
        story.follow(true);
        story.looks().await;
    };
    // Twenty-four hours after the midnight before it is still the same day; and clocks that jump change nothing.
    for (now, used) in
        [("2026-10-25T22:00:30Z", 12.0), ("2026-10-24T10:00:00Z", 12.0), ("2026-10-25T22:59:50Z", 12.0)]
    {
        pass_to(at(now), used).await;
        assert_eq!(story.gateway.status(2), 2, "{now}");
    }
    pass_to(midnight + SignedDuration::from_secs(1), 0.0).await;
    eventually("it is enabled", async || story.gateway.status(2) == 1).await;
    eventually("it is written down", async || story.record(act).hold == Some(Hold::Restored)).await;
    // A person disables it; no later midnight, and no clock that is set back over this one, enables it once more.
    story.gateway.by_hand(2, 2);
    for now in [tripped, midnight, at("2026-10-26T23:00:01Z"), at("2026-03-29T01:00:01Z")] {
        pass_to(now, 0.0).await;
        assert_eq!(story.gateway.status(2), 2, "{now}");
    }
    assert_eq!(story.store.restores_of(act).expect("tries").len(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_two_alerts_hold_is_enabled_when_neither_does() {
    let story = Story::begin(Style::New).await;
    let short = Restore::parse("1h").expect("a length");
    let long = Restore::parse("3h").expect("a length");
    let first = story.trip(TripRequest { restore: short, ..story.request(1, 2) }).await;
    let second = story.trip(TripRequest { restore: long, ..story.request(2, 2) }).await;
    let ours = Outcome::AlreadySo { status: 2, by: Some(first.act.id), held: true };
    assert_eq!(second.act.outcome, ours);
    assert_eq!(second.hold, Some(Hold::Open));
    story.pass(3700);
    story.looks().await;
    assert_eq!(story.gateway.status(2), 2, "the second one lasts");
    story.pass(2 * 3600);
    eventually("it is enabled", async || story.gateway.status(2) == 1).await;
    eventually("neither holds it", async || {
        [&first, &second].iter().all(|record| story.record(record.act.id).hold == Some(Hold::Restored))
    })
    .await;

    // What somebody else disabled is theirs.
    story.gateway.by_hand(5, 2);
    let theirs = story.trip(TripRequest { restore: Restore::WindowReset, ..story.request(3, 5) }).await;
    assert_eq!((theirs.act.outcome, theirs.hold), (Outcome::already(2), None));
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_36_what_was_done_in_a_future_that_never_came_blocks_nothing() {
    let story = Story::with(Style::New, |flags| flags.breaker_max_per_hour = Some("1".to_owned())).await;
    let today = story.now();
    story.pass(86_400);
    assert_eq!(story.trip(story.request(1, 5)).await.act.outcome, Outcome::Done);
    story.clock.set(today);
    assert_eq!(
        story.trip(story.request(2, 2)).await.act.outcome,
        Outcome::Done,
        "it is the first of its hour"
    );

    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_36_what_waits_for_a_time_that_is_far_off_by_now_is_looked_at() {
    let story = Story::begin(Style::New).await;
    let today = story.now();
    story.gateway.always(Fault::Answer(503, ""));
    let act = story.ask(&[story.request(1, 5)])[0];
    eventually("it was tried", async || story.record(act).attempts > 0).await;
    story.clock.set(today - SignedDuration::from_hours(24));
    eventually("it has ended", async || {
        story.pass(1);
        story.record(act).state == ActState::Done
    })
    .await;
    let ended = story.record(act);
    assert!(matches!(refused(&ended), Refusal::FromTheFuture { .. }), "{ended:?}");
    story.end().await;
}
