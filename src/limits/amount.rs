//! What a row adds to each measure, in whole numbers, so that the order of rows changes no sum.

use super::{Entry, Measure};
use crate::record::RowOutcome;

/// Parts of a US dollar that money is summed in. A row is rounded to the nearest one.
const NANODOLLARS: f64 = 1e9;

/// Amounts of one row by measure, in the order of [`Measure::ALL`]. Negative where more was given back than charged.
pub(super) type Amounts = [i64; Measure::ALL.len()];

/// What `entry` adds to each measure. Channel tests and unrelated rows add nothing.
pub(super) fn amounts(entry: &Entry<'_>) -> Amounts {
    let mut amounts = [0; Measure::ALL.len()];
    let mut set = |measure: Measure, amount: i64| amounts[measure as usize] = amount;
    if entry.outcome.answered() {
        set(Measure::Tokens, whole(entry.input_tokens.saturating_add(entry.output_tokens)));
        set(Measure::InputTokens, whole(entry.input_tokens));
        set(Measure::OutputTokens, whole(entry.output_tokens));
        set(Measure::Requests, 1);
    }
    set(Measure::Errors, i64::from(entry.outcome == RowOutcome::Error));
    let pays = matches!(entry.outcome, RowOutcome::Settlement | RowOutcome::Refund);
    if pays || entry.outcome.answered() {
        let quota = whole(entry.consumed).saturating_sub(whole(entry.refunded));
        set(Measure::Quota, quota);
        set(Measure::CostUsd, nanodollars(quota, entry.quota_per_unit));
    }
    amounts
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Nothing if there is no rate, which the history never hands out.
fn nanodollars(quota: i64, quota_per_unit: f64) -> i64 {
    if !(quota_per_unit.is_finite() && quota_per_unit > 0.0) {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a cast of a float ends at the largest number")]
    let rounded = (quota as f64 * (NANODOLLARS / quota_per_unit)).round() as i64;
    rounded
}

/// A sum in the unit of the measure.
pub(super) fn in_unit(measure: Measure, sum: i128) -> f64 {
    let sum = sum as f64;
    if measure == Measure::CostUsd { sum / NANODOLLARS } else { sum }
}

/// The same as people read it: where more was given back than charged, nothing was used.
pub(super) fn shown(measure: Measure, sum: i128) -> f64 {
    in_unit(measure, sum.max(0))
}
