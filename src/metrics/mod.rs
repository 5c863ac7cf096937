//! The public names: `/metrics` in three formats from one state.
//!
//! Everything that is counted ([`facts`]) is encoded right after it was committed, not when it is scraped, so a
//! scrape copies bytes. What changes by itself, such as the lag ([`vitals`]), is a few lines that are encoded
//! for each scrape; so are the limits ([`limits`]), whose windows move with the time, and alerting ([`alerting`]).
//! All of it is made from one [`Facts`]. Limits are brought to a commit a few milliseconds after it is published, so a
//! scrape waits a little for them.

mod alerting;
mod facts;
mod limits;
mod page;
mod vitals;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::state::{Facts, LimitsStatus, State};
use crate::usage::Rules;
pub(crate) use facts::{label_text, leaf_text, metric_name, whole};
pub use page::Format;

/// A format that nobody asked for in this many seconds is no longer kept ready.
const KEEP_READY_SECONDS: f64 = 300.0;

/// A scrape waits this long for the limits to be of the same commit as the counts, and looks this often.
const PATIENCE: Duration = Duration::from_millis(250);
const LOOK: Duration = Duration::from_millis(2);

/// Answers scrapes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    clock: Clock,
    rules: Rules,
    history: Duration,
    ready: Mutex<HashMap<Format, Ready>>,
}

/// An encoded page.
#[derive(Debug, Clone)]
struct Ready {
    facts_version: u64,
    usage_version: u64,
    bytes: Bytes,
    asked_at: f64,
}

impl Metrics {
    /// Metrics of `state`. `history` is how far back the error log is looked for.
    pub fn new(state: State, clock: Clock, rules: Rules, history: Duration) -> Self {
        Self { inner: Arc::new(Inner { state, clock, rules, history, ready: Mutex::new(HashMap::new()) }) }
    }

    /// The parts of a page, in order, all of one state. `scraper` is who asks: new series are shown as 0 until it has
    /// seen them.
    ///
    /// # Errors
    /// If an encoder fails, which it does only for a bug.
    pub async fn scrape(&self, format: Format, scraper: (IpAddr, &str)) -> anyhow::Result<[Bytes; 2]> {
        let now = self.inner.clock.unix_f64();
        let (facts, limits) = self.one_state().await;
        let ready = self.ready(format, &facts, Some(now))?;
        let vitals = self.vitals(format, facts, limits)?;
        let (address, agent) = scraper;
        self.inner.state.scrapers(|scrapers| scrapers.note(address, agent, ready.usage_version, now));
        Ok([ready.bytes, vitals])
    }

    /// What is counted, and where limits stand after the same commit. If whoever sums them up is behind for longer,
    /// because it fills their windows again, they are those of an earlier one.
    async fn one_state(&self) -> (Facts, Arc<LimitsStatus>) {
        let began = Instant::now();
        loop {
            let (facts, limits) = (self.inner.state.facts(), self.inner.state.limits());
            let follow = !limits.limits.is_empty() && limits.standings.is_some() && limits.trouble.is_none();
            let behind = follow && facts.usage.is_some() && limits.commit != facts.commit;
            if !behind || began.elapsed() >= PATIENCE {
                return (facts, limits);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn vitals(&self, format: Format, facts: Facts, limits: Arc<LimitsStatus>) -> anyhow::Result<Bytes> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(vitals::Vitals {
            tail: self.inner.state.tail(),
            usage: facts.usage.clone(),
            history_seconds: self.inner.history.as_secs_f64(),
            now: self.inner.clock.unix_f64(),
        }));
        registry.register_collector(Box::new(alerting::Alerting {
            status: self.inner.state.alerting(),
            facts: facts.clone(),
            now: self.inner.clock.unix_f64(),
        }));
        registry.register_collector(Box::new(limits::Limits { status: limits, facts }));
        page::encode(&registry, format, &page::Exemplars::default(), true)
    }

    /// The page of these facts, encoded now if the one at hand is of others.
    fn ready(&self, format: Format, facts: &Facts, asked_at: Option<f64>) -> anyhow::Result<Ready> {
        let known = self.lock().get(&format).cloned();
        if let Some(mut known) = known.filter(|known| known.facts_version == facts.version) {
            if let Some(at) = asked_at {
                known.asked_at = at;
                self.lock().insert(format, known.clone());
            }
            return Ok(known);
        }
        let (facts_version, usage_version) =
            (facts.version, facts.usage.as_ref().map_or(0, |usage| usage.version()));
        let exemplars = page::Exemplars::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(facts::Collector::new(
            facts.clone(),
            &self.inner.rules,
            exemplars.clone(),
        )));
        let bytes = page::encode(&registry, format, &exemplars, false)?;
        let mut pages = self.lock();
        let (before, newest) =
            pages.get(&format).map_or((0.0, 0), |ready| (ready.asked_at, ready.facts_version));
        let ready = Ready { facts_version, usage_version, bytes, asked_at: asked_at.unwrap_or(before) };
        // Meanwhile a later one may have been made.
        if facts_version >= newest {
            pages.insert(format, ready.clone());
        }
        Ok(ready)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Format, Ready>> {
        self.inner.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the formats that are asked for ready, until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.inner.state.changes();
        while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
            let metrics = self.clone();
            tokio::task::spawn_blocking(move || metrics.prepare()).await??;
        }
        Ok(())
    }

    fn prepare(&self) -> anyhow::Result<()> {
        let now = self.inner.clock.unix_f64();
        self.lock().retain(|_, ready| now - ready.asked_at <= KEEP_READY_SECONDS);
        let formats: Vec<Format> = self.lock().keys().copied().collect();
        for format in formats {
            self.ready(format, &self.inner.state.facts(), None)?;
        }
        Ok(())
    }
}
