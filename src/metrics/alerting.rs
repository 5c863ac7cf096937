//! Metrics of webhooks, deliveries and the breaker.

use prometheus_client::collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::facts::{counter, descriptor, gauge, plain_gauge};
use crate::breaker::act::{Kind, Outcome};
use crate::state::{AlertingStatus, DEAD_REASONS, Facts, WEBHOOK_RESULTS};

/// Encoded for each scrape.
#[derive(Debug)]
pub(super) struct Alerting {
    pub(super) status: AlertingStatus,
    pub(super) facts: Facts,
    pub(super) now: f64,
}

impl collector::Collector for Alerting {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        self.webhooks(&mut encoder)?;
        self.deliveries(&mut encoder)?;
        self.breaker(&mut encoder)
    }
}

impl Alerting {
    fn webhooks(&self, encoder: &mut DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let help = "Calls of the webhook by what became of them";
        let mut family = descriptor(encoder, "token_monitor_webhooks", help, MetricType::Counter)?;
        for result in WEBHOOK_RESULTS {
            let count = self.status.webhooks.get(result).copied().unwrap_or(0);
            counter(&mut family, &[("result", result)], count as f64)?;
        }
        let family = descriptor(
            encoder,
            "token_monitor_last_webhook_timestamp_seconds",
            "When the webhook last accepted a call, 0 for never",
            MetricType::Gauge,
        )?;
        plain_gauge(family, self.status.last_webhook_at.unwrap_or(0.0))?;
        let family = descriptor(
            encoder,
            "token_monitor_last_watchdog_timestamp_seconds",
            "When the webhook last brought the Watchdog alert, 0 for never",
            MetricType::Gauge,
        )?;
        plain_gauge(family, self.status.last_watchdog_at.unwrap_or(0.0))
    }

    fn deliveries(&self, encoder: &mut DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut counts = self.status.deliveries.clone();
        for target in self.status.outbox.keys() {
            // So that the first of each is an increase.
            counts.entry((*target, "sent", "")).or_insert(0);
            for reason in DEAD_REASONS {
                counts.entry((*target, "dead", reason)).or_insert(0);
            }
        }
        let help = "Attempts to deliver a message by what became of them";
        let mut family = descriptor(encoder, "token_monitor_deliveries", help, MetricType::Counter)?;
        for ((target, result, reason), count) in counts {
            let labels = [("target", target.as_str()), ("result", result), ("reason", reason)];
            counter(&mut family, &labels, count as f64)?;
        }
        let help = "Messages that wait to be delivered";
        let mut family = descriptor(encoder, "token_monitor_outbox_pending", help, MetricType::Gauge)?;
        for (target, waiting) in &self.status.outbox {
            gauge(&mut family, &[("target", target.as_str())], waiting.pending as f64)?;
        }
        let help = "Age of the oldest message that waits to be delivered, 0 if none waits";
        let mut family = descriptor(encoder, "token_monitor_outbox_oldest_seconds", help, MetricType::Gauge)?;
        for (target, waiting) in &self.status.outbox {
            let age = waiting.oldest_at.map_or(0.0, |at| (self.now - at).max(0.0));
            gauge(&mut family, &[("target", target.as_str())], age)?;
        }
        Ok(())
    }

    fn breaker(&self, encoder: &mut DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let help = "Acts of the circuit breaker by what became of them";
        let mut family = descriptor(encoder, "token_monitor_breaker_actions", help, MetricType::Counter)?;
        for kind in Kind::ALL {
            for result in Outcome::RESULTS {
                let count = self.status.acts.get(&(kind, result)).copied().unwrap_or(0);
                counter(&mut family, &[("action", kind.as_str()), ("result", result)], count as f64)?;
            }
        }
        let help = "1 for each channel that the circuit breaker holds disabled";
        let mut family = descriptor(encoder, "token_monitor_breaker_open", help, MetricType::Gauge)?;
        for id in &self.status.open {
            let (id_text, name) = (id.to_string(), self.facts.channel_name(*id));
            gauge(&mut family, &[("channel_id", id_text.as_str()), ("channel_name", name)], 1.0)?;
        }
        Ok(())
    }
}
