//! Which rows of a block a question is about.

use super::Source;
use super::block::{Column, Columns, Header};
use super::decode::{Decoded, Route, place};
use super::dictionary::Texts;
use super::fact::{RowOutcome, Selection};
use super::sketch::Key;
use crate::record::ChannelId;

/// Alternatives in order, or anything.
#[derive(Debug)]
struct Choice<T>(Option<Vec<T>>);

impl<T: Ord + Copy> Choice<T> {
    fn of(alternatives: impl Iterator<Item = T>) -> Self {
        let mut alternatives: Vec<T> = alternatives.collect();
        alternatives.sort_unstable();
        Self((!alternatives.is_empty()).then_some(alternatives))
    }

    fn accepts(&self, value: T) -> bool {
        self.0.as_ref().is_none_or(|accepted| accepted.binary_search(&value).is_ok())
    }

    fn is_any(&self) -> bool {
        self.0.is_none()
    }

    /// The keys of all alternatives; None if anything will do.
    fn keys(&self, key: impl Fn(T) -> Key) -> Option<Vec<Key>> {
        Some(self.0.as_ref()?.iter().map(|value| key(*value)).collect())
    }
}

/// More alternatives than these are not looked for in sketches.
const MOST_KEYS: usize = 256;

/// What can be said of a whole block.
enum Verdict {
    None,
    Some,
    All,
}

/// A selection at work on one block after the other.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    from: i64,
    to: i64,
    min_duration_ms: u64,
    stream: Option<bool>,
    kinds: Choice<u8>,
    outcomes: Choice<RowOutcome>,
    channels: Choice<ChannelId>,
    models: Choice<&'a str>,
    groups: Choice<&'a str>,
    usernames: Choice<&'a str>,
    token_names: Choice<&'a str>,
    /// Of each of these lists a block must have one.
    keys: Vec<Vec<Key>>,
    /// The block last selected from.
    pub(super) block: Decoded,
    /// Its selected rows.
    pub(super) rows: Vec<u16>,
    accepted: Vec<bool>,
}

impl<'a> Scan<'a> {
    /// All rows of a selection.
    pub(super) fn new(selection: &'a Selection) -> Self {
        Self::of_outcomes(selection, |_| true)
    }

    /// Those rows of a selection whose outcome is `wanted`.
    pub(super) fn of_outcomes(selection: &'a Selection, wanted: fn(RowOutcome) -> bool) -> Self {
        let filter = &selection.filter;
        let texts = |list: &'a [String]| Choice::of(list.iter().map(String::as_str));
        let asked = &filter.outcomes;
        let mut outcomes: Vec<RowOutcome> = RowOutcome::ALL
            .into_iter()
            .filter(|outcome| wanted(*outcome) && (asked.is_empty() || asked.contains(outcome)))
            .collect();
        outcomes.sort_unstable();
        let mut scan = Self {
            from: selection.from,
            to: selection.to,
            min_duration_ms: u64::from(filter.min_duration_ms.unwrap_or(0)),
            stream: filter.stream,
            kinds: Choice::of(filter.kinds.iter().copied()),
            outcomes: Choice((outcomes.len() < RowOutcome::ALL.len()).then_some(outcomes)),
            channels: Choice::of(filter.channels.iter().copied()),
            models: texts(&filter.models),
            groups: texts(&filter.groups),
            usernames: texts(&filter.usernames),
            token_names: texts(&filter.token_names),
            keys: Vec::new(),
            block: Decoded::default(),
            rows: Vec::new(),
            accepted: Vec::new(),
        };
        scan.keys = scan.keys();
        scan
    }

    /// What a block must have for a look at more than its sketch.
    fn keys(&self) -> Vec<Vec<Key>> {
        let (channels, models) = (self.channels.keys(Key::channel), self.models.keys(Key::model));
        let pair = channels.as_ref().zip(models.as_ref());
        let routes = pair.filter(|(channels, models)| channels.len() * models.len() <= MOST_KEYS);
        let routes = routes.map(|(channels, models)| {
            channels.iter().flat_map(|channel| models.iter().map(|model| channel.and(*model))).collect()
        });
        let callers = [
            self.usernames.keys(Key::username),
            self.groups.keys(Key::group),
            self.token_names.keys(Key::token_name),
        ];
        let with_outcomes = |keys: Vec<Key>| -> Vec<Key> {
            match &self.outcomes.0 {
                Some(outcomes) if !outcomes.contains(&RowOutcome::Success) => {
                    keys.iter().flat_map(|key| outcomes.iter().map(|outcome| key.with(*outcome))).collect()
                }
                _ => keys,
            }
        };
        // Of very many alternatives one is always there, or seems to be.
        let few = |keys: &Vec<Key>| keys.len() <= MOST_KEYS;
        let all = [routes, channels, models].into_iter().chain(callers).flatten();
        all.map(with_outcomes).filter(few).collect()
    }

    /// From here on, only rows that took so many milliseconds are wanted.
    pub(super) fn at_least(&mut self, milliseconds: u32) {
        self.min_duration_ms = self.min_duration_ms.max(milliseconds.into());
    }

    /// Whether a block may hold any of the rows, by what its header says.
    pub(super) fn may_have(&self, header: &Header) -> bool {
        let outcomes = self.outcomes.0.as_ref();
        header.newest >= self.from
            && header.oldest < self.to
            && u64::from(header.longest_ms) >= self.min_duration_ms
            && outcomes.is_none_or(|wanted| wanted.iter().any(|outcome| header.outcomes.has(*outcome)))
    }

    /// Turns to a block and finds its rows. False if there are none, which mostly takes no more than a look at its
    /// sketch or its dictionaries.
    pub(super) fn select<S: Source>(&mut self, source: &mut S, header: &Header) -> Result<bool, S::Error> {
        self.rows.clear();
        if !self.may_have(header) {
            return Ok(false);
        }
        self.block.open(header)?;
        #[expect(clippy::cast_possible_truncation, reason = "open refuses blocks of more rows")]
        self.rows.extend(0..header.rows as u16);
        // The cheapest first: columns of numbers are short and need no dictionary.
        Ok(self.by_sketch(source)?
            && self.by_numbers(source, header)?
            && self.by_tag(source)?
            && self.by_route(source)?
            && self.by_caller(source)?)
    }

    fn by_sketch<S: Source>(&mut self, source: &mut S) -> Result<bool, S::Error> {
        if self.keys.is_empty() {
            return Ok(true);
        }
        self.block.load(source, Columns::of(&[Column::Sketch]))?;
        let sketch = &self.block.sketch;
        Ok(self.keys.iter().all(|keys| keys.iter().any(|key| sketch.may_have(*key))))
    }

    fn by_route<S: Source>(&mut self, source: &mut S) -> Result<bool, S::Error> {
        if self.channels.is_any() && self.models.is_any() {
            return Ok(true);
        }
        self.block.load(source, Columns::of(&[Column::Routes]))?;
        let block = &self.block;
        let channels: Vec<bool> = block.channels.iter().map(|id| self.channels.accepts(*id)).collect();
        let models = accepted(&self.models, &block.models);
        let accepts =
            |route: &Route| channels[usize::from(route.channel)] && models[usize::from(route.model)];
        self.accepted.clear();
        self.accepted.extend(block.routes.iter().map(accepts));
        self.by_dictionary(source, Column::RouteOf)
    }

    fn by_caller<S: Source>(&mut self, source: &mut S) -> Result<bool, S::Error> {
        if self.usernames.is_any() && self.groups.is_any() && self.token_names.is_any() {
            return Ok(true);
        }
        self.block.load(source, Columns::of(&[Column::Callers]))?;
        let block = &self.block;
        let usernames = accepted(&self.usernames, &block.usernames);
        let groups = accepted(&self.groups, &block.groups);
        let token_names = accepted(&self.token_names, &block.token_names);
        self.accepted.clear();
        self.accepted.extend(block.callers.iter().map(|caller| {
            usernames[usize::from(caller.username)]
                && groups[usize::from(caller.group)]
                && token_names[usize::from(caller.token_name)]
        }));
        self.by_dictionary(source, Column::CallerOf)
    }

    fn by_tag<S: Source>(&mut self, source: &mut S) -> Result<bool, S::Error> {
        if self.kinds.is_any() && self.outcomes.is_any() && self.stream.is_none() {
            return Ok(true);
        }
        self.block.load(source, Columns::of(&[Column::Tags]))?;
        self.accepted.clear();
        for tag in &self.block.tags {
            self.accepted.push(
                self.kinds.accepts(tag.kind)
                    && self.outcomes.accepts(tag.outcome)
                    && self.stream.is_none_or(|stream| stream == tag.stream),
            );
        }
        self.by_dictionary(source, Column::TagOf)
    }

    /// Keeps the rows whose number in `column` is accepted.
    fn by_dictionary<S: Source>(&mut self, source: &mut S, column: Column) -> Result<bool, S::Error> {
        let verdict = match self.accepted.iter().filter(|accepted| **accepted).count() {
            0 => Verdict::None,
            count if count == self.accepted.len() => Verdict::All,
            _ => Verdict::Some,
        };
        match verdict {
            Verdict::None => self.rows.clear(),
            Verdict::All => {}
            Verdict::Some => {
                self.block.load(source, Columns::of(&[column]))?;
                let numbers = self.block.numbers(column);
                keep(&mut self.rows, |row| self.accepted[place(numbers[row])]);
            }
        }
        Ok(!self.rows.is_empty())
    }

    fn by_numbers<S: Source>(&mut self, source: &mut S, header: &Header) -> Result<bool, S::Error> {
        if header.oldest < self.from || header.newest >= self.to {
            self.block.load(source, Columns::of(&[Column::CreatedAt]))?;
            let window = self.from..self.to;
            keep(&mut self.rows, |row| window.contains(&self.block.created_at(row)));
        }
        if self.min_duration_ms > 0 {
            self.block.load(source, Columns::of(&[Column::Duration]))?;
            let durations = self.block.numbers(Column::Duration);
            keep(&mut self.rows, |row| durations[row] >= self.min_duration_ms);
        }
        Ok(!self.rows.is_empty())
    }

    /// Loads further columns of the block.
    pub(super) fn load<S: Source>(&mut self, source: &mut S, wanted: Columns) -> Result<(), S::Error> {
        self.block.load(source, wanted)
    }
}

/// Whether each text is among the accepted ones.
fn accepted(choice: &Choice<&str>, texts: &Texts) -> Vec<bool> {
    (0..texts.len()).map(|number| choice.accepts(texts.get(number))).collect()
}

/// Keeps the rows that pass, without a branch for each.
fn keep(rows: &mut Vec<u16>, passes: impl Fn(usize) -> bool) {
    let mut kept = 0;
    for at in 0..rows.len() {
        let row = rows[at];
        rows[kept] = row;
        kept += usize::from(passes(usize::from(row)));
    }
    rows.truncate(kept);
}
