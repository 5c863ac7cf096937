//! Packing rows into blocks, and small blocks into larger ones.

use super::block::{
    Block, Column, Columns, Header, MAX_AMOUNT, MAX_ROWS, MAX_TEXT_BYTES, NUMBER_COLUMNS, TIER_ROWS,
};
use super::decode::Decoded;
use super::dictionary::{Dictionary, List, MAX_TEXT, clip, hash, mix};
use super::fact::{Fact, RowOutcome, error_code};
use super::numbers::{encode, ordered};
use super::{Damaged, Source};
use crate::record::ChannelId;

/// new-api's own default: stands in where an installation says a dollar is nothing.
const DEFAULT_QUOTA_PER_UNIT: f64 = 500_000.0;

/// Packs rows into blocks. Keeps its memory between batches.
#[derive(Debug)]
pub struct BlockBuilder {
    generation: i64,
    quota_per_unit: f64,
    done: Vec<Block>,
    header: Header,
    numbers: [Vec<u64>; NUMBER_COLUMNS],
    tags: List<[u8; 6]>,
    /// Channel, and the number of the model.
    routes: List<(ChannelId, u16)>,
    /// Numbers of user, group and token.
    callers: List<[u16; 3]>,
    models: Dictionary,
    /// Of users, groups and tokens.
    names: [Dictionary; 3],
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self::new(0)
    }
}

impl BlockBuilder {
    /// Packs rows whose ids belong to `generation`.
    pub fn new(generation: i64) -> Self {
        Self {
            generation,
            quota_per_unit: DEFAULT_QUOTA_PER_UNIT,
            done: Vec::new(),
            header: empty_header(),
            numbers: Default::default(),
            tags: List::default(),
            routes: List::default(),
            callers: List::default(),
            models: Dictionary::default(),
            names: Default::default(),
        }
    }

    /// The generation of the rows that follow. A new one, higher than any before, begins when new-api's table was
    /// wiped and its ids begin anew.
    pub fn set_generation(&mut self, generation: i64) {
        if generation != self.generation {
            self.close();
            self.generation = generation;
        }
    }

    /// Adds a row, read when a US dollar was `quota_per_unit`.
    pub fn push(&mut self, fact: &Fact<'_>, quota_per_unit: f64) {
        let quota_per_unit = if quota_per_unit.is_finite() && quota_per_unit > 0.0 {
            quota_per_unit
        } else {
            DEFAULT_QUOTA_PER_UNIT
        };
        let rows = self.numbers[0].len();
        if rows >= MAX_ROWS
            || quota_per_unit != self.quota_per_unit
            || self.text_bytes() + 4 * MAX_TEXT > MAX_TEXT_BYTES
        {
            self.close();
            self.quota_per_unit = quota_per_unit;
        }
        let (tag, route, caller) = (self.tag(fact), self.route(fact), self.caller(fact));
        let row = [
            ordered(fact.id),
            ordered(fact.created_at),
            u64::from(fact.duration_ms),
            fact.first_token_ms.map_or(0, |ms| u64::from(ms) + 1),
            fact.input_tokens.min(MAX_AMOUNT),
            fact.output_tokens.min(MAX_AMOUNT),
            fact.cache_read_tokens.min(MAX_AMOUNT),
            fact.cache_write_tokens.min(MAX_AMOUNT),
            fact.consumed.min(MAX_AMOUNT),
            fact.refunded.min(MAX_AMOUNT),
            tag as u64,
            route as u64,
            caller as u64,
        ];
        for (column, number) in self.numbers.iter_mut().zip(row) {
            column.push(number);
        }
        let header = &mut self.header;
        header.errors += u32::from(fact.outcome == RowOutcome::Error);
        header.min_id = header.min_id.min(fact.id);
        header.max_id = header.max_id.max(fact.id);
        header.oldest = header.oldest.min(fact.created_at);
        header.newest = header.newest.max(fact.created_at);
        if fact.outcome.answered() {
            header.longest_ms = header.longest_ms.max(Some(fact.duration_ms));
        }
    }

    fn tag(&mut self, fact: &Fact<'_>) -> usize {
        let [low, high] = fact.status_code.to_le_bytes();
        let flags = u8::from(fact.stream) | u8::from(fact.retried) << 1;
        let tag = [fact.kind, fact.outcome as u8, flags, error_code(fact.error_type), low, high];
        let hash = mix(tag.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
        let tags = &mut self.tags;
        tags.index.find(hash, |at| tags.items[at] == tag).unwrap_or_else(|| tags.insert(hash, tag))
    }

    /// One search for channel and model together: the usual route was taken before, and then its model needs no
    /// search of its own.
    fn route(&mut self, fact: &Fact<'_>) -> usize {
        let model = clip(fact.model).as_bytes();
        let model_hash = hash(model);
        let hash = mix(fact.channel_id.cast_unsigned().rotate_left(32) ^ u64::from(model_hash));
        let (routes, models) = (&mut self.routes, &mut self.models);
        let known = routes.index.find(hash, |at| {
            let (channel_id, number) = routes.items[at];
            channel_id == fact.channel_id && models.is(number.into(), model)
        });
        known.unwrap_or_else(|| {
            routes.insert(hash, (fact.channel_id, number(models.number_of(model, model_hash))))
        })
    }

    /// The same for user, group and token.
    fn caller(&mut self, fact: &Fact<'_>) -> usize {
        let texts = [fact.username, fact.group, fact.token_name].map(|text| clip(text).as_bytes());
        let hashes = texts.map(hash);
        let hash = mix(hashes.iter().fold(0, |bits: u64, hash| bits.rotate_left(21) ^ u64::from(*hash)));
        let (callers, names) = (&mut self.callers, &mut self.names);
        let known = callers.index.find(hash, |at| {
            let numbers = callers.items[at].iter().zip(texts);
            names.iter().zip(numbers).all(|(names, (number, text))| names.is((*number).into(), text))
        });
        known.unwrap_or_else(|| {
            let numbers: [usize; 3] = std::array::from_fn(|at| names[at].number_of(texts[at], hashes[at]));
            callers.insert(hash, numbers.map(number))
        })
    }

    fn text_bytes(&self) -> usize {
        self.models.size() + self.names.iter().map(Dictionary::size).sum::<usize>()
    }

    /// Ends the block, if it has rows.
    #[expect(clippy::cast_possible_truncation, reason = "a block has at most MAX_ROWS rows")]
    fn close(&mut self) {
        let rows = self.numbers[0].len() as u32;
        if rows == 0 {
            return;
        }
        let full = self.text_bytes() + 4 * MAX_TEXT > MAX_TEXT_BYTES;
        let tier = TIER_ROWS.iter().position(|limit| rows < *limit && !full).unwrap_or(TIER_ROWS.len());
        let header = Header {
            rows,
            quota_per_unit: self.quota_per_unit,
            generation: self.generation,
            tier: tier as u8,
            ..std::mem::replace(&mut self.header, empty_header())
        };
        let mut columns: [Vec<u8>; Column::ALL.len()] = Default::default();
        for (bytes, numbers) in columns.iter_mut().zip(&mut self.numbers) {
            *bytes = encode(numbers);
            numbers.clear();
        }
        columns[Column::Tags.number()] = list(&self.tags, |tag, out| out.extend(tag));
        let mut routes = list(&self.routes, |(channel_id, model), out| {
            out.extend(channel_id.to_le_bytes());
            out.extend(model.to_le_bytes());
        });
        self.models.write(&mut routes);
        columns[Column::Routes.number()] = routes;
        let mut callers =
            list(&self.callers, |numbers, out| out.extend(numbers.iter().flat_map(|one| one.to_le_bytes())));
        for names in &self.names {
            names.write(&mut callers);
        }
        columns[Column::Callers.number()] = callers;
        self.tags.clear();
        self.routes.clear();
        self.callers.clear();
        self.models.clear();
        for names in &mut self.names {
            names.clear();
        }
        self.done.push(Block { header, columns });
    }

    /// All blocks since the last call; the last one has as many rows as there were.
    pub fn take(&mut self) -> Vec<Block> {
        self.close();
        std::mem::take(&mut self.done)
    }
}

fn empty_header() -> Header {
    Header {
        block: 0,
        rows: 0,
        errors: 0,
        min_id: i64::MAX,
        max_id: i64::MIN,
        oldest: i64::MAX,
        newest: i64::MIN,
        longest_ms: None,
        quota_per_unit: DEFAULT_QUOTA_PER_UNIT,
        generation: 0,
        tier: 0,
    }
}

/// How many items there are, and the items.
fn list<T>(list: &List<T>, write: impl Fn(&T, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = number(list.items.len()).to_le_bytes().to_vec();
    for item in &list.items {
        write(item, &mut bytes);
    }
    bytes
}

/// A number as it is stored: a block has at most [`MAX_ROWS`] of anything.
#[expect(clippy::cast_possible_truncation, reason = "fewer than 65,536")]
fn number(number: usize) -> u16 {
    number as u16
}

/// Packs the rows of blocks of one generation and one `quota_per_unit` together, in the order given.
pub fn merge<S: Source>(source: &mut S, headers: &[Header]) -> Result<Vec<Block>, S::Error> {
    let mut builder = BlockBuilder::new(headers.first().map_or(0, |header| header.generation));
    let mut decoded = Decoded::default();
    for header in headers {
        decoded.open(header)?;
        decoded.load(source, Columns::ALL)?;
        for row in 0..decoded.rows() {
            builder.push(&decoded.fact(row), header.quota_per_unit);
        }
    }
    Ok(builder.take())
}

/// The blocks that are to be merged next, if any are: 16 of one tier, generation and `quota_per_unit`. So there are
/// never more than 15 of a kind, and a row is packed anew three times at most.
pub fn mergeable(open: &[Header]) -> Option<Vec<Header>> {
    const TOGETHER: usize = 16;
    open.iter().find_map(|header| {
        let alike = |other: &&Header| {
            (other.tier, other.generation, other.quota_per_unit.to_bits())
                == (header.tier, header.generation, header.quota_per_unit.to_bits())
        };
        let blocks: Vec<Header> = open.iter().filter(alike).take(TOGETHER).copied().collect();
        (blocks.len() == TOGETHER).then_some(blocks)
    })
}

/// Says that something is wrong with a block.
pub(super) fn damaged(block: i64, what: &'static str) -> Damaged {
    Damaged { block, what }
}
