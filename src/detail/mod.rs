//! A row of the log in full: what it cost and why, where the time went, what was tried, what was asked and answered.
//!
//! Pure: entries, channels and bodies come as arguments and values to be sent come out. No database, no time, no
//! HTTP. What a row counts as is decided by [`crate::record`] alone; the price formulas are those of new-api,
//! written anew in `price`.
//!
//! ```text
//! Entry ──► LogRow (lists)          Entry + Surroundings ──► LogDetail          [Entry] ──► RequestStory
//! ```

mod bodies;
mod channel;
mod cost;
mod entry;
mod exchange;
mod factors;
mod fields;
mod json;
mod mask;
mod price;
mod row;
mod story;
mod timing;
mod tokens;
mod why;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub use bodies::{BadSource, Bodies, BodiesState, BodySource, Join, MAX_BODY, Preset};
pub use channel::{ChannelStatus, ChannelView};
pub use cost::{Cost, CostPart};
pub use entry::{Context, Surroundings};

use crate::newapi::Entry;
pub use exchange::{RequestView, ResponseView};
pub use factors::Factor;
pub use row::LogRow;
pub use story::{RequestStory, StoryTotals};
pub use timing::{Attempt, Timing, Trial, attempts_of};
pub use tokens::{TokenPart, Tokens};

use fields::Fields;

/// Longest `other` that is shown, in bytes. new-api writes a few hundred.
const MAX_OTHER: usize = 4 << 20;

/// One row of the log in full.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LogDetail {
    /// The fields of every log row.
    #[serde(flatten)]
    pub row: LogRow,
    /// new-api's text on the row, without credentials.
    pub content: String,
    /// The channel as it is today; null for a row that never reached one.
    pub channel: Option<ChannelView>,
    /// Everything that new-api recorded on the row, as it is but for credentials; null if there is nothing.
    #[schema(value_type = Option<Object>)]
    pub other: Option<Box<RawValue>>,
    /// Why `other` cannot be shown.
    pub other_error: Option<String>,
    /// Tokens by kind.
    pub tokens: Tokens,
    /// Money.
    pub cost: Cost,
    /// The ratios and prices that new-api recorded.
    pub factors: Vec<Factor>,
    /// Times and attempts.
    pub timing: Timing,
    /// What was asked.
    pub request: RequestView,
    /// What was answered.
    pub response: ResponseView,
    /// `request`, indented, ready to be shown.
    pub request_text: String,
    /// `response`, indented, ready to be shown.
    pub response_text: String,
    /// Whether bodies are there.
    pub bodies: BodiesState,
}

impl LogDetail {
    /// The detail of an entry.
    pub fn new(entry: &Entry, surroundings: &Surroundings<'_>) -> Self {
        let context = &surroundings.context;
        let reading = entry.read();
        let fields = Fields::parse(&entry.other);
        let (other, other_error) = shown_other(entry);
        let (request_body, response_body, bodies) = surroundings.bodies.show();
        let request = RequestView::new(entry, &fields, request_body);
        let response = ResponseView::new(entry, &reading, &fields, response_body);
        Self {
            row: LogRow::of(entry, &reading, context),
            content: mask::text(&entry.content).into_owned(),
            channel: ChannelView::new(entry, &reading, &fields, context),
            other,
            other_error,
            tokens: Tokens::new(&reading.request, &fields),
            cost: Cost::new(entry, &reading, &fields, context),
            factors: factors::factors(&fields),
            timing: Timing::new(entry, &reading, surroundings.siblings, context),
            request_text: exchange::shown(&request),
            response_text: exchange::shown(&response),
            request,
            response,
            bodies,
        }
    }
}

/// A text without the keys that stand in it.
pub fn without_credentials(text: &str) -> std::borrow::Cow<'_, str> {
    mask::text(text)
}

/// The `other` column as it may be shown, or what is wrong with it.
fn shown_other(entry: &Entry) -> (Option<Box<RawValue>>, Option<String>) {
    let text = entry.other.trim();
    if text.is_empty() {
        // One API has no such column, and rows without a request need none.
        let missing = !entry.one_api && matches!(entry.kind, 2 | 5 | 6);
        return (None, missing.then(|| "empty".to_owned()));
    }
    if text.len() > MAX_OTHER {
        return (None, Some(format!("longer than {} MiB", MAX_OTHER >> 20)));
    }
    match json::clean(text) {
        Ok(other) => (Some(other), None),
        Err(why) => (None, Some(why)),
    }
}

#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod tests;
