//! What may stand in a query: each parameter declared once, for the reader and for the OpenAPI document alike.
//!
//! Reading is strict. A parameter that a route does not take, one given twice, or a value that is not understood
//! is an error with the parameter's name, because a filter that is silently ignored gives a wrong answer. An
//! empty value counts as absent: that is what a dashboard sends for an empty field.

mod cursor;
mod declarations;
mod filters;
mod raw;
mod window;

use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Problem, echo};
pub use cursor::{Binding, Cursor, Position};
pub use declarations::{Declaration, Param};
pub use filters::Filters;
pub use window::{Step, Window, plain};

/// Most rows of a page.
pub const MAX_LIMIT: usize = 500;

/// What an incident can be.
pub const INCIDENT_STATES: [&str; 2] = ["firing", "resolved"];

/// What a delivery can be.
pub const DELIVERY_STATES: [&str; 5] = ["pending", "leased", "sent", "dead", "superseded"];

/// Where messages go.
pub const TARGETS: [&str; 3] = ["telegram", "feishu", "wecom"];

/// What a route takes, declared with the route.
#[derive(Debug, Clone, Copy)]
pub struct Accepts {
    /// Its parameters, in the order of the document.
    pub params: &'static [Param],
    /// The window if nobody says.
    pub window: Usual,
    /// Rows of a page if nobody says.
    pub limit: usize,
}

/// A window that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usual {
    /// The last so and so long; the whole history at most.
    Last(Duration),
    /// Since midnight where the operator lives.
    Today,
    /// All that is kept of the log.
    All,
    /// All there is, however old: what it is asked of is kept longer than the log, or not of the past at all.
    Ever,
}

/// What is known beside the query.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The time.
    pub now: Timestamp,
    /// How long today is already.
    pub today: Duration,
    /// How far back anything is known.
    pub history: Duration,
    /// From when on every row is known, if that is later than what `history` says.
    pub known_from: Timestamp,
}

/// By what a trend is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// By model.
    Model,
    /// By channel.
    Channel,
    /// By user.
    User,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Model, Self::Channel, Self::User];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Channel => "channel",
            Self::User => "user",
        }
    }
}

/// A query, read. Parameters that its route does not take have the value they have if nobody gives them.
#[derive(Debug, Clone)]
pub struct Query {
    /// The time it is about.
    pub window: Window,
    /// The rows it is about.
    pub filters: Filters,
    /// Rows of a page, at most.
    pub limit: usize,
    /// The last row of the page before, if this is not the first.
    pub after: Option<Position>,
    /// A page that is not there is the first one.
    forgiving: bool,
    /// How a trend is cut.
    pub step: Step,
    /// By what a trend is told apart; None for everything together.
    pub by: Option<By>,
    /// Ties cursors to this list.
    binding: Binding,
    /// What was given, but for the cursor, to be given again for the next page.
    given: Vec<(Param, String)>,
}

impl Query {
    /// Reads the query string of a request to the route called `route`.
    ///
    /// # Errors
    /// Which parameter is wrong, and what is accepted.
    pub fn parse(route: &str, accepts: &Accepts, query: &str, known: Known) -> Result<Self, Problem> {
        let mut given = Given::new(accepts, query)?;
        let filters = given.filters()?;
        let binding = Binding::new(route, &filters);
        let forgiving = given.forgives()?;
        let cursor = match given.take(Param::Cursor) {
            Some(text) if forgiving => Cursor::decode_if_bound(&text, binding)?,
            Some(text) => Some(Cursor::decode(&text, binding)?),
            None => None,
        };
        let mut window = given.window(accepts, known)?;
        if let Some(cursor) = cursor.filter(|_| given.get(Param::From).is_none()) {
            // A window that is given by its length stays where it was on the first page.
            window.from = cursor.from.min(window.end());
        }
        Ok(Self {
            window,
            limit: given.limit(accepts)?,
            after: cursor.map(|cursor| cursor.position),
            forgiving,
            step: Step::parse(given.get(Param::Step), &window)?,
            by: given.by()?,
            filters,
            binding,
            given: given.pairs,
        })
    }

    /// The first page instead of this one, if there is nothing on this one and that was asked for.
    pub fn first_page(&self) -> Option<Self> {
        (self.forgiving && self.after.is_some()).then(|| Self { after: None, ..self.clone() })
    }

    /// The cursor with which a list goes on after `position`.
    pub fn next_cursor(&self, position: Position) -> String {
        Cursor { from: self.window.from, position }.encode(self.binding)
    }

    /// The same as a link, with everything else as it was given.
    pub fn next_link(&self, path: &str, cursor: &str) -> String {
        let parameter = |(param, value): &(Param, String)| {
            format!("{}={}", param.name(), utf8_percent_encode(value, NON_ALPHANUMERIC))
        };
        let given = self.given.iter().map(parameter).chain([format!("cursor={cursor}")]);
        format!("{path}?{}", given.collect::<Vec<_>>().join("&"))
    }
}

/// The parameters of a request that its route takes and that hold something.
struct Given {
    pairs: Vec<(Param, String)>,
}

impl Given {
    fn new(accepts: &Accepts, query: &str) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for (name, value) in raw::pairs(query)? {
            let Some(param) = accepts.params.iter().copied().find(|param| param.name() == name) else {
                let names: Vec<&str> = accepts.params.iter().map(|param| param.name()).collect();
                let accepted = if names.is_empty() { "no parameter".to_owned() } else { names.join(", ") };
                let detail = format!("this route does not know `{}`", echo(&name));
                return Err(Problem::parameter(&name, detail, accepted));
            };
            if !value.is_empty() {
                pairs.push((param, value));
            }
        }
        Ok(Self { pairs })
    }

    fn get(&self, param: Param) -> Option<&str> {
        self.pairs.iter().find(|(given, _)| *given == param).map(|(_, value)| value.as_str())
    }

    fn take(&mut self, param: Param) -> Option<String> {
        let index = self.pairs.iter().position(|(given, _)| *given == param)?;
        Some(self.pairs.remove(index).1)
    }

    fn window(&self, accepts: &Accepts, known: Known) -> Result<Window, Problem> {
        let given = window::Given {
            from: self.get(Param::From),
            to: self.get(Param::To),
            window: self.get(Param::Window),
        };
        let (usual, known) = match accepts.window {
            Usual::Last(length) => (length, known),
            // A window has a length, also at midnight.
            Usual::Today => (known.today.max(Duration::from_secs(1)), known),
            Usual::All => (Duration::MAX, known),
            Usual::Ever => {
                (Duration::MAX, Known { history: Duration::MAX, known_from: Timestamp::MIN, ..known })
            }
        };
        Window::parse(given, usual, known)
    }

    fn filters(&self) -> Result<Filters, Problem> {
        let text = |param: Param| self.get(param).unwrap_or_default();
        let list = |param: Param| filters::alternatives(param.name(), text(param));
        let numbers = |param: Param, bounds| {
            filters::numbers(param.name(), text(param), &bounds, param.declaration().accepted)
        };
        let (min_duration, stream) = (Param::MinDuration, Param::Stream);
        Ok(Filters {
            channel_ids: numbers(Param::ChannelId, filters::CHANNEL_IDS)?,
            models: list(Param::Model)?,
            groups: list(Param::Group)?,
            usernames: list(Param::Username)?,
            token_names: list(Param::TokenName)?,
            kinds: numbers(Param::Type, filters::KINDS)?,
            request_ids: self.request_ids()?,
            min_duration: Some(text(min_duration))
                .filter(|text| !filters::is_all(text))
                .map(|text| filters::duration(min_duration.name(), text, min_duration.declaration().accepted))
                .transpose()?,
            outcomes: filters::outcomes(
                Param::Outcome.name(),
                text(Param::Outcome),
                Param::Outcome.declaration().accepted,
            )?,
            stream: match text(stream) {
                text if filters::is_all(text) => None,
                "true" => Some(true),
                "false" => Some(false),
                text => return Err(stream.refuse(text)),
            },
            state: match self.one_of(Param::IncidentState, &INCIDENT_STATES)? {
                None => self.one_of(Param::DeliveryState, &DELIVERY_STATES)?,
                state => state,
            },
            target: self.one_of(Param::Target, &TARGETS)?,
        })
    }

    fn request_ids(&self) -> Result<Vec<String>, Problem> {
        let list = |param: Param| filters::alternatives(param.name(), self.get(param).unwrap_or_default());
        if list(Param::NoRequestId)?.is_empty() {
            return list(Param::RequestId);
        }
        let param = Param::NoRequestId;
        Err(Problem::parameter(
            param.name(),
            "sums cannot be told by request: the history that they come from holds no request ids",
            param.declaration().accepted,
        ))
    }

    /// The one of the values that is given.
    fn one_of(&self, param: Param, values: &[&'static str]) -> Result<Option<&'static str>, Problem> {
        let text = self.get(param).unwrap_or_default();
        if filters::is_all(text) {
            return Ok(None);
        }
        let known = values.iter().copied().find(|value| *value == text);
        known.map(Some).ok_or_else(|| param.refuse(text))
    }

    fn limit(&self, accepts: &Accepts) -> Result<usize, Problem> {
        let Some(text) = self.get(Param::Limit) else { return Ok(accepts.limit) };
        let number = text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        number.filter(|_| digits).ok_or_else(|| Param::Limit.refuse(text))
    }

    /// Whether a cursor that leads nowhere is no mistake.
    fn forgives(&self) -> Result<bool, Problem> {
        match self.get(Param::StaleCursor) {
            None | Some("refuse") => Ok(false),
            Some("first") => Ok(true),
            Some(text) => Err(Param::StaleCursor.refuse(text)),
        }
    }

    fn by(&self) -> Result<Option<By>, Problem> {
        let Some(text) = self.get(Param::By) else { return Ok(None) };
        let by = By::ALL.into_iter().find(|by| by.as_str() == text);
        by.map(Some).ok_or_else(|| Param::By.refuse(text))
    }
}

#[cfg(test)]
mod tests;
