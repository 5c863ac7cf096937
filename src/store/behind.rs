//! Commits of the first reading of a log, made while counting goes on.
//!
//! Nobody sees these counts until all are there, so nobody waits for the commits either. What they write goes to the disk
//! meanwhile as well, so that little is left for the last commit, which waits for it.

use std::fs::File;

use super::checkpoint::Parts;
use super::counts::InFull;
use super::{Checkpoint, Keep, Position, Store, StoreError};
use crate::history::Block;
use crate::record::ChannelId;
use crate::tail::seen::Chunk;
use crate::threads::Behind;
use crate::usage::{ExtraLabel, Totals};

/// From this length in bytes on the write-ahead log is brought into the file, and not only to the disk.
const LONG_WAL: u64 = 32 * 1024 * 1024;

/// Names of channels that rows told.
pub type Names = Vec<(ChannelId, String)>;

/// A thread that commits what it is given. It ends when this is let go.
#[derive(Debug)]
pub struct Committing(Behind<Packed, StoreError>);

/// A checkpoint with all that it needs.
#[derive(Debug)]
struct Packed {
    /// Saved before the rows that told them, which are not read again.
    names: Names,
    position: Position,
    totals: Totals,
    models: Vec<String>,
    counts: InFull,
    seen: Option<Chunk>,
    forgotten: Vec<i64>,
    history: Vec<Block>,
    keep: Keep,
}

impl Store {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn committing(&self, labels: &[ExtraLabel]) -> std::io::Result<Committing> {
        let (store, labels) = (self.clone(), labels.to_vec());
        // One commit at a time: what waits is memory.
        let thread =
            Behind::start("commits", 0, move |packed: Packed| store.commit_packed(&packed, &labels))?;
        Ok(Committing(thread))
    }

    fn commit_packed(&self, packed: &Packed, labels: &[ExtraLabel]) -> Result<(), StoreError> {
        if !packed.names.is_empty() {
            self.save_channel_names(&packed.names)?;
        }
        let parts = Parts {
            position: &packed.position,
            totals: &packed.totals,
            models: &packed.models,
            seen: packed.seen.as_ref(),
            forgotten: &packed.forgotten,
            history: &packed.history,
            keep: packed.keep,
            durable: false,
        };
        self.commit_parts(&parts, labels, |transaction| packed.counts.save(transaction))?;
        if let Err(error) = self.send_to_disk() {
            tracing::debug!("commits of the first reading are not on the disk yet: {error}");
        }
        Ok(())
    }

    /// SQLite locks the write-ahead log by another file, so this one may be opened and closed.
    fn send_to_disk(&self) -> Result<(), StoreError> {
        let unusable = |error: std::io::Error| StoreError::Unusable {
            path: self.path.clone(),
            reason: error.to_string(),
        };
        let mut name = self.path.clone().into_os_string();
        name.push("-wal");
        let wal = File::open(name).map_err(unusable)?;
        if wal.metadata().map_err(unusable)?.len() < LONG_WAL {
            wal.sync_data().map_err(unusable)
        } else {
            self.bring_in()
        }
    }
}

impl Committing {
    /// Has it committed, after waiting for the commit before. What changed in label sets and was committed otherwise must have
    /// been written in full.
    ///
    /// # Errors
    /// If this one cannot be packed, or one before could not be committed; nothing is committed any more then.
    pub fn commit(
        &mut self,
        checkpoint: &Checkpoint<'_>,
        history: Vec<Block>,
        names: Names,
    ) -> Result<(), StoreError> {
        let usage = checkpoint.usage;
        self.0.hand_in(Packed {
            names,
            position: checkpoint.position.clone(),
            totals: usage.totals().clone(),
            models: usage.changes().models.clone(),
            counts: InFull::of(usage)?,
            seen: checkpoint.seen.cloned(),
            forgotten: checkpoint.forgotten.to_vec(),
            history,
            keep: checkpoint.keep,
        })
    }

    /// Waits until all is committed.
    ///
    /// # Errors
    /// That of the first that could not be.
    pub fn end(mut self) -> Result<(), StoreError> {
        self.0.end()
    }
}
