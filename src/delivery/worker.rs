//! Empties the outbox of one target: one request at a time, no faster than the target allows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::bot::{Bot, Failure, Verdict};
use super::pace::Pace;
use super::{Knowledge, count};
use crate::clock::Clock;
use crate::message::{Notice, Part, Target, Wording, compose};
use crate::state::State;
use crate::store::{Leased, LeasedWork, Settled, Shape, Store, StoreError};

/// Longest sleep without a look: the clock may have been set.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

/// A message that failed is tried again after this, then after twice as long, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// A message that something on the way refused so often is tried as plain text, and then given up.
const FOREIGN_REFUSALS: u32 = 5;

/// The longest time between two tries of a message.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// A target that failed is left alone for this, then for twice as long, and so on: with many messages waiting, their own
/// pauses alone would have it asked all the time.
const FIRST_REST: Duration = Duration::from_millis(500);

/// The longest such time; so soon it is noticed that the target is back.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A request that is under way when the program stops has so long to end.
const LAST_REQUEST: Duration = Duration::from_secs(5);

/// What became of a request is written again and again for so long; then the lease is about to end.
const SETTLING: Duration = Duration::from_secs(40);

/// The same when the program stops.
const LAST_SETTLING: Duration = Duration::from_secs(2);

/// Pause after monitor.db could not be used.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// A message is composed again at most so often because an act was finished meanwhile.
const MOST_COMPOSINGS: u32 = 5;

/// A target, its bot and all that a message needs.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) bot: Bot,
    /// Where trouble with this target is told.
    pub(super) others: Vec<Target>,
    pub(super) store: Store,
    pub(super) state: State,
    pub(super) clock: Clock,
    pub(super) wording: Arc<Wording>,
    pub(super) knowledge: Arc<Knowledge>,
    /// Rung when there may be something to send.
    pub(super) bell: Arc<Notify>,
    /// Rung when something has changed.
    pub(super) changed: Arc<Notify>,
    pub(super) pace: Pace,
    /// Requests in a row that did not get the service's answer.
    pub(super) failures: u32,
}

impl Worker {
    fn target(&self) -> Target {
        self.bot.target()
    }

    /// Sends until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        self.resume().await;
        while !stop.is_cancelled() {
            // Waited before the lease, so that a message that waits can still be taken over by a newer one.
            let wait = self.pace.wait(Instant::now()).max(self.off_the_hour());
            if !wait.is_zero() {
                tokio::select! { () = stop.cancelled() => {}, () = sleep(wait.min(LONGEST_SLEEP)) => {} }
                continue;
            }
            let (store, target, now) = (self.store.clone(), self.target(), self.clock.now());
            match blocking(move || store.lease(target, now)).await {
                Ok(Some(leased)) => self.deliver(leased, &stop).await,
                Ok(None) => self.idle(&stop).await,
                Err(error) => {
                    tracing::error!("the outbox cannot be read: {error}");
                    tokio::select! { () = stop.cancelled() => {}, () = sleep(LONGEST_SLEEP) => {} }
                }
            }
        }
        Ok(())
    }

    /// Takes up what was learned before a restart: a pause, the requests of the last minute, the chat's new number.
    async fn resume(&mut self) {
        let (store, target, now) = (self.store.clone(), self.target(), self.clock.now());
        let mut chat = if let Bot::Telegram(bot) = &self.bot { Some(bot.chat().to_owned()) } else { None };
        let learned = blocking(move || {
            let minute_ago = now.checked_sub(jiff::SignedDuration::from_secs(60)).unwrap_or(now);
            let sent = store.sent_since(target, minute_ago)?;
            let mut moved = None;
            // A chat that moves in circles is left where it was.
            for _ in 0..3 {
                let Some(next) = chat.as_deref().map(|chat| store.moved_chat(chat)).transpose()?.flatten()
                else {
                    break;
                };
                (chat, moved) = (Some(next.clone()), Some(next));
            }
            Ok((sent, store.paused_until(target)?, moved))
        });
        match learned.await {
            Ok((sent, paused_until, moved)) => {
                let here = Instant::now();
                for at in sent {
                    let age = Duration::try_from(now.duration_since(at)).unwrap_or_default();
                    self.pace.note(here.checked_sub(age).unwrap_or(here));
                }
                let pause = paused_until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
                // A clock that was wrong must not silence a bot for long.
                if let Some(pause) = pause.filter(|pause| *pause < Duration::from_secs(3600)) {
                    self.pace.pause(here + pause);
                }
                if let (Some(chat), Bot::Telegram(bot)) = (moved, &mut self.bot) {
                    bot.follow(chat);
                }
            }
            Err(error) => tracing::error!("what was learned about {} is lost: {error}", target.as_str()),
        }
    }

    /// Feishu is overrun at every full and half hour: the first seconds of these are left to others.
    fn off_the_hour(&self) -> Duration {
        let second = self.clock.unix().rem_euclid(1800);
        if self.target() != Target::Feishu || second >= 3 {
            return Duration::ZERO;
        }
        Duration::from_secs(3).mul_f64(0.5 + chance(&[second, self.clock.now().as_millisecond()]))
    }

    /// Waits until there may be something to do.
    async fn idle(&self, stop: &CancellationToken) {
        let (store, target) = (self.store.clone(), self.target());
        let wait = match blocking(move || store.next_due(target)).await {
            Ok(Some(due)) => Duration::try_from(due.duration_since(self.clock.now())).unwrap_or_default(),
            Ok(None) => LONGEST_SLEEP,
            Err(_) => STORE_PAUSE,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.bell.notified() => {}
            () = sleep(wait.clamp(Duration::from_millis(10), LONGEST_SLEEP)) => {}
        }
    }

    async fn deliver(&mut self, leased: Leased, stop: &CancellationToken) {
        let (id, attempts, shape) = (leased.id, leased.attempts, leased.shape);
        let part = match leased.work {
            LeasedWork::Send(part) => part,
            LeasedWork::Compose { notice, waits } => match self.compose(id, notice, waits).await {
                Ok(part) => part,
                Err(error) => {
                    tracing::error!("a message cannot be composed: {error}");
                    return self.give_back(id, shape, LONGEST_SLEEP, stop).await;
                }
            },
        };
        if stop.is_cancelled() {
            return self.give_back(id, shape, Duration::ZERO, stop).await;
        }
        let too_late = async {
            stop.cancelled().await;
            sleep(LAST_REQUEST).await;
        };
        let verdict = tokio::select! {
            verdict = self.bot.send(&part, shape) => verdict,
            () = too_late => {
                Verdict::Retry(Failure::new(None, "ambiguous", "cut off by the end of the program", ""))
            }
        };
        self.pace.note(Instant::now());
        self.take_note(&verdict).await;
        let how = self.settled(&verdict, id, attempts, shape);
        self.settle(id, how, &verdict, stop).await;
    }

    /// Composes a message and stores it.
    async fn compose(&self, id: i64, notice: Notice, mut waits: Vec<i64>) -> Result<Part, StoreError> {
        for _ in 0..MOST_COMPOSINGS {
            let known = self.knowledge.about(&notice).await;
            let parts = compose(&notice, &known, &self.wording, self.target());
            let (store, now, first) = (self.store.clone(), self.clock.now(), parts.first().cloned());
            let stored = blocking(move || {
                store.write(|writing| {
                    let stored = writing.compose(id, &parts, &waits, now)?;
                    if stored { Ok(None) } else { writing.waits_of(id).map(Some) }
                })
            });
            match (stored.await?, first) {
                (None, Some(part)) => return Ok(part),
                (None, None) => return Err(StoreError::Damaged("a message without parts".into())),
                (Some(now_waits), _) => waits = now_waits,
            }
        }
        Err(StoreError::Damaged("acts are finished faster than their message is composed".into()))
    }

    /// What a verdict says about the target, beside the message.
    async fn take_note(&mut self, verdict: &Verdict) {
        if let Bot::Telegram(bot) = &mut self.bot
            && let Some(moved) = bot.take_moved()
        {
            tracing::warn!("the Telegram chat has become {moved}: set TELEGRAM_CHAT_ID to that");
            let (store, configured) = (self.store.clone(), bot.configured().to_owned());
            if let Err(error) = blocking(move || store.save_moved_chat(&configured, &moved)).await {
                tracing::error!("the new number of the chat cannot be remembered: {error}");
            }
        }
        if let Verdict::Retry(failure) = verdict
            && failure.reason != "clock"
        {
            self.failures = self.failures.saturating_add(1);
            let rest = backoff(FIRST_REST, self.failures, LONGEST_REST, self.clock.now().as_millisecond());
            self.pace.pause(Instant::now() + rest);
        } else {
            self.failures = 0;
        }
        if let Verdict::Pause(length, _) = verdict {
            self.pace.pause(Instant::now() + *length);
        }
    }

    /// What a verdict means for the delivery.
    fn settled(&self, verdict: &Verdict, id: i64, attempts: u32, shape: Shape) -> Settled {
        let now = self.clock.now();
        let why = |failure: &Failure| (failure.code, failure.reason, failure.detail.clone());
        let after = |length: Duration| now.checked_add(length).unwrap_or(now);
        match verdict {
            Verdict::Sent => Settled::Sent,
            // What stands on the way takes this message for an attack, and others of its group wait behind it.
            Verdict::Retry(failure)
                if failure.reason == "answer"
                    && attempts >= FOREIGN_REFUSALS
                    && failure.code.is_some_and(|code| (400..500).contains(&code)) =>
            {
                match plainer(shape, failure) {
                    Some(shape) => Settled::Again { at: now, shape, counts: true, why: why(failure) },
                    None => Settled::Dead { why: (failure.code, "rejected", failure.detail.clone()) },
                }
            }
            Verdict::Retry(failure) => {
                let pause = backoff(FIRST_RETRY, attempts.saturating_add(1), LONGEST_RETRY, id);
                Settled::Again { at: after(pause), shape, counts: true, why: why(failure) }
            }
            Verdict::Pause(length, failure) => {
                Settled::Again { at: after(*length), shape, counts: false, why: why(failure) }
            }
            Verdict::Changed(failure) => Settled::Again { at: now, shape, counts: true, why: why(failure) },
            Verdict::Plainer(failure) => match plainer(shape, failure) {
                Some(shape) => Settled::Again { at: now, shape, counts: true, why: why(failure) },
                None => Settled::Dead { why: why(failure) },
            },
            Verdict::Dead(failure) => Settled::Dead { why: why(failure) },
        }
    }

    /// Returns a lease without a request.
    async fn give_back(&self, id: i64, shape: Shape, wait: Duration, stop: &CancellationToken) {
        let at = self.clock.now().checked_add(wait).unwrap_or_else(|_| self.clock.now());
        let how = Settled::Again { at, shape, counts: false, why: (None, "", String::new()) };
        self.write(id, how, None, "", stop).await;
    }

    /// Writes what became of a request, tells of it, and counts it.
    async fn settle(&self, id: i64, how: Settled, verdict: &Verdict, stop: &CancellationToken) {
        let target = self.target();
        let (result, reason) = match &how {
            Settled::Sent => ("sent", ""),
            Settled::Again { why, .. } => ("retry", why.1),
            Settled::Dead { why } => ("dead", why.1),
        };
        match &how {
            Settled::Sent => tracing::debug!(target = target.as_str(), delivery = id, "sent"),
            Settled::Again { why: (code, _, detail), .. } => {
                tracing::warn!(
                    target = target.as_str(),
                    delivery = id,
                    code,
                    reason,
                    "to be sent again: {detail}"
                );
            }
            Settled::Dead { why: (code, _, detail) } => {
                tracing::error!(target = target.as_str(), delivery = id, code, reason, "given up: {detail}");
            }
        }
        let pause = if let Verdict::Pause(length, _) = verdict { Some(*length) } else { None };
        let words = verdict.failure().map_or("", |failure| &failure.words);
        self.write(id, how, pause, words, stop).await;
        count(&self.state, target, result, reason, 1);
        self.changed.notify_one();
    }

    /// Writes until it is written: what is lost is sent twice. `words` are the target's own.
    async fn write(
        &self,
        id: i64,
        how: Settled,
        pause: Option<Duration>,
        words: &str,
        stop: &CancellationToken,
    ) {
        let (began, target, others) = (Instant::now(), self.target(), self.others.clone());
        loop {
            let (store, how, others, now) =
                (self.store.clone(), how.clone(), others.clone(), self.clock.now());
            let words = words.to_owned();
            let written = blocking(move || {
                store.write(|writing| {
                    writing.settle(id, &how, now)?;
                    if let Some(until) = pause.and_then(|pause| now.checked_add(pause).ok()) {
                        writing.pause(target, until)?;
                    }
                    match &how {
                        Settled::Dead { why: (_, reason, _) } => {
                            writing.tell_refusal(target, reason, &words, &others, now)
                        }
                        _ => Ok(false),
                    }
                })
            });
            let error = match written.await {
                Ok(told) => {
                    if told {
                        self.state.outbox_bell().notify_one();
                    }
                    return;
                }
                Err(error) => error,
            };
            let most = if stop.is_cancelled() { LAST_SETTLING } else { SETTLING };
            if began.elapsed() > most {
                tracing::error!(
                    "what became of delivery {id} cannot be written, it may be sent again: {error}"
                );
                return;
            }
            sleep(STORE_PAUSE).await;
        }
    }
}

/// The next shape for a message that was refused; a text that is refused for its contents would be so however short.
fn plainer(shape: Shape, failure: &Failure) -> Option<Shape> {
    shape.plainer().filter(|next| *next == Shape::Plain || failure.reason == "too_long")
}

/// The pause after so many failures: doubled each time, never more than `most`, and never the same for all.
fn backoff(first: Duration, failures: u32, most: Duration, seed: i64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
    doubled.mul_f64(0.5 + chance(&[seed, i64::from(failures)]) / 2.0)
}

/// A number from 0 to 1 that nobody can guess who sees another one.
fn chance(seeds: &[i64]) -> f64 {
    let bytes: Vec<u8> = seeds.iter().flat_map(|seed| seed.to_le_bytes()).collect();
    (xxh3_64(&bytes) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Asks monitor.db on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Damaged(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_differ() {
        let pauses: Vec<Duration> = (1..40).map(|n| backoff(FIRST_RETRY, n, LONGEST_RETRY, 7)).collect();
        assert!(pauses[0] >= Duration::from_millis(500) && pauses[0] <= FIRST_RETRY, "{pauses:?}");
        assert!(pauses[3] >= Duration::from_secs(4) && pauses[3] <= Duration::from_secs(8), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_RETRY));
        assert!(pauses[38] >= LONGEST_RETRY / 2 && pauses[37] != pauses[38], "{pauses:?}");
        assert_ne!(backoff(FIRST_RETRY, 5, LONGEST_RETRY, 7), backoff(FIRST_RETRY, 5, LONGEST_RETRY, 8));
    }

    #[test]
    fn only_what_is_too_long_is_cut() {
        let failure = |reason| Failure::new(None, reason, "", "");
        assert_eq!(plainer(Shape::Rich, &failure("rejected")), Some(Shape::Plain));
        assert_eq!(plainer(Shape::Plain, &failure("rejected")), None);
        assert_eq!(plainer(Shape::Plain, &failure("too_long")), Some(Shape::Short));
        assert_eq!(plainer(Shape::Short, &failure("too_long")), None);
    }
}
