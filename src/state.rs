//! What the loops know and the readers (metrics, health, pages) look at: always whole, never half of a change.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{Notify, watch};

use crate::breaker::act::Kind;
use crate::history::Recent;
use crate::limits::{Limit, Standing};
use crate::message::Target;
use crate::newapi::{Directory, Reason};
use crate::record::ChannelId;
use crate::usage::Usage;

/// Shared by all loops and handlers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct State {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    facts: RwLock<Facts>,
    tail: RwLock<TailStatus>,
    directory: RwLock<DirectoryStatus>,
    limits: RwLock<Arc<LimitsStatus>>,
    alerting: RwLock<AlertingStatus>,
    /// There may be something to send.
    outbox: Notify,
    /// There may be something to do for the breaker.
    breaker: Notify,
    recent: Mutex<Recent>,
    scrapers: Mutex<Scrapers>,
    /// The version of the facts, for those who wait for the next one.
    version: watch::Sender<u64>,
}

/// One committed state of everything that is counted, with the names that go with it.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The counts; None until the first catch-up is complete, because a catch-up would look like traffic.
    pub usage: Option<Arc<Usage>>,
    /// Channels, abilities, exchange rates.
    pub directory: Arc<Directory>,
    /// The last known name of every channel that ever was.
    pub channel_names: Arc<BTreeMap<ChannelId, String>>,
    /// The last commit whose rows are in the counts.
    pub commit: u64,
    /// Counts one for every change of the above.
    pub version: u64,
}

/// How following the log goes.
#[derive(Debug, Clone, Default)]
pub struct TailStatus {
    /// The last poll was answered.
    pub up: bool,
    /// The first catch-up is complete.
    pub caught_up: bool,
    /// Unix seconds of the last poll that was answered.
    pub last_success_at: Option<f64>,
    /// Unix seconds of the last poll that found the end of the log.
    pub reached_end_at: Option<f64>,
    /// Unix seconds when following began.
    pub started_at: f64,
    /// What is wrong now.
    pub error: Option<String>,
    /// Failed polls by reason.
    pub errors: BTreeMap<Reason, u64>,
    /// Rows read by this process.
    pub rows_read: u64,
    /// Part of the catch-up that is done, 0 to 1.
    pub progress: f64,
    /// Which optional columns the log has; empty until they are known.
    pub features: Vec<(&'static str, bool)>,
    /// The engine that the log is on. Its address is nobody's business who may see the open pages.
    pub source: String,
    /// The beginning of the history, unix seconds.
    pub history_from: i64,
    /// From when on the history holds every row: later than its beginning once rows were dropped from it.
    pub known_from: i64,
    /// Rows up to this id were read; higher ids that were ever read belong to a table that is gone.
    pub last_id: i64,
}

/// How reading the directory goes.
#[derive(Debug, Clone, Default)]
pub struct DirectoryStatus {
    /// It was read at least once.
    pub ready: bool,
    /// What is wrong now.
    pub error: Option<String>,
    /// The engine it is on.
    pub source: String,
}

/// What may be used, and how much of it is.
#[derive(Debug, Clone, Default)]
pub struct LimitsStatus {
    /// In the order of the file.
    pub limits: Vec<Limit>,
    /// Where each key of each limit stands; None until the windows are filled.
    pub standings: Option<Vec<Standing>>,
    /// The last commit whose rows are in them.
    pub commit: u64,
    /// The file was looked at, or for.
    pub looked: bool,
    /// When the file in force was taken over, unix seconds; None if there is none.
    pub loaded_at: Option<f64>,
    /// What is wrong with the file as it is now.
    pub error: Option<String>,
    /// Why the windows are not as they should be.
    pub trouble: Option<String>,
}

/// How alerts come in, messages go out and the breaker does.
#[derive(Debug, Clone, Default)]
pub struct AlertingStatus {
    /// Calls of the webhook by their result: [`WEBHOOK_RESULTS`].
    pub webhooks: BTreeMap<&'static str, u64>,
    /// Unix seconds of the last one that was accepted; None before the first ever.
    pub last_webhook_at: Option<f64>,
    /// Unix seconds of the last one that brought the Watchdog; None before the first ever.
    pub last_watchdog_at: Option<f64>,
    /// Attempts to deliver, by target, result and reason.
    pub deliveries: BTreeMap<(Target, &'static str, &'static str), u64>,
    /// What waits, of each configured target.
    pub outbox: BTreeMap<Target, Waiting>,
    /// Acts of the breaker by kind and result.
    pub acts: BTreeMap<(Kind, &'static str), u64>,
    /// Channels that the breaker disabled and nobody enabled since.
    pub open: Vec<ChannelId>,
    /// The breaker may act, or would say so.
    pub breaker_mode: &'static str,
}

/// What becomes of a call of the webhook.
pub const WEBHOOK_RESULTS: [&str; 6] =
    ["accepted", "duplicate", "malformed", "too_large", "unauthorized", "unavailable"];

/// Why a message is given up: the target refuses it for good, or it was never taken.
pub const DEAD_REASONS: [&str; 12] = [
    "unauthorized",
    "chat",
    "forbidden",
    "keyword",
    "signature",
    "ip_not_allowed",
    "rejected",
    "too_long",
    "too_old",
    "too_many",
    "target_removed",
    "dropped",
];

/// Why a message is tried again.
pub const RETRY_REASONS: [&str; 8] =
    ["unreachable", "ambiguous", "server", "answer", "rate_limited", "clock", "plainer", "moved"];

/// What waits for a target.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waiting {
    /// Messages.
    pub pending: u64,
    /// Unix seconds of the oldest.
    pub oldest_at: Option<f64>,
}

impl Facts {
    /// A channel's name: today's or, after its deletion, its last; empty if it was never known.
    pub fn channel_name(&self, id: ChannelId) -> &str {
        let today = self.directory.channels.get(&id).map(|channel| &channel.name);
        today.or_else(|| self.channel_names.get(&id)).map_or("", String::as_str)
    }
}

impl State {
    /// What may be used, and how much of it is.
    pub fn limits(&self) -> Arc<LimitsStatus> {
        Arc::clone(&self.inner.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows another state of the limits.
    pub fn show_limits(&self, status: Arc<LimitsStatus>) {
        *self.inner.limits.write().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// How alerts come in, messages go out and the breaker does.
    pub fn alerting(&self) -> AlertingStatus {
        self.inner.alerting.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes that.
    pub fn update_alerting(&self, change: impl FnOnce(&mut AlertingStatus)) {
        change(&mut self.inner.alerting.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Rung when there may be something to send.
    pub fn outbox_bell(&self) -> &Notify {
        &self.inner.outbox
    }

    /// Rung when there may be something to do for the breaker.
    pub fn breaker_bell(&self) -> &Notify {
        &self.inner.breaker
    }

    /// The rows of the last commits.
    pub fn recent<T>(&self, work: impl FnOnce(&mut Recent) -> T) -> T {
        work(&mut self.inner.recent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current facts.
    pub fn facts(&self) -> Facts {
        self.inner.facts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the facts as one step.
    pub fn update_facts(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.inner.facts.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut facts);
        facts.version += 1;
        self.inner.version.send_replace(facts.version);
    }

    /// Tells of every change of the facts.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    /// How following the log goes.
    pub fn tail(&self) -> TailStatus {
        self.inner.tail.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the tail's status.
    pub fn update_tail(&self, change: impl FnOnce(&mut TailStatus)) {
        change(&mut self.inner.tail.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// How reading the directory goes.
    pub fn directory(&self) -> DirectoryStatus {
        self.inner.directory.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the directory's status.
    pub fn update_directory(&self, change: impl FnOnce(&mut DirectoryStatus)) {
        change(&mut self.inner.directory.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Who scrapes.
    pub fn scrapers<T>(&self, work: impl FnOnce(&mut Scrapers) -> T) -> T {
        work(&mut self.inner.scrapers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which state each scraper has seen. A new series is shown as 0 until all of them have seen it so.
#[derive(Debug, Default)]
pub struct Scrapers {
    seen: HashMap<(IpAddr, String), Scraper>,
}

#[derive(Debug, Clone, Copy)]
struct Scraper {
    version: u64,
    last_at: f64,
    interval: f64,
}

/// At most so many scrapers are told apart; further ones count as one that came and went.
const MAX_SCRAPERS: usize = 32;

/// A scraper is waited for until it has missed this many of its own intervals.
const MISSED_INTERVALS: f64 = 2.0;

/// One that came only once, or very often, is waited for this long, in seconds.
const SHORTEST_WAIT: f64 = 5.0;

/// The longest wait for any scraper, in seconds.
const LONGEST_WAIT: f64 = 150.0;

impl Scrapers {
    /// Notes that a scraper was shown `version` of the counts at `now` (unix seconds).
    pub fn note(&mut self, address: IpAddr, agent: &str, version: u64, now: f64) {
        self.seen.retain(|_, scraper| now - scraper.last_at <= LONGEST_WAIT);
        // A version number in the name must not make an upgraded scraper a second one.
        let agent: String = agent.split('/').next().unwrap_or_default().chars().take(40).collect();
        let key = (address, agent);
        if self.seen.len() >= MAX_SCRAPERS && !self.seen.contains_key(&key) {
            return;
        }
        let scraper = self.seen.entry(key).or_insert(Scraper { version, last_at: now, interval: 0.0 });
        scraper.interval = now - scraper.last_at;
        scraper.version = version.max(scraper.version);
        scraper.last_at = now;
    }

    /// The newest version that every scraper has seen; None if nobody ever scraped.
    pub fn all_have_seen(&self, now: f64) -> Option<u64> {
        let waited_for = |scraper: &&Scraper| {
            let wait = (scraper.interval * MISSED_INTERVALS).clamp(SHORTEST_WAIT, LONGEST_WAIT);
            now - scraper.last_at <= wait
        };
        let active = self.seen.values().filter(waited_for).map(|scraper| scraper.version).min();
        active.or_else(|| self.seen.values().map(|scraper| scraper.version).max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn nothing_is_seen_before_anyone_scrapes() {
        assert_eq!(Scrapers::default().all_have_seen(0.0), None);
    }

    #[test]
    fn the_slower_of_two_scrapers_decides() {
        let mut scrapers = Scrapers::default();
        for second in [0.0, 15.0] {
            scrapers.note(HOST, "Prometheus/3.1", 4, second);
        }
        scrapers.note(HOST, "curl/8", 9, 16.0);
        assert_eq!(scrapers.all_have_seen(17.0), Some(4));
        scrapers.note(HOST, "Prometheus/3.1", 9, 30.0);
        assert_eq!(scrapers.all_have_seen(31.0), Some(9));
    }

    #[test]
    fn one_that_went_away_is_not_waited_for() {
        let mut scrapers = Scrapers::default();
        scrapers.note(HOST, "curl/8", 1, 0.0);
        scrapers.note(HOST, "python-requests/2", 5, 3.0);
        assert_eq!(scrapers.all_have_seen(4.0), Some(1));
        assert_eq!(scrapers.all_have_seen(7.0), Some(5));
    }
}
