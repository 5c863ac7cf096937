//! A connection on loan from its pool.

use sqlx::Pool;
use sqlx::pool::PoolConnection;

use super::query::Rows;

/// A connection on loan, which goes back only after an answer that was read to its end. Any other one is closed: nobody
/// would read the rest, and what does not answer would keep its place in the pool for as long as it does not.
#[derive(Debug)]
pub(super) struct Lease<D: sqlx::Database>(Option<PoolConnection<D>>);

impl<D: sqlx::Database> Lease<D> {
    /// A connection that nobody else uses.
    pub(super) async fn of(pool: &Pool<D>) -> Result<Self, sqlx::Error> {
        // Opening a connection takes 16 KB of state, which is seldom needed and would lie in every read.
        Ok(Self(Some(Box::pin(pool.acquire()).await?)))
    }

    /// The connection.
    ///
    /// # Errors
    /// Never, because only [`Lease::end`] takes it away.
    pub(super) fn connection(&mut self) -> Result<&mut D::Connection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Ends the loan with what was read.
    pub(super) fn end(self, read: Result<Rows, sqlx::Error>) -> Result<Rows, sqlx::Error> {
        if read.as_ref().is_ok_and(|rows| !rows.cut) {
            self.give_back();
        }
        read
    }

    /// Ends the loan after an answer that was read to its end.
    pub(super) fn give_back(mut self) {
        self.0 = None;
    }
}

impl<D: sqlx::Database> Drop for Lease<D> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}
