//! Reads the `other` column: a JSON object as text, whose shape differs between versions of new-api.
//!
//! It must never fail a row: what cannot be read is absent, and the [`Defect`] says so. It runs on every row of
//! the log, so it makes one pass without an intermediate tree, and nothing nests on the call stack however deep
//! the text does. It knows no column but this one and decides nothing about what a row counts as.
//!
//! [`quick`] takes the rows that look as new-api writes them, and what it does not expect goes the general way.
//!
//! The small functions that the JSON reader calls back are marked `#[inline]`: without it they end up in other
//! code units than their callers, which costs about a sixth of the time per row.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::record::{Defect, ErrorType, Other, StreamStatus, Tried};

mod quick;

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
    match quick::parse(text) {
        Some(fields) => fields.finish(),
        None => parse_any(text),
    }
}

/// The general way.
fn parse_any(text: &[u8]) -> (Other, Option<Defect>) {
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
    ids: Tried,
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
    use_channel: Tried,
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
mod tests;
