//! What the webhook took in: calls, incidents, and when the Watchdog was last heard.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};

use super::{Span, Store, StoreError, Writing};
use crate::alert::{Alert, EventKey, Status};
use crate::limits::Severity;
use crate::message::Change;

/// Calls are remembered for so long; longer than any window in which they count as come twice.
const KEEP_EVENTS: SignedDuration = SignedDuration::from_hours(1);

/// At most so many of them.
const MAX_EVENTS: i64 = 100_000;

/// Incidents that are over are remembered for so long.
const KEEP_INCIDENTS: SignedDuration = SignedDuration::from_hours(90 * 24);

/// At most so many incidents, over or not.
const MAX_INCIDENTS: i64 = 100_000;

/// Rows that one call drops at most, so that a long pause does not make one call long.
const DROPPED_AT_ONCE: i64 = 1_000;

/// An alert that begins so much later than it was ever said to is another episode, whose predecessor's end was not heard
/// of. Replicas of Prometheus differ by less.
const OTHER_EPISODE: SignedDuration = SignedDuration::from_mins(1);

/// What is new about an alert that was taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    /// Its incident.
    pub incident: i64,
    /// What is new; None if it tells nothing: it ended before we ever heard of it, or its end was told before.
    pub change: Option<Change>,
    /// The earliest time at which the incident was said to have begun.
    pub started_at: Timestamp,
    /// When people were last told of it, if ever.
    pub told_at: Option<Timestamp>,
    /// An earlier incident of the same alert whose end was not heard of, and which therefore ends now.
    pub ended: Option<i64>,
}

/// An alert from when it fires until it is resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Its number.
    pub id: i64,
    /// The alert, by the sender's short name for its labels.
    pub fingerprint: String,
    /// The name of its rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// The channel that it is about, if it names one.
    pub channel_id: Option<i64>,
    /// Its labels, shortened, as they were last sent.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, likewise.
    pub annotations: BTreeMap<String, String>,
    /// Who was to get it.
    pub receiver: String,
    /// The query that raised it.
    pub generator_url: Option<String>,
    /// The earliest time at which it was said to have begun.
    pub started_at: Timestamp,
    /// When it ended; None while it fires.
    pub resolved_at: Option<Timestamp>,
    /// The first call that spoke of it.
    pub opened_at: Timestamp,
    /// The last one.
    pub last_at: Timestamp,
    /// How many there were, those that came twice left out.
    pub notifications: u32,
    /// What it asked of the breaker, in the ledger.
    pub act: Option<i64>,
}

/// Which incidents are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncidentFilter {
    /// Only those that fire, or only those that do not.
    pub firing: Option<bool>,
    /// Only those of these channels; of all if it is empty.
    pub channels: Vec<i64>,
    /// Only those whose labels name one of these models; all if it is empty.
    pub models: Vec<String>,
    /// Only those that fired at any time of it.
    pub during: Span,
}

/// How the way to us is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pipeline {
    /// The last call that was taken in.
    pub last_webhook_at: Option<Timestamp>,
    /// The last Watchdog.
    pub watchdog_at: Option<Timestamp>,
    /// People were told that the Watchdog is silent since then, and not yet that it is back.
    pub silent_since: Option<Timestamp>,
}

/// The newest incident of an alert, as far as the next call is judged by it.
struct Latest {
    id: i64,
    started_at: i64,
    restarted_at: i64,
    last_at: i64,
    told_at: Option<i64>,
    is_over: bool,
}

/// The twin of a call that said that an alert is over comes no later than this after it, in milliseconds.
const TWIN_OF_AN_END: i64 = 60_000;

impl Writing<'_> {
    /// Remembers a call; false if the same was taken in less than `window` ago, whatever clocks did since.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn note_event(
        &self,
        key: &EventKey,
        at: Timestamp,
        window: SignedDuration,
    ) -> Result<bool, StoreError> {
        let mut statement = self.transaction.prepare_cached("SELECT at FROM events WHERE key = ?1")?;
        let before: Option<i64> = statement.query_row([key], |row| row.get(0)).optional()?;
        let now = at.as_millisecond();
        if before.is_some_and(|before| i128::from(now.abs_diff(before)) < window.as_millis()) {
            return Ok(false);
        }
        // A new row, so that the order of ids stays that of time.
        self.run("DELETE FROM events WHERE key = ?1", params![key])?;
        self.run("INSERT INTO events (key, at) VALUES (?1, ?2)", params![key, now])?;
        self.run(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE at < ?1 ORDER BY at LIMIT ?2)",
            params![so_long_before(at, KEEP_EVENTS), DROPPED_AT_ONCE],
        )?;
        self.run("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?1", params![MAX_EVENTS])?;
        Ok(true)
    }

    /// Opens, continues and closes incidents by what `receiver` got. Answers for each alert, in their order.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn note_alerts(
        &self,
        alerts: &[Alert],
        receiver: &str,
        at: Timestamp,
    ) -> Result<Vec<Noted>, StoreError> {
        let noted =
            alerts.iter().map(|alert| self.note_alert(alert, receiver, at)).collect::<Result<_, _>>()?;
        self.run(
            "DELETE FROM incidents WHERE id IN
             (SELECT id FROM incidents WHERE resolved_at < ?1 ORDER BY resolved_at LIMIT ?2)",
            params![so_long_before(at, KEEP_INCIDENTS), DROPPED_AT_ONCE],
        )?;
        self.run(
            "DELETE FROM incidents WHERE id <= (SELECT max(id) FROM incidents) - ?1",
            params![MAX_INCIDENTS],
        )?;
        Ok(noted)
    }

    fn note_alert(&self, alert: &Alert, receiver: &str, at: Timestamp) -> Result<Noted, StoreError> {
        let now = at.as_millisecond();
        let latest = self.latest(&alert.fingerprint)?;
        match alert.status {
            Status::Firing => self.note_firing(alert, receiver, now, latest),
            Status::Resolved => self.note_resolved(alert, receiver, now, latest),
        }
    }

    fn note_firing(
        &self,
        alert: &Alert,
        receiver: &str,
        now: i64,
        latest: Option<Latest>,
    ) -> Result<Noted, StoreError> {
        let starts_at = alert.starts_at.as_millisecond();
        if let Some(latest) = latest.as_ref().filter(|latest| latest.is_continued_by(starts_at)) {
            self.continue_incident(latest.id, alert, receiver, now, None)?;
            if latest.is_over {
                self.run(
                    "UPDATE acts SET over_at = NULL WHERE incident = ?1 AND kind = 'trip'",
                    [latest.id],
                )?;
            }
            // What fires again from the same beginning was never over: its sender had lost sight of it.
            let change = if latest.is_over { Change::Opened } else { Change::Repeated };
            return Ok(latest.noted(Some(change), starts_at));
        }
        let ended = latest.filter(|latest| !latest.is_over).map(|latest| latest.id);
        if let Some(id) = ended {
            self.run("UPDATE incidents SET resolved_at = ?2 WHERE id = ?1", params![id, now])?;
        }
        let incident = self.open(alert, receiver, now, None)?;
        let change = Some(Change::Opened);
        Ok(Noted { incident, change, started_at: instant(starts_at), told_at: None, ended })
    }

    fn note_resolved(
        &self,
        alert: &Alert,
        receiver: &str,
        now: i64,
        latest: Option<Latest>,
    ) -> Result<Noted, StoreError> {
        let starts_at = alert.starts_at.as_millisecond();
        // Beginning and end are compared by the sender's clock, and the end is kept never later than now.
        let said_end = alert.ends_at.map_or(now, Timestamp::as_millisecond);
        let ended_at = said_end.min(now);
        match latest {
            // The end of an episode before this one, which is over for long.
            Some(latest) if !latest.is_over && alert.ends_at.is_some() && said_end < latest.started_at => {
                Ok(latest.noted(None, starts_at))
            }
            Some(latest) if !latest.is_over => {
                self.continue_incident(latest.id, alert, receiver, now, Some(ended_at))?;
                Ok(latest.noted(Some(Change::Resolved), starts_at))
            }
            // Its end was told before.
            Some(latest) if latest.is_continued_by(starts_at) => Ok(latest.noted(None, starts_at)),
            // It came and went unheard. What was never said to have begun is not said to be over.
            _ => {
                let incident = self.open(alert, receiver, now, Some(ended_at))?;
                let started_at = instant(starts_at);
                Ok(Noted { incident, change: None, started_at, told_at: None, ended: None })
            }
        }
    }

    /// Whether a call that was taken before tells of something new all the same: an alert that we have closed fires again from
    /// the same beginning, because its sender had lost sight of it. The late twin of a call is not meant, so a minute must have passed.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn reopens(&self, alerts: &[Alert], at: Timestamp) -> Result<bool, StoreError> {
        let settled = at.as_millisecond().saturating_sub(TWIN_OF_AN_END);
        for alert in alerts.iter().filter(|alert| alert.status == Status::Firing) {
            let latest = self.latest(&alert.fingerprint)?;
            let reopens = |latest: &Latest| {
                latest.is_over
                    && latest.last_at < settled
                    && latest.is_continued_by(alert.starts_at.as_millisecond())
            };
            if latest.as_ref().is_some_and(reopens) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn latest(&self, fingerprint: &str) -> Result<Option<Latest>, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT id, started_at, restarted_at, last_at, told_at, resolved_at IS NOT NULL FROM incidents
             WHERE fingerprint = ?1 ORDER BY id DESC LIMIT 1",
        )?;
        let read = |row: &Row<'_>| {
            Ok(Latest {
                id: row.get(0)?,
                started_at: row.get(1)?,
                restarted_at: row.get(2)?,
                last_at: row.get(3)?,
                told_at: row.get(4)?,
                is_over: row.get(5)?,
            })
        };
        Ok(statement.query_row([fingerprint], read).optional()?)
    }

    fn open(
        &self,
        alert: &Alert,
        receiver: &str,
        now: i64,
        resolved_at: Option<i64>,
    ) -> Result<i64, StoreError> {
        self.run(
            "INSERT INTO incidents (fingerprint, rule, severity, channel_id, labels, annotations, receiver,
             generator_url, started_at, restarted_at, resolved_at, opened_at, last_at, notifications)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?11, 1)",
            params![
                alert.fingerprint,
                alert.name(),
                alert.severity().as_str(),
                alert.channel().ok(),
                json(&alert.labels)?,
                json(&alert.annotations)?,
                receiver,
                alert.generator_url,
                alert.starts_at.as_millisecond(),
                resolved_at,
                now,
            ],
        )?;
        Ok(self.transaction.last_insert_rowid())
    }

    fn continue_incident(
        &self,
        id: i64,
        alert: &Alert,
        receiver: &str,
        now: i64,
        resolved_at: Option<i64>,
    ) -> Result<(), StoreError> {
        self.run(
            "UPDATE incidents SET annotations = ?2, receiver = ?3, generator_url = ?4,
             started_at = min(started_at, ?5), restarted_at = max(restarted_at, ?5), resolved_at = ?6, last_at = ?7,
             notifications = notifications + 1 WHERE id = ?1",
            params![
                id,
                json(&alert.annotations)?,
                receiver,
                alert.generator_url,
                alert.starts_at.as_millisecond(),
                resolved_at,
                now,
            ],
        )
    }

    /// Remembers what an incident asked of the breaker.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn note_act(&self, incident: i64, act: i64) -> Result<(), StoreError> {
        self.run("UPDATE incidents SET act = ?2 WHERE id = ?1", params![incident, act])
    }

    /// Remembers that people are told of an incident.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn note_told(&self, incident: i64, at: Timestamp) -> Result<(), StoreError> {
        self.run("UPDATE incidents SET told_at = ?2 WHERE id = ?1", params![incident, at.as_millisecond()])
    }

    /// Remembers that a call was taken in.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn note_webhook(&self, at: Timestamp) -> Result<(), StoreError> {
        self.run("UPDATE pipeline SET last_webhook_at = ?1", [at.as_millisecond()])
    }

    /// Remembers that the Watchdog was heard. If people were told that it is silent, since when.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn note_watchdog(&self, at: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let silent_since = pipeline(self.transaction)?.silent_since;
        self.run("UPDATE pipeline SET watchdog_at = ?1, silent_since = NULL", [at.as_millisecond()])?;
        Ok(silent_since)
    }

    /// Remembers that people are told that the Watchdog was last heard at `heard`. False if they were told before, or if
    /// it was heard since.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn note_silence(&self, heard: Timestamp) -> Result<bool, StoreError> {
        let changed = self.transaction.execute(
            "UPDATE pipeline SET silent_since = watchdog_at WHERE silent_since IS NULL AND watchdog_at = ?1",
            [heard.as_millisecond()],
        )?;
        Ok(changed > 0)
    }

    fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        self.transaction.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

impl Latest {
    fn noted(&self, change: Option<Change>, starts_at: i64) -> Noted {
        Noted {
            incident: self.id,
            change,
            started_at: instant(self.started_at.min(starts_at)),
            told_at: self.told_at.map(instant),
            ended: None,
        }
    }

    /// Whether an alert that began at `starts_at` is of this incident. While it fires a beginning may move, as it does
    /// between replicas of Prometheus; only one that lies after all that was ever heard of it is another one's. Once it
    /// is over, every later beginning is.
    fn is_continued_by(&self, starts_at: i64) -> bool {
        if self.is_over {
            return starts_at <= self.restarted_at;
        }
        let other = i64::try_from(OTHER_EPISODE.as_millis()).unwrap_or(i64::MAX);
        starts_at <= self.last_at || starts_at <= self.restarted_at.saturating_add(other)
    }
}

impl Store {
    /// Incidents with numbers below `before`, newest first.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn incidents_page(
        &self,
        before: Option<i64>,
        limit: usize,
        filter: &IncidentFilter,
    ) -> Result<Vec<Incident>, StoreError> {
        let (from, to) = filter.during.milliseconds();
        // One that ended at the very beginning was not there any more, but one that ended when it began was there then.
        let mut conditions = vec![
            "id < ?".to_owned(),
            "started_at < ?".to_owned(),
            "(resolved_at IS NULL OR resolved_at > ? OR started_at >= ?)".to_owned(),
        ];
        let mut values = vec![
            Value::from(before.unwrap_or(i64::MAX)),
            Value::from(to),
            Value::from(from),
            Value::from(from),
        ];
        match filter.firing {
            Some(true) => conditions.push("resolved_at IS NULL".to_owned()),
            Some(false) => conditions.push("resolved_at IS NOT NULL".to_owned()),
            None => {}
        }
        if !filter.channels.is_empty() {
            conditions.push(format!("channel_id IN ({})", vec!["?"; filter.channels.len()].join(", ")));
            values.extend(filter.channels.iter().copied().map(Value::from));
        }
        if !filter.models.is_empty() {
            conditions.push(format!(
                "CASE WHEN json_valid(labels) THEN json_extract(labels, '$.model') END IN ({})",
                vec!["?"; filter.models.len()].join(", ")
            ));
            values.extend(filter.models.iter().cloned().map(Value::from));
        }
        values.push(Value::from(i64::try_from(limit).unwrap_or(i64::MAX)));
        let sql = format!(
            "SELECT id, fingerprint, rule, severity, channel_id, labels, annotations, receiver, generator_url,
             started_at, resolved_at, opened_at, last_at, notifications, act FROM incidents
             WHERE {} ORDER BY id DESC LIMIT ?",
            conditions.join(" AND ")
        );
        self.read(|transaction| {
            let mut statement = transaction.prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(values), incident)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// How the way to us is.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn pipeline(&self) -> Result<Pipeline, StoreError> {
        self.read(|transaction| Ok(pipeline(transaction)?))
    }
}

fn pipeline(connection: &rusqlite::Connection) -> rusqlite::Result<Pipeline> {
    connection.prepare_cached("SELECT last_webhook_at, watchdog_at, silent_since FROM pipeline")?.query_row(
        [],
        |row| {
            let at = |column| -> rusqlite::Result<Option<Timestamp>> {
                Ok(row.get::<_, Option<i64>>(column)?.map(instant))
            };
            Ok(Pipeline { last_webhook_at: at(0)?, watchdog_at: at(1)?, silent_since: at(2)? })
        },
    )
}

fn incident(row: &Row<'_>) -> rusqlite::Result<Incident> {
    // Written by us; what cannot be read any more is shown as nothing.
    let texts = |column| -> rusqlite::Result<BTreeMap<String, String>> {
        let text = row.get_ref(column)?.as_str().unwrap_or_default();
        Ok(serde_json::from_str(text).unwrap_or_default())
    };
    let severity: String = row.get(3)?;
    let known = Severity::ALL.into_iter().find(|known| known.as_str() == severity);
    Ok(Incident {
        id: row.get(0)?,
        fingerprint: row.get(1)?,
        rule: row.get(2)?,
        severity: known.unwrap_or(Severity::Warning),
        channel_id: row.get(4)?,
        labels: texts(5)?,
        annotations: texts(6)?,
        receiver: row.get(7)?,
        generator_url: row.get(8)?,
        started_at: instant(row.get(9)?),
        resolved_at: row.get::<_, Option<i64>>(10)?.map(instant),
        opened_at: instant(row.get(11)?),
        last_at: instant(row.get(12)?),
        notifications: row.get(13)?,
        act: row.get(14)?,
    })
}

/// A time of the database.
fn instant(ms: i64) -> Timestamp {
    let bounds = (Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
    Timestamp::from_millisecond(ms.clamp(bounds.0, bounds.1)).unwrap_or_default()
}

/// So long before, as the database has times.
fn so_long_before(at: Timestamp, length: SignedDuration) -> i64 {
    let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    at.as_millisecond().saturating_sub(length)
}

fn json(texts: &BTreeMap<String, String>) -> Result<String, StoreError> {
    serde_json::to_string(texts).map_err(|error| StoreError::Damaged(error.to_string()))
}

#[cfg(test)]
#[path = "incidents_tests.rs"]
mod tests;
