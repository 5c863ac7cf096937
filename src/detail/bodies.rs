//! Bodies of requests and answers, which some forks of new-api store in a table of their own.

use std::borrow::Cow;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{json, mask};

/// Longest body that is shown, in bytes, after inflating.
pub const MAX_BODY: usize = 1 << 20;

/// Longest name of a table or column in any database.
const LONGEST_IDENTIFIER: usize = 64;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Where bodies are stored. Its names can stand in a statement as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodySource {
    table: String,
    request_column: Option<String>,
    response_column: Option<String>,
    join: Join,
}

/// What a row of that table belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Its column `log_id` is the log's `id`.
    LogId,
    /// Its column `request_id` is the log's.
    RequestId,
}

/// Why a [`BodySource`] cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSource {
    /// A name that could be more than a name.
    #[error("`{0}` is no plain name: letters, digits and underscores, at most {LONGEST_IDENTIFIER}")]
    Name(String),
    /// Neither column is given.
    #[error("name the column of requests, of responses, or both")]
    NoColumn,
    /// Neither of the two.
    #[error("`{0}` joins nothing: log_id or request_id")]
    Join(String),
}

/// The tables of known forks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// By which the configuration names it.
    pub name: &'static str,
    /// The table.
    pub table: &'static str,
    /// What the client sent.
    pub request_column: Option<&'static str>,
    /// What the client got.
    pub response_column: Option<&'static str>,
    /// What a row of it belongs to.
    pub join: Join,
}

/// Bodies of one row, or why there are none.
#[derive(Debug, Clone, Default)]
pub enum Bodies {
    /// No table is configured.
    #[default]
    NotConfigured,
    /// The table has no row for this log.
    NotStored(BodySource),
    /// The table could not be read; says why.
    Unreadable(BodySource, String),
    /// What stood there, each as its column holds it, NULL as empty.
    Stored {
        /// Where it was read.
        source: BodySource,
        /// What the client sent.
        request: Vec<u8>,
        /// What the client got.
        response: Vec<u8>,
    },
}

/// Whether a detail has bodies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BodiesState {
    /// At least one body is shown.
    pub available: bool,
    /// The table and columns that were looked at.
    pub source: Option<String>,
    /// Why a body is missing.
    pub reason: Option<String>,
    /// A body was longer than 1 MiB, or broken, and is shown in part.
    pub truncated: bool,
}

/// A body that can be shown.
#[derive(Debug)]
pub(super) struct Body {
    /// JSON as it is, anything else as a JSON string.
    pub shown: Box<RawValue>,
    pub truncated: bool,
}

impl Join {
    /// The column of the table.
    pub fn column(self) -> &'static str {
        match self {
            Self::LogId => "log_id",
            Self::RequestId => "request_id",
        }
    }

    /// The join by its column's name.
    ///
    /// # Errors
    /// If it is none of them.
    pub fn parse(text: &str) -> Result<Self, BadSource> {
        let known = [Self::LogId, Self::RequestId].into_iter().find(|join| join.column() == text);
        known.ok_or_else(|| BadSource::Join(text.to_owned()))
    }
}

impl BodySource {
    /// Checks the names.
    ///
    /// # Errors
    /// If one is more than letters, digits and underscores, or no column is given.
    pub fn new(
        table: &str,
        request_column: Option<&str>,
        response_column: Option<&str>,
        join: Join,
    ) -> Result<Self, BadSource> {
        if request_column.is_none() && response_column.is_none() {
            return Err(BadSource::NoColumn);
        }
        Ok(Self {
            table: identifier(table)?,
            request_column: request_column.map(identifier).transpose()?,
            response_column: response_column.map(identifier).transpose()?,
            join,
        })
    }

    /// The table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// What the client sent.
    pub fn request_column(&self) -> Option<&str> {
        self.request_column.as_deref()
    }

    /// What the client got.
    pub fn response_column(&self) -> Option<&str> {
        self.response_column.as_deref()
    }

    /// What a row belongs to.
    pub fn join(&self) -> Join {
        self.join
    }

    fn words(&self) -> String {
        let columns: Vec<&str> =
            [self.request_column(), self.response_column()].into_iter().flatten().collect();
        format!("table {} ({})", self.table, columns.join(", "))
    }
}

fn identifier(name: &str) -> Result<String, BadSource> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain || name.is_empty() || name.len() > LONGEST_IDENTIFIER {
        return Err(BadSource::Name(name.chars().take(LONGEST_IDENTIFIER).collect()));
    }
    Ok(name.to_owned())
}

impl Preset {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self {
            name: "cppbear",
            table: "log_details",
            request_column: Some("downstream_request"),
            response_column: Some("downstream_response"),
            join: Join::LogId,
        },
        Self {
            name: "liuxsh9",
            table: "log_details",
            request_column: Some("request_body_gz"),
            response_column: Some("response_body_gz"),
            join: Join::RequestId,
        },
        Self {
            name: "kill136",
            table: "request_logs",
            request_column: Some("request_body"),
            response_column: Some("response_body"),
            join: Join::RequestId,
        },
        Self {
            name: "apimeter",
            table: "error_request_logs",
            request_column: Some("request_body"),
            response_column: None,
            join: Join::LogId,
        },
    ];

    /// The preset of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|preset| preset.name == name)
    }

    /// The source that it stands for.
    ///
    /// # Errors
    /// Never for those in [`Preset::ALL`].
    pub fn source(&self) -> Result<BodySource, BadSource> {
        BodySource::new(self.table, self.request_column, self.response_column, self.join)
    }
}

impl Bodies {
    /// What can be shown of the request and of the answer, and what to say about it.
    pub(super) fn show(&self) -> (Option<Body>, Option<Body>, BodiesState) {
        let none = |source: Option<&BodySource>, reason: String| {
            let source = source.map(BodySource::words);
            (None, None, BodiesState { available: false, source, reason: Some(reason), truncated: false })
        };
        let (source, request, response) = match self {
            Self::NotConfigured => return none(None, NOT_CONFIGURED.to_owned()),
            Self::NotStored(source) => {
                return none(Some(source), format!("table {} has no row for this log", source.table));
            }
            Self::Unreadable(source, why) => {
                return none(
                    Some(source),
                    format!("table {} cannot be read: {}", source.table, mask::text(why)),
                );
            }
            Self::Stored { source, request, response } => (source, request, response),
        };
        let mut reasons = Vec::new();
        let mut show = |raw: &[u8], of: &str| match Body::read(raw) {
            Ok(body) => {
                if body.is_none() {
                    reasons.push(format!("no body of the {of} is stored"));
                }
                body
            }
            Err(why) => {
                reasons.push(format!("the body of the {of} cannot be shown: {why}"));
                None
            }
        };
        let (request, response) = (show(request, "request"), show(response, "response"));
        let both = [&request, &response];
        let state = BodiesState {
            available: both.iter().any(|body| body.is_some()),
            source: Some(source.words()),
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            truncated: both.into_iter().flatten().any(|body| body.truncated),
        };
        (request, response, state)
    }
}

const NOT_CONFIGURED: &str = "new-api stores no request and response bodies. If your fork does, set BODY_TABLE to \
                              its table";

impl Body {
    /// Makes text of what a column holds; None if that is nothing.
    fn read(raw: &[u8]) -> Result<Option<Self>, String> {
        let raw = &*as_bytes(raw);
        let (bytes, truncated) = if raw.starts_with(&GZIP) {
            inflate(raw)?
        } else {
            (raw[..raw.len().min(MAX_BODY)].to_vec(), raw.len() > MAX_BODY)
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let (text, cut) = readable(&bytes, truncated);
        let truncated = truncated || cut;
        let as_json = if truncated { None } else { json::clean(&text).ok() };
        // Text that was cut off, a stream of events, or nested too deep.
        let shown = as_json.or_else(|| json::string(&mask::text(&text))).ok_or("it is no text")?;
        Ok(Some(Self { shown, truncated }))
    }
}

/// Binary columns reach us as text from some databases: gzip's first bytes in hexadecimal or base64 tell.
fn as_bytes(raw: &[u8]) -> Cow<'_, [u8]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    let decoded = if let Some(hex) = raw.strip_prefix(b"\\x").filter(|hex| hex.starts_with(b"1f8b")) {
        hex.chunks_exact(2).map(byte).collect()
    } else if raw.starts_with(b"H4sI") {
        let text: Vec<u8> = raw.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        STANDARD.decode(text).ok()
    } else {
        None
    };
    decoded.map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// Inflates up to [`MAX_BODY`]: a few kilobytes can hold gigabytes. Says whether that was not all.
fn inflate(raw: &[u8]) -> Result<(Vec<u8>, bool), String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_BODY).unwrap_or(u64::MAX).saturating_add(1);
    let read = MultiGzDecoder::new(raw).take(limit).read_to_end(&mut bytes);
    match read {
        // What was inflated before it broke is worth showing.
        Err(_) if !bytes.is_empty() => {
            bytes.truncate(MAX_BODY);
            Ok((bytes, true))
        }
        Err(error) => Err(format!("broken gzip: {error}")),
        Ok(_) => {
            let cut = bytes.len() > MAX_BODY;
            bytes.truncate(MAX_BODY);
            Ok((bytes, cut))
        }
    }
}

/// Text of at most [`MAX_BODY`] bytes, and whether it had to be cut. What is no UTF-8 becomes U+FFFD, which is
/// longer; a character that was cut in two at the end is left out.
fn readable(bytes: &[u8], truncated: bool) -> (String, bool) {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if truncated && error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    };
    let mut text = String::from_utf8_lossy(whole).into_owned();
    let cut = text.len() > MAX_BODY;
    if cut {
        text.truncate(text.floor_char_boundary(MAX_BODY));
    }
    (text, cut)
}

#[cfg(test)]
#[path = "bodies_tests.rs"]
mod tests;
