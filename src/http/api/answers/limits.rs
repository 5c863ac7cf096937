//! `limits`: where they stand, and who uses them.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::super::super::params::{Filters, Position, Query};
use super::super::super::problem::Problem;
use super::super::views::{Contributor, LimitList, LimitState};
use super::{Answers, instant};
use crate::detail::without_credentials;
use crate::history::{self, Filter, Measure, Selection};
use crate::limits::{Limit, Standing, Users};
use crate::state::Facts;

/// A key of a limit, and its place among all.
type Key<'a> = (i64, &'a Limit, &'a Standing);

impl Answers {
    /// `GET /api/v1/limits`; the links are for the caller to add.
    pub async fn limits(
        &self,
        query: &Query,
        now: Timestamp,
    ) -> Result<(LimitList, Option<Position>), Problem> {
        let (facts, status) = (self.facts()?, self.state.limits());
        let standings = status.standings.as_deref();
        let standings = standings
            .ok_or_else(|| Problem::not_ready("the windows of the limits are being filled".to_owned()))?;
        let mut keys: Vec<Key<'_>> = (0..)
            .zip(standings)
            .filter_map(|(place, standing)| Some((place, status.limits.get(standing.limit)?, standing)))
            .filter(|(_, _, standing)| is_about(standing, &query.filters))
            .filter(|key| query.after.is_none_or(|after| rank(key) > (Reverse(after.0[0]), after.0[1])))
            .collect();
        keys.sort_by_key(rank);
        let more = keys.len() > query.limit;
        keys.truncate(query.limit);
        let next = keys.last().filter(|_| more).map(rank);
        let next = next.map(|(Reverse(ratio), place)| Position([ratio, place, 0]));
        let mut items: Vec<LimitState> =
            keys.iter().map(|(_, limit, standing)| self.limit(limit, standing, &facts, now)).collect();
        let users = keys
            .iter()
            .map(|(_, limit, standing)| Users::of(limit, standing, &self.timezone, now.as_second()));
        for (item, found) in items.iter_mut().zip(self.contributors(users.collect()).await?) {
            let (measure, used) = (item.measure, item.used);
            let told = |one| contributor(one, measure, used, &facts);
            item.contributors = found.map(|found| found.into_iter().map(told).collect());
        }
        let answer = LimitList {
            items,
            next: None,
            next_cursor: None,
            loaded_at: status.loaded_at.map(|at| {
                #[expect(clippy::cast_possible_truncation, reason = "seconds of our own clock")]
                let second = at as i64;
                instant(second)
            }),
            error: status.error.clone().or_else(|| status.trouble.clone()),
        };
        Ok((answer, next))
    }

    fn limit(&self, limit: &Limit, standing: &Standing, facts: &Facts, now: Timestamp) -> LimitState {
        LimitState {
            limit: limit.name.clone(),
            channel_id: standing.channel_id,
            channel_name: standing.channel_id.map(|id| facts.channel_name(id).to_owned()),
            model: standing.model.as_deref().map(|model| without_credentials(model).into_owned()),
            rest: standing.is_rest(),
            measure: limit.measure,
            window: limit.window.as_str().to_owned(),
            since: instant(limit.since(&self.timezone, now.as_second())),
            used: standing.used,
            max: limit.max,
            remaining: (limit.max - standing.used).max(0.0),
            ratio: standing.ratio,
            warn_at: limit.warn_at,
            severity: limit.severity.as_str(),
            action: limit.action.as_str(),
            restore: limit.restore.as_str().to_owned(),
            resets_at: standing.resets_at.map(instant),
            exhausted_at: standing.exhausted_at.map(instant),
            contributors: None,
        }
    }

    /// Who uses each of them most. The keys of a limit have the same window, so one question answers for all of them.
    async fn contributors(
        &self,
        all: Vec<Option<Users>>,
    ) -> Result<Vec<Option<Vec<history::Contributor>>>, Problem> {
        let mut answers: Vec<Option<Vec<history::Contributor>>> = vec![None; all.len()];
        let mut open: Vec<(usize, Users)> =
            all.into_iter().enumerate().filter_map(|(place, users)| Some((place, users?))).collect();
        while let Some((_, first)) = open.first() {
            let (alike, others): (Vec<_>, Vec<_>) =
                open.iter().cloned().partition(|(_, users)| users.is_like(first));
            open = others;
            let found = self
                .history
                .sum(move |history| {
                    if let [(place, users)] = alike.as_slice() {
                        let found = history.contributors(&users.selection, users.measure, users.most)?;
                        return Ok(vec![(*place, users.pick(found))]);
                    }
                    let Some((_, first)) = alike.first() else { return Ok(Vec::new()) };
                    let everybody = Selection { filter: Filter::default(), ..first.selection.clone() };
                    let found = history.contributors(&everybody, first.measure, usize::MAX)?;
                    Ok(alike.iter().map(|(place, users)| (*place, users.among(&found))).collect())
                })
                .await?;
            for (place, found) in found {
                answers[place] = Some(found);
            }
        }
        Ok(answers)
    }
}

/// The order of the list: the most used first, of equal ones in the order of the file. The bits of numbers above 0 are in
/// the order of the numbers.
fn rank((place, _, standing): &Key<'_>) -> (Reverse<i64>, i64) {
    (Reverse(standing.ratio.max(0.0).to_bits().cast_signed()), *place)
}

/// Whether a key is about one of the channels and one of the models that are asked for.
fn is_about(standing: &Standing, filters: &Filters) -> bool {
    let channel = standing.channel_id.is_some_and(|id| filters.channel_ids.contains(&id));
    let model =
        standing.model.as_ref().is_some_and(|model| filters.models.iter().any(|one| **one == **model));
    (channel || filters.channel_ids.is_empty()) && (model || filters.models.is_empty())
}

fn contributor(one: history::Contributor, measure: Measure, used: f64, facts: &Facts) -> Contributor {
    let own = measure.value(one.sum);
    Contributor {
        channel_name: facts.channel_name(one.channel_id).to_owned(),
        channel_id: one.channel_id,
        model: without_credentials(&one.model).into_owned(),
        username: one.username,
        used: own,
        share: (used > 0.0).then_some(own / used),
    }
}
