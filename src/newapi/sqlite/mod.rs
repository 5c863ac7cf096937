//! Reading new-api's SQLite file without ever making new-api wait or fail.
//!
//! new-api keeps its file in rollback-journal mode and opens it without a busy timeout that works, so any lock
//! that a reader holds while it commits makes it lose the row it wanted to write. We therefore take no lock at
//! all: the file is opened with SQLite's own `unix-none` locking, and a read counts only if no writer was at
//! work before or after it, which the rollback journal and the file's change counter tell. Otherwise it is
//! thrown away and done again. In WAL mode readers never block writers, and SQLite's normal way is taken.
//!
//! File format facts: <https://www.sqlite.org/fileformat2.html> sections 1.3 and 3.

use std::cell::Cell;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::Semaphore;

use super::database::{ReadError, Reason};
use super::query::{Param, Query, Rows};

/// How often a read is tried while a writer is at work, and the pause before each further try.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(15);

/// In WAL mode only a checkpoint or recovery can make a reader wait.
const WAL_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// First bytes of a rollback journal that is in use; PERSIST mode overwrites them with zeros.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// A SQLite database on disk. Cheap to clone; clones share one connection.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    handles: Mutex<Handles>,
    /// Those who wait for the connection do so here, and take up no thread.
    turn: Arc<Semaphore>,
}

/// What is kept open. Descriptors of a file that is still there are not closed: with one, POSIX drops all locks that other
/// parts of this process have on the file, as the stand-in of `demo` has.
#[derive(Debug, Default)]
struct Handles {
    file: Option<((u64, u64), File)>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    identity: (u64, u64),
    wal: bool,
}

/// What the file says of its writers.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    identity: (u64, u64),
    change_counter: [u8; 4],
    wal: bool,
}

impl SqliteFile {
    /// Names the file; it is opened at the first read.
    pub fn new(path: &Path) -> Self {
        let (handles, turn) = (Mutex::default(), Arc::new(Semaphore::new(1)));
        Self { shared: Arc::new(Shared { path: path.to_owned(), handles, turn }) }
    }

    /// Reads rows, in the memory of `spare`.
    ///
    /// # Errors
    /// [`Reason::Busy`] if writers left no quiet moment.
    pub async fn read(&self, query: Query, spare: Rows) -> Result<Rows, ReadError> {
        let spare = Cell::new(spare);
        self.on_blocking_thread(move |connection| {
            let mut rows = Rows::reuse(&query, spare.take());
            let mut statement = connection.prepare_cached(&query.sql)?;
            let mut found = statement.query(rusqlite::params_from_iter(&query.params))?;
            while let Some(row) = found.next()? {
                for column in 0..query.ints {
                    rows.push_int(integer(row.get_ref(column)?));
                }
                for column in query.ints..query.ints + query.texts {
                    push_text(&mut rows, row.get_ref(column)?);
                }
                if rows.end_row() {
                    break;
                }
            }
            Ok(rows)
        })
        .await
    }

    /// Names of the result columns of `sql`.
    ///
    /// # Errors
    /// As for [`SqliteFile::read`].
    pub async fn columns(&self, sql: String) -> Result<Vec<String>, ReadError> {
        self.on_blocking_thread(move |connection| {
            let statement = connection.prepare(&sql)?;
            Ok(statement.column_names().into_iter().map(str::to_owned).collect())
        })
        .await
    }

    async fn on_blocking_thread<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let shared = Arc::clone(&self.shared);
        let failed = |error: &dyn std::error::Error| ReadError::new(Reason::Query, error.to_string());
        let turn = Arc::clone(&shared.turn).acquire_owned().await.map_err(|error| failed(&error))?;
        let reading = tokio::task::spawn_blocking(move || {
            let result = shared.read(work);
            // Whoever asked may be gone by now; the thread was at work all the same.
            drop(turn);
            result
        });
        reading.await.unwrap_or_else(|error| Err(failed(&error)))
    }
}

impl Shared {
    /// Runs `work` until no writer has disturbed it.
    fn read<T>(&self, work: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, ReadError> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let Handles { file, open: guard } = &mut *handles;
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            let before = self.stamp(file)?;
            if !before.wal && self.journal_is_hot() {
                continue;
            }
            if guard.as_ref().is_some_and(|open| (open.identity, open.wal) != (before.identity, before.wal)) {
                *guard = None;
            }
            let open = match guard.take() {
                Some(open) => guard.insert(open),
                None => guard.insert(self.connect(&before)?),
            };
            let result = work(&open.connection);
            if !before.wal && (self.journal_is_hot() || self.stamp(file)? != before) {
                // Its page cache may hold half of a transaction and take it for whole.
                if open.connection.execute_batch("PRAGMA shrink_memory").is_err() {
                    *guard = None;
                }
                continue;
            }
            match result {
                Ok(value) => return Ok(value),
                Err(error) if is_transient(&error) => {
                    last = Some(error);
                    *guard = None;
                }
                Err(error) => {
                    *guard = None;
                    return Err(self.classify(&error));
                }
            }
        }
        Err(last.map_or_else(
            || {
                ReadError::new(
                    Reason::Busy,
                    format!("writers left no quiet moment in {}, or one crashed", self.path.display()),
                )
            },
            |error| self.classify(&error),
        ))
    }

    fn connect(&self, stamp: &Stamp) -> Result<Open, ReadError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = if stamp.wal {
            Connection::open_with_flags(&self.path, flags)
        } else {
            Connection::open_with_flags_and_vfs(&self.path, flags, c"unix-none")
        };
        let connection = connection.map_err(|error| self.classify(&error))?;
        connection.busy_timeout(WAL_BUSY_TIMEOUT).map_err(|error| self.classify(&error))?;
        Ok(Open { connection, identity: stamp.identity, wal: stamp.wal })
    }

    fn stamp(&self, file: &mut Option<((u64, u64), File)>) -> Result<Stamp, ReadError> {
        let unreachable = |error: std::io::Error| {
            ReadError::new(Reason::Unreachable, format!("{}: {error}", self.path.display()))
        };
        let metadata = std::fs::metadata(&self.path).map_err(unreachable)?;
        let identity = (metadata.dev(), metadata.ino());
        let file = match file.take() {
            Some(known) if known.0 == identity => file.insert(known),
            _ => file.insert((identity, File::open(&self.path).map_err(unreachable)?)),
        };
        let mut header = [0_u8; 28];
        match file.1.read_exact_at(&mut header, 0) {
            // A file of no length is a database without tables.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            other => other.map_err(unreachable)?,
        }
        let mut change_counter = [0; 4];
        change_counter.copy_from_slice(&header[24..28]);
        Ok(Stamp { identity, change_counter, wal: header[18] == 2 })
    }

    /// Whether a transaction is writing, or one that was cut off waits to be rolled back.
    fn journal_is_hot(&self) -> bool {
        let mut journal = self.path.clone().into_os_string();
        journal.push("-journal");
        let mut magic = [0_u8; 8];
        File::open(journal).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == JOURNAL_MAGIC
    }

    fn classify(&self, error: &rusqlite::Error) -> ReadError {
        let text = error.to_string();
        let reason = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Reason::Busy,
            Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => Reason::Unreachable,
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => Reason::AccessDenied,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Reason::Corrupt,
            _ if text.contains("no such table") => Reason::MissingTable,
            _ if text.contains("no such column") => Reason::MissingColumn,
            _ => Reason::Query,
        };
        ReadError::new(reason, format!("{}: {text}", self.path.display()))
    }
}

/// Whether the failure may come from reading while a writer wrote.
fn is_transient(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::ReadOnly
                | ErrorCode::SchemaChanged
        )
    )
}

impl rusqlite::ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Int(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}

/// SQLite keeps what it is given: a number column may hold a text.
fn integer(value: ValueRef<'_>) -> i64 {
    match value {
        ValueRef::Integer(number) => number,
        #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is wanted")]
        ValueRef::Real(number) => number as i64,
        ValueRef::Text(text) | ValueRef::Blob(text) => match text {
            b"true" => 1,
            _ => std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        },
        ValueRef::Null => 0,
    }
}

fn push_text(rows: &mut Rows, value: ValueRef<'_>) {
    match value {
        ValueRef::Text(text) | ValueRef::Blob(text) => rows.push_text(text),
        ValueRef::Integer(number) => rows.push_text(number.to_string().as_bytes()),
        ValueRef::Real(number) => rows.push_text(number.to_string().as_bytes()),
        ValueRef::Null => rows.push_text(b""),
    }
}

#[cfg(test)]
mod tests;
