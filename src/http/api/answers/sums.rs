//! `overview` and `trend`.

use super::super::super::params::{By, Query};
use super::super::super::problem::Problem;
use super::super::measures::{Active, Measures};
use super::super::views::{
    Change, ChannelMeasures, ModelMeasures, Overview, Shares, Totals, Trend, TrendPoint, UserMeasures,
};
use super::{Answers, context, instant, selected, selection};
use crate::detail::{Context, without_credentials};
use crate::history::{self, Dimension, Distribution, Group, Groups, Steps};
use crate::record::ChannelId;
use crate::usage::OTHER;

/// Groups of a kind that are told one by one; what the others come to follows from the totals.
const MOST_GROUPS: usize = 500;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Points of a trend that is told apart, over all steps.
const MOST_POINTS: usize = 20_000;

impl Answers {
    /// `GET /api/v1/overview`
    pub async fn overview(&self, query: &Query) -> Result<Overview, Problem> {
        let facts = self.facts()?;
        let context = context(&facts, self);
        let (now, slow_over_ms) = (selection(query), self.slow_over_ms());
        let before = selected(&query.window.before(), &query.filters);
        // What was never read is not nothing: half a window would look like a rise.
        let known = before.from >= self.state.tail().history_from;
        let (sums, sums_before) = self
            .ask(move |history| {
                let sums = history.overview(&now, slow_over_ms)?;
                let before = known.then(|| history.overview(&before, slow_over_ms)).transpose()?;
                Ok((sums, before))
            })
            .await?;
        let totals = totals(&sums);
        let change =
            sums_before.map_or_else(Change::unknown, |before| totals.change_since(&self::totals(&before)));
        let all = &totals.measures;
        Ok(Overview {
            from: query.window.from,
            to: query.window.end(),
            by_model: groups(sums.by_model, all, |group, measures, shares| ModelMeasures {
                model: text(group),
                measures,
                shares,
            }),
            by_channel: groups(sums.by_channel, all, |group, measures, shares| {
                let (channel_id, channel_name) = channel(&context, &group);
                ChannelMeasures { channel_id, channel_name, measures, shares }
            }),
            by_user: groups(sums.by_user, all, |group, measures, shares| UserMeasures {
                username: text(group),
                measures,
                shares,
            }),
            totals,
            change,
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
        let mut found = self.ask(move |history| history.trend(&selection, steps, slow_over_ms, by)).await?;
        let mut items = Vec::new();
        if let Some(by) = query.by {
            for (start, step) in &found {
                let mut groups: Vec<_> = step.groups.iter().collect();
                groups.sort_by(|a, b| b.1.cost_usd.total_cmp(&a.1.cost_usd));
                let points =
                    groups.into_iter().map(|(group, sums)| point(*start, Some((by, group)), sums, &context));
                items.extend(points);
            }
            if items.len() > MOST_POINTS {
                let detail = format!("this trend has {} points, more than {MOST_POINTS}", items.len());
                return Err(Problem::parameter(
                    "step",
                    detail,
                    "a longer step, a shorter window, or a filter",
                ));
            }
        } else {
            // A step without rows is a zero, not a gap.
            for start in steps.starts(from, to) {
                let sums = found.remove(&start).map(|step| step.totals).unwrap_or_default();
                items.push(point(start, None, &sums, &context));
            }
            // Rows whose clock runs ahead.
            items.extend(found.iter().map(|(start, step)| point(*start, None, &step.totals, &context)));
        }
        items.sort_by_key(|item| item.time);
        let first = instant(steps.start(from));
        Ok(Trend { from: first, to: query.window.end(), step_seconds, by: query.by, items })
    }
}

fn point(
    start: i64,
    group: Option<(By, &Group)>,
    sums: &history::Measures,
    context: &Context<'_>,
) -> TrendPoint {
    let mut point = TrendPoint {
        time: instant(start),
        model: None,
        channel_id: None,
        channel_name: None,
        username: None,
        measures: measures(sums),
    };
    match group {
        Some((By::Model, group)) => point.model = Some(text(group.clone())),
        Some((By::User, group)) => point.username = Some(text(group.clone())),
        Some((By::Channel, group)) => {
            let (id, name) = channel(context, group);
            (point.channel_id, point.channel_name) = (Some(id), Some(name));
        }
        None => {}
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

/// The most expensive groups, each with its part of everything.
fn groups<T>(groups: Groups, all: &Measures, view: impl Fn(Group, Measures, Shares) -> T) -> Vec<T> {
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
            view(group, measures, shares)
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
