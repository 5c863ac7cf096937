//! new-api's tables as its versions make them on each database, and rows for its `logs` table.

use crate::servers::Engine;

/// Which program, and which version of it, made the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// new-api of early 2025: no `ip` and no request ids.
    V0_6_3,
    /// new-api of mid 2026: `ip` and `request_id`.
    V0_13_2,
    /// The newest new-api: `upstream_request_id` too.
    V1_0_0Rc24,
    /// One API, new-api's ancestor: `elapsed_time` in milliseconds, and no `other`.
    OneApi,
}

impl Version {
    /// Every version, for tests that go through all of them.
    pub const ALL: [Self; 4] = [Self::V0_6_3, Self::V0_13_2, Self::V1_0_0Rc24, Self::OneApi];

    /// The statements that make the tables, in order.
    pub fn statements(self, engine: Engine) -> impl Iterator<Item = &'static str> {
        self.script(engine).split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
    }

    fn script(self, engine: Engine) -> &'static str {
        macro_rules! fixture {
            ($folder:literal) => {
                match engine {
                    Engine::Sqlite => include_str!(concat!("../fixtures/schema/", $folder, "/sqlite.sql")),
                    Engine::MySql => include_str!(concat!("../fixtures/schema/", $folder, "/mysql.sql")),
                    Engine::Postgres => {
                        include_str!(concat!("../fixtures/schema/", $folder, "/postgres.sql"))
                    }
                }
            };
        }
        match self {
            Self::V0_6_3 => fixture!("v0.6.3.1.1"),
            Self::V0_13_2 => fixture!("v0.13.2"),
            Self::V1_0_0Rc24 => fixture!("v1.0.0-rc.24"),
            Self::OneApi => fixture!("one-api"),
        }
    }

    /// Whether `logs` of this version has the column.
    pub fn has_column(self, column: &str) -> bool {
        match column {
            "upstream_request_id" => self == Self::V1_0_0Rc24,
            "request_id" => self != Self::V0_6_3,
            "ip" => matches!(self, Self::V0_13_2 | Self::V1_0_0Rc24),
            "elapsed_time" | "system_prompt_reset" => self == Self::OneApi,
            "use_time" | "channel_name" | "token_id" | "group" | "other" => self != Self::OneApi,
            _ => true,
        }
    }
}

/// A row of `logs`: all columns of every version. An insertion writes those that the table has.
#[derive(Clone, Debug)]
pub struct LogRow {
    /// `None` lets the database choose. On PostgreSQL a given id does not move the sequence.
    pub id: Option<i64>,
    /// Whose request it was.
    pub user_id: i64,
    /// Unix seconds at the end of the request.
    pub created_at: i64,
    /// The column `type`: 2 is consume, 5 is error.
    pub kind: i64,
    /// Free text; of an error row its message.
    pub content: String,
    /// The user's name.
    pub username: String,
    /// The name of the user's API token.
    pub token_name: String,
    /// The model that was asked for.
    pub model_name: String,
    /// What the request cost, in quota.
    pub quota: i64,
    /// Input tokens.
    pub prompt_tokens: i64,
    /// Output tokens.
    pub completion_tokens: i64,
    /// Whole seconds; One API's `elapsed_time` gets 1000 times as much, unless `elapsed_ms` says otherwise.
    pub use_time: i64,
    /// One API's `elapsed_time`.
    pub elapsed_ms: Option<i64>,
    /// Whether the answer was streamed.
    pub is_stream: bool,
    /// The channel that answered.
    pub channel_id: i64,
    /// new-api never writes it.
    pub channel_name: Option<String>,
    /// The user's API token.
    pub token_id: i64,
    /// The user group that was billed.
    pub group: String,
    /// Empty unless the user wants it recorded.
    pub ip: String,
    /// One for all rows of a request.
    pub request_id: String,
    /// The upstream's own id of the request.
    pub upstream_request_id: String,
    /// JSON as text.
    pub other: Option<String>,
    /// One API's mark of a replaced system prompt.
    pub system_prompt_reset: bool,
}

impl Default for LogRow {
    /// An ordinary, successful, unstreamed request.
    fn default() -> Self {
        Self {
            id: None,
            user_id: 1,
            created_at: 1_767_225_600,
            kind: 2,
            content: String::new(),
            username: "alice".into(),
            token_name: "default".into(),
            model_name: "gpt-4o".into(),
            quota: 1000,
            prompt_tokens: 100,
            completion_tokens: 20,
            use_time: 1,
            elapsed_ms: None,
            is_stream: false,
            channel_id: 1,
            channel_name: None,
            token_id: 1,
            group: "default".into(),
            ip: String::new(),
            request_id: String::new(),
            upstream_request_id: String::new(),
            other: Some("{}".into()),
            system_prompt_reset: false,
        }
    }
}

/// The columns that can be written, in the order of [`LogRow::literals`].
pub const COLUMNS: [&str; 23] = [
    "id",
    "user_id",
    "created_at",
    "type",
    "content",
    "username",
    "token_name",
    "model_name",
    "quota",
    "prompt_tokens",
    "completion_tokens",
    "use_time",
    "elapsed_time",
    "is_stream",
    "channel_id",
    "channel_name",
    "token_id",
    "group",
    "ip",
    "request_id",
    "upstream_request_id",
    "other",
    "system_prompt_reset",
];

impl LogRow {
    /// One `INSERT` of all the rows; there must be at least one.
    pub fn insert(rows: &[Self], engine: Engine, version: Version) -> String {
        assert!(!rows.is_empty(), "an INSERT needs a row");
        let present: Vec<bool> = COLUMNS.iter().map(|column| version.has_column(column)).collect();
        let kept = |all: Vec<String>| -> String {
            let some: Vec<String> =
                all.into_iter().zip(&present).filter(|(_, p)| **p).map(|(s, _)| s).collect();
            format!("({})", some.join(","))
        };
        let columns = kept(COLUMNS.iter().map(|column| engine.identifier(column)).collect());
        let values: Vec<String> = rows.iter().map(|row| kept(row.literals(engine))).collect();
        format!("INSERT INTO logs {columns} VALUES {}", values.join(",\n"))
    }

    fn literals(&self, engine: Engine) -> Vec<String> {
        let text = |s: &str| engine.literal(s);
        let maybe = |s: &Option<String>| s.as_deref().map_or_else(|| "NULL".into(), text);
        // SQLite has no DEFAULT here; a NULL primary key is its way to say the same.
        let next_id = if engine == Engine::Sqlite { "NULL" } else { "DEFAULT" };
        vec![
            self.id.map_or_else(|| next_id.into(), |id| id.to_string()),
            self.user_id.to_string(),
            self.created_at.to_string(),
            self.kind.to_string(),
            text(&self.content),
            text(&self.username),
            text(&self.token_name),
            text(&self.model_name),
            self.quota.to_string(),
            self.prompt_tokens.to_string(),
            self.completion_tokens.to_string(),
            self.use_time.to_string(),
            self.elapsed_ms.unwrap_or(self.use_time * 1000).to_string(),
            engine.boolean(self.is_stream).into(),
            self.channel_id.to_string(),
            maybe(&self.channel_name),
            self.token_id.to_string(),
            text(&self.group),
            text(&self.ip),
            text(&self.request_id),
            text(&self.upstream_request_id),
            maybe(&self.other),
            engine.boolean(self.system_prompt_reset).into(),
        ]
    }
}
