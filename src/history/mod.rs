//! What every counted row told, kept compact for the whole `HISTORY`, so that questions about any window and any
//! filter are answered exactly and new-api's log is never scanned for them. Pure: no SQL, no clock.
//!
//! A row is a [`Fact`]. A [`BlockBuilder`] packs facts into [`Block`]s of up to [`MAX_ROWS`] rows, stored column by
//! column; [`crate::store`] appends, merges and expires them in the transaction that also writes counts and
//! position. A question reads the headers of the blocks, leaves out those that cannot matter, and of the others
//! reads the columns it needs:
//!
//! | question | function |
//! |---|---|
//! | sums of a window, also by model, channel and user | [`overview`] |
//! | the same over time | [`trend`] |
//! | the slowest answered requests | [`slowest`] |
//! | rows by id, newest first | [`newest`], [`newest_ids`] |
//! | the newest failed attempt of each channel or model | [`last_errors`] |
//! | every row, as far as limits need it | [`entries`] |
//! | who the sum of a measure comes from | [`contributors`] |
//! | what a dollar was when single rows were read | [`rates`] |

mod block;
mod build;
mod contributors;
mod decode;
mod dictionary;
mod distribution;
mod entry;
mod fact;
mod listing;
mod measure;
mod measures;
mod merge;
mod numbers;
mod overview;
mod rates;
mod recent;
mod scan;
mod sketch;
mod trend;

pub use block::{Block, Column, Columns, Header, MAX_ROWS, Outcomes, Sink, Source};
pub use build::BlockBuilder;
pub use contributors::{Contributor, contributors};
pub use distribution::Distribution;
pub use entry::{Entry, entries};
pub use fact::{Fact, Filter, Found, Identity, RowOutcome, Selection};
pub use listing::{LastError, SlowKey, last_errors, newest, newest_ids, slowest};
pub use measure::Measure;
pub use measures::{Dimension, Group, Groups, Measures};
pub use merge::{merge, mergeable};
pub use overview::{Overview, overview};
pub use rates::rates;
pub use recent::{Commit, Recent};
pub use trend::{Step, Steps, trend};

/// A block that is not what a builder made: the file was damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the history is damaged: block {block}: {what}")]
pub struct Damaged {
    /// The block's number.
    pub block: i64,
    /// What is wrong with it.
    pub what: &'static str,
}

#[cfg(test)]
mod memory_tests;
#[cfg(test)]
pub(crate) mod oracle_tests;
#[cfg(test)]
mod tests;
