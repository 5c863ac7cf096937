//! That monitor.db keeps what it is given, and that files of others are left alone.

use rusqlite::Connection;

use super::*;

fn path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("folder").join("monitor.db")
}

#[test]
fn a_new_file_is_made_with_its_folder_and_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&path(&dir)).unwrap());
    let store = Store::open(&path(&dir)).unwrap();
    let mode: String = store.connection().pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    let synchronous: i64 =
        store.connection().pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[test]
fn a_second_one_on_the_same_file_is_refused_also_by_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&path(&dir)).unwrap();
    let link = dir.path().join("link.db");
    std::os::unix::fs::symlink(path(&dir), &link).unwrap();
    for name in [path(&dir), link] {
        let error = Store::open(&name).unwrap_err();
        assert!(matches!(error, StoreError::InUse(_)), "{error}");
    }
    // A child that is just being started has a copy of all handles.
    let copy = store.lock.as_ref().unwrap().0.try_clone().unwrap();
    drop(store);
    drop(Store::open(&path(&dir)).unwrap());
    drop(copy);
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(&path(&dir)).unwrap());
    Connection::open(path(&dir)).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(path(&dir)).unwrap();
    let error = Store::open(&path(&dir)).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("newer token-monitor"), "{error}");
    assert_eq!(std::fs::read(path(&dir)).unwrap(), before);
}

#[test]
fn a_damaged_file_is_said_to_be_so_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&path(&dir)).unwrap();
    store.save_channel_names(&(0..2_000).map(|id| (id, format!("name {id}"))).collect::<Vec<_>>()).unwrap();
    drop(store);
    let sound = std::fs::read(path(&dir)).unwrap();
    let mut torn = sound.clone();
    let middle = torn.len() / 2;
    torn[middle..middle + 4096].fill(0xa5);
    for damaged in [torn, b"not a database at all, but long enough to be looked at".repeat(40)] {
        std::fs::write(path(&dir), &damaged).unwrap();
        let error = Store::open(&path(&dir)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert_eq!(std::fs::read(path(&dir)).unwrap(), damaged, "the file was touched");
    }
}

#[test]
fn a_database_of_another_program_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one-api.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE logs (id INTEGER)").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Foreign(_)), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let error = Store::open(Path::new("/proc/none/monitor.db")).unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("/proc/none"), "{error}");
}
