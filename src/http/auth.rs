//! Passwords: constant-time, as Bearer or Basic, and slow for those who guess.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, StatusCode, header};
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
