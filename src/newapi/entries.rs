//! Rows of the log with every column that may be shown, by primary key or by request: for people, not for counting.

use std::collections::BTreeSet;

use super::columns::Columns;
use super::database::ReadError;
use super::logs::{LogReader, is_one_api};
use super::query::{Param, Query, RowRef};
use crate::record::{ChannelId, model_name};

/// Integer and text columns of a read, in order.
const INTS: [&str; 11] = [
    "id",
    "created_at",
    "type",
    "user_id",
    "token_id",
    "channel_id",
    "quota",
    "prompt_tokens",
    "completion_tokens",
    "use_time",
    "is_stream",
];
const TEXTS: [&str; 9] = [
    "username",
    "token_name",
    "model_name",
    "group",
    "content",
    "other",
    "request_id",
    "upstream_request_id",
    "ip",
];

/// One row of `logs` with every column that may be shown. Absent columns and NULLs have become 0 or the empty
/// string.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// The primary key.
    pub id: i64,
    /// Unix seconds at the end of the request.
    pub created_at: i64,
    /// new-api's `type` column.
    pub kind: i64,
    /// Whose request it was.
    pub user_id: i64,
    /// Name of the user.
    pub username: String,
    /// Id of the API token.
    pub token_id: i64,
    /// Name of the API token.
    pub token_name: String,
    /// The channel of the (last) attempt.
    pub channel_id: ChannelId,
    /// The model that was asked for.
    pub model: String,
    /// Billing group.
    pub group: String,
    /// Money in new-api's own unit.
    pub quota: i64,
    /// `prompt_tokens` as written.
    pub prompt_tokens: i64,
    /// `completion_tokens` as written.
    pub completion_tokens: i64,
    /// Duration in milliseconds; whole seconds except on One API.
    pub duration_ms: i64,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// Free text: an error's message, what was charged, what an administrator did.
    pub content: String,
    /// The `other` column as it is.
    pub other: String,
    /// The per-request key, empty before v0.10.8.
    pub request_id: String,
    /// The provider's own key of the request, from 2026-05 on.
    pub upstream_request_id: String,
    /// The client's address, where new-api was told to record it.
    pub ip: String,
    /// True if the schema is One API's, where type 5 is a channel test.
    pub one_api: bool,
}

impl LogReader {
    /// Shows every row with one of these ids that is there, in no order. One at a time, because 500 rows with texts of
    /// a megabyte each would not fit in memory.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn visit_entries(&self, ids: &[i64], visit: &mut impl FnMut(Entry)) -> Result<(), ReadError> {
        let mut missing: BTreeSet<i64> = ids.iter().copied().collect();
        while !missing.is_empty() {
            let marks = vec!["?"; missing.len()].join(", ");
            let params = missing.iter().copied().map(Param::Int).collect();
            let before = missing.len();
            let cut = self
                .read_entries(&format!("WHERE id IN ({marks})"), params, &mut |entry| {
                    missing.remove(&entry.id);
                    visit(entry);
                })
                .await?;
            // A read that is cut brought a row at least.
            if !cut || missing.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// Shows the first `most` rows of these requests, by id. None also where the log has no such column.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn visit_entries_of_requests(
        &self,
        request_ids: &[&str],
        most: u32,
        visit: &mut impl FnMut(Entry),
    ) -> Result<(), ReadError> {
        if !self.columns().has("request_id") || request_ids.is_empty() {
            return Ok(());
        }
        // An index on request_id exists wherever the column does.
        let marks = vec!["?"; request_ids.len()].join(", ");
        let (mut left, mut after) = (most, None);
        loop {
            let on = if after.is_some() { "AND id > ? " } else { "" };
            let condition = format!("WHERE request_id IN ({marks}) {on}ORDER BY id LIMIT {left}");
            let ids = request_ids.iter().map(|id| Param::from(*id));
            let params = ids.chain(after.map(Param::Int)).collect();
            let before = left;
            let cut = self
                .read_entries(&condition, params, &mut |entry| {
                    (left, after) = (left.saturating_sub(1), Some(entry.id));
                    visit(entry);
                })
                .await?;
            if !cut || left == 0 || left == before {
                return Ok(());
            }
        }
    }

    /// True if the read was cut because of the length of its texts, so that there may be more rows.
    async fn read_entries(
        &self,
        condition: &str,
        params: Vec<Param>,
        visit: &mut impl FnMut(Entry),
    ) -> Result<bool, ReadError> {
        let one_api = is_one_api(self.columns());
        let select = select(self.columns(), one_api);
        let sql = format!("SELECT {select} FROM logs {condition}");
        let rows = self.database().read(Query::new(sql, params, INTS.len(), TEXTS.len())).await?;
        rows.iter().for_each(|row| visit(entry(row, one_api)));
        Ok(rows.cut)
    }
}

fn select(columns: &Columns, one_api: bool) -> String {
    let ints =
        INTS.map(|name| columns.int(if one_api && name == "use_time" { "elapsed_time" } else { name }));
    let texts = TEXTS.map(|name| columns.text(name));
    [ints.join(", "), texts.join(", ")].join(", ")
}

fn entry(row: RowRef<'_>, one_api: bool) -> Entry {
    let text = |column| row.text(column).into_owned();
    Entry {
        id: row.int(0),
        created_at: row.int(1),
        kind: row.int(2),
        user_id: row.int(3),
        token_id: row.int(4),
        channel_id: row.int(5),
        quota: row.int(6),
        prompt_tokens: row.int(7),
        completion_tokens: row.int(8),
        duration_ms: if one_api { row.int(9) } else { row.int(9).saturating_mul(1000) },
        stream: row.int(10) != 0,
        username: text(0),
        token_name: text(1),
        model: model_name(row.text(2)).into_owned(),
        group: text(3),
        content: text(4),
        other: text(5),
        request_id: text(6),
        upstream_request_id: text(7),
        ip: text(8),
        one_api,
    }
}
