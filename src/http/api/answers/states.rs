//! `channels` and `models`: what they are today, with their figures.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::params::Query;
use super::super::super::problem::Problem;
use super::super::measures::Measures;
use super::super::views::{ChannelState, GroupChannels, LastError, ModelState};
use super::sums::measures;
use super::{Answers, context, instant, selection};
use crate::detail::{ChannelStatus, without_credentials};
use crate::history::{self, Dimension, Group};
use crate::newapi::directory::provider_name;
use crate::record::ChannelId;

/// What is known of channels or models in a window.
struct Figures {
    of: BTreeMap<Group, Figure>,
    errors: BTreeMap<Group, history::LastError>,
}

/// What is shown of one of them.
struct Figure {
    measures: Measures,
    success_share: Option<f64>,
}

impl Figure {
    fn new(sums: &history::Measures) -> Self {
        Self { measures: measures(sums), success_share: success_share(sums) }
    }

    /// Of what had no traffic.
    fn nothing() -> Self {
        Self::new(&history::Measures::default())
    }
}

impl Answers {
    /// `GET /api/v1/channels`
    pub async fn channels(&self, query: &Query) -> Result<Vec<ChannelState>, Problem> {
        let facts = self.facts()?;
        let Figures { of: mut figures, mut errors } = self.figures(query, Dimension::Channel).await?;
        let context = context(&facts, self);
        let known = &facts.directory.channels;
        // Deleted channels stay as long as they have figures.
        let asked = &query.filters.channel_ids;
        let ids: BTreeSet<ChannelId> = known
            .keys()
            .copied()
            .chain(figures.keys().filter_map(channel))
            .filter(|id| asked.is_empty() || asked.contains(id))
            .collect();
        Ok(ids
            .into_iter()
            .map(|id| {
                let group = Group::Channel(id);
                let figure = figures.remove(&group).unwrap_or_else(Figure::nothing);
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
                    success_share: figure.success_share,
                    last_error: errors.remove(&group).as_ref().map(last_error),
                    measures: figure.measures,
                }
            })
            .collect())
    }

    /// `GET /api/v1/models`
    pub async fn models(&self, query: &Query) -> Result<Vec<ModelState>, Problem> {
        let facts = self.facts()?;
        let Figures { of: mut figures, mut errors } = self.figures(query, Dimension::Model).await?;
        let mut groups: BTreeMap<&str, Vec<GroupChannels>> = BTreeMap::new();
        for ((group, model), enabled) in &facts.directory.abilities {
            let group = GroupChannels { group: group.clone(), enabled_channels: *enabled };
            groups.entry(model).or_default().push(group);
        }
        let asked = &query.filters.models;
        let names: BTreeSet<String> = facts
            .directory
            .models
            .iter()
            .cloned()
            .chain(
                figures
                    .iter()
                    .filter(|(_, figure)| figure.measures.requests > 0)
                    .filter_map(|(group, _)| name(group)),
            )
            .filter(|model| asked.is_empty() || asked.contains(model))
            .collect();
        Ok(names
            .into_iter()
            .map(|model| {
                let group = Group::Name(model.clone());
                let figure = figures.remove(&group).unwrap_or_else(Figure::nothing);
                ModelState {
                    groups: groups.remove(model.as_str()).unwrap_or_default(),
                    model: without_credentials(&model).into_owned(),
                    success_share: figure.success_share,
                    last_error: errors.remove(&group).as_ref().map(last_error),
                    measures: figure.measures,
                }
            })
            .collect())
    }

    async fn figures(&self, query: &Query, by: Dimension) -> Result<Figures, Problem> {
        let (selection, slow_over_ms) = (selection(query), self.slow_over_ms());
        self.history
            .sum(move |history| {
                let sums = history.overview(&selection, slow_over_ms)?;
                let sums = if by == Dimension::Channel { sums.by_channel } else { sums.by_model };
                // What is shown is made of the sums at once, because it takes much less memory.
                let of = sums.into_iter().map(|(group, sums)| (group, Figure::new(&sums))).collect();
                Ok(Figures { of, errors: history.last_errors(&selection, by)? })
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
