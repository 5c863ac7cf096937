//! Reads the `other` column: a JSON object as text, whose shape differs between versions of new-api.
//!
//! It must never fail a row: what cannot be read is absent, and the [`Defect`] says so. It runs on every row of
//! the log, so it makes one pass without an intermediate tree, and nothing nests on the call stack however deep
//! the text does. It knows no column but this one and decides nothing about what a row counts as.
//!
//! The small functions that the JSON reader calls back are marked `#[inline]`: without it they end up in other
//! code units than their callers, which costs about a sixth of the time per row.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::record::{ChannelId, Defect, ErrorType, Other, StreamStatus};

/// Longest list of channels that is kept. new-api's own limit of retries is far below.
const MAX_CHANNELS: usize = 64;

/// Largest integer that is believed: 2^53, up to which a float holds every integer exactly. A larger one is a
/// wrong value, so that no single row can drive a sum to its limit.
const MAX_INTEGER: u64 = 1 << 53;

/// Longest string that is tried as a number.
const MAX_NUMERAL: usize = 32;

/// Reads the `other` column of a row.
///
/// - Empty, or white space only: nothing is known, [`Defect::OtherEmpty`].
/// - Not one JSON object, a syntax error anywhere, or a number beyond every float in a field that is read:
///   nothing is known, [`Defect::OtherNotJson`].
/// - A field of a wrong type or with a value that it cannot have: that field is absent, the others are kept,
///   [`Defect::OtherWrongType`]. Integers above 2^53 are among these.
///
/// Numbers may be floats and strings, booleans may be 0, 1 and strings, null is absent without a defect. Of keys
/// that occur twice the last one wins, and a defect of the first one stays. Unknown fields, at any depth, are
/// skipped. Only the first 64 channels tried are kept.
pub fn parse(text: &[u8]) -> (Other, Option<Defect>) {
    if text.trim_ascii().is_empty() {
        return (Other::default(), Some(Defect::OtherEmpty));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = Found::<Fields>::deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    match read {
        Ok(Found::Is(fields)) => fields.finish(),
        Ok(Found::Null | Found::Wrong) | Err(_) => (Other::default(), Some(Defect::OtherNotJson)),
    }
}

/// What stands at a place where a `T` should.
enum Found<T> {
    Null,
    Is(T),
    Wrong,
}

/// Something that is made of one JSON value. What a type does not take is skipped and counts as wrong.
trait Part<'de>: Sized {
    /// `None` says that the value cannot be this.
    #[inline]
    fn from_scalar(_: Scalar<'de>) -> Option<Self> {
        None
    }

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A JSON value without parts. Strings are borrowed from the text unless they hold an escape.
enum Scalar<'de> {
    Bool(bool),
    Unsigned(u64),
    Negative(i64),
    Float(f64),
    Text(Cow<'de, str>),
}

impl<'de, T: Part<'de>> Deserialize<'de> for Found<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor(PhantomData))
    }
}

struct PartVisitor<T>(PhantomData<T>);

impl<'de, T: Part<'de>> PartVisitor<T> {
    fn found(part: Option<T>) -> Found<T> {
        part.map_or(Found::Wrong, Found::Is)
    }
}

impl<'de, T: Part<'de>> Visitor<'de> for PartVisitor<T> {
    type Value = Found<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Found::Null)
    }

    #[inline]
    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Self::found(T::from_scalar(Scalar::Bool(value))))
    }

    #[inline]
    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Self::found(T::from_scalar(Scalar::Unsigned(value))))
    }

    #[inline]
    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        let scalar = u64::try_from(value).map_or(Scalar::Negative(value), Scalar::Unsigned);
        Ok(Self::found(T::from_scalar(scalar)))
    }

    #[inline]
    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Self::found(T::from_scalar(Scalar::Float(value))))
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Self::found(T::from_scalar(Scalar::Text(Cow::Borrowed(value)))))
    }

    #[inline]
    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Self::found(T::from_scalar(Scalar::Text(Cow::Owned(value.to_owned())))))
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        T::from_seq(seq).map(Self::found)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::from_map(map).map(Self::found)
    }
}

/// A key, borrowed from the text unless it holds an escape. As bytes, because checking that each key is UTF-8
/// takes longer than finding it unknown.
struct Key<'de>(Cow<'de, [u8]>);

impl<'de> Deserialize<'de> for Key<'de> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            #[inline]
            fn visit_borrowed_bytes<E: Error>(self, key: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            #[inline]
            fn visit_bytes<E: Error>(self, key: &[u8]) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }

        deserializer.deserialize_bytes(KeyVisitor)
    }
}

/// Reads the value of the current key and notes a wrong one.
fn take<'de, T: Part<'de>, A: MapAccess<'de>>(map: &mut A, wrong: &mut bool) -> Result<Option<T>, A::Error> {
    Ok(match map.next_value()? {
        Found::Is(value) => Some(value),
        Found::Null => None,
        Found::Wrong => {
            *wrong = true;
            None
        }
    })
}

/// Any finite number, or a string that is one.
impl<'de> Part<'de> for f64 {
    #[inline]
    fn from_scalar(scalar: Scalar<'de>) -> Option<Self> {
        let number = match scalar {
            Scalar::Unsigned(number) => number as f64,
            Scalar::Negative(number) => number as f64,
            Scalar::Float(number) => number,
            Scalar::Text(text) if text.len() <= MAX_NUMERAL => text.parse().ok()?,
            Scalar::Text(_) | Scalar::Bool(_) => return None,
        };
        number.is_finite().then_some(number)
    }
}

/// A count: a whole number from 0 to [`MAX_INTEGER`].
impl<'de> Part<'de> for u64 {
    #[inline]
    fn from_scalar(scalar: Scalar<'de>) -> Option<Self> {
        let number = match scalar {
            Scalar::Unsigned(number) => number,
            Scalar::Text(text) if text.len() <= MAX_NUMERAL => match text.parse() {
                Ok(number) => number,
                Err(_) => whole(text.parse().ok()?)?,
            },
            Scalar::Float(number) => whole(number)?,
            Scalar::Negative(_) | Scalar::Text(_) | Scalar::Bool(_) => return None,
        };
        (number <= MAX_INTEGER).then_some(number)
    }
}

/// The float as an integer, if it is one from 0 to [`MAX_INTEGER`].
fn whole(number: f64) -> Option<u64> {
    let fits = number.fract() == 0.0 && (0.0..=MAX_INTEGER as f64).contains(&number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    fits.then_some(number as u64)
}

/// An id or an index. None of new-api's is negative.
impl<'de> Part<'de> for i64 {
    #[inline]
    fn from_scalar(scalar: Scalar<'de>) -> Option<Self> {
        u64::from_scalar(scalar).and_then(|number| number.try_into().ok())
    }
}

impl<'de> Part<'de> for bool {
    #[inline]
    fn from_scalar(scalar: Scalar<'de>) -> Option<Self> {
        match scalar {
            Scalar::Bool(value) => Some(value),
            Scalar::Text(text) if text == "true" => Some(true),
            Scalar::Text(text) if text == "false" => Some(false),
            number => match u64::from_scalar(number)? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
        }
    }
}

impl<'de> Part<'de> for Cow<'de, str> {
    #[inline]
    fn from_scalar(scalar: Scalar<'de>) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// An HTTP status.
struct HttpStatus(u16);

impl<'de> Part<'de> for HttpStatus {
    #[inline]
    fn from_scalar(scalar: Scalar<'de>) -> Option<Self> {
        let status = u64::from_scalar(scalar).and_then(|number| u16::try_from(number).ok())?;
        (100..=599).contains(&status).then_some(Self(status))
    }
}

/// `admin_info.use_channel`: ids as strings, in the order tried.
#[derive(Default)]
struct Channels {
    ids: Vec<ChannelId>,
    wrong: bool,
}

impl<'de> Part<'de> for Channels {
    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        let mut channels = Self::default();
        while channels.ids.len() < MAX_CHANNELS {
            match seq.next_element()? {
                Some(Found::Is(id)) => channels.ids.push(id),
                Some(Found::Wrong) => channels.wrong = true,
                Some(Found::Null) => {}
                None => return Ok(Some(channels)),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(channels))
    }
}

/// `admin_info`.
#[derive(Default)]
struct AdminInfo {
    use_channel: Vec<ChannelId>,
    multi_key_index: Option<i64>,
    wrong: bool,
}

impl<'de> Part<'de> for AdminInfo {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut info = Self::default();
        while let Some(Key(key)) = map.next_key()? {
            match key.as_ref() {
                b"use_channel" => {
                    let channels: Channels = take(&mut map, &mut info.wrong)?.unwrap_or_default();
                    info.wrong |= channels.wrong;
                    info.use_channel = channels.ids;
                }
                b"multi_key_index" => info.multi_key_index = take(&mut map, &mut info.wrong)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(info))
    }
}

/// `stream_status`.
#[derive(Default)]
struct Stream {
    status: StreamStatus,
    wrong: bool,
}

impl<'de> Part<'de> for Stream {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut stream = Self::default();
        while let Some(Key(key)) = map.next_key()? {
            match key.as_ref() {
                b"status" => stream.status.error = is(&mut map, &mut stream.wrong, "error")?,
                b"end_reason" => stream.status.client_gone = is(&mut map, &mut stream.wrong, "client_gone")?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(stream))
    }
}

/// Whether the value of the current key is this string.
fn is<'de, A: MapAccess<'de>>(map: &mut A, wrong: &mut bool, expected: &str) -> Result<bool, A::Error> {
    Ok(take::<Cow<'de, str>, A>(map, wrong)?.is_some_and(|text| text == expected))
}

/// The whole object, before several of its fields become one.
#[derive(Default)]
struct Fields {
    /// Holds the fields that are taken over as they are.
    other: Other,
    cache_write_total: Option<u64>,
    cache_creation: Option<u64>,
    cache_creation_5m: Option<u64>,
    cache_creation_1h: Option<u64>,
    claude: bool,
    anthropic_usage: bool,
    wrong: bool,
}

impl<'de> Part<'de> for Fields {
    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut fields = Self::default();
        while let Some(Key(key)) = map.next_key()? {
            fields.entry(&key, &mut map)?;
        }
        Ok(Some(fields))
    }
}

impl Fields {
    fn entry<'de, A: MapAccess<'de>>(&mut self, key: &[u8], map: &mut A) -> Result<(), A::Error> {
        let (other, wrong) = (&mut self.other, &mut self.wrong);
        match key {
            b"cache_tokens" => other.cache_read_tokens = take(map, wrong)?,
            b"cache_write_tokens" => self.cache_write_total = take(map, wrong)?,
            b"cache_creation_tokens" => self.cache_creation = take(map, wrong)?,
            b"cache_creation_tokens_5m" => self.cache_creation_5m = take(map, wrong)?,
            b"cache_creation_tokens_1h" => self.cache_creation_1h = take(map, wrong)?,
            b"input_tokens_total" => other.input_tokens_total = take(map, wrong)?,
            b"claude" => self.claude = take(map, wrong)?.unwrap_or(false),
            b"usage_semantic" => self.anthropic_usage = is(map, wrong, "anthropic")?,
            b"frt" => other.first_response_ms = take(map, wrong)?,
            b"stream_status" => {
                let stream: Option<Stream> = take(map, wrong)?;
                *wrong |= stream.as_ref().is_some_and(|stream| stream.wrong);
                other.stream_status = stream.map(|stream| stream.status);
            }
            b"task_id" => {
                let id: Option<Cow<'de, str>> = take(map, wrong)?;
                other.has_task_id = id.is_some_and(|id| !id.is_empty());
            }
            b"is_task" => other.is_task = take(map, wrong)?.unwrap_or(false),
            b"violation_fee" => other.violation_fee = take(map, wrong)?.unwrap_or(false),
            b"status_code" => other.status_code = take(map, wrong)?.map(|HttpStatus(status)| status),
            b"error_type" => {
                let kind: Option<Cow<'de, str>> = take(map, wrong)?;
                other.error_type = kind.map(|kind| ErrorType::parse(&kind));
            }
            b"channel_name" => {
                let name: Option<Cow<'de, str>> = take(map, wrong)?;
                other.channel_name = name.filter(|name| !name.is_empty()).map(Cow::into_owned);
            }
            b"admin_info" => {
                let info: AdminInfo = take(map, wrong)?.unwrap_or_default();
                *wrong |= info.wrong;
                other.use_channel = info.use_channel;
                other.multi_key_index = info.multi_key_index;
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn finish(self) -> (Other, Option<Defect>) {
        let parts = match (self.cache_creation_5m, self.cache_creation_1h) {
            (None, None) => None,
            (five_minutes, one_hour) => Some(five_minutes.unwrap_or(0) + one_hour.unwrap_or(0)),
        };
        let other = Other {
            cache_write_tokens: self.cache_write_total.or(self.cache_creation).or(parts),
            anthropic: self.claude || self.anthropic_usage,
            ..self.other
        };
        (other, self.wrong.then_some(Defect::OtherWrongType))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// v0.6.3.1.1, a stream that was answered: no `stream_status`, no `user_group_ratio`.
    const V0_6_STREAM: &str = r#"{"admin_info":{"use_channel":["2"]},"cache_ratio":0.5,"cache_tokens":0,"completion_ratio":4,"frt":41,"group_ratio":1,"model_price":-1,"model_ratio":0.075}"#;
    /// v0.9.28, a request through a channel that holds several keys.
    const V0_9_MULTI_KEY: &str = r#"{"admin_info":{"is_multi_key":true,"multi_key_index":2,"use_channel":["3"]},"cache_ratio":0.5,"cache_tokens":0,"completion_ratio":4,"frt":-1000,"group_ratio":1,"model_price":-1,"model_ratio":0.075,"user_group_ratio":-1}"#;
    /// v0.9.28, a failed attempt; the gateway's own error.
    const V0_9_ERROR: &str = r#"{"admin_info":{"use_channel":["6"]},"channel_id":6,"channel_name":"ch-dead","channel_type":1,"error_code":"do_request_failed","error_type":"new_api_error","status_code":500}"#;
    /// v0.11.9, a stream that was counted locally because the upstream cut it.
    const V0_11_EOF: &str = r#"{"admin_info":{"local_count_tokens":true,"use_channel":["2"]},"billing_source":"wallet","cache_ratio":1,"cache_tokens":0,"completion_ratio":1,"frt":37,"group_ratio":1,"model_price":-1,"model_ratio":37.5,"request_conversion":["OpenAI Compatible"],"request_path":"/v1/chat/completions","stream_status":{"end_reason":"eof","status":"ok"},"user_group_ratio":-1}"#;
    /// v0.13.2, a mapped model.
    const V0_13_MAPPED: &str = r#"{"admin_info":{"use_channel":["5"]},"billing_source":"wallet","cache_ratio":1,"cache_tokens":0,"completion_ratio":1,"frt":30,"group_ratio":1,"is_model_mapped":true,"model_price":-1,"model_ratio":37.5,"request_conversion":["OpenAI Compatible"],"request_path":"/v1/chat/completions","stream_status":{"end_reason":"done","status":"ok"},"upstream_model_name":"small-model","user_group_ratio":-1}"#;
    /// v0.13.2, a stream whose client left.
    const V0_13_CLIENT_GONE: &str = r#"{"admin_info":{"use_channel":["1"]},"cache_tokens":0,"frt":52,"group_ratio":1,"stream_status":{"end_error":"context canceled","end_reason":"client_gone","error_count":1,"errors":["context canceled"],"status":"error"},"user_group_ratio":-1}"#;
    /// v0.13.2, Claude through the OpenAI interface.
    const V0_13_CLAUDE: &str = r#"{"admin_info":{"use_channel":["4"]},"billing_source":"wallet","cache_creation_ratio":1.25,"cache_creation_tokens":300,"cache_ratio":0.1,"cache_tokens":700,"claude":true,"completion_ratio":5,"frt":-1000,"group_ratio":1,"model_price":-1,"model_ratio":1.5,"request_conversion":["OpenAI Compatible","Claude Messages"],"request_path":"/v1/chat/completions","usage_semantic":"anthropic","user_group_ratio":-1}"#;
    /// v1.0.0-rc.15, a failed attempt, with the channel's name.
    const RC15_ERROR: &str = r#"{"admin_info":{"use_channel":["1"]},"channel_id":1,"channel_name":"azure-eu","channel_type":1,"error_code":"rate_limit_exceeded","error_type":"openai_error","request_path":"/v1/chat/completions","status_code":429}"#;
    /// v1.0.0-rc.24, a request that was answered by the second channel.
    const RC24_RETRIED: &str = r#"{"admin_info":{"usage_billing_path":"upstream","use_channel":["9","12"]},"billing_preference":"subscription_first","billing_source":"wallet","cache_ratio":0.5,"cache_tokens":512,"completion_ratio":4,"frt":812,"group_ratio":1,"model_price":-1,"model_ratio":1.25,"request_conversion":["OpenAI Compatible"],"request_path":"/v1/chat/completions","stream_status":{"end_reason":"done","status":"ok"},"user_group_ratio":-1}"#;
    /// v1.0.0-rc.24, a stream of Claude's with the normalised cache writes, of two lifetimes.
    const RC24_CLAUDE: &str = r#"{"admin_info":{"is_multi_key":true,"multi_key_index":0,"usage_billing_path":"billing-usage-anthropic","use_channel":["3"]},"cache_creation_ratio":1.25,"cache_creation_ratio_5m":1.25,"cache_creation_tokens":2048,"cache_creation_tokens_5m":2000,"cache_creation_tokens_1h":48,"cache_ratio":0.1,"cache_tokens":10240,"cache_write_tokens":2048,"claude":true,"completion_ratio":5,"frt":53,"input_tokens_total":13000,"group_ratio":1,"model_price":-1,"model_ratio":1.5,"request_path":"/v1/messages","stream_status":{"end_reason":"eof","status":"ok"},"usage_semantic":"anthropic","user_group_ratio":-1}"#;
    /// rc.3x and later, a failed attempt: nothing about the channel, and objects that older versions lack.
    const RC3X_ERROR: &str = r#"{"admin_info":{"billing_model":"m","request_policy":[],"use_channel":["9"]},"error_code":null,"error_type":"upstream_error","request_path":"/v1/messages","response_model":{"name":"m"},"root_info":{"a":{"b":[1]}},"status_code":503}"#;
    /// rc.20 and later, an administrator's own action.
    const RC20_ADMIN: &str = r#"{"admin_info":{"admin_id":1,"admin_role":100,"admin_username":"root","auth_method":"access_token"},"op":{"action":"option.update","params":{"key":"RetryTimes"}}}"#;
    /// rc.20 and later, a login.
    const RC20_LOGIN: &str = r#"{"login_method":"password","op":{"action":"login","params":{"method":"password"}},"user_agent":"curl/8"}"#;
    /// A task's submission, which is a request.
    const TASK_SUBMITTED: &str = r#"{"admin_info":{"use_channel":["7"]},"group_ratio":1,"is_task":true,"model_price":0.5,"request_path":"/v1/videos","seconds":8,"task_id":"task_abc"}"#;
    /// A task's refund.
    const TASK_REFUND: &str =
        r#"{"group_ratio":1,"model_price":0.5,"reason":"task failed","task_id":"task_abc"}"#;
    /// A fee for a refused request.
    const VIOLATION: &str = r#"{"fee_quota":25000,"status_code":403,"upstream_error_type":"x","violation_fee":true,"violation_fee_code":"c"}"#;

    const OK: Option<StreamStatus> = Some(StreamStatus { client_gone: false, error: false });

    #[test]
    fn rows_of_every_known_version_are_read() {
        let error = |status, kind, name: Option<&str>, channel| Other {
            status_code: Some(status),
            error_type: Some(kind),
            channel_name: name.map(str::to_owned),
            use_channel: vec![channel],
            ..Other::default()
        };
        let request = |cache, frt, stream_status, channels: &[ChannelId]| Other {
            cache_read_tokens: Some(cache),
            first_response_ms: Some(frt),
            stream_status,
            use_channel: channels.to_vec(),
            ..Other::default()
        };
        let gone = Some(StreamStatus { client_gone: true, error: true });
        let claude = Other {
            cache_write_tokens: Some(2048),
            input_tokens_total: Some(13000),
            anthropic: true,
            multi_key_index: Some(0),
            ..request(10240, 53.0, OK, &[3])
        };
        let old_claude =
            Other { cache_write_tokens: Some(300), anthropic: true, ..request(700, -1000.0, None, &[4]) };
        let task = Other { has_task_id: true, ..Other::default() };
        let cases = [
            (V0_6_STREAM, request(0, 41.0, None, &[2])),
            (V0_9_MULTI_KEY, Other { multi_key_index: Some(2), ..request(0, -1000.0, None, &[3]) }),
            (V0_9_ERROR, error(500, ErrorType::NewApiError, Some("ch-dead"), 6)),
            (V0_11_EOF, request(0, 37.0, OK, &[2])),
            (V0_13_MAPPED, request(0, 30.0, OK, &[5])),
            (V0_13_CLIENT_GONE, request(0, 52.0, gone, &[1])),
            (V0_13_CLAUDE, old_claude),
            (RC15_ERROR, error(429, ErrorType::OpenaiError, Some("azure-eu"), 1)),
            (RC24_RETRIED, request(512, 812.0, OK, &[9, 12])),
            (RC24_CLAUDE, claude),
            (RC3X_ERROR, error(503, ErrorType::UpstreamError, None, 9)),
            (RC20_ADMIN, Other::default()),
            (RC20_LOGIN, Other::default()),
            (TASK_SUBMITTED, Other { is_task: true, use_channel: vec![7], ..task.clone() }),
            (TASK_REFUND, task),
            (VIOLATION, Other { violation_fee: true, status_code: Some(403), ..Other::default() }),
            ("{}", Other::default()),
            (" {} \n", Other::default()),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()), (expected, None), "{text}");
        }
    }

    /// The named field of what `text` parses to, through `get`, and whether its type was wrong.
    fn field<T>(text: &str, get: impl Fn(&Other) -> T) -> (T, bool) {
        let (other, defect) = parse(text.as_bytes());
        assert!(matches!(defect, None | Some(Defect::OtherWrongType)), "{text}: {defect:?}");
        (get(&other), defect.is_some())
    }

    #[test]
    fn numbers_may_be_floats_and_strings() {
        let cases = [
            ("0", Some(0), false),
            ("-0", Some(0), false),
            ("2048.0", Some(2048), false),
            ("2.048e3", Some(2048), false),
            (r#""2048""#, Some(2048), false),
            (r#""2048.0""#, Some(2048), false),
            (r#""20\u00348""#, Some(2048), false),
            ("9007199254740992", Some(1 << 53), false),
            ("null", None, false),
            ("9007199254740993", None, true),
            ("99999999999999999999", None, true),
            ("1e300", None, true),
            ("-1", None, true),
            ("-99999999999999999999", None, true),
            ("2048.5", None, true),
            (r#""""#, None, true),
            (r#"" 1""#, None, true),
            (r#""-1""#, None, true),
            (r#""NaN""#, None, true),
            (r#""inf""#, None, true),
            ("true", None, true),
            ("[1]", None, true),
            (r#"{"a":1}"#, None, true),
        ];
        for (value, expected, wrong) in cases {
            let text = format!(r#"{{"cache_tokens":{value},"frt":7}}"#);
            assert_eq!(field(&text, |other| other.cache_read_tokens), (expected, wrong), "{value}");
            assert_eq!(
                field(&text, |other| other.first_response_ms).0,
                Some(7.0),
                "{value}: the rest is kept"
            );
        }
    }

    #[test]
    fn first_response_is_any_finite_number() {
        let cases = [
            ("-1000", Some(-1000.0), false),
            ("812.25", Some(812.25), false),
            (r#""812""#, Some(812.0), false),
            (r#""fast""#, None, true),
            (r#""1e999""#, None, true),
            ("false", None, true),
        ];
        for (value, expected, wrong) in cases {
            let text = format!(r#"{{"frt":{value}}}"#);
            assert_eq!(field(&text, |other| other.first_response_ms), (expected, wrong), "{value}");
        }
    }

    #[test]
    fn booleans_may_be_numbers_and_strings() {
        let cases = [
            ("true", true, false),
            ("1", true, false),
            ("1.0", true, false),
            (r#""true""#, true, false),
            (r#""1""#, true, false),
            ("false", false, false),
            ("0", false, false),
            (r#""false""#, false, false),
            ("null", false, false),
            ("2", false, true),
            (r#""yes""#, false, true),
            ("[]", false, true),
        ];
        for (value, expected, wrong) in cases {
            for key in ["claude", "is_task", "violation_fee"] {
                let text = format!(r#"{{"{key}":{value}}}"#);
                let get = |other: &Other| other.anthropic || other.is_task || other.violation_fee;
                assert_eq!(field(&text, get), (expected, wrong), "{text}");
            }
        }
    }

    #[test]
    fn a_status_code_is_one_of_http() {
        let cases = [
            ("100", Some(100), false),
            ("599", Some(599), false),
            (r#""429""#, Some(429), false),
            ("99", None, true),
            ("600", None, true),
            ("65965", None, true),
            ("-1", None, true),
            (r#""teapot""#, None, true),
        ];
        for (value, expected, wrong) in cases {
            let text = format!(r#"{{"status_code":{value}}}"#);
            assert_eq!(field(&text, |other| other.status_code), (expected, wrong), "{value}");
        }
    }

    #[test]
    fn cache_writes_come_from_the_best_field_there_is() {
        let cases = [
            (r#"{"cache_write_tokens":1,"cache_creation_tokens":2,"cache_creation_tokens_5m":4}"#, Some(1)),
            (r#"{"cache_write_tokens":0,"cache_creation_tokens":2}"#, Some(0)),
            (
                r#"{"cache_creation_tokens_1h":8,"cache_creation_tokens":2,"cache_creation_tokens_5m":4}"#,
                Some(2),
            ),
            (r#"{"cache_creation_tokens_5m":4,"cache_creation_tokens_1h":8}"#, Some(12)),
            (r#"{"cache_creation_tokens_1h":8}"#, Some(8)),
            (r#"{"cache_write_tokens":"x","cache_creation_tokens":2}"#, Some(2)),
            (r#"{"cache_creation_ratio":1.25}"#, None),
        ];
        for (text, expected) in cases {
            assert_eq!(field(text, |other| other.cache_write_tokens).0, expected, "{text}");
        }
    }

    #[test]
    fn either_sign_of_anthropic_counting_is_enough() {
        let cases = [
            (r#"{"claude":true}"#, true),
            (r#"{"usage_semantic":"anthropic"}"#, true),
            (r#"{"usage_semantic":"anthropic","claude":false}"#, true),
            (r#"{"usage_semantic":"openai"}"#, false),
        ];
        for (text, expected) in cases {
            assert_eq!(field(text, |other| other.anthropic), (expected, false), "{text}");
        }
    }

    #[test]
    fn channels_are_ids_as_strings_or_numbers() {
        let cases = [
            (r#"["9","12","9"]"#, vec![9, 12, 9], false),
            (r#"[9,"12",3.0,null]"#, vec![9, 12, 3], false),
            (r#"["9","x",{"a":[]},[[]],true,"-4",""]"#, vec![9], true),
            ("[]", vec![], false),
            ("null", vec![], false),
            (r#""9""#, vec![], true),
            (r#"{"0":"9"}"#, vec![], true),
        ];
        for (value, expected, wrong) in cases {
            let text = format!(r#"{{"admin_info":{{"use_channel":{value},"multi_key_index":1}}}}"#);
            assert_eq!(field(&text, |other| other.use_channel.clone()), (expected, wrong), "{value}");
            assert_eq!(field(&text, |other| other.multi_key_index).0, Some(1), "{value}");
        }
        let text =
            format!(r#"{{"admin_info":{{"use_channel":[{}{{}}]}},"frt":1}}"#, r#""5","#.repeat(100_000));
        assert_eq!(field(&text, |other| other.use_channel.clone()), (vec![5; MAX_CHANNELS], false));
        assert_eq!(field(&text, |other| other.first_response_ms).0, Some(1.0));
    }

    #[test]
    fn a_wrong_type_costs_its_own_field_only() {
        let keys = [
            "cache_tokens",
            "cache_write_tokens",
            "cache_creation_tokens",
            "cache_creation_tokens_5m",
            "cache_creation_tokens_1h",
            "input_tokens_total",
            "claude",
            "usage_semantic",
            "frt",
            "stream_status",
            "task_id",
            "is_task",
            "violation_fee",
            "status_code",
            "error_type",
            "channel_name",
            "admin_info",
        ];
        let after = r#""input_tokens_total":5"#;
        for key in keys {
            for wrong in ["[[1],{}]", r#"[{"x":2}]"#] {
                let text = format!(r#"{{"{key}":{wrong},{after}}}"#);
                let expected = Other { input_tokens_total: Some(5), ..Other::default() };
                assert_eq!(parse(text.as_bytes()), (expected, Some(Defect::OtherWrongType)), "{text}");
            }
            let text = format!(r#"{{"{key}":null,{after}}}"#);
            let expected = Other { input_tokens_total: Some(5), ..Other::default() };
            assert_eq!(parse(text.as_bytes()), (expected, None), "{text}");
        }
        for text in [
            r#"{"admin_info":"root"}"#,
            r#"{"admin_info":{"multi_key_index":-1}}"#,
            r#"{"admin_info":7}"#,
            r#"{"channel_name":7}"#,
            r#"{"error_type":{"a":1}}"#,
            r#"{"task_id":12}"#,
            r#"{"usage_semantic":true}"#,
        ] {
            assert_eq!(parse(text.as_bytes()), (Other::default(), Some(Defect::OtherWrongType)), "{text}");
        }
    }

    #[test]
    fn a_stream_status_keeps_what_can_be_read_of_it() {
        let cases = [
            ("{}", OK, false),
            (r#"{"status":"ok","end_reason":"done"}"#, OK, false),
            (r#"{"status":"error"}"#, Some(StreamStatus { client_gone: false, error: true }), false),
            (
                r#"{"status":1,"end_reason":"client_gone","errors":[{}]}"#,
                Some(StreamStatus { client_gone: true, error: false }),
                true,
            ),
            (r#"{"status":null}"#, OK, false),
            (r#""ok""#, None, true),
        ];
        for (value, expected, wrong) in cases {
            let text = format!(r#"{{"stream_status":{value}}}"#);
            assert_eq!(field(&text, |other| other.stream_status), (expected, wrong), "{value}");
        }
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        let text = r#"{"cache_tokens":1,"claude":true,"admin_info":{"use_channel":["1"],"multi_key_index":3},
            "cache_tokens":2,"claude":false,"admin_info":{"use_channel":["2"]}}"#;
        let expected = Other { cache_read_tokens: Some(2), use_channel: vec![2], ..Other::default() };
        assert_eq!(parse(text.as_bytes()), (expected, None));
    }

    #[test]
    fn escapes_in_keys_and_strings_are_undone() {
        let text = r#"{"\u0063ache_tokens":3,"channel_name":"a\"\u6d4b","error_type":"\u006fpenai_error"}"#;
        let expected = Other {
            cache_read_tokens: Some(3),
            channel_name: Some("a\"测".to_owned()),
            error_type: Some(ErrorType::OpenaiError),
            ..Other::default()
        };
        assert_eq!(parse(text.as_bytes()), (expected, None));
    }

    #[test]
    fn nothing_is_known_from_text_that_is_empty_or_no_object() {
        for text in ["", " ", "\n\t \r"] {
            assert_eq!(parse(text.as_bytes()), (Other::default(), Some(Defect::OtherEmpty)), "{text:?}");
        }
        let cases: [&[u8]; 18] = [
            b"[]",
            b"null",
            b"1",
            b"\"{}\"",
            b"x",
            b"{",
            b"{\"cache_tokens\":1",
            b"{\"cache_tokens\":1}}",
            b"{\"cache_tokens\":1,}",
            b"{\"cache_tokens\":01}",
            b"{\"cache_tokens\":NaN}",
            b"{\"frt\":1e999}",
            b"{'cache_tokens':1}",
            b"{1:2}",
            b"\0",
            b"{\"cache_tokens\":1}\0",
            b"{\"channel_name\":\"\xff\xfe\"}",
            b"\xef\xbb\xbf{}",
        ];
        for text in cases {
            let expected = (Other::default(), Some(Defect::OtherNotJson));
            assert_eq!(parse(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn depth_and_length_are_no_danger() {
        const LEVELS: usize = 100_000;
        let deep = "[".repeat(LEVELS) + &"]".repeat(LEVELS);
        let deep_objects = r#"{"a":"#.repeat(LEVELS) + "1" + &"}".repeat(LEVELS);
        let long = format!("\"{}\"", "9".repeat(1 << 20));
        let escaped = format!("\"\\n{}\"", "9".repeat(1 << 20));
        for hostile in [&deep, &deep_objects, &long, &escaped] {
            let (text, known) = (
                format!(r#"{{"unknown":{hostile},"frt":1}}"#),
                format!(
                    r#"{{"cache_tokens":{hostile},"stream_status":{{"status":{hostile}}},
                    "admin_info":{{"use_channel":[{hostile}],"multi_key_index":{hostile}}},"frt":1}}"#
                ),
            );
            assert_eq!(field(&text, |other| other.first_response_ms), (Some(1.0), false));
            assert_eq!(field(&known, |other| other.first_response_ms), (Some(1.0), true));
        }
        for key in ["unknown", "cache_tokens", "admin_info"] {
            let text = format!(r#"{{"{key}":{}"#, "[".repeat(LEVELS));
            assert_eq!(parse(text.as_bytes()), (Other::default(), Some(Defect::OtherNotJson)), "{key}");
        }
        assert_eq!(parse(deep.as_bytes()).1, Some(Defect::OtherNotJson));
    }

    /// `other` as new-api would write it.
    fn to_json(other: &Other) -> Value {
        let mut json = json!({
            "cache_tokens": other.cache_read_tokens,
            "cache_write_tokens": other.cache_write_tokens,
            "input_tokens_total": other.input_tokens_total,
            "claude": other.anthropic,
            "frt": other.first_response_ms,
            "task_id": if other.has_task_id { "task_1" } else { "" },
            "is_task": other.is_task,
            "violation_fee": other.violation_fee,
            "status_code": other.status_code,
            "error_type": other.error_type.map(ErrorType::as_str),
            "channel_name": other.channel_name,
            "admin_info": {
                "use_channel": other.use_channel.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "multi_key_index": other.multi_key_index,
            },
        });
        if let Some(status) = other.stream_status {
            json["stream_status"] = json!({
                "status": if status.error { "error" } else { "ok" },
                "end_reason": if status.client_gone { "client_gone" } else { "done" },
            });
        }
        json
    }

    fn any_error_type() -> impl Strategy<Value = ErrorType> {
        prop::sample::select(vec![
            ErrorType::NewApiError,
            ErrorType::OpenaiError,
            ErrorType::ClaudeError,
            ErrorType::GeminiError,
            ErrorType::UpstreamError,
            ErrorType::MidjourneyError,
            ErrorType::RerankError,
            ErrorType::Other,
        ])
    }

    fn any_other() -> impl Strategy<Value = Other> {
        let tokens = || prop::option::of(0..=MAX_INTEGER);
        let float = prop::option::of(-1e300..1e300);
        let stream = prop::option::of(
            any::<(bool, bool)>().prop_map(|(client_gone, error)| StreamStatus { client_gone, error }),
        );
        let failure =
            (prop::option::of(100_u16..=599), prop::option::of(any_error_type()), prop::option::of(".+"));
        let channels = prop::collection::vec(0..1_000_000_i64, 0..=MAX_CHANNELS);
        let counts = (tokens(), tokens(), tokens(), float);
        let admin = (channels, prop::option::of(0..1000_i64));
        (counts, any::<(bool, bool, bool, bool)>(), stream, failure, admin).prop_map(
            |(counts, flags, stream_status, failure, admin)| Other {
                cache_read_tokens: counts.0,
                cache_write_tokens: counts.1,
                input_tokens_total: counts.2,
                first_response_ms: counts.3,
                anthropic: flags.0,
                has_task_id: flags.1,
                is_task: flags.2,
                violation_fee: flags.3,
                stream_status,
                status_code: failure.0,
                error_type: failure.1,
                channel_name: failure.2,
                use_channel: admin.0,
                multi_key_index: admin.1,
            },
        )
    }

    /// Any JSON, with the names that are known among its keys and values.
    fn any_json() -> impl Strategy<Value = Value> {
        let word = prop::sample::select(vec![
            "cache_tokens",
            "cache_creation_tokens_5m",
            "claude",
            "frt",
            "stream_status",
            "status",
            "end_reason",
            "task_id",
            "status_code",
            "error_type",
            "channel_name",
            "admin_info",
            "use_channel",
            "multi_key_index",
            "x",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            word.clone().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            let entry = (word.clone().prop_map(str::to_owned), inner.clone());
            prop_oneof![
                prop::collection::vec(inner, 0..8).prop_map(Value::from),
                prop::collection::vec(entry, 0..8)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }

        #[test]
        fn any_change_to_a_row_is_survived(at in 0..RC24_CLAUDE.len(), byte: u8) {
            let mut text = RC24_CLAUDE.as_bytes().to_vec();
            text[at] = byte;
            parse(&text);
            parse(&text[..at]);
        }

        #[test]
        fn any_object_is_read(json in any_json()) {
            let defect = parse(json.to_string().as_bytes()).1;
            prop_assert_eq!(defect == Some(Defect::OtherNotJson), !json.is_object());
        }

        #[test]
        fn what_new_api_can_write_is_read_as_it_is(other in any_other()) {
            prop_assert_eq!(parse(to_json(&other).to_string().as_bytes()), (other, None));
        }
    }
}
