//! A Feishu group's custom bot.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use token_monitor::clock::Clock;

use super::{Service, Window};

/// The last part of the address.
pub const HOOK: &str = "FEISHU-HOOK-SECRET";

/// The key of signatures.
pub const SECRET: &str = "FEISHU-SIGN-SECRET";

/// A bot that wants signatures.
#[derive(Debug)]
pub struct Feishu {
    /// What the monitor is told.
    pub secret: Option<String>,
    /// A word that messages must have.
    pub keyword: Option<&'static str>,
    /// Only other addresses may write.
    pub whitelisted: bool,
    /// The bot was removed.
    pub removed: bool,
    /// It cannot read cards.
    pub no_cards: bool,
    second: Window,
    minute: Window,
}

impl Default for Feishu {
    fn default() -> Self {
        Self {
            secret: Some(SECRET.to_owned()),
            keyword: Some("Token Monitor"),
            whitelisted: false,
            removed: false,
            no_cards: false,
            second: Window::default(),
            minute: Window::default(),
        }
    }
}

fn error(code: i64, msg: &str) -> (u16, Value, bool) {
    (200, json!({"code": code, "msg": msg, "data": {}}), false)
}

/// Whether the request is signed, and a moment ago.
fn is_signed(body: &Value) -> bool {
    let Some(timestamp) = body["timestamp"].as_str() else { return false };
    let key = format!("{timestamp}\n{SECRET}");
    let mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(key.as_bytes()).expect("a key");
    let sign = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    let age = timestamp.parse::<i64>().map(|then| (Clock::system().unix() - then).abs());
    body["sign"] == sign && age.is_ok_and(|age| age < 3600)
}

impl Service for Feishu {
    fn variables(&self, address: SocketAddr) -> Vec<(&'static str, String)> {
        let mut variables =
            vec![("FEISHU_WEBHOOK", format!("http://{address}/open-apis/bot/v2/hook/{HOOK}"))];
        variables.extend(self.secret.clone().map(|secret| ("FEISHU_SECRET", secret)));
        variables
    }

    fn answer(&mut self, path: &str, body: &Value, at: Instant) -> (u16, Value, bool) {
        if self.removed || path != format!("/open-apis/bot/v2/hook/{HOOK}") {
            return error(19001, "param invalid: incoming webhook access token invalid");
        }
        let fast = self.second.exceeds(at, 5, Duration::from_millis(950));
        if self.minute.exceeds(at, 100, Duration::from_secs(60)) || fast {
            return error(11232, "frequency limited psm[lark.oapi.app_platform_runtime]appID[1500]");
        }
        if self.whitelisted {
            return error(19022, "Ip Not Allowed");
        }
        if !is_signed(body) {
            return error(19021, "sign match fail or timestamp is not within one hour from current time");
        }
        if body.to_string().len() > 20_000 {
            return (400, json!({"code": 9499, "msg": "Bad Request", "data": {}}), false);
        }
        let words = self.words(body);
        match body["msg_type"].as_str() {
            Some("text") if body["content"]["text"].is_string() => {}
            Some("interactive") if body["card"].is_object() && !self.no_cards => {}
            Some("interactive") => return error(9499, "Bad Request"),
            _ => return error(19002, "params error, msg_type need"),
        }
        if self.keyword.is_some_and(|keyword| !words.contains(keyword)) {
            return error(19024, "Key Words Not Found");
        }
        let success =
            json!({"StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success"});
        (200, success, true)
    }

    fn words(&self, body: &Value) -> String {
        let mut words = Vec::new();
        collect(if body["card"].is_object() { &body["card"] } else { &body["content"] }, &mut words);
        words.join("\n")
    }
}

/// Every text that people see, without the entities that keep it literal.
fn collect(value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(text) if name == "content" || name == "text" => words.push(unescaped(text)),
                    Value::String(_) => {}
                    other => collect(other, words),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, words)),
        _ => {}
    }
}

fn unescaped(text: &str) -> String {
    let (mut seen, mut rest) = (String::new(), text);
    while let Some(place) = rest.find("&#") {
        seen.push_str(&rest[..place]);
        rest = &rest[place..];
        let end = rest.find(';').unwrap_or(rest.len() - 1);
        match rest[2..end].parse().ok().and_then(char::from_u32) {
            Some(c) => seen.push(c),
            None => seen.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    seen + rest
}
