//! A block as it is read: only the columns asked for, each checked before it is used.

use std::borrow::Cow;

use super::block::{AMOUNT_BITS, Column, Columns, Header, NUMBER_COLUMNS};
use super::dictionary::{Texts, take};
use super::fact::{Fact, Found, Identity, RowOutcome, error_type};
use super::numbers::{decode, decode_front, decode_some, signed};
use super::sketch::Sketch;
use super::{Damaged, Source};
use crate::record::{ChannelId, ErrorType};

/// A kind of row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    pub(super) kind: u8,
    pub(super) outcome: RowOutcome,
    pub(super) stream: bool,
    pub(super) retried: bool,
    pub(super) error_type: ErrorType,
    pub(super) status_code: u16,
}

/// Numbers of channel and model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) channel: u16,
    pub(super) model: u16,
}

/// Numbers of user, group and token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) username: u16,
    pub(super) group: u16,
    pub(super) token_name: u16,
}

/// The block being read. Its memory serves for one block after the other.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) block: i64,
    pub(super) quota_per_unit: f64,
    /// Rows that it has, whether they are read or not.
    rows: usize,
    /// Which of them are read, if not all are.
    picked: Option<Vec<u16>>,
    loaded: Columns,
    numbers: [Vec<u64>; NUMBER_COLUMNS],
    pub(super) tags: Vec<Tag>,
    pub(super) routes: Vec<Route>,
    pub(super) callers: Vec<Caller>,
    pub(super) channels: Vec<ChannelId>,
    pub(super) models: Texts,
    pub(super) usernames: Texts,
    pub(super) groups: Texts,
    pub(super) token_names: Texts,
    pub(super) sketch: Sketch,
}

impl Decoded {
    /// Turns to another block, of which nothing is loaded yet.
    pub(super) fn open(&mut self, header: &Header) -> Result<(), Damaged> {
        header.check()?;
        self.block = header.block;
        self.rows = header.rows as usize;
        self.picked = None;
        self.quota_per_unit = header.quota_per_unit;
        self.loaded = Columns::default();
        Ok(())
    }

    /// The same for a few rows of it only, from now on numbered as they are given.
    pub(super) fn open_some(&mut self, header: &Header, rows: Vec<u16>) -> Result<(), Damaged> {
        self.open(header)?;
        if rows.iter().any(|row| usize::from(*row) >= self.rows) {
            return Err(damaged(self.block, "a row is missing"));
        }
        self.picked = Some(rows);
        Ok(())
    }

    /// Makes sure that the columns are there, and those that give their numbers a meaning.
    pub(super) fn load<S: Source>(&mut self, source: &mut S, wanted: Columns) -> Result<(), S::Error> {
        let mut missing = wanted;
        for (numbers, meaning) in [
            (Column::TagOf, Column::Tags),
            (Column::RouteOf, Column::Routes),
            (Column::CallerOf, Column::Callers),
        ] {
            if wanted.has(numbers) {
                missing = missing.and(Columns::of(&[meaning]));
            }
        }
        let missing = missing.without(self.loaded);
        if missing.is_empty() {
            return Ok(());
        }
        source.read(self.block, missing, &mut |column, bytes| {
            self.accept(column, bytes).map_err(|what| damaged(self.block, what))?;
            self.loaded = self.loaded.and(Columns::of(&[column]));
            Ok(())
        })?;
        if !missing.without(self.loaded).is_empty() {
            return Err(damaged(self.block, "a column is missing").into());
        }
        // Dictionaries may come after the numbers that they give a meaning.
        for (numbers, meanings) in [
            (Column::TagOf, self.tags.len()),
            (Column::RouteOf, self.routes.len()),
            (Column::CallerOf, self.callers.len()),
        ] {
            if missing.has(numbers) && self.most(numbers) >= meanings {
                return Err(damaged(self.block, "a number has no meaning").into());
            }
        }
        Ok(())
    }

    fn accept(&mut self, column: Column, mut bytes: &[u8]) -> Result<(), &'static str> {
        let bytes = &mut bytes;
        match column {
            Column::Tags => self.tags = list(bytes, tag)?,
            Column::Routes => {
                self.channels = list(bytes, |id| Ok(i64::from_le_bytes(id)))?;
                self.models.read(bytes)?;
                let routes = tuples(bytes, [self.channels.len(), self.models.len()])?;
                self.routes = routes.map(|[channel, model]| Route { channel, model }).collect();
            }
            Column::Callers => {
                let names = [&mut self.usernames, &mut self.groups, &mut self.token_names];
                for texts in names {
                    texts.read(bytes)?;
                }
                let sizes = [self.usernames.len(), self.groups.len(), self.token_names.len()];
                let callers = tuples(bytes, sizes)?;
                self.callers = callers
                    .map(|[username, group, token_name]| Caller { username, group, token_name })
                    .collect();
            }
            Column::Sketch => {
                self.sketch.read(bytes)?;
                *bytes = &[];
            }
            _ => {
                let numbers = &mut self.numbers[column.number()];
                match &self.picked {
                    None => decode(bytes, self.rows, numbers)?,
                    Some(rows) => decode_some(bytes, self.rows, rows, numbers)?,
                }
                *bytes = &[];
                let bits = match column {
                    Column::Id | Column::CreatedAt => 64,
                    Column::Duration => 32,
                    Column::FirstToken => 33,
                    Column::TagOf | Column::RouteOf | Column::CallerOf => 16,
                    _ => AMOUNT_BITS,
                };
                // The bits that occur in any of them: much cheaper than the largest.
                let any = self.numbers[column.number()].iter().fold(0, |any, number| any | number);
                if bits < 64 && any >> bits != 0 {
                    return Err("a number is too large");
                }
            }
        }
        if bytes.is_empty() { Ok(()) } else { Err("a dictionary is too long") }
    }

    /// The largest number of a column of numbers of 16 bits.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "16 bits were checked")]
    fn most(&self, column: Column) -> usize {
        // Signed and short is what processors compare fast.
        self.numbers[column.number()]
            .iter()
            .map(|number| *number as i32)
            .max()
            .map_or(0, |most| most as usize)
    }

    /// Number of rows that are read.
    pub(super) fn rows(&self) -> usize {
        self.picked.as_ref().map_or(self.rows, Vec::len)
    }

    /// A loaded column, one number a row.
    pub(super) fn numbers(&self, column: Column) -> &[u64] {
        &self.numbers[column.number()]
    }

    /// `created_at` of a row.
    pub(super) fn created_at(&self, row: usize) -> i64 {
        signed(self.numbers(Column::CreatedAt)[row])
    }

    /// The id of a row.
    pub(super) fn id(&self, row: usize) -> i64 {
        signed(self.numbers(Column::Id)[row])
    }

    /// A row, whose number in its dictionary fits because it was checked.
    pub(super) fn tag(&self, row: usize) -> Tag {
        self.tags[place(self.numbers(Column::TagOf)[row])]
    }

    /// The route of a row.
    pub(super) fn route(&self, row: usize) -> Route {
        self.routes[place(self.numbers(Column::RouteOf)[row])]
    }

    /// The channel of a route.
    pub(super) fn channel_id(&self, route: Route) -> ChannelId {
        self.channels[usize::from(route.channel)]
    }

    /// A whole row. [`Columns::ROWS`] must be loaded.
    pub(super) fn fact(&self, row: usize) -> Fact<'_> {
        self.fact_with(row, Cow::Borrowed)
    }

    /// What tells a row from others. [`Identity::COLUMNS`] must be loaded.
    pub(super) fn identity(&self, row: usize) -> Identity {
        Identity {
            id: self.id(row),
            created_at: self.created_at(row),
            kind: self.tag(row).kind,
            channel_id: self.channel_id(self.route(row)),
            quota_per_unit: self.quota_per_unit,
        }
    }

    /// A whole row that outlives the block.
    pub(super) fn found(&self, row: usize) -> Found {
        let fact = self.fact_with(row, |text| Cow::Owned(text.to_owned()));
        Found { fact, quota_per_unit: self.quota_per_unit }
    }

    #[expect(clippy::cast_possible_truncation, reason = "durations were checked when they were loaded")]
    fn fact_with<'a, 'b>(&'a self, row: usize, text: impl Fn(&'a str) -> Cow<'b, str>) -> Fact<'b> {
        let number = |column| self.numbers(column)[row];
        let (tag, route) = (self.tag(row), self.route(row));
        let caller = self.callers[place(number(Column::CallerOf))];
        Fact {
            id: self.id(row),
            created_at: self.created_at(row),
            kind: tag.kind,
            outcome: tag.outcome,
            channel_id: self.channel_id(route),
            model: text(self.models.get(usize::from(route.model))),
            group: text(self.groups.get(usize::from(caller.group))),
            username: text(self.usernames.get(usize::from(caller.username))),
            token_name: text(self.token_names.get(usize::from(caller.token_name))),
            stream: tag.stream,
            retried: tag.retried,
            duration_ms: number(Column::Duration) as u32,
            first_token_ms: number(Column::FirstToken).checked_sub(1).map(|ms| ms as u32),
            input_tokens: number(Column::Input),
            output_tokens: number(Column::Output),
            cache_read_tokens: number(Column::CacheRead),
            cache_write_tokens: number(Column::CacheWrite),
            consumed: number(Column::Consumed),
            refunded: number(Column::Refunded),
            status_code: tag.status_code,
            error_type: tag.error_type,
        }
    }
}

/// A number as a place in a list that it was checked against.
#[expect(clippy::cast_possible_truncation, reason = "it was checked against the length of a list")]
pub(super) fn place(number: u64) -> usize {
    number as usize
}

fn list<const N: usize, T>(
    bytes: &mut &[u8],
    read: impl Fn([u8; N]) -> Result<T, &'static str>,
) -> Result<Vec<T>, &'static str> {
    let count = usize::from(u16::from_le_bytes(take(bytes)?));
    let (items, rest) = bytes.split_at_checked(count * N).ok_or("a dictionary is cut short")?;
    *bytes = rest;
    items.as_chunks().0.iter().map(|item| read(*item)).collect()
}

/// Tuples of numbers, each smaller than its size.
fn tuples<const N: usize>(
    bytes: &mut &[u8],
    sizes: [usize; N],
) -> Result<impl Iterator<Item = [u16; N]> + use<N>, &'static str> {
    let count = usize::from(u16::from_le_bytes(take(bytes)?));
    let mut columns: [Vec<u64>; N] = std::array::from_fn(|_| Vec::new());
    for (column, size) in columns.iter_mut().zip(sizes) {
        decode_front(bytes, count, column)?;
        if column.iter().any(|number| *number >= size as u64) {
            return Err("a number has no meaning");
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "a dictionary has fewer than 65,536 entries")]
    Ok((0..count).map(move |at| std::array::from_fn(|column| columns[column][at] as u16)))
}

fn tag([kind, outcome, flags, error, low, high]: [u8; 6]) -> Result<Tag, &'static str> {
    Ok(Tag {
        kind,
        outcome: *RowOutcome::ALL.get(usize::from(outcome)).ok_or("an outcome is unknown")?,
        stream: flags & 1 != 0,
        retried: flags & 2 != 0,
        error_type: error_type(error).ok_or("an error type is unknown")?,
        status_code: u16::from_le_bytes([low, high]),
    })
}

/// Says that something is wrong with a block.
fn damaged(block: i64, what: &'static str) -> Damaged {
    Damaged { block, what }
}
