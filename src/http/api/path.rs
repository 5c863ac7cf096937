//! Parameters that stand in a path.

use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

use super::super::problem::{Problem, echo};

/// A parameter of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathParam {
    /// Id of a row of the log.
    LogId,
    /// Id of a request.
    RequestId,
    /// Id of a channel.
    Channel,
}

/// Stands for the newest answered request instead of an id of the log.
const LATEST: &str = "latest";

/// Longest request id. new-api's column holds 64.
const MAX_REQUEST_ID: usize = 128;

impl PathParam {
    /// As it stands in the path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogId | Self::Channel => "id",
            Self::RequestId => "request_id",
        }
    }

    /// What it is.
    pub const fn about(self) -> &'static str {
        match self {
            Self::LogId => "Id of a row of the log, or `latest` for the newest answered request.",
            Self::RequestId => "Id of a request, as its rows hold it.",
            Self::Channel => "Id of a channel.",
        }
    }

    /// What it accepts, as errors say it.
    const fn accepted(self) -> &'static str {
        match self {
            Self::LogId => "a whole number from 0 to 9223372036854775807, or latest",
            Self::RequestId => "up to 128 visible ASCII characters",
            Self::Channel => "a whole number from 1 to 9223372036854775807",
        }
    }

    /// A value that a person could give.
    pub fn example(self) -> Value {
        match self {
            Self::LogId => json!(143_217),
            Self::Channel => json!(3),
            Self::RequestId => json!("20260131075952123456789a1b2c3d4Xy7Qk2Lm"),
        }
    }

    /// Its schema in the document.
    pub fn schema(self) -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let number = |least: i64| {
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                .minimum(Some(least))
                .maximum(Some(i64::MAX))
                .build()
        };
        RefOr::T(match self {
            Self::Channel => number(1).into(),
            Self::LogId => {
                let latest = text().enum_values(Some([LATEST])).build();
                AnyOfBuilder::new().item(number(0)).item(latest).build().into()
            }
            Self::RequestId => {
                let id = text().min_length(Some(1)).max_length(Some(MAX_REQUEST_ID));
                id.pattern(Some("^[!-~]+$")).build().into()
            }
        })
    }

    /// The value as a number.
    ///
    /// # Errors
    /// If it is none.
    pub fn number(self, value: &str) -> Result<i64, Problem> {
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let least = i64::from(self == Self::Channel);
        value.parse().ok().filter(|id| digits && *id >= least).ok_or_else(|| self.refuse(value))
    }

    /// The same; None for the word that stands for the newest row.
    ///
    /// # Errors
    /// If it is neither.
    pub fn number_or_latest(self, value: &str) -> Result<Option<i64>, Problem> {
        if value == LATEST { Ok(None) } else { self.number(value).map(Some) }
    }

    /// The value as a text that an id can be.
    ///
    /// # Errors
    /// If it cannot be one.
    pub fn text(self, value: &str) -> Result<&str, Problem> {
        let fits =
            (1..=MAX_REQUEST_ID).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(value) } else { Err(self.refuse(value)) }
    }

    fn refuse(self, value: &str) -> Problem {
        Problem::parameter(self.name(), format!("`{}` is not accepted", echo(value)), self.accepted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_number_that_fits() {
        assert_eq!(PathParam::LogId.number("143217").unwrap(), 143_217);
        assert_eq!(PathParam::LogId.number("9223372036854775807").unwrap(), i64::MAX);
        for value in ["9223372036854775808", "-1", "+1", "1.0", "abc", "", "1 "] {
            let problem = PathParam::LogId.number(value).unwrap_err();
            assert_eq!(serde_json::to_value(problem.body()).unwrap()["parameter"], "id", "{value}");
        }
    }

    #[test]
    fn the_newest_row_has_a_word_and_nothing_near_it_does() {
        assert_eq!(PathParam::LogId.number_or_latest("latest").unwrap(), None);
        assert_eq!(PathParam::LogId.number_or_latest("7").unwrap(), Some(7));
        for value in ["Latest", "latest ", "newest", ""] {
            assert!(PathParam::LogId.number_or_latest(value).is_err(), "{value}");
        }
    }

    #[test]
    fn no_channel_has_the_number_nothing() {
        assert_eq!(PathParam::Channel.number("1").unwrap(), 1);
        assert!(PathParam::Channel.number("0").is_err() && PathParam::LogId.number("0").is_ok());
    }

    #[test]
    fn a_request_id_is_short_visible_ascii() {
        assert!(PathParam::RequestId.text("2026-a/b").is_ok());
        for value in ["", "a b", "é", "a\u{0}", &"a".repeat(129)] {
            assert!(PathParam::RequestId.text(value).is_err(), "{value}");
        }
    }
}
