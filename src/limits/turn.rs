//! Which calendar window is now, and the ones around it: the one before for rows that are late and clocks that are put
//! back, the one after for rows of a clock that is ahead.

use jiff::tz::TimeZone;

use super::calendar::{Period, Span};

/// Places of the windows in every list of three.
pub(super) const CURRENT: usize = 1;

/// Three windows that follow each other.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    period: Period,
    spans: [Span; 3],
    /// Whether every row of the window is known, if those since the beginning of the first current one were given.
    whole: [bool; 3],
    /// Whether a row is dated in the window.
    used: [bool; 3],
    /// Rows since then were too far ahead to be kept.
    beyond: i64,
}

impl Turn {
    /// The windows around `now`.
    pub(super) fn new(period: Period, zone: &TimeZone, now: i64) -> Self {
        let spans = around(period, zone, now);
        Self { period, spans, whole: [false, true, true], used: [false; 3], beyond: i64::MAX }
    }

    /// Which window a row of the instant `at` belongs to.
    pub(super) fn place(&mut self, at: i64) -> Option<usize> {
        let place = self.spans.iter().position(|span| span.contains(at));
        if let Some(place) = place {
            self.used[place] = true;
        } else if at >= self.spans[2].end {
            self.beyond = self.beyond.min(at);
        }
        place
    }

    /// Goes on to `now`. If the windows changed: for each, which of the old ones it is.
    pub(super) fn advance(&mut self, zone: &TimeZone, now: i64) -> Option<[Option<usize>; 3]> {
        if self.spans[CURRENT].contains(now) {
            return None;
        }
        let spans = around(self.period, zone, now);
        let from = spans.map(|span| self.spans.iter().position(|old| *old == span));
        let kept_until = self.spans[2].end;
        // What is known of later windows is dropped if the clock is put back.
        let dropped =
            self.spans.iter().zip(self.used).filter(|(old, used)| *used && old.start >= spans[2].end);
        self.beyond = dropped.map(|(old, _)| old.start).fold(self.beyond, i64::min);
        self.whole = std::array::from_fn(|at| match from[at] {
            Some(old) => self.whole[old],
            None => spans[at].start >= kept_until && self.beyond >= spans[at].end,
        });
        self.used = from.map(|old| old.is_some_and(|old| self.used[old]));
        self.spans = spans;
        Some(from)
    }

    /// Whether every row of the current window is known.
    pub(super) fn is_whole(&self) -> bool {
        self.whole[CURRENT]
    }

    /// The current window.
    pub(super) fn span(&self) -> Span {
        self.spans[CURRENT]
    }
}

fn around(period: Period, zone: &TimeZone, now: i64) -> [Span; 3] {
    let current = period.span(zone, now);
    [period.before(zone, current), current, period.after(zone, current)]
}
