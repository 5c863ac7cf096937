//! Takes credentials out of what is shown. new-api masks most of them itself; prompts, forks and old versions do
//! not.

use std::borrow::Cow;

/// Names that hold a credential, without regard to case, dashes and underscores.
const CREDENTIALS: &[&str] = &[
    "accesskey",
    "accesskeyid",
    "accesstoken",
    "apikey",
    "apisecret",
    "apitoken",
    "authorization",
    "authtoken",
    "bearertoken",
    "clientsecret",
    "cookie",
    "credential",
    "credentials",
    "idtoken",
    "key",
    "passwd",
    "password",
    "privatekey",
    "proxyauthorization",
    "refreshtoken",
    "secret",
    "secretaccesskey",
    "secretkey",
    "sessiontoken",
    "setcookie",
    "token",
    "xapikey",
    "xgoogapikey",
];

/// Longest name that is looked up.
const LONGEST_NAME: usize = 32;
/// A shorter secret would be told by its first three characters.
const SHORTEST_SHOWN: usize = 8;
/// Prose after the word "bearer" is shorter.
const SHORTEST_BEARER: usize = 16;
/// Google's keys have 39 characters.
const SHORTEST_GOOGLE: usize = 30;

/// Whether a field of this name holds a credential.
pub(super) fn is_credential(name: &str) -> bool {
    if name.len() > LONGEST_NAME {
        return false;
    }
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    CREDENTIALS.binary_search(&plain.as_str()).is_ok()
}

/// The first three characters and `***`. Short ones show nothing, empty ones stay.
pub(super) fn secret(value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    let shown = if value.chars().count() < SHORTEST_SHOWN { 0 } else { 3 };
    // An escape is not cut in two.
    let mut masked: String = value.chars().take(shown).take_while(|c| *c != '\\').collect();
    masked.push_str("***");
    masked
}

/// The text without keys of providers, bearer tokens, and values of quoted fields that hold a credential. It may be
/// prose, JSON that was cut off, or the inside of a JSON string with its escapes.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut masked, mut copied, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        let found = match bytes[at] {
            b's' | b'S' => sk_key(bytes, at),
            b'b' | b'B' => bearer(bytes, at),
            b'A' => google_key(bytes, at),
            b'"' => quoted_field(bytes, at),
            _ => None,
        };
        let Some((from, to)) = found else {
            at += 1;
            continue;
        };
        masked.push_str(&text[copied..from]);
        masked.push_str(&if bytes[at] == b'"' { secret(&text[from..to]) } else { key(&text[from..to]) });
        (copied, at) = (to, to);
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(&text[copied..]);
    Cow::Owned(masked)
}

/// What was found in running text is known by its beginning, so that may be seen however short it is.
fn key(value: &str) -> String {
    let mut masked: String = value.chars().take(3).collect();
    masked.push_str("***");
    masked
}

/// `sk-…`, the keys of new-api itself and of many providers.
fn sk_key(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let is_prefix = bytes.get(at..at + 3)?.eq_ignore_ascii_case(b"sk-");
    if !is_prefix || !begins_word(bytes, at) {
        return None;
    }
    let end = run(bytes, at + 3, |byte| is_word(byte) || byte == b'*');
    (end > at + 3).then_some((at, end))
}

/// The token after `Bearer`.
fn bearer(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    if !bytes.get(at..at + 6)?.eq_ignore_ascii_case(b"bearer") || !begins_word(bytes, at) {
        return None;
    }
    let from = run(bytes, at + 6, |byte| byte == b' ');
    let end = run(bytes, from, |byte| is_word(byte) || b".~+/=*".contains(&byte));
    (from > at + 6 && end - from >= SHORTEST_BEARER).then_some((from, end))
}

fn google_key(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    if bytes.get(at..at + 4)? != b"AIza" || !begins_word(bytes, at) {
        return None;
    }
    let end = run(bytes, at, is_word);
    (end - at >= SHORTEST_GOOGLE).then_some((at, end))
}

/// The value of `"name":"value"`, whose quotes may be escaped, if the name is a credential's. Of a list, which
/// headers have, it is the first one.
fn quoted_field(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let name_end = run(&bytes[..bytes.len().min(at + 2 + LONGEST_NAME)], at + 1, is_word);
    let name = std::str::from_utf8(&bytes[at + 1..name_end]).ok()?;
    if !is_credential(name) {
        return None;
    }
    let colon = run(bytes, quote(bytes, name_end)?, is_space);
    let before = |byte| is_space(byte) || byte == b'[';
    let value = (bytes.get(colon) == Some(&b':')).then(|| run(bytes, colon + 1, before))?;
    let from = quote(bytes, value)?;
    let end = end_of_value(bytes, from, from - value - 1);
    (end > from).then_some((from, end))
}

/// Where the value ends that began behind a quote with so many backslashes. Quotes inside it have more, and no line
/// break ends it: a private key has many.
fn end_of_value(bytes: &[u8], from: usize, escapes: usize) -> usize {
    let mut at = from;
    loop {
        let end = run(bytes, at, |byte| byte != b'"' && byte != b'\\');
        let behind = run(bytes, end, |byte| byte == b'\\');
        let found = behind - end;
        // Escaping doubles backslashes and gives a quote one more: those of the value itself come in even numbers.
        let ends = found < escapes || found % (2 * (escapes + 1)) == escapes;
        at = match bytes.get(behind) {
            None => return behind,
            Some(b'"') if ends => return behind - escapes.min(found),
            Some(b'"') => behind + 1,
            Some(_) => behind,
        };
    }
}

/// Behind the quote that stands here, however often it is escaped.
fn quote(bytes: &[u8], at: usize) -> Option<usize> {
    let end = run(bytes, at, |byte| byte == b'\\');
    (bytes.get(end) == Some(&b'"')).then_some(end + 1)
}

/// Where the bytes that fit end.
fn run(bytes: &[u8], from: usize, fits: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|byte| !fits(*byte)).map_or(bytes.len(), |length| from + length)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether the byte before is no letter or digit: `task-1` holds no key. What ends an escape is none either.
fn begins_word(bytes: &[u8], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else { return true };
    let escape = |length: usize| at >= length && bytes[at - length] == b'\\';
    !bytes[before].is_ascii_alphanumeric() || escape(2) || (escape(6) && bytes[at - 5] == b'u')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_prose_keep_three_characters() {
        let long = format!("AIza{}", "x".repeat(35));
        let cases = [
            ("Incorrect API key provided: sk-proj-abc_DEF123.", "Incorrect API key provided: sk-***."),
            ("key sk-abc***xyz, or sk-", "key sk-***, or sk-"),
            ("(sk-1)", "(sk-***)"),
            ("task-12 on a disk-full", "task-12 on a disk-full"),
            ("密钥sk-abc错误", "密钥sk-***错误"),
            (r"line\nsk-abc", r"line\nsk-***"),
            (r"line\u000ask-abc", r"line\u000ask-***"),
            ("Authorization: Bearer eyJhbGciOi.JIUzI1NiIs", "Authorization: Bearer eyJ***"),
            ("Bearer sk-abcdefghijklmnop", "Bearer sk-***"),
            ("a bearer token is missing", "a bearer token is missing"),
            (long.as_str(), "AIz***"),
            ("", ""),
            ("sk", "sk"),
        ];
        for (given, wanted) in cases {
            assert_eq!(text(given), wanted);
        }
    }

    #[test]
    fn fields_in_broken_or_escaped_json_are_masked() {
        assert_eq!(text(r#"{"api_key": "abcdefgh1", "model": "m"#), r#"{"api_key": "abc***", "model": "m"#);
        assert_eq!(text(r#"{\"Authorization\":\"abcdefgh1\"}"#), r#"{\"Authorization\":\"abc***\"}"#);
        assert_eq!(text(r#"{\\\"x-api-key\\\":\\\"abc\\\"}"#), r#"{\\\"x-api-key\\\":\\\"***\\\"}"#);
        let key = r#"{"private_key": "-----BEGIN\nMII\"E\\", "model": "m"#;
        assert_eq!(text(key), r#"{"private_key": "---***", "model": "m"#);
        let inside = r#"{\"password\":\"abcdefgh\\\"i\\nj\",\"n\":1}"#;
        assert_eq!(text(inside), r#"{\"password\":\"abc***\",\"n\":1}"#);
        assert_eq!(text(r#"{"X-Api-Key":["abcdefgh1"],"n":["#), r#"{"X-Api-Key":["abc***"],"n":["#);
        assert_eq!(text(r#"{"token":"abcdefgh1\"#), r#"{"token":"abc***"#);
        assert_eq!(text(r#""key":"#), r#""key":"#);
        assert_eq!(text(r#""keys":"abcdefgh1""#), r#""keys":"abcdefgh1""#);
    }

    #[test]
    fn names_of_credentials_are_known_in_any_spelling() {
        assert!(CREDENTIALS.is_sorted());
        for name in
            ["key", "api_key", "API-Key", "x-api-key", "Authorization", "accessToken", "client_secret"]
        {
            assert!(is_credential(name), "{name}");
        }
        for name in ["token_name", "max_tokens", "tokens", "multi_key_index", "keyboard", ""] {
            assert!(!is_credential(name), "{name}");
        }
    }

    #[test]
    fn short_secrets_show_nothing() {
        assert_eq!(secret("abcdefgh"), "abc***");
        assert_eq!(secret("abc"), "***");
        assert_eq!(secret(r"a\u0041bcdefgh"), "a***");
        assert_eq!(secret(""), "");
    }
}
