//! The file of limits on disk.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::config::LimitsPath;
use crate::limits::file::MAX_BYTES;

/// What a look at the file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// There is none, and none is needed.
    Absent,
    /// Its text.
    Text(String),
    /// It cannot be read.
    Unreadable(String),
}

/// Reads the file. It is read whole each time: editors, `git pull` and mounted files replace it in ways that leave
/// times and sizes as they were.
pub(super) fn look(file: &LimitsPath) -> Look {
    match read(&file.path) {
        Ok(text) => Look::Text(text),
        Err(error) if !file.named && error.kind() == std::io::ErrorKind::NotFound => Look::Absent,
        Err(error) => Look::Unreadable(format!("{}: {error}", file.path.display())),
    }
}

/// The text of a file of limits.
///
/// # Errors
/// If it cannot be read, is no text, or is too long to be one.
pub fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let longest = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    // One byte more, so that a file that is too long is told as such by whoever parses it.
    File::open(path)?.take(longest + 1).read_to_string(&mut text)?;
    Ok(text)
}
