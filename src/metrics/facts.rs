//! The collector of everything that is counted or read from new-api. It holds one state and nothing else, so
//! whatever is on a page belongs together.

use std::sync::Arc;

use prometheus_client::collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar as LibraryExemplar;

use super::page::Exemplars;
use crate::newapi::directory::provider_name;
use crate::record::{ChannelId, Defect};
use crate::state::Facts;
use crate::usage::histogram::{Histogram, NATIVE_ZERO_THRESHOLD};
use crate::usage::native::{NATIVE_SCHEMA, spans_and_deltas};
use crate::usage::{Cell, Family, Key, Leaf, OTHER, Rules, Series, Usage, Value};

type Encoded = Result<(), std::fmt::Error>;

/// Reads one gauge of a channel.
type Read = fn(&crate::newapi::Channel) -> Option<f64>;

/// Label names and values.
type Labels = Vec<(&'static str, String)>;

/// Reads one state.
#[derive(Debug)]
pub(super) struct Collector {
    facts: Facts,
    max_series: usize,
    extra_labels: Vec<&'static str>,
    exemplars: Exemplars,
}

/// Names and help texts of the traffic families, in the order of `/metrics`.
fn describe(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Requests => ("newapi_requests", "Answered requests"),
        Family::Errors => ("newapi_errors", "Failed attempts on a channel"),
        Family::InputTokens => ("newapi_input_tokens", "Input tokens, cached ones included"),
        Family::OutputTokens => ("newapi_output_tokens", "Output tokens"),
        Family::CacheReadTokens => ("newapi_cache_read_tokens", "Input tokens read from a provider's cache"),
        Family::CacheWriteTokens => ("newapi_cache_write_tokens", "Tokens written to a provider's cache"),
        Family::QuotaConsumed => ("newapi_quota_consumed", "Quota charged, in new-api's unit"),
        Family::QuotaRefunded => ("newapi_quota_refunded", "Quota given back, in new-api's unit"),
        Family::CostUsd => ("newapi_cost_usd", "Quota charged, in US dollars"),
        Family::CostRefundedUsd => ("newapi_cost_refunded_usd", "Quota given back, in US dollars"),
        Family::RequestDuration => (
            "newapi_request_duration_seconds",
            "Duration of answered requests, time lost on earlier channels included",
        ),
        Family::TimeToFirstToken => {
            ("newapi_time_to_first_token_seconds", "Time to the first chunk of streamed requests")
        }
        Family::SlowRequests => {
            ("newapi_slow_requests", "Requests that took longer than SLOW_REQUEST_THRESHOLD")
        }
        Family::Failovers => ("newapi_failovers", "Attempts that were followed by one on another channel"),
        Family::ChannelTests => ("newapi_channel_tests", "Tests of a channel by an administrator"),
    }
}

/// Name and kind of a traffic family, as OpenMetrics writes them.
pub(crate) fn metric_name(family: Family) -> (&'static str, &'static str) {
    let (name, _) = describe(family);
    (name, if family.bounds().is_empty() { "counter" } else { "histogram" })
}

/// The labels of a label set as a line of text has them, without braces; `more` are further ones.
pub(crate) fn label_text<'a>(
    key: &Key,
    channel_name: impl Fn(ChannelId) -> &'a str,
    extra: &[&'static str],
    more: &[(&'static str, String)],
) -> String {
    let labels = key_labels(key, channel_name, extra);
    text_of(labels.iter().chain(more).enumerate().map(|(at, label)| (at == 0, label)))
}

/// The labels that a cell has besides, each with a comma before it.
pub(crate) fn leaf_text(leaf: Leaf) -> String {
    text_of(leaf_labels(leaf).iter().map(|label| (false, label)))
}

/// Each label, with a comma before it unless it is the first.
fn text_of<'a>(labels: impl Iterator<Item = (bool, &'a (&'static str, String))>) -> String {
    let mut text = String::new();
    for (first, (name, value)) in labels {
        if !first {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

fn key_labels<'a>(key: &Key, channel_name: impl Fn(ChannelId) -> &'a str, extra: &[&'static str]) -> Labels {
    let (id, name) = match key.channel_id {
        Some(id) => (id.to_string(), channel_name(id).to_owned()),
        None => (OTHER.to_owned(), OTHER.to_owned()),
    };
    let mut labels = vec![("channel_id", id), ("channel_name", name), ("model", key.model.clone())];
    labels.extend(extra.iter().copied().zip(key.extra.iter().cloned()));
    labels
}

/// The `family` label of metrics about metrics.
fn family_label(family: Family) -> String {
    let (name, _) = describe(family);
    if family.bounds().is_empty() { format!("{name}_total") } else { name.to_owned() }
}

pub(super) fn descriptor<'a>(
    encoder: &'a mut DescriptorEncoder,
    name: &'a str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, std::fmt::Error> {
    encoder.encode_descriptor(name, help, None, kind)
}

pub(super) fn gauge(family: &mut MetricEncoder, labels: &impl EncodeLabelSet, value: f64) -> Encoded {
    number(&mut family.encode_family(labels)?, value)
}

/// A gauge without labels.
pub(super) fn plain_gauge(mut metric: MetricEncoder, value: f64) -> Encoded {
    number(&mut metric, value)
}

fn number(metric: &mut MetricEncoder, value: f64) -> Encoded {
    // Whole numbers look like whole numbers.
    #[expect(clippy::cast_possible_truncation, reason = "checked in the condition")]
    if value.abs() < 9.0e15 && value.fract() == 0.0 {
        metric.encode_gauge(&(value as i64))
    } else {
        metric.encode_gauge(&value)
    }
}

pub(super) fn counter(family: &mut MetricEncoder, labels: &impl EncodeLabelSet, value: f64) -> Encoded {
    plain_counter(family.encode_family(labels)?, value)
}

/// A counter without labels.
pub(super) fn plain_counter(mut metric: MetricEncoder, value: f64) -> Encoded {
    match whole(value) {
        Some(value) => metric.encode_counter::<NoLabelSet, u64, f64>(&value, None),
        None => metric.encode_counter::<NoLabelSet, f64, f64>(&value, None),
    }
}

/// The value of a counter as a whole number, if it is one: whole numbers look like whole numbers.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked in the condition")]
pub(crate) fn whole(value: f64) -> Option<u64> {
    ((0.0..9.0e15).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

impl Collector {
    pub(super) fn new(facts: Facts, rules: &Rules, exemplars: Exemplars) -> Self {
        Self {
            facts,
            max_series: rules.max_series,
            extra_labels: rules.extra_labels.iter().map(|label| label.as_str()).collect(),
            exemplars,
        }
    }

    fn labels(&self, key: &Key) -> Labels {
        key_labels(key, |id| self.facts.channel_name(id), &self.extra_labels)
    }

    fn traffic(&self, usage: &Usage, encoder: &mut DescriptorEncoder) -> Encoded {
        let mut all: Vec<(&Arc<Key>, &Series)> = usage.series().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        let all: Vec<(Labels, &Series)> =
            all.into_iter().map(|(key, series)| (self.labels(key), series)).collect();
        for family in Family::ALL {
            let (name, help) = describe(family);
            let kind = if family.bounds().is_empty() { MetricType::Counter } else { MetricType::Histogram };
            let mut metrics = descriptor(encoder, name, help, kind)?;
            for (labels, series) in &all {
                for (leaf, cell) in series.cells().filter(|(leaf, _)| leaf.family() == family) {
                    self.cell(&mut metrics, labels, leaf, cell)?;
                }
            }
        }
        Ok(())
    }

    fn cell(&self, metrics: &mut MetricEncoder, labels: &Labels, leaf: Leaf, cell: Cell<'_>) -> Encoded {
        let leaf_labels = leaf_labels(leaf);
        let labels = (labels.as_slice(), leaf_labels.as_slice());
        match cell.value {
            Value::Number(number) => counter(metrics, &labels, if cell.held { 0.0 } else { number }),
            Value::Histogram(histogram) => {
                let bounds = leaf.family().bounds();
                if cell.held {
                    self.histogram(metrics, &labels, &Histogram::default(), bounds)
                } else {
                    self.histogram(metrics, &labels, histogram, bounds)
                }
            }
        }
    }

    fn histogram(
        &self,
        metrics: &mut MetricEncoder,
        labels: &impl EncodeLabelSet,
        histogram: &Histogram,
        bounds: &[f64],
    ) -> Encoded {
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(histogram.buckets.iter().copied()).collect();
        let (spans, deltas) = spans_and_deltas(&histogram.native);
        self.exemplars.push(histogram.exemplars());
        metrics.encode_family(labels)?.encode_histogram_with_native::<NoLabelSet>(
            histogram.sum,
            histogram.count(),
            &buckets,
            None::<&std::collections::HashMap<usize, LibraryExemplar<NoLabelSet, f64>>>,
            NativeHistogram {
                schema: NATIVE_SCHEMA,
                zero_threshold: NATIVE_ZERO_THRESHOLD,
                zero_count: histogram.zero,
                negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
                positive: NativeHistogramBuckets { spans: &spans, deltas: &deltas },
                created: None,
            },
        )
    }

    fn counts(usage: &Usage, encoder: &mut DescriptorEncoder) -> Encoded {
        let totals = usage.totals();
        let mut rows =
            descriptor(encoder, "token_monitor_log_rows", "Rows of the log by type", MetricType::Counter)?;
        for (kind, count) in totals.rows_by_type() {
            counter(&mut rows, &[("type", kind)], count as f64)?;
        }
        let help = "Rows that became visible after a higher id had been read";
        let late = descriptor(encoder, "token_monitor_late_rows", help, MetricType::Counter)?;
        plain_counter(late, totals.late_rows as f64)?;

        let help = "Rows of which a part could not be used";
        let mut defects = descriptor(encoder, "token_monitor_row_defects", help, MetricType::Counter)?;
        for defect in Defect::ALL {
            counter(&mut defects, &[("reason", defect.as_str())], totals.defects[defect as usize] as f64)?;
        }
        let help = "Label sets of a metric family, _other not counted";
        let mut sizes = descriptor(encoder, "token_monitor_series", help, MetricType::Gauge)?;
        for family in Family::ALL {
            gauge(&mut sizes, &[("family", family_label(family))], usage.size(family) as f64)?;
        }
        let help = "Additions to a family's _other because it has MAX_SERIES label sets";
        let mut overflow = descriptor(encoder, "token_monitor_series_overflow", help, MetricType::Counter)?;
        for family in Family::ALL {
            let count = totals.overflow[family.index()];
            counter(&mut overflow, &[("family", family_label(family))], count as f64)?;
        }
        Ok(())
    }

    fn channels(&self, encoder: &mut DescriptorEncoder) -> Encoded {
        let channels = &self.facts.directory.channels;
        let labels = |id: &ChannelId| {
            vec![("channel_id", id.to_string()), ("channel_name", self.facts.channel_name(*id).to_owned())]
        };
        let mut info = descriptor(encoder, "newapi_channel_info", "What a channel is", MetricType::Gauge)?;
        for (id, channel) in channels {
            let mut labels = labels(id);
            let kind = provider_name(channel.kind).map_or_else(|| channel.kind.to_string(), str::to_owned);
            labels.extend([("type", kind), ("group", channel.group.clone()), ("tag", channel.tag.clone())]);
            gauge(&mut info, &labels, 1.0)?;
        }
        let help = "Status of a channel: the one it has is 1";
        let mut status = descriptor(encoder, "newapi_channel_status", help, MetricType::Gauge)?;
        for (id, channel) in channels {
            for (number, name) in [(1, "enabled"), (2, "manually_disabled"), (3, "auto_disabled")] {
                let mut labels = labels(id);
                labels.push(("status", name.to_owned()));
                gauge(&mut status, &labels, f64::from(u8::from(channel.status == number)))?;
            }
        }
        let gauges: [(&str, &str, Read); 4] = [
            ("newapi_channel_balance_usd", "Balance that the provider reported last, in US dollars", |c| {
                c.balance_usd
            }),
            ("newapi_channel_used_quota", "Quota that a channel ever used, as new-api sums it", |c| {
                Some(c.used_quota as f64)
            }),
            ("newapi_channel_response_time_seconds", "Duration of the last test of a channel", |c| {
                c.response_time_seconds
            }),
            ("newapi_channel_test_timestamp_seconds", "When a channel was last tested", |c| {
                c.tested_at.map(|at| at as f64)
            }),
        ];
        for (name, help, read) in gauges {
            let mut family = descriptor(encoder, name, help, MetricType::Gauge)?;
            for (id, channel) in channels {
                if let Some(value) = read(channel) {
                    gauge(&mut family, &labels(id), value)?;
                }
            }
        }
        Ok(())
    }

    /// Groups and models beyond the cap are summed; those without any channel come first, because they are
    /// what alerts look for.
    fn abilities(&self, encoder: &mut DescriptorEncoder) -> Encoded {
        let help = "Enabled channels of a model in a group";
        let mut family = descriptor(encoder, "newapi_model_enabled_channels", help, MetricType::Gauge)?;
        let mut abilities: Vec<_> = self.facts.directory.abilities.iter().collect();
        if abilities.len() > self.max_series {
            abilities.sort_by_key(|(_, enabled)| **enabled > 0);
        }
        let (shown, rest) = abilities.split_at(abilities.len().min(self.max_series));
        for ((group, model), enabled) in shown {
            gauge(&mut family, &[("group", group.as_str()), ("model", model)], f64::from(**enabled))?;
        }
        if !rest.is_empty() {
            let sum: f64 = rest.iter().map(|(_, enabled)| f64::from(**enabled)).sum();
            gauge(&mut family, &[("group", OTHER), ("model", OTHER)], sum)?;
        }
        Ok(())
    }
}

fn leaf_labels(leaf: Leaf) -> Labels {
    let other = |names: &[&'static str]| names.iter().map(|name| (*name, OTHER.to_owned())).collect();
    match leaf {
        Leaf::Requests(outcome, stream) => {
            vec![("outcome", outcome.as_str().to_owned()), ("stream", stream.to_string())]
        }
        Leaf::Errors(status, kind) => {
            let status = if status == 0 { "unknown".to_owned() } else { status.to_string() };
            vec![("status_code", status), ("error_type", kind.as_str().to_owned())]
        }
        Leaf::Timing(_, retried) => vec![("retried", retried.to_string())],
        Leaf::Overflow(Family::Requests) => other(&["outcome", "stream"]),
        Leaf::Overflow(Family::Errors) => other(&["status_code", "error_type"]),
        Leaf::Overflow(family) if !family.bounds().is_empty() => other(&["retried"]),
        Leaf::Plain(_) | Leaf::Overflow(_) => Vec::new(),
    }
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Encoded {
        if let Some(usage) = &self.facts.usage {
            self.traffic(usage, &mut encoder)?;
            Self::counts(usage, &mut encoder)?;
        }
        self.channels(&mut encoder)?;
        self.abilities(&mut encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn whole_is_what_a_whole_number_writes_without_loss() {
        for value in [0_u32, 1, 7, 1 << 31] {
            assert_eq!(whole(f64::from(value)), Some(u64::from(value)));
        }
        assert_eq!(whole(8.0e15), Some(8_000_000_000_000_000));
        for value in [0.5, -1.0, 9.0e15, 1.0e300, f64::INFINITY, f64::NAN] {
            assert_eq!(whole(value), None, "{value}");
        }
    }
}
