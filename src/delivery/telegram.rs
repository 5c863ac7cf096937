//! Telegram's Bot API: `sendMessage`.

use std::time::Duration;

use serde_json::{Value, json};

use super::bot::{Answer, DEFAULT_PAUSE, Failure, Verdict, plain, post, with};
use crate::config::TelegramBot;
use crate::message::Part;
use crate::outbound;
use crate::secret::Secret;
use crate::store::Shape;

/// Longest plain text in bytes: in UTF-16 units, which Telegram counts 4,096 of, no text is longer than in bytes.
const LONGEST_TEXT: usize = 4_096;

/// A chat that moves more often than this is no chat.
const MOST_MOVES: u32 = 3;

/// A bot and its chat.
#[derive(Debug)]
pub struct Telegram {
    client: reqwest::Client,
    /// With the token in it.
    url: Secret,
    token: Secret,
    /// As the configuration says it.
    configured: String,
    /// What that is now.
    chat: String,
    /// None if there is none, or it turned out not to be usable.
    thread: Option<i64>,
    moves: u32,
    /// Where the chat is now, until the owner has taken note.
    moved: Option<String>,
}

impl Telegram {
    /// The bot of a configuration.
    ///
    /// # Errors
    /// If a client cannot be made.
    pub fn new(config: &TelegramBot) -> anyhow::Result<Self> {
        let base = config.api_base.as_str().trim_end_matches('/');
        Ok(Self {
            client: outbound::client(config.proxy.as_ref())?,
            url: Secret::new(format!("{base}/bot{}/sendMessage", config.token.expose())),
            token: config.token.clone(),
            configured: config.chat_id.clone(),
            chat: config.chat_id.clone(),
            thread: config.thread_id,
            moves: 0,
            moved: None,
        })
    }

    /// Groups and channels have negative numbers or a name.
    pub fn is_group(&self) -> bool {
        self.chat.starts_with(['-', '@'])
    }

    /// The chat of the configuration.
    pub fn configured(&self) -> &str {
        &self.configured
    }

    /// The chat that it writes to.
    pub fn chat(&self) -> &str {
        &self.chat
    }

    /// Writes to another chat from now on, as the configured one has become that.
    pub fn follow(&mut self, chat: String) {
        self.chat = chat;
    }

    /// The chat that the last verdict made it write to, told once.
    pub fn take_moved(&mut self) -> Option<String> {
        self.moved.take()
    }

    /// Makes one request.
    pub async fn send(&mut self, part: &Part, shape: Shape) -> Verdict {
        let answer = post(&self.client, self.url.expose(), &self.body(part, shape)).await;
        match answer {
            Ok(answer) => self.judge(&answer),
            Err(failure) => Verdict::Retry(failure),
        }
    }

    fn body(&self, part: &Part, shape: Shape) -> Value {
        let body = match plain(part, shape, LONGEST_TEXT) {
            None => part.rich.clone(),
            Some(text) => json!({"text": text, "link_preview_options": {"is_disabled": true}}),
        };
        let chat = self.chat.parse::<i64>().map_or_else(|_| json!(self.chat), |id| json!(id));
        let mut fields = vec![("chat_id", chat)];
        if let Some(thread) = self.thread {
            fields.push(("message_thread_id", json!(thread)));
        }
        with(body, fields)
    }

    fn judge(&mut self, answer: &Answer) -> Verdict {
        let ok = answer.json.as_ref().and_then(|json| json.get("ok")?.as_bool());
        match ok {
            Some(true) => return Verdict::Sent,
            Some(false) => {}
            None => return answer.foreign(),
        }
        let parameters = answer.json.as_ref().and_then(|json| json.get("parameters"));
        let parameter = |name: &str| parameters.and_then(|parameters| parameters.get(name)?.as_i64());
        let code = answer.number("error_code").unwrap_or_else(|| i64::from(answer.status));
        // The token is in the address, which nothing should repeat; but a proxy might.
        let words = answer.text("description").replace(self.token.expose(), "[secret]");
        let failure = |reason, help: &str| Failure::new(Some(code), reason, &words, help);
        if let Some(chat) = parameter("migrate_to_chat_id") {
            self.moves += 1;
            if self.moves > MOST_MOVES {
                return Verdict::Dead(failure("chat", "set TELEGRAM_CHAT_ID to the chat's present number"));
            }
            self.chat = chat.to_string();
            self.moved = Some(self.chat.clone());
            return Verdict::Changed(failure("moved", ""));
        }
        if code == 429 {
            let seconds = parameter("retry_after").and_then(|seconds| u64::try_from(seconds).ok());
            let pause = seconds.or(answer.retry_after).map_or(DEFAULT_PAUSE, super::bot::pause_of);
            return Verdict::Pause(pause + Duration::from_secs(1), failure("rate_limited", ""));
        }
        let said = words.to_lowercase();
        let has = |part: &str| said.contains(part);
        let lost_topic = has("thread not found") || has("topic_closed") || has("topic_deleted");
        match code {
            400 if lost_topic && self.thread.is_some() => {
                self.thread = None;
                let failure = failure(
                    "plainer",
                    "messages go to the chat itself from now on: mend TELEGRAM_THREAD_ID, or open the topic",
                );
                tracing::warn!(target = "telegram", "{}", failure.detail);
                Verdict::Changed(failure)
            }
            400 if has("chat not found") => Verdict::Dead(failure(
                "chat",
                "mend TELEGRAM_CHAT_ID, or write to the bot or add it to the group",
            )),
            400 if has("too long") => Verdict::Plainer(failure("too_long", "")),
            400 => Verdict::Plainer(failure("rejected", "")),
            401 | 404 => Verdict::Dead(failure(
                "unauthorized",
                "mend TELEGRAM_BOT_TOKEN, which @BotFather shows, or TELEGRAM_API_BASE",
            )),
            403 => {
                Verdict::Dead(failure("forbidden", "add the bot to the chat again, and let it write there"))
            }
            409 | 500.. => Verdict::Retry(failure("server", "")),
            _ => Verdict::Dead(failure("rejected", "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bot(thread: Option<i64>) -> Telegram {
        Telegram::new(&TelegramBot {
            token: Secret::new("1:tok"),
            chat_id: "-100".into(),
            thread_id: thread,
            api_base: "http://127.0.0.1:1/".parse().unwrap(),
            proxy: None,
        })
        .unwrap()
    }

    fn judge(bot: &mut Telegram, status: u16, body: &Value) -> Verdict {
        let json = Some(body.clone()).filter(Value::is_object);
        bot.judge(&Answer { status, json, date: None, retry_after: None })
    }

    fn error(code: i64, words: &str, parameters: &Value) -> Value {
        json!({"ok": false, "error_code": code, "description": words, "parameters": parameters})
    }

    fn reason(verdict: Verdict) -> (&'static str, &'static str) {
        match verdict {
            Verdict::Sent => ("sent", ""),
            Verdict::Retry(failure) => ("retry", failure.reason),
            Verdict::Pause(_, failure) => ("pause", failure.reason),
            Verdict::Plainer(failure) => ("plainer", failure.reason),
            Verdict::Changed(failure) => ("changed", failure.reason),
            Verdict::Dead(failure) => ("dead", failure.reason),
        }
    }

    #[test]
    fn every_documented_answer_has_its_verdict() {
        let none = json!({});
        for (status, body, wanted) in [
            (200, json!({"ok": true, "result": {}}), ("sent", "")),
            (400, error(400, "Bad Request: can't parse entities: …", &none), ("plainer", "rejected")),
            (400, error(400, "Bad Request: message is too long", &none), ("plainer", "too_long")),
            (400, error(400, "Bad Request: chat not found", &none), ("dead", "chat")),
            (401, error(401, "Unauthorized", &none), ("dead", "unauthorized")),
            (404, error(404, "Not Found", &none), ("dead", "unauthorized")),
            (403, error(403, "Forbidden: bot was kicked", &none), ("dead", "forbidden")),
            (400, error(400, "Bad Request: message thread not found", &none), ("plainer", "rejected")),
            (409, error(409, "Conflict", &none), ("retry", "server")),
            (418, error(418, "I'm a teapot", &none), ("dead", "rejected")),
            (500, error(500, "Internal Server Error", &none), ("retry", "server")),
            (200, json!([]), ("retry", "answer")),
            (200, json!({"result": 1}), ("retry", "answer")),
            (502, json!(0), ("retry", "server")),
            (404, json!(0), ("retry", "answer")),
        ] {
            assert_eq!(reason(judge(&mut bot(None), status, &body)), wanted, "{status} {body}");
        }
    }

    #[test]
    fn a_wish_to_wait_is_granted_with_a_second_more() {
        let verdict = judge(&mut bot(None), 429, &error(429, "Too Many", &json!({"retry_after": 35})));
        assert!(matches!(verdict, Verdict::Pause(length, _) if length == Duration::from_secs(36)));
        // Said in the header only, or not at all.
        for (retry_after, wanted) in [(Some(7), 8), (None, 31)] {
            let json = Some(error(429, "Too Many", &json!({})));
            let verdict = bot(None).judge(&Answer { status: 429, json, date: None, retry_after });
            assert!(matches!(verdict, Verdict::Pause(length, _) if length == Duration::from_secs(wanted)));
        }
    }

    #[test]
    fn a_lost_topic_is_left_out_and_a_moved_chat_followed() {
        let mut bot = bot(Some(7));
        let part = Part { rich: json!({"text": "t"}), plain: "t".into(), ..Part::default() };
        assert_eq!(bot.body(&part, Shape::Rich)["message_thread_id"], 7);
        for words in ["Bad Request: message thread not found", "Bad Request: TOPIC_CLOSED", "TOPIC_DELETED"] {
            bot.thread = Some(7);
            assert_eq!(reason(judge(&mut bot, 400, &error(400, words, &json!({})))), ("changed", "plainer"));
            assert_eq!(bot.body(&part, Shape::Rich).get("message_thread_id"), None);
        }
        let moved = error(400, "upgraded to a supergroup", &json!({"migrate_to_chat_id": -1001}));
        assert_eq!(reason(judge(&mut bot, 400, &moved)), ("changed", "moved"));
        assert_eq!(
            (bot.body(&part, Shape::Rich)["chat_id"].clone(), bot.take_moved()),
            (json!(-1001), Some("-1001".into()))
        );
        // One that moves on and on is not followed for ever.
        for wanted in [("changed", "moved"), ("changed", "moved"), ("dead", "chat")] {
            assert_eq!(reason(judge(&mut bot, 400, &moved)), wanted);
        }
    }

    #[test]
    fn a_token_in_an_answer_is_not_repeated() {
        let verdict = judge(&mut bot(None), 401, &error(401, "no bot1:tok here", &json!({})));
        assert!(
            matches!(&verdict, Verdict::Dead(failure) if failure.detail.contains("bot[secret]")),
            "{verdict:?}"
        );
    }
}
