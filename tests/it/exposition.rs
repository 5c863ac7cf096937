//! Reads a metrics page in any of its three formats into one shape, as strictly as a scraper would.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;
use prost::Message;

/// Label names and values.
pub type Labels = BTreeMap<String, String>;

/// A whole page.
#[derive(Debug, Clone, Default)]
pub struct Exposition {
    /// In the order of the page.
    pub families: Vec<Family>,
}

/// A metric family, named as its samples are: a counter with `_total`.
#[derive(Debug, Clone, Default)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
    /// Protobuf only.
    pub histograms: Vec<model::Histogram>,
}

/// One line of text, or what would be one. `le` is written as Rust writes the number.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
    pub exemplar: Option<Exemplar>,
}

/// What hangs on a bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    pub labels: Labels,
    pub value: f64,
    pub at: f64,
}

impl Exposition {
    /// Reads text 0.0.4 or OpenMetrics.
    pub fn from_text(text: &str) -> Self {
        let mut families: Vec<Family> = Vec::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help text");
                families.push(Family { name: name.to_owned(), help: help.to_owned(), ..Family::default() });
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                let family = families.last_mut().expect("HELP before TYPE");
                assert_eq!(family.name, name, "HELP and TYPE stand together");
                kind.clone_into(&mut family.kind);
                // OpenMetrics names a counter without the suffix of its samples.
                if kind == "counter" && !name.ends_with("_total") {
                    family.name.push_str("_total");
                }
            } else if line != "# EOF" {
                families.last_mut().expect("TYPE before samples").samples.push(read_sample(line));
            }
        }
        Self { families }
    }

    /// Reads delimited protobuf.
    pub fn from_protobuf(mut bytes: &[u8]) -> Self {
        let mut families = Vec::new();
        while !bytes.is_empty() {
            let family = model::MetricFamily::decode_length_delimited(&mut bytes).expect("a family");
            families.push(read_family(family));
        }
        Self { families }
    }

    /// The family of this name.
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// All samples.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.families.iter().flat_map(|family| &family.samples)
    }

    /// The sum of all samples of this name.
    pub fn sum(&self, name: &str) -> f64 {
        self.samples().filter(|sample| sample.name == name).map(|sample| sample.value).sum()
    }

    /// All exemplars with the labels of their buckets.
    pub fn exemplars(&self) -> Vec<(Labels, Exemplar)> {
        self.samples().filter_map(|s| Some((s.labels.clone(), s.exemplar.clone()?))).collect()
    }
}

impl Family {
    /// Names of all labels of its samples, but for the bounds of buckets.
    pub fn label_names(&self) -> BTreeSet<&str> {
        let names = self.samples.iter().flat_map(|sample| sample.labels.keys());
        names.map(String::as_str).filter(|name| *name != "le").collect()
    }
}

fn read_sample(line: &str) -> Sample {
    let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
    let (mut labels, rest) = read_labels(rest);
    let rest = rest.strip_prefix(' ').expect("a space before the value");
    let (value, exemplar) = rest.split_once(" # ").map_or((rest, None), |(value, rest)| (value, Some(rest)));
    if let Some(le) = labels.get_mut("le") {
        *le = bound(le.parse().expect("a bound"));
    }
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    Sample { name: name.to_owned(), labels, value, exemplar: exemplar.map(read_exemplar) }
}

fn read_exemplar(text: &str) -> Exemplar {
    let (labels, rest) = read_labels(text);
    let mut numbers = rest.split_whitespace().map(|number| number.parse().expect("a number"));
    let (value, at) = (numbers.next().expect("a value"), numbers.next().expect("a time"));
    assert_eq!(numbers.next(), None, "nothing after the time");
    Exemplar { labels, value, at }
}

/// `{a="b",c="d"}` at the beginning of the text, if there is one, and what follows.
fn read_labels(text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (labels, text) };
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return (labels, rest);
        }
        let (name, after) = rest.split_once("=\"").expect("a label");
        let (value, after) = read_value(after);
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} stands twice: {text}");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

/// An escaped value up to its closing quote, and what follows.
fn read_value(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, c @ ('"' | '\\'))) => c,
                other => panic!("no such escape: {other:?}"),
            }),
            c => value.push(c),
        }
    }
    panic!("no closing quote: {text}");
}

fn read_family(family: model::MetricFamily) -> Family {
    let kind = match family.r#type() {
        model::MetricType::Counter => "counter",
        model::MetricType::Gauge => "gauge",
        model::MetricType::Histogram => "histogram",
        other => panic!("not one of our kinds: {other:?}"),
    };
    let mut read =
        Family { name: family.name, kind: kind.to_owned(), help: family.help, ..Family::default() };
    for metric in family.metric {
        let labels = pairs(metric.label);
        let sample =
            |value| Sample { name: read.name.clone(), labels: labels.clone(), value, exemplar: None };
        if let Some(counter) = metric.counter {
            read.samples.push(sample(counter.value));
        } else if let Some(gauge) = metric.gauge {
            read.samples.push(sample(gauge.value));
        } else {
            let histogram = metric.histogram.expect("a value of a known kind");
            let samples = classic(&read.name, &labels, &histogram);
            read.samples.extend(samples);
            read.histograms.push(histogram);
        }
    }
    read
}

/// The lines that the classic part of a histogram would be.
fn classic(name: &str, labels: &Labels, histogram: &model::Histogram) -> Vec<Sample> {
    let sample = |suffix: &str, labels: &Labels, value| Sample {
        name: format!("{name}_{suffix}"),
        labels: labels.clone(),
        value,
        exemplar: None,
    };
    let mut samples = vec![
        sample("sum", labels, histogram.sample_sum),
        sample("count", labels, histogram.sample_count as f64),
    ];
    for bucket in &histogram.bucket {
        let mut labels = labels.clone();
        labels.insert("le".to_owned(), bound(bucket.upper_bound));
        let exemplar = bucket.exemplar.clone().map(|exemplar| Exemplar {
            labels: pairs(exemplar.label),
            value: exemplar.value,
            at: exemplar.timestamp.expect("Prometheus drops an exemplar without a time").seconds as f64,
        });
        let value = bucket.cumulative_count as f64;
        samples.push(Sample { exemplar, ..sample("bucket", &labels, value) });
    }
    samples
}

fn pairs(labels: Vec<model::LabelPair>) -> Labels {
    labels.into_iter().map(|pair| (pair.name, pair.value)).collect()
}

fn bound(le: f64) -> String {
    le.to_string()
}
