//! The counts of one label set. Pure.
//!
//! Every row goes to another label set than the row before, so what counting costs is how much memory it touches:
//! what most rows add to stands side by side, without a search.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::histogram::{Exemplar, Histogram};
use super::leaf::{Family, Leaf};
use crate::record::{Class, Outcome};

/// Families without further labels, by [`Family::index`]; those with further labels leave their place free.
const PLAIN: usize = Family::ALL.len();

/// And the answered requests, by outcome and stream.
const NUMBERS: usize = PLAIN + 2 * Outcome::ALL.len();

/// Two histograms, by their label `retried`.
const TIMINGS: usize = 4;

/// Parts of a label set that a row may change without the others: each of the histograms, and everything else.
pub const PARTS: usize = 1 + TIMINGS;

/// Something to add.
#[derive(Debug, Clone, PartialEq)]
pub enum Addition {
    /// To a counter.
    Count(f64),
    /// To a histogram, in seconds.
    Observation(f64, Option<Exemplar>),
}

/// What a cell counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A counter.
    Number(f64),
    /// A histogram.
    Histogram(&'a Histogram),
}

/// A value and whether it may be shown yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell<'a> {
    /// The count, in full.
    pub value: Value<'a>,
    /// Shown as 0 until a scrape has seen it so, because Prometheus takes the first sample of a series for
    /// its beginning: what it holds by then would be lost to `increase()`.
    pub held: bool,
}

/// A cell that is shown as 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) leaf: Leaf,
    /// The version of [`super::Usage`] that showed it first; counts from 0 in every process.
    #[serde(skip)]
    born: u64,
}

/// What a cell counts that few label sets have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Rare {
    Number(f64),
    Histogram(Box<Histogram>),
}

/// All cells of one label set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Which of `numbers` are cells, a bit each; the others are 0.
    pub(super) present: u32,
    pub(super) numbers: [f64; NUMBERS],
    /// Shared by the states of a label set until touched: they are most of it, and a poll touches few.
    pub(super) timings: [Option<Arc<Histogram>>; TIMINGS],
    /// Errors and what families could not hold, ordered by leaf.
    pub(super) rare: Vec<(Leaf, Rare)>,
    /// Ordered by leaf.
    pub(super) held: Vec<Held>,
    /// The version of [`super::Usage`] that changed it last.
    #[serde(skip)]
    pub(super) touched: u64,
}

/// Where a cell stands.
enum Place {
    Number(usize),
    Timing(usize),
    Rare,
}

#[inline]
fn place(leaf: Leaf) -> Place {
    match leaf {
        Leaf::Plain(family) => Place::Number(family.index()),
        Leaf::Requests(outcome, stream) => Place::Number(PLAIN + 2 * outcome as usize + usize::from(stream)),
        Leaf::Timing(family, retried) => {
            Place::Timing(2 * usize::from(family == Family::TimeToFirstToken) + usize::from(retried))
        }
        Leaf::Errors(..) | Leaf::Overflow(_) => Place::Rare,
    }
}

fn number_leaf(at: usize) -> Leaf {
    Family::ALL.get(at).map_or_else(
        || Leaf::Requests(Outcome::ALL[(at - PLAIN) / 2], (at - PLAIN) % 2 == 1),
        |family| Leaf::Plain(*family),
    )
}

fn timing_leaf(at: usize) -> Leaf {
    let family = if at < 2 { Family::RequestDuration } else { Family::TimeToFirstToken };
    Leaf::Timing(family, at % 2 == 1)
}

impl Rare {
    fn with_leaf((leaf, rare): &(Leaf, Self)) -> (Leaf, Value<'_>) {
        (*leaf, rare.value())
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Histogram(histogram) => Value::Histogram(histogram),
        }
    }
}

impl Series {
    /// The cell of `leaf`.
    pub fn get(&self, leaf: Leaf) -> Option<Cell<'_>> {
        let value = match place(leaf) {
            Place::Number(at) => (self.present & 1 << at != 0).then(|| Value::Number(self.numbers[at])),
            Place::Timing(at) => self.timings[at].as_deref().map(Value::Histogram),
            Place::Rare => self.find_rare(leaf).ok().map(|at| self.rare[at].1.value()),
        };
        value.map(|value| self.cell(leaf, value))
    }

    /// Whether `leaf` has a cell.
    #[inline]
    pub fn has(&self, leaf: Leaf) -> bool {
        match place(leaf) {
            Place::Number(at) => self.present & 1 << at != 0,
            Place::Timing(at) => self.timings[at].is_some(),
            Place::Rare => self.find_rare(leaf).is_ok(),
        }
    }

    pub(super) fn find_rare(&self, leaf: Leaf) -> Result<usize, usize> {
        self.rare.binary_search_by_key(&leaf, |(found, _)| *found)
    }

    fn find_held(&self, leaf: Leaf) -> Result<usize, usize> {
        self.held.binary_search_by_key(&leaf, |held| held.leaf)
    }

    fn cell<'a>(&self, leaf: Leaf, value: Value<'a>) -> Cell<'a> {
        Cell { value, held: self.find_held(leaf).is_ok() }
    }

    /// All cells in the order of their leaves.
    pub fn cells(&self) -> impl Iterator<Item = (Leaf, Cell<'_>)> {
        let numbers = (0..NUMBERS)
            .filter(|at| self.present & 1 << at != 0)
            .map(|at| (number_leaf(at), Value::Number(self.numbers[at])));
        let timings = self.timings.iter().enumerate().filter_map(|(at, histogram)| {
            histogram.as_deref().map(|histogram| (timing_leaf(at), Value::Histogram(histogram)))
        });
        let errors = self.rare.partition_point(|(leaf, _)| *leaf < timing_leaf(0));
        let (errors, overflow) = self.rare.split_at(errors);
        numbers
            .chain(errors.iter().map(Rare::with_leaf))
            .chain(timings)
            .chain(overflow.iter().map(Rare::with_leaf))
            .map(|(leaf, value)| (leaf, self.cell(leaf, value)))
    }

    /// Which of the [`PARTS`] the cell of `leaf` belongs to.
    pub fn part(leaf: Leaf) -> usize {
        if let Place::Timing(at) = place(leaf) { 1 + at } else { 0 }
    }

    /// Whether a part holds what it held in `earlier`, a state of the same label set.
    pub fn part_is_as_in(&self, earlier: &Self, part: usize) -> bool {
        match part.checked_sub(1) {
            None => {
                self.present == earlier.present
                    && self.numbers == earlier.numbers
                    && self.rare == earlier.rare
            }
            Some(at) => match (&self.timings[at], &earlier.timings[at]) {
                (Some(now), Some(earlier)) => now.counts_as(earlier),
                (now, earlier) => now.is_none() == earlier.is_none(),
            },
        }
    }

    /// Adds to the cell of `leaf`, which is made if it is missing. What does not fit the leaf is a bug and adds
    /// nothing.
    pub fn add(&mut self, leaf: Leaf, addition: Addition) {
        match addition {
            Addition::Count(amount) => self.count(leaf, amount),
            Addition::Observation(seconds, exemplar) => self.observe(leaf, seconds, exemplar),
        }
    }

    /// Reads it, but for its histograms, for the sake of reading it.
    #[inline]
    pub(super) fn glance(&self) -> u64 {
        let mut seen = u64::from(self.present) ^ self.touched ^ u64::from(self.timings[0].is_some());
        for at in [0, 8, 16, NUMBERS - 1] {
            seen ^= self.numbers[at].to_bits();
        }
        seen
    }

    /// The histograms that counting a row of this class changes, with what it adds to them.
    #[inline]
    pub(super) fn timings_of(&self, class: &Class) -> impl Iterator<Item = (&Histogram, f64)> {
        let Class::Request(request) = class else { return [None, None].into_iter().flatten() };
        let retried = usize::from(request.retried);
        let of = |at: usize, seconds| Some((self.timings[at].as_deref()?, seconds));
        let first_token = request.first_token_seconds.and_then(|seconds| of(2 + retried, seconds));
        [of(retried, request.duration_seconds), first_token].into_iter().flatten()
    }

    /// Adds to a counter.
    #[inline]
    pub fn count(&mut self, leaf: Leaf, amount: f64) {
        debug_assert!(leaf.family().bounds().is_empty(), "{leaf:?} is no counter");
        if let Place::Number(at) = place(leaf) {
            self.present |= 1 << at;
            self.numbers[at] += amount;
        } else if let Rare::Number(number) = self.rare(leaf) {
            *number += amount;
        }
    }

    /// Adds to a histogram.
    #[inline]
    pub fn observe(&mut self, leaf: Leaf, seconds: f64, exemplar: Option<Exemplar>) {
        debug_assert!(!leaf.family().bounds().is_empty(), "{leaf:?} is no histogram");
        if let Some(histogram) = self.histogram(leaf) {
            histogram.observe(seconds, leaf.family().bounds(), exemplar);
        }
    }

    #[inline]
    fn histogram(&mut self, leaf: Leaf) -> Option<&mut Histogram> {
        if let Place::Timing(at) = place(leaf) {
            return Some(Arc::make_mut(self.timings[at].get_or_insert_default()));
        }
        match self.rare(leaf) {
            Rare::Histogram(histogram) => Some(histogram),
            Rare::Number(_) => None,
        }
    }

    /// The rare cell of `leaf`, made if it is missing.
    pub(super) fn rare(&mut self, leaf: Leaf) -> &mut Rare {
        let at = self.find_rare(leaf).unwrap_or_else(|at| {
            let counter = leaf.family().bounds().is_empty();
            let none = if counter { Rare::Number(0.0) } else { Rare::Histogram(Box::default()) };
            self.rare.insert(at, (leaf, none));
            at
        });
        &mut self.rare[at].1
    }

    /// Has the cell of `leaf`, which state `born` shows first, shown as 0.
    pub fn hold(&mut self, leaf: Leaf, born: u64) {
        if let Err(at) = self.find_held(leaf) {
            self.held.insert(at, Held { leaf, born });
        }
    }

    /// Whether a cell is shown as 0.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether a cell is shown as 0 and was already so in state `seen` or before.
    pub fn holds_since(&self, seen: u64) -> bool {
        self.held.iter().any(|held| held.born <= seen)
    }

    /// Lets those cells be shown. Says how many they were.
    pub fn release(&mut self, seen: u64) -> usize {
        let before = self.held.len();
        self.held.retain(|held| held.born > seen);
        before - self.held.len()
    }

    /// State `born` shows first what is held.
    pub fn reborn(&mut self, born: u64) {
        self.held.iter_mut().for_each(|held| held.born = born);
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (leaf, cell) in other.cells() {
            match self.find_held(leaf) {
                Ok(at) if !cell.held => {
                    self.held.remove(at);
                }
                Err(_) if cell.held && !self.has(leaf) => self.hold(leaf, 0),
                _ => {}
            }
            match cell.value {
                Value::Number(number) => self.count(leaf, number),
                Value::Histogram(histogram) => {
                    if let Some(mine) = self.histogram(leaf) {
                        mine.merge(histogram);
                    }
                }
            }
        }
    }

    /// Whether the cells have the shape that their leaves need; false for a damaged or foreign file.
    pub fn is_sound(&self) -> bool {
        let numbers = self.numbers.iter().enumerate().all(|(at, number)| {
            if self.present & 1 << at == 0 { *number == 0.0 } else { is_number(number_leaf(at)) }
        });
        let rare = self.rare.iter().all(|(leaf, _)| matches!(leaf, Leaf::Errors(..) | Leaf::Overflow(_)));
        numbers
            && self.present < 1 << NUMBERS
            && rare
            && self.rare.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && self.held.windows(2).all(|pair| pair[0].leaf < pair[1].leaf)
            && self.cells().filter(|(_, cell)| cell.held).count() == self.held.len()
            && self.cells().all(|(leaf, cell)| is_value(leaf, cell.value))
    }
}

/// Whether a leaf that stands among the numbers belongs there.
fn is_number(leaf: Leaf) -> bool {
    let Leaf::Plain(family) = leaf else { return true };
    family.bounds().is_empty() && !matches!(family, Family::Requests | Family::Errors)
}

/// Whether a value can be that of a leaf.
fn is_value(leaf: Leaf, value: Value<'_>) -> bool {
    let bounds = leaf.family().bounds().len();
    match value {
        Value::Number(number) => bounds == 0 && number.is_finite(),
        Value::Histogram(histogram) => {
            bounds > 0 && histogram.buckets[bounds + 1..].iter().all(|count| *count == 0)
        }
    }
}
