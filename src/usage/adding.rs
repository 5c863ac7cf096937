//! What one row adds to its label set. Pure.

use super::histogram::Exemplar;
use super::series::{Addition, Series};
use super::{Context, Family, Leaf};
use crate::record::{LogRecord, Request};

/// Adds what one row counts as to the cells of its label set.
pub(super) struct Adding<'a> {
    pub(super) series: &'a mut Series,
    pub(super) sizes: &'a mut [usize; Family::ALL.len()],
    pub(super) held: &'a mut usize,
    pub(super) max_series: usize,
    pub(super) live: bool,
    pub(super) version: u64,
    /// Whether anything was added.
    pub(super) admitted: bool,
    /// What families had no room for.
    pub(super) overflow: Vec<(Leaf, Addition)>,
}

impl Adding<'_> {
    /// Adds to a counter.
    #[inline]
    pub(super) fn add(&mut self, leaf: Leaf, amount: f64) {
        if self.admit(leaf) {
            self.series.count(leaf, amount);
        } else {
            self.overflow.push((leaf.overflow(), Addition::Count(amount)));
        }
    }

    /// Whether there is room for a cell of `leaf`.
    #[inline]
    fn admit(&mut self, leaf: Leaf) -> bool {
        if !self.series.has(leaf) {
            let size = &mut self.sizes[leaf.family().index()];
            if *size >= self.max_series {
                return false;
            }
            *size += 1;
            if self.live {
                *self.held += 1;
                self.series.hold(leaf, self.version);
            }
        }
        self.admitted = true;
        true
    }

    /// Adds an answered request.
    pub(super) fn request(&mut self, record: &LogRecord<'_>, request: &Request, context: &Context<'_>) {
        for (family, tokens) in [
            (Family::InputTokens, request.input_tokens),
            (Family::OutputTokens, request.output_tokens),
            (Family::CacheReadTokens, request.cache_read_tokens),
            (Family::CacheWriteTokens, request.cache_write_tokens),
        ] {
            self.add(Leaf::Plain(family), tokens as f64);
        }
        self.money(request.quota, 0, context);
        let slow = request.duration_seconds > context.rules.slow_over_seconds;
        self.add(Leaf::Plain(Family::SlowRequests), f64::from(u8::from(slow)));
        self.add(Leaf::Requests(request.outcome, record.stream), 1.0);
        let timing = |family| Leaf::Timing(family, request.retried);
        self.time(timing(Family::RequestDuration), request.duration_seconds, record, context);
        if let Some(seconds) = request.first_token_seconds {
            self.time(timing(Family::TimeToFirstToken), seconds, record, context);
        }
    }

    /// All four families are touched at once, so that `consumed - refunded` has both sides.
    pub(super) fn money(&mut self, consumed: u64, refunded: u64, context: &Context<'_>) {
        let (consumed, refunded) = (consumed as f64, refunded as f64);
        for (family, amount) in [
            (Family::QuotaConsumed, consumed),
            (Family::QuotaRefunded, refunded),
            (Family::CostUsd, consumed / context.quota_per_unit),
            (Family::CostRefundedUsd, refunded / context.quota_per_unit),
        ] {
            self.add(Leaf::Plain(family), amount);
        }
    }

    fn time(&mut self, leaf: Leaf, seconds: f64, record: &LogRecord<'_>, context: &Context<'_>) {
        let exemplar = (record.created_at >= context.exemplars_since).then(|| Exemplar {
            log_id: record.id,
            request_id: record.request_id.as_ref().into(),
            value: seconds,
            at: record.created_at,
        });
        if self.admit(leaf) {
            self.series.observe(leaf, seconds, exemplar);
        } else {
            self.overflow.push((leaf.overflow(), Addition::Observation(seconds, exemplar)));
        }
    }
}
