//! Small blocks become larger ones.

use super::Source;
use super::block::{Block, Columns, Header};
use super::build::BlockBuilder;
use super::decode::Decoded;

/// Packs the rows of blocks of one `quota_per_unit` together, in the order given.
pub fn merge<S: Source>(source: &mut S, headers: &[Header]) -> Result<Vec<Block>, S::Error> {
    let mut builder = BlockBuilder::default();
    let mut decoded = Decoded::default();
    for header in headers {
        decoded.open(header)?;
        decoded.load(source, Columns::ROWS)?;
        for row in 0..decoded.rows() {
            builder.push(&decoded.fact(row), header.quota_per_unit);
        }
    }
    Ok(builder.take())
}

/// The blocks that are to be merged next, if any are: 16 of one tier and `quota_per_unit`. So there are
/// never more than 15 of a kind, and a row is packed anew three times at most.
pub fn mergeable(open: &[Header]) -> Option<Vec<Header>> {
    const TOGETHER: usize = 16;
    open.iter().find_map(|header| {
        let alike = |other: &&Header| {
            (other.tier, other.quota_per_unit.to_bits()) == (header.tier, header.quota_per_unit.to_bits())
        };
        let blocks: Vec<Header> = open.iter().filter(alike).take(TOGETHER).copied().collect();
        (blocks.len() == TOGETHER).then_some(blocks)
    })
}
