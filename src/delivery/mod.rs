//! Getting messages to people: the outbox in monitor.db, and the three kinds of bots that it is emptied into.

mod knowledge;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::DeliveryConfig;
use crate::message::Wording;
use crate::state::State;
use crate::store::Store;
pub use knowledge::Knowledge;

/// Empties the outbox.
#[derive(Debug)]
pub struct Outbox {
    _store: Store,
    _state: State,
    _clock: Clock,
    _bots: DeliveryConfig,
    _wording: Wording,
    _knowledge: Knowledge,
}

impl Outbox {
    /// An outbox for these bots.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn new(
        store: Store,
        state: State,
        clock: Clock,
        bots: DeliveryConfig,
        wording: Wording,
        knowledge: Knowledge,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            _store: store,
            _state: state,
            _clock: clock,
            _bots: bots,
            _wording: wording,
            _knowledge: knowledge,
        })
    }

    /// Sends what there is to send until `stop`.
    ///
    /// # Errors
    /// If monitor.db cannot be used any more.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }
}
