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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Null, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::database::{ReadError, Reason};
use super::query::{Param, Query, Rows};
use crate::threads::{Gone, Threads};

/// How often a read is tried while a writer is at work, and the pause before each further try.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(15);

/// In WAL mode only a checkpoint or recovery can make a reader wait.
const WAL_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages that a connection keeps. Rows are read once and in order, so more of them only take room from others in the
/// processor's cache; the system keeps them as well.
const CACHE_PAGES: i64 = 100;

/// An SQL function of ours, which takes a row while SQLite has its columns at hand. To ask for them when the row is there, one
/// after the other, is a third of what reading costs.
pub(super) const TAKE: &str = "token_monitor_take";

/// First bytes of a rollback journal that is in use; PERSIST mode overwrites them with zeros.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// A SQLite database on disk. Cheap to clone; clones share one connection, on a thread of its own.
#[derive(Debug, Clone)]
pub struct SqliteFile {
    /// None if there could be none.
    thread: Option<Threads<Handles>>,
}

/// What is kept open. Descriptors of a file that is still there are not closed: with one, POSIX drops all locks that other
/// parts of this process have on the file, as the stand-in of `demo` has.
#[derive(Debug)]
struct Handles {
    path: PathBuf,
    file: Option<((u64, u64), File)>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    taking: Arc<Mutex<Taking>>,
    identity: (u64, u64),
    wal: bool,
}

/// What [`TAKE`] takes rows into.
#[derive(Debug, Default)]
struct Taking {
    rows: Rows,
    /// The row that will be given out next was not taken yet.
    awaited: bool,
    /// A row was to be taken that is not the next: SQLite sorts them before it gives them out.
    astray: bool,
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
        let thread = Threads::start("sqlite", [Handles { path: path.to_owned(), file: None, open: None }]);
        if let Err(error) = &thread {
            tracing::error!("there is no thread to read {} with: {error}", path.display());
        }
        Self { thread: thread.ok() }
    }

    /// Reads rows, in the memory of `spare`, and has its thread make of them what is wanted.
    ///
    /// # Errors
    /// [`Reason::Busy`] if writers left no quiet moment.
    pub async fn read<T: Send + 'static>(
        &self,
        query: Query,
        spare: Rows,
        then: impl FnOnce(Rows) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let spare = Cell::new(spare);
        let work = move |open: &Open| {
            let rows = Rows::reuse(&query, spare.take());
            match &query.taking {
                Some(sql) => match open.take(sql, &query, rows)? {
                    Some(rows) => Ok(rows),
                    None => open.ask(&query, Rows::reuse(&query, Rows::default())),
                },
                None => open.ask(&query, rows),
            }
        };
        self.on_its_thread(move |handles| handles.read(work).map(then)).await
    }

    /// Names of the result columns of `sql`.
    ///
    /// # Errors
    /// As for [`SqliteFile::read`].
    pub async fn columns(&self, sql: String) -> Result<Vec<String>, ReadError> {
        let work = move |open: &Open| {
            let statement = open.connection.prepare(&sql)?;
            Ok(statement.column_names().into_iter().map(str::to_owned).collect())
        };
        self.on_its_thread(move |handles| handles.read(work)).await
    }

    async fn on_its_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Handles) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let gone = |gone: Gone| ReadError::new(Reason::Query, gone.to_string());
        let thread = self.thread.as_ref().ok_or_else(|| gone(Gone))?;
        thread.ask(work).await.map_err(gone)?
    }
}

impl Handles {
    /// Runs `work` until no writer has disturbed it.
    fn read<T>(&mut self, work: impl Fn(&Open) -> rusqlite::Result<T>) -> Result<T, ReadError> {
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            let before = self.stamp()?;
            if !before.wal && self.journal_is_hot() {
                continue;
            }
            let known = self.open.take();
            let known = known.filter(|open| (open.identity, open.wal) == (before.identity, before.wal));
            let (result, open) = match known.map_or_else(|| self.connect(&before), Ok) {
                Ok(open) => (work(&open), Some(open)),
                Err(error) => (Err(error), None),
            };
            if !before.wal && (self.journal_is_hot() || self.stamp()? != before) {
                // Its page cache may hold half of a transaction and take it for whole.
                let forgets = |open: &Open| open.connection.execute_batch("PRAGMA shrink_memory").is_ok();
                self.open = open.filter(forgets);
                continue;
            }
            match result {
                Ok(value) => {
                    self.open = open;
                    return Ok(value);
                }
                Err(error) if is_transient(&error) => last = Some(error),
                Err(error) => return Err(self.classify(&error)),
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

    fn connect(&self, stamp: &Stamp) -> rusqlite::Result<Open> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = if stamp.wal {
            Connection::open_with_flags(&self.path, flags)?
        } else {
            Connection::open_with_flags_and_vfs(&self.path, flags, c"unix-none")?
        };
        connection.busy_timeout(WAL_BUSY_TIMEOUT)?;
        connection.pragma_update(None, "cache_size", CACHE_PAGES)?;
        let taking: Arc<Mutex<Taking>> = Arc::default();
        let into = Arc::clone(&taking);
        let take = move |row: &Context<'_>| {
            locked(&into).take(row)?;
            Ok(Null)
        };
        connection.create_scalar_function(TAKE, -1, FunctionFlags::SQLITE_DIRECTONLY, take)?;
        Ok(Open { connection, taking, identity: stamp.identity, wal: stamp.wal })
    }

    fn stamp(&mut self) -> Result<Stamp, ReadError> {
        let Self { path, file, .. } = self;
        let unreachable = |error: std::io::Error| {
            ReadError::new(Reason::Unreachable, format!("{}: {error}", path.display()))
        };
        let metadata = std::fs::metadata(&*path).map_err(unreachable)?;
        let identity = (metadata.dev(), metadata.ino());
        let file = match file.take() {
            Some(known) if known.0 == identity => file.insert(known),
            _ => file.insert((identity, File::open(&*path).map_err(unreachable)?)),
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

impl Open {
    /// Asks for the rows column by column.
    fn ask(&self, query: &Query, mut rows: Rows) -> rusqlite::Result<Rows> {
        let mut statement = self.connection.prepare_cached(&query.sql)?;
        let mut found = statement.query(rusqlite::params_from_iter(&query.params))?;
        while let Some(row) = found.next()? {
            if push_row(&mut rows, |column| row.get_ref(column))? {
                break;
            }
        }
        Ok(rows)
    }

    /// Has [`TAKE`] take them. None if it cannot: it takes rows when SQLite looks at them, so it must give each out before
    /// it looks at the next.
    fn take(&self, sql: &str, query: &Query, rows: Rows) -> rusqlite::Result<Option<Rows>> {
        *locked(&self.taking) = Taking { rows, awaited: true, astray: false };
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = statement.query(rusqlite::params_from_iter(&query.params))?;
        while found.next()?.is_some() {
            let mut taking = locked(&self.taking);
            taking.astray |= taking.awaited;
            if taking.astray || taking.rows.cut {
                break;
            }
            taking.awaited = true;
        }
        let Taking { rows, astray, .. } = std::mem::take(&mut *locked(&self.taking));
        Ok((!astray).then_some(rows))
    }
}

impl Taking {
    fn take(&mut self, row: &Context<'_>) -> rusqlite::Result<()> {
        if std::mem::take(&mut self.awaited) {
            push_row(&mut self.rows, |column| Ok(row.get_raw(column)))?;
        } else {
            self.astray = true;
        }
        Ok(())
    }
}

/// Nothing of it is wrong after a panic: each read begins anew.
fn locked(taking: &Mutex<Taking>) -> MutexGuard<'_, Taking> {
    taking.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Adds a row of these values. True if no further one should be taken.
#[inline]
fn push_row<'a>(
    rows: &mut Rows,
    value: impl Fn(usize) -> rusqlite::Result<ValueRef<'a>>,
) -> rusqlite::Result<bool> {
    let (ints, texts) = rows.shape();
    for column in 0..ints {
        rows.push_int(integer(value(column)?));
    }
    for column in ints..ints + texts {
        push_text(rows, value(column)?);
    }
    Ok(rows.end_row())
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
