//! Who asks, what is refused, and what a dry run does.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use token_monitor::breaker::act::{Failure, Kind, Outcome, Refusal};
use token_monitor::limits::REST;
use token_monitor::newapi::dsn::Dsn;
use token_monitor::newapi::{Database, Directory};
use token_monitor::store::{ActState, Hold, TripRequest};

use super::{ALONE, Story, refused};
use crate::engines::install;
use crate::fakes::admin::Style;
use crate::schema::Version;
use crate::servers::{self, Engine};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_disables_a_channel_within_a_second_on_every_generation_and_a_person_has_it_enabled() {
    for style in Style::ALL {
        let story = Story::begin(style).await;
        let began = Instant::now();
        let act = story.ask(&[story.request(1, 2)])[0];
        while story.record(act).state != ActState::Done {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{style:?}: {:?}", began.elapsed());
        let record = story.record(act);
        assert_eq!((&record.act.outcome, record.hold), (&Outcome::Done, Some(Hold::Open)), "{style:?}");
        assert_eq!((record.before_status, record.after_status), (Some(1), Some(2)));
        assert_eq!(record.status_time.is_some(), style != Style::Old, "{style:?}");
        assert_eq!(story.gateway.status(2), 2);
        assert_eq!(story.gateway.number("SELECT sum(enabled) FROM abilities WHERE channel_id = 2"), 0);
        let steps = ["asked", "intent", "answer", "read", "result", "told"];
        assert_eq!(story.steps(act), steps, "{style:?}");
        // Asked for again by the same episode, it is the same act, also if the alert's beginning moved.
        let again = TripRequest { starts_at: story.now(), ..story.request(1, 2) };
        assert_eq!(story.ask(&[again]), [act]);
        eventually("it is shown", async || {
            let alerting = story.state.alerting();
            alerting.open == [2] && alerting.acts.get(&(Kind::Trip, "done")) == Some(&1)
        })
        .await;

        let reset = story.operator(Kind::Restore, 2).await;
        assert_eq!((reset.act.outcome, story.gateway.status(2)), (Outcome::Done, 1), "{style:?}");
        assert_eq!(story.record(act).hold, Some(Hold::Operator));
        let reset = story.operator(Kind::Restore, 2).await;
        assert_eq!(reset.act.outcome, Outcome::already(1));
        story.gateway.by_hand(5, 2);
        assert_eq!(refused(&story.operator(Kind::Restore, 5).await), Refusal::NotOurs);
        story.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_30_what_is_too_old_over_no_channel_unknown_or_protected_is_refused_told_and_never_sent() {
    let story = Story::with(Style::New, |flags| flags.breaker_protect = Some("5".to_owned())).await;
    let day = SignedDuration::from_hours(24);
    let no_channel = |text: &str| Refusal::NoChannel { text: text.to_owned() };
    let cases = [
        (
            TripRequest { starts_at: story.now() - day * 3, ..story.request(1, 2) },
            Refusal::TooOld { seconds: 3 * 86_400 },
        ),
        (
            TripRequest { starts_at: story.now() + SignedDuration::from_secs(121), ..story.request(2, 2) },
            Refusal::FromTheFuture { seconds: 121 },
        ),
        (TripRequest { channel: Err("12;DROP".into()), ..story.request(3, 2) }, no_channel("12;DROP")),
        (TripRequest { channel: Err(String::new()), ..story.request(4, 2) }, no_channel("")),
        (TripRequest { channel: Err(REST.into()), ..story.request(10, 2) }, Refusal::Rest),
        (story.request(5, -1), no_channel("-1")),
        (story.request(6, 4711), Refusal::UnknownChannel),
        (story.request(7, 5), Refusal::Protected),
        (
            story.request(8, ALONE),
            Refusal::LastOf { group: "default".into(), model: "sora-2".into(), others: 1 },
        ),
    ];
    for (request, why) in cases {
        let record = story.trip(request).await;
        assert_eq!(refused(&record), why);
        assert_eq!(story.steps(record.act.id), ["asked", "result", "told"], "{why:?}");
    }
    // Resolved before anything was done: as if both came while the breaker was away.
    let (act, now) = (story.request(9, 2), story.now());
    let act = story
        .store
        .write(|writing| {
            let act = writing.request_trip(&act)?.act;
            writing.incident_over(9, now)?;
            Ok(act)
        })
        .expect("written");
    assert_eq!(refused(&story.ended(act).await), Refusal::Over);
    assert_eq!(story.gateway.written(), Vec::<String>::new());
    // A repeat that is refused for the same reason is not told again.
    story.pass(600);
    let act = story.trip(story.request(8, ALONE)).await.act.id;
    eventually("it was looked at again", async || {
        story.steps(act).iter().filter(|s| *s == "result").count() == 2
    })
    .await;
    assert_eq!(story.steps(act).iter().filter(|step| *step == "told").count(), 1);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_31_of_forty_channels_at_once_few_are_disabled_and_never_the_last_of_a_model() {
    let story = Story::with(Style::New, |flags| flags.breaker_max_per_hour = Some("3".to_owned())).await;
    let served = "SELECT count(*) FROM (SELECT 1 FROM abilities a JOIN channels c ON c.id = a.channel_id \
                  WHERE a.enabled AND c.status = 1 GROUP BY a.`group`, a.model)";
    let disabled = "SELECT count(*) FROM channels WHERE status <> 1";
    let before = (story.gateway.number(served), story.gateway.number(disabled));
    let requests: Vec<_> = (1..=40).map(|channel| story.request(channel, channel)).collect();
    let acts = story.ask(&requests);
    let mut done = 0;
    for act in acts {
        let record = story.ended(act).await;
        match &record.act.outcome {
            Outcome::Done => done += 1,
            Outcome::AlreadySo { .. } => {}
            _ => {
                let why = refused(&record);
                assert!(
                    matches!(
                        why,
                        Refusal::UnknownChannel | Refusal::LastOf { .. } | Refusal::TooMany { per_hour: 3 }
                    ),
                    "{why:?}"
                );
                assert!(story.steps(act).contains(&"told".to_owned()));
            }
        }
    }
    assert_eq!(done, 3);
    assert_eq!(story.gateway.number(disabled), before.1 + 3);
    assert_eq!(story.gateway.number(served), before.0, "a model is served by nobody");
    // An hour later there is room again, though not for the last of a model.
    story.pass(3601);
    let alone = story.trip(story.request(50, ALONE)).await;
    assert!(matches!(refused(&alone), Refusal::LastOf { .. }), "{alone:?}");
    let spare = "SELECT min(id) FROM channels WHERE status = 1 AND id NOT IN (SELECT channel_id FROM abilities a \
                 WHERE a.enabled AND 1 = (SELECT count(*) FROM abilities b JOIN channels c ON c.id = b.channel_id \
                 WHERE b.enabled AND c.status = 1 AND b.model = a.model AND b.`group` = a.`group`))";
    let spare = story.gateway.number(spare);
    assert_eq!(story.trip(story.request(51, spare)).await.act.outcome, Outcome::Done);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_35_a_dry_run_writes_nothing_and_says_what_it_would_do() {
    for style in Style::ALL {
        let story = Story::with(style, |flags| flags.breaker_mode = Some("dry_run".to_owned())).await;
        let record = story.trip(story.request(1, 2)).await;
        assert_eq!((record.act.outcome, record.told.as_deref()), (Outcome::WouldDo, Some("would_do")));
        assert_eq!(
            refused(&story.trip(story.request(2, ALONE)).await),
            Refusal::LastOf { group: "default".into(), model: "sora-2".into(), others: 1 }
        );
        assert_eq!(story.operator(Kind::Trip, 5).await.act.outcome, Outcome::WouldDo);
        let reset = story.operator(Kind::Restore, 5).await;
        assert_eq!(reset.act.outcome, Outcome::already(1));
        assert_eq!(story.gateway.asked(), Vec::<String>::new(), "{style:?}");
        assert_eq!((story.gateway.status(2), story.record(record.act.id).hold), (1, None));
        story.end().await;
    }
    let story = Story::with(Style::New, |flags| flags.breaker_mode = Some("off".to_owned())).await;
    assert_eq!(refused(&story.trip(story.request(1, 2)).await), Refusal::Off);
    assert_eq!(refused(&story.operator(Kind::Trip, 2).await), Refusal::Off);
    assert_eq!(story.gateway.asked(), Vec::<String>::new());
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_the_guard_of_the_last_channel_is_not_skipped() {
    let story = Story::begin(Style::New).await;
    eventually("the directory was seen", async || story.state.directory().ready).await;
    // What was read a moment ago is good for some minutes …
    story.gateway.sql("ALTER TABLE abilities RENAME TO away");
    assert!(matches!(refused(&story.trip(story.request(1, ALONE)).await), Refusal::LastOf { .. }));
    // … and then nothing is done.
    assert!(story.refresher.tick().await.is_err());
    story.pass(301);
    let act = story.ask(&[story.request(2, 2)])[0];
    eventually("it was given up", async || {
        story.pass(10);
        story.record(act).state == ActState::Done
    })
    .await;
    let outcome = story.record(act).act.outcome;
    assert_eq!(outcome, Outcome::Failed { why: Failure::NoDatabase });
    assert_eq!(story.gateway.written(), Vec::<String>::new());
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_the_last_of_a_model_is_known_on_every_engine() {
    for (engine, version) in
        Engine::ALL.into_iter().zip([Version::V0_6_3, Version::V0_13_2, Version::V1_0_0Rc24])
    {
        let database = servers::Database::create(engine, version).await;
        install(&database, None).await;
        let reader = Database::new(&Dsn::parse(&database.url).expect("an address"));
        let last_of = async || Directory::read(&reader).await.expect("a directory").last_of;
        let before = last_of().await;
        assert_eq!(before[&ALONE].len(), 2, "{engine:?}: {before:?}");
        assert!(!before.contains_key(&2), "{engine:?}: {before:?}");
        // The others of its models are disabled: one as it should be, one whose abilities were left as they are.
        database.exec("UPDATE channels SET status = 2 WHERE id IN (1, 3)").await;
        let off = engine.boolean(false);
        database.exec(&format!("UPDATE abilities SET enabled = {off} WHERE channel_id = 1")).await;
        let after = last_of().await;
        assert!(after[&2].contains(&("default".to_owned(), "gpt-4o".to_owned())), "{engine:?}: {after:?}");
        reader.close().await;
    }
}
