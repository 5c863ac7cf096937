//! A statement for any of the engines, and the rows that it brings: integers and texts, packed. Pure.

use std::borrow::Cow;
use std::ops::Range;

/// Bytes of text after which a read stops, so that rows of any size fit in memory.
pub const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

/// A statement. Parameters are `?` in the text, on every engine.
#[derive(Debug, Clone)]
pub struct Query {
    /// SQL whose result columns are first `ints` integers, then `texts` texts.
    pub sql: String,
    /// Values of the `?`, in order.
    pub params: Vec<Param>,
    /// Leading result columns that are integers.
    pub ints: usize,
    /// Result columns after them, which are texts.
    pub texts: usize,
    /// The same for a file, if there are many rows and they come in the order in which they are stored: the only result
    /// column is a call of [`TAKE`](super::sqlite::TAKE) with all the columns.
    pub taking: Option<String>,
}

impl Query {
    /// A statement with `ints` integers and then `texts` texts for its result columns.
    pub fn new(sql: impl Into<String>, params: Vec<Param>, ints: usize, texts: usize) -> Self {
        Self { sql: sql.into(), params, ints, texts, taking: None }
    }
}

/// A value for a `?`.
#[derive(Debug, Clone)]
pub enum Param {
    /// A number.
    Int(i64),
    /// A text.
    Text(String),
}

impl From<i64> for Param {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<&str> for Param {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Rows as they came, packed: integers in one list, texts in one buffer.
#[derive(Debug, Default)]
pub struct Rows {
    shape: (usize, usize),
    count: usize,
    ints: Vec<i64>,
    bytes: Vec<u8>,
    /// Holds what `bytes` held, once all of it was found to be UTF-8.
    text: String,
    ends: Vec<usize>,
    /// The read stopped at [`MAX_READ_BYTES`]; there may be more rows.
    pub cut: bool,
}

/// Takes the rows of a long read as they come, a part at a time.
pub trait Parts: Send {
    /// Takes a part, the last one or not. Gives memory for the next part, or none if no more should come.
    fn take(&mut self, rows: Rows, last: bool) -> impl Future<Output = Option<Rows>> + Send;
}

/// All rows in one part.
#[derive(Debug, Default)]
pub(super) struct Whole(pub(super) Rows);

impl Parts for Whole {
    async fn take(&mut self, rows: Rows, _last: bool) -> Option<Rows> {
        self.0 = rows;
        None
    }
}

/// One of [`Rows`].
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    rows: &'a Rows,
    index: usize,
}

impl Rows {
    /// Empty, in the memory of rows that nobody needs any more.
    pub(super) fn reuse(query: &Query, spare: Self) -> Self {
        Self::of_shape((query.ints, query.texts), spare)
    }

    /// The same for rows with so many integers and texts.
    pub(super) fn of_shape(shape: (usize, usize), mut spare: Self) -> Self {
        spare.ints.clear();
        if spare.bytes.is_empty() {
            spare.bytes = std::mem::take(&mut spare.text).into_bytes();
        }
        spare.bytes.clear();
        spare.text.clear();
        spare.ends.clear();
        Self { shape, count: 0, cut: false, ..spare }
    }

    /// How many integers and texts a row has.
    pub(super) fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The row at `index`.
    pub fn get(&self, index: usize) -> Option<RowRef<'_>> {
        (index < self.len()).then_some(RowRef { rows: self, index })
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.len()).map(|index| RowRef { rows: self, index })
    }

    /// Makes reading texts cheaper if there will be much of it: all at once are found to be UTF-8 much faster than
    /// one after the other.
    pub(super) fn check_texts(&mut self) {
        match String::from_utf8(std::mem::take(&mut self.bytes)) {
            Ok(text) => self.text = text,
            Err(error) => self.bytes = error.into_bytes(),
        }
    }

    pub(super) fn push_int(&mut self, value: i64) {
        self.ints.push(value);
    }

    pub(super) fn push_text(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    /// Ends a row. True if no further one should be taken.
    pub(super) fn end_row(&mut self) -> bool {
        self.count += 1;
        self.cut = self.bytes.len() >= MAX_READ_BYTES;
        self.cut
    }
}

impl<'a> RowRef<'a> {
    /// The integer column at `column`.
    pub fn int(&self, column: usize) -> i64 {
        self.rows.ints[self.index * self.rows.shape.0 + column]
    }

    /// The text column at `column`, counted from the first text.
    pub fn bytes(&self, column: usize) -> &'a [u8] {
        let range = self.range(column);
        if self.rows.text.is_empty() { &self.rows.bytes[range] } else { &self.rows.text.as_bytes()[range] }
    }

    /// The same as text; what is not UTF-8 is replaced.
    pub fn text(&self, column: usize) -> Cow<'a, str> {
        // Two texts that are not UTF-8 can be so together.
        if let Some(text) = self.rows.text.get(self.range(column)) {
            return Cow::Borrowed(text);
        }
        let bytes = self.bytes(column);
        // The lossy way is several times slower, and almost nothing needs it.
        str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
    }

    fn range(&self, column: usize) -> Range<usize> {
        let at = self.index * self.rows.shape.1 + column;
        let start = if at == 0 { 0 } else { self.rows.ends[at - 1] };
        start..self.rows.ends[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_rows_come_apart_again() {
        let query = Query::new("", vec![], 2, 2);
        let mut rows = Rows::reuse(&query, Rows::default());
        for (a, b) in [("x", ""), ("", "long text"), ("\0", "é")] {
            rows.push_int(1);
            rows.push_int(-2);
            rows.push_text(a.as_bytes());
            rows.push_text(b.as_bytes());
            assert!(!rows.end_row());
        }
        assert_eq!(rows.len(), 3);
        let texts: Vec<_> = rows.iter().map(|row| (row.text(0), row.text(1))).collect();
        assert_eq!(texts[0], ("x".into(), "".into()));
        assert_eq!(texts[1], ("".into(), "long text".into()));
        assert_eq!(texts[2], ("\0".into(), "é".into()));
        assert_eq!(rows.get(2).unwrap().int(1), -2);
        assert!(rows.get(3).is_none());
    }
}
