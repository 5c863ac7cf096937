//! One of new-api's databases: connecting, reading, and why that failed.
//!
//! Every read of the program goes through [`Database::read`]: short, bounded in rows by its SQL and in bytes
//! here, in no transaction of its own, on a session that may not write.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ColumnIndex, Connection, Decode, Executor, PgConnection, Row};

use super::columns::{Columns, Kind, quote};
use super::copy;
use super::dsn::{Dsn, Engine, Target};
use super::lease::Lease;
use super::query::{Param, Parts, Query, Rows, Whole};
use super::sqlite::SqliteFile;

/// Connections to a server: the tailer's, the directory's, and some for the API.
const MAX_CONNECTIONS: u32 = 6;

/// How long getting a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);

/// How long finding out why there is no connection may take.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one read may take before its connection is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadError {
    /// What kind of failure: decides what to do, and is a metric label.
    pub reason: Reason,
    /// The engine's own words, without credentials.
    pub message: String,
}

/// Kinds of failed reads; label values of `token_monitor_tail_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No connection, or it broke.
    Unreachable,
    /// The server has no room for another connection.
    TooManyConnections,
    /// The server refuses the user or the password.
    AccessDenied,
    /// No answer in time.
    Timeout,
    /// A writer is in the middle of something.
    Busy,
    /// The table is not there.
    MissingTable,
    /// A column is not there.
    MissingColumn,
    /// The file is damaged or no database.
    Corrupt,
    /// Anything else.
    Query,
    /// monitor.db could not be written.
    Store,
}

impl Reason {
    /// All of them, for metrics that start at 0.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::TooManyConnections,
        Self::AccessDenied,
        Self::Timeout,
        Self::Busy,
        Self::MissingTable,
        Self::MissingColumn,
        Self::Corrupt,
        Self::Query,
        Self::Store,
    ];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TooManyConnections => "too_many_connections",
            Self::AccessDenied => "access_denied",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::MissingTable => "missing_table",
            Self::MissingColumn => "missing_column",
            Self::Corrupt => "corrupt",
            Self::Query => "query",
            Self::Store => "store",
        }
    }
}

impl Reason {
    /// What is wrong, in words that name no host, user, file or statement.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "new-api's database cannot be reached",
            Self::TooManyConnections => "new-api's database has no room for another connection",
            Self::AccessDenied => "new-api's database refuses the user or the password",
            Self::Timeout => "new-api's database did not answer in time",
            Self::Busy => "new-api's database is being written at this moment",
            Self::MissingTable => "new-api's database lacks a table that is needed",
            Self::MissingColumn => "new-api's database lacks a column that is needed",
            Self::Corrupt => "new-api's database file is damaged",
            Self::Query => "new-api's database refused the question",
            Self::Store => "monitor.db cannot be written",
        }
    }
}

impl ReadError {
    /// The same for pages that anybody may see: the engine's own words stand in the log only.
    pub fn words(&self) -> String {
        let reason = self.reason.as_str().replace('_', " ");
        format!("{reason}: {}; the log of this program says more", self.reason.words())
    }

    /// An error of `reason` with the engine's words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.as_str().replace('_', " "), self.message)
    }
}

impl std::error::Error for ReadError {}

/// A database that answers reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    address: String,
    engine: Engine,
    pool: Pool,
}

#[derive(Debug, Clone)]
enum Pool {
    Sqlite(SqliteFile),
    MySql(MySqlPool),
    Postgres(PgPool),
}

impl Database {
    /// Prepares to read; connects at the first read and again whenever a connection is lost.
    pub fn new(dsn: &Dsn) -> Self {
        let pool = match dsn.target() {
            Target::Sqlite(path) => Pool::Sqlite(SqliteFile::new(path)),
            Target::MySql(options) => Pool::MySql(
                MySqlPoolOptions::new()
                    .max_connections(MAX_CONNECTIONS)
                    .acquire_timeout(CONNECT_TIMEOUT)
                    .after_connect(|connection, _| {
                        Box::pin(async move {
                            connection.execute("SET SESSION TRANSACTION READ ONLY").await.map(|_| ())
                        })
                    })
                    .connect_lazy_with((**options).clone()),
            ),
            Target::Postgres(options) => Pool::Postgres(
                PgPoolOptions::new()
                    .max_connections(MAX_CONNECTIONS)
                    .acquire_timeout(CONNECT_TIMEOUT)
                    .after_connect(|connection, _| {
                        Box::pin(async move {
                            let read_only = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY";
                            connection.execute(read_only).await.map(|_| ())
                        })
                    })
                    .connect_lazy_with((**options).clone()),
            ),
        };
        Self { address: dsn.redacted(), engine: dsn.engine(), pool }
    }

    /// Where it is, without credentials.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// `name` quoted as an identifier.
    pub fn quote(&self, name: &str) -> String {
        quote(self.engine, name)
    }

    /// Reads rows.
    ///
    /// # Errors
    /// With the reason; the next read starts with a fresh connection if this one is in doubt.
    pub async fn read(&self, query: Query) -> Result<Rows, ReadError> {
        self.read_into(query, Rows::default()).await
    }

    /// The same, in the memory of rows that nobody needs any more: a history is read in many batches of one size.
    ///
    /// # Errors
    /// As for [`Database::read`].
    pub async fn read_into(&self, query: Query, spare: Rows) -> Result<Rows, ReadError> {
        self.read_then(query, spare, |rows| rows).await
    }

    /// The same, and makes of them what is wanted: rows of a file while they are still in the cache of the processor
    /// that read them.
    ///
    /// # Errors
    /// As for [`Database::read`].
    pub async fn read_then<T: Send + 'static>(
        &self,
        query: Query,
        spare: Rows,
        then: impl FnOnce(Rows) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        // In a place of its own: reads are part of many larger things.
        let read = Box::pin(self.read_patiently(query, spare, then));
        tokio::time::timeout(READ_TIMEOUT, read).await.unwrap_or_else(|_| Err(self.too_slow()))
    }

    async fn read_patiently<T: Send + 'static>(
        &self,
        query: Query,
        spare: Rows,
        then: impl FnOnce(Rows) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        let result = match &self.pool {
            Pool::Sqlite(file) => return file.read(query, spare, then).await,
            Pool::MySql(pool) => read_mysql(pool, &query, spare).await,
            Pool::Postgres(pool) => match copy::statement(&query) {
                Some(sql) => {
                    let mut whole = Whole::default();
                    let rows = Rows::reuse(&query, spare);
                    self.copy(pool, &sql, rows, usize::MAX, &mut whole).await?;
                    return Ok(then(whole.0));
                }
                None => select_postgres(pool, &query, spare).await,
            },
        };
        match result {
            Ok(rows) => Ok(then(rows)),
            Err(error) => Err(self.explain(&error).await),
        }
    }

    /// Whether one read can hand over its first rows while the server sends those that follow.
    pub fn streams(&self) -> bool {
        self.engine == Engine::Postgres
    }

    /// The same as [`Database::read`], handed to `parts` up to `size` rows at a time if it [streams](Self::streams), else in one part. Each part
    /// may take as long as a read.
    ///
    /// # Errors
    /// As for [`Database::read`]; parts may have been taken before.
    pub async fn read_in_parts(
        &self,
        query: Query,
        spare: Rows,
        size: usize,
        parts: &mut impl Parts,
    ) -> Result<(), ReadError> {
        if let Pool::Postgres(pool) = &self.pool
            && let Some(sql) = copy::statement(&query)
        {
            return self.copy(pool, &sql, Rows::reuse(&query, spare), size, parts).await;
        }
        let rows = self.read_into(query, spare).await?;
        let last = !rows.cut;
        parts.take(rows, last).await;
        Ok(())
    }

    async fn copy(
        &self,
        pool: &PgPool,
        sql: &str,
        rows: Rows,
        size: usize,
        parts: &mut impl Parts,
    ) -> Result<(), ReadError> {
        match copy::read(pool, sql, rows, size, READ_TIMEOUT, parts).await {
            Ok(()) => Ok(()),
            Err(copy::Failure::Server(error)) => Err(self.explain(&error).await),
            Err(copy::Failure::TooSlow) => Err(self.too_slow()),
        }
    }

    fn too_slow(&self) -> ReadError {
        let seconds = READ_TIMEOUT.as_secs();
        ReadError::new(Reason::Timeout, format!("no answer from {} in {seconds} s", self.address))
    }

    /// The columns of `table`.
    ///
    /// # Errors
    /// [`Reason::MissingTable`] if it is not there.
    pub async fn columns(&self, table: &str) -> Result<Columns, ReadError> {
        let sql = format!("SELECT * FROM {} WHERE 1 = 0", self.quote(table));
        let read = async {
            let result = match &self.pool {
                Pool::Sqlite(file) => {
                    let names = file.columns(sql).await?;
                    return Ok(names.into_iter().map(|name| (name, Kind::Bytes)).collect());
                }
                Pool::MySql(pool) => match describe(pool, sql, self.engine).await {
                    // Whoever was granted some columns may not ask for all of them.
                    Err(error) if is_about_rights(&error) => {
                        // Seldom wanted, so it takes no room in every read.
                        let names = Box::pin(self.granted_columns(table)).await?;
                        if names.is_empty() {
                            Err(error)
                        } else {
                            let (names, table) = (names.join(", "), self.quote(table));
                            let sql = format!("SELECT {names} FROM {table} WHERE 1 = 0");
                            describe(pool, sql, self.engine).await
                        }
                    }
                    result => result,
                },
                Pool::Postgres(pool) => describe(pool, sql, self.engine).await,
            };
            match result {
                Ok(kinds) => Ok(kinds),
                Err(error) => Err(self.explain(&error).await),
            }
        };
        let kinds = tokio::time::timeout(READ_TIMEOUT, read)
            .await
            .unwrap_or_else(|_| Err(ReadError::new(Reason::Timeout, "no answer in time")))?;
        Ok(Columns::new(self.engine, kinds))
    }

    /// The columns of `table` that the user may read, quoted; the others are as good as absent. MySQL only:
    /// PostgreSQL describes a statement to everybody.
    async fn granted_columns(&self, table: &str) -> Result<Vec<String>, ReadError> {
        let sql = "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() \
                   AND table_name = ? AND FIND_IN_SET('select', privileges) > 0";
        let query = Query::new(sql, vec![table.into()], 0, 1);
        let rows = self.read(query).await?;
        Ok(rows.iter().map(|row| self.quote(&row.text(0))).collect())
    }

    /// The kind of a failure. When a PostgreSQL server is full or starting, the pool tries again until its time is
    /// over and then does not say why, so the server is asked once more.
    async fn explain(&self, error: &sqlx::Error) -> ReadError {
        if let (Pool::Postgres(pool), sqlx::Error::PoolTimedOut) = (&self.pool, error) {
            let options = pool.connect_options();
            let connecting = PgConnection::connect_with(&options);
            if let Ok(Err(cause)) = tokio::time::timeout(DIAGNOSIS_TIMEOUT, connecting).await {
                return classify(&cause);
            }
        }
        classify(error)
    }

    /// Whether the user may insert into `logs`. Servers only.
    ///
    /// # Errors
    /// If the server does not tell.
    pub async fn may_write(&self) -> Result<bool, ReadError> {
        let sql = match self.engine {
            Engine::Sqlite => return Ok(false),
            Engine::Postgres => {
                "SELECT CASE WHEN has_table_privilege('logs', 'INSERT') THEN 1 ELSE 0 END::bigint"
            }
            // Privileges on everything, on the database, and on the table, of whoever is logged in.
            Engine::MySql => {
                "SELECT CAST(COUNT(*) AS SIGNED) FROM (\
                 SELECT grantee FROM information_schema.user_privileges WHERE privilege_type = 'INSERT' \
                 UNION ALL SELECT grantee FROM information_schema.schema_privileges \
                 WHERE privilege_type = 'INSERT' AND DATABASE() LIKE table_schema \
                 UNION ALL SELECT grantee FROM information_schema.table_privileges \
                 WHERE privilege_type = 'INSERT' AND table_schema = DATABASE()) AS granted \
                 WHERE REPLACE(grantee, '''', '') = CURRENT_USER()"
            }
        };
        let rows = self.read(Query::new(sql, vec![], 1, 0)).await?;
        Ok(rows.get(0).is_some_and(|row| row.int(0) > 0))
    }

    /// Ends all connections.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite(_) => {}
            Pool::MySql(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

async fn describe<D>(
    pool: &sqlx::Pool<D>,
    sql: String,
    engine: Engine,
) -> Result<BTreeMap<String, Kind>, sqlx::Error>
where
    D: sqlx::Database + sqlx::database::HasStatementCache,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
{
    use sqlx::{Column, Connection, SqlSafeStr, Statement, TypeInfo};
    let mut lease = Lease::of(pool).await?;
    // A statement that it prepared before still has the columns of then.
    lease.connection()?.clear_cached_statements().await?;
    let statement = lease.connection()?.prepare(AssertSqlSafe(sql).into_sql_str()).await?;
    let kind = |column: &D::Column| Kind::of(engine, column.type_info().name());
    let kinds = statement.columns().iter().map(|column| (column.name().to_owned(), kind(column))).collect();
    lease.give_back();
    Ok(kinds)
}

async fn read_mysql(pool: &MySqlPool, query: &Query, spare: Rows) -> Result<Rows, sqlx::Error> {
    let mut statement = sqlx::query(AssertSqlSafe(query.sql.clone()));
    for param in &query.params {
        statement = match param {
            Param::Int(number) => statement.bind(*number),
            Param::Text(text) => statement.bind(text.as_str()),
        };
    }
    let mut lease = Lease::of(pool).await?;
    let read = take_rows(lease.connection()?.fetch(statement), query, spare).await;
    lease.end(read)
}

async fn select_postgres(pool: &PgPool, query: &Query, spare: Rows) -> Result<Rows, sqlx::Error> {
    // A statement that stays prepared breaks behind a pooler that hands sessions around.
    let mut statement = sqlx::query(AssertSqlSafe(numbered(&query.sql))).persistent(false);
    for param in &query.params {
        statement = match param {
            Param::Int(number) => statement.bind(*number),
            Param::Text(text) => statement.bind(text.as_str()),
        };
    }
    let mut lease = Lease::of(pool).await?;
    let read = take_rows(lease.connection()?.fetch(statement), query, spare).await;
    lease.end(read)
}

/// Takes rows as they come, until there is enough of them.
async fn take_rows<R: Row>(
    mut stream: BoxStream<'_, Result<R, sqlx::Error>>,
    query: &Query,
    spare: Rows,
) -> Result<Rows, sqlx::Error>
where
    usize: ColumnIndex<R>,
    for<'r> Option<i64>: Decode<'r, R::Database>,
    for<'r> Option<&'r [u8]>: Decode<'r, R::Database>,
{
    let mut rows = Rows::reuse(query, spare);
    while let Some(row) = stream.try_next().await? {
        for column in 0..query.ints {
            rows.push_int(row.try_get_unchecked::<Option<i64>, _>(column)?.unwrap_or(0));
        }
        for column in query.ints..query.ints + query.texts {
            rows.push_text(row.try_get_unchecked::<Option<&[u8]>, _>(column)?.unwrap_or_default());
        }
        if rows.end_row() {
            break;
        }
    }
    Ok(rows)
}

/// `?` as PostgreSQL writes it. Our statements hold no other question marks.
fn numbered(sql: &str) -> String {
    let mut parts = sql.split('?');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        text.push('$');
        text.push_str(&(index + 1).to_string());
        text.push_str(part);
    }
    text
}

/// Whether MySQL lets the user in, but not at all of a table.
fn is_about_rights(error: &sqlx::Error) -> bool {
    let Some(database) = error.as_database_error() else { return false };
    let error = database.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
    error.is_some_and(|error| matches!(error.number(), 1142 | 1143))
}

/// Finds the kind of a server's failure by its documented codes.
fn classify(error: &sqlx::Error) -> ReadError {
    let reason = match error {
        sqlx::Error::Database(database) => {
            let number = database
                .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
                .map(sqlx::mysql::MySqlDatabaseError::number);
            let state = database.code();
            match (number, state.as_deref().unwrap_or_default()) {
                (Some(1146), _) | (None, "42P01") => Reason::MissingTable,
                (Some(1054), _) | (None, "42703") => Reason::MissingColumn,
                (Some(1040 | 1203 | 1226), _) | (None, "53300") => Reason::TooManyConnections,
                (Some(1044 | 1045 | 1142 | 1143 | 3159), _) | (None, "28000" | "28P01" | "42501") => {
                    Reason::AccessDenied
                }
                (Some(1053 | 1927), _) | (None, "57P01" | "57P02" | "57P03") => Reason::Unreachable,
                (Some(1205 | 1969 | 3024), _) | (None, "57014" | "55P03") => Reason::Timeout,
                _ => Reason::Query,
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Protocol(_) => Reason::Unreachable,
        _ => Reason::Query,
    };
    ReadError::new(reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_for_postgres() {
        assert_eq!(numbered("a > ? AND b < ?"), "a > $1 AND b < $2");
    }
}
