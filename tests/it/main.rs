//! Integration tests: stories told against real servers and the real program. Run them with `scripts/test`.

mod api;
mod architecture;
mod crash;
mod documents;
mod engines;
mod exposition;
mod faults;
mod installation;
mod late;
mod ledger;
mod page;
mod process;
mod prometheus;
mod rows;
mod schema;
mod series;
mod servers;
mod snapshot;
mod support;
mod tally;
mod wiped;
