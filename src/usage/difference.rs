//! What became of a label set since an earlier state of it. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Leaf;
use super::histogram::Histogram;
use super::series::{Held, Rare, Series};

/// Where a label set differs from what it was: what stands there now, not how much was added. A sum of what was added could
/// be another float than the one that was shown, and Prometheus takes a counter that is the least bit lower for a new one.
///
/// Cells are never taken away, so neither does this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// All that are there now: it takes no more room than to say whether it differs.
    present: u32,
    /// Those that differ, by their place.
    numbers: Vec<(u8, f64)>,
    /// Those that differ, by their place.
    timings: Vec<(u8, HistogramDifference)>,
    /// Those that differ.
    rare: Vec<(Leaf, RareDifference)>,
    /// All of them, if they differ.
    held: Option<Vec<Held>>,
}

/// The same of a histogram. Its sum differs nearly always, and its zero bucket takes a byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct HistogramDifference {
    sum: f64,
    zero: u64,
    buckets: Vec<(u8, u64)>,
    native: Vec<(i32, u64)>,
}

/// The same of a cell that few label sets have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum RareDifference {
    Number(f64),
    Histogram(HistogramDifference),
}

impl Difference {
    /// What `now` has otherwise than `before`; None if they are stored alike.
    pub fn between(before: &Series, now: &Series) -> Option<Self> {
        let numbers = (0..).zip(now.numbers.iter().zip(&before.numbers));
        let timings = (0..).zip(now.timings.iter().zip(&before.timings));
        let rare = now.rare.iter().filter_map(|(leaf, rare)| {
            let known = before.find_rare(*leaf).ok().map(|at| &before.rare[at].1);
            Some((*leaf, RareDifference::between(known, rare)?))
        });
        let leaves = |series: &Series| series.held.iter().map(|held| held.leaf).collect::<Vec<_>>();
        let held_differ = !(now.held.is_empty() && before.held.is_empty()) && leaves(now) != leaves(before);
        let difference = Self {
            present: now.present,
            numbers: numbers
                .filter(|(_, (now, before))| now.to_bits() != before.to_bits())
                .map(|(at, (now, _))| (at, *now))
                .collect(),
            timings: timings
                .filter_map(|(at, (now, before))| {
                    Some((at, HistogramDifference::between(before.as_deref(), now.as_deref()?)?))
                })
                .collect(),
            rare: rare.collect(),
            held: held_differ.then(|| now.held.clone()),
        };
        let differs = now.present != before.present
            || !difference.numbers.is_empty()
            || !difference.timings.is_empty()
            || !difference.rare.is_empty()
            || held_differ;
        differs.then_some(difference)
    }

    /// Makes of the state that it was taken from the one that followed. False if it is not of any label set, as that of
    /// a damaged file; then the state is neither of the two.
    #[must_use]
    pub fn apply(self, series: &mut Series) -> bool {
        series.present = self.present;
        for (at, now) in self.numbers {
            let Some(number) = series.numbers.get_mut(usize::from(at)) else { return false };
            *number = now;
        }
        for (at, difference) in self.timings {
            let Some(timing) = series.timings.get_mut(usize::from(at)) else { return false };
            if !difference.apply(Arc::make_mut(timing.get_or_insert_default())) {
                return false;
            }
        }
        for (leaf, difference) in self.rare {
            let fits = match (series.rare(leaf), difference) {
                (Rare::Number(number), RareDifference::Number(now)) => {
                    *number = now;
                    true
                }
                (Rare::Histogram(histogram), RareDifference::Histogram(difference)) => {
                    difference.apply(histogram)
                }
                _ => false,
            };
            if !fits {
                return false;
            }
        }
        if let Some(held) = self.held {
            series.held = held;
        }
        true
    }
}

impl RareDifference {
    /// None if they are alike. A cell that is new differs, whatever it counts.
    fn between(before: Option<&Rare>, now: &Rare) -> Option<Self> {
        match (before, now) {
            (Some(Rare::Number(before)), Rare::Number(now)) if before.to_bits() == now.to_bits() => None,
            (_, Rare::Number(now)) => Some(Self::Number(*now)),
            (Some(Rare::Histogram(before)), Rare::Histogram(now)) => {
                HistogramDifference::between(Some(before), now).map(Self::Histogram)
            }
            (_, Rare::Histogram(now)) => HistogramDifference::between(None, now).map(Self::Histogram),
        }
    }
}

impl HistogramDifference {
    /// None if they are alike. One that is new differs, whatever it counts.
    fn between(before: Option<&Histogram>, now: &Histogram) -> Option<Self> {
        if before.is_some_and(|before| now.counts_as(before)) {
            return None;
        }
        let none = Histogram::default();
        let known = before.unwrap_or(&none);
        let buckets = (0..).zip(now.buckets.iter().zip(&known.buckets));
        Some(Self {
            sum: now.sum,
            zero: now.zero,
            buckets: buckets
                .filter(|(_, (now, before))| now != before)
                .map(|(at, (now, _))| (at, *now))
                .collect(),
            native: now.native.differing_from(&known.native).collect(),
        })
    }

    fn apply(self, histogram: &mut Histogram) -> bool {
        histogram.sum = self.sum;
        histogram.zero = self.zero;
        for (at, now) in self.buckets {
            let Some(count) = histogram.buckets.get_mut(usize::from(at)) else { return false };
            *count = now;
        }
        for (index, now) in self.native {
            histogram.native.set(index, now);
        }
        true
    }
}

#[cfg(test)]
#[path = "difference_tests.rs"]
mod tests;
