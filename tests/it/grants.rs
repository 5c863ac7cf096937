//! A user who may read the columns that the monitor needs and no others: what must never be selected is not.

use std::collections::BTreeSet;

use url::Url;

use crate::engines::install;
use crate::ledger::traffic;
use crate::process::run_with;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine, Session};
use crate::support::{Api, Folder, Monitor, Process, flags};
use crate::tally::{agrees, by_hand};

/// All that may be read. Keys, passwords, access tokens and the bodies of tasks are not among it.
const GRANTED: [(&str, &[&str]); 4] = [
    (
        "logs",
        &[
            "id",
            "user_id",
            "created_at",
            "type",
            "content",
            "username",
            "token_name",
            "model_name",
            "quota",
            "prompt_tokens",
            "completion_tokens",
            "use_time",
            "is_stream",
            "channel_id",
            "token_id",
            "group",
            "ip",
            "request_id",
            "upstream_request_id",
            "other",
        ],
    ),
    (
        "channels",
        &[
            "id",
            "type",
            "status",
            "name",
            "group",
            "tag",
            "models",
            "balance",
            "balance_updated_time",
            "used_quota",
            "response_time",
            "test_time",
        ],
    ),
    ("abilities", &["group", "model", "channel_id", "enabled"]),
    ("options", &["key", "value"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_mariadb_user_without_the_right_to_read_secrets_is_enough() {
    needs_these_columns_only(Engine::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_user_without_the_right_to_read_secrets_is_enough() {
    needs_these_columns_only(Engine::Postgres).await;
}

async fn needs_these_columns_only(engine: Engine) {
    let database = Database::create(engine, Version::V1_0_0Rc24).await;
    install(&database, Some("250000")).await;
    database.insert_logs(&rows(0, 300)).await;
    let url = user_of_columns(&database).await;
    assert_eq!(columns_shown_to(&url, engine).await, granted(), "{engine:?}");

    let (everything, columns) = (Folder::new(), Folder::new());
    let administrator = Monitor::ready(&flags(&database.url, &everything.path())).await;
    let flags = flags(&url, &columns.path());
    let process = Process::spawn(&flags);
    process.page().wait_ready().await;
    database.insert_logs(&rows(300, 50)).await;
    let wanted = by_hand(&database, &database, &[]).await;
    for (page, whose) in [(process.page(), "its own user"), (administrator.page(), "the administrator")] {
        agrees(&page, &format!("{engine:?}, {whose}"), &wanted).await;
    }
    let samples = process.page().samples().await;
    assert_eq!(samples.sum("token_monitor_tail_errors_total", &[]), 0.0, "{engine:?}");
    let channels = samples.count("newapi_channel_info");
    assert!(channels > 0 && channels == administrator.page().samples().await.count("newapi_channel_info"));

    // Everything that an administrator's monitor answers.
    let (api, whole) = (Api::new(process.address, None), administrator.api());
    for route in ["logs/7", "logs/320", "requests/request-7"] {
        assert_eq!(api.get(route).await, whole.get(route).await, "{engine:?} {route}");
    }
    for route in ["logs", "slow-requests", "channels", "models"] {
        let (items, _) = api.pages(route).await;
        assert!(!items.is_empty(), "{engine:?} {route}");
        assert_eq!(items, whole.pages(route).await.0, "{engine:?} {route}");
    }
    let detail = api.get("logs/7").await.to_string();
    for value in ["203.0.113.7", "upstream-7", "what happened to 7"] {
        assert!(detail.contains(value), "{engine:?} {value}: {detail}");
    }

    let checked = run_with(&flags, &["check"]).await;
    assert_eq!(checked.code, 0, "{engine:?}: {}", checked.printed);
    assert!(checked.printed.contains("the user may only read"), "{engine:?}: {}", checked.printed);
    let printed = process.printed();
    assert!(!printed.contains("denied"), "{engine:?}: {printed}");
    administrator.stop().await;
}

/// Rows in which no column is empty.
fn rows(first: u64, count: u64) -> Vec<LogRow> {
    let numbered = traffic(first, count).into_iter().zip(first + 1..);
    numbered
        .map(|(row, id)| LogRow {
            content: format!("what happened to {id}"),
            ip: format!("203.0.113.{}", id % 250),
            upstream_request_id: format!("upstream-{id}"),
            ..row
        })
        .collect()
}

/// Makes a user with the rights of [`GRANTED`], and gives the database's URL with that user in it.
async fn user_of_columns(database: &Database) -> String {
    let (engine, name) = (database.engine, database.name());
    let (create, user) = if engine == Engine::MySql {
        (format!("CREATE USER {name}@'%' IDENTIFIED BY 'right'"), format!("{name}@'%'"))
    } else {
        (format!("CREATE ROLE {name} LOGIN PASSWORD 'right'"), name.clone())
    };
    database.exec(&create).await;
    for (table, columns) in GRANTED {
        let columns: Vec<String> = columns.iter().map(|column| engine.identifier(column)).collect();
        database.exec(&format!("GRANT SELECT ({}) ON {table} TO {user}", columns.join(", "))).await;
    }
    let mut url = Url::parse(&database.url).expect("a URL");
    url.set_username(&name).expect("a URL with a user");
    url.set_password(Some("right")).expect("a URL with a password");
    url.into()
}

fn granted() -> BTreeSet<(String, String)> {
    let of_table = |(table, columns): (&str, &[&str])| -> Vec<(String, String)> {
        columns.iter().map(|column| (table.to_owned(), (*column).to_owned())).collect()
    };
    GRANTED.into_iter().flat_map(of_table).collect()
}

/// The columns of the database, by table, that a user has any right on: servers show no others.
async fn columns_shown_to(url: &str, engine: Engine) -> BTreeSet<(String, String)> {
    let schema = if engine == Engine::MySql { "DATABASE()" } else { "current_schema()" };
    let sql = format!(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = {schema}"
    );
    let rows = Session::open(engine, url).await.rows(&sql).await;
    let name = |cell: &Option<String>| cell.clone().expect("a name");
    rows.iter().map(|row| (name(&row[0]), name(&row[1]))).collect()
}
