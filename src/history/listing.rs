//! Single rows: the slowest, the newest, the last errors.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use super::Source;
use super::block::{Column, Columns, Header};
use super::decode::{Decoded, place};
use super::fact::{Found, Identity, RowOutcome, Selection};
use super::measures::{Dimension, Group, Keys};
use super::scan::Scan;
use crate::record::ErrorType;

/// Where a listing of slow requests goes on: duration in milliseconds, `created_at` and id of its last row.
pub type SlowKey = (u32, i64, i64);

/// Whole rows, and what they are made of.
const WHOLE: (Columns, fn(&Decoded, usize) -> Found) = (Columns::ROWS, Decoded::found);

/// If a block has no more rows of a selection than these, they are read when they are found: to come back for them
/// would read most of the block again.
const FEW: usize = 16;

/// The best rows so far, at most `limit` of them.
struct Best<K, T> {
    limit: usize,
    rows: BinaryHeap<Reverse<Candidate<K, T>>>,
}

/// Block and row.
type Place = (i64, u16);

/// A row that may be one of the best, and what was read of it, if anything was.
struct Candidate<K, T> {
    key: K,
    place: Place,
    row: Option<T>,
}

impl<K: Ord, T> Ord for Candidate<K, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.key, self.place).cmp(&(&other.key, other.place))
    }
}

impl<K: Ord, T> PartialOrd for Candidate<K, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, T> PartialEq for Candidate<K, T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord, T> Eq for Candidate<K, T> {}

impl<K: Ord + Copy, T> Best<K, T> {
    fn new(limit: usize) -> Self {
        Self { limit, rows: BinaryHeap::new() }
    }

    /// What a row must exceed to be among the best; None if any will do.
    fn floor(&self) -> Option<K> {
        let worst = self.rows.peek().map(|Reverse(worst)| worst.key);
        worst.filter(|_| self.rows.len() >= self.limit)
    }

    fn offer(&mut self, key: K, place: Place, row: impl FnOnce() -> Option<T>) {
        if self.floor().is_none_or(|floor| key > floor) {
            self.rows.push(Reverse(Candidate { key, place, row: row() }));
            if self.rows.len() > self.limit {
                self.rows.pop();
            }
        }
    }

    /// The rows, best first. What was not read of them is read now: of each block these rows only, and of them what
    /// `columns` hold.
    fn read<S: Source>(
        self,
        scan: &mut Scan<'_>,
        source: &mut S,
        headers: &[Header],
        (columns, read): (Columns, impl Fn(&Decoded, usize) -> T),
    ) -> Result<Vec<T>, S::Error> {
        let rows: Vec<Candidate<K, T>> =
            self.rows.into_sorted_vec().into_iter().map(|Reverse(row)| row).collect();
        let mut blocks: BTreeMap<i64, Vec<u16>> = BTreeMap::new();
        for Candidate { place: (block, row), .. } in rows.iter().filter(|row| row.row.is_none()) {
            blocks.entry(*block).or_default().push(*row);
        }
        let mut found = BTreeMap::new();
        for header in headers {
            let Some(rows) = blocks.remove(&header.block) else { continue };
            scan.block.open_some(header, rows.clone())?;
            scan.load(source, columns)?;
            found.extend(
                rows.iter().enumerate().map(|(at, place)| ((header.block, *place), read(&scan.block, at))),
            );
        }
        Ok(rows.into_iter().filter_map(|row| row.row.or_else(|| found.remove(&row.place))).collect())
    }
}

/// The slowest answered requests after `after`, longest first, of equal ones the newest first.
pub fn slowest<S: Source>(
    source: &mut S,
    selection: &Selection,
    after: Option<SlowKey>,
    limit: usize,
) -> Result<Vec<Found>, S::Error> {
    let mut scan = Scan::of_outcomes(selection, RowOutcome::answered);
    let (columns, read) = WHOLE;
    let mut best: Best<SlowKey, Found> = Best::new(limit);
    let mut headers = source.headers()?;
    headers.retain(|header| scan.may_have(header));
    headers.sort_unstable_by_key(|header| Reverse((header.longest_answer_ms, header.newest, header.block)));
    for header in headers.iter().take_while(|_| limit > 0) {
        let longest = header.longest_answer_ms.unwrap_or(0);
        if let Some(floor) = best.floor() {
            if longest < floor.0 {
                break;
            }
            if (longest, header.newest, header.max_id) < floor {
                continue;
            }
            scan.at_least(floor.0);
        }
        if !scan.select(source, header)? {
            continue;
        }
        let few = scan.rows.len() <= FEW;
        let keys = Columns::of(&[Column::Duration, Column::Id, Column::CreatedAt]);
        scan.load(source, if few { columns.and(keys) } else { keys })?;
        for row in &scan.rows {
            let at = usize::from(*row);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "durations were checked when they were loaded"
            )]
            let duration = scan.block.numbers(Column::Duration)[at] as u32;
            let key = (duration, scan.block.created_at(at), scan.block.id(at));
            if after.is_none_or(|after| key < after) {
                best.offer(key, (header.block, *row), || few.then(|| read(&scan.block, at)));
            }
        }
    }
    best.read(&mut scan, source, &headers, WHOLE)
}

/// Rows by id, highest first, below `before`.
pub fn newest<S: Source>(
    source: &mut S,
    selection: &Selection,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Found>, S::Error> {
    newest_as(source, selection, before, limit, WHOLE)
}

/// The same, but no more of them than is needed to find them in the log, which is much less to read.
pub fn newest_ids<S: Source>(
    source: &mut S,
    selection: &Selection,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<Identity>, S::Error> {
    newest_as(source, selection, before, limit, (Identity::COLUMNS, Decoded::identity))
}

fn newest_as<S: Source, T>(
    source: &mut S,
    selection: &Selection,
    before: Option<i64>,
    limit: usize,
    (columns, read): (Columns, impl Fn(&Decoded, usize) -> T),
) -> Result<Vec<T>, S::Error> {
    let mut scan = Scan::new(selection);
    let mut best = Best::new(limit);
    let mut headers = source.headers()?;
    headers.retain(|header| before.is_none_or(|before| header.min_id < before) && scan.may_have(header));
    // Rows that came late stand in later blocks, so the ids of blocks overlap.
    headers.sort_unstable_by_key(|header| Reverse((header.max_id, header.block)));
    for header in headers.iter().take_while(|_| limit > 0) {
        if best.floor().is_some_and(|floor| header.max_id <= floor) {
            break;
        }
        if !scan.select(source, header)? {
            continue;
        }
        let few = scan.rows.len() <= FEW;
        let keys = Columns::of(&[Column::Id]);
        scan.load(source, if few { columns.and(keys) } else { keys })?;
        for row in &scan.rows {
            let at = usize::from(*row);
            let id = scan.block.id(at);
            if before.is_none_or(|before| id < before) {
                best.offer(id, (header.block, *row), || few.then(|| read(&scan.block, at)));
            }
        }
    }
    best.read(&mut scan, source, &headers, (columns, read))
}

/// The newest failed attempt of a channel or model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastError {
    /// The row.
    pub id: i64,
    /// Unix seconds.
    pub created_at: i64,
    /// HTTP status, 0 if there is none.
    pub status_code: u16,
    /// Kind of error.
    pub error_type: ErrorType,
}

/// The newest failed attempt of every channel, of every model, or of every user.
pub fn last_errors<S: Source>(
    source: &mut S,
    selection: &Selection,
    by: Dimension,
) -> Result<BTreeMap<Group, LastError>, S::Error> {
    let mut scan = Scan::of_outcomes(selection, |outcome| outcome == RowOutcome::Error);
    let (mut keys, mut last) = (Keys::new(by), BTreeMap::<usize, LastError>::new());
    let mut headers = source.headers()?;
    headers.retain(|header| scan.may_have(header));
    headers.sort_unstable_by_key(|header| Reverse((header.newest, header.block)));
    for header in &headers {
        scan.block.open(header)?;
        scan.load(source, Columns::of(&[by.meanings()]))?;
        let groups = keys.numbers(&scan.block);
        let known = |group| last.get(group).is_some_and(|error| error.created_at > header.newest);
        if groups.iter().all(known) || !scan.select(source, header)? {
            continue;
        }
        let wanted = [Column::Id, Column::CreatedAt, Column::TagOf, by.column()];
        scan.load(source, Columns::of(&wanted))?;
        for row in scan.rows.iter().map(|row| usize::from(*row)) {
            let tag = scan.block.tag(row);
            let error = LastError {
                id: scan.block.id(row),
                created_at: scan.block.created_at(row),
                status_code: tag.status_code,
                error_type: tag.error_type,
            };
            let newest = last.entry(groups[place(scan.block.numbers(by.column())[row])]).or_insert(error);
            if (error.created_at, error.id) > (newest.created_at, newest.id) {
                *newest = error;
            }
        }
    }
    Ok(last.into_iter().map(|(group, error)| (keys.group(group), error)).collect())
}
