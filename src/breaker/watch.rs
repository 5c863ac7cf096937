//! Channels that were disabled: whether a person changed them, whether they went quiet, whether their time has come.

use jiff::{SignedDuration, Timestamp};

use super::act::Kind;
use super::attempt::group_key;
use super::guards::DISABLED;
use super::restore::{self, Known};
use super::{Breaker, Memory};
use crate::history::{Filter, Found, RowOutcome, Selection};
use crate::message::Notice;
use crate::newapi::Directory;
use crate::state::LimitsStatus;
use crate::store::{ActRecord, Hold, NewNotice, Step, Store, Watch};

/// What was read of channels may be older than the act itself; so much younger it must be to be believed.
const SETTLED: SignedDuration = SignedDuration::from_secs(30);

/// Requests that began so much later should not have reached the channel: other nodes hear of it within 60 s.
const PROPAGATION: SignedDuration = SignedDuration::from_secs(90);

/// The channel is watched for so long after that.
const WATCHED: SignedDuration = SignedDuration::from_mins(5);

/// If the log was not followed meanwhile, nothing is said after so long.
const LONGEST_WATCH: SignedDuration = SignedDuration::from_hours(1);

/// So many requests are said at once, without waiting for more.
const CLEARLY_BUSY: u64 = 3;

/// Most requests that are looked at; more are not needed to say so.
const MAX_REQUESTS: usize = 1000;

impl Memory {
    /// What is known about recovery.
    pub(super) fn known<'a>(&self, now: Timestamp, limits: &'a LimitsStatus) -> Known<'a> {
        Known { now, limits, followed_since: self.followed_since }
    }
}

impl Breaker {
    /// Asks for channels whose time has come to be enabled, each only if every act that holds it agrees. Whether any.
    pub(super) async fn ask_for_restores(&self, memory: &Memory) -> anyhow::Result<bool> {
        let held = self.read(Store::held).await?;
        let (now, limits) = (self.clock.now(), self.state.limits());
        let known = memory.known(now, &limits);
        for record in held.iter().filter(|record| record.act.restore_at.is_none()) {
            // The limits were not known when the channel was disabled.
            if let Some(at) = restore::expected(record, record.act.finished_at.unwrap_or(now), &limits) {
                let act = record.act.id;
                self.write(move |writing| writing.set_restore_at(act, at)).await?;
            }
        }
        let mut asked = false;
        for (place, first) in held.iter().enumerate() {
            let same = |other: &&ActRecord| other.act.channel_id == first.act.channel_id;
            let is_first = !held[..place].iter().any(|other| same(&other));
            if !is_first || !held.iter().filter(same).all(|record| restore::is_due(record, &known)) {
                continue;
            }
            let (id, mode) = (first.act.id, self.config.mode);
            let tries = self.read(move |store| store.restores_of(id)).await?;
            if restore::may_try(&tries, mode, now) {
                let trip = first.clone();
                self.write(move |writing| writing.request_restore(&trip, now)).await?;
                asked = true;
            }
        }
        Ok(asked)
    }

    /// A person who enables a channel, or changes it otherwise, has it from then on.
    pub(super) async fn look_at_held(&self) -> anyhow::Result<()> {
        let now = self.clock.now();
        let mut held = self.read(Store::held).await?;
        let settled = |at: Timestamp| at.checked_add(SETTLED).is_ok_and(|at| at <= now);
        held.retain(|record| record.act.finished_at.is_some_and(settled));
        let status = self.state.directory();
        if held.is_empty() || !status.ready || status.error.is_some() {
            return Ok(());
        }
        let known = self.state.facts().directory;
        let changed = |directory: &Directory, record: &ActRecord| {
            let channel = record.act.channel_id.and_then(|id| directory.channels.get(&id));
            channel.is_none_or(|channel| channel.status != DISABLED)
        };
        held.retain(|record| changed(&known, record));
        if held.is_empty() {
            return Ok(());
        }
        // Once more, because what is known may have been read before the channel was disabled.
        let Some(fresh) = self.fresh_directory().await else { return Ok(()) };
        held.retain(|record| changed(&fresh, record));
        for record in held {
            let found = record.act.channel_id.and_then(|id| fresh.channels.get(&id));
            let words = found.map_or("the channel is gone".to_owned(), |channel| {
                format!("somebody changed it: status {}", channel.status)
            });
            tracing::warn!(act = record.act.id, channel = record.act.channel_id, "hands off: {words}");
            let act = record.act.id;
            self.write(move |writing| writing.end_hold(act, now, Hold::HandsOff, Step::HandsOff, &words))
                .await?;
        }
        self.changed().await
    }

    /// Whether disabled channels still answer requests, by what the log says.
    pub(super) async fn look_at_watched(&self, memory: &Memory) -> anyhow::Result<()> {
        for record in self.read(Store::watched).await? {
            self.look_at_one(&record, memory).await?;
        }
        Ok(())
    }

    async fn look_at_one(&self, record: &ActRecord, memory: &Memory) -> anyhow::Result<()> {
        let (act, now) = (record.act.id, self.clock.now());
        let later = |length: SignedDuration| {
            record.act.finished_at.and_then(|at| at.checked_add(length).ok()).unwrap_or(now)
        };
        let (disabled, from, until) =
            (later(SignedDuration::ZERO), later(PROPAGATION), later(PROPAGATION + WATCHED));
        let over = record.hold != Some(Hold::Open) || record.act.kind != Kind::Trip;
        if over || later(LONGEST_WATCH) < now {
            return self.write(move |writing| writing.end_watch(act, now, Watch::Unknown, None)).await;
        }
        // The log is followed to its end, and its end is after the time that is looked at.
        let complete = now >= until
            && memory.followed_since.is_some()
            && self.state.tail().reached_end_at.is_some_and(|at| at >= until.as_second() as f64);
        if now < from {
            return Ok(());
        }
        let (late, _) = self.requests(record, from).await?;
        if late >= CLEARLY_BUSY || complete && late > 0 {
            let seconds = now.as_second() - disabled.as_second();
            // The late ones show that it is not only slow to be heard of; what is told is all that it took since.
            let (requests, at_least) = self.requests(record, disabled).await?;
            let more = if at_least { "at least " } else { "" };
            let words = format!(
                "{more}{requests} requests that began after it, {late} of them more than {} s after it",
                PROPAGATION.as_secs()
            );
            tracing::warn!(act, channel = record.act.channel_id, "a disabled channel still answers: {words}");
            let (notice, targets) = (
                NewNotice {
                    group_key: group_key(record.act.channel_id),
                    notice: Notice::StillBusy { act, requests, at_least, seconds },
                    at: now,
                    hold_until: None,
                    waits_for: Vec::new(),
                },
                self.targets.clone(),
            );
            self.write(move |writing| {
                writing.enqueue(&notice, &targets)?;
                writing.end_watch(act, now, Watch::Busy, Some((Step::Busy, &words)))
            })
            .await?;
            self.state.outbox_bell().notify_one();
        } else if complete {
            let words = "no request in the 5 minutes that were watched";
            self.write(move |writing| writing.end_watch(act, now, Watch::Quiet, Some((Step::Quiet, words))))
                .await?;
        }
        Ok(())
    }

    /// Requests of the channel that began at `from` or later, and whether there may be more. A row tells when a request ended.
    async fn requests(&self, record: &ActRecord, from: Timestamp) -> anyhow::Result<(u64, bool)> {
        let selection = Selection {
            from: from.as_second(),
            to: i64::MAX,
            filter: Filter {
                channels: record.act.channel_id.into_iter().collect(),
                outcomes: vec![RowOutcome::Success, RowOutcome::StreamError, RowOutcome::ClientGone],
                ..Filter::default()
            },
        };
        let history = self.history.clone();
        let found =
            tokio::task::spawn_blocking(move || history.newest(&selection, None, MAX_REQUESTS)).await??;
        let began = |found: &&Found| {
            found.fact.created_at - i64::from(found.fact.duration_ms / 1000) >= from.as_second()
        };
        let count = u64::try_from(found.iter().filter(began).count()).unwrap_or(u64::MAX);
        Ok((count, found.len() >= MAX_REQUESTS))
    }
}
