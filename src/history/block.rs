//! A block: some thousand rows, packed column by column, complete in itself.

use super::Damaged;
use super::fact::RowOutcome;

/// Rows of a full block. A column of so many one-byte values just fits into a page of SQLite's, wider ones into
/// whole pages; the next power of two would waste an eighth.
pub const MAX_ROWS: usize = 4000;

/// A block may have no more rows than this when it is read.
pub(super) const MOST_ROWS: u32 = 0xffff;

/// Blocks are merged with others of their tier; the last one is final.
pub(super) const TIER_ROWS: [u32; 3] = [16, 256, 4000];

/// Tokens and quota of one row are cut here, a million times what any row means: so the sums of a block fit into
/// 64 bits whatever is written in the log, and adding up needs no care.
const MAX_AMOUNT: u64 = (1 << AMOUNT_BITS) - 1;
pub(super) const AMOUNT_BITS: u32 = 47;

/// Tokens or quota as they are kept.
pub(super) fn amount(number: u64) -> u64 {
    number.min(MAX_AMOUNT)
}

/// A block whose texts take so many bytes is full, however few rows it has.
pub(super) const MAX_TEXT_BYTES: usize = 256 * 1024;

/// The columns of a block. What a number means is stored: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The log's primary key.
    Id,
    /// Unix seconds.
    CreatedAt,
    /// Milliseconds.
    Duration,
    /// Milliseconds and 1; 0 is none.
    FirstToken,
    /// All input tokens.
    Input,
    /// Output tokens.
    Output,
    /// Tokens read from a cache.
    CacheRead,
    /// Tokens written to a cache.
    CacheWrite,
    /// Quota charged.
    Consumed,
    /// Quota given back.
    Refunded,
    /// Numbers of tags.
    TagOf,
    /// Numbers of routes.
    RouteOf,
    /// Numbers of callers.
    CallerOf,
    /// Distinct kinds of rows: type, outcome, flags, error.
    Tags,
    /// Distinct pairs of channel and model.
    Routes,
    /// Distinct triples of user, group and token.
    Callers,
    /// Which values the block may have: see [`sketch`](super::sketch).
    Sketch,
}

impl Column {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Id,
        Self::CreatedAt,
        Self::Duration,
        Self::FirstToken,
        Self::Input,
        Self::Output,
        Self::CacheRead,
        Self::CacheWrite,
        Self::Consumed,
        Self::Refunded,
        Self::TagOf,
        Self::RouteOf,
        Self::CallerOf,
        Self::Tags,
        Self::Routes,
        Self::Callers,
        Self::Sketch,
    ];

    /// The number that stands for it.
    pub fn number(self) -> usize {
        self as usize
    }
}

/// How many columns have a number a row; the others are dictionaries, and the sketch.
pub(super) const NUMBER_COLUMNS: usize = 13;

/// A set of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Columns(u32);

impl Columns {
    /// All that makes up rows.
    pub const ROWS: Self = Self((1 << Column::ALL.len()) - 1).without(Self::of(&[Column::Sketch]));

    /// These.
    pub const fn of(columns: &[Column]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < columns.len() {
            bits |= 1 << columns[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    /// Those of either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that `other` has not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it holds `column`.
    pub const fn has(self, column: Column) -> bool {
        self.0 & (1 << column as u32) != 0
    }

    /// Whether it holds nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Runs of neighbours in it, each as its first and last number.
    pub fn runs(self) -> impl Iterator<Item = (u32, u32)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let first = rest.trailing_zeros();
            let length = rest.checked_shr(first)?.trailing_ones();
            let last = first + length - 1;
            rest &= !(((1 << length) - 1) << first);
            Some((first, last))
        })
    }
}

/// A set of outcomes, a bit for the place of each in [`RowOutcome::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcomes(pub u8);

impl Outcomes {
    /// Adds an outcome.
    pub fn insert(&mut self, outcome: RowOutcome) {
        self.0 |= 1 << outcome as u8;
    }

    /// Whether `outcome` is in it.
    pub fn has(self, outcome: RowOutcome) -> bool {
        self.0 & (1 << outcome as u8) != 0
    }
}

/// What is known of a block without reading it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Header {
    /// Its number, given by the store; higher ones were appended later.
    pub block: i64,
    /// Rows in it.
    pub rows: u32,
    /// Outcomes in it.
    pub outcomes: Outcomes,
    /// Lowest id.
    pub min_id: i64,
    /// Highest id.
    pub max_id: i64,
    /// Lowest `created_at`.
    pub oldest: i64,
    /// Highest `created_at`.
    pub newest: i64,
    /// Longest duration of any row.
    pub longest_ms: u32,
    /// Longest duration of an answered request, None if there is none.
    pub longest_answer_ms: Option<u32>,
    /// new-api's quota for one US dollar, the same for all rows.
    pub quota_per_unit: f64,
    /// How far it was merged: 0 to 2, or 3 for a block that stays as it is.
    pub tier: u8,
}

impl Header {
    /// Whether it can be that of a block, so that whoever reads the block need not fear for memory.
    pub(super) fn check(&self) -> Result<(), Damaged> {
        let what = if self.rows == 0 || self.rows > MOST_ROWS {
            "it has an impossible number of rows"
        } else if !(self.quota_per_unit.is_finite() && self.quota_per_unit > 0.0) {
            "what a dollar is, is no number above 0"
        } else {
            return Ok(());
        };
        Err(Damaged { block: self.block, what })
    }
}

/// A packed block, ready to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// What is known without reading it.
    pub header: Header,
    /// Bytes of each column, by its number.
    pub columns: [Vec<u8>; Column::ALL.len()],
}

/// Takes the bytes of a column.
pub type Sink<'a> = &'a mut dyn FnMut(Column, &[u8]) -> Result<(), Damaged>;

/// Where blocks are read from. All calls of one question must see the same state.
pub trait Source {
    /// Why it cannot be read.
    type Error: From<Damaged>;

    /// Headers of all blocks, in the order of their numbers.
    fn headers(&mut self) -> Result<Vec<Header>, Self::Error>;

    /// Hands the bytes of the `wanted` columns of a block to `sink`, in any order. A column that is missing is left
    /// out; the caller notices.
    fn read(&mut self, block: i64, wanted: Columns, sink: Sink<'_>) -> Result<(), Self::Error>;
}
