//! The servers that the tests talk to.
//!
//! `scripts/test` starts one MariaDB and one PostgreSQL for the whole run; a test makes its own [`Database`] in one of
//! them. A test that stops or overloads a server starts a private one ([`MySql`], [`Postgres`]), and so does one that
//! needs [`Prometheus`] or an [`Alertmanager`]. A [`Proxy`] in front of a server makes its network fail.

mod certificates;
mod database;
mod monitoring;
mod process;
mod proxy;
mod selftest;
mod sql;

pub use certificates::Certificates;
pub use database::{Database, Engine, Session};
pub use monitoring::{Alertmanager, Prometheus};
pub use process::free_port;
pub use proxy::Proxy;
pub use sql::{MySql, Postgres};

/// The URL of the run's MariaDB, without a database's name; ends with `/`.
pub fn shared_mysql_url() -> String {
    from_environment("TEST_MYSQL_URL")
}

/// The URL of the run's PostgreSQL, without a database's name; ends with `/`.
pub fn shared_postgres_url() -> String {
    from_environment("TEST_POSTGRES_URL")
}

/// A test that cannot reach its server must fail: skipping would look like passing.
fn from_environment(name: &str) -> String {
    let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
    value.unwrap_or_else(|| {
        panic!("{name} is not set: run the tests with scripts/test, which starts the servers")
    })
}
