//! The sum of a rolling window: a thousand buckets however long it is, and only those that hold something.
//!
//! A window of 1000 seconds and longer has buckets of a thousandth of it, a shorter one buckets of a second. A bucket
//! counts until its newest instant has left the window. So the sum holds every row of the window, and beyond it at
//! most rows that left it less than a bucket ago; with buckets of a second it is exact.

use std::collections::VecDeque;

/// Most buckets in a window, so its thousandth part is the largest error.
const PARTS: i64 = 1000;

/// How far ahead of our clock, in seconds, a row's date is kept. A gateway whose clock is further ahead is taken to be
/// only so far ahead.
pub(super) const AHEAD: i64 = 600;

/// Buckets that are kept though they left the window, for a clock that is put back a little.
const BEHIND: i64 = 8;

/// How a rolling window is cut into buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    seconds: i64,
    bucket_ms: i64,
}

/// The buckets that matter at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// The first that is kept.
    pub(super) kept: i64,
    /// The first that counts.
    pub(super) edge: i64,
    /// The last that a row may be in.
    pub(super) last: i64,
}

impl Grid {
    /// The grid of a window of so many seconds.
    pub(super) fn new(seconds: i64) -> Self {
        Self { seconds, bucket_ms: (seconds.saturating_mul(1000) / PARTS).max(1000) }
    }

    /// The bucket that an instant is in.
    pub(super) fn bucket(self, at: i64) -> i64 {
        at.saturating_mul(1000).div_euclid(self.bucket_ms)
    }

    /// The first whole second of a bucket.
    pub(super) fn start(self, bucket: i64) -> i64 {
        let ms = bucket.saturating_mul(self.bucket_ms);
        ms.div_euclid(1000) + i64::from(ms.rem_euclid(1000) > 0)
    }

    /// When a bucket counts no more: its last whole second has left the window.
    pub(super) fn leaves(self, bucket: i64) -> i64 {
        self.start(bucket + 1).saturating_add(self.seconds - 1)
    }

    /// What matters at the instant `now`.
    pub(super) fn reach(self, now: i64) -> Reach {
        let edge = self.bucket(now.saturating_sub(self.seconds - 1));
        Reach { kept: edge - BEHIND, edge, last: self.bucket(now.saturating_add(AHEAD)) }
    }

    /// The window's length in seconds.
    pub(super) fn seconds(self) -> i64 {
        self.seconds
    }
}

/// The rows of a window by bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring {
    /// Ordered by bucket. At most the buckets of a [`Reach`].
    buckets: VecDeque<(i64, i64)>,
    /// How many of them, from the front, do not count.
    left: usize,
    /// The sum of the others.
    sum: i128,
}

impl Ring {
    /// Adds to a bucket within `reach`, for which the ring must have been turned.
    pub(super) fn add(&mut self, bucket: i64, amount: i64, reach: Reach) {
        let newest = self.buckets.back().is_none_or(|(newest, _)| *newest < bucket);
        let place = if newest {
            Err(self.buckets.len())
        } else {
            self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket)
        };
        let before = match place {
            Ok(at) => self.buckets[at].1,
            Err(at) => {
                self.buckets.insert(at, (bucket, 0));
                self.left += usize::from(bucket < reach.edge);
                0
            }
        };
        let after = before.saturating_add(amount);
        self.buckets[place.unwrap_or_else(|at| at)].1 = after;
        if bucket >= reach.edge {
            self.sum += i128::from(after) - i128::from(before);
        }
    }

    /// Moves the window to `reach`, forwards or backwards.
    pub(super) fn turn(&mut self, reach: Reach) {
        while let Some((_, amount)) = self.buckets.get(self.left).filter(|(b, _)| *b < reach.edge) {
            self.sum -= i128::from(*amount);
            self.left += 1;
        }
        while let Some((_, amount)) =
            self.left.checked_sub(1).and_then(|at| self.buckets.get(at)).filter(|(b, _)| *b >= reach.edge)
        {
            self.sum += i128::from(*amount);
            self.left -= 1;
        }
        while self.buckets.front().is_some_and(|(bucket, _)| *bucket < reach.kept) {
            self.buckets.pop_front();
            self.left -= 1;
        }
        if self.buckets.is_empty() {
            self.buckets.shrink_to(0);
        }
    }

    /// What is in the window.
    pub(super) fn sum(&self) -> i128 {
        self.sum
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The bucket with which the sum will have fallen below `bound`, if nothing is added; None if it is below.
    pub(super) fn falls_below(&self, bound: impl Fn(i128) -> bool) -> Option<i64> {
        let mut sum = self.sum;
        let mut last = None;
        for (bucket, amount) in self.buckets.iter().skip(self.left) {
            if bound(sum) {
                return last;
            }
            sum -= i128::from(*amount);
            last = Some(*bucket);
        }
        last
    }

    /// How many buckets are kept.
    #[cfg(test)]
    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_a_thousandth_of_the_window_and_at_least_a_second() {
        for (seconds, bucket_ms) in [(60, 1000), (1000, 1000), (3600, 3600), (30 * 86_400, 2_592_000)] {
            let grid = Grid::new(seconds);
            assert_eq!(grid.bucket_ms, bucket_ms);
            for now in [1_790_000_000, 1_790_000_001, 1_790_000_007, -5] {
                let reach = grid.reach(now);
                assert!(reach.last - reach.kept <= 1000 + AHEAD + BEHIND + 1, "{seconds}");
                // The whole window counts, and less than a thousandth beyond it.
                let oldest = grid.start(reach.edge);
                assert!(oldest <= now - seconds + 1, "{seconds} {now}");
                assert!((now - seconds + 1 - oldest) * 1000 < bucket_ms.max(1001), "{seconds} {now}");
                // It counts up to the second before it leaves.
                let leaves = grid.leaves(reach.edge);
                assert!(leaves > now && grid.reach(leaves).edge == reach.edge + 1);
                assert_eq!(grid.reach(leaves - 1).edge, reach.edge);
            }
        }
    }

    #[test]
    fn buckets_leave_and_come_back_with_the_clock() {
        let grid = Grid::new(60);
        let mut ring = Ring::default();
        let at = |now| grid.reach(now);
        for (second, amount) in [(100, 5), (130, 7), (110, 11), (130, -2)] {
            ring.add(second, amount, at(130));
        }
        assert_eq!((ring.sum(), ring.buckets()), (21, 3));
        for (now, sum) in [(159, 21), (160, 16), (167, 16), (160, 16), (159, 21), (170, 5), (190, 0)] {
            ring.turn(at(now));
            assert_eq!(ring.sum(), sum, "{now}");
        }
        assert_eq!(ring.buckets(), 1);
        ring.turn(at(199));
        assert!(ring.is_empty());
    }

    #[test]
    fn sums_at_the_end_of_numbers_come_back_to_nothing() {
        let grid = Grid::new(60);
        let mut ring = Ring::default();
        let reach = grid.reach(100);
        for second in [100, 101] {
            ring.add(second, i64::MAX, reach);
            ring.add(second, i64::MAX, reach);
            ring.add(second, i64::MIN, reach);
        }
        ring.turn(grid.reach(1000));
        assert_eq!((ring.sum(), ring.buckets()), (0, 0));
    }
}
