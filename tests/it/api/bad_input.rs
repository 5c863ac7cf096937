//! What is asked wrongly is refused with a problem that names the parameter; nothing is guessed, nothing breaks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use token_monitor::config::Flags;

use super::oracle::moment;
use crate::installation::{CHANNELS, every_kind_of_row};
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Answer, Api, Folder, Monitor, eventually, flags, now, problem};

const PASSWORD: &str = "a password: with signs";
const TOKEN: &str = "metrics-token";

/// Routes that take a window.
const WINDOWED: [&str; 6] = ["overview", "trend", "slow-requests", "logs", "channels", "models"];

/// Routes about rows that cannot tell them by request.
const SUMS: [&str; 4] = ["overview", "trend", "channels", "models"];

/// All routes.
const ROUTES: [&str; 13] = [
    "overview",
    "trend",
    "slow-requests",
    "logs",
    "logs/1",
    "requests/req-plain",
    "channels",
    "models",
    "limits",
    "incidents",
    "deliveries",
    "breaker",
    "openapi.json",
];

struct World {
    monitor: Monitor,
    api: Api,
    _database: Database,
    _folder: Folder,
}

async fn world() -> World {
    let database = Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await;
    database.exec(CHANNELS).await;
    database.insert_logs(&every_kind_of_row(now() - 120)).await;
    let folder = Folder::new();
    let flags = Flags {
        access_password: Some(PASSWORD.into()),
        metrics_token: Some(TOKEN.into()),
        ..flags(&database.url, &folder.path())
    };
    let monitor = Monitor::ready(&flags).await;
    let api = Api::new(monitor.address, Some(PASSWORD));
    eventually("limits are looked at", async || api.ask("/api/v1/limits").await.status == 200).await;
    World { monitor, api, _database: database, _folder: folder }
}

/// Asserts that the parameter is refused, in words that say what would be accepted.
async fn refused(api: &Api, route: &str, parameter: &str) -> Value {
    let problem = api.problem(route, 400).await;
    assert_eq!(problem["parameter"], parameter, "{route}: {problem}");
    assert_eq!(problem["type"], "/problems/bad-parameter", "{route}");
    assert!(problem["accepted"].as_str().is_some_and(|text| !text.is_empty()), "{route}: {problem}");
    problem
}

#[tokio::test]
async fn unknown_and_repeated_parameters_are_refused_on_every_route() {
    let world = world().await;
    for route in ROUTES {
        world.api.get(route).await;
        refused(&world.api, &format!("{route}?nonsense=1"), "nonsense").await;
        // One that another route knows is not ignored either.
        let foreign = if route == "trend" { "limit" } else { "step" };
        refused(&world.api, &format!("{route}?{foreign}=10"), foreign).await;
    }
    for route in WINDOWED {
        refused(&world.api, &format!("{route}?window=1h&window=2h"), "window").await;
        refused(&world.api, &format!("{route}?window=&window="), "window").await;
        refused(&world.api, &format!("{route}?from=1&%66rom=2"), "from").await;
    }
    world.monitor.stop().await;
}

#[tokio::test]
async fn windows_that_cannot_be_are_refused_on_every_route() {
    let world = world().await;
    let now = now();
    for route in WINDOWED {
        let cases = [
            (format!("from={}&to={}", now - 60, now - 120), "from", "wrong way round"),
            (format!("from={0}&to={0}", moment(now - 60)), "from", "wrong way round"),
            (format!("from={}", now + 3600), "from", "has not come yet"),
            (format!("from={}", now - 33 * 86_400), "from", "HISTORY is 31d"),
            ("window=33d".to_owned(), "window", "HISTORY is 31d"),
            (format!("to={}", now - 40 * 86_400), "to", "HISTORY is 31d"),
            (format!("from={}&window=1h", now - 60), "window", "both"),
            ("window=0s".to_owned(), "window", "too short"),
            ("window=soon".to_owned(), "window", "not a duration"),
            ("from=yesterday".to_owned(), "from", "not an instant"),
            ("to=99999999999999999999".to_owned(), "to", "not an instant"),
            ("from=%FF".to_owned(), "from", "percent-encoded"),
            (format!("to={}", "1".repeat(2000)), "to", "characters long"),
        ];
        for (query, parameter, says) in cases {
            let problem = refused(&world.api, &format!("{route}?{query}"), parameter).await;
            let detail = problem["detail"].as_str().expect("a text");
            assert!(detail.contains(says), "{route}?{query}: {detail}");
        }
        let long = world.api.problem(&format!("{route}?from={}", "1".repeat(9000)), 414).await;
        assert_eq!(long["type"], "/problems/query-too-long");
    }
    world.monitor.stop().await;
}

#[tokio::test]
async fn limits_filters_and_steps_that_cannot_be_are_refused() {
    let world = world().await;
    for route in ["logs", "slow-requests", "limits", "incidents", "deliveries", "breaker"] {
        for limit in ["0", "501", "abc", "-1", "%2B5", "1e2", "99999999999999999999"] {
            refused(&world.api, &format!("{route}?limit={limit}"), "limit").await;
        }
        for limit in [1, 500] {
            world.api.get(&format!("{route}?limit={limit}")).await;
        }
    }
    for route in WINDOWED {
        for (parameter, value) in [
            ("outcome", "good"),
            ("min_duration", "-1"),
            ("min_duration", "long"),
            ("min_duration", "900000000"),
            ("stream", "1"),
            ("channel_id", "azure"),
            ("channel_id", "99999999999999999999"),
            ("channel_id", "-1"),
            ("model", "a%00b"),
            ("type", "8"),
            ("request_id", "%0a"),
        ] {
            refused(&world.api, &format!("{route}?{parameter}={value}"), parameter).await;
        }
    }
    for route in SUMS {
        let problem = refused(&world.api, &format!("{route}?request_id=req-plain"), "request_id").await;
        let said = problem["detail"].as_str().expect("a text");
        assert!(said.contains("no request ids"), "{said}");
    }
    // What a dashboard sends for All is no filter anywhere.
    for route in WINDOWED {
        for all in ["", "*", ".*"] {
            let filters = [
                "channel_id",
                "model",
                "group",
                "username",
                "token_name",
                "type",
                "request_id",
                "min_duration",
                "outcome",
            ];
            let query = filters.map(|filter| format!("{filter}={all}")).join("&");
            world.api.get(&format!("{route}?{query}")).await;
        }
    }
    let many = (0..200).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    refused(&world.api, &format!("logs?model={many}"), "model").await;
    for step in ["0s", "1s", "5", "90500ms", "90d", "long"] {
        refused(&world.api, &format!("trend?window=1h&step={step}"), "step").await;
    }
    refused(&world.api, "trend?window=31d&step=1m", "step").await;
    refused(&world.api, "trend?by=color", "by").await;
    world.monitor.stop().await;
}

#[tokio::test]
async fn cursors_of_other_lists_and_other_filters_are_refused() {
    let world = world().await;
    let cursor = async |route: &str| {
        let page = world.api.get(route).await;
        page["next_cursor"].as_str().unwrap_or_else(|| panic!("{route} has no second page")).to_owned()
    };
    let logs = cursor("logs?limit=2").await;
    let slow = cursor("slow-requests?limit=2").await;
    let filtered = cursor("logs?limit=2&model=gpt-4o").await;
    world.api.get(&format!("logs?limit=3&cursor={logs}")).await;
    for route in [
        format!("logs?cursor={slow}"),
        format!("slow-requests?cursor={logs}"),
        format!("logs?cursor={filtered}"),
        format!("logs?model=claude-sonnet-4&cursor={filtered}"),
        format!("logs?model=gpt-4o&outcome=success&cursor={filtered}"),
        format!("logs?cursor={}", &logs[1..]),
        format!("logs?cursor={logs}{logs}"),
        "logs?cursor=garbage".to_owned(),
        "logs?cursor=143217".to_owned(),
        "logs?cursor=..%2F..%2Fetc".to_owned(),
        format!("logs?cursor={}", STANDARD.encode([1; 49]).replace('+', "-").replace('/', "_")),
    ] {
        refused(&world.api, &route, "cursor").await;
    }
    world.monitor.stop().await;
}

#[tokio::test]
async fn ids_that_overflow_are_refused_and_unknown_ones_are_not_found() {
    let world = world().await;
    for id in
        ["9223372036854775808", "99999999999999999999999", "-1", "abc", "1.0", "%2B1", "0x1", "1%20", "%FF"]
    {
        refused(&world.api, &format!("logs/{id}"), "id").await;
    }
    let (long, odd) = ("x".repeat(129), "a%20b");
    for id in [&long, odd, "%E6%A8%A1", "%00"] {
        refused(&world.api, &format!("requests/{id}"), "request_id").await;
    }
    for route in ["logs/0", "logs/4000", "logs/9223372036854775807", "requests/req-of-nobody"] {
        let problem = world.api.problem(route, 404).await;
        assert_eq!(problem["type"], "/problems/not-found", "{route}");
    }
    for route in
        ["", "nothing", "logs/", "logs/1/more", "overview/", "requests/", "limits.yml", "%2E%2E%2Fmetrics"]
    {
        let answer = world.api.ask(&format!("/api/v1/{route}")).await;
        let problem = problem(route, &answer, 404);
        assert_eq!(problem["type"], "/problems/no-such-route", "{route}");
    }
    // Text that looks like SQL is text.
    for text in ["'%20OR%201=1--", "%22%3BDROP%20TABLE%20logs", "%25", "_"] {
        let found = world.api.get(&format!("logs?request_id={text}")).await;
        assert_eq!(found["items"], serde_json::json!([]), "{text}");
        let found = world.api.get(&format!("logs?model={text}")).await;
        assert_eq!(found["items"], serde_json::json!([]), "{text}");
    }
    assert!(world.api.get("logs").await["items"].as_array().is_some_and(|rows| rows.len() > 20));
    world.monitor.stop().await;
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let world = world().await;
    for route in ROUTES {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = world.api.ask_by(method, &format!("/api/v1/{route}")).await;
            let problem = problem(&format!("{method} {route}"), &answer, 405);
            assert_eq!(problem["type"], "/problems/method-not-allowed");
            assert!(answer.header("allow").contains("GET"), "{method} {route}: {:?}", answer.headers);
        }
        let head = world.api.ask_by("HEAD", &format!("/api/v1/{route}")).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "HEAD {route}");
    }
    world.monitor.stop().await;
}

/// The answer to a route asked with an `Authorization` header or without one.
async fn with_header(world: &World, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = reqwest::Client::new().get(format!("http://{}{path}", world.monitor.address));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Answer { status, headers, text: answer.text().await.expect("a body") }
}

#[tokio::test]
async fn without_the_password_nothing_of_the_api_is_answered() {
    let world = world().await;
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let wrong = [None, Some("Bearer wrong".to_owned()), Some(format!("Bearer {TOKEN}"))];
    let more =
        [basic(&format!("admin:{TOKEN}")), basic("admin:"), basic(PASSWORD), format!("Digest {PASSWORD}")];
    // Also where there is nothing, so that nobody can look around.
    let paths = ROUTES.iter().map(|route| format!("/api/v1/{route}"));
    let paths = paths.chain(["/api/v1", "/api/v1/", "/api/v1/nothing"].map(str::to_owned));
    for path in paths {
        for value in &wrong {
            unauthorized(&with_header(&world, &path, value.as_deref()).await, &path);
        }
    }
    for value in more {
        unauthorized(&with_header(&world, "/api/v1/logs", Some(&value)).await, &value);
    }
    for value in
        [format!("Bearer {PASSWORD}"), format!("bearer {PASSWORD}"), basic(&format!("anyone:{PASSWORD}"))]
    {
        assert_eq!(with_header(&world, "/api/v1/logs", Some(&value)).await.status, 200, "{value}");
    }
    // The token opens what it is for.
    let token = format!("Bearer {TOKEN}");
    assert_eq!(with_header(&world, "/metrics", Some(&token)).await.status, 200);
    for path in ["/", "/healthz", "/readyz"] {
        assert_eq!(with_header(&world, path, None).await.status, 200, "{path}");
    }
    world.monitor.stop().await;
}

fn unauthorized(answer: &Answer, what: &str) {
    let problem = problem(what, answer, 401);
    assert_eq!(problem["type"], "/problems/unauthorized", "{what}");
    assert!(answer.header("www-authenticate").starts_with("Basic realm="), "{what}: {:?}", answer.headers);
    assert!(!answer.text.contains(TOKEN) && !answer.text.contains(PASSWORD), "{what}");
}

#[tokio::test]
async fn a_row_that_nobody_expects_breaks_no_answer() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let odd = "o\"dd\\ \u{7f} <b>模型</b> \u{202e}";
    let row = LogRow {
        model_name: odd.into(),
        username: odd.into(),
        group: odd.into(),
        created_at: now(),
        ..LogRow::default()
    };
    let extreme = LogRow {
        quota: i64::MAX,
        prompt_tokens: i64::MAX,
        completion_tokens: i64::MIN,
        use_time: i64::MAX / 1000,
        ..row.clone()
    };
    let deep = LogRow { other: Some(format!("{}1{}", "[".repeat(5000), "]".repeat(5000))), ..row.clone() };
    let nested =
        LogRow { other: Some(format!("{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500))), ..row.clone() };
    database.insert_logs(&[row, extreme, deep, nested]).await;
    database.exec("INSERT INTO logs (id, type, created_at) VALUES (90, 2, strftime('%s')), (91, -7, strftime('%s')), (92, NULL, strftime('%s'))").await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let api = monitor.api();
    for route in ["overview", "trend", "slow-requests", "channels", "models"] {
        api.get(route).await;
    }
    let rows = api.get("logs").await;
    let rows = rows["items"].as_array().expect("a list");
    assert_eq!(rows.len(), 7, "{rows:?}");
    for row in rows {
        api.get(&format!("logs/{}", row["id"])).await;
    }
    assert_eq!(rows[6]["model"], odd);
    let found = api.get(&format!("logs?model={}", "o%22dd%5C%20%7F".replace("%7F", ""))).await;
    assert_eq!(found["items"], serde_json::json!([]));
    monitor.stop().await;
}
