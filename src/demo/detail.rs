//! The `other` column of each sort of row, and request ids: the shapes that new-api writes.

use super::charge::{CACHE_WRITE_RATIO, Usage};
use super::failure::Failure;
use super::json::Object;
use super::request::Call;
use super::world::{CHANNELS, Work};

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Not streamed.
    Whole,
    /// A stream with its closing mark.
    Done,
    /// A stream of a kind without closing mark.
    Eof,
    /// A stream that the provider broke off. new-api cannot tell it from [`Ending::Eof`].
    Cut,
    /// The client hung up.
    ClientGone,
    /// The provider fell silent.
    Timeout,
}

impl Ending {
    fn stream_status(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::Done => r#"{"end_reason":"done","status":"ok"}"#,
            Self::Eof | Self::Cut => r#"{"end_reason":"eof","status":"ok"}"#,
            Self::ClientGone => {
                r#"{"end_error":"context canceled","end_reason":"client_gone","error_count":0,"status":"error"}"#
            }
            Self::Timeout => r#"{"end_reason":"timeout","error_count":0,"status":"error"}"#,
        }
    }
}

/// The facts of an answer that is charged by tokens.
#[derive(Debug)]
pub struct Serving {
    /// Index into [`CHANNELS`].
    pub channel: usize,
    /// Of a multi-key channel.
    pub key: Option<usize>,
    /// Tokens.
    pub usage: Usage,
    /// How it ended.
    pub ending: Ending,
    /// Milliseconds to the first chunk, -1000 for none.
    pub frt_ms: i64,
}

/// Of a consume row that is charged by tokens.
pub(super) fn tokens(call: &Call, serving: &Serving) -> String {
    let (usage, model, channel) = (&serving.usage, call.model, &CHANNELS[serving.channel]);
    let counted_here = matches!(serving.ending, Ending::ClientGone | Ending::Cut);
    let billing_path = match (counted_here, usage.anthropic) {
        (true, _) => "local",
        (false, true) => "billing-usage-anthropic",
        (false, false) => "upstream",
    };
    let mut other = Object::new(640);
    other.raw("admin_info", admin_info(call, serving.key, counted_here, billing_path));
    other.text("billing_source", "wallet");
    if usage.anthropic {
        other.ratio("cache_creation_ratio", CACHE_WRITE_RATIO);
        if usage.written > 0 {
            other.ratio("cache_creation_ratio_5m", CACHE_WRITE_RATIO);
        }
        other.int("cache_creation_tokens", usage.written);
        if usage.written > 0 {
            other.int("cache_creation_tokens_5m", usage.written);
        }
    }
    other.ratio("cache_ratio", model.cache_ratio).int("cache_tokens", usage.cached);
    if usage.written > 0 {
        other.int("cache_write_tokens", usage.written);
    }
    if usage.anthropic {
        other.raw("claude", true);
    }
    other.ratio("completion_ratio", model.completion_ratio).int("frt", serving.frt_ms);
    other.ratio("group_ratio", call.group_ratio);
    let mapped = channel.mapping.filter(|(from, _)| *from == model.name);
    if mapped.is_some() {
        other.raw("is_model_mapped", true);
    }
    other.int("model_price", -1).ratio("model_ratio", model.ratio);
    other.raw("request_conversion", conversion(call, channel.kind, usage.anthropic));
    other.text("request_path", call.path);
    if call.stream {
        other.raw("stream_status", serving.ending.stream_status());
    }
    if let Some((_, upstream)) = mapped {
        other.text("upstream_model_name", upstream);
    }
    if usage.anthropic {
        other.text("usage_semantic", "anthropic");
    }
    other.int("user_group_ratio", -1);
    other.finish()
}

/// Of a consume row at a fixed price.
pub(super) fn fixed_price(call: &Call, key: Option<usize>) -> String {
    let mut other = Object::new(400);
    other.raw("admin_info", admin_info(call, key, false, "upstream"));
    other.text("billing_source", "wallet").int("cache_ratio", 0).int("cache_tokens", 0);
    other.int("completion_ratio", 0).int("frt", -1000).ratio("group_ratio", call.group_ratio);
    other.ratio("model_price", call.model.price).int("model_ratio", 0);
    other.raw("request_conversion", r#"["OpenAI Compatible"]"#).text("request_path", call.path);
    other.int("user_group_ratio", -1);
    other.finish()
}

/// Of a task's submission.
pub(super) fn task_submitted(call: &Call, task_id: &str) -> String {
    let mut other = Object::new(240);
    other.raw("admin_info", format_args!("{{\"use_channel\":[{}]}}", call.tried));
    other.ratio("group_ratio", call.group_ratio).raw("is_task", true);
    other.ratio("model_price", call.model.price).text("request_path", call.path).text("task_id", task_id);
    other.finish()
}

/// Of the refund of a task that failed.
pub(super) fn task_refunded(call: &Call, task_id: &str) -> String {
    let mut other = Object::new(160);
    other.ratio("group_ratio", call.group_ratio).ratio("model_price", call.model.price);
    other.text("reason", "task failed").text("task_id", task_id);
    other.finish()
}

/// Of a later charge for a task that cost more than was paid at first.
pub(super) fn task_settled(call: &Call, task_id: &str, paid: i64, actual: i64) -> String {
    let mut other = Object::new(240);
    other.int("actual_quota", actual).ratio("group_ratio", call.group_ratio);
    other.ratio("model_price", call.model.price).int("pre_consumed_quota", paid);
    other.text("reason", "longer than estimated").text("task_id", task_id);
    other.finish()
}

/// Of a failed attempt.
pub(super) fn error(call: &Call, channel: usize, key: Option<usize>, failure: &Failure) -> String {
    let channel = &CHANNELS[channel];
    let mut other = Object::new(320);
    let key = key.map(|key| format!("\"is_multi_key\":true,\"multi_key_index\":{key},")).unwrap_or_default();
    other.raw("admin_info", format_args!("{{{key}\"use_channel\":[{}]}}", call.tried));
    other.int("channel_id", channel.id).text("channel_name", channel.name).int("channel_type", channel.kind);
    other.text("error_code", failure.code).text("error_type", failure.error_type);
    other.text("request_path", call.path).int("status_code", failure.status);
    other.finish()
}

/// Of a fee that comes in addition to an error.
pub(super) fn violation_fee(call: &Call, failure: &Failure, quota: i64) -> String {
    let mut other = Object::new(320);
    other.raw("admin_info", format_args!("{{\"use_channel\":[{}]}}", call.tried));
    other.int("fee_quota", quota).ratio("group_ratio", call.group_ratio);
    other.text("request_path", call.path).int("status_code", failure.status);
    other.text("upstream_error_code", failure.code).text("upstream_error_type", "invalid_request_error");
    other.raw("violation_fee", true).text("violation_fee_code", failure.code);
    other.finish()
}

fn admin_info(call: &Call, key: Option<usize>, counted_here: bool, billing_path: &str) -> String {
    let mut info = Object::new(128);
    if key.is_some() {
        info.raw("is_multi_key", true);
    }
    if counted_here {
        info.raw("local_count_tokens", true);
    }
    if let Some(key) = key {
        info.raw("multi_key_index", key);
    }
    info.text("usage_billing_path", billing_path);
    info.raw("use_channel", format_args!("[{}]", call.tried));
    info.finish()
}

/// From the client's dialect to the provider's.
fn conversion(call: &Call, channel_kind: i64, anthropic: bool) -> &'static str {
    use super::world::{GEMINI, VERTEX};
    match (call.path, anthropic) {
        ("/v1/messages", true) => r#"["Claude Messages"]"#,
        ("/v1/messages", false) => r#"["Claude Messages","OpenAI Compatible"]"#,
        (_, true) => r#"["OpenAI Compatible","Claude Messages"]"#,
        (_, false) if [GEMINI, VERTEX].contains(&channel_kind) && call.model.work == Work::Chat => {
            r#"["OpenAI Compatible","Google Gemini"]"#
        }
        (_, false) => r#"["OpenAI Compatible"]"#,
    }
}

/// `YYYYMMDDhhmmss` in UTC, of unix seconds.
pub(super) fn stamp(second: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_second(second) else { return "0".repeat(14) };
    let time = jiff::tz::TimeZone::UTC.to_datetime(time);
    let date = i64::from(time.year()) * 10_000 + i64::from(time.month()) * 100 + i64::from(time.day());
    let clock = i64::from(time.hour()) * 10_000 + i64::from(time.minute()) * 100 + i64::from(time.second());
    format!("{:014}", date * 1_000_000 + clock)
}

/// `chance` gives what is below the millisecond and the last eight characters.
pub(super) fn request_id(stamp: &str, ms: i64, node: &str, chance: u64) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let below_ms = (chance >> 44).cast_signed() % 1_000_000;
    let mut id = String::with_capacity(39);
    id.push_str(stamp);
    let nanos = format!("{:09}", ms * 1_000_000 + below_ms);
    id.push_str(&nanos);
    id.push_str(node);
    // 62^8 needs 48 bits; the few that it shares with the nanoseconds do no harm.
    let mut rest = chance & ((1 << 48) - 1);
    for _ in 0..8 {
        let digit = usize::try_from(rest % 62).unwrap_or(0);
        id.push(char::from(LETTERS[digit]));
        rest /= 62;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_have_new_apis_shape() {
        let id = request_id(&stamp(1_795_412_416), 129, "8268d9d6", 0x1234_5678_9abc_def0);
        assert_eq!(id.len(), 39);
        assert!(id.starts_with("20261123054016129"), "{id}");
        assert_eq!(&id[23..31], "8268d9d6");
        assert!(id[31..].chars().all(|letter| letter.is_ascii_alphanumeric()));
    }
}
