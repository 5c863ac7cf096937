//! Writes the [`world`](super::world) into an empty database: options, channels, abilities, users, tokens.

use rusqlite::{Connection, params};

use super::request::RETRIES;
use super::routes::abilities;
use super::world::{CHANNELS, Channel, GROUPS, SECRET_MARK, TOKENS, USERS, status};

const DAY: i64 = 86_400;

/// Fills the empty tables. `now` (unix seconds) dates what has a date.
pub fn fill(conn: &Connection, now: i64) -> rusqlite::Result<()> {
    options(conn)?;
    for channel in &CHANNELS {
        insert_channel(conn, channel, now)?;
    }
    for ability in abilities() {
        let channel = &CHANNELS[ability.channel];
        conn.prepare_cached("INSERT INTO abilities VALUES (?,?,?,?,?,?,?)")?.execute(params![
            GROUPS[ability.group].0,
            super::world::MODELS[ability.model].name,
            channel.id,
            channel.status == status::ENABLED,
            ability.priority,
            ability.weight,
            channel.tag,
        ])?;
    }
    users(conn, now)?;
    tokens(conn, now)
}

fn options(conn: &Connection) -> rusqlite::Result<()> {
    let rows = [
        ("QuotaPerUnit", "500000".to_owned()),
        ("USDExchangeRate", "7.3".to_owned()),
        ("general_setting.quota_display_type", "USD".to_owned()),
        ("LogConsumeEnabled", "true".to_owned()),
        ("RetryTimes", RETRIES.to_string()),
        ("GroupRatio", r#"{"default":1,"vip":0.8}"#.to_owned()),
        // Only there for tests that look for leaks.
        ("SMTPToken", format!("{SECRET_MARK}-smtp")),
    ];
    for (key, value) in rows {
        conn.execute("INSERT INTO options VALUES (?,?)", params![key, value])?;
    }
    Ok(())
}

fn insert_channel(conn: &Connection, channel: &Channel, now: i64) -> rusqlite::Result<()> {
    let keys: Vec<String> =
        (0..channel.keys).map(|key| format!("sk-{SECRET_MARK}-channel-{}-{key}", channel.id)).collect();
    let first_model = channel.models.split(',').next();
    let mapping = channel.mapping.map(|(from, to)| format!(r#"{{"{from}":"{to}"}}"#));
    conn.prepare_cached(
        "INSERT INTO channels (id, type, key, test_model, status, name, weight, created_time, test_time, \
         response_time, base_url, other, balance, balance_updated_time, models, `group`, model_mapping, priority, \
         other_info, tag, setting, remark, channel_info, settings) \
         VALUES (?,?,?,?,?,?,?,?,0,0,'','',?,?,?,?,?,?,?,?,'{}','',?,'{}')",
    )?
    .execute(params![
        channel.id,
        channel.kind,
        keys.join("\n"),
        first_model,
        channel.status,
        channel.name,
        channel.weight,
        now - 90 * DAY + channel.id * 3600,
        channel.balance,
        if channel.balance > 0.0 { now - 900 } else { 0 },
        channel.models,
        channel.groups,
        mapping.unwrap_or_default(),
        channel.priority,
        other_info(channel, now),
        channel.tag,
        channel_info(channel, now),
    ])?;
    Ok(())
}

fn other_info(channel: &Channel, now: i64) -> String {
    let (reason, time) = match channel.status {
        status::MANUALLY_DISABLED => ("manual operation", now - 20 * DAY),
        status::AUTO_DISABLED => ("status_code=401, Incorrect API key provided: ***", now - 2 * DAY),
        _ => return String::new(),
    };
    format!(r#"{{"status_reason":"{reason}","status_time":{time}}}"#)
}

fn channel_info(channel: &Channel, now: i64) -> String {
    if channel.keys <= 1 {
        return r#"{"is_multi_key":false,"multi_key_size":0,"multi_key_status_list":null,"multi_key_polling_index":0,"multi_key_mode":""}"#
            .to_owned();
    }
    let (size, last) = (channel.keys, channel.keys - 1);
    format!(
        "{{\"is_multi_key\":true,\"multi_key_size\":{size},\"multi_key_status_list\":{{\"{last}\":3}},\
         \"multi_key_disabled_reason\":{{\"{last}\":\"status_code=401\"}},\
         \"multi_key_disabled_time\":{{\"{last}\":{}}},\
         \"multi_key_polling_index\":0,\"multi_key_mode\":\"random\"}}",
        now - 5 * DAY
    )
}

fn users(conn: &Connection, now: i64) -> rusqlite::Result<()> {
    for user in &USERS {
        conn.prepare_cached(
            "INSERT INTO users (id, username, password, display_name, role, status, email, access_token, quota, \
             `group`, aff_code, setting, created_at, last_login_at) VALUES (?,?,?,?,?,?,'',?,?,?,?,'{}',?,?)",
        )?
        .execute(params![
            user.id,
            user.name,
            format!("$2a$10${SECRET_MARK}-password-{}", user.id),
            user.name,
            user.role,
            user.status,
            user.access_token,
            5_000_000_000_i64,
            user.group,
            format!("aff{}", user.id),
            now - 120 * DAY,
            now - DAY,
        ])?;
    }
    Ok(())
}

fn tokens(conn: &Connection, now: i64) -> rusqlite::Result<()> {
    for token in &TOKENS {
        conn.prepare_cached(
            "INSERT INTO tokens (id, user_id, key, name, created_time, accessed_time, remain_quota, \
             unlimited_quota, model_limits_enabled, model_limits, `group`, cross_group_retry) \
             VALUES (?,?,?,?,?,?,0,1,0,'',?,0)",
        )?
        .execute(params![
            token.id,
            USERS[token.user].id,
            format!("{SECRET_MARK}-token-{:030}", token.id),
            token.name,
            now - 60 * DAY,
            now - 3600,
            GROUPS[token.group].0,
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_column_holds_only_marked_fakes() {
        let conn = Connection::open_in_memory().unwrap();
        super::super::schema::create(&conn).unwrap();
        fill(&conn, 1_790_000_000).unwrap();
        let unmarked: i64 = conn
            .query_row(
                "SELECT count(*) FROM (SELECT key FROM channels UNION ALL SELECT key FROM tokens UNION ALL \
                 SELECT password FROM users UNION ALL SELECT access_token FROM users WHERE access_token NOTNULL) \
                 WHERE instr(key, ?) = 0",
                [SECRET_MARK],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(unmarked, 0);
        let json: i64 = conn
            .query_row("SELECT sum(json_valid(channel_info)) FROM channels", [], |row| row.get(0))
            .unwrap();
        assert_eq!(json, 12);
    }
}
