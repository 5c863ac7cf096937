//! The rows of the last commits, packed as they were stored, for those who sum rows up as they come.

use std::collections::VecDeque;
use std::sync::Arc;

use super::entry::{Entry, entries};
use super::{Block, Column, Columns, Damaged, Filter, Header, Sink, Source};

/// Rows that are kept, some 40 bytes each. Whoever falls behind further asks the stored history.
const MAX_ROWS: u64 = 50_000;

/// Rows of one commit.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its number; each has the number after that of the commit before.
    pub number: u64,
    blocks: Arc<[Block]>,
}

/// The rows of the last commits.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    commits: VecDeque<Commit>,
    rows: u64,
    /// Commits up to this number are not here.
    forgotten: u64,
}

impl Recent {
    /// Adds the blocks of the commit `number`.
    pub fn push(&mut self, number: u64, blocks: Vec<Block>) {
        if self.commits.back().is_some_and(|last| last.number + 1 != number) || self.commits.is_empty() {
            self.forget_before(number);
        }
        self.commits.push_back(Commit { number, blocks: blocks.into() });
        self.rows += self.commits.back().map_or(0, Commit::rows);
        while self.rows > MAX_ROWS
            && let Some(oldest) = self.commits.pop_front()
        {
            self.rows -= oldest.rows();
            self.forgotten = oldest.number;
        }
    }

    /// Adds all that `later` has.
    pub fn append(&mut self, later: Self) {
        if later.forgotten > self.commits.back().map_or(self.forgotten, |last| last.number) {
            self.forget_before(later.forgotten + 1);
        }
        for commit in later.commits {
            self.push(commit.number, commit.blocks.to_vec());
        }
    }

    fn forget_before(&mut self, number: u64) {
        self.commits.clear();
        self.rows = 0;
        self.forgotten = number.saturating_sub(1);
    }

    /// The commits after the one with this number, in order; None if some of them are no longer here.
    pub fn after(&self, number: u64) -> Option<Vec<Commit>> {
        (number >= self.forgotten)
            .then(|| self.commits.iter().filter(|commit| commit.number > number).cloned().collect())
    }
}

impl Commit {
    fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.header.rows)).sum()
    }

    /// Visits its rows.
    ///
    /// # Errors
    /// If a block is not what a builder made, which would be a bug.
    pub fn entries(&self, visit: &mut dyn FnMut(&Entry<'_>)) -> Result<(), Damaged> {
        entries(&mut Blocks(&self.blocks), i64::MIN, i64::MAX, &Filter::default(), visit)
    }
}

/// Blocks that have no number yet; their place in the list stands for it.
struct Blocks<'a>(&'a [Block]);

impl Source for Blocks<'_> {
    type Error = Damaged;

    fn headers(&mut self) -> Result<Vec<Header>, Damaged> {
        Ok((0..).zip(self.0).map(|(block, known)| Header { block, ..known.header }).collect())
    }

    fn read(&mut self, block: i64, wanted: Columns, sink: Sink<'_>) -> Result<(), Damaged> {
        let Some(block) = usize::try_from(block).ok().and_then(|at| self.0.get(at)) else { return Ok(()) };
        for column in Column::ALL.into_iter().filter(|column| wanted.has(*column)) {
            sink(column, &block.columns[column.number()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{BlockBuilder, Fact};

    fn blocks(ids: std::ops::Range<i64>) -> Vec<Block> {
        let mut builder = BlockBuilder::default();
        for id in ids {
            builder.push(&Fact { id, created_at: id, model: "m".into(), ..Fact::default() }, 1.0);
        }
        builder.take()
    }

    fn ids(recent: &Recent, after: u64) -> Option<Vec<i64>> {
        let mut ids = Vec::new();
        for commit in recent.after(after)? {
            commit.entries(&mut |entry| ids.push(entry.id)).expect("sound blocks");
        }
        Some(ids)
    }

    #[test]
    fn the_rows_after_a_commit_are_there_or_it_is_said_that_they_are_not() {
        let mut recent = Recent::default();
        assert_eq!(ids(&recent, 0), Some(vec![]), "nothing was committed yet");
        recent.push(5, blocks(0..2));
        recent.push(6, blocks(2..2));
        recent.push(7, blocks(2..3));
        assert_eq!(ids(&recent, 3), None);
        assert_eq!(ids(&recent, 4), Some(vec![0, 1, 2]));
        assert_eq!(ids(&recent, 6), Some(vec![2]));
        assert_eq!(ids(&recent, 7), Some(vec![]));
        // A round failed after it had committed a part.
        recent.push(9, blocks(8..9));
        assert_eq!(ids(&recent, 7), None);
        assert_eq!(ids(&recent, 8), Some(vec![8]));
    }

    #[test]
    fn a_round_is_appended_with_what_it_forgot() {
        let mut recent = Recent::default();
        recent.push(1, blocks(0..1));
        let mut round = Recent::default();
        round.push(2, blocks(1..3));
        recent.append(round.clone());
        assert_eq!(ids(&recent, 0), Some(vec![0, 1, 2]));
        let mut long = Recent::default();
        long.push(3, blocks(3..4));
        for number in 4..20 {
            long.push(number, blocks(0..4000));
        }
        recent.append(long);
        assert_eq!(ids(&recent, 2), None);
        assert_eq!(ids(&recent, 18).map(|ids| ids.len()), Some(4000));
        assert!(recent.rows <= MAX_ROWS);
    }
}
