//! The only place that reads the time. Pure code takes `now` as an argument; loops hold a [`Clock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// The time of day: the system's, or one that a test moves.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Unix milliseconds, if a test decides.
    fixed: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands at `now` until [`Clock::set`] moves it. Clones move together.
    pub fn fixed(now: Timestamp) -> Self {
        Self { fixed: Some(Arc::new(AtomicI64::new(now.as_millisecond()))) }
    }

    /// Moves a fixed clock; the system's stays what it is.
    pub fn set(&self, now: Timestamp) {
        if let Some(fixed) = &self.fixed {
            fixed.store(now.as_millisecond(), Ordering::Relaxed);
        }
    }

    /// The present instant.
    #[expect(clippy::disallowed_methods, reason = "this is the place that may ask")]
    pub fn now(&self) -> Timestamp {
        match &self.fixed {
            Some(fixed) => Timestamp::from_millisecond(fixed.load(Ordering::Relaxed)).unwrap_or_default(),
            None => Timestamp::now(),
        }
    }

    /// Unix seconds.
    pub fn unix(&self) -> i64 {
        self.now().as_second()
    }

    /// Unix seconds with their fraction, as metrics want them.
    pub fn unix_f64(&self) -> f64 {
        self.now().as_millisecond() as f64 / 1000.0
    }
}
