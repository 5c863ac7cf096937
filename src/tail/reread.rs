//! When the table was changed under us.
//!
//! The last known row is not where it was: rows were deleted, the table was truncated, or SQLite gave its id to
//! another row. The newest row that is still there and known becomes the last known one; what follows is read
//! again. Rows that were read before are recognised by id and fingerprint, and older ones by their time, so
//! that a table that comes back (a lagging replica, a restored copy) is not counted twice.

use super::seen::MIN_ROWS;
use super::work::Work;
use super::{TailError, Tailer};
use crate::newapi::{LogReader, ReadError};
use crate::store::Rereading;

/// Rows that are read again and are this much older than the newest row ever counted were counted before.
const OLDER_SECONDS: i64 = 3600;

/// With a column less or more every row has another fingerprint, so the last known row is then known by its id.
pub(super) async fn know_by_id(reader: &LogReader, mut work: Work) -> Result<Work, ReadError> {
    let columns = reader.columns_of_fingerprint();
    let before = work.position.columns.replace(columns);
    if work.position.anchor.is_some() && before.is_some_and(|before| before != columns) {
        let last_id = work.position.last_id;
        let rows = reader.with_ids(&[last_id]).await?;
        let print = rows.records().next().map(|row| row.fingerprint());
        if let Some(print) = print {
            work.position.anchor = Some(print);
            work.seen.insert(last_id, print);
        }
    }
    Ok(work)
}

impl Tailer {
    /// Finds where to go on.
    pub(super) async fn reread(&mut self, reader: &LogReader, mut work: Work) -> Result<Work, TailError> {
        let lost = work.position.last_id;
        let (mut highest, mut left) = (lost, MIN_ROWS);
        let known = loop {
            let limit = u32::try_from(left).unwrap_or(u32::MAX);
            let rows = reader.newest_up_to(highest, limit).await?;
            let known = rows
                .records()
                .map(|record| (record.id, record.fingerprint()))
                .find(|(id, print)| work.seen.knows(*id, *print));
            left = left.saturating_sub(rows.len());
            match rows.last_id() {
                Some(lowest) if known.is_none() && rows.is_cut() && left > 0 => highest = lowest - 1,
                _ => break known,
            }
        };
        let (last_id, anchor) = known.map_or((0, None), |(id, print)| (id, Some(print)));
        tracing::warn!(
            lost_id = lost,
            go_on_after_id = last_id,
            "the last known row is gone from the log: it was cleaned up, truncated or replaced; reading on from the newest known row"
        );
        let until_id = work.position.rereading.map_or(lost, |before| before.until_id.max(lost));
        // A node whose clock is ahead must not make the rows of others look old.
        let newest = work.usage.totals().newest_row_at.min(work.now_ms / 1000);
        let not_before = newest.saturating_sub(OLDER_SECONDS);
        work.position.rereading = Some(Rereading { until_id, not_before });
        work.position.last_id = last_id;
        work.position.anchor = anchor;
        work.seen.rewind(last_id);
        work.position.holes_from = work.seen.next_seq();
        if let Some(print) = anchor {
            // The lower edge of the first hole above it, also after a restart.
            work.seen.insert(last_id, print);
        }
        Ok(work)
    }
}
