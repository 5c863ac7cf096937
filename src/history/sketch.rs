//! Which values a block may have, in so few bytes that a question about a rare value reads little else: a Bloom
//! filter. It may say that something is there that is not, and never the opposite.
//!
//! Beside each value it knows the outcomes that the value's rows had, plain success left out: the failed attempts of
//! one channel are asked for more often than anything, and every block has failed attempts and that channel.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::fact::RowOutcome;
use crate::record::ChannelId;

/// Bits of a key, and how many of them are set: one of fifty absent keys seems to be there.
const BITS_PER_KEY: usize = 10;
const SET_PER_KEY: u32 = 3;

/// Most bytes: with the head it just fits into a page of SQLite's. A block with so many values that it needs more has
/// a sketch that says less.
const MAX_BYTES: usize = 4000;

/// Multiplies two large odd numbers into a hash to spread its bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a value of one kind, perhaps with an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn channel(id: ChannelId) -> Self {
        Self(xxh3_64_with_seed(&id.to_le_bytes(), 0))
    }

    pub(super) fn model(name: &str) -> Self {
        Self::text(name, 1)
    }

    pub(super) fn username(name: &str) -> Self {
        Self::text(name, 2)
    }

    pub(super) fn group(name: &str) -> Self {
        Self::text(name, 3)
    }

    pub(super) fn token_name(name: &str) -> Self {
        Self::text(name, 4)
    }

    fn text(text: &str, kind: u64) -> Self {
        Self(xxh3_64_with_seed(text.as_bytes(), kind))
    }

    /// Both in the same row.
    pub(super) fn and(self, other: Self) -> Self {
        Self((self.0 ^ other.0.rotate_left(21)).wrapping_mul(SPREAD))
    }

    /// In a row of this outcome.
    pub(super) fn with(self, outcome: RowOutcome) -> Self {
        Self((self.0 ^ (outcome as u64 + 1)).wrapping_mul(SPREAD))
    }
}

/// The bytes of a sketch of these keys, which may repeat.
pub(super) fn sketch(keys: &[Key]) -> Vec<u8> {
    let size = (keys.len() * BITS_PER_KEY).div_ceil(8).clamp(1, MAX_BYTES);
    #[expect(clippy::cast_possible_truncation, reason = "clamped")]
    let mut bytes = (size as u16).to_le_bytes().to_vec();
    let head = bytes.len();
    bytes.resize(head + size, 0);
    for key in keys {
        for bit in bits(*key, size) {
            bytes[head + bit / 8] |= 1 << (bit % 8);
        }
    }
    bytes
}

/// The part of a sketch that holds its bits, or what is wrong with it.
pub(super) fn read(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (size, bits) = bytes.split_first_chunk().ok_or("a sketch is cut short")?;
    let size = usize::from(u16::from_le_bytes(*size));
    if size == 0 || size != bits.len() { Err("a sketch has the wrong length") } else { Ok(bits) }
}

/// Whether a block with these bits may have `key`.
pub(super) fn may_have(sketch: &[u8], key: Key) -> bool {
    bits(key, sketch.len()).all(|bit| sketch[bit / 8] & 1 << (bit % 8) != 0)
}

/// The bits of a key in a sketch of so many bytes.
fn bits(Key(hash): Key, size: usize) -> impl Iterator<Item = usize> {
    let (low, high) = (hash & 0xffff_ffff, hash >> 32 | 1);
    let bits = size as u64 * 8;
    (0..u64::from(SET_PER_KEY)).map(move |turn| {
        let place = low.wrapping_add(turn.wrapping_mul(high)) & 0xffff_ffff;
        ((place * bits) >> 32) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_of_what_is_not_nearly_nothing() {
        for count in [0, 1, 30, 3000] {
            let keys: Vec<Key> = (0..count).map(Key::channel).collect();
            let bytes = sketch(&keys);
            let bits = read(&bytes).unwrap();
            assert!(keys.iter().all(|key| may_have(bits, *key)), "{count}");
            let wrong = (count..count + 10_000).filter(|id| may_have(bits, Key::channel(*id))).count();
            assert!(wrong < 300, "{wrong} of 10,000 absent ones seem to be among {count}");
        }
    }

    #[test]
    fn a_value_of_one_kind_is_no_value_of_another_nor_one_with_an_outcome() {
        let name = "gpt-4o";
        let mut keys = vec![Key::model(name), Key::username(name), Key::group(name), Key::token_name(name)];
        keys.push(Key::channel(1).and(Key::model(name)));
        for outcome in RowOutcome::ALL {
            let with: Vec<Key> = keys[..5].iter().map(|key| key.with(outcome)).collect();
            keys.extend(with);
        }
        for key in &keys {
            assert_eq!(keys.iter().filter(|other| *other == key).count(), 1);
        }
    }

    #[test]
    fn a_block_of_very_many_values_has_a_sketch_of_one_page() {
        let keys: Vec<Key> = (0..30_000).map(Key::channel).collect();
        assert_eq!(sketch(&keys).len(), 4002);
    }
}
