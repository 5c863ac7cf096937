//! Blocks in memory, for tests.

use super::{Block, Column, Columns, Damaged, Header, Sink, Source};

/// Blocks by number.
#[derive(Debug, Default, Clone)]
pub(crate) struct Memory {
    pub(crate) blocks: Vec<Block>,
    /// Rows that were packed anew.
    pub(crate) repacked: u32,
}

impl Memory {
    /// Appends blocks, and merges as the store does if `merging`.
    pub(crate) fn append(&mut self, blocks: Vec<Block>, merging: bool) {
        for mut block in blocks {
            block.header.block = self.blocks.last().map_or(1, |last| last.header.block + 1);
            self.blocks.push(block);
        }
        let open = |memory: &mut Self| -> Vec<Header> {
            memory.headers().unwrap().into_iter().filter(|header| header.tier < 3).collect()
        };
        while merging && let Some(together) = super::mergeable(&open(self)) {
            let merged = super::merge(self, &together).unwrap();
            self.repacked += together.iter().map(|header| header.rows).sum::<u32>();
            self.blocks.retain(|block| !together.iter().any(|old| old.block == block.header.block));
            self.append(merged, false);
        }
    }
}

impl Source for Memory {
    type Error = Damaged;

    fn headers(&mut self) -> Result<Vec<Header>, Damaged> {
        Ok(self.blocks.iter().map(|block| block.header).collect())
    }

    fn read(&mut self, block: i64, wanted: Columns, sink: Sink<'_>) -> Result<(), Damaged> {
        let Some(block) = self.blocks.iter().find(|known| known.header.block == block) else { return Ok(()) };
        // Backwards, because no order is promised.
        for column in Column::ALL.into_iter().rev().filter(|column| wanted.has(*column)) {
            sink(column, &block.columns[column.number()])?;
        }
        Ok(())
    }
}
