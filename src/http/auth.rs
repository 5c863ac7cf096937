//! Passwords: constant-time, as Bearer or Basic, and slow for those who guess.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;

use crate::config::Access;

/// Wrong passwords from one address before answers slow down.
const FREE_FAILURES: u32 = 5;

/// The longest wait for an answer to a wrong password.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Failures are forgotten after this time without a further one.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// At most so many addresses are remembered.
const MAX_ADDRESSES: usize = 4_096;

/// Decides who may read what.
#[derive(Debug)]
pub struct Guard {
    access: Access,
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Guard {
    /// A guard with these secrets.
    pub fn new(access: Access) -> Self {
        Self { access, failures: Mutex::new(HashMap::new()) }
    }

    /// Whether `/metrics` may be read with these headers.
    ///
    /// # Errors
    /// The answer to give, after a delay if the address keeps guessing.
    pub async fn metrics(&self, headers: &HeaderMap, address: IpAddr) -> Result<(), Response> {
        if self.access.metrics_public {
            return Ok(());
        }
        let offered = credentials(headers);
        let fits = offered.as_deref().is_some_and(|offered| {
            // Both are always compared, so that time does not tell which one was close.
            let token = self.access.metrics_token.as_ref().is_some_and(|token| token.matches(offered));
            let password = self.access.password.as_ref().is_some_and(|password| password.matches(offered));
            token | password
        });
        if fits {
            return Ok(());
        }
        if offered.is_some() {
            let delay = self.note_failure(address);
            tokio::time::sleep(delay).await;
        }
        Err(unauthorized())
    }

    fn note_failure(&self, address: IpAddr) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if failures.len() >= MAX_ADDRESSES {
            failures.retain(|_, (_, at)| now.duration_since(*at) < FORGET_AFTER);
            if failures.len() >= MAX_ADDRESSES {
                return LONGEST_DELAY;
            }
        }
        let (count, at) = failures.entry(address).or_insert((0, now));
        if now.duration_since(*at) >= FORGET_AFTER {
            *count = 0;
        }
        *count = count.saturating_add(1);
        *at = now;
        let excess = count.saturating_sub(FREE_FAILURES).min(8);
        if excess == 0 { Duration::ZERO } else { Duration::from_millis(25 << excess).min(LONGEST_DELAY) }
    }
}

/// The secret in an `Authorization` header: a bearer token, or a Basic password with any user name.
fn credentials(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        return text.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

fn unauthorized() -> Response {
    let challenge = "Basic realm=\"token-monitor\", charset=\"UTF-8\"";
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)], "a password is needed\n")
        .into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::secret::Secret;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    }

    fn guard(public: bool) -> Guard {
        Guard::new(Access {
            password: Some(Secret::new("pass:word")),
            metrics_token: Some(Secret::new("token")),
            metrics_public: public,
        })
    }

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn metrics_open_with_either_secret_in_either_way() {
        let guard = guard(false);
        for value in ["Bearer token", "bearer pass:word", &basic("anyone:pass:word"), &basic(":token")] {
            assert!(guard.metrics(&headers(value), HOST).await.is_ok(), "{value}");
        }
        for value in ["Bearer wrong", "Bearer ", "Basic !!!", &basic("token"), "Digest token", "token"] {
            assert!(guard.metrics(&headers(value), HOST).await.is_err(), "{value}");
        }
        assert!(guard.metrics(&HeaderMap::new(), HOST).await.is_err());
    }

    #[tokio::test]
    async fn public_metrics_need_nothing() {
        assert!(guard(true).metrics(&HeaderMap::new(), HOST).await.is_ok());
    }

    #[test]
    fn guessing_gets_slow() {
        let guard = guard(false);
        let delays: Vec<Duration> = (0..20).map(|_| guard.note_failure(HOST)).collect();
        assert_eq!(delays[0], Duration::ZERO);
        assert!(delays.is_sorted(), "{delays:?}");
        assert_eq!(*delays.last().unwrap(), LONGEST_DELAY);
    }
}
