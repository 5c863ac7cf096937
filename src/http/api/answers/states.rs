//! `channels` and `models`: what they are today, with their figures.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::params::Query;
use super::super::super::problem::Problem;
use super::super::views::{ChannelState, GroupChannels, LastError, ModelState};
use super::sums::measures;
use super::{Answers, context, instant, selection};
use crate::detail::ChannelStatus;
use crate::history::{self, Dimension, Group};
use crate::newapi::directory::provider_name;
use crate::record::ChannelId;

/// What is known of channels or models in a window.
struct Figures {
    sums: history::Groups,
    errors: BTreeMap<Group, history::LastError>,
}

impl Answers {
    /// `GET /api/v1/channels`
    pub async fn channels(&self, query: &Query) -> Result<Vec<ChannelState>, Problem> {
        let facts = self.facts()?;
        let Figures { mut sums, mut errors } = self.figures(query, Dimension::Channel).await?;
        let context = context(&facts, self);
        let known = &facts.directory.channels;
        // Deleted channels stay as long as they have figures.
        let ids: BTreeSet<ChannelId> = known.keys().copied().chain(sums.keys().filter_map(channel)).collect();
        Ok(ids
            .into_iter()
            .map(|id| {
                let group = Group::Channel(id);
                let sums = sums.remove(&group).unwrap_or_default();
                let today = known.get(&id);
                let of = today.cloned().unwrap_or_default();
                ChannelState {
                    channel_id: id,
                    channel_name: context.channel_name(id, None),
                    r#type: today.map(|channel| channel.kind),
                    type_name: today.and_then(|channel| provider_name(channel.kind)),
                    status: ChannelStatus::of(today),
                    group: of.group,
                    tag: of.tag,
                    balance_usd: of.balance_usd,
                    used_quota: of.used_quota,
                    response_time_seconds: of.response_time_seconds,
                    tested_at: of.tested_at.map(instant),
                    success_share: success_share(&sums),
                    last_error: errors.remove(&group).as_ref().map(last_error),
                    measures: measures(&sums),
                }
            })
            .collect())
    }

    /// `GET /api/v1/models`
    pub async fn models(&self, query: &Query) -> Result<Vec<ModelState>, Problem> {
        let facts = self.facts()?;
        let Figures { mut sums, mut errors } = self.figures(query, Dimension::Model).await?;
        let mut groups: BTreeMap<&str, Vec<GroupChannels>> = BTreeMap::new();
        for ((group, model), enabled) in &facts.directory.abilities {
            let group = GroupChannels { group: group.clone(), enabled_channels: *enabled };
            groups.entry(model).or_default().push(group);
        }
        let names: BTreeSet<String> = facts
            .directory
            .models
            .iter()
            .cloned()
            .chain(sums.iter().filter(|(_, sums)| sums.requests > 0).filter_map(|(group, _)| name(group)))
            .collect();
        Ok(names
            .into_iter()
            .map(|model| {
                let group = Group::Name(model.clone());
                let sums = sums.remove(&group).unwrap_or_default();
                ModelState {
                    groups: groups.remove(model.as_str()).unwrap_or_default(),
                    model,
                    success_share: success_share(&sums),
                    last_error: errors.remove(&group).as_ref().map(last_error),
                    measures: measures(&sums),
                }
            })
            .collect())
    }

    async fn figures(&self, query: &Query, by: Dimension) -> Result<Figures, Problem> {
        let (selection, slow_over_ms) = (selection(query), self.slow_over_ms());
        self.ask(move |history| {
            let sums = history.overview(&selection, slow_over_ms)?;
            let sums = if by == Dimension::Channel { sums.by_channel } else { sums.by_model };
            Ok(Figures { sums, errors: history.last_errors(&selection, by)? })
        })
        .await
    }
}

fn channel(group: &Group) -> Option<ChannelId> {
    match group {
        Group::Channel(id) if *id != 0 => Some(*id),
        _ => None,
    }
}

fn name(group: &Group) -> Option<String> {
    match group {
        Group::Name(name) => Some(name.clone()),
        _ => None,
    }
}

/// Answers that came whole, of everything that was tried. A client that left is no fault of the channel.
fn success_share(sums: &history::Measures) -> Option<f64> {
    let tried = sums.requests + sums.errors;
    let whole = sums.requests.saturating_sub(sums.stream_errors);
    (tried > 0).then(|| whole as f64 / tried as f64)
}

fn last_error(error: &history::LastError) -> LastError {
    LastError {
        id: error.id,
        created_at: instant(error.created_at),
        status_code: Some(error.status_code).filter(|status| *status != 0),
        error_type: error.error_type.as_str().to_owned(),
        detail_url: format!("/api/v1/logs/{}", error.id),
    }
}
