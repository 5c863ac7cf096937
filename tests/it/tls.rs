//! TLS to new-api's database, against servers that let nobody in without it. Their certificate is one for
//! `localhost` only, from an authority that nobody knows. What an address demands is done, or it is told.

use serde_json::Value;
use token_monitor::config::Flags;

use crate::ledger::{agrees, traffic};
use crate::schema::Version;
use crate::servers::{Certificates, Database, Engine, MySql, Postgres};
use crate::support::{Folder, Process, command, eventually, flags, free_address};

const VERSION: Version = Version::V1_0_0Rc24;

/// What the driver says of a server that cannot prove who it is.
const BAD_CERTIFICATE: &str = "invalid peer certificate";

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_mariadb_is_as_the_address_demands() {
    let certificates = Certificates::for_server(Engine::MySql);
    let server = MySql::start_with(&[
        &format!("--ssl-cert={}", certificates.path("server.pem")),
        &format!("--ssl-key={}", certificates.path("server.key")),
        "--require-secure-transport=ON",
    ]);
    let database = Database::create_on(&server.url(""), Engine::MySql, VERSION).await;
    database.insert_logs(&traffic(0, 200)).await;
    let (name, port, ca) = (database.name(), server.port(), certificates.path("authority.pem"));
    // MariaDB does not tell which sessions are encrypted, but this user can have no others.
    database.exec("CREATE USER guest@'%' IDENTIFIED BY 'right' REQUIRE SSL").await;
    database.exec(&format!("GRANT SELECT ON {name}.* TO guest@'%'")).await;
    let url = |host: &str, parameters: &str| format!("mysql://guest:right@{host}:{port}/{name}?{parameters}");
    let go = |parameters: &str| format!("guest:right@tcp(localhost:{port})/{name}?{parameters}");

    for address in [
        go("tls=skip-verify"),
        url("127.0.0.1", ""),
        url("127.0.0.1", &format!("ssl-mode=VERIFY_CA&ssl-ca={ca}")),
        url("localhost", &format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}")),
    ] {
        let folder = Folder::new();
        let process = Process::spawn(&flags(&address, &folder.path()));
        follows(&process, &address, &database).await;
        let sessions = "SELECT count(*) FROM information_schema.processlist WHERE user = 'guest'";
        assert!(database.query_i64(sessions).await > 0, "{address} is followed by somebody else");
    }
    let told = go("tls=true");
    follows_with_a_system_that_knows(&ca, &told, &database).await;

    refused(&go(""), "access denied", "Access denied").await;
    refused(&told, "unreachable", BAD_CERTIFICATE).await;
    refused(&url("localhost", "ssl-mode=VERIFY_IDENTITY"), "unreachable", BAD_CERTIFICATE).await;
    let of_another = url("127.0.0.1", &format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}"));
    refused(&of_another, "unreachable", BAD_CERTIFICATE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_postgres_is_as_the_address_demands() {
    let certificates = Certificates::for_server(Engine::Postgres);
    let hba = certificates.path("pg_hba.conf");
    std::fs::write(&hba, "hostssl all all 127.0.0.1/32 trust\n").expect("writing who may connect");
    let server = Postgres::start_with(&[
        "ssl=on",
        &format!("ssl_cert_file={}", certificates.path("server.pem")),
        &format!("ssl_key_file={}", certificates.path("server.key")),
        &format!("hba_file={hba}"),
    ]);
    let database = Database::create_on(&server.url(""), Engine::Postgres, VERSION).await;
    database.insert_logs(&traffic(0, 200)).await;
    let (name, port, ca) = (database.name(), server.port(), certificates.path("authority.pem"));
    let url = |host: &str, parameters: &str| format!("postgres://postgres@{host}:{port}/{name}?{parameters}");

    for address in [
        url("127.0.0.1", "sslmode=require"),
        url("127.0.0.1", ""),
        url("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={ca}")),
        url("localhost", &format!("sslmode=verify-full&sslrootcert={ca}")),
    ] {
        let folder = Folder::new();
        let process = Process::spawn(&flags(&address, &folder.path()));
        follows(&process, &address, &database).await;
        assert!(sessions(&database, "ssl").await > 0, "{address} is followed by somebody else");
        assert_eq!(sessions(&database, "NOT ssl").await, 0, "{address} is followed in clear");
    }
    let told = url("localhost", "sslmode=verify-full");
    follows_with_a_system_that_knows(&ca, &told, &database).await;

    refused(&url("127.0.0.1", "sslmode=disable"), "access denied", "pg_hba.conf").await;
    refused(&told, "unreachable", BAD_CERTIFICATE).await;
    let of_another = url("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ca}"));
    refused(&of_another, "unreachable", BAD_CERTIFICATE).await;
}

/// Sessions of monitors that are such, as PostgreSQL tells it.
async fn sessions(database: &Database, such: &str) -> i64 {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'token-monitor' AND {such}"
    );
    database.query_i64(&sql).await
}

/// Waits until the monitor shows what the table holds.
async fn follows(process: &Process, address: &str, database: &Database) {
    let page = process.page();
    let ready = async || matches!(page.get("/readyz").await, Some((200, _)));
    eventually(&format!("{address} is followed"), ready).await;
    agrees(&page, database).await;
}

/// The same where the authority is one of those that the system trusts.
async fn follows_with_a_system_that_knows(ca: &str, address: &str, database: &Database) {
    let (folder, listen) = (Folder::new(), free_address());
    let flags = Flags { listen: Some(listen.to_string()), ..flags(address, &folder.path()) };
    let mut command = command(&flags);
    command.env("SSL_CERT_FILE", ca);
    follows(&Process::run(listen, command), address, database).await;
}

/// Waits until the monitor says that it cannot follow: the reason on `/readyz`, and the server's or driver's
/// own words in its log.
async fn refused(address: &str, reason: &str, words: &str) {
    let folder = Folder::new();
    let process = Process::spawn(&flags(address, &folder.path()));
    let page = process.page();
    let told = async || {
        let answer = page.get("/readyz").await;
        answer.is_some_and(|(status, text)| status == 503 && log_part(&text).starts_with(reason))
    };
    eventually(&format!("{address} is refused: {reason}"), told).await;
    assert_eq!(page.samples().await.get("newapi_up"), Some(0.0), "{address}");
    let printed = process.printed();
    assert!(printed.contains(words), "{address}: {printed}");
}

/// What `/readyz` says of the log.
fn log_part(readiness: &str) -> String {
    let answer: Value = serde_json::from_str(readiness).expect("JSON");
    let parts = answer["parts"].as_array().expect("a list of parts");
    let log = parts.iter().find(|part| part["name"] == "log").expect("the log is a part");
    log["detail"].as_str().expect("a text").to_owned()
}
