//! Limits: where they stand is what SQL says, at once after a start, a change of the file and a restart; a bad file
//! changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use token_monitor::clock::Clock;
use token_monitor::config::Flags;
use tokio::time::sleep;

use crate::exposition::Exposition;
use crate::ledger::traffic;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, Page, Process, command, eventually, flags, now};

const VERSION: Version = Version::V1_0_0Rc24;
const RELOADED: &str = "token_monitor_config_last_reload_successful";
const RELOADED_AT: &str = "token_monitor_config_last_reload_success_timestamp_seconds";
const DAY: i64 = 86_400;

/// A database, a file of limits, and what to start a monitor with.
pub struct Story {
    pub database: Database,
    _folder: Folder,
    file: PathBuf,
    pub flags: Flags,
}

impl Story {
    pub async fn begin(engine: Engine, limits: &str) -> Self {
        let (database, folder) = (Database::create(engine, VERSION).await, Folder::new());
        let file = folder.path().join("limits.yml");
        let flags = Flags {
            limits_file: Some(file.display().to_string()),
            timezone: Some("Asia/Shanghai".to_owned()),
            ..flags(&database.url, &folder.path())
        };
        let story = Self { database, _folder: folder, file, flags };
        story.write(limits);
        story
    }

    /// Writes the file of limits.
    pub fn write(&self, limits: &str) {
        std::fs::write(&self.file, limits).expect("writing the limits");
    }

    /// Waits until the gauge of each key is what SQL sums to, and no other key is shown.
    pub async fn agrees(&self, page: &Page, limit: &str, key: &str, sum: &str, since: i64) {
        let grouped = if key.is_empty() { String::new() } else { format!("GROUP BY {key}") };
        let key = if key.is_empty() { "''" } else { key };
        let sql = format!("SELECT {key}, {sum} FROM logs WHERE created_at >= {since} {grouped}");
        let mut wanted: Vec<(String, f64)> = self
            .database
            .rows(&sql)
            .await
            .into_iter()
            .map(|row| {
                let number = row[1].as_deref().unwrap_or("0").parse().expect("a number");
                (row[0].clone().unwrap_or_default(), number)
            })
            .filter(|(_, used)| *used > 0.0)
            .collect();
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        let shown = async || {
            let (_, text) = page.get("/metrics").await.expect("a page");
            let mut shown: Vec<(String, f64)> = Exposition::from_text(&text)
                .samples()
                .filter(|sample| {
                    sample.name == "newapi_limit_used"
                        && sample.labels["limit"] == limit
                        && sample.value > 0.0
                })
                .map(|sample| {
                    (format!("{}{}", sample.labels["channel_id"], sample.labels["model"]), sample.value)
                })
                .collect();
            shown.sort_by(|a, b| a.0.cmp(&b.0));
            shown
        };
        let close = |shown: &[(String, f64)]| {
            shown.len() == wanted.len()
                && shown
                    .iter()
                    .zip(&wanted)
                    .all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9 * b.1.max(1.0))
        };
        for _ in 0..600 {
            if close(&shown().await) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("{limit}: shown {:?}, by SQL {wanted:?}", shown().await);
    }
}

fn midnight() -> i64 {
    let zone = TimeZone::get("Asia/Shanghai").expect("a zone");
    let now = Timestamp::from_second(now()).expect("now").to_zoned_datetime(zone);
    now.start_of_day().expect("a midnight").timestamp().as_second()
}

const LIMITS: &str = r#"
limits:
  - {name: each-channel, channel: "*", measure: cost_usd, max: 5, window: day, warn_at: 0.5}
  - {name: all-tokens, measure: tokens, max: 1000000, window: 7d}
  - {name: errors, measure: errors, max: 10, window: 30d, severity: warning}
"#;

const MORE: &str = r#"
  - {name: each-model, model: "*", measure: requests, max: 100, window: 15d}
"#;

const COST: &str = "SUM(CASE WHEN type = 2 THEN quota WHEN type = 6 THEN -quota ELSE 0 END) * 0.000002";
const TOKENS: &str = "SUM(CASE WHEN type = 2 THEN prompt_tokens + completion_tokens ELSE 0 END)";
const ERRORS: &str = "SUM(CASE WHEN type = 5 THEN 1 ELSE 0 END)";
const REQUESTS: &str = "SUM(CASE WHEN type = 2 THEN 1 ELSE 0 END)";

/// Rows of the last ten days and of this minute.
fn rows() -> Vec<LogRow> {
    let mut rows = traffic(0, 600);
    let (first, last) = (now() - 10 * DAY, now());
    for (place, row) in (0..).zip(&mut rows) {
        // None near the edge of a window that rolls, which is exact to a thousandth of its length.
        row.created_at = (first + place * 1464 + 732).min(last);
    }
    rows
}

fn refund(channel_id: i64, quota: i64) -> LogRow {
    LogRow {
        kind: 6,
        channel_id,
        quota,
        created_at: now(),
        prompt_tokens: 0,
        completion_tokens: 0,
        ..LogRow::default()
    }
}

async fn limits_stand_where_sql_says(engine: Engine) {
    let story = Story::begin(engine, LIMITS).await;
    story.database.insert_logs(&rows()).await;
    let all = async |page: &Page| {
        story.agrees(page, "each-channel", "channel_id", COST, midnight()).await;
        story.agrees(page, "all-tokens", "", TOKENS, now() - 7 * DAY).await;
        story.agrees(page, "errors", "", ERRORS, now() - 30 * DAY).await;
    };
    let monitor = Monitor::ready(&story.flags).await;
    let page = monitor.page();
    all(&page).await;

    // As rows come, money given back among them.
    story.database.insert_logs(&traffic(10_000, 40)).await;
    story.database.insert_logs(&[refund(2, 3000)]).await;
    all(&page).await;

    // A limit that is added stands at once where it stood all along.
    story.write(&format!("{LIMITS}{MORE}"));
    story.agrees(&page, "each-model", "model_name", REQUESTS, now() - 15 * DAY).await;
    all(&page).await;
    monitor.stop().await;

    story.database.insert_logs(&traffic(20_000, 40)).await;
    let again = Monitor::ready(&story.flags).await;
    all(&again.page()).await;
    story.agrees(&again.page(), "each-model", "model_name", REQUESTS, now() - 15 * DAY).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_stand_where_sql_says_on_sqlite() {
    limits_stand_where_sql_says(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_stand_where_sql_says_on_mariadb() {
    limits_stand_where_sql_says(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_stand_where_sql_says_on_postgres() {
    limits_stand_where_sql_says(Engine::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_keeps_the_limits_before_also_over_a_restart() {
    let story = Story::begin(Engine::Sqlite, LIMITS).await;
    story.database.insert_logs(&rows()).await;
    let process = Process::spawn(&story.flags);
    let page = process.page();
    page.wait_ready().await;
    page.wait_samples("the limits are read", |samples| samples.count("newapi_limit_used") > 0).await;
    let samples = page.samples().await;
    assert_eq!(samples.get(RELOADED), Some(1.0));
    let loaded_at = samples.get(RELOADED_AT).expect("it was loaded");
    assert!((loaded_at - now() as f64).abs() < 90.0, "{loaded_at}");

    story.write("limits:\n  - {name: x, measure: dollars, max: 5, window: day}\n");
    let samples =
        page.wait_samples("the mistake is seen", |samples| samples.get(RELOADED) == Some(0.0)).await;
    assert_eq!(samples.get(RELOADED_AT), Some(loaded_at), "the bad file was not loaded");
    story.agrees(&page, "errors", "", ERRORS, now() - 30 * DAY).await;
    assert!(process.printed().contains("line 2, column"), "{}", process.printed());
    process.kill();

    // The monitor knows what was in force when it last ran.
    let again = Process::spawn(&story.flags);
    let page = again.page();
    page.wait_ready().await;
    page.wait_samples("the limits before are in force", |samples| samples.count("newapi_limit_used") > 0)
        .await;
    assert_eq!(page.samples().await.get(RELOADED), Some(0.0));
    story.agrees(&page, "errors", "", ERRORS, now() - 30 * DAY).await;

    std::fs::remove_file(&story.file).expect("removing the limits");
    sleep(Duration::from_millis(2500)).await;
    assert!(page.samples().await.count("newapi_limit_used") > 0, "a file that is gone ends no limit");
    story.write("limits: []\n");
    again.signal("HUP");
    again.prints("SIGHUP: the file of limits is read again").await;
    page.wait_samples("there are none", |samples| samples.get(RELOADED) == Some(1.0)).await;
    assert_eq!(page.samples().await.count("newapi_limit_used"), 0);
    again.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_turns_with_the_time_and_not_with_rows() {
    let story = Story::begin(Engine::Sqlite, LIMITS).await;
    story.database.insert_logs(&traffic(0, 100)).await;
    let clock = Clock::fixed(Timestamp::from_second(now()).expect("now"));
    let monitor = Monitor::start_at(&story.flags, clock.clone()).await;
    let page = monitor.page();
    page.wait_ready().await;
    story.agrees(&page, "each-channel", "channel_id", COST, midnight()).await;
    clock.set(Timestamp::from_second(now() + DAY).expect("tomorrow"));
    let used = |samples: &crate::samples::Samples, limit: &str| {
        samples.sum("newapi_limit_used", &[&format!("limit=\"{limit}\"")])
    };
    let samples = page.wait_samples("a day begins", |samples| used(samples, "each-channel") == 0.0).await;
    assert!(used(&samples, "all-tokens") > 0.0, "seven days are not over");
    clock.set(Timestamp::from_second(now() + 8 * DAY).expect("next week"));
    page.wait_samples("seven days are over", |samples| used(samples, "all-tokens") == 0.0).await;
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_745_hours_is_whole_up_to_its_last_second() {
    let limits = "limits:\n  - {name: month, measure: quota, max: 1000, window: month}\n";
    let story = Story::begin(Engine::Sqlite, limits).await;
    let flags = Flags { timezone: Some("Europe/Berlin".to_owned()), ..story.flags.clone() };
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    let row = |text: &str, quota| LogRow { created_at: at(text).as_second(), quota, ..LogRow::default() };
    // October began at 22:00 and ends at 23:00: the clocks were put back in it.
    let (october, november) =
        (at("2026-09-30T22:00:00Z").as_second(), at("2026-10-31T23:00:00Z").as_second());
    assert_eq!((november - october) / 3600, 745);
    let rows =
        [row("2026-09-30T21:59:59Z", 1), row("2026-09-30T22:00:00Z", 10), row("2026-10-31T21:30:00Z", 100)];
    story.database.insert_logs(&rows).await;
    // The 31 days of HISTORY just reach its beginning.
    let clock = Clock::fixed(at("2026-10-31T22:00:00Z"));
    let month = async |page: &Page, since| story.agrees(page, "month", "", "SUM(quota)", since).await;
    let monitor = Monitor::start_at(&flags, clock.clone()).await;
    monitor.page().wait_ready().await;
    month(&monitor.page(), october).await;
    // They no longer do, but what was read is kept a little longer, over a restart as well.
    let last = "2026-10-31T22:59:59Z";
    clock.set(at(last));
    story.database.insert_log(&row(last, 1000)).await;
    month(&monitor.page(), october).await;
    monitor.stop().await;
    let monitor = Monitor::start_at(&flags, clock.clone()).await;
    monitor.page().wait_ready().await;
    month(&monitor.page(), october).await;
    // A first start at that time reads more than HISTORY.
    let folder = Folder::new();
    let new = Some(format!("sqlite://{}", folder.path().join("monitor.db").display()));
    let first = Monitor::start_at(&Flags { monitor_database_url: new, ..flags }, clock.clone()).await;
    first.page().wait_ready().await;
    month(&first.page(), october).await;
    first.stop().await;
    clock.set(at("2026-10-31T23:00:00Z"));
    month(&monitor.page(), november).await;
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_tells_who_uses_a_limit() {
    let limits = "limits:\n  - {name: alice, channel: 7, model: \"gpt-*\", measure: quota, max: 1000, window: 2h, warn_at: 0.5}\n";
    let story = Story::begin(Engine::Sqlite, limits).await;
    let row = |username: &str, model: &str, quota| LogRow {
        channel_id: 7,
        username: username.to_owned(),
        model_name: model.to_owned(),
        quota,
        created_at: now() - 60,
        ..LogRow::default()
    };
    let rows = [
        row("alice", "gpt-4o", 500),
        row("bob", "gpt-4o", 200),
        row("alice", "gpt-4o-mini", 90),
        row("carol", "gpt-5", 10),
        row("dave", "claude", 5000),
    ];
    story.database.insert_logs(&rows).await;
    let monitor = Monitor::ready(&story.flags).await;
    let api = monitor.api();
    eventually("the limit is there", async || {
        let answer = api.ask("/api/v1/limits").await;
        answer.status == 200 && !answer.json()["items"].as_array().expect("a list").is_empty()
    })
    .await;
    let answer = api.get("limits").await;
    let item = &answer["items"][0];
    assert_eq!((&item["limit"], &item["model"]), (&"alice".into(), &"gpt-*".into()));
    let numbers = ["used", "max", "remaining", "ratio", "warn_at"].map(|field| item[field].as_f64());
    assert_eq!(numbers, [Some(800.0), Some(1000.0), Some(200.0), Some(0.8), Some(0.5)]);
    assert!(item["resets_at"].is_string() && answer["error"].is_null() && answer["loaded_at"].is_string());
    // 800 came a minute ago, and 200 are left.
    let exhausted: Timestamp = item["exhausted_at"].as_str().expect("a time").parse().expect("a time");
    assert!((now() + 1..now() + 7200).contains(&exhausted.as_second()), "{item}");
    let contributors: Vec<_> = item["contributors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            (one["username"].as_str(), one["model"].as_str(), one["used"].as_f64(), one["share"].as_f64())
        })
        .collect();
    let expected = [
        (Some("alice"), Some("gpt-4o"), Some(500.0), Some(0.625)),
        (Some("bob"), Some("gpt-4o"), Some(200.0), Some(0.25)),
        (Some("alice"), Some("gpt-4o-mini"), Some(90.0), Some(0.1125)),
    ];
    assert_eq!(contributors, expected);
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_models_are_one_sum_and_take_no_room_from_limits_on_money() {
    let limits = r#"
limits:
  - {name: errors, model: "*", measure: errors, max: 10, window: 1h}
  - {name: money, channel: "*", model: "*", measure: cost_usd, max: 5, window: day}
"#;
    let story = Story::begin(Engine::Sqlite, limits).await;
    let row = |kind, channel_id, model: &str| LogRow {
        kind,
        channel_id,
        model_name: model.to_owned(),
        quota: 500,
        created_at: now() - 5,
        ..LogRow::default()
    };
    // Anybody with a key can ask for any model. Some of it is in the log before anybody spends anything.
    let mut rows: Vec<LogRow> = (0..60).map(|number| row(5, 2, &format!("invented-{number}"))).collect();
    rows.push(row(5, 2, "late"));
    rows.extend((1..=15).map(|channel| row(2, channel, "real")));
    rows.extend([row(5, 3, "real"), row(5, 3, "real")]);
    story.database.insert_logs(&rows).await;
    let monitor = Monitor::ready(&Flags { max_series: Some("20".to_owned()), ..story.flags.clone() }).await;
    let page = monitor.page();
    let shown = async |limit: &str| -> Vec<(String, f64)> {
        let (_, text) = page.get("/metrics").await.expect("a page");
        let exposition = Exposition::from_text(&text);
        let of_limit = exposition
            .samples()
            .filter(|sample| sample.name == "newapi_limit_used" && sample.labels["limit"] == limit)
            .map(|sample| {
                (format!("{}{}", sample.labels["channel_id"], sample.labels["model"]), sample.value)
            });
        let mut shown: Vec<_> = of_limit.collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        shown
    };
    let wanted = |other| [("_other".to_owned(), other), ("real".to_owned(), 2.0)];
    eventually("invented names are summed", async || shown("errors").await == wanted(61.0)).await;
    let money: Vec<String> = shown("money").await.into_iter().map(|(key, _)| key).collect();
    let mut each: Vec<String> = (1..=15).map(|channel| format!("{channel}real")).collect();
    each.sort();
    assert_eq!(money, each);
    // The same as rows come; and who was unknown when it failed first is told by name once it is known.
    story.database.insert_logs(&[row(5, 2, "invented-99"), row(2, 2, "late"), row(5, 2, "late")]).await;
    let known = [("_other".to_owned(), 61.0), ("late".to_owned(), 2.0), ("real".to_owned(), 2.0)];
    eventually("a model that is known now has its own sum", async || shown("errors").await == known).await;
    let answer = monitor.api().get("limits?limit=500").await;
    let items = answer["items"].as_array().expect("a list");
    let other = items.iter().find(|item| item["model"] == "_other").expect("the sum of the rest");
    assert_eq!((&other["rest"], &other["contributors"]), (&true.into(), &serde_json::Value::Null));
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_limits_has_pages_and_says_of_each_who_uses_it() {
    let limits = "limits:\n  - {name: each, channel: \"*\", measure: quota, max: 1000, window: 24h}\n  - {name: all, measure: quota, max: 500, window: day}\n";
    let story = Story::begin(Engine::Sqlite, limits).await;
    // Channels 21 to 30 have used the same.
    let rows = (1..=30).map(|channel_id| LogRow {
        channel_id,
        username: format!("user-{channel_id}"),
        quota: 10 * channel_id.min(21),
        created_at: now() - 1,
        ..LogRow::default()
    });
    story.database.insert_logs(&rows.collect::<Vec<_>>()).await;
    let monitor = Monitor::ready(&story.flags).await;
    let api = monitor.api();
    eventually("the limits are there", async || {
        let answer = api.ask("/api/v1/limits?limit=500").await;
        answer.status == 200 && answer.json()["items"].as_array().expect("a list").len() == 31
    })
    .await;
    let whole = api.get("limits?limit=500").await;
    assert!(whole["next"].is_null() && whole["next_cursor"].is_null(), "{whole}");
    let (items, pages) = api.pages("limits?limit=4").await;
    assert_eq!(pages, 8);
    let names = |items: &[serde_json::Value]| -> Vec<String> {
        items.iter().map(|item| format!("{}{}", item["limit"], item["channel_id"])).collect()
    };
    assert_eq!(names(&items), names(whole["items"].as_array().expect("a list")));
    let ratios: Vec<f64> = items.iter().map(|item| item["ratio"].as_f64().expect("a number")).collect();
    assert!(ratios.is_sorted_by(|a, b| a >= b), "{ratios:?}");
    for item in &items {
        let first = &item["contributors"][0];
        match item["channel_id"].as_i64() {
            Some(channel) => assert_eq!(first["username"], format!("user-{channel}"), "{item}"),
            None => assert_eq!(item["contributors"].as_array().map(Vec::len), Some(3), "{item}"),
        }
    }
    let (some, _) = api.pages("limits?channel_id=7,9&window=1h&model=*").await;
    assert_eq!(names(&some), ["\"each\"9", "\"each\"7"]);
    api.problem("limits?window=soon", 400).await;
    monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_when_it_computed_where_limits_stand_and_why_it_cannot() {
    let story = Story::begin(Engine::Sqlite, LIMITS).await;
    story.database.insert_logs(&rows()).await;
    let check = async || {
        let mut command = command(&story.flags);
        command.arg("check");
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = check().await;
    assert!(said.contains("ok    limits: where they stand is known after the first start"), "{said}");
    assert!(!said.contains("each-channel"), "{said}");
    let errors = story.database.query_i64(&format!("SELECT {ERRORS} FROM logs")).await;
    let process = Process::spawn(&story.flags);
    process.page().wait_ready().await;
    // Also beside a monitor that runs.
    let beside = check().await;
    process.kill();
    for said in [beside, check().await] {
        let line =
            said.lines().find(|line| line.contains("computed at ")).unwrap_or_else(|| panic!("{said}"));
        assert!(
            line.contains(" +08:00 from what a monitor has read; the newest row that was read is of "),
            "{line}"
        );
        assert!(line.ends_with("s ago") || line.ends_with("m ago"), "{line}");
        assert!(said.contains("limit: all-tokens: ") && said.contains("each-channel, channel "), "{said}");
        assert!(said.contains(&format!("limit: errors: {errors} of 10 errors in 30d (")), "{said}");
    }
}
