//! The threads that answer questions about the history. Sums keep a processor busy, so more of them at once would not be
//! answered sooner.

use super::super::super::problem::Problem;
use crate::store::{HistoryReader, StoreError};
use crate::threads::Threads;

/// Threads for sums, which may read every block.
const SUMMING: usize = 2;

/// Threads for lists, which read a few and do not wait behind sums.
const LISTING: usize = 2;

/// Where questions are handed in. Cheap to clone; its threads end with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    sums: Threads<HistoryReader>,
    lists: Threads<HistoryReader>,
}

impl Desk {
    /// Starts the threads.
    pub fn open(history: &HistoryReader) -> std::io::Result<Self> {
        let start = |name, count| Threads::start(name, std::iter::repeat_n(history.clone(), count));
        Ok(Self { sums: start("sums", SUMMING)?, lists: start("lists", LISTING)? })
    }

    /// Asks for sums.
    pub async fn sum<T: Send + 'static>(
        &self,
        question: impl FnOnce(&HistoryReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        ask(&self.sums, question).await
    }

    /// Asks for rows.
    pub async fn list<T: Send + 'static>(
        &self,
        question: impl FnOnce(&HistoryReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        ask(&self.lists, question).await
    }
}

async fn ask<T: Send + 'static>(
    threads: &Threads<HistoryReader>,
    question: impl FnOnce(&HistoryReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let answered = threads.ask(|history| question(history)).await;
    Ok(answered.map_err(|gone| Problem::internal(&format!("a question about the history: {gone}")))??)
}
