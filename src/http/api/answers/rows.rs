//! `slow-requests`, `logs`, one log in full, and all rows of a request.
//!
//! The history says which rows they are; the log, asked by primary key, says what they tell. An id can belong to
//! another row by then, because SQLite gives ids out again, so each row is compared with what was counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::super::super::params::{Position, Query};
use super::super::super::problem::Problem;
use super::super::views::{RequestRows, SlowRequest};
use super::{Answers, Page, context, selection};
use crate::detail::{Context, LogDetail, LogRow, RequestStory, Surroundings, Trial, attempts_of};
use crate::history::{Fact, Filter, Found, Identity, Selection};
use crate::newapi::Entry;
use crate::record::RowOutcome;

/// Reads of the log for one page; rows that were deleted from it leave gaps that the next read fills.
const READS_PER_PAGE: usize = 8;

/// So many rows of the history are looked at, at least.
const FEWEST: usize = 64;

impl Answers {
    /// `GET /api/v1/slow-requests`
    pub async fn slow_requests(&self, query: &Query) -> Result<Page<SlowRequest>, Problem> {
        let facts = self.facts()?;
        let context = context(&facts, self);
        if !query.filters.request_ids.is_empty() {
            let mut rows = self.of_requests(query, &context).await?;
            rows.retain(|Told { row, .. }| row.outcome.answered());
            let key = |told: &Told| [milliseconds(told.row.duration_seconds), told.created_at, told.row.id];
            let next = cut(&mut rows, query, key);
            let ids: Vec<&str> = query.filters.request_ids.iter().map(String::as_str).collect();
            // Failed attempts too, whatever the filters say of them.
            let siblings = self.log.trials(&ids).await?;
            let items = rows
                .into_iter()
                .map(|Told { row, trial, .. }| SlowRequest {
                    attempts: attempts_of(&trial, &siblings, &context),
                    row,
                })
                .collect();
            return Ok(Page { items, next });
        }
        let (selection, limit) = (selection(query), query.limit);
        let after = query.after.map(|Position([duration, created_at, id])| {
            (u32::try_from(duration).unwrap_or(0), created_at, id)
        });
        let mut found =
            self.history.list(move |history| history.slowest(&selection, after, limit + 1)).await?;
        let next = (found.len() > limit).then(|| {
            found.truncate(limit);
            let last = &found.last()?.fact;
            Some(Position([i64::from(last.duration_ms), last.created_at, last.id]))
        });
        let identities: Vec<Identity> = found.iter().map(Found::identity).collect();
        let view = |entry: &Entry, context: &Context<'_>| (LogRow::new(entry, context), Trial::new(entry));
        let told = match self.look_up(&identities, view, &context).await {
            Ok(told) => told,
            // Slow requests are asked for when something is wrong, which may well be the database.
            Err(error) => {
                tracing::warn!("slow requests are shown without the log: {}", error.detail());
                vec![None; found.len()]
            }
        };
        let retried: Vec<&str> = found
            .iter()
            .zip(&told)
            .filter(|(found, _)| found.fact.retried)
            .filter_map(|(_, told)| Some(told.as_ref()?.1.request_id()))
            .filter(|request_id| !request_id.is_empty())
            .collect();
        let siblings = self.log.trials(&retried).await.unwrap_or_default();
        let items = found
            .iter()
            .zip(told)
            .map(|(found, told)| match told {
                Some((row, trial)) => SlowRequest { row, attempts: attempts_of(&trial, &siblings, &context) },
                None => SlowRequest { row: LogRow::kept(found, &context), attempts: Vec::new() },
            })
            .collect();
        Ok(Page { items, next: next.flatten() })
    }

    /// `GET /api/v1/logs`
    pub async fn logs(&self, query: &Query) -> Result<Page<LogRow>, Problem> {
        let facts = self.facts()?;
        let context = context(&facts, self);
        if !query.filters.request_ids.is_empty() {
            let mut rows = self.of_requests(query, &context).await?;
            let next = cut(&mut rows, query, |told| [told.row.id, 0, 0]);
            return Ok(Page { items: rows.into_iter().map(|told| told.row).collect(), next });
        }
        let selection = selection(query);
        // Higher ids that were ever counted belong to a table that is gone.
        let end = self.state.tail().last_id.saturating_add(1);
        let mut before = query.after.map_or(end, |Position([id, ..])| id.min(end));
        let mut items = Vec::new();
        let mut next: Option<Position> = None;
        for _ in 0..READS_PER_PAGE {
            let wanted = query.limit - items.len();
            // An id that was given out again stands in the history for each row that had it.
            let (asked, most) = (selection.clone(), (wanted + 1).max(FEWEST));
            let mut found =
                self.history.list(move |history| history.newest_ids(&asked, Some(before), most)).await?;
            let full = found.len() >= most;
            let mut ids: Vec<i64> = found.iter().map(|row| row.id).collect();
            ids.dedup();
            if full && ids.len() > 1 {
                // There may be more rows of this one.
                ids.pop();
            }
            let more = full || ids.len() > wanted;
            ids.truncate(wanted);
            let last = ids.last().copied();
            found.retain(|row| last.is_some_and(|last| row.id >= last));
            let rows = self.look_up(&found, LogRow::new, &context).await?;
            let mut rows: Vec<LogRow> = rows.into_iter().flatten().collect();
            rows.dedup_by_key(|row| row.id);
            items.extend(rows);
            next = last.filter(|_| more).map(|last| Position([last, 0, 0]));
            match next {
                Some(Position([last, ..])) if items.len() < query.limit => before = last,
                _ => break,
            }
        }
        Ok(Page { items, next })
    }

    /// `GET /api/v1/logs/{id}`; None if there is no such row.
    pub async fn log(&self, id: i64) -> Result<Option<LogDetail>, Problem> {
        let facts = self.state.facts();
        let context = context(&facts, self);
        let Some(entry) = self.log.entry(id).await? else { return Ok(None) };
        let siblings = if entry.request_id.is_empty() {
            Vec::new()
        } else {
            self.log.trials(&[&entry.request_id]).await?
        };
        let bodies = self.log.bodies(&entry).await;
        let rates = self.rates([id].into(), &context).await?;
        let quota_per_unit = rates.get(&(id, entry.created_at)).copied().unwrap_or(context.quota_per_unit);
        let context = Context { quota_per_unit, ..context };
        Ok(Some(LogDetail::new(&entry, &Surroundings { context, siblings: &siblings, bodies })))
    }

    /// `GET /api/v1/logs/latest`: the newest answered request; None if there is none.
    pub async fn latest_log(&self) -> Result<Option<LogDetail>, Problem> {
        let facts = self.facts()?;
        let context = context(&facts, self);
        let outcomes = RowOutcome::ALL.into_iter().filter(|outcome| outcome.answered()).collect();
        let filter = Filter { outcomes, ..Filter::default() };
        let answered = Selection { from: i64::MIN, to: i64::MAX, filter };
        let end = self.state.tail().last_id.saturating_add(1);
        let found =
            self.history.list(move |history| history.newest_ids(&answered, Some(end), FEWEST)).await?;
        let ids = self.look_up(&found, |entry, _| entry.id, &context).await?;
        match ids.into_iter().flatten().next() {
            Some(id) => self.log(id).await,
            None => Ok(None),
        }
    }

    /// `GET /api/v1/requests/{request_id}`; None if there is no such row.
    pub async fn request(&self, request_id: &str) -> Result<Option<RequestRows>, Problem> {
        let facts = self.state.facts();
        let context = context(&facts, self);
        if !self.log.has_request_ids().await? {
            return Err(Problem::not_found(
                "this version of new-api writes no request ids: v0.10.8 was the first that does",
            ));
        }
        let rows = self.read_requests(&[request_id], |_, _| true, &context).await?;
        let rows = rows.into_iter().map(|told| (told.trial, told.row)).collect();
        let story = RequestStory::new(rows, &context);
        Ok(story.map(|story| RequestRows { story, next: None, next_cursor: None }))
    }

    /// What `view` makes of the rows that the log has under the ids of those that were found, each with what a
    /// dollar was when it was counted; None where the row is gone, or its id is another one's by now.
    async fn look_up<T>(
        &self,
        found: &[Identity],
        view: impl Fn(&Entry, &Context<'_>) -> T,
        context: &Context<'_>,
    ) -> Result<Vec<Option<T>>, Problem> {
        let mut places: HashMap<i64, Vec<usize>> = HashMap::new();
        for (place, found) in found.iter().enumerate() {
            places.entry(found.id).or_default().push(place);
        }
        let ids: Vec<i64> = places.keys().copied().collect();
        let mut views: Vec<Option<T>> = found.iter().map(|_| None).collect();
        self.log
            .visit(&ids, &mut |entry| {
                for place in places.get(&entry.id).into_iter().flatten() {
                    let found = &found[*place];
                    if is_row(found, &entry) {
                        let context = Context { quota_per_unit: found.quota_per_unit, ..*context };
                        views[*place] = Some(view(&entry, &context));
                    }
                }
            })
            .await?;
        Ok(views)
    }

    /// The rows of the requests that are asked for, as far as the other filters let them pass.
    async fn of_requests(&self, query: &Query, context: &Context<'_>) -> Result<Vec<Told>, Problem> {
        let ids: Vec<&str> = query.filters.request_ids.iter().map(String::as_str).collect();
        let selection = selection(query);
        self.read_requests(&ids, |entry, row| selection.selects(&fact(entry, row)), context).await
    }

    /// The `wanted` rows of these requests, each with what a dollar was when it was counted.
    async fn read_requests(
        &self,
        ids: &[&str],
        wanted: impl Fn(&Entry, &LogRow) -> bool,
        context: &Context<'_>,
    ) -> Result<Vec<Told>, Problem> {
        let mut rows = Vec::new();
        self.log
            .visit_requests(ids, &mut |entry| {
                let row = LogRow::new(&entry, context);
                if wanted(&entry, &row) {
                    rows.push(Told { row, trial: Trial::new(&entry), created_at: entry.created_at });
                }
            })
            .await?;
        let rates = self.rates(rows.iter().map(|told| told.row.id).collect(), context).await?;
        for told in &mut rows {
            if let Some(rate) = rates.get(&(told.row.id, told.created_at)) {
                told.row.price_at(*rate);
            }
        }
        Ok(rows)
    }

    /// What a dollar was when these rows were counted, by id and time, where it was not what it is now. Rows that
    /// were not counted yet, or are no longer known, have none.
    async fn rates(
        &self,
        ids: BTreeSet<i64>,
        context: &Context<'_>,
    ) -> Result<BTreeMap<(i64, i64), f64>, Problem> {
        let now = context.quota_per_unit;
        self.history.list(move |history| history.rates(&ids, now)).await
    }
}

/// A row of a request that was asked for.
#[derive(Debug)]
struct Told {
    row: LogRow,
    trial: Trial,
    created_at: i64,
}

/// Leaves one page of a list that was read whole, highest key first; says where it goes on.
fn cut<T>(rows: &mut Vec<T>, query: &Query, key: impl Fn(&T) -> [i64; 3]) -> Option<Position> {
    rows.sort_by_key(|row| Reverse(key(row)));
    rows.retain(|row| query.after.is_none_or(|Position(after)| key(row) < after));
    let more = rows.len() > query.limit;
    rows.truncate(query.limit);
    rows.last().filter(|_| more).map(|last| Position(key(last)))
}

#[expect(clippy::cast_possible_truncation, reason = "a week at most, and the cast saturates")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// Whether `entry` is the row that was counted, and not another one under its id.
fn is_row(found: &Identity, entry: &Entry) -> bool {
    found.created_at == entry.created_at
        && found.channel_id == entry.channel_id
        && found.kind == Fact::kind_of(entry.kind)
}

/// As much of a row that was read from the log as can be filtered by.
fn fact<'a>(entry: &'a Entry, row: &LogRow) -> Fact<'a> {
    Fact {
        id: entry.id,
        created_at: entry.created_at,
        kind: Fact::kind_of(entry.kind),
        outcome: row.outcome,
        channel_id: entry.channel_id,
        model: entry.model.as_str().into(),
        group: entry.group.as_str().into(),
        username: entry.username.as_str().into(),
        token_name: entry.token_name.as_str().into(),
        stream: entry.stream,
        duration_ms: Fact::duration_of(entry.duration_ms),
        ..Fact::default()
    }
}
