//! What an operator allows to be used, and how much of it is used: `limits.yml` and the windows that it asks for.
//!
//! [`file`] makes [`Limit`]s out of the file's text, [`standings`] sums rows into their windows. Nothing here reads
//! a file, a clock or a database: texts, rows and the time are arguments.

pub mod calendar;
pub mod file;
mod glob;
mod length;
mod rate;
mod ring;
mod short;
pub mod standings;
mod turn;
mod users;
mod watched;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod speed_tests;
#[cfg(test)]
mod standings_tests;

pub use crate::history::{Entry, Measure};
pub use calendar::Period;
pub use glob::Glob;
pub use length::Length;
pub use short::{SHORT, short_of};
pub use standings::{Standing, Standings};
pub use users::Users;

use crate::record::ChannelId;

/// The label value that stands for the sum of what is not counted by itself: channels and models beyond a bound, and names of
/// models that anybody may have invented.
pub const REST: &str = "_other";

/// One entry of `limits.yml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// Unique in its file.
    pub name: String,
    /// Whose rows count.
    pub channel: ChannelScope,
    /// Requests for which model count.
    pub model: ModelScope,
    /// What is summed.
    pub measure: Measure,
    /// How much is allowed, in the unit of the measure. Above 0 and finite.
    pub max: f64,
    /// Over which time.
    pub window: Window,
    /// The part of `max` that is worth a warning, above 0 and at most 1.
    pub warn_at: Option<f64>,
    /// How bad it is to exceed it.
    pub severity: Severity,
    /// What to do then.
    pub action: Action,
    /// When to undo that.
    pub restore: Restore,
}

/// Channels that a limit is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelScope {
    /// All of them together.
    Together,
    /// Every channel by itself.
    Each,
    /// This one.
    One(ChannelId),
}

/// Models that a limit is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelScope {
    /// All of them together.
    Together,
    /// Every model by itself.
    Each,
    /// The one of this name.
    Name(String),
    /// Those that fit, together.
    Glob(Glob),
}

impl ChannelScope {
    /// Whether rows of the channel count.
    pub fn holds(self, channel_id: ChannelId) -> bool {
        match self {
            Self::Together => true,
            // Rows that never reached a channel are nobody's.
            Self::Each => channel_id != 0,
            Self::One(id) => id == channel_id,
        }
    }
}

impl ModelScope {
    /// Whether rows of the model count.
    pub fn holds(&self, model: &str) -> bool {
        match self {
            Self::Together => true,
            // Money given back without a model belongs to none.
            Self::Each => !model.is_empty(),
            Self::Name(name) => name == model,
            Self::Glob(glob) => glob.matches(model),
        }
    }
}

/// The time that a limit looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// From its beginning by the calendar.
    Calendar(Period),
    /// The last so and so much, at every moment.
    Rolling(Length),
}

impl Window {
    /// The label value: `day`, or `24h` as it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Calendar(period) => period.as_str(),
            Self::Rolling(length) => length.as_str(),
        }
    }
}

/// How bad it is to exceed a limit. Decides colour and route of its alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// At once, red.
    Critical,
    /// Grouped, orange.
    Warning,
    /// For the record, blue.
    Info,
}

impl Severity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Critical, Self::Warning, Self::Info];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// What to do when a limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Tell people.
    Notify,
    /// Tell people and disable the channel.
    DisableChannel,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Notify, Self::DisableChannel];

    /// The label value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::DisableChannel => "disable_channel",
        }
    }
}

/// When a channel that was disabled is enabled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restore {
    /// When a person does it.
    Never,
    /// With the next window by the calendar, or when a rolling window has calmed down: see [`Limit::calm_ratio`].
    WindowReset,
    /// So long after it was disabled.
    After(Length),
}

impl Restore {
    /// The restore of a label value.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "never" => Some(Self::Never),
            "window_reset" => Some(Self::WindowReset),
            _ => Length::parse(text).map(Self::After),
        }
    }

    /// The label value: `never`, `window_reset`, or `2h` as it was written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Never => "never",
            Self::WindowReset => "window_reset",
            Self::After(length) => length.as_str(),
        }
    }
}

/// The part of `max` below which a rolling window without `warn_at` has calmed down. Without a distance to `max`,
/// the first request after a channel was enabled again would disable it again.
const CALM_RATIO: f64 = 0.8;

impl Limit {
    /// The part of `max` below which a rolling window has calmed down: `warn_at`, else 0.8.
    pub fn calm_ratio(&self) -> f64 {
        self.warn_at.unwrap_or(CALM_RATIO)
    }
}
