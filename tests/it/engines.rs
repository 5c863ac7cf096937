//! The same story on every engine and with the tables of every version: what the page shows is what the rows sum to.

use std::sync::LazyLock;

use token_monitor::config::Flags;
use token_monitor::demo::world::{CHANNELS, GROUPS, MODELS};
use token_monitor::demo::{self, routes};

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, Samples, flags, now};
use crate::tally::{agrees, agrees_at_once, by_hand, nullable_columns};

/// Rows that come while the monitor runs.
const LIVE: usize = 400;

/// A few thousand rows of the last hours, of every kind that the demo knows; at night it makes half as many as by day.
static ROWS: LazyLock<Vec<LogRow>> = LazyLock::new(|| {
    let (from, to) = (now() - 8 * 3600, now() - 60);
    demo::history(7, from, to, 0.15).map(log_row).collect()
});

/// A row of the demo as it is inserted.
pub fn log_row(row: demo::Row) -> LogRow {
    LogRow {
        user_id: row.user_id,
        created_at: row.created_at,
        kind: row.kind,
        content: row.content.into(),
        username: row.username.into(),
        token_name: row.token_name.into(),
        model_name: row.model_name.into(),
        quota: row.quota,
        prompt_tokens: row.prompt_tokens,
        completion_tokens: row.completion_tokens,
        use_time: row.use_time,
        // One API measures milliseconds.
        elapsed_ms: Some(row.use_time * 1000 + row.quota % 1000),
        is_stream: row.is_stream,
        channel_id: row.channel_id,
        channel_name: row.channel_name.map(Into::into),
        token_id: row.token_id,
        group: row.group.into(),
        ip: row.ip.into(),
        request_id: row.request_id.into(),
        upstream_request_id: row.upstream_request_id.into(),
        other: Some(row.other.into()),
        ..LogRow::default()
    }
}

/// Writes the demo's channels and abilities, and the option if there is one.
pub async fn install(database: &Database, quota_per_unit: Option<&str>) {
    let engine = database.engine;
    let (group, key) = (engine.identifier("group"), engine.identifier("key"));
    for channel in &CHANNELS {
        let (id, text) = (channel.id, |text: &str| engine.literal(text));
        let (name, models, groups) = (text(channel.name), text(channel.models), text(channel.groups));
        let insert = format!(
            "INSERT INTO channels (id, type, {key}, status, name, models, {group}, balance, \
             balance_updated_time, used_quota, response_time, test_time) VALUES ({id}, {}, 'secret', {}, \
             {name}, {models}, {groups}, {}, 0, {}, {}, {})",
            channel.kind,
            channel.status,
            channel.balance,
            id * 1_000_000,
            id * 250,
            // The first was never tested.
            (id - 1) * 1000,
        );
        database.exec(&insert).await;
    }
    for ability in routes::abilities() {
        let channel = &CHANNELS[ability.channel];
        let insert = format!(
            "INSERT INTO abilities ({group}, model, channel_id, enabled) VALUES ({}, {}, {}, {})",
            engine.literal(GROUPS[ability.group].0),
            engine.literal(MODELS[ability.model].name),
            channel.id,
            engine.boolean(channel.status == 1),
        );
        database.exec(&insert).await;
    }
    if let Some(value) = quota_per_unit {
        database
            .exec(&format!("INSERT INTO options ({key}, value) VALUES ('QuotaPerUnit', '{value}')"))
            .await;
    }
}

/// Rows that lack one value each, and one that lacks all.
async fn insert_rows_with_nulls(logs: &Database) {
    let columns = nullable_columns(logs.version, logs.engine);
    let first = logs.query_i64("SELECT max(id) FROM logs").await + 1;
    let nothing = vec![format!("{} = NULL", columns.join(" = NULL, "))];
    let one_each = columns.iter().map(|column| format!("{column} = NULL"));
    for (id, nulls) in (first..).zip(one_each.chain(nothing)) {
        let row = LogRow { id: Some(id), created_at: now(), is_stream: true, ..LogRow::default() };
        let insert = LogRow::insert(&[row], logs.engine, logs.version);
        // In one transaction, or the row would be read before it has its NULL.
        logs.exec(&format!("BEGIN; {insert}; UPDATE logs SET {nulls} WHERE id = {id}; COMMIT")).await;
    }
}

/// A history, and then rows that come while it runs: all shown in full.
async fn follows(engine: Engine, version: Version, quota_per_unit: Option<&str>) {
    let what = format!("{engine:?} {version:?}");
    let (database, folder) = (Database::create(engine, version).await, Folder::new());
    install(&database, quota_per_unit).await;
    let (past, live) = ROWS.split_at(ROWS.len() - LIVE);
    assert!(past.len() > 2000, "{} rows", past.len());
    database.insert_logs(past).await;
    let wanted = by_hand(&database, &database, &[]).await;

    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    agrees_at_once(&monitor.page(), &format!("{what}, the history"), &wanted).await;
    for rows in live.chunks(LIVE / 4) {
        database.insert_logs(rows).await;
    }
    insert_rows_with_nulls(&database).await;
    let wanted = by_hand(&database, &database, &[]).await;
    agrees(&monitor.page(), &format!("{what}, live rows"), &wanted).await;
    check_capabilities(&monitor.page().samples().await, version);
    monitor.stop().await;
}

/// What the log can give is what its columns and rows are.
fn check_capabilities(samples: &Samples, version: Version) {
    let shown = |feature: &str| samples.get(&format!("token_monitor_capability{{feature=\"{feature}\"}}"));
    for feature in ["request_id", "upstream_request_id", "ip", "group", "token_id", "other"] {
        let has = f64::from(u8::from(version.has_column(feature)));
        assert_eq!(shown(feature), Some(has), "{version:?} {feature}");
    }
    let new_api = f64::from(u8::from(version != Version::OneApi));
    assert_eq!(shown("error_log"), Some(new_api), "{version:?}");
    assert_eq!(shown("stream_status"), Some(new_api), "{version:?}");
}

#[tokio::test]
async fn every_version_on_sqlite_shows_what_its_rows_sum_to() {
    for version in Version::ALL {
        follows(Engine::Sqlite, version, (version == Version::V0_13_2).then_some("250000")).await;
    }
}

#[tokio::test]
async fn every_version_on_mariadb_shows_what_its_rows_sum_to() {
    for version in Version::ALL {
        follows(Engine::MySql, version, None).await;
    }
}

#[tokio::test]
async fn every_version_on_postgres_shows_what_its_rows_sum_to() {
    for version in Version::ALL {
        follows(Engine::Postgres, version, (version == Version::OneApi).then_some("1000000")).await;
    }
}

/// A read ends early when its rows are large; the next one goes on behind them.
#[tokio::test]
async fn rows_of_a_megabyte_are_counted_a_few_at_a_time() {
    for engine in Engine::ALL {
        let (database, folder) = (Database::create(engine, Version::V1_0_0Rc24).await, Folder::new());
        install(&database, None).await;
        let other = format!(r#"{{"note": "{}"}}"#, "x".repeat(1 << 20));
        for row in &ROWS[..20] {
            database.insert_logs(&[LogRow { other: Some(other.clone()), ..row.clone() }]).await;
        }
        let wanted = by_hand(&database, &database, &[]).await;
        let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
        agrees_at_once(&monitor.page(), &format!("{engine:?}, the history"), &wanted).await;
        database.insert_logs(&ROWS[20..40]).await;
        let wanted = by_hand(&database, &database, &[]).await;
        agrees(&monitor.page(), &format!("{engine:?}, live rows"), &wanted).await;
        let samples = monitor.page().samples().await;
        let errors = samples.sum("token_monitor_tail_errors_total", &[]);
        assert_eq!(errors, 0.0, "{engine:?}");
        monitor.stop().await;
    }
}

#[tokio::test]
async fn extra_labels_divide_the_same_sums() {
    let (database, folder) = (Database::create(Engine::Postgres, Version::V1_0_0Rc24).await, Folder::new());
    install(&database, None).await;
    let (past, live) = ROWS.split_at(ROWS.len() - LIVE);
    database.insert_logs(past).await;
    let labels = Some("group,token,user,key".to_owned());
    let flags = Flags { extra_labels: labels, ..flags(&database.url, &folder.path()) };
    let monitor = Monitor::ready(&flags).await;
    database.insert_logs(live).await;
    let wanted = by_hand(&database, &database, &["group", "token", "user", "key"]).await;
    agrees(&monitor.page(), "by group, token, user and key", &wanted).await;
    monitor.stop().await;
}

/// With `LOG_SQL_DSN` new-api leaves an old `logs` in its main database.
#[tokio::test]
async fn a_log_database_of_its_own_is_followed_and_the_stale_log_is_not() {
    for (main, logs) in [(Engine::MySql, Engine::Postgres), (Engine::Sqlite, Engine::MySql)] {
        let main = Database::create(main, Version::V1_0_0Rc24).await;
        let logs = Database::create(logs, Version::V1_0_0Rc24).await;
        install(&main, Some("250000")).await;
        // What must not be used: rows in the one, channels and options in the other.
        main.insert_logs(&ROWS[..500]).await;
        let (key, models) = (logs.engine.identifier("key"), "models");
        logs.exec(&format!("INSERT INTO channels (id, {key}, name, {models}) VALUES (1, '', 'stale', 'x')"))
            .await;
        logs.exec(&format!("INSERT INTO options ({key}, value) VALUES ('QuotaPerUnit', '7')")).await;
        logs.insert_logs(&ROWS[500..1500]).await;

        let folder = Folder::new();
        let flags = Flags { log_database_url: Some(logs.url.clone()), ..flags(&main.url, &folder.path()) };
        let monitor = Monitor::ready(&flags).await;
        agrees_at_once(&monitor.page(), "the history", &by_hand(&main, &logs, &[]).await).await;
        main.insert_logs(&ROWS[1500..1600]).await;
        logs.insert_logs(&ROWS[1600..1700]).await;
        agrees(&monitor.page(), "live rows", &by_hand(&main, &logs, &[]).await).await;
        monitor.stop().await;
    }
}

#[tokio::test]
async fn channels_and_abilities_are_shown_as_they_are() {
    for engine in Engine::ALL {
        for version in Version::ALL {
            let (database, folder) = (Database::create(engine, version).await, Folder::new());
            install(&database, None).await;
            let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
            let samples = monitor.page().samples().await;
            check_channels(&samples);
            check_abilities(&samples, &database).await;
            monitor.stop().await;
        }
    }
}

#[tokio::test]
async fn of_too_many_groups_and_models_those_without_a_channel_are_shown_first_and_the_rest_is_summed() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    for number in 0..20 {
        // The last one, by any order but that of need.
        let enabled = u8::from(number != 19);
        let insert = format!("('default', 'model-{number:02}', 1, {enabled})");
        let columns = "`group`, model, channel_id, enabled";
        database.exec(&format!("INSERT INTO abilities ({columns}) VALUES {insert}")).await;
    }
    let flags = Flags { max_series: Some("5".into()), ..flags(&database.url, &folder.path()) };
    let monitor = Monitor::ready(&flags).await;
    let samples = monitor.page().samples().await;
    let (name, other) = ("newapi_model_enabled_channels", "group=\"_other\",model=\"_other\"");
    assert_eq!(samples.count(name), 6);
    assert_eq!(samples.get(&format!("{name}{{group=\"default\",model=\"model-19\"}}")), Some(0.0));
    assert_eq!(samples.get(&format!("{name}{{{other}}}")), Some(15.0));
    assert_eq!(samples.sum(name, &[]), 19.0);
    monitor.stop().await;
}

fn check_channels(samples: &Samples) {
    assert_eq!(samples.count("newapi_channel_info"), CHANNELS.len());
    for channel in &CHANNELS {
        let label = [format!("channel_id=\"{}\"", channel.id), format!("channel_name=\"{}\"", channel.name)];
        let labels: Vec<&str> = label.iter().map(String::as_str).collect();
        let id = f64::from(i32::try_from(channel.id).expect("a small id"));
        let tested = f64::from(u8::from(channel.id > 1));
        for (metric, value) in [
            ("newapi_channel_info", 1.0),
            ("newapi_channel_balance_usd", channel.balance),
            ("newapi_channel_used_quota", id * 1e6),
            ("newapi_channel_response_time_seconds", id * 0.25 * tested),
            ("newapi_channel_test_timestamp_seconds", (id - 1.0) * 1000.0),
        ] {
            let shown = samples.sum(metric, &labels);
            assert!((shown - value).abs() < 1e-9, "{metric} of {label:?} is {shown}, not {value}");
        }
        for (status, name) in [(1, "enabled"), (2, "manually_disabled"), (3, "auto_disabled")] {
            let status_label = format!("status=\"{name}\"");
            let labels = [labels[0], labels[1], &status_label];
            let wanted = f64::from(u8::from(channel.status == status));
            assert!((samples.sum("newapi_channel_status", &labels) - wanted).abs() < 1e-9, "{labels:?}");
        }
    }
}

async fn check_abilities(samples: &Samples, database: &Database) {
    let group = database.engine.identifier("group");
    let sql = format!(
        "SELECT {group}, model, sum(CASE WHEN enabled THEN 1 ELSE 0 END) FROM abilities GROUP BY {group}, model"
    );
    let rows = database.rows(&sql).await;
    assert_eq!(samples.count("newapi_model_enabled_channels"), rows.len());
    for row in rows {
        let cell = |at: usize| row[at].clone().expect("a value");
        let series = format!("newapi_model_enabled_channels{{group=\"{}\",model=\"{}\"}}", cell(0), cell(1));
        assert_eq!(samples.get(&series), cell(2).parse().ok(), "{series}");
    }
}
