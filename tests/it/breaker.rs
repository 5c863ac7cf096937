//! The circuit breaker against new-api's admin API of each generation, in good order and with all that can go wrong.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use token_monitor::breaker::act::{Failure, Kind, Outcome, Refusal};
use token_monitor::breaker::{Breaker, Gateway};
use token_monitor::clock::Clock;
use token_monitor::config::{Config, Flags, Settings};
use token_monitor::demo::world::{ADMIN_TOKEN, USER_TOKEN};
use token_monitor::limits::{
    Action, ChannelScope, Limit, Measure, ModelScope, Period, Restore, Severity, Standing, Window,
};
use token_monitor::newapi::dsn::Dsn;
use token_monitor::newapi::{Database, Directory};
use token_monitor::refresh::Refresher;
use token_monitor::state::{LimitsStatus, State};
use token_monitor::store::{ActRecord, ActState, Hold, Store, TripRequest};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::engines::install;
use crate::fakes::admin::{FakeAdmin, Fault, Style};
use crate::schema::{LogRow, Version};
use crate::servers::{self, Engine};
use crate::support::{Folder, Monitor, Process, command, eventually, flags};

/// A channel of the demo that is the only one for its model. Others stand in for 2, 5 and 7.
pub const ALONE: i64 = 10;

/// A breaker in this process, and the gateway that it acts on.
struct Story {
    gateway: FakeAdmin,
    folder: Folder,
    store: Store,
    state: State,
    clock: Clock,
    refresher: Refresher,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

pub fn breaker_flags(gateway: &FakeAdmin, folder: &Folder) -> Flags {
    Flags {
        access_password: Some("correct horse".to_owned()),
        new_api_base_url: Some(gateway.base_url()),
        new_api_key: Some(ADMIN_TOKEN.to_owned()),
        // Nobody is there; but somebody is to be told.
        wecom_webhook: Some("http://127.0.0.1:9/cgi-bin/webhook/send?key=none".to_owned()),
        history: Some("1h".to_owned()),
        ..flags(&gateway.database_url(), &folder.path())
    }
}

impl Story {
    async fn begin(style: Style) -> Self {
        Self::with(style, |_| {}).await
    }

    async fn with(style: Style, change: impl FnOnce(&mut Flags)) -> Self {
        Self::on(FakeAdmin::start(style).await, Folder::new(), change).await
    }

    /// The same after another start with another configuration, a minute later.
    async fn restarted(self, change: impl FnOnce(&mut Flags)) -> Self {
        let later = self.now() + SignedDuration::from_secs(60);
        let (gateway, folder) = self.end().await;
        let story = Self::on(gateway, folder, change).await;
        story.clock.set(later);
        story
    }

    async fn on(gateway: FakeAdmin, folder: Folder, change: impl FnOnce(&mut Flags)) -> Self {
        let mut flags = breaker_flags(&gateway, &folder);
        change(&mut flags);
        let config = Settings::from_flags(&flags).and_then(|settings| Config::resolve(&settings));
        let config = config.expect("a sound configuration");
        let store = Store::open(&folder.path().join("monitor.db")).expect("monitor.db");
        let (state, clock) = (State::default(), Clock::fixed(Clock::system().now()));
        let database = Database::new(&config.database);
        let refresher = Refresher::new(database.clone(), store.clone(), state.clone()).expect("a refresher");
        refresher.tick().await.expect("a directory");
        let breaker = Breaker::new(
            store.clone(),
            state.clone(),
            clock.clone(),
            config.breaker.clone(),
            Gateway { admin: config.admin.clone(), database },
            config.delivery.targets(),
        );
        let stop = CancellationToken::new();
        let running = tokio::spawn(breaker.expect("a breaker").run(stop.clone()));
        Self { gateway, folder, store, state, clock, refresher, stop, running }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn request(&self, incident: i64, channel: i64) -> TripRequest {
        TripRequest {
            starts_at: self.now() - SignedDuration::from_secs(60),
            ..request(incident, channel, self.now())
        }
    }

    /// Asks, and rings, as the webhook does.
    fn ask(&self, requests: &[TripRequest]) -> Vec<i64> {
        let asked = self.store.write(|writing| {
            requests.iter().map(|request| Ok(writing.request_trip(request)?.act)).collect::<Result<_, _>>()
        });
        self.state.breaker_bell().notify_one();
        asked.expect("asked")
    }

    /// Asks for one and waits for its end.
    async fn trip(&self, request: TripRequest) -> ActRecord {
        let act = self.ask(&[request])[0];
        self.ended(act).await
    }

    fn record(&self, act: i64) -> ActRecord {
        let page = self.store.acts_page(Some(act + 1), 1).expect("a page");
        page.into_iter().find(|record| record.act.id == act).expect("the act")
    }

    async fn ended(&self, act: i64) -> ActRecord {
        eventually("the act has ended", async || self.record(act).state == ActState::Done).await;
        self.record(act)
    }

    async fn operator(&self, kind: Kind, channel: i64) -> ActRecord {
        let at = self.now();
        let act = self.store.write(|w| w.request_by_operator(kind, channel, "to see", at)).expect("asked");
        self.state.breaker_bell().notify_one();
        self.ended(act).await
    }

    fn steps(&self, act: i64) -> Vec<String> {
        self.store.ledger(act).expect("a ledger").into_iter().map(|line| line.step).collect()
    }

    fn pass(&self, seconds: i64) {
        self.clock.set(self.now() + SignedDuration::from_secs(seconds));
        self.state.breaker_bell().notify_one();
    }

    /// Long enough for the breaker to have looked at everything twice.
    async fn looks(&self) {
        self.refresher.tick().await.expect("a directory");
        tokio::time::sleep(Duration::from_millis(2300)).await;
    }

    /// The log is followed, or not.
    fn follow(&self, up: bool) {
        let now = self.clock.unix_f64();
        self.state.update_tail(|tail| {
            (tail.up, tail.caught_up) = (up, up);
            tail.reached_end_at = up.then_some(now);
        });
    }

    async fn end(self) -> (FakeAdmin, Folder) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("no failure");
        (self.gateway, self.folder)
    }
}

/// An alert that begins now asks for a channel to be disabled for good.
fn request(incident: i64, channel: i64, now: Timestamp) -> TripRequest {
    TripRequest {
        incident,
        rule: "Burning".to_owned(),
        fingerprint: format!("{incident:016x}"),
        channel: Ok(channel),
        starts_at: now,
        restore: Restore::Never,
        limit: None,
        at: now,
        process_began: now,
    }
}

fn refused(record: &ActRecord) -> Refusal {
    match &record.act.outcome {
        Outcome::Refused { why } => why.clone(),
        other => panic!("not refused: {other:?}"),
    }
}

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
        (TripRequest { channel: Err("_other".into()), ..story.request(10, 2) }, Refusal::Rest),
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
            assert_eq!(refused(&tries[0]), Refusal::HandsOff);
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

/// Neither the access token nor a channel's key is in any file of ours; all of the demo's have this mark.
fn no_secret_in(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        // SQLite removes its log when the last connection is closed, which may be now.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("demo-secret"), "{}", path.display());
    }
}

/// Lines of the ledger of a monitor that runs.
fn ledger(folder: &Folder, act: i64) -> Vec<String> {
    let path = folder.path().join("monitor.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(path, flags).expect("monitor.db");
    let mut statement =
        connection.prepare("SELECT step FROM ledger WHERE act = ? ORDER BY id").expect("a ledger");
    let lines = statement.query_map([act], |row| row.get(0)).expect("lines");
    lines.collect::<Result<_, _>>().expect("steps")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_still_answers_after_it_was_disabled_is_told_of_and_one_that_is_quiet_is_not() {
    let (gateway, folder) = (FakeAdmin::start(Style::New).await, Folder::new());
    let flags = breaker_flags(&gateway, &folder);
    let clock = Clock::fixed(Clock::system().now());
    let tripped = clock.unix();
    // As if the program had died right after it took the alerts in.
    let store = Store::open(&folder.path().join("monitor.db")).expect("monitor.db");
    let acts: Vec<i64> = store
        .write(|w| [2, 5].iter().map(|id| Ok(w.request_trip(&request(*id, *id, clock.now()))?.act)).collect())
        .expect("asked");
    drop(store);
    let monitor = Monitor::start_at(&flags, clock.clone()).await;
    monitor.page().wait_ready().await;
    eventually("both are disabled", async || gateway.status(2) == 2 && gateway.status(5) == 2).await;
    eventually("both are done", async || {
        acts.iter().all(|act| ledger(&folder, *act).contains(&"result".to_owned()))
    })
    .await;
    // The one begins requests long after; the other ends some that had begun before.
    let row = |channel_id: i64, use_time: i64| LogRow {
        channel_id,
        use_time,
        created_at: tripped + 170,
        ..LogRow::default()
    };
    // Two that began while other nodes had not heard of it are told with the others.
    let early = |seconds| LogRow { created_at: tripped + seconds, ..row(2, 1) };
    let rows = [early(20), early(40), row(2, 1), row(2, 2), row(2, 0), row(5, 100), row(5, 120), row(5, 150)];
    gateway.sql(&LogRow::insert(&rows, Engine::Sqlite, Version::V1_0_0Rc24));
    clock.set(clock.now() + SignedDuration::from_secs(200));
    eventually("it is told", async || ledger(&folder, acts[0]).contains(&"busy".to_owned())).await;
    clock.set(clock.now() + SignedDuration::from_secs(230));
    eventually("it is quiet", async || ledger(&folder, acts[1]).contains(&"quiet".to_owned())).await;
    let busy = ledger(&folder, acts[0]).iter().filter(|step| *step == "busy").count();
    assert_eq!((busy, ledger(&folder, acts[1]).contains(&"busy".to_owned())), (1, false));
    let path = folder.path().join("monitor.db");
    let connection = rusqlite::Connection::open(path).expect("monitor.db");
    let facts: String = connection
        .query_row("SELECT facts FROM notices WHERE kind = 'still_busy'", [], |row| row.get(0))
        .expect("a notice");
    let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
    assert_eq!((&facts["requests"], &facts["at_least"]), (&5.into(), &false.into()), "{facts}");
    let seconds = facts["seconds"].as_i64().expect("seconds");
    assert!((199..=230).contains(&seconds), "since it was disabled: {facts}");
    monitor.stop().await;
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

/// How the program dies in a round of the test below.
const DEATHS: [&str; 3] = ["the request is on its way", "it is done, and nobody said so", "at any moment"];

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_between_intent_and_read_back_leaves_a_ledger_that_explains_the_channel() {
    let (gateway, folder) = (FakeAdmin::start(Style::New).await, Folder::new());
    let flags = Flags {
        breaker_max_per_hour: Some("1000".to_owned()),
        rust_log: Some("warn".to_owned()),
        ..breaker_flags(&gateway, &folder)
    };
    let path = folder.path().join("monitor.db");
    let open = || Store::open(&path).expect("monitor.db");
    let record = |act: i64| open().acts_page(Some(act + 1), 1).expect("a page").remove(0);
    let mut found_by_reading = 0;
    for round in 0..9 {
        let (kind, wanted) = if round % 2 == 0 { (Kind::Trip, 2) } else { (Kind::Restore, 1) };
        let now = Clock::system().now();
        let act = open()
            .write(|writing| match kind {
                Kind::Trip => Ok(writing.request_trip(&request(round, 2, now))?.act),
                Kind::Restore => writing.request_by_operator(kind, 2, "", now),
            })
            .expect("asked");
        let before = gateway.written().len();
        let death = DEATHS[usize::try_from(round).expect("a place") % 3];
        match death {
            "the request is on its way" => gateway.writes([Fault::Slow(Duration::from_secs(3))]),
            "it is done, and nobody said so" => gateway.writes([Fault::DoneAndSilent]),
            _ => gateway.always(Fault::Slow(Duration::from_millis(50))),
        }
        let process = Process::spawn(&flags);
        if death == DEATHS[2] {
            tokio::time::sleep(Duration::from_millis(crate::ledger::mixed(round.unsigned_abs()) % 600)).await;
        } else {
            eventually("it was sent", async || gateway.written().len() > before).await;
            if death == DEATHS[1] {
                eventually("it was done", async || gateway.status(2) == wanted).await;
            }
        }
        process.kill();
        gateway.heal();
        let dead = record(act);
        if death != DEATHS[2] {
            assert_eq!(dead.state, ActState::Running, "{death}");
        }
        let sent = gateway.written().len();
        let process = Process::spawn(&flags);
        let done = || ledger(&folder, act).contains(&"result".to_owned());
        eventually("the act has ended", async || done()).await;
        process.kill();

        let (ended, steps) = (record(act), open().ledger(act).expect("a ledger"));
        let count = |name: &str| steps.iter().filter(|line| line.step == name).count();
        assert_eq!(ended.act.outcome, Outcome::Done, "{round} {death}: {steps:?}");
        assert_eq!((gateway.status(2), count("result"), count("told")), (wanted, 1, 1), "{round} {death}");
        // Nothing was ever sent that was not written down before.
        assert!(gateway.written().len() - before <= count("intent"), "{steps:?}");
        if death == DEATHS[1] {
            assert_eq!(gateway.written().len(), sent, "what was done is not done again");
            assert_eq!((count("reconciled"), count("intent")), (1, 1), "{steps:?}");
            found_by_reading += 1;
        }
        let held = open().held().expect("holds");
        assert_eq!(held.len(), usize::from(kind == Kind::Trip), "{round} {death}");
    }
    assert_eq!(found_by_reading, 3);
    no_secret_in(&folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_whether_the_key_may_act_without_acting() {
    for style in Style::ALL {
        let (gateway, folder) = (FakeAdmin::start(style).await, Folder::new());
        let all = "SELECT sum(status * id * id) FROM channels";
        let before = gateway.number(all);
        let checked = async |key: &str| {
            let flags = Flags { new_api_key: Some(key.to_owned()), ..breaker_flags(&gateway, &folder) };
            let mut command = command(&flags);
            command.arg("check");
            let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
            let output = output.expect("it runs");
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert!(!printed.contains("demo-secret"), "{printed}");
            (output.status.code(), printed)
        };
        let (code, printed) = checked(ADMIN_TOKEN).await;
        let route = if style == Style::Old { "by PUT" } else { "by POST" };
        assert!(code == Some(0) && printed.contains(route), "{style:?}: {printed}");
        assert!(printed.contains("breaker: enforce; at most 10 channels an hour"), "{printed}");
        let (code, printed) = checked(USER_TOKEN).await;
        assert!(code == Some(1) && printed.contains("fail  admin API"), "{style:?}: {printed}");
        assert!(printed.contains("access token of an administrator"), "{printed}");
        let (code, printed) = checked("sk-abc").await;
        assert!(code == Some(2) && printed.contains("starts with sk-"), "{style:?}: {printed}");
        assert_eq!(gateway.number(all), before, "{style:?}");
        assert!(gateway.written().iter().all(|line| line.contains("/none/")), "{:?}", gateway.written());
    }
}
