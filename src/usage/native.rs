//! Native (exponential) buckets of a histogram. Pure.

use std::collections::BTreeMap;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

/// Resolution of the native buckets: 8 for each power of two, bounds 9 % apart.
pub const NATIVE_SCHEMA: i32 = 3;

/// Buckets of a power of two.
const OCTAVE: i32 = 1 << NATIVE_SCHEMA;

/// No finite number above the zero threshold has an index this far from 0; a damaged file may.
const FARTHEST: i32 = 1 << 14;

/// Native buckets side by side, so that counting needs no search: they are most of what a label set needs. Times are
/// at most a few dozen powers of two apart.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Vec<(i32, u64)>")]
pub struct Native {
    /// Index of the first of `counts`, at the beginning of a power of two.
    first: i32,
    /// The lower halves of the counts.
    counts: Vec<u32>,
    /// The upper halves of those that have one, by index.
    carried: BTreeMap<i32, u64>,
}

// How much room there is makes no difference.
impl PartialEq for Native {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Native {
    /// Counts one more value in bucket `index`. If it is the first one, there will be room for all indices of `span`: to
    /// grow is to move, and what a label set needs should lie together.
    #[inline]
    pub(super) fn add_within(&mut self, index: i32, span: impl FnOnce() -> (i32, i32)) {
        if self.counts.is_empty() {
            let (first, last) = span();
            self.make_room(first);
            self.make_room(last);
        }
        self.add(index, 1);
    }

    /// Counts `times` more values in bucket `index`.
    #[inline]
    pub fn add(&mut self, index: i32, times: u64) {
        let index = index.clamp(-FARTHEST, FARTHEST);
        if !self.holds(index) {
            self.make_room(index);
        }
        let count = &mut self.counts[distance(self.first, index)];
        let sum = u64::from(*count).saturating_add(times);
        #[expect(clippy::cast_possible_truncation, reason = "the upper half is carried")]
        let lower = sum as u32;
        *count = lower;
        if sum >> 32 > 0 {
            let upper = self.carried.entry(index).or_default();
            *upper = upper.saturating_add(sum >> 32);
        }
    }

    /// Has bucket `index` hold `count`.
    pub(super) fn set(&mut self, index: i32, count: u64) {
        let index = index.clamp(-FARTHEST, FARTHEST);
        if self.holds(index) {
            self.counts[distance(self.first, index)] = 0;
            self.carried.remove(&index);
        }
        self.add(index, count);
    }

    /// The count of bucket `index`.
    #[inline]
    pub(super) fn get(&self, index: i32) -> u64 {
        if !self.holds(index) {
            return 0;
        }
        let upper = self.carried.get(&index).copied().unwrap_or(0);
        upper << 32 | u64::from(self.counts[distance(self.first, index)])
    }

    /// Index and count of each bucket that holds another count than in `before`, which held no more.
    pub(super) fn differing_from(&self, before: &Self) -> impl Iterator<Item = (i32, u64)> {
        // With the same room and the same upper halves, which is nearly always, the lower halves tell: every poll asks for
        // each of its label sets, and most counts are what they were.
        let alike = self.first == before.first
            && self.counts.len() == before.counts.len()
            && self.carried == before.carried;
        let differs = move |at: usize, index: i32, count: u32| {
            if alike { before.counts[at] != count } else { before.get(index) != self.get(index) }
        };
        let counts = (self.first..).zip(&self.counts).enumerate();
        counts
            .filter(move |(at, (index, count))| differs(*at, *index, **count))
            .map(|(_, (index, _))| (index, self.get(index)))
    }

    #[inline]
    fn holds(&self, index: i32) -> bool {
        !self.counts.is_empty() && (self.first..self.end()).contains(&index)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "indices are clamped")]
    fn end(&self) -> i32 {
        self.first + self.counts.len() as i32
    }

    /// Widens to the whole power of two of `index`.
    #[cold]
    fn make_room(&mut self, index: i32) {
        let low = index.div_euclid(OCTAVE) * OCTAVE;
        let (mut first, mut end) = (low, low + OCTAVE);
        if !self.counts.is_empty() {
            (first, end) = (first.min(self.first), end.max(self.end()));
        }
        let mut counts = vec![0; distance(first, end)];
        if !self.counts.is_empty() {
            let start = distance(first, self.first);
            counts[start..start + self.counts.len()].copy_from_slice(&self.counts);
        }
        (self.first, self.counts) = (first, counts);
    }

    /// Index and count of each bucket that has one, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        (self.first..).zip(&self.counts).filter_map(|(index, lower)| {
            let upper = self.carried.get(&index).copied().unwrap_or(0);
            let count = upper << 32 | u64::from(*lower);
            (count > 0).then_some((index, count))
        })
    }
}

/// How far `to`, which is not below `from`, is from it.
#[inline]
fn distance(from: i32, to: i32) -> usize {
    usize::try_from(to - from).unwrap_or(0)
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

// By hand, because a catch-up writes every touched histogram with every commit, and a list of pairs need not be made for that.
impl Serialize for Native {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut pairs = serializer.serialize_seq(Some(self.iter().count()))?;
        for pair in self.iter() {
            pairs.serialize_element(&pair)?;
        }
        pairs.end()
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
pub(super) fn native_index(value: f64) -> i32 {
    // A float is its fraction, from one half up to below one, times a power of two.
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32 - 1022;
    let fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    let below = NATIVE_FRACTIONS.iter().filter(|bound| **bound < fraction).count();
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most eight")]
    let below = below as i32;
    below + (exponent - 1) * OCTAVE
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
    fn a_count_of_more_than_32_bits_is_exact() {
        let mut native = Native::from(vec![(3, u64::from(u32::MAX)), (4, 1 << 40)]);
        native.add(3, 2);
        native.add(-30, 1);
        assert_eq!(native.iter().collect::<Vec<_>>(), [(-30, 1), (3, (1 << 32) + 1), (4, 1 << 40)]);
    }

    #[test]
    fn room_for_a_span_is_made_once_and_makes_no_difference() {
        let mut native = Native::default();
        native.add_within(3, || (-27, 66));
        let room = native.counts.len();
        assert_eq!((native.first, room), (-32, 104));
        (-27..=66).for_each(|index| native.add_within(index, || unreachable!("there is room")));
        assert_eq!(native.counts.len(), room);
        let mut narrow = Native::from(native.iter().collect::<Vec<_>>());
        assert_eq!(narrow, native);
        narrow.add(0, 1);
        assert_ne!(narrow, native);
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

    proptest! {
        #[test]
        fn what_differs_is_all_that_was_added_since(
            first in prop::collection::vec((-99..99_i32, 1..9_u64), 0..40),
            since in prop::collection::vec((-99..99_i32, prop_oneof![1..9_u64, Just(1 << 32)]), 0..5),
            narrow in any::<bool>(),
        ) {
            let mut before = Native::from(first);
            if !narrow {
                before.add_within(0, || (-99, 99));
            }
            let mut now = before.clone();
            for (index, times) in &since {
                now.add(*index, *times);
            }
            let mut expected: Vec<i32> = since.iter().map(|(index, _)| *index).collect();
            expected.sort_unstable();
            expected.dedup();
            let expected: Vec<(i32, u64)> = expected.into_iter().map(|index| (index, now.get(index))).collect();
            prop_assert_eq!(now.differing_from(&before).collect::<Vec<_>>(), expected);
        }
    }

    proptest! {
        #[test]
        fn buckets_hold_what_was_added_in_any_order(added in prop::collection::vec((-99..99_i32, 1..9_u64), 0..40)) {
            let mut expected = BTreeMap::new();
            for (index, times) in &added {
                *expected.entry(*index).or_insert(0) += times;
            }
            prop_assert_eq!(Native::from(added).iter().collect::<Vec<_>>(), Vec::from_iter(expected));
        }
    }
}
