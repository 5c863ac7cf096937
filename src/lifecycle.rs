//! One life for all loops: they start together, stop together, and none may end early.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long loops have to end after a signal; what is committed by then stays, the rest is read again. Less than
/// the ten seconds after which Docker kills.
const GRACE: Duration = Duration::from_secs(8);

/// The loops of the process.
#[derive(Debug)]
pub struct Lifecycle {
    stop: CancellationToken,
    loops: JoinSet<(&'static str, anyhow::Result<()>)>,
}

impl Lifecycle {
    /// No loops yet. `stop` ends them all.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, loops: JoinSet::new() }
    }

    /// Starts a loop. It must run until `stop` is cancelled.
    pub fn spawn(
        &mut self,
        name: &'static str,
        work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.loops.spawn(async move { (name, work.await) });
    }

    /// Waits for all loops. One that ends, fails or panics before `stop` stops the others and is the error.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut failure = None;
        while let Some(ended) = self.next_end().await {
            let error = match ended {
                Ok((_, Ok(()))) if self.stop.is_cancelled() => continue,
                Ok((name, Ok(()))) => anyhow::anyhow!("the {name} loop ended by itself"),
                Ok((name, Err(error))) => error.context(format!("the {name} loop failed")),
                Err(error) if error.is_panic() => anyhow::anyhow!("a loop panicked: {error}"),
                Err(_) => continue,
            };
            failure.get_or_insert(error);
            self.stop.cancel();
        }
        failure.map_or(Ok(()), Err)
    }

    async fn next_end(
        &mut self,
    ) -> Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>> {
        let stop = self.stop.clone();
        let grace_is_over = async move {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = self.loops.join_next() => ended,
            () = grace_is_over => {
                tracing::warn!(seconds = GRACE.as_secs(), "loops did not end in time and were cut");
                self.loops.shutdown().await;
                None
            }
        }
    }
}

/// SIGHUP, by which operators ask to read files again.
#[derive(Debug)]
pub struct Hangup(tokio::signal::unix::Signal);

impl Hangup {
    /// Listens for it. From then on it does not end the process.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one.
    pub async fn wait(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Cancels `stop` at the first SIGTERM or SIGINT; the second ends the process at once with code 1.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if stop.is_cancelled() {
                tracing::warn!(signal = name, "second signal: exiting at once");
                std::process::exit(1);
            }
            tracing::info!(signal = name, "stopping");
            stop.cancel();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_ends_early_stops_the_others_and_is_the_error() {
        let stop = CancellationToken::new();
        let mut life = Lifecycle::new(stop.clone());
        life.spawn("short", async { Ok(()) });
        life.spawn("long", async move {
            stop.cancelled().await;
            Ok(())
        });
        let error = life.run().await.unwrap_err();
        assert!(error.to_string().contains("short"), "{error}");
    }

    #[tokio::test]
    async fn loops_that_end_after_the_stop_are_fine() {
        let stop = CancellationToken::new();
        let mut life = Lifecycle::new(stop.clone());
        let token = stop.clone();
        life.spawn("long", async move {
            token.cancelled().await;
            Ok(())
        });
        stop.cancel();
        life.run().await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let mut life = Lifecycle::new(CancellationToken::new());
        life.spawn("bad", async { panic!("boom") });
        assert!(life.run().await.is_err());
    }
}
