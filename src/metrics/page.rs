//! One registry, three formats.
//!
//! The client library writes OpenMetrics text and Prometheus protobuf. Two things it cannot do from a collector
//! are added here: exemplars (its type for them has no public constructor), and the older text format 0.0.4,
//! which `curl | promtool check metrics` and everything without an `Accept` header expects.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use prometheus_client::encoding::prometheus_protobuf::{self, prometheus_data_model as model};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use prost::Message;

use crate::usage::histogram::Exemplar;

/// An exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4: no exemplars, no native histograms.
    Text,
    /// OpenMetrics text 1.0.0, with exemplars.
    OpenMetrics,
    /// Prometheus protobuf, delimited: exemplars and native histograms.
    Protobuf,
}

impl Format {
    /// The format that an `Accept` header prefers: highest `q` first, then as listed; text 0.0.4 if nothing fits.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut proto, mut encoding) = (1.0, None, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "proto" => proto = Some(value.trim().to_owned()),
                    "encoding" => encoding = Some(value.trim().to_owned()),
                    _ => {}
                }
            }
            let format = match media.as_str() {
                "application/openmetrics-text" => Self::OpenMetrics,
                "application/vnd.google.protobuf"
                    if proto.as_deref() == Some("io.prometheus.client.MetricFamily")
                        && encoding.as_deref().is_none_or(|encoding| encoding == "delimited") =>
                {
                    Self::Protobuf
                }
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// The `Content-Type` of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// Exemplars of the histograms of a page, one list per histogram in the order in which they are encoded.
#[derive(Debug, Clone, Default)]
pub(super) struct Exemplars {
    lists: Arc<Mutex<Vec<Vec<Option<Exemplar>>>>>,
}

impl Exemplars {
    /// To be called right before a histogram is encoded, with one entry per bucket or none at all.
    pub(super) fn push(&self, list: Vec<Option<Exemplar>>) {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).push(list);
    }

    fn take_last(&self) -> Vec<Option<Exemplar>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn take_all(&self) -> Vec<Vec<Option<Exemplar>>> {
        std::mem::take(&mut self.lists.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Encodes `registry`; `last` ends the page.
pub(super) fn encode(
    registry: &Registry,
    format: Format,
    exemplars: &Exemplars,
    last: bool,
) -> anyhow::Result<Bytes> {
    if format == Format::Protobuf {
        return protobuf(registry, exemplars);
    }
    let mut page =
        TextPage { format, exemplars, out: String::new(), line: String::new(), help: None, histogram: None };
    text::encode_registry(&mut page, registry)?;
    if last && format == Format::OpenMetrics {
        page.out.push_str("# EOF\n");
    }
    Ok(Bytes::from(page.out))
}

fn protobuf(registry: &Registry, exemplars: &Exemplars) -> anyhow::Result<Bytes> {
    let mut families = prometheus_protobuf::encode(registry)?;
    let mut lists = exemplars.take_all().into_iter();
    let mut out = Vec::new();
    for family in &mut families {
        for histogram in family.metric.iter_mut().filter_map(|metric| metric.histogram.as_mut()) {
            for (bucket, exemplar) in histogram.bucket.iter_mut().zip(lists.next().unwrap_or_default()) {
                bucket.exemplar = exemplar.map(|exemplar| protobuf_exemplar(&exemplar));
            }
        }
        family.encode_length_delimited(&mut out)?;
        // The message is several times its encoding; a page holds only one.
        family.metric = Vec::new();
    }
    Ok(Bytes::from(out))
}

fn protobuf_exemplar(exemplar: &Exemplar) -> model::Exemplar {
    let pair = |name: &str, value: String| model::LabelPair { name: name.to_owned(), value };
    let mut label = vec![pair("log_id", exemplar.log_id.to_string())];
    if let Some(request_id) = request_id(exemplar) {
        label.push(pair("request_id", request_id.to_owned()));
    }
    let mut message = model::Exemplar { label, value: exemplar.value, ..model::Exemplar::default() };
    message.timestamp.get_or_insert_default().seconds = exemplar.at;
    message
}

/// OpenMetrics allows 128 characters for all of an exemplar's labels.
const LONGEST_REQUEST_ID: usize = 80;

fn request_id(exemplar: &Exemplar) -> Option<&str> {
    Some(exemplar.request_id.as_ref()).filter(|id| {
        !id.is_empty() && id.len() <= LONGEST_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// Receives the library's OpenMetrics text and passes it on line by line, as the format wants it.
struct TextPage<'a> {
    format: Format,
    exemplars: &'a Exemplars,
    out: String,
    line: String,
    /// A HELP line that waits for its TYPE.
    help: Option<String>,
    /// The exemplars of the histogram being written, and its next bucket.
    histogram: Option<(Vec<Option<Exemplar>>, usize)>,
}

impl Write for TextPage<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut rest = text;
        while let Some(end) = rest.find('\n') {
            self.line.push_str(&rest[..end]);
            self.end_line()?;
            rest = &rest[end + 1..];
        }
        self.line.push_str(rest);
        Ok(())
    }
}

impl TextPage<'_> {
    fn end_line(&mut self) -> std::fmt::Result {
        let line = std::mem::take(&mut self.line);
        if let Some(comment) = line.strip_prefix("# ") {
            self.comment(&line, comment);
        } else {
            self.out.push_str(&line);
            if self.format == Format::OpenMetrics {
                self.exemplar(&line)?;
            }
            self.out.push('\n');
        }
        self.line = line;
        self.line.clear();
        Ok(())
    }

    fn comment(&mut self, line: &str, comment: &str) {
        if self.format == Format::OpenMetrics {
            self.out.push_str(line);
            self.out.push('\n');
            return;
        }
        // In 0.0.4 a counter's family is named like its samples.
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(_), _) => self.help = Some(comment.to_owned()),
            (Some("TYPE"), Some(name), Some(kind)) => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some(help) =
                    self.help.take().and_then(|help| help.splitn(3, ' ').nth(2).map(str::to_owned))
                {
                    let _ = writeln!(self.out, "# HELP {name}{suffix} {help}");
                }
                let _ = writeln!(self.out, "# TYPE {name}{suffix} {kind}");
            }
            _ => {}
        }
    }

    /// The library writes a histogram as its sum, its count, and then its buckets in order.
    fn exemplar(&mut self, line: &str) -> std::fmt::Result {
        let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
        if name.ends_with("_seconds_sum") {
            self.histogram = Some((self.exemplars.take_last(), 0));
        } else if name.ends_with("_seconds_bucket")
            && let Some((list, next)) = &mut self.histogram
        {
            if let Some(Some(exemplar)) = list.get(*next) {
                write!(self.out, " # {{log_id=\"{}\"", exemplar.log_id)?;
                if let Some(request_id) = request_id(exemplar) {
                    write!(
                        self.out,
                        ",request_id=\"{}\"",
                        request_id.replace('\\', "\\\\").replace('"', "\\\"")
                    )?;
                }
                write!(self.out, "}} {} {}", exemplar.value, exemplar.at)?;
            }
            *next += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_gets_what_it_asks_for() {
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.7,*/*;q=0.6";
        let open_metrics = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::negotiate(Some(protobuf)), Format::Protobuf);
        assert_eq!(Format::negotiate(Some(open_metrics)), Format::OpenMetrics);
        assert_eq!(Format::negotiate(Some("*/*")), Format::Text);
        assert_eq!(Format::negotiate(Some("text/html,application/xhtml+xml,*/*;q=0.8")), Format::Text);
        assert_eq!(Format::negotiate(Some("application/openmetrics-text;q=0,text/plain")), Format::Text);
        assert_eq!(Format::negotiate(Some("application/vnd.google.protobuf;proto=other")), Format::Text);
        assert_eq!(Format::negotiate(None), Format::Text);
    }
}
