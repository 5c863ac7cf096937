//! The history in monitor.db: appended to inside the tailer's commit, read beside it.

mod readers;

use rusqlite::{Connection, Row, Transaction, params};

use super::StoreError;
use crate::history::{self, Block, Column, Columns, Damaged, Header, Outcomes, Sink, Source};
pub use readers::HistoryReader;
pub(super) use readers::Readers;

/// Places that a block has for its columns.
const PLACES: i64 = 32;

/// Blocks that a commit drops at most, so that a long pause does not make one commit long.
const DROPPED_AT_ONCE: i64 = 16;

/// A row may be so much younger than the time of its commit, in seconds, before its clock is taken for wrong.
const CLOCK_SKEW_SECONDS: i64 = 24 * 3600;

impl From<Damaged> for StoreError {
    fn from(damaged: Damaged) -> Self {
        Self::Damaged(damaged.to_string())
    }
}

/// How long rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Blocks whose rows are all older are dropped. Unix seconds.
    pub since: i64,
    /// The time. Unix seconds.
    pub now: i64,
}

/// Appends blocks, merges small ones and drops old ones, as part of a commit.
///
/// # Errors
/// The transaction must be given up then.
pub fn append(transaction: &Transaction<'_>, blocks: &[Block], keep: Keep) -> Result<(), StoreError> {
    for block in blocks {
        insert(transaction, block, block.header.newest.min(keep.now.saturating_add(CLOCK_SKEW_SECONDS)))?;
    }
    if !blocks.is_empty() {
        while merge(transaction)? {}
    }
    expire(transaction, keep.since)
}

fn insert(transaction: &Transaction<'_>, block: &Block, expires_from: i64) -> Result<(), StoreError> {
    let header = &block.header;
    transaction
        .prepare_cached(
            "INSERT INTO history_blocks (quota_per_unit, tier, rows, outcomes, min_id, max_id, oldest, newest,
             longest_ms, longest_answer_ms, expires_from) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            header.quota_per_unit,
            header.tier,
            header.rows,
            header.outcomes.0,
            header.min_id,
            header.max_id,
            header.oldest,
            header.newest,
            header.longest_ms,
            header.longest_answer_ms,
            expires_from
        ])?;
    let first = transaction.last_insert_rowid() * PLACES;
    let mut column = transaction.prepare_cached("INSERT INTO history_columns VALUES (?1, ?2)")?;
    for (place, bytes) in (first..).zip(&block.columns) {
        column.execute(params![place, bytes])?;
    }
    Ok(())
}

/// Merges once, if there is something to merge.
fn merge(transaction: &Transaction<'_>) -> Result<bool, StoreError> {
    let mut stored = Stored(transaction);
    let open = stored.select("WHERE tier < 3 ORDER BY block")?;
    let Some(together) = history::mergeable(&open) else { return Ok(false) };
    let merged = history::merge(&mut stored, &together)?;
    let mut expires_from = i64::MIN;
    for header in &together {
        let own: i64 = transaction
            .prepare_cached("SELECT expires_from FROM history_blocks WHERE block = ?1")?
            .query_row([header.block], |row| row.get(0))?;
        expires_from = expires_from.max(own);
        remove(transaction, header.block)?;
    }
    for block in &merged {
        insert(transaction, block, expires_from.min(block.header.newest))?;
    }
    Ok(true)
}

fn expire(transaction: &Transaction<'_>, since: i64) -> Result<(), StoreError> {
    let old: Vec<i64> = transaction
        .prepare_cached(
            "SELECT block FROM history_blocks WHERE expires_from < ?1 ORDER BY expires_from LIMIT ?2",
        )?
        .query_map([since, DROPPED_AT_ONCE], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    old.into_iter().try_for_each(|block| remove(transaction, block))
}

fn remove(transaction: &Transaction<'_>, block: i64) -> Result<(), StoreError> {
    transaction.prepare_cached("DELETE FROM history_blocks WHERE block = ?1")?.execute([block])?;
    transaction
        .prepare_cached("DELETE FROM history_columns WHERE place BETWEEN ?1 AND ?2")?
        .execute([block * PLACES, block * PLACES + PLACES - 1])?;
    Ok(())
}

/// The blocks as one transaction sees them.
struct Stored<'a>(&'a Connection);

impl Stored<'_> {
    fn select(&self, which: &str) -> Result<Vec<Header>, StoreError> {
        let mut statement = self.0.prepare_cached(&format!(
            "SELECT block, rows, outcomes, min_id, max_id, oldest, newest, longest_ms, longest_answer_ms,
             quota_per_unit, tier FROM history_blocks {which}"
        ))?;
        statement.query_and_then([], |row| header(row).map_err(unsound))?.collect()
    }
}

fn header(row: &Row<'_>) -> rusqlite::Result<Header> {
    Ok(Header {
        block: row.get(0)?,
        rows: row.get(1)?,
        outcomes: Outcomes(row.get(2)?),
        min_id: row.get(3)?,
        max_id: row.get(4)?,
        oldest: row.get(5)?,
        newest: row.get(6)?,
        longest_ms: row.get(7)?,
        longest_answer_ms: row.get(8)?,
        quota_per_unit: row.get(9)?,
        tier: row.get(10)?,
    })
}

/// A value of the wrong kind is damage; SQLite lets any stand anywhere.
fn unsound(error: rusqlite::Error) -> StoreError {
    match error {
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::FromSqlConversionFailure(..) => {
            StoreError::Damaged(format!("the header of a block of the history: {error}"))
        }
        error => error.into(),
    }
}

impl Source for Stored<'_> {
    type Error = StoreError;

    fn headers(&mut self) -> Result<Vec<Header>, StoreError> {
        self.select("ORDER BY block")
    }

    fn read(&mut self, block: i64, wanted: Columns, sink: Sink<'_>) -> Result<(), StoreError> {
        let mut statement = self.0.prepare_cached(
            "SELECT place, data FROM history_columns WHERE place BETWEEN ?1 AND ?2 ORDER BY place",
        )?;
        // Stepping onto a row reads all of its value from the file, so no statement runs over columns in between.
        for (first, last) in wanted.runs() {
            let start = block * PLACES;
            let mut rows = statement.query([start + i64::from(first), start + i64::from(last)])?;
            while let Some(row) = rows.next()? {
                let number = usize::try_from(row.get::<_, i64>(0)? - start).unwrap_or(usize::MAX);
                if let Some(column) = Column::ALL.get(number) {
                    let bytes = row
                        .get_ref(1)?
                        .as_blob()
                        .map_err(|_| Damaged { block, what: "a column is no blob" })?;
                    sink(*column, bytes)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
