//! What speaks against an act. Pure: every fact is an argument.

use jiff::Timestamp;

use super::act::{Kind, Origin, Refusal};
use crate::config::{BreakerConfig, BreakerMode};
use crate::limits::REST;
use crate::newapi::Directory;
use crate::store::ActRecord;

/// An alert that is older when it is first heard of, or that waited longer to be acted upon, is no reason any more.
const MAX_AGE_SECONDS: i64 = 30 * 60;

/// So far ahead of ours the clock of Prometheus may be.
const MAX_AHEAD_SECONDS: i64 = 2 * 60;

/// A channel that is enabled.
pub const ENABLED: i64 = 1;

/// A channel that a person disabled, or we.
pub const DISABLED: i64 = 2;

/// What becomes of an act that no guard refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Go,
    /// The channel is not enabled as it is.
    AlreadySo(i64),
    /// A guard says no.
    Refused(Refusal),
}

/// What can be said without looking at new-api. `trips` is how many channels alerts disabled in the last hour. The channel,
/// if nothing speaks against it.
///
/// # Errors
/// The refusal.
pub fn at_first(
    record: &ActRecord,
    config: &BreakerConfig,
    trips: u64,
    now: Timestamp,
) -> Result<i64, Refusal> {
    if config.mode == BreakerMode::Off {
        return Err(Refusal::Off);
    }
    if record.over_at.is_some() {
        return Err(Refusal::Over);
    }
    let channel = record.act.channel_id.filter(|id| *id > 0).ok_or_else(|| {
        if record.act.channel_id.is_none() && record.channel_text == REST {
            return Refusal::Rest;
        }
        let text = record.act.channel_id.map_or_else(|| record.channel_text.clone(), |id| id.to_string());
        Refusal::NoChannel { text }
    })?;
    if record.act.kind == Kind::Restore {
        return Ok(channel);
    }
    if config.protect.contains(&channel) {
        return Err(Refusal::Protected);
    }
    if !matches!(record.act.origin, Origin::Alert { .. }) {
        return Ok(channel);
    }
    // One that asks again is known since it asked first, so only its own waiting can make it old.
    let asked_again = record.tried_from > record.act.asked_at;
    let since = record.starts_at.filter(|_| !asked_again).unwrap_or(record.tried_from);
    let age = now.as_second() - since.as_second();
    if age > MAX_AGE_SECONDS {
        return Err(Refusal::TooOld { seconds: age });
    }
    if age < -MAX_AHEAD_SECONDS {
        return Err(Refusal::FromTheFuture { seconds: -age });
    }
    if trips >= config.max_per_hour {
        return Err(Refusal::TooMany { per_hour: config.max_per_hour });
    }
    Ok(channel)
}

/// What can be said of a trip when new-api was looked at. `status` is the channel's, None if there is no such channel.
pub fn of_trip(channel: i64, config: &BreakerConfig, directory: &Directory, status: Option<i64>) -> Verdict {
    match status {
        None => return Verdict::Refused(Refusal::UnknownChannel),
        Some(ENABLED) => {}
        Some(status) => return Verdict::AlreadySo(status),
    }
    let alone = directory.last_of.get(&channel).map(Vec::as_slice).unwrap_or_default();
    match alone.first() {
        Some((group, model)) if !config.allow_last => Verdict::Refused(Refusal::LastOf {
            group: group.clone(),
            model: model.clone(),
            others: u64::try_from(alone.len() - 1).unwrap_or(u64::MAX),
        }),
        _ => Verdict::Go,
    }
}

#[cfg(test)]
#[path = "guards_tests.rs"]
pub(super) mod tests;
