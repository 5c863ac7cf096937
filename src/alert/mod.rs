//! What Alertmanager and Grafana tell us: a notification and the alerts in it. Pure.
//!
//! [`Notification::parse`] reads the body of a webhook; nothing in it is trusted.

mod event;
mod payload;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits::{Action, REST, Restore, Severity};
pub use event::EventKey;
pub use payload::{BadPayload, uncut};

/// The alert that always fires, so that its silence tells that the way to us is broken.
const WATCHDOG: &str = "Watchdog";

/// Names under which Grafana says that a rule could not be evaluated, with all labels of the rule. No data is no evidence.
const NO_EVIDENCE: [&str; 2] = ["DatasourceNoData", "DatasourceError"];

/// Longest piece of a label that is no channel's number, in characters.
const LONGEST_NO_CHANNEL: usize = 80;

/// One call of the webhook: a group of alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Name of the receiver as Alertmanager writes it, quoted as a regular expression.
    pub receiver: String,
    /// Which group of alerts it is about; stable over its notifications.
    pub group_key: String,
    /// Where the sender is, for people.
    pub external_url: Option<String>,
    /// Why it was sent: `first notification`, `repeat interval elapsed`, …; old versions say nothing.
    pub reason: Option<String>,
    /// Alerts of the group that the sender left out.
    pub truncated: u64,
    /// The alerts.
    pub alerts: Vec<Alert>,
}

impl Notification {
    /// Whether the Watchdog is among them, and on.
    pub fn has_watchdog(&self) -> bool {
        self.alerts.iter().any(|alert| alert.is_watchdog() && alert.status == Status::Firing)
    }
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Whether it lasts.
    pub status: Status,
    /// Who it is. Any text can be in them.
    pub labels: BTreeMap<String, String>,
    /// What it says.
    pub annotations: BTreeMap<String, String>,
    /// When it began. Replicas of Prometheus differ a little, so this may move within an episode.
    pub starts_at: Timestamp,
    /// When it ended; None while it lasts.
    pub ends_at: Option<Timestamp>,
    /// The sender's short name for the labels.
    pub fingerprint: String,
    /// The query that raised it.
    pub generator_url: Option<String>,
    /// Where Grafana silences it.
    pub silence_url: Option<String>,
    /// The dashboard or panel that Grafana knows for it.
    pub dashboard_url: Option<String>,
}

/// Whether an alert lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It does.
    Firing,
    /// It does not any more. No evidence that what it was about got well.
    Resolved,
}

impl Alert {
    /// A label's value; empty if it has none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// An annotation; empty if it has none.
    pub fn annotation(&self, name: &str) -> &str {
        self.annotations.get(name).map_or("", String::as_str)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.label("alertname")
    }

    /// How bad it is; what has no known severity is a warning.
    pub fn severity(&self) -> Severity {
        let known = |severity: &Severity| severity.as_str() == self.label("severity");
        Severity::ALL.into_iter().find(known).unwrap_or(Severity::Warning)
    }

    /// It is the one that only tells that the way to us works.
    pub fn is_watchdog(&self) -> bool {
        self.name() == WATCHDOG
    }

    /// It asks for a channel to be disabled.
    pub fn asks_to_disable(&self) -> bool {
        self.label("action") == Action::DisableChannel.as_str() && !NO_EVIDENCE.contains(&self.name())
    }

    /// The channel that it is about.
    ///
    /// # Errors
    /// What stands in the place of a number, shortened; empty if there is nothing.
    pub fn channel(&self) -> Result<i64, String> {
        let text = self.label("channel_id");
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|id| digits && *id > 0).ok_or_else(|| {
            let mut short: String = text.chars().take(LONGEST_NO_CHANNEL).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            short
        })
    }

    /// The channel that it asks to disable. The sum of what a limit does not count by itself is no reason to: names of
    /// models in it may be made up by anyone who has a key.
    ///
    /// # Errors
    /// As for [`Self::channel`]; [`REST`] for such a sum.
    pub fn channel_to_disable(&self) -> Result<i64, String> {
        if self.label("model") == REST && !self.label("limit").is_empty() {
            return Err(REST.to_owned());
        }
        self.channel()
    }

    /// When what it asks for is undone; [`Restore::Never`] if it does not say, or says what is not understood.
    pub fn restore(&self) -> Restore {
        Restore::parse(self.label("restore")).unwrap_or(Restore::Never)
    }
}
