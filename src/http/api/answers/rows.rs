//! `slow-requests`, `logs`, one log in full, and all rows of a request.
//!
//! The history says which rows they are; the log, asked by primary key, says what they tell. An id can belong to
//! another row by then, because SQLite gives ids out again, so each row is compared with what was counted.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::super::super::params::{Position, Query};
use super::super::super::problem::Problem;
use super::super::views::{RequestRows, SlowRequest};
use super::{Answers, Page, context, selection};
use crate::detail::{LogDetail, LogRow, RequestStory, Surroundings, attempts_of};
use crate::history::{Fact, Found};
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
            let mut entries = self.of_requests(query).await?;
            entries.retain(|(_, row)| answered(row.outcome));
            let key = |(entry, row): &(Entry, LogRow)| {
                [milliseconds(row.duration_seconds), entry.created_at, entry.id]
            };
            let next = cut(&mut entries, query, key);
            let ids: Vec<&str> = query.filters.request_ids.iter().map(String::as_str).collect();
            // Failed attempts too, whatever the filters say of them.
            let siblings = self.log.of_requests(&ids).await?;
            let items = entries
                .into_iter()
                .map(|(entry, row)| SlowRequest { attempts: attempts_of(&entry, &siblings, &context), row })
                .collect();
            return Ok(Page { items, next });
        }
        let (selection, limit) = (selection(query), query.limit);
        let after = query.after.map(|Position([duration, created_at, id])| {
            (u32::try_from(duration).unwrap_or(0), created_at, id)
        });
        let mut found = self.ask(move |history| history.slowest(&selection, after, limit + 1)).await?;
        let next = (found.len() > limit).then(|| {
            found.truncate(limit);
            let last = &found.last()?.fact;
            Some(Position([i64::from(last.duration_ms), last.created_at, last.id]))
        });
        let entries = match self.entries(&found).await {
            Ok(entries) => entries,
            // Slow requests are asked for when something is wrong, which may well be the database.
            Err(error) => {
                tracing::warn!("slow requests are shown without the log: {}", error.detail());
                HashMap::new()
            }
        };
        let retried: Vec<&str> = found
            .iter()
            .filter(|found| found.fact.retried)
            .filter_map(|found| row_of(&entries, found))
            .map(|entry| entry.request_id.as_str())
            .filter(|request_id| !request_id.is_empty())
            .collect();
        let siblings = self.log.of_requests(&retried).await.unwrap_or_default();
        let items = found
            .iter()
            .map(|found| match row_of(&entries, found) {
                Some(entry) => SlowRequest {
                    row: LogRow::new(entry, &context),
                    attempts: attempts_of(entry, &siblings, &context),
                },
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
            let mut entries = self.of_requests(query).await?;
            let next = cut(&mut entries, query, |(entry, _)| [entry.id, 0, 0]);
            return Ok(Page { items: entries.into_iter().map(|(_, row)| row).collect(), next });
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
            let mut found = self.ask(move |history| history.newest(&asked, Some(before), most)).await?;
            let full = found.len() >= most;
            let mut ids: Vec<i64> = found.iter().map(|found| found.fact.id).collect();
            ids.dedup();
            if full && ids.len() > 1 {
                // There may be more rows of this one.
                ids.pop();
            }
            let more = full || ids.len() > wanted;
            ids.truncate(wanted);
            let last = ids.last().copied();
            found.retain(|found| last.is_some_and(|last| found.fact.id >= last));
            let entries = self.entries(&found).await?;
            let mut rows: Vec<&Entry> = found.iter().filter_map(|found| row_of(&entries, found)).collect();
            rows.dedup_by_key(|entry| entry.id);
            items.extend(rows.into_iter().map(|entry| LogRow::new(entry, &context)));
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
        let Some(entry) = self.log.entries(&[id]).await?.into_iter().next() else { return Ok(None) };
        let siblings = if entry.request_id.is_empty() {
            Vec::new()
        } else {
            self.log.of_requests(&[&entry.request_id]).await?
        };
        let bodies = self.log.bodies(&entry).await;
        let surroundings = Surroundings { context: context(&facts, self), siblings: &siblings, bodies };
        Ok(Some(LogDetail::new(&entry, &surroundings)))
    }

    /// `GET /api/v1/requests/{request_id}`; None if there is no such row.
    pub async fn request(&self, request_id: &str) -> Result<Option<RequestRows>, Problem> {
        let facts = self.state.facts();
        if !self.log.has_request_ids().await? {
            return Err(Problem::not_found(
                "this version of new-api writes no request ids: v0.10.8 was the first that does",
            ));
        }
        let entries = self.log.of_requests(&[request_id]).await?;
        let story = RequestStory::new(&entries, &context(&facts, self));
        Ok(story.map(|story| RequestRows { story, next: None, next_cursor: None }))
    }

    /// The rows that the log has under the ids of those that were found.
    async fn entries(&self, found: &[Found]) -> Result<HashMap<i64, Entry>, Problem> {
        let mut ids: Vec<i64> = found.iter().map(|found| found.fact.id).collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(self.log.entries(&ids).await?.into_iter().map(|entry| (entry.id, entry)).collect())
    }

    /// The rows of the requests that are asked for, as far as the other filters let them pass.
    async fn of_requests(&self, query: &Query) -> Result<Vec<(Entry, LogRow)>, Problem> {
        let facts = self.facts()?;
        let context = context(&facts, self);
        let ids: Vec<&str> = query.filters.request_ids.iter().map(String::as_str).collect();
        let entries = self.log.of_requests(&ids).await?;
        let selection = selection(query);
        Ok(entries
            .into_iter()
            .map(|entry| (LogRow::new(&entry, &context), entry))
            .filter(|(row, entry)| selection.selects(&fact(entry, row)))
            .map(|(row, entry)| (entry, row))
            .collect())
    }
}

/// Leaves one page of a list that was read whole, highest key first; says where it goes on.
fn cut<T>(rows: &mut Vec<T>, query: &Query, key: impl Fn(&T) -> [i64; 3]) -> Option<Position> {
    rows.sort_by_key(|row| Reverse(key(row)));
    rows.retain(|row| query.after.is_none_or(|Position(after)| key(row) < after));
    let more = rows.len() > query.limit;
    rows.truncate(query.limit);
    rows.last().filter(|_| more).map(|last| Position(key(last)))
}

fn answered(outcome: RowOutcome) -> bool {
    outcome.answered()
}

/// The row that was found, unless its id belongs to another one by now.
fn row_of<'a>(entries: &'a HashMap<i64, Entry>, found: &Found) -> Option<&'a Entry> {
    entries.get(&found.fact.id).filter(|entry| is_row(found, entry))
}

#[expect(clippy::cast_possible_truncation, reason = "a week at most, and the cast saturates")]
fn milliseconds(seconds: f64) -> i64 {
    (seconds * 1000.0).round() as i64
}

/// Whether `entry` is the row that was counted, and not another one under its id.
fn is_row(found: &Found, entry: &Entry) -> bool {
    let fact = &found.fact;
    fact.created_at == entry.created_at
        && fact.channel_id == entry.channel_id
        && fact.kind == Fact::kind_of(entry.kind)
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
