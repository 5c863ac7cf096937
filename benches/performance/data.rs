//! Tables of the size that is wanted, on each engine, and the engines' own clients.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rusqlite::Connection;
use token_monitor::clock::Clock;
use token_monitor::demo::{self, Row, schema, writer};

/// Label sets of the big table: 60 channels with 50 models each.
pub const CHANNELS: usize = 60;
pub const MODELS: usize = 50;

/// The columns that the monitor reads.
const INTS: &str =
    "id,created_at,type,channel_id,token_id,quota,prompt_tokens,completion_tokens,use_time,is_stream";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    MariaDb,
    Postgres,
}

impl Engine {
    pub const ALL: [Self; 3] = [Self::Sqlite, Self::MariaDb, Self::Postgres];

    /// What the reference is called.
    pub fn client(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite3",
            Self::MariaDb => "mariadb --quick",
            Self::Postgres => "psql COPY",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::MariaDb => "MariaDB",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// A filled `logs` with the tables beside it.
pub struct Table {
    pub engine: Engine,
    pub url: String,
    name: String,
    path: PathBuf,
}

/// A folder for everything, below the servers'.
pub fn folder() -> anyhow::Result<PathBuf> {
    let folder = PathBuf::from(variable("TEST_SERVERS_DIR")?).join("bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn variable(name: &str) -> anyhow::Result<String> {
    let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
    value.with_context(|| format!("{name} is not set: run scripts/bench"))
}

fn now() -> i64 {
    Clock::system().unix()
}

/// Rows as the demo makes them, spread over the label sets.
fn rows(count: usize) -> impl Iterator<Item = Row> {
    let to = now();
    let from = to - 20 * 86_400;
    let per_second = count as f64 * 1.3 / (to - from) as f64;
    demo::history(7, from, to, per_second).take(count).enumerate().map(|(index, mut row)| {
        row.channel_id = i64::try_from(index % CHANNELS).unwrap_or(0) + 1;
        row.model_name = format!("model-{}", index / CHANNELS % MODELS).into();
        row
    })
}

impl Table {
    /// Makes a table of `count` rows.
    pub fn fill(engine: Engine, folder: &Path, name: &str, count: usize) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.db"));
        match engine {
            Engine::Sqlite => {
                let _ = std::fs::remove_file(&path);
                let mut connection = Connection::open(&path)?;
                schema::create(&connection)?;
                connection.pragma_update(None, "synchronous", "off")?;
                let transaction = connection.transaction()?;
                let mut filled = 0;
                for row in rows(count) {
                    writer::insert(&transaction, &row)?;
                    filled += 1;
                }
                transaction.commit()?;
                ensure!(filled == count, "the generator gave {filled} rows instead of {count}");
                Ok(Self { engine, url: format!("sqlite://{}", path.display()), name: name.to_owned(), path })
            }
            Engine::MariaDb | Engine::Postgres => {
                let csv = folder.join(format!("{name}.csv"));
                write_csv(&csv, count)?;
                let server =
                    variable(if engine == Engine::MariaDb { "TEST_MYSQL_URL" } else { "TEST_POSTGRES_URL" })?;
                let name = format!("bench_{name}");
                let table = Self { engine, url: format!("{server}{name}"), name, path: csv.clone() };
                table.load(&csv)?;
                std::fs::remove_file(csv)?;
                Ok(table)
            }
        }
    }

    /// A small SQLite table with so many label sets.
    pub fn fill_labels(folder: &Path, name: &str, label_sets: usize) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.db"));
        let mut connection = Connection::open(&path)?;
        schema::create(&connection)?;
        let transaction = connection.transaction()?;
        for index in 0..label_sets * 4 {
            writer::insert(&transaction, &labelled(index % label_sets))?;
        }
        transaction.commit()?;
        let url = format!("sqlite://{}", path.display());
        Ok(Self { engine: Engine::Sqlite, url, name: name.to_owned(), path })
    }

    fn load(&self, csv: &Path) -> anyhow::Result<()> {
        let all = "user_id,created_at,type,content,username,token_name,model_name,quota,prompt_tokens,completion_tokens,use_time,is_stream,channel_id,token_id,GROUP,ip,request_id,upstream_request_id,other";
        let (fixture, quote) = if self.engine == Engine::MariaDb {
            (include_str!("../../tests/fixtures/schema/v1.0.0-rc.24/mysql.sql"), "`group`")
        } else {
            (include_str!("../../tests/fixtures/schema/v1.0.0-rc.24/postgres.sql"), "\"group\"")
        };
        let (columns, csv) = (all.replace("GROUP", quote), csv.display());
        self.sql(&format!("CREATE DATABASE {}", self.name), false)?;
        self.sql(fixture, true)?;
        if self.engine == Engine::MariaDb {
            let load = format!("LOAD DATA LOCAL INFILE '{csv}' INTO TABLE logs CHARACTER SET utf8mb4");
            let form = "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\\n'";
            self.sql(&format!("{load} {form} ({columns})"), true)?;
            self.sql("ANALYZE TABLE logs", true)
        } else {
            self.sql(&format!("\\copy logs ({columns}) FROM '{csv}' WITH (FORMAT csv)"), true)?;
            self.sql("VACUUM ANALYZE logs", true)
        }
    }

    /// Runs SQL with the engine's own client.
    fn sql(&self, sql: &str, inside: bool) -> anyhow::Result<()> {
        let mut child = self.client(inside)?.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        child.stdin.take().context("an input")?.write_all(sql.as_bytes())?;
        ensure!(child.wait()?.success(), "{} refused: {}", self.engine.client(), &sql[..sql.len().min(200)]);
        Ok(())
    }

    fn client(&self, inside: bool) -> anyhow::Result<Command> {
        let mut command;
        match self.engine {
            Engine::Sqlite => {
                command = Command::new("sqlite3");
                command.arg(&self.path);
            }
            Engine::MariaDb => {
                let port = port(&variable("TEST_MYSQL_URL")?)?;
                command = Command::new("mariadb");
                command.args([
                    "--no-defaults",
                    "--host=127.0.0.1",
                    "--user=root",
                    "--local-infile=1",
                    "--quick",
                    "--batch",
                ]);
                command.arg(format!("--port={port}"));
                if inside {
                    command.arg(&self.name);
                }
            }
            Engine::Postgres => {
                let port = port(&variable("TEST_POSTGRES_URL")?)?;
                command = Command::new("psql");
                command.args([
                    "-X",
                    "-q",
                    "-h",
                    "127.0.0.1",
                    "-U",
                    "postgres",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-p",
                    &port,
                ]);
                command.args(["-d", if inside { &self.name } else { "postgres" }]);
            }
        }
        Ok(command)
    }

    /// The number that a query gives, by the engine's own client.
    pub fn number(&self, query: &str) -> anyhow::Result<f64> {
        let mut child = self.client(true)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("an input")?.write_all(format!("{query};").as_bytes())?;
        let printed = String::from_utf8(child.wait_with_output()?.stdout)?;
        // Clients print headings as well.
        let number = printed.lines().find_map(|line| line.trim().parse().ok());
        number.with_context(|| format!("no number: {query}"))
    }

    /// Reads what the monitor reads, with the engine's own client; the text goes nowhere.
    pub fn read_with_client(&self) -> anyhow::Result<Duration> {
        let group = if self.engine == Engine::MariaDb { "`group`" } else { "\"group\"" };
        let select = format!(
            "SELECT {INTS},model_name,{group},token_name,username,request_id,other FROM logs ORDER BY id"
        );
        let select =
            if self.engine == Engine::Postgres { format!("COPY ({select}) TO STDOUT") } else { select };
        let began = Instant::now();
        self.sql(&format!("{select};"), true)?;
        Ok(began.elapsed())
    }

    /// Adds rows in one transaction.
    pub fn insert(&self, count: usize) -> anyhow::Result<()> {
        if self.engine == Engine::Sqlite {
            let mut connection = Connection::open(&self.path)?;
            connection.pragma_update(None, "synchronous", "off")?;
            let transaction = connection.transaction()?;
            for row in rows(count) {
                writer::insert(&transaction, &row)?;
            }
            transaction.commit()?;
            return Ok(());
        }
        let values: Vec<String> = rows(count)
            .map(|row| {
                format!(
                    "({},{},{},'{}',{},{},{},{},{},'{}',{})",
                    row.created_at,
                    row.kind,
                    row.quota,
                    row.model_name,
                    row.prompt_tokens,
                    row.completion_tokens,
                    row.use_time,
                    row.channel_id,
                    row.token_id,
                    row.request_id,
                    quote(&row.other)
                )
            })
            .collect();
        self.sql(&format!("INSERT INTO logs (created_at,type,quota,model_name,prompt_tokens,completion_tokens,use_time,channel_id,token_id,request_id,other) VALUES {};", values.join(",")), true)?;
        Ok(())
    }

    /// Adds one row of a known label set to a SQLite table; gives the instant of its commit.
    pub fn insert_one(&self) -> anyhow::Result<Instant> {
        let connection = Connection::open(&self.path)?;
        writer::insert(&connection, &labelled(0))?;
        Ok(Instant::now())
    }

    pub fn remove(self) -> anyhow::Result<()> {
        if self.engine == Engine::Sqlite {
            std::fs::remove_file(&self.path)?;
            return Ok(());
        }
        self.sql(&format!("DROP DATABASE {}", self.name), false)
    }
}

/// A request of the label set with this number.
fn labelled(index: usize) -> Row {
    let mut row = rows(200).find(|row| row.kind == 2 && row.is_stream).expect("a request");
    row.created_at = now();
    row.channel_id = i64::try_from(index % 10).unwrap_or(0) + 1;
    row.model_name = format!("model-{index}").into();
    row
}

fn port(url: &str) -> anyhow::Result<String> {
    Ok(url.trim_end_matches('/').rsplit(':').next().context("a port")?.to_owned())
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn write_csv(path: &Path, count: usize) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    let text = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    for row in rows(count) {
        writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            row.user_id,
            row.created_at,
            row.kind,
            text(&row.content),
            text(&row.username),
            text(&row.token_name),
            text(&row.model_name),
            row.quota,
            row.prompt_tokens,
            row.completion_tokens,
            row.use_time,
            u8::from(row.is_stream),
            row.channel_id,
            row.token_id,
            text(&row.group),
            text(&row.ip),
            text(&row.request_id),
            text(&row.upstream_request_id),
            text(&row.other)
        )?;
    }
    out.flush()?;
    Ok(())
}
