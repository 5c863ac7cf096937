//! `overview` and `trend`.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::params::{By, Query};
use super::super::super::problem::Problem;
use super::super::measures::{Active, Measures};
use super::super::views::{
    Change, ChannelMeasures, ModelMeasures, Overview, Shares, Totals, Trend, TrendPoint, UserMeasures,
};
use super::{Answers, context, instant, selected, selection};
use crate::detail::{Context, without_credentials};
use crate::history::{self, Dimension, Distribution, Group, Groups, Step, Steps};
use crate::record::ChannelId;
use crate::usage::OTHER;

/// Groups of a kind that are told one by one; what the others come to follows from the totals.
const MOST_GROUPS: usize = 500;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Points of a trend that is told apart, over all steps; groups beyond that are told together.
const MOST_POINTS: usize = 20_000;

impl Answers {
    /// `GET /api/v1/overview`
    pub async fn overview(&self, query: &Query) -> Result<Overview, Problem> {
        let facts = self.facts()?;
        let context = context(&facts, self);
        let (now, slow_over_ms) = (selection(query), self.slow_over_ms());
        let before = selected(&query.window.before(), &query.filters);
        // What was never read, or is no longer kept, is not nothing: half a window would look like a rise.
        let known = query.window.before_is_known();
        let Summed { totals, change, models, channels, users } = self
            .history
            .sum(move |history| {
                // One after the other, and of this one the totals only, so that never both take memory.
                let before = known.then(|| history.overview(&before, slow_over_ms)).transpose()?;
                let before = before.map(|sums| totals(&sums));
                Ok(Summed::new(history.overview(&now, slow_over_ms)?, before.as_ref()))
            })
            .await?;
        Ok(Overview {
            from: query.window.from,
            to: query.window.end(),
            totals,
            change,
            by_model: models
                .into_iter()
                .map(|Part { group, measures, shares }| ModelMeasures {
                    model: text(group),
                    measures,
                    shares,
                })
                .collect(),
            by_channel: channels
                .into_iter()
                .map(|Part { group, measures, shares }| {
                    let (channel_id, channel_name) = channel(&context, &group);
                    ChannelMeasures { channel_id, channel_name, measures, shares }
                })
                .collect(),
            by_user: users
                .into_iter()
                .map(|Part { group, measures, shares }| UserMeasures {
                    username: text(group),
                    measures,
                    shares,
                })
                .collect(),
        })
    }

    /// `GET /api/v1/trend`
    pub async fn trend(&self, query: &Query) -> Result<Trend, Problem> {
        let facts = self.facts()?;
        let context = context(&facts, self);
        let (selection, slow_over_ms) = (selection(query), self.slow_over_ms());
        let step_seconds = query.step.length.as_secs();
        let seconds = i64::try_from(step_seconds).unwrap_or(i64::MAX);
        // Days begin at midnight where the operator lives, shorter steps at round times.
        let offset = if seconds % DAY == 0 { self.midnight(query.window.now).as_second() } else { 0 };
        let steps = Steps { seconds, offset };
        let by = query.by.map(|by| match by {
            By::Model => Dimension::Model,
            By::Channel => Dimension::Channel,
            By::User => Dimension::User,
        });
        let last = query.window.end().as_second();
        let (from, to) = (selection.from, selection.to.min(last.saturating_add(1)));
        // What is shown is made of the sums at once, because it takes much less memory.
        let points = self
            .history
            .sum(move |history| {
                let found = history.trend(&selection, steps, slow_over_ms, by)?;
                Ok(if by.is_some() { grouped(found) } else { gapless(found, steps.starts(from, to)) })
            })
            .await?;
        let mut items: Vec<TrendPoint> =
            points.into_iter().map(|point| shown(point, query.by, &context)).collect();
        items.sort_by_key(|item| item.time);
        let first = instant(steps.start(from));
        Ok(Trend {
            from: first,
            to: query.window.end(),
            step_seconds,
            by: query.by,
            items,
            next: None,
            next_cursor: None,
        })
    }
}

/// Leaves at most so many points: groups keep their names over all steps, the most expensive first, as long as there is room.
/// The others are summed in each step, so that steps add up to what they were.
fn fold(steps: &mut BTreeMap<i64, Step>, most: usize) {
    if steps.values().map(|step| step.groups.len()).sum::<usize>() <= most {
        return;
    }
    let mut groups: BTreeMap<&Group, (f64, u64, usize)> = BTreeMap::new();
    for (group, sums) in steps.values().flat_map(|step| &step.groups) {
        let (cost, requests, points) = groups.entry(group).or_default();
        (*cost, *requests, *points) = (*cost + sums.cost_usd, *requests + sums.requests, *points + 1);
    }
    groups.remove(&Group::Rest);
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(_, a), (_, b)| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    // The rest is a point of each step.
    let mut room = most.saturating_sub(steps.len());
    let mut kept = BTreeSet::new();
    for (group, (_, _, points)) in groups {
        let Some(left) = room.checked_sub(points) else { break };
        room = left;
        kept.insert(group.clone());
    }
    for step in steps.values_mut() {
        let all = std::mem::take(&mut step.groups);
        for (group, sums) in all {
            let group = if kept.contains(&group) { group } else { Group::Rest };
            step.groups.entry(group).or_default().merge_sums(&sums);
        }
    }
}

/// What a window sums up to.
struct Summed {
    totals: Totals,
    change: Change,
    models: Vec<Part>,
    channels: Vec<Part>,
    users: Vec<Part>,
}

/// A group and its part of everything.
struct Part {
    group: Group,
    measures: Measures,
    shares: Shares,
}

impl Summed {
    fn new(sums: history::Overview, before: Option<&Totals>) -> Self {
        let totals = totals(&sums);
        let all = &totals.measures;
        Self {
            change: before.map_or_else(Change::unknown, |before| totals.change_since(before)),
            models: parts(sums.by_model, all),
            channels: parts(sums.by_channel, all),
            users: parts(sums.by_user, all),
            totals,
        }
    }
}

/// A group, or all, in the step that begins at this second.
type Point = (i64, Option<Group>, Measures);

/// The groups of each step, the most expensive first.
fn grouped(mut steps: BTreeMap<i64, Step>) -> Vec<Point> {
    fold(&mut steps, MOST_POINTS);
    let mut points = Vec::new();
    for (start, step) in steps {
        let mut groups: Vec<_> = step.groups.into_iter().collect();
        groups.sort_by(|a, b| b.1.cost_usd.total_cmp(&a.1.cost_usd));
        points.extend(groups.into_iter().map(|(group, sums)| (start, Some(group), measures(&sums))));
    }
    points
}

/// All steps of a window, and those of rows whose clock runs ahead.
fn gapless(mut found: BTreeMap<i64, Step>, starts: impl Iterator<Item = i64>) -> Vec<Point> {
    let mut points: Vec<Point> = starts
        .map(|start| {
            // A step without rows is a zero, not a gap.
            let sums = found.remove(&start).map(|step| step.totals).unwrap_or_default();
            (start, None, measures(&sums))
        })
        .collect();
    points.extend(found.into_iter().map(|(start, step)| (start, None, measures(&step.totals))));
    points
}

fn shown((start, group, measures): Point, by: Option<By>, context: &Context<'_>) -> TrendPoint {
    let mut point = TrendPoint {
        time: instant(start),
        model: None,
        channel_id: None,
        channel_name: None,
        username: None,
        measures,
    };
    match (by, group) {
        (Some(By::Model), Some(group)) => point.model = Some(text(group)),
        (Some(By::User), Some(group)) => point.username = Some(text(group)),
        (Some(By::Channel), Some(group)) => {
            let (id, name) = channel(context, &group);
            (point.channel_id, point.channel_name) = (Some(id), Some(name));
        }
        _ => {}
    }
    point
}

fn totals(sums: &history::Overview) -> Totals {
    Totals {
        measures: measures(&sums.totals),
        active: Active {
            active_models: sums.active_models as u64,
            active_channels: sums.active_channels as u64,
        },
    }
}

/// The most expensive groups.
fn parts(groups: Groups, all: &Measures) -> Vec<Part> {
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    let mut groups: Vec<_> = groups.into_iter().filter(|(_, sums)| !sums.is_empty()).collect();
    groups.sort_by(|(_, a), (_, b)| {
        let tokens = |sums: &history::Measures| sums.input_tokens.saturating_add(sums.output_tokens);
        b.cost_usd.total_cmp(&a.cost_usd).then_with(|| tokens(b).cmp(&tokens(a)))
    });
    groups.truncate(MOST_GROUPS);
    groups
        .into_iter()
        .map(|(group, sums)| {
            let measures = measures(&sums);
            let shares = Shares {
                tokens_share: share(measures.tokens as f64, all.tokens as f64),
                cost_share: share(measures.cost_usd, all.cost_usd),
            };
            Part { group, measures, shares }
        })
        .collect()
}

/// Sums as they are shown.
pub(super) fn measures(sums: &history::Measures) -> Measures {
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let average = |times: &Distribution| times.mean_ms().map(|ms| ms / 1000.0);
    let percentiles = |times: &Distribution| match times.percentiles([0.5, 0.95, 0.99]) {
        Some(all) => all.map(|ms| Some(ms as f64 / 1000.0)),
        None => [None; 3],
    };
    let [p50, p95, p99] = percentiles(&sums.duration);
    let [first_p50, first_p95, first_p99] = percentiles(&sums.first_token);
    Measures {
        requests: sums.requests,
        errors: sums.errors,
        error_share: share(sums.errors, sums.requests + sums.errors),
        input_tokens: sums.input_tokens,
        output_tokens: sums.output_tokens,
        cache_read_tokens: sums.cache_read_tokens,
        cache_write_tokens: sums.cache_write_tokens,
        tokens: sums.input_tokens.saturating_add(sums.output_tokens),
        quota: sums.quota_consumed,
        quota_refunded: sums.quota_refunded,
        cost_usd: sums.cost_usd,
        cost_refunded_usd: sums.cost_refunded_usd,
        duration_average_seconds: average(&sums.duration),
        duration_p50_seconds: p50,
        duration_p95_seconds: p95,
        duration_p99_seconds: p99,
        time_to_first_token_average_seconds: average(&sums.first_token),
        time_to_first_token_p50_seconds: first_p50,
        time_to_first_token_p95_seconds: first_p95,
        time_to_first_token_p99_seconds: first_p99,
        slow_requests: sums.slow_requests,
        slow_share: share(sums.slow_requests, sums.requests),
    }
}

/// The value of a group of texts.
pub(super) fn text(group: Group) -> String {
    match group {
        // Somebody sent a key for the model.
        Group::Name(text) => without_credentials(&text).into_owned(),
        Group::Channel(id) => id.to_string(),
        Group::Rest => OTHER.to_owned(),
    }
}

fn channel(context: &Context<'_>, group: &Group) -> (ChannelId, String) {
    match group {
        Group::Channel(id) => (*id, context.channel_name(*id, None)),
        Group::Name(_) | Group::Rest => (0, OTHER.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(cost_usd: f64) -> history::Measures {
        history::Measures { requests: 2, cost_usd, ..history::Measures::default() }
    }

    fn steps(of: &[(i64, &[(&str, f64)])]) -> BTreeMap<i64, Step> {
        let step = |groups: &[(&str, f64)]| Step {
            groups: groups
                .iter()
                .map(|(name, cost)| (Group::Name((*name).to_owned()), spent(*cost)))
                .collect(),
            ..Step::default()
        };
        of.iter().map(|(start, groups)| (*start, step(groups))).collect()
    }

    fn told(steps: &BTreeMap<i64, Step>) -> Vec<(i64, String, f64, u64)> {
        let of_step = |(start, step): (&i64, &Step)| {
            let start = *start;
            let groups = step.groups.iter();
            groups
                .map(|(group, sums)| (start, text(group.clone()), sums.cost_usd, sums.requests))
                .collect::<Vec<_>>()
        };
        steps.iter().flat_map(of_step).collect()
    }

    #[test]
    fn a_trend_with_room_for_all_is_left_as_it_is() {
        let mut found = steps(&[(0, &[("a", 1.0), ("b", 2.0)]), (60, &[("c", 3.0)])]);
        let before = told(&found);
        fold(&mut found, 3);
        assert_eq!(told(&found), before);
    }

    #[test]
    fn the_least_expensive_groups_of_a_large_trend_become_one_and_nothing_is_lost() {
        let mut found = steps(&[
            (0, &[("a", 1.0), ("b", 5.0), ("c", 0.5)]),
            (60, &[("a", 9.0), ("c", 0.25), ("d", 0.125)]),
        ]);
        found.entry(60).or_default().groups.insert(Group::Rest, spent(4.0));
        fold(&mut found, 5);
        let other = |start, cost, requests| (start, OTHER.to_owned(), cost, requests);
        let named = |start, name: &str, cost| (start, name.to_owned(), cost, 2);
        assert_eq!(
            told(&found),
            [
                named(0, "a", 1.0),
                named(0, "b", 5.0),
                other(0, 0.5, 2),
                named(60, "a", 9.0),
                other(60, 4.375, 6)
            ]
        );
    }
}
