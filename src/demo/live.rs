//! The stand-in's database over time: made with a history, reopened, and fed with live traffic.
//!
//! The only place that combines [`super::traffic`] with [`super::writer`].

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::routes::Routes;
use super::row::Row;
use super::traffic::{Generator, Pace};
use super::writer::{self, Tally};
use super::{Episode, HISTORY_SECONDS, populate, schema};

/// new-api waits this long for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// new-api writes its sums this often, in seconds.
const TALLY_PERIOD: i64 = 5;
/// Further behind than this many seconds, rows are written in one transaction instead of one by one.
const BEHIND: i64 = 10;

/// A generator with the database that it writes to.
#[derive(Debug)]
pub(super) struct Live {
    conn: Connection,
    generator: Generator,
    tally: Tally,
    tally_at: i64,
    /// Made, but not yet in the database.
    unsaved: VecDeque<Row>,
}

/// Whether someone else held the database, so that trying again helps.
pub(super) fn is_busy(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

impl Live {
    /// Makes or reopens the database; complete up to the second before `now`.
    pub(super) fn open(path: &Path, seed: u64, now: i64) -> anyhow::Result<Self> {
        let started = Instant::now();
        let pace = Pace::Demo { live_from: now };
        let fresh = !path.exists();
        let (generator, rows) = if fresh {
            let mut generator = Generator::new(seed, pace, now - HISTORY_SECONDS);
            let rows = make(path, &mut generator, now)?;
            (generator, rows)
        } else {
            reopen(path, seed, pace, now)?
        };
        let conn = connect(path)?;
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(rows, ms, fresh, "demo history is complete");
        let unsaved = VecDeque::new();
        Ok(Self { conn, generator, tally: Tally::default(), tally_at: now, unsaved })
    }

    pub(super) fn start_episode(&mut self, kind: Episode, now: i64) {
        self.generator.skip_to(now - HISTORY_SECONDS);
        self.generator.start_episode(kind);
    }

    /// Writes the traffic up to and including the second `now`.
    pub(super) fn tick(&mut self, now: i64) -> anyhow::Result<usize> {
        let routes = writer::routes(&self.conn)?;
        let behind = now - self.generator.second() > BEHIND;
        self.generator.skip_to(now - HISTORY_SECONDS);
        while self.generator.second() <= now {
            self.announce();
            self.generator.advance(&routes);
            while let Some(row) = self.generator.next_due() {
                self.unsaved.push_back(row);
            }
        }
        let written = if behind { self.save_at_once()? } else { self.save_one_by_one()? };
        self.flush_tally(now)?;
        Ok(written)
    }

    /// As new-api does. A row leaves the queue once it is written.
    fn save_one_by_one(&mut self) -> anyhow::Result<usize> {
        let mut written = 0;
        while let Some(row) = self.unsaved.front() {
            writer::insert(&self.conn, row)?;
            self.tally.add(row);
            self.unsaved.pop_front();
            written += 1;
        }
        Ok(written)
    }

    fn save_at_once(&mut self) -> anyhow::Result<usize> {
        let transaction = self.conn.unchecked_transaction()?;
        for row in &self.unsaved {
            writer::insert(&transaction, row)?;
        }
        transaction.commit()?;
        let written = self.unsaved.len();
        for row in self.unsaved.drain(..) {
            self.tally.add(&row);
        }
        Ok(written)
    }

    fn flush_tally(&mut self, now: i64) -> anyhow::Result<()> {
        if now - self.tally_at < TALLY_PERIOD || self.tally.is_empty() {
            return Ok(());
        }
        let transaction = self.conn.unchecked_transaction()?;
        self.tally.flush(&transaction)?;
        transaction.commit()?;
        self.tally_at = now;
        Ok(())
    }

    fn announce(&self) {
        let second = self.generator.second();
        for spell in self.generator.spells().iter().filter(|spell| spell.from == second) {
            let (episode, channel_id) = (spell.kind.as_str(), spell.channel_id());
            tracing::info!(episode, channel_id, seconds = spell.kind.lasts(), "demo episode started");
        }
    }
}

/// A connection such as new-api has: a rollback journal, no WAL.
fn connect(path: &Path) -> anyhow::Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok(conn)
}

/// Builds the database beside its place and moves it there when it is whole, so that nobody ever opens half of it
/// and no journal is needed on the way.
fn make(path: &Path, generator: &mut Generator, now: i64) -> anyhow::Result<usize> {
    let part = path.with_extension("part");
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let conn = Connection::open(&part)?;
    conn.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; \
         PRAGMA cache_size = -64000; BEGIN;",
    )?;
    schema::create_tables(&conn)?;
    populate::fill(&conn, now)?;
    let from = now - HISTORY_SECONDS;
    let rows = fill(&conn, generator, &Routes::initial(), now, |row| row.created_at >= from)?;
    schema::create_indexes(&conn)?;
    conn.execute_batch("COMMIT")?;
    conn.close().map_err(|(_, error)| error)?;
    std::fs::rename(&part, path)?;
    Ok(rows)
}

/// Fills the gap since the last row.
fn reopen(path: &Path, seed: u64, pace: Pace, now: i64) -> anyhow::Result<(Generator, usize)> {
    let conn = connect(path)?;
    let last: Option<i64> = conn
        .query_row("SELECT max(created_at) FROM logs", [], |row| row.get(0))
        .context("not a database of the demo")?;
    let from = last.unwrap_or(0).max(now - HISTORY_SECONDS);
    // The last second may have been cut in the middle.
    let written = request_rows(&conn, from)?;
    let mut generator = Generator::new(seed, pace, from);
    let routes = writer::routes(&conn)?;

    // A killed process harms nothing: there is a journal. Only a crash of the machine could.
    conn.execute_batch("PRAGMA synchronous = OFF")?;
    let transaction = conn.unchecked_transaction()?;
    // The clock may have gone back: rows up to the last one are there in any case.
    let to = now.max(from + 1);
    let rows = fill(&transaction, &mut generator, &routes, to, |row| {
        row.created_at > from || (row.created_at == from && !written.contains(&key(row)))
    })?;
    transaction.commit()?;
    Ok((generator, rows))
}

/// Writes the rows up to the second before `to` that are `wanted`.
fn fill(
    conn: &Connection,
    generator: &mut Generator,
    routes: &Routes,
    to: i64,
    wanted: impl Fn(&Row) -> bool,
) -> anyhow::Result<usize> {
    let mut tally = Tally::default();
    let mut rows = 0;
    while let Some(row) = generator.next_before(to, routes) {
        if wanted(&row) {
            writer::insert(conn, &row)?;
            tally.add(&row);
            rows += 1;
        }
    }
    tally.flush(conn)?;
    Ok(rows)
}

/// What tells the rows of one second apart.
fn key(row: &Row) -> (String, i64, String) {
    (row.request_id.to_string(), row.kind, row.other.to_string())
}

fn request_rows(conn: &Connection, second: i64) -> anyhow::Result<HashSet<(String, i64, String)>> {
    let mut statement = conn.prepare("SELECT request_id, type, other FROM logs WHERE created_at = ?")?;
    let rows = statement.query_map([second], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
