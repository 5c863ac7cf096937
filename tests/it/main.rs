//! Integration tests: stories told against real servers and the real program. Run them with `scripts/test`.

mod api;
mod appearing;
mod architecture;
mod crash;
mod documents;
mod engines;
mod exposition;
mod faults;
mod installation;
mod late;
mod ledger;
mod limits;
mod page;
mod parts;
mod process;
mod prometheus;
mod rows;
mod rules;
mod samples;
mod schema;
mod series;
mod servers;
mod snapshot;
mod support;
mod tally;
mod wiped;
