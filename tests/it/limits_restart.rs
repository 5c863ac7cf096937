//! Limits over `kill -9` at any instant, while rows pour in and limits are added: afterwards each stands
//! where SQL says.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use token_monitor::config::Flags;
use tokio::time::sleep;

use crate::gateway::Gateway;
use crate::ledger::{mixed, traffic};
use crate::limits::Story;
use crate::schema::LogRow;
use crate::servers::Engine;
use crate::support::{Page, Process, Samples, eventually, now};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

const LIMITS: &str = r#"
limits:
  - {name: day-cost, channel: "*", measure: cost_usd, max: 5, window: day}
  - {name: week-tokens, model: "*", measure: tokens, max: 1000, window: week}
  - {name: month-quota, measure: quota, max: 1000, window: month}
  - {name: hour-requests, channel: "*", model: "*", measure: requests, max: 1000, window: 1h}
  - {name: hour-errors, measure: errors, max: 10, window: 1h}
"#;

/// What is added: while the program is down, just before it is killed, and while rows come.
const ADDED: [&str; 3] = [
    "  - {name: some-models, channel: 3, model: \"model-?\", measure: quota, max: 9, window: 24h}\n",
    "  - {name: month-errors, model: \"*\", measure: errors, max: 10, window: month}\n",
    "  - {name: last-cost, channel: \"*\", measure: cost_usd, max: 5, window: 24h}\n",
];

/// What a row costs, in new-api's own unit, and whether it is an answered request.
const MONEY: &str = "CASE WHEN type = 2 AND token_id <> 0 THEN quota WHEN type = 6 THEN -quota ELSE 0 END";
const ANSWERED: &str = "type = 2 AND token_id <> 0 AND quota >= 0 AND other NOT LIKE '%task_id%'";

/// Nobody offers these models, and they never answered.
const MODEL: &str = "CASE WHEN model_name LIKE 'invented-%' THEN '_other' ELSE model_name END";

/// Neither changes its clocks, and their nights are apart.
const ZONES: [&str; 2] = ["Asia/Shanghai", "America/Bogota"];

/// A zone in which no day ends while a test runs, and when its day, week and month began.
struct Calendar {
    zone: &'static str,
    day: i64,
    week: i64,
    month: i64,
}

impl Calendar {
    fn of_now() -> Self {
        let instant = Timestamp::from_second(now()).expect("now");
        let (zone, local) = ZONES
            .into_iter()
            .map(|name| (name, instant.to_zoned_datetime(TimeZone::get(name).expect("a zone"))))
            .find(|(_, local)| local.hour() < 23)
            .expect("a day that does not end soon");
        let day = local.start_of_day().expect("a midnight").timestamp().as_second();
        let before = |days: i8| day - i64::from(days) * DAY;
        Self {
            zone,
            day,
            week: before(local.weekday().to_monday_zero_offset()),
            month: before(local.day() - 1),
        }
    }
}

/// Rows of the last four weeks in the order of their times. When all is compared, none is near the edge of a
/// window that rolls: some leave the last hour while the program is killed, and are well beyond it then.
fn past() -> Vec<LogRow> {
    let (mut rows, began) = (traffic(0, 1200), now());
    for (place, row) in (0..).zip(&mut rows) {
        let age = match place % 4 {
            0 => place,
            1 => 2 * HOUR + place * 50,
            2 => 26 * HOUR + place * 1900,
            _ => HOUR - place % 5,
        };
        row.created_at = began - age;
    }
    rows.sort_by_key(|row| row.created_at);
    rows
}

/// What comes now: requests, failed attempts, and a row that counts in another way.
fn rows(number: u64) -> Vec<LogRow> {
    let mut rows = traffic(number, 1 + mixed(number) % 12);
    let row = LogRow {
        channel_id: rows[0].channel_id,
        model_name: rows[0].model_name.clone(),
        created_at: now(),
        quota: 777,
        ..LogRow::default()
    };
    rows.push(match mixed(number + 1) % 6 {
        // Given back, as a row of its own and as a negative charge.
        0 => LogRow { kind: 6, ..row },
        1 => LogRow { quota: -55, ..row },
        // What a task cost in the end, which is no request.
        2 => LogRow { other: Some(r#"{"task_id":"task_1"}"#.to_owned()), ..row },
        // A channel test.
        3 => LogRow { token_name: "模型测试".to_owned(), token_id: 0, ..row },
        4 => LogRow { kind: 5, model_name: format!("invented-{}", number % 7), ..row },
        _ => LogRow { model_name: "gpt-4o".to_owned(), ..row },
    });
    rows
}

/// Waits until every limit stands where SQL says, and shows no other channel and model.
async fn all_agree(story: &Story, page: &Page, calendar: &Calendar) {
    let if_answered = |amount: &str| format!("SUM(CASE WHEN {ANSWERED} THEN {amount} ELSE 0 END)");
    let (quota, cost) = (format!("SUM({MONEY})"), format!("SUM({MONEY}) * 0.000002"));
    let errors = "SUM(CASE WHEN type = 5 THEN 1 ELSE 0 END)";
    let some = format!("SUM(CASE WHEN channel_id = 3 AND model_name LIKE 'model-_' THEN {MONEY} ELSE 0 END)");
    let tokens = if_answered("prompt_tokens + completion_tokens");
    let pair = "CONCAT(channel_id, model_name)";
    let Calendar { day, week, month, .. } = *calendar;
    story.agrees(page, "day-cost", "channel_id", &cost, day).await;
    story.agrees(page, "week-tokens", "model_name", &tokens, week).await;
    story.agrees(page, "month-quota", "", &quota, month).await;
    story.agrees(page, "hour-requests", pair, &if_answered("1"), now() - HOUR).await;
    story.agrees(page, "hour-errors", "", errors, now() - HOUR).await;
    story.agrees(page, "some-models", "channel_id", &some, now() - DAY).await;
    story.agrees(page, "month-errors", MODEL, errors, month).await;
    story.agrees(page, "last-cost", "channel_id", &cost, now() - DAY).await;
}

/// Kills the program again and again while rows pour in and limits are added, then compares.
async fn limits_survive_kills(engine: Engine, kills: usize) {
    let (story, calendar) = (Story::begin(engine, LIMITS).await, Calendar::of_now());
    let with = |added: usize| format!("{LIMITS}{}", ADDED[..added].concat());
    story.database.insert_logs(&past()).await;
    let began = now();
    let flags = Flags { timezone: Some(calendar.zone.to_owned()), ..story.flags.clone() };
    let gateway = Gateway::start(&story.database, rows).await;
    for (kill, random) in (0..kills).zip((0..).map(mixed)) {
        if kill == kills / 3 {
            story.write(&with(1));
        }
        let process = Process::spawn(&flags);
        // Each second one dies somewhere in its start, the others while they follow the log.
        if kill % 2 == 1 {
            process.page().wait_ready().await;
        }
        if kill == 2 * kills / 3 {
            story.write(&with(2));
        }
        sleep(Duration::from_millis(random % 700)).await;
        process.kill();
    }

    let process = Process::spawn(&flags);
    let page = process.page();
    page.wait_ready().await;
    story.write(&with(3));
    let added = |samples: &Samples| samples.sum("newapi_limit_used", &["limit=\"last-cost\""]) > 0.0;
    page.wait_samples("the last limit is there, while rows come", added).await;
    let written = gateway.stop().await;
    assert!(written > 500, "only {written} rows came while the program was killed");
    eventually("what left the last hour is well beyond it", async || now() > began + 10).await;
    all_agree(&story, &page, &calendar).await;
    // And so it stays, when what was missing is asked for again.
    let polled = |samples: &Samples| samples.get("token_monitor_tail_last_success_timestamp_seconds");
    let samples = page.samples().await;
    let until = polled(&samples).map(|at| at + 0.5);
    page.wait_samples("the log is polled again", |samples| polled(samples) > until).await;
    all_agree(&story, &page, &calendar).await;
    let late = samples.sum("token_monitor_late_rows_total", &[]);
    assert_eq!(late > 0.0, engine != Engine::Sqlite, "{late} rows came late");
    process.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_stand_where_sql_says_after_kills_on_sqlite() {
    limits_survive_kills(Engine::Sqlite, 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_stand_where_sql_says_after_kills_on_mariadb() {
    limits_survive_kills(Engine::MySql, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_stand_where_sql_says_after_kills_on_postgres() {
    limits_survive_kills(Engine::Postgres, 6).await;
}
