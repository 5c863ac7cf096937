//! token-monitor: exact metrics, limits and a circuit breaker for the new-api LLM gateway.
//!
//! ```text
//! new-api's database ──► newapi ──► tail ──► usage ──► state ──► metrics ──► http
//!                           │         │
//!                           │         └──► store (position and counts, one transaction)
//!                           └──► refresh (channels, abilities, exchange rates)
//! ```
//!
//! The modules stand in reading order; `ARCHITECTURE.md` tells who may use whom and what is deliberately absent.

pub mod alert;
pub mod history;
pub mod limits;
pub mod record;
pub mod usage;

pub mod clock;
pub mod lifecycle;
pub mod outbound;
pub mod secret;
pub mod telemetry;
pub mod threads;

pub mod newapi;
pub mod store;

pub mod detail;
pub mod message;

pub mod breaker;
pub mod delivery;
pub mod intake;
pub mod meter;
pub mod refresh;
pub mod state;
pub mod tail;

pub mod metrics;

pub mod http;

pub mod app;
pub mod backfill;
pub mod check;
pub mod cli;
pub mod config;
pub mod deliveries;
pub mod render;

pub mod demo;
pub mod health;
