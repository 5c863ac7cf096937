//! What is counted: the traffic metrics, and the samples that each has for a label set. Pure.

use serde::{Deserialize, Serialize};

use super::histogram::{DURATION_BOUNDS, FIRST_TOKEN_BOUNDS};
use crate::record::{ErrorType, Outcome};

/// A traffic metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Answered requests.
    Requests,
    /// Failed attempts.
    Errors,
    /// Input tokens, cached ones included.
    InputTokens,
    /// Output tokens.
    OutputTokens,
    /// Input tokens read from a cache.
    CacheReadTokens,
    /// Tokens written to a cache.
    CacheWriteTokens,
    /// Money charged, new-api's unit.
    QuotaConsumed,
    /// Money given back, new-api's unit.
    QuotaRefunded,
    /// Money charged, US dollars.
    CostUsd,
    /// Money given back, US dollars.
    CostRefundedUsd,
    /// Duration of requests.
    RequestDuration,
    /// Time to the first streamed chunk.
    TimeToFirstToken,
    /// Requests over the threshold.
    SlowRequests,
    /// Attempts followed by another channel.
    Failovers,
    /// Tests by administrators.
    ChannelTests,
}

impl Family {
    /// All of them, in the order of `/metrics`.
    pub const ALL: [Self; 15] = [
        Self::Requests,
        Self::Errors,
        Self::InputTokens,
        Self::OutputTokens,
        Self::CacheReadTokens,
        Self::CacheWriteTokens,
        Self::QuotaConsumed,
        Self::QuotaRefunded,
        Self::CostUsd,
        Self::CostRefundedUsd,
        Self::RequestDuration,
        Self::TimeToFirstToken,
        Self::SlowRequests,
        Self::Failovers,
        Self::ChannelTests,
    ];

    /// Its place in [`Family::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Classic bucket bounds, for histograms.
    pub fn bounds(self) -> &'static [f64] {
        match self {
            Self::RequestDuration => &DURATION_BOUNDS,
            Self::TimeToFirstToken => &FIRST_TOKEN_BOUNDS,
            _ => &[],
        }
    }
}

/// One sample, or one histogram, of a label set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaf {
    /// A family without further labels.
    Plain(Family),
    /// `newapi_requests_total{outcome, stream}`.
    Requests(Outcome, bool),
    /// `newapi_errors_total{status_code, error_type}`; 0 is an unknown status.
    Errors(u16, ErrorType),
    /// A histogram with its label `retried`.
    Timing(Family, bool),
    /// The sum of what a family could not hold, whose labels are all `_other`.
    Overflow(Family),
}

impl Leaf {
    /// The family it belongs to.
    pub fn family(self) -> Family {
        match self {
            Self::Plain(family) | Self::Timing(family, _) | Self::Overflow(family) => family,
            Self::Requests(..) => Family::Requests,
            Self::Errors(..) => Family::Errors,
        }
    }

    /// The leaf that sums what its family could not hold.
    #[must_use]
    pub fn overflow(self) -> Self {
        Self::Overflow(self.family())
    }
}
