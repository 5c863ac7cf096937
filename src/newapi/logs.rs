//! Reading the `logs` table: its columns are found, its rows come in the order of their ids.

use std::borrow::Cow;

use super::batches::{Batch, Batches, Demand};
use super::columns::Columns;
use super::database::{Database, ReadError};
use super::dsn::Engine;
use super::other;
use super::query::{Param, Parts, Query, RowRef, Rows};
use super::sqlite::TAKE;
use crate::record::{Class, Defect, LogRecord, Other, model_name};

/// Integer columns of a read, in order: see [`ints`].
const INTS: usize = 10;
/// Text columns of a read, in order: see [`texts`].
const TEXTS: usize = 6;

/// Which rows a batch is of.
const FROM_ID: &str = "WHERE id >= ? ORDER BY id";

/// Rows of a batch: few enough to be still in the processor's cache when they are parsed and counted.
const BATCH_ROWS: u32 = 500;

/// The same where each batch costs a question and an answer over the network: on MySQL.
const BATCH_ROWS_OF_SERVER: u32 = 1_000;

/// Batches of a long read, and rows of one that streams. PostgreSQL is asked for all of them at once, which is some tens of
/// milliseconds of its time, and sends what follows while the first ones are parsed.
const BATCHES: u32 = 10;
const STREAMED_ROWS: u32 = 20_000;

/// How far the clocks of gateway nodes may be apart when the beginning of the history is looked for.
const CLOCK_SKEW_SECONDS: i64 = 3600;

/// Reads the log.
#[derive(Debug, Clone)]
pub struct LogReader {
    database: Database,
    columns: Columns,
}

/// Rows of the log as they came.
#[derive(Debug)]
pub struct RawLogs {
    rows: Rows,
    schema: Schema,
    parsed: Vec<Parsed>,
    /// Fewer rows came than were asked for, so the end was reached.
    pub at_end: bool,
}

/// The same, with `other` parsed, which is most of what there is to do before a row can be counted.
#[derive(Debug)]
pub struct Logs {
    raw: RawLogs,
}

/// What the `other` of a row tells.
type Parsed = (Other, Option<Defect>);

/// A row with what it counts as.
#[derive(Debug)]
pub struct Log<'a> {
    /// The row.
    pub record: LogRecord<'a>,
    /// Its [`LogRecord::class`].
    pub class: Class,
}

/// Memory of a batch that nobody needs any more, for the next one.
#[derive(Debug, Default)]
pub struct Spare(Rows, Vec<Parsed>);

/// What parsing a row depends on.
#[derive(Debug, Clone, Copy)]
struct Schema {
    one_api: bool,
    has_other: bool,
}

/// One API has `elapsed_time` in milliseconds where new-api has `use_time` in seconds.
pub fn is_one_api(columns: &Columns) -> bool {
    columns.has("elapsed_time") && !columns.has("use_time")
}

/// The integer columns of a read.
fn ints(columns: &Columns) -> [String; INTS] {
    let duration = if is_one_api(columns) { "elapsed_time" } else { "use_time" };
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
    .map(|name| columns.int(name))
}

/// The text columns of a read.
fn texts(columns: &Columns) -> [String; TEXTS] {
    ["model_name", "group", "token_name", "username", "request_id", "other"].map(|name| columns.text(name))
}

impl LogReader {
    /// Finds out what `logs` looks like.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub async fn discover(database: Database) -> Result<Self, ReadError> {
        let columns = database.columns("logs").await?;
        for needed in ["id", "created_at", "type"] {
            if !columns.has(needed) {
                return Err(ReadError::new(
                    super::Reason::MissingColumn,
                    format!("table logs in {} has no column {needed}: is it new-api's?", database.address()),
                ));
            }
        }
        Ok(Self { database, columns })
    }

    /// Which columns there are.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Which columns of [`LogRecord::fingerprint`] there are, a bit for each.
    pub fn columns_of_fingerprint(&self) -> u8 {
        let names = LogRecord::FINGERPRINTED;
        names.iter().fold(0, |bits, name| (bits << 1) | u8::from(self.columns.has(name)))
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
        let created_at = self.columns.int("created_at");
        let first = self
            .numbers(
                format!("SELECT {created_at} FROM logs WHERE created_at >= ? ORDER BY created_at LIMIT 1"),
                vec![since.into()],
            )
            .await?;
        let Some(first) = first else { return Ok(None) };
        let until = first.saturating_add(CLOCK_SKEW_SECONDS);
        self.numbers(
            "SELECT MIN(id) FROM logs WHERE created_at >= ? AND created_at <= ?".to_owned(),
            vec![first.into(), until.into()],
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

    async fn numbers(&self, sql: String, params: Vec<Param>) -> Result<Option<i64>, ReadError> {
        let rows = self.database.read(Query::new(sql, params, 1, 0)).await?;
        Ok(rows.get(0).map(|row| row.int(0)))
    }

    /// Rows from `id` on, itself included, in the memory of `spare`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn from_id(&self, id: i64, limit: u32, spare: Spare) -> Result<RawLogs, ReadError> {
        self.rows(FROM_ID, vec![id.into()], limit, spare).await
    }

    /// Rows of a batch of a long read.
    pub fn batch_rows(&self) -> u32 {
        match self.database.engine() {
            Engine::Sqlite | Engine::Postgres => BATCH_ROWS,
            Engine::MySql => BATCH_ROWS_OF_SERVER,
        }
    }

    /// Rows from `id` on, itself included, in batches; the first one in the memory of `spare`. Not all there are, but
    /// at least one batch.
    ///
    /// # Errors
    /// If the database cannot be read; batches may have been taken before.
    pub async fn batches_from(
        &self,
        id: i64,
        spare: Spare,
        batches: &mut impl Batches,
    ) -> Result<(), ReadError> {
        let size = self.batch_rows();
        if self.database.streams() {
            let limit = STREAMED_ROWS;
            let query = self.query(FROM_ID, vec![id.into()], limit);
            let demand = batches.demand();
            let mut parts = Batching { reader: self, batches, demand, left: limit as usize, parsed: spare.1 };
            return self.database.read_in_parts(query, spare.0, size as usize, &mut parts).await;
        }
        let demand = batches.demand();
        let mut batch = self.batch_from(id, spare, demand.clone()).await?;
        let mut spare = Spare::default();
        for _ in 1..BATCHES {
            let following =
                batch.raw().last_id().filter(|_| !batch.raw().at_end).and_then(|id| id.checked_add(1));
            let Some(next) = following else { break };
            // While one is handed over, the next one is read.
            let read = self.batch_from(next, std::mem::take(&mut spare), demand.clone());
            let (taken, read) = tokio::join!(batches.take(batch), read);
            match taken {
                Some(memory) => spare = memory,
                None => return Ok(()),
            }
            batch = read?;
        }
        batches.take(batch).await;
        Ok(())
    }

    /// A batch of a long read. Whether it is parsed is decided where it was read.
    async fn batch_from(&self, id: i64, spare: Spare, demand: Demand) -> Result<Batch, ReadError> {
        let limit = self.batch_rows();
        let query = self.query(FROM_ID, vec![id.into()], limit);
        let (schema, Spare(rows, parsed)) = (self.schema(), spare);
        let make = move |rows: Rows| demand.batch(RawLogs::of(rows, limit, schema, parsed));
        self.database.read_then(query, rows, make).await
    }

    /// The newest rows up to `id`, newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn newest_up_to(&self, id: i64, limit: u32) -> Result<RawLogs, ReadError> {
        self.rows("WHERE id <= ? ORDER BY id DESC", vec![id.into()], limit, Spare::default()).await
    }

    /// Rows with these ids.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn with_ids(&self, ids: &[i64]) -> Result<RawLogs, ReadError> {
        let marks = vec!["?"; ids.len()].join(", ");
        let limit = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        self.rows(
            &format!("WHERE id IN ({marks}) ORDER BY id"),
            ids.iter().copied().map(Param::Int).collect(),
            limit,
            Spare::default(),
        )
        .await
    }

    /// Ids of the rows between `first` and `last`, both included, in order.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn ids_between(&self, first: i64, last: i64, limit: u32) -> Result<Vec<i64>, ReadError> {
        let sql = format!("SELECT id FROM logs WHERE id BETWEEN ? AND ? ORDER BY id LIMIT {limit}");
        let rows = self.database.read(Query::new(sql, vec![first.into(), last.into()], 1, 0)).await?;
        Ok(rows.iter().map(|row| row.int(0)).collect())
    }

    async fn rows(
        &self,
        condition: &str,
        params: Vec<Param>,
        limit: u32,
        spare: Spare,
    ) -> Result<RawLogs, ReadError> {
        let query = self.query(condition, params, limit);
        let rows = self.database.read_into(query, spare.0).await?;
        Ok(RawLogs::of(rows, limit, self.schema(), spare.1))
    }

    fn query(&self, condition: &str, params: Vec<Param>, limit: u32) -> Query {
        let (ints, texts) = (ints(&self.columns).join(", "), texts(&self.columns).join(", "));
        let from = format!("FROM logs {condition} LIMIT {limit}");
        let taking = (self.database.engine() == Engine::Sqlite)
            .then(|| format!("SELECT {TAKE}({ints}, {texts}) {from}"));
        Query { taking, ..Query::new(format!("SELECT {ints}, {texts} {from}"), params, INTS, TEXTS) }
    }

    fn schema(&self) -> Schema {
        Schema { one_api: is_one_api(&self.columns), has_other: self.columns.has("other") }
    }
}

/// Makes batches of the parts of a read.
struct Batching<'a, B> {
    reader: &'a LogReader,
    batches: &'a mut B,
    demand: Demand,
    /// Rows that may still come.
    left: usize,
    parsed: Vec<Parsed>,
}

impl<B: Batches> Parts for Batching<'_, B> {
    async fn take(&mut self, rows: Rows, last: bool) -> Option<Rows> {
        self.left = self.left.saturating_sub(rows.len());
        let at_end = last && !rows.cut && self.left > 0;
        let (schema, parsed) = (self.reader.schema(), std::mem::take(&mut self.parsed));
        let batch = RawLogs { rows, schema, parsed, at_end };
        let Spare(rows, parsed) = self.batches.take(self.demand.batch(batch)).await?;
        self.parsed = parsed;
        Some(rows)
    }
}

impl RawLogs {
    /// Rows of a read that asked for `limit` rows.
    fn of(rows: Rows, limit: u32, schema: Schema, parsed: Vec<Parsed>) -> Self {
        let at_end = !rows.cut && rows.len() < limit as usize;
        Self { rows, schema, parsed, at_end }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether the read ended early because its texts are long, so that there may be more rows.
    pub fn is_cut(&self) -> bool {
        self.rows.cut
    }

    /// Id of the last row.
    pub fn last_id(&self) -> Option<i64> {
        self.rows.get(self.rows.len().checked_sub(1)?).map(|row| row.int(0))
    }

    /// When each row was written, unix seconds.
    pub fn times(&self) -> impl Iterator<Item = i64> {
        self.rows.iter().map(|row| row.int(1))
    }

    /// Parses the rows, one at a time.
    pub fn records(&self) -> impl Iterator<Item = LogRecord<'_>> {
        self.rows.iter().map(|row| {
            let (other, defect) = self.schema.other(row);
            record(row, self.schema, Cow::Owned(other), defect)
        })
    }

    /// Parses all of them.
    pub fn parse(mut self) -> Logs {
        self.rows.check_texts();
        let mut parsed = std::mem::take(&mut self.parsed);
        parsed.clear();
        parsed.extend(self.rows.iter().map(|row| self.schema.other(row)));
        self.parsed = parsed;
        Logs { raw: self }
    }
}

impl Logs {
    /// The rows as they came.
    pub fn raw(&self) -> &RawLogs {
        &self.raw
    }

    /// The rows in order.
    pub fn iter(&self) -> impl Iterator<Item = Log<'_>> {
        let RawLogs { rows, parsed, schema, .. } = &self.raw;
        rows.iter().zip(parsed).map(|(row, (other, defect))| {
            let record = record(row, *schema, Cow::Borrowed(other), *defect);
            Log { class: record.class(), record }
        })
    }

    /// Their memory, for another batch.
    pub fn into_spare(self) -> Spare {
        Spare(self.raw.rows, self.raw.parsed)
    }
}

/// Rows of these types carry an `other` that counting needs.
fn needs_other(kind: i64) -> bool {
    matches!(kind, 2 | 5 | 6)
}

impl Schema {
    fn other(self, row: RowRef<'_>) -> Parsed {
        if self.has_other && needs_other(row.int(2)) {
            other::parse(row.bytes(5))
        } else {
            Default::default()
        }
    }
}

fn record<'a>(
    row: RowRef<'a>,
    schema: Schema,
    other: Cow<'a, Other>,
    defect: Option<Defect>,
) -> LogRecord<'a> {
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
        model: model_name(row.text(0)),
        group: row.text(1),
        token_name: row.text(2),
        username: row.text(3),
        request_id: row.text(4),
        other,
        defect,
        one_api: schema.one_api,
    };
    let impossible = record.prompt_tokens < 0 || record.completion_tokens < 0 || record.duration_ms < 0;
    if impossible && needs_other(kind) {
        record.defect = Some(record.defect.unwrap_or(Defect::BadColumn));
    }
    record
}
