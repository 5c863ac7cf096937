//! Days, weeks and months of a time zone as ranges of instants that follow each other without gap or overlap.

use jiff::Timestamp;
use jiff::civil::{Date, time};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// First and last instants that a calendar is asked about, far from where dates end: years 1 and 9000.
const FIRST: i64 = -62_000_000_000;
const LAST: i64 = 221_000_000_000;

/// A window that begins anew by the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday.
    Week,
    /// From the first to the last.
    Month,
}

/// A range of instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Unix seconds, inclusive.
    pub start: i64,
    /// Unix seconds, exclusive.
    pub end: i64,
}

impl Span {
    /// Whether the instant, in Unix seconds, is in it.
    pub fn contains(self, at: i64) -> bool {
        self.start <= at && at < self.end
    }
}

impl Period {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    /// As limits name it, and the label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// Its length in seconds where no clocks are changed; of a month that of the longest.
    pub const fn seconds(self) -> i64 {
        let days = match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 31,
        };
        days * 86_400
    }

    /// The one of `zone` that the instant `at`, in Unix seconds, is in.
    ///
    /// It begins with the first instant whose local date is in it, so it has the hours that the clock on the wall
    /// has that day. Where the clock is put back over midnight, the hour that comes again belongs to the day that
    /// has begun.
    pub fn span(self, zone: &TimeZone, at: i64) -> Span {
        let at = at.clamp(FIRST, LAST);
        let date = zone.to_datetime(Timestamp::from_second(at).unwrap_or_default()).date();
        let mut first = self.first(date);
        let mut span = Span { start: midnight(zone, first), end: midnight(zone, self.next(first)) };
        while span.end <= at {
            first = self.next(first);
            span = Span { start: span.end, end: midnight(zone, self.next(first)) };
        }
        span
    }

    /// The one after `span`.
    pub fn after(self, zone: &TimeZone, span: Span) -> Span {
        self.span(zone, span.end)
    }

    /// The one before `span`.
    pub fn before(self, zone: &TimeZone, span: Span) -> Span {
        self.span(zone, span.start - 1)
    }

    fn first(self, date: Date) -> Date {
        match self {
            Self::Day => date,
            Self::Week => earlier(date, date.weekday().to_monday_zero_offset()),
            Self::Month => date.first_of_month(),
        }
    }

    fn next(self, first: Date) -> Date {
        match self {
            Self::Day => later(first, 1),
            Self::Week => later(first, 7),
            Self::Month => later(first.last_of_month(), 1),
        }
    }
}

fn earlier(date: Date, days: i8) -> Date {
    later(date, -i64::from(days))
}

fn later(date: Date, days: i64) -> Date {
    date.saturating_add(jiff::Span::new().days(days))
}

/// The first instant of a local day, in Unix seconds.
fn midnight(zone: &TimeZone, date: Date) -> i64 {
    let moment = zone.to_ambiguous_timestamp(date.to_datetime(time(0, 0, 0, 0)));
    let skipped = matches!(moment.offset(), AmbiguousOffset::Gap { .. });
    let instant = if skipped {
        // The clock is put forward over midnight: the day begins when that happens.
        let before = moment.earlier().unwrap_or_default();
        zone.following(before).next().map_or(before, |transition| transition.timestamp())
    } else {
        moment.compatible().unwrap_or_default()
    };
    instant.as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a known zone")
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_second()
    }

    fn text(second: i64) -> String {
        Timestamp::from_second(second).expect("a time").to_string()
    }

    #[test]
    fn days_have_the_hours_of_the_clock_on_the_wall() {
        // Zone, an instant, the day it is in, its length in minutes.
        let cases = [
            ("UTC", "2026-11-23T18:00:00Z", "2026-11-23T00:00:00Z", 24 * 60),
            ("Asia/Shanghai", "2026-11-23T17:00:00Z", "2026-11-23T16:00:00Z", 24 * 60),
            ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", 23 * 60),
            ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", 25 * 60),
            ("Australia/Lord_Howe", "2026-10-04T00:00:00Z", "2026-10-03T13:30:00Z", 23 * 60 + 30),
            ("Australia/Lord_Howe", "2026-04-05T00:00:00Z", "2026-04-04T13:00:00Z", 24 * 60 + 30),
            // Midnight does not exist.
            ("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", 23 * 60),
            ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", 23 * 60),
            // From half past eleven to half past twelve, so the day begins at half past twelve.
            ("America/Toronto", "1919-03-31T12:00:00Z", "1919-03-31T04:30:00Z", 23 * 60 + 30),
            // Midnight comes twice.
            ("America/Havana", "2026-11-01T12:00:00Z", "2026-11-01T04:00:00Z", 25 * 60),
            // The clock is put back from one minute past midnight into the day before.
            ("America/St_Johns", "2010-11-07T03:00:00Z", "2010-11-07T02:30:00Z", 25 * 60),
            // The 30th of December was left out.
            ("Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", 24 * 60),
            ("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", 24 * 60),
        ];
        for (name, instant, start, minutes) in cases {
            let span = Period::Day.span(&zone(name), at(instant));
            assert_eq!(text(span.start), start, "{name} {instant}");
            assert_eq!((span.end - span.start) / 60, minutes, "{name} {instant}");
        }
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let berlin = zone("Europe/Berlin");
        for day in ["2026-10-19T08:00:00Z", "2026-10-21T08:00:00Z", "2026-10-25T22:59:59Z"] {
            let week = Period::Week.span(&berlin, at(day));
            assert_eq!(text(week.start), "2026-10-18T22:00:00Z");
            assert_eq!(text(week.end), "2026-10-25T23:00:00Z");
        }
        let month = Period::Month.span(&berlin, at("2026-10-31T22:59:59Z"));
        assert_eq!(
            (text(month.start), text(month.end)),
            ("2026-09-30T22:00:00Z".into(), "2026-10-31T23:00:00Z".into())
        );
        let leap = Period::Month.span(&TimeZone::UTC, at("2028-02-29T00:00:00Z"));
        assert_eq!((leap.end - leap.start) / 86_400, 29);
    }

    #[test]
    fn periods_follow_each_other_without_gap_or_overlap() {
        let starts = ["2011-12-01T00:00:00Z", "2010-10-20T00:00:00Z", "2026-03-20T00:00:00Z"];
        for name in ["Pacific/Apia", "America/St_Johns", "Australia/Lord_Howe", "Africa/Cairo", "UTC"] {
            let zone = zone(name);
            for (period, start) in Period::ALL.into_iter().flat_map(|p| starts.map(|start| (p, start))) {
                let mut span = period.span(&zone, at(start));
                for _ in 0..60 {
                    for inside in [span.start, i64::midpoint(span.start, span.end), span.end - 1] {
                        assert_eq!(period.span(&zone, inside), span, "{name} {period:?} {}", text(inside));
                    }
                    let next = period.after(&zone, span);
                    assert_eq!(next.start, span.end, "{name} {period:?}");
                    assert_eq!(period.before(&zone, next), span, "{name} {period:?} {}", text(next.start));
                    span = next;
                }
            }
        }
    }

    #[test]
    fn no_instant_is_too_far() {
        for second in [i64::MIN, -1, 0, i64::MAX] {
            for period in Period::ALL {
                let span = period.span(&zone("America/New_York"), second);
                assert!(span.start < span.end, "{second} {span:?}");
            }
        }
    }
}
