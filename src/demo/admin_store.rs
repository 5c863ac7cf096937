//! What the stand-in's admin API does to its database. Knows nothing of HTTP.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row as SqlRow, TransactionBehavior, params};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::admin::Generation;
use super::row::{Row, Text, kind};
use super::world::status;
use super::{sundry, writer};

/// A connection for one call.
pub(super) struct Store {
    conn: Connection,
    generation: Generation,
}

/// Who a token belongs to.
#[derive(Debug)]
pub(super) struct User {
    pub id: i64,
    pub role: i64,
    pub status: i64,
}

/// A channel as new-api sends it: its fields in its order, the key blanked.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are new-api's")]
pub(super) struct Channel {
    id: i64,
    r#type: i64,
    key: &'static str,
    openai_organization: Option<String>,
    test_model: Option<String>,
    status: i64,
    name: String,
    weight: i64,
    created_time: i64,
    test_time: i64,
    response_time: i64,
    base_url: String,
    other: String,
    balance: f64,
    balance_updated_time: i64,
    models: String,
    group: String,
    used_quota: i64,
    model_mapping: Option<String>,
    status_code_mapping: Option<String>,
    priority: i64,
    auto_ban: i64,
    other_info: String,
    tag: Option<String>,
    setting: Option<String>,
    param_override: Option<String>,
    header_override: Option<String>,
    remark: Option<String>,
    channel_info: Value,
    settings: String,
}

const COLUMNS: &str = "id, type, open_ai_organization, test_model, status, name, weight, created_time, test_time, \
    response_time, base_url, other, balance, balance_updated_time, models, `group`, used_quota, model_mapping, \
    status_code_mapping, priority, auto_ban, other_info, tag, setting, param_override, header_override, remark, \
    channel_info, settings";

impl Channel {
    fn read(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        let text = |name| row.get::<_, Option<String>>(name).map(Option::unwrap_or_default);
        Ok(Self {
            id: row.get("id")?,
            r#type: row.get("type")?,
            key: "",
            openai_organization: row.get("open_ai_organization")?,
            test_model: row.get("test_model")?,
            status: row.get("status")?,
            name: text("name")?,
            weight: row.get("weight")?,
            created_time: row.get("created_time")?,
            test_time: row.get("test_time")?,
            response_time: row.get("response_time")?,
            base_url: text("base_url")?,
            other: text("other")?,
            balance: row.get("balance")?,
            balance_updated_time: row.get("balance_updated_time")?,
            models: text("models")?,
            group: text("group")?,
            used_quota: row.get("used_quota")?,
            model_mapping: row.get("model_mapping")?,
            status_code_mapping: row.get("status_code_mapping")?,
            priority: row.get("priority")?,
            auto_ban: row.get("auto_ban")?,
            other_info: text("other_info")?,
            tag: row.get("tag")?,
            setting: row.get("setting")?,
            param_override: row.get("param_override")?,
            header_override: row.get("header_override")?,
            remark: row.get("remark")?,
            channel_info: serde_json::from_str(&text("channel_info")?).unwrap_or_default(),
            settings: text("settings")?,
        })
    }
}

/// A page of channels.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are new-api's")]
pub(super) struct Page {
    items: Vec<Channel>,
    page: i64,
    page_size: i64,
    total: i64,
    type_counts: BTreeMap<String, i64>,
}

/// The body of a PUT, as far as the stand-in goes along with it.
#[derive(Debug, Default)]
pub(super) struct Patch {
    id: i64,
    pub status: Option<i64>,
    weight: Option<i64>,
    priority: Option<i64>,
}

impl Patch {
    /// Fails with what Go's parser says, in the cases that were recorded.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            let at = error.column().saturating_sub(1);
            let found = body.get(at).copied().map_or(' ', char::from);
            format!("invalid character '{found}' looking for beginning of object key string")
        })?;
        let number = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Number(number)) if number.is_i64() => Ok(number.as_i64()),
            Some(other) => {
                let found = if other.is_string() { "string" } else { "value" };
                Err(format!(
                    "json: cannot unmarshal {found} into Go struct field PatchChannel.Channel.{name} of type int"
                ))
            }
        };
        Ok(Self {
            id: number("id")?.unwrap_or(0),
            status: number("status")?,
            weight: number("weight")?,
            priority: number("priority")?,
        })
    }
}

impl Store {
    pub(super) fn open(path: &Path, generation: Generation) -> rusqlite::Result<Self> {
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        conn.busy_timeout(Duration::from_secs(30))?;
        Ok(Self { conn, generation })
    }

    /// The user whose access token this is.
    pub(super) fn user(&self, token: &str) -> rusqlite::Result<Option<User>> {
        if token.is_empty() {
            return Ok(None);
        }
        self.conn
            .query_row(
                "SELECT id, role, status FROM users WHERE access_token = ? AND deleted_at IS NULL",
                [token],
                |row| Ok(User { id: row.get(0)?, role: row.get(1)?, status: row.get(2)? }),
            )
            .optional()
    }

    pub(super) fn channel(&self, id: i64) -> rusqlite::Result<Option<Channel>> {
        let sql = format!("SELECT {COLUMNS} FROM channels WHERE id = ?");
        self.conn.query_row(&sql, [id], Channel::read).optional()
    }

    /// Page `number` (from 1) of `size` channels.
    pub(super) fn page(&self, number: i64, size: i64) -> rusqlite::Result<Page> {
        let sql = format!("SELECT {COLUMNS} FROM channels ORDER BY priority DESC, id DESC LIMIT ? OFFSET ?");
        let mut statement = self.conn.prepare(&sql)?;
        let items = statement.query_map([size, (number - 1).saturating_mul(size)], Channel::read)?;
        let items = items.collect::<Result<_, _>>()?;
        let mut statement = self.conn.prepare("SELECT type, count(*) FROM channels GROUP BY type")?;
        let counts = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?.to_string(), row.get(1)?)))?;
        let type_counts: BTreeMap<String, i64> = counts.collect::<Result<_, _>>()?;
        let total = type_counts.values().sum();
        Ok(Page { items, page: number, page_size: size, total, type_counts })
    }

    /// The old way to change a channel: only what is given and, but for weight and priority, not zero. Leaves
    /// `other_info` stale, as new-api does. `None` if there is no such channel.
    pub(super) fn patch(&mut self, patch: &Patch) -> rusqlite::Result<Option<Channel>> {
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = transaction.execute(
            "UPDATE channels SET status = COALESCE(NULLIF(?2, 0), status), weight = COALESCE(?3, weight), \
             priority = COALESCE(?4, priority) WHERE id = ?1",
            params![patch.id, patch.status, patch.weight, patch.priority],
        )?;
        transaction.execute(
            "UPDATE abilities SET enabled = (c.status = 1), weight = c.weight, priority = c.priority \
             FROM channels c WHERE c.id = abilities.channel_id AND c.id = ?",
            [patch.id],
        )?;
        transaction.commit()?;
        if changed == 0 { Ok(None) } else { self.channel(patch.id) }
    }

    /// The new way: status, abilities, reason and time at once, and an entry in the log. Says how many channels it
    /// changed; those that do not exist or have that status already are no error.
    pub(super) fn switch(
        &mut self,
        ids: &[i64],
        wanted: i64,
        reason: &str,
        now: i64,
    ) -> rusqlite::Result<i64> {
        debug_assert_eq!(self.generation, Generation::Post, "the old generation has no such route");
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut changed = 0;
        for id in ids {
            let found: Option<String> = transaction
                .query_row(
                    "SELECT COALESCE(other_info, '') FROM channels WHERE id = ? AND status <> ?",
                    [*id, wanted],
                    |row| row.get(0),
                )
                .optional()?;
            let Some(info) = found else { continue };
            let mut info: Map<String, Value> = serde_json::from_str(&info).unwrap_or_default();
            info.insert("status_reason".to_owned(), json!(reason));
            info.insert("status_time".to_owned(), json!(now));
            transaction.execute(
                "UPDATE channels SET status = ?2, other_info = ?3 WHERE id = ?1",
                params![id, wanted, Value::Object(info).to_string()],
            )?;
            transaction.execute(
                "UPDATE abilities SET enabled = ?2 WHERE channel_id = ?1",
                params![id, wanted == status::ENABLED],
            )?;
            changed += 1;
        }
        writer::insert(&transaction, &audit(ids, wanted, now))?;
        transaction.commit()?;
        Ok(changed)
    }
}

/// The row by which new-api remembers an administrator's change.
fn audit(ids: &[i64], wanted: i64, now: i64) -> Row {
    let params = json!({ "ids": ids, "status": wanted }).to_string();
    Row {
        user_id: 1,
        created_at: now,
        kind: kind::MANAGE,
        content: Text::Borrowed("Updated channel status"),
        username: Text::Borrowed("root"),
        ip: Text::Borrowed("127.0.0.1"),
        other: sundry::managed("channel.status", &params).into(),
        ..Row::default()
    }
}
