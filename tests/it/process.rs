//! The real program as a process: signals, exit codes, messages, secrets, who may read `/metrics`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use token_monitor::config::Flags;
use tokio::time::sleep;

use crate::crash::{DOUBLE, committed_id};
use crate::ledger::{agrees, traffic};
use crate::schema::Version;
use crate::servers::{Database, Engine, Proxy, free_port};
use crate::support::{Folder, Page, Process, command, eventually, flags, free_address};

const VERSION: Version = Version::V1_0_0Rc24;

/// A program that has ended.
pub struct Ended {
    pub code: i32,
    pub printed: String,
}

/// Runs a command that ends by itself.
async fn run(command: Command) -> Ended {
    let mut process = Process::run(free_address(), command);
    let code = process.exit_code().await;
    Ended { code, printed: process.printed() }
}

/// The same with a subcommand or option.
pub async fn run_with(flags: &Flags, arguments: &[&str]) -> Ended {
    let mut command = command(flags);
    command.args(arguments);
    run(command).await
}

/// An SQLite database with some rows, and what to start the program on it with.
pub async fn small() -> (Database, Folder, Flags) {
    let (database, folder) = (Database::create(Engine::Sqlite, VERSION).await, Folder::new());
    database.insert_logs(&traffic(0, 200)).await;
    let flags = flags(&database.url, &folder.path());
    (database, folder, flags)
}

// ---- signals ----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn both_signals_end_it_in_good_order() {
    for signal in ["TERM", "INT"] {
        let (database, _folder, flags) = small().await;
        let mut process = Process::spawn(&flags);
        process.page().wait_ready().await;
        stops_at(&mut process, signal).await;
        let said = process.printed();
        assert!(said.contains(&format!("SIG{signal}")) && said.contains("stopped"), "{said}");
        database.insert_logs(&traffic(200, 200)).await;
        let again = Process::spawn(&flags);
        again.page().wait_ready().await;
        agrees(&again.page(), &database).await;
    }
}

/// Sends a signal and wants code 0 within a few seconds.
async fn stops_at(process: &mut Process, signal: &str) {
    let sent = Instant::now();
    process.signal(signal);
    assert_eq!(process.exit_code().await, 0, "{}", process.printed());
    assert!(sent.elapsed() < Duration::from_secs(10), "it took {:?}", sent.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catch_up_that_is_stopped_goes_on_at_the_next_start() {
    let (database, folder) = (Database::create(Engine::Sqlite, VERSION).await, Folder::new());
    database.insert_logs(&traffic(0, 60_000)).await;
    database.exec(DOUBLE).await;
    let flags = flags(&database.url, &folder.path());
    let (store, mut committed) = (folder.path().join("monitor.db"), 0);
    for signal in ["TERM", "INT"] {
        let mut process = Process::spawn(&flags);
        let page = process.page();
        // Rows are counted from when the channels are known.
        let channels = r#""name":"channels","ready":true"#;
        let counting = async || page.get("/readyz").await.is_some_and(|(_, text)| text.contains(channels));
        eventually("it has begun", counting).await;
        sleep(Duration::from_millis(100)).await;
        let (_, readiness) = page.get("/readyz").await.expect("an answer");
        assert!(readiness.contains("being read"), "the catch-up was over before the signal: {readiness}");
        stops_at(&mut process, signal).await;
        // What was read so far is kept, and it is not taken for all.
        let before = std::mem::replace(&mut committed, committed_id(&store));
        assert!((before..120_000).contains(&committed), "{before} rows, then {committed}");
    }
    assert!(committed > 0, "nothing is kept");
    let process = Process::spawn(&flags);
    process.page().wait_ready().await;
    agrees(&process.page(), &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_what_hangs() {
    let (_database, _folder, flags) = small().await;
    let mut process = Process::spawn(&flags);
    process.page().wait_ready().await;
    // Requests are finished before the end, and this one never is.
    let mut client = std::net::TcpStream::connect(process.address).expect("connecting");
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: half\r\n").expect("sending half a request");
    process.page().samples().await;
    process.signal("TERM");
    process.prints("stopping").await;
    process.signal("INT");
    let sent = Instant::now();
    assert_eq!(process.exit_code().await, 1, "{}", process.printed());
    assert!(sent.elapsed() < Duration::from_secs(5));
    assert!(process.printed().contains("second signal"), "{}", process.printed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_hangs_does_not_delay_the_end() {
    let (database, folder) = (Database::create(Engine::Postgres, VERSION).await, Folder::new());
    let proxy = Proxy::in_front_of(&database.url);
    let mut process = Process::spawn(&flags(&proxy.url(&database.url), &folder.path()));
    let page = process.page();
    page.wait_ready().await;
    proxy.stall();
    page.wait_samples("a read hangs", |samples| samples.get("token_monitor_tail_lag_seconds") > Some(0.5))
        .await;
    stops_at(&mut process, "TERM").await;
}

// ---- monitor.db -------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_second_monitor_on_one_monitor_db_refuses_to_start() {
    let (database, folder, flags) = small().await;
    let first = Process::spawn(&flags);
    first.page().wait_ready().await;
    let second = run(command(&flags)).await;
    assert_eq!(second.code, 1, "{}", second.printed);
    let path = folder.path().join("monitor.db");
    assert!(second.printed.contains(&path.display().to_string()), "{}", second.printed);
    assert!(second.printed.contains("in use"), "{}", second.printed);
    agrees(&first.page(), &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_db_that_is_not_understood_is_left_as_it_is() {
    let (_database, folder, flags) = small().await;
    let path = folder.path().join("monitor.db");
    let mut first = Process::spawn(&flags);
    first.page().wait_ready().await;
    stops_at(&mut first, "TERM").await;
    let good = std::fs::read(&path).expect("a monitor.db");

    let open = || rusqlite::Connection::open(&path).expect("opening it");
    open().pragma_update(None, "user_version", 99).expect("changing the version");
    refuses(&path, &flags, "newer").await;

    let mut torn = good.clone();
    let middle = torn.len() / 2;
    torn[4096..middle].fill(0x5a);
    std::fs::write(&path, torn).expect("damaging it");
    refuses(&path, &flags, "damaged").await;

    std::fs::write(&path, "no database at all, but somebody's notes").expect("replacing it");
    refuses(&path, &flags, "damaged").await;

    std::fs::remove_file(&path).expect("removing it");
    open().execute_batch("CREATE TABLE somebodys (data)").expect("another program's file");
    refuses(&path, &flags, "another program").await;

    std::fs::write(&path, good).expect("putting it back");
    Process::spawn(&flags).page().wait_ready().await;
}

/// The program must end with code 1, say why and name the file, and leave every byte of it.
async fn refuses(path: &Path, flags: &Flags, why: &str) {
    let before = std::fs::read(path).expect("the file");
    let ended = run(command(flags)).await;
    assert_eq!(ended.code, 1, "{why}: {}", ended.printed);
    assert!(ended.printed.contains(why), "{why}: {}", ended.printed);
    assert!(ended.printed.contains(&path.display().to_string()), "{why}: {}", ended.printed);
    assert!(std::fs::read(path).expect("the file") == before, "{why}: the file was changed");
}

// ---- configuration ----------------------------------------------------------------------------------------------

/// Variables and their values.
type Variables = &'static [(&'static str, &'static str)];

/// What is set besides a sound configuration, the variable that must be named, and what must be said of it: the
/// value or what is accepted.
const MISTAKES: &[(Variables, &str, &str)] = &[
    (&[("DATABASE_URL", "")], "DATABASE_URL", "is required"),
    (&[("DATABASE_URL", "oracle://a:s3cr3t@b/c")], "DATABASE_URL", "accepted are mysql"),
    (&[("DATABASE_URL", "mysql://a:s3cr3t@b:99999/c")], "DATABASE_URL", "from 1 to 65535"),
    (&[("LOG_DATABASE_URL", "clickhouse://a:s3cr3t@b/c")], "LOG_DATABASE_URL", "ClickHouse"),
    (&[("DATABASE_URL", ""), ("DATABASE_URL_FILE", "/nowhere")], "DATABASE_URL", "`/nowhere`"),
    (&[("MONITOR_DATABASE_URL", "postgres://a:s3cr3t@b/c")], "MONITOR_DATABASE_URL", "`postgres://b/c`"),
    (&[("MONITOR_DATABASE_URL", "redis://b/c")], "MONITOR_DATABASE_URL", "sqlite://data/monitor.db"),
    (&[("LISTEN", "everywhere")], "LISTEN", "`everywhere`"),
    (&[("LISTEN", "localhost:http")], "LISTEN", "localhost:3002"),
    (&[("LISTEN", "0.0.0.0:3002")], "ACCESS_PASSWORD", "0.0.0.0:3002"),
    (&[("ACCESS_PASSWORD", "s3cr3t"), ("ACCESS_PASSWORD_FILE", "/x")], "ACCESS_PASSWORD", "given twice"),
    (&[("METRICS_PUBLIC", "perhaps")], "METRICS_PUBLIC", "`perhaps`"),
    (&[("METRICS_TOKEN_FILE", "/dev/null")], "METRICS_TOKEN", "`/dev/null` is empty"),
    (&[("NEW_API_BASE_URL", "http://new-api")], "NEW_API_KEY", "both or none"),
    (&[("NEW_API_KEY", "s3cr3t")], "NEW_API_BASE_URL", "both or none"),
    (&[("NEW_API_BASE_URL", "http://n"), ("NEW_API_KEY", "sk-s3cr3t")], "NEW_API_KEY", "access token"),
    (&[("NEW_API_BASE_URL", "ftp://a:s3cr3t@b"), ("NEW_API_KEY", "k")], "NEW_API_BASE_URL", "http or https"),
    (
        &[("NEW_API_BASE_URL", "ftp://a:s3cr3t@b/?key=s3cr3t"), ("NEW_API_KEY", "k")],
        "NEW_API_BASE_URL",
        "`ftp://b/`",
    ),
    (&[("TELEGRAM_API_BASE", "telegram.example?key=s3cr3t")], "TELEGRAM_API_BASE", "`telegram.example`"),
    (&[("GRAFANA_URL", "a:s3cr3t@grafana:5173")], "GRAFANA_URL", "`grafana:5173`"),
    (&[("FEISHU_WEBHOOK", "open.feishu.cn/bot/v2/hook/s3cr3t")], "FEISHU_WEBHOOK", "http or https"),
    (&[("WECOM_WEBHOOK", "qyapi.weixin.qq.com/send?key=s3cr3t")], "WECOM_WEBHOOK", "http or https"),
    (&[("TELEGRAM_PROXY", "s3cr3t@h"), ("TELEGRAM_PROXY_FILE", "/x")], "TELEGRAM_PROXY", "given twice"),
    (&[("TELEGRAM_PROXY_FILE", "/nowhere")], "TELEGRAM_PROXY", "`/nowhere`"),
    (&[("NEW_API_USER_ID", "root")], "NEW_API_USER_ID", "`root`"),
    (&[("TELEGRAM_BOT_TOKEN", "s3cr3t")], "TELEGRAM_CHAT_ID", "both or none"),
    (&[("TELEGRAM_CHAT_ID", "-100123")], "TELEGRAM_BOT_TOKEN", "both or none"),
    (&[("TIMEZONE", "Mars/Olympus")], "TIMEZONE", "`Mars/Olympus`"),
    (&[("LANGUAGE", "tlh")], "LANGUAGE", "en, zh-CN"),
    (&[("POLL_INTERVAL", "often")], "POLL_INTERVAL", "`often`"),
    (&[("POLL_INTERVAL", "1ms")], "POLL_INTERVAL", "50ms"),
    (&[("LATE_WINDOW", "7d")], "LATE_WINDOW", "6h"),
    (&[("HISTORY", "-1d")], "HISTORY", "`-1d`"),
    (&[("SLOW_REQUEST_THRESHOLD", "5")], "SLOW_REQUEST_THRESHOLD", "`5`"),
    (&[("EXTRA_LABELS", "group,ip")], "EXTRA_LABELS", "`ip`"),
    (&[("MAX_SERIES", "0")], "MAX_SERIES", "`0`"),
    (&[("LOG_FORMAT", "xml")], "LOG_FORMAT", "text, json"),
    (&[("RUST_LOG", "a=b=c")], "RUST_LOG", "`a=b=c`"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_value_ends_it_with_code_2_and_its_variable_is_named() {
    let folder = Folder::new();
    for (variables, named, said) in MISTAKES {
        let mut command = command(&flags("sqlite://nowhere.db", &folder.path()));
        command.envs(variables.iter().copied());
        let ended = run(command).await;
        assert_eq!(ended.code, 2, "{variables:?}: {}", ended.printed);
        let begins = format!("{named}: ");
        let line = ended.printed.lines().find(|line| line.starts_with(&begins));
        assert!(line.is_some_and(|line| line.contains(said)), "{named}, {said}: {}", ended.printed);
        assert!(!ended.printed.contains("s3cr3t"), "a secret is shown: {}", ended.printed);
    }
    assert!(!folder.path().join("monitor.db").exists(), "it began although the configuration is wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_mistakes_are_told_at_once() {
    let mut wrong = command(&Flags::default());
    wrong.envs([("LISTEN", "x"), ("TIMEZONE", "y"), ("MAX_SERIES", "z")]);
    let ended = run(wrong).await;
    for named in ["DATABASE_URL: ", "LISTEN: `x`", "TIMEZONE: `y`", "MAX_SERIES: `z`"] {
        assert!(ended.printed.contains(named), "{named}: {}", ended.printed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_ends_it_with_code_2() {
    for arguments in [&["--no-such-flag"][..], &["no-such-command"], &["serve", "--listen"]] {
        let ended = run_with(&Flags::default(), arguments).await;
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.printed);
        assert!(ended.printed.contains(arguments[arguments.len() - 1]), "{}", ended.printed);
    }
}

/// The secrets of DESIGN section 3, each also as a file.
const SECRETS: [&str; 10] = [
    "DATABASE_URL",
    "LOG_DATABASE_URL",
    "ACCESS_PASSWORD",
    "NEW_API_KEY",
    "TELEGRAM_BOT_TOKEN",
    "TELEGRAM_PROXY",
    "FEISHU_WEBHOOK",
    "FEISHU_SECRET",
    "WECOM_WEBHOOK",
    "METRICS_TOKEN",
];

/// Its other variables.
const OTHERS: [&str; 23] = [
    "NEW_API_BASE_URL",
    "TELEGRAM_CHAT_ID",
    "MONITOR_DATABASE_URL",
    "LISTEN",
    "NEW_API_USER_ID",
    "BREAKER_MODE",
    "BREAKER_ALLOW_LAST",
    "BREAKER_MAX_PER_HOUR",
    "FEISHU_KEYWORD",
    "TELEGRAM_API_BASE",
    "TELEGRAM_THREAD_ID",
    "LIMITS_FILE",
    "TIMEZONE",
    "LANGUAGE",
    "POLL_INTERVAL",
    "LATE_WINDOW",
    "HISTORY",
    "SLOW_REQUEST_THRESHOLD",
    "EXTRA_LABELS",
    "MAX_SERIES",
    "METRICS_PUBLIC",
    "LOG_FORMAT",
    "RUST_LOG",
];

/// Their defaults.
const DEFAULTS: [&str; 16] = [
    "DATABASE_URL",
    "0.0.0.0:3002",
    "sqlite://data/monitor.db",
    "1",
    "limits.yml if it exists",
    "the system's",
    "en",
    "2s",
    "5m",
    "31d",
    "5s",
    "2000",
    "10",
    "false",
    "text",
    "info",
];

#[tokio::test(flavor = "multi_thread")]
async fn help_lists_every_variable_and_the_version_is_told() {
    let help = run_with(&Flags::default(), &["--help"]).await;
    assert_eq!(help.code, 0);
    let source = include_str!("../../src/config/settings.rs");
    let of_this_build: BTreeSet<&str> =
        source.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let files = SECRETS.map(|secret| format!("{secret}_FILE"));
    let contract = OTHERS.into_iter().chain(SECRETS).chain(files.iter().map(String::as_str));
    for word in of_this_build.into_iter().chain(contract) {
        // Followed by its value, by the way: [env: LISTEN=].
        let shown = ["=", "]"].iter().any(|end| help.printed.contains(&format!("[env: {word}{end}")));
        assert!(shown, "{word} is missing: {}", help.printed);
    }
    // Lines end where they are full.
    let printed = help.printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for default in DEFAULTS {
        assert!(printed.contains(&format!("[default: {default}]")), "{default}: {}", help.printed);
    }
    for word in ["serve", "demo", "check"] {
        assert!(help.printed.contains(word), "{word} is missing: {}", help.printed);
    }
    let version = run_with(&Flags::default(), &["--version"]).await;
    assert_eq!((version.code, version.printed.trim()), (0, "token-monitor 0.1.0"));
}

// ---- what is shown to whom --------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_shown_nowhere() {
    let (database, folder) = (Database::create(Engine::MySql, VERSION).await, Folder::new());
    database.insert_logs(&traffic(0, 50)).await;
    let secrets = ["S3CR3T-database", "S3CR3T-password", "S3CR3T-token", "S3CR3T-key"];
    let user = database.name();
    database.exec(&format!("CREATE USER {user}@'%' IDENTIFIED BY '{}'", secrets[0])).await;
    database.exec(&format!("GRANT SELECT ON {user}.* TO {user}@'%'")).await;
    let url = database.url.replace("root@", &format!("{user}:{}@", secrets[0]));
    let sound = Flags {
        access_password: Some(secrets[1].to_owned()),
        metrics_token: Some(secrets[2].to_owned()),
        new_api_base_url: Some("http://127.0.0.1:9".to_owned()),
        new_api_key: Some(secrets[3].to_owned()),
        // The drivers' words too.
        rust_log: Some("trace".to_owned()),
        ..flags(&url, &folder.path())
    };
    let mut process = Process::spawn(&sound);
    let page = process.page();
    page.wait_ready().await;
    for path in ["/", "/readyz", "/metrics", "/healthz", "/nowhere"] {
        let (_, text) = page.get(path).await.expect("an answer");
        assert!(!text.contains("S3CR3T"), "{path}: {text}");
    }
    stops_at(&mut process, "TERM").await;
    let debug = Flags { rust_log: Some("debug".to_owned()), ..sound };
    let check = run_with(&debug, &["check"]).await;
    for printed in [process.printed(), check.printed] {
        assert!(printed.contains(&user), "nothing was printed of the database: {printed}");
        let leak = printed.lines().find(|line| line.contains("S3CR3T"));
        assert_eq!(leak, None);
    }
    database.exec(&format!("DROP USER {user}@'%'")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_log_can_be_json() {
    let (_database, _folder, flags) = small().await;
    let mut process = Process::spawn(&Flags { log_format: Some("json".to_owned()), ..flags });
    process.page().wait_ready().await;
    stops_at(&mut process, "INT").await;
    let printed = process.printed();
    let lines: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect();
    assert!(lines.len() > 3, "{printed}");
    assert!(lines.iter().all(|line| line["level"].is_string() && line["message"].is_string()), "{printed}");
    assert!(
        lines.iter().any(|line| line["message"] == "stopping" && line["signal"] == "SIGINT"),
        "{printed}"
    );
}

/// Status of a GET with an `Authorization` header.
async fn status(address: SocketAddr, path: &str, authorization: Option<(&str, &str)>) -> u16 {
    let request = reqwest::Client::new().get(format!("http://{address}{path}"));
    let request = match authorization {
        None => request,
        Some(("bearer", secret)) => request.bearer_auth(secret),
        Some((user, secret)) => request.basic_auth(user, Some(secret)),
    };
    request.send().await.expect("an answer").status().as_u16()
}

/// Starts it where everyone can reach it, so that it needs a password.
async fn in_public(flags: Flags) -> Process {
    let (port, password) = (free_port(), Some("the-password".to_owned()));
    let flags = Flags { listen: Some(format!("0.0.0.0:{port}")), access_password: password, ..flags };
    let process = Process::run(SocketAddr::from(([127, 0, 0, 1], port)), command(&flags));
    process.page().wait_ready().await;
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_in_public_need_a_secret_and_health_needs_none() {
    let (_database, _folder, flags) = small().await;
    let process = in_public(Flags { metrics_token: Some("the-token".to_owned()), ..flags.clone() }).await;
    let at = process.address;
    for (authorization, expected) in [
        (None, 401),
        (Some(("bearer", "wrong")), 401),
        (Some(("bearer", "")), 401),
        (Some(("anyone", "wrong")), 401),
        (Some(("bearer", "the-token")), 200),
        (Some(("bearer", "the-password")), 200),
        (Some(("anyone", "the-password")), 200),
    ] {
        assert_eq!(status(at, "/metrics", authorization).await, expected, "{authorization:?}");
    }
    for path in ["/", "/healthz", "/readyz"] {
        assert_eq!(status(at, path, None).await, 200, "{path}");
    }
    // What the API will need: the token of the metrics must open nothing else.
    for path in ["/api/v1/overview", "/api/v1/logs", "/webhook/alertmanager"] {
        let opened = status(at, path, Some(("bearer", "the-token"))).await;
        assert!((400..500).contains(&opened), "{path} answers {opened} to the token of the metrics");
    }
    drop(process);
    let open = in_public(Flags { metrics_public: Some("true".to_owned()), ..flags }).await;
    assert_eq!(status(open.address, "/metrics", None).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_means_loopback_is_listened_at_without_a_password() {
    let (_database, _folder, flags) = small().await;
    let at = free_address();
    let listen = Some(format!("localhost:{}", at.port()));
    let process = Process::run(at, command(&Flags { listen: listen.clone(), ..flags.clone() }));
    process.page().wait_ready().await;
    assert_eq!(status(at, "/metrics", None).await, 200);
    let mut health = command(&Flags { listen, ..Flags::default() });
    health.arg("health");
    assert_eq!(run(health).await.code, 0);
}

// ---- demo -------------------------------------------------------------------------------------------------------

/// Starts `token-monitor demo` in a folder.
fn demo(folder: &Path) -> Process {
    let address = free_address();
    let listen = Some(address.to_string());
    let mut command = command(&Flags { listen, poll_interval: Some("50ms".to_owned()), ..Flags::default() });
    command.arg("demo").current_dir(folder);
    Process::run(address, command)
}

async fn rows_shown(page: &Page) -> f64 {
    page.samples().await.sum("token_monitor_log_rows_total", &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_needs_nothing_and_goes_on_where_it_was() {
    let folder = Folder::new();
    let mut first = demo(&folder.path());
    first.page().wait_ready().await;
    let at_first = rows_shown(&first.page()).await;
    assert!(at_first > 1000.0, "no history: {at_first}");
    first
        .page()
        .wait_samples("live traffic", |s| s.sum("token_monitor_log_rows_total", &[]) > at_first)
        .await;
    let at_last = rows_shown(&first.page()).await;
    stops_at(&mut first, "INT").await;
    // Traffic that is made anew would look the same, so something is left in the file.
    let stand_in =
        rusqlite::Connection::open(folder.path().join("data/demo/one-api.db")).expect("its database");
    stand_in.execute_batch("CREATE TABLE left_here (id)").expect("leaving something");
    drop(stand_in);

    let mut second = demo(&folder.path());
    second.page().wait_ready().await;
    assert!(rows_shown(&second.page()).await >= at_last, "the second start has forgotten something");
    stops_at(&mut second, "TERM").await;
    // Not while it writes: what reads the file in its own process has let go of its locks.
    let stand_in =
        rusqlite::Connection::open(folder.path().join("data/demo/one-api.db")).expect("its database");
    stand_in.execute_batch("SELECT * FROM left_here").expect("the same file");
}
