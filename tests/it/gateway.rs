//! A gateway whose nodes write rows into the log until they are stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::ledger::mixed;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine, Session};

/// The rows with this number, at most [`STEP`] of them.
type Rows = fn(u64) -> Vec<LogRow>;

/// From the number of some rows to that of the next.
const STEP: u64 = 100;

/// Those who write.
pub struct Gateway {
    stop: Arc<AtomicBool>,
    nodes: Vec<JoinHandle<u64>>,
}

/// One of them.
struct Node {
    session: Session,
    engine: Engine,
    version: Version,
    rows: Rows,
    /// Its transactions stay open for a while, so that rows become visible after others with higher ids.
    late: bool,
}

impl Gateway {
    /// Starts them: one that writes at once, and one whose rows come late.
    pub async fn start(database: &Database, rows: Rows) -> Self {
        let (stop, mut nodes) = (Arc::new(AtomicBool::new(false)), Vec::new());
        // SQLite has one writer at a time, so there no row can become visible after a later one.
        let late = (database.engine != Engine::Sqlite).then_some(true);
        for late in std::iter::once(false).chain(late) {
            let (engine, version) = (database.engine, database.version);
            let node = Node { session: database.session().await, engine, version, rows, late };
            nodes.push(tokio::spawn(node.write(Arc::clone(&stop))));
        }
        Self { stop, nodes }
    }

    /// Ends them; says how many rows they wrote.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut rows = 0;
        for node in self.nodes {
            rows += node.await.expect("a node without failure");
        }
        rows
    }
}

impl Node {
    /// Writes some rows every few milliseconds.
    async fn write(mut self, stop: Arc<AtomicBool>) -> u64 {
        let (mut next, mut written) = (if self.late { 2_000_000 } else { 1_000_000 }, 0);
        while !stop.load(Ordering::Relaxed) {
            let rows = (self.rows)(next);
            let insert = LogRow::insert(&rows, self.engine, self.version);
            if self.late {
                self.session.exec("BEGIN").await;
                self.session.exec(&insert).await;
                sleep(Duration::from_millis(mixed(next) % 200)).await;
                self.session.exec("COMMIT").await;
            } else {
                self.session.exec(&insert).await;
                sleep(Duration::from_millis(4 + mixed(next) % 20)).await;
            }
            written += rows.len() as u64;
            next += STEP;
        }
        written
    }
}
