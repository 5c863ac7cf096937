//! Integration tests: stories told against real servers and the real program. Run them with `scripts/test`.

mod schema;
mod servers;
mod support;
