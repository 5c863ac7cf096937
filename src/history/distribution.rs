//! How durations are distributed: counts of the values that they are rounded to.

use std::collections::BTreeMap;

/// So many values are kept in a list, in two bytes each. Most distributions never have more, and need no table, which
/// takes some 15 KB of a model or channel as they usually are: those of every step of a trend would be too much.
const FEW: usize = 2048;

/// Up to here, in milliseconds, counts stand in a table; longer ones are so rare that they may take a search.
const TABLE_MS: u64 = 10_000_000;

/// Places of the longest table.
const TABLE: usize = 12_701;

/// Milliseconds and how often they came. Values that are whole seconds are kept exactly, others to three significant
/// digits and no coarser than a second. Four digits would take ten times the memory, and be slower for it: a few
/// hundred models and channels with half a megabyte each.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    /// Number of values.
    count: u64,
    /// Their exact sum.
    sum_ms: u64,
    /// Places of values, until there is a table.
    few: Vec<u16>,
    /// Counts by [`place`]; as long as the longest value needs, or empty.
    table: Vec<u32>,
    /// Counts by milliseconds.
    long: BTreeMap<u64, u64>,
}

/// The place of a value, which several distributions share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    place: usize,
}

impl Timing {
    #[inline]
    pub(super) fn new(ms: u32) -> Self {
        Self { place: place(ms.into()) }
    }
}

impl Distribution {
    /// Counts a value.
    pub fn add(&mut self, ms: u32) {
        self.add_sum(1, u64::from(ms));
        self.add_value(Timing::new(ms));
    }

    /// Counts values of which only number and sum are known; percentiles know nothing of them.
    pub(super) fn add_sum(&mut self, count: u64, sum_ms: u64) {
        self.count += count;
        self.sum_ms = self.sum_ms.saturating_add(sum_ms);
    }

    /// Counts a value for the percentiles only.
    #[inline]
    pub(super) fn add_value(&mut self, Timing { place }: Timing) {
        if let Some(count) = self.table.get_mut(place) {
            // It takes four billion equal rows to begin anew.
            *count = count.wrapping_add(1);
        } else {
            self.add_slowly(place);
        }
    }

    #[inline(never)]
    fn add_slowly(&mut self, place: usize) {
        let short = u16::try_from(place).ok().filter(|_| place < TABLE);
        let Some(short) = short else {
            *self.long.entry(value(place)).or_insert(0) += 1;
            return;
        };
        if self.table.is_empty() && self.few.len() < FEW {
            self.few.push(short);
            return;
        }
        let few = std::mem::take(&mut self.few);
        let longest = few.iter().copied().max().unwrap_or(0).max(short);
        self.table.resize(self.table.len().max(usize::from(longest) + 1), 0);
        for place in few.into_iter().chain([short]) {
            self.table[usize::from(place)] += 1;
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.add_sum(other.count, other.sum_ms);
        self.merge_values(other);
    }

    /// Adds all values of `other` for the percentiles only.
    pub(super) fn merge_values(&mut self, other: &Self) {
        if self.table.len() < other.table.len() {
            self.table.resize(other.table.len(), 0);
        }
        for (count, more) in self.table.iter_mut().zip(&other.table) {
            *count = count.saturating_add(*more);
        }
        for (ms, more) in &other.long {
            *self.long.entry(*ms).or_insert(0) += more;
        }
        for place in &other.few {
            self.add_value(Timing { place: usize::from(*place) });
        }
    }

    /// Values with how often they came, in no order and some several times.
    fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        let counted = self.table.iter().enumerate().filter(|(_, count)| **count > 0);
        let counted = counted.map(|(at, count)| (value(at), u64::from(*count)));
        let long = self.long.iter().map(|(ms, count)| (*ms, *count));
        let few = self.few.iter().map(|place| (value(usize::from(*place)), 1));
        counted.chain(long).chain(few)
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values.
    pub fn sum_ms(&self) -> u64 {
        self.sum_ms
    }

    /// Their mean, if there are any.
    pub fn mean_ms(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum_ms as f64 / self.count as f64)
    }

    /// The values at these shares (0 to 1) of all values in ascending order, by nearest rank. None if there are no
    /// values, or if only their sum was kept.
    pub fn percentiles<const N: usize>(&self, shares: [f64; N]) -> Option<[u64; N]> {
        let mut entries: Vec<(u64, u64)> = self.entries().collect();
        entries.sort_unstable();
        let total: u64 = entries.iter().map(|(_, times)| times).sum();
        let last = entries.last()?.0;
        Some(shares.map(|share| {
            let rank = (share * total as f64).ceil().max(1.0);
            let mut below = 0;
            let reached = entries.iter().find(|(_, times)| {
                below += times;
                below as f64 >= rank
            });
            reached.map_or(last, |(ms, _)| *ms)
        }))
    }
}

/// The place of a value in a table: milliseconds to a second, then steps of 10 ms to 10 s, of 100 ms to 100 s, and of
/// a second. Whole seconds have a place of their own everywhere.
#[inline]
fn place(ms: u64) -> usize {
    // Half a step, and 2^40 divided by the step: exact for values of the table.
    const STEPS: [(u64, u64); 4] =
        [(0, 1 << 40), (5, (1 << 40) / 10 + 1), (50, (1 << 40) / 100 + 1), (500, (1 << 40) / 1000 + 1)];
    if ms > TABLE_MS {
        return 2700 + ((ms + 500) / 1000) as usize;
    }
    // Without branches: values vary too much for the processor to guess.
    let coarser = usize::from(ms >= 1000) + usize::from(ms >= 10_000) + usize::from(ms >= 100_000);
    let (half, factor) = STEPS[coarser];
    900 * coarser + (((ms + half) * factor) >> 40) as usize
}

/// The value that is kept for all that have this place.
fn value(place: usize) -> u64 {
    let place = place as u64;
    match place {
        0..1000 => place,
        1000..1900 => (place - 900) * 10,
        1900..2800 => (place - 1800) * 100,
        _ => (place - 2700) * 1000,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nearest_rank(sorted: &[u32], share: f64) -> u64 {
        let rank = (share * sorted.len() as f64).ceil().max(1.0);
        u64::from(*sorted.iter().zip(1..).find(|(_, at)| f64::from(*at) >= rank).unwrap().0)
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Distribution::default().percentiles([0.5]), None);
        assert_eq!(Distribution::default().mean_ms(), None);
        let mut sums = Distribution::default();
        sums.add_sum(3, 600);
        assert_eq!((sums.percentiles([0.5]), sums.mean_ms()), (None, Some(200.0)));
    }

    #[test]
    fn the_longest_duration_is_kept_and_memory_stays_bounded() {
        let mut distribution = Distribution::default();
        for ms in (0..4_000_000_000u32).step_by(39_877).chain([u32::MAX; 3]) {
            distribution.add(ms);
        }
        assert!(distribution.table.len() <= TABLE, "{} places", distribution.table.len());
        let [half, last] = distribution.percentiles([0.5, 1.0]).unwrap();
        assert!(half.abs_diff(2_000_000_000) < 100_000, "{half}");
        assert_eq!(last, 4_294_967_000);
    }

    #[test]
    fn every_place_stands_for_its_value() {
        for place_of in 0..20_000 {
            assert_eq!(place(value(place_of)), place_of);
        }
        assert!((0..20_000).map(value).is_sorted());
        assert_eq!(place(TABLE_MS) + 1, TABLE);
        // At the borders the nearest value may be the first of the next step.
        for ms in 0..TABLE_MS {
            let step =
                [1, 10, 100, 1000][[1000, 10_000, 100_000].iter().filter(|start| ms >= **start).count()];
            assert_eq!(value(place(ms)), (ms + step / 2) / step * step, "{ms}");
        }
        assert_eq!([999, 9_996, 99_960, 100_499].map(|ms| value(place(ms))), [999, 10_000, 100_000, 100_000]);
    }

    proptest! {
        #[test]
        fn whole_seconds_are_exact(seconds in prop::collection::vec(0u32..700_000, 1..3000), share in 0.0f64..=1.0,
                                   cut in 0usize..3000) {
            let mut sorted: Vec<u32> = seconds.iter().map(|second| second * 1000).collect();
            let (mut one, mut other) = (Distribution::default(), Distribution::default());
            for (at, ms) in sorted.iter().enumerate() {
                if at < cut { one.add(*ms) } else { other.add(*ms) }
            }
            one.merge(&other);
            sorted.sort_unstable();
            prop_assert_eq!(one.percentiles([share]), Some([nearest_rank(&sorted, share)]));
            prop_assert_eq!(one.sum_ms(), sorted.iter().map(|ms| u64::from(*ms)).sum::<u64>());
            prop_assert_eq!(one.count(), sorted.len() as u64);
        }

        #[test]
        fn others_are_near(values in prop::collection::vec(0u32..800_000, 1..3000), share in 0.0f64..=1.0) {
            let mut distribution = Distribution::default();
            let mut sorted = values;
            for ms in &sorted {
                distribution.add(*ms);
            }
            sorted.sort_unstable();
            let [found] = distribution.percentiles([share]).unwrap();
            let exact = nearest_rank(&sorted, share);
            prop_assert!(found.abs_diff(exact) as f64 <= exact as f64 / 200.0, "{} for {}", found, exact);
        }
    }
}
