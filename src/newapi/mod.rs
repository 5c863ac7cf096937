//! The one door to new-api's database, read only. Its table and column names stop here.
//!
//! Never selected: `channels.key`, `tokens.key`, passwords, access tokens, and options outside a short list.

pub mod admin;
pub mod batches;
mod bodies;
pub mod columns;
mod copy;
pub mod database;
pub mod directory;
pub mod dsn;
pub mod entries;
mod lease;
pub mod logs;
pub mod other;
pub mod query;
mod sqlite;

pub use admin::AdminClient;
pub use columns::Columns;
pub use database::{Database, ReadError, Reason};
pub use directory::{Channel, Directory};
pub use entries::Entry;
pub use logs::LogReader;
