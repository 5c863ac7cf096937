//! Puts rows into the stand-in's database as new-api would, and keeps the sums that new-api keeps beside them.
//!
//! Knows SQLite only. Tests that need the same rows elsewhere insert [`Row`]s themselves.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::routes::{Ability, Routes};
use super::row::{Row, kind};
use super::world;
use crate::record::CHANNEL_TEST_TOKEN;

const INSERT: &str = "INSERT INTO `logs` (`user_id`,`created_at`,`type`,`content`,`username`,`token_name`,\
    `model_name`,`quota`,`prompt_tokens`,`completion_tokens`,`use_time`,`is_stream`,`channel_id`,`channel_name`,\
    `token_id`,`group`,`ip`,`request_id`,`upstream_request_id`,`other`) \
    VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

/// Adds one row; SQLite gives it the next id. Fast in a loop: the statement is prepared once.
pub fn insert(conn: &Connection, row: &Row) -> rusqlite::Result<()> {
    conn.prepare_cached(INSERT)?.execute(params![
        row.user_id,
        row.created_at,
        row.kind,
        row.content,
        row.username,
        row.token_name,
        row.model_name,
        row.quota,
        row.prompt_tokens,
        row.completion_tokens,
        row.use_time,
        row.is_stream,
        row.channel_id,
        row.channel_name,
        row.token_id,
        row.group,
        row.ip,
        row.request_id,
        row.upstream_request_id,
        row.other,
    ])?;
    Ok(())
}

/// The routes that `abilities` and `channels.status` leave open now. Channels and models that an operator added
/// by hand get no traffic.
pub fn routes(conn: &Connection) -> rusqlite::Result<Routes> {
    let mut statement = conn.prepare_cached(
        "SELECT a.`group`, a.model, a.channel_id, COALESCE(a.priority, 0), COALESCE(a.weight, 0) \
         FROM abilities a JOIN channels c ON c.id = a.channel_id WHERE a.enabled = 1 AND c.status = 1",
    )?;
    let mut rows = statement.query([])?;
    let mut abilities = Vec::new();
    while let Some(row) = rows.next()? {
        let group = world::group(row.get_ref(0)?.as_str()?);
        let model = world::model(row.get_ref(1)?.as_str()?);
        if let (Some(group), Some(model), Some(channel)) = (group, model, world::channel(row.get(2)?)) {
            abilities.push(Ability { group, model, channel, priority: row.get(3)?, weight: row.get(4)? });
        }
    }
    Ok(Routes::from_abilities(abilities.into_iter()))
}

/// What new-api sums up outside the log: used quota of channels, users and tokens, and the last channel tests.
#[derive(Debug, Default)]
pub struct Tally {
    channels: BTreeMap<i64, i64>,
    /// Quota and requests.
    users: BTreeMap<i64, (i64, i64)>,
    /// Quota and the last second of use.
    tokens: BTreeMap<i64, (i64, i64)>,
    /// Second and milliseconds of the last test of a channel.
    tests: BTreeMap<i64, (i64, i64)>,
}

impl Tally {
    /// Counts a row.
    pub fn add(&mut self, row: &Row) {
        let (quota, requests) = match row.kind {
            kind::CONSUME => (row.quota, 1),
            kind::REFUND => (-row.quota, 0),
            _ => return,
        };
        *self.channels.entry(row.channel_id).or_default() += quota;
        if row.token_id == 0 && row.token_name == CHANNEL_TEST_TOKEN {
            self.tests.insert(row.channel_id, (row.created_at, (row.use_time * 1000).max(400)));
            return;
        }
        let user = self.users.entry(row.user_id).or_default();
        *user = (user.0 + quota, user.1 + requests);
        let token = self.tokens.entry(row.token_id).or_default();
        *token = (token.0 + quota, row.created_at);
    }

    /// Writes what was counted and starts anew. Best inside a transaction.
    pub fn flush(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        for (id, quota) in std::mem::take(&mut self.channels) {
            conn.prepare_cached("UPDATE channels SET used_quota = used_quota + ?2 WHERE id = ?1")?
                .execute([id, quota])?;
        }
        for (id, (quota, requests)) in std::mem::take(&mut self.users) {
            conn.prepare_cached(
                "UPDATE users SET used_quota = used_quota + ?2, quota = quota - ?2, \
                 request_count = request_count + ?3 WHERE id = ?1",
            )?
            .execute([id, quota, requests])?;
        }
        for (id, (quota, used_at)) in std::mem::take(&mut self.tokens) {
            conn.prepare_cached(
                "UPDATE tokens SET used_quota = used_quota + ?2, accessed_time = ?3 WHERE id = ?1",
            )?
            .execute([id, quota, used_at])?;
        }
        for (id, (second, ms)) in std::mem::take(&mut self.tests) {
            conn.prepare_cached("UPDATE channels SET test_time = ?2, response_time = ?3 WHERE id = ?1")?
                .execute([id, second, ms])?;
        }
        Ok(())
    }

    /// Nothing was counted since the last flush.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{populate, schema};
    use super::*;

    #[test]
    fn an_inserted_row_comes_back_with_all_its_columns_and_ascending_ids() {
        let conn = Connection::open_in_memory().unwrap();
        schema::create(&conn).unwrap();
        let row = Row { user_id: 3, created_at: 5, is_stream: true, other: "{}".into(), ..Row::default() };
        insert(&conn, &row).unwrap();
        insert(&conn, &row).unwrap();
        let (id, stream, name, kind): (i64, i64, Option<String>, String) = conn
            .query_row(
                "SELECT max(id), is_stream, channel_name, typeof(is_stream) FROM logs WHERE user_id = 3 \
                 AND created_at = 5 AND other = '{}'",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .unwrap();
        assert_eq!((id, stream, name, kind.as_str()), (2, 1, None, "integer"));
    }

    #[test]
    fn routes_read_back_are_the_worlds_and_follow_status_and_abilities() {
        let conn = Connection::open_in_memory().unwrap();
        schema::create(&conn).unwrap();
        populate::fill(&conn, 1_790_000_000).unwrap();
        assert_eq!(routes(&conn).unwrap(), Routes::initial());

        conn.execute("UPDATE channels SET status = 2 WHERE id = 4", []).unwrap();
        conn.execute("UPDATE abilities SET enabled = 0 WHERE channel_id = 10", []).unwrap();
        let routes = routes(&conn).unwrap();
        assert!(!routes.uses(world::channel(4).unwrap()) && !routes.uses(world::channel(10).unwrap()));
        assert!(routes.uses(world::channel(5).unwrap()));
    }
}
