//! The counts of one label set: what families there are, and the cells they are made of. Pure.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::Equivalent;
use serde::{Deserialize, Serialize};

use super::ExtraLabel;
use super::histogram::{DURATION_BOUNDS, Exemplar, FIRST_TOKEN_BOUNDS, Histogram};
use crate::record::{ChannelId, ErrorType, Outcome};

/// The label value that stands for everything beyond a cap.
pub const OTHER: &str = "_other";

/// The labels that every traffic family has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The channel, or nothing for the series that sums what exceeds a cap.
    pub channel_id: Option<ChannelId>,
    /// The model asked for.
    pub model: String,
    /// Values of the opted-in labels, in the order of `EXTRA_LABELS`.
    pub extra: Vec<String>,
}

/// The same with borrowed texts, to look a key up without making one.
#[derive(Debug)]
pub(super) struct KeyRef<'a> {
    pub(super) channel_id: ChannelId,
    pub(super) model: &'a str,
    pub(super) extra: &'a [Cow<'a, str>],
}

// Written out for both, so that equal keys have equal hashes whatever `derive` does.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_key(self.channel_id, &self.model, &self.extra, state);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_key(Some(self.channel_id), self.model, self.extra, state);
    }
}

fn hash_key(channel_id: Option<ChannelId>, model: &str, extra: &[impl AsRef<str>], state: &mut impl Hasher) {
    channel_id.hash(state);
    model.hash(state);
    for value in extra {
        value.as_ref().hash(state);
    }
}

impl Equivalent<Arc<Key>> for KeyRef<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        key.channel_id == Some(self.channel_id)
            && key.model == self.model
            && key.extra.iter().eq(self.extra.iter().map(AsRef::as_ref))
    }
}

impl KeyRef<'_> {
    /// A key of its own.
    pub(super) fn to_key(&self) -> Key {
        Key {
            channel_id: Some(self.channel_id),
            model: self.model.to_owned(),
            extra: self.extra.iter().map(|value| value.clone().into_owned()).collect(),
        }
    }
}

impl Key {
    /// The key of the series that sums what exceeds a cap, with `extra` opted-in labels.
    pub fn overflow(extra: usize) -> Self {
        Self { channel_id: None, model: OTHER.to_owned(), extra: vec![OTHER.to_owned(); extra] }
    }

    /// Brings the values of the label dimensions `from` to the dimensions `to`.
    pub fn relabel(&mut self, from: &[ExtraLabel], to: &[ExtraLabel]) {
        let missing = if self.channel_id.is_none() { OTHER } else { "" };
        self.extra = to
            .iter()
            .map(|label| {
                let at = from.iter().position(|old| old == label);
                at.and_then(|at| self.extra.get(at)).cloned().unwrap_or_else(|| missing.to_owned())
            })
            .collect();
    }
}

/// A traffic metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Answered requests.
    Requests,
    /// Failed attempts.
    Errors,
    /// Input tokens, cached ones included.
    InputTokens,
    /// Output tokens.
    OutputTokens,
    /// Input tokens read from a cache.
    CacheReadTokens,
    /// Tokens written to a cache.
    CacheWriteTokens,
    /// Money charged, new-api's unit.
    QuotaConsumed,
    /// Money given back, new-api's unit.
    QuotaRefunded,
    /// Money charged, US dollars.
    CostUsd,
    /// Money given back, US dollars.
    CostRefundedUsd,
    /// Duration of requests.
    RequestDuration,
    /// Time to the first streamed chunk.
    TimeToFirstToken,
    /// Requests over the threshold.
    SlowRequests,
    /// Attempts followed by another channel.
    Failovers,
    /// Tests by administrators.
    ChannelTests,
}

impl Family {
    /// All of them, in the order of `/metrics`.
    pub const ALL: [Self; 15] = [
        Self::Requests,
        Self::Errors,
        Self::InputTokens,
        Self::OutputTokens,
        Self::CacheReadTokens,
        Self::CacheWriteTokens,
        Self::QuotaConsumed,
        Self::QuotaRefunded,
        Self::CostUsd,
        Self::CostRefundedUsd,
        Self::RequestDuration,
        Self::TimeToFirstToken,
        Self::SlowRequests,
        Self::Failovers,
        Self::ChannelTests,
    ];

    /// Its place in [`Family::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Classic bucket bounds, for histograms.
    pub fn bounds(self) -> &'static [f64] {
        match self {
            Self::RequestDuration => &DURATION_BOUNDS,
            Self::TimeToFirstToken => &FIRST_TOKEN_BOUNDS,
            _ => &[],
        }
    }
}

/// One sample, or one histogram, of a label set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaf {
    /// A family without further labels.
    Plain(Family),
    /// `newapi_requests_total{outcome, stream}`.
    Requests(Outcome, bool),
    /// `newapi_errors_total{status_code, error_type}`; 0 is an unknown status.
    Errors(u16, ErrorType),
    /// A histogram with its label `retried`.
    Timing(Family, bool),
    /// The sum of what a family could not hold, whose labels are all `_other`.
    Overflow(Family),
}

impl Leaf {
    /// The family it belongs to.
    pub fn family(self) -> Family {
        match self {
            Self::Plain(family) | Self::Timing(family, _) | Self::Overflow(family) => family,
            Self::Requests(..) => Family::Requests,
            Self::Errors(..) => Family::Errors,
        }
    }

    /// The leaf that sums what its family could not hold.
    #[must_use]
    pub fn overflow(self) -> Self {
        Self::Overflow(self.family())
    }
}

/// What a cell counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A counter.
    Number(f64),
    /// A histogram, shared with the state before until something is added to it.
    Histogram(Arc<Histogram>),
}

/// A value and whether it may be shown yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The count, in full.
    pub value: Value,
    /// Shown as 0 until a scrape has seen it so, because Prometheus takes the first sample of a series for
    /// its beginning: what it holds by then would be lost to `increase()`.
    pub held: bool,
    /// The version of [`super::Usage`] that showed it first; counts from 0 in every process.
    #[serde(skip)]
    pub born: u64,
}

/// All cells of one label set, ordered by leaf.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Few, so a sorted list is the fastest map.
    cells: Vec<(Leaf, Cell)>,
    /// The version of [`super::Usage`] that changed it last.
    #[serde(skip)]
    pub(super) touched: u64,
}

impl Series {
    /// The cell of `leaf`.
    pub fn get(&self, leaf: Leaf) -> Option<&Cell> {
        self.cells.binary_search_by_key(&leaf, |(l, _)| *l).ok().map(|at| &self.cells[at].1)
    }

    /// Whether `leaf` has a cell.
    pub fn has(&self, leaf: Leaf) -> bool {
        self.cells.binary_search_by_key(&leaf, |(l, _)| *l).is_ok()
    }

    /// Whether there is no cell at all.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The place of `leaf`, or where it belongs. `hint` is tried first: additions come in the order of cells.
    pub fn place(&self, leaf: Leaf, hint: usize) -> Result<usize, usize> {
        if self.cells.get(hint).is_some_and(|(found, _)| *found == leaf) {
            return Ok(hint);
        }
        self.cells.binary_search_by_key(&leaf, |(l, _)| *l)
    }

    /// The cell at a [`Series::place`], made if it is missing.
    pub fn cell_at(&mut self, leaf: Leaf, place: Result<usize, usize>, held: bool, born: u64) -> &mut Cell {
        let at = match place {
            Ok(at) => at,
            Err(at) => {
                let bounds = leaf.family().bounds();
                let value =
                    if bounds.is_empty() { Value::Number(0.0) } else { Value::Histogram(Arc::default()) };
                self.cells.insert(at, (leaf, Cell { value, held, born }));
                at
            }
        };
        &mut self.cells[at].1
    }

    /// The cell of `leaf`, made if it is missing.
    pub fn cell(&mut self, leaf: Leaf, held: bool, born: u64) -> &mut Cell {
        self.cell_at(leaf, self.place(leaf, 0), held, born)
    }

    /// All cells in the order of their leaves.
    pub fn cells(&self) -> impl Iterator<Item = (Leaf, &Cell)> {
        self.cells.iter().map(|(leaf, cell)| (*leaf, cell))
    }

    /// The same, to change.
    pub fn cells_mut(&mut self) -> impl Iterator<Item = &mut Cell> {
        self.cells.iter_mut().map(|(_, cell)| cell)
    }

    /// Adds all counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (leaf, cell) in other.cells() {
            let mine = self.cell(leaf, cell.held, 0);
            mine.held &= cell.held;
            match (&mut mine.value, &cell.value) {
                (Value::Number(mine), Value::Number(number)) => *mine += number,
                (Value::Histogram(mine), Value::Histogram(histogram)) => Arc::make_mut(mine).merge(histogram),
                _ => {}
            }
        }
    }

    /// Whether a cell has the shape that its leaf needs; false for a damaged or foreign file.
    pub fn is_sound(&self) -> bool {
        self.cells.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && self.cells.iter().all(|(leaf, cell)| match &cell.value {
                Value::Number(number) => leaf.family().bounds().is_empty() && number.is_finite(),
                Value::Histogram(histogram) => {
                    let bounds = leaf.family().bounds().len();
                    bounds > 0 && histogram.buckets[bounds + 1..].iter().all(|count| *count == 0)
                }
            })
    }
}

/// Something to add to a cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Addition {
    /// To a counter.
    Count(f64),
    /// To a histogram, in seconds.
    Observation(f64, Option<Exemplar>),
}

impl Cell {
    /// Adds; what does not fit the kind of cell is a bug and adds nothing.
    pub fn apply(&mut self, addition: Addition, leaf: Leaf) {
        match (&mut self.value, addition) {
            (Value::Number(number), Addition::Count(amount)) => *number += amount,
            (Value::Histogram(histogram), Addition::Observation(seconds, exemplar)) => {
                Arc::make_mut(histogram).observe(seconds, leaf.family().bounds(), exemplar);
            }
            _ => debug_assert!(false, "{leaf:?} cannot hold this"),
        }
    }
}
