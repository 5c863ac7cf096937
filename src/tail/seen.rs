//! Which rows were read lately, and which ids below them were not there. Pure.
//!
//! Servers give out ids at INSERT and show rows at COMMIT, so a lower id may appear after a higher one. Every
//! hole between ids that were read is therefore asked about again, at growing distances, until it is older
//! than the window for late rows; then it is taken for what most holes are, a rolled back insert or the step
//! of a cluster. Neighbouring holes are asked about together, so a thousand of them cost one short read.
//!
//! Rows are remembered by id *and* fingerprint: an id may come back with another row (SQLite reuses ids after
//! a wipe), and a row may come back after it was gone (a replica that lags, a table renamed away and back).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// At least so many rows are remembered, however old.
pub const MIN_ROWS: usize = 16_384;

/// At most so many rows are remembered, however young: 16 bytes each on disk.
const MAX_ROWS: usize = 400_000;

/// At most so many holes are waited for.
const MAX_GAPS: usize = 200_000;

/// Holes that have fewer ids than this between them are asked about in one read.
const JOIN_DISTANCE: i64 = 1_000;

/// A row is remembered for this much longer than the window, in milliseconds.
const MARGIN_MS: i64 = 60_000;

/// Rows of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its number; later ones are higher.
    pub seq: i64,
    /// Unix milliseconds when they were read.
    pub seen_at: i64,
    /// Id and fingerprint of each.
    pub rows: Vec<(i64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    last: i64,
    since: i64,
    next_probe: i64,
}

/// The memory.
#[derive(Debug, Default)]
pub struct Seen {
    late_window_ms: i64,
    /// Ids and fingerprints: an id may have had several rows.
    rows: BTreeSet<(i64, u64)>,
    highest: i64,
    chunks: VecDeque<Chunk>,
    pending: Vec<(i64, u64)>,
    /// The highest id of a row that was read and is not remembered any more: what is missing up to it may have been
    /// read, so nothing there is taken for a hole after a restart.
    forgotten: i64,
    /// Chunks before this one are of a table that was changed since.
    holes_from: i64,
    /// Chunks before this one are of rows so old that nothing else will come between them.
    settled_before: i64,
    /// Holes by their first id.
    gaps: BTreeMap<i64, Gap>,
}

impl Seen {
    /// Nothing seen yet.
    pub fn new(late_window_ms: i64) -> Self {
        Self { late_window_ms, highest: i64::MIN, ..Self::default() }
    }

    /// What a checkpoint holds. Holes below `cursor` are found again, between rows of the chunks from `holes_from`
    /// on: rows before that belong to a table that was changed since. Up to the id `forgotten` there are none.
    pub fn restore(
        late_window_ms: i64,
        chunks: Vec<Chunk>,
        cursor: i64,
        holes_from: i64,
        forgotten: i64,
    ) -> Self {
        let mut seen = Self { forgotten, holes_from, ..Self::new(late_window_ms) };
        let mut when = BTreeMap::new();
        for chunk in chunks {
            for (id, print) in &chunk.rows {
                seen.remember(*id, *print);
                if chunk.seq >= holes_from && *id <= cursor {
                    when.insert(*id, chunk.seen_at);
                }
            }
            seen.chunks.push_back(chunk);
        }
        let mut below = None;
        for (id, since) in when {
            if let Some(below) = below.replace(id) {
                seen.note_gap(below.max(forgotten), id, since);
            }
        }
        seen
    }

    /// The number that the next chunk will have.
    pub fn next_seq(&self) -> i64 {
        self.chunks.back().map_or(1, |chunk| chunk.seq + 1)
    }

    /// Whether this very row was read before.
    pub fn knows(&self, id: i64, print: u64) -> bool {
        id <= self.highest
            && (self.rows.contains(&(id, print))
                || self.pending.iter().rev().take(64).any(|row| *row == (id, print)))
    }

    /// Remembers a row that is being counted.
    pub fn insert(&mut self, id: i64, print: u64) {
        self.highest = self.highest.max(id);
        self.pending.push((id, print));
        if self.pending.len() >= MAX_ROWS {
            self.forget_pending(MAX_ROWS / 2);
        }
        if !self.gaps.is_empty() {
            self.fill(id);
        }
    }

    /// Forgets all but the last rows since the commit: rows that are so old that nothing else will come between
    /// them are remembered only for the case that the table is changed under us. The next commit forgets what there is
    /// beyond that.
    pub fn forget_old(&mut self) {
        self.settled_before = self.next_seq();
        if self.pending.len() > 2 * MIN_ROWS {
            self.forget_pending(self.pending.len() - MIN_ROWS);
        }
    }

    fn forget_pending(&mut self, rows: usize) {
        let last = self.pending.drain(..rows).map(|(id, _)| id).max();
        self.forgotten = self.forgotten.max(last.unwrap_or(0));
    }

    /// The highest id of a row that was read and is not remembered any more.
    pub fn forgotten(&self) -> i64 {
        self.forgotten
    }

    /// Notes that no id between `below` and `above` was there when `above` was read.
    pub fn note_gap(&mut self, below: i64, above: i64, now: i64) {
        if above <= below.saturating_add(1) || self.late_window_ms == 0 {
            return;
        }
        if self.gaps.len() >= MAX_GAPS {
            self.gaps.pop_first();
        }
        self.gaps.insert(below + 1, Gap { last: above - 1, since: now, next_probe: now });
    }

    /// How many holes are waited for.
    pub fn gaps(&self) -> usize {
        self.gaps.len()
    }

    /// Ranges of ids to ask about now, neighbours joined; at most `limit`, lowest first.
    pub fn due(&self, now: i64, limit: usize) -> Vec<(i64, i64)> {
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for (first, gap) in &self.gaps {
            if gap.next_probe > now {
                continue;
            }
            let full = ranges.len() == limit;
            match ranges.last_mut() {
                Some((_, last)) if first - *last <= JOIN_DISTANCE => *last = gap.last,
                _ if full => break,
                _ => ranges.push((*first, gap.last)),
            }
        }
        ranges
    }

    /// Whether `id` lies in a hole that is waited for.
    pub fn is_missing(&self, id: i64) -> bool {
        self.gaps.range(..=id).next_back().is_some_and(|(_, gap)| id <= gap.last)
    }

    /// Settles what was asked about in `range`: holes older than the window are given up, others are asked
    /// about again after a quarter of their age.
    pub fn probed(&mut self, range: (i64, i64), now: i64) {
        let window = self.late_window_ms;
        let touched: Vec<i64> = self.gaps.range(range.0..=range.1).map(|(first, _)| *first).collect();
        for first in touched {
            let Some(gap) = self.gaps.get_mut(&first) else { continue };
            // A clock that was set back must not keep a hole for ever.
            let age = now.saturating_sub(gap.since);
            if age >= window || age < -window {
                self.gaps.remove(&first);
            } else {
                let pause = (age / 4).max(0).min(window - age).max(1);
                gap.next_probe = now + pause;
            }
        }
    }

    fn fill(&mut self, id: i64) {
        let Some((&first, &gap)) = self.gaps.range(..=id).next_back() else { return };
        if id > gap.last {
            return;
        }
        self.gaps.remove(&first);
        if first < id {
            self.gaps.insert(first, Gap { last: id - 1, ..gap });
        }
        if id < gap.last {
            self.gaps.insert(id + 1, gap);
        }
    }

    /// Forgets holes above `id`: the cursor went back, and what is there is read in order.
    pub fn rewind(&mut self, id: i64) {
        self.holes_from = self.next_seq();
        self.forgotten = self.forgotten.min(id);
        self.gaps.split_off(&id.saturating_add(1));
        if let Some((_, gap)) = self.gaps.iter_mut().next_back() {
            gap.last = gap.last.min(id);
        }
    }

    fn remember(&mut self, id: i64, print: u64) {
        self.rows.insert((id, print));
        self.highest = self.highest.max(id);
    }

    /// Whether rows were remembered since the last commit.
    pub fn has_news(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What a commit at `now` must add, and the numbers of the chunks that it may drop.
    pub fn commit(&mut self, now: i64) -> (Option<Chunk>, Vec<i64>) {
        let rows = std::mem::take(&mut self.pending);
        let chunk = (!rows.is_empty()).then(|| Chunk { seq: self.next_seq(), seen_at: now, rows });
        if let Some(chunk) = &chunk {
            for (id, print) in &chunk.rows {
                self.remember(*id, *print);
            }
            self.chunks.push_back(chunk.clone());
        }
        (chunk, self.evict(now))
    }

    fn evict(&mut self, now: i64) -> Vec<i64> {
        let mut total: usize = self.chunks.iter().map(|chunk| chunk.rows.len()).sum();
        let mut dropped = Vec::new();
        while let Some(chunk) = self.chunks.front() {
            let old = chunk.seq < self.settled_before
                || now.saturating_sub(chunk.seen_at) > self.late_window_ms + MARGIN_MS;
            let rest = total - chunk.rows.len();
            if !(old && rest >= MIN_ROWS || total > MAX_ROWS && rest > 0) {
                break;
            }
            total = rest;
            if let Some(chunk) = self.chunks.pop_front() {
                for row in &chunk.rows {
                    self.rows.remove(row);
                    if chunk.seq >= self.holes_from {
                        self.forgotten = self.forgotten.max(row.0);
                    }
                }
                dropped.push(chunk.seq);
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: i64 = 300_000;

    #[test]
    fn a_hole_is_asked_about_until_it_is_older_than_the_window() {
        let mut seen = Seen::new(WINDOW);
        seen.insert(10, 1);
        seen.note_gap(10, 14, 0);
        seen.insert(14, 2);
        let (mut now, mut probes) = (0, 0);
        while seen.gaps() > 0 {
            for range in seen.due(now, 10) {
                assert_eq!(range, (11, 13));
                seen.probed(range, now);
                probes += 1;
            }
            now += 2_000;
        }
        assert!(now >= WINDOW, "given up after {now} ms");
        assert!((10..60).contains(&probes), "{probes} probes");
    }

    #[test]
    fn a_row_that_comes_late_splits_its_hole() {
        let mut seen = Seen::new(WINDOW);
        seen.note_gap(10, 20, 0);
        assert!(seen.is_missing(15));
        seen.insert(15, 1);
        assert!(!seen.is_missing(15));
        assert!(seen.is_missing(11) && seen.is_missing(19));
        assert_eq!(seen.due(0, 10), [(11, 19)], "the halves are asked about together");
    }

    #[test]
    fn many_holes_of_a_cluster_are_few_reads() {
        let mut seen = Seen::new(WINDOW);
        for step in 0..10_000 {
            seen.note_gap(step * 3, step * 3 + 3, 0);
        }
        assert_eq!(seen.due(0, 64).len(), 1);
        seen.note_gap(10_000_000, 10_000_010, 0);
        assert_eq!(seen.due(0, 64).len(), 2);
    }

    #[test]
    fn a_row_is_known_by_its_id_and_its_content() {
        let mut seen = Seen::new(WINDOW);
        seen.insert(5, 111);
        assert!(seen.knows(5, 111));
        seen.commit(0);
        assert!(seen.knows(5, 111));
        assert!(!seen.knows(5, 222), "another row under the same id");
        assert!(!seen.knows(6, 111));
    }

    #[test]
    fn memory_stays_bounded_and_keeps_the_newest() {
        let mut seen = Seen::new(WINDOW);
        for commit in 0..200_i64 {
            for row in 0..1_000 {
                seen.insert(commit * 1_000 + row, 7);
            }
            seen.commit(commit * 10_000);
        }
        assert!(seen.rows.len() <= MIN_ROWS + 40_000, "{}", seen.rows.len());
        assert!(seen.knows(199_999, 7));
        assert!(!seen.knows(0, 7));
        for row in 0..1_200_000_i64 {
            seen.insert(1_000_000 + row, 7);
        }
        seen.commit(2_000_001);
        assert!(seen.rows.len() <= MAX_ROWS + MIN_ROWS);
    }

    #[test]
    fn old_rows_of_a_catch_up_go_with_the_next_commit() {
        let mut seen = Seen::new(WINDOW);
        let mut stored = 0_i64;
        for commit in 0..20_i64 {
            for row in 0..100_000 {
                seen.insert(commit * 100_000 + row, 7);
                if row % 500 == 0 {
                    seen.forget_old();
                }
            }
            // All of it within a second.
            let (chunk, dropped) = seen.commit(commit * 50);
            stored += i64::from(chunk.is_some()) - i64::try_from(dropped.len()).expect("few");
            assert!(seen.rows.len() <= 5 * MIN_ROWS, "{}", seen.rows.len());
        }
        assert!(seen.knows(1_999_999, 7) && stored <= 2, "{stored} chunks");
        // Rows that others may still come between stay as long as they may.
        for round in 0..10_i64 {
            seen.insert(2_000_000 + round, 7);
            seen.commit(1_000 + round);
        }
        assert!((0..10).all(|round| seen.knows(2_000_000 + round, 7)));
    }

    #[test]
    fn what_was_forgotten_is_no_hole_after_a_restart() {
        let read = |seen: &mut Seen, ids: std::ops::Range<i64>| {
            for id in ids {
                seen.insert(id, 7);
                seen.forget_old();
            }
        };
        let mut seen = Seen::new(WINDOW);
        read(&mut seen, 1..100_000);
        let first = seen.commit(0).0.expect("a chunk");
        read(&mut seen, 100_000..200_000);
        let second = seen.commit(0).0.expect("a chunk");
        assert!(second.rows[0].0 > 150_000 && seen.forgotten() == second.rows[0].0 - 1);
        seen.note_gap(199_999, 200_002, 0);
        read(&mut seen, 200_002..200_005);
        let third = seen.commit(0).0.expect("a chunk");
        let again = Seen::restore(WINDOW, vec![first, second, third], 200_004, 0, seen.forgotten());
        assert_eq!(again.due(0, 10), [(200_000, 200_001)]);
    }

    #[test]
    fn a_chunk_that_became_too_long_is_no_hole_either() {
        let mut seen = Seen::new(WINDOW);
        seen.insert(1, 7);
        let first = seen.commit(0).0.expect("a chunk");
        for id in 2..500_000 {
            seen.insert(id, 7);
        }
        let second = seen.commit(0).0.expect("a chunk");
        assert_eq!(Seen::restore(WINDOW, vec![first, second], 499_999, 0, seen.forgotten()).gaps(), 0);
    }

    #[test]
    fn rows_beside_a_late_one_are_no_hole_when_they_are_forgotten() {
        let (mut seen, mut stored) = (Seen::new(WINDOW), BTreeMap::new());
        for round in 0..400_i64 {
            let (first, now) = (round * 100, round * 2_000);
            // The row in the middle of the round before comes with this one.
            for id in (first..first + 100).filter(|id| id % 100 != 50) {
                seen.insert(id, 7);
            }
            if round > 0 {
                seen.insert(first - 50, 7);
            }
            let (chunk, dropped) = seen.commit(now);
            stored.extend(chunk.map(|chunk| (chunk.seq, chunk)));
            stored.retain(|seq, _| !dropped.contains(seq));
        }
        let chunks: Vec<Chunk> = stored.into_values().collect();
        assert!(chunks[0].seq > 100, "nothing was dropped");
        let again = Seen::restore(WINDOW, chunks, 39_999, 0, seen.forgotten());
        assert_eq!(again.due(i64::MAX, 10), [(39_950, 39_950)]);
    }

    proptest! {
        /// Rows become visible in any order; each is found once: by the cursor or in a hole.
        #[test]
        fn every_row_is_found_once_in_any_order_of_commits(
            order in Just((1_i64..60).collect::<Vec<_>>()).prop_shuffle(),
            polls in prop::collection::vec(1_usize..8, 60),
            restart_at in 0_usize..40,
        ) {
            let mut seen = Seen::new(WINDOW);
            let mut visible = BTreeSet::new();
            let mut counted = Vec::new();
            let (mut cursor, mut now, mut chunks) = (0, 0, Vec::new());
            let mut order = order.into_iter();
            for (round, step) in polls.into_iter().enumerate() {
                visible.extend(order.by_ref().take(step));
                now += 2_000;
                let mut before = cursor;
                for id in visible.range(cursor + 1..) {
                    seen.note_gap(before, *id, now);
                    seen.insert(*id, id.cast_unsigned());
                    counted.push(*id);
                    before = *id;
                }
                cursor = before;
                for range in seen.due(now, 64) {
                    for id in visible.range(range.0..=range.1) {
                        if seen.is_missing(*id) {
                            seen.insert(*id, id.cast_unsigned());
                            counted.push(*id);
                        }
                    }
                    seen.probed(range, now);
                }
                let (chunk, _) = seen.commit(now);
                chunks.extend(chunk);
                if round == restart_at {
                    // The hole below the very first row is not remembered, so start with it known.
                    seen = Seen::restore(WINDOW, chunks.clone(), cursor, 0, 0);
                    seen.note_gap(0, chunks.iter().flat_map(|c| &c.rows).map(|r| r.0).min().unwrap_or(1), now);
                }
            }
            while seen.gaps() > 0 {
                now += 2_000;
                for range in seen.due(now, 64) {
                    for id in visible.range(range.0..=range.1) {
                        if seen.is_missing(*id) {
                            seen.insert(*id, id.cast_unsigned());
                            counted.push(*id);
                        }
                    }
                    seen.probed(range, now);
                }
            }
            counted.sort_unstable();
            prop_assert_eq!(counted, visible.into_iter().collect::<Vec<_>>());
        }
    }
}
