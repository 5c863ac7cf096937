//! Rules and metrics agree: every metric, label and label value that a rule, its texts or the documents about alerts use is
//! on `/metrics`. Whether rules do what they should is the matter of `scripts/check-rules`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::exposition::Exposition;

/// The page that the project agreed on.
const PAGE: &str = include_str!("golden/metrics.txt");

/// What others serve.
const FOREIGN: &[(&str, &str)] = &[
    ("up", ""),
    // Of alerts as Prometheus stores them: what the labels of ours may be.
    (
        "ALERTS",
        "alertname alertstate severity channel_id channel_name model limit group target reason result family integration \
         rule_group",
    ),
    ("alertmanager_notifications_failed_total", "integration reason"),
    ("prometheus_rule_evaluation_failures_total", "rule_group"),
];

/// Every sample that there is or will be, by its metric.
struct Metrics {
    /// Names of labels.
    labels: BTreeMap<String, BTreeSet<String>>,
    /// Values of the labels on the page.
    values: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Metrics {
    fn known() -> Self {
        let (mut labels, mut values) = (BTreeMap::new(), BTreeMap::new());
        for sample in Exposition::from_text(&PAGE.replace("<changes>", "0")).samples() {
            let names: &mut BTreeSet<String> = labels.entry(sample.name.clone()).or_default();
            for (name, value) in &sample.labels {
                names.insert(name.clone());
                let of_label: &mut BTreeSet<String> =
                    values.entry((sample.name.clone(), name.clone())).or_default();
                of_label.insert(value.clone());
            }
        }
        for (name, its_labels) in FOREIGN {
            let names = its_labels.split_whitespace().map(str::to_owned).collect();
            let before = labels.insert((*name).to_owned(), names);
            assert_eq!(before, None, "{name} is on the page as well");
        }
        // What Prometheus adds to each.
        for names in labels.values_mut() {
            names.extend(["instance", "job"].map(str::to_owned));
        }
        Self { labels, values }
    }
}

/// A rule or an example in a document: what it is called and its text.
struct Rule {
    name: String,
    text: String,
}

impl Rule {
    /// The metrics in it, each with its selector.
    fn uses(&self) -> Vec<(&str, Vec<Matcher<'_>>)> {
        let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        let (mut uses, mut rest) = (Vec::new(), self.text.as_str());
        while let Some(start) = rest.find(in_name) {
            let word = &rest[start..];
            let (word, after) = word.split_at(word.find(|c| !in_name(c)).unwrap_or(word.len()));
            let is_metric = word.starts_with("newapi_")
                || word.starts_with("token_monitor_")
                || FOREIGN.iter().any(|(name, _)| *name == word && after.starts_with(['{', '[']))
                || is_recorded(word);
            if is_metric {
                uses.push((word, matchers(after)));
            }
            rest = after;
        }
        uses
    }

    /// Labels that functions of it write, and their other arguments, which do no harm here.
    fn written(&self) -> impl Iterator<Item = &str> {
        let calls = ["label_join(", "label_replace("].iter().flat_map(|call| self.text.split(call).skip(1));
        calls.flat_map(|rest| rest.split('"').skip(1).step_by(2))
    }

    /// Labels that it groups, matches or writes by.
    fn labels(&self) -> BTreeSet<&str> {
        let lists = [" by (", " on (", " without (", " group_left (", " ignoring ("]
            .iter()
            .flat_map(|word| self.text.split(word).skip(1))
            .flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','));
        let written = self.text.split("$labels.").skip(1).map(|rest| {
            rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
        });
        lists.chain(written).map(str::trim).filter(|label| !label.is_empty()).collect()
    }
}

/// One condition of a selector: label, operator, value.
type Matcher<'a> = (&'a str, &'a str, &'a str);

/// The conditions if the text begins with a selector.
fn matchers(text: &str) -> Vec<Matcher<'_>> {
    let Some(inside) = text.strip_prefix('{').and_then(|rest| rest.split('}').next()) else {
        return Vec::new();
    };
    let pairs = inside.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (label, rest) = pair.split_at(pair.find(['=', '!']).expect("an operator"));
            let (operator, value) = rest.split_at(rest.find(|c| !"=!~".contains(c)).expect("a value"));
            (label.trim(), operator, value.trim_matches(['"', '\'']))
        })
        .collect()
}

/// Whether a name is one of a recording rule: level:metric:operation.
fn is_recorded(name: &str) -> bool {
    name.contains(":newapi_") || name.starts_with("token_monitor:")
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All recording and alerting rules, without comments.
fn rules() -> Vec<Rule> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus/rules");
    let files = std::fs::read_dir(folder).expect("the rules").map(|file| file.expect("a file").path());
    let mut rules = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("rules");
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let head =
                ["- record: ", "- alert: "].iter().find_map(|head| line.trim_start().strip_prefix(head));
            if let Some(name) = head {
                rules.push(Rule { name: name.to_owned(), text: String::new() });
            } else if let Some(rule) = rules.last_mut() {
                rule.text.push_str(line);
                rule.text.push('\n');
            }
        }
    }
    assert!(rules.len() > 100, "{} rules", rules.len());
    rules
}

/// The queries in the documents about alerts.
fn examples() -> Vec<Rule> {
    let of_file = |path: &str| -> Vec<Rule> {
        let text = read(path);
        let blocks =
            text.split("```promql\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        blocks.map(|block| Rule { name: format!("{path}: {block}"), text: block.to_owned() }).collect()
    };
    let examples: Vec<Rule> = ["docs/alerts.md", "docs/runbook.md"].into_iter().flat_map(of_file).collect();
    assert!(examples.len() > 10, "{} examples", examples.len());
    examples
}

/// Labels that the results of a recorded metric may have: those of what it is computed from.
fn labels_of(name: &str, rules: &[Rule], metrics: &Metrics) -> BTreeSet<String> {
    if let Some(labels) = metrics.labels.get(name) {
        return labels.clone();
    }
    let sources = rules.iter().filter(|rule| rule.name == name).flat_map(Rule::uses);
    sources.flat_map(|(source, _)| labels_of(source, rules, metrics)).collect()
}

/// What is wrong with a rule: names that there are not.
fn mistakes(rule: &Rule, rules: &[Rule], metrics: &Metrics) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut available = BTreeSet::new();
    for (metric, matchers) in rule.uses() {
        let exists = metrics.labels.contains_key(metric) || rules.iter().any(|other| other.name == metric);
        if !exists {
            wrong.push(format!("{}: there is no {metric}", rule.name));
            continue;
        }
        let labels = labels_of(metric, rules, metrics);
        for (label, operator, value) in matchers {
            let values = metrics.values.get(&(metric.to_owned(), label.to_owned()));
            // Numbers of channels are an installation's own; a text's query gets its values when it is written.
            let fixed = operator == "=" && label != "channel_id" && value != "%q";
            let misses = |values: &BTreeSet<String>| fixed && !values.contains(value);
            if !labels.contains(label) {
                wrong.push(format!("{}: {metric} has no label {label}", rule.name));
            } else if values.is_some_and(misses) {
                wrong.push(format!("{}: {metric} has no {label}={value}", rule.name));
            }
        }
        available.extend(labels);
    }
    available.extend(rule.written().map(str::to_owned));
    let unknown = rule.labels().into_iter().filter(|label| !available.contains(*label));
    wrong.extend(unknown.map(|label| format!("{}: none of its metrics has the label {label}", rule.name)));
    wrong
}

/// The same for a query of a board.
pub fn mistakes_in(place: &str, expr: &str) -> Vec<String> {
    let query = Rule { name: place.to_owned(), text: expr.to_owned() };
    mistakes(&query, &rules(), &Metrics::known())
}

#[test]
fn every_metric_and_label_of_a_rule_is_on_the_page() {
    let (rules, metrics) = (rules(), Metrics::known());
    let wrong: Vec<String> = rules.iter().flat_map(|rule| mistakes(rule, &rules, &metrics)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_metric_and_label_of_a_query_in_the_documents_about_alerts_is_on_the_page() {
    let (rules, metrics) = (rules(), Metrics::known());
    let wrong: Vec<String> =
        examples().iter().flat_map(|example| mistakes(example, &rules, &metrics)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mistakes_in_rules_are_seen() {
    let (rules, metrics) = (rules(), Metrics::known());
    for (text, expected) in [
        ("rate(newapi_request_total[5m])", "no newapi_request_total"),
        ("sum(channel:newapi_requests:rate6m)", "no channel:newapi_requests:rate6m"),
        ("newapi_requests_total{status=\"x\"}", "newapi_requests_total has no label status"),
        ("newapi_channel_status{status=\"auto_off\"}", "no status=auto_off"),
        ("sum by (channel) (newapi_requests_total)", "label channel"),
        ("model:newapi_requests:rate5m{target=\"x\"}", "no label target"),
        ("newapi_up == 0 {{ $labels.model }}", "label model"),
        ("up{task=\"x\"}", "up has no label task"),
    ] {
        let rule = Rule { name: "a rule".to_owned(), text: text.to_owned() };
        let wrong = mistakes(&rule, &rules, &metrics).join("\n");
        assert!(wrong.contains(expected), "{text}: {wrong}");
    }
}
