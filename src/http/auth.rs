//! Passwords: constant-time, as Bearer or Basic, and slow for those who guess. Where none is set, the host asked for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use tokio::sync::Semaphore;

use crate::config::Access;
use crate::secret::Secret;

/// Wrong passwords from one address before answers slow down.
const FREE_FAILURES: u32 = 5;

/// The longest wait for an answer to a wrong password.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Failures are forgotten after this time without a further one.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// At most so many addresses are remembered.
const MAX_ADDRESSES: usize = 4_096;

/// At most so many answers to wrong passwords are held back at the same time; each costs a task.
const MAX_DELAYED: usize = 256;

/// What an answer without a right password asks for.
pub const CHALLENGE: &str = "Basic realm=\"token-monitor\", charset=\"UTF-8\"";

/// Decides who may read what.
#[derive(Debug)]
pub struct Guard {
    access: Access,
    failures: Mutex<HashMap<IpAddr, (u32, Instant)>>,
    delayed: Semaphore,
}

/// Why somebody may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No or a wrong password.
    Unauthorized,
    /// A wrong password, while too many others are being answered slowly.
    TooMany {
        /// When to come back.
        retry_after: Duration,
    },
    /// Another host was asked for, and no password protects this one.
    ForeignHost,
}

impl Guard {
    /// A guard with these secrets.
    pub fn new(access: Access) -> Self {
        Self { access, failures: Mutex::new(HashMap::new()), delayed: Semaphore::new(MAX_DELAYED) }
    }

    /// Whether `/metrics` may be read with these headers.
    ///
    /// # Errors
    /// Why not, after a delay if the address keeps guessing.
    pub async fn metrics(&self, headers: &HeaderMap, address: IpAddr) -> Result<(), Refusal> {
        if self.access.metrics_public {
            return Ok(());
        }
        self.check(headers, address, [&self.access.metrics_token, &self.access.password]).await
    }

    /// Whether the API may be used with these headers. Without a password, which is only possible on loopback,
    /// it is open; the token of `/metrics` never opens it.
    ///
    /// # Errors
    /// Why not, after a delay if the address keeps guessing.
    pub async fn api(&self, headers: &HeaderMap, address: IpAddr) -> Result<(), Refusal> {
        if self.access.password.is_none() {
            return Ok(());
        }
        self.check(headers, address, [&self.access.password]).await
    }

    /// Whether the host that a request names may be asked for. Without a password only loopback is listened on,
    /// but a web page in a browser of this machine can give its own name the address 127.0.0.1 (DNS rebinding)
    /// and then read answers. An address or `localhost` is no page's own name. What names no host is no browser.
    ///
    /// # Errors
    /// If it is a foreign name and there is no password.
    pub fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let open = self.access.password.is_none();
        let mut named = headers.get_all(header::HOST).iter();
        let foreign = uri.host().is_some_and(|host| !is_own(host))
            || named
                .any(|value| !Authority::try_from(value.as_bytes()).is_ok_and(|named| is_own(named.host())));
        if open && foreign { Err(Refusal::ForeignHost) } else { Ok(()) }
    }

    async fn check<const N: usize>(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
        secrets: [&Option<Secret>; N],
    ) -> Result<(), Refusal> {
        let Some(offered) = credentials(headers) else { return Err(Refusal::Unauthorized) };
        // All are always compared, so that time does not tell which one was close.
        let fits = secrets.into_iter().flatten().fold(false, |fits, secret| fits | secret.matches(&offered));
        // One who knows the password never waits, whoever else guesses from the same address.
        if fits { Ok(()) } else { Err(self.refuse(address).await) }
    }

    async fn refuse(&self, address: IpAddr) -> Refusal {
        let delay = self.note_failure(address);
        if delay.is_zero() {
            return Refusal::Unauthorized;
        }
        // Held while asleep. A client that hangs up gives it back, for its task is dropped.
        let Ok(_place) = self.delayed.try_acquire() else {
            return Refusal::TooMany { retry_after: LONGEST_DELAY };
        };
        tokio::time::sleep(delay).await;
        Refusal::Unauthorized
    }

    fn note_failure(&self, address: IpAddr) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address) {
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

/// Whether a host, of an address with or without a port, is no name that somebody could have registered.
fn is_own(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

/// Whether a request brings a bearer token, right or wrong.
pub fn is_bearer(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme = value.and_then(|value| value.split_once(' ')).map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
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

impl IntoResponse for Refusal {
    /// In plain text, for those who are no clients of the API.
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => {
                let challenge = [(header::WWW_AUTHENTICATE, CHALLENGE)];
                (StatusCode::UNAUTHORIZED, challenge, "a password is needed\n").into_response()
            }
            Self::TooMany { retry_after } => {
                let retry = [(header::RETRY_AFTER, retry_after.as_secs().to_string())];
                (StatusCode::TOO_MANY_REQUESTS, retry, "too many wrong passwords\n").into_response()
            }
            Self::ForeignHost => {
                let said = "ask for an IP address or localhost, or set ACCESS_PASSWORD\n";
                (StatusCode::FORBIDDEN, said).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

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

    #[tokio::test]
    async fn the_api_opens_with_the_password_only() {
        let guard = guard(true);
        for value in ["Bearer pass:word", &basic("anyone:pass:word"), &basic(":pass:word")] {
            assert_eq!(guard.api(&headers(value), HOST).await, Ok(()), "{value}");
        }
        for value in ["Bearer token", "Bearer ", &basic("pass:word"), "Basic !!!", "pass:word"] {
            assert_eq!(guard.api(&headers(value), HOST).await, Err(Refusal::Unauthorized), "{value}");
        }
        assert_eq!(guard.api(&HeaderMap::new(), HOST).await, Err(Refusal::Unauthorized));
    }

    #[tokio::test]
    async fn without_a_password_the_api_is_open() {
        let access =
            Access { password: None, metrics_token: Some(Secret::new("token")), metrics_public: true };
        assert_eq!(Guard::new(access).api(&HeaderMap::new(), HOST).await, Ok(()));
    }

    #[test]
    fn without_a_password_no_foreign_name_is_answered() {
        let closed = guard(true);
        let open = Guard::new(Access { password: None, metrics_token: None, metrics_public: true });
        let asked = |guard: &Guard, uri: &str, host: Option<&str>| {
            let host = host.map(|host| (header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap()));
            guard.host(&uri.parse().unwrap(), &HeaderMap::from_iter(host))
        };
        let own =
            ["127.0.0.1", "127.0.0.1:3002", "localhost", "LocalHost:80", "[::1]", "[::1]:3002", "10.0.0.7"];
        let foreign = [
            "evil.example",
            "evil.example:3002",
            "localhost.evil.example",
            "127.0.0.1.evil.example:3002",
            "127.0.0.1@evil.example",
            "[evil.example]",
            "",
            " ",
            "\u{e9}",
            "::1",
        ];
        for host in own {
            assert_eq!(asked(&open, "/metrics", Some(host)), Ok(()), "{host}");
            assert_eq!(asked(&open, &format!("http://{host}/"), Some(host)), Ok(()), "{host}");
        }
        for host in foreign {
            assert_eq!(asked(&open, "/metrics", Some(host)), Err(Refusal::ForeignHost), "{host}");
            assert_eq!(asked(&closed, "/metrics", Some(host)), Ok(()), "{host}");
        }
        // As HTTP/2 names it, or a proxy.
        assert_eq!(asked(&open, "http://evil.example/", None), Err(Refusal::ForeignHost));
        assert_eq!(asked(&open, "http://evil.example/", Some("localhost")), Err(Refusal::ForeignHost));
        assert_eq!(asked(&open, "/metrics", None), Ok(()));
        let two = ["localhost", "evil.example"].map(|host| (header::HOST, HeaderValue::from_static(host)));
        let mut twice = HeaderMap::new();
        for (name, value) in two {
            twice.append(name, value);
        }
        assert_eq!(open.host(&Uri::from_static("/"), &twice), Err(Refusal::ForeignHost));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_wrong_passwords_at_once_delay_nobody_who_knows_it() {
        let guard = std::sync::Arc::new(guard(false));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..10_000 {
            let guard = guard.clone();
            tasks.spawn(async move { guard.api(&headers(&format!("Bearer guess{number}")), HOST).await });
        }
        let began = tokio::time::Instant::now();
        let mut early = 0;
        while let Some(result) = tasks.join_next().await {
            match result.unwrap() {
                Err(Refusal::TooMany { .. }) => early += 1,
                refused => assert_eq!(refused, Err(Refusal::Unauthorized)),
            }
            // A right password gets its answer while guesses are still held back.
            let asked = tokio::time::Instant::now();
            assert_eq!(guard.api(&headers("Bearer pass:word"), HOST).await, Ok(()));
            assert_eq!(asked.elapsed(), Duration::ZERO);
        }
        assert_eq!(early, 10_000 - MAX_DELAYED - FREE_FAILURES as usize);
        assert!(began.elapsed() <= LONGEST_DELAY, "{:?}", began.elapsed());
        assert_eq!(guard.delayed.available_permits(), MAX_DELAYED);
    }

    #[test]
    fn addresses_are_remembered_up_to_a_number_and_a_known_one_stays_slow() {
        let guard = guard(false);
        let address = |number: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
        for number in 0..10_000 {
            guard.note_failure(address(number));
        }
        assert_eq!(guard.failures.lock().unwrap().len(), MAX_ADDRESSES);
        assert_eq!(guard.note_failure(address(3)), Duration::ZERO);
        assert_eq!(guard.note_failure(address(9_999)), LONGEST_DELAY);
    }
}
