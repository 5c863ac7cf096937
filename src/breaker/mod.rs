//! The circuit breaker: disables a channel when an alert asks for it, and enables it again when that was wished.
//!
//! An act is asked for in monitor.db, in the transaction that takes in its alert. One loop takes acts in their order: guards
//! ([`guards`]) look at it, its intent is committed, new-api is asked, and only reading back confirms ([`attempt`]). A process
//! that dies in between finds the intent and reads the channel before anything else. Channels that were disabled are ours until
//! a person changes them ([`watch`]) or they are enabled again ([`restore`]).

pub mod act;
mod attempt;
pub mod guards;
pub mod restore;
mod watch;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Admin, BreakerConfig, BreakerMode};
use crate::message::Target;
use crate::newapi::{AdminClient, Database};
use crate::state::State;
use crate::store::{HistoryReader, Store, StoreError, Writing};

/// So often it is looked whether something is due that nobody rings for.
const TICK: Duration = Duration::from_secs(1);

/// Most acts of one look; the rest come with the next one, at once.
const BATCH: usize = 100;

/// So often channels that are held are looked at, in seconds.
const LOOK_SECONDS: i64 = 30;

/// So long the ledger is kept, and so often it is swept.
const KEEP: SignedDuration = SignedDuration::from_hours(400 * 24);
const SWEEP_SECONDS: i64 = 3600;

/// The gateway that is acted on.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its admin API.
    pub admin: Option<Admin>,
    /// Its main database, where channels and abilities are looked at.
    pub database: Database,
}

/// Does what was asked for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Breaker {
    store: Store,
    history: HistoryReader,
    state: State,
    clock: Clock,
    config: BreakerConfig,
    admin: Option<AdminClient>,
    database: Database,
    targets: Vec<Target>,
}

/// What the loop remembers from round to round.
#[derive(Debug, Default)]
struct Memory {
    /// The first look takes up what an earlier process left, whatever its time.
    begun: bool,
    /// When this process began to act.
    started_at: Option<Timestamp>,
    /// The directory that the state shows was read then, or later.
    directory_at: Option<Timestamp>,
    /// Since when the log has been followed without a break.
    followed_since: Option<Timestamp>,
    /// The last look at channels that are held.
    looked_at: Option<Timestamp>,
    /// The last sweep of the ledger.
    swept_at: Option<Timestamp>,
}

impl Breaker {
    /// A breaker that acts on `gateway` and tells `targets` what it did.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn new(
        store: Store,
        state: State,
        clock: Clock,
        config: BreakerConfig,
        gateway: Gateway,
        targets: Vec<Target>,
    ) -> anyhow::Result<Self> {
        let admin = gateway.admin.map(AdminClient::new).transpose()?;
        let history = store.history();
        Ok(Self { store, history, state, clock, config, admin, database: gateway.database, targets })
    }

    /// Acts until `stop`. An act that is cut by it is taken up at the next start.
    ///
    /// # Errors
    /// Only for a bug: if monitor.db cannot be used, it is tried again.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mode = self.config.mode.as_str();
        self.state.update_alerting(|alerting| alerting.breaker_mode = mode);
        tracing::info!(mode, "the breaker waits for alerts that ask for it");
        let mut memory = Memory { started_at: Some(self.clock.now()), ..Memory::default() };
        let (mut failing, mut published) = (false, false);
        loop {
            if !published {
                published = self.publish().await.is_ok();
            }
            match stop.run_until_cancelled(self.round(&mut memory)).await {
                None => return Ok(()),
                Some(Ok(())) => failing = false,
                Some(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!("the breaker cannot go on, and tries again: {error:#}");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.state.breaker_bell().notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Does all that is due.
    async fn round(&self, memory: &mut Memory) -> anyhow::Result<()> {
        self.observe(memory);
        self.act_on_all(memory).await?;
        if self.config.mode != BreakerMode::Off && self.ask_for_restores(memory).await? {
            self.act_on_all(memory).await?;
        }
        let now = self.clock.now();
        if is_time(&mut memory.looked_at, now, LOOK_SECONDS) {
            self.look_at_held().await?;
            self.look_at_watched(memory).await?;
        }
        if is_time(&mut memory.swept_at, now, SWEEP_SECONDS)
            && let Ok(before) = now.checked_sub(KEEP)
        {
            self.write(move |writing| writing.forget_acts(before)).await?;
        }
        Ok(())
    }

    /// Notes what can be relied on.
    fn observe(&self, memory: &mut Memory) {
        let now = self.clock.now();
        let directory = self.state.directory();
        if directory.ready && directory.error.is_none() {
            memory.directory_at = Some(now);
        }
        if restore::is_followed(&self.state.tail(), now) {
            // A clock that was put back must not make it last for ever.
            memory.followed_since = Some(memory.followed_since.map_or(now, |since| since.min(now)));
        } else {
            memory.followed_since = None;
        }
    }

    async fn act_on_all(&self, memory: &mut Memory) -> anyhow::Result<()> {
        loop {
            let until = if memory.begun { self.clock.now() } else { Timestamp::MAX };
            let due = self.read(move |store| store.due_acts(until, BATCH)).await?;
            for record in &due {
                self.attempt(record, memory).await?;
            }
            memory.begun = true;
            if due.len() < BATCH {
                return Ok(());
            }
        }
    }

    /// Shows how things stand.
    async fn publish(&self) -> anyhow::Result<()> {
        let (acts, held) = self.read(|store| Ok((store.act_results()?, store.held()?))).await?;
        let open: BTreeSet<i64> = held.iter().filter_map(|record| record.act.channel_id).collect();
        self.state.update_alerting(|alerting| {
            alerting.acts = acts;
            alerting.open = open.into_iter().collect();
        });
        Ok(())
    }

    /// Something was written that people are told of, or that metrics show.
    async fn changed(&self) -> anyhow::Result<()> {
        self.state.outbox_bell().notify_one();
        self.publish().await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> anyhow::Result<T> {
        let store = self.store.clone();
        Ok(spawn_blocking(move || work(&store)).await.context("reading monitor.db was broken off")??)
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Writing<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.read(move |store| store.write(work)).await
    }
}

/// Whether `seconds` have passed since the last time, which is then now. A clock that was put back makes it time as well.
fn is_time(last: &mut Option<Timestamp>, now: Timestamp, seconds: i64) -> bool {
    let passed = last.is_none_or(|last| (now.as_second() - last.as_second()).abs() >= seconds);
    if passed {
        *last = Some(now);
    }
    passed
}
