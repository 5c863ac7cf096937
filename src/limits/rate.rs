//! How fast a limit is being used at present, and when it would be used up at that rate.

/// The part of a window that counts as the present: of a day it is an hour.
const PRESENT: f64 = 24.0;

/// Shortest present, in seconds.
const SHORTEST: f64 = 60.0;

/// A sum in which what was added fades with time: after the present, to about a third.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    sum: f64,
    at: i64,
}

/// What a projection starts from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook {
    /// Unix seconds.
    pub(super) now: i64,
    /// Used so far.
    pub(super) used: f64,
    /// Allowed.
    pub(super) max: f64,
    /// Added in a second, at present.
    pub(super) per_second: f64,
}

/// How long the present of a window of so many seconds is, in seconds.
pub(super) fn present(window: i64) -> f64 {
    (window as f64 / PRESENT).max(SHORTEST)
}

impl Rate {
    /// Adds what came at the instant `at`.
    pub(super) fn add(&mut self, amount: f64, at: i64, present: f64) {
        if at > self.at {
            self.sum = self.faded(at, present) + amount;
            self.at = at;
        } else {
            self.sum += if at == self.at { amount } else { amount * fade(self.at, at, present) };
        }
    }

    /// What comes in a second, at the instant `now`. Never negative.
    pub(super) fn per_second(&self, now: i64, present: f64) -> f64 {
        (self.faded(now, present) / present).max(0.0)
    }

    fn faded(&self, now: i64, present: f64) -> f64 {
        if self.sum == 0.0 { 0.0 } else { self.sum * fade(now, self.at, present) }
    }
}

fn fade(now: i64, then: i64, present: f64) -> f64 {
    (now.saturating_sub(then).max(0) as f64 / -present).exp()
}

impl Outlook {
    /// When `max` is reached within a window that ends at `end`, in Unix seconds. None if it is not, or is already.
    pub(super) fn exhausted_by(self, end: i64) -> Option<i64> {
        self.reached_at(self.per_second).filter(|at| *at < end)
    }

    /// The same for a rolling window of `length` seconds, which loses about as much as it holds in each length.
    pub(super) fn exhausted_while_rolling(self, length: i64) -> Option<i64> {
        let gained = self.per_second - self.used / length as f64;
        self.reached_at(gained).filter(|at| *at <= self.now.saturating_add(length))
    }

    fn reached_at(self, per_second: f64) -> Option<i64> {
        if self.used >= self.max || per_second <= 0.0 {
            return None;
        }
        let seconds = ((self.max - self.used) / per_second).ceil();
        #[expect(clippy::cast_possible_truncation, reason = "a cast of a float ends at the largest number")]
        let seconds = seconds as i64;
        Some(self.now.saturating_add(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_its_rate_whatever_the_order() {
        let present = present(86_400);
        assert_eq!(present, 3600.0);
        let (mut forwards, mut backwards) = (Rate::default(), Rate::default());
        for second in (0..86_400).step_by(10) {
            forwards.add(30.0, second, present);
            backwards.add(30.0, 86_390 - second, present);
        }
        assert!((forwards.per_second(86_400, present) - 3.0).abs() < 0.01);
        assert!((backwards.per_second(86_400, present) - 3.0).abs() < 0.01);
        // An hour of silence leaves about a third of it.
        let later = forwards.per_second(90_000, present);
        assert!((later - 3.0 * (-1.0f64).exp()).abs() < 0.01, "{later}");
    }

    #[test]
    fn what_is_left_is_projected_at_the_present_rate() {
        let outlook = Outlook { now: 1000, used: 60.0, max: 100.0, per_second: 0.5 };
        assert_eq!(outlook.exhausted_by(2000), Some(1080));
        assert_eq!(outlook.exhausted_by(1080), None, "the window ends first");
        assert_eq!(Outlook { used: 100.0, ..outlook }.exhausted_by(2000), None, "it is exhausted already");
        assert_eq!(Outlook { per_second: 0.0, ..outlook }.exhausted_by(2000), None);
        // 100 seconds at 0.5 will hold 50: 100 is never reached. At 2 a second it is.
        assert_eq!(outlook.exhausted_while_rolling(100), None);
        assert_eq!(Outlook { per_second: 2.6, ..outlook }.exhausted_while_rolling(100), Some(1020));
    }
}
