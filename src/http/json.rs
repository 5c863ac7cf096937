//! Answers as JSON, with what a client needs to not fetch them twice.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::problem::Problem;

/// How long a client may use an answer without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It may change any second: ask each time whether it did.
    Live,
    /// It hardly ever changes: use it for this many seconds.
    Seconds(u32),
    /// It tells what was done: it is nobody's to keep.
    Never,
}

/// An answer, written.
#[derive(Debug, Clone)]
pub struct Document {
    bytes: Bytes,
    status: StatusCode,
}

impl Document {
    /// `answer` as JSON.
    ///
    /// # Errors
    /// If it cannot be written, which is a fault of ours.
    pub fn of(answer: &impl Serialize) -> Result<Self, Problem> {
        let bytes = serde_json::to_vec(answer).map_err(|error| Problem::internal(&error))?;
        Ok(Self { bytes: bytes.into(), status: StatusCode::OK })
    }

    /// The same with another status than 200.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The response to a request with these headers: the document, or 304 if the client has it.
    pub fn respond(self, request: &HeaderMap, freshness: Freshness) -> Response {
        if freshness == Freshness::Never {
            let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
            return (self.status, headers, self.bytes).into_response();
        }
        // Weak, because the same answer goes out compressed and plain.
        let tag = format!("W/\"{:032x}\"", xxh3_128(&self.bytes));
        let known = request.get_all(header::IF_NONE_MATCH).iter().any(|value| names(value, &tag));
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            (self.status, self.bytes).into_response()
        };
        let headers = response.headers_mut();
        if !known {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        // Hexadecimal and digits always make a header.
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(header::ETAG, tag);
        }
        let caching = match freshness {
            Freshness::Live | Freshness::Never => HeaderValue::from_static("private, no-cache"),
            Freshness::Seconds(seconds) => HeaderValue::try_from(format!("private, max-age={seconds}"))
                .unwrap_or(HeaderValue::from_static("no-store")),
        };
        headers.insert(header::CACHE_CONTROL, caching);
        response
    }
}

/// Whether an `If-None-Match` value holds the tag. Weakness does not matter to it.
fn names(value: &HeaderValue, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let Ok(value) = value.to_str() else { return false };
    value.trim() == "*" || value.split(',').any(|candidate| opaque(candidate) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(answer: &str, if_none_match: Option<&str>) -> Response {
        let headers = if_none_match
            .map(|value| (header::IF_NONE_MATCH, HeaderValue::from_str(value).unwrap()))
            .into_iter()
            .collect();
        Document::of(&answer).unwrap().respond(&headers, Freshness::Live)
    }

    #[test]
    fn an_answer_that_the_client_has_is_not_sent_again() {
        let first = ask("a", None);
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(
            (first.status(), &first.headers()["content-type"]),
            (StatusCode::OK, &HeaderValue::from_static("application/json"))
        );
        assert_eq!(first.headers()["cache-control"], "private, no-cache");
        for value in [&tag, tag.trim_start_matches("W/"), &format!("\"x\", {tag}"), "*"] {
            let again = ask("a", Some(value));
            assert_eq!(
                (again.status(), &again.headers()["etag"]),
                (StatusCode::NOT_MODIFIED, &first.headers()["etag"])
            );
            assert!(!again.headers().contains_key("content-type"));
        }
        for value in ["\"x\"", "", "W/"] {
            assert_eq!(ask("a", Some(value)).status(), StatusCode::OK, "{value}");
        }
        assert_eq!(ask("b", Some(&tag)).status(), StatusCode::OK);
    }

    #[test]
    fn what_hardly_changes_may_be_kept() {
        let response = Document::of(&1).unwrap().respond(&HeaderMap::new(), Freshness::Seconds(300));
        assert_eq!(response.headers()["cache-control"], "private, max-age=300");
    }
}
