//! The threads that answer questions about the history.
//!
//! There are a few of them, which last, instead of one more whenever all are busy: the C library gives every thread
//! memory of its own and keeps much of what it had, so what sums took would stay as many times as there ever were
//! threads. Sums keep a processor busy, so more of them at once would not be answered sooner.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use tokio::sync::oneshot;

use super::super::super::problem::Problem;
use crate::store::{HistoryReader, StoreError};

/// Threads for sums, which may read every block.
const SUMMING: usize = 2;

/// Threads for lists, which read a few and do not wait behind sums.
const LISTING: usize = 2;

type Job = Box<dyn FnOnce(&HistoryReader) + Send>;

/// Where questions are handed in. Cheap to clone; its threads end with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    sums: Sender<Job>,
    lists: Sender<Job>,
}

impl Desk {
    /// Starts the threads.
    pub fn open(history: &HistoryReader) -> std::io::Result<Self> {
        Ok(Self { sums: start("sums", SUMMING, history)?, lists: start("lists", LISTING, history)? })
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

/// Starts so many threads that share one queue.
fn start(name: &str, count: usize, history: &HistoryReader) -> std::io::Result<Sender<Job>> {
    let (sender, receiver) = channel();
    let queue = Arc::new(Mutex::new(receiver));
    for _ in 0..count {
        let (queue, history) = (Arc::clone(&queue), history.clone());
        Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(job) = next(&queue) {
                job(&history);
            }
        })?;
    }
    Ok(sender)
}

/// The next job; none once nobody can ask any more.
fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

async fn ask<T: Send + 'static>(
    queue: &Sender<Job>,
    question: impl FnOnce(&HistoryReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Problem> {
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::new(move |history| {
        // Whoever asked may have given up while others were answered.
        if answer.is_closed() {
            return;
        }
        // A bug in one answer is that answer's: the thread goes on. It tells by an answer that never comes.
        if let Ok(found) = catch_unwind(AssertUnwindSafe(|| question(history))) {
            let _ = answer.send(found);
        }
    });
    queue.send(job).map_err(|_| Problem::internal(&"nobody answers questions about the history"))?;
    Ok(answered.await.map_err(|_| Problem::internal(&"a question about the history panicked"))??)
}
