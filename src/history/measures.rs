//! What is summed, and by what.

use std::collections::BTreeMap;

use super::block::{Column, Columns};
use super::decode::{Decoded, place};
use super::dictionary::{Dictionary, Texts};
use super::distribution::{Distribution, Timing};
use super::fact::RowOutcome;
use crate::record::ChannelId;

/// Values of a dimension that are told apart; anyone with an API key can put names of models into the error log.
pub(super) const MAX_GROUPS: usize = 20_000;

/// Columns that measures are made of.
pub(super) const MEASURED: Columns = Columns::of(&[
    Column::TagOf,
    Column::Duration,
    Column::FirstToken,
    Column::Input,
    Column::Output,
    Column::CacheRead,
    Column::CacheWrite,
    Column::Consumed,
    Column::Refunded,
]);

/// What rows add up to. The same as the counters of [`crate::usage`] say of the same rows.
#[derive(Debug, Clone, Default)]
pub struct Measures {
    /// Answered requests.
    pub requests: u64,
    /// Answered requests whose stream broke.
    pub stream_errors: u64,
    /// Failed attempts.
    pub errors: u64,
    /// Channel tests.
    pub tests: u64,
    /// All input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens written to a cache.
    pub cache_write_tokens: u64,
    /// Charged, in new-api's unit.
    pub quota_consumed: u64,
    /// Given back, in new-api's unit.
    pub quota_refunded: u64,
    /// Charged, in US dollars.
    pub cost_usd: f64,
    /// Given back, in US dollars.
    pub cost_refunded_usd: f64,
    /// Answered requests that took longer than the threshold.
    pub slow_requests: u64,
    /// Durations of answered requests.
    pub duration: Distribution,
    /// Times to the first token of answered requests that have one.
    pub first_token: Distribution,
}

impl Measures {
    /// Adds the sums of a block, which has one exchange rate.
    pub(super) fn add(&mut self, sums: &Sums, quota_per_unit: f64) {
        let [requests, slow, timed, broken] = [0, 16, 32, 48].map(|shift| sums.counts >> shift & 0xffff);
        let [duration_ms, first_token_ms, input, output, cache_read, cache_write, consumed, refunded] =
            sums.amounts;
        self.requests += requests;
        self.slow_requests += slow;
        self.stream_errors += broken;
        self.errors += sums.errors;
        self.tests += sums.tests;
        for (total, number) in [
            (&mut self.input_tokens, input),
            (&mut self.output_tokens, output),
            (&mut self.cache_read_tokens, cache_read),
            (&mut self.cache_write_tokens, cache_write),
            (&mut self.quota_consumed, consumed),
            (&mut self.quota_refunded, refunded),
        ] {
            *total = total.saturating_add(number);
        }
        self.cost_usd += consumed as f64 / quota_per_unit;
        self.cost_refunded_usd += refunded as f64 / quota_per_unit;
        self.duration.add_sum(requests, duration_ms);
        // The column holds a millisecond more for each, so that 0 can stand for none.
        self.first_token.add_sum(timed, first_token_ms.saturating_sub(timed));
    }

    /// Notes the times of an answered request, for the percentiles only.
    #[inline]
    pub(super) fn time(&mut self, times: Times) {
        self.duration.add_value(times.0);
        if let Some(first_token) = times.1 {
            self.first_token.add_value(first_token);
        }
    }

    /// Adds the times that `other` noted, for the percentiles only.
    pub(super) fn merge_times(&mut self, other: &Self) {
        self.duration.merge_values(&other.duration);
        self.first_token.merge_values(&other.first_token);
    }

    /// Adds what `other` counted, but for what it knows of percentiles.
    pub fn merge_sums(&mut self, other: &Self) {
        for (total, number) in [
            (&mut self.requests, other.requests),
            (&mut self.stream_errors, other.stream_errors),
            (&mut self.errors, other.errors),
            (&mut self.tests, other.tests),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.output_tokens, other.output_tokens),
            (&mut self.cache_read_tokens, other.cache_read_tokens),
            (&mut self.cache_write_tokens, other.cache_write_tokens),
            (&mut self.quota_consumed, other.quota_consumed),
            (&mut self.quota_refunded, other.quota_refunded),
            (&mut self.slow_requests, other.slow_requests),
        ] {
            *total = total.saturating_add(number);
        }
        self.cost_usd += other.cost_usd;
        self.cost_refunded_usd += other.cost_refunded_usd;
        self.duration.add_sum(other.duration.count(), other.duration.sum_ms());
        self.first_token.add_sum(other.first_token.count(), other.first_token.sum_ms());
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.requests == 0
            && self.errors == 0
            && self.tests == 0
            && self.quota_consumed == 0
            && self.quota_refunded == 0
    }
}

#[expect(clippy::cast_possible_truncation, reason = "durations were checked when they were loaded")]
fn milliseconds(ms: u64) -> u32 {
    ms as u32
}

/// The columns that are summed, in the order of [`Sums::amounts`].
const SUMMED: [Column; 8] = [
    Column::Duration,
    Column::FirstToken,
    Column::Input,
    Column::Output,
    Column::CacheRead,
    Column::CacheWrite,
    Column::Consumed,
    Column::Refunded,
];

/// Sums of rows of one block. They cannot overflow: see [`MAX_AMOUNT`](super::block::MAX_AMOUNT).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// Of [`SUMMED`].
    amounts: [u64; 8],
    /// Answered requests, slow ones, those with a first token and broken ones, in 16 bits each from the lowest: one
    /// addition instead of four, and a block has no more rows.
    counts: u64,
    errors: u64,
    tests: u64,
    /// Rows that moved money only.
    payments: u64,
}

impl Sums {
    /// Adds a row whose effect is an answer, as most are.
    #[inline]
    pub(super) fn answer(&mut self, row: &Row) {
        for (sum, amount) in self.amounts.iter_mut().zip(row.amounts) {
            *sum += amount;
        }
        self.counts += row.counts;
    }

    /// Adds any row.
    pub(super) fn add(&mut self, row: &Row) {
        match row.effect {
            Effect::Answer => self.answer(row),
            Effect::Money => {
                for (sum, amount) in self.amounts.iter_mut().zip(row.amounts).skip(6) {
                    *sum += amount;
                }
                self.payments += 1;
            }
            Effect::Error => self.errors += 1,
            Effect::Test => self.tests += 1,
            Effect::Nothing => {}
        }
    }

    /// Adds other rows of the same block.
    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, amount) in self.amounts.iter_mut().zip(other.amounts) {
            *sum += amount;
        }
        self.counts += other.counts;
        self.errors += other.errors;
        self.tests += other.tests;
        self.payments += other.payments;
    }

    /// Whether no row counted for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.requests() + self.errors + self.tests + self.payments == 0
    }

    fn requests(&self) -> u64 {
        self.counts & 0xffff
    }
}

/// What a row does to the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Answer,
    Money,
    Error,
    Test,
}

impl Effect {
    pub(super) fn of(outcome: RowOutcome) -> Self {
        match outcome {
            RowOutcome::Success | RowOutcome::StreamError | RowOutcome::ClientGone => Self::Answer,
            RowOutcome::Settlement | RowOutcome::Refund => Self::Money,
            RowOutcome::Error => Self::Error,
            RowOutcome::Test => Self::Test,
            RowOutcome::Other => Self::Nothing,
        }
    }
}

/// What an answered row adds to [`Sums::counts`] by its outcome.
fn counts(outcome: RowOutcome) -> u64 {
    1 | u64::from(outcome == RowOutcome::StreamError) << 48
}

/// Duration, and time to the first token.
pub(super) type Times = (Timing, Option<Timing>);

/// What the sums need of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) effect: Effect,
    amounts: [u64; 8],
    counts: u64,
}

/// The columns of a block that sums are made of.
#[derive(Debug)]
pub(super) struct Lanes<'a> {
    /// Of each tag, with what it adds to [`Sums::counts`].
    effects: Vec<(Effect, u64)>,
    tags: &'a [u64],
    columns: [&'a [u64]; 8],
    slow_over_ms: u64,
}

impl<'a> Lanes<'a> {
    /// Of a block that has [`MEASURED`] loaded.
    pub(super) fn new(block: &'a Decoded, slow_over_ms: u32) -> Self {
        Self {
            effects: block.tags.iter().map(|tag| (Effect::of(tag.outcome), counts(tag.outcome))).collect(),
            tags: block.numbers(Column::TagOf),
            columns: SUMMED.map(|column| block.numbers(column)),
            slow_over_ms: u64::from(slow_over_ms),
        }
    }

    #[inline]
    pub(super) fn effect(&self, row: usize) -> Effect {
        self.effects[place(self.tags[row])].0
    }

    /// The times of an answered request.
    #[inline]
    pub(super) fn times(&self, row: usize) -> Times {
        let [duration, first_token, ..] = self.columns;
        let first_token = first_token[row].checked_sub(1);
        (Timing::new(milliseconds(duration[row])), first_token.map(|ms| Timing::new(milliseconds(ms))))
    }

    #[inline]
    pub(super) fn row(&self, row: usize) -> Row {
        let amounts = self.columns.map(|column| column[row]);
        let (slow, timed) = (u64::from(amounts[0] > self.slow_over_ms), u64::from(amounts[1] > 0));
        let (effect, counts) = self.effects[place(self.tags[row])];
        Row { effect, amounts, counts: counts | slow << 16 | timed << 32 }
    }
}

/// By what sums may be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// By model.
    Model,
    /// By channel.
    Channel,
    /// By user. Of these only the means of durations are known, no percentiles: there may be many.
    User,
}

impl Dimension {
    /// The column whose numbers tell a row's value.
    pub(super) fn column(self) -> Column {
        match self {
            Self::Model | Self::Channel => Column::RouteOf,
            Self::User => Column::CallerOf,
        }
    }

    /// The dictionary of that column.
    pub(super) fn meanings(self) -> Column {
        match self {
            Self::Model | Self::Channel => Column::Routes,
            Self::User => Column::Callers,
        }
    }
}

/// A value of a dimension.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// A channel.
    Channel(ChannelId),
    /// The name of a model or user.
    Name(String),
    /// All that came after there were too many to tell apart.
    Rest,
}

/// Measures by group.
pub type Groups = BTreeMap<Group, Measures>;

/// Numbers for the values of a dimension, as they come up in one block after the other.
#[derive(Debug)]
pub(super) struct Keys {
    dimension: Dimension,
    known: Dictionary,
}

impl Keys {
    /// Stands for every value that came too late.
    pub(super) const REST: usize = MAX_GROUPS;

    pub(super) fn new(dimension: Dimension) -> Self {
        Self { dimension, known: Dictionary::default() }
    }

    /// The number of a value given as bytes: a name, or a channel's id.
    pub(super) fn number(&mut self, key: &[u8]) -> usize {
        if self.known.len() >= MAX_GROUPS {
            return self.known.find(key).unwrap_or(Self::REST);
        }
        self.known.number(key)
    }

    /// The number for each entry of the dimension's dictionary in a block.
    pub(super) fn numbers(&mut self, block: &Decoded) -> Vec<usize> {
        let known: Vec<usize> = match self.dimension {
            Dimension::Channel => block.channels.iter().map(|id| self.number(&id.to_le_bytes())).collect(),
            Dimension::Model => self.names(&block.models),
            Dimension::User => self.names(&block.usernames),
        };
        match self.dimension {
            Dimension::Channel => {
                block.routes.iter().map(|route| known[usize::from(route.channel)]).collect()
            }
            Dimension::Model => block.routes.iter().map(|route| known[usize::from(route.model)]).collect(),
            Dimension::User => block.callers.iter().map(|by| known[usize::from(by.username)]).collect(),
        }
    }

    fn names(&mut self, texts: &Texts) -> Vec<usize> {
        (0..texts.len()).map(|number| self.number(texts.get(number).as_bytes())).collect()
    }

    /// The bytes of the value with a number, none for the rest.
    pub(super) fn key(&self, number: usize) -> &[u8] {
        self.known.get(number).unwrap_or_default()
    }

    /// The value with a number.
    pub(super) fn group(&self, number: usize) -> Group {
        match (self.known.get(number), self.dimension) {
            (None, _) => Group::Rest,
            (Some(key), Dimension::Channel) => {
                key.try_into().map_or(Group::Rest, |id| Group::Channel(i64::from_le_bytes(id)))
            }
            (Some(key), _) => Group::Name(String::from_utf8_lossy(key).into_owned()),
        }
    }
}
