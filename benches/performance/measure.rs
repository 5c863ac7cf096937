//! Figures and how they are printed.

use std::fmt;

/// The table; each line is also told when it is known.
#[derive(Default)]
pub struct Results(Vec<Row>);

impl Results {
    pub fn push(&mut self, row: Row) {
        eprintln!("{row}");
        self.0.push(row);
    }

    pub fn extend(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.push(row);
        }
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n| work | measured | reference | ratio | target |\n|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// A line of the table.
pub struct Row {
    pub work: String,
    pub measured: String,
    pub reference: String,
    pub ratio: String,
    pub target: String,
}

impl Row {
    /// Seconds against a reference.
    pub fn ratio(work: &str, seconds: f64, reference: &str, ratio: f64, target: &str) -> Self {
        Self {
            work: work.to_owned(),
            measured: format!("{seconds:.2} s"),
            reference: reference.to_owned(),
            ratio: format!("{ratio:.2}"),
            target: target.to_owned(),
        }
    }

    /// A figure by itself.
    pub fn plain(work: &str, measured: String, target: &str) -> Self {
        let dash = || "–".to_owned();
        Self { work: work.to_owned(), measured, reference: dash(), ratio: dash(), target: target.to_owned() }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, measured, reference, ratio, target } = self;
        write!(f, "| {work} | {measured} | {reference} | {ratio} | {target} |")
    }
}

/// The middle value.
pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}

/// The value that `share` of all are not above.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
    values[at - 1]
}
