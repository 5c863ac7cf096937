//! The circuit breaker: disables a channel when an alert asks for it, and enables it again when that was wished.

pub mod act;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Admin, BreakerConfig};
use crate::message::Target;
use crate::newapi::Database;
use crate::state::State;
use crate::store::Store;

/// The gateway that is acted on.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its admin API.
    pub admin: Option<Admin>,
    /// Its main database, where channels and abilities are looked at.
    pub database: Database,
}

/// Does what was asked for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Breaker {
    _store: Store,
    _state: State,
    _clock: Clock,
    _config: BreakerConfig,
    _gateway: Gateway,
    _targets: Vec<Target>,
}

impl Breaker {
    /// A breaker that acts on `gateway` and tells `targets` what it did.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn new(
        store: Store,
        state: State,
        clock: Clock,
        config: BreakerConfig,
        gateway: Gateway,
        targets: Vec<Target>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            _store: store,
            _state: state,
            _clock: clock,
            _config: config,
            _gateway: gateway,
            _targets: targets,
        })
    }

    /// Acts until `stop`.
    ///
    /// # Errors
    /// If monitor.db cannot be used any more.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }
}
