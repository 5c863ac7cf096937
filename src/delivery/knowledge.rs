//! What the monitor itself knows about a notice when it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::alert::Alert;
use crate::breaker::act::{Act, Origin, Outcome};
use crate::clock::Clock;
use crate::history;
use crate::limits::{Limit, ModelScope, REST, Standing, Users};
use crate::message::{Contributor, Known, LimitFacts, Notice};
use crate::state::{Facts, LimitsStatus, State};
use crate::store::{HistoryReader, Store};

/// A message does not wait longer for what would only make it richer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Of so many alerts of a notice the contributors are looked for: each is a question to the history.
const WITH_CONTRIBUTORS: usize = 10;

/// Looks things up for messages. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Knowledge {
    store: Store,
    state: State,
    history: HistoryReader,
    zone: TimeZone,
    clock: Clock,
}

impl Knowledge {
    /// Looks in all of these.
    pub fn new(store: Store, state: State, history: HistoryReader, zone: TimeZone, clock: Clock) -> Self {
        Self { store, state, history, zone, clock }
    }

    /// What is known about a notice now. What cannot be looked up in time is left out.
    pub async fn about(&self, notice: &Notice) -> Known {
        let (now, facts, limits) = (self.clock.now(), self.state.facts(), self.state.limits());
        let alerts: Vec<&Alert> = match notice {
            Notice::Alerts(group) => group.alerts.iter().map(|told| &told.alert).collect(),
            _ => Vec::new(),
        };
        let found: Vec<Option<(&Limit, &Standing)>> =
            alerts.iter().map(|alert| standing(&limits, alert)).collect();
        let ((acts, holders), users) =
            tokio::join!(self.acts(acts_of(notice)), self.users(questions(&found, &self.zone, now)));
        let mut channels: BTreeSet<i64> = alerts.iter().filter_map(|alert| channel(alert)).collect();
        channels.extend(acts.values().filter_map(|act| act.channel_id));
        let names = channels.into_iter().map(|id| (id, facts.channel_name(id).to_owned()));
        let tell = |(place, found): (usize, Option<(&Limit, &Standing)>)| {
            let (limit, standing) = found?;
            Some(limit_facts(limit, standing, users.get(&place).map_or(&[][..], Vec::as_slice), &facts))
        };
        Known {
            alerts: found.into_iter().enumerate().map(tell).collect(),
            channel_names: names.filter(|(_, name)| !name.is_empty()).collect(),
            acts,
            holders,
            now,
        }
    }

    /// Acts, those that they refer to, and who holds their channels disabled.
    async fn acts(&self, ids: Vec<i64>) -> (BTreeMap<i64, Act>, BTreeMap<i64, Vec<Act>>) {
        if ids.is_empty() {
            return Default::default();
        }
        let store = self.store.clone();
        let look = move || {
            let mut acts = store.acts(&ids)?;
            let channels: BTreeSet<i64> = acts.iter().filter_map(|act| act.channel_id).collect();
            let further: Vec<i64> =
                acts.iter().filter_map(refers_to).filter(|id| !ids.contains(id)).collect();
            acts.extend(store.acts(&further)?);
            let mut holders: BTreeMap<i64, Vec<Act>> = BTreeMap::new();
            for record in store.held()? {
                if let Some(channel) = record.act.channel_id.filter(|channel| channels.contains(channel)) {
                    holders.entry(channel).or_default().push(record.act);
                }
            }
            Ok((acts.into_iter().map(|act| (act.id, act)).collect(), holders))
        };
        in_time("what the breaker did", look).await.unwrap_or_default()
    }

    /// By the place of the alert.
    async fn users(&self, questions: Vec<(usize, Users)>) -> BTreeMap<usize, Vec<history::Contributor>> {
        if questions.is_empty() {
            return BTreeMap::new();
        }
        let history = self.history.clone();
        let ask = move || {
            let mut answers = BTreeMap::new();
            for (place, users) in questions {
                let found = history.contributors(&users.selection, users.measure, users.most)?;
                answers.insert(place, users.pick(found));
            }
            Ok(answers)
        };
        in_time("who uses the limits", ask).await.unwrap_or_default()
    }
}

/// What a question to monitor.db answers in [`PATIENCE`].
async fn in_time<T: Send + 'static>(
    what: &str,
    question: impl FnOnce() -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Option<T> {
    let error = match timeout(PATIENCE, spawn_blocking(question)).await {
        Ok(Ok(Ok(answer))) => return Some(answer),
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} seconds", PATIENCE.as_secs()),
    };
    tracing::warn!("a message goes out without {what}: {error}");
    None
}

fn acts_of(notice: &Notice) -> Vec<i64> {
    match notice {
        Notice::Alerts(group) => group.alerts.iter().filter_map(|told| told.act).collect(),
        Notice::Act { act } | Notice::StillBusy { act, .. } => vec![*act],
        Notice::Trouble(_) | Notice::Test => Vec::new(),
    }
}

/// The act that another one is told with.
fn refers_to(act: &Act) -> Option<i64> {
    match (&act.origin, &act.outcome) {
        (Origin::Schedule { act }, _) => Some(*act),
        (_, Outcome::AlreadySo { by, .. }) => *by,
        _ => None,
    }
}

/// The channel that an alert names.
fn channel(alert: &Alert) -> Option<i64> {
    alert.label("channel_id").parse().ok().filter(|id| *id > 0)
}

/// The key of a limit that an alert is about, by the labels that the metrics of limits have.
fn standing<'a>(status: &'a LimitsStatus, alert: &Alert) -> Option<(&'a Limit, &'a Standing)> {
    let name = alert.label("limit");
    let place = status.limits.iter().position(|limit| !name.is_empty() && limit.name == name)?;
    let (channel_id, model) = (alert.label("channel_id"), alert.label("model"));
    let of_key = |standing: &&Standing| {
        if standing.limit != place {
            return false;
        }
        if standing.overflow {
            return channel_id == REST || model == REST;
        }
        // A pattern of models is no label.
        let of_models = match status.limits[place].model {
            ModelScope::Glob(_) => "",
            _ => standing.model.as_deref().unwrap_or_default(),
        };
        let same_channel = match standing.channel_id {
            Some(id) => channel_id.parse() == Ok(id),
            None => channel_id.is_empty(),
        };
        same_channel && of_models == model
    };
    Some((&status.limits[place], status.standings.as_ref()?.iter().find(of_key)?))
}

/// The first questions, with the places of their alerts.
fn questions(found: &[Option<(&Limit, &Standing)>], zone: &TimeZone, now: Timestamp) -> Vec<(usize, Users)> {
    let keys = found.iter().enumerate().filter_map(|(place, found)| Some((place, (*found)?)));
    keys.filter_map(|(place, (limit, standing))| {
        Some((place, Users::of(limit, standing, zone, now.as_second())?))
    })
    .take(WITH_CONTRIBUTORS)
    .collect()
}

fn limit_facts(
    limit: &Limit,
    standing: &Standing,
    users: &[history::Contributor],
    facts: &Facts,
) -> LimitFacts {
    let part = |one: &history::Contributor| {
        let who = Contributor {
            channel_name: facts.channel_name(one.channel_id).to_owned(),
            channel_id: one.channel_id,
            model: one.model.clone(),
            username: one.username.clone(),
        };
        (who, limit.measure.value(one.sum))
    };
    let models = if let ModelScope::Glob(pattern) = &limit.model { pattern.as_str() } else { "" };
    LimitFacts {
        limit: limit.name.clone(),
        models: models.to_owned(),
        measure: limit.measure.as_str().to_owned(),
        window: limit.window.as_str().to_owned(),
        used: standing.used,
        max: limit.max,
        resets_at: standing.resets_at.and_then(|at| Timestamp::from_second(at).ok()),
        contributors: if standing.used > 0.0 { users.iter().map(part).collect() } else { Vec::new() },
    }
}

#[cfg(test)]
#[path = "knowledge_tests.rs"]
mod tests;
