//! Bots of WeCom groups.

use std::time::Duration;

use serde_json::json;

use super::bot::{Answer, Failure, Verdict, plain, post};
use crate::config::WecomBot;
use crate::message::Part;
use crate::outbound;
use crate::secret::Secret;
use crate::store::Shape;

/// Longest text in bytes.
const LONGEST_TEXT: usize = 2_048;

/// Pause after `api freq out of limit`, which is counted by the minute.
const PAUSE: Duration = Duration::from_secs(61);

/// A bot.
#[derive(Debug)]
pub struct Wecom {
    client: reqwest::Client,
    webhook: Secret,
}

impl Wecom {
    /// The bot of a configuration.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn new(config: &WecomBot) -> anyhow::Result<Self> {
        Ok(Self { client: outbound::client(None)?, webhook: config.webhook.clone() })
    }

    /// Makes one request.
    pub async fn send(&mut self, part: &Part, shape: Shape) -> Verdict {
        let body = match plain(part, shape, LONGEST_TEXT) {
            None => part.rich.clone(),
            Some(text) => json!({"msgtype": "text", "text": {"content": text}}),
        };
        match post(&self.client, self.webhook.expose(), &body).await {
            Ok(answer) => self.judge(&answer),
            Err(failure) => Verdict::Retry(failure),
        }
    }

    fn judge(&self, answer: &Answer) -> Verdict {
        let Some(code) = answer.number("errcode") else { return answer.foreign() };
        let words = self.without_key(answer.text("errmsg"));
        let failure = |reason, help: &str| Failure::new(Some(code), reason, &words, help);
        match code {
            0 if (200..300).contains(&answer.status) => Verdict::Sent,
            45009 => Verdict::Pause(PAUSE, failure("rate_limited", "")),
            40058 => Verdict::Plainer(failure("too_long", "")),
            93000 => Verdict::Dead(failure(
                "unauthorized",
                "the bot was removed or WECOM_WEBHOOK is wrong: copy the address again from the bot's card",
            )),
            0 | -1 => Verdict::Retry(failure("server", "")),
            _ if answer.status >= 500 => Verdict::Retry(failure("server", "")),
            _ => Verdict::Dead(failure("rejected", "")),
        }
    }

    /// The key is all of the secret that the service knows.
    fn without_key(&self, words: &str) -> String {
        let address: Option<url::Url> = self.webhook.expose().parse().ok();
        let pairs = address.iter().flat_map(url::Url::query_pairs);
        let keys = pairs.filter(|(name, value)| name == "key" && !value.is_empty());
        keys.fold(words.to_owned(), |words, (_, key)| words.replace(key.as_ref(), "[secret]"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn judge(status: u16, body: &Value) -> Verdict {
        let webhook = Secret::new("http://127.0.0.1:1/cgi-bin/webhook/send?key=the-key");
        let json = Some(body.clone()).filter(Value::is_object);
        let bot = Wecom::new(&WecomBot { webhook }).unwrap();
        bot.judge(&Answer { status, json, date: None, retry_after: None })
    }

    #[test]
    fn every_documented_answer_has_its_verdict() {
        let short = |verdict: Verdict| match verdict {
            Verdict::Sent => "sent".to_owned(),
            Verdict::Retry(failure) => format!("retry {}", failure.reason),
            Verdict::Pause(length, failure) => format!("pause {} {}", length.as_secs(), failure.reason),
            Verdict::Plainer(failure) => format!("plainer {}", failure.reason),
            Verdict::Changed(failure) => format!("changed {}", failure.reason),
            Verdict::Dead(failure) => format!("dead {}", failure.reason),
        };
        for (status, body, wanted) in [
            (200, json!({"errcode": 0, "errmsg": "ok"}), "sent"),
            (500, json!({"errcode": 0, "errmsg": "ok"}), "retry server"),
            (200, json!({"errcode": 45009, "errmsg": "api freq out of limit"}), "pause 61 rate_limited"),
            (
                200,
                json!({"errcode": 40058, "errmsg": "markdown.content exceed max length 4096"}),
                "plainer too_long",
            ),
            (200, json!({"errcode": 93000, "errmsg": "invalid webhook url"}), "dead unauthorized"),
            (200, json!({"errcode": -1, "errmsg": "system busy"}), "retry server"),
            (200, json!({"errcode": 40008, "errmsg": "invalid message type"}), "dead rejected"),
            (200, json!({"errcode": 44004, "errmsg": "empty content"}), "dead rejected"),
            (200, json!({"errcode": 99, "errmsg": "?"}), "dead rejected"),
            (503, json!({"errcode": 99, "errmsg": "?"}), "retry server"),
            (200, json!({}), "retry answer"),
            (200, json!(0), "retry answer"),
            (502, json!(0), "retry server"),
            (429, json!(0), "pause 30 rate_limited"),
        ] {
            assert_eq!(short(judge(status, &body)), wanted, "{status} {body}");
        }
    }

    #[test]
    fn the_key_in_an_answer_is_not_repeated() {
        let verdict = judge(200, &json!({"errcode": 93000, "errmsg": "no robot the-key"}));
        assert!(
            matches!(&verdict, Verdict::Dead(failure) if failure.detail.starts_with("no robot [secret]"))
        );
    }
}
