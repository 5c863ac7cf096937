//! Questions about the history, each on a connection of its own.
//!
//! In WAL mode readers wait for nobody and nobody waits for them. One question is one read transaction, so it sees
//! whole commits only.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::super::{BUSY_TIMEOUT, Store, StoreError, checkpoint};
use super::Stored;
use crate::history::{
    self, Contributor, Dimension, Entry, Filter, Found, Group, Identity, LastError, Measure, Overview,
    Selection, SlowKey, Step, Steps,
};

/// Questions answered at the same time: as many as the API answers, and some of the loops beside them.
const READERS: usize = 6;

/// Page cache of a reader in KiB: large values are read past it.
const READER_CACHE_KIB: i64 = 256;

/// Connections for reading, opened when they are needed.
#[derive(Debug)]
pub(in crate::store) struct Readers {
    path: PathBuf,
    state: Mutex<Idle>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<Connection>,
    lent: usize,
}

impl Readers {
    pub(in crate::store) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), state: Mutex::default(), returned: Condvar::new() }
    }

    /// A connection that nobody else uses, after a wait if all are in use.
    fn lend(&self) -> Result<Lent<'_>, StoreError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self
            .returned
            .wait_while(state, |state| state.lent >= READERS)
            .unwrap_or_else(PoisonError::into_inner);
        let idle = state.connections.pop();
        state.lent += 1;
        drop(state);
        // From here on, whatever happens, the place of the connection is given back.
        let mut lent = Lent { readers: self, connection: idle };
        if lent.connection.is_none() {
            lent.connection = Some(open(&self.path)?);
        }
        Ok(lent)
    }
}

impl Store {
    /// One question about anything in the file, as it was committed, beside the writer.
    ///
    /// # Errors
    /// Those of `question`, and if the file cannot be opened.
    pub(in crate::store) fn read<T>(
        &self,
        question: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut lent = self.readers.lend()?;
        let Some(connection) = &mut lent.connection else {
            return Err(StoreError::Damaged("no connection".into()));
        };
        question(&connection.transaction_with_behavior(TransactionBehavior::Deferred)?)
    }
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

/// A connection on loan.
struct Lent<'a> {
    readers: &'a Readers,
    connection: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent -= 1;
        state.connections.extend(self.connection.take());
        drop(state);
        self.readers.returned.notify_one();
    }
}

/// Answers questions about the history. Cheap to clone. All calls block: use a blocking thread.
#[derive(Debug, Clone)]
pub struct HistoryReader {
    readers: Arc<Readers>,
}

impl Store {
    /// The history, to be read beside the writer.
    pub fn history(&self) -> HistoryReader {
        HistoryReader { readers: Arc::clone(&self.readers) }
    }
}

impl HistoryReader {
    /// The history in a file that another process may be writing.
    pub fn of_file(path: &Path) -> Self {
        Self { readers: Arc::new(Readers::new(path)) }
    }

    /// One question, one transaction.
    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&mut Stored<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut lent = self.readers.lend()?;
        let Some(connection) = &mut lent.connection else {
            return Err(StoreError::Damaged("no connection".into()));
        };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        question(&mut Stored(&transaction))
    }

    /// See [`history::overview`].
    ///
    /// # Errors
    /// If the file cannot be read or a value in it is not sound; the same holds for all that follow.
    pub fn overview(&self, selection: &Selection, slow_over_ms: u32) -> Result<Overview, StoreError> {
        self.ask(|stored| history::overview(stored, selection, slow_over_ms))
    }

    /// See [`history::trend`].
    ///
    /// # Errors
    /// As above.
    pub fn trend(
        &self,
        selection: &Selection,
        steps: Steps,
        slow_over_ms: u32,
        by: Option<Dimension>,
    ) -> Result<BTreeMap<i64, Step>, StoreError> {
        self.ask(|stored| history::trend(stored, selection, steps, slow_over_ms, by))
    }

    /// See [`history::slowest`].
    ///
    /// # Errors
    /// As above.
    pub fn slowest(
        &self,
        selection: &Selection,
        after: Option<SlowKey>,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        self.ask(|stored| history::slowest(stored, selection, after, limit))
    }

    /// See [`history::newest`].
    ///
    /// # Errors
    /// As above.
    pub fn newest(
        &self,
        selection: &Selection,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        self.ask(|stored| history::newest(stored, selection, before, limit))
    }

    /// See [`history::newest_ids`].
    ///
    /// # Errors
    /// As above.
    pub fn newest_ids(
        &self,
        selection: &Selection,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Identity>, StoreError> {
        self.ask(|stored| history::newest_ids(stored, selection, before, limit))
    }

    /// See [`history::last_errors`].
    ///
    /// # Errors
    /// As above.
    pub fn last_errors(
        &self,
        selection: &Selection,
        by: Dimension,
    ) -> Result<BTreeMap<Group, LastError>, StoreError> {
        self.ask(|stored| history::last_errors(stored, selection, by))
    }

    /// See [`history::entries`]. The number of the last commit whose rows were visited.
    ///
    /// # Errors
    /// As above.
    pub fn entries(
        &self,
        from: i64,
        to: i64,
        filter: &Filter,
        visit: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<u64, StoreError> {
        self.ask(|stored| {
            let position = checkpoint::position(stored.0)?;
            history::entries(stored, from, to, filter, visit)?;
            Ok(position.map_or(0, |position| position.commits))
        })
    }

    /// See [`history::rates`].
    ///
    /// # Errors
    /// As above.
    pub fn rates(&self, ids: &BTreeSet<i64>, usual: f64) -> Result<BTreeMap<(i64, i64), f64>, StoreError> {
        self.ask(|stored| history::rates(stored, ids, usual))
    }

    /// Models that a request was ever answered for.
    ///
    /// # Errors
    /// As above.
    pub fn answered_models(&self) -> Result<HashSet<String>, StoreError> {
        self.ask(|stored| {
            let mut statement = stored.0.prepare("SELECT name FROM models")?;
            let names = statement.query_map([], |row| row.get(0))?;
            Ok(names.collect::<Result<_, _>>()?)
        })
    }

    /// From when on every row was kept, unix seconds; None before the first commit.
    ///
    /// # Errors
    /// As above.
    pub fn known_from(&self) -> Result<Option<i64>, StoreError> {
        self.ask(|stored| {
            let position = checkpoint::position(stored.0)?;
            Ok(position.map(|position| position.history_from.max(position.kept_from)))
        })
    }

    /// The latest date of a row, unix seconds; None if there is no row.
    ///
    /// # Errors
    /// As above.
    pub fn newest_at(&self) -> Result<Option<i64>, StoreError> {
        self.ask(|stored| {
            Ok(stored.0.query_row("SELECT max(newest) FROM history_blocks", [], |row| row.get(0))?)
        })
    }

    /// See [`history::contributors`].
    ///
    /// # Errors
    /// As above.
    pub fn contributors(
        &self,
        selection: &Selection,
        measure: Measure,
        limit: usize,
    ) -> Result<Vec<Contributor>, StoreError> {
        self.ask(|stored| history::contributors(stored, selection, measure, limit))
    }
}
