//! The tailer's checkpoint: position and counts, written together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Deserialize, Serialize};

use super::history::{self, Keep};
use super::{SELDOM_CHECKPOINT_PAGES, Store, StoreError, counts};
use crate::history::Block;
use crate::limits::file::LastGood;
use crate::record::ChannelId;
use crate::tail::seen::Chunk;
use crate::usage::{ExtraLabel, Key, Series, Totals, Usage};

/// Where the tailer stands in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Rows up to this id were read. 0 before the first one.
    pub last_id: i64,
    /// Fingerprint of the row with `last_id`: if it is no longer there, the table was changed under us.
    pub anchor: Option<u64>,
    /// Which columns there were for that fingerprint, a bit for each.
    #[serde(default)]
    pub columns: Option<u8>,
    /// The beginning of the history, unix seconds: older rows of the first catch-up are not counted.
    pub history_from: i64,
    /// Rows from before this instant, unix seconds, may have been dropped from the history since.
    #[serde(default)]
    pub kept_from: i64,
    /// The first catch-up is complete.
    pub caught_up: bool,
    /// What was counted up to here is in a history that `backfill` wrote, and nothing of it is shown as 0.
    #[serde(default)]
    pub told: Option<i64>,
    /// Part of the table is being read again after it was changed under us.
    #[serde(default)]
    pub rereading: Option<Rereading>,
    /// Number of the first chunk of seen rows since the table was last changed under us.
    #[serde(default)]
    pub holes_from: i64,
    /// The highest id of a row that was read and is no longer among the seen ones: no hole is looked for up to it.
    #[serde(default)]
    pub forgotten: i64,
    /// How often anything was committed: which rows somebody has seen is told by it.
    #[serde(default)]
    pub commits: u64,
    /// The log's address without credentials, for a clear word when it is another one.
    #[serde(default)]
    pub source: String,
}

/// A stretch of ids that is read a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rereading {
    /// The last id of the stretch.
    pub until_id: i64,
    /// Rows of the stretch older than this (unix seconds) were counted before.
    pub not_before: i64,
}

/// What one commit writes.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    /// Where the tailer stands.
    pub position: &'a Position,
    /// The counts; only what changed is written.
    pub usage: &'a Usage,
    /// Rows read since the last commit.
    pub seen: Option<&'a Chunk>,
    /// Chunks that need not be remembered any more.
    pub forgotten: &'a [i64],
    /// The rows counted, in short.
    pub history: &'a [Block],
    /// How long these are kept.
    pub keep: Keep,
    /// It must outlive a power cut, because it will be shown. If it is not, and is lost, the rows are read again.
    pub durable: bool,
}

/// What a commit writes besides the counts of label sets.
pub(super) struct Parts<'a> {
    pub(super) position: &'a Position,
    pub(super) totals: &'a Totals,
    pub(super) models: &'a [String],
    pub(super) seen: Option<&'a Chunk>,
    pub(super) forgotten: &'a [i64],
    pub(super) history: &'a [Block],
    pub(super) keep: Keep,
    pub(super) durable: bool,
}

/// What a checkpoint held.
#[derive(Debug)]
pub struct Loaded {
    /// Where the tailer stood; None at the very first start.
    pub position: Option<Position>,
    /// The counts.
    pub usage: Usage,
    /// Rows read lately.
    pub seen: Vec<Chunk>,
}

impl Store {
    /// Reads the checkpoint. Series are brought to today's `labels`: where a label was dropped they are
    /// summed, where one is new it is empty for what was counted before.
    ///
    /// # Errors
    /// If the file cannot be read or a value in it is not sound.
    pub fn load(&self, labels: &[ExtraLabel]) -> Result<Loaded, StoreError> {
        let connection = self.connection();
        let state = |name: &str| {
            connection
                .query_row("SELECT value FROM state WHERE name = ?1", [name], |row| row.get::<_, String>(0))
                .optional()
        };
        let position = position(&connection)?;
        let totals: Totals = state("totals")?.map_or(Ok(Totals::default()), |text| parse("totals", &text))?;
        let stored: Vec<ExtraLabel> =
            state("labels")?.map_or_else(|| Ok(labels.to_vec()), |text| parse("labels", &text))?;

        let mut series: BTreeMap<Key, Series> = BTreeMap::new();
        for (mut key, cells) in counts::load(&connection, stored.len())? {
            key.relabel(&stored, labels);
            match series.entry(key) {
                Entry::Vacant(entry) => {
                    entry.insert(cells);
                }
                Entry::Occupied(mut entry) => entry.get_mut().merge(&cells),
            }
        }
        let mut statement = connection.prepare("SELECT name FROM models")?;
        let models: hashbrown::HashSet<String> =
            statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut usage = Usage::restore(series, models, totals);
        if stored != labels {
            usage.touch_all();
        }
        let seen = load_seen(&connection)?;
        Ok(Loaded { position, usage, seen })
    }

    /// Rows read lately.
    ///
    /// # Errors
    /// If the file cannot be read or a value in it is not sound.
    pub fn seen(&self) -> Result<Vec<Chunk>, StoreError> {
        load_seen(&self.connection())
    }

    /// Writes a checkpoint in one transaction.
    ///
    /// # Errors
    /// Nothing is written then.
    pub fn commit(&self, checkpoint: &Checkpoint<'_>, labels: &[ExtraLabel]) -> Result<(), StoreError> {
        let Checkpoint { position, usage, seen, forgotten, history, keep, durable } = *checkpoint;
        let parts = Parts {
            position,
            totals: usage.totals(),
            models: &usage.changes().models,
            seen,
            forgotten,
            history,
            keep,
            durable,
        };
        self.commit_parts(&parts, labels, |transaction| counts::save(transaction, usage))
    }

    /// The same, with the counts as `save` writes them.
    pub(super) fn commit_parts(
        &self,
        parts: &Parts<'_>,
        labels: &[ExtraLabel],
        save: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut connection = self.connection();
        durability(&connection, parts.durable)?;
        let transaction = connection.transaction()?;
        {
            let mut state = transaction.prepare_cached("INSERT OR REPLACE INTO state VALUES (?1, ?2)")?;
            state.execute(params!["position", json(parts.position)?])?;
            state.execute(params!["totals", json(parts.totals)?])?;
            state.execute(params!["labels", json(&labels)?])?;
            save(&transaction)?;
            let mut models = transaction.prepare_cached("INSERT OR IGNORE INTO models VALUES (?1)")?;
            for name in parts.models {
                models.execute([name])?;
            }
            if let Some(chunk) = parts.seen {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3)")?
                    .execute(params![chunk.seq, chunk.seen_at, pack(&chunk.rows)])?;
            }
            let mut forget = transaction.prepare_cached("DELETE FROM seen WHERE seq = ?1")?;
            for seq in parts.forgotten {
                forget.execute([seq])?;
            }
        }
        history::append(&transaction, parts.history, parts.keep)?;
        transaction.commit()?;
        Ok(())
    }

    /// The limits that were last in force.
    ///
    /// # Errors
    /// If the file cannot be read or the value in it is not sound.
    pub fn limits(&self) -> Result<Option<LastGood>, StoreError> {
        let text: Option<String> = self
            .connection()
            .query_row("SELECT value FROM state WHERE name = 'limits'", [], |row| row.get(0))
            .optional()?;
        text.map(|text| parse("limits", &text)).transpose()
    }

    /// Remembers the limits that are in force.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_limits(&self, limits: &LastGood) -> Result<(), StoreError> {
        self.connection().execute("INSERT OR REPLACE INTO state VALUES ('limits', ?1)", [json(limits)?])?;
        Ok(())
    }

    /// Remembers that a history is written of the rows up to `last_id`, which Prometheus then knows before it scrapes.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_told(&self, last_id: i64) -> Result<(), StoreError> {
        self.connection().execute("INSERT OR REPLACE INTO state VALUES ('told', ?1)", [json(&last_id)?])?;
        Ok(())
    }

    /// The last row of the history that was written last; None if there was none.
    ///
    /// # Errors
    /// If the file cannot be read or the value is not sound.
    pub fn told(&self) -> Result<Option<i64>, StoreError> {
        stored(&self.connection(), "told")
    }

    /// Where the log was counted to; None before the first commit.
    ///
    /// # Errors
    /// If the file cannot be read or the value is not sound.
    pub fn position(&self) -> Result<Option<Position>, StoreError> {
        position(&self.connection())
    }

    /// How many label sets are counted.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn label_sets(&self) -> Result<i64, StoreError> {
        Ok(self.connection().query_row("SELECT count(*) FROM series", [], |row| row.get(0))?)
    }

    /// The last known name of every channel.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn channel_names(&self) -> Result<BTreeMap<ChannelId, String>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare("SELECT id, name FROM channels")?;
        let names =
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        Ok(names)
    }

    /// Remembers names that are new or have changed.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_channel_names(&self, names: &[(ChannelId, String)]) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        for (id, name) in names {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO channels VALUES (?1, ?2)")?
                .execute(params![id, name])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Waiting for the disk takes a third of the time of a catch-up. A durable commit makes those before it durable too.
pub(super) fn durability(connection: &rusqlite::Connection, durable: bool) -> Result<(), StoreError> {
    connection.pragma_update(None, "synchronous", if durable { "full" } else { "normal" })?;
    if !durable {
        // Until `Store::settle`, so that the durable commit at the end of a catch-up is quick.
        connection.pragma_update(None, "wal_autocheckpoint", SELDOM_CHECKPOINT_PAGES)?;
    }
    Ok(())
}

/// Where the tailer stood; None at the very first start.
pub(super) fn position(connection: &rusqlite::Connection) -> Result<Option<Position>, StoreError> {
    stored(connection, "position")
}

/// What is stored under this name.
fn stored<T: for<'de> Deserialize<'de>>(
    connection: &rusqlite::Connection,
    name: &str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = connection
        .prepare_cached("SELECT value FROM state WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    text.map(|text| parse(name, &text)).transpose()
}

fn load_seen(connection: &rusqlite::Connection) -> Result<Vec<Chunk>, StoreError> {
    let mut statement = connection.prepare("SELECT seq, seen_at, rows FROM seen ORDER BY seq")?;
    let chunks = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Vec<u8>>(2)?)))?;
    chunks
        .map(|chunk| {
            let (seq, seen_at, bytes) = chunk?;
            let rows = unpack(&bytes)
                .ok_or_else(|| StoreError::Damaged(format!("the rows of seen {seq} are cut short")))?;
            Ok(Chunk { seq, seen_at, rows })
        })
        .collect()
}

fn pack(rows: &[(i64, u64)]) -> Vec<u8> {
    rows.iter().flat_map(|(id, print)| [id.to_le_bytes(), print.to_le_bytes()]).flatten().collect()
}

fn unpack(bytes: &[u8]) -> Option<Vec<(i64, u64)>> {
    let (pairs, rest) = bytes.as_chunks::<16>();
    rest.is_empty().then(|| {
        pairs
            .iter()
            .map(|pair| {
                let pair = u128::from_le_bytes(*pair);
                #[expect(clippy::cast_possible_truncation, reason = "each half is taken by itself")]
                let (id, print) = (pair as u64, (pair >> 64) as u64);
                (id.cast_signed(), print)
            })
            .collect()
    })
}

pub(super) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

pub(super) fn parse<T: for<'de> Deserialize<'de>>(what: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged(format!("{what}: {error}")))
}
