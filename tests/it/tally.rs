//! What a page should show, counted a second time: naively, from the contract (DESIGN sections 4 and 5) and from rows
//! that plain SQL reads, and without anything of the program that is tested.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::schema::{COLUMNS, Version};
use crate::servers::{Database, Engine};
use crate::support::{Page, Samples};

/// Bounds of `newapi_request_duration_seconds`.
const DURATION: [f64; 16] =
    [1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0];

/// Bounds of `newapi_time_to_first_token_seconds`.
const FIRST_TOKEN: [f64; 16] =
    [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0];

/// The bound after [`FIRST_TOKEN`].
const LAST_FIRST_TOKEN: f64 = 300.0;

/// What is compared: every sample whose name begins so.
const COUNTED: [&str; 17] = [
    "newapi_requests_total",
    "newapi_errors_total",
    "newapi_input_tokens_total",
    "newapi_output_tokens_total",
    "newapi_cache_read_tokens_total",
    "newapi_cache_write_tokens_total",
    "newapi_quota_",
    "newapi_cost_",
    "newapi_request_duration_seconds",
    "newapi_time_to_first_token_seconds",
    "newapi_slow_requests_total",
    "newapi_failovers_total",
    "newapi_channel_tests_total",
    "token_monitor_log_rows_total",
    "token_monitor_late_rows_total",
    "token_monitor_row_defects_total",
    "token_monitor_series_overflow_total",
];

/// The threshold of a slow request if nothing is configured, in seconds.
const SLOW: f64 = 5.0;

/// How long a page may take to show what it should.
const PATIENCE: Duration = Duration::from_secs(45);

/// Labels and their values.
pub type Labels<'a> = Vec<(&'a str, String)>;

/// Samples by series; the labels of a series are in alphabetical order. What is not there is 0.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<String, f64>);

impl Tally {
    /// What a page shows of what is counted.
    pub fn shown(samples: &Samples) -> Self {
        let counted = |series: &&String| COUNTED.iter().any(|name| series.starts_with(name));
        Self(samples.0.keys().filter(counted).map(|series| (ordered(series), samples.0[series])).collect())
    }

    /// Adds to a counter.
    pub fn add(&mut self, name: &str, labels: &Labels<'_>, amount: f64) {
        *self.0.entry(series(name, labels)).or_default() += amount;
    }

    /// Adds to a histogram of durations (`true`) or of times to the first token.
    pub fn observe(&mut self, duration: bool, labels: &Labels<'_>, seconds: f64) {
        self.observe_times(duration, labels, seconds, 1.0);
    }

    /// The same for so many equal rows.
    pub fn observe_times(&mut self, duration: bool, labels: &Labels<'_>, seconds: f64, rows: f64) {
        let (name, bounds, last) = if duration {
            ("newapi_request_duration_seconds", DURATION, None)
        } else {
            ("newapi_time_to_first_token_seconds", FIRST_TOKEN, Some(LAST_FIRST_TOKEN))
        };
        for bound in bounds.into_iter().chain(last).chain([f64::INFINITY]) {
            if seconds <= bound {
                let mut labels = labels.clone();
                labels.push(("le", bound.to_string()));
                self.add(&format!("{name}_bucket"), &labels, rows);
            }
        }
        self.add(&format!("{name}_sum"), labels, seconds * rows);
        self.add(&format!("{name}_count"), labels, rows);
    }

    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Self) {
        for (series, value) in &other.0 {
            *self.0.entry(series.clone()).or_default() += value;
        }
    }

    /// What `shown` has otherwise than this, in words.
    fn differences(&self, shown: &Self) -> Vec<String> {
        let all: HashSet<&String> = self.0.keys().chain(shown.0.keys()).collect();
        let value = |tally: &Self, series| tally.0.get(series).copied().unwrap_or(0.0);
        let mut wrong: Vec<String> = all
            .into_iter()
            .map(|series| (series, value(self, series), value(shown, series)))
            .filter(|(_, wanted, found)| (wanted - found).abs() > 1e-9 * wanted.abs().max(1.0))
            .map(|(series, wanted, found)| format!("{series} is {found}, not {wanted}"))
            .collect();
        wrong.sort();
        wrong
    }
}

/// Asserts that the page shows exactly this already.
pub async fn agrees_at_once(page: &Page, what: &str, wanted: &Tally) {
    let wrong = wanted.differences(&Tally::shown(&page.samples().await));
    assert!(wrong.is_empty(), "{what}: {} series differ, as {}", wrong.len(), wrong[0]);
}

/// Waits until the page shows exactly this, and nothing else of what is counted.
pub async fn agrees(page: &Page, what: &str, wanted: &Tally) {
    let began = Instant::now();
    loop {
        let wrong = wanted.differences(&Tally::shown(&page.samples().await));
        if wrong.is_empty() {
            return;
        }
        let (some, number) = (&wrong[..wrong.len().min(12)], wrong.len());
        assert!(began.elapsed() < PATIENCE, "{what}: {number} series differ:\n{}", some.join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A series as a tally names it.
fn series(name: &str, labels: &Labels<'_>) -> String {
    let mut labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
    labels.sort();
    format!("{name} {}", labels.join(" "))
}

/// The same, from how a page writes it.
fn ordered(written: &str) -> String {
    let Some((name, rest)) = written.split_once('{') else { return series(written, &vec![]) };
    let mut labels = Vec::new();
    let mut rest = rest;
    while let Some((label, value)) = rest.split_once("=\"") {
        let (mut text, mut chars) = (String::new(), value.char_indices());
        rest = loop {
            match chars.next().expect("a closing quote") {
                (end, '"') => break value[end + 1..].trim_start_matches(','),
                (_, '\\') => text.push(match chars.next().expect("an escaped character").1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => text.push(other),
            }
        };
        if label == "le" {
            text = text.parse::<f64>().expect("a bound").to_string();
        }
        labels.push((label, text));
    }
    series(name, &labels)
}

/// What new-api's main database knows.
struct World {
    names: HashMap<i64, String>,
    offered: HashSet<String>,
    quota_per_unit: f64,
}

impl World {
    async fn read(main: &Database) -> Self {
        let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
        let channels = main.rows("SELECT id, name, models FROM channels").await;
        let names = channels.iter().map(|row| (number(row[0].as_deref()), text(&row[1]))).collect();
        let mut offered: HashSet<String> = channels
            .iter()
            .flat_map(|row| text(&row[2]).split(',').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        offered.extend(main.rows("SELECT model FROM abilities").await.iter().map(|row| text(&row[0])));
        let key = main.engine.identifier("key");
        let option = main.rows(&format!("SELECT value FROM options WHERE {key} = 'QuotaPerUnit'")).await;
        let quota_per_unit = option.first().map_or(500_000.0, |row| text(&row[0]).parse().expect("a number"));
        Self { names, offered, quota_per_unit }
    }
}

/// A row of `logs` as SQL gives it; NULL is 0 or nothing.
#[derive(Debug, Default)]
struct Raw {
    kind: i64,
    channel: i64,
    model: String,
    group: String,
    token: String,
    user: String,
    token_id: i64,
    quota: i64,
    prompt: i64,
    completion: i64,
    seconds: f64,
    stream: bool,
    /// None if the table has no such column.
    other: Option<String>,
}

fn number(cell: Option<&str>) -> i64 {
    cell.map_or(0, |text| text.parse().expect("a whole number"))
}

async fn raw_rows(logs: &Database) -> Vec<Raw> {
    let (version, engine) = (logs.version, logs.engine);
    let one_api = version == Version::OneApi;
    let time = if one_api { "elapsed_time" } else { "use_time" };
    let columns = [
        "type",
        "channel_id",
        "model_name",
        "group",
        "token_name",
        "username",
        "token_id",
        "quota",
        "prompt_tokens",
        "completion_tokens",
        time,
        "is_stream",
        "other",
    ];
    let present = |name: &str| if version.has_column(name) { engine.identifier(name) } else { "NULL".into() };
    let select = columns.map(present).join(", ");
    let rows = logs.rows(&format!("SELECT {select} FROM logs ORDER BY id")).await;
    let read = |row: Vec<Option<String>>| {
        let int = |at: usize| number(row[at].as_deref());
        let text = |at: usize| row[at].clone().unwrap_or_default();
        let seconds = int(10) as f64 / if one_api { 1000.0 } else { 1.0 };
        Raw {
            kind: int(0),
            channel: int(1),
            model: text(2),
            group: text(3),
            token: text(4),
            user: text(5),
            token_id: int(6),
            quota: int(7),
            prompt: int(8),
            completion: int(9),
            seconds,
            stream: int(11) == 1,
            other: (!one_api).then(|| text(12)),
        }
    };
    rows.into_iter().map(read).collect()
}

/// Counts all rows of `logs`, with the channels and options of `main`.
pub async fn by_hand(main: &Database, logs: &Database, extra: &[&str]) -> Tally {
    let world = World::read(main).await;
    let mut known = HashSet::new();
    let mut tally = Tally::default();
    for raw in raw_rows(logs).await {
        Counting { world: &world, extra, tally: &mut tally, known: &mut known }.row(&raw);
    }
    tally
}

/// One row on its way into a tally.
struct Counting<'a> {
    world: &'a World,
    extra: &'a [&'a str],
    tally: &'a mut Tally,
    /// Models with a successful row.
    known: &'a mut HashSet<String>,
}

impl Counting<'_> {
    fn row(&mut self, raw: &Raw) {
        let kind = if (0..=7).contains(&raw.kind) { raw.kind.to_string() } else { "other".into() };
        self.tally.add("token_monitor_log_rows_total", &vec![("type", kind)], 1.0);
        let other = self.other(raw);
        let one_api = raw.other.is_none();
        match raw.kind {
            2 => self.consumption(raw, &other),
            5 if one_api => self.plain("newapi_channel_tests_total", raw, &other, 1),
            5 => {
                let mut labels = self.labels(raw, &other, raw.channel);
                let status = other["status_code"].as_i64().map_or("unknown".into(), |code| code.to_string());
                labels.push(("status_code", status));
                labels.push(("error_type", error_type(&other).into()));
                self.tally.add("newapi_errors_total", &labels, 1.0);
            }
            6 => self.money(raw, &other, 0, raw.quota),
            _ => {}
        }
    }

    /// The parsed column; what is wrong with it is counted.
    fn other(&mut self, raw: &Raw) -> Value {
        let Some(text) = raw.other.as_deref().filter(|_| [2, 5, 6].contains(&raw.kind)) else {
            return Value::Null;
        };
        let defect = |tally: &mut Tally, reason: &str| {
            tally.add("token_monitor_row_defects_total", &vec![("reason", reason.into())], 1.0);
        };
        match serde_json::from_str::<Value>(text) {
            Ok(value) if value.is_object() => return value,
            _ if text.trim().is_empty() => defect(self.tally, "other_empty"),
            _ => defect(self.tally, "other_not_json"),
        }
        Value::Null
    }

    fn consumption(&mut self, raw: &Raw, other: &Value) {
        if tests_a_channel(raw) {
            self.plain("newapi_channel_tests_total", raw, other, 1);
        } else if settles(raw, other) {
            self.money(raw, other, raw.quota.max(0), (-raw.quota).max(0));
        } else {
            self.known.insert(raw.model.clone());
            self.request(raw, other);
        }
    }

    fn request(&mut self, raw: &Raw, other: &Value) {
        let status = &other["stream_status"];
        let outcome = if status["end_reason"] == "client_gone" {
            "client_gone"
        } else if status["status"] == "error" {
            "stream_error"
        } else {
            "success"
        };
        let mut labels = self.labels(raw, other, raw.channel);
        labels.push(("outcome", outcome.into()));
        labels.push(("stream", raw.stream.to_string()));
        self.tally.add("newapi_requests_total", &labels, 1.0);

        let tokens = |name: &str| other[name].as_i64();
        let read = tokens("cache_tokens").unwrap_or(0);
        let write = tokens("cache_write_tokens").or(tokens("cache_creation_tokens")).unwrap_or(0);
        let anthropic = other["claude"] == true || other["usage_semantic"] == "anthropic";
        let input = raw.prompt + if anthropic { read + write } else { 0 };
        self.plain("newapi_input_tokens_total", raw, other, tokens("input_tokens_total").unwrap_or(input));
        self.plain("newapi_output_tokens_total", raw, other, raw.completion);
        self.plain("newapi_cache_read_tokens_total", raw, other, read);
        self.plain("newapi_cache_write_tokens_total", raw, other, write);
        self.money(raw, other, raw.quota, 0);
        self.plain("newapi_slow_requests_total", raw, other, i64::from(raw.seconds > SLOW));
        self.times(raw, other);
    }

    fn times(&mut self, raw: &Raw, other: &Value) {
        let tried: Vec<i64> = other["admin_info"]["use_channel"].as_array().map_or(vec![], |list| {
            list.iter().map(|id| id.as_str().expect("a text").parse().expect("an id")).collect()
        });
        let mut labels = self.labels(raw, other, raw.channel);
        labels.push(("retried", (tried.len() > 1).to_string()));
        self.tally.observe(true, &labels, raw.seconds);
        let first = other["frt"].as_f64().filter(|ms| raw.stream && *ms > 0.0);
        if let Some(ms) = first {
            self.tally.observe(false, &labels, ms / 1000.0);
        }
        for pair in tried.windows(2).filter(|pair| pair[0] != pair[1]) {
            let labels = self.labels(raw, other, pair[0]);
            self.tally.add("newapi_failovers_total", &labels, 1.0);
        }
    }

    fn money(&mut self, raw: &Raw, other: &Value, consumed: i64, refunded: i64) {
        self.plain("newapi_quota_consumed_total", raw, other, consumed);
        self.plain("newapi_quota_refunded_total", raw, other, refunded);
        let labels = self.labels(raw, other, raw.channel);
        let per_unit = self.world.quota_per_unit;
        self.tally.add("newapi_cost_usd_total", &labels, float(consumed) / per_unit);
        self.tally.add("newapi_cost_refunded_usd_total", &labels, float(refunded) / per_unit);
    }

    fn plain(&mut self, name: &str, raw: &Raw, other: &Value, amount: i64) {
        let labels = self.labels(raw, other, raw.channel);
        self.tally.add(name, &labels, float(amount));
    }

    fn labels(&self, raw: &Raw, other: &Value, channel: i64) -> Labels<'static> {
        let real = raw.kind == 2 && (tests_a_channel(raw) || !settles(raw, other))
            || raw.model.is_empty()
            || raw.other.is_none()
            || self.known.contains(&raw.model)
            || self.world.offered.contains(&raw.model);
        let mut labels = vec![
            ("channel_id", channel.to_string()),
            ("channel_name", self.world.names.get(&channel).cloned().unwrap_or_default()),
            ("model", if real { raw.model.clone() } else { "_other".into() }),
        ];
        for label in self.extra {
            labels.push(match *label {
                "group" => ("group", raw.group.clone()),
                "token" => ("token", raw.token.clone()),
                "user" => ("user", raw.user.clone()),
                _ => {
                    let index = other["admin_info"]["multi_key_index"].as_i64();
                    ("key", index.map(|index| index.to_string()).unwrap_or_default())
                }
            });
        }
        labels
    }
}

fn tests_a_channel(raw: &Raw) -> bool {
    raw.token == "模型测试" && raw.token_id == 0
}

/// Money without a request, unless it is a test.
fn settles(raw: &Raw, other: &Value) -> bool {
    let task = other["task_id"].as_str().is_some_and(|id| !id.is_empty());
    task && other["is_task"] != true || other["violation_fee"] == true || raw.quota < 0
}

fn float(number: i64) -> f64 {
    number as f64
}

/// The label of an error, from the set of DESIGN's reference.
fn error_type(other: &Value) -> &str {
    let known = [
        "new_api_error",
        "openai_error",
        "claude_error",
        "gemini_error",
        "upstream_error",
        "midjourney_error",
        "rerank_error",
    ];
    other["error_type"].as_str().filter(|kind| known.contains(kind)).unwrap_or("other")
}

/// The columns of `logs` that may be NULL, as this version has them.
pub fn nullable_columns(version: Version, engine: Engine) -> Vec<String> {
    let all = COLUMNS.into_iter().filter(|name| *name != "id" && version.has_column(name));
    all.map(|name| engine.identifier(name)).collect()
}
