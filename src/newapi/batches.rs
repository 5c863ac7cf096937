//! Batches of a long read, on their way from whoever reads the log to the thread that counts.

use tokio::sync::mpsc;

use super::logs::{LogReader, Logs, RawLogs, Spare};

/// Rows of a long read that wait for the thread that counts them, in one batch or several.
const QUEUED_ROWS: u32 = 2_000;

/// A batch. Parsed by whoever has the time: where it was read, while it is in that processor's cache, unless the thread that
/// counts would have nothing to do meanwhile.
#[derive(Debug)]
pub struct Batch(State);

#[derive(Debug)]
enum State {
    Raw(RawLogs),
    Parsed(Logs),
}

impl Batch {
    /// The rows as they came.
    pub fn raw(&self) -> &RawLogs {
        match &self.0 {
            State::Raw(raw) => raw,
            State::Parsed(logs) => logs.raw(),
        }
    }

    /// Parses the rows, if nobody has.
    pub fn into_logs(self) -> Logs {
        match self.0 {
            State::Raw(raw) => raw.parse(),
            State::Parsed(logs) => logs,
        }
    }
}

impl From<RawLogs> for Batch {
    fn from(raw: RawLogs) -> Self {
        Self(State::Raw(raw))
    }
}

/// Takes the batches of a long read as they come.
pub trait Batches: Send {
    /// Takes one. Gives memory for another, or none if no more should come.
    fn take(&mut self, batch: Batch) -> impl Future<Output = Option<Spare>> + Send;

    /// How much they are waited for.
    fn demand(&self) -> Demand;
}

/// How much batches are waited for.
#[derive(Debug, Clone)]
pub struct Demand(mpsc::WeakSender<Batch>);

impl Demand {
    /// Of a queue.
    pub fn of(sender: &mpsc::Sender<Batch>) -> Self {
        Self(sender.downgrade())
    }

    /// Makes a batch of what was read just now, and parses it if there are others before it.
    pub(super) fn batch(&self, raw: RawLogs) -> Batch {
        let next = self.0.upgrade().is_none_or(|queue| queue.capacity() == queue.max_capacity());
        if next { raw.into() } else { Batch(State::Parsed(raw.parse())) }
    }
}

/// Between whoever reads a log and the thread that counts what was read.
#[derive(Debug)]
pub struct Queue {
    /// Where batches go in.
    pub sender: mpsc::Sender<Batch>,
    /// Where they come out.
    pub batches: mpsc::Receiver<Batch>,
    /// Where their memory goes when nobody needs it any more, and where it is taken from.
    pub give_back: mpsc::Sender<Spare>,
    /// See [`Queue::give_back`].
    pub spares: mpsc::Receiver<Spare>,
}

impl Queue {
    /// For batches of this reader.
    pub fn new(reader: &LogReader) -> Self {
        let length = (QUEUED_ROWS / reader.batch_rows()).max(1) as usize;
        let ((sender, batches), (give_back, spares)) = (mpsc::channel(length), mpsc::channel(length));
        Self { sender, batches, give_back, spares }
    }
}
