//! The columns that a table has here, and how to select them as integers and texts on every engine.

use std::collections::BTreeMap;

use super::dsn::Engine;

/// What a column holds, as its server declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An integer of any width, or a boolean: read as it is.
    Integer,
    /// A text: read as it is.
    Text,
    /// Bytes: read as they are.
    Bytes,
    /// Anything else is brought to what is wanted by the server.
    Other,
}

impl Kind {
    /// From the name of the type in sqlx.
    pub(super) fn of(engine: Engine, type_name: &str) -> Self {
        match (engine, type_name) {
            (Engine::Postgres, "INT8" | "INT4" | "INT2" | "BOOL")
            | (Engine::MySql, "BIGINT" | "INT" | "MEDIUMINT" | "SMALLINT" | "TINYINT" | "BOOLEAN") => {
                Self::Integer
            }
            (Engine::Postgres, "TEXT" | "VARCHAR")
            | (Engine::MySql, "VARCHAR" | "CHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT") => {
                Self::Text
            }
            (Engine::Postgres, "BYTEA")
            | (Engine::MySql, "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "VARBINARY" | "BINARY")
            // SQLite's values have no type that could be relied on.
            | (Engine::Sqlite, _) => Self::Bytes,
            _ => Self::Other,
        }
    }
}

/// The columns of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    engine: Engine,
    kinds: BTreeMap<String, Kind>,
}

impl Columns {
    /// Columns with their kinds.
    pub(super) fn new(engine: Engine, kinds: BTreeMap<String, Kind>) -> Self {
        Self { engine, kinds }
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.kinds.contains_key(name)
    }

    /// What the column of this name holds, if there is one.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.kinds.get(name).copied()
    }

    /// An expression that is a 64-bit integer; 0 if the column is absent.
    pub fn int(&self, name: &str) -> String {
        let quoted = quote(self.engine, name);
        match (self.engine, self.kinds.get(name)) {
            (Engine::Postgres, None) => "0::bigint".to_owned(),
            (Engine::MySql, None) => "CAST(0 AS SIGNED)".to_owned(),
            (Engine::Sqlite, None) => "0".to_owned(),
            // Reading as it is costs the server nothing.
            (Engine::Sqlite, _) | (_, Some(Kind::Integer)) => quoted,
            (Engine::MySql, _) => format!("CAST({quoted} AS SIGNED)"),
            // By its text, so that what PostgreSQL will not cast to a number fails no query.
            (Engine::Postgres, _) => format!(
                "CASE WHEN {quoted}::text IN ('true', 't') THEN 1 WHEN {quoted}::text ~ '^-?[0-9]{{1,18}}$' \
                 THEN {quoted}::text::bigint ELSE 0 END"
            ),
        }
    }

    /// An expression that is a text; empty if the column is absent.
    pub fn text(&self, name: &str) -> String {
        let quoted = quote(self.engine, name);
        match (self.engine, self.kinds.get(name)) {
            (_, None) => "''".to_owned(),
            (Engine::Sqlite, _) | (_, Some(Kind::Text | Kind::Bytes)) => quoted,
            (Engine::MySql, _) => format!("CAST({quoted} AS CHAR)"),
            (Engine::Postgres, _) => format!("{quoted}::text"),
        }
    }
}

/// `name` quoted as an identifier.
pub(super) fn quote(engine: Engine, name: &str) -> String {
    match engine {
        // SQLite takes a name in double quotes for a text if there is no such column.
        Engine::MySql | Engine::Sqlite => format!("`{name}`"),
        Engine::Postgres => format!("\"{name}\""),
    }
}
