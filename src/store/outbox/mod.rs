//! The outbox: what people are to be told, one row for each request to a target, with its order, leases and outcome.
//!
//! A notice is queued in the transaction of what it tells of ([`Writing::enqueue`]). The loop that empties the outbox
//! leases one row of a target at a time ([`Store::lease`]), writes the message into it when it is first leased
//! ([`Writing::compose`]), and says how it went ([`Writing::settle`]). A lease that nobody settled returns by itself.

mod lease;
mod merge;
mod pages;
mod queue;
#[cfg(test)]
mod tests;
mod upkeep;

use jiff::Timestamp;
use rusqlite::Row;

pub use lease::{Leased, Settled, Shape, Work};
pub use queue::NewNotice;
pub use upkeep::{GivenUp, Queue};

use super::Span;
use crate::message::Target;

/// A message that could not be delivered for so long is given up: late alerts mislead.
pub(super) const MAX_AGE_MS: i64 = 24 * 3600 * 1000;

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits.
    Pending,
    /// A request is under way.
    Leased,
    /// The target took it.
    Sent,
    /// It was given up.
    Dead,
    /// A later message said it as well.
    Superseded,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Leased, Self::Sent, Self::Dead, Self::Superseded];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Sent => "sent",
            Self::Dead => "dead",
            Self::Superseded => "superseded",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Which deliveries are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Only those that are so far.
    pub state: Option<DeliveryState>,
    /// Only those to this target.
    pub target: Option<Target>,
    /// Only those that tell of one of these channels; of all if it is empty.
    pub channels: Vec<i64>,
    /// Only those that were queued in it.
    pub queued: Span,
}

/// A row of the outbox, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its number.
    pub id: i64,
    /// What it tells.
    pub notice: i64,
    /// The kind of that: `alerts`, `act`, `still_busy`, `trouble`.
    pub kind: String,
    /// Where it goes; the name as it was when it was queued.
    pub target: String,
    /// The group that it keeps its order in.
    pub group_key: String,
    /// Which part of its message it is, from 1.
    pub part: i64,
    /// How many there are; 0 before it is first tried.
    pub parts: i64,
    /// How far it is.
    pub state: DeliveryState,
    /// Requests made for it, without those after which the target asked for a pause.
    pub attempts: i64,
    /// When it is tried next; None if it will not be.
    pub next_at: Option<Timestamp>,
    /// The target's own number for its last answer.
    pub code: Option<i64>,
    /// Our word for it, see [`crate::state::DEAD_REASONS`]; empty before the first and after a good one.
    pub reason: String,
    /// Its words.
    pub error: String,
    /// The message that says this one as well.
    pub superseded_by: Option<i64>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When the target took it.
    pub sent_at: Option<Timestamp>,
}

/// A time of the database.
fn instant(ms: i64) -> Timestamp {
    let bounds = (Timestamp::MIN.as_millisecond(), Timestamp::MAX.as_millisecond());
    Timestamp::from_millisecond(ms.clamp(bounds.0, bounds.1)).unwrap_or_default()
}

/// The target in a column; None for one that an older or newer program knew.
fn target(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Target>> {
    Ok(Target::parse(row.get_ref(column)?.as_str().unwrap_or_default()))
}
