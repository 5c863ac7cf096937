//! What all bots have in common: a request, its answer, and the verdict on it.
//!
//! The three services answer 200 also when they refuse, so a verdict comes from the body. What is no JSON comes from a
//! proxy or a page of errors on the way, and tells nothing about the message: it is tried again.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::feishu::Feishu;
use super::telegram::Telegram;
use super::wecom::Wecom;
use crate::clock::Clock;
use crate::config::DeliveryConfig;
use crate::message::{Part, Target};
use crate::outbound;
use crate::store::Shape;

/// Longest words of a target that are kept, in bytes.
const LONGEST_DETAIL: usize = 300;

/// Pause after a request for one that does not say how long.
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(30);

/// Bytes of a short text, which even the shortest limit has room for, with all that is added.
const SHORT: usize = 1_000;

/// Why a request was not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The service's own number.
    pub code: Option<i64>,
    /// Our word: one of [`crate::state::DEAD_REASONS`] or [`crate::state::RETRY_REASONS`].
    pub reason: &'static str,
    /// The service's words, without secrets.
    pub words: String,
    /// The same, and what to do.
    pub detail: String,
}

impl Failure {
    /// With the service's words, and how to mend it.
    pub fn new(code: Option<i64>, reason: &'static str, words: &str, help: &str) -> Self {
        let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let words = cut(words.trim(), LONGEST_DETAIL);
        let detail = match (words.is_empty(), help.is_empty()) {
            (_, true) => words.clone(),
            (true, false) => help.to_owned(),
            (false, false) => format!("{words} ({help})"),
        };
        Self { code, reason, words, detail }
    }
}

/// What becomes of a message after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The service took it.
    Sent,
    /// It is sent again later.
    Retry(Failure),
    /// Nothing is sent to the bot for a while.
    Pause(Duration, Failure),
    /// It is sent again in a plainer shape; if there is none, it is given up.
    Plainer(Failure),
    /// The bot has changed how it sends; the message is sent again at once.
    Changed(Failure),
    /// It is given up.
    Dead(Failure),
}

impl Verdict {
    /// Why it is not a good one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Sent => None,
            Self::Retry(failure)
            | Self::Pause(_, failure)
            | Self::Plainer(failure)
            | Self::Changed(failure)
            | Self::Dead(failure) => Some(failure),
        }
    }
}

/// An answer as far as verdicts need it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, if it is JSON.
    pub json: Option<Value>,
    /// `Date`: the service's clock.
    pub date: Option<Timestamp>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
}

impl Answer {
    /// A number of the body.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.json.as_ref()?.get(name)?.as_i64()
    }

    /// A text of the body.
    pub fn text(&self, name: &str) -> &str {
        self.json.as_ref().and_then(|json| json.get(name)?.as_str()).unwrap_or_default()
    }

    /// The verdict on what the service itself did not say.
    pub fn foreign(&self) -> Verdict {
        let status = self.status;
        if status == 429 {
            let pause = self.retry_after.map_or(DEFAULT_PAUSE, pause_of);
            return Verdict::Pause(pause, Failure::new(Some(429), "rate_limited", "HTTP status 429", ""));
        }
        if status >= 500 {
            let words = format!("HTTP status {status}");
            return Verdict::Retry(Failure::new(Some(i64::from(status)), "server", &words, ""));
        }
        let words = format!("HTTP status {status} and an answer that is not the service's");
        let help = "look for a proxy, a firewall or a login page on the way, and at the address";
        Verdict::Retry(Failure::new(Some(i64::from(status)), "answer", &words, help))
    }
}

/// A pause that a service asks for, in seconds. Nobody silences a bot for longer than an hour.
pub fn pause_of(seconds: u64) -> Duration {
    const LONGEST: u64 = 3600;
    Duration::from_secs(seconds.min(LONGEST))
}

/// Posts JSON and reads the answer.
///
/// # Errors
/// `unreachable` if the request was not made, `ambiguous` if it may have arrived.
pub async fn post(client: &reqwest::Client, url: &str, body: &Value) -> Result<Answer, Failure> {
    let answer = client.post(url).json(body).send().await.map_err(|error| {
        let reason = if error.is_connect() || error.is_builder() { "unreachable" } else { "ambiguous" };
        Failure::new(None, reason, &outbound::words(error), "")
    })?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = outbound::body(answer).await.map_err(|words| Failure::new(None, "ambiguous", &words, ""))?;
    let json = serde_json::from_slice(&body).ok().filter(Value::is_object);
    Ok(Answer { status, json, date: date(&headers), retry_after: header(&headers, "retry-after") })
}

fn header(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("date")?.to_str().ok()?;
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// A text cut to so many bytes, between two characters.
pub fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

/// The plain text of a part in a shape; None if it is to be sent as it was composed.
pub fn plain(part: &Part, shape: Shape, most: usize) -> Option<String> {
    match shape {
        Shape::Rich => None,
        Shape::Plain => Some(cut(&part.plain, most)),
        // One that was composed by an older program has no short text.
        Shape::Short if part.short.is_empty() => Some(cut(&part.plain, SHORT)),
        Shape::Short => Some(cut(&part.short, SHORT)),
    }
}

/// The body with further fields.
pub fn with(mut body: Value, fields: Vec<(&str, Value)>) -> Value {
    if !body.is_object() {
        body = json!({});
    }
    if let Value::Object(object) = &mut body {
        for (name, value) in fields {
            object.insert(name.to_owned(), value);
        }
    }
    body
}

/// A bot of any kind.
#[derive(Debug)]
pub enum Bot {
    /// Of Telegram.
    Telegram(Telegram),
    /// Of Feishu or Lark.
    Feishu(Feishu),
    /// Of WeCom.
    Wecom(Wecom),
}

impl Bot {
    /// Those that are configured.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn all(config: DeliveryConfig, clock: &Clock) -> anyhow::Result<Vec<Self>> {
        let mut bots = Vec::new();
        if let Some(config) = config.telegram {
            bots.push(Self::Telegram(Telegram::new(&config)?));
        }
        if let Some(config) = config.feishu {
            bots.push(Self::Feishu(Feishu::new(&config, clock.clone())?));
        }
        if let Some(config) = config.wecom {
            bots.push(Self::Wecom(Wecom::new(&config)?));
        }
        Ok(bots)
    }

    /// Which target it writes to.
    pub fn target(&self) -> Target {
        match self {
            Self::Telegram(_) => Target::Telegram,
            Self::Feishu(_) => Target::Feishu,
            Self::Wecom(_) => Target::Wecom,
        }
    }

    /// It writes to several people.
    pub fn is_group(&self) -> bool {
        match self {
            Self::Telegram(bot) => bot.is_group(),
            Self::Feishu(_) | Self::Wecom(_) => true,
        }
    }

    /// Makes one request.
    pub async fn send(&mut self, part: &Part, shape: Shape) -> Verdict {
        match self {
            Self::Telegram(bot) => bot.send(part, shape).await,
            Self::Feishu(bot) => bot.send(part, shape).await,
            Self::Wecom(bot) => bot.send(part, shape).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("告警告警", 12), "告警告警");
        assert_eq!(cut("告警告警", 11), "告警…");
        assert_eq!(cut("告警告警", 4), "…");
    }

    #[test]
    fn what_is_too_long_as_plain_text_is_sent_with_less_in_it() {
        let (plain_text, short) = ("p".repeat(2_000), "short".to_owned());
        let part = Part { plain: plain_text.clone(), short, ..Part::default() };
        assert_eq!(plain(&part, Shape::Rich, 2_048), None);
        assert_eq!(plain(&part, Shape::Plain, 2_048).as_deref(), Some(plain_text.as_str()));
        assert_eq!(plain(&part, Shape::Short, 2_048).as_deref(), Some("short"));
        // As an older program kept it.
        let part = Part { short: String::new(), ..part };
        assert_eq!(plain(&part, Shape::Short, 2_048).map(|text| text.len()), Some(SHORT));
    }

    #[test]
    fn nobody_silences_a_bot_for_longer_than_an_hour() {
        assert_eq!(pause_of(35), Duration::from_secs(35));
        assert_eq!(pause_of(u64::MAX), Duration::from_secs(3600));
    }

    #[test]
    fn words_of_others_have_no_line_breaks_and_an_end() {
        let failure = Failure::new(None, "rejected", &format!("a\nb{}", "c".repeat(999)), "mend it");
        assert!(failure.detail.starts_with("a bcc") && failure.detail.ends_with("… (mend it)"));
        assert!(failure.detail.len() < 330);
    }
}
