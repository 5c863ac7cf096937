//! Queuing notices: superseding older ones of the group, and waiting for the breaker.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use rusqlite::params;

use super::super::{StoreError, Writing};
use super::merge::merge;
use super::{MAX_AGE_MS, target};
use crate::alert::Status;
use crate::limits::Severity;
use crate::message::{Notice, Target};

/// Something to tell, and when.
#[derive(Debug, Clone)]
pub struct NewNotice {
    /// Notices of one group are told in their order, and a later one may say an earlier one as well.
    pub group_key: String,
    /// What to tell.
    pub notice: Notice,
    /// When it happened.
    pub at: Timestamp,
    /// It is not told before this, unless all that it waits for is done.
    pub hold_until: Option<Timestamp>,
    /// Acts of the breaker whose outcome it should tell.
    pub waits_for: Vec<i64>,
}

/// A message that was not tried yet, so that a newer one can say it as well.
struct Untried {
    message: i64,
    notice: i64,
    next_at: i64,
    later: bool,
}

impl Writing<'_> {
    /// Queues a notice for each of `targets`; gives its number. Without targets nothing is queued, and the number is 0.
    ///
    /// Where an older notice about alerts of the same group was not yet tried, the new one says that one as well, and
    /// takes its place.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn enqueue(&self, new: &NewNotice, targets: &[Target]) -> Result<i64, StoreError> {
        if targets.is_empty() {
            return Ok(0);
        }
        let at = new.at.as_millisecond();
        let waits: BTreeSet<i64> = new.waits_for.iter().copied().collect();
        let id = self.note(new, &new.notice, &waits)?;
        // Targets that have not been told the same things share a notice that says them.
        let mut merged: HashMap<Vec<i64>, i64> = HashMap::new();
        for target in targets {
            let mut next_at = new.hold_until.map_or(at, |until| until.as_millisecond().max(at));
            let untried = if let Notice::Alerts(_) = new.notice {
                self.untried(*target, &new.group_key)?
            } else {
                Vec::new()
            };
            let older: Vec<i64> = untried.iter().map(|message| message.notice).collect();
            let notice = match (older.is_empty(), merged.get(&older)) {
                (true, _) => id,
                (false, Some(notice)) => *notice,
                (false, None) => {
                    let notice = self.merged(new, &older, waits.clone())?;
                    merged.insert(older, notice);
                    notice
                }
            };
            // A wish to wait of what is taken over stays one.
            next_at = untried.iter().map(|message| message.next_at).fold(next_at, i64::max);
            let place = untried.first().map(|message| message.message);
            let later = !is_urgent(&new.notice) && untried.iter().all(|message| message.later);
            let delivery = self.insert(notice, *target, &new.group_key, at, next_at)?;
            for message in untried {
                self.supersede(message.message, delivery, at)?;
            }
            let sql = "UPDATE deliveries SET message = ?2 WHERE id = ?1";
            self.transaction.prepare_cached(sql)?.execute([delivery, place.unwrap_or(delivery)])?;
            if !later {
                self.hurry(*target, &new.group_key)?;
            }
        }
        Ok(id)
    }

    /// An act is finished: messages that waited for nothing else are due. False if nobody is going to be told of it;
    /// then a message about the act alone is needed. Targets that were told of the alert before the act was finished get
    /// such a message from here, if others are still to be told of both.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn release(&self, act: i64, now: Timestamp) -> Result<bool, StoreError> {
        let at = now.as_millisecond();
        let mut statement = self
            .transaction
            .prepare_cached("SELECT notice FROM notice_waits WHERE act = ?1 ORDER BY notice")?;
        let notices: Vec<i64> = statement.query_map([act], |row| row.get(0))?.collect::<Result<_, _>>()?;
        self.transaction.execute("DELETE FROM notice_waits WHERE act = ?1", [act])?;
        let (mut will_tell, mut told) = (BTreeSet::new(), BTreeMap::new());
        for notice in notices {
            let mut statement = self.transaction.prepare_cached(
                "SELECT target, max(parts), group_key FROM deliveries
                 WHERE notice = ?1 AND state IN ('pending', 'leased', 'sent') GROUP BY target",
            )?;
            let mut rows = statement.query([notice])?;
            while let Some(row) = rows.next()? {
                let Some(target) = target(row, 0)? else { continue };
                if row.get::<_, i64>(1)? == 0 {
                    will_tell.insert(target);
                } else {
                    told.insert(target, row.get::<_, String>(2)?);
                }
            }
            self.transaction.execute(
                "UPDATE deliveries SET next_at = min(next_at, ?2), updated_at = ?2
                 WHERE notice = ?1 AND state = 'pending' AND parts = 0 AND attempts = 0
                 AND NOT EXISTS (SELECT 1 FROM notice_waits WHERE notice_waits.notice = ?1)",
                params![notice, at],
            )?;
        }
        told.retain(|target, _| !will_tell.contains(target));
        if !will_tell.is_empty() {
            for (target, group_key) in told {
                let news = NewNotice {
                    group_key,
                    notice: Notice::Act { act },
                    at: now,
                    hold_until: None,
                    waits_for: Vec::new(),
                };
                self.enqueue(&news, &[target])?;
            }
        }
        Ok(!will_tell.is_empty())
    }

    /// Keeps a notice that goes to nobody.
    pub(super) fn note_only(&self, new: &NewNotice) -> Result<i64, StoreError> {
        self.note(new, &new.notice, &BTreeSet::new())
    }

    /// Keeps what is to be told.
    fn note(&self, new: &NewNotice, notice: &Notice, waits: &BTreeSet<i64>) -> Result<i64, StoreError> {
        let facts = serde_json::to_string(notice)
            .map_err(|error| StoreError::Damaged(format!("a notice cannot be kept: {error}")))?;
        self.transaction
            .prepare_cached(
                "INSERT INTO notices (kind, group_key, facts, created_at) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![kind(notice), new.group_key, facts, new.at.as_millisecond()])?;
        let id = self.transaction.last_insert_rowid();
        let mut statement =
            self.transaction.prepare_cached("INSERT INTO notice_waits (act, notice) VALUES (?1, ?2)")?;
        for act in waits {
            statement.execute([*act, id])?;
        }
        Ok(id)
    }

    /// A notice that says the new one and older ones.
    fn merged(&self, new: &NewNotice, older: &[i64], mut waits: BTreeSet<i64>) -> Result<i64, StoreError> {
        let Notice::Alerts(mut group) = new.notice.clone() else {
            return self.note(new, &new.notice, &waits);
        };
        for notice in older.iter().rev() {
            if let Notice::Alerts(old) = self.notice(*notice)? {
                group = merge(old, group);
            }
            waits.extend(self.waits(*notice)?);
        }
        self.note(new, &Notice::Alerts(group), &waits)
    }

    /// What a notice tells.
    pub(super) fn notice(&self, id: i64) -> Result<Notice, StoreError> {
        let mut statement = self.transaction.prepare_cached("SELECT facts FROM notices WHERE id = ?1")?;
        let facts: String = statement.query_row([id], |row| row.get(0))?;
        serde_json::from_str(&facts).map_err(|error| StoreError::Damaged(format!("notices.facts: {error}")))
    }

    /// Acts that a notice still waits for.
    pub(super) fn waits(&self, notice: i64) -> Result<Vec<i64>, StoreError> {
        let mut statement =
            self.transaction.prepare_cached("SELECT act FROM notice_waits WHERE notice = ?1 ORDER BY act")?;
        Ok(statement.query_map([notice], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Messages about alerts of a group that no part was tried of.
    fn untried(&self, target: Target, group_key: &str) -> Result<Vec<Untried>, StoreError> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT message, min(notice), max(next_at), min(later) FROM deliveries
             WHERE target = ?1 AND group_key = ?2 AND state IN ('pending', 'leased')
             AND EXISTS (SELECT 1 FROM notices WHERE notices.id = deliveries.notice AND kind = 'alerts')
             GROUP BY message
             HAVING min(part) = 1 AND max(attempts) = 0 AND max(state = 'leased') = 0 ORDER BY message",
        )?;
        let rows = statement.query_map(params![target.as_str(), group_key], |row| {
            Ok(Untried {
                message: row.get(0)?,
                notice: row.get(1)?,
                next_at: row.get(2)?,
                later: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A new row, which has no place in the queue yet.
    fn insert(
        &self,
        notice: i64,
        target: Target,
        group_key: &str,
        at: i64,
        next_at: i64,
    ) -> Result<i64, StoreError> {
        self.transaction
            .prepare_cached(
                "INSERT INTO deliveries (notice, target, group_key, message, part, parts, state, shape, attempts,
                 next_at, expires_at, reason, error, created_at, updated_at)
                 VALUES (?1, ?2, ?3, 0, 1, 0, 'pending', 'rich', 0, ?5, ?6, '', '', ?4, ?4)",
            )?
            .execute(params![notice, target.as_str(), group_key, at, next_at, at.saturating_add(MAX_AGE_MS)])?;
        Ok(self.transaction.last_insert_rowid())
    }

    /// What waits in a group goes ahead of other groups: it keeps its order, so what is urgent takes along what is
    /// before it.
    fn hurry(&self, target: Target, group_key: &str) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached(
                "UPDATE deliveries SET later = 0
                 WHERE target = ?1 AND group_key = ?2 AND state IN ('pending', 'leased')",
            )?
            .execute([target.as_str(), group_key])?;
        Ok(())
    }

    fn supersede(&self, message: i64, by: i64, at: i64) -> Result<(), StoreError> {
        self.transaction
            .prepare_cached(
                "UPDATE deliveries SET state = 'superseded', superseded_by = ?2, body = NULL, updated_at = ?3
                 WHERE message = ?1 AND state = 'pending'",
            )?
            .execute([message, by, at])?;
        Ok(())
    }
}

/// People have to know of it before they know of the rest.
fn is_urgent(notice: &Notice) -> bool {
    match notice {
        Notice::Alerts(group) => group.alerts.iter().any(|told| {
            let burns = told.alert.status == Status::Firing && told.alert.severity() == Severity::Critical;
            burns || told.act.is_some()
        }),
        Notice::Act { .. } | Notice::StillBusy { .. } | Notice::Trouble(_) => true,
        Notice::Test => false,
    }
}

fn kind(notice: &Notice) -> &'static str {
    match notice {
        Notice::Alerts(_) => "alerts",
        Notice::Act { .. } => "act",
        Notice::StillBusy { .. } => "still_busy",
        Notice::Trouble(_) => "trouble",
        Notice::Test => "test",
    }
}
