//! A WeCom group's bot.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Service, Window};

/// The key in the address.
pub const KEY: &str = "WECOM-KEY-SECRET";

/// A bot.
#[derive(Debug, Default)]
pub struct Wecom {
    /// The bot was removed.
    pub removed: bool,
    minute: Window,
}

fn error(code: i64, words: &str) -> (u16, Value, bool) {
    let hint = "hint: [1790000000000000], from ip: 127.0.0.1, more info at https://open.work.weixin.qq.com/";
    (200, json!({"errcode": code, "errmsg": format!("{words}, {hint}")}), false)
}

impl Service for Wecom {
    fn variables(&self, address: SocketAddr) -> Vec<(&'static str, String)> {
        vec![("WECOM_WEBHOOK", format!("http://{address}/cgi-bin/webhook/send?key={KEY}"))]
    }

    fn answer(&mut self, path: &str, body: &Value, at: Instant) -> (u16, Value, bool) {
        if self.removed || path != format!("/cgi-bin/webhook/send?key={KEY}") {
            return error(93000, "invalid webhook url");
        }
        if self.minute.exceeds(at, 20, Duration::from_secs(60)) {
            return error(45009, "api freq out of limit");
        }
        let (kind, most) = match body["msgtype"].as_str() {
            Some(kind @ ("markdown" | "markdown_v2")) => (kind, 4096),
            Some(kind @ "text") => (kind, 2048),
            _ => return error(40008, "invalid message type"),
        };
        match body[kind]["content"].as_str().map_or(0, str::len) {
            0 => error(44004, "empty content"),
            length if length > most => {
                error(40058, &format!("{kind}.content exceed max length {most}. invalid Request Parameter"))
            }
            _ => (200, json!({"errcode": 0, "errmsg": "ok"}), true),
        }
    }

    fn words(&self, body: &Value) -> String {
        let kind = body["msgtype"].as_str().unwrap_or_default();
        body[kind]["content"].as_str().unwrap_or_default().to_owned()
    }
}
