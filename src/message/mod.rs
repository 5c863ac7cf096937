//! What people are told: notices, and how they read on each target in each language. Pure.
//!
//! A [`Notice`] is what happened; it is kept in monitor.db until it is told. [`compose`] makes of it the [`Part`]s
//! that a target gets.

mod feishu;
mod figures;
mod layout;
mod notice;
mod plain;
mod story;
mod target;
mod telegram;
mod template;
mod text;
mod wecom;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use notice::{AlertGroup, Change, MAX_ALERTS, Notice, Told, Trouble};
pub use target::Target;
pub use template::{MAX_TEMPLATE, Template};

use crate::breaker::act::Act;
use crate::config::Language;

/// One request's worth of a message, as it is kept until it is sent.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// The body for the target's API, but for what is added when it is sent: chat, thread, time and signature.
    pub rich: serde_json::Value,
    /// The same as plain text, for a target that refuses the other. Short enough for every target: at most 2048 bytes.
    pub plain: String,
    /// The same with room for hardly more than what happened, for a target that refuses that as too long: at most 1000 bytes.
    #[serde(default)]
    pub short: String,
}

/// How messages are worded.
#[derive(Debug, Clone)]
pub struct Wording {
    /// Their language.
    pub language: Language,
    /// The zone of times in them.
    pub zone: TimeZone,
    /// Where people open Grafana, without a trailing slash; links that begin with `/` begin there.
    pub grafana_url: Option<String>,
    /// Where people read the project, without a trailing slash; runbooks that are named by a path are below it.
    pub runbook_url: Option<String>,
    /// A word that every message to Feishu must contain besides "Token Monitor".
    pub feishu_keyword: Option<String>,
    /// An operator's own words about an alert.
    pub template: Option<Template>,
}

impl Wording {
    /// In our own words, without links into Grafana.
    pub fn new(language: Language, zone: TimeZone) -> Self {
        Self { language, zone, grafana_url: None, runbook_url: None, feishu_keyword: None, template: None }
    }
}

/// Writes a notice for a target: at least one part, each within the target's limits. What came from outside pings nobody,
/// opens nothing and breaks no markup, and every alert is named or counted.
pub fn compose(notice: &Notice, known: &Known, wording: &Wording, target: Target) -> Vec<Part> {
    layout::lay_out(&story::tell(notice, known, wording, target), wording, target)
}

/// What the monitor itself knows about a notice when it is told.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// About each alert of an [`AlertGroup`], in its order; None where nothing is known.
    pub alerts: Vec<Option<LimitFacts>>,
    /// Today's name of each channel that the notice is about.
    pub channel_names: BTreeMap<i64, String>,
    /// The acts that the notice refers to, and those that these refer to, by their id.
    pub acts: BTreeMap<i64, Act>,
    /// The acts that hold a channel disabled, of channels that the notice is about.
    pub holders: BTreeMap<i64, Vec<Act>>,
    /// Now.
    pub now: Timestamp,
}

/// Where a limit stands.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitFacts {
    /// Its name in `limits.yml`.
    pub limit: String,
    /// The pattern of its models, which is no label of an alert; empty if it has none.
    pub models: String,
    /// `tokens`, `cost_usd`, …
    pub measure: String,
    /// `day`, `24h`, …
    pub window: String,
    /// In the unit of the measure.
    pub used: f64,
    /// What is allowed.
    pub max: f64,
    /// When its window ends or has calmed down.
    pub resets_at: Option<Timestamp>,
    /// The biggest contributors: who, and how much, in the unit of the measure.
    pub contributors: Vec<(Contributor, f64)>,
}

/// Who uses a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Contributor {
    /// The channel, today's name.
    pub channel_name: String,
    /// Its id.
    pub channel_id: i64,
    /// The model.
    pub model: String,
    /// The user's name.
    pub username: String,
}
