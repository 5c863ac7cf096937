//! Threads that last and take their work from a queue.
//!
//! The C library gives every thread memory of its own and keeps much of what it had. With one more thread whenever all are
//! busy, what some work takes would stay as many times as there ever were threads; and what a thread has open, as a cache,
//! would be spread over the memory of all of them. Hence what needs much is done by a few that last.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

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
}
