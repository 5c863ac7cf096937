//! The composition root: opens what the configuration names, then runs every loop under one lifecycle.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::breaker::{Breaker, Gateway};
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::{Knowledge, Outbox};
use crate::http::{self, Answers, Api, Parts};
use crate::intake::Intake;
use crate::lifecycle::Lifecycle;
use crate::meter::Meter;
use crate::metrics::Metrics;
use crate::newapi::Database;
use crate::refresh::Refresher;
use crate::state::State;
use crate::store::Store;
use crate::tail::Tailer;

/// How long monitor.db is waited for after the loops have ended: so many steps of this length.
const LAST_STEPS: u32 = 300;
const LAST_STEP: Duration = Duration::from_millis(10);

/// Everything open and ready to run.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    parts: Parts,
    metrics: Metrics,
    refresher: Refresher,
    tailer: Tailer,
    meter: Meter,
    store: Store,
    intake: Intake,
    outbox: Outbox,
    breaker: Breaker,
}

impl App {
    /// Opens monitor.db and the port. new-api's databases may be away: that is reported, not fatal.
    ///
    /// # Errors
    /// If monitor.db or the port cannot be had.
    pub async fn build(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let meter = config.meter();
        let Config {
            database,
            log_database,
            monitor_database,
            listen,
            access,
            admin,
            timezone,
            language,
            tail,
            rules,
            bodies,
            limits: _,
            delivery,
            messages,
            breaker,
            watchdog_timeout,
        } = config;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("LISTEN: {listen} cannot be listened on"))?;
        let address = listener.local_addr()?;
        let store = tokio::task::spawn_blocking(move || Store::open(&monitor_database)).await??;

        let state = State::default();
        let main = Database::new(&database);
        let log = log_database.as_ref().map_or_else(|| main.clone(), Database::new);
        let targets = delivery.targets();
        let wording = messages.wording(language, timezone.clone());
        let knowledge =
            Knowledge::new(store.clone(), state.clone(), store.history(), timezone.clone(), clock.clone());
        let outbox = Outbox::new(store.clone(), state.clone(), clock.clone(), delivery, wording, knowledge)?;
        let intake =
            Intake::new(store.clone(), state.clone(), clock.clone(), targets.clone(), watchdog_timeout);
        let breaker = Breaker::new(
            store.clone(),
            state.clone(),
            clock.clone(),
            breaker,
            Gateway { admin, database: main.clone() },
            targets,
        )?;
        let refresher = Refresher::new(main, store.clone(), state.clone())?;
        // Questions have connections of their own, so that they never keep the follower waiting.
        let questions = Database::new(log_database.as_ref().unwrap_or(&database));
        let (own, slow) = (store.clone(), rules.slow_over_seconds);
        let history = tail.history;
        let meter = Meter::new(meter, state.clone(), store.clone(), clock.clone());
        let kept = store.clone();
        let tailer = Tailer::new(log, store, state.clone(), clock.clone(), tail, rules.clone())?;
        let metrics = Metrics::new(state.clone(), clock.clone(), rules, history);
        let answers = Answers::new(state.clone(), own, questions, bodies, slow, timezone)?;
        let api = Api::new(answers, history, clock.clone())?;
        let parts = Parts::new(state, metrics.clone(), api, access, clock, intake.clone());
        Ok(Self {
            listener,
            address,
            parts,
            metrics,
            refresher,
            tailer,
            meter,
            store: kept,
            intake,
            outbox,
            breaker,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the loops know, for tests that look inside.
    pub fn state(&self) -> State {
        self.parts.state.clone()
    }

    /// Runs until `stop`.
    ///
    /// # Errors
    /// If a loop fails or ends by itself.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %self.address, "token-monitor started");
        let mut life = Lifecycle::new(stop.clone());
        let store = self.store.clone();
        self.spawn(&mut life, &stop);
        let result = life.run().await;
        // What loops began on other threads goes on without them, and ends in good order.
        for _ in 0..LAST_STEPS {
            if store.is_last() {
                break;
            }
            tokio::time::sleep(LAST_STEP).await;
        }
        tracing::info!("token-monitor stopped");
        result
    }

    /// Starts the loops under a lifecycle that may have others.
    pub fn spawn(self, life: &mut Lifecycle, stop: &CancellationToken) {
        life.spawn("directory", self.refresher.run(stop.clone()));
        life.spawn("tail", self.tailer.run(stop.clone()));
        life.spawn("limits", self.meter.run(stop.clone()));
        life.spawn("breaker", self.breaker.run(stop.clone()));
        life.spawn("outbox", self.outbox.run(stop.clone()));
        life.spawn("watchdog", self.intake.run(stop.clone()));
        life.spawn("metrics", self.metrics.run(stop.clone()));
        life.spawn("http", http::serve(self.listener, self.parts, stop.clone()));
    }
}
