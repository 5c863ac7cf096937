//! Where a list goes on, as an opaque text.
//!
//! A cursor belongs to one route and its filters. It also remembers where a window that ends "now" began, because
//! otherwise the window would move on while somebody pages through it, and its oldest rows would be skipped.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::problem::Problem;
use super::Filters;

/// The layout below. Another layout gets another number, so that old cursors are refused and not misread.
const VERSION: u8 = 1;

/// Numbers that a list may be sorted by.
const KEYS: usize = 3;

/// Version, start of the window, keys, binding, checksum.
const LENGTH: usize = 1 + 8 + 8 * KEYS + 8 + 8;

/// The sort keys of the last row shown, the most significant first; those that a list does not need are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position(pub [i64; KEYS]);

/// A position, and the start of the window it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Start of the window on the first page.
    pub from: Timestamp,
    /// The last row shown.
    pub position: Position,
}

/// What ties a cursor to its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding(u64);

impl Binding {
    /// That of a route with these filters.
    pub fn new(route: &str, filters: &Filters) -> Self {
        // Lists and numbers can always be written.
        let filters = serde_json::to_vec(filters).unwrap_or_default();
        Self(xxh3_64_with_seed(&filters, xxh3_64(route.as_bytes())))
    }
}

impl Cursor {
    /// As text for a URL.
    pub fn encode(self, binding: Binding) -> String {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend(self.from.as_millisecond().to_le_bytes());
        bytes.extend(self.position.0.map(i64::to_le_bytes).as_flattened());
        bytes.extend(binding.0.to_le_bytes());
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Cursor::encode`] wrote for the same route and filters.
    ///
    /// # Errors
    /// If it is no cursor, or one of another list.
    pub fn decode(text: &str, binding: Binding) -> Result<Self, Problem> {
        Self::decode_if_bound(text, binding)?
            .ok_or_else(|| wrong("this cursor belongs to another route or to other filters"))
    }

    /// The same; None for a cursor of another list.
    ///
    /// # Errors
    /// If it is no cursor.
    pub fn decode_if_bound(text: &str, binding: Binding) -> Result<Option<Self>, Problem> {
        let (cursor, bound_to) = Self::read(text).ok_or_else(|| wrong("this is no cursor of this API"))?;
        Ok(Some(cursor).filter(|_| bound_to == binding))
    }

    fn read(text: &str) -> Option<(Self, Binding)> {
        let bytes: [u8; LENGTH] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (content, checksum) = bytes.split_last_chunk::<8>()?;
        if bytes[0] != VERSION || xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return None;
        }
        let (numbers, _) = content[1..].as_chunks::<8>();
        let [from, keys @ .., binding] = numbers else { return None };
        let mut position = [0; KEYS];
        for (key, bytes) in position.iter_mut().zip(keys) {
            *key = i64::from_le_bytes(*bytes);
        }
        let from = Timestamp::from_millisecond(i64::from_le_bytes(*from)).ok()?;
        Some((Self { from, position: Position(position) }, Binding(u64::from_le_bytes(*binding))))
    }
}

fn wrong(detail: &'static str) -> Problem {
    let accepted = "a next_cursor of the same route with the same filters, or no cursor for the first page";
    Problem::parameter("cursor", detail, accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        let from = Timestamp::from_millisecond(1_769_846_400_123).unwrap();
        Cursor { from, position: Position([1_769_850_000, i64::MAX, -1]) }
    }

    fn binding(route: &str, model: &str) -> Binding {
        Binding::new(route, &Filters { models: vec![model.to_owned()], ..Filters::default() })
    }

    fn said(text: &str, binding: Binding) -> String {
        serde_json::to_string(&Cursor::decode(text, binding).unwrap_err().body()).unwrap()
    }

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let text = cursor().encode(binding("logs", "a"));
        assert_eq!(Cursor::decode(&text, binding("logs", "a")), Ok(cursor()));
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
    }

    #[test]
    fn a_cursor_of_another_list_is_refused_as_such() {
        let text = cursor().encode(binding("logs", "a"));
        for other in
            [binding("slow-requests", "a"), binding("logs", "b"), Binding::new("logs", &Filters::default())]
        {
            let said = said(&text, other);
            assert!(said.contains("another route") && said.contains("\"parameter\":\"cursor\""), "{said}");
        }
    }

    #[test]
    fn any_changed_letter_makes_it_no_cursor() {
        let (text, home) = (cursor().encode(binding("logs", "a")), binding("logs", "a"));
        for index in 0..text.len() {
            let mut letters = text.clone().into_bytes();
            letters[index] = if letters[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(letters).unwrap();
            assert!(said(&changed, home).contains("no cursor"), "{changed}");
        }
        for foreign in ["MTIzNA", "143", "!", "é", &text[1..], &format!("{text}A"), &format!("{text}==")] {
            assert!(said(foreign, home).contains("no cursor"), "{foreign}");
        }
    }
}
