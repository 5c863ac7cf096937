//! An embedded stand-in for new-api: its SQLite database with days of history, live traffic, its admin API.
//!
//! It plays the gateway's part and nothing more: it never reads what token-monitor makes of it. The only clock is
//! the `now` that it is given.
//!
//! ```text
//! dice, world -> routes, episodes -> request, sundry -> traffic::Generator -> writer -> one-api.db <- admin
//! ```

pub mod admin;
mod admin_store;
pub mod charge;
pub mod command;
mod detail;
pub mod dice;
pub mod episodes;
pub mod failure;
mod json;
mod live;
mod people;
mod populate;
pub mod request;
pub mod routes;
pub mod row;
pub mod schema;
mod sundry;
pub mod traffic;
pub mod world;
pub mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use admin::Generation;
pub use episodes::Episode;
pub use row::Row;
pub use traffic::history;

/// Days of history that a fresh stand-in has, in seconds; also the longest gap that a reopened one fills.
pub const HISTORY_SECONDS: i64 = 3 * 86_400;

/// new-api's own name for its database.
const DATABASE: &str = "one-api.db";
/// How often live traffic is looked after. Rows carry whole seconds, so this only bounds how late they come.
const TICK: Duration = Duration::from_millis(250);

/// What the stand-in is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Folder of the database, made if it is missing.
    pub dir: PathBuf,
    /// Another seed, another traffic.
    pub seed: u64,
    /// Which routes its admin API has.
    pub generation: Generation,
}

impl Default for Options {
    fn default() -> Self {
        Self { dir: PathBuf::from("data/demo"), seed: 42, generation: Generation::Post }
    }
}

/// What live traffic and the admin API share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    generation: Generation,
    /// Unix seconds of the last tick: the admin API's clock.
    now: AtomicI64,
    /// Episodes asked for and not yet started.
    wanted: Mutex<Vec<Episode>>,
}

impl Shared {
    fn now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    fn want(&self, kind: Episode) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push(kind);
    }

    fn take_wanted(&self) -> Vec<Episode> {
        std::mem::take(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The stand-in, ready to make live traffic.
#[derive(Debug)]
pub struct Demo {
    shared: Arc<Shared>,
    live: live::Live,
}

impl Demo {
    /// Makes the stand-in with its history, or reopens it and fills the time since its last row, at most
    /// [`HISTORY_SECONDS`]. Blocking: call it on a blocking thread.
    ///
    /// # Errors
    /// If the folder cannot be written, or holds a file of that name that is no such database.
    pub fn open(options: &Options, now: i64) -> anyhow::Result<Self> {
        let Options { dir, seed, generation } = options;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let path = dir.join(DATABASE);
        let live = live::Live::open(&path, *seed, now)
            .with_context(|| format!("cannot use the demo database {}", path.display()))?;
        let shared =
            Shared { path, generation: *generation, now: AtomicI64::new(now), wanted: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), live })
    }

    /// The SQLite file, for `DATABASE_URL`.
    pub fn database_path(&self) -> &Path {
        &self.shared.path
    }

    /// Access token of the administrator with user id 1, 32 characters.
    pub fn admin_token(&self) -> &str {
        world::ADMIN_TOKEN
    }

    /// The admin API and `POST /demo/episode/{slow|errors|burn}`. The latter answers only to loopback, so serve
    /// it with `into_make_service_with_connect_info::<SocketAddr>()`.
    pub fn admin_router(&self) -> axum::Router {
        admin::router(Arc::clone(&self.shared))
    }

    /// Starts an episode with the next tick, besides those that the seed schedules.
    pub fn start_episode(&self, kind: Episode) {
        self.shared.want(kind);
    }

    /// Writes the traffic up to and including the second `now`; says how many rows. Blocking. [`Self::run`] does
    /// this by itself; tests drive it by hand.
    ///
    /// # Errors
    /// If the database cannot be written. What was not written is tried again with the next tick.
    pub fn tick(&mut self, now: i64) -> anyhow::Result<usize> {
        self.shared.now.store(now, Ordering::Relaxed);
        for kind in self.shared.take_wanted() {
            self.live.start_episode(kind, now);
        }
        self.live.tick(now)
    }

    /// Live traffic until stopped.
    ///
    /// # Errors
    /// If the database cannot be written for a reason other than that someone else holds it.
    pub async fn run(
        mut self,
        now: impl Fn() -> i64 + Send + Sync + 'static,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut timer = tokio::time::interval(TICK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = timer.tick() => {}
            }
            let at = now();
            let (demo, result) = tokio::task::spawn_blocking(move || {
                let result = self.tick(at);
                (self, result)
            })
            .await
            .context("the demo's traffic crashed")?;
            self = demo;
            if let Err(error) = result {
                if !live::is_busy(&error) {
                    return Err(error.context("the demo's database cannot be written"));
                }
                tracing::warn!(error = format!("{error:#}"), "demo database is busy, trying again");
            }
        }
    }
}

#[cfg(test)]
mod tests;
