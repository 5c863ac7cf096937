//! Whatever new-api answers: reading back decides.

use token_monitor::breaker::act::{Failure, Outcome};
use token_monitor::store::{ActState, TripRequest};

use super::{Story, no_secret_in};
use crate::fakes::admin::{Fault, Style};
use crate::support::eventually;

/// What goes wrong with the request, how often it is sent, and what comes of it.
type Answered = (&'static str, Vec<Fault>, usize, Result<(), &'static str>);

#[tokio::test(flavor = "multi_thread")]
async fn fault_32_reading_back_decides_whatever_new_api_answers() {
    let rejected = r#"{"message":"database is locked","success":false}"#;
    let no_effect = r#"{"data":false,"message":"","success":true}"#;
    // As v0.6.3.1.1 answers a PUT.
    let with_key = r#"{"data":{"id":2,"key":"sk-demo-secret-key","status":2},"message":"","success":true}"#;
    let too_low = r#"{"code":"AUTH_INSUFFICIENT_PRIVILEGE","message":"x","success":false}"#;
    let old_denial = r#"{"message":"Unauthorized, invalid access token","success":false}"#;
    let cases: Vec<Answered> = vec![
        ("success false, then better", vec![Fault::Answer(200, rejected)], 2, Ok(())),
        ("success false, and yet done", vec![Fault::DoneAnd(200, rejected)], 1, Ok(())),
        ("rate limit", vec![Fault::Busy(1)], 2, Ok(())),
        ("rate limit without a word", vec![Fault::Answer(429, "")], 2, Ok(())),
        ("500, and yet done", vec![Fault::DoneAnd(500, "")], 1, Ok(())),
        ("502", vec![Fault::Answer(502, "<html>")], 2, Ok(())),
        ("done, and no answer", vec![Fault::DoneAndSilent], 1, Ok(())),
        ("data false, and yet done", vec![Fault::DoneAnd(200, no_effect)], 1, Ok(())),
        ("an answer with a key", vec![Fault::DoneAnd(200, with_key)], 1, Ok(())),
        ("401", vec![Fault::Answer(401, too_low)], 1, Err("failed/denied")),
        ("200 that says no", vec![Fault::Answer(200, old_denial)], 1, Err("failed/denied")),
        ("always no", vec![Fault::Answer(200, rejected); 9], 3, Err("failed/rejected")),
    ];
    for style in [Style::Old, Style::New] {
        for (what, faults, writes, verdict) in &cases {
            let story = Story::begin(style).await;
            // The generation is known by then, so one request is one request.
            story.trip(story.request(100, 5)).await;
            let before = story.gateway.written().len();
            story.gateway.writes(faults.clone());
            let act = story.ask(&[story.request(1, 2)])[0];
            eventually(what, async || {
                story.pass(1);
                story.record(act).state == ActState::Done
            })
            .await;
            let record = story.record(act);
            let told = record.told.clone().unwrap_or_default();
            match verdict {
                Ok(()) => assert_eq!(record.act.outcome, Outcome::Done, "{style:?} {what}"),
                Err(why) => assert_eq!(told, *why, "{style:?} {what}"),
            }
            assert_eq!(story.gateway.status(2), if verdict.is_ok() { 2 } else { 1 }, "{style:?} {what}");
            assert_eq!(story.gateway.written().len() - before, *writes, "{style:?} {what}");
            let steps = story.steps(act);
            let count = |name: &str| steps.iter().filter(|step| *step == name).count();
            assert_eq!(
                (count("intent"), count("result"), count("told")),
                (*writes, 1, 1),
                "{what}: {steps:?}"
            );
            let (_, folder) = story.end().await;
            no_secret_in(&folder.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_32_a_put_that_is_refused_as_a_wrong_parameter_is_asked_by_the_other_route_once() {
    // As rc.16 and later answer a PUT with a status.
    let unknown = r#"{"message":"无效的参数","success":false}"#;
    for (fault, puts) in [(Fault::Answer(200, unknown), 2), (Fault::DoneAnd(200, unknown), 1)] {
        let story = Story::begin(Style::Old).await;
        // It is known by then that channels are switched by PUT here.
        story.trip(story.request(100, 5)).await;
        let before = story.gateway.written().len();
        story.gateway.writes([fault.clone()]);
        let act = story.ask(&[story.request(1, 2)])[0];
        eventually("it has ended", async || {
            story.pass(1);
            story.record(act).state == ActState::Done
        })
        .await;
        assert_eq!((story.record(act).act.outcome, story.gateway.status(2)), (Outcome::Done, 2), "{fault:?}");
        let lines = story.gateway.written()[before..].to_vec();
        let of = |route: &str| lines.iter().filter(|line| line.starts_with(route)).count();
        // The other route is not there, so this one is tried again, if it had no effect.
        assert_eq!((of("PUT /api/channel/ "), of("POST /api/channel/2/status")), (puts, 1), "{lines:?}");
        assert_eq!(story.steps(act).iter().filter(|step| *step == "intent").count(), puts, "{fault:?}");
        story.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_32_the_route_is_found_once_and_again_after_an_upgrade() {
    let story = Story::begin(Style::Old).await;
    story.trip(story.request(1, 2)).await;
    story.trip(story.request(2, 5)).await;
    let written: Vec<String> = story
        .gateway
        .written()
        .iter()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(written, ["POST /api/channel/2/status", "PUT /api/channel/", "PUT /api/channel/"]);
    let Story { gateway, folder, store, state, clock, refresher, stop, running } = story;
    let gateway = gateway.upgraded(Style::Mixed).await;
    let story = Story { gateway, folder, store, state, clock, refresher, stop, running };
    let record = story.trip(story.request(3, 7)).await;
    assert_eq!(record.act.outcome, Outcome::Done, "{:?}", story.store.ledger(record.act.id));
    let written = story.gateway.written();
    assert_eq!(
        written[3..],
        [r#"PUT /api/channel/ {"id":7,"status":2}"#, r#"POST /api/channel/7/status {"status":2}"#]
    );
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_32_what_stays_unknown_is_called_unverified_and_who_is_away_is_given_up_in_five_minutes() {
    let story = Story::begin(Style::New).await;
    // new-api says yes, and the channel stays what it is.
    let lie = r#"{"data":false,"message":"","success":true}"#;
    story.gateway.writes(vec![Fault::Answer(200, lie); 99]);
    let act = story.ask(&[story.request(1, 2)])[0];
    eventually("it was given up", async || {
        story.pass(30);
        story.record(act).state == ActState::Done
    })
    .await;
    assert_eq!(story.record(act).act.outcome, Outcome::Unverified { status: Some(1) });
    assert_eq!(story.record(act).hold, None);

    story.gateway.always(Fault::Answer(503, ""));
    let act = story.ask(&[story.request(2, 5)])[0];
    eventually("it was tried", async || story.record(act).attempts > 0).await;
    assert_eq!(story.record(act).state, ActState::Pending);
    let began = story.now();
    eventually("it was given up", async || {
        story.pass(10);
        story.record(act).state == ActState::Done
    })
    .await;
    let took = story.now().duration_since(began).as_secs();
    assert!((290..=400).contains(&took), "{took}");
    assert_eq!(story.record(act).act.outcome, Outcome::Failed { why: Failure::Server { status: 503 } });

    // An alert that lasts is heard again, and told again only if it goes otherwise.
    story.gateway.heal();
    story.pass(301);
    assert_eq!(story.ask(&[story.request(2, 5)]), [act]);
    eventually("it was done", async || story.record(act).act.outcome == Outcome::Done).await;
    assert_eq!(story.steps(act).iter().filter(|step| *step == "told").count(), 2);
    story.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lasting_alert_is_heard_once_more_after_what_was_wrong_here_was_mended() {
    let denied = r#"{"code":"AUTH_INSUFFICIENT_PRIVILEGE","message":"x","success":false}"#;
    let mut story = Story::with(Style::New, |flags| flags.breaker_protect = Some("5".to_owned())).await;
    story.gateway.always(Fault::Answer(401, denied));
    let failed = story.trip(story.request(1, 2)).await.act.id;
    let protected = story.trip(story.request(2, 5)).await.act.id;
    assert!(matches!(story.record(failed).act.outcome, Outcome::Failed { why: Failure::Denied { .. } }));
    // As long as the program runs nothing is mended: that takes another configuration.
    let began = story.now();
    story.pass(600);
    let ask = |story: &Story, began| {
        let again =
            |incident, channel| TripRequest { process_began: began, ..story.request(incident, channel) };
        story.ask(&[again(1, 2), again(2, 5)])
    };
    assert_eq!(ask(&story, began), [failed, protected]);
    story.looks().await;
    assert_eq!(story.steps(failed).iter().filter(|step| *step == "result").count(), 1);
    story.gateway.heal();
    story = story.restarted(|flags| flags.breaker_protect = None).await;
    let began = story.now();
    story.pass(60);
    assert_eq!(ask(&story, began), [failed, protected]);
    for (act, channel) in [(failed, 2), (protected, 5)] {
        eventually("it is done", async || story.record(act).act.outcome == Outcome::Done).await;
        assert_eq!(story.gateway.status(channel), 2);
    }
    story.end().await;
}
