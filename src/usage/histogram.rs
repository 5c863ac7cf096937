//! A histogram with classic buckets, native (exponential) buckets and exemplars. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::native::{Native, native_index};

/// Upper bounds of `newapi_request_duration_seconds`. new-api records whole seconds, so nothing finer is true.
pub const DURATION_BOUNDS: [f64; 16] =
    [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0];

/// Upper bounds of `newapi_time_to_first_token_seconds`, which comes in milliseconds.
pub const FIRST_TOKEN_BOUNDS: [f64; 17] =
    [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0];

/// Buckets of the family with the most bounds.
const MAX_BUCKETS: usize = FIRST_TOKEN_BOUNDS.len() + 1;

/// Values at or below it fall in the native zero bucket (Prometheus' own default, 2^-128).
pub const NATIVE_ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Counts, their sum, and the latest example of each classic bucket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Sum of all values.
    pub sum: f64,
    /// Count per classic bucket, not cumulative; the one after the last bound is everything above it, and what
    /// follows stays 0. In place, because a pointer more is a cache miss more for every row.
    pub buckets: [u64; MAX_BUCKETS],
    /// Count of the native zero bucket.
    pub zero: u64,
    /// Native buckets; bucket `i` holds `2^((i-1)/8) < v <= 2^(i/8)`.
    pub native: Native,
    /// Latest example per classic bucket, of the few that have one. Kept in memory only: after a restart new rows bring
    /// new ones.
    #[serde(skip)]
    exemplars: Vec<(usize, Exemplar)>,
}

/// A row that fell in a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The row's id.
    pub log_id: i64,
    /// Its request id, empty on old versions.
    pub request_id: Arc<str>,
    /// The value observed, in seconds.
    pub value: f64,
    /// Unix seconds.
    pub at: i64,
}

impl Histogram {
    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds all counts of `other`, which has the same bounds.
    pub fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.zero += other.zero;
        for (mine, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += count;
        }
        for (index, count) in other.native.iter() {
            self.native.add(index, count);
        }
    }

    /// Whether it counts what `earlier`, a state of the same histogram, did. Every value is in one of the buckets, so where
    /// these are what they were, so is the rest; most often the two are one.
    pub(super) fn counts_as(&self, earlier: &Self) -> bool {
        std::ptr::eq(self, earlier)
            || self.sum.to_bits() == earlier.sum.to_bits() && self.buckets == earlier.buckets
    }

    /// Reads it, but for its native buckets, for the sake of reading it.
    #[inline]
    pub(super) fn glance(&self) -> u64 {
        let [first, .., last] = self.buckets;
        first ^ self.buckets[8] ^ last ^ self.sum.to_bits() ^ self.zero
    }

    /// Reads the native bucket of `value`.
    #[inline]
    pub(super) fn glance_native(&self, value: f64) -> u64 {
        self.native.get(native_index(value))
    }

    /// Counts `value`, which is finite and not negative. `bounds` are those it was made for.
    pub fn observe(&mut self, value: f64, bounds: &[f64], exemplar: Option<Exemplar>) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket] += 1;
        self.sum += value;
        if value <= NATIVE_ZERO_THRESHOLD {
            self.zero += 1;
        } else {
            let span = || (native_index(bounds[0]), native_index(bounds[bounds.len() - 1]));
            self.native.add_within(native_index(value), span);
        }
        if let Some(exemplar) = exemplar {
            match self.exemplars.iter_mut().find(|(at, _)| *at == bucket) {
                Some((_, known)) => *known = exemplar,
                None => self.exemplars.push((bucket, exemplar)),
            }
        }
    }

    /// The latest example of each classic bucket; nothing if no bucket has one.
    pub fn exemplars(&self) -> Vec<Option<Exemplar>> {
        if self.exemplars.is_empty() {
            return Vec::new();
        }
        let mut list = vec![None; self.buckets.len()];
        for (bucket, exemplar) in &self.exemplars {
            list[*bucket] = Some(exemplar.clone());
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_to_the_bucket_below() {
        let mut histogram = Histogram::default();
        for value in [0.0, 1.0, 1.5, 2.0, 1200.0, 1201.0] {
            histogram.observe(value, &DURATION_BOUNDS, None);
        }
        assert_eq!(histogram.buckets[..3], [2, 2, 0]);
        assert_eq!(histogram.buckets[15..17], [1, 1]);
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.zero, 1);
        assert_eq!(histogram.native.iter().map(|(_, n)| n).sum::<u64>() + histogram.zero, 6);
    }
}
