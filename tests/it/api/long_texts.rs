//! Rows whose texts are so long that one read brings only some of them: none is left out, none is called gone.

use serde_json::Value;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, flags, now};

/// Rows of a megabyte each; a read ends after eight megabytes.
const ROWS: i64 = 30;

/// The last ones belong to one request, which was tried again and again.
const OF_STORY: i64 = 20;

fn row(id: i64) -> LogRow {
    let of_story = id > ROWS - OF_STORY;
    let last = id == ROWS;
    let tried = vec![r#""1""#; usize::try_from(id - ROWS + OF_STORY).unwrap_or(1).max(1)].join(",");
    LogRow {
        id: Some(id),
        kind: if of_story && !last { 5 } else { 2 },
        created_at: now() - 600 + id,
        use_time: 100 - id,
        content: "status_code=503, upstream is busy".into(),
        request_id: if of_story { "req-story".into() } else { format!("req-{id}") },
        other: Some(format!(
            r#"{{"admin_info":{{"use_channel":[{tried}]}},"status_code":503,"prompt":"{}"}}"#,
            "x".repeat(1_000_000)
        )),
        ..LogRow::default()
    }
}

fn ids(items: &Value) -> Vec<i64> {
    let items = items.as_array().expect("a list");
    items.iter().map(|item| item["id"].as_i64().expect("an id")).collect()
}

async fn shows_all(engine: Engine) {
    let (database, folder) = (Database::create(engine, Version::V1_0_0Rc24).await, Folder::new());
    for id in 1..=ROWS {
        database.insert_log(&row(id)).await;
    }
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let api = monitor.api();
    let all: Vec<i64> = (1..=ROWS).rev().collect();

    for limit in [500, 13] {
        let (items, pages) = api.pages(&format!("logs?limit={limit}")).await;
        assert_eq!(ids(&Value::Array(items)), all, "{engine:?}, {limit} rows a page, {pages} pages");
    }
    let failed = api.get("logs?outcome=error&limit=500").await;
    assert_eq!(ids(&failed["items"]).len(), 19, "{engine:?}");

    let slow = api.get("slow-requests?limit=500").await;
    let slow = slow["items"].as_array().expect("a list");
    assert_eq!(slow.len(), 11, "{engine:?}");
    for item in slow {
        assert!(item["detail_url"].is_string(), "{engine:?}: {} is called gone", item["id"]);
        let attempts = item["attempts"].as_array().expect("a list").len();
        assert_eq!(attempts, if item["id"] == ROWS { 20 } else { 1 }, "{engine:?}: {item}");
    }

    for route in ["requests/req-story", "logs?request_id=req-story&limit=500"] {
        let story = api.get(route).await;
        let mut shown = ids(&story["items"]);
        shown.sort_unstable();
        assert_eq!(shown, (ROWS - OF_STORY + 1..=ROWS).collect::<Vec<_>>(), "{engine:?} {route}");
    }
    let detail = api.get(&format!("logs/{ROWS}")).await;
    let attempts = detail["timing"]["attempts"].as_array().expect("a list");
    assert_eq!(attempts.len(), 20, "{engine:?}");
    assert!(attempts.iter().all(|attempt| attempt["detail_url"].is_string()), "{engine:?}: {attempts:?}");
    monitor.stop().await;
}

#[tokio::test]
async fn rows_with_long_texts_are_all_shown_on_sqlite() {
    shows_all(Engine::Sqlite).await;
}

#[tokio::test]
async fn rows_with_long_texts_are_all_shown_on_mariadb_and_postgres() {
    for engine in [Engine::MySql, Engine::Postgres] {
        shows_all(engine).await;
    }
}
