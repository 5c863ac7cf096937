//! Samples as lines of OpenMetrics text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::iter::once;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;

use super::samples::Size;
use crate::metrics::{leaf_text, metric_name, whole};
use crate::usage::histogram::Histogram;
use crate::usage::{Family, Leaf, PARTS, Series, Value};

/// Text is handed on in pieces of this size.
const PIECE: usize = 256 * 1024;

/// What is written of a label set.
#[derive(Debug)]
pub(super) struct Shown {
    /// Its labels, without braces.
    pub(super) labels: Arc<str>,
    pub(super) what: What,
    /// Unix seconds.
    pub(super) at: i64,
}

#[derive(Debug)]
pub(super) enum What {
    /// All cells of some of its parts.
    Series(Arc<Series>, [bool; PARTS]),
    /// A cell before it counted anything.
    Zero(Leaf),
}

/// Writes them to `out`.
#[derive(Debug)]
pub(super) struct Text<W> {
    out: W,
    lines: String,
    size: Arc<Size>,
    /// What was asked for until now. Millions of lines have the same.
    cells: BTreeMap<Leaf, Vec<Piece>>,
}

/// A line of a cell, but for the labels of its label set, its value and its time.
#[derive(Debug)]
struct Piece {
    before: String,
    after: String,
}

impl<W: Write> Text<W> {
    /// Begins the file.
    pub(super) fn new(out: W, size: Arc<Size>) -> Self {
        let mut text = String::new();
        for family in Family::ALL {
            let (name, kind) = metric_name(family);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# TYPE {name} {kind}");
        }
        Self { out, lines: text, size, cells: BTreeMap::new() }
    }

    pub(super) fn write(&mut self, shown: &Shown) -> anyhow::Result<()> {
        let lines = Lines { labels: &shown.labels, end: format!(" {}\n", shown.at) };
        match &shown.what {
            What::Series(series, parts) => {
                let cells = series.cells().filter(|(leaf, _)| parts[Series::part(*leaf)]);
                cells.for_each(|(leaf, cell)| self.cell(leaf, cell.value, &lines));
            }
            What::Zero(leaf) if leaf.family().bounds().is_empty() => {
                self.cell(*leaf, Value::Number(0.0), &lines);
            }
            What::Zero(leaf) => self.cell(*leaf, Value::Histogram(&Histogram::default()), &lines),
        }
        if self.lines.len() >= PIECE { self.hand_on() } else { Ok(()) }
    }

    /// Ends the file.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        self.lines.push_str("# EOF\n");
        self.hand_on()?;
        self.out.flush().context("the file cannot be written")
    }

    #[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
    fn cell(&mut self, leaf: Leaf, value: Value<'_>, lines: &Lines<'_>) {
        let pieces = self.cells.entry(leaf).or_insert_with(|| pieces(leaf));
        match value {
            Value::Number(number) => lines.write(&mut self.lines, pieces, once(number)),
            Value::Histogram(histogram) => {
                let below = histogram.buckets.iter().scan(0, |below, count| {
                    *below += count;
                    Some(*below as f64)
                });
                let values = [histogram.sum, histogram.count() as f64].into_iter().chain(below);
                lines.write(&mut self.lines, pieces, values);
            }
        }
        self.size.lines.fetch_add(pieces.len() as u64, Ordering::Relaxed);
    }

    fn hand_on(&mut self) -> anyhow::Result<()> {
        self.out.write_all(self.lines.as_bytes()).context("the file cannot be written")?;
        self.size.bytes.fetch_add(self.lines.len() as u64, Ordering::Relaxed);
        self.lines.clear();
        Ok(())
    }
}

/// The lines of a cell: one for a number; the sum, the count and each bucket of a histogram.
fn pieces(leaf: Leaf) -> Vec<Piece> {
    let (family, more) = (leaf.family(), leaf_text(leaf));
    let (name, _) = metric_name(family);
    let piece = |suffix: &str, bound: &str| Piece {
        before: format!("{name}_{suffix}{{"),
        after: format!("{more}{bound}}} "),
    };
    if family.bounds().is_empty() {
        return vec![piece("total", "")];
    }
    let finite = family.bounds().iter().map(|bound| format!(",le=\"{bound:?}\""));
    let buckets = finite.chain([",le=\"+Inf\"".to_owned()]).map(|bound| piece("bucket", &bound));
    [piece("sum", ""), piece("count", "")].into_iter().chain(buckets).collect()
}

/// A sum of fractions. The monitor may have added the same ones in another order, because rows can be visible late, and come
/// to a last digit less; to Prometheus that is a counter that began anew, and it adds all of it once more.
fn a_hair_less(sum: f64) -> f64 {
    sum - sum * 1e-13
}

/// Lines of a label set.
struct Lines<'a> {
    labels: &'a str,
    /// How each line ends: with the moment.
    end: String,
}

impl Lines<'_> {
    /// A line of each piece with its value.
    fn write(&self, text: &mut String, pieces: &[Piece], values: impl Iterator<Item = f64>) {
        for (Piece { before, after }, value) in pieces.iter().zip(values) {
            text.push_str(before);
            text.push_str(self.labels);
            text.push_str(after);
            if let Some(value) = whole(value) {
                // Most are, and `Display` of a float would write them alike and much slower.
                text.push_str(itoa::Buffer::new().format(value));
            } else {
                // The shortest text that reads back as the same float.
                let _ = write!(text, "{}", a_hair_less(value));
            }
            text.push_str(&self.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_no_more_than_that_of_the_same_in_another_order() {
        let amounts: Vec<f64> =
            (1..20_000).map(|number| f64::from(number * 7919 % 10_007) / 500_000.0).collect();
        let (mut there, mut late, mut above) = (0.0, 0.0, 0);
        // Each tenth row is visible late, after the next seven.
        for some in amounts.chunks(10) {
            let (first, rest) = some.split_at(3);
            for amount in some {
                there += amount;
            }
            for amount in rest.iter().chain(first) {
                late += amount;
            }
            above += u32::from(there > late);
            let written: f64 = a_hair_less(there).to_string().parse().expect("a number");
            assert!(written < late && (late - written) / late < 1e-12, "{written} {late}");
        }
        assert!(above > 0, "it happens");
    }
}
