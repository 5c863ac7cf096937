//! A query string, taken apart strictly: what cannot be read is refused, never guessed.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;

use super::super::problem::{Kind, Problem, echo};

/// Longest query string, in bytes as sent.
pub const MAX_QUERY_BYTES: usize = 8 * 1024;

/// Longest value of one parameter, in characters once decoded, as JSON Schema counts them.
pub const MAX_VALUE_LENGTH: usize = 1024;

/// Names and values in the order given, decoded. Each name stands once.
///
/// # Errors
/// If the query is too long or badly encoded, repeats a name, or holds a value that is too long or not plain text.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, Problem> {
    if query.len() > MAX_QUERY_BYTES {
        let detail = format!("the query is {} bytes long", query.len());
        return Err(Problem::new(Kind::QueryTooLong, detail).accepted(format!("{MAX_QUERY_BYTES} bytes")));
    }
    let mut names = BTreeSet::new();
    let mut pairs = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = decoded(name).ok_or_else(|| bad_encoding(None, name))?;
        let value = decoded(value).ok_or_else(|| bad_encoding(Some(&name), value))?;
        if !names.insert(name.clone()) {
            let detail = format!("`{}` is given more than once", echo(&name));
            return Err(Problem::parameter(&name, detail, "each parameter once; several values as a,b,c"));
        }
        let length = value.chars().count();
        if length > MAX_VALUE_LENGTH {
            let detail = format!("the value is {length} characters long");
            return Err(Problem::parameter(&name, detail, format!("at most {MAX_VALUE_LENGTH} characters")));
        }
        // A NUL would make PostgreSQL fail, and no name holds the others.
        if value.chars().any(char::is_control) {
            return Err(Problem::parameter(
                &name,
                "the value holds a control character",
                "text without control characters",
            ));
        }
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// The text behind percent-encoding, `+` being a space; None if the encoding is broken or hides no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut rest = text.split('%');
    rest.next();
    let hex = |part: &str| part.len() >= 2 && part.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !rest.all(hex) {
        return None;
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn bad_encoding(name: Option<&str>, text: &str) -> Problem {
    let detail = format!("`{}` is not percent-encoded UTF-8", echo(text));
    let accepted = "UTF-8 with % followed by two hexadecimal digits";
    match name {
        Some(name) => Problem::parameter(name, detail, accepted),
        None => Problem::new(Kind::BadQuery, detail).accepted(accepted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Vec<(String, String)> {
        pairs(query).unwrap()
    }

    fn refused(query: &str) -> (u16, Option<String>, String) {
        let problem = pairs(query).unwrap_err();
        let body = problem.body();
        let text = serde_json::to_value(&body).unwrap();
        let parameter = text["parameter"].as_str().map(str::to_owned);
        (problem.kind().status().as_u16(), parameter, text["detail"].as_str().unwrap().to_owned())
    }

    #[test]
    fn names_and_values_are_decoded() {
        let wanted = [("model", "gpt 4o+,模"), ("to", ""), ("flag", "")];
        let got = read("model=gpt+4o%2B%2c%E6%A8%A1&&to=&flag");
        let got: Vec<_> = got.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(got, wanted);
        assert!(read("").is_empty());
        assert_eq!(read("a=b=c")[0].1, "b=c");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for query in
            ["model=%", "model=%2", "model=%zz", "model=%ff", "model=%E6%A8", "model=a%2", "model=%é1"]
        {
            let (status, parameter, _) = refused(query);
            assert_eq!((status, parameter.as_deref()), (400, Some("model")), "{query}");
        }
        assert_eq!(refused("%ff=1").0, 400);
        assert_eq!(refused("model=a%00b").0, 400);
    }

    #[test]
    fn a_name_stands_once_however_it_is_spelled() {
        let (status, parameter, detail) = refused("model=a&limit=1&mo%64el=b");
        assert_eq!((status, parameter.as_deref()), (400, Some("model")));
        assert!(detail.contains("more than once"), "{detail}");
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(refused(&format!("model={}", "a".repeat(MAX_QUERY_BYTES))).0, 414);
        assert_eq!(refused(&format!("model={}", "a".repeat(MAX_VALUE_LENGTH + 1))).0, 400);
        assert_eq!(read(&format!("model={}", "%C3%A9".repeat(MAX_VALUE_LENGTH))).len(), 1);
    }
}
