//! `incidents`, `deliveries`, `breaker`, and what an operator asks of the breaker: all of it stands in monitor.db.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::super::super::params::{Position, Query};
use super::super::super::problem::{Kind as Wrong, Problem};
use super::super::alerting::{Act, Breaker, Delivery, Incident, LedgerAct, LedgerStep, OpenChannel};
use super::{Answers, Page};
use crate::breaker::act::{self, Failure, Kind, Origin, Outcome, Refusal};
use crate::message::Target;
use crate::state::Facts;
use crate::store::{
    self, ActFilter, DeliveryFilter, DeliveryState, IncidentFilter, LedgerLine, Span, Store, StoreError,
};

/// An operator waits so long for the breaker.
const PATIENCE: Duration = Duration::from_secs(8);

/// So often it is looked how an act went.
const LOOK: Duration = Duration::from_millis(50);

impl Answers {
    /// `GET /api/v1/incidents`
    pub async fn incidents(&self, query: &Query) -> Result<Page<Incident>, Problem> {
        let (before, limit, facts) = (before(query), query.limit, self.state.facts());
        let filter = IncidentFilter {
            firing: query.filters.state.map(|state| state == "firing"),
            channels: query.filters.channel_ids.clone(),
            models: query.filters.models.clone(),
            during: span(query),
        };
        let (incidents, acts) = self
            .look(move |store| {
                let incidents = store.incidents_page(before, limit + 1, &filter)?;
                let ids: Vec<i64> = incidents.iter().filter_map(|incident| incident.act).collect();
                let acts = store.acts(&ids)?;
                Ok((incidents, acts.into_iter().map(|act| (act.id, act)).collect::<HashMap<_, _>>()))
            })
            .await?;
        let (incidents, next) = cut(incidents, limit, |incident| incident.id);
        let shown = |one: store::Incident| Incident {
            id: one.id,
            state: if one.resolved_at.is_none() { "firing" } else { "resolved" },
            rule: one.rule,
            severity: one.severity.as_str(),
            channel_name: channel_name(&facts, one.channel_id),
            channel_id: one.channel_id,
            started_at: one.started_at,
            resolved_at: one.resolved_at,
            first_heard_at: one.opened_at,
            last_heard_at: one.last_at,
            notifications: one.notifications,
            labels: one.labels,
            annotations: one.annotations,
            receiver: one.receiver,
            fingerprint: one.fingerprint,
            generator_url: one.generator_url,
            act: one.act.and_then(|id| acts.get(&id)).map(|act| shown_act(act, &facts)),
        };
        Ok(Page { items: incidents.into_iter().map(shown).collect(), next })
    }

    /// `GET /api/v1/deliveries`
    pub async fn deliveries(&self, query: &Query) -> Result<Page<Delivery>, Problem> {
        let (before, limit) = (before(query), query.limit);
        let filter = DeliveryFilter {
            state: query.filters.state.and_then(DeliveryState::parse),
            target: query.filters.target.and_then(Target::parse),
            channels: query.filters.channel_ids.clone(),
            queued: span(query),
        };
        let found = self.look(move |store| store.deliveries_page(before, limit + 1, &filter)).await?;
        let (found, next) = cut(found, limit, |delivery| delivery.id);
        Ok(Page { items: found.into_iter().map(delivery).collect(), next })
    }

    /// `GET /api/v1/breaker`; the links are for the caller to add.
    pub async fn breaker(&self, query: &Query) -> Result<(Breaker, Option<Position>), Problem> {
        let (before, limit, facts) = (before(query), query.limit, self.state.facts());
        let filter = ActFilter { channels: query.filters.channel_ids.clone(), asked: span(query) };
        let (records, held) = self
            .look(move |store| {
                let with_lines = |record: store::ActRecord| Ok((store.ledger(record.act.id)?, record));
                let records = store.acts_found(before, limit + 1, &filter)?.into_iter().map(with_lines);
                Ok((records.collect::<Result<Vec<_>, StoreError>>()?, store.held()?))
            })
            .await?;
        let (records, next) = cut(records, limit, |(_, record)| record.act.id);
        let open = held.into_iter().filter_map(|record| {
            let channel_id = record.act.channel_id?;
            Some(OpenChannel {
                channel_id,
                channel_name: facts.channel_name(channel_id).to_owned(),
                act_id: record.act.id,
                since: record.act.finished_at,
                restore: record.act.restore.as_str().to_owned(),
                restore_at: record.act.restore_at,
            })
        });
        let items = records.into_iter().map(|(lines, record)| LedgerAct {
            act: shown_act(&record.act, &facts),
            asked_because: record.reason,
            hold: record.hold.map(store::Hold::as_str),
            traffic: record.watch.map(store::Watch::as_str),
            steps: lines.into_iter().map(step).collect(),
        });
        let (open, items) = (open.collect(), items.collect());
        let mode = self.state.alerting().breaker_mode;
        Ok((Breaker { mode, open, items, next: None, next_cursor: None }, next))
    }

    /// Asks the breaker on behalf of an operator, and waits a while for how it goes.
    pub async fn operate(
        &self,
        kind: Kind,
        channel_id: i64,
        reason: String,
        at: Timestamp,
    ) -> Result<Act, Problem> {
        let id = self
            .look(move |store| {
                store.write(|writing| writing.request_by_operator(kind, channel_id, &reason, at))
            })
            .await?;
        self.state.breaker_bell().notify_one();
        let ends = Instant::now() + PATIENCE;
        loop {
            let found = self.look(move |store| store.acts(&[id])).await?.pop();
            let act = found.ok_or_else(|| Problem::internal(&format!("act {id} is not in the ledger")))?;
            if act.outcome == Outcome::Pending && Instant::now() < ends {
                sleep(LOOK).await;
                continue;
            }
            let wrong = match act.outcome {
                Outcome::Refused { .. } => Wrong::Refused,
                Outcome::Failed { .. } | Outcome::Unverified { .. } => Wrong::GatewayFailed,
                _ => return Ok(shown_act(&act, &self.state.facts())),
            };
            let (_, words) = why(&act.outcome);
            return Err(Problem::new(wrong, format!("act {id}: {}", words.unwrap_or_default())));
        }
    }

    /// Asks monitor.db on a thread that may wait for the disk.
    async fn look<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.store.clone();
        let answer = spawn_blocking(move || question(&store)).await;
        Ok(answer.map_err(|error| Problem::internal(&error))??)
    }
}

/// The window of a query.
fn span(query: &Query) -> Span {
    Span { from: query.window.from, to: query.window.to }
}

/// The number of the last row of the page before.
fn before(query: &Query) -> Option<i64> {
    query.after.map(|Position([id, ..])| id)
}

/// The first rows of one more than the page has, and where it goes on.
fn cut<T>(mut rows: Vec<T>, limit: usize, id: impl Fn(&T) -> i64) -> (Vec<T>, Option<Position>) {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|last| Position([id(last), 0, 0]));
    (rows, next)
}

fn channel_name(facts: &Facts, id: Option<i64>) -> Option<String> {
    id.map(|id| facts.channel_name(id).to_owned())
}

fn delivery(one: store::Delivery) -> Delivery {
    let said = |text: String| Some(text).filter(|text| !text.is_empty());
    Delivery {
        id: one.id,
        target: one.target,
        state: one.state.as_str(),
        kind: one.kind,
        notice_id: one.notice,
        part: one.part,
        parts: one.parts,
        attempts: one.attempts,
        created_at: one.created_at,
        updated_at: one.updated_at,
        next_attempt_at: one.next_at,
        sent_at: one.sent_at,
        code: one.code,
        reason: said(one.reason),
        error: said(one.error),
        superseded_by: one.superseded_by,
    }
}

fn step(line: LedgerLine) -> LedgerStep {
    LedgerStep { at: line.at, step: line.step, detail: line.detail }
}

fn shown_act(act: &act::Act, facts: &Facts) -> Act {
    let (origin, incident_id, rule, trip_id) = match &act.origin {
        Origin::Alert { incident, rule } => ("alert", Some(*incident), Some(rule.clone()), None),
        Origin::Operator => ("operator", None, None, None),
        Origin::Schedule { act } => ("schedule", None, None, Some(*act)),
    };
    let (reason, detail) = why(&act.outcome);
    Act {
        id: act.id,
        action: act.kind.as_str(),
        channel_id: act.channel_id,
        channel_name: channel_name(facts, act.channel_id),
        origin,
        incident_id,
        rule,
        trip_id,
        asked_at: act.asked_at,
        finished_at: act.finished_at,
        result: act.outcome.as_str(),
        reason: reason.map(str::to_owned),
        detail,
        restore: act.restore.as_str().to_owned(),
        restore_at: act.restore_at,
    }
}

/// Why an act did not go as it was asked: in a word of a fixed list, and in words.
fn why(outcome: &Outcome) -> (Option<&'static str>, Option<String>) {
    match outcome {
        Outcome::Pending | Outcome::Done => (None, None),
        Outcome::WouldDo => (Some("dry_run"), Some("BREAKER_MODE is dry_run".to_owned())),
        Outcome::AlreadySo { status, by: None, .. } => {
            (Some("already_so"), Some(format!("the channel had status {status} before")))
        }
        Outcome::AlreadySo { by: Some(act), held, .. } => {
            let held = if *held { "; it is held for this act as well" } else { "" };
            (Some("already_so"), Some(format!("act {act} had disabled the channel before{held}")))
        }
        Outcome::Unverified { status: Some(status) } => {
            (Some("unverified"), Some(format!("new-api took it, and the channel still has status {status}")))
        }
        Outcome::Unverified { status: None } => (
            Some("unverified"),
            Some("the request was sent, and whether it had an effect cannot be read".to_owned()),
        ),
        Outcome::Refused { why } => {
            let (reason, words) = refusal(why);
            (Some(reason), Some(words))
        }
        Outcome::Failed { why } => {
            let (reason, words) = failure(why);
            (Some(reason), Some(words))
        }
    }
}

fn refusal(why: &Refusal) -> (&'static str, String) {
    match why {
        Refusal::Off => ("off", "BREAKER_MODE is off".to_owned()),
        Refusal::Rest => ("rest", "the alert is about the sum of all other channels".to_owned()),
        Refusal::NoChannel { text } if text.is_empty() => {
            ("no_channel", "the alert has no label channel_id".to_owned())
        }
        Refusal::NoChannel { text } => ("no_channel", format!("`{text}` is no channel's number")),
        Refusal::UnknownChannel => ("unknown_channel", "new-api has no such channel".to_owned()),
        Refusal::Protected => ("protected", "the channel stands in BREAKER_PROTECT".to_owned()),
        Refusal::TooOld { seconds } => ("too_old", format!("the alert began {seconds} s ago")),
        Refusal::FromTheFuture { seconds } => {
            ("from_the_future", format!("the alert begins in {seconds} s: a clock is wrong"))
        }
        Refusal::LastOf { group, model, others } => {
            let more = if *others > 0 { format!(", and for {others} more") } else { String::new() };
            let words = format!("it is the last enabled channel for {model} in group {group}{more}");
            ("last_of", words)
        }
        Refusal::TooMany { per_hour } => {
            ("too_many", format!("BREAKER_MAX_PER_HOUR, which is {per_hour}, is reached"))
        }
        Refusal::HandsOff { .. } => ("hands_off", "a person changed the channel since".to_owned()),
        Refusal::NotOurs => ("not_ours", "the breaker did not disable it".to_owned()),
        Refusal::Over => ("over", "the alert was over before anything was done".to_owned()),
    }
}

fn failure(why: &Failure) -> (&'static str, String) {
    match why {
        Failure::NotSet => ("not_set", "NEW_API_BASE_URL and NEW_API_KEY are not set".to_owned()),
        Failure::NoDatabase => ("no_database", "new-api's database cannot be read".to_owned()),
        Failure::Unreachable { detail } => ("unreachable", format!("new-api cannot be reached: {detail}")),
        Failure::Denied { detail } => ("denied", format!("new-api does not accept NEW_API_KEY: {detail}")),
        Failure::RateLimited => ("rate_limited", "new-api says that there are too many requests".to_owned()),
        Failure::Rejected { detail } => ("rejected", format!("new-api says: {detail}")),
        Failure::Server { status } => ("server", format!("new-api answers with status {status}")),
    }
}
