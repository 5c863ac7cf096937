//! The page at `/`: what this is, how it is, and where to go on.

use crate::ledger::traffic;
use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, eventually, flags};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_what_this_is_how_it_is_and_where_to_go_on() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&traffic(0, 1_234)).await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let api = monitor.api();
    let page = api.ask("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for text in [
        "<h1>Token Monitor</h1>",
        concat!("version ", env!("CARGO_PKG_VERSION")),
        "<p class=\"badge good\">Ready</p>",
        "<th>new-api's log</th><td class=\"good\">ok</td>",
        "<th>new-api's channels</th><td class=\"good\">ok</td>",
        "<dt>Rows</dt><dd>1\u{202f}234</dd>",
        "prefers-color-scheme",
    ] {
        assert!(page.text.contains(text), "{text} is not in {}", page.text);
    }
    let links: Vec<&str> =
        page.text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(links.len() >= 4, "{links:?}");
    for link in links {
        assert_eq!(api.ask(link).await.status, 200, "{link}");
    }

    // Without its table it says what is wrong.
    database.exec("ALTER TABLE logs RENAME TO away").await;
    eventually("it is not ready", async || {
        let page = api.ask("/").await;
        page.text.contains("badge bad") && page.text.contains("<td class=\"bad\">waiting</td>")
    })
    .await;
    monitor.stop().await;
}
