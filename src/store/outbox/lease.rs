//! One delivery at a time: leasing, composing, settling.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::super::{Store, StoreError, Writing};
use crate::message::{Notice, Part, Target};

/// A request ends long before; what is not settled by then was lost with whoever made it.
pub(super) const LEASE_MS: i64 = 60_000;

/// What is first in its group, so that a later message of a group never overtakes an earlier one, nor a part.
const FIRST_IN_ITS_GROUP: &str = "d.target = ?1 AND d.state IN ('pending', 'leased') AND d.state = 'pending'
     AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.target = d.target AND e.group_key = d.group_key
        AND e.state IN ('pending', 'leased')
        AND (e.message < d.message OR e.message = d.message AND e.part < d.part))";

/// How a message is sent, the later the plainer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// As it was composed.
    Rich,
    /// As plain text.
    Plain,
    /// As plain text, cut.
    Short,
}

impl Shape {
    const ALL: [Self; 3] = [Self::Rich, Self::Plain, Self::Short];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Rich => "rich",
            Self::Plain => "plain",
            Self::Short => "short",
        }
    }

    /// The next plainer one.
    pub fn plainer(self) -> Option<Self> {
        match self {
            Self::Rich => Some(Self::Plain),
            Self::Plain => Some(Self::Short),
            Self::Short => None,
        }
    }
}

/// A delivery that nobody else touches for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// Its number.
    pub id: i64,
    /// Requests made for it before.
    pub attempts: u32,
    /// How it is to be sent.
    pub shape: Shape,
    /// What is to be done first.
    pub work: Work,
}

/// What a delivery needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// The message is to be composed.
    Compose {
        /// Of this.
        notice: Notice,
        /// Acts that are not finished yet.
        waits: Vec<i64>,
    },
    /// The message is to be sent.
    Send(Part),
}

/// How a request for a delivery went.
#[derive(Debug, Clone, PartialEq)]
pub enum Settled {
    /// The target took it.
    Sent,
    /// It is tried again.
    Again {
        /// When.
        at: Timestamp,
        /// In which shape.
        shape: Shape,
        /// The request counts; it does not if the target only asked for a pause, or if none was made.
        counts: bool,
        /// See [`super::Delivery`]: code, reason and words.
        why: (Option<i64>, &'static str, String),
    },
    /// It is given up.
    Dead {
        /// See [`super::Delivery`]: code, reason and words.
        why: (Option<i64>, &'static str, String),
    },
}

impl Store {
    /// Takes the next delivery of a target that is due, if there is one. It must be settled.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn lease(&self, target: Target, now: Timestamp) -> Result<Option<Leased>, StoreError> {
        self.write(|writing| writing.lease(target, now.as_millisecond()))
    }

    /// When a target's next delivery is due; None if none waits.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn next_due(&self, target: Target) -> Result<Option<Timestamp>, StoreError> {
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached(&format!("SELECT min(d.next_at) FROM deliveries d WHERE {FIRST_IN_ITS_GROUP}"))?;
        let next: Option<i64> = statement.query_row([target.as_str()], |row| row.get(0))?;
        Ok(next.map(super::instant))
    }
}

impl Writing<'_> {
    fn lease(&self, target: Target, now: i64) -> Result<Option<Leased>, StoreError> {
        // The waits are looked up in the same transaction, so that no act finishes unnoticed in between.
        loop {
            let sql = format!(
                "SELECT d.id, d.notice, d.attempts, d.shape, d.parts, d.body FROM deliveries d
                 WHERE {FIRST_IN_ITS_GROUP} AND d.next_at <= ?2 ORDER BY d.later, d.message, d.part LIMIT 1"
            );
            let mut statement = self.transaction.prepare_cached(&sql)?;
            let found = statement
                .query_row(params![target.as_str(), now], |row| {
                    let numbers = (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, u32>(2)?);
                    let shape = row.get::<_, String>(3)?;
                    Ok((numbers, shape, row.get::<_, i64>(4)?, row.get::<_, Option<String>>(5)?))
                })
                .optional()?;
            let Some(((id, notice, attempts), shape, parts, body)) = found else { return Ok(None) };
            let work = match (parts, body) {
                (0, _) => self
                    .notice(notice)
                    .and_then(|told| Ok(Work::Compose { notice: told, waits: self.waits(notice)? })),
                (_, body) => serde_json::from_str(&body.unwrap_or_default())
                    .map(Work::Send)
                    .map_err(|error| StoreError::Damaged(format!("deliveries.body: {error}"))),
            };
            match work {
                Ok(work) => {
                    self.transaction
                        .prepare_cached(
                            "UPDATE deliveries SET state = 'leased', lease_until = ?2, attempts = attempts + 1,
                             updated_at = ?3 WHERE id = ?1",
                        )?
                        .execute([id, now.saturating_add(LEASE_MS), now])?;
                    let shape = Shape::ALL.into_iter().find(|known| known.as_str() == shape);
                    return Ok(Some(Leased { id, attempts, shape: shape.unwrap_or(Shape::Rich), work }));
                }
                // One row that nobody can read must not stop the others.
                Err(StoreError::Damaged(words)) => {
                    self.settle(id, &Settled::Dead { why: (None, "rejected", words) }, super::instant(now))?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the message of a leased delivery: the delivery becomes its first part, the others follow it. False, and
    /// nothing is written, if an act was finished since the lease: then there is more to say than `waits` knew.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn compose(
        &self,
        id: i64,
        parts: &[Part],
        waits: &[i64],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT notice FROM deliveries WHERE id = ?1 AND state = 'leased' AND parts = 0",
        )?;
        let Some(notice) = statement.query_row([id], |row| row.get::<_, i64>(0)).optional()? else {
            return Err(StoreError::Damaged(format!("the lease of delivery {id} has ended")));
        };
        if self.waits(notice)? != waits {
            return Ok(false);
        }
        let bodies: Vec<String> = parts
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()
            .map_err(|error| StoreError::Damaged(format!("a message cannot be kept: {error}")))?;
        let (now, count) = (now.as_millisecond(), i64::try_from(bodies.len()).unwrap_or(i64::MAX));
        for (number, body) in (1_i64..).zip(bodies) {
            if number == 1 {
                self.transaction
                    .prepare_cached(
                        "UPDATE deliveries SET parts = ?2, body = ?3, updated_at = ?4 WHERE id = ?1",
                    )?
                    .execute(params![id, count, body, now])?;
            } else {
                self.transaction
                    .prepare_cached(
                        "INSERT INTO deliveries (notice, target, group_key, message, part, parts, state, body,
                         shape, attempts, next_at, expires_at, reason, error, created_at, updated_at, later)
                         SELECT notice, target, group_key, message, ?2, parts, 'pending', ?3, 'rich', 0, ?4,
                         expires_at, '', '', created_at, ?4, later FROM deliveries WHERE id = ?1",
                    )?
                    .execute(params![id, number, body, now])?;
            }
        }
        Ok(true)
    }

    /// Acts that the notice of a delivery still waits for.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn waits_of(&self, delivery: i64) -> Result<Vec<i64>, StoreError> {
        let mut statement = self.transaction.prepare_cached("SELECT notice FROM deliveries WHERE id = ?1")?;
        self.waits(statement.query_row([delivery], |row| row.get(0))?)
    }

    /// Says how a request for a leased delivery went.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn settle(&self, id: i64, how: &Settled, now: Timestamp) -> Result<(), StoreError> {
        let now = now.as_millisecond();
        match how {
            Settled::Sent => self
                .transaction
                .prepare_cached(
                    "UPDATE deliveries SET state = 'sent', body = NULL, lease_until = NULL, code = NULL, reason = '',
                     error = '', updated_at = ?2, sent_at = ?2 WHERE id = ?1",
                )?
                .execute([id, now])?,
            Settled::Again { at, shape, counts, why: (code, reason, error) } => self
                .transaction
                .prepare_cached(
                    "UPDATE deliveries SET state = 'pending', lease_until = NULL, next_at = ?3, shape = ?4,
                     attempts = max(attempts - ?5, 0), code = ?6, reason = ?7, error = ?8, updated_at = ?2
                     WHERE id = ?1 AND state = 'leased'",
                )?
                .execute(params![
                    id,
                    now,
                    at.as_millisecond(),
                    shape.as_str(),
                    i64::from(!counts),
                    code,
                    reason,
                    error
                ])?,
            Settled::Dead { why: (code, reason, error) } => self
                .transaction
                .prepare_cached(
                    "UPDATE deliveries SET state = 'dead', lease_until = NULL, code = ?3, reason = ?4, error = ?5,
                     updated_at = ?2 WHERE id = ?1",
                )?
                .execute(params![id, now, code, reason, error])?,
        };
        Ok(())
    }
}
