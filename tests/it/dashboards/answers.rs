//! Everything that boards ask is asked: of the API of a demo, and of the real Prometheus that scrapes it with the shipped
//! rules. What answers nothing is an empty panel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use token_monitor::config::Flags;

use super::{Board, list, named, text};
use crate::servers::{Prometheus, free_port};
use crate::support::{Api, Folder, Process, command, eventually, free_address, now};

/// Routes that may answer with an empty list, because nothing happened yet in a new demo. Of these, and of these alone,
/// the document may lack what boards show of free maps.
const MAY_BE_EMPTY: [&str; 3] = ["/api/v1/incidents", "/api/v1/deliveries", "/api/v1/breaker"];

/// Columns that need not have a value in a demo, and why.
const MAY_BE_NULL: &[(&str, &str, &str)] = &[
    ("Limits, fullest first", "resets_at", "a day may just have begun, and rolling windows be calm"),
    ("Limits", "resets_at", "a day may just have begun, and rolling windows be calm"),
    ("Limits", "exhausted_at", "nothing is about to be exceeded at the present rate"),
    ("All rows of this request", "status_code", "new-api may write no row of a failed attempt"),
    ("All rows of this request", "error", "new-api may write no row of a failed attempt"),
    ("Channels tried", "status_code", "new-api may write no row of a failed attempt"),
    ("Channels tried", "error", "new-api may write no row of a failed attempt"),
    ("Bodies", "source", "new-api stores no bodies"),
    ("Rows, newest first", "status_code", "only failures have one"),
];

/// The demo's own limits, and one that is exceeded from the first minute, so that alerts fire.
const LIMITS: &str = concat!(
    include_str!("../../../src/demo/limits.yml"),
    "\n  - {name: tiny, channel: \"*\", model: \"*\", measure: requests, max: 1, window: 7d}\n"
);

/// A demo that is ready.
struct Demo {
    process: Process,
    _folder: Folder,
}

impl Demo {
    async fn start() -> Self {
        let (folder, address) = (Folder::new(), free_address());
        let limits = folder.path().join("limits.yml");
        std::fs::write(&limits, LIMITS).expect("writing limits");
        let mut command = command(&Flags {
            listen: Some(address.to_string()),
            limits_file: Some(limits.display().to_string()),
            ..Flags::default()
        });
        command.arg("demo").current_dir(folder.path());
        let demo = Self { process: Process::run(address, command), _folder: folder };
        demo.process.page().wait_ready().await;
        demo
    }

    fn api(&self) -> Api {
        Api::new(self.process.address, None)
    }
}

// ---- the API ----------------------------------------------------------------------------------------------------

/// What a board's variables are when it is opened: everything of a day, and a slow request that was tried twice.
struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// `log_id` is what the log detail opens on.
    async fn of(api: &Api, log_id: &str) -> Self {
        let slow = api.get("slow-requests?limit=500").await;
        // Streamed, because only that has a time to its first token.
        let has_everything = |row: &&Value| {
            list(&row["attempts"]).len() > 1
                && row["request_id"].is_string()
                && row["time_to_first_token_seconds"].is_number()
        };
        let row = list(&slow["items"]).iter().find(has_everything).expect("a streamed one, tried twice");
        let mut values = BTreeMap::from([
            ("__from", ((now() - 86_400) * 1000).to_string()),
            ("__to", (now() * 1000).to_string()),
            ("log_id", log_id.to_owned()),
            ("row", row["id"].to_string()),
            ("min_duration", "0s".to_owned()),
        ]);
        for name in ["channel_id", "model", "group", "outcome", "type"] {
            values.insert(name, ".*".to_owned());
        }
        for name in ["username", "token_name", "cursor", "request_id"] {
            values.insert(name, String::new());
        }
        values.insert("request_id of the row", text(&row["request_id"]).to_owned());
        Self(values)
    }

    /// A text with its variables replaced, as Grafana does it.
    fn fill(&self, template: &str) -> String {
        let mut filled = template.to_owned();
        for (name, value) in &self.0 {
            for form in [format!("${{{name}}}"), format!("${{{name}:csv}}")] {
                filled = filled.replace(&form, value);
            }
        }
        assert!(!filled.contains('$'), "{template}");
        filled
    }

    /// The address of a query.
    fn address(&self, query: &Value) -> String {
        // In a path it is the row's own, in a parameter it is a filter that nobody has set.
        let path = text(&query["url"]).replace("${request_id}", &self.0["request_id of the row"]);
        let pairs = list(&query["url_options"]["params"])
            .iter()
            .map(|pair| (text(&pair["key"]), self.fill(text(&pair["value"]))));
        let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        format!("{}?{encoded}", self.fill(&path)).trim_end_matches('?').to_owned()
    }
}

/// What a path of gjson finds, if anything: names, numbers of items, `#` for how many there are and, before a name, for that of
/// each, and `|@flatten` for the items of items.
fn find(value: &Value, path: &str) -> Option<Value> {
    if let Some(path) = path.strip_suffix(FLATTENED) {
        let Value::Array(items) = find(value, path)? else { return None };
        let inner = |item| if let Value::Array(inner) = item { inner } else { vec![item] };
        return Some(items.into_iter().flat_map(inner).collect());
    }
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    match (value, first) {
        (_, "") => Some(value.clone()),
        (Value::Array(items), "#") if rest.is_empty() => Some(items.len().into()),
        (Value::Array(items), "#") => Some(items.iter().filter_map(|item| find(item, rest)).collect()),
        (Value::Array(items), index) => find(items.get(index.parse::<usize>().ok()?)?, rest),
        (other, name) => find(other.get(name)?, rest),
    }
}

const FLATTENED: &str = "|@flatten";

/// The same; null if there is nothing.
fn select(value: &Value, path: &str) -> Value {
    find(value, path).unwrap_or_default()
}

/// Whether the document knows what a selector finds.
fn described(document: &Value, schema: &Value, selector: &str) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        let pointer = name.trim_start_matches('#');
        return document.pointer(pointer).is_some_and(|schema| described(document, schema, selector));
    }
    let choices = ["oneOf", "anyOf", "allOf"].iter().flat_map(|word| list(&schema[word]));
    if choices.into_iter().any(|choice| described(document, choice, selector)) {
        return true;
    }
    if selector.is_empty() {
        return true;
    }
    let (first, rest) = selector.split_once('.').unwrap_or((selector, ""));
    if schema.get("items").is_some() {
        let is_one = first == "#" || first.parse::<usize>().is_ok();
        return is_one && described(document, &schema["items"], rest);
    }
    let is_map = schema["additionalProperties"].is_object();
    is_map || schema["properties"].get(first).is_some_and(|field| described(document, field, rest))
}

/// The answer's schema of a route, and its parameters, if the document has it. An id in a path is a parameter.
fn route<'a>(document: &'a Value, url: &str) -> Option<(&'a Value, Vec<&'a str>)> {
    let paths = document["paths"].as_object().expect("paths");
    let parts = |path: &'a str| path.split('/');
    let fits = |path: &&String| {
        let (of_path, of_url): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), url.split('/').collect());
        of_path.len() == of_url.len()
            && of_path.iter().zip(&of_url).all(|(a, b)| a == b || (a.starts_with('{') && b.starts_with("${")))
    };
    let path = paths.keys().find(fits)?;
    assert!(parts(path).count() > 2, "{path}");
    let get = &paths[path]["get"];
    let schema = &get["responses"]["200"]["content"]["application/json"]["schema"];
    let parameters =
        list(&get["parameters"]).iter().filter_map(|parameter| parameter["name"].as_str()).collect();
    Some((schema, parameters))
}

/// What is wrong with a query by the document: route, parameters, columns.
fn undocumented(document: &Value, query: &Value) -> Vec<String> {
    let url = text(&query["url"]);
    let Some((schema, parameters)) = route(document, url) else {
        return vec![format!("there is no route {url}")];
    };
    let sent = list(&query["url_options"]["params"]).iter().map(|pair| text(&pair["key"]));
    let mut wrong: Vec<String> =
        sent.filter(|key| !parameters.contains(key)).map(|key| format!("no parameter {key}")).collect();
    let root = text(&query["root_selector"]).trim_end_matches(FLATTENED);
    for column in list(&query["columns"]) {
        let selector = text(&column["selector"]);
        let in_object = format!("{root}.{selector}");
        let in_items = format!("{root}.0.{selector}");
        let found = [in_object, in_items].iter().any(|selector| {
            described(document, schema, selector.trim_start_matches('.').trim_start_matches("0."))
        });
        if !found {
            wrong.push(format!("{url} has no {root} {selector}"));
        }
    }
    wrong
}

/// What is wrong with the answer to a query.
async fn unanswered(api: &Api, values: &Values, place: &str, query: &Value) -> Vec<String> {
    let (url, root) = (text(&query["url"]), text(&query["root_selector"]));
    let address = values.address(query);
    let answer = api.ask(&address).await;
    if answer.status != 200 {
        return vec![format!("{place}: {address}: {}", answer.text)];
    }
    let rows = match find(&answer.json(), root) {
        Some(Value::Array(rows)) => rows,
        Some(Value::Null) => Vec::new(),
        Some(one) => vec![one],
        None => return vec![format!("{place}: {address}: there is no {root}")],
    };
    if rows.is_empty() {
        let allowed = MAY_BE_EMPTY.contains(&url);
        return if allowed { Vec::new() } else { vec![format!("{place}: {address}: nothing at {root}")] };
    }
    let title = place.split(": ").skip(1).collect::<Vec<_>>().join(": ");
    let columns = list(&query["columns"]).iter().map(|column| text(&column["selector"]));
    let empty = columns.filter(|selector| rows.iter().all(|row| select(row, selector).is_null()));
    let allowed = |selector: &&str| {
        let excused = MAY_BE_NULL.iter().any(|(panel, column, _)| *panel == title && column == selector);
        !excused && !MAY_BE_EMPTY.contains(&url)
    };
    empty.filter(allowed).map(|selector| format!("{place}: {address}: no row has {selector}")).collect()
}

// ---- Prometheus -------------------------------------------------------------------------------------------------

/// The shipped rules, evaluated every second.
fn hasty_rules() -> Folder {
    let folder = Folder::new();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus/rules");
    for file in std::fs::read_dir(shipped).expect("the rules") {
        let file = file.expect("a file");
        let text = std::fs::read_to_string(file.path()).expect("rules");
        let hasty = |line: &str| {
            if line.starts_with("    interval: ") { "    interval: 1s".to_owned() } else { line.to_owned() }
        };
        let lines: Vec<String> = text.lines().map(hasty).collect();
        std::fs::write(folder.path().join(file.file_name()), lines.join("\n")).expect("writing rules");
    }
    folder
}

/// A query as Grafana sends it when a board is opened.
fn filled(expr: &str) -> String {
    let mut filled =
        expr.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$__interval", "1m");
    for name in ["channel_id", "model", "group"] {
        filled = filled.replace(&format!("${name}"), ".*");
    }
    assert!(named(&filled).is_empty(), "{expr}");
    filled
}

/// What a table of series shows and leaves out: columns by their labels, and labels that it excludes.
fn labels_of(panel: &Value) -> Option<(BTreeSet<&str>, BTreeSet<&str>)> {
    let is_of_series = panel["type"] == "table" && panel["targets"][0].get("expr").is_some();
    let organize = list(&panel["transformations"]).iter().find(|one| one["id"] == "organize")?;
    let names = |of: &'static str| {
        let names = organize["options"][of].as_object().expect("names").keys().map(String::as_str);
        names.filter(|name| !["Time", "Value"].contains(name)).collect::<BTreeSet<&str>>()
    };
    is_of_series.then(|| (names("renameByName"), names("excludeByName")))
}

/// What is wrong with the labels of a result for such a table.
fn unfit((shown, left_out): &(BTreeSet<&str>, BTreeSet<&str>), result: &Value) -> Option<String> {
    let labels = |sample: &Value| {
        let labels = sample["metric"].as_object().expect("labels").iter();
        let filled = labels.filter(|(_, value)| value.as_str().is_some_and(|text| !text.trim().is_empty()));
        filled.map(|(name, _)| name.clone()).collect::<Vec<String>>()
    };
    let found: BTreeSet<String> = list(result).iter().flat_map(labels).collect();
    let missing = shown.iter().find(|label| !found.contains(**label));
    let stray =
        found.iter().find(|label| !shown.contains(label.as_str()) && !left_out.contains(label.as_str()));
    let missing = missing.map(|label| format!("nothing has the label {label}"));
    missing.or_else(|| stray.map(|label| format!("{label} is neither a column nor left out")))
}

/// Whether a result has a number that can be drawn.
fn is_drawn(result: &Value) -> bool {
    list(result).iter().any(|sample| text(&sample["value"][1]).parse::<f64>().is_ok_and(f64::is_finite))
}

/// A gateway without limits, failures or alerts is the usual one. Infinity takes a root that a list lacks for an expression in
/// another language, and shows an error in red.
#[test]
fn where_there_are_no_items_a_panel_has_no_rows() {
    let nothing = serde_json::json!({"items": []});
    let mut of_lists = 0;
    for board in Board::all() {
        for (place, query) in board.queries() {
            let root = query["root_selector"].as_str().unwrap_or_default();
            if root.starts_with("items") {
                assert_eq!(find(&nothing, root), Some(Value::Array(Vec::new())), "{place}: {root}");
                of_lists += 1;
            }
        }
    }
    assert!(of_lists > 20, "{of_lists}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_boards_ask_is_answered() {
    let demo = Demo::start().await;
    let (api, rules) = (demo.api(), hasty_rules());
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [rules/*.yml]\n\
         scrape_configs:\n- job_name: token-monitor\n  static_configs: [{{targets: ['{}']}}]\n",
        demo.process.address
    );
    let prometheus = Prometheus::start_with_rules(free_port(), &config, &rules.path());

    let boards = Board::english();
    let detail = boards.iter().find(|board| board.uid() == "tm-log-detail").expect("the log detail");
    let values = Values::of(&api, detail.default_of("log_id")).await;
    let (document, mut wrong) = (api.get("openapi.json").await, Vec::new());
    let (mut asked, mut of_prometheus) = (0, Vec::new());
    for board in &boards {
        for (place, query) in board.queries() {
            if let Some(expr) = query["expr"].as_str() {
                of_prometheus.push((place, filled(expr)));
                continue;
            }
            asked += 1;
            wrong.extend(undocumented(&document, query).iter().map(|what| format!("{place}: {what}")));
            wrong.extend(unanswered(&api, &values, &place, query).await);
        }
    }
    super::nothing(&wrong);
    assert!(asked > 50 && of_prometheus.len() > 50, "{asked} and {}", of_prometheus.len());

    // Rates need two scrapes, and percentiles some requests.
    for (place, expr) in of_prometheus {
        eventually(&format!("{place}: {expr}"), async || is_drawn(&prometheus.query(&expr).await)).await;
    }
    let mut tables = 0;
    for board in &boards {
        for (place, series, label) in board.label_values() {
            let expr = format!("count by ({label}) ({series}{{{label}!=\"\"}})");
            eventually(&format!("{place}: {expr}"), async || is_drawn(&prometheus.query(&expr).await)).await;
        }
        for panel in board.panels() {
            let Some(labels) = labels_of(panel) else { continue };
            let (title, expr) = (text(&panel["title"]), filled(text(&panel["targets"][0]["expr"])));
            let fits = async || match unfit(&labels, &prometheus.query(&expr).await) {
                Some(wrong) => {
                    eprintln!("{title}: {wrong}");
                    false
                }
                None => true,
            };
            eventually(&format!("{title} has its columns and no other: {expr}"), fits).await;
            tables += 1;
        }
    }
    assert!(tables >= 4, "{tables} tables of series");
}

#[test]
fn what_a_selector_finds_is_known() {
    let value = serde_json::json!({"items": [{"a": {"b": 1}}, {"a": null}], "next": null});
    assert_eq!(select(&value, "items.0.a.b"), 1);
    assert_eq!(select(&value, "items.#"), 2);
    assert_eq!(select(&value, "items.7.a"), Value::Null);
    assert_eq!(select(&value, ""), value);
    let document = serde_json::json!({"one": {"properties": {"a": {"items": {"$ref": "#/two"}}}}, "two": {
        "allOf": [{"properties": {"b": {"oneOf": [{"type": "null"}, {"$ref": "#/three"}]}}}]},
        "three": {"properties": {"c": {"type": "integer"}, "d": {"additionalProperties": {"type": "string"}}}}});
    for (selector, known) in [
        ("a.#", true),
        ("a.0.b.c", true),
        ("a.0.b.d.any", true),
        ("a.0.b.x", false),
        ("x", false),
        ("a.b", false),
    ] {
        assert_eq!(described(&document, &document["one"], selector), known, "{selector}");
    }
}
