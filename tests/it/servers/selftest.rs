//! That the servers, the databases in them and the proxy do what the other tests rely on.

use std::time::Duration;

use serde_json::json;
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::{Alertmanager, Database, Engine, MySql, Postgres, Prometheus, Proxy};
use crate::schema::{LogRow, Version};

/// A text with everything that quoting may spoil.
const AWKWARD: &str = r#"{"a":"it's \"so\" \\ 模型测试 😀 ; \n"}"#;

#[tokio::test]
async fn every_version_has_its_tables_on_every_engine() {
    for engine in Engine::ALL {
        for version in Version::ALL {
            let database = Database::create(engine, version).await;
            let row = LogRow {
                content: AWKWARD.into(),
                is_stream: true,
                use_time: 7,
                request_id: "r-1".into(),
                ..LogRow::default()
            };
            assert_eq!(database.insert_log(&row).await, 1, "{engine:?} {version:?}");
            let failed = LogRow { kind: 5, other: None, channel_id: 9, ..LogRow::default() };
            database.insert_logs(&vec![failed; 2500]).await;

            let expected = [Some(AWKWARD), Some("1"), Some("2"), Some("alice")].map(|s| s.map(str::to_owned));
            let rows =
                database.rows("SELECT content, is_stream, type, username FROM logs WHERE id = 1").await;
            assert_eq!(rows, [expected], "{engine:?} {version:?}");
            assert_eq!(database.query_i64("SELECT count(*) FROM logs WHERE channel_id = 9").await, 2500);
            // An exact decimal on MySQL and PostgreSQL.
            let quota = database.query_f64("SELECT sum(quota) / 2.0 FROM logs").await;
            assert!((quota - 1_250_500.0).abs() < f64::EPSILON, "{engine:?} {version:?}: {quota}");
            check_columns(&database).await;
            for table in ["channels", "abilities", "options", "tokens", "users"] {
                assert_eq!(database.query_i64(&format!("SELECT count(*) FROM {table}")).await, 0);
            }
        }
    }
}

/// That `has_column` says what the table has.
async fn check_columns(database: &Database) {
    let sql = match database.engine {
        Engine::Sqlite => "SELECT name FROM pragma_table_info('logs')".to_owned(),
        Engine::MySql => format!(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'logs' AND table_schema = '{}'",
            database.name()
        ),
        Engine::Postgres => {
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'logs'".to_owned()
        }
    };
    let present: Vec<String> = database.rows(&sql).await.into_iter().flatten().flatten().collect();
    for column in
        ["id", "use_time", "elapsed_time", "group", "ip", "other", "request_id", "upstream_request_id"]
    {
        let has = present.iter().any(|name| name == column);
        assert_eq!(has, database.version.has_column(column), "{:?} {column}", database.version);
    }
}

#[tokio::test]
async fn a_null_and_a_chosen_id_are_kept() {
    for engine in Engine::ALL {
        let database = Database::create(engine, Version::V1_0_0Rc24).await;
        let row = LogRow { id: Some(77), other: None, ..LogRow::default() };
        assert_eq!(database.insert_log(&row).await, 77);
        assert_eq!(database.rows("SELECT other FROM logs").await, [[None]]);
    }
}

#[tokio::test]
async fn a_session_has_its_own_transaction() {
    for engine in [Engine::MySql, Engine::Postgres] {
        let database = Database::create(engine, Version::V1_0_0Rc24).await;
        let mut late = database.session().await;
        late.exec("BEGIN").await;
        let row = [LogRow::default()];
        late.exec(&LogRow::insert(&row, engine, database.version)).await;
        assert_eq!(database.insert_log(&row[0]).await, 2);
        assert_eq!(database.query_i64("SELECT count(*) FROM logs").await, 1);
        late.exec("COMMIT").await;
        assert_eq!(late.rows("SELECT id FROM logs ORDER BY id").await.len(), 2);
    }
}

#[tokio::test]
async fn a_dropped_database_is_gone() {
    let database = Database::create(Engine::Postgres, Version::OneApi).await;
    let (name, url) = (database.name(), database.url.clone());
    let other = Database::create(Engine::Postgres, Version::OneApi).await;
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(other.query_i64(&count).await, 1);
    drop(database);
    assert_eq!(other.query_i64(&count).await, 0);
    assert!(PgConnection::connect(&url).await.is_err());
}

#[tokio::test]
async fn mysql_stops_crashes_and_comes_back_with_its_data() {
    let mut server = MySql::start_with(&["--max-connections=12"]);
    let database = Database::create_on(&server.url(""), Engine::MySql, Version::V1_0_0Rc24).await;
    assert_eq!(database.query_i64("SELECT @@max_connections").await, 12);
    database.insert_log(&LogRow::default()).await;
    let url = server.url(&database.name());

    server.stop();
    assert!(MySqlConnection::connect(&url).await.is_err());
    server.restart();
    database.reconnect().await;
    assert_eq!(database.query_i64("SELECT count(*) FROM logs").await, 1);
    server.kill();
    assert!(MySqlConnection::connect(&url).await.is_err());
    server.restart();
    MySqlConnection::connect(&url).await.expect("it is back");
    drop(MySql::start());
}

#[tokio::test]
async fn postgres_stops_crashes_and_comes_back_with_its_data() {
    let mut server = Postgres::start_with(&["max_connections=7"]);
    let database = Database::create_on(&server.url(""), Engine::Postgres, Version::V1_0_0Rc24).await;
    assert_eq!(database.query_i64("SELECT current_setting('max_connections')").await, 7);
    database.insert_log(&LogRow::default()).await;
    let url = server.url(&database.name());

    server.stop();
    assert!(PgConnection::connect(&url).await.is_err());
    server.restart();
    database.reconnect().await;
    assert_eq!(database.query_i64("SELECT count(*) FROM logs").await, 1);
    server.kill();
    assert!(PgConnection::connect(&url).await.is_err());
    server.restart();
    PgConnection::connect(&url).await.expect("it is back");
    drop(Postgres::start());
}

#[tokio::test]
async fn the_proxy_fails_in_every_way_and_heals() {
    for engine in [Engine::MySql, Engine::Postgres] {
        let database = Database::create(engine, Version::V1_0_0Rc24).await;
        let proxy = Proxy::in_front_of(&database.url);
        let url = proxy.url(&database.url);
        assert!(works(engine, &url).await, "{engine:?}");
        assert_eq!(proxy.accepted(), 1);

        proxy.refuse();
        assert!(!works(engine, &url).await, "{engine:?} refusing");
        proxy.heal();
        assert!(works(engine, &url).await);

        proxy.stall();
        let stalled = tokio::time::timeout(Duration::from_millis(500), works(engine, &url)).await;
        assert!(stalled.is_err(), "{engine:?} stalled");
        proxy.heal();
        assert!(works(engine, &url).await);

        proxy.cut_after(40);
        assert!(!works(engine, &url).await, "{engine:?} cut");
        assert!(!works(engine, &url).await, "{engine:?} still cut");
        proxy.heal();
        assert!(works(engine, &url).await);
    }
}

/// Connects and asks something.
async fn works(engine: Engine, url: &str) -> bool {
    match engine {
        Engine::Sqlite => true,
        Engine::MySql => match MySqlConnection::connect(url).await {
            Ok(mut connection) => connection.execute("SELECT 1").await.is_ok(),
            Err(_) => false,
        },
        Engine::Postgres => match PgConnection::connect(url).await {
            Ok(mut connection) => connection.execute("SELECT 1").await.is_ok(),
            Err(_) => false,
        },
    }
}

#[tokio::test]
async fn the_proxy_drops_open_connections_only() {
    let database = Database::create(Engine::Postgres, Version::V1_0_0Rc24).await;
    let proxy = Proxy::in_front_of(&database.url);
    assert!(
        database.url.contains("127.0.0.1") && proxy.url(&database.url).contains(&proxy.port().to_string())
    );
    let mut connection = PgConnection::connect(&proxy.url(&database.url)).await.expect("connecting");
    connection.execute("SELECT 1").await.expect("asking");
    proxy.drop_connections();
    assert!(connection.execute("SELECT 1").await.is_err());
    assert!(works(Engine::Postgres, &proxy.url(&database.url)).await);

    let mut connection = PgConnection::connect(&proxy.url(&database.url)).await.expect("connecting");
    proxy.forget_connections();
    let silent = tokio::time::timeout(Duration::from_millis(500), connection.execute("SELECT 1")).await;
    assert!(silent.is_err(), "a connection that was forgotten answers");
    assert!(works(Engine::Postgres, &proxy.url(&database.url)).await);

    let mut server = Postgres::start();
    let proxy = Proxy::start(server.port());
    let url = proxy.url(&server.url("postgres"));
    assert!(works(Engine::Postgres, &url).await);
    server.stop();
    assert!(!works(Engine::Postgres, &url).await);
}

#[tokio::test]
async fn prometheus_scrapes_and_answers() {
    let port = super::free_port();
    // Nobody listens there: a target that is down has an `up` too.
    let config = format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms}}\n\
         scrape_configs:\n- job_name: nobody\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    );
    let prometheus = Prometheus::start(&config, &["--enable-feature=exemplar-storage,native-histograms"]);
    let up = loop {
        let up = prometheus.query("up{job='nobody'}").await;
        if up != json!([]) {
            break up;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(up[0]["value"][1], "0");
    let exemplars = prometheus.query_exemplars("up", 0.0, 1.0).await;
    assert_eq!(exemplars, json!([]), "{}", prometheus.url());
}

#[tokio::test]
async fn alertmanager_takes_alerts() {
    let alertmanager = Alertmanager::start("route: {receiver: none}\nreceivers: [{name: none}]\n");
    alertmanager.post_alerts(&json!([{"labels": {"alertname": "Test"}}])).await;
    assert_eq!(alertmanager.alerts().await[0]["labels"]["alertname"], "Test");
}
