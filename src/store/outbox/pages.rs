//! The outbox as people see it, and what they do to it.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, Row, params, params_from_iter};

use super::super::{Store, StoreError};
use super::{Delivery, DeliveryFilter, DeliveryState, MAX_AGE_MS, instant};

const COLUMNS: &str = "d.id, d.notice, (SELECT kind FROM notices WHERE notices.id = d.notice), d.target, d.group_key,
     d.part, d.parts, d.state, d.attempts, d.next_at, d.code, d.reason, d.error, d.superseded_by, d.created_at,
     d.updated_at, d.sent_at";

impl Store {
    /// Deliveries with numbers below `before`, newest first.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn deliveries_page(
        &self,
        before: Option<i64>,
        limit: usize,
        filter: &DeliveryFilter,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (from, to) = filter.queued.milliseconds();
        let mut conditions = vec!["d.created_at >= ?".to_owned(), "d.created_at < ?".to_owned()];
        let mut values = vec![Value::from(from), Value::from(to)];
        if let Some(before) = before {
            conditions.push("d.id < ?".to_owned());
            values.push(Value::from(before));
        }
        if let Some(state) = filter.state {
            conditions.push("d.state = ?".to_owned());
            values.push(Value::from(state.as_str().to_owned()));
        }
        if let Some(target) = filter.target {
            conditions.push("d.target = ?".to_owned());
            values.push(Value::from(target.as_str().to_owned()));
        }
        if !filter.channels.is_empty() {
            conditions.push(format!(
                "d.notice IN (SELECT n.id FROM notices n WHERE {})",
                about(filter.channels.len())
            ));
            // Labels are texts, channels of acts are numbers.
            values.extend(filter.channels.iter().map(|channel| Value::from(channel.to_string())));
            values.extend(filter.channels.iter().copied().map(Value::from));
        }
        values.push(Value::from(i64::try_from(limit).unwrap_or(i64::MAX)));
        let sql = format!(
            "SELECT {COLUMNS} FROM deliveries d WHERE {} ORDER BY d.id DESC LIMIT ?",
            conditions.join(" AND ")
        );
        self.read(|transaction| {
            let mut statement = transaction.prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(values), read)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// One delivery.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn delivery(&self, id: i64) -> Result<Option<Delivery>, StoreError> {
        let connection = self.connection();
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM deliveries d WHERE d.id = ?1"))?;
        Ok(statement.query_row([id], read).optional()?)
    }

    /// Sends a delivery that was given up, or that waits, now. False if there is none of that number to be sent.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn retry_delivery(&self, id: i64, now: Timestamp) -> Result<bool, StoreError> {
        let now = now.as_millisecond();
        self.write(|writing| {
            let changed = writing.transaction.execute(
                "UPDATE deliveries SET state = 'pending', attempts = 0, next_at = ?2, expires_at = ?3, shape = 'rich',
                 updated_at = ?2 WHERE id = ?1 AND state IN ('pending', 'dead')",
                params![id, now, now.saturating_add(MAX_AGE_MS)],
            )?;
            Ok(changed > 0)
        })
    }

    /// Gives up a delivery that waits. False if there is none of that number that does.
    ///
    /// # Errors
    /// If monitor.db cannot be written.
    pub fn drop_delivery(&self, id: i64, now: Timestamp) -> Result<bool, StoreError> {
        self.write(|writing| {
            let changed = writing.transaction.execute(
                "UPDATE deliveries SET state = 'dead', reason = 'dropped', error = 'dropped by an operator',
                 updated_at = ?2 WHERE id = ?1 AND state = 'pending'",
                params![id, now.as_millisecond()],
            )?;
            Ok(changed > 0)
        })
    }
}

/// The condition that a notice `n` tells of one of so many channels: in an alert's label, or by an act.
fn about(channels: usize) -> String {
    let list = vec!["?"; channels].join(", ");
    format!(
        "CASE WHEN NOT json_valid(n.facts) THEN 0
         WHEN n.kind = 'alerts' THEN EXISTS (SELECT 1 FROM json_each(n.facts, '$.alerts') told
            WHERE json_extract(told.value, '$.alert.labels.channel_id') IN ({list}))
         ELSE EXISTS (SELECT 1 FROM acts WHERE acts.id = json_extract(n.facts, '$.act')
            AND acts.channel_id IN ({list})) END"
    )
}

fn read(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let state = DeliveryState::parse(row.get_ref(7)?.as_str().unwrap_or_default());
    let state = state.unwrap_or(DeliveryState::Dead);
    let waits = matches!(state, DeliveryState::Pending | DeliveryState::Leased);
    Ok(Delivery {
        id: row.get(0)?,
        notice: row.get(1)?,
        kind: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
        target: row.get(3)?,
        group_key: row.get(4)?,
        part: row.get(5)?,
        parts: row.get(6)?,
        state,
        attempts: row.get(8)?,
        next_at: Some(instant(row.get(9)?)).filter(|_| waits),
        code: row.get(10)?,
        reason: row.get(11)?,
        error: row.get(12)?,
        superseded_by: row.get(13)?,
        created_at: instant(row.get(14)?),
        updated_at: instant(row.get(15)?),
        sent_at: row.get::<_, Option<i64>>(16)?.map(instant),
    })
}
