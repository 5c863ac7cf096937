//! `token-monitor check`: looks at everything that the configuration names, changes nothing, one line per
//! finding.

use std::process::ExitCode;

use crate::cli;
use crate::config::{Config, Flags, Settings};
use crate::newapi::dsn::Engine;
use crate::newapi::logs::is_one_api;
use crate::newapi::{Database, Directory, LogReader, ReadError};
use crate::store::Store;

/// Collects findings as they are printed.
#[derive(Debug, Default)]
struct Report {
    failures: usize,
}

impl Report {
    #[expect(clippy::unused_self, reason = "findings are reported in one way, whether they count or not")]
    fn ok(&mut self, what: &str, detail: impl AsRef<str>) {
        println!("ok    {what}: {}", detail.as_ref());
    }

    #[expect(clippy::unused_self, reason = "findings are reported in one way, whether they count or not")]
    fn warn(&mut self, what: &str, detail: impl AsRef<str>) {
        println!("warn  {what}: {}", detail.as_ref());
    }

    fn fail(&mut self, what: &str, detail: impl AsRef<str>) {
        self.failures += 1;
        println!("fail  {what}: {}", detail.as_ref());
    }
}

/// Checks and prints. Exit 0 only if all is well, 1 if something is not, 2 for a wrong configuration.
pub async fn run(flags: &Flags) -> ExitCode {
    let config = match Settings::from_flags(flags).and_then(|settings| Config::resolve(&settings)) {
        Ok(config) => config,
        Err(problems) => return cli::refuse(&problems),
    };
    let mut report = Report::default();
    report.ok("configuration", "every value is understood");
    check_monitor(&config, &mut report).await;

    let main = Database::new(&config.database);
    check_main(&main, &mut report).await;
    let log = config.log_database.as_ref().map_or_else(|| main.clone(), Database::new);
    check_log(&log, &mut report).await;
    main.close().await;
    log.close().await;
    if report.failures == 0 {
        println!("all is well");
        ExitCode::SUCCESS
    } else {
        println!("{} of the above must be mended", report.failures);
        ExitCode::FAILURE
    }
}

async fn check_monitor(config: &Config, report: &mut Report) {
    let path = config.monitor_database.clone();
    let shown = path.display().to_string();
    if !path.exists() {
        report.ok("monitor.db", format!("{shown} will be made at the first start"));
        return;
    }
    match tokio::task::spawn_blocking(move || Store::open(&path)).await {
        Ok(Ok(_)) => report.ok("monitor.db", shown),
        Ok(Err(error @ crate::store::StoreError::InUse(_))) => {
            report.warn("monitor.db", format!("{error} (fine if that is the monitor you run)"));
        }
        Ok(Err(error)) => report.fail("monitor.db", error.to_string()),
        Err(error) => report.fail("monitor.db", error.to_string()),
    }
}

async fn check_main(database: &Database, report: &mut Report) {
    match Directory::read(database).await {
        Ok(directory) => {
            let (channels, models) = (directory.channels.len(), directory.models.len());
            let unit = directory.quota_per_unit;
            report.ok(
                "main database",
                format!(
                    "{}: {channels} channels, {models} models, {unit} quota per US dollar",
                    database.address()
                ),
            );
            check_rights(database, "main database", report).await;
        }
        Err(error) => report.fail("main database", explain(database, &error)),
    }
}

async fn check_log(database: &Database, report: &mut Report) {
    let reader = match LogReader::discover(database.clone()).await {
        Ok(reader) => reader,
        Err(error) => return report.fail("log database", explain(database, &error)),
    };
    match reader.last_id().await {
        Ok(last) => {
            let kind = if is_one_api(reader.columns()) { "One API" } else { "new-api" };
            let rows = last.map_or("no rows yet".to_owned(), |id| format!("rows up to id {id}"));
            report.ok("log database", format!("{}: {kind}'s log, {rows}", database.address()));
        }
        Err(error) => return report.fail("log database", explain(database, &error)),
    }
    for (column, loses) in [
        ("request_id", "attempts of one request cannot be told together"),
        ("other", "cached tokens, time to first token and stream outcomes are unknown"),
        ("is_stream", "streams cannot be told from other requests"),
    ] {
        if !reader.columns().has(column) {
            report.warn("log database", format!("this version has no column {column}: {loses}"));
        }
    }
    check_rights(database, "log database", report).await;
}

/// A user that may write is no failure: the session is read only anyway.
async fn check_rights(database: &Database, what: &str, report: &mut Report) {
    match (database.engine(), database.may_write().await) {
        (Engine::Sqlite, _) => report.ok(what, "opened read only, without locks that new-api could wait for"),
        (_, Ok(false)) => report.ok(what, "the user may only read"),
        (_, Ok(true)) => {
            report.warn(
                what,
                "the user may write; reading is all that is needed, so a user with SELECT alone is safer",
            );
        }
        (_, Err(error)) => report.warn(what, format!("the user's rights cannot be read: {error}")),
    }
}

fn explain(database: &Database, error: &ReadError) -> String {
    format!("{}: {error}", database.address())
}
