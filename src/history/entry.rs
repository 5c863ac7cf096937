//! What a limit needs to know of a row, for every row of a window at once.

use super::Source;
use super::block::{Column, Columns};
use super::decode::Decoded;
use super::fact::{Fact, Filter, RowOutcome, Selection};
use super::scan::Scan;
use crate::record::ChannelId;

/// Columns that an entry is made of.
pub(super) const ENTRY: Columns = Columns::of(&[
    Column::Id,
    Column::CreatedAt,
    Column::Input,
    Column::Output,
    Column::Consumed,
    Column::Refunded,
    Column::TagOf,
    Column::RouteOf,
]);

/// A counted row, as far as something is summed over it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry<'a> {
    /// The log's primary key.
    pub id: i64,
    /// Unix seconds.
    pub created_at: i64,
    /// What the row counts as.
    pub outcome: RowOutcome,
    /// The channel, 0 if there was none.
    pub channel_id: ChannelId,
    /// The model that was asked for.
    pub model: &'a str,
    /// All input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Charged, in new-api's unit.
    pub consumed: u64,
    /// Given back, in new-api's unit.
    pub refunded: u64,
    /// new-api's quota for one US dollar when the row was read.
    pub quota_per_unit: f64,
}

impl<'a> Entry<'a> {
    /// The same row on its way into a block, which cuts what is beyond all reason: see
    /// [`BlockBuilder::push`](super::BlockBuilder::push).
    pub fn of(fact: &'a Fact<'_>, quota_per_unit: f64) -> Self {
        let amount = super::block::amount;
        Self {
            id: fact.id,
            created_at: fact.created_at,
            outcome: fact.outcome,
            channel_id: fact.channel_id,
            model: super::dictionary::clip(&fact.model),
            input_tokens: amount(fact.input_tokens),
            output_tokens: amount(fact.output_tokens),
            consumed: amount(fact.consumed),
            refunded: amount(fact.refunded),
            quota_per_unit: super::build::sound_rate(quota_per_unit),
        }
    }
}

impl Decoded {
    /// A row as an entry. [`ENTRY`] must be loaded.
    #[inline]
    pub(super) fn entry(&self, row: usize) -> Entry<'_> {
        let number = |column| self.numbers(column)[row];
        let route = self.route(row);
        Entry {
            id: self.id(row),
            created_at: self.created_at(row),
            outcome: self.tag(row).outcome,
            channel_id: self.channel_id(route),
            model: self.models.get(usize::from(route.model)),
            input_tokens: number(Column::Input),
            output_tokens: number(Column::Output),
            consumed: number(Column::Consumed),
            refunded: number(Column::Refunded),
            quota_per_unit: self.quota_per_unit,
        }
    }
}

/// Visits every counted row of a window that the filter lets pass, in no particular order. `from` is inclusive, `to`
/// is not; both in Unix seconds.
pub fn entries<S: Source>(
    source: &mut S,
    from: i64,
    to: i64,
    filter: &Filter,
    visit: &mut dyn FnMut(&Entry<'_>),
) -> Result<(), S::Error> {
    let selection = Selection { from, to, filter: filter.clone() };
    let mut scan = Scan::new(&selection);
    for header in source.headers()? {
        if scan.select(source, &header)? {
            scan.load(source, ENTRY)?;
            for row in &scan.rows {
                visit(&scan.block.entry(usize::from(*row)));
            }
        }
    }
    Ok(())
}
