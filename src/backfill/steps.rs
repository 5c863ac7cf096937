//! When samples are written. Pure.

/// How far apart samples are by their age, both in seconds: what lies far back is looked at from far away, and a month at the
/// finest step would be tens of gigabytes. A panel's window holds two at least: it grows with
/// the range that is looked at, and is two minutes at the shortest (`interval` in `grafana/source`).
const STEPS: [(i64, i64); 4] = [(24 * 3600, 60), (3 * 24 * 3600, 120), (7 * 24 * 3600, 300), (i64::MAX, 900)];

/// The samples go back this far if any of these steps allows it, in seconds; if there are too many label sets for a step,
/// the next one is taken, and the last one anyway.
const WANTED: i64 = 24 * 3600;
const FINEST: [i64; 6] = [60, 120, 300, 900, 1800, 3600];

/// So many of the following rows tell whether the clock behind a row is ahead: few where rows are far apart, and enough
/// to outvote one of several gateway nodes, or some rows in a row.
const NEXT: usize = 8;
pub(super) const FOLLOWING: usize = 64;

/// A moment for which samples are written, and the one before, both in unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) before: i64,
    pub(super) at: i64,
}

/// Which moments have passed.
#[derive(Debug)]
pub(super) struct Steps {
    now: i64,
    since: i64,
    /// No step is shorter.
    finest: i64,
    last: Option<i64>,
}

impl Steps {
    /// Steps from `since` to `now`, and on, but no more than `most`, of which the oldest are left out.
    pub(super) fn new(now: i64, since: i64, most: i64) -> Self {
        let most = most.max(WANTED / 3600);
        let finest = FINEST.into_iter().find(|step| WANTED / step <= most).unwrap_or(3600);
        let (mut reach, mut left) = (0, most);
        for (until, step) in STEPS {
            let step = step.max(finest);
            let fits = left.saturating_mul(step).min(until - reach);
            reach += fits;
            left -= fits / step;
        }
        Self { now, since: since.max(now.saturating_sub(reach)), finest, last: None }
    }

    /// Where the samples begin.
    pub(super) fn since(&self) -> i64 {
        self.since
    }

    /// Whether the first step begins with `moment`: what was counted before is older than all samples.
    pub(super) fn begins(&self, moment: i64) -> bool {
        self.last.is_none() && moment >= self.since
    }

    /// The step that lies around `at`.
    fn length(&self, at: i64) -> i64 {
        let age = self.now.saturating_sub(at);
        STEPS
            .iter()
            .find(|(until, _)| age <= *until)
            .map_or(self.finest, |(_, step)| (*step).max(self.finest))
    }

    /// The next moment that lies before `moment`, if there is one. If everything is `calm`, so that nothing is to be
    /// written, moments are passed over until the last one.
    pub(super) fn passed(&mut self, moment: i64, calm: bool) -> Option<Step> {
        let length = self.length(moment);
        let floor = (moment - 1).div_euclid(length) * length;
        let Some(last) = self.last else {
            if moment < self.since {
                return None;
            }
            self.last = Some(floor);
            return None;
        };
        let before = if calm { last.max(floor) } else { last };
        let length = self.length(before);
        let at = (before.div_euclid(length) + 1) * length;
        self.last = Some(before);
        (at < moment).then(|| {
            self.last = Some(at);
            Step { before, at }
        })
    }

    /// The step that ends now.
    pub(super) fn last(&self, now: i64) -> Step {
        let before = self.last.unwrap_or(now - 1).min(now - 1);
        Step { before, at: now }
    }
}

/// Tells when rows happened, from rows in the order of their ids: clocks of gateway nodes differ, and a row can be
/// visible late.
#[derive(Debug, Default)]
pub(super) struct Moments {
    newest: i64,
    following: Vec<i64>,
}

impl Moments {
    /// When the first of `times` happened: its own time, unless it lies before that of an earlier row, or after those of
    /// most of the following ones, of which then an early one tells, or after `latest`.
    pub(super) fn of(&mut self, times: &[i64], latest: i64) -> i64 {
        let Some((own, rest)) = times.split_first() else { return self.newest };
        if *own > self.newest {
            let windows = [NEXT, FOLLOWING].map(|many| &rest[..rest.len().min(many)]);
            let earlier = |rest: &&[i64]| rest.iter().filter(|at| *at < own).count() > rest.len() / 2;
            let happened = windows.into_iter().find(earlier).map_or(*own, |rest| {
                self.following.clear();
                self.following.extend(rest);
                *self.following.select_nth_unstable(rest.len() / 8).1
            });
            self.newest = self.newest.max(happened.min(latest));
        }
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn moments(times: &[i64]) -> Vec<i64> {
        let mut moments = Moments::default();
        (0..times.len()).map(|at| moments.of(&times[at..], NOW)).collect()
    }

    #[test]
    fn a_row_that_comes_late_counts_when_it_comes() {
        assert_eq!(moments(&[100, 160, 120, 170]), [100, 160, 160, 170]);
    }

    #[test]
    fn a_clock_that_is_ahead_takes_nobody_along() {
        // One row in three, in no order; and one gateway for a minute.
        let ahead = |row: i64| (row * row * 7 + row) % 31 < 10 || (300..310).contains(&row);
        let times: Vec<i64> =
            (0..600).map(|row| 1000 + row + if ahead(row) { 8 * 3600 } else { 0 }).collect();
        let told = times.len() - FOLLOWING;
        for (row, moment) in moments(&times).into_iter().enumerate().take(told) {
            let happened = 1000 + i64::try_from(row).expect("few rows");
            assert!((happened - 1..happened + 30).contains(&moment), "row {row} at {moment}");
        }
    }

    #[test]
    fn nothing_happened_in_the_future() {
        assert_eq!(moments(&[NOW - 5, NOW + 7200]), [NOW - 5, NOW]);
    }

    #[test]
    fn steps_are_finer_the_nearer_they_lie() {
        let mut steps = Steps::new(NOW, 0, i64::MAX);
        let begin = NOW - 8 * 24 * 3600;
        assert_eq!(steps.passed(begin, false), None);
        let mut found = Vec::new();
        while let Some(step) = steps.passed(NOW, false) {
            found.push(step);
        }
        assert!(found.windows(2).all(|two| two[0].at == two[1].before), "one after the other");
        for Step { before, at } in &found {
            let age = NOW - before;
            let length = match age / 3600 {
                ..24 => 60,
                24..72 => 120,
                72..168 => 300,
                _ => 900,
            };
            if age % (24 * 3600) == 0 {
                continue;
            }
            assert_eq!((at - before, at % length), (length, 0), "at an age of {age} s");
        }
        let days = [24 * 4, 4 * 24 * 12, 2 * 24 * 30, 24 * 60];
        let expected: usize = days.iter().sum();
        assert!(found.len().abs_diff(expected) <= 3, "{} steps", found.len());
    }

    #[test]
    fn the_oldest_are_left_out_if_there_are_too_many() {
        let since = |most| NOW - Steps::new(NOW, 0, most).since();
        assert_eq!(since(24 * 60 + 30), 24 * 3600 + 30 * 120);
        assert_eq!(since(24 * 60 - 1), 24 * 3600 + (24 * 30 - 1) * 120, "with longer steps");
        assert_eq!(since(10), 24 * 3600, "a day at least");
        assert_eq!(Steps::new(NOW, NOW - 100, i64::MAX).since(), NOW - 100);

        let mut steps = Steps::new(NOW, NOW - 600, i64::MAX);
        assert!(!steps.begins(NOW - 601) && steps.passed(NOW - 601, false).is_none());
        assert!(steps.begins(NOW - 300) && steps.passed(NOW - 300, false).is_none());
        let first = steps.passed(NOW, false).expect("one has passed");
        assert_eq!(first.before, (NOW - 301) / 60 * 60);
        assert!(!steps.begins(NOW));
    }

    #[test]
    fn what_is_calm_is_passed_over() {
        let mut steps = Steps::new(NOW, 0, i64::MAX);
        let begin = NOW - 5 * 3600;
        steps.passed(begin, true);
        let later = begin + 3600 + 30;
        let step = steps.passed(later, true);
        assert!(step.is_none_or(|step| step.before >= later - 120), "{step:?}");
        let next = steps.passed(later + 60, false).expect("one has passed");
        assert_eq!(next.at - next.before, 60);
        assert!(next.at < later + 60 && next.before >= later - 120, "{next:?}");
    }
}
