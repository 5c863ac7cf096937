//! Reading the log for people: its columns are found at the first question and again when a query fails on them.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::detail::{Bodies, BodySource, Join, Trial};
use crate::newapi::{Database, Entry, LogReader, ReadError, Reason};

/// Rows of one request that are read; a request has a few attempts.
const ROWS_OF_REQUEST: u32 = 200;

/// How long one read may take. By primary key it takes milliseconds, or the database does not answer at all; then others
/// wait for the place of whoever asked.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct Log {
    database: Database,
    reader: Arc<Mutex<Option<LogReader>>>,
    bodies: Option<BodySource>,
}

impl Log {
    pub fn new(database: Database, bodies: Option<BodySource>) -> Self {
        Self { database, reader: Arc::default(), bodies }
    }

    /// Shows the rows with these ids that are there.
    pub async fn visit(&self, ids: &[i64], visit: &mut impl FnMut(Entry)) -> Result<(), ReadError> {
        self.read(async |reader| reader.visit_entries(ids, visit).await).await
    }

    /// The row with this id.
    pub async fn entry(&self, id: i64) -> Result<Option<Entry>, ReadError> {
        let mut found = None;
        self.visit(&[id], &mut |entry| found = Some(entry)).await?;
        Ok(found)
    }

    /// Shows all rows of these requests.
    pub async fn visit_requests(
        &self,
        request_ids: &[&str],
        visit: &mut impl FnMut(Entry),
    ) -> Result<(), ReadError> {
        let most = ROWS_OF_REQUEST.saturating_mul(u32::try_from(request_ids.len()).unwrap_or(u32::MAX));
        self.read(async |reader| reader.visit_entries_of_requests(request_ids, most, visit).await).await
    }

    /// The attempts of these requests.
    pub async fn trials(&self, request_ids: &[&str]) -> Result<Vec<Trial>, ReadError> {
        let mut trials = Vec::new();
        self.visit_requests(request_ids, &mut |entry| trials.push(Trial::new(&entry))).await?;
        Ok(trials)
    }

    /// Whether rows hold the id of their request.
    pub async fn has_request_ids(&self) -> Result<bool, ReadError> {
        self.read(async |reader| Ok(reader.columns().has("request_id"))).await
    }

    /// The bodies of a row, as far as they are stored. Trouble with them is told, and fails nothing.
    pub async fn bodies(&self, entry: &Entry) -> Bodies {
        let Some(source) = &self.bodies else { return Bodies::NotConfigured };
        let key = match source.join() {
            Join::LogId => entry.id.into(),
            Join::RequestId if entry.request_id.is_empty() => return Bodies::NotStored(source.clone()),
            Join::RequestId => entry.request_id.as_str().into(),
        };
        let columns = [source.request_column(), source.response_column()];
        let bodies = self.database.bodies(source.table(), columns, source.join().column(), key);
        match in_time(bodies).await {
            Ok(Some([request, response])) => Bodies::Stored { source: source.clone(), request, response },
            Ok(None) => Bodies::NotStored(source.clone()),
            Err(error) => {
                tracing::warn!("bodies cannot be read: {error}");
                Bodies::Unreadable(source.clone(), error.reason.as_str().replace('_', " "))
            }
        }
    }

    async fn read<T>(
        &self,
        work: impl AsyncFnOnce(&LogReader) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let known = self.reader.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reader = match known {
            Some(reader) => reader,
            None => in_time(LogReader::discover(self.database.clone())).await?,
        };
        let result = in_time(work(&reader)).await;
        let doubtful = result.as_ref().is_err_and(|error| {
            matches!(error.reason, Reason::MissingColumn | Reason::MissingTable | Reason::Query)
        });
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = (!doubtful).then_some(reader);
        result
    }
}

/// Gives a read up that takes too long.
async fn in_time<T>(read: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        Err(ReadError::new(Reason::Timeout, format!("no answer to a question in {seconds} s")))
    })
}
