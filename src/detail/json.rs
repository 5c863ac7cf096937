//! JSON as text: copied without credentials and laid out for people, every number as it was written.
//!
//! A tree of values would round numbers that no float holds, and nest on the call stack. So what is shown goes from
//! text to text in one pass.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::{RawValue, to_raw_value};

use super::mask;

/// Deepest nesting that is shown as JSON. Readers' own limits begin at 128, and ours nests it two levels deeper.
pub(super) const MAX_DEPTH: usize = 100;

/// Longest text that is laid out in lines; indentation of a hostile one could make a hundred times as much.
const MAX_LAID_OUT: usize = 4 << 20;

/// Copies one JSON value, without white space and credentials.
///
/// # Errors
/// What is wrong with it, if it is not JSON or nested too deep.
pub(super) fn clean(text: &str) -> Result<Box<RawValue>, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    IgnoredAny::deserialize(&mut json)
        .and_then(|_| json.end())
        .map_err(|error| format!("not JSON: {error}"))?;
    let copy = Copier::new(text).copy()?;
    RawValue::from_string(copy).map_err(|error| format!("not JSON: {error}"))
}

/// A text as a JSON string.
pub(super) fn string(text: &str) -> Option<Box<RawValue>> {
    to_raw_value(text).ok()
}

/// Copies text that is known to be JSON.
struct Copier<'a> {
    text: &'a str,
    at: usize,
    copy: String,
    depth: usize,
    /// The value that comes next belongs to a credential's name.
    secret_next: bool,
    /// The depth of the list or object that belongs to a credential's name.
    secret_inside: Option<usize>,
}

impl<'a> Copier<'a> {
    fn new(text: &'a str) -> Self {
        let copy = String::with_capacity(text.len());
        Self { text, at: 0, copy, depth: 0, secret_next: false, secret_inside: None }
    }

    fn copy(mut self) -> Result<String, String> {
        while let Some(byte) = self.text.as_bytes().get(self.at).copied() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'"' => self.string(),
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
                    }
                    if std::mem::take(&mut self.secret_next) && self.secret_inside.is_none() {
                        self.secret_inside = Some(self.depth);
                    }
                    self.push(byte);
                }
                b'}' | b']' => {
                    if self.secret_inside == Some(self.depth) {
                        self.secret_inside = None;
                    }
                    self.depth = self.depth.saturating_sub(1);
                    self.push(byte);
                }
                b',' | b':' => self.push(byte),
                _ => self.word(),
            }
        }
        Ok(self.copy)
    }

    fn push(&mut self, byte: u8) {
        self.copy.push(char::from(byte));
        self.at += 1;
    }

    fn string(&mut self) {
        let inside = &self.text[self.at + 1..];
        let length = string_length(inside.as_bytes());
        let inside = &inside[..length];
        self.at += length + 2;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let is_name = rest.trim_ascii_start().starts_with(':');
        let inside = whole_characters(inside);
        self.copy.push('"');
        if is_name {
            self.secret_next = mask::is_credential(&inside);
            self.copy.push_str(&mask::text(&inside));
        } else if std::mem::take(&mut self.secret_next) || self.secret_inside.is_some() {
            self.copy.push_str(&mask::secret(&inside));
        } else {
            self.copy.push_str(&mask::text(&inside));
        }
        self.copy.push('"');
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        // Of what is known to be JSON, no word is empty; something must be passed in any case.
        let length = length.unwrap_or(rest.len()).max(rest.chars().next().map_or(1, char::len_utf8));
        let word = &rest[..length];
        self.at += length;
        self.secret_next = false;
        // Readers of JSON refuse a number beyond every float, and with it all the rest.
        if word.parse::<f64>().is_ok_and(f64::is_infinite) {
            self.copy.push('"');
            self.copy.push_str(word);
            self.copy.push('"');
        } else {
            self.copy.push_str(word);
        }
    }
}

/// Bytes up to the quote that ends a string.
fn string_length(inside: &[u8]) -> usize {
    let mut escaped = false;
    let end = inside.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.unwrap_or(inside.len())
}

/// The inside of a string, halves of characters replaced: readers refuse a lone surrogate, and with it all the rest.
fn whole_characters(inside: &str) -> std::borrow::Cow<'_, str> {
    // Surrogates are \ud800 to \udfff.
    if !inside.contains("\\ud") && !inside.contains("\\uD") {
        return inside.into();
    }
    let (mut whole, mut rest) = (String::with_capacity(inside.len()), inside);
    while let Some(at) = rest.find('\\') {
        whole.push_str(&rest[..at]);
        rest = &rest[at..];
        let (escape, replaced) = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, false),
            (Some(0xD800..=0xDFFF), _) => (6, true),
            (Some(_), _) => (6, false),
            (None, _) => (2, false),
        };
        let end = escape.min(rest.len());
        let end = (end..=rest.len()).find(|end| rest.is_char_boundary(*end)).unwrap_or(rest.len());
        whole.push_str(if replaced { "\\ufffd" } else { &rest[..end] });
        rest = &rest[end..];
    }
    whole.push_str(rest);
    whole.into()
}

/// The number of a `\uXXXX` that stands at the beginning.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// Lays JSON without white space out in lines, two spaces a level. What would become too long stays as it is.
pub(super) fn laid_out(json: &str) -> String {
    let bytes = json.as_bytes();
    let (mut lines, mut depth, mut at) = (String::with_capacity(json.len() * 2), 0_usize, 0);
    while at < bytes.len() {
        if lines.len() > MAX_LAID_OUT {
            return json.to_owned();
        }
        let byte = bytes[at];
        match byte {
            b'"' => {
                let length = string_length(&bytes[at + 1..]);
                lines.push_str(&json[at..bytes.len().min(at + length + 2)]);
                at += length + 1;
            }
            b'{' | b'[' => {
                lines.push(char::from(byte));
                if let Some(end @ (b'}' | b']')) = bytes.get(at + 1).copied() {
                    lines.push(char::from(end));
                    at += 1;
                } else {
                    depth += 1;
                    new_line(&mut lines, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut lines, depth);
                lines.push(char::from(byte));
            }
            b',' => {
                lines.push(',');
                new_line(&mut lines, depth);
            }
            b':' => lines.push_str(": "),
            _ => lines.push(char::from(byte)),
        }
        at += 1;
    }
    lines
}

fn new_line(lines: &mut String, depth: usize) {
    lines.push('\n');
    lines.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        clean(text).unwrap().get().to_owned()
    }

    #[test]
    fn numbers_and_order_stay_as_written() {
        let text = r#"{"z":12345678901234567890123,"a":0.10,"m":1e3,"n":-0.0,"d":1,"d":2}"#;
        assert_eq!(cleaned(text), text);
        assert_eq!(cleaned(" [ 1 , true,\n null ] "), "[1,true,null]");
        assert_eq!(cleaned("\"text\""), "\"text\"");
    }

    #[test]
    fn credentials_are_masked_by_name_and_by_look() {
        let text = r#"{"key":"0123456789","headers":{"Authorization":["Bearer 1","second-secret"]},"token":7,
            "authorization":{"deep":[{"a":"long enough"}],"n":null},"text":"use sk-abc \"quoted\"","sk-name":1}"#;
        assert_eq!(
            cleaned(text),
            r#"{"key":"012***","headers":{"Authorization":["Bea***","sec***"]},"token":7,"authorization":{"deep":[{"a":"lon***"}],"n":null},"text":"use sk-*** \"quoted\"","sk-***":1}"#
        );
        let after = r#"{"token":{"a":"long enough"},"b":"long enough"}"#;
        assert_eq!(cleaned(after), r#"{"token":{"a":"lon***"},"b":"long enough"}"#);
    }

    #[test]
    fn what_readers_refuse_is_made_harmless() {
        assert_eq!(cleaned("[1e999,-1e999,1e308]"), r#"["1e999","-1e999",1e308]"#);
        assert_eq!(
            cleaned(r#"["\ud800","\ud83d\ude00","\udc00x","\\ud800"]"#),
            r#"["\ufffd","\ud83d\ude00","\ufffdx","\\ud800"]"#
        );
        let copy = cleaned(r#"{"a":"\ud800","b":1e999}"#);
        assert!(serde_json::from_str::<serde_json::Value>(&copy).is_ok(), "{copy}");
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_refused() {
        for text in ["", "{", "{}x", "[1,]", "nul", "'a'", "{\"a\"}"] {
            assert!(clean(text).unwrap_err().starts_with("not JSON"), "{text}");
        }
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(clean(&nested(MAX_DEPTH)).is_ok());
        assert!(clean(&nested(MAX_DEPTH + 1)).unwrap_err().contains("100 levels"));
        assert!(clean(&nested(500_000)).is_err());
    }

    #[test]
    fn it_is_laid_out_in_lines() {
        assert_eq!(
            laid_out(r#"{"a":[1,"x, {\"y\":2}"],"b":{},"c":[]}"#),
            "{\n  \"a\": [\n    1,\n    \"x, {\\\"y\\\":2}\"\n  ],\n  \"b\": {},\n  \"c\": []\n}"
        );
        let hostile = format!("{}{}{}", "[".repeat(100), "1,".repeat(400_000) + "1", "]".repeat(100));
        assert_eq!(laid_out(&hostile), hostile);
    }
}
