//! The JSON API: its answers against plain SQL, snapshots, paging, bad input, secrets and bodies.

mod bad_input;
mod bodies;
mod equal;
mod foreign_host;
mod golden;
mod guessing;
mod oracle;
mod outage;
mod paging;
mod secrets;
mod stalled;
