//! One try of an act: guards, intent, request, reading back, result.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::act::{Failure, Kind, Origin, Outcome, Refusal};
use super::guards::{self, DISABLED, ENABLED, Verdict};
use super::{Breaker, Memory, restore};
use crate::config::BreakerMode;
use crate::message::Notice;
use crate::newapi::admin::{AdminError, ChannelStatus};
use crate::newapi::{AdminClient, Directory};
use crate::store::{ActRecord, ActState, Finished, Hold, NewNotice, Step, Store};

/// Pauses before new-api is read back: a node that is behind may tell what was before, for some seconds.
const READ_BACK: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(4),
];

/// Pauses between tries; the last one repeats.
const BACKOFF_SECONDS: [i64; 6] = [1, 2, 4, 8, 16, 30];

/// After so long an act is given up, and people are told.
const GIVE_UP: SignedDuration = SignedDuration::from_mins(5);

/// Tries after which a clear no is believed.
const MAX_REJECTED: u32 = 3;

/// new-api's database is waited for no longer; an act must not wait for it.
const DIRECTORY_TIMEOUT: Duration = Duration::from_secs(3);

/// What was read of channels in the background is good for so long, if nothing newer can be had.
const DIRECTORY_AGE: SignedDuration = SignedDuration::from_mins(5);

/// Trips are counted over so long.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What comes of a try.
enum Next {
    /// The act ended.
    End(Finished),
    /// It is tried again.
    Later {
        /// Whether a request may still have an effect.
        state: ActState,
        /// How it ends if there is no time left.
        otherwise: Outcome,
        /// new-api asked for so long a pause.
        pause: Option<Duration>,
        /// For the ledger.
        why: String,
    },
}

impl Next {
    fn refused(why: Refusal) -> Self {
        Self::End(Finished::without_effect(Outcome::Refused { why }))
    }

    /// Nothing was sent that has an effect.
    fn after(error: AdminError) -> Self {
        Self::because(ActState::Pending, error)
    }

    /// Who else serves is not known, and nothing was sent.
    fn without_database() -> Self {
        let otherwise = Outcome::Failed { why: Failure::NoDatabase };
        let why = "new-api's database cannot be read".to_owned();
        Self::Later { state: ActState::Pending, otherwise, pause: None, why }
    }

    fn because(state: ActState, error: AdminError) -> Self {
        let why = error.to_string();
        let pause = match &error {
            AdminError::RateLimited { retry_after } => *retry_after,
            _ => None,
        };
        let otherwise = Outcome::Failed { why: failure(error) };
        Self::Later { state, otherwise, pause, why }
    }
}

fn failure(error: AdminError) -> Failure {
    match error {
        AdminError::Unreachable(detail) => Failure::Unreachable { detail },
        AdminError::Denied(detail) => Failure::Denied { detail },
        AdminError::RateLimited { .. } => Failure::RateLimited,
        AdminError::Rejected(detail) => Failure::Rejected { detail },
        AdminError::Server(status) => Failure::Server { status },
    }
}

/// No admin API is configured; enforcing without one is refused at start.
const NO_ADMIN: Outcome = Outcome::Failed { why: Failure::NotSet };

impl Breaker {
    /// Tries an act once, and writes what came of it.
    pub(super) async fn attempt(&self, record: &ActRecord, memory: &Memory) -> anyhow::Result<()> {
        let next = match record.act.kind {
            Kind::Trip => self.trip(record, memory).await?,
            Kind::Restore => self.restore(record, memory).await?,
        };
        match next {
            Next::End(finished) => self.conclude(record, finished).await,
            Next::Later { state, otherwise, pause, why } => {
                let now = self.clock.now();
                // Time when nobody tried does not count.
                let from =
                    memory.started_at.map_or(record.tried_from, |started| started.max(record.tried_from));
                let tried = now.duration_since(from).abs();
                let is = |failure: fn(&Failure) -> bool| matches!(&otherwise, Outcome::Failed { why } if failure(why));
                let denied = is(|why| matches!(why, Failure::Denied { .. }));
                let rejected = is(|why| matches!(why, Failure::Rejected { .. }));
                if tried >= GIVE_UP || denied || rejected && record.attempts + 1 >= MAX_REJECTED {
                    return self.conclude(record, Finished::without_effect(otherwise)).await;
                }
                let place = usize::try_from(record.attempts).unwrap_or(usize::MAX);
                let usual = BACKOFF_SECONDS[place.min(BACKOFF_SECONDS.len() - 1)];
                let asked = pause.and_then(|pause| i64::try_from(pause.as_secs()).ok()).unwrap_or(0);
                // Never later than the moment at which it is given up.
                let left = GIVE_UP.saturating_sub(tried).as_secs().max(1);
                let pause = SignedDuration::from_secs(usual.max(asked).min(left));
                let next_at = now.checked_add(pause).unwrap_or(now);
                tracing::warn!(
                    act = record.act.id,
                    "the breaker tries again in {} s: {why}",
                    pause.as_secs()
                );
                let (act, why) = (record.act.id, format!("{why}; again in {} s", pause.as_secs()));
                self.write(move |writing| writing.postpone(act, now, state, next_at, &why)).await
            }
        }
    }

    async fn trip(&self, record: &ActRecord, memory: &Memory) -> anyhow::Result<Next> {
        if record.state == ActState::Running
            && let Some(next) = self.reconcile(record).await?
        {
            return Ok(next);
        }
        let (now, id) = (self.clock.now(), record.act.id);
        let since = now.checked_sub(HOUR).unwrap_or(now);
        let trips = self.read(move |store| store.trips_since(since, now, id)).await?;
        let channel = match guards::at_first(record, &self.config, trips, now) {
            Ok(channel) => channel,
            Err(why) => return Ok(Next::refused(why)),
        };
        let dry = self.config.mode == BreakerMode::DryRun;
        let admin = self.admin.as_ref().filter(|_| !dry);
        let asked = async {
            match admin {
                Some(admin) => Some(admin.channel(channel).await),
                None => None,
            }
        };
        let (directory, seen) = tokio::join!(self.directory(memory), asked);
        let Some(directory) = directory else { return Ok(Next::without_database()) };
        let seen = match seen {
            Some(Ok(seen)) => seen,
            Some(Err(error)) => return Ok(Next::after(error)),
            None => directory
                .channels
                .get(&channel)
                .map(|channel| ChannelStatus { status: channel.status, status_time: None }),
        };
        match guards::of_trip(channel, &self.config, &directory, seen.map(|seen| seen.status)) {
            Verdict::Refused(why) => return Ok(Next::refused(why)),
            Verdict::AlreadySo(_) => return self.already_disabled(record, channel, seen).await,
            Verdict::Go if dry => return Ok(Next::End(Finished::without_effect(Outcome::WouldDo))),
            Verdict::Go => {}
        }
        let Some(admin) = admin else { return Ok(Next::End(Finished::without_effect(NO_ADMIN))) };
        self.switch(record, admin, channel, ENABLED).await
    }

    /// Disabled by us for another reason: then it is held for this one too, and enabled when neither lasts. Disabled by
    /// somebody else: then it is theirs.
    async fn already_disabled(
        &self,
        record: &ActRecord,
        channel: i64,
        seen: Option<ChannelStatus>,
    ) -> anyhow::Result<Next> {
        let others = self.held_of(channel).await?;
        let status = seen.map_or(DISABLED, |seen| seen.status);
        let status_time = seen.and_then(|seen| seen.status_time);
        let enforces = self.config.mode == BreakerMode::Enforce;
        // A dry run does not ask new-api, so it does not know the time of the change.
        let is_its_work = |other: &&ActRecord| !enforces || other.status_time == status_time;
        let by = others.iter().find(is_its_work).filter(|_| status == DISABLED).map(|other| other.act.id);
        let hold = by.is_some() && enforces;
        let restore_at =
            hold.then(|| restore::expected(record, self.clock.now(), &self.state.limits())).flatten();
        Ok(Next::End(Finished {
            outcome: Outcome::AlreadySo { status, by, held: hold },
            after: Some((status, status_time)),
            hold,
            restore_at,
            watch: false,
        }))
    }

    async fn restore(&self, record: &ActRecord, memory: &Memory) -> anyhow::Result<Next> {
        if record.state == ActState::Running
            && let Some(next) = self.reconcile(record).await?
        {
            return Ok(next);
        }
        let channel = match guards::at_first(record, &self.config, 0, self.clock.now()) {
            Ok(channel) => channel,
            Err(why) => return Ok(Next::refused(why)),
        };
        let held = self.held_of(channel).await?;
        let scheduled = matches!(record.act.origin, Origin::Schedule { .. });
        if scheduled {
            // While it was tried, another alert may have come for which the channel stays as it is.
            let limits = self.state.limits();
            let known = memory.known(self.clock.now(), &limits);
            let newer = |held: &&ActRecord| held.act.id > record.act.id;
            if held.iter().filter(newer).any(|held| !restore::is_due(held, &known)) {
                return Ok(Next::refused(Refusal::Over));
            }
        }
        let dry = self.config.mode == BreakerMode::DryRun;
        let seen = if let Some(admin) = self.admin.as_ref().filter(|_| !dry) {
            match admin.channel(channel).await {
                Ok(seen) => seen,
                Err(error) => return Ok(Next::after(error)),
            }
        } else {
            let Some(directory) = self.directory(memory).await else {
                return Ok(Next::without_database());
            };
            let status = directory.channels.get(&channel).map(|channel| channel.status);
            let status_time = held.first().and_then(|held| held.status_time);
            status.map(|status| ChannelStatus { status, status_time })
        };
        let Some(seen) = seen else { return Ok(Next::refused(Refusal::UnknownChannel)) };
        let untouched =
            seen.status == DISABLED && held.iter().all(|held| held.status_time == seen.status_time);
        if held.is_empty() || !untouched {
            return Ok(if seen.status == ENABLED && !scheduled {
                Next::End(Finished {
                    after: Some((seen.status, seen.status_time)),
                    ..Finished::without_effect(Outcome::already(ENABLED))
                })
            } else if held.is_empty() && !scheduled {
                Next::refused(Refusal::NotOurs)
            } else {
                Next::refused(Refusal::HandsOff { status: Some(seen.status) })
            });
        }
        if dry {
            return Ok(Next::End(Finished::without_effect(Outcome::WouldDo)));
        }
        match self.admin.as_ref() {
            Some(admin) => self.switch(record, admin, channel, DISABLED).await,
            None => Ok(Next::End(Finished::without_effect(NO_ADMIN))),
        }
    }

    /// Acts whose channel this is, and is ours to enable.
    pub(super) async fn held_of(&self, channel: i64) -> anyhow::Result<Vec<ActRecord>> {
        let mut held = self.read(Store::held).await?;
        held.retain(|held| held.act.channel_id == Some(channel));
        Ok(held)
    }

    /// Channels and abilities as they are; if new-api's database does not answer, as they were some minutes ago.
    pub(super) async fn directory(&self, memory: &Memory) -> Option<Arc<Directory>> {
        if let Some(directory) = self.fresh_directory().await {
            return Some(directory);
        }
        let read_at = memory.directory_at?;
        let age = self.clock.now().duration_since(read_at);
        // What we did since is not in it.
        let since = read_at.checked_sub(DIRECTORY_AGE).ok()?;
        let acted = self.read(move |store| store.acted_since(since)).await.ok()?;
        (age.abs() <= DIRECTORY_AGE && !acted).then(|| self.state.facts().directory)
    }

    /// Channels and abilities as they are now; None if new-api's database does not tell.
    pub(super) async fn fresh_directory(&self) -> Option<Arc<Directory>> {
        match tokio::time::timeout(DIRECTORY_TIMEOUT, Directory::read(&self.database)).await {
            Ok(Ok(directory)) => return Some(Arc::new(directory)),
            Ok(Err(error)) => tracing::warn!("the breaker cannot read new-api's channels: {error}"),
            Err(_) => tracing::warn!("the breaker cannot read new-api's channels in time"),
        }
        None
    }

    /// A request was perhaps sent, and what became of it is not known: the channel itself says. None if it had no effect.
    async fn reconcile(&self, record: &ActRecord) -> anyhow::Result<Option<Next>> {
        let (Some(admin), Some(channel)) = (&self.admin, record.act.channel_id) else { return Ok(None) };
        let unknown = Outcome::Unverified { status: None };
        let seen = match admin.channel(channel).await {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(Some(Next::refused(Refusal::UnknownChannel))),
            Err(AdminError::Denied(_)) => return Ok(Some(Next::End(Finished::without_effect(unknown)))),
            Err(error) => {
                let (state, why) = (ActState::Running, error.to_string());
                return Ok(Some(Next::Later { state, otherwise: unknown, pause: None, why }));
            }
        };
        self.note(record, Step::Reconciled, told_of(seen)).await?;
        let wanted = wanted(record.act.kind);
        if seen.status == wanted {
            return Ok(Some(self.done(record, seen)));
        }
        let before = record.before_status.unwrap_or(ENABLED);
        let changed_since = seen.status != before;
        Ok(changed_since.then(|| {
            let outcome = match record.act.kind {
                Kind::Trip => Outcome::already(seen.status),
                Kind::Restore => Outcome::Refused { why: Refusal::HandsOff { status: Some(seen.status) } },
            };
            Next::End(Finished {
                after: Some((seen.status, seen.status_time)),
                ..Finished::without_effect(outcome)
            })
        }))
    }

    /// Commits the intent, asks new-api, and reads back.
    async fn switch(
        &self,
        record: &ActRecord,
        admin: &AdminClient,
        channel: i64,
        before: i64,
    ) -> anyhow::Result<Next> {
        let (act, now, wanted) = (record.act.clone(), self.clock.now(), wanted(record.act.kind));
        self.write(move |writing| writing.intend(&act, now, before)).await?;
        let sent = admin.set_status(channel, wanted).await;
        let words = match &sent {
            Ok(switched) => {
                let changed =
                    switched.changed.map_or_else(String::new, |changed| format!(", data {changed}"));
                format!("{}: success{changed}", switched.route.as_str())
            }
            Err(error) => error.to_string(),
        };
        self.note(record, Step::Answer, words).await?;
        if let Err(AdminError::Denied(detail)) = sent {
            let why = Failure::Denied { detail };
            return Ok(Next::End(Finished::without_effect(Outcome::Failed { why })));
        }
        // Where new-api said no, or nothing, one look tells whether it did it all the same.
        let looks = if sent.is_ok() { READ_BACK.len() } else { 1 };
        let (mut status, mut trouble) = (None, None);
        for pause in &READ_BACK[..looks] {
            tokio::time::sleep(*pause).await;
            match admin.channel(channel).await {
                Ok(Some(seen)) if seen.status == wanted => {
                    self.note(record, Step::Read, told_of(seen)).await?;
                    return Ok(self.done(record, seen));
                }
                Ok(seen) => status = seen.map(|seen| seen.status),
                Err(error) => trouble = Some(error),
            }
        }
        let why = match (status, &trouble) {
            (Some(status), _) => format!("status {status} is read back"),
            (None, Some(error)) => format!("nothing is read back: {error}"),
            (None, None) => "no such channel is read back".to_owned(),
        };
        self.note(record, Step::Read, why.clone()).await?;
        Ok(match sent {
            // It may take effect after all, so the channel is looked at before anything is sent again.
            Err(error) if status.is_some() => Next::because(ActState::Running, error),
            _ => Next::Later {
                state: ActState::Running,
                otherwise: Outcome::Unverified { status },
                pause: None,
                why,
            },
        })
    }

    fn done(&self, record: &ActRecord, seen: ChannelStatus) -> Next {
        let trip = record.act.kind == Kind::Trip;
        let restore_at =
            trip.then(|| restore::expected(record, self.clock.now(), &self.state.limits())).flatten();
        Next::End(Finished {
            outcome: Outcome::Done,
            after: Some((seen.status, seen.status_time)),
            hold: trip,
            restore_at,
            watch: trip,
        })
    }

    async fn note(&self, record: &ActRecord, step: Step, detail: String) -> anyhow::Result<()> {
        let (act, now) = (record.act.id, self.clock.now());
        self.write(move |writing| writing.note_step(act, now, step, &detail)).await
    }

    /// Writes how an act ended, what that means for channels that are held, and who tells people.
    async fn conclude(&self, record: &ActRecord, finished: Finished) -> anyhow::Result<()> {
        let now = self.clock.now();
        let held = match (record.act.kind, record.act.channel_id) {
            (Kind::Restore, Some(channel)) => self.held_of(channel).await?,
            _ => Vec::new(),
        };
        log(record, &finished.outcome);
        let (record, targets) = (record.clone(), self.targets.clone());
        self.write(move |writing| {
            let act = record.act.id;
            writing.finish_act(act, now, &finished)?;
            if let Some((hold, step, words)) = end_of_hold(&record, &finished.outcome) {
                for held in &held {
                    writing.end_hold(held.act.id, now, hold, step, &format!("{words}, by act {act}"))?;
                }
            }
            let told = told(&finished.outcome);
            let by_alert = writing.release(act, now)?;
            // A schedule that gave way to another alert is nobody's news.
            let scheduled = matches!(record.act.origin, Origin::Schedule { .. });
            let silent = scheduled && finished.outcome == Outcome::Refused { why: Refusal::Over };
            let by_itself =
                !by_alert && !silent && !targets.is_empty() && record.told.as_ref() != Some(&told);
            if by_itself {
                let notice = NewNotice {
                    group_key: group_key(record.act.channel_id),
                    notice: Notice::Act { act },
                    at: now,
                    hold_until: None,
                    waits_for: Vec::new(),
                };
                writing.enqueue(&notice, &targets)?;
            }
            writing.tell_act(act, now, &told, by_itself)
        })
        .await?;
        self.changed().await
    }
}

/// Messages of the breaker about a channel follow each other.
pub(super) fn group_key(channel: Option<i64>) -> String {
    format!("breaker/{}", channel.map_or_else(String::new, |id| id.to_string()))
}

fn wanted(kind: Kind) -> i64 {
    match kind {
        Kind::Trip => DISABLED,
        Kind::Restore => ENABLED,
    }
}

fn told_of(seen: ChannelStatus) -> String {
    let time = seen.status_time.map_or_else(String::new, |time| format!(", status_time {time}"));
    format!("status {}{time}", seen.status)
}

/// What the end of a restore means for those whose channel it is.
fn end_of_hold(record: &ActRecord, outcome: &Outcome) -> Option<(Hold, Step, &'static str)> {
    if record.act.kind != Kind::Restore {
        return None;
    }
    match outcome {
        Outcome::Done if record.act.origin == Origin::Operator => {
            Some((Hold::Operator, Step::Restored, "enabled for a person"))
        }
        Outcome::Done => Some((Hold::Restored, Step::Restored, "enabled in time")),
        Outcome::AlreadySo { .. } => Some((Hold::HandsOff, Step::HandsOff, "somebody enabled it")),
        Outcome::Refused { why: Refusal::HandsOff { .. } } => {
            Some((Hold::HandsOff, Step::HandsOff, "somebody changed it"))
        }
        Outcome::Refused { why: Refusal::UnknownChannel } => {
            Some((Hold::HandsOff, Step::HandsOff, "the channel is gone"))
        }
        _ => None,
    }
}

/// An outcome without its numbers: what is the same is not told twice.
fn told(outcome: &Outcome) -> String {
    let value = serde_json::to_value(outcome).unwrap_or_default();
    let why = value.get("why").and_then(|why| why.get("reason")).and_then(|reason| reason.as_str());
    why.map_or_else(|| outcome.as_str().to_owned(), |why| format!("{}/{why}", outcome.as_str()))
}

fn log(record: &ActRecord, outcome: &Outcome) {
    let (act, action, channel) = (record.act.id, record.act.kind.as_str(), record.act.channel_id);
    let result = outcome.as_str();
    match outcome {
        Outcome::Failed { .. } | Outcome::Unverified { .. } => {
            tracing::error!(act, action, channel, result, ?outcome, "the breaker could not act");
        }
        Outcome::Refused { .. } => {
            tracing::warn!(act, action, channel, result, ?outcome, "the breaker did not act");
        }
        _ => tracing::warn!(act, action, channel, result, reason = record.reason, "the breaker acted"),
    }
}
