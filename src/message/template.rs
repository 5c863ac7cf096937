//! An operator's own wording of a message about one alert: a file of minijinja that is tried before it is used.
//!
//! It makes plain lines of text; markup, colours, links and limits stay ours. So no template can break a message.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, Serde, Value};
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

/// Name of the one template in its environment.
const NAME: &str = "MESSAGE_TEMPLATE";

/// Steps that a template may take: far more than a message needs, and over in milliseconds.
const FUEL: u64 = 100_000;

/// Longest text that is taken from a template, in bytes. What is longer has lost its way.
const MAX_TEXT: usize = 64 * 1024;

/// Longest template.
pub const MAX_TEMPLATE: usize = 64 * 1024;

/// An operator's own wording, found to work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
}

/// What a template can show of an alert. All texts; one that is not known is empty.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct View {
    /// `firing` or `resolved`.
    pub status: &'static str,
    /// `opened`, `repeated` or `resolved`.
    pub change: &'static str,
    /// `critical`, `warning` or `info`.
    pub severity: &'static str,
    /// The alert's name.
    pub rule: String,
    /// The same in words.
    pub rule_name: String,
    /// What our own wording has as headline.
    pub headline: String,
    /// Name of the limit.
    pub limit: String,
    /// Name and id of the channel.
    pub channel: String,
    /// Its id.
    pub channel_id: String,
    /// The model.
    pub model: String,
    /// `52.31 of 50.00 USD, 104.6%`.
    pub used: String,
    /// In percent, the number alone.
    pub percent: String,
    /// The window, and when it begins anew.
    pub window: String,
    /// When it began, and how long ago.
    pub since: String,
    /// How long it lasted, if it is over.
    pub lasted: String,
    /// What was done about the channel.
    pub breaker: String,
    /// When it is enabled again.
    pub then: String,
    /// The biggest contributors, a text each.
    pub contributors: Vec<String>,
    /// The annotation.
    pub summary: String,
    /// The annotation.
    pub description: String,
    /// All labels.
    pub labels: Value,
    /// All annotations.
    pub annotations: Value,
}

/// Labels or annotations. One that is not there is empty rather than a mistake, since every alert has others.
#[derive(Debug)]
struct Pairs(BTreeMap<String, String>);

impl Object for Pairs {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Value::from(self.0.get(key.as_str()?).map_or("", String::as_str)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.keys().map(Value::from).collect())
    }
}

/// Labels or annotations as a template sees them.
pub(super) fn pairs(pairs: &BTreeMap<String, String>) -> Value {
    Value::from_object(Pairs(pairs.clone()))
}

impl Template {
    /// A template of that text, tried on alerts of several kinds.
    ///
    /// # Errors
    /// What is wrong, with the line.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.len() > MAX_TEMPLATE {
            return Err(format!("is longer than {MAX_TEMPLATE} bytes"));
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        // So that a line with nothing but a tag leaves none behind.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| words(&error))?);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| words(&error))?;
        let template = Self { environment: Arc::new(environment) };
        for sample in samples() {
            let text = template.render(sample)?;
            if text.trim().is_empty() {
                return Err("says nothing about an alert".to_owned());
            }
        }
        Ok(template)
    }

    /// What it says of an alert.
    ///
    /// # Errors
    /// If it fails, takes too long or says too much; with the line.
    pub(super) fn render(&self, view: View) -> Result<String, String> {
        let mut text = Bounded(Vec::new());
        let template = self.environment.get_template(NAME).map_err(|error| words(&error))?;
        template
            .render_captured_to(Serde(view), &mut text)
            .map_err(|error| if text.is_full() { too_long() } else { words(&error) })?;
        String::from_utf8(text.0).map_err(|_| "does not make UTF-8".to_owned())
    }
}

fn too_long() -> String {
    format!("makes a text of more than {MAX_TEXT} bytes")
}

/// What is wrong, on one line and with the line of the template.
fn words(error: &minijinja::Error) -> String {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    let place = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{place}{what}")
}

/// Takes so much and no more.
struct Bounded(Vec<u8>);

impl Bounded {
    fn is_full(&self) -> bool {
        self.0.len() >= MAX_TEXT
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_TEXT - self.0.len().min(MAX_TEXT);
        let taken = bytes.len().min(room);
        self.0.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An alert on a limit that broke the circuit, the same when it is over, and one of a rule of the user's own, of which
/// nothing more is known.
fn samples() -> [View; 3] {
    let labels = [("alertname", "NewApiLimitExceeded"), ("channel_id", "3"), ("limit", "azure-daily")];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let firing = View {
        status: "firing",
        change: "opened",
        severity: "critical",
        rule: "NewApiLimitExceeded".to_owned(),
        rule_name: "Limit exceeded".to_owned(),
        headline: "Limit exceeded: azure-daily".to_owned(),
        limit: "azure-daily".to_owned(),
        channel: "azure-east (3)".to_owned(),
        channel_id: "3".to_owned(),
        model: "gpt-4o".to_owned(),
        used: "52.31 of 50.00 USD, 104.6%".to_owned(),
        percent: "104.6".to_owned(),
        window: "today, resets 2026-11-24 00:00 +08:00 (in 1 h 50 min)".to_owned(),
        since: "2026-11-23 21:58 +08:00 (12 min ago)".to_owned(),
        breaker: "Disabled channel azure-east (3), and new-api confirms it.".to_owned(),
        then: "It stays disabled until a person enables it in new-api.".to_owned(),
        contributors: vec!["alice, gpt-4o, azure-east (3): 31.20 USD, 59.6%".to_owned()],
        summary: "Limit azure-daily is exceeded".to_owned(),
        labels: pairs(&labels),
        annotations: pairs(&BTreeMap::new()),
        ..View::default()
    };
    let resolved = View {
        status: "resolved",
        change: "resolved",
        lasted: "2 h 2 min, from 2026-11-23 21:58 +08:00 to 2026-11-24 00:00 +08:00".to_owned(),
        since: String::new(),
        ..firing.clone()
    };
    let foreign = View {
        status: "firing",
        change: "opened",
        severity: "warning",
        rule: "Mine".to_owned(),
        rule_name: "Mine".to_owned(),
        headline: "Mine".to_owned(),
        since: firing.since.clone(),
        labels: pairs(&labels_of_foreign()),
        annotations: pairs(&BTreeMap::new()),
        ..View::default()
    };
    [firing, resolved, foreign]
}

fn labels_of_foreign() -> BTreeMap<String, String> {
    [("alertname".to_owned(), "Mine".to_owned())].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_27_a_wrong_template_is_refused_with_its_line() {
        let cases = [
            ("ok\n{% if %}", "line 2"),
            ("a\nb\n{{ nobody }}", "line 3: undefined value"),
            ("{{ headline }\n", "line 1"),
            ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
            (
                "{% for a in range(9999) %}{{ headline }}{{ headline }}{{ headline }}{% endfor %}",
                "65536 bytes",
            ),
            ("{{ headline | nothing }}", "line 1: unknown filter"),
            ("{% include 'etc/passwd' %}", "line 1: syntax error"),
            ("{# nothing #}", "says nothing"),
            ("{% if status == 'firing' %}{{ headline }}{% endif %}", "says nothing"),
            ("{{ 'x' * 1000000000 }}", ""),
        ];
        for (source, expected) in cases {
            let error = Template::new(source).expect_err(source);
            assert!(error.contains(expected) && !error.contains('\n'), "{source}: {error}");
        }
        assert!(Template::new(&" ".repeat(MAX_TEMPLATE + 1)).is_err());
    }

    #[test]
    fn labels_that_an_alert_lacks_are_empty() {
        let template = Template::new(
            "{{ headline }}{{ labels.team }}{{ annotations.x }}{% for name in labels %} {{ name }}={{ labels[name] }}{% endfor %}",
        )
        .unwrap();
        let [firing, _, foreign] = samples();
        assert_eq!(
            template.render(firing).unwrap(),
            "Limit exceeded: azure-daily alertname=NewApiLimitExceeded channel_id=3 limit=azure-daily"
        );
        assert_eq!(template.render(foreign).unwrap(), "Mine alertname=Mine");
    }

    #[test]
    fn the_documented_template_works() {
        let documentation = include_str!("../../docs/messages.md");
        let example = documentation.split("```jinja\n").nth(1).and_then(|rest| rest.split("```").next());
        let template = Template::new(example.expect("an example")).unwrap();
        let [firing, _, _] = samples();
        let text = template.render(firing).unwrap();
        assert!(text.contains("52.31 of 50.00 USD, 104.6%"), "{text}");
        let view = serde_json::to_value(View::default()).unwrap();
        for name in view.as_object().expect("fields").keys() {
            assert!(documentation.contains(&format!("| `{name}` |")), "docs/messages.md lacks {name}");
        }
    }
}
