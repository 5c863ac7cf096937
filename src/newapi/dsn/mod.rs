//! Reads the address of a database: URLs of ours, and every form that new-api takes in `SQL_DSN`.
//!
//! It opens no connection. A password goes into the driver's options and nowhere else: no error, `Debug` or
//! [`Dsn::redacted`] may show one. Hence errors repeat nothing of the value, since which part of a malformed
//! value is the password cannot be known.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::PgConnectOptions;

/// What PostgreSQL shows in `pg_stat_activity`.
const APPLICATION_NAME: &str = "token-monitor";

/// Where go-sql-driver looks for the server if a DSN says `unix` without a path.
const MYSQL_SOCKET: &str = "/tmp/mysql.sock";

/// The kind of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// MySQL or MariaDB.
    MySql,
    /// PostgreSQL.
    Postgres,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::MySql => "mysql",
            Self::Postgres => "postgres",
        })
    }
}

/// What to connect to.
#[derive(Clone)]
pub enum Target {
    /// The path of the file, as given and without parameters.
    Sqlite(PathBuf),
    /// Options with the statement log turned off.
    MySql(Box<MySqlConnectOptions>),
    /// Options with the statement log turned off and our application name.
    Postgres(Box<PgConnectOptions>),
}

/// The drivers' own `Debug` shows the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::MySql(_) => f.write_str("MySql(..)"),
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// The parsed address of a database.
#[derive(Clone)]
pub struct Dsn {
    target: Target,
    redacted: String,
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dsn").field(&self.redacted).finish()
    }
}

/// Why a value is no address of a database. The texts hold nothing of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DsnError {
    /// Nothing was given.
    #[error("the database address is empty; give mysql://, postgres:// or sqlite://PATH")]
    Empty,
    /// new-api's way to say "the SQLite file at `SQLITE_PATH`".
    #[error(
        "a value that starts with `local` makes new-api use the SQLite file at its SQLITE_PATH; \
         give that file as sqlite://PATH"
    )]
    Local,
    /// Allowed in new-api's `LOG_SQL_DSN`.
    #[error("ClickHouse log databases are not supported yet")]
    ClickHouse,
    /// libpq's `host=… user=…`, which new-api refuses as well.
    #[error(
        "the `key=value` form of PostgreSQL is not accepted; write postgres://user:password@host:port/database"
    )]
    KeyValue,
    /// A scheme that is none of ours, in a value that is no MySQL DSN either.
    #[error("unknown scheme; accepted are mysql, mariadb, postgres, postgresql and sqlite")]
    UnknownScheme,
    /// `sqlite://` without a path.
    #[error("the path of the SQLite file is empty; write sqlite://PATH")]
    NoPath,
    /// No database, or an empty name.
    #[error("the name of the database is missing; it stands after the host: host:port/database")]
    NoDatabase,
    /// Not a number from 1 to 65535.
    #[error("the port must be a number from 1 to 65535")]
    BadPort,
    /// PostgreSQL's list of hosts.
    #[error("only one host is accepted; give the one that new-api writes to")]
    ManyHosts,
    /// A URL that cannot be taken apart.
    #[error(
        "malformed address; write scheme://user:password@host:port/database \
         and percent-encode special characters of the password"
    )]
    BadUrl,
    /// Neither a URL nor a file, and not go-sql-driver's form either.
    #[error(
        "not an address of a database; accepted are mysql://, postgres://, sqlite://PATH and \
         new-api's user:password@tcp(host:port)/database"
    )]
    Unknown,
    /// Something else than `tcp` and `unix` before the slash.
    #[error(
        "the server must be given as tcp(host:port) or unix(/path/of/socket); other slashes, in a parameter, as %2F"
    )]
    BadNetwork,
    /// In go-sql-driver's form.
    #[error("unknown value of `tls`; accepted are true, false, skip-verify and preferred")]
    BadTls,
    /// In a `mysql://` URL.
    #[error(
        "unknown value of `ssl-mode`; accepted are disabled, preferred, required, verify_ca and verify_identity"
    )]
    BadMySqlSslMode,
    /// In a `postgres://` URL.
    #[error(
        "unknown value of `sslmode`; accepted are disable, allow, prefer, require, verify-ca and verify-full"
    )]
    BadPgSslMode,
    /// A percent-encoded part is not UTF-8, or holds a NUL.
    #[error("a percent-encoded part is not valid text; write a literal % as %25")]
    BadEncoding,
    /// The driver refused a parameter that is passed on to it.
    #[error("the PostgreSQL driver refuses one of the parameters")]
    Refused,
}

impl Dsn {
    /// Reads an address. Accepted are
    ///
    /// - `mysql://`, `mariadb://`, `postgres://`, `postgresql://` URLs; parts are percent-decoded, and a `%` that
    ///   starts no code stays. Special characters of a password may stand as they are where only one reading of
    ///   the URL makes sense;
    /// - `sqlite://PATH`, `sqlite:PATH`, and a bare path that ends in `.db`, `.sqlite` or `.sqlite3`; what
    ///   follows a `?` is ignored, as new-api's driver does;
    /// - `[user[:password]@][tcp[(host[:port])]|unix[(path)]]/database[?parameters]` of go-sql-driver, which
    ///   new-api takes every other value for. Nothing in its password is decoded.
    ///
    /// White space around the value is ignored.
    pub fn parse(value: &str) -> Result<Self, DsnError> {
        let parts = Parts::read(value)?;
        Ok(Self { redacted: parts.redacted(), target: parts.target()? })
    }

    /// The kind of the database.
    pub fn engine(&self) -> Engine {
        match self.target {
            Target::Sqlite(_) => Engine::Sqlite,
            Target::MySql(_) => Engine::MySql,
            Target::Postgres(_) => Engine::Postgres,
        }
    }

    /// What to connect to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// For logs and messages: scheme, user, host, port and database, but no password and no parameter.
    pub fn redacted(&self) -> String {
        self.redacted.clone()
    }
}

/// A value taken apart, before it is put into a driver's options, which cannot be looked into.
enum Parts {
    Sqlite(String),
    MySql(Server, MySqlTls),
    /// With the parameters that the driver shall see.
    Postgres(Server, Params),
}

type Params = Vec<(String, String)>;

#[derive(Default)]
struct Server {
    user: Option<String>,
    /// Never empty.
    password: Option<String>,
    address: Address,
    /// Part of the name of PostgreSQL's socket too.
    port: Option<u16>,
    database: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    /// An empty host stands for PostgreSQL's default; an IPv6 address has no brackets.
    Tcp(String),
    /// The socket for MySQL, its directory for PostgreSQL.
    Unix(String),
}

impl Default for Address {
    fn default() -> Self {
        Self::Tcp(String::new())
    }
}

struct MySqlTls {
    mode: MySqlSslMode,
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

impl Parts {
    fn read(value: &str) -> Result<Self, DsnError> {
        let value = value.trim();
        if value.is_empty() {
            return Err(DsnError::Empty);
        }
        if let Some((scheme, rest)) = value.split_once("://") {
            match scheme.to_ascii_lowercase().as_str() {
                "mysql" | "mariadb" => return read_mysql_url(rest),
                "postgres" | "postgresql" => return read_postgres_url(rest),
                "sqlite" | "file" => return read_file(rest),
                "clickhouse" | "tcp" | "http" | "https" => return Err(DsnError::ClickHouse),
                _ => {}
            }
        }
        for scheme in ["sqlite:", "file:"] {
            if let Some(path) = strip_prefix_ignore_case(value, scheme) {
                return read_file(path);
            }
        }
        if value.starts_with("local") {
            return Err(DsnError::Local);
        }
        if is_key_value(value) {
            return Err(DsnError::KeyValue);
        }
        if is_bare_file(value) {
            return read_file(value);
        }
        read_go(value).map_err(|error| match error {
            DsnError::Unknown | DsnError::BadNetwork | DsnError::NoDatabase if has_scheme(value) => {
                DsnError::UnknownScheme
            }
            error => error,
        })
    }

    fn redacted(&self) -> String {
        let (scheme, server) = match self {
            Self::Sqlite(path) => return printable(&format!("sqlite://{path}")),
            Self::MySql(server, _) => ("mysql", server),
            Self::Postgres(server, _) => ("postgres", server),
        };
        let user = server.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
        let address = match &server.address {
            Address::Unix(path) => format!("unix({path})"),
            Address::Tcp(host) if host.contains(':') => format!("[{host}]"),
            Address::Tcp(host) => host.clone(),
        };
        let port = server.port.map_or_else(String::new, |port| format!(":{port}"));
        printable(&format!("{scheme}://{user}{address}{port}/{}", server.database))
    }

    fn target(self) -> Result<Target, DsnError> {
        Ok(match self {
            Self::Sqlite(path) => Target::Sqlite(PathBuf::from(path)),
            Self::MySql(server, tls) => Target::MySql(Box::new(mysql_options(server, tls))),
            Self::Postgres(server, params) => Target::Postgres(Box::new(postgres_options(server, params)?)),
        })
    }
}

/// Names come from outside: a line break in one must not start a new line of a log.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn strip_prefix_ignore_case<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = value.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Whether the value starts as libpq's `host=… user=…` does.
fn is_key_value(value: &str) -> bool {
    const KEYS: [&str; 8] = ["host", "hostaddr", "port", "user", "password", "dbname", "sslmode", "timezone"];
    value
        .split_once('=')
        .is_some_and(|(key, _)| KEYS.iter().any(|known| key.trim().eq_ignore_ascii_case(known)))
}

/// Whether new-api's form of `SQLITE_PATH` is meant. A DSN of MySQL has a `@` or, before any `?`, a bracket.
fn is_bare_file(value: &str) -> bool {
    let path = before_query(value).to_ascii_lowercase();
    let extension = [".db", ".sqlite", ".sqlite3"].iter().any(|extension| path.ends_with(extension));
    extension && !value.contains('@') && !path.contains('(')
}

fn before_query(value: &str) -> &str {
    value.split_once('?').map_or(value, |(head, _)| head)
}

fn has_scheme(value: &str) -> bool {
    value.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    })
}

/// The path is taken as it stands: percent signs are legal in names of files.
fn read_file(path: &str) -> Result<Parts, DsnError> {
    let path = before_query(path);
    if path.is_empty() {
        return Err(DsnError::NoPath);
    }
    Ok(Parts::Sqlite(path.to_owned()))
}

/// Takes go-sql-driver's form apart as the driver does: at the last `/`, before it at the last `@`, before that
/// at the first `:`.
fn read_go(value: &str) -> Result<Parts, DsnError> {
    let (left, right) = value.rsplit_once('/').ok_or(DsnError::Unknown)?;
    let (userinfo, network) = left.rsplit_once('@').map_or((None, left), |(user, net)| (Some(user), net));
    let (user, password) = split_userinfo(userinfo.unwrap_or(""));
    let (database, query) = right.split_once('?').unwrap_or((right, ""));
    let (address, port) = read_network(network).map_err(|error| match userinfo {
        // Without a `@` and a network it is more likely to be something else altogether.
        None if error == DsnError::BadNetwork && !network.contains('(') => DsnError::Unknown,
        _ => error,
    })?;
    let server = Server {
        user: non_empty(user.to_owned()),
        password: password.map(str::to_owned).and_then(non_empty),
        address,
        port,
        database: decode(database)?,
    };
    let mut tls = MySqlTls { mode: MySqlSslMode::Disabled, ca: None, cert: None, key: None };
    for (key, value) in read_query(query)? {
        // The rest is about what Go makes of the values, or about time. `charset` stays the driver's utf8mb4,
        // which every text of new-api's fits into.
        if key == "tls" {
            tls.mode = go_tls(&value)?;
        }
    }
    mysql_parts(server, tls)
}

fn mysql_parts(mut server: Server, tls: MySqlTls) -> Result<Parts, DsnError> {
    if server.database.is_empty() {
        return Err(DsnError::NoDatabase);
    }
    if server.address == Address::default() {
        server.address = Address::Tcp("localhost".to_owned());
    }
    Ok(Parts::MySql(server, tls))
}

/// `tcp`, `tcp(host)`, `tcp(host:port)`, `unix(path)`, or nothing.
fn read_network(network: &str) -> Result<(Address, Option<u16>), DsnError> {
    let (name, address) = match network.split_once('(') {
        Some((name, address)) => (name, address.strip_suffix(')').ok_or(DsnError::BadNetwork)?),
        None => (network, ""),
    };
    match name {
        "tcp" | "" if address.is_empty() => Ok((Address::default(), None)),
        "tcp" => read_host_port(address),
        "unix" if address.is_empty() => Ok((Address::Unix(MYSQL_SOCKET.to_owned()), None)),
        "unix" => Ok((Address::Unix(address.to_owned()), None)),
        _ => Err(DsnError::BadNetwork),
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`, or a bare IPv6 address.
fn read_host_port(text: &str) -> Result<(Address, Option<u16>), DsnError> {
    let (host, port) = if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(DsnError::BadPort),
        }
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    Ok((Address::Tcp(host.to_owned()), port.map(read_port).transpose()?))
}

fn read_port(text: &str) -> Result<u16, DsnError> {
    // `parse` alone would take a plus sign.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or(DsnError::BadPort)
}

/// The values that go-sql-driver takes; a name of a TLS configuration exists inside one program only.
fn go_tls(value: &str) -> Result<MySqlSslMode, DsnError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(MySqlSslMode::VerifyIdentity),
        "false" | "0" => Ok(MySqlSslMode::Disabled),
        "skip-verify" => Ok(MySqlSslMode::Required),
        "preferred" => Ok(MySqlSslMode::Preferred),
        _ => Err(DsnError::BadTls),
    }
}

fn split_userinfo(userinfo: &str) -> (&str, Option<&str>) {
    userinfo.split_once(':').map_or((userinfo, None), |(user, password)| (user, Some(password)))
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Undoes percent-encoding. A `%` without two hexadecimal digits stays as it is.
fn decode(text: &str) -> Result<String, DsnError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| DsnError::BadEncoding)?;
    // Both protocols end their strings with a NUL.
    if text.contains('\0') { Err(DsnError::BadEncoding) } else { Ok(text.into_owned()) }
}

/// Parameters in their order, decoded.
fn read_query(query: &str) -> Result<Params, DsnError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(key)?, decode(value)?))
        })
        .collect()
}

/// The text after `scheme://`, taken apart but not decoded.
struct Split<'a> {
    userinfo: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
    database: &'a str,
    query: &'a str,
}

/// Takes the text after `scheme://` apart.
///
/// Which `@` ends the password cannot be told by its place if the password may hold `@ : / ? #`, and parameters
/// too. So each is tried, from the first, and before them the reading without a user: the first reading that is
/// whole is taken. That is the standard's reading wherever the standard has one, which is also what new-api
/// does. Parameters without `=` are believed only if no reading does without them.
fn split_url(text: &str) -> Result<Split<'_>, DsnError> {
    for strict in [true, false] {
        let with_user = text.match_indices('@').map(|(at, _)| (Some(&text[..at]), &text[at + 1..]));
        let readings = std::iter::once((None, text)).chain(with_user);
        for (userinfo, rest) in readings {
            if let Some(split) = whole_reading(userinfo, rest, strict) {
                return Ok(split);
            }
        }
    }
    Err(why_malformed(text))
}

fn whole_reading<'a>(userinfo: Option<&'a str>, rest: &'a str, strict: bool) -> Option<Split<'a>> {
    let (authority, path) = rest.split_once('/')?;
    let (database, query) = path.split_once('?').unwrap_or((path, ""));
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':')?)),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let bracketed = authority.starts_with('[') && host.parse::<Ipv6Addr>().is_ok();
    let plain = |text: &str| !text.contains(|c: char| "@:/?#[](),".contains(c) || c.is_whitespace());
    let port_is_number = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let query_is_pairs = query.split('&').all(|pair| pair.is_empty() || pair.contains('='));
    let database_is_name = !database.contains(['@', '/', '#']);
    let whole =
        (bracketed || plain(host)) && port_is_number && database_is_name && (query_is_pairs || !strict);
    whole.then_some(Split { userinfo, host, port, database, query })
}

/// The likeliest reason why there is no whole reading.
fn why_malformed(text: &str) -> DsnError {
    let rest = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
    let Some((authority, database)) = rest.split_once('/') else {
        return DsnError::NoDatabase;
    };
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    if authority.contains(',') {
        DsnError::ManyHosts
    } else if before_query(database).is_empty() {
        DsnError::NoDatabase
    } else if port.is_some_and(|port| read_port(port).is_err()) && !authority.ends_with(')') {
        DsnError::BadPort
    } else {
        DsnError::BadUrl
    }
}

/// The server and the parameters of a URL. The name of the database may still be empty.
fn read_url(text: &str) -> Result<(Server, Params), DsnError> {
    let split = split_url(text)?;
    let (user, password) = split_userinfo(split.userinfo.unwrap_or(""));
    let host = decode(split.host)?;
    let server = Server {
        user: non_empty(decode(user)?),
        password: password.map(decode).transpose()?.and_then(non_empty),
        address: if host.starts_with('/') { Address::Unix(host) } else { Address::Tcp(host) },
        port: split.port.map(read_port).transpose()?,
        database: decode(split.database)?,
    };
    Ok((server, read_query(split.query)?))
}

fn read_mysql_url(text: &str) -> Result<Parts, DsnError> {
    let (mut server, params) = read_url(text)?;
    let mut tls = MySqlTls { mode: MySqlSslMode::Preferred, ca: None, cert: None, key: None };
    for (key, value) in params {
        match key.as_str() {
            "ssl-mode" | "sslmode" => {
                let mode = value.replace('-', "_").parse();
                tls.mode = mode.map_err(|_| DsnError::BadMySqlSslMode)?;
            }
            "tls" => tls.mode = go_tls(&value)?,
            "ssl-ca" | "sslca" => tls.ca = non_empty(value),
            "ssl-cert" | "sslcert" => tls.cert = non_empty(value),
            "ssl-key" | "sslkey" => tls.key = non_empty(value),
            "socket" if !value.is_empty() => server.address = Address::Unix(value),
            _ => {}
        }
    }
    mysql_parts(server, tls)
}

fn read_postgres_url(text: &str) -> Result<Parts, DsnError> {
    const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
    let (mut server, params) = read_url(text)?;
    let mut for_driver = Params::new();
    for (key, value) in params {
        match key.as_str() {
            "host" | "hostaddr" if value.contains(',') => return Err(DsnError::ManyHosts),
            "host" if value.starts_with('/') => server.address = Address::Unix(value),
            "host" | "hostaddr" => server.address = Address::Tcp(value),
            "port" => server.port = Some(read_port(&value)?),
            "user" => server.user = non_empty(value),
            "password" => server.password = non_empty(value),
            "dbname" => server.database = value,
            "sslmode" | "ssl-mode" if !SSL_MODES.contains(&value.to_ascii_lowercase().as_str()) => {
                return Err(DsnError::BadPgSslMode);
            }
            // The driver passes it on as an option; without it tables of another schema would be found, or none.
            "search_path" => for_driver.push(("options[search_path]".to_owned(), value)),
            "sslmode" | "ssl-mode" | "sslrootcert" | "ssl-root-cert" | "ssl-ca" | "sslcert" | "ssl-cert"
            | "sslkey" | "ssl-key" | "options" => for_driver.push((key, value)),
            key if key.starts_with("options[") => for_driver.push((key.to_owned(), value)),
            // TimeZone, connect_timeout, pool_* and the like are for other drivers. Ours would log their values.
            _ => {}
        }
    }
    if server.database.is_empty() {
        return Err(DsnError::NoDatabase);
    }
    Ok(Parts::Postgres(server, for_driver))
}

fn mysql_options(server: Server, tls: MySqlTls) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        // The default is root, but a DSN without a user means MySQL's anonymous one.
        .username(server.user.as_deref().unwrap_or(""))
        .database(&server.database)
        .ssl_mode(tls.mode);
    if let Some(password) = &server.password {
        options = options.password(password);
    }
    options = match server.address {
        Address::Unix(path) => options.socket(path),
        Address::Tcp(host) => options.host(&host).port(server.port.unwrap_or(3306)),
    };
    if let Some(path) = tls.ca {
        options = options.ssl_ca(path);
    }
    if let Some(path) = tls.cert {
        options = options.ssl_client_cert(path);
    }
    if let Some(path) = tls.key {
        options = options.ssl_client_key(path);
    }
    options.disable_statement_logging()
}

/// Everything goes to the driver as parameters of a URL, where no value needs a place of its own: so its own
/// rules for options, certificates, `.pgpass` and the `PG*` variables of libpq apply to what is not given, and no
/// character can be misread.
fn postgres_options(server: Server, mut params: Params) -> Result<PgConnectOptions, DsnError> {
    let mut set = |key: &str, value: Option<String>| {
        params.extend(value.map(|value| (key.to_owned(), value)));
    };
    set("user", server.user);
    set("password", server.password);
    set("dbname", Some(server.database));
    set("port", server.port.map(|port| port.to_string()));
    let (Address::Unix(host) | Address::Tcp(host)) = server.address;
    set("host", non_empty(host));
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let query: Vec<_> =
        params.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    // Its error may quote the value.
    let options = PgConnectOptions::from_str(&format!("postgres:///?{}", query.join("&")))
        .map_err(|_| DsnError::Refused)?;
    Ok(options.application_name(APPLICATION_NAME).disable_statement_logging())
}

#[cfg(test)]
mod tests;
