//! A long read: while rows are read and parsed, those read before are counted on another thread; the first long read of a log
//! is committed on one more.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::work::Work;
use super::{TailError, Tailer};
use crate::newapi::LogReader;
use crate::newapi::batches::{Batch, Batches, Demand, Queue};
use crate::newapi::logs::{RawLogs, Spare};
use crate::store::{Committing, StoreError};

/// A catch-up commits about this often, and after [`commit_rows`](crate::config::TailConfig::commit_rows).
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// What was counted after a pause is shown with every round. As long as nothing is shown, a round is only as long as it
/// takes new-api to change what a dollar is; each begins with other threads, and these with memory of their own.
const SHOWN_ROUND: Duration = COMMIT_EVERY;
const HIDDEN_ROUND: Duration = Duration::from_secs(60);

/// Hands what a catch-up reads to the thread that counts it.
struct Feeding<'a> {
    tailer: &'a mut Tailer,
    sender: mpsc::Sender<Batch>,
    /// Memory that it gave back.
    spares: mpsc::Receiver<Spare>,
    began: Instant,
    /// How long the round may take.
    patience: Duration,
    rows: u64,
    last_id: i64,
    /// The last batch reached the end of the log.
    at_end: bool,
}

impl Feeding<'_> {
    /// Memory for the next batch; none if the round is over.
    fn next(&mut self, within: Duration) -> Option<Spare> {
        // Closed only when counting failed, which is told later.
        let over = self.at_end || self.sender.is_closed() || self.tailer.stop.is_cancelled();
        (!over && self.began.elapsed() < within).then(|| self.spares.try_recv().unwrap_or_default())
    }
}

impl Batches for Feeding<'_> {
    async fn take(&mut self, batch: Batch) -> Option<Spare> {
        let raw = batch.raw();
        self.at_end = raw.at_end;
        self.rows += raw.len() as u64;
        self.last_id = raw.last_id().unwrap_or(self.last_id);
        if self.sender.send(batch).await.is_err() {
            return None;
        }
        self.tailer.report(self.rows, self.last_id);
        // A read that is let go in its middle loses its connection, so it may take longer than the round should.
        self.next(2 * self.patience)
    }

    fn demand(&self) -> Demand {
        Demand::of(&self.sender)
    }
}

impl Tailer {
    /// Counts `batch` and what follows it, and commits now and then where it counts, which is another thread than the one
    /// that reads. True if the end of the log was reached, and not only an end of patience.
    pub(super) async fn count_on_another_core(
        &mut self,
        reader: &LogReader,
        mut work: Work,
        batch: RawLogs,
    ) -> Result<(Work, bool), TailError> {
        // Part of this may be committed when it fails. From then on only monitor.db knows what was counted.
        self.usage = None;
        let Queue { sender, mut batches, give_back, spares } = Queue::new(reader);
        let (store, labels, clock) =
            (self.store.clone(), self.rules.extra_labels.clone(), self.clock.clone());
        let commit_rows = self.config.commit_rows;
        let patience = if self.position.caught_up { SHOWN_ROUND } else { HIDDEN_ROUND };
        let last_id = work.position.last_id;
        let first = !self.position.caught_up;
        let counting = spawn_blocking(move || {
            // Without another thread commits are made on this one.
            let mut committing = first.then(|| store.committing(&labels).ok()).flatten();
            let (mut committed, mut at) = (0, Instant::now());
            while let Some(batch) = batches.blocking_recv() {
                let batch = batch.into_logs();
                work.now_ms = clock.now().as_millisecond();
                work = work.count(&batch);
                // If there are enough, this one goes.
                let _ = give_back.try_send(batch.into_spare());
                if work.rows - committed >= commit_rows || at.elapsed() >= COMMIT_EVERY {
                    match &mut committing {
                        Some(committing) => work.commit_by(committing)?,
                        None => work.commit(&store, &labels)?,
                    }
                    (committed, at) = (work.rows, Instant::now());
                }
            }
            committing.map_or(Ok(()), Committing::end)?;
            Ok::<_, StoreError>(work)
        });
        let began = Instant::now();
        let mut feeding =
            Feeding { tailer: self, sender, spares, began, patience, rows: 0, last_id, at_end: false };
        let mut next = feeding.take(batch.into()).await;
        let reached = loop {
            let Some(spare) = next else { break Ok(()) };
            if let Err(error) = reader.batches_from(feeding.last_id, spare, &mut feeding).await {
                break Err(error);
            }
            next = feeding.next(patience);
        };
        let Feeding { sender, at_end, .. } = feeding;
        drop(sender);
        let work = counting.await??;
        match reached {
            Ok(()) => Ok((work, at_end)),
            Err(error) => {
                // What was read before is not read again.
                self.commit(work, false).await?;
                Err(error.into())
            }
        }
    }
}
