//! What PostgreSQL's `COPY ... TO STDOUT (FORMAT binary)` sends, as rows.
//!
//! A signature, flags, and the length of an extension that nobody uses yet; then for each row the number of its columns,
//! and for each column its length, -1 for NULL, and its bytes; at the end a row of -1 columns. A server sends whole
//! rows in a message: <https://www.postgresql.org/docs/current/sql-copy.html>,
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>. Pure.

use super::database::Rows;

/// What every copy begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

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
    use crate::newapi::database::Query;

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
        let text = vec![b'x'; crate::newapi::database::MAX_READ_BYTES];
        let (mut copied, mut rows) = (Copied::default(), empty(0, 1));
        let message = [HEADER, &row(&[Some(&text)]), &row(&[Some(b"more")])].concat();
        assert!(copied.take(&message, &mut rows).unwrap());
        assert_eq!((rows.len(), rows.cut), (1, true));
    }
}
