//! `token-monitor check`: looks at everything that the configuration names, changes nothing, one line per
//! finding.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli;
use crate::clock::Clock;
use crate::config::{BreakerMode, Config, Flags, Settings};
use crate::delivery;
use crate::limits::file::Known;
use crate::limits::{self, Limit, SHORT, short_of};
use crate::meter;
use crate::newapi::admin::AdminError;
use crate::newapi::dsn::Engine;
use crate::newapi::logs::is_one_api;
use crate::newapi::{AdminClient, Database, Directory, LogReader, ReadError};
use crate::store::{HistoryReader, Look, Store, StoreError};

/// Collects findings as they are printed.
#[derive(Debug, Default)]
struct Report {
    failures: usize,
}

impl Report {
    #[expect(clippy::unused_self, reason = "findings are reported in one way, whether they count or not")]
    fn ok(&mut self, what: &str, detail: impl AsRef<str>) {
        say(&format!("ok    {what}: {}", detail.as_ref()));
    }

    #[expect(clippy::unused_self, reason = "findings are reported in one way, whether they count or not")]
    fn warn(&mut self, what: &str, detail: impl AsRef<str>) {
        say(&format!("warn  {what}: {}", detail.as_ref()));
    }

    fn fail(&mut self, what: &str, detail: impl AsRef<str>) {
        self.failures += 1;
        say(&format!("fail  {what}: {}", detail.as_ref()));
    }
}

/// Prints a line. Whoever reads may have seen enough, as `head` has.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Checks and prints; `send` sends a message to each bot. Exit 0 only if all is well, 1 if something is not, 2 for a wrong configuration.
pub async fn run(flags: &Flags, send: bool) -> ExitCode {
    let config = match Settings::from_flags(flags).and_then(|settings| Config::resolve(&settings)) {
        Ok(config) => config,
        Err(problems) => return cli::refuse(&problems),
    };
    let mut report = Report::default();
    report.ok("configuration", "every value is understood");
    let readable = check_monitor(&config, &mut report).await;

    let main = Database::new(&config.database);
    check_main(&main, &mut report).await;
    let log = config.log_database.as_ref().map_or_else(|| main.clone(), Database::new);
    check_log(&log, &mut report).await;
    check_admin(&config, &mut report).await;
    check_limits(&config, &main, readable, &mut report).await;
    check_bots(&config, send, &mut report).await;
    main.close().await;
    log.close().await;
    if report.failures == 0 {
        say("all is well");
        ExitCode::SUCCESS
    } else {
        say(&format!("{} of the above must be mended", report.failures));
        ExitCode::FAILURE
    }
}

/// Whether its tables are there as this version knows them.
async fn check_monitor(config: &Config, report: &mut Report) -> bool {
    let path = config.monitor_database.clone();
    let shown = path.display().to_string();
    if !path.exists() {
        report.ok("monitor.db", format!("{shown} will be made at the first start"));
        return false;
    }
    let mut readable = true;
    match tokio::task::spawn_blocking(move || Store::look(&path)).await {
        Ok(Ok(Look::Current)) => report.ok("monitor.db", shown),
        Ok(Ok(Look::WillBeMigrated { found, known })) => {
            let how = format!("from schema {found} to {known}");
            report.ok("monitor.db", format!("{shown} will be migrated at the next start, {how}"));
            readable = false;
        }
        Ok(Err(error @ StoreError::InUse(_))) => {
            report.warn("monitor.db", format!("{error} (fine if that is the monitor you run)"));
        }
        Ok(Err(error)) => {
            report.fail("monitor.db", error.to_string());
            readable = false;
        }
        Err(error) => {
            report.fail("monitor.db", error.to_string());
            readable = false;
        }
    }
    readable
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

/// Whether the breaker could act, without acting.
async fn check_admin(config: &Config, report: &mut Report) {
    let breaker = &config.breaker;
    let last =
        if breaker.allow_last { "also the last one of a model" } else { "never the last one of a model" };
    let limits = format!("at most {} channels an hour, {last}", breaker.max_per_hour);
    report.ok(
        "breaker",
        match breaker.mode {
            BreakerMode::Off => "off: no channel is ever disabled".to_owned(),
            BreakerMode::DryRun => format!("dry_run: says what it would do; {limits}"),
            BreakerMode::Enforce => format!("enforce; {limits}"),
        },
    );
    let Some(admin) = &config.admin else {
        return report.ok("admin API", "NEW_API_BASE_URL and NEW_API_KEY are not set, so it is not used");
    };
    let address = admin.base_url.origin().ascii_serialization();
    let client = match AdminClient::new(admin.clone()) {
        Ok(client) => client,
        Err(error) => return report.fail("admin API", error.to_string()),
    };
    match client.probe().await {
        Ok(route) => {
            report.ok("admin API", format!("{address}: the key may switch channels, by {}", route.as_str()));
        }
        Err(error @ AdminError::Denied(_)) => report.fail(
            "admin API",
            format!(
                "{address}: {error}; NEW_API_KEY must be the access token of an administrator (new-api: personal settings, \
                 system access token), and NEW_API_USER_ID (now {}) the id of that user",
                admin.user_id
            ),
        ),
        Err(error) => report.fail("admin API", format!("{address}: {error}")),
    }
}

/// The bots: which there are, and with `send` whether they take a message.
async fn check_bots(config: &Config, send: bool, report: &mut Report) {
    let targets = config.delivery.targets();
    if targets.is_empty() {
        return report.ok("messages", "no bot is configured, so nobody is told of alerts");
    }
    if !send {
        for target in targets {
            report.ok(target.as_str(), "is configured; `check --send` sends it a test message");
        }
        return;
    }
    let wording = config.messages.wording(config.language, config.timezone.clone());
    match delivery::try_bots(config.delivery.clone(), &wording, &Clock::system()).await {
        Ok(results) => {
            for (target, result) in results {
                match result {
                    Ok(words) => report.ok(target.as_str(), words),
                    Err(words) => report.fail(target.as_str(), words),
                }
            }
        }
        Err(error) => report.fail("messages", format!("{error:#}")),
    }
}

/// The file of limits, and where each stands by what a monitor has read so far.
async fn check_limits(config: &Config, main: &Database, readable: bool, report: &mut Report) {
    let file = &config.limits;
    let shown = file.path.display();
    let text = match meter::read(&file.path) {
        Ok(text) => text,
        Err(error) if !file.named && error.kind() == std::io::ErrorKind::NotFound => {
            return report.ok("limits", format!("there is no {shown}, so nothing is limited"));
        }
        Err(error) => return report.fail("limits", format!("{shown}: {error}")),
    };
    // Without the channels their names cannot be told right from wrong; that they cannot be read was said above.
    let Ok(directory) = Directory::read(main).await else {
        return report.warn("limits", format!("{shown}: not checked, because the channels cannot be read"));
    };
    let channels = directory.channels.into_iter().map(|(id, channel)| (id, channel.name)).collect();
    let found = match limits::file::parse(&text, &Known { channels: &channels, history: config.tail.history })
    {
        Ok(found) => found,
        Err(mistakes) => {
            for mistake in &mistakes.all {
                report.fail("limits", format!("{shown}: {mistake}"));
            }
            return;
        }
    };
    for warning in &found.warnings {
        report.warn("limits", format!("{shown}: {warning}"));
    }
    report.ok("limits", format!("{shown}: {} limits", found.limits.len()));
    if found.limits.is_empty() {
        return;
    }
    if readable {
        check_standings(config, found.limits, directory.models, report).await;
    } else if !config.monitor_database.exists() {
        let file = config.monitor_database.display();
        let said =
            format!("where they stand is known after the first start, which reads the log into {file}");
        report.ok("limits", said);
    }
}

/// Where limits stand, by the rows that a monitor has read: those up to its newest one.
async fn check_standings(config: &Config, limits: Vec<Limit>, offered: HashSet<String>, report: &mut Report) {
    let (history, meter) = (HistoryReader::of_file(&config.monitor_database), config.meter());
    let now = Clock::system().unix();
    let filled = tokio::task::spawn_blocking(move || {
        let answered = history.answered_models()?;
        let knows = |model: &str| offered.contains(model) || answered.contains(model);
        let (standings, _) = meter::fill(&history, &limits, &meter, now, knows)?;
        Ok::<_, StoreError>((standings, limits, history.newest_at()?, history.known_from()?))
    });
    let (standings, limits, newest, known_from) = match filled.await {
        Ok(Ok(filled)) => filled,
        Ok(Err(error)) => return report.fail("limits", error.to_string()),
        Err(error) => return report.fail("limits", error.to_string()),
    };
    let time = |second: i64| {
        let at = Timestamp::from_second(second).unwrap_or_default();
        at.to_zoned_datetime(config.timezone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
    };
    let read = newest.map_or_else(
        || "no row of the log has been read yet".to_owned(),
        |newest| {
            let age = u64::try_from(now.saturating_sub(newest)).unwrap_or(0);
            let age = humantime::format_duration(Duration::from_secs(age));
            format!("the newest row that was read is of {}, {age} ago", time(newest))
        },
    );
    report.ok("limits", format!("computed at {} from what a monitor has read; {read}", time(now)));
    if let Some(from) = known_from {
        let short = short_of(&limits, &config.timezone, now, from);
        if !short.is_empty() {
            report.warn("limits", format!("{}: {SHORT}; it was read from {}", short.join(", "), time(from)));
        }
    }
    for standing in standings.read() {
        let Some(limit) = limits.get(standing.limit) else { continue };
        let channel = standing.channel_id.map(|id| format!(", channel {id}")).unwrap_or_default();
        let model = standing.model.map(|model| format!(", model {model}")).unwrap_or_default();
        let line = format!(
            "{}{channel}{model}: {} of {} {} in {} ({:.0} %)",
            limit.name,
            rounded(standing.used),
            rounded(standing.max),
            limit.measure.as_str(),
            limit.window.as_str(),
            standing.ratio * 100.0
        );
        if standing.ratio >= 1.0 { report.warn("limit", line) } else { report.ok("limit", line) }
    }
}

/// An amount for people: four digits after the point at most.
fn rounded(amount: f64) -> f64 {
    (amount * 10_000.0).round() / 10_000.0
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
