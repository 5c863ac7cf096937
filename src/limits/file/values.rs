//! The values of a limit, each with what is accepted.

use super::fields::{Fields, Items, is_nothing};
use super::mistake::{Place, quoted};
use super::nearest::meant;
use super::tree::Value;
use super::{Action, ModelScope, Reading, Restore, Severity};
use crate::limits::length::{Length, short};
use crate::limits::{Glob, Measure, Period, Window};

/// Longest name of a limit or a model, in characters.
const LONGEST_TEXT: usize = 200;

/// Shortest rolling window, and shortest time until a channel is enabled again, in seconds.
const SHORTEST: i64 = 60;

/// Longest time until a channel is enabled again, in seconds.
const LONGEST_RESTORE: i64 = 366 * 86_400;

const MEASURES: &[(&str, &str)] = &[
    ("cost", "cost_usd"),
    ("costs", "cost_usd"),
    ("usd", "cost_usd"),
    ("dollars", "cost_usd"),
    ("money", "cost_usd"),
    ("spend", "cost_usd"),
    ("total_tokens", "tokens"),
    ("prompt_tokens", "input_tokens"),
    ("completion_tokens", "output_tokens"),
    ("calls", "requests"),
    ("rpm", "requests"),
    ("tpm", "tokens"),
    ("failures", "errors"),
];

const WINDOWS: &[(&str, &str)] = &[
    ("daily", "day"),
    ("days", "day"),
    ("today", "day"),
    ("weekly", "week"),
    ("weeks", "week"),
    ("monthly", "month"),
    ("months", "month"),
    ("hour", "1h"),
    ("hours", "1h"),
    ("hourly", "1h"),
    ("minute", "1m"),
    ("minutes", "1m"),
    ("year", "365d"),
    ("yearly", "365d"),
    ("1month", "month"),
    ("1 month", "month"),
    ("1y", "365d"),
];

const SEVERITIES: &[(&str, &str)] = &[
    ("warn", "warning"),
    ("page", "critical"),
    ("high", "critical"),
    ("error", "critical"),
    ("low", "info"),
    ("information", "info"),
];

const ACTIONS: &[(&str, &str)] = &[
    ("disable", "disable_channel"),
    ("block", "disable_channel"),
    ("break", "disable_channel"),
    ("alert", "notify"),
    ("warn", "notify"),
    ("none", "notify"),
];

const RESTORES: &[(&str, &str)] =
    &[("reset", "window_reset"), ("window", "window_reset"), ("no", "never"), ("false", "never")];

/// The fields of one limit, and where mistakes go.
pub(super) struct Values<'v, 'n, 'r> {
    /// Where the limit begins.
    pub(super) place: Place,
    pub(super) fields: &'v Fields<'n>,
    pub(super) limit: Option<&'n str>,
    pub(super) reading: &'v mut Reading<'r>,
}

impl<'n> Values<'_, 'n, '_> {
    /// Notes what is wrong with the value of `key`.
    pub(super) fn wrong(&mut self, key: &str, text: impl Into<String>) {
        let place = self.fields.get(key).map_or(self.place, |node| node.place);
        self.reading.mistakes.add(place, self.limit, format!("`{key}`: {}", text.into()));
    }

    /// Notes what is strange about the value of `key`.
    pub(super) fn strange(&mut self, key: &str, text: impl Into<String>) {
        let place = self.fields.get(key).map_or(self.place, |node| node.place);
        self.reading.warnings.add(place, self.limit, format!("`{key}`: {}", text.into()));
    }

    /// The text of a single value and whether it was in quotes. `how` says what to do about a list.
    pub(super) fn scalar(&mut self, key: &str, how: &str) -> Option<(&'n str, bool)> {
        match self.fields.get(key).map(|node| &node.value) {
            Some(Value::Scalar { text, quoted: false }) if is_nothing(text) => {
                self.wrong(key, "it has no value. Write one, or remove the line");
            }
            Some(Value::Scalar { text, .. }) if text.trim().is_empty() => {
                self.wrong(key, "it is empty. Write a value, or remove the line");
            }
            Some(Value::Scalar { text, quoted }) => return Some((text, *quoted)),
            Some(Value::List(_)) => {
                self.wrong(key, format!("it is a list, where one value is expected. {how}"));
            }
            Some(Value::Mapping(_)) => {
                self.wrong(
                    key,
                    "it has keys of its own, where one value is expected. Look at the indentation",
                );
            }
            Some(Value::Refused) | None => {}
        }
        None
    }

    /// The same for a key that must be there.
    fn required(&mut self, key: &str, accepted: &str) -> Option<(&'n str, bool)> {
        if !self.fields.has(key) {
            self.wrong(key, format!("it is missing. Accepted: {accepted}"));
            return None;
        }
        self.scalar(key, &format!("Accepted: {accepted}"))
    }

    /// A name: a text that is no number and not too long.
    fn text(&mut self, key: &str, (text, quotes): (&'n str, bool)) -> Option<&'n str> {
        if !quotes && (text.parse::<f64>().is_ok() || matches!(text, "true" | "false")) {
            self.wrong(key, format!("{text} is not a text. Write it in quotes: \"{text}\""));
        } else if text.chars().count() > LONGEST_TEXT {
            self.wrong(key, format!("it has more than {LONGEST_TEXT} characters"));
        } else if text.trim() != text || text.chars().any(char::is_control) {
            let text = quoted(text);
            self.wrong(
                key,
                format!("{text} begins or ends with a space, or holds a line break or another such sign"),
            );
        } else {
            return Some(text);
        }
        None
    }

    pub(super) fn name(&mut self, names: &mut Items<'n>) -> Option<String> {
        let given = self.required("name", "a text that no other limit has, as in `name: azure-daily`")?;
        let name = self.text("name", given)?;
        let place = self.fields.get("name").map_or(self.place, |node| node.place);
        if let Some(first) = names.get(name) {
            let text =
                format!("the limit on line {} has this name already. Every name is used once", first.line);
            self.wrong("name", text);
            return None;
        }
        names.insert(name, place);
        Some(name.to_owned())
    }

    /// All models together if the key is absent.
    pub(super) fn model(&mut self) -> Option<ModelScope> {
        if !self.fields.has("model") {
            return Some(ModelScope::Together);
        }
        let how = "Write a pattern such as \"gpt-4o*\" for several together, \"*\" for every model by itself, or one \
                   limit for each model";
        let given = self.scalar("model", how)?;
        let text = self.text("model", given)?;
        Some(match text {
            "*" => ModelScope::Each,
            text if Glob::is_one(text) => ModelScope::Glob(Glob::new(text)),
            text => ModelScope::Name(text.to_owned()),
        })
    }

    /// One of a list of words, or `default` if the key is absent.
    fn choice<T: Copy>(
        &mut self,
        key: &str,
        all: &[(&'static str, T)],
        meanings: &[(&str, &'static str)],
        default: Option<T>,
    ) -> Option<T> {
        let accepted = all.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let (text, _) = match default {
            Some(default) if !self.fields.has(key) => return Some(default),
            Some(_) => self.scalar(key, &format!("Accepted: {accepted}"))?,
            None => self.required(key, &accepted)?,
        };
        if let Some((_, value)) = all.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let hint = hint(text, all.iter().map(|(word, _)| *word), meanings);
        self.wrong(key, format!("{} is not known. Accepted: {accepted}{hint}", quoted(text)));
        None
    }

    pub(super) fn measure(&mut self) -> Option<Measure> {
        let all = Measure::ALL.map(|measure| (measure.as_str(), measure));
        self.choice("measure", &all, MEASURES, None)
    }

    pub(super) fn severity(&mut self) -> Option<Severity> {
        let all = Severity::ALL.map(|severity| (severity.as_str(), severity));
        self.choice("severity", &all, SEVERITIES, Some(Severity::Critical))
    }

    pub(super) fn action(&mut self) -> Option<Action> {
        let all = Action::ALL.map(|action| (action.as_str(), action));
        self.choice("action", &all, ACTIONS, Some(Action::Notify))
    }

    /// A number that may stand there.
    fn number(&mut self, key: &str, (text, quotes): (&str, bool), example: &str) -> Option<f64> {
        match text.parse::<f64>().ok().filter(|number| number.is_finite()) {
            Some(_) if quotes => {
                self.wrong(key, format!("it is a text. Write the number without quotes: `{key}: {text}`"));
            }
            Some(number) => return Some(number),
            None => self
                .wrong(key, format!("{} is not a number. Write it as in `{key}: {example}`", quoted(text))),
        }
        None
    }

    pub(super) fn max(&mut self) -> Option<f64> {
        let given = self.required("max", "a number above 0, as in `max: 50`")?;
        let max = self.number("max", given, "1000000")?;
        if max > 0.0 {
            return Some(max);
        }
        self.wrong("max", format!("it is {}. It must be above 0", given.0));
        None
    }

    /// None inside if the key is absent.
    #[expect(clippy::option_option, reason = "wrong, absent, or there")]
    pub(super) fn warn_at(&mut self) -> Option<Option<f64>> {
        if !self.fields.has("warn_at") {
            return Some(None);
        }
        let given = self.scalar("warn_at", "Accepted: a part of `max`, as in `warn_at: 0.8`")?;
        let percent = given.0.trim_end_matches('%').trim().parse::<f64>().ok();
        let percent = percent.filter(|percent| *percent > 1.0 && *percent <= 100.0);
        if let Some(percent) = percent {
            let part = percent / 100.0;
            let text = format!(
                "{} is not a part of `max`. For {percent} percent write `warn_at: {part}`",
                quoted(given.0)
            );
            self.wrong("warn_at", text);
            return None;
        }
        let part = self.number("warn_at", given, "0.8")?;
        if part > 0.0 && part <= 1.0 {
            return Some(Some(part));
        }
        self.wrong(
            "warn_at",
            format!("it is {}. It must be above 0 and at most 1, as in `warn_at: 0.8`", given.0),
        );
        None
    }

    pub(super) fn window(&mut self) -> Option<Window> {
        let accepted = "day, week, month, or a duration such as 1h, 24h, 7d";
        let (text, _) = self.required("window", accepted)?;
        let period = Period::ALL.into_iter().find(|period| period.as_str() == text);
        let window = match (period, Length::parse(text)) {
            (Some(period), _) => Window::Calendar(period),
            (None, Some(length)) => Window::Rolling(length),
            (None, None) => {
                let hint = unit_hint(text)
                    .unwrap_or_else(|| hint(text, Period::ALL.iter().map(|p| p.as_str()), WINDOWS));
                self.wrong("window", format!("{} is not known. Accepted: {accepted}{hint}", quoted(text)));
                return None;
            }
        };
        let seconds = match &window {
            Window::Calendar(period) => period.seconds(),
            Window::Rolling(length) => length.seconds(),
        };
        let history = self.reading.known.history.as_secs();
        if seconds < SHORTEST {
            self.wrong("window", format!("{text} is too short. The shortest is 1m"));
        } else if seconds.unsigned_abs() > history {
            let text = format!(
                "{text} is longer than rows are remembered. Choose at most {}, or raise HISTORY to {} or more (what is \
                 older than the first start's HISTORY is not read afterwards)",
                short(history),
                short(seconds.unsigned_abs())
            );
            self.wrong("window", text);
        } else {
            return Some(window);
        }
        None
    }

    pub(super) fn restore(&mut self) -> Option<Restore> {
        if !self.fields.has("restore") {
            return Some(Restore::Never);
        }
        let accepted = "never, window_reset, or a duration such as 30m, 2h";
        let (text, _) = self.scalar("restore", &format!("Accepted: {accepted}"))?;
        let restore = match text {
            "never" => return Some(Restore::Never),
            "window_reset" => return Some(Restore::WindowReset),
            _ => Length::parse(text),
        };
        match restore {
            Some(length) if (SHORTEST..=LONGEST_RESTORE).contains(&length.seconds()) => {
                return Some(Restore::After(length));
            }
            Some(_) => self.wrong("restore", format!("{text} is out of range. Accepted: 1m to 366d")),
            None => {
                let words = ["never", "window_reset"].into_iter();
                let hint = unit_hint(text).unwrap_or_else(|| hint(text, words, RESTORES));
                self.wrong("restore", format!("{} is not known. Accepted: {accepted}{hint}", quoted(text)));
            }
        }
        None
    }
}

fn hint<'a>(text: &str, accepted: impl Iterator<Item = &'a str>, meanings: &[(&str, &'a str)]) -> String {
    meant(text, accepted, meanings).map_or(String::new(), |meant| format!(". Did you mean `{meant}`?"))
}

/// For a number without a unit.
fn unit_hint(text: &str) -> Option<String> {
    let number: i64 = text.trim().parse().ok().filter(|number| *number > 0)?;
    Some(format!(". Add a unit: {number}s, {number}m, {number}h or {number}d"))
}
