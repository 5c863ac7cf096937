//! Which rows a question is about: lists of alternatives, each parameter narrowing further.

use std::time::Duration;

use serde::Serialize;

use super::super::problem::{Problem, echo};
use crate::record::RowOutcome;

/// Most alternatives of one parameter.
pub const MAX_ALTERNATIVES: usize = 100;

/// new-api's types of rows.
pub const KINDS: std::ops::RangeInclusive<i64> = 0..=7;

/// new-api's ids of channels.
pub const CHANNEL_IDS: std::ops::RangeInclusive<i64> = 0..=999_999_999_999_999_999;

/// Digits of the longest number.
const MAX_DIGITS: usize = 18;

/// Longest `min_duration`: no request counts as longer.
pub const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// What a row must be to belong to an answer. An empty list lets every row pass; lists are sorted and hold
/// nothing twice, so that equal questions are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Filters {
    /// Channels.
    pub channel_ids: Vec<i64>,
    /// Models, as they were asked for.
    pub models: Vec<String>,
    /// Billing groups.
    pub groups: Vec<String>,
    /// Users.
    pub usernames: Vec<String>,
    /// Tokens, by name.
    pub token_names: Vec<String>,
    /// new-api's types.
    pub kinds: Vec<i64>,
    /// Requests.
    pub request_ids: Vec<String>,
    /// The least duration.
    pub min_duration: Option<Duration>,
    /// How rows count.
    pub outcomes: Vec<RowOutcome>,
    /// Streamed or not.
    pub stream: Option<bool>,
    /// State of an incident or a delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Target of a delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<&'static str>,
}

/// Whether a value stands for "all": nothing at all, or what a dashboard's variable sends.
pub fn is_all(text: &str) -> bool {
    matches!(text, "" | "*" | ".*")
}

/// The alternatives of a comma list; none if it lets everything pass. A comma inside is written `\,` and a
/// backslash before a comma `\\`.
///
/// # Errors
/// If there are too many.
pub fn alternatives(name: &'static str, text: &str) -> Result<Vec<String>, Problem> {
    let mut parts = split(text);
    if parts.iter().any(|part| matches!(part.as_str(), "*" | ".*")) {
        return Ok(Vec::new());
    }
    parts.sort_unstable();
    parts.dedup();
    if parts.len() > MAX_ALTERNATIVES {
        let detail = format!("{} alternatives are too many", parts.len());
        return Err(Problem::parameter(
            name,
            detail,
            format!("at most {MAX_ALTERNATIVES}, separated by commas"),
        ));
    }
    Ok(parts)
}

/// The same for whole numbers within bounds.
///
/// # Errors
/// If one is no such number, or there are too many.
pub fn numbers(
    name: &'static str,
    text: &str,
    bounds: &std::ops::RangeInclusive<i64>,
    accepted: &'static str,
) -> Result<Vec<i64>, Problem> {
    let number = |text: String| {
        let digits = text.len() <= MAX_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && bounds.contains(number));
        number.ok_or_else(|| {
            Problem::parameter(name, format!("`{}` is not one of them", echo(&text)), accepted)
        })
    };
    let mut numbers = alternatives(name, text)?.into_iter().map(number).collect::<Result<Vec<_>, _>>()?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// The same for outcomes.
///
/// # Errors
/// If one is not known.
pub fn outcomes(name: &'static str, text: &str, accepted: &'static str) -> Result<Vec<RowOutcome>, Problem> {
    let outcome = |text: String| {
        let known = RowOutcome::ALL.into_iter().find(|outcome| outcome.as_str() == text);
        known
            .ok_or_else(|| Problem::parameter(name, format!("`{}` is not an outcome", echo(&text)), accepted))
    };
    let mut outcomes = alternatives(name, text)?.into_iter().map(outcome).collect::<Result<Vec<_>, _>>()?;
    outcomes.sort_unstable();
    Ok(outcomes)
}

/// A duration with a unit, or plain seconds.
///
/// # Errors
/// If it is neither, or longer than anything counts.
pub fn duration(name: &'static str, text: &str, accepted: &'static str) -> Result<Duration, Problem> {
    let wrong = || Problem::parameter(name, format!("`{}` is not a duration", echo(text)), accepted);
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let duration = if is_number {
        let seconds: f64 = text.parse().map_err(|_| wrong())?;
        Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?
    } else {
        humantime::parse_duration(text).map_err(|_| wrong())?
    };
    if duration > LONGEST { Err(wrong()) } else { Ok(duration) }
}

/// Splits at commas that no backslash precedes; empty parts say nothing.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ',' => parts.push(std::mem::take(&mut part)),
            // Other backslashes are part of a name: `domain\user`.
            '\\' => part.push(characters.next_if(|next| matches!(next, ',' | '\\')).unwrap_or('\\')),
            _ => part.push(character),
        }
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        alternatives("model", text).unwrap()
    }

    #[test]
    fn a_comma_separates_alternatives() {
        assert_eq!(list("gpt-4o,claude,gpt-4o"), ["claude", "gpt-4o"]);
        assert_eq!(list("a,,b,"), ["a", "b"]);
        assert_eq!(list(" a b"), [" a b"]);
        assert_eq!(list("模型,é"), ["é", "模型"]);
    }

    #[test]
    fn nothing_and_stars_let_all_pass() {
        for text in ["", "*", ".*", ",", "gpt-4o,*", ".*,a"] {
            assert!(list(text).is_empty(), "{text}");
        }
        assert_eq!(list("gpt-*"), ["gpt-*"]);
    }

    #[test]
    fn a_name_may_hold_a_comma_and_a_backslash() {
        assert_eq!(list(r"Smith\, John,b"), ["Smith, John", "b"]);
        assert_eq!(list(r"domain\user"), [r"domain\user"]);
        assert_eq!(list(r"a\\,b\"), [r"a\", r"b\"]);
    }

    #[test]
    fn alternatives_are_bounded() {
        let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(list(&many(MAX_ALTERNATIVES)).len(), MAX_ALTERNATIVES);
        assert!(alternatives("model", &many(MAX_ALTERNATIVES + 1)).is_err());
    }

    #[test]
    fn numbers_stay_within_bounds() {
        assert_eq!(numbers("type", "5,2,2", &KINDS, "x").unwrap(), [2, 5]);
        assert_eq!(numbers("type", "*", &KINDS, "x").unwrap(), [0; 0]);
        for text in ["8", "-1", "+1", "two", "1.0", "2, 5", "99999999999999999999"] {
            assert!(numbers("type", text, &KINDS, "x").is_err(), "{text}");
        }
        assert_eq!(numbers("channel_id", "10,9", &CHANNEL_IDS, "x").unwrap(), [9, 10]);
    }

    #[test]
    fn outcomes_are_a_closed_set() {
        let all = RowOutcome::ALL.map(RowOutcome::as_str);
        assert_eq!(outcomes("outcome", &all.join(","), "x").unwrap(), RowOutcome::ALL);
        assert!(outcomes("outcome", "Success", "x").is_err());
        for outcome in RowOutcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }

    #[test]
    fn a_duration_has_a_unit_or_is_seconds() {
        let read = |text| duration("min_duration", text, "x").map(|duration| duration.as_secs_f64()).ok();
        assert_eq!(read("5"), Some(5.0));
        assert_eq!(read("2.5"), Some(2.5));
        assert_eq!(read("0s"), Some(0.0));
        assert_eq!(read("1m 30s"), Some(90.0));
        for text in ["-1", "1e3", "NaN", "inf", "8d", ".", "1.2.3", "long", "99999999999999999999999"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
