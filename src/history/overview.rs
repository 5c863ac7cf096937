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

    /// Adds sums to a group; says where its measures are.
    fn add(&mut self, key: &[u8], sums: &Sums, quota_per_unit: f64) -> usize {
        let number = self.keys.number(key);
        if number >= self.measures.len() {
            self.measures.resize_with(number + 1, Measures::default);
        }
        self.measures[number].add(sums, quota_per_unit);
        number
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
    let (mut by_route, mut by_user, mut places) = (Vec::new(), Vec::new(), Vec::new());
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
        places.clear();
        for (route, sums) in block.routes.iter().zip(&by_route) {
            if sums.is_empty() {
                places.push((0, 0));
                continue;
            }
            all.merge(sums);
            let model = block.models.get(usize::from(route.model)).as_bytes();
            places.push((
                models.add(model, sums, rate),
                channels.add(&route.channel_id.to_le_bytes(), sums, rate),
            ));
        }
        totals.add(&all, rate);
        for (name, sums) in by_user.iter().enumerate().filter(|(_, sums)| !sums.is_empty()) {
            users.add(block.usernames.get(name).as_bytes(), sums, rate);
        }

        for row in scan.rows.iter().map(|row| usize::from(*row)) {
            if lanes.effect(row) == Effect::Answer {
                let times = lanes.times(row);
                let (model, channel) = places[place(routes[row])];
                models.measures[model].time(times);
                channels.measures[channel].time(times);
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
