//! The stand-in's tables: new-api's own, of its newest version that was measured.
//!
//! Creates them and nothing else. It never migrates: a stand-in of an older layout is thrown away and made anew.

use rusqlite::Connection;

const TABLES: &str = include_str!("schema.sql");
const INDEXES: &str = include_str!("indexes.sql");

/// Creates all tables with all their indexes in an empty database.
pub fn create(conn: &Connection) -> rusqlite::Result<()> {
    create_tables(conn)?;
    create_indexes(conn)
}

/// Only the tables, so that many rows can be put in before [`create_indexes`].
pub fn create_tables(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(TABLES)
}

/// What [`create_tables`] leaves out.
pub fn create_indexes(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(INDEXES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_the_columns_and_indexes_of_rc_24() {
        let conn = Connection::open_in_memory().unwrap();
        create(&conn).unwrap();

        let names = |sql: &str| -> Vec<String> {
            let mut statement = conn.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(
            names("SELECT name FROM pragma_table_info('logs')").join(" "),
            "id user_id created_at type content username token_name model_name quota prompt_tokens \
             completion_tokens use_time is_stream channel_id channel_name token_id group ip request_id \
             upstream_request_id other"
        );
        assert_eq!(names("SELECT name FROM pragma_index_list('logs')").len(), 14);
        assert_eq!(
            names("SELECT name FROM pragma_index_info('idx_created_at_id')"),
            ["created_at", "id"],
            "the order of columns since rc.11"
        );
    }
}
