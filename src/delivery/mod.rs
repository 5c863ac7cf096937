//! Getting messages to people: the outbox in monitor.db, and the three kinds of bots that it is emptied into.
//!
//! Each target has a [`Worker`](worker::Worker) of its own, so that a target that is silent holds up nobody else. The
//! outbox itself does what passes with time: it gives up what is too old, counts, and tells of it.

mod bot;
mod feishu;
mod knowledge;
mod pace;
mod telegram;
mod trial;
mod wecom;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::DeliveryConfig;
use crate::message::{Target, Wording};
use crate::state::{State, Waiting};
use crate::store::{GivenUp, Queue, Store, StoreError};
use bot::Bot;
pub use knowledge::Knowledge;
use pace::Pace;
pub use trial::try_bots;
use worker::{Worker, blocking};

/// Time between two looks at what passes with time, if nothing happens.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);

/// And if much happens.
const UPKEEP_AT_MOST_EVERY: Duration = Duration::from_millis(500);

/// Time between two clearings of what is kept long enough.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// Empties the outbox.
#[derive(Debug)]
pub struct Outbox {
    upkeep: Upkeep,
    workers: Vec<Worker>,
    bells: Vec<Arc<Notify>>,
    changed: Arc<Notify>,
}

/// What passes with time.
#[derive(Debug, Clone)]
struct Upkeep {
    store: Store,
    state: State,
    clock: Clock,
    targets: Vec<Target>,
    /// The last message that said another one as well, of those that were counted. None before the first look.
    superseded: Option<i64>,
    forgot_at: Option<Instant>,
}

impl Outbox {
    /// An outbox for these bots.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn new(
        store: Store,
        state: State,
        clock: Clock,
        bots: DeliveryConfig,
        wording: Wording,
        knowledge: Knowledge,
    ) -> anyhow::Result<Self> {
        let (targets, changed) = (bots.targets(), Arc::new(Notify::new()));
        let (wording, knowledge) = (Arc::new(wording), Arc::new(knowledge));
        state.update_alerting(|status| {
            status.outbox = targets.iter().map(|target| (*target, Waiting::default())).collect();
        });
        let work = |bot: Bot| Worker {
            others: targets.iter().copied().filter(|target| *target != bot.target()).collect(),
            store: store.clone(),
            state: state.clone(),
            clock: clock.clone(),
            wording: Arc::clone(&wording),
            knowledge: Arc::clone(&knowledge),
            bell: Arc::new(Notify::new()),
            changed: Arc::clone(&changed),
            pace: Pace::of(bot.target(), bot.is_group()),
            failures: 0,
            bot,
        };
        let workers: Vec<Worker> = Bot::all(bots, &clock)?.into_iter().map(work).collect();
        let bells = workers.iter().map(|worker| Arc::clone(&worker.bell)).collect();
        let upkeep = Upkeep { store, state, clock, targets, superseded: None, forgot_at: None };
        Ok(Self { upkeep, workers, bells, changed })
    }

    /// Sends what there is to send until `stop`.
    ///
    /// # Errors
    /// Only for a bug: trouble with monitor.db is logged, and passes or not.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let Self { mut upkeep, workers, bells, changed } = self;
        let state = upkeep.state.clone();
        upkeep = upkeep.step(true).await;
        let mut running = JoinSet::new();
        for worker in workers {
            running.spawn(worker.run(stop.clone()));
        }
        let (mut looked_at, mut soon) = (Instant::now(), false);
        while !stop.is_cancelled() {
            let pause = if soon { UPKEEP_AT_MOST_EVERY } else { UPKEEP_EVERY };
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = running.join_next() => ended??,
                () = state.outbox_bell().notified() => {
                    bells.iter().map(Arc::as_ref).for_each(Notify::notify_one);
                    soon = true;
                }
                () = changed.notified() => soon = true,
                () = sleep(pause.saturating_sub(looked_at.elapsed())) => {
                    upkeep = upkeep.step(false).await;
                    (looked_at, soon) = (Instant::now(), false);
                }
            }
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        upkeep.step(false).await;
        Ok(())
    }
}

impl Upkeep {
    /// Does it all; `first` at a start, when every lease is one of a process that is gone.
    async fn step(mut self, first: bool) -> Self {
        let mut this = self.clone();
        match blocking(move || this.look(first).map(|()| this)).await {
            Ok(done) => self = done,
            Err(error) => tracing::error!("the outbox cannot be looked after: {error}"),
        }
        self
    }

    fn look(&mut self, first: bool) -> Result<(), StoreError> {
        let (now, targets) = (self.clock.now(), self.targets.clone());
        let (ended, given_up, told) = self.store.write(|writing| {
            let ended = writing.end_leases(now, first)?;
            let given_up = writing.give_up(now, &targets)?;
            let mut told = Vec::new();
            for target in &targets {
                let others: Vec<Target> = targets.iter().copied().filter(|other| other != target).collect();
                told.extend(writing.tell_dropped(*target, &others, now)?.map(|count| (*target, count)));
            }
            Ok((ended, given_up, told))
        })?;
        for (target, leases) in ended {
            tracing::warn!(
                target = target.as_str(),
                leases,
                "requests were cut off; their messages are sent again"
            );
            count(&self.state, target, "retry", "ambiguous", leases);
        }
        for GivenUp { target, reason, count: messages } in given_up {
            let name = target.map_or("another version's target", Target::as_str);
            tracing::error!(target = name, reason, messages, "messages were given up");
            if let Some(target) = target {
                count(&self.state, target, "dead", reason, messages);
            }
        }
        if !told.is_empty() {
            self.state.outbox_bell().notify_one();
        }
        let (last, superseded) = self.store.superseded(self.superseded.unwrap_or(0))?;
        // What was there before this start was counted then.
        if self.superseded.replace(last).is_some() {
            for (target, messages) in superseded {
                count(&self.state, target, "superseded", "", messages);
            }
        }
        self.show(&self.store.queues()?);
        if self.forgot_at.is_none_or(|at| at.elapsed() > FORGET_EVERY) {
            self.store.write(|writing| writing.forget_deliveries(now))?;
            self.forgot_at = Some(Instant::now());
        }
        Ok(())
    }

    fn show(&self, queues: &BTreeMap<Target, Queue>) {
        let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1000.0;
        let waiting = |target: &Target| {
            queues.get(target).map_or_else(Waiting::default, |queue| Waiting {
                pending: queue.waiting,
                oldest_at: Some(seconds(queue.oldest_at)),
            })
        };
        self.state.update_alerting(|status| {
            status.outbox = self.targets.iter().map(|target| (*target, waiting(target))).collect();
        });
    }
}

/// Counts what became of requests.
fn count(state: &State, target: Target, result: &'static str, reason: &'static str, number: u64) {
    if result == "retry" && reason.is_empty() {
        return;
    }
    state.update_alerting(|status| *status.deliveries.entry((target, result, reason)).or_insert(0) += number);
}
