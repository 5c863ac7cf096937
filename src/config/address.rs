//! Addresses in variables: what is accepted, and how one is shown to whoever has to mend it.

use std::net::{SocketAddr, ToSocketAddrs as _};

use url::Url;

use crate::detail::without_credentials;

/// What `LISTEN` accepts, in words.
pub const ACCEPTED: &str = "0.0.0.0:3002, 127.0.0.1:3002, [::]:3002, localhost:3002";

/// Longest part of a value that is repeated, in characters.
const LONGEST_SHOWN: usize = 120;

/// Where to listen: an address, or a name that has one, and a port.
///
/// # Errors
/// Why there is no such place.
pub fn listen(value: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = value.parse() {
        return Ok(address);
    }
    if value.rsplit_once(':').is_none_or(|(name, port)| name.is_empty() || port.parse::<u16>().is_err()) {
        return Err("is not an address and port".to_owned());
    }
    let found = value.to_socket_addrs().map_err(|error| format!("names no address: {error}"))?;
    // Who says localhost is mostly asked at 127.0.0.1.
    found.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| "names no address".to_owned())
}

/// An http or https address without a trailing slash.
pub(super) fn http(value: &str) -> Option<Url> {
    let url = Url::parse(value.trim_end_matches('/')).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host().is_some()).then_some(url)
}

/// A value that is not understood, without what may be a secret: user, password and query.
pub(super) fn shown(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").map_or(("", value), |(scheme, rest)| (scheme, rest));
    // A password may hold every other sign, so all before the last @ may belong to it.
    let place = rest.rsplit('@').next().unwrap_or_default();
    let place = place.split(['?', '#']).next().unwrap_or_default();
    let shown = if scheme.is_empty() { place.to_owned() } else { format!("{scheme}://{place}") };
    let shown: String = without_credentials(&shown).chars().take(LONGEST_SHOWN).collect();
    shown.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_without_user_password_and_query() {
        for (value, wanted) in [
            ("ftp://root:pa55@h:21/x?key=s3cret#top", "ftp://h:21/x"),
            ("mysql://root:p@?s/s@h/db", "mysql://h/db"),
            ("new-api:3000", "new-api:3000"),
            ("root:pa55@new-api", "new-api"),
            ("sk-0123456789", "sk-***"),
            ("data/monitor.db?mode=ro", "data/monitor.db"),
            ("a\nb", "a\u{fffd}b"),
            ("", ""),
        ] {
            assert_eq!(shown(value), wanted, "{value}");
        }
        assert_eq!(shown(&"x".repeat(1000)).len(), LONGEST_SHOWN);
    }

    #[test]
    fn a_name_that_has_an_address_can_be_listened_at() {
        assert_eq!(listen("0.0.0.0:3002").unwrap().to_string(), "0.0.0.0:3002");
        assert_eq!(listen("[::1]:3002").unwrap().to_string(), "[::1]:3002");
        let local = listen("localhost:3002").unwrap();
        assert!(local.ip().is_loopback() && local.port() == 3002, "{local}");
        for value in ["3002", ":3002", "localhost", "localhost:", "localhost:http", "localhost:70000"] {
            assert_eq!(listen(value).unwrap_err(), "is not an address and port", "{value}");
        }
        // A label may have 63 signs, so nobody is asked for this one.
        let nowhere = format!("{}:3002", "x".repeat(64));
        assert!(listen(&nowhere).unwrap_err().starts_with("names no address"));
    }
}
