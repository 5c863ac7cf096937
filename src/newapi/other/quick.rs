//! The short way through `other` for rows as new-api writes them: compact JSON, plain strings, whole numbers.
//!
//! Counting a history is mostly reading this column, and a general parser takes three times as long. What this one
//! does not expect it leaves to the general one by returning `None`, so it decides nothing by itself: that both
//! agree is tested with every shape known and with random ones.

use super::{Fields, MAX_CHANNELS};
use crate::record::{ErrorType, StreamStatus, Tried};

/// Deepest nesting that is followed here.
const MAX_DEPTH: u32 = 16;

/// Digits that a number may have here; 10^15 is below 2^53.
const MAX_DIGITS: usize = 15;

/// Reads the whole column; `None` if any of it is unusual.
pub(super) fn parse(text: &[u8]) -> Option<Fields> {
    let mut scan = Scan { text, at: 0 };
    let mut fields = Fields::default();
    scan.object(|scan, key| scan.field(key, &mut fields))?;
    (scan.at == text.len()).then_some(fields)
}

/// Where the first quote, backslash or control character stands: looked for in eight bytes at a time, because most of
/// the column is strings.
#[inline]
fn end_of_string(text: &[u8]) -> Option<usize> {
    /// The same byte eight times.
    const fn all(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    /// The highest bit of each byte below `limit`. What borrows into bytes above one that is below does no harm: the lowest
    /// is asked for.
    const fn below(word: u64, limit: u8) -> u64 {
        word.wrapping_sub(all(limit)) & !word & all(0x80)
    }
    let (words, rest) = text.as_chunks::<8>();
    for (at, bytes) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        let found = below(word, 0x20) | below(word ^ all(b'"'), 1) | below(word ^ all(b'\\'), 1);
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20))?;
    Some(words.len() * 8 + at)
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    /// An object: `entry` reads the value of each key.
    #[inline]
    fn object(&mut self, mut entry: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.expect(b'}').is_some() {
            return Some(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            entry(self, key)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.expect(b'}')
    }

    /// An array: `element` reads each value.
    #[inline]
    fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        if self.expect(b']').is_some() {
            return Some(());
        }
        loop {
            element(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                b']' => break,
                _ => return None,
            }
        }
        self.expect(b']')
    }

    /// A string without escapes. It need not be UTF-8, as nothing is compared with it that is not ASCII.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = &self.text[self.at..];
        let length = end_of_string(rest)?;
        (rest[length] == b'"').then(|| {
            self.at += length + 1;
            &rest[..length]
        })
    }

    /// The same as text, for what is kept.
    fn ascii(&mut self) -> Option<&'a str> {
        self.string().filter(|text| text.is_ascii()).and_then(|text| str::from_utf8(text).ok())
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let rest = &self.text[self.at..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        count
    }

    /// A whole number, not negative, of moderate length.
    #[inline]
    fn whole(&mut self) -> Option<u64> {
        let start = self.at;
        let count = self.digits();
        let digits = &self.text[start..self.at];
        let plain = (1..=MAX_DIGITS).contains(&count) && (count == 1 || digits[0] != b'0');
        if !plain || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    #[inline]
    fn flag(&mut self) -> Option<bool> {
        match self.peek()? {
            b't' => self.word(b"true").map(|()| true),
            b'f' => self.word(b"false").map(|()| false),
            _ => None,
        }
    }

    /// A number of the JSON grammar, whatever it is.
    fn skip_number(&mut self) -> Option<()> {
        let _ = self.expect(b'-');
        let (first, count) = (self.peek()?, self.digits());
        if count == 0 || (first == b'0' && count > 1) {
            return None;
        }
        if self.expect(b'.').is_some() && self.digits() == 0 {
            return None;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            // Its size decides whether it is a number at all.
            return None;
        }
        Some(())
    }

    fn skip(&mut self, depth: u32) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            b'{' if depth > 0 => self.object(|scan, _| scan.skip(depth - 1)),
            b'[' if depth > 0 => self.array(|scan| scan.skip(depth - 1)),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.skip_number(),
            _ => None,
        }
    }

    #[inline]
    fn field(&mut self, key: &[u8], fields: &mut Fields) -> Option<()> {
        let other = &mut fields.other;
        match key {
            b"cache_tokens" => other.cache_read_tokens = Some(self.whole()?),
            b"frt" => {
                let negative = self.expect(b'-').is_some();
                let number = self.whole()? as f64;
                other.first_response_ms = Some(if negative { -number } else { number });
            }
            b"admin_info" => return self.admin_info(fields),
            b"stream_status" => other.stream_status = Some(self.stream_status()?),
            b"cache_write_tokens" => fields.cache_write_total = Some(self.whole()?),
            b"cache_creation_tokens" => fields.cache_creation = Some(self.whole()?),
            b"cache_creation_tokens_5m" => fields.cache_creation_5m = Some(self.whole()?),
            b"cache_creation_tokens_1h" => fields.cache_creation_1h = Some(self.whole()?),
            b"input_tokens_total" => other.input_tokens_total = Some(self.whole()?),
            b"claude" => fields.claude = self.flag()?,
            b"usage_semantic" => fields.anthropic_usage = self.ascii()? == "anthropic",
            b"task_id" => other.has_task_id = !self.ascii()?.is_empty(),
            b"is_task" => other.is_task = self.flag()?,
            b"violation_fee" => other.violation_fee = self.flag()?,
            b"status_code" => {
                let status = self.whole().filter(|status| (100..=599).contains(status))?;
                other.status_code = u16::try_from(status).ok();
            }
            b"error_type" => other.error_type = Some(ErrorType::parse(self.ascii()?)),
            b"channel_name" => {
                let name = self.ascii()?;
                other.channel_name = (!name.is_empty()).then(|| name.to_owned());
            }
            _ => return self.skip(MAX_DEPTH),
        }
        Some(())
    }

    fn admin_info(&mut self, fields: &mut Fields) -> Option<()> {
        let (mut channels, mut index) = (Tried::new(), None);
        self.object(|scan, key| {
            match key {
                b"use_channel" => {
                    channels.clear();
                    scan.array(|scan| scan.channel(&mut channels))?;
                }
                b"multi_key_index" => index = Some(scan.whole()?.try_into().ok()?),
                _ => return scan.skip(MAX_DEPTH),
            }
            Some(())
        })?;
        fields.other.use_channel = channels;
        fields.other.multi_key_index = index;
        Some(())
    }

    /// An id as a string.
    fn channel(&mut self, channels: &mut Tried) -> Option<()> {
        self.expect(b'"')?;
        let id = self.whole()?;
        self.expect(b'"')?;
        if channels.len() == MAX_CHANNELS {
            return None;
        }
        channels.push(id.try_into().ok()?);
        Some(())
    }

    fn stream_status(&mut self) -> Option<StreamStatus> {
        let mut status = StreamStatus::default();
        self.object(|scan, key| {
            match key {
                b"status" => status.error = scan.ascii()? == "error",
                b"end_reason" => status.client_gone = scan.ascii()? == "client_gone",
                _ => return scan.skip(MAX_DEPTH),
            }
            Some(())
        })?;
        Some(status)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::end_of_string;

    proptest! {
        #[test]
        fn a_string_ends_at_its_first_special_byte(text in prop::collection::vec(any::<u8>(), 0..40), plain in 0..40_usize) {
            // Long runs of plain bytes first, some of which differ from a special one by a bit.
            let plain = [0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xdc, 0xff].into_iter().cycle().take(plain);
            let text: Vec<u8> = plain.chain(text).collect();
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20));
            prop_assert_eq!(end_of_string(&text), expected);
        }
    }
}
