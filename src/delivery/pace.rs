//! How fast a target may be asked. Pure: the time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::message::Target;

/// Requests that a bot may get in a time.
#[derive(Debug, Clone, Copy)]
struct Quota {
    requests: usize,
    time: Duration,
}

const fn quota(requests: usize, seconds: u64) -> Quota {
    Quota { requests, time: Duration::from_secs(seconds) }
}

/// The limits of a target and what it has seen.
#[derive(Debug)]
pub struct Pace {
    quotas: Vec<Quota>,
    /// When requests ended, the last one last; as many as the longest quota needs.
    ended: VecDeque<Instant>,
    paused_until: Option<Instant>,
}

impl Pace {
    /// The limits that a target documents. A Telegram chat that is a group has a further one.
    pub fn of(target: Target, group: bool) -> Self {
        let mut quotas = match target {
            Target::Telegram => vec![quota(1, 1)],
            Target::Feishu => vec![quota(5, 1), quota(100, 60)],
            Target::Wecom => vec![quota(20, 60)],
        };
        if target == Target::Telegram && group {
            quotas.push(quota(20, 60));
        }
        Self { quotas, ended: VecDeque::new(), paused_until: None }
    }

    /// A request ended. Its end is what counts: the target saw it no later.
    pub fn note(&mut self, at: Instant) {
        self.ended.push_back(at);
        let most = self.quotas.iter().map(|quota| quota.requests).max().unwrap_or(0);
        while self.ended.len() > most {
            self.ended.pop_front();
        }
    }

    /// The target is not asked before `until`; an earlier wish for a longer pause stays.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// How long to wait before the next request; zero if it may be made.
    pub fn wait(&self, now: Instant) -> Duration {
        let quota_ends = self.quotas.iter().filter_map(|quota| {
            let place = self.ended.len().checked_sub(quota.requests)?;
            Some(*self.ended.get(place)? + quota.time)
        });
        let end = quota_ends.chain(self.paused_until).max();
        end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of requests, in milliseconds, of someone who sends as fast as is allowed; each takes `took`.
    fn times(mut pace: Pace, count: usize, took: u64) -> Vec<u128> {
        let start = Instant::now();
        let (mut now, mut times) = (start, Vec::new());
        for _ in 0..count {
            now += pace.wait(now);
            times.push((now - start).as_millis());
            now += Duration::from_millis(took);
            pace.note(now);
        }
        times
    }

    /// The most requests in any stretch of so many milliseconds.
    fn most(times: &[u128], stretch: u128) -> usize {
        let in_stretch = |from: &u128| times.iter().filter(|at| (*from..from + stretch).contains(at)).count();
        times.iter().map(in_stretch).max().unwrap_or(0)
    }

    #[test]
    fn a_storm_never_exceeds_what_a_target_documents_and_uses_it() {
        let wecom = times(Pace::of(Target::Wecom, true), 65, 10);
        assert_eq!(most(&wecom, 60_000), 20);
        assert!(wecom[59] < 125_000, "{wecom:?}");
        let feishu = times(Pace::of(Target::Feishu, true), 250, 5);
        assert_eq!((most(&feishu, 1_000), most(&feishu, 60_000)), (5, 100));
        let group = times(Pace::of(Target::Telegram, true), 50, 5);
        assert_eq!((most(&group, 1_000), most(&group, 60_000)), (1, 20));
        let person = times(Pace::of(Target::Telegram, false), 50, 5);
        assert_eq!(most(&person, 1_000), 1);
        assert!(person[49] < 50_000, "{person:?}");
    }

    #[test]
    fn the_longer_of_two_pauses_counts() {
        let (mut pace, now) = (Pace::of(Target::Wecom, true), Instant::now());
        pace.pause(now + Duration::from_secs(36));
        pace.pause(now + Duration::from_secs(2));
        assert_eq!(pace.wait(now), Duration::from_secs(36));
        assert_eq!(pace.wait(now + Duration::from_secs(37)), Duration::ZERO);
    }
}
