//! Which rows of a block a question is about.

use super::Source;
use super::block::{Column, Columns, Header};
use super::decode::{Decoded, place};
use super::fact::{RowOutcome, Selection};

/// Alternatives in order, or anything.
#[derive(Debug)]
struct Choice<T>(Option<Vec<T>>);

impl<T: Ord> Choice<T> {
    fn of(alternatives: impl Iterator<Item = T>) -> Self {
        let mut alternatives: Vec<T> = alternatives.collect();
        alternatives.sort_unstable();
        Self((!alternatives.is_empty()).then_some(alternatives))
    }

    fn accepts(&self, value: &T) -> bool {
        self.0.as_ref().is_none_or(|accepted| accepted.binary_search(value).is_ok())
    }

    fn is_any(&self) -> bool {
        self.0.is_none()
    }
}

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
    channels: Choice<i64>,
    models: Choice<&'a str>,
    groups: Choice<&'a str>,
    usernames: Choice<&'a str>,
    token_names: Choice<&'a str>,
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
        Self {
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
            block: Decoded::default(),
            rows: Vec::new(),
            accepted: Vec::new(),
        }
    }

    /// Whether a block may hold rows of the window.
    pub(super) fn overlaps(&self, header: &Header) -> bool {
        header.newest >= self.from && header.oldest < self.to
    }

    /// Turns to a block and finds its rows. False if there are none, which mostly takes no more than a look at its
    /// dictionaries.
    pub(super) fn select<S: Source>(&mut self, source: &mut S, header: &Header) -> Result<bool, S::Error> {
        self.rows.clear();
        if !self.overlaps(header) {
            return Ok(false);
        }
        self.block.open(header)?;
        #[expect(clippy::cast_possible_truncation, reason = "open refuses blocks of more rows")]
        self.rows.extend(0..header.rows as u16);
        Ok(self.by_route(source)? && self.by_caller(source)? && self.by_tag(source)? && {
            self.by_numbers(source, header)?;
            !self.rows.is_empty()
        })
    }

    fn by_route<S: Source>(&mut self, source: &mut S) -> Result<bool, S::Error> {
        if self.channels.is_any() && self.models.is_any() {
            return Ok(true);
        }
        self.block.load(source, Columns::of(&[Column::Routes]))?;
        self.accepted.clear();
        for route in &self.block.routes {
            let model = self.block.models.get(usize::from(route.model));
            self.accepted.push(self.channels.accepts(&route.channel_id) && self.models.accepts(&model));
        }
        self.by_dictionary(source, Column::RouteOf)
    }

    fn by_caller<S: Source>(&mut self, source: &mut S) -> Result<bool, S::Error> {
        if self.usernames.is_any() && self.groups.is_any() && self.token_names.is_any() {
            return Ok(true);
        }
        self.block.load(source, Columns::of(&[Column::Callers]))?;
        self.accepted.clear();
        for caller in &self.block.callers {
            self.accepted.push(
                self.usernames.accepts(&self.block.usernames.get(usize::from(caller.username)))
                    && self.groups.accepts(&self.block.groups.get(usize::from(caller.group)))
                    && self.token_names.accepts(&self.block.token_names.get(usize::from(caller.token_name))),
            );
        }
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
                self.kinds.accepts(&tag.kind)
                    && self.outcomes.accepts(&tag.outcome)
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

    fn by_numbers<S: Source>(&mut self, source: &mut S, header: &Header) -> Result<(), S::Error> {
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
        Ok(())
    }

    /// Loads further columns of the block.
    pub(super) fn load<S: Source>(&mut self, source: &mut S, wanted: Columns) -> Result<(), S::Error> {
        self.block.load(source, wanted)
    }
}

/// Keeps the rows that pass, without a branch for each.
pub(super) fn keep(rows: &mut Vec<u16>, passes: impl Fn(usize) -> bool) {
    let mut kept = 0;
    for at in 0..rows.len() {
        let row = rows[at];
        rows[kept] = row;
        kept += usize::from(passes(usize::from(row)));
    }
    rows.truncate(kept);
}
