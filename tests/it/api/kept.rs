//! What is said of times of which not everything is known any more, or never was.

use serde_json::{Value, json};
use token_monitor::clock::Clock;
use token_monitor::config::Flags;

use super::oracle::moment;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, eventually, flags, now};

const DAY: i64 = 86_400;

fn at(created_at: i64) -> LogRow {
    LogRow { created_at, ..LogRow::default() }
}

fn clock_at(second: i64) -> Clock {
    Clock::fixed(moment(second).parse().expect("a time"))
}

#[tokio::test]
async fn change_is_null_once_the_window_before_is_no_longer_kept() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let start = now() - 20 * DAY;
    // A row an hour, for all the time.
    let rows: Vec<LogRow> = (-48..=20 * 24).map(|hour| at(start + hour * 3600 - 1800)).collect();
    let (before, later): (Vec<LogRow>, Vec<LogRow>) =
        rows.into_iter().partition(|row| row.created_at < start);
    database.insert_logs(&before).await;
    let clock = clock_at(start);
    let flags = Flags { history: Some("2d".into()), ..flags(&database.url, &folder.path()) };
    let monitor = Monitor::start_at(&flags, clock.clone()).await;
    monitor.page().wait_ready().await;
    let api = monitor.api();
    let change = async |window: &str| api.get(&format!("overview?window={window}")).await["change"].clone();
    assert_eq!(change("24h").await["requests"], json!(0.0));
    assert_eq!(change("36h").await["requests"], Value::Null, "half a window is no window");
    // The monitor runs on, longer than HISTORY.
    for day in 1..=20 {
        let until = start + day * DAY;
        let of_day: Vec<LogRow> =
            later.iter().filter(|row| (until - DAY..until).contains(&row.created_at)).cloned().collect();
        database.insert_logs(&of_day).await;
        clock.set(moment(until).parse().expect("a time"));
        let newest = moment(of_day.iter().map(|row| row.created_at).max().expect("a row"));
        eventually("the rows of the day are counted", async || {
            api.get("logs?limit=1").await["items"][0]["created_at"] == newest
        })
        .await;
    }
    assert_eq!(change("24h").await["requests"], json!(0.0), "two days are kept");
    for window in ["30h", "36h", "48h"] {
        let change = change(window).await;
        assert_eq!(change["requests"], Value::Null, "{window}: {change}");
        assert_eq!(change["cost_usd"], Value::Null, "{window}: {change}");
    }
    monitor.stop().await;
}

#[tokio::test]
async fn a_longer_history_does_not_pretend_to_know_what_was_not_read() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&(1..240).rev().map(|hour| at(now() - hour * 3600)).collect::<Vec<_>>()).await;
    let with =
        |history: &str| Flags { history: Some(history.into()), ..flags(&database.url, &folder.path()) };
    Monitor::ready(&with("2d")).await.stop().await;

    let monitor = Monitor::ready(&with("10d")).await;
    let api = monitor.api();
    for route in ["overview", "trend", "slow-requests", "logs", "channels", "models"] {
        api.get(&format!("{route}?window=47h")).await;
        for (query, parameter) in [
            ("window=5d".to_owned(), "window"),
            (format!("from={}", now() - 5 * DAY), "from"),
            (format!("to={}", now() - 5 * DAY), "to"),
        ] {
            let problem = api.problem(&format!("{route}?{query}"), 400).await;
            assert_eq!(problem["parameter"], parameter, "{route}?{query}: {problem}");
            let said = problem["detail"].as_str().expect("a text");
            assert!(said.contains("HISTORY was shorter than 10d"), "{route}?{query}: {said}");
        }
        // Nobody asked for more.
        api.get(route).await;
    }
    assert_eq!(api.get("overview?window=30h").await["change"]["requests"], Value::Null);
    monitor.stop().await;
}

#[tokio::test]
async fn what_a_shorter_history_dropped_is_missing_when_it_is_longer_again() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&(1..240).rev().map(|hour| at(now() - hour * 3600)).collect::<Vec<_>>()).await;
    let with =
        |history: &str| Flags { history: Some(history.into()), ..flags(&database.url, &folder.path()) };
    let monitor = Monitor::ready(&with("10d")).await;
    monitor.api().get("overview?window=9d").await;
    monitor.stop().await;
    let monitor = Monitor::ready(&with("1d")).await;
    database.insert_log(&at(now())).await;
    monitor
        .page()
        .wait_samples("the new row is counted", |samples| samples.sum("newapi_requests_total", &[]) >= 240.0)
        .await;
    monitor.stop().await;

    let monitor = Monitor::ready(&with("10d")).await;
    let problem = monitor.api().problem("overview?window=9d", 400).await;
    assert_eq!(problem["parameter"], "window", "{problem}");
    monitor.api().get("overview?window=25h").await;
    monitor.stop().await;
}

/// What a dollar is was changed, and rows keep the cost that they were counted with.
#[tokio::test]
async fn a_row_costs_what_it_cost_when_it_was_counted() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.exec("INSERT INTO options VALUES ('QuotaPerUnit', '500000')").await;
    let request = |id: &str, kind: i64, use_time: i64| LogRow {
        kind,
        use_time,
        request_id: id.into(),
        quota: if kind == 2 { 1000 } else { 0 },
        ..at(now() - 60)
    };
    // Of another second than those that come later: its id is given out again.
    let gone = LogRow { created_at: now() - 90, ..request("gone", 2, 20) };
    database.insert_logs(&[request("req-a", 5, 3), request("req-a", 2, 30), gone]).await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let api = monitor.api();
    database.exec("UPDATE options SET value = '250000' WHERE `key` = 'QuotaPerUnit'").await;
    database.exec("DELETE FROM logs WHERE request_id = 'gone'").await;
    let mut rows = 3;
    let cost = |item: &Value| item["cost_usd"].as_f64().expect("a cost");
    loop {
        database.insert_log(&request("req-b", 2, 1)).await;
        rows += 1;
        let all = async || api.get("overview").await["totals"]["requests"] == rows - 1;
        eventually("the row is counted", all).await;
        // It takes some seconds until somebody looks at the option again.
        if (cost(&api.get("logs?limit=1").await["items"][0]) - 0.004).abs() < 1e-9 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    let is = |what: &str, found: f64, wanted: f64| {
        assert!((found - wanted).abs() < 1e-9, "{what}: {found} instead of {wanted}");
    };
    let items = |list: &Value| list["items"].as_array().expect("a list").clone();
    for route in ["logs?outcome=success&limit=500", "slow-requests?limit=500"] {
        let found = items(&api.get(route).await);
        let first = found.iter().find(|item| item["id"] == 2).expect("the first request");
        is(route, cost(first), 0.002);
    }
    let slow = items(&api.get("slow-requests?limit=500").await);
    let gone = slow.iter().find(|item| item["detail_url"].is_null()).expect("a row that is gone");
    is("a row that is gone", cost(gone), 0.002);
    is("slow requests together", slow.iter().map(cost).sum(), cost(&api.get("overview").await["totals"]));
    for route in ["logs?request_id=req-a", "slow-requests?request_id=req-a", "requests/req-a"] {
        let found = items(&api.get(route).await);
        is(route, found.iter().map(cost).sum(), 0.002);
    }
    is("the story", cost(&api.get("requests/req-a").await["totals"]), 0.002);
    let detail = api.get("logs/2").await;
    is("the detail", cost(&detail), 0.002);
    is("the detail's cost", cost(&detail["cost"]), 0.002);
    monitor.stop().await;
}
