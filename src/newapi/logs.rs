//! Reading the `logs` table: its columns are found, its rows come in the order of their ids.

use std::collections::BTreeSet;

use super::database::{Database, Query, ReadError, RowRef, Rows};
use super::dsn::Engine;
use super::other;
use crate::record::{Defect, LogRecord};

/// Integer columns of a read, in order: see [`Columns::ints`].
const INTS: usize = 10;
/// Text columns of a read, in order: see [`Columns::texts`].
const TEXTS: usize = 6;

/// How far the clocks of gateway nodes may be apart when the beginning of the history is looked for.
const CLOCK_SKEW_SECONDS: i64 = 3600;

/// Reads the log.
#[derive(Debug, Clone)]
pub struct LogReader {
    database: Database,
    columns: Columns,
}

/// Which columns this installation has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    present: BTreeSet<String>,
}

/// Rows of the log as they came; parsing them is left to whoever counts them, on another core.
#[derive(Debug)]
pub struct RawLogs {
    rows: Rows,
    schema: Schema,
    /// Fewer rows came than were asked for, so the end was reached.
    pub at_end: bool,
}

/// Parsed rows.
#[derive(Debug, Default)]
pub struct Batch {
    /// The rows in their order.
    pub records: Vec<LogRecord>,
    /// The end of the log was reached.
    pub at_end: bool,
}

/// What parsing a row depends on.
#[derive(Debug, Clone, Copy)]
struct Schema {
    one_api: bool,
    has_other: bool,
}

impl Columns {
    /// One API has `elapsed_time` in milliseconds where new-api has `use_time` in seconds.
    pub fn is_one_api(&self) -> bool {
        self.has("elapsed_time") && !self.has("use_time")
    }

    /// Whether `logs` has the column.
    pub fn has(&self, name: &str) -> bool {
        self.present.contains(name)
    }

    fn ints(&self, database: &Database) -> Vec<String> {
        let duration = if self.is_one_api() { "elapsed_time" } else { "use_time" };
        [
            "id",
            "created_at",
            "type",
            "channel_id",
            "token_id",
            "quota",
            "prompt_tokens",
            "completion_tokens",
            duration,
            "is_stream",
        ]
        .into_iter()
        .map(|name| self.int(database, name))
        .collect()
    }

    fn texts(&self, database: &Database) -> Vec<String> {
        ["model_name", "group", "token_name", "username", "request_id", "other"]
            .into_iter()
            .map(|name| {
                if self.has(name) {
                    format!("COALESCE({}, '')", database.quote(name))
                } else {
                    "''".to_owned()
                }
            })
            .collect()
    }

    /// An expression that is a 64-bit integer on every engine, whatever the column is.
    fn int(&self, database: &Database, name: &str) -> String {
        let quoted = database.quote(name);
        match (self.has(name), database.engine()) {
            (false, Engine::Postgres) => "0::bigint".to_owned(),
            (false, Engine::MySql) => "CAST(0 AS SIGNED)".to_owned(),
            (false, Engine::Sqlite) => "0".to_owned(),
            (true, Engine::Sqlite) => quoted,
            (true, Engine::MySql) => format!("CAST(COALESCE({quoted}, 0) AS SIGNED)"),
            // A boolean here, a number on installations that were moved over from MySQL.
            (true, Engine::Postgres) if name == "is_stream" => {
                format!("CASE WHEN {quoted}::text IN ('true', 't', '1') THEN 1 ELSE 0 END::bigint")
            }
            (true, Engine::Postgres) => format!("COALESCE({quoted}, 0)::bigint"),
        }
    }
}

impl LogReader {
    /// Finds out what `logs` looks like.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub async fn discover(database: Database) -> Result<Self, ReadError> {
        let present: BTreeSet<String> = database.columns("logs").await?.into_iter().collect();
        for needed in ["id", "created_at", "type"] {
            if !present.contains(needed) {
                return Err(ReadError::new(
                    super::Reason::MissingColumn,
                    format!("table logs in {} has no column {needed}: is it new-api's?", database.address()),
                ));
            }
        }
        Ok(Self { database, columns: Columns { present } })
    }

    /// Which columns there are.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The database it reads.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The smallest id whose row may belong to the time from `since` (unix seconds) on; None if no row does.
    /// Ids and times run together but for the clocks of the nodes, so the first rows by time are looked at.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn first_id_since(&self, since: i64) -> Result<Option<i64>, ReadError> {
        let created_at = self.columns.int(&self.database, "created_at");
        let first = self
            .numbers(
                format!("SELECT {created_at} FROM logs WHERE created_at >= ? ORDER BY created_at LIMIT 1"),
                vec![since],
            )
            .await?;
        let Some(first) = first else { return Ok(None) };
        let until = first.saturating_add(CLOCK_SKEW_SECONDS);
        self.numbers(
            "SELECT MIN(id) FROM logs WHERE created_at >= ? AND created_at <= ?".to_owned(),
            vec![first, until],
        )
        .await
    }

    /// The highest id; None if the table is empty.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn last_id(&self) -> Result<Option<i64>, ReadError> {
        self.numbers("SELECT id FROM logs ORDER BY id DESC LIMIT 1".to_owned(), vec![]).await
    }

    async fn numbers(&self, sql: String, params: Vec<i64>) -> Result<Option<i64>, ReadError> {
        let rows = self.database.read(Query { sql, params, ints: 1, texts: 0 }).await?;
        Ok(rows.get(0).map(|row| row.int(0)))
    }

    /// Rows from `id` on, itself included.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn from_id(&self, id: i64, limit: u32) -> Result<RawLogs, ReadError> {
        self.rows("WHERE id >= ? ORDER BY id", vec![id], limit).await
    }

    /// The newest rows up to `id`, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn newest_up_to(&self, id: i64, limit: u32) -> Result<RawLogs, ReadError> {
        self.rows("WHERE id <= ? ORDER BY id DESC", vec![id], limit).await
    }

    /// Rows with these ids.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn with_ids(&self, ids: &[i64]) -> Result<RawLogs, ReadError> {
        let marks = vec!["?"; ids.len()].join(", ");
        let limit = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        self.rows(&format!("WHERE id IN ({marks}) ORDER BY id"), ids.to_vec(), limit).await
    }

    /// Ids of the rows between `first` and `last`, both included, in order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn ids_between(&self, first: i64, last: i64, limit: u32) -> Result<Vec<i64>, ReadError> {
        let sql = format!("SELECT id FROM logs WHERE id BETWEEN ? AND ? ORDER BY id LIMIT {limit}");
        let rows = self.database.read(Query { sql, params: vec![first, last], ints: 1, texts: 0 }).await?;
        Ok(rows.iter().map(|row| row.int(0)).collect())
    }

    async fn rows(&self, condition: &str, params: Vec<i64>, limit: u32) -> Result<RawLogs, ReadError> {
        let mut select = self.columns.ints(&self.database);
        select.extend(self.columns.texts(&self.database));
        let sql = format!("SELECT {} FROM logs {condition} LIMIT {limit}", select.join(", "));
        let rows = self.database.read(Query { sql, params, ints: INTS, texts: TEXTS }).await?;
        Ok(RawLogs {
            at_end: !rows.cut && rows.len() < limit as usize,
            schema: Schema { one_api: self.columns.is_one_api(), has_other: self.columns.has("other") },
            rows,
        })
    }
}

impl RawLogs {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Id of the last row.
    pub fn last_id(&self) -> Option<i64> {
        self.rows.get(self.rows.len().checked_sub(1)?).map(|row| row.int(0))
    }

    /// Parses all rows.
    pub fn parse(&self) -> Batch {
        Batch { records: self.records().collect(), at_end: self.at_end }
    }

    /// Parses the rows, one at a time.
    pub fn records(&self) -> impl Iterator<Item = LogRecord> + '_ {
        self.rows.iter().map(|row| record(row, self.schema))
    }
}

/// Rows of these types carry an `other` that counting needs.
fn needs_other(kind: i64) -> bool {
    matches!(kind, 2 | 5 | 6)
}

fn record(row: RowRef<'_>, schema: Schema) -> LogRecord {
    let kind = row.int(2);
    let mut record = LogRecord {
        id: row.int(0),
        created_at: row.int(1),
        kind,
        channel_id: row.int(3),
        token_id: row.int(4),
        quota: row.int(5),
        prompt_tokens: row.int(6),
        completion_tokens: row.int(7),
        duration_ms: if schema.one_api { row.int(8) } else { row.int(8).saturating_mul(1000) },
        stream: row.int(9) != 0,
        model: row.text(0),
        group: row.text(1),
        token_name: row.text(2),
        username: row.text(3),
        request_id: row.text(4),
        one_api: schema.one_api,
        ..LogRecord::default()
    };
    if schema.has_other && needs_other(kind) {
        (record.other, record.defect) = other::parse(row.bytes(5));
    }
    let impossible = record.prompt_tokens < 0 || record.completion_tokens < 0 || record.duration_ms < 0;
    if impossible && needs_other(kind) {
        record.defect = Some(record.defect.unwrap_or(Defect::BadColumn));
    }
    record
}
