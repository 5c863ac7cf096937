//! Which values a block may have, in so few bytes that a question about a rare value reads little else: a Bloom
//! filter. It may say that something is there that is not, and never the opposite.
//!
//! Beside each value it knows the outcomes that the value's rows had, plain success left out: the failed attempts of
//! one channel are asked for more often than anything, and every block has failed attempts and that channel.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::fact::RowOutcome;
use crate::record::ChannelId;

/// Bits of a key, and how many of them are set: one of a hundred absent keys seems to be there.
const BITS_PER_KEY: usize = 10;
const SET_PER_KEY: u32 = 5;

/// Most bytes: with the head it just fits into a page of SQLite's. A block with so many values that it needs more has
/// a sketch that says less.
const MAX_BYTES: usize = 4000;

/// Added to the size in the head of a sketch that has a salt of its own; earlier ones have none, and set fewer bits.
/// Blocks have mostly the same values: without a salt a key that seems to be in one block seems to be in all of them.
const SALTED: u16 = 1 << 15;
const SET_BEFORE: u32 = 3;

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

/// The salt of the block that begins with this id.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any of its bits will do")]
pub(super) fn salt(min_id: i64) -> u16 {
    (min_id ^ min_id >> 16) as u16
}

/// The bytes of a sketch of these keys, which may repeat. `salt` differs from block to block.
pub(super) fn sketch(keys: &[Key], salt: u16) -> Vec<u8> {
    let size = (keys.len() * BITS_PER_KEY).div_ceil(8).clamp(1, MAX_BYTES);
    #[expect(clippy::cast_possible_truncation, reason = "clamped")]
    let head = [size as u16 | SALTED, salt].map(u16::to_le_bytes);
    let mut bytes = head.concat();
    let head = bytes.len();
    bytes.resize(head + size, 0);
    let form = Form { salt: spread(salt), set: SET_PER_KEY };
    for key in keys {
        for bit in form.bits(*key, size) {
            bytes[head + bit / 8] |= 1 << (bit % 8);
        }
    }
    bytes
}

/// A sketch as it is read.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    form: Form,
    bytes: Vec<u8>,
}

/// How keys become bits.
#[derive(Debug, Clone, Copy, Default)]
struct Form {
    salt: u64,
    set: u32,
}

impl Sketch {
    /// Takes the place of the one before, or says what is wrong with `bytes`.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        let (size, rest) = number(bytes)?;
        let (form, bits) = if size & SALTED == 0 {
            (Form { salt: 0, set: SET_BEFORE }, rest)
        } else {
            let (salt, bits) = number(rest)?;
            (Form { salt: spread(salt), set: SET_PER_KEY }, bits)
        };
        let size = usize::from(size & !SALTED);
        if size == 0 || size != bits.len() {
            return Err("a sketch has the wrong length");
        }
        self.form = form;
        self.bytes.clear();
        self.bytes.extend_from_slice(bits);
        Ok(())
    }

    /// Whether its block may have `key`.
    pub(super) fn may_have(&self, key: Key) -> bool {
        self.form.bits(key, self.bytes.len()).all(|bit| self.bytes[bit / 8] & 1 << (bit % 8) != 0)
    }
}

impl Form {
    /// The bits of a key in a sketch of so many bytes.
    fn bits(self, Key(hash): Key, size: usize) -> impl Iterator<Item = usize> {
        let hash =
            if self.salt == 0 { hash } else { (hash ^ self.salt).wrapping_mul(SPREAD).rotate_left(32) };
        let (low, high) = (hash & 0xffff_ffff, hash >> 32 | 1);
        let bits = size as u64 * 8;
        (0..u64::from(self.set)).map(move |turn| {
            let place = low.wrapping_add(turn.wrapping_mul(high)) & 0xffff_ffff;
            ((place * bits) >> 32) as usize
        })
    }
}

/// A salt as wide as a hash, and never 0.
fn spread(salt: u16) -> u64 {
    (u64::from(salt) + 1).wrapping_mul(SPREAD)
}

fn number(bytes: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    let (number, rest) = bytes.split_first_chunk().ok_or("a sketch is cut short")?;
    Ok((u16::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(keys: &[Key], salt: u16) -> Sketch {
        let mut read = Sketch::default();
        read.read(&sketch(keys, salt)).unwrap();
        read
    }

    /// Every block has the same values, and an absent one seems to be in few of them, whichever it is.
    #[test]
    fn what_seems_to_be_in_one_block_does_not_seem_to_be_in_all() {
        let keys: Vec<Key> = (0..3000).map(Key::channel).collect();
        let blocks: Vec<Sketch> = (0..200).map(|block| of(&keys, salt(1 + 4000 * block))).collect();
        let most = (3000..5000)
            .map(|id| blocks.iter().filter(|block| block.may_have(Key::channel(id))).count())
            .max();
        assert!(most < Some(16), "{most:?} of 200");
    }

    #[test]
    fn a_sketch_of_before_is_read_as_it_was_written() {
        let mut bytes = vec![4, 0, 0, 0, 0, 0];
        for bit in (1..=3).flat_map(|id| Form { salt: 0, set: 3 }.bits(Key::channel(id), 4)) {
            bytes[2 + bit / 8] |= 1 << (bit % 8);
        }
        let mut old = Sketch::default();
        old.read(&bytes).unwrap();
        assert!((1..=3).all(|id| old.may_have(Key::channel(id))));
        let wrong = (4..1000).filter(|id| old.may_have(Key::channel(*id))).count();
        assert!(wrong < 60, "{wrong} of 996");
        for cut in [&bytes[..5], &[], &[4], &[1, 0x80, 1], &[0, 0x80, 1, 0]] {
            assert!(old.read(cut).is_err(), "{cut:?}");
        }
    }

    #[test]
    fn what_is_there_is_found_and_of_what_is_not_nearly_nothing() {
        for count in [0, 1, 30, 3000] {
            let keys: Vec<Key> = (0..count).map(Key::channel).collect();
            let sketch = of(&keys, 7);
            assert!(keys.iter().all(|key| sketch.may_have(*key)), "{count}");
            let wrong = (count..count + 10_000).filter(|id| sketch.may_have(Key::channel(*id))).count();
            assert!(wrong < 150, "{wrong} of 10,000 absent ones seem to be among {count}");
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
        assert_eq!(sketch(&keys, 1).len(), 4004);
    }
}
