//! Reads the address of a database: URLs of ours, and every form that new-api takes in `SQL_DSN`.
//!
//! It opens no connection. A password goes into the driver's options and nowhere else: no error, `Debug` or
//! [`Dsn::redacted`] may show one. Hence errors repeat nothing of the value, since which part of a malformed
//! value is the password cannot be known.

mod go;
mod options;
mod url;

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;

use self::url::{read_mysql_url, read_postgres_url};
use go::read_go;
use options::{MySqlTls, mysql_options, postgres_options};

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

fn mysql_parts(mut server: Server, tls: MySqlTls) -> Result<Parts, DsnError> {
    if server.database.is_empty() {
        return Err(DsnError::NoDatabase);
    }
    if server.address == Address::default() {
        server.address = Address::Tcp("localhost".to_owned());
    }
    Ok(Parts::MySql(server, tls))
}

fn read_port(text: &str) -> Result<u16, DsnError> {
    // `parse` alone would take a plus sign.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or(DsnError::BadPort)
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

#[cfg(test)]
mod tests;
