//! The circuit breaker against new-api's admin API of each generation, in good order and with all that can go wrong.

mod answers;
mod guards;
mod program;
mod restores;

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use token_monitor::breaker::act::{Kind, Outcome, Refusal};
use token_monitor::breaker::{Breaker, Gateway};
use token_monitor::clock::Clock;
use token_monitor::config::{Config, Flags, Settings};
use token_monitor::demo::world::ADMIN_TOKEN;
use token_monitor::limits::Restore;
use token_monitor::newapi::Database;
use token_monitor::refresh::Refresher;
use token_monitor::state::State;
use token_monitor::store::{ActRecord, ActState, Store, TripRequest};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fakes::admin::{FakeAdmin, Style};
use crate::support::{Folder, eventually, flags};

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
