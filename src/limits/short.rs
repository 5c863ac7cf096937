//! Windows that begin before what was kept of the log, and how that is told.

use jiff::tz::TimeZone;

use super::{Limit, Window};

/// What is said of them, wherever it is said.
pub const SHORT: &str = "windows begin before what was read of the log, so they hold less than was used";

/// So small a part of a rolling window may be missing: its edge is not more exact.
const PARTS: i64 = 1000;

/// Names of the limits whose windows begin before `known_from`, in Unix seconds, since when every row was kept.
pub fn short_of(limits: &[Limit], zone: &TimeZone, now: i64, known_from: i64) -> Vec<String> {
    let missing = |limit: &&Limit| {
        let tolerated = match &limit.window {
            Window::Calendar(_) => 0,
            Window::Rolling(length) => length.seconds() / PARTS,
        };
        limit.since(zone, now).saturating_add(tolerated) < known_from
    };
    limits.iter().filter(missing).map(|limit| limit.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::standings_tests::{at, limit};
    use super::*;
    use crate::limits::Measure;

    const DAY: i64 = 86_400;

    #[test]
    fn what_is_missing_of_a_window_is_told_but_for_the_thousandth_that_rolls() {
        let limits = ["1h", "30d", "month"].map(|window| limit(Measure::Requests, window));
        // The month began on the first, 14 days and 8 hours ago.
        let (now, month) = (at("2027-01-15T08:00:00Z"), 14 * DAY + 8 * 3600);
        let told = |ago: i64| short_of(&limits, &TimeZone::UTC, now, now - ago);
        assert_eq!(told(3500), ["Requests-1h", "Requests-30d", "Requests-month"]);
        assert_eq!(told(10 * DAY), ["Requests-30d", "Requests-month"]);
        assert_eq!(told(month - 1), ["Requests-30d", "Requests-month"]);
        assert_eq!(told(month), ["Requests-30d"]);
        assert_eq!(told(30 * DAY - 2593), ["Requests-30d"]);
        assert!(told(30 * DAY - 2592).is_empty());
    }

    #[test]
    fn the_first_hour_of_a_month_of_745_hours_that_31_days_do_not_reach_is_told() {
        let zone = TimeZone::get("Europe/Berlin").expect("a known zone");
        let limits = [limit(Measure::Requests, "month")];
        let (october, november) = (at("2026-09-30T22:00:00Z"), at("2026-10-31T23:00:00Z"));
        assert_eq!((november - october) / 3600, 745);
        // What a first start reads at that time.
        let told = |now: i64| !short_of(&limits, &zone, now, now - 31 * DAY).is_empty();
        assert!(!told(november - 3600), "31 days just reach its beginning");
        for now in [november - 3599, november - 1800, november - 1] {
            assert!(told(now), "{now}");
        }
        assert!(!told(november), "another month");
    }
}
