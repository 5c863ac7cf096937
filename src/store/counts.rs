//! The counts of label sets: each in full, and a journal of what became of them since.
//!
//! A row changes a few numbers of its label set. In full that is some hundred numbers, and those of a poll lie on many pages of
//! the file, which all go to the disk twice. So what differs goes into one row of the journal for each commit. Once the journal
//! is long, the label sets that it tells of are written in full and it begins anew, all of it in the transaction of that
//! commit. What is written in full is never older than a row of the journal about it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::StoreError;
use super::checkpoint::{json, parse};
use crate::usage::{Difference, Key, Series, Usage};

/// Bytes of the journal, at most. Ten rows a second that are read every two seconds fill it in ten minutes, polls of 100 rows in
/// eighty polls; then up to 3,000 label sets are written in full, which are some two megabytes. At a start it takes
/// milliseconds to read.
const LONGEST_JOURNAL: i64 = 1 << 20;

/// Label sets in full, as they are written: whoever writes them needs not have the counts.
#[derive(Debug)]
pub(super) struct InFull {
    relabelled: bool,
    bytes: Vec<u8>,
    /// Where the labels of each end, and where its cells do.
    ends: Vec<(usize, usize)>,
}

impl InFull {
    /// What a commit of `usage` has to write, if nothing is in the journal.
    pub(super) fn of(usage: &Usage) -> Result<Self, StoreError> {
        let changes = usage.changes();
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(changes.series.len()));
        for touched in &changes.series {
            let Some(series) = usage.get(&touched.key) else { continue };
            bytes.extend_from_slice(json(&touched.key)?.as_bytes());
            let labels = bytes.len();
            bytes = postcard::to_extend(series, bytes).map_err(|error| unwritable(&error))?;
            ends.push((labels, bytes.len()));
        }
        Ok(Self { relabelled: changes.relabelled, bytes, ends })
    }

    /// Writes them.
    ///
    /// # Errors
    /// Nothing must be in the journal: what it tells of other label sets would be lost.
    pub(super) fn save(&self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        if length(transaction)? > 0 {
            return Err(StoreError::Damaged("a journal of changes in the first reading of a log".to_owned()));
        }
        if self.relabelled {
            transaction.execute("DELETE FROM series", [])?;
        }
        let mut statement = transaction.prepare_cached(WRITE)?;
        let mut start = 0;
        for (labels, end) in &self.ends {
            let text = str::from_utf8(&self.bytes[start..*labels])
                .map_err(|error| StoreError::Damaged(error.to_string()))?;
            statement.execute(params![text, &self.bytes[*labels..*end]])?;
            start = *end;
        }
        Ok(())
    }
}

/// Writes what changed since the last commit.
pub(super) fn save(transaction: &Transaction<'_>, usage: &Usage) -> Result<(), StoreError> {
    save_within(transaction, usage, LONGEST_JOURNAL)
}

fn save_within(transaction: &Transaction<'_>, usage: &Usage, longest: i64) -> Result<(), StoreError> {
    let changes = usage.changes();
    if changes.in_full {
        return consolidate(transaction, usage);
    }
    let (mut fresh, mut differences) = (Vec::new(), Vec::new());
    for touched in &changes.series {
        let key = touched.key.as_ref();
        match (&touched.before, usage.get(key)) {
            (Some(before), Some(now)) => {
                differences.extend(Difference::between(before, now).map(|difference| (key, difference)));
            }
            (None, Some(now)) => fresh.push((key, now)),
            (_, None) => {}
        }
    }
    if !differences.is_empty() {
        let data = pack(&differences)?;
        let bytes = length(transaction)?.saturating_add(size(&data));
        if bytes > longest {
            return consolidate(transaction, usage);
        }
        transaction
            .prepare_cached("INSERT INTO series_changes (bytes, data) VALUES (?1, ?2)")?
            .execute(params![bytes, data])?;
    }
    write(transaction, fresh)
}

/// Writes in full whatever changed since it was written so, and begins the journal anew.
fn consolidate(transaction: &Transaction<'_>, usage: &Usage) -> Result<(), StoreError> {
    let changes = usage.changes();
    let mut before: BTreeSet<Key> = BTreeSet::new();
    if changes.relabelled {
        // All of them changed, and what is stored bears other labels.
        transaction.execute("DELETE FROM series", [])?;
    } else {
        replay(transaction, |_, key, _| {
            before.insert(key);
            Ok(())
        })?;
    }
    transaction.execute("DELETE FROM series_changes", [])?;
    let touched = || changes.series.iter().map(|touched| touched.key.as_ref());
    for key in touched() {
        before.remove(key);
    }
    write(transaction, touched().chain(&before).filter_map(|key| Some((key, usage.get(key)?))))
}

const WRITE: &str = "INSERT INTO series (labels, cells) VALUES (?1, ?2) \
                     ON CONFLICT (labels) DO UPDATE SET cells = excluded.cells";

/// Writes label sets in full.
fn write<'a>(
    transaction: &Transaction<'_>,
    series: impl IntoIterator<Item = (&'a Key, &'a Series)>,
) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(WRITE)?;
    let mut cells = Vec::new();
    for (key, series) in series {
        cells.clear();
        cells = postcard::to_extend(series, cells).map_err(|error| unwritable(&error))?;
        statement.execute(params![json(key)?, cells])?;
    }
    Ok(())
}

/// Reads all label sets as the last commit left them. Their keys have so many opted-in labels.
pub(super) fn load(connection: &Connection, extra: usize) -> Result<BTreeMap<Key, Series>, StoreError> {
    let mut all: BTreeMap<Key, Series> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT labels, cells FROM series")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key: Key = parse("series.labels", row.get_ref(0)?.as_str().unwrap_or_default())?;
        let series: Series = postcard::from_bytes(row.get_ref(1)?.as_blob().unwrap_or_default())
            .map_err(|error| StoreError::Damaged(format!("series.cells: {error}")))?;
        all.insert(key, series);
    }
    replay(connection, |seq, key, difference| {
        let Some(series) = all.get_mut(&key) else {
            return Err(damaged(seq, &format!("{key:?} is not counted")));
        };
        if difference.apply(series) { Ok(()) } else { Err(damaged(seq, &format!("no counts of {key:?}"))) }
    })?;
    match all.iter().find(|(key, series)| !series.is_sound() || key.extra.len() != extra) {
        Some((key, _)) => Err(StoreError::Damaged(format!("the counts of {key:?} are not sound"))),
        None => Ok(all),
    }
}

/// Bytes of the journal.
fn length(connection: &Connection) -> Result<i64, StoreError> {
    let last = connection
        .prepare_cached("SELECT bytes FROM series_changes ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// Reads the journal in its order, and hands on each change with the number of its row.
fn replay(
    connection: &Connection,
    mut each: impl FnMut(i64, Key, Difference) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT seq, bytes, data FROM series_changes ORDER BY seq")?;
    let mut rows = statement.query([])?;
    let (mut seq, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let found = row.get(0)?;
        let data = row.get_ref(2)?.as_blob().map_err(|_| damaged(found, "no blob"))?;
        (seq, bytes) = (seq + 1, bytes + size(data));
        // Without a row that is missing, those after it would make counts that never were.
        if found != seq || row.get_ref(1)?.as_i64() != Ok(bytes) {
            return Err(damaged(found, "a row before it is missing, or it is cut"));
        }
        let (changes, rest): (Vec<(Key, Difference)>, _) =
            postcard::take_from_bytes(data).map_err(|error| damaged(seq, &error.to_string()))?;
        if !rest.is_empty() {
            return Err(damaged(seq, "it is too long"));
        }
        changes.into_iter().try_for_each(|(key, difference)| each(seq, key, difference))?;
    }
    Ok(())
}

fn damaged(seq: i64, what: &str) -> StoreError {
    StoreError::Damaged(format!("series_changes {seq}: {what}"))
}

fn pack(value: &(impl serde::Serialize + ?Sized)) -> Result<Vec<u8>, StoreError> {
    postcard::to_allocvec(value).map_err(|error| unwritable(&error))
}

fn unwritable(error: &postcard::Error) -> StoreError {
    StoreError::Damaged(error.to_string())
}

fn size(data: &[u8]) -> i64 {
    i64::try_from(data.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "counts_tests.rs"]
mod tests;
