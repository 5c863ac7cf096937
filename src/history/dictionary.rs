//! Things numbered in the order of their first appearance, and texts as a block stores them.

use xxhash_rust::xxh3::xxh3_64;

/// Longest text that is kept, in bytes: no name that new-api gives out is longer.
pub(super) const MAX_TEXT: usize = 1024;

/// Finds the number of a thing by its hash. What the things are, whoever asks knows.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Hash in the upper half, number and 1 in the lower; 0 is free. A power of two, at most half of it in use.
    slots: Vec<u64>,
    used: usize,
}

impl Index {
    /// The number of the thing with this hash that `is` what is looked for.
    #[expect(clippy::cast_possible_truncation, reason = "each half is taken by itself")]
    #[inline]
    pub(super) fn find(&self, hash: u32, is: impl Fn(usize) -> bool) -> Option<usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get(at)
            && *slot != 0
        {
            let number = (*slot as u32 - 1) as usize;
            if (*slot >> 32) as u32 == hash && is(number) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Gives the next number to something with this hash that was not found.
    pub(super) fn insert(&mut self, hash: u32) -> usize {
        if self.used * 2 >= self.slots.len() {
            let size = (self.slots.len() * 2).max(64);
            for slot in std::mem::replace(&mut self.slots, vec![0; size]) {
                if slot != 0 {
                    self.put(slot);
                }
            }
        }
        self.used += 1;
        self.put(u64::from(hash) << 32 | self.used as u64);
        self.used - 1
    }

    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = (slot >> 32) as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn clear(&mut self) {
        self.slots.fill(0);
        self.used = 0;
    }
}

/// Things of a fixed size, numbered.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) index: Index,
    pub(super) items: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { index: Index::default(), items: Vec::new() }
    }
}

impl<T: PartialEq> List<T> {
    /// The number of `item`, a new one if it was not known.
    pub(super) fn number(&mut self, hash: u32, item: T) -> usize {
        let known = self.index.find(hash, |at| self.items[at] == item);
        known.unwrap_or_else(|| self.insert(hash, item))
    }
}

impl<T> List<T> {
    /// Gives the next number to a new item.
    pub(super) fn insert(&mut self, hash: u32, item: T) -> usize {
        self.items.push(item);
        self.index.insert(hash)
    }

    /// Forgets all items and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.items.clear();
    }
}

/// Texts and other bytes, numbered. They stand in one piece of memory, so that a new one costs no allocation of its
/// own and a cleared dictionary is as good as a new one.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    index: Index,
    bytes: Vec<u8>,
    /// Where each begins and ends.
    spans: Vec<(u32, u32)>,
}

impl Dictionary {
    /// The number of `key`, a new one if it was not known.
    pub(super) fn number(&mut self, key: &[u8]) -> usize {
        self.number_of(key, hash(key))
    }

    /// The same, if the hash is at hand.
    #[expect(clippy::cast_possible_truncation, reason = "a batch of keys is far smaller")]
    pub(super) fn number_of(&mut self, key: &[u8], hash: u32) -> usize {
        if let Some(number) = self.index.find(hash, |number| self.is(number, key)) {
            return number;
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(key);
        self.spans.push((start, self.bytes.len() as u32));
        self.index.insert(hash)
    }

    /// The number of `key`, if it is known.
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        self.index.find(hash(key), |number| self.is(number, key))
    }

    /// Whether `key` has this number.
    #[inline]
    pub(super) fn is(&self, number: usize, key: &[u8]) -> bool {
        self.get(number) == Some(key)
    }

    /// The key with this number.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<&[u8]> {
        let (start, end) = *self.spans.get(number)?;
        self.bytes.get(start as usize..end as usize)
    }

    /// All keys, which are texts, in the order of their numbers.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let keys = self.spans.iter().map(|(start, end)| &self.bytes[*start as usize..*end as usize]);
        keys.map(|key| str::from_utf8(key).unwrap_or_default())
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Bytes of all keys.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all keys and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.bytes.clear();
        self.spans.clear();
    }

    /// Appends all keys, which are texts of at most [`MAX_TEXT`] bytes, in the form that [`Texts`] reads.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a block has fewer than 65,536 rows, a text fewer bytes"
    )]
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend((self.len() as u16).to_le_bytes());
        for (start, end) in &self.spans {
            out.extend(((end - start) as u16).to_le_bytes());
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// A hash of bytes.
#[expect(clippy::cast_possible_truncation, reason = "32 bits of a hash are plenty")]
#[inline]
pub(super) fn hash(key: &[u8]) -> u32 {
    xxh3_64(key) as u32
}

/// A hash of a number.
#[inline]
pub(super) fn mix(number: u64) -> u32 {
    // The upper bits are the mixed ones.
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// The beginning of `text` that is kept.
pub(super) fn clip(text: &str) -> &str {
    if text.len() <= MAX_TEXT { text } else { &text[..text.floor_char_boundary(MAX_TEXT)] }
}

/// Texts by number, as read from a block.
#[derive(Debug, Default)]
pub(super) struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    /// Reads what [`Dictionary::write`] wrote, and takes it off the front of `bytes`.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<(), &'static str> {
        self.text.clear();
        self.ends.clear();
        let count = usize::from(u16::from_le_bytes(take(bytes)?));
        let (lengths, rest) = bytes.split_at_checked(count * 2).ok_or("a dictionary is cut short")?;
        let mut end = 0;
        for length in lengths.as_chunks().0 {
            end += usize::from(u16::from_le_bytes(*length));
            self.ends.push(end);
        }
        let (text, rest) = rest.split_at_checked(end).ok_or("a dictionary is cut short")?;
        let text = str::from_utf8(text).map_err(|_| "a dictionary is no text")?;
        if self.ends.iter().any(|end| !text.is_char_boundary(*end)) {
            return Err("a dictionary is no text");
        }
        self.text.push_str(text);
        *bytes = rest;
        Ok(())
    }

    /// Number of texts.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text with this number; numbers are checked when a block is read.
    pub(super) fn get(&self, number: usize) -> &str {
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }
}

/// Takes a fixed number of bytes off the front.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (front, rest) = bytes.split_first_chunk::<N>().ok_or("a dictionary is cut short")?;
    *bytes = rest;
    Ok(*front)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(clip("short"), "short");
        let long = "é".repeat(600);
        assert_eq!(clip(&long).len(), 1024);
        assert_eq!(clip(&format!("x{long}")).len(), 1023);
    }

    #[test]
    fn a_text_that_ends_inside_a_character_is_an_error() {
        let sound = [2, 0, 2, 0, 0, 0, 0xc3, 0xa9];
        Texts::default().read(&mut sound.as_slice()).unwrap();
        for lengths in [[1, 1], [1, 0]] {
            let torn = [2, 0, lengths[0], 0, lengths[1], 0, 0xc3, 0xa9];
            Texts::default().read(&mut torn.as_slice()).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn equal_texts_have_one_number_and_come_back(texts in prop::collection::vec("[a-cé]{0,3}", 0..300)) {
            let mut dictionary = Dictionary::default();
            dictionary.number(b"forgotten");
            dictionary.clear();
            let numbers: Vec<usize> = texts.iter().map(|text| dictionary.number(text.as_bytes())).collect();
            let mut bytes = Vec::new();
            dictionary.write(&mut bytes);
            bytes.push(99);
            let (mut read, mut rest) = (Texts::default(), bytes.as_slice());
            read.read(&mut rest).unwrap();
            prop_assert_eq!(rest, [99].as_slice());
            for (text, number) in texts.iter().zip(&numbers) {
                prop_assert_eq!(read.get(*number), text);
            }
            let mut distinct = texts.clone();
            distinct.sort();
            distinct.dedup();
            prop_assert_eq!(read.len(), distinct.len());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Texts::default().read(&mut bytes.as_slice());
        }
    }
}
