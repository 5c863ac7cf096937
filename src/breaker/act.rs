//! An act of the breaker and how it went. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits::Restore;

/// Something that was asked of the breaker, once.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// In the ledger.
    pub id: i64,
    /// What was asked.
    pub kind: Kind,
    /// Of which channel; None if the alert named none that can be one.
    pub channel_id: Option<i64>,
    /// Who asked.
    pub origin: Origin,
    /// When.
    pub asked_at: Timestamp,
    /// How it went.
    pub outcome: Outcome,
    /// When it was done with.
    pub finished_at: Option<Timestamp>,
    /// When the channel is to be enabled again, as it was wished.
    pub restore: Restore,
    /// The instant, where it is known.
    pub restore_at: Option<Timestamp>,
}

/// What is done to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is disabled.
    Trip,
    /// It is enabled again.
    Restore,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Trip, Self::Restore];

    /// The label value of `action`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trip => "trip",
            Self::Restore => "restore",
        }
    }
}

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "origin", rename_all = "snake_case")]
pub enum Origin {
    /// An alert.
    Alert {
        /// Its incident.
        incident: i64,
        /// The name of its rule.
        rule: String,
    },
    /// A person, over the API.
    Operator,
    /// The wish of an earlier act, when its time came.
    Schedule {
        /// That act.
        act: i64,
    },
}

/// How an act went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// Not yet known.
    Pending,
    /// Done, and confirmed by reading back.
    Done,
    /// It would have been done, but `BREAKER_MODE` is `dry_run`.
    WouldDo,
    /// It had been done before; what is not our work is not undone by us.
    AlreadySo {
        /// The channel's status, see reference: 1 enabled, 2 by hand, 3 by new-api itself.
        status: i64,
        /// The act of ours that had done it; None if it was somebody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<i64>,
        /// Then, whether the channel is from now on held for this act as well.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        held: bool,
    },
    /// A guard said no.
    Refused {
        /// Which.
        why: Refusal,
    },
    /// new-api could not be made to do it.
    Failed {
        /// Why.
        why: Failure,
    },
    /// new-api took it, and reading back tells otherwise.
    Unverified {
        /// What was read.
        status: Option<i64>,
    },
}

impl Outcome {
    /// The label values of `result`, but for what is pending.
    pub const RESULTS: [&'static str; 6] =
        ["done", "would_do", "already_so", "refused", "failed", "unverified"];

    /// Somebody else had done it before.
    pub const fn already(status: i64) -> Self {
        Self::AlreadySo { status, by: None, held: false }
    }

    /// The label value of `result`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::WouldDo => "would_do",
            Self::AlreadySo { .. } => "already_so",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Unverified { .. } => "unverified",
        }
    }
}

/// Why a guard said no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// `BREAKER_MODE` is `off`.
    Off,
    /// The alert is about the sum of what a limit does not count channel by channel.
    Rest,
    /// The label `channel_id` is no channel's number.
    NoChannel {
        /// What it says, shortened.
        text: String,
    },
    /// new-api has no such channel.
    UnknownChannel,
    /// The channel is in `BREAKER_PROTECT`.
    Protected,
    /// The alert began too long ago to be a reason today.
    TooOld {
        /// Its age.
        seconds: i64,
    },
    /// The alert begins in the future: a clock is wrong.
    FromTheFuture {
        /// So far ahead.
        seconds: i64,
    },
    /// No other enabled channel would serve this group and model.
    LastOf {
        /// The group.
        group: String,
        /// One of the models.
        model: String,
        /// How many further pairs of group and model as well.
        others: u64,
    },
    /// `BREAKER_MAX_PER_HOUR` is reached.
    TooMany {
        /// That number.
        per_hour: u64,
    },
    /// A person changed the channel since we did.
    HandsOff {
        /// The channel's status when that was seen; None in acts of older programs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<i64>,
    },
    /// We did not disable it, so we do not enable it.
    NotOurs,
    /// The alert is over before anything was done.
    Over,
}

/// Why new-api could not be made to do it. Details are new-api's words, cut and without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Failure {
    /// No admin API is configured.
    NotSet,
    /// new-api's database cannot be read, so it is not known who else serves.
    NoDatabase,
    /// No connection, or no answer in time.
    Unreachable {
        /// What the system says.
        detail: String,
    },
    /// The access token is not accepted, or may not.
    Denied {
        /// What new-api says.
        detail: String,
    },
    /// Too many requests to the admin API.
    RateLimited,
    /// An answer that says no.
    Rejected {
        /// What new-api says.
        detail: String,
    },
    /// new-api itself is in trouble.
    Server {
        /// Its HTTP status.
        status: u16,
    },
}
