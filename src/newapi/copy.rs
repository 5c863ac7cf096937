//! Reading from PostgreSQL by `COPY ... TO STDOUT (FORMAT binary)`: a server that sends rows in its own form, and in one
//! answer, costs both sides less.
//!
//! It sends a signature, flags, and the length of an extension that nobody uses yet; then for each row the number of its
//! columns, and for each column its length, -1 for NULL, and its bytes; at the end a row of -1 columns. Rows come
//! whole in a message: <https://www.postgresql.org/docs/current/sql-copy.html>,
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>.

use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use sqlx::postgres::PgPool;
use tokio::time::timeout;

use super::lease::Lease;
use super::query::{Param, Parts, Query, Rows};

/// What every copy begins with, and what a message at its end holds.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const END: &[u8] = &[0xff, 0xff];

/// The statement as a copy; none if a parameter is a text, because a copy takes no parameters.
pub(super) fn statement(query: &Query) -> Option<String> {
    let mut parts = query.sql.split('?');
    let mut sql = format!("COPY ({}", parts.next().unwrap_or_default());
    for (param, part) in query.params.iter().zip(parts) {
        let Param::Int(number) = param else { return None };
        for text in ["(", &number.to_string(), ")", part] {
            sql.push_str(text);
        }
    }
    sql.push_str(") TO STDOUT (FORMAT binary)");
    Some(sql)
}

/// Why a copy ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server, or the way to it.
    Server(sqlx::Error),
    /// A part did not come within the time it may take.
    TooSlow,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Server(error)
    }
}

/// Hands what the copy brings to `parts`, up to `size` rows each time and each within `patience`. While a part is
/// waited for, the server goes on with the next ones until the buffers between the two are full.
///
/// # Errors
/// If the server refuses it, sends something else, or is too slow.
pub(super) async fn read(
    pool: &PgPool,
    sql: &str,
    rows: Rows,
    size: usize,
    patience: Duration,
    parts: &mut impl Parts,
) -> Result<(), Failure> {
    let mut lease = timeout(patience, Lease::of(pool)).await.map_err(|_| Failure::TooSlow)??;
    let begun = timeout(patience, lease.connection()?.copy_out_raw(sql)).await;
    let mut stream = begun.map_err(|_| Failure::TooSlow)??;
    let whole = in_parts(&mut stream, rows, size, patience, parts).await?;
    drop(stream);
    if whole {
        lease.give_back();
    }
    Ok(())
}

/// True if all of it was taken.
async fn in_parts(
    stream: &mut BoxStream<'_, sqlx::Result<Bytes>>,
    mut rows: Rows,
    size: usize,
    patience: Duration,
    parts: &mut impl Parts,
) -> Result<bool, Failure> {
    let (shape, mut copied, mut kept) = (rows.shape(), Copied::default(), None);
    loop {
        let filled = timeout(patience, fill(stream, &mut copied, &mut kept, &mut rows, size));
        let more = filled.await.map_err(|_| Failure::TooSlow)??;
        let cut = rows.cut;
        let spare = parts.take(rows, !more).await;
        match spare {
            _ if !more => return Ok(true),
            Some(spare) if !cut => rows = Rows::of_shape(shape, spare),
            _ => return Ok(false),
        }
    }
}

/// Adds up to `size` rows. True if there are more: a part is only known to be the last one when nothing follows it.
async fn fill(
    stream: &mut BoxStream<'_, sqlx::Result<Bytes>>,
    copied: &mut Copied,
    kept: &mut Option<Bytes>,
    rows: &mut Rows,
    size: usize,
) -> Result<bool, sqlx::Error> {
    if let Some(message) = kept.take() {
        copied.take(&message, rows)?;
    }
    while let Some(next) = stream.try_next().await? {
        if rows.cut || rows.len() >= size && next != END {
            *kept = Some(next);
            return Ok(true);
        }
        copied.take(&next, rows)?;
    }
    Ok(false)
}

/// Takes a copy apart as it comes.
#[derive(Debug, Default)]
pub(super) struct Copied {
    began: bool,
}

impl Copied {
    /// Adds the rows of a message, of which there is one in all that servers send.
    ///
    /// # Errors
    /// If they are cut short or have other columns than asked for; some may have been added.
    pub(super) fn take(&mut self, message: &[u8], rows: &mut Rows) -> Result<(), sqlx::Error> {
        self.add(message, rows)
            .ok_or_else(|| sqlx::Error::Protocol("the server sent a copy that cannot be read".to_owned()))
    }

    fn add(&mut self, mut bytes: &[u8], rows: &mut Rows) -> Option<()> {
        if !self.began {
            bytes = bytes.strip_prefix(SIGNATURE)?.get(4..)?;
            let extension = usize::try_from(number(&mut bytes)?).ok()?;
            bytes = bytes.get(extension..)?;
            self.began = true;
        }
        while !bytes.is_empty() {
            let (columns, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            let Ok(columns) = usize::try_from(i16::from_be_bytes(*columns)) else { return Some(()) };
            let (ints, texts) = rows.shape();
            if columns != ints + texts {
                return None;
            }
            for column in 0..columns {
                let mut value = None;
                if let Ok(length) = usize::try_from(number(&mut bytes)?) {
                    let (found, rest) = bytes.split_at_checked(length)?;
                    (value, bytes) = (Some(found), rest);
                }
                if column < ints {
                    rows.push_int(value.map_or(Some(0), integer)?);
                } else {
                    rows.push_text(value.unwrap_or_default());
                }
            }
            rows.end_row();
        }
        Some(())
    }
}

/// A `bigint`, `integer`, `smallint` or `boolean`.
fn integer(value: &[u8]) -> Option<i64> {
    Some(match *value {
        [flag] => flag.into(),
        [a, b] => i16::from_be_bytes([a, b]).into(),
        [a, b, c, d] => i32::from_be_bytes([a, b, c, d]).into(),
        _ => i64::from_be_bytes(value.try_into().ok()?),
    })
}

fn number(bytes: &mut &[u8]) -> Option<i32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::newapi::query::MAX_READ_BYTES;

    const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = i16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            bytes.extend(value.map_or(-1, |value| i32::try_from(value.len()).unwrap()).to_be_bytes());
            bytes.extend(value.unwrap_or_default());
        }
        bytes
    }

    fn empty(ints: usize, texts: usize) -> Rows {
        Rows::reuse(&Query::new("", vec![], ints, texts), Rows::default())
    }

    fn rows_of(messages: &[Vec<u8>], ints: usize, texts: usize) -> Result<Rows, sqlx::Error> {
        let (mut copied, mut rows) = (Copied::default(), empty(ints, texts));
        for message in messages {
            copied.take(message, &mut rows)?;
        }
        Ok(rows)
    }

    #[test]
    fn every_width_of_a_number_is_read_and_null_is_nothing() {
        let values: [Option<&[u8]>; 7] = [
            Some(&(-5_i64).to_be_bytes()),
            Some(&(-70_000_i32).to_be_bytes()),
            Some(&(-300_i16).to_be_bytes()),
            Some(&[1]),
            None,
            Some("é\0".as_bytes()),
            None,
        ];
        let first = [HEADER, &row(&values)].concat();
        // The header may come alone, and the end with the last row.
        let last = [row(&values), END.to_vec()].concat();
        for messages in [vec![first, row(&values), END.to_vec()], vec![HEADER.to_vec(), row(&values), last]] {
            let rows = rows_of(&messages, 5, 2).unwrap();
            assert_eq!(rows.len(), 2);
            for row in rows.iter() {
                assert_eq!([0, 1, 2, 3, 4].map(|column| row.int(column)), [-5, -70_000, -300, 1, 0]);
                assert_eq!((row.text(0), row.bytes(1)), ("é\0".into(), &[][..]));
            }
        }
    }

    #[test]
    fn what_is_no_copy_of_these_columns_is_refused() {
        let whole = [HEADER, &row(&[Some(&7_i64.to_be_bytes()), Some(b"text")])].concat();
        assert_eq!(rows_of(std::slice::from_ref(&whole), 1, 1).unwrap().len(), 1);
        for length in (0..whole.len()).filter(|length| ![0, HEADER.len()].contains(length)) {
            assert!(rows_of(&[whole[..length].to_vec()], 1, 1).is_err(), "{length} bytes");
        }
        assert!(rows_of(std::slice::from_ref(&whole), 1, 2).is_err(), "fewer columns");
        assert!(rows_of(std::slice::from_ref(&whole), 0, 1).is_err(), "more columns");
        assert!(rows_of(&[whole[1..].to_vec()], 1, 1).is_err(), "another beginning");
        let odd = [HEADER, &row(&[Some(b"abc"), Some(b"text")])].concat();
        assert!(rows_of(&[odd], 1, 1).is_err(), "a number of three bytes");
    }

    /// What each part held.
    #[derive(Default)]
    struct Seen {
        parts: Vec<(Vec<i64>, bool)>,
        enough: usize,
    }

    impl Parts for Seen {
        async fn take(&mut self, rows: Rows, last: bool) -> Option<Rows> {
            self.parts.push((rows.iter().map(|row| row.int(0)).collect(), last));
            // As it comes back from those who had it.
            (self.parts.len() < self.enough).then_some(rows)
        }
    }

    async fn parts_of(copy: Vec<Bytes>, size: usize) -> Vec<(Vec<i64>, bool)> {
        let mut stream: BoxStream<'_, sqlx::Result<Bytes>> =
            Box::pin(futures_util::stream::iter(copy.into_iter().map(Ok)));
        let mut seen = Seen { enough: usize::MAX, ..Seen::default() };
        in_parts(&mut stream, empty(1, 1), size, Duration::from_secs(9), &mut seen).await.unwrap();
        seen.parts
    }

    fn message(id: i64, text: &[u8]) -> Bytes {
        row(&[Some(&id.to_be_bytes()), Some(text)]).into()
    }

    #[tokio::test]
    async fn a_copy_comes_in_parts_of_which_one_is_known_to_be_the_last() {
        for (count, expected) in [
            (0, vec![(vec![], true)]),
            (2, vec![(vec![1, 2], true)]),
            (3, vec![(vec![1, 2], false), (vec![3], true)]),
            (4, vec![(vec![1, 2], false), (vec![3, 4], true)]),
        ] {
            let mut copy = vec![Bytes::from_static(HEADER)];
            copy.extend((1..=count).map(|id| message(id, b"text")));
            copy.push(Bytes::from_static(END));
            assert_eq!(parts_of(copy, 2).await, expected, "{count} rows");
        }
    }

    #[tokio::test]
    async fn a_part_with_much_text_is_the_last_that_is_taken() {
        let text = vec![b'x'; MAX_READ_BYTES];
        let copy =
            vec![Bytes::from_static(HEADER), message(1, &text), message(2, b""), Bytes::from_static(END)];
        assert_eq!(parts_of(copy, 9).await, [(vec![1], false)]);
    }

    #[test]
    fn numbers_stand_in_a_copy_and_texts_do_not() {
        let query = |params| Query::new("SELECT a WHERE a > ? AND b = ?", params, 1, 0);
        assert_eq!(
            statement(&query(vec![Param::Int(-1), Param::Int(2)])).unwrap(),
            "COPY (SELECT a WHERE a > (-1) AND b = (2)) TO STDOUT (FORMAT binary)"
        );
        assert!(statement(&query(vec![Param::Int(1), "x".into()])).is_none());
    }
}
