//! The admin API against what real servers answered.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use rusqlite::Connection;
use tempfile::TempDir;

use super::super::world::{ADMIN_TOKEN, SECRET_MARK, USER_TOKEN};
use super::super::{live, populate, schema};
use super::*;

const NOW: i64 = 1_790_000_000;

struct Server {
    _dir: TempDir,
    shared: Arc<Shared>,
    address: SocketAddr,
    conn: Connection,
}

/// Without a history, which the admin API does not look at.
async fn start(generation: Generation) -> Server {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("one-api.db");
    let conn = Connection::open(&path).unwrap();
    schema::create(&conn).unwrap();
    populate::fill(&conn, NOW).unwrap();
    let shared = Arc::new(Shared {
        path,
        generation,
        now: std::sync::atomic::AtomicI64::new(NOW),
        wanted: std::sync::Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router(Arc::clone(&shared)).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Server { _dir: dir, shared, address, conn }
}

impl Server {
    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let address = self.address;
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
            (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
        })
        .await
        .unwrap()
    }

    /// As root, with every header that any version wants.
    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let headers = format!("Authorization: Bearer {ADMIN_TOKEN}\r\nNew-Api-User: 1\r\n");
        self.send(method, path, &headers, body).await
    }

    fn number(&self, sql: &str) -> i64 {
        self.conn.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn status_of(&self, id: i64) -> i64 {
        self.number(&format!("SELECT status FROM channels WHERE id = {id}"))
    }

    fn enabled(&self, id: i64) -> i64 {
        self.number(&format!("SELECT sum(enabled) FROM abilities WHERE channel_id = {id}"))
    }

    fn other_info(&self, id: i64) -> String {
        self.conn.query_row("SELECT other_info FROM channels WHERE id = ?", [id], |row| row.get(0)).unwrap()
    }
}

const INVALID: &str = r#"{"message":"Invalid parameters","success":false}"#;
const NOT_FOUND: &str = r#"{"message":"record not found","success":false}"#;

#[tokio::test]
async fn the_new_generation_switches_by_post_only() {
    let server = start(Generation::Post).await;
    let all = server.enabled(2);
    assert!(all > 0);
    let recorded = [
        ("PUT", "/api/channel/", r#"{"id": 2, "status": 2}"#, INVALID),
        ("PUT", "/api/channel/", r#"{"status": 2}"#, INVALID),
        ("POST", "/api/channel/2/status", r#"{"status": 3}"#, INVALID),
        ("POST", "/api/channel/abc/status", r#"{"status": 2}"#, INVALID),
        (
            "POST",
            "/api/channel/9999/status",
            r#"{"status": 2}"#,
            r#"{"data":false,"message":"","success":true}"#,
        ),
        (
            "POST",
            "/api/channel/2/status",
            r#"{"status": 1}"#,
            r#"{"data":false,"message":"","success":true}"#,
        ),
        ("GET", "/api/channel/9999", "", NOT_FOUND),
    ];
    for (method, path, body, answer) in recorded {
        assert_eq!(server.call(method, path, body).await, (200, answer.to_owned()), "{method} {path} {body}");
    }
    assert_eq!((server.status_of(2), server.enabled(2), server.other_info(2)), (1, all, String::new()));

    let yes = (200, r#"{"data":true,"message":"","success":true}"#.to_owned());
    assert_eq!(server.call("POST", "/api/channel/2/status", r#"{"status": 2}"#).await, yes);
    assert_eq!((server.status_of(2), server.enabled(2)), (2, 0));
    assert_eq!(server.other_info(2), r#"{"status_reason":"manual operation","status_time":1790000000}"#);
    assert_eq!(server.call("POST", "/api/channel/2/status", r#"{"status": 1}"#).await, yes);
    assert_eq!((server.status_of(2), server.enabled(2)), (1, all));

    let batch = r#"{"ids": [2, 5, 77], "status": 2}"#;
    let two = (200, r#"{"data":2,"message":"","success":true}"#.to_owned());
    assert_eq!(server.call("POST", "/api/channel/status/batch", batch).await, two);
    assert_eq!((server.status_of(2), server.status_of(5), server.enabled(5)), (2, 2, 0));
    assert!(server.other_info(5).contains("manual batch operation"));
    assert_eq!(server.number("SELECT count(*) FROM logs WHERE type <> 3"), 0);
    assert!(server.number("SELECT count(*) FROM logs WHERE type = 3") > 2, "administration is logged");
}

#[tokio::test]
async fn the_old_generation_switches_by_put_only() {
    let server = start(Generation::Put).await;
    let all = server.enabled(2);
    for path in ["/api/channel/2/status", "/api/channel/abc/status", "/api/channel/status/batch"] {
        let answer = format!(
            r#"{{"error":{{"message":"Invalid URL (POST {path})","type":"invalid_request_error","param":"","code":""}}}}"#
        );
        assert_eq!(server.call("POST", path, r#"{"status": 2}"#).await, (404, answer));
    }
    for body in [r#"{"id": 9999, "status": 2}"#, r#"{"status": 2}"#] {
        assert_eq!(server.call("PUT", "/api/channel/", body).await, (200, NOT_FOUND.to_owned()));
    }
    let (status, answer) = server.call("PUT", "/api/channel/", r#"{"id": 2, "status": 2}"#).await;
    assert!(
        status == 200
            && answer.starts_with(
                r#"{"data":{"id":2,"type":3,"key":"","openai_organization":null,"test_model":"gpt-4o-mini","status":2,"name":"azure-eu","weight":10,"created_time":"#
            ),
        "{answer}"
    );
    assert_eq!((server.status_of(2), server.enabled(2), server.other_info(2)), (2, 0, String::new()));
    server.call("PUT", "/api/channel/", r#"{"id": 2, "status": 7}"#).await;
    assert_eq!(server.status_of(2), 7, "any number will do");
    server.call("PUT", "/api/channel/", r#"{"id": 2, "status": 1}"#).await;
    assert_eq!((server.status_of(2), server.enabled(2)), (1, all));
}

#[tokio::test]
async fn both_generations_speak_gos_words_about_bad_bodies_and_change_weights() {
    for generation in [Generation::Put, Generation::Post] {
        let server = start(generation).await;
        let bad = r#"{"message":"invalid character 'b' looking for beginning of object key string","success":false}"#;
        assert_eq!(server.call("PUT", "/api/channel/", "{bad").await, (200, bad.to_owned()));
        let typed = r#"{"message":"json: cannot unmarshal string into Go struct field PatchChannel.Channel.id of type int","success":false}"#;
        let body = r#"{"id": "2", "status": 2}"#;
        assert_eq!(server.call("PUT", "/api/channel/", body).await, (200, typed.to_owned()));
        let (_, answer) =
            server.call("PUT", "/api/channel/", r#"{"weight": 0, "priority": 3, "id": 2}"#).await;
        assert!(answer.contains(r#""status":1,"name":"azure-eu","weight":0,"#), "{answer}");
        assert_eq!(server.number("SELECT min(priority) FROM abilities WHERE channel_id = 2"), 3);
        assert_eq!(server.status_of(2), 1);
    }
}

#[tokio::test]
async fn credentials_are_checked_as_each_generation_does() {
    let old = |text: &str| format!(r#"{{"message":"Unauthorized, {text}","success":false}}"#);
    let invalid_new =
        r#"{"code":"AUTH_UNAUTHORIZED","message":"Unauthorized, invalid access token","success":false}"#
            .to_owned();
    let bearer = format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
    let low = format!("Authorization: Bearer {USER_TOKEN}\r\nNew-Api-User: 3\r\n");
    let cases = [
        (bearer.clone(), Some((401, old("New-Api-User header not provided"))), None),
        (
            format!("{bearer}New-Api-User: 2\r\n"),
            Some((401, old("New-Api-User does not match logged in user"))),
            None,
        ),
        (format!("{bearer}New-Api-User: 1\r\n"), None, None),
        (format!("Authorization: {ADMIN_TOKEN}\r\nNew-Api-User: 1\r\n"), None, None),
        (
            String::new(),
            Some((401, old("not logged in and no access token provided"))),
            Some((401, invalid_new.clone())),
        ),
        (
            "Authorization: Bearer sk-abc\r\nNew-Api-User: 1\r\n".to_owned(),
            Some((200, old("invalid access token"))),
            Some((401, invalid_new)),
        ),
        (
            low,
            Some((200, old("insufficient privileges"))),
            Some((
                403,
                r#"{"code":"AUTH_INSUFFICIENT_PRIVILEGE","message":"Unauthorized, insufficient privileges","success":false}"#
                    .to_owned(),
            )),
        ),
    ];
    let servers = [start(Generation::Put).await, start(Generation::Post).await];
    for (headers, put, post) in cases {
        for (server, refused) in servers.iter().zip([put, post]) {
            let (status, body) = server.send("GET", "/api/channel/2", &headers, "").await;
            match refused {
                Some(refused) => assert_eq!((status, body), refused, "{headers}"),
                None => {
                    assert!(status == 200 && body.starts_with(r#"{"data":{"id":2,"#), "{headers}: {body}");
                }
            }
        }
    }
    let (status, _) = servers[1].send("POST", "/api/channel/2/status", "", r#"{"status":2}"#).await;
    assert_eq!((status, servers[1].status_of(2)), (401, 1));
}

#[tokio::test]
async fn channels_come_in_pages_and_their_keys_never_leave() {
    let server = start(Generation::Post).await;
    let (status, body) = server.call("GET", "/api/channel/?p=2&page_size=5", "").await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    let data = &answer["data"];
    assert_eq!((status, &answer["success"]), (200, &json!(true)));
    assert_eq!((&data["page"], &data["page_size"], &data["total"]), (&json!(2), &json!(5), &json!(12)));
    assert_eq!(data["items"].as_array().unwrap().len(), 5);
    assert_eq!(data["type_counts"]["3"], 2);

    let (_, one) = server.call("GET", "/api/channel/1", "").await;
    let channel: Value = serde_json::from_str(&one).unwrap();
    assert_eq!(channel["data"]["channel_info"]["multi_key_size"], 4);
    assert!(!body.contains(SECRET_MARK) && !one.contains(SECRET_MARK));
}

#[tokio::test]
async fn the_status_page_is_public_and_tells_the_version() {
    for (generation, version) in [(Generation::Put, "v1.0.0-rc.15"), (Generation::Post, "v1.0.0-rc.24")] {
        let (status, body) = start(generation).await.send("GET", "/api/status", "", "").await;
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &answer["data"]["version"]), (200, &json!(version)));
        assert_eq!(answer["data"]["quota_per_unit"], 500_000);
    }
}

#[tokio::test]
async fn what_no_route_knows_is_an_invalid_url() {
    let server = start(Generation::Post).await;
    for (method, path) in [("GET", "/api/nothing"), ("DELETE", "/api/channel/2")] {
        let (status, body) = server.send(method, path, "", "").await;
        assert_eq!(status, 404);
        assert!(
            body.starts_with(&format!(r#"{{"error":{{"message":"Invalid URL ({method} {path})","#)),
            "{body}"
        );
    }
}

#[tokio::test]
async fn episodes_can_be_started_from_this_machine() {
    let server = start(Generation::Post).await;
    let (status, body) = server.send("POST", "/demo/episode/burn", "", "").await;
    assert_eq!((status, body.contains(r#""success":true"#)), (200, true), "{body}");
    assert_eq!(server.send("POST", "/demo/episode/fire", "", "").await.0, 404);
    assert_eq!(server.shared.take_wanted(), [Episode::Burn]);
    // Who cannot be told to be on this machine: the router is served without addresses.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(Arc::clone(&server.shared));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let unknown = Server { address, ..start(Generation::Post).await };
    assert_eq!(unknown.send("POST", "/demo/episode/burn", "", "").await.0, 403);
    assert!(server.shared.take_wanted().is_empty());
}

#[test]
fn a_locked_database_is_told_from_a_broken_one() {
    let busy = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
    assert!(live::is_busy(&busy.into()));
    assert!(!live::is_busy(&anyhow::anyhow!("disk on fire")));
}
