//! What boards ask beyond lists and sums: the newest row without knowing its id, a page that a changed filter made pointless, and
//! trends with more groups than anybody can look at.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Api, Folder, Monitor, eventually, flags, now, problem};

/// A monitor on a log with these rows.
struct World {
    api: Api,
    database: Database,
    monitor: Monitor,
    _folder: Folder,
}

impl World {
    async fn with(rows: &[LogRow]) -> Self {
        let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
        database.insert_logs(rows).await;
        let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
        Self { api: monitor.api(), database, monitor, _folder: folder }
    }

    /// Ids of the rows of a list.
    async fn ids(&self, route: &str) -> Vec<i64> {
        let page = self.api.get(route).await;
        let items = page["items"].as_array().expect("a list").iter();
        items.map(|item| item["id"].as_i64().expect("an id")).collect()
    }
}

#[tokio::test]
async fn the_newest_answered_request_is_found_without_its_id() {
    let world = World::with(&[]).await;
    let answer = world.api.ask("/api/v1/logs/latest").await;
    assert_eq!(problem("an empty log", &answer, 404)["type"], "/problems/not-found");

    let at = now() - 60;
    let row = |id: i64, kind: i64| LogRow { id: Some(id), kind, created_at: at + id, ..LogRow::default() };
    world.database.insert_logs(&[row(1, 2), row(2, 2), row(3, 5), row(4, 7)]).await;
    let latest = async |id: i64| {
        eventually(&format!("{id} is the latest"), async || {
            let answer = world.api.ask("/api/v1/logs/latest").await;
            answer.status == 200 && answer.json()["id"] == id
        })
        .await;
    };
    latest(2).await;
    assert_eq!(world.api.get("logs/latest").await, world.api.get("logs/2").await);
    // A row that was cleaned up is none that can be shown.
    world.database.exec("DELETE FROM logs WHERE id = 2").await;
    latest(1).await;
    world.monitor.stop().await;
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere_begins_with_the_first_page_if_that_is_wished() {
    let at = now() - 600;
    let row = |id: i64| LogRow {
        id: Some(id),
        created_at: at + id,
        model_name: if id % 3 == 0 { "claude".into() } else { "gpt-4o".into() },
        ..LogRow::default()
    };
    let world = World::with(&(1..=30).map(row).collect::<Vec<_>>()).await;
    let first = world.api.get("logs?limit=10").await;
    let cursor = first["next_cursor"].as_str().expect("a second page");
    let rows = |ids: std::ops::RangeInclusive<i64>| ids.rev().collect::<Vec<i64>>();

    // Its own list goes on.
    let own = format!("logs?limit=10&cursor={cursor}");
    assert_eq!(world.ids(&format!("{own}&stale_cursor=first")).await, rows(11..=20));
    // Another filter begins anew; without the wish it is refused.
    let filtered = format!("{own}&model=claude");
    let claude: Vec<i64> = rows(1..=30).into_iter().filter(|id| id % 3 == 0).collect();
    assert_eq!(world.ids(&format!("{filtered}&stale_cursor=first")).await, claude);
    for wish in ["", "&stale_cursor=", "&stale_cursor=refuse"] {
        assert_eq!(world.api.problem(&format!("{filtered}{wish}"), 400).await["parameter"], "cursor");
    }
    // So does a window that has nothing on this page.
    let later = format!("{own}&from={}&to={}", at + 25, at + 600);
    assert_eq!(world.ids(&later).await, Vec::<i64>::new());
    assert_eq!(world.ids(&format!("{later}&stale_cursor=first")).await, rows(25..=30));
    // What is no cursor is a mistake all the same.
    let garbage = world.api.problem("logs?cursor=garbage&stale_cursor=first", 400).await;
    assert_eq!(garbage["parameter"], "cursor");
    let odd = world.api.problem("logs?stale_cursor=maybe", 400).await;
    assert_eq!((&odd["parameter"], &odd["accepted"]), (&"stale_cursor".into(), &"refuse or first".into()));
    world.monitor.stop().await;
}

/// Users and minutes of a gateway whose trend by user has more points than are told.
const USERS: i64 = 250;
const MINUTES: i64 = 100;

#[tokio::test]
async fn a_trend_with_too_many_groups_tells_the_smallest_together() {
    let end = now() / 60 * 60 - 60;
    let row = |number: i64| LogRow {
        created_at: end - 60 * (MINUTES - number / USERS) + 30,
        username: format!("user-{}", number % USERS),
        quota: 1 + number % USERS,
        ..LogRow::default()
    };
    let world = World::with(&(0..USERS * MINUTES).map(row).collect::<Vec<_>>()).await;
    let window = format!("from={}&to={end}&step=1m", end - 60 * MINUTES);
    let whole = world.api.get(&format!("trend?{window}")).await;
    let by_user = world.api.get(&format!("trend?{window}&by=user")).await;
    let items = |trend: &Value| trend["items"].as_array().expect("a list").clone();
    assert!(items(&by_user).len() <= 20_000, "{} points", items(&by_user).len());
    assert!(items(&by_user).len() > 19_000, "{} points", items(&by_user).len());

    // Every step adds up to what it was.
    let mut sums: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    let mut others = 0;
    for item in items(&by_user) {
        let sum = sums.entry(item["time"].to_string()).or_default();
        for (total, field) in sum.iter_mut().zip(["requests", "quota", "tokens"]) {
            *total += item[field].as_u64().expect("a number");
        }
        others += u64::from(item["username"] == "_other");
    }
    for item in items(&whole) {
        let expected = ["requests", "quota", "tokens"].map(|field| item[field].as_u64().expect("a number"));
        assert_eq!(sums.get(&item["time"].to_string()), Some(&expected), "{}", item["time"]);
    }
    assert_eq!(i64::try_from(others), Ok(MINUTES), "the rest is a point of each step");
    // Those who spend most keep their names, those who spend least do not.
    let told = |user: &str| items(&by_user).iter().filter(|item| item["username"] == user).count();
    assert_eq!((told(&format!("user-{}", USERS - 1)), told("user-0")), (100, 0));
    world.monitor.stop().await;
}
