//! A gateway that writes rows one by one, on any engine, and notes when each was committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection};
use token_monitor::clock::Clock;

use crate::data::{Engine, Table};

/// Label sets that rows come for, in turn.
const LABEL_SETS: usize = 20;

/// Writes until it is stopped.
pub struct Gateway {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<Instant>>>,
}

/// A connection that stays open.
enum Session {
    Sqlite(rusqlite::Connection),
    MariaDb(Box<MySqlConnection>),
    Postgres(Box<PgConnection>),
}

impl Gateway {
    /// Writes so many rows a second into `table` from now on.
    pub fn start(table: &Table, per_second: u32) -> anyhow::Result<Self> {
        let (engine, url, stop) = (table.engine, table.url.clone(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&stop);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || runtime.block_on(write(engine, &url, per_second, &until)));
        Ok(Self { stop, thread })
    }

    /// Ends it; says when each row was committed.
    pub fn stop(self) -> anyhow::Result<Vec<Instant>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the gateway has panicked"))?
    }
}

async fn write(
    engine: Engine,
    url: &str,
    per_second: u32,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Instant>> {
    let (mut session, mut commits) = (Session::open(engine, url).await?, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        session.exec(request(commits.len() % LABEL_SETS)).await?;
        commits.push(Instant::now());
        tokio::time::sleep(Duration::from_secs(1) / per_second).await;
    }
    Ok(commits)
}

/// A request of one of a few label sets. It costs nothing, so sums of money stay what they are.
fn request(label_set: usize) -> String {
    let (now, channel) = (Clock::system().unix(), label_set % 10 + 1);
    format!(
        "INSERT INTO logs (created_at, type, channel_id, model_name, token_id, quota, prompt_tokens, completion_tokens, \
         use_time, other) VALUES ({now}, 2, {channel}, 'model-{label_set}', 1, 0, 100, 20, 1, '{{}}')"
    )
}

impl Session {
    async fn open(engine: Engine, url: &str) -> anyhow::Result<Self> {
        Ok(match engine {
            Engine::Sqlite => {
                let file = url.strip_prefix("sqlite://").context("the path of a file")?;
                let connection = rusqlite::Connection::open(file)?;
                connection.busy_timeout(Duration::from_secs(5))?;
                Self::Sqlite(connection)
            }
            Engine::MariaDb => Self::MariaDb(Box::new(MySqlConnection::connect(url).await?)),
            Engine::Postgres => Self::Postgres(Box::new(PgConnection::connect(url).await?)),
        })
    }

    async fn exec(&mut self, sql: String) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(connection) => connection.execute_batch(&sql)?,
            Self::MariaDb(connection) => {
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
            }
            Self::Postgres(connection) => {
                connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
            }
        }
        Ok(())
    }
}
