//! When the Watchdog is silent. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::store::Pipeline;

/// How often it is looked.
pub(super) const STEP: Duration = Duration::from_secs(1);

/// Between two looks the clock moved by more than this only if it was set, or if the machine slept.
const JUMP: SignedDuration = SignedDuration::from_secs(30);

/// Watches over time.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    timeout: SignedDuration,
    /// Silence before this is not the pipeline's: we were not there to listen, or it was another clock's.
    listening_since: Timestamp,
    last_look: Timestamp,
}

impl Watch {
    /// A watch that begins now.
    pub(super) fn new(now: Timestamp, timeout: Duration) -> Self {
        let timeout = SignedDuration::try_from(timeout).unwrap_or(SignedDuration::MAX);
        Self { timeout, listening_since: now, last_look: now }
    }

    /// Notes that it is `now`.
    pub(super) fn pass(&mut self, now: Timestamp) {
        if now.duration_since(self.last_look).abs() > JUMP {
            self.listening_since = now;
        }
        self.last_look = now;
    }

    /// When the Watchdog was last heard, if it is silent for too long and nobody was told.
    pub(super) fn silent_since(&self, pipeline: &Pipeline, now: Timestamp) -> Option<Timestamp> {
        let heard = pipeline.watchdog_at.filter(|_| pipeline.silent_since.is_none())?;
        // What is heard in the future was heard by another clock, before it was set.
        let since = if heard > now { self.listening_since } else { heard.max(self.listening_since) };
        (now.duration_since(since) >= self.timeout).then_some(heard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(600);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_412_060 + seconds).unwrap()
    }

    fn heard(seconds: i64) -> Pipeline {
        Pipeline { watchdog_at: Some(at(seconds)), ..Pipeline::default() }
    }

    /// Looks every second until `end`, and tells when silence was first noticed.
    fn noticed(watch: &mut Watch, pipeline: &Pipeline, seconds: std::ops::Range<i64>) -> Option<i64> {
        seconds.into_iter().find(|second| {
            watch.pass(at(*second));
            watch.silent_since(pipeline, at(*second)).is_some()
        })
    }

    #[test]
    fn silence_is_noticed_after_the_timeout_and_only_if_it_was_ever_heard() {
        let mut watch = Watch::new(at(0), TIMEOUT);
        assert_eq!(noticed(&mut watch, &heard(5), 5..2_000), Some(605));
        let mut watch = Watch::new(at(0), TIMEOUT);
        assert_eq!(noticed(&mut watch, &Pipeline::default(), 0..10_000), None);
        let told = Pipeline { silent_since: Some(at(5)), ..heard(5) };
        let mut watch = Watch::new(at(0), TIMEOUT);
        assert_eq!(noticed(&mut watch, &told, 5..2_000), None);
    }

    #[test]
    fn after_a_start_it_has_the_whole_time_again() {
        let mut watch = Watch::new(at(0), TIMEOUT);
        assert_eq!(noticed(&mut watch, &heard(-50_000), 0..2_000), Some(600));
    }

    #[test]
    fn a_clock_that_is_set_is_no_silence() {
        for jump in [86_400, -86_400] {
            let mut watch = Watch::new(at(0), TIMEOUT);
            assert_eq!(noticed(&mut watch, &heard(0), 0..300), None);
            assert_eq!(noticed(&mut watch, &heard(0), jump..jump + 2_000), Some(jump + 600), "{jump}");
        }
    }
}
