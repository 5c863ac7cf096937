//! Metrics about ourselves that change without any row: health of the follower, lag, failures.

use std::sync::Arc;

use prometheus_client::collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::facts::{counter, descriptor, gauge, plain_gauge};
use crate::newapi::Reason;
use crate::state::TailStatus;
use crate::usage::Usage;

/// Encoded for each scrape.
#[derive(Debug)]
pub(super) struct Vitals {
    pub(super) tail: TailStatus,
    pub(super) usage: Option<Arc<Usage>>,
    /// How far back a failed attempt shows that the error log is on.
    pub(super) history_seconds: f64,
    pub(super) now: f64,
}

impl collector::Collector for Vitals {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let tail = &self.tail;
        let family = descriptor(
            &mut encoder,
            "newapi_up",
            "Whether new-api's log database answered the last poll",
            MetricType::Gauge,
        )?;
        plain_gauge(family, f64::from(u8::from(tail.up)))?;

        let mut family = descriptor(
            &mut encoder,
            "token_monitor_build_info",
            "Version of the running program",
            MetricType::Gauge,
        )?;
        gauge(&mut family, &[("version", env!("CARGO_PKG_VERSION"))], 1.0)?;

        let family = descriptor(
            &mut encoder,
            "token_monitor_tail_lag_seconds",
            "Time since the end of the log was last reached",
            MetricType::Gauge,
        )?;
        let since = tail.reached_end_at.unwrap_or(tail.started_at);
        plain_gauge(family, (self.now - since).max(0.0))?;

        let family = descriptor(
            &mut encoder,
            "token_monitor_tail_last_success_timestamp_seconds",
            "When a poll of the log was last answered, 0 for never",
            MetricType::Gauge,
        )?;
        plain_gauge(family, tail.last_success_at.unwrap_or(0.0))?;

        let mut family = descriptor(
            &mut encoder,
            "token_monitor_tail_errors",
            "Failed polls of the log by reason",
            MetricType::Counter,
        )?;
        for reason in Reason::ALL {
            let count = tail.errors.get(&reason).copied().unwrap_or(0);
            counter(&mut family, &[("reason", reason.as_str())], count as f64)?;
        }
        self.capabilities(&mut encoder)
    }
}

impl Vitals {
    /// What the log of this installation can give. Nothing is said before it is known.
    fn capabilities(&self, encoder: &mut DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut features = self.tail.features.clone();
        if let Some(usage) = &self.usage {
            let totals = usage.totals();
            let error_log = totals.last_error_row_at as f64 >= self.now - self.history_seconds;
            features.extend([
                ("error_log", error_log && totals.last_error_row_at > 0),
                ("stream_status", totals.saw_stream_status),
            ]);
        }
        features.sort_unstable();
        let help = "Whether the log can give a feature";
        let mut family = descriptor(encoder, "token_monitor_capability", help, MetricType::Gauge)?;
        for (feature, present) in features {
            gauge(&mut family, &[("feature", feature)], f64::from(u8::from(present)))?;
        }
        Ok(())
    }
}
