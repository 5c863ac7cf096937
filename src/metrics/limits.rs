//! Metrics of the limits: where each stands, and whether its file could be read.

use std::sync::Arc;

use prometheus_client::collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::facts::{descriptor, gauge, plain_gauge};
use crate::limits::{ChannelScope, Limit, ModelScope, Standing};
use crate::state::{Facts, LimitsStatus};
use crate::usage::OTHER;

/// Encoded for each scrape, because time alone moves windows.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) status: Arc<LimitsStatus>,
    pub(super) facts: Facts,
}

/// What is shown of one key of a limit; None shows nothing.
type Read = fn(&Limit, &Standing) -> Option<f64>;

const FAMILIES: [(&str, &str, Read); 5] = [
    ("newapi_limit_used", "How much of a limit is used, in the unit of its measure", |_, standing| {
        Some(standing.used)
    }),
    ("newapi_limit_max", "What a limit allows, in the unit of its measure", |limit, _| Some(limit.max)),
    ("newapi_limit_used_ratio", "How much of a limit is used, as a part of what it allows", |_, standing| {
        Some(standing.ratio)
    }),
    ("newapi_limit_warn_ratio", "The part of a limit that is worth a warning", |limit, _| limit.warn_at),
    (
        "newapi_limit_reset_timestamp_seconds",
        "When the window of a limit ends, or a rolling window that is nearly used up will have calmed down",
        |_, standing| standing.resets_at.map(|at| at as f64),
    ),
];

impl collector::Collector for Limits {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let standings = self.status.standings.as_deref().unwrap_or_default();
        let shown: Vec<_> = standings
            .iter()
            .filter_map(|standing| Some((self.status.limits.get(standing.limit)?, standing)))
            .map(|(limit, standing)| (limit, standing, self.labels(limit, standing)))
            .collect();
        for (name, help, read) in FAMILIES {
            let mut family = descriptor(&mut encoder, name, help, MetricType::Gauge)?;
            for (limit, standing, labels) in &shown {
                if let Some(value) = read(limit, standing) {
                    gauge(&mut family, labels, value)?;
                }
            }
        }
        if !self.status.looked {
            return Ok(());
        }
        let family = descriptor(
            &mut encoder,
            "token_monitor_config_last_reload_successful",
            "Whether the file of limits is in force as it is now",
            MetricType::Gauge,
        )?;
        plain_gauge(family, f64::from(u8::from(self.status.error.is_none())))?;
        let family = descriptor(
            &mut encoder,
            "token_monitor_config_last_reload_success_timestamp_seconds",
            "When the file of limits was last taken over, 0 for never",
            MetricType::Gauge,
        )?;
        plain_gauge(family, self.status.loaded_at.unwrap_or(0.0))
    }
}

impl Limits {
    /// What a limit sums over is empty.
    fn labels(&self, limit: &Limit, standing: &Standing) -> [(&'static str, String); 9] {
        let (mut channel_id, mut channel_name, mut model) = (String::new(), String::new(), String::new());
        if let Some(id) = standing.channel_id {
            channel_id = id.to_string();
            self.facts.channel_name(id).clone_into(&mut channel_name);
        } else if standing.overflow && limit.channel == ChannelScope::Each {
            (channel_id, channel_name) = (OTHER.to_owned(), OTHER.to_owned());
        }
        if let (ModelScope::Name(_) | ModelScope::Each, Some(name)) = (&limit.model, &standing.model) {
            model.push_str(name);
        }
        [
            ("limit", limit.name.clone()),
            ("channel_id", channel_id),
            ("channel_name", channel_name),
            ("model", model),
            ("measure", limit.measure.as_str().to_owned()),
            ("window", limit.window.as_str().to_owned()),
            ("action", limit.action.as_str().to_owned()),
            ("restore", limit.restore.as_str().to_owned()),
            ("severity", limit.severity.as_str().to_owned()),
        ]
    }
}
