//! `limits`: where they stand, and who uses them.

use jiff::Timestamp;

use super::super::super::problem::Problem;
use super::super::views::{Contributor, LimitList, LimitState};
use super::{Answers, instant};
use crate::history::{self, Measure};
use crate::limits::{Limit, Standing, Users};
use crate::state::Facts;

/// Of so many limits, the most used ones, the contributors are looked for: each is a question to the history.
const WITH_CONTRIBUTORS: usize = 10;

impl Answers {
    /// `GET /api/v1/limits`
    pub async fn limits(&self, most: usize, now: Timestamp) -> Result<LimitList, Problem> {
        let (facts, status) = (self.facts()?, self.state.limits());
        let standings = status.standings.as_deref();
        let mut keys: Vec<(&Limit, &Standing)> = standings
            .ok_or_else(|| Problem::not_ready("the windows of the limits are being filled".to_owned()))?
            .iter()
            .filter_map(|standing| Some((status.limits.get(standing.limit)?, standing)))
            .collect();
        keys.sort_by(|(_, a), (_, b)| b.ratio.total_cmp(&a.ratio));
        keys.truncate(most);
        let mut items = Vec::with_capacity(keys.len());
        for (place, (limit, standing)) in keys.into_iter().enumerate() {
            let mut item = self.limit(limit, standing, &facts, now);
            if place < WITH_CONTRIBUTORS
                && let Some(users) = Users::of(limit, standing, &self.timezone, now.as_second())
            {
                item.contributors = Some(self.contributors(users, item.used, &facts).await?);
            }
            items.push(item);
        }
        Ok(LimitList {
            items,
            next: None,
            next_cursor: None,
            loaded_at: status.loaded_at.map(|at| {
                #[expect(clippy::cast_possible_truncation, reason = "seconds of our own clock")]
                let second = at as i64;
                instant(second)
            }),
            error: status.error.clone().or_else(|| status.trouble.clone()),
        })
    }

    fn limit(&self, limit: &Limit, standing: &Standing, facts: &Facts, now: Timestamp) -> LimitState {
        LimitState {
            limit: limit.name.clone(),
            channel_id: standing.channel_id,
            channel_name: standing.channel_id.map(|id| facts.channel_name(id).to_owned()),
            model: standing.model.as_deref().map(str::to_owned),
            rest: standing.overflow,
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

    async fn contributors(
        &self,
        users: Users,
        used: f64,
        facts: &Facts,
    ) -> Result<Vec<Contributor>, Problem> {
        let measure = users.measure;
        let found = self
            .ask(move |history| {
                let found = history.contributors(&users.selection, users.measure, users.most)?;
                Ok(users.pick(found))
            })
            .await?;
        Ok(found.into_iter().map(|one| contributor(one, measure, used, facts)).collect())
    }
}

fn contributor(one: history::Contributor, measure: Measure, used: f64, facts: &Facts) -> Contributor {
    let own = measure.value(one.sum);
    Contributor {
        channel_name: facts.channel_name(one.channel_id).to_owned(),
        channel_id: one.channel_id,
        model: one.model,
        username: one.username,
        used: own,
        share: (used > 0.0).then_some(own / used),
    }
}
