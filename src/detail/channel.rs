//! The channel of a row, as it is today.

use serde::Serialize;
use utoipa::ToSchema;

use super::Context;
use super::entry::{Reading, some};
use super::fields::Fields;
use crate::newapi::directory::provider_name;
use crate::newapi::{Channel, Entry};
use crate::record::ChannelId;

/// The channel that a row is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChannelView {
    /// new-api's id of it.
    #[serde(rename = "channel_id")]
    pub id: ChannelId,
    /// Its name today, or its last one; empty if it is not known.
    #[serde(rename = "channel_name")]
    pub name: String,
    /// Provider, as new-api numbers them; null if it is not known.
    #[serde(rename = "type")]
    pub kind: Option<i64>,
    /// Name of the provider.
    pub type_name: Option<&'static str>,
    /// What it is today.
    pub status: ChannelStatus,
    /// Comma list of groups.
    pub group: Option<String>,
    /// Free text by which new-api groups channels.
    pub tag: Option<String>,
}

/// What a channel is today.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelStatus {
    /// Requests are routed to it.
    Enabled,
    /// Switched off by a person or by a circuit breaker.
    ManuallyDisabled,
    /// Switched off by new-api itself.
    AutoDisabled,
    /// new-api holds another number, or was not asked yet.
    Unknown,
    /// There is no such channel any more.
    Deleted,
}

impl ChannelStatus {
    /// Of a channel that is known to exist, or not to.
    pub fn of(channel: Option<&Channel>) -> Self {
        match channel.map(|channel| channel.status) {
            Some(1) => Self::Enabled,
            Some(2) => Self::ManuallyDisabled,
            Some(3) => Self::AutoDisabled,
            Some(_) => Self::Unknown,
            None => Self::Deleted,
        }
    }
}

impl ChannelView {
    /// None for a row that never reached a channel.
    pub(super) fn new(
        entry: &Entry,
        reading: &Reading,
        fields: &Fields<'_>,
        context: &Context<'_>,
    ) -> Option<Self> {
        let id = Some(entry.channel_id).filter(|id| *id != 0)?;
        let name = context.channel_name(id, reading.other.channel_name.as_deref());
        let today = context.channels.and_then(|channels| channels.get(&id));
        #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
        let recorded = || fields.number("channel_type").map(|kind| kind as i64);
        let kind = today.map(|channel| channel.kind).or_else(recorded);
        let status = match context.channels {
            Some(_) => ChannelStatus::of(today),
            None => ChannelStatus::Unknown,
        };
        Some(Self {
            id,
            name,
            kind,
            type_name: kind.and_then(provider_name),
            status,
            group: today.and_then(|channel| some(&channel.group)),
            tag: today.and_then(|channel| some(&channel.tag)),
        })
    }
}
