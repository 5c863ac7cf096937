//! A test's own database, with new-api's tables, on any of the three engines.

use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use rusqlite::types::ValueRef;
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Executor, Row, TypeInfo, ValueRef as _};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::process;
use crate::schema::{LogRow, Version};

/// A row of a result: each value as text, `None` for NULL, booleans as `1` and `0`.
pub type TextRow = Vec<Option<String>>;

/// How many rows one `INSERT` takes: more gain nothing, and MariaDB limits a statement to 16 MiB.
const ROWS_PER_INSERT: usize = 1000;

/// The name that new-api gives its file.
const SQLITE_FILE: &str = "one-api.db";

/// A database engine that new-api runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// MariaDB, in these tests.
    MySql,
    /// PostgreSQL.
    Postgres,
}

impl Engine {
    /// Every engine, for tests that go through all of them.
    pub const ALL: [Self; 3] = [Self::Sqlite, Self::MySql, Self::Postgres];

    /// A column's or table's name, quoted: new-api has columns named `group` and `key`.
    pub fn identifier(self, name: &str) -> String {
        if self == Self::Postgres { format!("\"{name}\"") } else { format!("`{name}`") }
    }

    /// A text as a literal of the engine's SQL.
    pub fn literal(self, text: &str) -> String {
        let quoted = text.replace('\'', "''");
        // Only MySQL takes the backslash for an escape.
        let quoted = if self == Self::MySql { quoted.replace('\\', "\\\\") } else { quoted };
        format!("'{quoted}'")
    }

    /// A truth value as a literal: PostgreSQL takes no number for one.
    pub fn boolean(self, value: bool) -> &'static str {
        match (self, value) {
            (Self::Postgres, true) => "true",
            (Self::Postgres, false) => "false",
            (_, true) => "1",
            (_, false) => "0",
        }
    }
}

/// A database with a random name on one of the run's servers, or an SQLite file; removed when it is dropped.
pub struct Database {
    /// What it is on.
    pub engine: Engine,
    /// Whose tables it has.
    pub version: Version,
    /// As `DATABASE_URL` takes it.
    pub url: String,
    session: Mutex<Session>,
    place: Place,
}

/// Where the database is, and so how to remove it.
enum Place {
    Folder(TempDir),
    Server { url: String, name: String },
}

impl Database {
    /// Makes the database and its tables on the run's server.
    pub async fn create(engine: Engine, version: Version) -> Self {
        match engine {
            Engine::Sqlite => Self::create_file(version).await,
            Engine::MySql => Self::create_on(&super::shared_mysql_url(), engine, version).await,
            Engine::Postgres => Self::create_on(&super::shared_postgres_url(), engine, version).await,
        }
    }

    async fn create_file(version: Version) -> Self {
        let folder = process::new_folder("sqlite-");
        let url = format!("sqlite://{}", folder.path().join(SQLITE_FILE).display());
        Self::fill(Engine::Sqlite, version, url, Place::Folder(folder)).await
    }

    /// Makes it on another server, of this URL without a database's name.
    pub async fn create_on(server: &str, engine: Engine, version: Version) -> Self {
        let name = format!("test_{:016x}", process::random());
        let mut session = Session::open(engine, server).await;
        session.exec(&format!("CREATE DATABASE {name}")).await;
        let place = Place::Server { url: server.to_owned(), name: name.clone() };
        Self::fill(engine, version, format!("{server}{name}"), place).await
    }

    async fn fill(engine: Engine, version: Version, url: String, place: Place) -> Self {
        let mut session = Session::open(engine, &url).await;
        for statement in version.statements(engine) {
            session.exec(statement).await;
        }
        Self { engine, version, url, session: Mutex::new(session), place }
    }

    /// The database's name; of SQLite the file's path.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Folder(folder) => folder.path().join(SQLITE_FILE).display().to_string(),
            Place::Server { name, .. } => name.clone(),
        }
    }

    /// Runs a statement; panics if it fails.
    pub async fn exec(&self, sql: &str) {
        self.session.lock().await.exec(sql).await;
    }

    /// All rows of a query.
    pub async fn rows(&self, sql: &str) -> Vec<TextRow> {
        self.session.lock().await.rows(sql).await
    }

    /// The only value of a query.
    pub async fn query_i64(&self, sql: &str) -> i64 {
        self.number(sql).await
    }

    /// The only value of a query.
    pub async fn query_f64(&self, sql: &str) -> f64 {
        self.number(sql).await
    }

    async fn number<T: FromStr>(&self, sql: &str) -> T {
        let rows = self.rows(sql).await;
        let value = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
        value.unwrap_or_else(|| panic!("no number: {sql} answers {rows:?}"))
    }

    /// Inserts a row into `logs` and returns its id.
    pub async fn insert_log(&self, row: &LogRow) -> i64 {
        let insert = LogRow::insert(std::slice::from_ref(row), self.engine, self.version);
        self.query_i64(&format!("{insert} RETURNING id")).await
    }

    /// Inserts rows into `logs`, many with one statement.
    pub async fn insert_logs(&self, rows: &[LogRow]) {
        for chunk in rows.chunks(ROWS_PER_INSERT) {
            self.exec(&LogRow::insert(chunk, self.engine, self.version)).await;
        }
    }

    /// Another connection, for a test that needs a transaction of its own.
    pub async fn session(&self) -> Session {
        Session::open(self.engine, &self.url).await
    }

    /// Connects anew, after the server was stopped and started.
    pub async fn reconnect(&self) {
        *self.session.lock().await = self.session().await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Place::Server { url, name } = &self.place else { return };
        let (engine, url, name) = (self.engine, url.clone(), name.clone());
        // On a thread of its own: this may be inside a runtime, where one cannot wait.
        let drop = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("building a runtime");
            // It does not matter if it fails: the server may be stopped, and its folder goes in the end.
            runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(10), drop_database(engine, &url, &name)).await
            })
        });
        drop.join().ok();
    }
}

async fn drop_database(engine: Engine, server: &str, name: &str) -> Result<(), sqlx::Error> {
    match engine {
        Engine::Sqlite => {}
        Engine::MySql => {
            let sql = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"));
            MySqlConnection::connect(server).await?.execute(sqlx::raw_sql(sql)).await?;
        }
        Engine::Postgres => {
            // FORCE: it is dropped although the program under test is still connected.
            let sql = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
            PgConnection::connect(server).await?.execute(sqlx::raw_sql(sql)).await?;
        }
    }
    Ok(())
}

fn sqlite_path(url: &str) -> PathBuf {
    url.strip_prefix("sqlite://").expect("an SQLite URL").into()
}

/// A connection.
pub enum Session {
    /// To an SQLite file.
    Sqlite(rusqlite::Connection),
    /// To MariaDB.
    MySql(Box<MySqlConnection>),
    /// To PostgreSQL.
    Postgres(Box<PgConnection>),
}

impl Session {
    /// Connects; panics if it cannot. Makes the file of an SQLite URL.
    pub async fn open(engine: Engine, url: &str) -> Self {
        match engine {
            Engine::Sqlite => {
                let connection = rusqlite::Connection::open(sqlite_path(url)).expect("opening the file");
                connection.busy_timeout(Duration::from_secs(10)).expect("setting the timeout");
                Self::Sqlite(connection)
            }
            Engine::MySql => Self::MySql(Box::new(connected(MySqlConnection::connect(url).await, url))),
            Engine::Postgres => Self::Postgres(Box::new(connected(PgConnection::connect(url).await, url))),
        }
    }

    /// Runs a statement; panics if it fails.
    pub async fn exec(&mut self, sql: &str) {
        let text = AssertSqlSafe(sql.to_owned());
        let done = match self {
            Self::Sqlite(connection) => connection.execute_batch(sql).map_err(anyhow::Error::from),
            Self::MySql(c) => c.execute(sqlx::raw_sql(text)).await.map(drop).map_err(anyhow::Error::from),
            Self::Postgres(c) => c.execute(sqlx::raw_sql(text)).await.map(drop).map_err(anyhow::Error::from),
        };
        done.unwrap_or_else(|e| panic!("{e:#}: {}", shortened(sql)));
    }

    /// All rows of a query; panics if it fails.
    pub async fn rows(&mut self, sql: &str) -> Vec<TextRow> {
        // Not prepared: so MySQL and PostgreSQL send every type as text.
        let text = AssertSqlSafe(sql.to_owned());
        let rows = match self {
            Self::Sqlite(connection) => sqlite_rows(connection, sql).map_err(anyhow::Error::from),
            Self::MySql(c) => mysql_rows(c.fetch_all(sqlx::raw_sql(text)).await).map_err(anyhow::Error::from),
            Self::Postgres(c) => {
                postgres_rows(c.fetch_all(sqlx::raw_sql(text)).await).map_err(anyhow::Error::from)
            }
        };
        rows.unwrap_or_else(|e| panic!("{e:#}: {}", shortened(sql)))
    }
}

fn connected<C>(connection: Result<C, sqlx::Error>, url: &str) -> C {
    connection.unwrap_or_else(|e| panic!("cannot connect to {url}: {e}"))
}

fn shortened(sql: &str) -> String {
    sql.chars().take(300).collect()
}

fn sqlite_rows(connection: &rusqlite::Connection, sql: &str) -> rusqlite::Result<Vec<TextRow>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let value = |column| {
            Ok(match row.get_ref(column)? {
                ValueRef::Null => None,
                ValueRef::Integer(n) => Some(n.to_string()),
                ValueRef::Real(x) => Some(x.to_string()),
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                    Some(String::from_utf8_lossy(bytes).into_owned())
                }
            })
        };
        (0..columns).map(value).collect()
    })?;
    rows.collect()
}

fn mysql_rows(rows: sqlx::Result<Vec<MySqlRow>>) -> sqlx::Result<Vec<TextRow>> {
    // Unchecked: the value is text, whatever the column's type.
    let text = |row: &MySqlRow| (0..row.len()).map(|column| row.try_get_unchecked(column)).collect();
    rows?.iter().map(text).collect()
}

fn postgres_rows(rows: sqlx::Result<Vec<PgRow>>) -> sqlx::Result<Vec<TextRow>> {
    rows?.iter().map(|row| (0..row.len()).map(|column| postgres_text(row, column)).collect()).collect()
}

fn postgres_text(row: &PgRow, column: usize) -> sqlx::Result<Option<String>> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(None);
    }
    let boolean = value.type_info().name() == "BOOL";
    let text = value.as_str().map_err(sqlx::Error::Decode)?;
    Ok(Some(match (boolean, text) {
        (true, "t") => "1".to_owned(),
        (true, _) => "0".to_owned(),
        (false, text) => text.to_owned(),
    }))
}
