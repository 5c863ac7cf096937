//! What the API should answer, worked out a second time: naively, from the contract (DESIGN sections 4 and 8) and from
//! rows that plain SQL reads, and without anything of the program that is tested.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::schema::Version;
use crate::servers::Database;

/// The threshold of a slow request if nothing is configured, in milliseconds.
const SLOW_MS: i64 = 5000;

/// A row of `logs`; NULL is 0 or nothing.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: i64,
    pub created_at: i64,
    pub kind: i64,
    pub channel: i64,
    pub model: String,
    pub group: String,
    pub username: String,
    pub token_name: String,
    pub token_id: i64,
    pub quota: i64,
    pub prompt: i64,
    pub completion: i64,
    pub ms: i64,
    pub stream: bool,
    pub request_id: String,
    pub content: String,
    /// Null if the table has no such column, or if it holds no object.
    pub other: Value,
    one_api: bool,
    /// What the row counts as; worked out once, for every comparison asks.
    outcome: &'static str,
}

/// Quota that is worth one US dollar.
pub async fn quota_per_unit(main: &Database) -> f64 {
    let key = main.engine.identifier("key");
    let option = main.rows(&format!("SELECT value FROM options WHERE {key} = 'QuotaPerUnit'")).await;
    option.first().and_then(|row| row[0].clone()).map_or(500_000.0, |text| text.parse().expect("a number"))
}

/// All rows of the log, by id.
pub async fn rows(logs: &Database) -> Vec<Row> {
    let one_api = logs.version == Version::OneApi;
    let columns = [
        "id",
        "created_at",
        "type",
        "channel_id",
        "token_id",
        "quota",
        "prompt_tokens",
        "completion_tokens",
        if one_api { "elapsed_time" } else { "use_time" },
        "is_stream",
        "model_name",
        "group",
        "username",
        "token_name",
        "request_id",
        "content",
        "other",
    ];
    let present =
        |name: &str| if logs.version.has_column(name) { logs.engine.identifier(name) } else { "NULL".into() };
    let sql = format!("SELECT {} FROM logs ORDER BY id", columns.map(present).join(", "));
    let read = |row: Vec<Option<String>>| {
        let int =
            |at: usize| row[at].as_deref().map_or(0, |text| text.parse::<i64>().expect("a whole number"));
        let text = |at: usize| row[at].clone().unwrap_or_default();
        let kind = int(2);
        let means_something = !one_api && [2, 5, 6].contains(&kind);
        let other = means_something.then(|| serde_json::from_str(&text(16)).ok()).flatten();
        let mut row = Row {
            id: int(0),
            created_at: int(1),
            kind,
            channel: int(3),
            token_id: int(4),
            quota: int(5),
            prompt: int(6),
            completion: int(7),
            ms: int(8) * if one_api { 1 } else { 1000 },
            stream: int(9) == 1,
            model: text(10),
            group: text(11),
            username: text(12),
            token_name: text(13),
            request_id: text(14),
            content: text(15),
            other: other.filter(Value::is_object).unwrap_or_default(),
            one_api,
            outcome: "",
        };
        row.outcome = row.judged();
        row
    };
    logs.rows(&sql).await.into_iter().map(read).collect()
}

impl Row {
    /// What the row counts as.
    pub fn outcome(&self) -> &'static str {
        self.outcome
    }

    fn judged(&self) -> &'static str {
        let other = &self.other;
        let task = other["task_id"].as_str().is_some_and(|id| !id.is_empty());
        match self.kind {
            2 if self.token_name == "模型测试" && self.token_id == 0 => "test",
            2 if task && other["is_task"] != true || other["violation_fee"] == true || self.quota < 0 => {
                "settlement"
            }
            2 if other["stream_status"]["end_reason"] == "client_gone" => "client_gone",
            2 if other["stream_status"]["status"] == "error" => "stream_error",
            2 => "success",
            5 if self.one_api => "test",
            5 => "error",
            6 => "refund",
            _ => "other",
        }
    }

    pub fn answered(&self) -> bool {
        ["success", "stream_error", "client_gone"].contains(&self.outcome())
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.other[name].as_i64()
    }

    fn cache_read(&self) -> i64 {
        self.number("cache_tokens").unwrap_or(0)
    }

    fn cache_write(&self) -> i64 {
        self.number("cache_write_tokens").or(self.number("cache_creation_tokens")).unwrap_or(0)
    }

    fn input(&self) -> i64 {
        let anthropic = self.other["claude"] == true || self.other["usage_semantic"] == "anthropic";
        let cached = if anthropic { self.cache_read() + self.cache_write() } else { 0 };
        self.number("input_tokens_total").unwrap_or(self.prompt.max(0) + cached)
    }

    fn first_token_ms(&self) -> Option<f64> {
        self.other["frt"].as_f64().filter(|ms| self.stream && *ms > 0.0)
    }

    fn consumed(&self) -> i64 {
        match self.outcome() {
            "success" | "stream_error" | "client_gone" | "settlement" => self.quota.max(0),
            _ => 0,
        }
    }

    fn refunded(&self) -> i64 {
        match self.outcome() {
            "settlement" => (-self.quota).max(0),
            "refund" => self.quota.max(0),
            _ => 0,
        }
    }

    /// Channels in the order tried.
    pub fn tried(&self) -> Vec<i64> {
        let list = self.other["admin_info"]["use_channel"].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().map(|id| id.as_str().expect("a text").parse().expect("an id")).collect()
    }

    /// The row as lists show it, but for texts of errors.
    pub fn shown(&self, names: &BTreeMap<i64, String>, per_unit: f64) -> Value {
        let type_name = match self.kind {
            5 if self.one_api => "test",
            kind => *["unknown", "topup", "consume", "manage", "system", "error", "refund", "login"]
                .get(usize::try_from(kind).expect("no negative type"))
                .unwrap_or(&"unknown"),
        };
        let status = self.other["status_code"].as_i64().filter(|_| self.outcome() == "error");
        json!({
            "id": self.id,
            "request_id": (!self.request_id.is_empty()).then_some(&self.request_id),
            "created_at": moment(self.created_at),
            "type": self.kind,
            "type_name": type_name,
            "channel_id": self.channel,
            "channel_name": names.get(&self.channel).cloned().unwrap_or_default(),
            "model": self.model,
            "group": self.group,
            "username": self.username,
            "token_name": self.token_name,
            "stream": self.stream,
            "duration_seconds": self.ms as f64 / 1000.0,
            "time_to_first_token_seconds": self.first_token_ms().map(|ms| ms / 1000.0),
            "input_tokens": self.input(),
            "output_tokens": self.completion.max(0),
            "cache_read_tokens": self.cache_read(),
            "cache_write_tokens": self.cache_write(),
            "quota": self.quota,
            "cost_usd": self.quota as f64 / per_unit,
            "outcome": self.outcome(),
            "status_code": status,
            "over_threshold": self.ms > SLOW_MS,
            "detail_url": format!("/api/v1/logs/{}", self.id),
        })
    }
}

/// Names of the channels that exist.
pub async fn channel_names(main: &Database) -> BTreeMap<i64, String> {
    let rows = main.rows("SELECT id, name FROM channels").await;
    let cell = |cell: &Option<String>| cell.clone().unwrap_or_default();
    rows.iter().map(|row| (cell(&row[0]).parse().expect("an id"), cell(&row[1]))).collect()
}

/// Unix seconds as the API writes them.
pub fn moment(second: i64) -> String {
    Timestamp::from_second(second).expect("a time").to_string()
}

/// Milliseconds to the precision that the contract of percentiles gives: whole seconds exactly, else three digits.
fn rounded(ms: i64) -> i64 {
    let step = match ms {
        ..1000 => 1,
        1000..10_000 => 10,
        10_000..100_000 => 100,
        _ => 1000,
    };
    (ms + step / 2) / step * step
}

/// The value at a share of all values in ascending order, by nearest rank, in seconds.
fn nearest_rank(sorted: &[i64], share: f64) -> Option<f64> {
    let at = (1..=sorted.len()).find(|rank| *rank as f64 >= share * sorted.len() as f64)?;
    Some(rounded(sorted[at - 1]) as f64 / 1000.0)
}

/// All measures of these rows; percentiles only if they are wanted.
pub fn measures(rows: &[&Row], per_unit: f64, percentiles: bool) -> Map<String, Value> {
    let answered: Vec<&&Row> = rows.iter().filter(|row| row.answered()).collect();
    let errors = rows.iter().filter(|row| row.outcome() == "error").count();
    let requests = answered.len();
    let sum = |amount: fn(&Row) -> i64| answered.iter().map(|row| amount(row)).sum::<i64>();
    let money = |amount: fn(&Row) -> i64| rows.iter().map(|row| amount(row)).sum::<i64>();
    let (input, output) = (sum(Row::input), sum(|row| row.completion.max(0)));
    let (consumed, refunded) = (money(Row::consumed), money(Row::refunded));
    let slow = answered.iter().filter(|row| row.ms > SLOW_MS).count();
    let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    let mut all = json!({
        "requests": requests,
        "errors": errors,
        "error_share": share(errors, requests + errors),
        "input_tokens": input,
        "output_tokens": output,
        "cache_read_tokens": sum(Row::cache_read),
        "cache_write_tokens": sum(Row::cache_write),
        "tokens": input + output,
        "quota": consumed,
        "quota_refunded": refunded,
        "cost_usd": consumed as f64 / per_unit,
        "cost_refunded_usd": refunded as f64 / per_unit,
        "slow_requests": slow,
        "slow_share": share(slow, requests),
    });
    let durations: Vec<i64> = answered.iter().map(|row| row.ms.max(0)).collect();
    #[expect(clippy::cast_possible_truncation, reason = "a small number")]
    let first_tokens: Vec<i64> =
        answered.iter().filter_map(|row| row.first_token_ms()).map(|ms| ms.round() as i64).collect();
    for (name, mut values) in [("duration", durations), ("time_to_first_token", first_tokens)] {
        values.sort_unstable();
        let average =
            (!values.is_empty()).then(|| values.iter().sum::<i64>() as f64 / values.len() as f64 / 1000.0);
        all[format!("{name}_average_seconds")] = json!(average);
        for (percent, at) in [(50, 0.5), (95, 0.95), (99, 0.99)] {
            let value = nearest_rank(&values, at).filter(|_| percentiles);
            all[format!("{name}_p{percent}_seconds")] = json!(value);
        }
    }
    let Value::Object(all) = all else { panic!("an object") };
    all
}

/// The totals of an overview.
pub fn totals(rows: &[&Row], per_unit: f64) -> Map<String, Value> {
    let mut all = measures(rows, per_unit, true);
    let answered = || rows.iter().filter(|row| row.answered());
    let models: BTreeSet<&str> = answered().map(|row| row.model.as_str()).collect();
    let channels: BTreeSet<i64> = answered().map(|row| row.channel).collect();
    all.insert("active_models".into(), json!(models.len()));
    all.insert("active_channels".into(), json!(channels.len()));
    all
}

/// How totals changed, as ratios; null where there is nothing to compare with.
pub fn change(now: &Map<String, Value>, before: &Map<String, Value>) -> Map<String, Value> {
    let ratio = |name: &String| {
        let (new, old) = (now[name].as_f64()?, before[name].as_f64().filter(|old| *old != 0.0)?);
        Some(new / old - 1.0)
    };
    now.keys().map(|name| (name.clone(), json!(ratio(name)))).collect()
}

/// Rows by what `key` says of each, as far as a group of them counts for anything.
pub fn grouped<'a>(rows: &[&'a Row], key: impl Fn(&Row) -> String) -> BTreeMap<String, Vec<&'a Row>> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(key(row)).or_default().push(row);
    }
    let counts = |row: &&Row| {
        row.answered()
            || ["error", "test"].contains(&row.outcome())
            || row.consumed() > 0
            || row.refunded() > 0
    };
    groups.retain(|_, rows| rows.iter().any(counts));
    groups
}

/// Fails unless `shown` has every field of `wanted`, numbers being equal but for rounding.
pub fn assert_fields(what: &str, shown: &Value, wanted: &Map<String, Value>) {
    for (name, value) in wanted {
        let same = match (shown[name].as_f64(), value.as_f64()) {
            (Some(shown), Some(value)) => (shown - value).abs() <= 1e-9 * value.abs().max(1.0),
            _ => shown.get(name) == Some(value),
        };
        assert!(same, "{what}: {name} is {}, not {value}", shown[name]);
    }
}
