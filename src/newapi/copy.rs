//! Reading from PostgreSQL by `COPY ... TO STDOUT (FORMAT binary)`: a server that sends rows in its own form, and in one
//! answer, costs both sides less.
//!
//! It sends a signature, flags, and the length of an extension that nobody uses yet; then for each row the number of its
//! columns, and for each column its length, -1 for NULL, and its bytes; at the end a row of -1 columns. Rows come
//! whole in a message: <https://www.postgresql.org/docs/current/sql-copy.html>,
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>.

use futures_util::TryStreamExt;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;

use super::query::{Param, Query, Rows};

/// What every copy begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

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

/// Adds what the copy brings to `rows`.
///
/// # Errors
/// If the server refuses it, or sends something else.
pub(super) async fn read(pool: &PgPool, sql: &str, mut rows: Rows) -> Result<Rows, sqlx::Error> {
    // Closed by whatever ends this early: nobody would read the rest of the copy.
    let mut connection = Closing(Some(pool.acquire().await?));
    if let Some(connection) = &mut connection.0 {
        let mut stream = connection.copy_out_raw(sql).await?;
        let mut copied = Copied::default();
        while let Some(message) = stream.try_next().await? {
            if copied.take(&message, &mut rows)? {
                return Ok(rows);
            }
        }
    }
    // Back into the pool.
    connection.0 = None;
    Ok(rows)
}

/// A connection that does not return into its pool when it is dropped.
struct Closing(Option<PoolConnection<Postgres>>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Takes a copy apart as it comes.
#[derive(Debug, Default)]
pub(super) struct Copied {
    began: bool,
}

impl Copied {
    /// Adds the rows of a message. True if no further one should be taken.
    ///
    /// # Errors
    /// If they are cut short or have other columns than asked for; some may have been added.
    pub(super) fn take(&mut self, message: &[u8], rows: &mut Rows) -> Result<bool, sqlx::Error> {
        self.add(message, rows)
            .ok_or_else(|| sqlx::Error::Protocol("the server sent a copy that cannot be read".to_owned()))
    }

    fn add(&mut self, mut bytes: &[u8], rows: &mut Rows) -> Option<bool> {
        if !self.began {
            bytes = bytes.strip_prefix(SIGNATURE)?.get(4..)?;
            let extension = usize::try_from(number(&mut bytes)?).ok()?;
            bytes = bytes.get(extension..)?;
            self.began = true;
        }
        while !bytes.is_empty() {
            let (columns, rest) = bytes.split_first_chunk()?;
            bytes = rest;
            let Ok(columns) = usize::try_from(i16::from_be_bytes(*columns)) else { return Some(false) };
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
            if rows.end_row() {
                return Some(true);
            }
        }
        Some(false)
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
    const END: &[u8] = &[0xff, 0xff];

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = i16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            bytes.extend(value.map_or(-1, |value| i32::try_from(value.len()).unwrap()).to_be_bytes());
            bytes.extend(value.unwrap_or_default());
        }
        bytes
    }

    fn empty(ints: usize, texts: usize) -> Rows {
        Rows::reuse(&Query { sql: String::new(), params: vec![], ints, texts }, Rows::default())
    }

    fn rows_of(messages: &[Vec<u8>], ints: usize, texts: usize) -> Result<Rows, sqlx::Error> {
        let (mut copied, mut rows) = (Copied::default(), empty(ints, texts));
        for message in messages {
            assert!(!copied.take(message, &mut rows)?);
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

    #[test]
    fn it_stops_when_there_is_enough_text() {
        let text = vec![b'x'; MAX_READ_BYTES];
        let (mut copied, mut rows) = (Copied::default(), empty(0, 1));
        let message = [HEADER, &row(&[Some(&text)]), &row(&[Some(b"more")])].concat();
        assert!(copied.take(&message, &mut rows).unwrap());
        assert_eq!((rows.len(), rows.cut), (1, true));
    }

    #[test]
    fn numbers_stand_in_a_copy_and_texts_do_not() {
        let query =
            |params| Query { sql: "SELECT a WHERE a > ? AND b = ?".to_owned(), params, ints: 1, texts: 0 };
        assert_eq!(
            statement(&query(vec![Param::Int(-1), Param::Int(2)])).unwrap(),
            "COPY (SELECT a WHERE a > (-1) AND b = (2)) TO STDOUT (FORMAT binary)"
        );
        assert!(statement(&query(vec![Param::Int(1), "x".into()])).is_none());
    }
}
