//! That every form of address is read right, and that no password shows.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::options::APPLICATION_NAME;
use super::*;

/// A password that shows up in no other part of the cases.
const PASSWORD: &str = "S3cr3t";

/// What the tests look at: user, password, address with port, database.
type Seen = (Option<String>, Option<String>, Address, Option<u16>, String);

fn seen(value: &str) -> Seen {
    match Parts::read(value) {
        Ok(Parts::MySql(server, _) | Parts::Postgres(server, _)) => {
            (server.user, server.password, server.address, server.port, server.database)
        }
        Ok(Parts::Sqlite(path)) => panic!("{value} was read as a file: {path}"),
        Err(error) => panic!("{value}: {error}"),
    }
}

fn host(name: &str) -> Address {
    Address::Tcp(name.to_owned())
}

fn socket(path: &str) -> Address {
    Address::Unix(path.to_owned())
}

/// A value and what is to be seen of it; empty texts stand for absent ones.
type Case<'a> = (&'a str, &'a str, &'a str, Address, Option<u16>, &'a str);

fn assert_seen(cases: &[Case<'_>]) {
    for (value, user, password, address, port, database) in cases {
        let text = |text: &str| non_empty(text.to_owned());
        let expected = (text(user), text(password), address.clone(), *port, (*database).to_owned());
        assert_eq!(seen(value), expected, "{value}");
    }
}

#[test]
fn servers_are_read_in_new_apis_own_form() {
    assert_seen(&[
        ("root:123456@tcp(mysql:3306)/new-api", "root", "123456", host("mysql"), Some(3306), "new-api"),
        (
            "root:123456@tcp(mysql:3306)/new-api?charset=utf8mb4&parseTime=true&loc=Local&timeout=10s&collation=x",
            "root",
            "123456",
            host("mysql"),
            Some(3306),
            "new-api",
        ),
        ("root:p@ss:w/rd@tcp(h)/db", "root", "p@ss:w/rd", host("h"), None, "db"),
        ("root:p%41(x)@tcp(my-sql.a_b:1)/db", "root", "p%41(x)", host("my-sql.a_b"), Some(1), "db"),
        ("root://x@tcp(h)/db", "root", "//x", host("h"), None, "db"),
        ("root:a.db?x@tcp(h)/db", "root", "a.db?x", host("h"), None, "db"),
        ("root@unix(/run/mysqld/mysqld.sock)/db", "root", "", socket("/run/mysqld/mysqld.sock"), None, "db"),
        ("root:@unix/db", "root", "", socket("/tmp/mysql.sock"), None, "db"),
        ("u:p@tcp([::1]:3306)/db", "u", "p", host("::1"), Some(3306), "db"),
        ("u:p@tcp([fe80::1%25eth0])/db", "u", "p", host("fe80::1%25eth0"), None, "db"),
        ("u:p@tcp(::1)/db", "u", "p", host("::1"), None, "db"),
        ("u:p@tcp/db", "u", "p", host("localhost"), None, "db"),
        ("u:p@tcp()/db", "u", "p", host("localhost"), None, "db"),
        ("u:p@/db?tls=preferred", "u", "p", host("localhost"), None, "db"),
        ("/db", "", "", host("localhost"), None, "db"),
        ("tcp(h:1)/new-api.db", "", "", host("h"), Some(1), "new-api.db"),
        ("u:p@tcp(h)/a%20b", "u", "p", host("h"), None, "a b"),
    ]);
}

#[test]
fn servers_are_read_from_urls() {
    assert_seen(&[
        ("mysql://root:123456@mysql:3306/new-api", "root", "123456", host("mysql"), Some(3306), "new-api"),
        ("MariaDB://u%40h:p%2F%3a@h/a%20b", "u@h", "p/:", host("h"), None, "a b"),
        ("mysql://u:100%@h/db", "u", "100%", host("h"), None, "db"),
        ("mysql://u:1%zz%4@h/db", "u", "1%zz%4", host("h"), None, "db"),
        ("mysql://u:p@h/db?socket=/run/my.sock", "u", "p", socket("/run/my.sock"), None, "db"),
        ("mysql:///db", "", "", host("localhost"), None, "db"),
        (" mysql://u:p@h/db\n", "u", "p", host("h"), None, "db"),
        (
            "postgresql://root:123456@postgres:5432/new-api",
            "root",
            "123456",
            host("postgres"),
            Some(5432),
            "new-api",
        ),
        ("postgres://u@h/db", "u", "", host("h"), None, "db"),
        ("postgres://h/db?user=a@b", "a@b", "", host("h"), None, "db"),
        (
            "postgres://u:p@[2001:db8::1]:5433/db?sslmode=disable",
            "u",
            "p",
            host("2001:db8::1"),
            Some(5433),
            "db",
        ),
        ("postgres://u:p@[::1]/db", "u", "p", host("::1"), None, "db"),
        ("postgres://u:p@%2Fvar%2Frun:5433/db", "u", "p", socket("/var/run"), Some(5433), "db"),
        ("postgres://u:p@/db?host=/var/run&port=5433", "u", "p", socket("/var/run"), Some(5433), "db"),
        ("postgres:///?host=h&port=1&user=u&password=p&dbname=d", "u", "p", host("h"), Some(1), "d"),
        ("postgres://u:p@h/db?sslrootcert=/etc/ca.pem&application_name=a@b", "u", "p", host("h"), None, "db"),
        ("postgres://u:p@h/db?password=a@h2/x", "u", "a@h2/x", host("h"), None, "db"),
        ("postgres://u:p@h/db?pgbouncer", "u", "p", host("h"), None, "db"),
        ("postgres://:p@h/db", "", "p", host("h"), None, "db"),
        // passwords as they are
        ("postgres://u:p@ss@h/db", "u", "p@ss", host("h"), None, "db"),
        ("postgres://u:p@h:1/x@h/db", "u", "p@h:1/x", host("h"), None, "db"),
        ("postgres://u:p@x/y?z@h/db", "u", "p@x/y?z", host("h"), None, "db"),
        ("postgres://u:12/3@h/db", "u", "12/3", host("h"), None, "db"),
        ("postgres://u:12?3#4@h:5/db?sslmode=require", "u", "12?3#4", host("h"), Some(5), "db"),
        ("mysql://u:a:/?#[]@()@h/db?ssl-mode=disabled", "u", "a:/?#[]@()", host("h"), None, "db"),
    ]);
}

#[test]
fn files_are_told_from_servers() {
    let cases = [
        ("sqlite://data/monitor.db", "data/monitor.db"),
        ("sqlite:///data/one-api.db?mode=ro&cache=shared", "/data/one-api.db"),
        ("sqlite:one-api", "one-api"),
        ("SQLite:///a@b/c(d)%20.x", "/a@b/c(d)%20.x"),
        ("file:one-api.db?cache=shared", "one-api.db"),
        ("/data/one-api.db", "/data/one-api.db"),
        ("one-api.db?_busy_timeout=30000", "one-api.db"),
        ("./new-api.SQLite3?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)", "./new-api.SQLite3"),
        ("data/x.sqlite", "data/x.sqlite"),
    ];
    for (value, expected) in cases {
        let dsn = Dsn::parse(value).unwrap();
        assert!(matches!(dsn.target(), Target::Sqlite(path) if path == &PathBuf::from(expected)), "{value}");
        assert_eq!(dsn.redacted(), format!("sqlite://{expected}"));
        assert_eq!(dsn.engine(), Engine::Sqlite);
    }
}

/// Each value is refused, with a text that does not hold the password.
fn assert_refused(cases: &[(&str, DsnError)]) {
    for (value, expected) in cases {
        let error = Dsn::parse(value).expect_err(value);
        assert_eq!(error, *expected, "{value}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
}

#[test]
fn what_is_no_server_of_ours_is_refused_with_its_reason() {
    assert_refused(&[
        ("", DsnError::Empty),
        (" \n", DsnError::Empty),
        ("local", DsnError::Local),
        ("local.db", DsnError::Local),
        ("sqlite://", DsnError::NoPath),
        ("sqlite:?mode=ro", DsnError::NoPath),
        ("clickhouse://u:S3cr3t@h1:9000,h2:9000/db?dial_timeout=10s", DsnError::ClickHouse),
        ("tcp://h:9000?password=S3cr3t", DsnError::ClickHouse),
        ("http://u:S3cr3t@h:8123/db", DsnError::ClickHouse),
        ("HTTPS://u:S3cr3t@h:8443/db", DsnError::ClickHouse),
        ("host=h user=u password=S3cr3t dbname=d", DsnError::KeyValue),
        ("password = S3cr3t host = h", DsnError::KeyValue),
        ("mssql://u:S3cr3t@h/db", DsnError::UnknownScheme),
        ("oracle://S3cr3t", DsnError::UnknownScheme),
        ("S3cr3t", DsnError::Unknown),
        ("/data/S3cr3t", DsnError::Unknown),
        ("root:S3cr3t@tcp(h)", DsnError::Unknown),
    ]);
}

#[test]
fn a_malformed_server_is_refused_with_its_reason() {
    assert_refused(&[
        ("root:S3cr3t@h:3306/db", DsnError::BadNetwork),
        ("root:S3cr3t@udp(h:3306)/db", DsnError::BadNetwork),
        ("root:S3cr3t@tcp(h/db", DsnError::BadNetwork),
        ("root:S3cr3t@tcp(h)/db?loc=Asia/Shanghai", DsnError::BadNetwork),
        ("root:S3cr3t@tcp(h)/", DsnError::NoDatabase),
        ("root:S3cr3t@tcp(h)/?parseTime=true", DsnError::NoDatabase),
        ("root:S3cr3t@tcp(h:0)/db", DsnError::BadPort),
        ("root:S3cr3t@tcp(h:)/db", DsnError::BadPort),
        ("root:S3cr3t@tcp(h:+1)/db", DsnError::BadPort),
        ("root:S3cr3t@tcp(h:65536)/db", DsnError::BadPort),
        ("root:S3cr3t@tcp([::1]x)/db", DsnError::BadPort),
        ("root:S3cr3t@tcp(h)/db?tls=S3cr3t", DsnError::BadTls),
        ("root:S3cr3t@tcp(h)/%ff", DsnError::BadEncoding),
        ("mysql://u:S3cr3t@h", DsnError::NoDatabase),
        ("mysql://u:S3cr3t@h/", DsnError::NoDatabase),
        ("mysql://u:S3cr3t@h/?tls=false", DsnError::NoDatabase),
        ("mysql://u:S3cr3t@h:port/db", DsnError::BadPort),
        ("mysql://u:S3cr3t@h:99999/db", DsnError::BadPort),
        ("mysql://u:S3cr3t@tcp(h:3306)/db", DsnError::BadUrl),
        ("mysql://u:S3cr3t@h/a/b", DsnError::BadUrl),
        ("mysql://u:S3cr3t%00@h/db", DsnError::BadEncoding),
        ("mysql://u:S3cr3t%ff@h/db", DsnError::BadEncoding),
        ("mysql://u:S3cr3t@h/db?ssl-mode=S3cr3t", DsnError::BadMySqlSslMode),
        ("mysql://u:S3cr3t@h/db?tls=S3cr3t", DsnError::BadTls),
        ("postgres://u:S3cr3t@h", DsnError::NoDatabase),
        ("postgres://u:S3cr3t@/?host=h", DsnError::NoDatabase),
        ("postgres://u:S3cr3t@h:/db", DsnError::BadPort),
        ("postgres://u:S3cr3t@h/db?port=S3cr3t", DsnError::BadPort),
        ("postgres://u:S3cr3t@h1:1,h2:2/db", DsnError::ManyHosts),
        ("postgres://u:S3cr3t@/db?host=h1,h2", DsnError::ManyHosts),
        ("postgres://u:S3cr3t@h/db?sslmode=S3cr3t", DsnError::BadPgSslMode),
        ("postgres://root:S3cr3t", DsnError::NoDatabase),
        ("postgres://root:S3cr3t/db", DsnError::BadPort),
    ]);
}

#[test]
fn passwords_and_parameters_are_never_shown() {
    let cases = [
        ("root:S3cr3t@tcp(h:3306)/new-api?x=S3cr3t", "mysql://root@h:3306/new-api"),
        ("root:S3cr3t@/db", "mysql://root@localhost/db"),
        ("root:a@S3cr3t/b@unix(/run/my.sock)/db", "mysql://root@unix(/run/my.sock)/db"),
        ("mariadb://u:S3cr3t@[::1]:1/db?tls=true&x=S3cr3t", "mysql://u@[::1]:1/db"),
        ("postgresql://u:a/S3cr3t?b@h/db?options=S3cr3t", "postgres://u@h/db"),
        ("postgres://u@h:5432/db?password=S3cr3t&TimeZone=S3cr3t", "postgres://u@h:5432/db"),
        ("postgres:///db?host=/run/pg&port=1&user=u&password=S3cr3t", "postgres://u@unix(/run/pg):1/db"),
        ("postgres://:S3cr3t@h/d%0ab", "postgres://h/d?b"),
        ("one-api.db?_auth_pass=S3cr3t", "sqlite://one-api.db"),
    ];
    for (value, redacted) in cases {
        let dsn = Dsn::parse(value).unwrap();
        assert_eq!(dsn.redacted(), redacted, "{value}");
        let shown = format!("{dsn:?} {:#?} {:?} {}", dsn, dsn.target(), dsn.engine());
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
}

fn mysql(value: &str) -> MySqlConnectOptions {
    match Dsn::parse(value).map(|dsn| dsn.target) {
        Ok(Target::MySql(options)) => *options,
        other => panic!("{value}: {other:?}"),
    }
}

fn postgres(value: &str) -> PgConnectOptions {
    match Dsn::parse(value).map(|dsn| dsn.target) {
        Ok(Target::Postgres(options)) => *options,
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn tls_of_mysql_is_what_each_form_means() {
    let cases = [
        ("u@tcp(h)/db", "Disabled"),
        ("u@tcp(h)/db?tls=false", "Disabled"),
        ("u@tcp(h)/db?tls=true", "VerifyIdentity"),
        ("u@tcp(h)/db?tls=skip-verify", "Required"),
        ("u@tcp(h)/db?parseTime=true&tls=preferred", "Preferred"),
        ("mysql://u@h/db", "Preferred"),
        ("mysql://u@h/db?ssl-mode=DISABLED", "Disabled"),
        ("mysql://u@h/db?sslmode=required", "Required"),
        ("mysql://u@h/db?ssl-mode=verify-ca&ssl-ca=/ca.pem", "VerifyCa"),
        ("mysql://u@h/db?ssl-mode=VERIFY_IDENTITY", "VerifyIdentity"),
        ("mysql://u@h/db?tls=skip-verify", "Required"),
    ];
    for (value, expected) in cases {
        assert_eq!(format!("{:?}", mysql(value).get_ssl_mode()), expected, "{value}");
    }
    let options = format!("{:?}", mysql("mysql://h/db?ssl-ca=/ca.pem&ssl-cert=/c.pem&ssl-key=/k.pem"));
    for path in ["/ca.pem", "/c.pem", "/k.pem"] {
        assert!(options.contains(path), "{options}");
    }
}

#[test]
fn the_driver_of_mysql_gets_every_part() {
    let options = mysql("u:p@ss@tcp([::1]:3307)/new-api?charset=latin1&collation=latin1_bin");
    assert_eq!(options.get_host(), "::1");
    assert_eq!(options.get_port(), 3307);
    assert_eq!(options.get_username(), "u");
    assert_eq!(options.get_database(), Some("new-api"));
    assert_eq!(options.get_charset(), "utf8mb4");
    assert_eq!(options.get_collation(), None);
    // Only Debug tells the password, which is why nothing else of ours may print these options.
    assert!(format!("{options:?}").contains(r#"Some("p@ss")"#));
    assert_eq!(mysql("tcp(h)/db").get_port(), 3306);
    assert_eq!(mysql("tcp(h)/db").get_username(), "");
    assert_eq!(mysql("unix(/s)/db").get_socket(), Some(&PathBuf::from("/s")));
}

#[test]
fn the_driver_of_postgres_gets_every_part() {
    let options = postgres(
        "postgres://u%2B:a+b%26=@[::1]:5433/new-api?sslmode=verify-full&sslrootcert=/ca.pem&TimeZone=Asia/Shanghai\
         &connect_timeout=5&application_name=x&search_path=a b&options[statement_timeout]=9",
    );
    assert_eq!(options.get_host(), "::1");
    assert_eq!(options.get_port(), 5433);
    assert_eq!(options.get_username(), "u+");
    assert_eq!(options.get_database(), Some("new-api"));
    assert_eq!(options.get_application_name(), Some(APPLICATION_NAME));
    assert_eq!(options.get_options(), Some(r"-c search_path=a\ b -c statement_timeout=9"));
    let shown = format!("{options:?}");
    for part in [r#"Some("a+b&=")"#, "VerifyFull", "/ca.pem"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    for part in ["Shanghai", "connect_timeout"] {
        assert!(!shown.contains(part), "{part}: {shown}");
    }
    let options = postgres("postgres://u@%2Frun:5433/db");
    assert_eq!((options.get_socket(), options.get_port()), (Some(&PathBuf::from("/run")), 5433));
}

#[test]
fn statements_are_not_logged() {
    for shown in [format!("{:?}", mysql("/db")), format!("{:?}", postgres("postgres://h/db"))] {
        assert!(shown.contains("statements_level: Off"), "{shown}");
        assert!(shown.contains("slow_statements_level: Off"), "{shown}");
    }
}

fn password_of(value: &str) -> String {
    seen(value).1.unwrap_or_default()
}

proptest! {
    #[test]
    fn any_password_survives_new_apis_form(password in "[ -~]{0,40}") {
        for network in ["tcp(mysql:3306)", "tcp([::1]:3306)", "unix(/run/my.sock)", "tcp", ""] {
            let value = format!("root:{password}@{network}/new-api?parseTime=true");
            prop_assert_eq!(password_of(&value), &password[..]);
            let redacted = Dsn::parse(&value).map(|dsn| dsn.redacted()).unwrap_or_default();
            prop_assert!(redacted.starts_with("mysql://root@"), "{}", redacted);
            prop_assert!(redacted.ends_with("/new-api"), "{}", redacted);
        }
    }

    #[test]
    fn any_encoded_password_survives_a_url(password in "[ -~]{0,40}|\\PC{0,20}") {
        let encoded = utf8_percent_encode(&password, NON_ALPHANUMERIC);
        for scheme in ["mysql", "mariadb", "postgres", "postgresql"] {
            for rest in ["h/db", "h:1/db?connect_timeout=5&a=b@c/d", "[::1]:1/db", "/db?host=/run/x"] {
                let value = format!("{scheme}://root:{encoded}@{rest}");
                prop_assert_eq!(password_of(&value), &password[..]);
            }
        }
    }

    #[test]
    fn the_driver_of_postgres_gets_any_password(password in "[ -~]{1,40}") {
        let encoded = utf8_percent_encode(&password, NON_ALPHANUMERIC);
        let options = postgres(&format!("postgres://root:{encoded}@h/db"));
        let shown = format!("{options:?}");
        let expected = format!("password: Some({password:?})");
        prop_assert!(shown.contains(&expected), "{}", shown);
    }

    #[test]
    fn any_value_is_survived(value in "(mysql://|postgres://|sqlite:|)[ -~]{0,60}|\\PC{0,30}") {
        let _ = Dsn::parse(&value);
    }

    #[test]
    fn any_shape_is_survived(value in "(mysql://|postgres://|)[a:@/?#()\\[\\]=%&0,]{0,24}") {
        let _ = Dsn::parse(&value);
    }
}
