//! Looking at monitor.db without changing anything of it, not even its schema.

use std::cmp::Ordering;
use std::fs::{File, TryLockError};
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{APPLICATION_ID, BUSY_TIMEOUT, Lock, MIGRATIONS, Store, StoreError, check, lock_path};

/// What a look at the file found; what is wrong with it is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is as this version has it.
    Current,
    /// The next start brings it from this schema to that one.
    WillBeMigrated {
        /// Its schema.
        found: i64,
        /// Ours.
        known: usize,
    },
}

impl Store {
    /// Looks at a file that is there.
    ///
    /// # Errors
    /// Why a monitor could not be started with it.
    pub fn look(path: &Path) -> Result<Look, StoreError> {
        let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
        if is_locked(path).map_err(|error| unusable(error.to_string()))? {
            return Err(StoreError::InUse(path.to_owned()));
        }
        // Nothing is written; a monitor will have to.
        File::options().append(true).open(path).map_err(|error| unusable(error.to_string()))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| unusable(error.to_string()))?;
        let explain = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                StoreError::Corrupt { path: path.to_owned(), reason: error.to_string() }
            }
            _ => unusable(error.to_string()),
        };
        connection.busy_timeout(BUSY_TIMEOUT).map_err(explain)?;
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(explain);
        let (application, found) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
        let tables = number("SELECT count(*) FROM sqlite_schema")?;
        if application != APPLICATION_ID && (tables > 0 || application != 0) {
            return Err(StoreError::Foreign(path.to_owned()));
        }
        check(&connection, path)?;
        let known = MIGRATIONS.len();
        match usize::try_from(found).unwrap_or(usize::MAX).cmp(&known) {
            Ordering::Less => Ok(Look::WillBeMigrated { found, known }),
            Ordering::Equal => Ok(Look::Current),
            Ordering::Greater => Err(StoreError::Newer { path: path.to_owned(), found, known }),
        }
    }
}

/// Whether a process has the lock. It is not made where there is none.
fn is_locked(path: &Path) -> std::io::Result<bool> {
    let file = match File::open(lock_path(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => {
            drop(Lock(file));
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
