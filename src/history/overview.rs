//! Sums of a window: all together, and by model, channel and user.

use super::Source;
use super::block::{Column, Columns};
use super::decode::place;
use super::fact::Selection;
use super::measures::{Dimension, Effect, Group, Groups, Keys, Lanes, MEASURED, Measures, Sums};
use super::scan::Scan;

/// Sums of a window.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// All rows together.
    pub totals: Measures,
    /// By model.
    pub by_model: Groups,
    /// By channel.
    pub by_channel: Groups,
    /// By user; no percentiles.
    pub by_user: Groups,
    /// Models with an answered request.
    pub active_models: usize,
    /// Channels with an answered request.
    pub active_channels: usize,
}

/// Measures of one dimension.
struct Tally {
    keys: Keys,
    measures: Vec<Measures>,
}

impl Tally {
    fn new(dimension: Dimension) -> Self {
        Self { keys: Keys::new(dimension), measures: Vec::new() }
    }

    /// Adds the sums of one block's groups; says where the measures of each are. Nothing is remembered of a group
    /// without rows.
    fn add_all<'a>(
        &mut self,
        groups: &[Sums],
        key: impl Fn(usize) -> &'a [u8],
        quota_per_unit: f64,
    ) -> Vec<usize> {
        let add = |(at, sums): (usize, &Sums)| {
            if sums.is_empty() {
                return 0;
            }
            let number = self.keys.number(key(at));
            if number >= self.measures.len() {
                self.measures.resize_with(number + 1, Measures::default);
            }
            self.measures[number].add(sums, quota_per_unit);
            number
        };
        groups.iter().enumerate().map(add).collect()
    }

    fn groups(self) -> Groups {
        let Self { keys, measures } = self;
        measures.into_iter().enumerate().map(|(number, measures)| (keys.group(number), measures)).collect()
    }
}

/// Sums the selected rows in one pass.
pub fn overview<S: Source>(
    source: &mut S,
    selection: &Selection,
    slow_over_ms: u32,
) -> Result<Overview, S::Error> {
    let wanted = MEASURED.and(Columns::of(&[Column::RouteOf, Column::CallerOf]));
    let mut scan = Scan::new(selection);
    let mut totals = Measures::default();
    let [mut models, mut channels, mut users] =
        [Dimension::Model, Dimension::Channel, Dimension::User].map(Tally::new);
    let (mut by_route, mut by_user) = (Vec::new(), Vec::new());
    for header in source.headers()? {
        if !scan.select(source, &header)? {
            continue;
        }
        scan.load(source, wanted)?;
        let block = &scan.block;
        let lanes = Lanes::new(block, slow_over_ms);
        let (routes, callers) = (block.numbers(Column::RouteOf), block.numbers(Column::CallerOf));

        by_route.clear();
        by_route.resize(block.routes.len(), Sums::default());
        by_user.clear();
        by_user.resize(block.usernames.len(), Sums::default());
        for row in scan.rows.iter().map(|row| usize::from(*row)) {
            let facts = lanes.row(row);
            let route = &mut by_route[place(routes[row])];
            let user = &mut by_user[usize::from(block.callers[place(callers[row])].username)];
            if facts.effect == Effect::Answer {
                route.answer(&facts);
                user.answer(&facts);
            } else {
                route.add(&facts);
                user.add(&facts);
            }
        }

        let rate = block.quota_per_unit;
        let mut all = Sums::default();
        let mut by_model = vec![Sums::default(); block.models.len()];
        let mut by_channel = vec![Sums::default(); block.channels.len()];
        for (route, sums) in block.routes.iter().zip(&by_route) {
            all.merge(sums);
            by_model[usize::from(route.model)].merge(sums);
            by_channel[usize::from(route.channel)].merge(sums);
        }
        totals.add(&all, rate);
        let model_places = models.add_all(&by_model, |at| block.models.get(at).as_bytes(), rate);
        let channel_keys: Vec<[u8; 8]> = block.channels.iter().map(|id| id.to_le_bytes()).collect();
        let channel_places = channels.add_all(&by_channel, |at| &channel_keys[at], rate);
        users.add_all(&by_user, |at| block.usernames.get(at).as_bytes(), rate);

        for row in scan.rows.iter().map(|row| usize::from(*row)) {
            if lanes.effect(row) == Effect::Answer {
                let times = lanes.times(row);
                let route = block.routes[place(routes[row])];
                models.measures[model_places[usize::from(route.model)]].time(times);
                channels.measures[channel_places[usize::from(route.channel)]].time(times);
            }
        }
    }
    for model in &models.measures {
        totals.merge_times(model);
    }
    let (by_model, by_channel) = (models.groups(), channels.groups());
    Ok(Overview {
        totals,
        active_models: active(&by_model),
        active_channels: active(&by_channel),
        by_model,
        by_channel,
        by_user: users.groups(),
    })
}

fn active(groups: &Groups) -> usize {
    groups.iter().filter(|(group, measures)| **group != Group::Rest && measures.requests > 0).count()
}
