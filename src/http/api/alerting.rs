//! What the API answers about alerts, messages and the circuit breaker, as it is written.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::views::Answer;

/// An alert from when it fires until it is over.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Incident {
    /// Its number.
    pub id: i64,
    /// firing or resolved.
    pub state: &'static str,
    /// The name of its rule.
    pub rule: String,
    /// critical, warning or info.
    pub severity: &'static str,
    /// The channel that it is about, if it names one.
    #[schema(required = true)]
    pub channel_id: Option<i64>,
    /// The channel's name.
    #[schema(required = true)]
    pub channel_name: Option<String>,
    /// The earliest time at which it was said to have begun.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended; null while it fires.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub resolved_at: Option<Timestamp>,
    /// When it was first heard of.
    #[schema(value_type = String, format = DateTime)]
    pub first_heard_at: Timestamp,
    /// When it was last heard of.
    #[schema(value_type = String, format = DateTime)]
    pub last_heard_at: Timestamp,
    /// Calls of the webhook that spoke of it; what came twice counts once.
    pub notifications: u32,
    /// Its labels, long ones cut.
    pub labels: BTreeMap<String, String>,
    /// Its annotations as they were last sent, long ones cut.
    pub annotations: BTreeMap<String, String>,
    /// The sender's receiver that led here.
    pub receiver: String,
    /// The sender's short name for its labels.
    pub fingerprint: String,
    /// Where the query that raised it is shown.
    #[schema(required = true)]
    pub generator_url: Option<String>,
    /// What it asked of the breaker, and how that went; null if it asked for nothing.
    #[schema(required = true)]
    pub act: Option<Act>,
}

/// Something that was asked of the breaker, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Act {
    /// In the ledger.
    pub id: i64,
    /// trip or restore.
    pub action: &'static str,
    /// The channel; null if the alert named none that can be one.
    #[schema(required = true)]
    pub channel_id: Option<i64>,
    /// The channel's name.
    #[schema(required = true)]
    pub channel_name: Option<String>,
    /// Who asked: alert, operator, or schedule.
    pub origin: &'static str,
    /// The incident of the alert that asked.
    #[schema(required = true)]
    pub incident_id: Option<i64>,
    /// The rule of the alert that asked.
    #[schema(required = true)]
    pub rule: Option<String>,
    /// The act whose wish is fulfilled on schedule.
    #[schema(required = true)]
    pub trip_id: Option<i64>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub asked_at: Timestamp,
    /// When it was done with; null while it is pending.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub finished_at: Option<Timestamp>,
    /// pending, done, would_do, already_so, refused, failed or unverified.
    pub result: &'static str,
    /// Why it was refused or failed, from a fixed list.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// The same in words.
    #[schema(required = true)]
    pub detail: Option<String>,
    /// When the channel is to be enabled again, as it was wished: never, window_reset, or a length.
    pub restore: String,
    /// The instant, where it is known.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub restore_at: Option<Timestamp>,
}

/// An act with its lines in the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LedgerAct {
    /// The act.
    #[serde(flatten)]
    pub act: Act,
    /// An operator's words, or the rule of the alert.
    pub asked_because: String,
    /// Whether the channel is ours to enable again: open; or why not any more: restored, operator, hands_off. null if it
    /// never was.
    #[schema(required = true)]
    pub hold: Option<&'static str>,
    /// Whether the channel went quiet: watching, quiet, busy or unknown; null if nothing is to be seen.
    #[schema(required = true)]
    pub traffic: Option<&'static str>,
    /// What was done, in order.
    pub steps: Vec<LedgerStep>,
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct LedgerStep {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What: asked, intent, answer, read, result, …
    pub step: String,
    /// In words.
    pub detail: String,
}

/// The circuit breaker, and what it did, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Breaker {
    /// off, dry_run or enforce.
    pub mode: &'static str,
    /// Channels that it holds disabled.
    pub open: Vec<OpenChannel>,
    /// What was asked of it.
    pub items: Vec<LedgerAct>,
    /// The next page as a link; null on the last one.
    #[schema(required = true)]
    pub next: Option<String>,
    /// The same as a value for `cursor`.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// A channel that the breaker holds disabled.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OpenChannel {
    /// The channel.
    pub channel_id: i64,
    /// Its name.
    pub channel_name: String,
    /// The act that disabled it.
    pub act_id: i64,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub since: Option<Timestamp>,
    /// When it is to be enabled again: never, window_reset, or a length.
    pub restore: String,
    /// The instant, where it is known.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub restore_at: Option<Timestamp>,
}

/// A message to a chat, or a part of one that is too long for one request.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Delivery {
    /// Its number.
    pub id: i64,
    /// telegram, feishu or wecom.
    pub target: String,
    /// pending, leased (being sent), sent, dead (given up) or superseded (said by a later one).
    pub state: &'static str,
    /// What it tells: alerts, act, still_busy, trouble or test.
    pub kind: String,
    /// What happened, by number: the same for all targets.
    pub notice_id: i64,
    /// Which part of the message, from 1.
    pub part: i64,
    /// How many parts there are; 0 before the message is written.
    pub parts: i64,
    /// Requests made for it.
    pub attempts: i64,
    /// When it was queued.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it is tried next; null if it is not.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub next_attempt_at: Option<Timestamp>,
    /// When the target took it.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub sent_at: Option<Timestamp>,
    /// The target's own number for its last answer.
    #[schema(required = true)]
    pub code: Option<i64>,
    /// Our word for what is wrong, from a fixed list.
    #[schema(required = true)]
    pub reason: Option<String>,
    /// What the target said.
    #[schema(required = true)]
    pub error: Option<String>,
    /// The message that says this one as well.
    #[schema(required = true)]
    pub superseded_by: Option<i64>,
}

/// The day of the examples, and seconds later.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_769_846_400 + seconds).unwrap_or_default()
}

fn texts(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

impl Answer for Incident {
    fn example() -> Self {
        Self {
            id: 41,
            state: "firing",
            rule: "NewApiLimitExceeded".to_owned(),
            severity: "critical",
            channel_id: Some(3),
            channel_name: Some("azure-eu".to_owned()),
            started_at: at(-95),
            resolved_at: None,
            first_heard_at: at(-90),
            last_heard_at: at(-90),
            notifications: 1,
            labels: texts(&[
                ("action", "disable_channel"),
                ("alertname", "NewApiLimitExceeded"),
                ("channel_id", "3"),
                ("limit", "azure-daily"),
                ("severity", "critical"),
            ]),
            annotations: texts(&[(
                "summary",
                "Limit azure-daily is exceeded: 104% used, channel azure-eu (3)",
            )]),
            receiver: "breaker".to_owned(),
            fingerprint: "af8c4b3d2e1f0a9b".to_owned(),
            generator_url: Some("http://prometheus:9090/graph?g0.expr=…".to_owned()),
            act: Some(Act { origin: "alert", incident_id: Some(41), ..Act::example() }),
        }
    }
}

impl Answer for Act {
    fn example() -> Self {
        Self {
            id: 12,
            action: "trip",
            channel_id: Some(3),
            channel_name: Some("azure-eu".to_owned()),
            origin: "operator",
            incident_id: None,
            rule: None,
            trip_id: None,
            asked_at: at(-90),
            finished_at: Some(at(-89)),
            result: "done",
            reason: None,
            detail: None,
            restore: "never".to_owned(),
            restore_at: None,
        }
    }

    /// 202 as long as nobody knows how it goes.
    fn status(&self) -> StatusCode {
        if self.result == "pending" { StatusCode::ACCEPTED } else { StatusCode::OK }
    }
}

impl Answer for Breaker {
    fn example() -> Self {
        let step = |seconds, step: &str, detail: &str| LedgerStep {
            at: at(seconds),
            step: step.to_owned(),
            detail: detail.to_owned(),
        };
        let asked = step(-90, "asked", "by a person: too many errors");
        Self {
            mode: "enforce",
            open: vec![OpenChannel {
                channel_id: 3,
                channel_name: "azure-eu".to_owned(),
                act_id: 12,
                since: Some(at(-89)),
                restore: "never".to_owned(),
                restore_at: None,
            }],
            items: vec![LedgerAct {
                act: Act::example(),
                asked_because: "too many errors".to_owned(),
                hold: Some("open"),
                traffic: Some("quiet"),
                steps: vec![asked, step(-90, "intent", "status 2"), step(-89, "result", "done")],
            }],
            next: None,
            next_cursor: None,
        }
    }
}

impl Answer for Delivery {
    fn example() -> Self {
        Self {
            id: 97,
            target: "feishu".to_owned(),
            state: "dead",
            kind: "alerts".to_owned(),
            notice_id: 55,
            part: 1,
            parts: 1,
            attempts: 1,
            created_at: at(-90),
            updated_at: at(-88),
            next_attempt_at: None,
            sent_at: None,
            code: Some(19_024),
            reason: Some("keyword".to_owned()),
            error: Some("Key Words Not Found".to_owned()),
            superseded_by: None,
        }
    }
}
