//! What was asked of the breaker, the ledger of what it did, and the channels that it holds disabled: what is read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, Params, Row, params, params_from_iter};

use super::{Span, Store, StoreError};
use crate::breaker::act::{Act, Kind, Origin, Outcome};
use crate::limits::Restore;

/// Most acts that are read at once.
const MAX_ACTS: usize = 1000;

/// What is to be looked at later than that was postponed by a clock that has been set back since.
const LONGEST_WAIT_MS: i64 = 10 * 60 * 1000;

/// Most lines of one act's ledger that are read.
const MAX_LINES: i64 = 200;

/// How far an act is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActState {
    /// Nothing was sent, or what was sent had no effect.
    Pending,
    /// A request may have been sent, and its effect is not known.
    Running,
    /// It ended.
    Done,
}

impl ActState {
    /// Its name in monitor.db.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
        }
    }
}

/// Whether a channel that an act disabled is ours to enable again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It is.
    Open,
    /// It was enabled in time.
    Restored,
    /// An operator had it enabled, over the API.
    Operator,
    /// A person changed it in new-api.
    HandsOff,
}

impl Hold {
    const ALL: [Self; 4] = [Self::Open, Self::Restored, Self::Operator, Self::HandsOff];

    /// Its name in monitor.db and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Restored => "restored",
            Self::Operator => "operator",
            Self::HandsOff => "hands_off",
        }
    }
}

/// Whether a channel that an act disabled went quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// It is being watched.
    Watching,
    /// It did.
    Quiet,
    /// It did not.
    Busy,
    /// It cannot be said.
    Unknown,
}

impl Watch {
    const ALL: [Self; 4] = [Self::Watching, Self::Quiet, Self::Busy, Self::Unknown];

    /// Its name in monitor.db and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Quiet => "quiet",
            Self::Busy => "busy",
            Self::Unknown => "unknown",
        }
    }
}

/// An act with all that is kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ActRecord {
    /// What others see.
    pub act: Act,
    /// How far it is.
    pub state: ActState,
    /// What the alert's label says instead of a channel.
    pub channel_text: String,
    /// An operator's words, or the rule of the alert.
    pub reason: String,
    /// When the alert is said to have begun.
    pub starts_at: Option<Timestamp>,
    /// Since when it is tried.
    pub tried_from: Timestamp,
    /// When its incident was over.
    pub over_at: Option<Timestamp>,
    /// Tries so far that came to nothing.
    pub attempts: u32,
    /// When it is looked at next, if it has not ended.
    pub next_at: Timestamp,
    /// When the channel was first asked to change.
    pub acted_at: Option<Timestamp>,
    /// Which outcome people were told last.
    pub told: Option<String>,
    /// The limit that the alert is about.
    pub limit: Option<String>,
    /// The channel's status before.
    pub before_status: Option<i64>,
    /// The channel's status when it was read back.
    pub after_status: Option<i64>,
    /// new-api's time of the change, unix seconds.
    pub status_time: Option<i64>,
    /// Whether the channel is ours to enable again; None if it never was.
    pub hold: Option<Hold>,
    /// Since when it is not.
    pub held_until: Option<Timestamp>,
    /// Whether it went quiet.
    pub watch: Option<Watch>,
}

/// Which acts are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActFilter {
    /// Only those of these channels; of all if it is empty.
    pub channels: Vec<i64>,
    /// Only those that were asked for in it.
    pub asked: Span,
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerLine {
    /// Later lines have higher ones.
    pub id: i64,
    /// What it is about.
    pub act: i64,
    /// When.
    pub at: Timestamp,
    /// `asked`, `intent`, …: see [`Step`](super::Step).
    pub step: String,
    /// In words, or an outcome as JSON.
    pub detail: String,
}

const COLUMNS: &str = "id, kind, channel_id, channel_text, origin, reason, starts_at, asked_at, tried_from, over_at, \
    state, attempts, next_at, acted_at, finished_at, outcome, told, restore, restore_at, limit_name, before_status, \
    after_status, status_time, hold, held_until, watch";

impl Store {
    /// Acts by their ids, those that there are.
    ///
    /// # Errors
    /// If monitor.db cannot be read or a value in it is not sound; the same holds for all that follow.
    pub fn acts(&self, ids: &[i64]) -> Result<Vec<Act>, StoreError> {
        let connection = self.connection();
        let mut found = Vec::new();
        for id in ids.iter().take(MAX_ACTS) {
            found.extend(select(&connection, "WHERE id = ?1", [id])?.into_iter().map(|record| record.act));
        }
        Ok(found)
    }

    /// Acts with all that is kept of them, newest first, below `before`.
    pub fn acts_page(&self, before: Option<i64>, limit: usize) -> Result<Vec<ActRecord>, StoreError> {
        let limit = i64::try_from(limit.min(MAX_ACTS)).unwrap_or(0);
        select(
            &self.connection(),
            "WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
            [before.unwrap_or(i64::MAX), limit],
        )
    }

    /// The same, of those that are asked for.
    pub fn acts_found(
        &self,
        before: Option<i64>,
        limit: usize,
        filter: &ActFilter,
    ) -> Result<Vec<ActRecord>, StoreError> {
        let (from, to) = filter.asked.milliseconds();
        let mut values = vec![before.unwrap_or(i64::MAX), from, to];
        let mut of_channels = String::new();
        if !filter.channels.is_empty() {
            of_channels = format!("AND channel_id IN ({})", vec!["?"; filter.channels.len()].join(", "));
            values.extend(&filter.channels);
        }
        values.push(i64::try_from(limit.min(MAX_ACTS)).unwrap_or(0));
        let rest =
            format!("WHERE id < ? AND asked_at >= ? AND asked_at < ? {of_channels} ORDER BY id DESC LIMIT ?");
        select(&self.connection(), &rest, params_from_iter(values))
    }

    /// The ledger of an act, in its order; the last lines if there are too many.
    pub fn ledger(&self, act: i64) -> Result<Vec<LedgerLine>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT id, at, step, detail FROM ledger WHERE act = ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let mut rows = statement.query([act, MAX_LINES])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            lines.push(LedgerLine {
                id: row.get(0)?,
                act,
                at: timestamp(row.get(1)?)?,
                step: row.get(2)?,
                detail: row.get(3)?,
            });
        }
        lines.reverse();
        Ok(lines)
    }

    /// Acts that are to be looked at now, in the order in which they were asked for.
    pub fn due_acts(&self, now: Timestamp, limit: usize) -> Result<Vec<ActRecord>, StoreError> {
        let limit = i64::try_from(limit.min(MAX_ACTS)).unwrap_or(0);
        let sql = "WHERE state <> 'done' AND (next_at <= ?1 OR next_at > ?1 + ?3) ORDER BY id LIMIT ?2";
        select(&self.connection(), sql, [now.as_millisecond(), limit, LONGEST_WAIT_MS])
    }

    /// Acts whose channels are ours to enable again, oldest first.
    pub fn held(&self) -> Result<Vec<ActRecord>, StoreError> {
        let limit = i64::try_from(MAX_ACTS).unwrap_or(0);
        select(&self.connection(), "WHERE hold = 'open' ORDER BY id LIMIT ?1", [limit])
    }

    /// Whether anything was done to a channel at `since` or later.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn acted_since(&self, since: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM acts WHERE acted_at >= ?1)";
        Ok(self.connection().query_row(sql, [since.as_millisecond()], |row| row.get(0))?)
    }

    /// Acts whose channels are being watched.
    pub fn watched(&self) -> Result<Vec<ActRecord>, StoreError> {
        let limit = i64::try_from(MAX_ACTS).unwrap_or(0);
        select(&self.connection(), "WHERE watch = 'watching' ORDER BY id LIMIT ?1", [limit])
    }

    /// Tries to enable again what an act disabled, newest first.
    pub fn restores_of(&self, act: i64) -> Result<Vec<ActRecord>, StoreError> {
        restores_of(&self.connection(), act)
    }

    /// Other trips than `act` that alerts made after `since` and until `now`, those under way included.
    pub fn trips_since(&self, since: Timestamp, now: Timestamp, act: i64) -> Result<u64, StoreError> {
        let count: i64 = self.connection().query_row(
            "SELECT count(*) FROM acts WHERE acted_at > ?1 AND acted_at <= ?3 AND id <> ?2 AND kind = 'trip' AND incident IS NOT NULL \
             AND (state <> 'done' OR json_extract(outcome, '$.result') IN ('done', 'unverified'))",
            [since.as_millisecond(), act, now.as_millisecond()],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// How often acts ended so, by kind and outcome.
    pub fn act_results(&self) -> Result<BTreeMap<(Kind, &'static str), u64>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT a.kind, l.result, count(*) FROM ledger l JOIN acts a ON a.id = l.act \
             WHERE l.result IS NOT NULL GROUP BY a.kind, l.result",
        )?;
        let mut rows = statement.query(params![])?;
        let mut counts = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let (kind, result): (String, String) = (row.get(0)?, row.get(1)?);
            let known = Outcome::RESULTS.into_iter().find(|known| *known == result);
            if let Some(known) = known {
                let count: i64 = row.get(2)?;
                counts.insert((parse_kind(&kind)?, known), u64::try_from(count).unwrap_or(0));
            }
        }
        Ok(counts)
    }
}

/// The acts of an incident, newest first.
pub(super) fn of_incident(connection: &Connection, incident: i64) -> Result<Vec<ActRecord>, StoreError> {
    select(connection, "WHERE incident = ?1 ORDER BY id DESC", [incident])
}

/// Tries to enable again what an act disabled, newest first.
pub(super) fn restores_of(connection: &Connection, act: i64) -> Result<Vec<ActRecord>, StoreError> {
    select(connection, "WHERE parent = ?1 ORDER BY id DESC", [act])
}

fn select(connection: &Connection, rest: &str, params: impl Params) -> Result<Vec<ActRecord>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM acts {rest}"))?;
    let mut rows = statement.query(params)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(row)?);
    }
    Ok(records)
}

fn record(row: &Row<'_>) -> Result<ActRecord, StoreError> {
    let text = |name: &str| row.get::<_, Option<String>>(name).map(Option::unwrap_or_default);
    let time = |name: &str| -> Result<Option<Timestamp>, StoreError> {
        row.get::<_, Option<i64>>(name)?.map(timestamp).transpose()
    };
    let always = |name: &str| timestamp(row.get(name)?);
    let id: i64 = row.get("id")?;
    let damaged = |what: &str, error: &dyn std::fmt::Display| {
        StoreError::Damaged(format!("the {what} of act {id} is not sound: {error}"))
    };
    let origin: Origin = serde_json::from_str(&text("origin")?).map_err(|error| damaged("origin", &error))?;
    let outcome: Outcome =
        serde_json::from_str(&text("outcome")?).map_err(|error| damaged("outcome", &error))?;
    let (state, hold, watch) = (text("state")?, text("hold")?, text("watch")?);
    let states = [ActState::Pending, ActState::Running, ActState::Done];
    Ok(ActRecord {
        act: Act {
            id,
            kind: parse_kind(&text("kind")?)?,
            channel_id: row.get("channel_id")?,
            origin,
            asked_at: always("asked_at")?,
            outcome,
            finished_at: time("finished_at")?,
            restore: Restore::parse(&text("restore")?).unwrap_or(Restore::Never),
            restore_at: time("restore_at")?,
        },
        state: states
            .into_iter()
            .find(|known| known.as_str() == state)
            .ok_or_else(|| damaged("state", &state))?,
        channel_text: text("channel_text")?,
        reason: text("reason")?,
        starts_at: time("starts_at")?,
        tried_from: always("tried_from")?,
        over_at: time("over_at")?,
        attempts: u32::try_from(row.get::<_, i64>("attempts")?).unwrap_or(u32::MAX),
        next_at: always("next_at")?,
        acted_at: time("acted_at")?,
        told: row.get("told")?,
        limit: row.get("limit_name")?,
        before_status: row.get("before_status")?,
        after_status: row.get("after_status")?,
        status_time: row.get("status_time")?,
        hold: Hold::ALL.into_iter().find(|known| known.as_str() == hold),
        held_until: time("held_until")?,
        watch: Watch::ALL.into_iter().find(|known| known.as_str() == watch),
    })
}

fn parse_kind(name: &str) -> Result<Kind, StoreError> {
    let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
    known.ok_or_else(|| StoreError::Damaged(format!("`{name}` is no kind of an act")))
}

fn timestamp(milliseconds: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(milliseconds)
        .map_err(|error| StoreError::Damaged(format!("{milliseconds} is no time: {error}")))
}
