//! Without a password nothing is told to a web page that gives its own name the address of this machine.

use token_monitor::config::Flags;

use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, flags};

const PATHS: [&str; 6] = ["/", "/metrics", "/readyz", "/api/v1/overview", "/api/v1/openapi.json", "/nowhere"];

/// Status and media type of an answer to a request for this host.
async fn asked(monitor: &Monitor, path: &str, host: &str) -> (u16, String) {
    let request = reqwest::Client::new().get(format!("http://{}{path}", monitor.address));
    let answer = request.bearer_auth("a password").header("host", host).send().await.expect("an answer");
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().expect("a text").to_owned());
    (answer.status().as_u16(), kind.unwrap_or_default())
}

#[tokio::test]
async fn a_foreign_host_name_is_answered_only_where_a_password_is_needed() {
    let database = Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await;
    let folder = Folder::new();
    let open = flags(&database.url, &folder.path());
    let monitor = Monitor::ready(&open).await;
    for path in PATHS {
        let (status, kind) = asked(&monitor, path, "evil.example:3002").await;
        let wanted = if path.starts_with("/api/") { "application/problem+json" } else { "text/plain" };
        assert!(status == 403 && kind.starts_with(wanted), "{path}: {status} {kind}");
        let wanted = if path == "/nowhere" { 404 } else { 200 };
        for host in ["localhost", "127.0.0.1:3002", "[::1]:3002"] {
            assert_eq!(asked(&monitor, path, host).await.0, wanted, "{path} of {host}");
        }
    }
    monitor.stop().await;

    let guarded = Flags { access_password: Some("a password".into()), ..open };
    let monitor = Monitor::ready(&guarded).await;
    for path in PATHS {
        let wanted = if path == "/nowhere" { 404 } else { 200 };
        assert_eq!(asked(&monitor, path, "monitor.example").await.0, wanted, "{path}");
    }
    monitor.stop().await;
}
