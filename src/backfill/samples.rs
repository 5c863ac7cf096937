//! The samples of a moment, as lines of OpenMetrics text.
//!
//! A series gets its first sample at 0 one step before it counts anything, because Prometheus takes the first sample for
//! the beginning. It is written at every step while it changes and for a while after, and not at all while it rests; when it
//! changes again, what it was a step before is written first. So an increase over any window is what was counted in it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, LazyLock};

use anyhow::Context as _;

use super::steps::Step;
use crate::metrics::{label_text, leaf_text, metric_name, whole};
use crate::record::ChannelId;
use crate::usage::histogram::Histogram;
use crate::usage::{Family, Key, Leaf, Rules, Series, Touched, Usage, Value};

/// A series that has not changed for so long rests, in seconds: as long as Prometheus looks back for a sample, and some
/// steps of every length more.
const RESTS_AFTER: i64 = 3600;

/// Text is handed on in pieces of this size.
const PIECE: usize = 256 * 1024;

/// The `le` labels of each family's buckets, by its place in [`Family::ALL`]. Millions of lines have them.
static BOUNDS: LazyLock<[Vec<String>; Family::ALL.len()]> = LazyLock::new(|| {
    Family::ALL.map(|family| {
        let finite = family.bounds().iter().map(|bound| format!(",le=\"{bound:?}\""));
        finite.chain([",le=\"+Inf\"".to_owned()]).collect()
    })
});

/// What a scrape would add and new-api tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    pub(super) job: String,
    pub(super) instance: String,
    pub(super) channel_names: super::Names,
}

impl Target {
    fn channel_name(&self, id: ChannelId) -> &str {
        self.channel_names.get(&id).map_or("", String::as_str)
    }
}

/// A label set that was written.
#[derive(Debug)]
struct Track {
    /// Its labels, without braces.
    labels: String,
    shown: Arc<Series>,
    changed_at: i64,
    written_at: i64,
}

/// Writes samples to `out`.
#[derive(Debug)]
pub(super) struct Samples<W> {
    out: W,
    text: String,
    target: Target,
    extra_labels: Vec<&'static str>,
    tracks: HashMap<Arc<Key>, Track>,
    /// How many of them are not at rest.
    awake: usize,
    lines: u64,
    bytes: u64,
}

impl<W: Write> Samples<W> {
    pub(super) fn new(out: W, target: Target, rules: &Rules) -> Self {
        let extra_labels = rules.extra_labels.iter().map(|label| label.as_str()).collect();
        let mut text = String::new();
        for family in Family::ALL {
            let (name, kind) = metric_name(family);
            let _ = writeln!(text, "# TYPE {name} {kind}");
        }
        Self { out, text, target, extra_labels, tracks: HashMap::new(), awake: 0, lines: 0, bytes: 0 }
    }

    /// Whether no series is written until one changes.
    pub(super) fn is_calm(&self) -> bool {
        self.awake == 0
    }

    /// How large the file has become.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many label sets there are.
    pub(super) fn label_sets(&self) -> i64 {
        i64::try_from(self.tracks.len()).unwrap_or(i64::MAX)
    }

    /// Takes note of what was counted before the first step, and writes none of it.
    pub(super) fn adopt(&mut self, usage: &mut Usage) {
        for (key, series) in
            usage.series().map(|(key, _)| key).filter_map(|key| Some((key, usage.shared(key)?)))
        {
            let labels = label_line(key, &self.extra_labels, &self.target);
            let track = Track { labels, shown: series, changed_at: 0, written_at: i64::MIN };
            self.tracks.insert(Arc::clone(key), track);
        }
        usage.committed();
    }

    /// Writes what `usage` holds at the end of `step`, and what changed since the last one.
    pub(super) fn write(&mut self, usage: &mut Usage, step: Step) -> anyhow::Result<()> {
        self.changed(usage, step)?;
        let mut awake = 0;
        let mut lines = Lines { text: &mut self.text, samples: &mut self.lines };
        for track in self.tracks.values_mut() {
            if step.at - track.changed_at <= RESTS_AFTER {
                awake += 1;
                if track.written_at < step.at {
                    lines.series(&track.labels, &track.shown, step.at);
                    track.written_at = step.at;
                    if lines.text.len() >= PIECE {
                        self.bytes += hand_on(&mut self.out, lines.text)?;
                    }
                }
            }
        }
        self.awake = awake;
        Ok(())
    }

    fn changed(&mut self, usage: &mut Usage, step: Step) -> anyhow::Result<()> {
        let mut lines = Lines { text: &mut self.text, samples: &mut self.lines };
        for Touched { key, .. } in &usage.changes().series {
            let Some(series) = usage.shared(key) else { continue };
            let (labels, target) = (&self.extra_labels, &self.target);
            let track = self.tracks.entry(Arc::clone(key)).or_insert_with(|| Track {
                labels: label_line(key, labels, target),
                shown: Arc::default(),
                changed_at: step.at,
                written_at: i64::MIN,
            });
            if track.written_at < step.before {
                lines.series(&track.labels, &track.shown, step.before);
            }
            for (leaf, cell) in series.cells().filter(|(leaf, _)| !track.shown.has(*leaf)) {
                lines.zero(&track.labels, leaf, cell.value, step.before);
            }
            lines.series(&track.labels, &series, step.at);
            (track.shown, track.changed_at, track.written_at) = (series, step.at, step.at);
            if lines.text.len() >= PIECE {
                self.bytes += hand_on(&mut self.out, lines.text)?;
            }
        }
        usage.committed();
        Ok(())
    }

    /// Writes the last step, with every series, and ends the file. How many samples and bytes it has.
    pub(super) fn finish(mut self, usage: &mut Usage, step: Step) -> anyhow::Result<(u64, u64)> {
        self.changed(usage, step)?;
        let mut lines = Lines { text: &mut self.text, samples: &mut self.lines };
        for track in self.tracks.values().filter(|track| track.written_at < step.at) {
            lines.series(&track.labels, &track.shown, step.at);
        }
        self.text.push_str("# EOF\n");
        self.bytes += hand_on(&mut self.out, &mut self.text)?;
        self.out.flush().context("the file cannot be written")?;
        Ok((self.lines, self.bytes))
    }
}

fn hand_on(out: &mut impl Write, text: &mut String) -> anyhow::Result<u64> {
    out.write_all(text.as_bytes()).context("the file cannot be written")?;
    let bytes = text.len() as u64;
    text.clear();
    Ok(bytes)
}

fn label_line(key: &Key, extra: &[&'static str], target: &Target) -> String {
    let scraped = [("instance", target.instance.clone()), ("job", target.job.clone())];
    label_text(key, |id| target.channel_name(id), extra, &scraped)
}

/// Lines of samples.
struct Lines<'a> {
    text: &'a mut String,
    samples: &'a mut u64,
}

impl Lines<'_> {
    fn series(&mut self, labels: &str, series: &Series, at: i64) {
        let end = end_of(at);
        for (leaf, cell) in series.cells() {
            match cell.value {
                Value::Number(number) => self.number(leaf, labels, number, &end),
                Value::Histogram(histogram) => self.histogram(leaf, labels, histogram, &end),
            }
        }
    }

    /// A cell before it counted anything.
    fn zero(&mut self, labels: &str, leaf: Leaf, like: Value<'_>, at: i64) {
        let end = end_of(at);
        match like {
            Value::Number(_) => self.number(leaf, labels, 0.0, &end),
            Value::Histogram(_) => self.histogram(leaf, labels, &Histogram::default(), &end),
        }
    }

    fn number(&mut self, leaf: Leaf, labels: &str, value: f64, end: &str) {
        let (name, _) = metric_name(leaf.family());
        self.line([name, "_total{", labels, &leaf_text(leaf), ""], value, end);
    }

    #[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
    fn histogram(&mut self, leaf: Leaf, labels: &str, histogram: &Histogram, end: &str) {
        let ((name, _), more) = (metric_name(leaf.family()), leaf_text(leaf));
        self.line([name, "_sum{", labels, &more, ""], histogram.sum, end);
        self.line([name, "_count{", labels, &more, ""], histogram.count() as f64, end);
        let mut below = 0;
        for (bound, count) in BOUNDS[leaf.family().index()].iter().zip(&histogram.buckets) {
            below += count;
            self.line([name, "_bucket{", labels, &more, bound], below as f64, end);
        }
    }

    /// One line: the parts up to the end of the labels, the value, and [`end_of`] it.
    fn line(&mut self, parts: [&str; 5], value: f64, end: &str) {
        for part in parts {
            self.text.push_str(part);
        }
        self.text.push_str("} ");
        if let Some(value) = whole(value) {
            // Most are, and `Display` of a float would write them alike and much slower.
            self.text.push_str(itoa::Buffer::new().format(value));
        } else {
            // Writing to a string cannot fail. It is the shortest text that reads back as the same float.
            let _ = write!(self.text, "{value}");
        }
        self.text.push_str(end);
        *self.samples += 1;
    }
}

/// How a line of this moment ends.
fn end_of(at: i64) -> String {
    format!(" {at}\n")
}
