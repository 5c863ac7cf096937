//! Waiting for what a first start may still lack: databases that answer, and a monitor that has counted the log.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{Monitor, beside};
use crate::newapi::{Database, Directory, LogReader};

/// The first pause; each is twice the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long is left to wait.
#[derive(Debug)]
pub(super) struct Patience {
    length: Duration,
    until: Instant,
    pause: Duration,
}

impl Patience {
    /// Waits so long in all.
    pub(super) fn of(length: Duration) -> Self {
        Self { length, until: Instant::now() + length, pause: FIRST_PAUSE }
    }

    /// Waits a moment; false if there is no time left.
    async fn wait(&mut self) -> bool {
        let left = self.until.saturating_duration_since(Instant::now());
        tokio::time::sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        !left.is_zero()
    }

    /// Channels and the log of new-api, as soon as both databases answer.
    pub(super) async fn databases(
        &mut self,
        main: &Database,
        log: &Database,
    ) -> anyhow::Result<(Directory, LogReader)> {
        loop {
            let found = async {
                let directory = Directory::read(main).await?;
                anyhow::Ok((directory, LogReader::discover(log.clone()).await?))
            };
            match found.await {
                Ok(found) => return Ok(found),
                Err(error) if self.wait().await => {
                    tracing::warn!("waiting for new-api's database: {error:#}");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The monitor whose file is at `path`, as soon as it has counted all that there was when it began; as it is if it does
    /// not get on in time, and nothing if it never ran.
    pub(super) async fn monitor(&mut self, path: &Path) -> anyhow::Result<Option<Monitor>> {
        let mut reached = None;
        loop {
            let found = beside(path);
            let lacking = match &found {
                Ok(Some(monitor)) => {
                    let now = Some(monitor.position.last_id);
                    if reached != now {
                        (reached, self.until) = (now, Instant::now() + self.length);
                    }
                    !monitor.position.caught_up
                }
                Ok(None) => path.exists(),
                // It may be making its file just now.
                Err(_) => true,
            };
            if !lacking || !self.wait().await {
                return found;
            }
            tracing::info!(file = %path.display(), "waiting for the monitor to count the log");
        }
    }
}
