//! Counting a batch of rows, on copies that are thrown away if anything fails, and committing them. No clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::Names;
use super::seen::Seen;
use crate::history::{Block, BlockBuilder, Fact, Recent};
use crate::newapi::Directory;
use crate::newapi::logs::{Log, Logs, RawLogs};
use crate::record::{ChannelId, Class, LogRecord};
use crate::store::{Checkpoint, Committing, Keep, Position, Store, StoreError};
use crate::usage::{Context, ExtraLabel, FETCHED, Rules, Usage};

/// Clocks of gateway nodes may be so far apart, in seconds, when a hole in old rows is taken for permanent.
const CLOCK_SKEW_SECONDS: i64 = 3600;

/// How far below the first row of a log, an empty or emptied one, late rows are looked for.
const FIRST_HOLE_IDS: i64 = 10_000;

/// Stands for the row below the first one, so that a restart finds the hole between them again.
const NO_ROW: u64 = 0;

/// Rows older than this serve as no exemplar: Prometheus would refuse them.
const EXEMPLAR_AGE_SECONDS: i64 = 3600;

/// One round's material.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) usage: Usage,
    /// The rows counted, in short.
    pub(super) history: BlockBuilder,
    pub(super) position: Position,
    pub(super) seen: Seen,
    pub(super) directory: Arc<Directory>,
    /// Names of deleted channels, and those that rows tell besides.
    pub(super) channel_names: Arc<BTreeMap<ChannelId, String>>,
    pub(super) names: Names,
    pub(super) rules: Rules,
    pub(super) now_ms: i64,
    pub(super) late_window_ms: i64,
    /// How long the history is kept.
    pub(super) keep_seconds: i64,
    /// Rows counted.
    pub(super) rows: u64,
    /// The rows of each commit, but for those of the first catch-up.
    pub(super) recent: Recent,
}

impl Work {
    /// Whether `batch`, read from the last known row on, begins with that row.
    pub(super) fn holds_anchor(&self, batch: &RawLogs) -> bool {
        let Some(anchor) = self.position.anchor else { return true };
        batch
            .records()
            .next()
            .is_some_and(|first| first.id == self.position.last_id && first.fingerprint() == anchor)
    }

    /// Whether there is anything to commit besides the position.
    pub(super) fn is_dirty(&self) -> bool {
        let changes = self.usage.changes();
        self.rows > 0 || self.seen.has_news() || !changes.series.is_empty() || changes.relabelled
    }

    /// Writes what was counted since the last time, and where in the log that was. Blocks.
    pub(super) fn commit(&mut self, store: &Store, labels: &[ExtraLabel]) -> Result<(), StoreError> {
        let names = self.names.unsaved();
        if !names.is_empty() {
            // Before the rows that told them, which are not read again.
            store.save_channel_names(&names)?;
            self.names.saved();
        }
        let caught_up = self.position.caught_up;
        let blocks = self.write(|checkpoint, blocks| {
            store.commit(&Checkpoint { history: &blocks, durable: caught_up, ..*checkpoint }, labels)?;
            Ok(blocks)
        })?;
        if caught_up {
            self.recent.push(self.position.commits, blocks);
        }
        Ok(())
    }

    /// The same by another thread, which must have ended well before anybody is told. First catch-up only.
    pub(super) fn commit_by(&mut self, committing: &mut Committing) -> Result<(), StoreError> {
        let names = self.names.unsaved();
        self.write(|checkpoint, blocks| committing.commit(checkpoint, blocks, names))?;
        self.names.saved();
        Ok(())
    }

    /// Lets `write` have what a commit writes.
    fn write<T>(
        &mut self,
        write: impl FnOnce(&Checkpoint<'_>, Vec<Block>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let now = self.now_ms / 1000;
        let (chunk, forgotten) = self.seen.commit(self.now_ms);
        let blocks = self.history.take();
        let since = now.saturating_sub(self.keep_seconds);
        // HISTORY may be longer again after another start, and what was dropped does not come back.
        self.position.kept_from = self.position.kept_from.max(since);
        self.position.commits += 1;
        self.position.forgotten = self.seen.forgotten();
        let checkpoint = Checkpoint {
            position: &self.position,
            usage: &self.usage,
            seen: chunk.as_ref(),
            forgotten: &forgotten,
            history: &[],
            durable: false,
            keep: Keep { since, now },
        };
        let written = write(&checkpoint, blocks)?;
        self.usage.committed();
        Ok(written)
    }

    /// Counts rows that follow the last known one.
    pub(super) fn count(mut self, batch: &Logs) -> Self {
        let remember_gaps = self.gaps_may_fill(batch.raw());
        let mut logs = batch.iter();
        let mut group: Vec<Log<'_>> = Vec::with_capacity(FETCHED);
        loop {
            group.clear();
            group.extend(logs.by_ref().take(FETCHED));
            if group.is_empty() {
                break;
            }
            self.usage.fetch(group.iter().map(|log| (&log.record, &log.class)), &self.rules);
            for log in &group {
                self.count_one(log, remember_gaps);
            }
        }
        if !remember_gaps {
            self.seen.forget_old();
        }
        if let Some(rereading) = self.position.rereading
            && self.position.last_id >= rereading.until_id
        {
            self.position.rereading = None;
        }
        self
    }

    fn count_one(&mut self, log: &Log<'_>, remember_gaps: bool) {
        let (record, print) = (&log.record, log.record.fingerprint());
        let mut known_before = self.position.last_id;
        if record.id <= known_before {
            return;
        }
        if self.position.anchor.is_none() {
            known_before = known_before.max(record.id.saturating_sub(FIRST_HOLE_IDS));
            self.seen.insert(known_before, NO_ROW);
        }
        if remember_gaps {
            self.seen.note_gap(known_before, record.id, self.now_ms);
        }
        self.position.last_id = record.id;
        self.position.anchor = Some(print);
        if !self.seen.knows(record.id, print) {
            self.seen.insert(record.id, print);
            self.observe(record, &log.class);
        }
    }

    /// Counts rows that were missing when higher ids were read.
    pub(super) fn count_late(&mut self, rows: &RawLogs) {
        for record in rows.records() {
            let print = record.fingerprint();
            if self.seen.is_missing(record.id) && !self.seen.knows(record.id, print) {
                self.seen.insert(record.id, print);
                self.usage.count_late_row();
                self.observe(&record, &record.class());
            }
        }
    }

    fn observe(&mut self, record: &LogRecord<'_>, class: &Class) {
        if !self.position.caught_up && record.created_at < self.position.history_from {
            return;
        }
        if let Some(rereading) = self.position.rereading
            && record.id <= rereading.until_id
            && record.created_at < rereading.not_before
        {
            return;
        }
        let context = Context {
            rules: &self.rules,
            quota_per_unit: self.directory.quota_per_unit,
            offered_models: &self.directory.models,
            live: self.position.caught_up,
            exemplars_since: self.now_ms / 1000 - EXEMPLAR_AGE_SECONDS,
        };
        if matches!(class, Class::FailedAttempt { .. }) {
            self.names.note(record, &self.directory, &self.channel_names);
        }
        self.usage.observe_as(class, record, &context);
        self.history.push(&Fact::of(record, class), context.quota_per_unit);
        self.rows += 1;
    }

    /// Holes between old rows are permanent: whatever was to fill them would have been there by now. At the
    /// end of the log the age of a row says little, because its clock may be wrong.
    fn gaps_may_fill(&self, batch: &RawLogs) -> bool {
        if batch.at_end {
            return true;
        }
        let newest = batch.times().max().unwrap_or(i64::MAX);
        newest >= (self.now_ms - self.late_window_ms) / 1000 - CLOCK_SKEW_SECONDS
    }
}
