//! A histogram with classic buckets, native (exponential) buckets and exemplars. Pure.

use serde::{Deserialize, Serialize};

/// Upper bounds of `newapi_request_duration_seconds`. new-api records whole seconds, so nothing finer is true.
pub const DURATION_BOUNDS: [f64; 16] =
    [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0];

/// Upper bounds of `newapi_time_to_first_token_seconds`, which comes in milliseconds.
pub const FIRST_TOKEN_BOUNDS: [f64; 17] =
    [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0];

/// Buckets of the family with the most bounds.
const MAX_BUCKETS: usize = FIRST_TOKEN_BOUNDS.len() + 1;

/// Resolution of the native buckets: 8 for each power of two, bounds 9 % apart.
pub const NATIVE_SCHEMA: i32 = 3;

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
    /// Latest example per classic bucket. Kept in memory only: after a restart new rows bring new ones.
    #[serde(skip)]
    pub exemplars: Vec<Option<Exemplar>>,
}

/// Native buckets in ascending order, each packed into one number: they are most of what a label set needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(i32, u64)>", into = "Vec<(i32, u64)>")]
pub struct Native(Vec<u64>);

/// Bits of a packed bucket that hold its count; the index stands above them.
const COUNT_BITS: u32 = 48;

/// Added to an index, so that packed buckets are ordered like their indices. No time has one so low.
const INDEX_OFFSET: i32 = 1 << 14;

impl Native {
    /// Counts `times` more values in bucket `index`.
    pub fn add(&mut self, index: i32, times: u64) {
        let index = pack(index);
        match self.0.binary_search_by_key(&index, |bucket| bucket >> COUNT_BITS) {
            Ok(at) => self.0[at] += times,
            Err(at) => self.0.insert(at, index << COUNT_BITS | times),
        }
    }

    /// Index and count of each bucket.
    pub fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        self.0.iter().map(|bucket| (unpack(bucket >> COUNT_BITS), bucket & ((1 << COUNT_BITS) - 1)))
    }
}

#[expect(clippy::cast_sign_loss, reason = "the index was made positive")]
fn pack(index: i32) -> u64 {
    (index + INDEX_OFFSET).clamp(0, 2 * INDEX_OFFSET) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "sixteen bits are left")]
fn unpack(packed: u64) -> i32 {
    packed as i32 - INDEX_OFFSET
}

impl From<Vec<(i32, u64)>> for Native {
    fn from(buckets: Vec<(i32, u64)>) -> Self {
        let mut native = Self::default();
        for (index, count) in buckets {
            native.add(index, count);
        }
        native
    }
}

impl From<Native> for Vec<(i32, u64)> {
    fn from(native: Native) -> Self {
        native.iter().collect()
    }
}

/// A row that fell in a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The row's id.
    pub log_id: i64,
    /// Its request id, empty on old versions.
    pub request_id: Box<str>,
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

    /// Counts `value`, which is finite and not negative. `bounds` are those it was made for.
    pub fn observe(&mut self, value: f64, bounds: &[f64], exemplar: Option<Exemplar>) {
        let bucket = bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket] += 1;
        self.sum += value;
        if value <= NATIVE_ZERO_THRESHOLD {
            self.zero += 1;
        } else {
            self.native.add(native_index(value), 1);
        }
        if let Some(exemplar) = exemplar {
            if self.exemplars.is_empty() {
                self.exemplars.resize(self.buckets.len(), None);
            }
            self.exemplars[bucket] = Some(exemplar);
        }
    }
}

/// Upper bounds of the native buckets between one half and one: `2^(i/8 - 1)`, as Prometheus has them.
const NATIVE_FRACTIONS: [f64; 8] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    0.707_106_781_186_547_5,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_5,
    0.917_004_043_204_671_2,
];

/// Index of the native bucket that `value`, which is above the zero threshold, falls in.
fn native_index(value: f64) -> i32 {
    // A float is its fraction, from one half up to below one, times a power of two.
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1022;
    let fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    let below = NATIVE_FRACTIONS.iter().filter(|bound| **bound < fraction).count();
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most eight")]
    let below = below as i32;
    below + (exponent - 1) * (1 << NATIVE_SCHEMA)
}

/// Native buckets as Prometheus wants them: runs of neighbours, and each count as the difference to the one
/// before.
pub fn spans_and_deltas(buckets: &Native) -> (Vec<(i32, u32)>, Vec<i64>) {
    let mut spans: Vec<(i32, u32)> = Vec::new();
    let mut deltas = Vec::new();
    let (mut next, mut before) = (0_i32, 0_i64);
    for (index, count) in buckets.iter() {
        match spans.last_mut() {
            Some((_, length)) if index == next => *length += 1,
            _ => spans.push((index - next, 1)),
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        before = count;
        next = index + 1;
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn native_bounds_are_exact_at_powers_of_two() {
        for exponent in -10..=12 {
            let value = 2f64.powi(exponent);
            assert_eq!(native_index(value), exponent * 8, "{value}");
            assert_eq!(native_index(value * 1.000_001), exponent * 8 + 1, "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_value_lies_between_the_bounds_of_its_native_bucket(value in 1e-9_f64..1e9) {
            let index = native_index(value);
            let bound = |index: i32| (f64::from(index) / 8.0).exp2();
            prop_assert!(bound(index - 1) < value * (1.0 + 1e-15), "{value} {index}");
            prop_assert!(value * (1.0 - 1e-15) <= bound(index), "{value} {index}");
        }
    }

    #[test]
    fn spans_and_deltas_give_the_buckets_back() {
        let buckets = vec![(-3, 5), (-2, 1), (4, 9), (5, 9), (6, 2), (40, 1)];
        let (spans, deltas) = spans_and_deltas(&Native::from(buckets.clone()));
        assert_eq!(spans, [(-3, 2), (5, 3), (33, 1)]);
        let mut back = Vec::new();
        let (mut index, mut count, mut deltas) = (0, 0, deltas.into_iter());
        for (offset, length) in spans {
            index += offset;
            for _ in 0..length {
                count += deltas.next().unwrap();
                back.push((index, u64::try_from(count).unwrap()));
                index += 1;
            }
        }
        assert_eq!(back, buckets);
    }
}
