//! When a channel that was disabled is enabled again. Pure: every fact is an argument.
//!
//! No data is no recovery: while the log is not followed, or the limits are not known, nothing that depends on them is due.

use jiff::{SignedDuration, Timestamp};

use super::act::Outcome;
use crate::config::BreakerMode;
use crate::limits::{Limit, Restore, Standing, Window};
use crate::state::{LimitsStatus, TailStatus};
use crate::store::{ActRecord, ActState};

/// What has no limit calms down when its alert has been over, and the log was followed, for so long.
const QUIET: SignedDuration = SignedDuration::from_mins(10);

/// A window does not reset sooner after the channel was disabled: what is shown may be a little behind.
const SHORTEST: SignedDuration = SignedDuration::from_secs(15);

/// The log is followed if its end was reached within so many seconds.
const FRESH_SECONDS: f64 = 120.0;

/// A channel that could not be enabled is tried again after so long.
const NEXT_TRY: SignedDuration = SignedDuration::from_hours(1);

/// So often at most; then it waits for a person.
const MAX_TRIES: usize = 24;

/// Whether the log is being followed as it should be.
pub fn is_followed(tail: &TailStatus, now: Timestamp) -> bool {
    let now = now.as_millisecond() as f64 / 1000.0;
    tail.up && tail.caught_up && tail.reached_end_at.is_some_and(|at| now - at <= FRESH_SECONDS)
}

/// What is known about recovery.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Now.
    pub now: Timestamp,
    /// Where limits stand.
    pub limits: &'a LimitsStatus,
    /// Since when the log has been followed without a break; None if it is not.
    pub followed_since: Option<Timestamp>,
}

/// When a channel, disabled at `at`, will be enabled again, as far as it can be told by then.
pub fn expected(record: &ActRecord, at: Timestamp, limits: &LimitsStatus) -> Option<Timestamp> {
    match &record.act.restore {
        Restore::Never => None,
        Restore::After(length) => at.checked_add(SignedDuration::from_secs(length.seconds())).ok(),
        Restore::WindowReset => {
            let (_, standings) = standings(record, limits)?;
            let resets_at = standings.iter().filter_map(|standing| standing.resets_at).max()?;
            Timestamp::from_second(resets_at).ok()
        }
    }
}

/// Whether the channel that `record` disabled is to be enabled now, as far as that act is concerned.
pub fn is_due(record: &ActRecord, known: &Known<'_>) -> bool {
    let passed = |since: Option<Timestamp>, length: SignedDuration| {
        since.and_then(|since| since.checked_add(length).ok()).is_some_and(|until| until <= known.now)
    };
    match &record.act.restore {
        Restore::Never => false,
        Restore::After(length) => match record.act.restore_at {
            Some(at) => at <= known.now,
            None => passed(record.act.finished_at, SignedDuration::from_secs(length.seconds())),
        },
        Restore::WindowReset => {
            if known.followed_since.is_none() || !passed(record.act.finished_at, SHORTEST) {
                return false;
            }
            let names_a_limit = record.limit.as_ref().is_some_and(|name| {
                !known.limits.looked || known.limits.limits.iter().any(|limit| limit.name == *name)
            });
            if !names_a_limit {
                return passed(record.over_at, QUIET) && passed(known.followed_since, QUIET);
            }
            if known.limits.trouble.is_some() {
                return false;
            }
            let Some((limit, standings)) = standings(record, known.limits) else { return false };
            match limit.window {
                Window::Calendar(_) => record.act.restore_at.is_some_and(|turns_at| {
                    let turned = |standing: &&Standing| {
                        standing.resets_at.is_some_and(|next| next > turns_at.as_second())
                    };
                    turns_at <= known.now && standings.iter().all(|one| one.ratio < 1.0 && turned(one))
                }),
                Window::Rolling(_) => standings.iter().all(|one| one.ratio < limit.calm_ratio()),
            }
        }
    }
}

/// The limit of an act, and where it stands for the channel; None if that is not known now. Of a limit for each channel, one
/// that has no rows has no standing.
fn standings<'a>(record: &ActRecord, limits: &'a LimitsStatus) -> Option<(&'a Limit, Vec<&'a Standing>)> {
    let name = record.limit.as_ref()?;
    let (place, limit) = limits.limits.iter().enumerate().find(|(_, limit)| limit.name == *name)?;
    let of_limit = || limits.standings.iter().flatten().filter(|standing| standing.limit == place);
    limits.standings.as_ref()?;
    let concerned = |one: &&Standing| {
        !one.overflow && (one.channel_id.is_none() || one.channel_id == record.act.channel_id)
    };
    let mut found: Vec<_> = of_limit().filter(concerned).collect();
    if found.is_empty() {
        found.extend(of_limit().filter(|standing| standing.overflow));
    }
    Some((limit, found))
}

/// Whether a restore is tried (again), by how the tries before went, newest first.
pub fn may_try(tries: &[ActRecord], mode: BreakerMode, now: Timestamp) -> bool {
    let Some(last) = tries.first() else { return mode != BreakerMode::Off };
    if last.state != ActState::Done {
        return false;
    }
    let waited =
        || last.act.finished_at.and_then(|at| at.checked_add(NEXT_TRY).ok()).is_some_and(|at| at <= now);
    match &last.act.outcome {
        // In earnest now.
        Outcome::WouldDo => mode == BreakerMode::Enforce,
        Outcome::Failed { .. } | Outcome::Unverified { .. } | Outcome::Refused { .. } => {
            mode != BreakerMode::Off && tries.len() < MAX_TRIES && waited()
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
