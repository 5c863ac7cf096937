//! A server that was taken apart, as the options of its driver.

use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::ConnectOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::PgConnectOptions;

use super::{Address, DsnError, Params, Server, non_empty};

/// What PostgreSQL shows in `pg_stat_activity`.
pub(super) const APPLICATION_NAME: &str = "token-monitor";

/// How a connection to MySQL is encrypted.
pub(super) struct MySqlTls {
    pub(super) mode: MySqlSslMode,
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
}

pub(super) fn mysql_options(server: Server, tls: MySqlTls) -> MySqlConnectOptions {
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
pub(super) fn postgres_options(server: Server, mut params: Params) -> Result<PgConnectOptions, DsnError> {
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
