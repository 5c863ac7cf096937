//! Packing rows into blocks.

use super::block::{
    Block, Column, Header, MAX_ROWS, MAX_TEXT_BYTES, NUMBER_COLUMNS, Outcomes, TIER_ROWS, amount,
};
use super::decode::place;
use super::dictionary::{Dictionary, List, MAX_TEXT, clip, hash, mix};
use super::fact::{Fact, RowOutcome, error_code};
use super::numbers::{encode, ordered};
use super::sketch::{Key, salt, sketch};
use crate::record::ChannelId;

/// new-api's own default: stands in where an installation says a dollar is nothing.
const DEFAULT_QUOTA_PER_UNIT: f64 = 500_000.0;

/// Packs rows into blocks. Keeps its memory between batches.
#[derive(Debug)]
pub struct BlockBuilder {
    quota_per_unit: f64,
    done: Vec<Block>,
    header: Header,
    numbers: [Vec<u64>; NUMBER_COLUMNS],
    tags: List<[u8; 6]>,
    /// Numbers of channel and model.
    routes: List<[u16; 2]>,
    /// Numbers of user, group and token.
    callers: List<[u16; 3]>,
    channels: List<ChannelId>,
    models: Dictionary,
    /// Of users, groups and tokens.
    names: [Dictionary; 3],
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self {
            quota_per_unit: DEFAULT_QUOTA_PER_UNIT,
            done: Vec::new(),
            header: empty_header(),
            numbers: Default::default(),
            tags: List::default(),
            routes: List::default(),
            callers: List::default(),
            channels: List::default(),
            models: Dictionary::default(),
            names: Default::default(),
        }
    }
}

impl BlockBuilder {
    /// Adds a row, read when a US dollar was `quota_per_unit`.
    pub fn push(&mut self, fact: &Fact<'_>, quota_per_unit: f64) {
        let quota_per_unit = sound_rate(quota_per_unit);
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
            amount(fact.input_tokens),
            amount(fact.output_tokens),
            amount(fact.cache_read_tokens),
            amount(fact.cache_write_tokens),
            amount(fact.consumed),
            amount(fact.refunded),
            tag as u64,
            route as u64,
            caller as u64,
        ];
        for (column, number) in self.numbers.iter_mut().zip(row) {
            column.push(number);
        }
        let header = &mut self.header;
        header.outcomes.insert(fact.outcome);
        header.min_id = header.min_id.min(fact.id);
        header.max_id = header.max_id.max(fact.id);
        header.oldest = header.oldest.min(fact.created_at);
        header.newest = header.newest.max(fact.created_at);
        header.longest_ms = header.longest_ms.max(fact.duration_ms);
        if fact.outcome.answered() {
            header.longest_answer_ms = header.longest_answer_ms.max(Some(fact.duration_ms));
        }
    }

    fn tag(&mut self, fact: &Fact<'_>) -> usize {
        let [low, high] = fact.status_code.to_le_bytes();
        let flags = u8::from(fact.stream) | u8::from(fact.retried) << 1;
        let tag = [fact.kind, fact.outcome as u8, flags, error_code(fact.error_type), low, high];
        let hash = mix(tag.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
        self.tags.number(hash, tag)
    }

    /// One search for channel and model together: the usual route was taken before, and then its model needs no
    /// search of its own.
    fn route(&mut self, fact: &Fact<'_>) -> usize {
        let (channel_id, model) = (fact.channel_id, clip(&fact.model).as_bytes());
        let channel_hash = channel_id.cast_unsigned().rotate_left(32);
        let model_hash = hash(model);
        let hash = mix(channel_hash ^ u64::from(model_hash));
        let (routes, channels, models) = (&mut self.routes, &mut self.channels, &mut self.models);
        let known = routes.index.find(hash, |at| {
            let [channel, number] = routes.items[at].map(usize::from);
            channels.items[channel] == channel_id && models.is(number, model)
        });
        known.unwrap_or_else(|| {
            let channel = channels.number(mix(channel_hash), channel_id);
            routes.insert(hash, [channel, models.number_of(model, model_hash)].map(number))
        })
    }

    /// The same for user, group and token.
    fn caller(&mut self, fact: &Fact<'_>) -> usize {
        let texts = [&fact.username, &fact.group, &fact.token_name].map(|text| clip(text).as_bytes());
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
            tier: tier as u8,
            ..std::mem::replace(&mut self.header, empty_header())
        };
        let mut columns: [Vec<u8>; Column::ALL.len()] = Default::default();
        columns[Column::Sketch.number()] = sketch(&self.keys(), salt(header.min_id));
        for (bytes, numbers) in columns.iter_mut().zip(&mut self.numbers) {
            *bytes = encode(numbers);
            numbers.clear();
        }
        columns[Column::Tags.number()] = list(&self.tags, |tag, out| out.extend(tag));
        columns[Column::Routes.number()] = self.route_bytes();
        columns[Column::Callers.number()] = self.caller_bytes();
        self.forget();
        self.done.push(Block { header, columns });
    }

    /// What the sketch of the block shall know.
    fn keys(&self) -> Vec<Key> {
        let channels: Vec<Key> = self.channels.items.iter().copied().map(Key::channel).collect();
        let models: Vec<Key> = self.models.texts().map(Key::model).collect();
        let kinds = [Key::username, Key::group, Key::token_name];
        let [usernames, groups, token_names]: [Vec<Key>; 3] =
            std::array::from_fn(|at| self.names[at].texts().map(kinds[at]).collect());
        let route = |[channel, model]: [u16; 2]| {
            let (channel, model) = (channels[usize::from(channel)], models[usize::from(model)]);
            [channel, model, channel.and(model)]
        };
        let caller = |[username, group, token_name]: [u16; 3]| {
            [
                usernames[usize::from(username)],
                groups[usize::from(group)],
                token_names[usize::from(token_name)],
            ]
        };
        let mut keys: Vec<Key> = self.routes.items.iter().map(|item| route(*item)[2]).collect();
        for values in [&channels, &models, &usernames, &groups, &token_names] {
            keys.extend(values);
        }
        let success = RowOutcome::Success as u8;
        let notable: Vec<Option<RowOutcome>> = self
            .tags
            .items
            .iter()
            .map(|[_, outcome, ..]| RowOutcome::ALL.get(usize::from(*outcome)).copied())
            .map(|outcome| outcome.filter(|outcome| *outcome as u8 != success))
            .collect();
        let column = |column: Column| self.numbers[column.number()].iter().map(|number| place(*number));
        let rows = column(Column::TagOf).zip(column(Column::RouteOf)).zip(column(Column::CallerOf));
        for ((tag, at), by) in rows {
            if let Some(outcome) = notable[tag] {
                let keys_of_row =
                    route(self.routes.items[at]).into_iter().chain(caller(self.callers.items[by]));
                keys.extend(keys_of_row.map(|key| key.with(outcome)));
            }
        }
        keys
    }

    fn route_bytes(&self) -> Vec<u8> {
        let mut bytes = list(&self.channels, |id, out| out.extend(id.to_le_bytes()));
        self.models.write(&mut bytes);
        columns(&self.routes, &mut bytes);
        bytes
    }

    fn caller_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for names in &self.names {
            names.write(&mut bytes);
        }
        columns(&self.callers, &mut bytes);
        bytes
    }

    fn forget(&mut self) {
        self.tags.clear();
        self.routes.clear();
        self.callers.clear();
        self.channels.clear();
        self.models.clear();
        self.names.iter_mut().for_each(Dictionary::clear);
    }

    /// All blocks since the last call; the last one has as many rows as there were.
    pub fn take(&mut self) -> Vec<Block> {
        self.close();
        std::mem::take(&mut self.done)
    }
}

/// What a dollar is; the default where it is said to be nothing.
pub(super) fn sound_rate(quota_per_unit: f64) -> f64 {
    let sound = quota_per_unit.is_finite() && quota_per_unit > 0.0;
    if sound { quota_per_unit } else { DEFAULT_QUOTA_PER_UNIT }
}

fn empty_header() -> Header {
    Header {
        block: 0,
        rows: 0,
        outcomes: Outcomes::default(),
        min_id: i64::MAX,
        max_id: i64::MIN,
        oldest: i64::MAX,
        newest: i64::MIN,
        longest_ms: 0,
        longest_answer_ms: None,
        quota_per_unit: DEFAULT_QUOTA_PER_UNIT,
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

/// How many items there are, and their numbers column by column.
fn columns<const N: usize>(list: &List<[u16; N]>, out: &mut Vec<u8>) {
    out.extend(number(list.items.len()).to_le_bytes());
    for at in 0..N {
        let numbers: Vec<u64> = list.items.iter().map(|item| u64::from(item[at])).collect();
        out.extend(encode(&numbers));
    }
}

/// A number as it is stored: a block has at most [`MAX_ROWS`] of anything.
#[expect(clippy::cast_possible_truncation, reason = "fewer than 65,536")]
fn number(number: usize) -> u16 {
    number as u16
}
