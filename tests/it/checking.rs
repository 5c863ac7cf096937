//! `token-monitor check`: one line per finding, and nothing is changed.

use token_monitor::config::Flags;

use crate::ledger::traffic;
use crate::process::{Ended, run_with, small};
use crate::schema::Version;
use crate::servers::{Database, Engine, free_port};
use crate::support::{Folder, Process, flags};

const VERSION: Version = Version::V1_0_0Rc24;

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_nothing_wrong_with_good_databases() {
    for engine in Engine::ALL {
        let (database, folder) = (Database::create(engine, VERSION).await, Folder::new());
        database.insert_logs(&traffic(0, 20)).await;
        let checked = run_with(&flags(&database.url, &folder.path()), &["check"]).await;
        assert_eq!(checked.code, 0, "{engine:?}: {}", checked.printed);
        for finding in
            ["ok    configuration: ", "ok    monitor.db: ", "ok    main database: ", "ok    log database: "]
        {
            assert!(checked.printed.contains(finding), "{engine:?} {finding}: {}", checked.printed);
        }
        // An administrator's rights are more than it needs.
        assert_eq!(checked.printed.contains("warn"), engine != Engine::Sqlite, "{}", checked.printed);
        assert!(!folder.path().join("monitor.db").exists(), "checking has changed something");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_looks_at_an_older_monitor_db_and_changes_nothing_of_it() {
    let (_database, folder, flags) = small().await;
    let path = folder.path().join("monitor.db");
    let older = rusqlite::Connection::open(&path).expect("a new file");
    for (number, migration) in (1..).zip([
        include_str!("../../migrations/0001_tail.sql"),
        include_str!("../../migrations/0002_history.sql"),
    ]) {
        older.execute_batch(migration).expect("a migration");
        older.pragma_update(None, "user_version", number).expect("its number");
    }
    older.pragma_update(None, "application_id", 0x746f_6b6d).expect("our mark");
    older.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).expect("as we keep it");
    drop(older);
    let limits = folder.path().join("limits.yml");
    std::fs::write(&limits, "limits: [{name: all, measure: requests, max: 5, window: day}]").expect("limits");
    let flags = Flags { limits_file: Some(limits.display().to_string()), ..flags };
    let before = std::fs::read(&path).expect("the file");
    let checked = run_with(&flags, &["check"]).await;
    assert_eq!(checked.code, 0, "{}", checked.printed);
    let says = "will be migrated at the next start, from schema 2 to ";
    assert!(checked.printed.contains(says), "{}", checked.printed);
    assert!(std::fs::read(&path).expect("the file") == before, "checking has changed monitor.db");
    assert!(!folder.path().join("monitor.db.lock").exists(), "checking has made a file");
    Process::spawn(&flags).page().wait_ready().await;
    let checked = run_with(&flags, &["check"]).await;
    assert!(!checked.printed.contains("will be migrated"), "{}", checked.printed);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_wrong_and_fails() {
    let (database, folder, flags) = small().await;
    let port = free_port();
    let nobody = format!("mysql://user:s3cr3t@127.0.0.1:{port}/new-api");
    let away = Flags { log_database_url: Some(nobody), ..flags.clone() };
    one_failure(&run_with(&away, &["check"]).await, "log database");

    database.exec("ALTER TABLE channels RENAME TO hidden").await;
    one_failure(&run_with(&flags, &["check"]).await, "main database");
    database.exec("ALTER TABLE hidden RENAME TO channels").await;
    database.exec("ALTER TABLE logs RENAME COLUMN created_at TO made_at").await;
    one_failure(&run_with(&flags, &["check"]).await, "log database");
    database.exec("ALTER TABLE logs RENAME COLUMN made_at TO created_at").await;

    std::fs::write(folder.path().join("monitor.db"), "notes").expect("a file that is no database");
    one_failure(&run_with(&flags, &["check"]).await, "monitor.db");

    let wrong = Flags { max_series: Some("many".to_owned()), ..flags };
    let ended = run_with(&wrong, &["check"]).await;
    assert_eq!(ended.code, 2, "{}", ended.printed);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_the_monitor_name_in_the_same_words_whose_windows_begin_before_what_was_read() {
    let (_database, folder, flags) = small().await;
    let first = Process::spawn(&Flags { history: Some("2h".to_owned()), ..flags.clone() });
    first.page().wait_ready().await;
    first.kill();
    // HISTORY is longer now, but what is older is not read afterwards.
    let limits = folder.path().join("limits.yml");
    let text = "limits:\n  - {name: brief, measure: requests, max: 5, window: 1h}\n  \
                - {name: long, measure: requests, max: 5, window: 7d}\n";
    std::fs::write(&limits, text).expect("limits");
    let flags = Flags { limits_file: Some(limits.display().to_string()), ..flags };
    let words = "windows begin before what was read of the log, so they hold less than was used";

    let checked = run_with(&flags, &["check"]).await;
    assert_eq!(checked.code, 0, "{}", checked.printed);
    let line = format!("warn  limits: long: {words}; it was read from ");
    assert!(checked.printed.contains(&line), "{}", checked.printed);
    let monitor = Process::spawn(&flags);
    monitor.prints(words).await;
    let said = monitor.printed();
    let line = said.lines().find(|line| line.contains(words)).expect("the line");
    assert!(line.contains("long") && !line.contains("brief"), "{line}");

    // With what was read, all windows are whole.
    std::fs::write(&limits, text.replace("7d", "1h")).expect("limits");
    let checked = run_with(&flags, &["check"]).await;
    assert!(!checked.printed.contains(words), "{}", checked.printed);
}

/// Code 1, and exactly one finding, about `what`.
fn one_failure(ended: &Ended, what: &str) {
    assert_eq!(ended.code, 1, "{}", ended.printed);
    let failures: Vec<&str> = ended.printed.lines().filter(|line| line.starts_with("fail")).collect();
    assert!(failures.len() == 1 && failures[0].contains(what), "{what}: {}", ended.printed);
    assert!(!ended.printed.contains("s3cr3t"), "{}", ended.printed);
    let findings = ["ok  ", "warn", "fail"];
    let rest = ended.printed.lines().filter(|line| !findings.iter().any(|word| line.starts_with(word)));
    assert_eq!(rest.count(), 1, "more than findings and a summary: {}", ended.printed);
}
