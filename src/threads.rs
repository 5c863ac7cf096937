//! Threads that last and take their work from a queue.
//!
//! The C library gives every thread memory of its own and keeps much of what it had. With one more thread whenever all are
//! busy, what some work takes would stay as many times as there ever were threads; and what a thread has open, as a cache,
//! would be spread over the memory of all of them. Hence what needs much is done by a few that last.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Where work for them is handed in. Cheap to clone; the threads end with the last clone.
#[derive(Debug)]
pub struct Threads<S> {
    jobs: Sender<Job<S>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the thread that should have answered panicked, or is gone")]
pub struct Gone;

impl From<Gone> for std::io::Error {
    fn from(gone: Gone) -> Self {
        Self::other(gone)
    }
}

impl<S> Clone for Threads<S> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<S: Send + 'static> Threads<S> {
    /// Starts a thread for each of these; what it holds is its own.
    ///
    /// # Errors
    /// If the system refuses one.
    pub fn start(name: &str, each: impl IntoIterator<Item = S>) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for mut own in each {
            let queue = Arc::clone(&queue);
            Builder::new().name(name.to_owned()).spawn(move || {
                while let Some(job) = next(&queue) {
                    job(&mut own);
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Has one of them do this. If nobody waits for the answer any more when its turn comes, it is not done.
    ///
    /// # Errors
    /// [`Gone`]. A panic is that work's alone: the thread goes on with what it holds, as the panic left it.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        let job: Job<S> = Box::new(move |own| {
            if answer.is_closed() {
                return;
            }
            // A panic is told by an answer that never comes.
            if let Ok(found) = catch_unwind(AssertUnwindSafe(|| work(own))) {
                let _ = answer.send(found);
            }
        });
        self.jobs.send(job).map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }
}

/// A thread that does one thing after the other behind whoever hands them in, until the first failure.
#[derive(Debug)]
pub struct Behind<J, E> {
    jobs: Option<SyncSender<J>>,
    thread: Option<JoinHandle<Result<(), E>>>,
}

impl<J: Send + 'static, E: From<Gone> + Send + 'static> Behind<J, E> {
    /// Starts the thread. Whoever hands in more than `waiting` things waits.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn start(
        name: &str,
        waiting: usize,
        work: impl FnMut(J) -> Result<(), E> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(waiting);
        let thread =
            Builder::new().name(name.to_owned()).spawn(move || queue.into_iter().try_for_each(work))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has this done after all that was handed in before.
    ///
    /// # Errors
    /// That of something that was handed in before, once. After the end, [`Gone`].
    pub fn hand_in(&mut self, job: J) -> Result<(), E> {
        match &self.jobs {
            Some(jobs) if jobs.send(job).is_ok() => Ok(()),
            _ => self.end().and(Err(Gone.into())),
        }
    }

    /// Waits until all is done, and ends the thread. So does letting this go.
    ///
    /// # Errors
    /// The first one, unless it was told.
    pub fn end(&mut self) -> Result<(), E> {
        self.jobs = None;
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| Err(Gone.into())))
    }
}

impl<J, E> Drop for Behind<J, E> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // An error was told, or nobody wants what was to be done.
            let _ = thread.join();
        }
    }
}

/// The next job; none once nobody can ask any more.
fn next<S>(queue: &Mutex<Receiver<Job<S>>>) -> Option<Job<S>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_its_own_and_the_thread_keeps_what_it_holds() {
        let threads = Threads::start("counts", [0_u32]).expect("a thread");
        let count = |threads: &Threads<u32>| {
            let threads = threads.clone();
            async move {
                threads
                    .ask(|count| {
                        *count += 1;
                        *count
                    })
                    .await
            }
        };
        assert_eq!(count(&threads).await, Ok(1));
        assert_eq!(threads.ask(|_: &mut u32| -> u32 { panic!("on purpose") }).await, Err(Gone));
        assert_eq!(count(&threads).await, Ok(2));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_done() {
        let threads = Threads::start("counts", [0_u32]).expect("a thread");
        let (go, wait) = channel::<()>();
        let first = tokio::spawn({
            let threads = threads.clone();
            async move { threads.ask(move |_| wait.recv().is_ok()).await }
        });
        // It is asked now, and not only when it is waited for.
        tokio::task::yield_now().await;
        let given_up = threads.ask(|count| *count += 100);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(50), given_up).await;
        assert!(waited.is_err());
        go.send(()).expect("it waits");
        assert_eq!(first.await.expect("no panic"), Ok(true));
        assert_eq!(threads.ask(|count| *count).await, Ok(0));
    }

    #[derive(Debug, PartialEq)]
    enum Failure {
        Gone,
        Own(u32),
    }

    impl From<Gone> for Failure {
        fn from(_: Gone) -> Self {
            Self::Gone
        }
    }

    #[test]
    fn what_is_handed_in_is_done_in_its_order_before_the_end() {
        let (told, heard) = channel();
        let mut behind = Behind::start("behind", 1, move |job: u32| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            told.send(job).map_err(|_| Failure::Gone)
        })
        .expect("a thread");
        (0..20).try_for_each(|job| behind.hand_in(job)).expect("all are done");
        assert_eq!(behind.end(), Ok(()));
        assert_eq!(heard.iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        assert_eq!(behind.hand_in(20), Err(Failure::Gone));
    }

    #[test]
    fn the_first_failure_is_told_once_and_nothing_is_done_after_it() {
        let (told, heard) = channel();
        let fails = move |job: u32| {
            told.send(job).map_err(|_| Failure::Gone)?;
            if job == 3 { Err(Failure::Own(job)) } else { Ok(()) }
        };
        let mut behind = Behind::start("behind", 1, fails.clone()).expect("a thread");
        let first = (0..100).find_map(|job| behind.hand_in(job).err());
        assert_eq!(first, Some(Failure::Own(3)));
        assert_eq!((behind.hand_in(200), behind.end()), (Err(Failure::Gone), Ok(())));
        let mut late = Behind::start("behind", 10, fails).expect("a thread");
        (0..5).for_each(|job| drop(late.hand_in(job)));
        assert!(matches!(late.end(), Ok(()) | Err(Failure::Own(3))), "told once, by whichever comes first");
        drop(late);
        assert_eq!(heard.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn a_panic_of_it_is_told() {
        let work = |(): ()| -> Result<(), Failure> { panic!("on purpose") };
        let mut behind = Behind::start("behind", 1, work).expect("a thread");
        behind.hand_in(()).expect("it is taken");
        assert_eq!(behind.end(), Err(Failure::Gone));
    }
}
