//! Every route on every engine and version answers what plain SQL says of the same rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use token_monitor::demo;

use super::details::check_details;
use super::oracle::{
    Row, assert_fields, change, channel_names, grouped, measures, moment, quota_per_unit, rows, totals,
};
use crate::engines::{install, log_row};
use crate::installation::every_kind_of_row;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Api, Folder, Monitor, flags, now};

/// The last second of the rows; windows that are compared end after it.
static END: LazyLock<i64> = LazyLock::new(|| now() - 60);

/// More than a thousand rows of the last hours, of every kind that the demo and the other tests know.
static ROWS: LazyLock<Vec<LogRow>> = LazyLock::new(|| {
    let mut rows: Vec<LogRow> = demo::history(11, *END - 9 * 3600, *END, 0.05).map(log_row).collect();
    // Broken ones too, in the middle of the others.
    rows.extend(every_kind_of_row(*END - 2 * 3600));
    for row in &mut rows {
        // What the column holds on servers that care.
        row.request_id.truncate(64);
    }
    rows
});

/// An installation with all rows, and what plain SQL says of it.
pub struct World {
    what: String,
    pub api: Api,
    pub database: Database,
    /// All of the log, by id.
    pub rows: Vec<Row>,
    /// Names of channels.
    pub names: BTreeMap<i64, String>,
    /// Quota that is worth a dollar.
    pub per_unit: f64,
}

impl World {
    /// Rows from `from` to before `to`.
    fn between(&self, from: i64, to: i64) -> Vec<&Row> {
        self.rows.iter().filter(|row| (from..to).contains(&row.created_at)).collect()
    }

    fn has_request_ids(&self) -> bool {
        self.database.version.has_column("request_id")
    }

    /// The installation and a part of it, in words.
    pub fn what(&self, part: &str) -> String {
        format!("{}, {part}", self.what)
    }
}

async fn answers_equal_sql(engine: Engine, version: Version, per_unit: Option<&str>) {
    let (database, folder) = (Database::create(engine, version).await, Folder::new());
    install(&database, per_unit).await;
    database.insert_logs(&ROWS).await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let world = World {
        what: format!("{engine:?} {version:?}"),
        api: monitor.api(),
        rows: rows(&database).await,
        names: channel_names(&database).await,
        per_unit: quota_per_unit(&database).await,
        database,
    };
    assert!(world.rows.len() > 1200, "{} rows", world.rows.len());
    check_overviews(&world).await;
    check_trends(&world).await;
    check_slow_requests(&world).await;
    check_logs(&world).await;
    check_details(&world).await;
    check_requests(&world).await;
    check_channels(&world).await;
    check_models(&world).await;
    monitor.stop().await;
}

#[tokio::test]
async fn every_version_on_sqlite_answers_what_sql_says() {
    for version in Version::ALL {
        answers_equal_sql(Engine::Sqlite, version, (version == Version::V0_13_2).then_some("250000")).await;
    }
}

#[tokio::test]
async fn every_version_of_new_api_on_mariadb_answers_what_sql_says() {
    for version in [Version::V0_6_3, Version::V0_13_2, Version::V1_0_0Rc24] {
        answers_equal_sql(Engine::MySql, version, None).await;
    }
}

#[tokio::test]
async fn every_version_of_new_api_on_postgres_answers_what_sql_says() {
    for version in [Version::V0_6_3, Version::V0_13_2, Version::V1_0_0Rc24] {
        answers_equal_sql(Engine::Postgres, version, (version == Version::V0_6_3).then_some("1000000")).await;
    }
}

/// A filter as a query and as a condition.
type Filter<'a> = (&'a str, &'a dyn Fn(&Row) -> bool);

/// Filters that every route about rows takes: those by who asked for what.
const FILTERS: [Filter<'_>; 8] = [
    ("", &|_| true),
    ("&channel_id=*&model=.*&group=", &|_| true),
    ("&channel_id=1,2,777", &|row| [1, 2, 777].contains(&row.channel)),
    ("&model=gpt-4o,claude-sonnet-4", &|row| ["gpt-4o", "claude-sonnet-4"].contains(&row.model.as_str())),
    ("&group=vip", &|row| row.group == "vip"),
    ("&username=alice,bob", &|row| ["alice", "bob"].contains(&row.username.as_str())),
    ("&token_name=default", &|row| row.token_name == "default"),
    ("&stream=true&channel_id=1,3", &|row| row.stream && [1, 3].contains(&row.channel)),
];

async fn check_overviews(world: &World) {
    let end = *END + 1;
    for (from, to) in [(end - 4 * 3600, end), (end - 2 * 3600 - 7, end - 3600), (end - 3600, end)] {
        // The others once.
        let others: &[Filter<'_>] = if to - from == 4 * 3600 { &ROW_FILTERS } else { &[] };
        for (query, passes) in FILTERS.iter().chain(others) {
            let what = world.what(&format!("overview of {from} to {to}{query}"));
            let found = world.api.get(&format!("overview?from={from}&to={to}{query}")).await;
            let rows: Vec<&Row> = world.between(from, to).into_iter().filter(|row| passes(row)).collect();
            let before: Vec<&Row> =
                world.between(2 * from - to, from).into_iter().filter(|row| passes(row)).collect();
            let (now, before) = (totals(&rows, world.per_unit), totals(&before, world.per_unit));
            assert_eq!((&found["from"], &found["to"]), (&json!(moment(from)), &json!(moment(to))));
            assert_fields(&what, &found["totals"], &now);
            assert_fields(&format!("{what}, change"), &found["change"], &change(&now, &before));
            check_groups(&what, world, &found, &rows, &now);
        }
    }
}

fn check_groups(what: &str, world: &World, found: &Value, rows: &[&Row], totals: &Map<String, Value>) {
    type Key = fn(&Row) -> String;
    let groupings: [(&str, &str, Key, bool); 3] = [
        ("by_model", "model", |row| row.model.clone(), true),
        ("by_channel", "channel_id", |row| row.channel.to_string(), true),
        // Percentiles of every user would cost more than they tell.
        ("by_user", "username", |row| row.username.clone(), false),
    ];
    for (list, key, of, percentiles) in groupings {
        let mut wanted = grouped(rows, of);
        let items = found[list].as_array().expect("a list");
        let costs: Vec<f64> = items.iter().map(|item| item["cost_usd"].as_f64().expect("a cost")).collect();
        assert!(costs.is_sorted_by(|a, b| a >= b), "{what}, {list}: {costs:?}");
        for item in items {
            let name = item[key].as_str().map_or_else(|| item[key].to_string(), str::to_owned);
            let what = format!("{what}, {list} {name}");
            let rows = wanted.remove(&name).unwrap_or_else(|| panic!("{what}: not to be there"));
            let measures = measures(&rows, world.per_unit, percentiles);
            assert_fields(&what, item, &measures);
            for (share, of) in [("tokens_share", "tokens"), ("cost_share", "cost_usd")] {
                let whole = totals[of].as_f64().filter(|whole| *whole > 0.0);
                let part = whole.map(|whole| measures[of].as_f64().expect("a number") / whole);
                assert_fields(&what, item, &Map::from_iter([(share.to_owned(), json!(part))]));
            }
            if list == "by_channel" {
                let name = item["channel_id"].as_i64().and_then(|id| world.names.get(&id));
                assert_eq!(item["channel_name"], name.cloned().unwrap_or_default(), "{what}");
            }
        }
        assert!(wanted.is_empty(), "{what}, {list}: missing are {:?}", wanted.keys());
    }
}

/// A dimension of a trend: its name, the field of an item, and what a row has.
type By = (&'static str, &'static str, fn(&Row) -> Value);

const DIMENSIONS: [By; 3] = [
    ("model", "model", |row| json!(row.model)),
    ("channel", "channel_id", |row| json!(row.channel)),
    ("user", "username", |row| json!(row.username)),
];

async fn check_trends(world: &World) {
    let end = *END + 1;
    for (from, to, step) in [(end - 6 * 3600, end, 3600), (end - 5000, end - 600, 300), (end - 900, end, 60)]
    {
        for (query, passes) in [FILTERS[0], FILTERS[2], FILTERS[5], ROW_FILTERS[1], ROW_FILTERS[2]] {
            let query = format!("from={from}&to={to}&step={step}s{query}");
            let what = world.what(&format!("trend {query}"));
            let rows: Vec<&Row> = world.between(from, to).into_iter().filter(|row| passes(row)).collect();
            let start = |row: &Row| row.created_at - row.created_at % step;
            let found = world.api.get(&format!("trend?{query}")).await;
            let items = found["items"].as_array().expect("a list");
            let starts: Vec<i64> = (from / step..=(to - 1) / step).map(|at| at * step).collect();
            let times: Vec<Value> = starts.iter().map(|at| json!(moment(*at))).collect();
            assert_eq!(items.iter().map(|item| item["time"].clone()).collect::<Vec<_>>(), times, "{what}");
            for (item, at) in items.iter().zip(&starts) {
                let rows: Vec<&Row> = rows.iter().filter(|row| start(row) == *at).copied().collect();
                assert_fields(&format!("{what} at {at}"), item, &measures(&rows, world.per_unit, true));
            }
            let sum =
                |name: &str| items.iter().map(|item| item[name].as_f64().expect("a number")).sum::<f64>();
            for (name, whole) in measures(&rows, world.per_unit, false) {
                if !name.contains("seconds") && !name.contains("share") {
                    let whole = whole.as_f64().expect("a number");
                    assert!((sum(&name) - whole).abs() <= 1e-9 * whole.max(1.0), "{what}: steps of {name}");
                }
            }
            for (by, field, of) in DIMENSIONS {
                let found = world.api.get(&format!("trend?{query}&by={by}")).await;
                check_trend_by(
                    &format!("{what} by {by}"),
                    world,
                    &found,
                    field,
                    |row| (moment(start(row)), of(row)),
                    &rows,
                );
            }
        }
    }
}

fn check_trend_by(
    what: &str,
    world: &World,
    found: &Value,
    field: &str,
    cell: impl Fn(&Row) -> (String, Value),
    rows: &[&Row],
) {
    let key = |time: &str, group: &Value| format!("{time} {group}");
    let mut wanted = grouped(rows, |row| {
        let (time, group) = cell(row);
        key(&time, &group)
    });
    let items = found["items"].as_array().expect("a list");
    assert!(items.is_sorted_by_key(|item| item["time"].as_str().map(str::to_owned)), "{what}");
    for item in items {
        let name = key(item["time"].as_str().expect("a time"), &item[field]);
        let rows = wanted.remove(&name).unwrap_or_default();
        assert_fields(&format!("{what}, {name}"), item, &measures(&rows, world.per_unit, false));
    }
    assert!(wanted.is_empty(), "{what}: missing are {:?}", wanted.keys());
}

/// Ids of items.
fn ids(items: &[Value]) -> Vec<i64> {
    items.iter().map(|item| item["id"].as_i64().expect("an id")).collect()
}

/// Filters by what a row is.
const ROW_FILTERS: [Filter<'_>; 9] = [
    ("&type=*&request_id=*&min_duration=.*&outcome=*", &|_| true),
    ("&min_duration=5s", &|row| row.ms >= 5000),
    ("&min_duration=2.5&stream=false", &|row| row.ms >= 2500 && !row.stream),
    ("&outcome=client_gone,stream_error", &|row| ["client_gone", "stream_error"].contains(&row.outcome())),
    ("&outcome=success&group=default", &|row| row.outcome() == "success" && row.group == "default"),
    ("&stream=true", &|row| row.stream),
    ("&outcome=error", &|row| row.outcome() == "error"),
    ("&type=5,6", &|row| [5, 6].contains(&row.kind)),
    ("&type=2&request_id=.*&outcome=success,refund", &|row| row.kind == 2 && row.outcome() == "success"),
];

async fn check_slow_requests(world: &World) {
    let end = *END + 1;
    for (from, to) in [(end - 8 * 3600, end), (end - 7200, end - 3600)] {
        for (query, passes) in FILTERS.into_iter().chain(ROW_FILTERS) {
            let what = world.what(&format!("slow-requests of {from} to {to}{query}"));
            let mut wanted: Vec<&Row> = world.between(from, to);
            wanted.retain(|row| row.answered() && passes(row));
            wanted.sort_by_key(|row| (-row.ms, -row.created_at, -row.id));
            let route = format!("slow-requests?from={from}&to={to}&limit=25{query}");
            let found = world.api.get(&route).await;
            let items = found["items"].as_array().expect("a list");
            assert_eq!(found["next"].is_string(), wanted.len() > 25, "{what}");
            wanted.truncate(25);
            assert_eq!(ids(items), wanted.iter().map(|row| row.id).collect::<Vec<_>>(), "{what}");
            for (item, row) in items.iter().zip(wanted) {
                check_row(&what, world, item, row);
                let tried: Vec<i64> = item["attempts"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|attempt| attempt["channel_id"].as_i64().expect("an id"))
                    .collect();
                let recorded = row.tried();
                let alone = vec![row.channel];
                assert_eq!(tried, if recorded.is_empty() { alone } else { recorded }, "{what}: {row:?}");
            }
        }
    }
    assert_eq!(world.api.get("slow-requests").await["items"].as_array().map(Vec::len), Some(20));
}

/// A row as lists and details show it.
pub fn check_row(what: &str, world: &World, item: &Value, row: &Row) {
    let Value::Object(wanted) = row.shown(&world.names, world.per_unit) else { panic!("an object") };
    // A deleted channel has the name that its rows recorded, if any did.
    let mut wanted = wanted;
    if !world.names.contains_key(&row.channel) {
        wanted.remove("channel_name");
    }
    wanted.insert("duration_seconds".into(), json!(row.ms.max(0) as f64 / 1000.0));
    assert_fields(&format!("{what}, row {}", row.id), item, &wanted);
    let failed = ["error", "stream_error", "client_gone"].contains(&row.outcome());
    assert_eq!(item["error"].is_string(), failed, "{what}, row {}: {item}", row.id);
}

async fn check_logs(world: &World) {
    let end = *END + 1;
    let kinds: Filter<'_> = ("&type=5,6,3", &|row| [5, 6, 3].contains(&row.kind));
    let tests: Filter<'_> = ("&outcome=test,settlement,refund,other", &|row| {
        ["test", "settlement", "refund", "other"].contains(&row.outcome())
    });
    let all = FILTERS.into_iter().chain(ROW_FILTERS).chain([kinds, tests]);
    for (number, (query, passes)) in all.enumerate() {
        // The whole log, and one window in turn.
        let (from, to) = if number % 2 == 0 { (0, i64::MAX) } else { (end - 5 * 3600, end - 3600) };
        let window = if number % 2 == 0 { String::new() } else { format!("&from={from}&to={to}") };
        let what = world.what(&format!("logs{window}{query}"));
        let mut wanted = world.between(from, to);
        wanted.retain(|row| passes(row));
        wanted.reverse();
        let (items, _) = world.api.pages(&format!("logs?limit=500{window}{query}")).await;
        assert_eq!(ids(&items), wanted.iter().map(|row| row.id).collect::<Vec<_>>(), "{what}");
        for (item, row) in items.iter().zip(wanted) {
            check_row(&what, world, item, row);
        }
    }
    assert_eq!(world.api.get("logs").await["items"].as_array().map(Vec::len), Some(50));
}

async fn check_requests(world: &World) {
    if !world.has_request_ids() {
        let problem = world.api.problem("requests/req-plain", 404).await;
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains("v0.10.8")), "{problem}");
        assert_eq!(world.api.get("logs?request_id=req-plain").await["items"], json!([]));
        return;
    }
    let mut by_request: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in world.rows.iter().filter(|row| !row.request_id.is_empty()) {
        by_request.entry(&row.request_id).or_default().push(row);
    }
    let several = by_request.iter().filter(|(_, rows)| rows.len() > 1).take(25);
    let single = by_request.iter().filter(|(_, rows)| rows.len() == 1).take(5);
    for (request_id, rows) in several.chain(single) {
        let what = world.what(&format!("request {request_id}"));
        let story = world.api.get(&format!("requests/{request_id}")).await;
        let items = story["items"].as_array().expect("a list");
        let wanted: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
        assert_eq!(ids(items).into_iter().collect::<BTreeSet<_>>(), wanted, "{what}");
        assert_eq!(items.len(), rows.len(), "{what}");
        for item in items {
            let row = rows.iter().find(|row| item["id"] == row.id).expect("the row");
            check_row(&what, world, item, row);
        }
        let answer = rows.iter().rfind(|row| row.answered());
        let failed = rows.iter().any(|row| row.outcome() == "error").then_some("error");
        if let Some(outcome) = answer.map(|row| row.outcome()).or(failed) {
            assert_eq!(story["outcome"], outcome, "{what}");
        }
        let (listed, _) = world.api.pages(&format!("logs?request_id={request_id}&limit=1")).await;
        assert_eq!(ids(&listed), wanted.iter().rev().copied().collect::<Vec<_>>(), "{what}: by filter");
        check_slow_request_of(&what, world, request_id, answer).await;
    }
    assert!(by_request.values().any(|rows| rows.len() > 1) && by_request.len() > 100, "{}", world.what);
}

/// A slow request is told the same, whether it is found by its duration or by its id.
async fn check_slow_request_of(what: &str, world: &World, request_id: &str, answer: Option<&&Row>) {
    let by_id = world.api.get(&format!("slow-requests?request_id={request_id}&window=24h")).await;
    let Some(row) = answer else {
        assert_eq!(by_id["items"], json!([]), "{what}: nothing was answered");
        return;
    };
    // One API's tests look like attempts, but only to one who has all rows of the request.
    if world.database.version == Version::OneApi {
        return;
    }
    let (from, to) = (row.created_at, row.created_at + 1);
    let (found, _) = world.api.pages(&format!("slow-requests?from={from}&to={to}&limit=100")).await;
    let found: Vec<&Value> = found.iter().filter(|item| item["request_id"] == request_id).collect();
    let by_id: Vec<&Value> = by_id["items"].as_array().expect("a list").iter().collect();
    assert_eq!(by_id, found, "{what}: the slow request");
}

/// The newest failed attempt among rows, as channels and models show it.
fn last_error(rows: &[&Row]) -> Value {
    let failed = rows.iter().filter(|row| row.outcome() == "error");
    failed.max_by_key(|row| (row.created_at, row.id)).map_or(Value::Null, |row| {
        json!([row.id, moment(row.created_at), row.other["status_code"], format!("/api/v1/logs/{}", row.id)])
    })
}

fn shown_error(item: &Value) -> Value {
    let error = &item["last_error"];
    if error.is_null() {
        return Value::Null;
    }
    json!([error["id"], error["created_at"], error["status_code"], error["detail_url"]])
}

/// Measures, share of success and last error of a channel or a model.
fn check_state(what: &str, world: &World, item: &Value, rows: &[&Row]) {
    assert_fields(what, item, &measures(rows, world.per_unit, true));
    let tried = rows.iter().filter(|row| row.answered() || row.outcome() == "error").count();
    let good = rows.iter().filter(|row| ["success", "client_gone"].contains(&row.outcome())).count();
    let share = (tried > 0).then(|| good as f64 / tried as f64);
    assert_fields(what, item, &Map::from_iter([("success_share".to_owned(), json!(share))]));
    assert_eq!(shown_error(item), last_error(rows), "{what}");
}

async fn check_channels(world: &World) {
    for filter in [FILTERS[0], ROW_FILTERS[0], ROW_FILTERS[1], ROW_FILTERS[2], ROW_FILTERS[7], FILTERS[4]] {
        check_channels_with(world, filter, &|_| true).await;
    }
    let some: Filter<'_> = ("&channel_id=1,3&type=2", &|row| [1, 3].contains(&row.channel) && row.kind == 2);
    check_channels_with(world, some, &|id| [1, 3].contains(&id)).await;
}

async fn check_channels_with(world: &World, (query, passes): Filter<'_>, listed: &dyn Fn(i64) -> bool) {
    let end = *END + 1;
    let (from, to) = (end - 3 * 3600, end);
    let found = world.api.get(&format!("channels?from={from}&to={to}{query}")).await;
    let items = found["items"].as_array().expect("a list");
    let mut rows = world.between(from, to);
    rows.retain(|row| passes(row));
    let group = world.database.engine.identifier("group");
    let sql = format!("SELECT id, type, status, {group}, used_quota, name FROM channels ORDER BY id");
    let channels: BTreeMap<i64, Vec<String>> = world
        .database
        .rows(&sql)
        .await
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>())
        .map(|row| (row[0].parse().expect("an id"), row))
        .collect();
    let active = rows.iter().filter(|row| row.channel != 0).map(|row| row.channel);
    let wanted: BTreeSet<i64> = channels.keys().copied().chain(active).filter(|id| listed(*id)).collect();
    let shown: Vec<i64> = items.iter().map(|item| item["channel_id"].as_i64().expect("an id")).collect();
    assert_eq!(shown, wanted.into_iter().collect::<Vec<_>>(), "{}", world.what(&format!("channels{query}")));
    for (item, id) in items.iter().zip(shown) {
        let what = world.what(&format!("channel {id}{query}"));
        let rows: Vec<&Row> = rows.iter().filter(|row| row.channel == id).copied().collect();
        check_state(&what, world, item, &rows);
        let Some(channel) = channels.get(&id) else { continue };
        let status = ["", "enabled", "manually_disabled", "auto_disabled"]
            [channel[2].parse::<usize>().expect("a status")];
        assert_eq!(item["status"], status, "{what}");
        assert_eq!(item["type"].to_string(), channel[1], "{what}");
        assert_eq!(item["group"], channel[3], "{what}");
        assert_eq!(item["used_quota"].to_string(), channel[4], "{what}");
        assert_eq!(item["channel_name"], channel[5], "{what}");
        assert!(item.get("key").is_none(), "{what}");
    }
}

async fn check_models(world: &World) {
    for filter in [FILTERS[0], ROW_FILTERS[0], ROW_FILTERS[1], ROW_FILTERS[2], ROW_FILTERS[7], FILTERS[4]] {
        check_models_with(world, filter, &|_| true).await;
    }
    let one: Filter<'_> = ("&model=gpt-4o&stream=true", &|row| row.model == "gpt-4o" && row.stream);
    check_models_with(world, one, &|name| name == "gpt-4o").await;
}

async fn check_models_with(world: &World, (query, passes): Filter<'_>, listed: &dyn Fn(&str) -> bool) {
    let end = *END + 1;
    let (from, to) = (end - 3 * 3600, end);
    let found = world.api.get(&format!("models?from={from}&to={to}{query}")).await;
    let items = found["items"].as_array().expect("a list");
    let mut rows = world.between(from, to);
    rows.retain(|row| passes(row));
    let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
    let offered = world.database.rows("SELECT models FROM channels").await;
    let offered = offered
        .iter()
        .flat_map(|row| text(&row[0]).split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>());
    let group = world.database.engine.identifier("group");
    let sql = format!(
        "SELECT model, {group}, sum(CASE WHEN enabled THEN 1 ELSE 0 END) FROM abilities GROUP BY model, {group}"
    );
    let abilities = world.database.rows(&sql).await;
    let served = abilities.iter().map(|row| text(&row[0]));
    let asked = rows.iter().filter(|row| row.answered()).map(|row| row.model.clone());
    let wanted: BTreeSet<String> =
        offered.chain(served).chain(asked).filter(|name| !name.is_empty() && listed(name)).collect();
    let shown: Vec<&str> = items.iter().map(|item| item["model"].as_str().expect("a name")).collect();
    let what = world.what(&format!("models{query}"));
    assert_eq!(shown, wanted.iter().map(String::as_str).collect::<Vec<_>>(), "{what}");
    for (item, model) in items.iter().zip(shown) {
        let what = world.what(&format!("model {model}{query}"));
        let rows: Vec<&Row> = rows.iter().filter(|row| row.model == model).copied().collect();
        check_state(&what, world, item, &rows);
        let mut groups: Vec<(String, String)> = item["groups"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|group| {
                (group["group"].as_str().expect("a name").to_owned(), group["enabled_channels"].to_string())
            })
            .collect();
        groups.sort();
        let mut wanted: Vec<(String, String)> = abilities
            .iter()
            .filter(|row| text(&row[0]) == model)
            .map(|row| (text(&row[1]), text(&row[2])))
            .collect();
        wanted.sort();
        assert_eq!(groups, wanted, "{what}");
    }
}

#[tokio::test]
async fn a_change_is_null_when_the_window_before_reaches_behind_what_is_known() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let row = |age: i64| LogRow { created_at: now() - age, ..LogRow::default() };
    database.insert_logs(&[row(100_000), row(90_000), row(5000), row(100)]).await;
    let history =
        token_monitor::config::Flags { history: Some("1d".into()), ..flags(&database.url, &folder.path()) };
    let monitor = Monitor::ready(&history).await;
    let api = monitor.api();
    let found = api.get("overview?window=1h").await;
    assert_eq!((&found["totals"]["requests"], &found["change"]["requests"]), (&json!(1), &json!(0.0)));
    for window in ["13h", "24h"] {
        let found = api.get(&format!("overview?window={window}")).await;
        assert_eq!(found["totals"]["requests"], 2, "rows older than the history are not counted");
        let Some(change) = found["change"].as_object() else { panic!("{found}") };
        let totals = found["totals"].as_object().expect("an object");
        assert!(change.values().all(Value::is_null), "{window}: {change:?}");
        assert_eq!(change.keys().collect::<Vec<_>>(), totals.keys().collect::<Vec<_>>());
    }
    monitor.stop().await;
}
