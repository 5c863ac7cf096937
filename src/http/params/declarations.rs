//! The parameters: name, meaning, bounds, example.

use serde_json::{Value, json};
use utoipa::openapi::schema::{AnyOfBuilder, Object, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr};

use super::super::problem::{Problem, echo};
use super::raw::MAX_VALUE_LENGTH;
use super::{By, DELIVERY_STATES, INCIDENT_STATES, MAX_LIMIT, TARGETS, window};
use crate::record::RowOutcome;

/// A parameter of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the parameter of its name, see its declaration")]
pub enum Param {
    From,
    To,
    Window,
    ChannelId,
    Model,
    Group,
    Username,
    TokenName,
    Type,
    RequestId,
    NoRequestId,
    MinDuration,
    Outcome,
    Stream,
    Limit,
    Cursor,
    StaleCursor,
    Step,
    By,
    IncidentState,
    DeliveryState,
    Target,
}

/// What there is to say about one.
#[derive(Debug)]
pub struct Declaration {
    /// As it stands in a query.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it accepts, as errors say it.
    pub accepted: &'static str,
    /// A value that a person could give.
    pub example: &'static str,
    /// Every value that is accepted, as far as a schema can tell.
    schema: fn() -> Schema,
}

/// How lists work, for every list.
const LIST: &str = "Comma list of alternatives, at most 100; empty, `*` and `.*` let all pass.";

impl Param {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::From,
        Self::To,
        Self::Window,
        Self::ChannelId,
        Self::Model,
        Self::Group,
        Self::Username,
        Self::TokenName,
        Self::Type,
        Self::RequestId,
        Self::NoRequestId,
        Self::MinDuration,
        Self::Outcome,
        Self::Stream,
        Self::Limit,
        Self::Cursor,
        Self::StaleCursor,
        Self::Step,
        Self::By,
        Self::IncidentState,
        Self::DeliveryState,
        Self::Target,
    ];

    /// As it stands in a query.
    pub const fn name(self) -> &'static str {
        self.declaration().name
    }

    /// Everything about it.
    pub const fn declaration(self) -> &'static Declaration {
        match self {
            Self::From | Self::To | Self::Window | Self::Step => self.of_time(),
            Self::ChannelId | Self::Type | Self::Outcome | Self::Stream | Self::MinDuration => {
                self.of_closed_values()
            }
            Self::Model
            | Self::Group
            | Self::Username
            | Self::TokenName
            | Self::RequestId
            | Self::NoRequestId => self.of_names(),
            Self::Limit | Self::Cursor | Self::StaleCursor | Self::By => self.of_lists(),
            Self::IncidentState | Self::DeliveryState | Self::Target => self.of_alerting(),
        }
    }

    /// What the document says about it: meaning, and how a list is written.
    pub fn about(self) -> String {
        let about = self.declaration().about;
        match self {
            Self::ChannelId | Self::Type | Self::Outcome => format!("{about} {LIST}"),
            Self::Model | Self::Group | Self::Username | Self::TokenName | Self::RequestId => {
                format!("{about} {LIST} A comma inside a name is written `\\,`.")
            }
            _ => about.to_owned(),
        }
    }

    /// Its schema in the document.
    pub fn schema(self) -> RefOr<Schema> {
        RefOr::T((self.declaration().schema)())
    }

    /// Its example in the document, as a number where the schema wants one.
    pub fn example(self) -> Value {
        let example = self.declaration().example;
        if self == Self::Limit { serde_json::from_str(example).unwrap_or_default() } else { json!(example) }
    }

    /// The error for a value that it does not accept.
    pub fn refuse(self, value: &str) -> Problem {
        Problem::parameter(
            self.name(),
            format!("`{}` is not accepted", echo(value)),
            self.declaration().accepted,
        )
    }

    const fn of_time(self) -> &'static Declaration {
        match self {
            Self::From => &Declaration {
                name: "from",
                about: "Beginning of the window: RFC 3339, unix seconds, or unix milliseconds (a number from 100000000000 on). Not together with `window`.",
                accepted: window::MOMENTS,
                example: "2026-01-31T08:00:00Z",
                schema: moment,
            },
            Self::To => &Declaration {
                name: "to",
                about: "End of the window, not part of it, written like `from`. Without it, or if it has not come yet, the window is open: it also holds rows of gateway nodes whose clocks run ahead.",
                accepted: window::MOMENTS,
                example: "1769846400000",
                schema: moment,
            },
            Self::Window => &Declaration {
                name: "window",
                about: "Length of the window, which ends at `to` or now: a duration such as `30m`, `24h` or `7d`. Not together with `from`.",
                accepted: window::LENGTHS,
                example: "24h",
                schema: short_text,
            },
            _ => &Declaration {
                name: "step",
                about: "Length of a step: a duration of whole seconds from `1m` to `31d`, at most 2000 steps. Without it a round step that gives at most 200.",
                accepted: "a duration of whole seconds from 1m to 31d",
                example: "1h",
                schema: short_text,
            },
        }
    }

    const fn of_closed_values(self) -> &'static Declaration {
        match self {
            Self::ChannelId => &Declaration {
                name: "channel_id",
                about: "Only rows of these channels, by id. Rows that never reached a channel have 0.",
                accepted: "ids of channels, whole numbers separated by commas",
                example: "1,3",
                schema: || list_of("[0-9]{1,18}"),
            },
            Self::Type => &Declaration {
                name: "type",
                about: "Only rows of these types of new-api: 1 top-up, 2 consumption, 3 management, 4 system, 5 error, 6 refund, 7 login, 0 unknown.",
                accepted: "whole numbers from 0 to 7, separated by commas",
                example: "2,5",
                schema: || list_of("0{0,17}[0-7]"),
            },
            Self::Outcome => &Declaration {
                name: "outcome",
                about: "Only rows that count as one of these.",
                accepted: "success, stream_error, client_gone, error, refund, settlement, test, other, separated by commas",
                example: "error,stream_error",
                schema: || list_of(&RowOutcome::ALL.map(RowOutcome::as_str).join("|")),
            },
            Self::Stream => &Declaration {
                name: "stream",
                about: "Only streamed requests, or only others.",
                accepted: "true or false",
                example: "true",
                schema: || text().enum_values(Some(["true", "false", "", "*", ".*"])).build().into(),
            },
            _ => &Declaration {
                name: "min_duration",
                about: "Only requests that took at least this long: a duration such as `5s` or `1m 30s`, or plain seconds, up to 7 days.",
                accepted: "a duration such as 5s or 1m 30s, or seconds such as 2.5, up to 7d",
                example: "5s",
                schema: short_text,
            },
        }
    }

    const fn of_names(self) -> &'static Declaration {
        match self {
            Self::Model => &Declaration {
                name: "model",
                about: "Only rows of these models, by the name that was asked for.",
                accepted: "names of models, separated by commas",
                example: "gpt-4o,claude-sonnet-4-5",
                schema: text_list,
            },
            Self::Group => &Declaration {
                name: "group",
                about: "Only rows of these billing groups.",
                accepted: "names of groups, separated by commas",
                example: "default",
                schema: text_list,
            },
            Self::Username => &Declaration {
                name: "username",
                about: "Only rows of these users.",
                accepted: "names of users, separated by commas",
                example: "alice,bob",
                schema: text_list,
            },
            Self::TokenName => &Declaration {
                name: "token_name",
                about: "Only rows of the tokens with these names. Different users may have tokens of the same name.",
                accepted: "names of tokens, separated by commas",
                example: "production",
                schema: text_list,
            },
            Self::NoRequestId => &Declaration {
                name: "request_id",
                about: "Nothing but empty, `*` or `.*`: sums come from the history, which holds no request ids. `/api/v1/logs` and `/api/v1/slow-requests` take them.",
                accepted: "empty, * or .*; /api/v1/logs and /api/v1/slow-requests take request ids",
                example: "*",
                schema: || one_of(&[]),
            },
            _ => &Declaration {
                name: "request_id",
                about: "Only rows of these requests. Logs of versions before 0.10.8 have no request ids.",
                accepted: "request ids, separated by commas",
                example: "20260131080000123456789a1b2c3d4Xy7Qk2Lm",
                schema: text_list,
            },
        }
    }

    const fn of_alerting(self) -> &'static Declaration {
        match self {
            Self::IncidentState => &Declaration {
                name: "state",
                about: "Only incidents that last, or only those that are over.",
                accepted: "firing or resolved",
                example: "firing",
                schema: || one_of(&INCIDENT_STATES),
            },
            Self::DeliveryState => &Declaration {
                name: "state",
                about: "Only deliveries that are so far.",
                accepted: "pending, leased, sent, dead or superseded",
                example: "dead",
                schema: || one_of(&DELIVERY_STATES),
            },
            _ => &Declaration {
                name: "target",
                about: "Only deliveries to this target.",
                accepted: "telegram, feishu or wecom",
                example: "feishu",
                schema: || one_of(&TARGETS),
            },
        }
    }

    const fn of_lists(self) -> &'static Declaration {
        match self {
            Self::Limit => &Declaration {
                name: "limit",
                about: "Rows of a page, at most.",
                accepted: "a whole number from 1 to 500",
                example: "100",
                schema: || {
                    let number = ObjectBuilder::new().schema_type(Type::Integer);
                    let number = number.minimum(Some(1)).maximum(Some(MAX_LIMIT)).build();
                    let empty = text().max_length(Some(0)).description(Some("the usual number")).build();
                    AnyOfBuilder::new().item(number).item(empty).build().into()
                },
            },
            Self::Cursor => &Declaration {
                name: "cursor",
                about: "Where the list goes on: `next_cursor` of the page before, with the same filters. Empty for the first page.",
                accepted: "a next_cursor of the same route with the same filters",
                example: "",
                schema: short_text,
            },
            Self::StaleCursor => &Declaration {
                name: "stale_cursor",
                about: "What to do with a `cursor` that belongs to other filters, or behind which there is nothing: `refuse` it, which is usual and makes the second an empty page, or begin with the `first` page, as somebody who turns pages and then changes a filter expects.",
                accepted: "refuse or first",
                example: "first",
                schema: || text().enum_values(Some(["refuse", "first", ""])).build().into(),
            },
            _ => &Declaration {
                name: "by",
                about: "Tells the trend apart by model, by channel or by user; without it everything is summed.",
                accepted: "model, channel or user",
                example: "model",
                schema: || {
                    let values = By::ALL.map(By::as_str).into_iter().chain([""]);
                    text().enum_values(Some(values)).build().into()
                },
            },
        }
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// One of these, or all.
fn one_of(values: &[&'static str]) -> Schema {
    text().enum_values(Some(values.iter().copied().chain(["", "*", ".*"]))).build().into()
}

/// A text of which a schema cannot say more.
fn short_text() -> Schema {
    text().max_length(Some(MAX_VALUE_LENGTH)).build().into()
}

/// A comma list of names.
fn text_list() -> Schema {
    text().max_length(Some(MAX_VALUE_LENGTH)).pattern(Some("^[^\\x00-\\x1f\\x7f-\\x9f]*$")).build().into()
}

/// A comma list of what `item` matches, or all.
fn list_of(item: &str) -> Schema {
    let (item, all) = (format!("(?:{item})"), r"\*|\.\*");
    let item = format!("(?:{item}|{all})?");
    text()
        .max_length(Some(MAX_VALUE_LENGTH))
        .pattern(Some(format!("^{item}(?:,{item}){{0,99}}$")))
        .build()
        .into()
}

/// An instant.
fn moment() -> Schema {
    let date_time: Object = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build();
    let number = ObjectBuilder::new().schema_type(Type::Integer).build();
    let empty = text().max_length(Some(0)).description(Some("no bound")).build();
    AnyOfBuilder::new().item(date_time).item(number).item(empty).build().into()
}
