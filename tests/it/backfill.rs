//! History as `backfill` writes it, loaded by the real promtool into the real Prometheus, which then scrapes the monitor.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use token_monitor::config::Flags;

use crate::ledger::traffic;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine, Prometheus, Proxy};
use crate::support::{Folder, Monitor, Process, command, eventually, flags, free_address, now};

/// An opening quote, a backslash and a line break: what a label must escape.
const ODD: &str = "we\"ird\\n \\ mo\ndel";

/// A model that is first used after the monitor has caught up, and before anybody scrapes it.
const NEW: &str = "brand-new";

/// A log whose quota is worth so much: new-api's own 500,000 to the dollar.
const QUOTA_PER_USD: f64 = 500_000.0;

/// Rows of three days up to `end`: one label set that never rests, one that works a few minutes a day, one that
/// appears in the middle, failures, a refund, and a gateway whose clock is an hour ahead.
fn history(end: i64) -> Vec<LogRow> {
    let mut rows = Vec::new();
    let begin = end - 3 * 24 * 3600;
    for (number, at) in (0_i64..).zip((begin..end).step_by(90)) {
        let usual = LogRow {
            created_at: at,
            use_time: 1 + number % 70,
            quota: 1000 + number % 7,
            is_stream: true,
            other: Some(r#"{"frt":820,"cache_tokens":30}"#.to_owned()),
            ..LogRow::default()
        };
        if number % 960 < 6 {
            rows.push(LogRow { model_name: ODD.to_owned(), ..usual.clone() });
        }
        if at > end - 30 * 3600 {
            rows.push(LogRow { model_name: "newer".to_owned(), channel_id: 2, ..usual.clone() });
        }
        if number % 50 == 0 {
            let other = r#"{"status_code":429,"error_type":"openai_error"}"#.to_owned();
            rows.push(LogRow { kind: 5, other: Some(other), ..usual.clone() });
            rows.push(LogRow { kind: 6, quota: 10, other: None, ..usual.clone() });
        }
        if number % 3 == 0 && at < end - 7200 {
            rows.push(LogRow { created_at: at + 3600, username: "ahead".to_owned(), ..usual.clone() });
        }
        rows.push(usual);
    }
    for at in BURSTS.map(|hours_ago| end - hours_ago * 3600) {
        rows.extend(vec![
            LogRow {
                created_at: at,
                model_name: "now and then".to_owned(),
                ..LogRow::default()
            };
            5
        ]);
        // Of a label set that never rests, but whose other requests were not retried.
        let other = Some(r#"{"admin_info":{"use_channel":["2","1"]}}"#.to_owned());
        rows.extend(vec![LogRow { created_at: at, other, ..LogRow::default() }; 5]);
    }
    rows.sort_by_key(|row| row.created_at - if row.username == "ahead" { 3600 } else { 0 });
    rows
}

/// When a model that is hardly used had five requests at once, and another one five that were retried, in hours before the
/// end.
const BURSTS: [i64; 2] = [20, 10];

/// The monitor, its history as a file, and a Prometheus that has loaded it and scrapes the monitor.
struct Scene {
    database: Database,
    _monitor: Monitor,
    prometheus: Prometheus,
    /// The last second of the file.
    seam: i64,
    _folder: Folder,
}

impl Scene {
    async fn play() -> Self {
        let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
        database
            .exec(
                "INSERT INTO channels (id, type, `key`, status, name, models, `group`) VALUES \
                   (1, 1, '', 1, 'one', 'gpt-4o', 'default'), (2, 1, '', 1, 'two', 'newer', 'default')",
            )
            .await;
        database.insert_logs(&history(now())).await;
        let flags = flags(&database.url, &folder.path());
        let monitor = Monitor::ready(&flags).await;
        // Nobody has scraped yet, and there is a new label set: it is shown as 0 until somebody does.
        let row = LogRow { created_at: now(), model_name: NEW.to_owned(), ..LogRow::default() };
        database.insert_logs(&vec![row; 20]).await;
        eventually("the new model is counted", async || {
            let models = monitor.api().get("models?window=1h").await;
            models["items"].as_array().is_some_and(|models| models.iter().any(|model| model["model"] == NEW))
        })
        .await;
        let file = folder.path().join("history.om");
        let output = command(&flags)
            .args(["backfill", "--instance", &monitor.address.to_string(), "--output"])
            .arg(&file)
            .output()
            .expect("it runs");
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}{errors}");
        assert!(said.contains("promtool tsdb create-blocks-from"), "{said}");
        let seam = last_second(&file);
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
             scrape_configs:\n- job_name: token-monitor\n  static_configs: [{{targets: ['{}']}}]\n",
            monitor.address
        );
        let prometheus = Prometheus::start_with_history(&file, &config);
        let scene = Self { database, _monitor: monitor, prometheus, seam, _folder: folder };
        eventually("two scrapes", async || scene.ask("count_over_time(newapi_up[1m])").await >= 2.0).await;
        scene
    }

    /// The only sample of a query; 0 if there is none.
    async fn ask(&self, promql: &str) -> f64 {
        let result = self.prometheus.query(promql).await;
        let samples = result.as_array().expect("samples");
        assert!(samples.len() <= 1, "{promql}: {result}");
        samples
            .first()
            .map_or(0.0, |sample| sample["value"][1].as_str().expect("a value").parse().expect("a number"))
    }

    /// The sum of a column of consumption rows between two times, the second included.
    async fn sql(&self, column: &str, from: i64, to: i64, condition: &str) -> f64 {
        let query = format!(
            "SELECT COALESCE(SUM({column}), 0) FROM logs \
             WHERE type = 2 AND created_at > {from} AND created_at <= {to} AND {condition}"
        );
        self.database.query_i64(&query).await as f64
    }
}

fn last_second(file: &PathBuf) -> i64 {
    let text = std::fs::read_to_string(file).expect("the file");
    assert!(text.ends_with("\n# EOF\n"), "it has an end");
    let times = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit(' ').next());
    times.filter_map(|at| at?.parse().ok()).max().expect("samples")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_what_the_log_says_and_the_present_goes_on_from_it() {
    let scene = Scene::play().await;
    // Of a label set that has a past.
    let live = LogRow { created_at: now(), quota: 2000, is_stream: true, ..LogRow::default() };
    scene.database.insert_logs(&vec![live; 40]).await;
    let all = scene.sql("1", 0, i64::MAX, "TRUE").await;
    eventually("the new rows are scraped", async || scene.ask("sum(newapi_requests_total)").await >= all)
        .await;
    let Scene { seam, .. } = scene;

    // Live series are the same series: the same labels, every family, and no count that falls.
    for name in [
        "newapi_requests_total",
        "newapi_errors_total",
        "newapi_input_tokens_total",
        "newapi_cost_usd_total",
        "newapi_cost_refunded_usd_total",
        "newapi_request_duration_seconds_bucket",
        "newapi_request_duration_seconds_sum",
        "newapi_time_to_first_token_seconds_count",
        "newapi_slow_requests_total",
    ] {
        let ever = scene.ask(&format!("count(last_over_time({name}[4d]))")).await;
        let now = scene.ask(&format!("count({name})")).await;
        assert!(ever > 0.0 && ever == now, "{name}: {ever} series ever, {now} now");
        assert_eq!(scene.ask(&format!("sum(resets({name}[4d]))")).await, 0.0, "{name}");
    }

    // Over the seam nothing is lost, nothing is twice.
    let grown = scene.ask(&format!("sum(newapi_requests_total) - sum(newapi_requests_total @ {seam})")).await;
    assert_eq!(grown, 40.0);
    let cost = format!("sum(newapi_cost_usd_total) - sum(newapi_cost_usd_total @ {seam})");
    assert!((scene.ask(&cost).await - 40.0 * 2000.0 / QUOTA_PER_USD).abs() < 1e-9);
    increases_go_on_over_the_seam(&scene).await;

    // Windows of the past, at each step's length, say what the log says, but for what extrapolation adds: half a
    // sample's distance at either end.
    for (hours_ago, window) in [(0, 3600), (5, 3600), (20, 3600), (40, 7200), (60, 7200)] {
        let to = (seam - hours_ago * 3600) / 300 * 300;
        for (model, selector) in [("gpt-4o", "model = 'gpt-4o'"), ("newer", "model_name = 'newer'")] {
            let condition = selector.replace("model =", "model_name =");
            // Rows of the clock that is ahead happened an hour before.
            let usual = format!("{condition} AND username <> 'ahead'");
            let ahead = format!("{condition} AND username = 'ahead'");
            for (metric, column) in [("newapi_requests_total", "1"), ("newapi_quota_consumed_total", "quota")]
            {
                let expected = scene.sql(column, to - window, to, &usual).await
                    + scene.sql(column, to - window + 3600, to + 3600, &ahead).await;
                let promql =
                    format!("sum(increase({metric}{{model=\"{model}\"}}[{window}s] @ {to})) or vector(0)");
                let found = scene.ask(&promql).await;
                assert!(
                    (found - expected).abs() <= expected * 0.1 + 0.5,
                    "{model}, {hours_ago} h ago: {metric} {found}, the log says {expected}"
                );
            }
        }
    }

    // The first requests of a label set and those after a long rest are an increase like any other, and only once.
    for hours_ago in BURSTS {
        let to = seam - hours_ago * 3600 + 1800;
        for series in [
            "newapi_requests_total{model=\"now and then\"}",
            "newapi_request_duration_seconds_count{model=\"gpt-4o\",retried=\"true\"}",
            "newapi_request_duration_seconds_bucket{model=\"gpt-4o\",retried=\"true\",le=\"+Inf\"}",
        ] {
            let found = scene.ask(&format!("sum(increase({series}[50m] @ {to}))")).await;
            assert!((4.9..5.4).contains(&found), "{found} of 5, {hours_ago} h ago: {series}");
        }
    }

    // What was new when nobody scraped yet is in the past, and not once more in the present.
    let found = scene.ask(&format!("sum(increase(newapi_requests_total{{model=\"{NEW}\"}}[1h]))")).await;
    assert!((19.9..21.0).contains(&found), "{found} of 20");

    // What works for a few minutes a day is counted in full, and its first request too.
    let odd =
        scene.sql("1", 0, i64::MAX, &format!("model_name = {}", scene.database.engine.literal(ODD))).await;
    let found = scene.ask("sum(increase(newapi_requests_total{model=~\"(?s)we.*\"}[4d]))").await;
    assert!(odd >= 18.0 && (found - odd).abs() / odd < 0.1, "{found} of {odd}");
}

/// What boards ask for: windows that begin in the file and end in what was scraped, with the 40 live rows.
async fn increases_go_on_over_the_seam(scene: &Scene) {
    // The rows were scraped before this second ends. In this hour there are none of the clock that is ahead.
    let (at, window) = (now() + 1, 3600);
    assert!(scene.seam - 1800 > at - window, "the window reaches well over the seam");
    for (metric, column, unit) in [
        ("newapi_requests_total", "1", 1.0),
        ("newapi_request_duration_seconds_count", "1", 1.0),
        ("newapi_cost_usd_total", "quota", QUOTA_PER_USD),
    ] {
        let expected = scene.sql(column, at - window, at, "model_name = 'gpt-4o'").await / unit;
        let found =
            scene.ask(&format!("sum(increase({metric}{{model=\"gpt-4o\"}}[{window}s] @ {at}))")).await;
        // What extrapolation adds or misses is a sample's distance at the beginning: two minutes of the hour at most.
        assert!(
            expected > 0.0 && (found - expected).abs() <= expected * 0.05,
            "over the seam: {metric} {found}, the log says {expected}"
        );
    }
    // At no second since is there more than the live rows and the few of ten minutes, as there would be if a counter
    // began anew: the file has thousands.
    let steps = "max_over_time(sum(increase(newapi_requests_total{model=\"gpt-4o\"}[10m]))[10m:1s])";
    let most = scene.ask(steps).await;
    assert!((1.0..80.0).contains(&most), "{most} requests in ten minutes");
}

#[tokio::test]
async fn a_history_that_cannot_be_written_leaves_no_file_behind() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let flags = flags(&database.url, &folder.path());
    let file = folder.path().join("history.om");
    std::fs::write(&file, "an older one").expect("writing");
    let run = |to: &Path| command(&flags).args(["backfill", "--output"]).arg(to).output().expect("it runs");
    let mut elsewhere = flags.clone();
    elsewhere.database_url = Some(format!("sqlite://{}", folder.path().join("none.db").display()));
    let output = command(&elsewhere).args(["backfill", "--output"]).arg(&file).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&file).expect("the older one"), "an older one");

    let nowhere = folder.path().join("nowhere/history.om");
    let output = run(&nowhere);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("nowhere/history.om") && said.contains("cannot be written"), "{said}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").flatten().collect();
    assert!(left.iter().all(|file| !file.file_name().to_string_lossy().ends_with(".partial")), "{left:?}");
}

/// A gateway that nobody has used yet.
#[tokio::test]
async fn a_log_without_rows_has_a_history_without_samples() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let file = folder.path().join("history.om");
    let mut command = command(&flags(&database.url, &folder.path()));
    let output = command.args(["backfill", "--output"]).arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("the log has no rows within HISTORY"), "{said}");
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(text.ends_with("# EOF\n") && text.lines().all(|line| line.starts_with('#')), "{text}");
    let blocks = folder.path().join("blocks");
    let loaded = std::process::Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([&file, &blocks])
        .output()
        .expect("promtool runs");
    assert!(loaded.status.success(), "{loaded:?}");
}

/// At a first start the database may come up later than everything else, or its address be wrong.
#[tokio::test]
async fn a_database_that_comes_late_is_waited_for_and_one_that_does_not_is_a_failure() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&history(now())).await;
    let ready = database.url.trim_start_matches("sqlite://").to_owned();
    let late = folder.path().join("late.db");
    let flags = flags(&format!("sqlite://{}", late.display()), &folder.path());
    let file = folder.path().join("history.om");
    let run = |wait: &str| {
        let mut command = command(&flags);
        command.args(["backfill", "--wait", wait, "--output"]).arg(&file);
        command
    };

    let output = run("1s").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("waiting for new-api's database") && !file.exists(), "{said}");

    let mut process = Process::run(free_address(), run("50s"));
    process.prints("waiting for new-api's database").await;
    for end in ["", "-wal", "-shm"] {
        let from = format!("{ready}{end}");
        if Path::new(&from).exists() {
            std::fs::copy(&from, format!("{}{end}", late.display())).expect("copying");
        }
    }
    assert_eq!(process.exit_code().await, 0, "{}", process.printed());
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(text.contains("\nnewapi_requests_total{"), "{text:.200}");
}

/// What each series of a file comes to.
fn last_values(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).expect("the file");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let parts = samples.filter_map(|line| {
        let (series, value_and_time) = line.rsplit_once("} ")?;
        Some((series.to_owned(), value_and_time.split(' ').next()?.to_owned()))
    });
    parts.collect()
}

/// A connection breaks off while rows come over it: no row may be lost or counted twice.
async fn network_fails(engine: Engine) {
    let (database, folder) = (Database::create(engine, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&traffic(0, 20_000)).await;
    let run = |url: &str, file: &Path| {
        let mut command = command(&flags(url, &folder.path()));
        command.args(["backfill", "--output"]).arg(file);
        command
    };
    let (whole, broken) = (folder.path().join("whole.om"), folder.path().join("broken.om"));
    let output = run(&database.url, &whole).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");

    let proxy = Proxy::in_front_of(&database.url);
    let cut = async || {
        proxy.heal();
        // Some rows come through, but not all.
        proxy.cut_after(1_500_000);
        let process = Process::run(free_address(), run(&proxy.url(&database.url), &broken));
        process.prints("the log cannot be read").await;
        process
    };
    let mut process = cut().await;
    proxy.heal();
    assert_eq!(process.exit_code().await, 0, "{}", process.printed());
    let (expected, found) = (last_values(&whole), last_values(&broken));
    assert!(expected.keys().any(|series| series.starts_with("newapi_requests_total{")), "{expected:?}");
    assert_eq!(found, expected);

    // One that stays away is a failure, and half a history is none.
    std::fs::remove_file(&broken).expect("the file");
    let mut process = cut().await;
    assert_eq!(process.exit_code().await, 1, "{}", process.printed());
    let left = || -> Vec<_> {
        let files = std::fs::read_dir(folder.path()).expect("the folder").flatten();
        files.filter(|file| file.file_name().to_string_lossy().contains("broken")).collect()
    };
    assert!(left().is_empty(), "{:?}", left());

    // So it is for somebody who does not want to wait any longer.
    let mut process = cut().await;
    assert_eq!(left().len(), 1, "it has begun");
    process.signal("TERM");
    assert_eq!(process.exit_code().await, 1, "{}", process.printed());
    assert!(left().is_empty(), "{:?}", left());
}

#[tokio::test]
async fn a_connection_to_mariadb_that_breaks_off_loses_and_repeats_nothing() {
    network_fails(Engine::MySql).await;
}

#[tokio::test]
async fn a_connection_to_postgresql_that_breaks_off_loses_and_repeats_nothing() {
    network_fails(Engine::Postgres).await;
}

/// Its samples must be of the rows that the monitor counts, so it must know from where that counts.
#[tokio::test]
async fn a_monitor_that_has_not_begun_is_waited_for() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&history(now())).await;
    let mut flags = flags(&database.url, &folder.path());
    // It has made its file, and could not read the log.
    let away = Flags { database_url: Some("sqlite:///nowhere/one-api.db".to_owned()), ..flags.clone() };
    let monitor = Monitor::start(&away).await;
    monitor.stop().await;
    flags.history = Some("12h".to_owned());
    let file = folder.path().join("history.om");
    let mut backfill = command(&Flags { history: Some("3d".to_owned()), ..flags.clone() });
    backfill.args(["backfill", "--wait", "50s", "--output"]).arg(&file);
    let mut process = Process::run(free_address(), backfill);
    process.prints("waiting for the monitor").await;
    let monitor = Monitor::ready(&flags).await;
    assert_eq!(process.exit_code().await, 0, "{}", process.printed());
    monitor.stop().await;
    let text = std::fs::read_to_string(&file).expect("the file");
    let times = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit(' ').next());
    let first: i64 = times.filter_map(|at| at.parse().ok()).min().expect("samples");
    assert!(first > now() - 13 * 3600, "it begins where the monitor begins, not at {first}");
}

/// What it knows of the log then is not yet what it will count.
#[tokio::test]
async fn a_monitor_that_still_reads_the_log_is_waited_for() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&history(now())).await;
    let flags = flags(&database.url, &folder.path());
    Monitor::ready(&flags).await.stop().await;
    let store = rusqlite::Connection::open(folder.path().join("monitor.db")).expect("monitor.db");
    let set =
        "UPDATE state SET value = json_set(value, '$.caught_up', json('false')) WHERE name = 'position'";
    assert_eq!(store.execute(set, []).expect("an update"), 1);
    let file = folder.path().join("history.om");
    let mut command = command(&flags);
    let output = command.args(["backfill", "--wait", "1s", "--output"]).arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && file.exists(), "{said}");
    for words in ["waiting for the monitor to count the log", "the monitor has not counted the whole log yet"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// Its first lines are read by people and tools.
#[tokio::test]
async fn without_a_monitor_the_history_is_that_of_history() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let row = |age: i64| LogRow { created_at: now() - age, ..LogRow::default() };
    database.insert_logs(&[row(90_000), row(4000), row(3000), row(10)]).await;
    let mut flags = flags(&database.url, &folder.path());
    flags.history = Some("1d".to_owned());
    // Who writes a file needs no password, wherever the monitor listens.
    flags.listen = None;
    let file = folder.path().join("history.om");
    let output = command(&flags).args(["backfill", "--output"]).arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no monitor has counted"), "{said}");
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(text.starts_with("# TYPE newapi_requests counter\n"), "{text:.200}");
    let requests: Vec<&str> =
        text.lines().filter(|line| line.starts_with("newapi_requests_total{")).collect();
    let value =
        |line: &str| line.split("} ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
    let mut values: Vec<Option<String>> = requests.iter().map(|line| value(line)).collect();
    values.dedup();
    assert_eq!(values.into_iter().flatten().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    for label in ["instance=\"monitor-server:3002\"", "job=\"token-monitor\"", "outcome=\""] {
        assert!(requests[0].contains(label), "{}", requests[0]);
    }
}

#[tokio::test]
async fn a_file_that_would_be_too_large_has_fewer_samples_and_every_count() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let (end, models) = (now(), 700);
    let rows: Vec<LogRow> = (0..25 * models)
        .map(|row| LogRow {
            created_at: end - 90_000 + row * 6,
            model_name: format!("model-{}", row % models),
            ..LogRow::default()
        })
        .collect();
    database.insert_logs(&rows).await;
    let flags = flags(&database.url, &folder.path());
    let file = folder.path().join("history.om");
    let run = |megabytes: &str| {
        let arguments = ["backfill", "--max-megabytes", megabytes, "--output"];
        command(&flags).args(arguments).arg(&file).output().expect("it runs")
    };
    let output = run("102");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("beginning again with fewer samples"), "{said}");
    let size = std::fs::metadata(&file).expect("the file").len();
    assert!((20_000_000..103_000_000).contains(&size), "{size} bytes");
    let last = |model: &str| {
        let text = std::fs::File::open(&file).expect("the file");
        let lines = std::io::BufRead::lines(std::io::BufReader::new(text)).map_while(Result::ok);
        let series = format!("model=\"{model}\"");
        lines.filter(|line| line.starts_with("newapi_requests_total{") && line.contains(&series)).last()
    };
    assert!(last("model-7").is_some_and(|line| line.contains("} 25 ")), "{:?}", last("model-7"));

    let output = run("0");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("larger than --max-megabytes allows"), "{said}");
}
