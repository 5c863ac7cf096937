//! What happened, as it is kept until people were told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Target;
use crate::alert::{Alert, Status};
use crate::limits::Severity;

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
    /// Alerts, as a webhook brought them.
    Alerts(AlertGroup),
    /// What the breaker did, or would not do, where no message about alerts could say so.
    Act {
        /// In the ledger.
        act: i64,
    },
    /// A channel that was disabled still answers requests.
    StillBusy {
        /// The act that disabled it.
        act: i64,
        /// Requests that it answered which began since.
        requests: u64,
        /// There may be more of them.
        #[serde(default)]
        at_least: bool,
        /// So long after it was disabled.
        seconds: i64,
    },
    /// Something is wrong with the monitor's own work.
    Trouble(Trouble),
    /// `check --send`.
    Test,
}

/// Alerts of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertGroup {
    /// Who was to get them.
    pub receiver: String,
    /// The sender's own page.
    pub external_url: Option<String>,
    /// Alerts that the sender left out.
    pub truncated: u64,
    /// A short name of the event, by which a message that came twice is recognised.
    pub event: String,
    /// When we got it.
    pub received_at: Timestamp,
    /// The alerts.
    pub alerts: Vec<Told>,
}

/// Alerts that one notice names; further ones are only counted. A group that waits for hours must not grow without end.
pub const MAX_ALERTS: usize = 500;

impl AlertGroup {
    /// Leaves out and counts what is beyond [`MAX_ALERTS`]: the least important, and never first what something was done about.
    pub fn bound(&mut self) {
        if self.alerts.len() <= MAX_ALERTS {
            return;
        }
        let severity = |told: &Told| Severity::ALL.iter().position(|one| *one == told.alert.severity());
        self.alerts
            .sort_by_key(|told| (told.act.is_none(), told.alert.status == Status::Resolved, severity(told)));
        let excess = self.alerts.len() - MAX_ALERTS;
        self.alerts.truncate(MAX_ALERTS);
        self.truncated = self.truncated.saturating_add(excess as u64);
    }
}

/// An alert to tell of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// What was sent.
    pub alert: Alert,
    /// Its incident.
    pub incident: i64,
    /// What is new about it.
    pub change: Change,
    /// The earliest time at which the incident was said to have begun.
    pub opened_at: Timestamp,
    /// The act that it asked for, in the ledger.
    pub act: Option<i64>,
}

/// What is new about an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Opened,
    /// It lasts.
    Repeated,
    /// It is over.
    Resolved,
}

/// What is wrong with the monitor's own work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "trouble", rename_all = "snake_case")]
pub enum Trouble {
    /// A target refuses messages for good.
    TargetRefuses {
        /// Which; the message goes to the others.
        target: Target,
        /// The label value of `reason`.
        reason: String,
        /// What the target said, without secrets.
        detail: String,
    },
    /// Messages to a target became too old, or too many, to be sent.
    Dropped {
        /// Which.
        target: Target,
        /// How many.
        messages: u64,
        /// The first was from then.
        since: Timestamp,
    },
    /// The Watchdog alert stopped arriving: Prometheus, Alertmanager or the way to us is broken.
    PipelineSilent {
        /// The last arrival.
        since: Timestamp,
    },
    /// It arrives again.
    PipelineBack {
        /// The arrival before the silence.
        since: Timestamp,
    },
}
