//! Bodies of requests where a fork of new-api stores them: plain and packed, on every engine, by either join.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use token_monitor::config::Flags;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, flags, now};

/// The most of a body that is shown.
pub const MOST: usize = 1 << 20;

/// Text as some forks pack it.
pub fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("into memory");
    encoder.finish().expect("into memory")
}

/// Bytes as a literal of the engine's SQL.
pub fn binary(engine: Engine, bytes: &[u8]) -> String {
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    if engine == Engine::Postgres { format!("'\\x{hex}'::bytea") } else { format!("X'{hex}'") }
}

/// Types for a long text and for long bytes.
pub fn types(engine: Engine) -> (&'static str, &'static str) {
    match engine {
        Engine::Sqlite => ("text", "blob"),
        Engine::MySql => ("longtext", "longblob"),
        Engine::Postgres => ("text", "bytea"),
    }
}

fn row(request_id: &str) -> LogRow {
    LogRow { request_id: request_id.into(), created_at: now() - 60, ..LogRow::default() }
}

/// What a detail shows: both bodies, and what it says of them.
fn shown(detail: &Value) -> (&Value, &Value, &Value) {
    (&detail["request"]["body"], &detail["response"]["body"], &detail["bodies"])
}

const REQUEST: &str =
    r#"{"model":"gpt-4o","messages":[{"role":"user","content":"你好 \"quoted\""}],"a":1,"Z":null}"#;
const RESPONSE: &str = r#"{"choices":[{"message":{"content":"hi"}}],"usage":{"total_tokens":7}}"#;
const EVENTS: &str = "data: {\"delta\":\"h\"}\n\ndata: [DONE]\n\n";

struct World {
    monitor: Monitor,
    database: Database,
    _folder: Folder,
}

/// A log of six requests, `req-1` to `req-6`, and a table as it is given.
async fn world(engine: Engine, statements: &[String], settings: impl FnOnce(Flags) -> Flags) -> World {
    let (database, folder) = (Database::create(engine, Version::V1_0_0Rc24).await, Folder::new());
    let rows: Vec<LogRow> = (1..=6).map(|number| row(&format!("req-{number}"))).collect();
    database.insert_logs(&rows).await;
    for statement in statements {
        database.exec(statement).await;
    }
    let monitor = Monitor::ready(&settings(flags(&database.url, &folder.path()))).await;
    World { monitor, database, _folder: folder }
}

async fn bodies_are_shown(engine: Engine, join: &str) {
    let what = format!("{engine:?} by {join}");
    let (text, bytes) = types(engine);
    let key = |number: i64| if join == "log_id" { number.to_string() } else { format!("'req-{number}'") };
    let kind = if join == "log_id" { "bigint" } else { "varchar(64)" };
    let long = "é".repeat(MOST);
    let insert = |number: i64, request: String, response: String| {
        format!(
            "INSERT INTO my_bodies ({join}, asked, answered) VALUES ({}, {request}, {response})",
            key(number)
        )
    };
    let quoted = |text: &str| engine.literal(text);
    let statements = [
        format!("CREATE TABLE my_bodies ({join} {kind}, asked {text}, answered {bytes})"),
        insert(1, quoted(REQUEST), binary(engine, RESPONSE.as_bytes())),
        insert(2, quoted(REQUEST), binary(engine, &gzip(RESPONSE))),
        insert(3, quoted(&long), binary(engine, &gzip(&long))),
        insert(4, quoted("not JSON"), binary(engine, EVENTS.as_bytes())),
        insert(5, "NULL".into(), binary(engine, &gzip(RESPONSE)[..8])),
    ];
    let settings = |flags| Flags {
        body_table: Some("my_bodies".into()),
        body_request_column: Some("asked".into()),
        body_response_column: Some("answered".into()),
        body_join: Some(join.into()),
        ..flags
    };
    let world = world(engine, &statements, settings).await;
    let api = world.monitor.api();
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");

    for id in [1, 2] {
        let detail = api.get(&format!("logs/{id}")).await;
        let (request, response, state) = shown(&detail);
        assert_eq!((request, response), (&json(REQUEST), &json(RESPONSE)), "{what}");
        let wanted = json!({"available": true, "source": "table my_bodies (asked, answered)", "reason": null, "truncated": false});
        assert_eq!(state, &wanted, "{what}");
        // In their own order, ready to be read.
        let text = detail["request_text"].as_str().expect("a text");
        assert!(text.contains("你好") && text.find("\"messages\"") < text.find("\"a\""), "{what}: {text}");
    }
    let detail = api.get("logs/3").await;
    let (request, response, state) = shown(&detail);
    for body in [request, response] {
        let body = body.as_str().expect("a text");
        assert!(body.len() <= MOST + 8 && body.len() > MOST - 8, "{what}: {} bytes", body.len());
        assert!(body.chars().all(|letter| letter == 'é'), "{what}: not cut between letters");
    }
    assert_eq!((&state["available"], &state["truncated"]), (&json!(true), &json!(true)), "{what}");

    let detail = api.get("logs/4").await;
    let (request, response, _) = shown(&detail);
    assert_eq!((request, response), (&json!("not JSON"), &json!(EVENTS)), "{what}");

    // Broken, and nothing at all: said, and the rest of the detail is there.
    for (id, reason) in
        [(5, "no body of the request is stored"), (5, "broken gzip"), (6, "table my_bodies has no row")]
    {
        let detail = api.get(&format!("logs/{id}")).await;
        let (request, response, state) = shown(&detail);
        assert!(request.is_null() && response.is_null(), "{what}: {detail}");
        assert_eq!(state["available"], false, "{what}");
        assert!(state["reason"].as_str().is_some_and(|text| text.contains(reason)), "{what}: {state}");
        assert_eq!(detail["request_id"], format!("req-{id}"), "{what}");
    }

    table_goes_away(&what, &world).await;
    world.monitor.stop().await;
}

/// The table goes away, and comes back with other columns: each time it is said what is missing.
async fn table_goes_away(what: &str, world: &World) {
    let api = world.monitor.api();
    world.database.exec("DROP TABLE my_bodies").await;
    for (repair, reason) in [
        ("", "missing table"),
        ("CREATE TABLE my_bodies (log_id bigint, request_id varchar(64), asked text)", "missing column"),
    ] {
        if !repair.is_empty() {
            world.database.exec(repair).await;
        }
        let detail = api.get("logs/1").await;
        let state = &detail["bodies"];
        assert_eq!(state["available"], false, "{what}");
        assert!(
            state["reason"].as_str().is_some_and(|text| text.contains(reason)),
            "{what}, {reason}: {state}"
        );
    }
}

#[tokio::test]
async fn bodies_of_a_configured_table_are_shown_by_the_id_of_the_row() {
    for engine in Engine::ALL {
        bodies_are_shown(engine, "log_id").await;
    }
}

#[tokio::test]
async fn bodies_of_a_configured_table_are_shown_by_the_id_of_the_request() {
    for engine in Engine::ALL {
        bodies_are_shown(engine, "request_id").await;
    }
}

#[tokio::test]
async fn bodies_of_a_known_fork_need_its_name_only() {
    for engine in Engine::ALL {
        let (_, bytes) = types(engine);
        let packed = binary(engine, &gzip(REQUEST));
        let statements = [
            format!(
                "CREATE TABLE log_details (id bigint, request_id varchar(64), request_body_gz {bytes}, response_body_gz {bytes}, upstream_req_gz {bytes})"
            ),
            format!(
                "INSERT INTO log_details VALUES (1, 'req-2', {packed}, {}, NULL)",
                binary(engine, &gzip(EVENTS))
            ),
        ];
        let world =
            world(engine, &statements, |flags| Flags { body_preset: Some("liuxsh9".into()), ..flags }).await;
        let api = world.monitor.api();
        let detail = api.get("logs/2").await;
        let (request, response, state) = shown(&detail);
        assert_eq!(request, &serde_json::from_str::<Value>(REQUEST).expect("JSON"), "{engine:?}");
        assert_eq!(response, EVENTS, "{engine:?}");
        assert_eq!(state["source"], "table log_details (request_body_gz, response_body_gz)", "{engine:?}");
        assert_eq!(api.get("logs/1").await["bodies"]["available"], false, "{engine:?}");
        world.monitor.stop().await;
    }
}

/// A fork's name, its table as the fork makes it, a row of it for `req-2`, and the columns that are shown.
type Fork = (&'static str, fn(Engine) -> String, fn(Engine) -> String, &'static str);

const FORKS: [Fork; 3] = [
    (
        "cppbear",
        |engine| {
            let text = types(engine).0;
            format!(
                "CREATE TABLE log_details (id bigint, log_id bigint, downstream_request {text}, upstream_request {text}, upstream_response {text}, downstream_response {text})"
            )
        },
        |engine| {
            let (request, response) = (engine.literal(REQUEST), engine.literal(RESPONSE));
            format!("INSERT INTO log_details VALUES (7, 2, {request}, 'not this', 'nor this', {response})")
        },
        "table log_details (downstream_request, downstream_response)",
    ),
    (
        "kill136",
        |engine| {
            let text = types(engine).0;
            format!(
                "CREATE TABLE request_logs (id bigint, request_id varchar(64), request_body {text}, response_body {text})"
            )
        },
        |engine| {
            let (request, response) = (engine.literal(REQUEST), engine.literal(RESPONSE));
            format!("INSERT INTO request_logs VALUES (7, 'req-2', {request}, {response})")
        },
        "table request_logs (request_body, response_body)",
    ),
    (
        "apimeter",
        |engine| {
            let text = types(engine).0;
            format!(
                "CREATE TABLE error_request_logs (id bigint, log_id bigint, request_id varchar(64), request_body {text}, request_headers {text})"
            )
        },
        |engine| {
            let request = engine.literal(REQUEST);
            format!(
                "INSERT INTO error_request_logs VALUES (7, 2, 'req-2', {request}, 'Authorization: Bearer x')"
            )
        },
        "table error_request_logs (request_body)",
    ),
];

#[tokio::test]
async fn every_other_known_fork_needs_its_name_only_too() {
    for engine in Engine::ALL {
        for (name, table, row, source) in FORKS {
            let what = format!("{name} on {engine:?}");
            let settings = |flags| Flags { body_preset: Some(name.into()), ..flags };
            let world = world(engine, &[table(engine), row(engine)], settings).await;
            let api = world.monitor.api();
            let detail = api.get("logs/2").await;
            let (request, response, state) = shown(&detail);
            assert_eq!(request, &serde_json::from_str::<Value>(REQUEST).expect("JSON"), "{what}");
            // It keeps the requests that failed, and no answers.
            let wanted =
                if name == "apimeter" { Value::Null } else { serde_json::from_str(RESPONSE).expect("JSON") };
            assert_eq!(response, &wanted, "{what}");
            let found = (&state["available"], &state["source"], &state["truncated"]);
            assert_eq!(found, (&json!(true), &json!(source), &json!(false)), "{what}");
            let other = api.get("logs/1").await;
            assert_eq!(other["bodies"]["available"], false, "{what}");
            world.monitor.stop().await;
        }
    }
}

/// Types of columns that hold JSON only.
fn json_types(engine: Engine) -> &'static [&'static str] {
    match engine {
        Engine::Sqlite | Engine::MySql => &["json"],
        Engine::Postgres => &["json", "jsonb"],
    }
}

#[tokio::test]
async fn bodies_in_columns_of_json_are_shown() {
    for engine in Engine::ALL {
        for kind in json_types(engine) {
            let what = format!("{kind} of {engine:?}");
            let (request, response) = (engine.literal(REQUEST), engine.literal(RESPONSE));
            let long = format!(r#"{{"text":"{}"}}"#, "y".repeat(MOST + 100));
            let statements = [
                format!("CREATE TABLE my_bodies (log_id bigint, asked {kind}, answered {kind})"),
                format!("INSERT INTO my_bodies VALUES (1, {request}, {response})"),
                "INSERT INTO my_bodies VALUES (2, NULL, '[]')".to_owned(),
                format!("INSERT INTO my_bodies VALUES (3, {}, NULL)", engine.literal(&long)),
            ];
            let settings = |flags| Flags {
                body_table: Some("my_bodies".into()),
                body_request_column: Some("asked".into()),
                body_response_column: Some("answered".into()),
                body_join: Some("log_id".into()),
                ..flags
            };
            let world = world(engine, &statements, settings).await;
            let api = world.monitor.api();
            let detail = api.get("logs/1").await;
            let (request, response, state) = shown(&detail);
            let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
            assert_eq!((request, response), (&json(REQUEST), &json(RESPONSE)), "{what}");
            assert_eq!((&state["available"], &state["reason"]), (&json!(true), &Value::Null), "{what}");
            let detail = api.get("logs/2").await;
            assert_eq!(shown(&detail).0, &Value::Null, "{what}");
            assert_eq!(shown(&detail).1, &json!([]), "{what}");
            let detail = api.get("logs/3").await;
            let (request, _, state) = shown(&detail);
            assert!(request.as_str().is_some_and(|text| text.len() <= MOST + 8), "{what}");
            assert_eq!(state["truncated"], true, "{what}");
            world.monitor.stop().await;
        }
    }
}
