//! go-sql-driver's form of an address: `user:password@tcp(host:port)/database?parameters`.

use std::net::Ipv6Addr;

use sqlx::mysql::MySqlSslMode;

use super::options::MySqlTls;
use super::{
    Address, DsnError, Parts, Server, decode, mysql_parts, non_empty, read_port, read_query, split_userinfo,
};

/// Where go-sql-driver looks for the server if a DSN says `unix` without a path.
const MYSQL_SOCKET: &str = "/tmp/mysql.sock";

/// Takes go-sql-driver's form apart as the driver does: at the last `/`, before it at the last `@`, before that
/// at the first `:`.
pub(super) fn read_go(value: &str) -> Result<Parts, DsnError> {
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

/// The values that go-sql-driver takes; a name of a TLS configuration exists inside one program only.
pub(super) fn go_tls(value: &str) -> Result<MySqlSslMode, DsnError> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(MySqlSslMode::VerifyIdentity),
        "false" | "0" => Ok(MySqlSslMode::Disabled),
        "skip-verify" => Ok(MySqlSslMode::Required),
        "preferred" => Ok(MySqlSslMode::Preferred),
        _ => Err(DsnError::BadTls),
    }
}
