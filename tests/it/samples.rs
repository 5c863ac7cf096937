//! The samples of a page, read as plainly as it can be done.

use std::collections::BTreeMap;

/// Samples of a page: series as written, to their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples(pub BTreeMap<String, f64>);

impl Samples {
    /// Reads text in either text format.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (series, rest) = line.split_at(end_of_series(line));
            // A timestamp or an exemplar may follow.
            let value = rest.split_whitespace().next().expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// One series, named as on the page.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The sum of all series of a metric whose labels hold every one of `labels` (`name="value"`).
    pub fn sum(&self, metric: &str, labels: &[&str]) -> f64 {
        self.of(metric, labels).map(|(_, value)| value).sum()
    }

    /// How many series a metric has.
    pub fn count(&self, metric: &str) -> usize {
        self.of(metric, &[]).count()
    }

    fn of<'a>(
        &'a self,
        metric: &'a str,
        labels: &'a [&'a str],
    ) -> impl Iterator<Item = (&'a String, f64)> + 'a {
        self.0
            .iter()
            .filter(move |(series, _)| {
                let name = series.split('{').next().unwrap_or_default();
                name == metric && labels.iter().all(|label| series.contains(label))
            })
            .map(|(series, value)| (series, *value))
    }
}

/// Where the series ends: a label's value may hold anything, spaces and brackets too.
fn end_of_series(line: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    let end = line.bytes().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == b' ' && !quoted,
        }
        false
    });
    end.unwrap_or_else(|| panic!("no sample: {line}"))
}

#[test]
fn a_label_may_hold_what_begins_an_exemplar() {
    let page = concat!(
        "# TYPE a counter\n",
        "a{model=\"one # two\"} 1\n",
        "a{model=\"{\\\"quoted\\\"} 7 # {\"} 2\n",
        "a{model=\"\\\\\"} 3 1767225600\n",
        "a_bucket{model=\"x # {y=\\\"1\\\"} 5\",le=\"+Inf\"} 4 # {log_id=\"9\"} 0.5 1767225600.0\n",
        "b 5\n",
        "# EOF\n",
    );
    let wanted = [
        ("a{model=\"one # two\"}", 1.0),
        ("a{model=\"{\\\"quoted\\\"} 7 # {\"}", 2.0),
        ("a{model=\"\\\\\"}", 3.0),
        ("a_bucket{model=\"x # {y=\\\"1\\\"} 5\",le=\"+Inf\"}", 4.0),
        ("b", 5.0),
    ];
    assert_eq!(Samples::parse(page).0, wanted.map(|(series, value)| (series.to_owned(), value)).into());
}
