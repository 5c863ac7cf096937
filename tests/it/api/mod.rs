//! The JSON API: its answers against plain SQL, snapshots, paging, bad input, secrets and bodies.

mod alerting;
mod bad_input;
mod boards;
mod bodies;
mod details;
mod equal;
mod foreign_host;
mod golden;
mod guessing;
mod kept;
mod long_texts;
mod oracle;
mod outage;
mod paging;
mod secrets;
mod stalled;
