//! What the monitor itself knows about a notice when it is told.

use jiff::tz::TimeZone;

use crate::clock::Clock;
use crate::state::State;
use crate::store::{HistoryReader, Store};

/// Looks things up for messages.
#[derive(Debug, Clone)]
pub struct Knowledge {
    _store: Store,
    _state: State,
    _history: HistoryReader,
    _zone: TimeZone,
    _clock: Clock,
}

impl Knowledge {
    /// Looks in all of these.
    pub fn new(store: Store, state: State, history: HistoryReader, zone: TimeZone, clock: Clock) -> Self {
        Self { _store: store, _state: state, _history: history, _zone: zone, _clock: clock }
    }
}
