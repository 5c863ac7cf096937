//! monitor.db: our own state, one SQLite file, all its SQL.
//!
//! The file is in WAL mode with `synchronous=FULL`, so what was committed survives a power loss. Exactly one
//! process may use it; a lock file beside it says so, and the system drops the lock when the process ends,
//! however it ends.

mod acts;
mod behind;
mod breaker;
mod checkpoint;
mod counts;
mod history;
mod incidents;
mod look;
mod outbox;

use std::cmp::Ordering;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::threads::Gone;
use jiff::Timestamp;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

pub use acts::{ActFilter, ActRecord, ActState, Hold, LedgerLine, Watch};
pub use behind::Committing;
pub use breaker::{Finished, Requested, Step, TripRequest};
pub use checkpoint::{Checkpoint, Loaded, Position, Rereading};
pub use history::{HistoryReader, Keep, append as append_history};
pub use incidents::{Incident, IncidentFilter, Noted, Pipeline};
pub use look::Look;
pub use outbox::{
    Delivery, DeliveryFilter, DeliveryState, GivenUp, Leased, NewNotice, Queue, Settled, Shape,
    Work as LeasedWork,
};

/// Schema changes in order. Never edit one that was released; add another.
const MIGRATIONS: [&str; 7] = [
    include_str!("../../migrations/0001_tail.sql"),
    include_str!("../../migrations/0002_history.sql"),
    include_str!("../../migrations/0003_incidents.sql"),
    include_str!("../../migrations/0004_outbox.sql"),
    include_str!("../../migrations/0005_breaker.sql"),
    include_str!("../../migrations/0006_urgent.sql"),
    include_str!("../../migrations/0007_changes.sql"),
];

/// Marks the file as ours: "tokm".
const APPLICATION_ID: i64 = 0x746f_6b6d;

/// Backups and people with `sqlite3` may hold a lock for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements that stay prepared. All loops share the connection, and a commit of the tailer alone has some sixteen.
const STATEMENTS: usize = 96;

/// Why monitor.db cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error(
        "{0} is in use by another token-monitor; stop that one, or set MONITOR_DATABASE_URL to another file"
    )]
    InUse(PathBuf),
    /// A newer program wrote it.
    #[error(
        "{path} was written by a newer token-monitor (schema {found}, this one knows {known}); use that version, or set MONITOR_DATABASE_URL to another file"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: usize,
    },
    /// It is damaged.
    #[error(
        "{path} is damaged ({reason}); it was left as it is: restore a backup, or move it away to count again from the log"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        reason: String,
    },
    /// It is a SQLite file of another program.
    #[error("{0} is a database of another program; set MONITOR_DATABASE_URL to a file of our own")]
    Foreign(PathBuf),
    /// It cannot be opened or made.
    #[error("{path} cannot be opened: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// A statement failed while running.
    #[error("monitor.db: {0}")]
    Sql(#[from] rusqlite::Error),
    /// A value in it is not what it must be.
    #[error("monitor.db: {0}")]
    Damaged(String),
    /// Whoever was to write it is gone.
    #[error("monitor.db: {0}")]
    Gone(#[from] Gone),
}

/// Pages of the write-ahead log after which a commit brings it into the file: SQLite's own choice, and so many that a long
/// catch-up does so seldom.
const CHECKPOINT_PAGES: i64 = 1000;
const SELDOM_CHECKPOINT_PAGES: i64 = 16_000;

/// The write-ahead log is cut to this length in bytes when nothing of it is needed.
const LONGEST_IDLE_WAL: i64 = 8 * 1024 * 1024;

/// The open file. Cheap to clone; clones share one connection. All calls block: use a blocking thread.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    readers: Arc<history::Readers>,
    path: PathBuf,
    /// None beside another process that has it.
    lock: Option<Arc<Lock>>,
}

impl Store {
    /// Opens the file, or makes it with its folders.
    ///
    /// # Errors
    /// Each in words that say what to do; the file is never replaced.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| unusable(error.to_string()))?;
        }
        let lock = lock(path)?;
        let mut connection = Connection::open(path).map_err(|error| unusable(error.to_string()))?;
        prepare(&mut connection, path)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            readers: Arc::new(history::Readers::new(path)),
            path: path.to_owned(),
            lock: Some(Arc::new(lock)),
        })
    }

    /// Opens the file for small changes beside a monitor that may be running: its tables are taken as they are, and
    /// only SQLite's own locks keep the two apart.
    ///
    /// # Errors
    /// If there is no such file, or if it is not one of this version of ours.
    pub fn open_beside(path: &Path) -> Result<Self, StoreError> {
        let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| unusable(error.to_string()))?;
        let number = |name: &str| {
            let value = connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            value.map_err(|error| unusable(error.to_string()))
        };
        connection.busy_timeout(BUSY_TIMEOUT)?;
        if number("application_id")? != APPLICATION_ID {
            return Err(StoreError::Foreign(path.to_owned()));
        }
        let (found, known) = (number("user_version")?, MIGRATIONS.len());
        match usize::try_from(found).unwrap_or(usize::MAX).cmp(&known) {
            Ordering::Less => Err(unusable("it is of an older version; start the monitor once".to_owned())),
            Ordering::Greater => Err(StoreError::Newer { path: path.to_owned(), found, known }),
            Ordering::Equal => Ok(Self {
                connection: Arc::new(Mutex::new(connection)),
                readers: Arc::new(history::Readers::new(path)),
                path: path.to_owned(),
                lock: None,
            }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nobody else in this process has it.
    pub fn is_last(&self) -> bool {
        self.lock.as_ref().is_none_or(|lock| Arc::strong_count(lock) == 1)
    }

    /// Brings all that was committed into the file itself, as far as nobody reads what was there before, and has
    /// commits do so again as often as SQLite would. By itself it does so when the writer's connection is the last to be
    /// closed.
    ///
    /// # Errors
    /// If the file cannot be written; nothing is lost then.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.connection().pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        self.bring_in()
    }

    fn bring_in(&self) -> Result<(), StoreError> {
        self.connection().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Does several things at once or not at all: what `work` writes is there when this returns.
    ///
    /// # Errors
    /// Those of `work`, and of the commit; nothing is written then.
    pub fn write<T>(
        &self,
        work: impl FnOnce(&Writing<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connection();
        // A catch-up commits otherwise; what somebody is promised must outlive a power cut.
        checkpoint::durability(&connection, true)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&Writing { transaction: &transaction })?;
        transaction.commit()?;
        Ok(done)
    }

    /// Makes the connection behave as on a disk that is full, or on one that cannot be written.
    ///
    /// # Panics
    /// If there is no such pragma.
    #[cfg(test)]
    pub(crate) fn pretend(&self, pragma: &str, value: i64) {
        let done = self.connection().pragma_update_and_check(None, pragma, value, |_| Ok(()));
        assert!(matches!(done, Ok(()) | Err(rusqlite::Error::QueryReturnedNoRows)), "{done:?}");
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolls it back, so the connection stays good.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From when to when something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first instant.
    pub from: Timestamp,
    /// The first one that does not belong to it; None if there is no end.
    pub to: Option<Timestamp>,
}

impl Default for Span {
    /// All times.
    fn default() -> Self {
        Self { from: Timestamp::MIN, to: None }
    }
}

impl Span {
    /// Its bounds in the database's milliseconds, the second one exclusive.
    fn milliseconds(self) -> (i64, i64) {
        (self.from.as_millisecond(), self.to.map_or(i64::MAX, Timestamp::as_millisecond))
    }
}

/// A transaction under way. What can be written in one stands with what it writes.
#[derive(Debug)]
pub struct Writing<'a> {
    transaction: &'a Transaction<'a>,
}

/// What keeps other processes out. Given back in words and not only by closing the file: a child that this process is
/// just starting has a copy of the handle until it runs a program of its own.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // If it fails, closing the file does the same.
        let _ = self.0.unlock();
    }
}

/// Takes the lock that keeps other processes out. It is a file of its own because SQLite drops every lock that
/// a process has on its files when any handle to them is closed.
fn lock(path: &Path) -> Result<Lock, StoreError> {
    let name = lock_path(path);
    let unusable = |error: std::io::Error| StoreError::Unusable {
        path: path.to_owned(),
        reason: format!("{}: {error}", name.display()),
    };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn lock_path(path: &Path) -> PathBuf {
    // Two names of one file are one file.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut name = real.into_os_string();
    name.push(".lock");
    name.into()
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let explain = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { path: path.to_owned(), reason: error.to_string() }
        }
        _ => StoreError::Unusable { path: path.to_owned(), reason: error.to_string() },
    };
    connection.busy_timeout(BUSY_TIMEOUT).map_err(explain)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) =
        (number("application_id").map_err(explain)?, number("user_version").map_err(explain)?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(explain)?;
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, known: MIGRATIONS.len() });
    }
    check(connection, path)?;
    connection.pragma_update(None, "journal_mode", "wal").map_err(explain)?;
    connection.pragma_update(None, "synchronous", "full").map_err(explain)?;
    connection.pragma_update(None, "journal_size_limit", LONGEST_IDLE_WAL).map_err(explain)?;
    let transaction = connection.transaction().map_err(explain)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(explain)?;
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration).map_err(explain)?;
    }
    let version = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    transaction.pragma_update(None, "user_version", version).map_err(explain)?;
    transaction.commit().map_err(explain)
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let verdict: Result<String, _> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    let corrupt = |reason: String| StoreError::Corrupt { path: path.to_owned(), reason };
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(verdict) => Err(corrupt(verdict)),
        Err(error) => Err(corrupt(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
