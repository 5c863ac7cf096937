//! Bodies of requests, where a fork of new-api stores them in a table of its own.

use super::columns::{Kind, quote};
use super::database::{Database, ReadError};
use super::query::{Param, Query};

/// So much of a body is read, in characters or bytes; what is shown is shorter.
const MAX_STORED: usize = 2 << 20;

impl Database {
    /// The two columns of the first row of `table` whose `join` is `key`, as bytes; a column that is not given or
    /// NULL is empty. None if there is no such row. Names must be plain identifiers.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn bodies(
        &self,
        table: &str,
        columns: [Option<&str>; 2],
        join: &str,
        key: Param,
    ) -> Result<Option<[Vec<u8>; 2]>, ReadError> {
        let engine = self.engine();
        let known = self.columns(table).await?;
        let select = columns.map(|column| match column {
            None => "''".to_owned(),
            // JSON columns and the like.
            Some(name) if known.kind(name) == Some(Kind::Other) => known.text(name),
            Some(name) => format!("SUBSTR({}, 1, {MAX_STORED})", quote(engine, name)),
        });
        let (table, join) = (quote(engine, table), quote(engine, join));
        let sql = format!("SELECT {} FROM {table} WHERE {join} = ? LIMIT 1", select.join(", "));
        let rows = self.read(Query::new(sql, vec![key], 0, 2)).await?;
        Ok(rows.get(0).map(|row| [row.bytes(0).to_vec(), row.bytes(1).to_vec()]))
    }
}
