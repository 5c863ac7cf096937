//! The file of limits on disk.

use std::fs::File;
use std::io::{ErrorKind, Read};
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
        Err(error) if !file.named && error.kind() == ErrorKind::NotFound => Look::Absent,
        Err(error) => Look::Unreadable(format!("{}: {error}", file.path.display())),
    }
}

/// The text of a file of limits.
///
/// # Errors
/// If it cannot be read, is no text, or is too long to be one.
pub fn read(path: &Path) -> std::io::Result<String> {
    let unfit = |what: &str| std::io::Error::new(ErrorKind::InvalidData, what.to_owned());
    // A pipe would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(unfit("it is not a file"));
    }
    let mut bytes = Vec::new();
    let longest = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(unfit("it is longer than 1 MiB, so it can be no file of limits"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].split(|byte| *byte == b'\n').count();
        unfit(&format!("line {line} is not UTF-8: save the file as UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_told_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("limits.yml");
        let told = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("writing");
            read(&path).map_err(|error| error.to_string())
        };
        assert_eq!(told(b"limits: []\n"), Ok("limits: []\n".to_owned()));
        assert_eq!(
            told(b"limits:\n- name: \xff"),
            Err("line 2 is not UTF-8: save the file as UTF-8".to_owned())
        );
        let long = told("é".repeat(MAX_BYTES).as_bytes()).expect_err("too long");
        assert!(long.contains("longer than 1 MiB"), "{long}");
        assert!(read(folder.path()).is_err());
    }
}
