//! What passes with time: leases and messages that expire, messages that are forgotten, and what targets asked for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::super::{Store, StoreError, Writing};
use super::{NewNotice, instant, target};
use crate::message::{Notice, Target, Trouble};

/// Messages that wait for one target; of more, the oldest that are not urgent are given up, and counted in a message to
/// the other targets.
const MAX_WAITING: i64 = 10_000;

/// Finished deliveries are kept so long, to be looked at.
const KEEP_FINISHED_MS: i64 = 30 * 24 * 3600 * 1000;

/// And so many.
const MAX_FINISHED: i64 = 100_000;

/// Forgotten at once at most, so that nobody waits long for the file.
const FORGOTTEN_AT_ONCE: i64 = 2_000;

/// Nothing waits longer than this for its next try; longer pauses are the target's, not the message's.
const LONGEST_WAIT_MS: i64 = 30 * 60 * 1000;

/// The same trouble of the same target is told once in this time.
const TROUBLE_EVERY_MS: i64 = 3600 * 1000;

/// Notices that nobody is to be told of stay so long: whether a trouble was told is looked up in them.
const KEEP_UNUSED_NOTICES_MS: i64 = 2 * TROUBLE_EVERY_MS;

/// Deliveries that were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// Of which target; None if this program does not know it.
    pub target: Option<Target>,
    /// See [`crate::state::DEAD_REASONS`].
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// What waits for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How many deliveries.
    pub waiting: u64,
    /// When the oldest was queued.
    pub oldest_at: Timestamp,
}

impl Store {
    /// What waits, by target; a target for which nothing waits is absent.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn queues(&self) -> Result<BTreeMap<Target, Queue>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT target, count(*), min(created_at) FROM deliveries WHERE state IN ('pending', 'leased')
             GROUP BY target",
        )?;
        let (mut queues, mut rows) = (BTreeMap::new(), statement.query([])?);
        while let Some(row) = rows.next()? {
            if let Some(target) = target(row, 0)? {
                let waiting = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
                queues.insert(target, Queue { waiting, oldest_at: instant(row.get(2)?) });
            }
        }
        Ok(queues)
    }

    /// The number of the last message that said another one as well, and how many were said so since `after`.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn superseded(&self, after: i64) -> Result<(i64, BTreeMap<Target, u64>), StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT target, count(*), max(superseded_by) FROM deliveries
             WHERE superseded_by IS NOT NULL AND superseded_by > ?1 GROUP BY target",
        )?;
        let (mut last, mut counts, mut rows) = (after, BTreeMap::new(), statement.query([after])?);
        while let Some(row) = rows.next()? {
            last = last.max(row.get(2)?);
            if let Some(target) = target(row, 0)? {
                counts.insert(target, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0));
            }
        }
        Ok((last, counts))
    }

    /// When deliveries to a target were last taken, since some time: what its limits have seen.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn sent_since(&self, target: Target, since: Timestamp) -> Result<Vec<Timestamp>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT sent_at FROM deliveries WHERE state IN ('sent', 'dead', 'superseded') AND updated_at >= ?2
             AND sent_at >= ?2 AND target = ?1 ORDER BY sent_at",
        )?;
        let rows = statement
            .query_map(params![target.as_str(), since.as_millisecond()], |row| row.get::<_, i64>(0))?;
        Ok(rows.map(|at| at.map(instant)).collect::<Result<_, _>>()?)
    }

    /// Until when a target asked not to be asked.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn paused_until(&self, target: Target) -> Result<Option<Timestamp>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT until FROM pauses WHERE target = ?1")?;
        Ok(statement.query_row([target.as_str()], |row| row.get(0)).optional()?.map(instant))
    }

    /// The chat that a Telegram group has become.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn moved_chat(&self, chat: &str) -> Result<Option<String>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT moved_to FROM moved_chats WHERE chat = ?1")?;
        Ok(statement.query_row([chat], |row| row.get(0)).optional()?)
    }

    /// Remembers that.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn save_moved_chat(&self, chat: &str, moved_to: &str) -> Result<(), StoreError> {
        let connection = self.connection();
        connection.execute("INSERT OR REPLACE INTO moved_chats VALUES (?1, ?2)", [chat, moved_to])?;
        Ok(())
    }
}

impl Writing<'_> {
    /// Gives back leases that nobody settled: those that are over, or, at a start, all. How many of each target: their
    /// messages may have arrived. What waits for a time that is too far ahead, because the clock was set back, is due.
    ///
    /// # Errors
    /// If monitor.db cannot be written; so with all that follow.
    pub fn end_leases(&self, now: Timestamp, all: bool) -> Result<BTreeMap<Target, u64>, StoreError> {
        let now = now.as_millisecond();
        let mut statement = self.transaction.prepare_cached(
            "UPDATE deliveries SET state = 'pending', lease_until = NULL, next_at = ?1, reason = 'ambiguous',
             error = 'the request was cut off; it may have arrived', updated_at = ?1
             WHERE state = 'leased' AND state IN ('pending', 'leased')
             AND (lease_until <= ?1 OR lease_until > ?1 + ?3 OR ?2) RETURNING target",
        )?;
        let (mut ended, mut rows) =
            (BTreeMap::new(), statement.query(params![now, all, super::lease::LEASE_MS])?);
        while let Some(row) = rows.next()? {
            if let Some(target) = target(row, 0)? {
                *ended.entry(target).or_insert(0) += 1;
            }
        }
        self.transaction.execute(
            "UPDATE deliveries SET next_at = ?1 WHERE state IN ('pending', 'leased') AND next_at > ?1 + ?2",
            [now, LONGEST_WAIT_MS],
        )?;
        Ok(ended)
    }

    /// Gives up what is too old, too much, or for a target that is not among `targets`.
    ///
    /// # Errors
    /// As above.
    pub fn give_up(&self, now: Timestamp, targets: &[Target]) -> Result<Vec<GivenUp>, StoreError> {
        let now = now.as_millisecond();
        let mut given_up = Vec::new();
        let mut statement = self.transaction.prepare_cached(
            "SELECT target, count(*), min(expires_at) FROM deliveries WHERE state IN ('pending', 'leased')
             AND state = 'pending' GROUP BY target",
        )?;
        let found = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        for found in found.collect::<Result<Vec<_>, _>>()? {
            let (name, waiting, expires_at) = found;
            let target = Target::parse(&name);
            let configured = target.is_some_and(|target| targets.contains(&target));
            let mut note = |reason, count: usize| {
                if count > 0 {
                    given_up.push(GivenUp { target, reason, count: count as u64 });
                }
            };
            let sql = "UPDATE deliveries SET state = 'dead', reason = ?2, updated_at = ?3 WHERE id IN
                       (SELECT id FROM deliveries WHERE target = ?1 AND state IN ('pending', 'leased')
                        AND state = 'pending' AND expires_at <= ?4 ORDER BY later DESC, message, part LIMIT ?5)";
            let end = |reason: &'static str, expired: i64, most: i64| {
                self.transaction.execute(sql, params![name, reason, now, expired, most])
            };
            if !configured {
                note("target_removed", end("target_removed", i64::MAX, -1)?);
            } else if expires_at <= now {
                note("too_old", end("too_old", now, -1)?);
            } else if waiting > MAX_WAITING {
                note("too_many", end("too_many", i64::MAX, waiting - MAX_WAITING)?);
            }
        }
        Ok(given_up)
    }

    /// Tells `others` how many messages to a target were given up since that was last told; None if there were none, or it
    /// was told in the last hour.
    ///
    /// # Errors
    /// As above.
    pub fn tell_dropped(
        &self,
        of: Target,
        others: &[Target],
        now: Timestamp,
    ) -> Result<Option<u64>, StoreError> {
        let group_key = format!("dropped {}", of.as_str());
        let last = self.last_notice(&group_key, now)?;
        if last.is_some_and(|last| now.as_millisecond() - last < TROUBLE_EVERY_MS) {
            return Ok(None);
        }
        let mut statement = self.transaction.prepare_cached(
            "SELECT count(*), min(created_at) FROM deliveries WHERE state IN ('sent', 'dead', 'superseded')
             AND updated_at > ?2 AND target = ?1 AND reason IN ('too_old', 'too_many') AND state = 'dead'",
        )?;
        let since = last.unwrap_or(now.as_millisecond() - KEEP_UNUSED_NOTICES_MS);
        let (count, oldest): (i64, Option<i64>) =
            statement.query_row(params![of.as_str(), since], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (Ok(messages @ 1..), Some(oldest)) = (u64::try_from(count), oldest) else { return Ok(None) };
        let trouble = Trouble::Dropped { target: of, messages, since: instant(oldest) };
        self.note_trouble(group_key, trouble, others, now)?;
        Ok(Some(messages))
    }

    /// Tells `others` that a target refuses messages, unless that was told in the last hour. Whether it was not.
    ///
    /// # Errors
    /// As above.
    pub fn tell_refusal(
        &self,
        of: Target,
        reason: &str,
        detail: &str,
        others: &[Target],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let group_key = format!("refusal {} {reason}", of.as_str());
        let last = self.last_notice(&group_key, now)?;
        if last.is_some_and(|last| now.as_millisecond() - last < TROUBLE_EVERY_MS) {
            return Ok(false);
        }
        let (reason, detail) = (reason.to_owned(), detail.to_owned());
        self.note_trouble(group_key, Trouble::TargetRefuses { target: of, reason, detail }, others, now)?;
        Ok(true)
    }

    /// When anything of a group last happened; times ahead of now do not count, because the clock was wrong then.
    fn last_notice(&self, group_key: &str, now: Timestamp) -> Result<Option<i64>, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT max(created_at) FROM notices WHERE group_key = ?1 AND created_at <= ?2",
        )?;
        Ok(statement.query_row(params![group_key, now.as_millisecond()], |row| row.get(0))?)
    }

    /// Without others to tell, the trouble is noted all the same, so that our own log tells it as rarely.
    fn note_trouble(
        &self,
        group_key: String,
        trouble: Trouble,
        others: &[Target],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let notice = Notice::Trouble(trouble);
        let new = NewNotice { group_key, notice, at: now, hold_until: None, waits_for: Vec::new() };
        if others.is_empty() { self.note_only(&new).map(drop) } else { self.enqueue(&new, others).map(drop) }
    }

    /// A target asked for a pause.
    ///
    /// # Errors
    /// As above.
    pub fn pause(&self, target: Target, until: Timestamp) -> Result<(), StoreError> {
        self.transaction.execute(
            "INSERT OR REPLACE INTO pauses VALUES (?1, ?2)",
            params![target.as_str(), until.as_millisecond()],
        )?;
        Ok(())
    }

    /// Forgets what was finished long ago, and of what is too much the oldest.
    ///
    /// # Errors
    /// As above.
    pub fn forget_deliveries(&self, now: Timestamp) -> Result<(), StoreError> {
        let now = now.as_millisecond();
        let finished: i64 = self.transaction.query_row(
            "SELECT count(*) FROM deliveries WHERE state IN ('sent', 'dead', 'superseded')",
            [],
            |row| row.get(0),
        )?;
        let excess = (finished - MAX_FINISHED).clamp(0, FORGOTTEN_AT_ONCE);
        for (before, most) in [(now - KEEP_FINISHED_MS, FORGOTTEN_AT_ONCE), (i64::MAX, excess)] {
            self.transaction.execute(
                "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries
                 WHERE state IN ('sent', 'dead', 'superseded') AND updated_at < ?1
                 ORDER BY updated_at LIMIT ?2)",
                [before, most],
            )?;
        }
        self.transaction.execute(
            "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE created_at < ?1
             AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.notice = notices.id) LIMIT ?2)",
            [now - KEEP_UNUSED_NOTICES_MS, FORGOTTEN_AT_ONCE],
        )?;
        self.transaction.execute(
            "DELETE FROM notice_waits WHERE NOT EXISTS (SELECT 1 FROM notices WHERE id = notice)",
            [],
        )?;
        Ok(())
    }
}
