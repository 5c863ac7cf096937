//! What was asked of the breaker, the ledger of what it did, and the channels that it holds disabled: what is written.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

use super::acts::{self, ActRecord, ActState, Hold, Watch};
use super::{StoreError, Writing};
use crate::breaker::act::{Act, Failure, Kind, Origin, Outcome, Refusal};
use crate::limits::Restore;

/// An alert that asks again for what was refused or failed is heard again after so long, in milliseconds.
const HEAR_AGAIN_AFTER: i64 = 5 * 60 * 1000;

/// A channel that was enabled again is left alone for so long, in milliseconds: an alert that still fires may be about to end.
const SETTLED_AFTER_RESTORE: i64 = 60_000;

/// Longest text of others that is kept with an act, in characters.
const MAX_TEXT: usize = 200;

/// Most acts that are forgotten at once.
const MAX_FORGOTTEN: i64 = 1000;

/// An alert asks for a channel to be disabled.
#[derive(Debug, Clone)]
pub struct TripRequest {
    /// Its incident: one act for each.
    pub incident: i64,
    /// The name of its rule.
    pub rule: String,
    /// The sender's short name for its labels.
    pub fingerprint: String,
    /// The channel, or what the label says instead of one.
    pub channel: Result<i64, String>,
    /// When it is said to have begun.
    pub starts_at: Timestamp,
    /// When the channel is to be enabled again.
    pub restore: Restore,
    /// The limit that it is about.
    pub limit: Option<String>,
    /// Now.
    pub at: Timestamp,
    /// When this process began. What was refused or failed before because of how the monitor or new-api was set up is tried
    /// again, for it may have been mended since: every change of that takes a new start.
    pub process_began: Timestamp,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    /// The act, new or of the same episode.
    pub act: i64,
    /// It is new.
    pub fresh: bool,
    /// How it goes is not yet known: a message that tells of it does well to wait.
    pub pending: bool,
}

/// How an act ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// In short.
    pub outcome: Outcome,
    /// The channel's status and new-api's time of its change, as they were read last.
    pub after: Option<(i64, Option<i64>)>,
    /// The channel is disabled and ours to enable again.
    pub hold: bool,
    /// When that is to be, where it is known.
    pub restore_at: Option<Timestamp>,
    /// Whether the channel goes quiet is to be watched.
    pub watch: bool,
}

impl Finished {
    /// An end with no effect on the channel.
    pub fn without_effect(outcome: Outcome) -> Self {
        Self { outcome, after: None, hold: false, restore_at: None, watch: false }
    }
}

/// A step in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was asked for.
    Asked,
    /// It is about to be done; written before any request that changes something.
    Intent,
    /// The request was sent and answered, or not.
    Answer,
    /// The channel was read.
    Read,
    /// It is tried again later.
    Postponed,
    /// The act ended.
    Result,
    /// A message of its own tells of it.
    Told,
    /// A person changed the channel: it is not ours any more.
    HandsOff,
    /// The channel was enabled again.
    Restored,
    /// The disabled channel went quiet.
    Quiet,
    /// It did not.
    Busy,
    /// After a restart, an act under way was looked at.
    Reconciled,
}

impl Step {
    /// As the ledger says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Intent => "intent",
            Self::Answer => "answer",
            Self::Read => "read",
            Self::Postponed => "postponed",
            Self::Result => "result",
            Self::Told => "told",
            Self::HandsOff => "hands_off",
            Self::Restored => "restored",
            Self::Quiet => "quiet",
            Self::Busy => "busy",
            Self::Reconciled => "reconciled",
        }
    }
}

/// A new act, as it is inserted.
struct NewAct<'a> {
    kind: Kind,
    channel: Result<i64, &'a str>,
    origin: Origin,
    incident: Option<i64>,
    parent: Option<i64>,
    episode: Option<String>,
    reason: &'a str,
    starts_at: Option<Timestamp>,
    restore: &'a Restore,
    limit: Option<&'a str>,
    told: Option<&'a str>,
    at: Timestamp,
    /// For the ledger.
    detail: String,
}

impl Writing<'_> {
    /// An alert asks for a channel to be disabled. A firing of the same episode is the same act, also if its beginning
    /// moved; it is tried again if it was refused for a reason that passes, or failed, and once after each start if it was
    /// for a reason that somebody mends. After the channel was enabled again in time, a later beginning is another episode.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn request_trip(&self, request: &TripRequest) -> Result<Requested, StoreError> {
        let earlier = acts::of_incident(self.transaction, request.incident)?;
        // Once the channel is enabled again as it was wished, what begins or still lasts is another episode.
        let restored = earlier.first().filter(|last| last.hold == Some(Hold::Restored));
        let restored_at = restored.and_then(|last| last.held_until).filter(|until| {
            request.starts_at > *until
                || request.at.as_millisecond() - until.as_millisecond() >= SETTLED_AFTER_RESTORE
        });
        if let Some(last) = earlier.first()
            && restored_at.is_none()
        {
            let over = matches!(&last.act.outcome, Outcome::Refused { why: Refusal::Over });
            let waited = over
                || last.act.finished_at.is_some_and(|at| {
                    (request.at.as_millisecond() - at.as_millisecond()).abs() >= HEAR_AGAIN_AFTER
                });
            let outcome = &last.act.outcome;
            let mended =
                may_be_mended(outcome) && last.act.finished_at.is_some_and(|at| at < request.process_began);
            let again = last.over_at.is_none() && (waited && may_be_heard_again(outcome) || mended);
            if again {
                self.transaction.execute(
                    "UPDATE acts SET state = 'pending', outcome = ?2, tried_from = ?3, next_at = ?3, attempts = 0, \
                     finished_at = NULL, before_status = NULL WHERE id = ?1",
                    params![last.act.id, json(&Outcome::Pending)?, request.at.as_millisecond()],
                )?;
                self.note_step(last.act.id, request.at, Step::Asked, "again, by the same alert")?;
            }
            let pending = again || last.state != ActState::Done;
            return Ok(Requested { act: last.act.id, fresh: false, pending });
        }
        let rule = short(&request.rule);
        let text = request.channel.as_ref().err().map(|text| short(text)).unwrap_or_default();
        let act = self.insert_act(&NewAct {
            kind: Kind::Trip,
            channel: request.channel.as_ref().map(|id| *id).map_err(|_| text.as_str()),
            origin: Origin::Alert { incident: request.incident, rule: rule.clone() },
            incident: Some(request.incident),
            parent: None,
            episode: Some(format!("incident/{}/{}", request.incident, earlier.len() + 1)),
            reason: &rule,
            // An alert that we know is not too old for having lasted.
            starts_at: Some(restored_at.map_or(request.starts_at, |_| request.at)),
            restore: &request.restore,
            limit: request.limit.as_deref(),
            told: None,
            at: request.at,
            detail: format!(
                "by alert {rule} ({}), firing since {}",
                short(&request.fingerprint),
                request.starts_at
            ),
        })?;
        Ok(Requested { act, fresh: true, pending: true })
    }

    /// A person asks, over the API.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn request_by_operator(
        &self,
        kind: Kind,
        channel_id: i64,
        reason: &str,
        at: Timestamp,
    ) -> Result<i64, StoreError> {
        let reason = short(reason);
        self.insert_act(&NewAct {
            kind,
            channel: Ok(channel_id),
            origin: Origin::Operator,
            incident: None,
            parent: None,
            episode: None,
            reason: &reason,
            starts_at: None,
            restore: &Restore::Never,
            limit: None,
            told: None,
            at,
            detail: if reason.is_empty() {
                "by a person".to_owned()
            } else {
                format!("by a person: {reason}")
            },
        })
    }

    /// What an act wished for its channel is due. What people were told of an earlier try, they are not told again.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn request_restore(&self, trip: &ActRecord, at: Timestamp) -> Result<i64, StoreError> {
        let tries = acts::restores_of(self.transaction, trip.act.id)?;
        self.insert_act(&NewAct {
            kind: Kind::Restore,
            channel: trip.act.channel_id.ok_or(""),
            origin: Origin::Schedule { act: trip.act.id },
            incident: None,
            parent: Some(trip.act.id),
            episode: Some(format!("restore/{}/{}", trip.act.id, tries.len() + 1)),
            reason: trip.act.restore.as_str(),
            starts_at: None,
            restore: &Restore::Never,
            limit: trip.limit.as_deref(),
            told: tries.first().and_then(|last| last.told.as_deref()),
            at,
            detail: format!("by act {}: restore {}", trip.act.id, trip.act.restore.as_str()),
        })
    }

    /// The incident is over: what was not yet begun for it is not begun any more.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn incident_over(&self, incident: i64, at: Timestamp) -> Result<(), StoreError> {
        let at = at.as_millisecond();
        self.transaction.execute(
            "UPDATE acts SET over_at = ?2, next_at = CASE WHEN state = 'done' THEN next_at ELSE min(next_at, ?2) END \
             WHERE incident = ?1 AND over_at IS NULL",
            [incident, at],
        )?;
        Ok(())
    }

    fn insert_act(&self, act: &NewAct<'_>) -> Result<i64, StoreError> {
        let at = act.at.as_millisecond();
        self.transaction.execute(
            "INSERT INTO acts (kind, channel_id, channel_text, origin, incident, parent, episode, reason, starts_at, \
             asked_at, tried_from, state, next_at, outcome, told, restore, limit_name) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, 'pending', ?10, ?11, ?12, ?13, ?14)",
            params![
                act.kind.as_str(),
                act.channel.ok(),
                act.channel.err(),
                json(&act.origin)?,
                act.incident,
                act.parent,
                act.episode,
                act.reason,
                act.starts_at.map(Timestamp::as_millisecond),
                at,
                json(&Outcome::Pending)?,
                act.told,
                act.restore.as_str(),
                act.limit,
            ],
        )?;
        let id = self.transaction.last_insert_rowid();
        self.note_step(id, act.at, Step::Asked, &act.detail)?;
        Ok(id)
    }

    /// Adds a line to the ledger.
    ///
    /// # Errors
    /// If monitor.db cannot be written; the same holds for all that follow.
    pub fn note_step(&self, act: i64, at: Timestamp, step: Step, detail: &str) -> Result<(), StoreError> {
        self.line(act, at, step, detail, None)
    }

    fn line(
        &self,
        act: i64,
        at: Timestamp,
        step: Step,
        detail: &str,
        result: Option<&str>,
    ) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached("INSERT INTO ledger (act, at, step, detail, result) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![act, at.as_millisecond(), step.as_str(), detail, result])?;
        Ok(())
    }

    /// From now on a request may have been sent that changes the channel, whose status was `before`.
    pub fn intend(&self, act: &Act, at: Timestamp, before: i64) -> Result<(), StoreError> {
        self.transaction.execute(
            "UPDATE acts SET state = 'running', before_status = ?3, acted_at = COALESCE(acted_at, ?2) WHERE id = ?1",
            params![act.id, at.as_millisecond(), before],
        )?;
        let wanted = if act.kind == Kind::Trip { "2 (disabled)" } else { "1 (enabled)" };
        self.note_step(act.id, at, Step::Intent, &format!("status {before} to {wanted}"))
    }

    /// It is looked at again at `next_at`. `state` says whether a request may still have an effect.
    pub fn postpone(
        &self,
        act: i64,
        at: Timestamp,
        state: ActState,
        next_at: Timestamp,
        why: &str,
    ) -> Result<(), StoreError> {
        self.transaction.execute(
            "UPDATE acts SET state = ?2, next_at = ?3, attempts = attempts + 1 WHERE id = ?1",
            params![act, state.as_str(), next_at.as_millisecond()],
        )?;
        self.note_step(act, at, Step::Postponed, why)
    }

    /// The act ended.
    pub fn finish_act(&self, act: i64, at: Timestamp, finished: &Finished) -> Result<(), StoreError> {
        let outcome = json(&finished.outcome)?;
        self.transaction.execute(
            "UPDATE acts SET state = 'done', outcome = ?2, finished_at = ?3, after_status = ?4, status_time = ?5, \
             hold = ?6, held_until = NULL, restore_at = ?7, watch = ?8 WHERE id = ?1",
            params![
                act,
                outcome,
                at.as_millisecond(),
                finished.after.map(|(status, _)| status),
                finished.after.and_then(|(_, time)| time),
                finished.hold.then_some(Hold::Open.as_str()),
                finished.restore_at.map(Timestamp::as_millisecond),
                finished.watch.then_some(Watch::Watching.as_str()),
            ],
        )?;
        self.line(act, at, Step::Result, &outcome, Some(finished.outcome.as_str()))
    }

    /// Remembers what people are told of an act.
    pub fn tell_act(&self, act: i64, at: Timestamp, told: &str, by_itself: bool) -> Result<(), StoreError> {
        self.transaction.execute("UPDATE acts SET told = ?2 WHERE id = ?1", params![act, told])?;
        if by_itself { self.note_step(act, at, Step::Told, told) } else { Ok(()) }
    }

    /// When the channel is to be enabled again has become known.
    pub fn set_restore_at(&self, act: i64, restore_at: Timestamp) -> Result<(), StoreError> {
        let at = restore_at.as_millisecond();
        self.transaction.execute("UPDATE acts SET restore_at = ?2 WHERE id = ?1", [act, at])?;
        Ok(())
    }

    /// The channel is not ours to enable any more.
    pub fn end_hold(
        &self,
        act: i64,
        at: Timestamp,
        hold: Hold,
        step: Step,
        detail: &str,
    ) -> Result<(), StoreError> {
        let done = self.transaction.execute(
            "UPDATE acts SET hold = ?2, held_until = ?3 WHERE id = ?1 AND hold = 'open'",
            params![act, hold.as_str(), at.as_millisecond()],
        )?;
        if done > 0 { self.note_step(act, at, step, detail) } else { Ok(()) }
    }

    /// What watching the channel came to; a line only if something was seen.
    pub fn end_watch(
        &self,
        act: i64,
        at: Timestamp,
        watch: Watch,
        seen: Option<(Step, &str)>,
    ) -> Result<(), StoreError> {
        self.transaction.execute("UPDATE acts SET watch = ?2 WHERE id = ?1", params![act, watch.as_str()])?;
        seen.map_or(Ok(()), |(step, detail)| self.note_step(act, at, step, detail))
    }

    /// Forgets what ended before, with its lines, but for channels that are still held. How many.
    pub fn forget_acts(&self, before: Timestamp) -> Result<usize, StoreError> {
        let before = before.as_millisecond();
        let which = "SELECT id FROM acts WHERE state = 'done' AND finished_at < ?1 \
                     AND (hold IS NULL OR hold <> 'open') ORDER BY id LIMIT ?2";
        let sql = format!("DELETE FROM ledger WHERE act IN ({which})");
        self.transaction.execute(&sql, [before, MAX_FORGOTTEN])?;
        let sql = format!("DELETE FROM acts WHERE id IN ({which})");
        Ok(self.transaction.execute(&sql, [before, MAX_FORGOTTEN])?)
    }
}

/// A reason that passes by itself, so that an alert that lasts is worth another try.
fn may_be_heard_again(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Refused { why } => {
            matches!(why, Refusal::TooMany { .. } | Refusal::LastOf { .. } | Refusal::Over)
        }
        // new-api may have enabled again what it had disabled by itself.
        Outcome::AlreadySo { status, .. } => *status != 2,
        Outcome::Failed { why } => !matches!(why, Failure::Denied { .. } | Failure::NotSet),
        Outcome::Unverified { .. } => true,
        _ => false,
    }
}

/// A reason that somebody mends, and then starts the program again.
fn may_be_mended(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed { why } => matches!(why, Failure::Denied { .. } | Failure::NotSet),
        Outcome::Refused { why } => {
            matches!(why, Refusal::Off | Refusal::Protected | Refusal::UnknownChannel)
        }
        Outcome::WouldDo => true,
        _ => false,
    }
}

/// Text of others, short and on one line.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn request(incident: i64, second: i64) -> TripRequest {
        TripRequest {
            incident,
            rule: "Burning\n".into(),
            fingerprint: "f".into(),
            channel: Ok(2),
            starts_at: at(second),
            restore: Restore::Never,
            limit: None,
            at: at(second),
            process_began: at(0),
        }
    }

    fn ends(store: &Store, act: i64, second: i64, outcome: Outcome, hold: bool) {
        let finished = Finished { hold, ..Finished::without_effect(outcome) };
        store.write(|writing| writing.finish_act(act, at(second), &finished)).unwrap();
    }

    #[test]
    fn an_episode_is_one_act_that_is_heard_again_only_for_what_passes_and_after_five_minutes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("monitor.db")).unwrap();
        let ask = |incident, second| store.write(|w| w.request_trip(&request(incident, second))).unwrap();
        let passing = Outcome::Refused { why: Refusal::TooMany { per_hour: 1 } };
        let lasting = Outcome::Failed { why: Failure::Denied { detail: String::new() } };
        for (incident, outcome, again) in [(1, passing, true), (2, lasting, false), (3, Outcome::Done, false)]
        {
            let first = ask(incident, 0);
            assert!(first.fresh && first.pending);
            assert_eq!(ask(incident, 1), Requested { fresh: false, ..first }, "under way");
            ends(&store, first.act, 10, outcome.clone(), false);
            let known = Requested { act: first.act, fresh: false, pending: false };
            assert_eq!(ask(incident, 309), known, "{outcome:?}");
            assert_eq!(ask(incident, 310), Requested { pending: again, ..known }, "{outcome:?}");
        }
        // What is over is not heard again.
        ends(&store, 1, 320, Outcome::Unverified { status: None }, false);
        store.write(|writing| writing.incident_over(1, at(330))).unwrap();
        assert!(!ask(1, 3000).pending);
    }

    #[test]
    fn what_somebody_mends_is_heard_again_once_after_each_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("monitor.db")).unwrap();
        let ask = |incident, second, began| {
            let request = TripRequest { at: at(second), process_began: at(began), ..request(incident, 0) };
            store.write(|writing| writing.request_trip(&request)).unwrap()
        };
        let failed = |why| Outcome::Failed { why };
        let refused = |why| Outcome::Refused { why };
        let cases = [
            (failed(Failure::Denied { detail: String::new() }), true),
            (failed(Failure::NotSet), true),
            (refused(Refusal::Off), true),
            (refused(Refusal::Protected), true),
            (refused(Refusal::UnknownChannel), true),
            (Outcome::WouldDo, true),
            (refused(Refusal::TooOld { seconds: 9 }), false),
            (refused(Refusal::HandsOff { status: Some(1) }), false),
            (Outcome::already(2), false),
            (Outcome::Done, false),
        ];
        for (incident, (outcome, again)) in (1..).zip(cases) {
            let first = ask(incident, 0, -10);
            ends(&store, first.act, 10, outcome.clone(), false);
            assert!(!ask(incident, 4000, -10).pending, "{outcome:?} in the same run");
            assert_eq!(ask(incident, 4001, 11).pending, again, "{outcome:?} after a start");
            if again {
                ends(&store, first.act, 4010, outcome.clone(), false);
                assert!(!ask(incident, 8000, 11).pending, "{outcome:?} once");
            }
        }
    }

    #[test]
    fn an_alert_that_still_fires_after_the_channel_was_enabled_again_is_another_episode() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("monitor.db")).unwrap();
        let ask = |second| {
            let request = TripRequest { at: at(second), ..request(1, 0) };
            store.write(|writing| writing.request_trip(&request)).unwrap()
        };
        let first = ask(0);
        ends(&store, first.act, 1, Outcome::Done, true);
        assert!(!ask(3000).fresh, "it holds the channel");
        store
            .write(|writing| writing.end_hold(first.act, at(7200), Hold::Restored, Step::Restored, "2h"))
            .unwrap();
        assert!(!ask(7230).fresh, "the alert may be about to end");
        let second = ask(14_400);
        assert!(second.fresh && second.pending && second.act != first.act);
        let record = &store.acts_page(None, 1).unwrap()[0];
        assert_eq!(record.starts_at, Some(at(14_400)), "it is not too old for having lasted");
    }

    #[test]
    fn what_is_long_over_is_forgotten_but_for_channels_that_are_held() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("monitor.db")).unwrap();
        for incident in 1..=3 {
            store.write(|writing| writing.request_trip(&request(incident, 0))).unwrap();
        }
        ends(&store, 1, 10, Outcome::Done, true);
        ends(&store, 2, 10, Outcome::WouldDo, false);
        assert_eq!(store.write(|writing| writing.forget_acts(at(10))).unwrap(), 0);
        assert_eq!(store.write(|writing| writing.forget_acts(at(11))).unwrap(), 1);
        let left: Vec<i64> = store.acts_page(None, 9).unwrap().iter().map(|record| record.act.id).collect();
        assert_eq!(left, [3, 1]);
        assert_eq!((store.ledger(2).unwrap().len(), store.ledger(1).unwrap().len()), (0, 2));
        assert_eq!(store.acts(&[1, 2]).unwrap().len(), 1);
    }
}
