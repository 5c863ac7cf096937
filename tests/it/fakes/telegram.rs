//! The Bot API as far as `sendMessage` goes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Service, Window};

/// The token that is good; a part of it that nothing may repeat is `TELEGRAM-SECRET`.
pub const TOKEN: &str = "123456:TELEGRAM-SECRET";

/// Tags that HTML messages may have.
const TAGS: [&str; 14] = [
    "a",
    "b",
    "strong",
    "i",
    "em",
    "u",
    "ins",
    "s",
    "del",
    "code",
    "pre",
    "blockquote",
    "tg-spoiler",
    "span",
];

/// Telegram with one group.
#[derive(Debug)]
pub struct Telegram {
    /// What the monitor is told.
    pub configured_chat: i64,
    pub configured_thread: Option<i64>,
    pub proxy: Option<String>,
    /// The group's number; messages to the configured one are told of it.
    pub chat: i64,
    /// The topics that are open.
    pub threads: Vec<i64>,
    /// The bot was thrown out.
    pub kicked: bool,
    /// The token is not known any more.
    pub revoked: bool,
    pub second: Window,
    pub minute: Window,
    pub messages: i64,
}

impl Default for Telegram {
    fn default() -> Self {
        Self {
            configured_chat: -4_001,
            configured_thread: None,
            proxy: None,
            chat: -4_001,
            threads: Vec::new(),
            kicked: false,
            revoked: false,
            second: Window::default(),
            minute: Window::default(),
            messages: 0,
        }
    }
}

fn error(code: u16, description: &str, parameters: Option<Value>) -> (u16, Value, bool) {
    let mut answer = json!({"ok": false, "error_code": code, "description": description});
    if let Some(parameters) = parameters {
        answer["parameters"] = parameters;
    }
    (code, answer, false)
}

impl Service for Telegram {
    fn variables(&self, address: SocketAddr) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("TELEGRAM_BOT_TOKEN", TOKEN.to_owned()),
            ("TELEGRAM_CHAT_ID", self.configured_chat.to_string()),
            ("TELEGRAM_API_BASE", format!("http://{address}")),
        ];
        variables.extend(self.configured_thread.map(|id| ("TELEGRAM_THREAD_ID", id.to_string())));
        variables.extend(self.proxy.clone().map(|proxy| ("TELEGRAM_PROXY", proxy)));
        variables
    }

    fn answer(&mut self, path: &str, body: &Value, at: Instant) -> (u16, Value, bool) {
        if self.revoked || path != format!("/bot{TOKEN}/sendMessage") {
            return error(if path.starts_with("/bot") { 401 } else { 404 }, "Unauthorized", None);
        }
        let fast = self.second.exceeds(at, 1, Duration::from_millis(950));
        if self.minute.exceeds(at, 20, Duration::from_secs(60)) || fast {
            return error(429, "Too Many Requests: retry after 5", Some(json!({"retry_after": 5})));
        }
        let chat = body["chat_id"].as_i64();
        if chat == Some(self.configured_chat) && self.chat != self.configured_chat {
            let moved = json!({"migrate_to_chat_id": self.chat});
            return error(400, "Bad Request: group chat was upgraded to a supergroup chat", Some(moved));
        }
        if chat != Some(self.chat) {
            return error(400, "Bad Request: chat not found", None);
        }
        if self.kicked {
            return error(403, "Forbidden: bot was kicked from the group chat", None);
        }
        if body["message_thread_id"].as_i64().is_some_and(|thread| !self.threads.contains(&thread)) {
            return error(400, "Bad Request: message thread not found", None);
        }
        let text = body["text"].as_str().unwrap_or_default();
        let visible = match body["parse_mode"].as_str() {
            None => text.to_owned(),
            Some("HTML") => match visible(text) {
                Ok(text) => text,
                Err(why) => {
                    return error(400, &format!("Bad Request: can't parse entities: {why}"), None);
                }
            },
            Some(_) => return error(400, "Bad Request: unsupported parse_mode", None),
        };
        match visible.encode_utf16().count() {
            0 => return error(400, "Bad Request: message text is empty", None),
            4097.. => return error(400, "Bad Request: message is too long", None),
            _ => {}
        }
        self.messages += 1;
        (200, json!({"ok": true, "result": {"message_id": self.messages, "text": visible}}), true)
    }

    fn words(&self, body: &Value) -> String {
        let text = body["text"].as_str().unwrap_or_default();
        if body["parse_mode"] == "HTML" { visible(text).expect("HTML") } else { text.to_owned() }
    }
}

/// What people see of an HTML message; an error for what Telegram does not parse.
fn visible(html: &str) -> Result<String, String> {
    let (mut seen, mut open, mut rest) = (String::new(), Vec::new(), html);
    while let Some(place) = rest.find(['<', '&']) {
        seen.push_str(&rest[..place]);
        rest = &rest[place..];
        let end = rest.find(if rest.starts_with('<') { '>' } else { ';' });
        let end = end.ok_or_else(|| format!("no end of {}", rest.chars().take(9).collect::<String>()))?;
        let inner = &rest[1..end];
        rest = &rest[end + 1..];
        if html[..html.len() - rest.len()].ends_with(';') {
            match inner {
                "amp" => seen.push('&'),
                "lt" => seen.push('<'),
                "gt" => seen.push('>'),
                "quot" => seen.push('"'),
                other => {
                    let code = other.strip_prefix('#').and_then(|code| code.parse().ok());
                    seen.push(code.and_then(char::from_u32).ok_or(format!("entity {other}"))?);
                }
            }
        } else if let Some(name) = inner.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("unexpected end tag {name}"));
            }
        } else {
            let name = inner.split_whitespace().next().unwrap_or_default().to_owned();
            if !TAGS.contains(&name.as_str()) {
                return Err(format!("unsupported start tag {name}"));
            }
            open.push(name);
        }
    }
    seen.push_str(rest);
    if open.is_empty() { Ok(seen) } else { Err(format!("no end tag of {open:?}")) }
}

#[test]
fn html_is_parsed_as_strictly_as_telegram_does() {
    assert_eq!(visible("<b>a</b> &lt;b&gt; &#42;;").as_deref(), Ok("a <b> *;"));
    for bad in ["<b>a", "a</b>", "<b><i></b></i>", "a < b", "<h1>a</h1>", "a & b;", "&nbsp;"] {
        assert!(visible(bad).is_err(), "{bad}");
    }
}
