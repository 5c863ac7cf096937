//! How attempts fail, by provider: what stands in an error row and whether new-api tries again.

use super::dice::Dice;
use super::world::{ANTHROPIC, AWS, GEMINI, VERTEX};

/// A way to fail.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// HTTP status.
    pub status: i64,
    /// `other.error_type`.
    pub error_type: &'static str,
    /// `other.error_code`.
    pub code: &'static str,
    /// The end of `content`.
    pub message: &'static str,
    /// Median milliseconds until it is known.
    pub after_ms: f64,
    /// Share among the ways of its provider.
    share: f64,
}

impl Failure {
    /// One for a channel of that kind. In a `burst` only those that a provider in trouble sends.
    pub fn draw(dice: &mut Dice, channel_kind: i64, burst: bool) -> &'static Self {
        let all: &'static [Self] = match channel_kind {
            ANTHROPIC | AWS => &CLAUDE,
            GEMINI | VERTEX => &GOOGLE,
            _ => &OPENAI,
        };
        let among = if burst { &all[..2] } else { all };
        &among[dice.weighted(among.iter().map(|failure| failure.share))]
    }

    /// Whether new-api tries another channel after it.
    pub fn retried(&self) -> bool {
        match self.status {
            400 | 408 | 504 | 524 => false,
            429 => true,
            status => !(200..300).contains(&status),
        }
    }

    /// Whether the provider found fault with the text, for which new-api may charge a fee.
    pub fn violation(&self) -> bool {
        self.code == "content_policy_violation"
    }
}

const fn failure(
    status: i64,
    error_type: &'static str,
    code: &'static str,
    message: &'static str,
    after_ms: f64,
    share: f64,
) -> Failure {
    Failure { status, error_type, code, message, after_ms, share }
}

/// Overload first: a burst draws from the first two of each list.
static OPENAI: [Failure; 7] = [
    failure(429, "openai_error", "rate_limit_exceeded", "Rate limit reached for requests", 190.0, 40.0),
    failure(
        500,
        "openai_error",
        "server_error",
        "The server had an error while processing your request",
        900.0,
        16.0,
    ),
    failure(
        500,
        "new_api_error",
        "do_request_failed",
        "do request failed: context deadline exceeded",
        9000.0,
        12.0,
    ),
    failure(503, "openai_error", "bad_response_status_code", "bad response status code 503", 300.0, 10.0),
    failure(400, "openai_error", "invalid_value", "Invalid value for parameter", 150.0, 16.0),
    failure(400, "openai_error", "content_policy_violation", "Your request was rejected", 400.0, 2.0),
    failure(401, "openai_error", "invalid_api_key", "Incorrect API key provided: ***", 120.0, 4.0),
];

static CLAUDE: [Failure; 4] = [
    failure(
        429,
        "claude_error",
        "rate_limit_error",
        "This request would exceed your rate limit",
        210.0,
        38.0,
    ),
    failure(529, "claude_error", "overloaded_error", "Overloaded", 700.0, 30.0),
    failure(500, "new_api_error", "do_request_failed", "do request failed: unexpected EOF", 5000.0, 10.0),
    failure(400, "claude_error", "invalid_request_error", "prompt is too long", 200.0, 22.0),
];

static GOOGLE: [Failure; 4] = [
    failure(429, "gemini_error", "RESOURCE_EXHAUSTED", "Resource has been exhausted", 170.0, 55.0),
    failure(503, "gemini_error", "UNAVAILABLE", "The model is overloaded", 2200.0, 25.0),
    failure(500, "new_api_error", "empty_response", "empty response", 3000.0, 8.0),
    failure(400, "gemini_error", "INVALID_ARGUMENT", "Request contains an invalid argument", 160.0, 12.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_of_a_kind_that_is_retried_and_a_bad_request_is_not() {
        let mut dice = Dice::new(1, 1);
        for kind in [1, ANTHROPIC, GEMINI] {
            assert!((0..100).all(|_| Failure::draw(&mut dice, kind, true).retried()));
            let retried = (0..1000).filter(|_| Failure::draw(&mut dice, kind, false).retried()).count();
            assert!((700..950).contains(&retried), "{retried}");
        }
    }
}
