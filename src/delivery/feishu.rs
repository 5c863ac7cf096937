//! Custom bots of Feishu and Lark groups.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::bot::{Answer, Failure, Verdict, plain, post, with};
use crate::clock::Clock;
use crate::config::FeishuBot;
use crate::message::Part;
use crate::outbound;
use crate::secret::Secret;
use crate::store::Shape;

/// Longest request in bytes, signature included. More is refused, with one code or another.
const LONGEST_REQUEST: usize = 20_000;

/// Longest plain text in bytes; JSON may need two for one.
const LONGEST_TEXT: usize = 8_000;

/// First pause after `frequency limited`.
const PAUSE: Duration = Duration::from_secs(2);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Seconds by which our clock may be wrong before it is what is wrong with a signature.
const SKEW: i64 = 300;

/// A bot.
#[derive(Debug)]
pub struct Feishu {
    client: reqwest::Client,
    webhook: Secret,
    secret: Option<Secret>,
    clock: Clock,
    /// Times in a row that it asked for a pause.
    pauses: u32,
}

impl Feishu {
    /// The bot of a configuration.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn new(config: &FeishuBot, clock: Clock) -> anyhow::Result<Self> {
        Ok(Self {
            client: outbound::client(None)?,
            webhook: config.webhook.clone(),
            secret: config.secret.clone(),
            clock,
            pauses: 0,
        })
    }

    /// Makes one request.
    pub async fn send(&mut self, part: &Part, shape: Shape) -> Verdict {
        let body = self.body(part, shape);
        if body.to_string().len() > LONGEST_REQUEST {
            return Verdict::Plainer(Failure::new(None, "too_long", "longer than 20,000 bytes", ""));
        }
        match post(&self.client, self.webhook.expose(), &body).await {
            Ok(answer) => self.judge(&answer),
            Err(failure) => Verdict::Retry(failure),
        }
    }

    /// Signed now: a signature is good for an hour, and a message may wait longer.
    fn body(&self, part: &Part, shape: Shape) -> Value {
        let body = match plain(part, shape, LONGEST_TEXT) {
            None => part.rich.clone(),
            // In texts, too, there are tags that ring everybody.
            Some(text) => {
                json!({"msg_type": "text", "content": {"text": text.replace('<', "<\u{200b}")}})
            }
        };
        let Some(secret) = &self.secret else { return body };
        let seconds = self.clock.unix().to_string();
        let sign = signature(&seconds, secret.expose());
        with(body, vec![("timestamp", json!(seconds)), ("sign", json!(sign))])
    }

    fn judge(&mut self, answer: &Answer) -> Verdict {
        let code = answer.number("code").or_else(|| answer.number("StatusCode"));
        let Some(code) = code else { return answer.foreign() };
        let success = (200..300).contains(&answer.status);
        if code == 0 && success {
            self.pauses = 0;
            return Verdict::Sent;
        }
        let words =
            [answer.text("msg"), answer.text("StatusMessage")].into_iter().find(|text| !text.is_empty());
        let words = self.without_secrets(words.unwrap_or_default());
        let failure = |reason, help: &str| Failure::new(Some(code), reason, &words, help);
        let said = words.to_lowercase();
        match code {
            11232 => self.pause(failure("rate_limited", "")),
            9499 if said.contains("too many") || said.contains("frequency") => {
                self.pause(failure("rate_limited", ""))
            }
            19001 => Verdict::Dead(failure(
                "unauthorized",
                "the bot was removed or FEISHU_WEBHOOK is wrong: copy the address again from the group's settings",
            )),
            19021 => self.wrong_signature(code, &words, answer),
            19022 => Verdict::Dead(failure(
                "ip_not_allowed",
                "add this machine's address to the bot's IP whitelist, or remove the whitelist",
            )),
            19024 => Verdict::Dead(failure(
                "keyword",
                "set FEISHU_KEYWORD to one of the bot's keywords, or make `Token Monitor` one of them",
            )),
            19036 => Verdict::Plainer(failure("too_long", "")),
            _ if answer.status >= 500 || code == 0 => Verdict::Retry(failure("server", "")),
            _ => Verdict::Plainer(failure("rejected", "")),
        }
    }

    /// The last part of the address, and the key of signatures.
    fn without_secrets(&self, words: &str) -> String {
        let key = self.webhook.expose().rsplit('/').next().unwrap_or_default();
        let keys = [Some(key), self.secret.as_ref().map(Secret::expose)];
        let keys = keys.into_iter().flatten().filter(|key| !key.is_empty());
        keys.fold(words.to_owned(), |words, key| words.replace(key, "[secret]"))
    }

    fn pause(&mut self, failure: Failure) -> Verdict {
        let length = PAUSE.saturating_mul(1 << self.pauses.min(10)).min(LONGEST_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        Verdict::Pause(length, failure)
    }

    /// The signature does not fit: the key is wrong, or a clock is.
    fn wrong_signature(&self, code: i64, words: &str, answer: &Answer) -> Verdict {
        let skew = answer.date.map(|date| self.clock.unix().saturating_sub(date.as_second()));
        if let Some(skew) = skew.filter(|skew| skew.abs() >= SKEW) {
            let (amount, side) = (skew.abs(), if skew > 0 { "ahead of" } else { "behind" });
            let help = format!("this machine's clock is {amount} seconds {side} the service's: set it");
            return Verdict::Retry(Failure::new(Some(code), "clock", words, &help));
        }
        let help = if self.secret.is_some() {
            "FEISHU_SECRET is not the bot's: copy it again from the bot's settings"
        } else {
            "the bot wants signatures: set FEISHU_SECRET to the key in the bot's settings"
        };
        Verdict::Dead(Failure::new(Some(code), "signature", words, help))
    }
}

/// What Feishu wants in `sign`: an empty message, signed with time and secret as the key.
fn signature(seconds: &str, secret: &str) -> String {
    let key = format!("{seconds}\n{secret}");
    // Keys of any length are taken.
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.as_bytes()).map(Mac::finalize);
    mac.map(|mac| STANDARD.encode(mac.into_bytes())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn bot(secret: Option<&str>) -> Feishu {
        let config = FeishuBot {
            webhook: Secret::new("http://127.0.0.1:1/open-apis/bot/v2/hook/abc-def"),
            secret: secret.map(Secret::new),
        };
        Feishu::new(&config, Clock::fixed(Timestamp::from_second(1_599_360_473).unwrap())).unwrap()
    }

    fn judge(status: u16, body: &Value) -> Verdict {
        let json = Some(body.clone()).filter(Value::is_object);
        bot(None).judge(&Answer { status, json, date: None, retry_after: None })
    }

    #[test]
    fn signatures_are_what_the_service_computes() {
        assert_eq!(signature("1599360473", "demo"), "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=");
        assert_eq!(signature("100", "demo"), "jquNHnVOwmDRfw+vqTIrY5dooJAgi5EcRtLsQE4wfXg=");
    }

    #[test]
    fn a_request_is_signed_when_it_is_sent() {
        let (rich, plain) = (json!({"msg_type": "interactive"}), "<at id=all></at>".into());
        let part = Part { rich, plain, short: String::new() };
        let body = bot(Some("demo")).body(&part, Shape::Rich);
        let sign = "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=";
        let wanted = json!({"msg_type": "interactive", "timestamp": "1599360473", "sign": sign});
        assert_eq!(body, wanted);
        assert_eq!(bot(None).body(&part, Shape::Rich), part.rich);
        assert!(
            !bot(None).body(&part, Shape::Plain).to_string().contains("<at"),
            "a text that rings everybody"
        );
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
            (200, json!({"code": 0, "msg": "success", "StatusCode": 0}), "sent"),
            (200, json!({"StatusCode": 0, "StatusMessage": "success"}), "sent"),
            (500, json!({"code": 0}), "retry server"),
            (200, json!({"code": 11232, "msg": "frequency limited psm[lark]"}), "pause 2 rate_limited"),
            (400, json!({"code": 9499, "msg": "too many request"}), "pause 2 rate_limited"),
            (400, json!({"code": 9499, "msg": "request frequency limited"}), "pause 2 rate_limited"),
            (200, json!({"code": 9499, "msg": "Bad Request"}), "plainer rejected"),
            (
                200,
                json!({"code": 19001, "msg": "param invalid: incoming webhook access token invalid"}),
                "dead unauthorized",
            ),
            (200, json!({"code": 19002, "msg": "params error, msg_type need"}), "plainer rejected"),
            (200, json!({"code": 19021, "msg": "sign match fail"}), "dead signature"),
            (200, json!({"code": 19022, "msg": "Ip Not Allowed"}), "dead ip_not_allowed"),
            (200, json!({"code": 19024, "msg": "Key Words Not Found"}), "dead keyword"),
            (200, json!({"code": 19036, "msg": "exceeds size limit"}), "plainer too_long"),
            (200, json!({"code": 200_621, "msg": "parse card json err"}), "plainer rejected"),
            (200, json!({"msg": "success"}), "retry answer"),
            (200, json!(0), "retry answer"),
            (503, json!(0), "retry server"),
            (503, json!({"code": 2200, "msg": "internal"}), "retry server"),
        ] {
            assert_eq!(short(judge(status, &body)), wanted, "{status} {body}");
        }
    }

    #[test]
    fn a_wrong_clock_is_named_with_its_error() {
        let mut bot = bot(Some("demo"));
        let body = json!({"code": 19021, "msg": "sign match fail or timestamp is not within one hour from current time"});
        let date = Timestamp::from_second(1_599_360_473 + 7200).ok();
        let verdict = bot.judge(&Answer { status: 200, json: Some(body), date, retry_after: None });
        let Verdict::Retry(failure) = verdict else { panic!("{verdict:?}") };
        assert_eq!(failure.reason, "clock");
        assert!(failure.detail.contains("7200 seconds behind"), "{}", failure.detail);
    }

    #[test]
    fn who_is_asked_to_wait_again_waits_longer_until_a_message_is_taken() {
        let mut bot = bot(None);
        let mut answer = |body: Value| {
            let answer = Answer { status: 200, json: Some(body), date: None, retry_after: None };
            match bot.judge(&answer) {
                Verdict::Pause(length, _) => length.as_secs(),
                _ => 0,
            }
        };
        let busy = json!({"code": 11232, "msg": "frequency limited"});
        let pauses: Vec<u64> = (0..7).map(|_| answer(busy.clone())).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!([answer(json!({"code": 0})), answer(busy)], [0, 2]);
    }

    #[test]
    fn a_clock_that_is_nearly_right_is_not_what_is_wrong_with_a_signature() {
        for (skew, wanted) in [(-301, "clock"), (-299, "signature"), (299, "signature"), (301, "clock")] {
            let date = Timestamp::from_second(1_599_360_473 - skew).ok();
            let json = Some(json!({"code": 19021, "msg": "sign match fail"}));
            let verdict = bot(Some("demo")).judge(&Answer { status: 200, json, date, retry_after: None });
            let (Verdict::Retry(failure) | Verdict::Dead(failure)) = verdict else { panic!("{verdict:?}") };
            assert_eq!(failure.reason, wanted, "{skew}");
        }
    }

    #[test]
    fn the_address_in_an_answer_is_not_repeated() {
        let verdict = judge(200, &json!({"code": 19001, "msg": "no hook abc-def"}));
        let Verdict::Dead(failure) = verdict else { panic!("{verdict:?}") };
        assert!(failure.detail.contains("no hook [secret]"), "{}", failure.detail);
    }
}
