//! Addresses as URLs: `mysql://` and `postgres://`, also with passwords that a URL should not hold as they are.

use std::net::Ipv6Addr;

use sqlx::mysql::MySqlSslMode;

use super::go::go_tls;
use super::options::MySqlTls;
use super::{
    Address, DsnError, Params, Parts, Server, before_query, decode, mysql_parts, non_empty, read_port,
    read_query, split_userinfo,
};

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

pub(super) fn read_mysql_url(text: &str) -> Result<Parts, DsnError> {
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

pub(super) fn read_postgres_url(text: &str) -> Result<Parts, DsnError> {
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
