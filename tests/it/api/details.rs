//! Rows in full, worked out a second time from what plain SQL reads, on the engines and versions of
//! [`super::equal`].

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::equal::{World, check_row};
use super::oracle::{Row, assert_fields};
use crate::schema::Version;

/// Rows of one sort that are asked for.
const OF_A_SORT: usize = 4;

/// What a row holds that [`Row`] does not.
struct Rest {
    /// The column as it is; empty if there is none.
    text: String,
    /// The same as JSON; null if it is none.
    other: Value,
    ip: String,
    upstream_request_id: String,
}

async fn rests(world: &World) -> BTreeMap<i64, Rest> {
    let database = &world.database;
    let present = |name: &str| {
        if database.version.has_column(name) { database.engine.identifier(name) } else { "NULL".to_owned() }
    };
    let columns = ["id", "other", "ip", "upstream_request_id"].map(present).join(", ");
    let rows = database.rows(&format!("SELECT {columns} FROM logs")).await;
    let read = |row: Vec<Option<String>>| {
        let cells: [Option<String>; 4] = row.try_into().expect("four columns");
        let [id, text, ip, upstream_request_id] = cells.map(Option::unwrap_or_default);
        let other = serde_json::from_str(&text).unwrap_or_default();
        (id.parse().expect("an id"), Rest { text, other, ip, upstream_request_id })
    };
    rows.into_iter().map(read).collect()
}

/// Type, status and group of each channel.
async fn channels(world: &World) -> BTreeMap<i64, [String; 3]> {
    let group = world.database.engine.identifier("group");
    let rows = world.database.rows(&format!("SELECT id, type, status, {group} FROM channels")).await;
    let read = |row: Vec<Option<String>>| {
        let cells: [Option<String>; 4] = row.try_into().expect("four columns");
        let [id, kind, status, group] = cells.map(Option::unwrap_or_default);
        (id.parse().expect("an id"), [kind, status, group])
    };
    rows.into_iter().map(read).collect()
}

/// The newest rows of every outcome, and among them of those that were tried again.
fn some_rows(world: &World) -> Vec<&Row> {
    let mut sorts: BTreeMap<(&str, bool), Vec<&Row>> = BTreeMap::new();
    for row in world.rows.iter().rev() {
        let rows = sorts.entry((row.outcome(), row.tried().len() > 1)).or_default();
        if rows.len() < OF_A_SORT {
            rows.push(row);
        }
    }
    sorts.into_values().flatten().collect()
}

/// Every field of some details.
pub async fn check_details(world: &World) {
    let (rests, channels) = (rests(world).await, channels(world).await);
    for row in some_rows(world) {
        let what = world.what(&format!("detail of row {}", row.id));
        let detail = world.api.get(&format!("logs/{}", row.id)).await;
        let rest = &rests[&row.id];
        check_row(&what, world, &detail, row);
        assert_eq!(detail["content"], row.content, "{what}");
        check_other(&what, world, &detail, rest);
        check_tokens(&what, &detail);
        check_cost(&what, world, &detail, row);
        check_factors(&what, &detail, rest);
        check_timing(&what, world, &detail, row);
        check_channel(&what, world, &detail, row, rest, &channels);
        for (side, wanted) in [("request", request(row, rest)), ("response", response(row, rest))] {
            assert_eq!(detail[side], Value::Object(wanted), "{what}: the {side}");
            let text = detail[format!("{side}_text")].as_str().expect("a text");
            let again: Value = serde_json::from_str(text).expect("JSON in it");
            assert_eq!(again, detail[side], "{what}: the text of the {side}");
        }
        assert_eq!(detail["bodies"]["available"], false, "{what}");
    }
}

fn fields(value: Value) -> Map<String, Value> {
    let Value::Object(fields) = value else { panic!("an object") };
    fields
}

fn check_other(what: &str, world: &World, detail: &Value, rest: &Rest) {
    // What is named so is taken for a credential and masked.
    if rest.text.contains("\"key\"") {
        assert!(detail["other"].is_object(), "{what}: {}", detail["other"]);
    } else {
        assert_eq!(detail["other"], rest.other, "{what}");
    }
    let wanted = world.database.version != Version::OneApi
        && rest.other.is_null()
        && [2, 5, 6].contains(&detail["type"].as_i64().expect("a type"));
    assert_eq!(detail["other_error"].is_string(), wanted, "{what}: {}", detail["other_error"]);
}

/// The kinds of the demo's rows. The counts were compared with the row before.
fn check_tokens(what: &str, detail: &Value) {
    let count = |name: &str| detail[name].as_i64().unwrap_or_else(|| panic!("{what}: {detail}"));
    let (input, output) = (count("input_tokens"), count("output_tokens"));
    let read = count("cache_read_tokens").min(input);
    let written = count("cache_write_tokens").min(input - read);
    let kinds = [
        ("fresh_input", input - read - written),
        ("cache_read", read),
        ("cache_write", written),
        ("output", output),
    ];
    let parts: Vec<Value> = kinds
        .into_iter()
        .filter(|(_, tokens)| *tokens > 0)
        .map(|(kind, tokens)| json!({"kind": kind, "tokens": tokens}))
        .collect();
    let wanted = json!({"total": input + output, "input": input, "output": output, "parts": parts});
    assert_eq!(detail["tokens"], wanted, "{what}");
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * other.abs().max(1.0)
}

/// What a row's money is made of, in dollars, before anything is rounded; None for tests, which each version
/// charges in its own way.
fn price(row: &Row, per_unit: f64) -> Option<Vec<(&'static str, f64)>> {
    let factor = |name: &str| row.other[name].as_f64();
    let paid = row.quota as f64 / per_unit;
    let group = factor("group_ratio");
    let parts = match (row.outcome(), group) {
        ("test", _) => return None,
        ("refund" | "settlement", _) => vec![(row.outcome(), paid)],
        (_, Some(group)) if row.answered() => {
            let fixed = factor("model_price").filter(|price| *price > 0.0);
            fixed.map_or_else(
                || by_tokens(row, group / per_unit),
                |price| vec![("fixed_price", price * group)],
            )
        }
        _ => vec![("charged", paid)],
    };
    Some(parts.into_iter().filter(|(_, usd)| *usd != 0.0).collect())
}

/// new-api's formula for tokens.
fn by_tokens(row: &Row, group: f64) -> Vec<(&'static str, f64)> {
    let factor = |name: &str| row.other[name].as_f64().unwrap_or(0.0);
    let (read, written) = (factor("cache_tokens"), factor("cache_creation_tokens"));
    // Anthropic counts what was cached beside the prompt.
    let cached = if row.other["claude"] == true { 0.0 } else { read + written };
    let each = factor("model_ratio") * group;
    vec![
        ("fresh_input", (row.prompt as f64 - cached) * each),
        ("cache_read", read * factor("cache_ratio") * each),
        ("cache_write", written * factor("cache_creation_ratio_5m") * each),
        ("output", row.completion as f64 * factor("completion_ratio") * each),
    ]
}

fn check_cost(what: &str, world: &World, detail: &Value, row: &Row) {
    let (cost, paid) = (&detail["cost"], row.quota as f64 / world.per_unit);
    assert_fields(what, cost, &fields(json!({"quota": row.quota, "cost_usd": paid})));
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{what}: {cost}"));
    let kind = |part: &Value| part["kind"].as_str().expect("a kind").to_owned();
    let parts = cost["parts"].as_array().expect("a list");
    let parts: Vec<(String, f64)> =
        parts.iter().map(|part| (kind(part), number(&part["cost_usd"]))).collect();
    let recomputed = cost["recomputed_usd"].as_f64();
    let sum: f64 = parts.iter().map(|(_, usd)| usd).sum();
    assert!(close(sum, recomputed.unwrap_or(paid)), "{what}: {cost}");
    assert_eq!(cost["difference_usd"].is_null(), recomputed.is_none(), "{what}: {cost}");
    if let Some(recomputed) = recomputed {
        assert!(close(number(&cost["difference_usd"]), paid - recomputed), "{what}: {cost}");
    }
    let Some(wanted) = price(row, world.per_unit) else { return };
    let of_rounding = |kind: &str| ["rounding", "minimum_charge"].contains(&kind);
    let exact: Vec<&(String, f64)> = parts.iter().filter(|(kind, _)| !of_rounding(kind)).collect();
    let same = exact.len() == wanted.len()
        && exact.iter().zip(&wanted).all(|(found, (kind, usd))| found.0 == *kind && close(found.1, *usd));
    assert!(same, "{what}: not {wanted:?}, but {cost}");
    let unknown = |(kind, _): &(&str, f64)| ["refund", "settlement", "charged"].contains(kind);
    if paid != 0.0 {
        assert_eq!(recomputed.is_none(), wanted.iter().any(unknown), "{what}: {cost}");
    }
    if row.answered() && row.other["model_ratio"].as_f64().is_some_and(|ratio| ratio > 0.0) {
        // Rounded once, and where it turns a float may lie on either side.
        let off = (recomputed.expect("a price") * world.per_unit - row.quota as f64).abs();
        assert!(off < 1.000_001, "{what}: {off} from {cost}");
    }
}

/// Every ratio and price that stands in `other`; below 0 there is none.
fn check_factors(what: &str, detail: &Value, rest: &Rest) {
    let recorded = rest.other.as_object().cloned().unwrap_or_default();
    let wanted: BTreeMap<String, f64> = recorded
        .into_iter()
        .filter(|(name, _)| name.contains("_ratio") || name.ends_with("_price"))
        .filter_map(|(name, amount)| Some((name, amount.as_f64().filter(|amount| *amount >= 0.0)?)))
        .collect();
    let factors = detail["factors"].as_array().expect("a list");
    let shown: BTreeMap<String, f64> = factors
        .iter()
        .map(|factor| {
            let name = factor["factor"].as_str().expect("a name").to_owned();
            (name, factor["amount"].as_f64().expect("an amount"))
        })
        .collect();
    assert_eq!((shown.len(), &shown), (factors.len(), &wanted), "{what}");
}

/// The attempts of a row's request: channel, status, the row that tells of it, and whether it went wrong.
fn attempts(world: &World, row: &Row) -> Vec<Value> {
    let is_own = |other: &&Row| {
        other.id == row.id || (!row.request_id.is_empty() && other.request_id == row.request_id)
    };
    let is_attempt = |row: &&Row| row.answered() || ["error", "test"].contains(&row.outcome());
    let rows: Vec<&Row> = world.rows.iter().filter(is_own).filter(is_attempt).collect();
    let told = |row: &Row| {
        let failed = row.outcome() == "error";
        let status = if failed { row.other["status_code"].clone() } else { Value::Null };
        let wrong = failed || ["stream_error", "client_gone"].contains(&row.outcome());
        json!([row.channel, status, format!("/api/v1/logs/{}", row.id), wrong])
    };
    let tried = rows.iter().map(|row| row.tried()).max_by_key(Vec::len).unwrap_or_default();
    if tried.is_empty() {
        return rows.into_iter().filter(|row| row.channel != 0).map(told).collect();
    }
    // Each row holds the channels up to its own.
    let recorded = |channel: i64, number: usize| {
        rows.iter().find(|row| row.channel == channel && row.tried().len() == number)
    };
    (1..)
        .zip(&tried)
        .map(|(number, channel)| match recorded(*channel, number) {
            Some(row) => told(row),
            None => json!([channel, null, null, number < tried.len()]),
        })
        .collect()
}

fn check_timing(what: &str, world: &World, detail: &Value, row: &Row) {
    let timing = &detail["timing"];
    let seconds = row.ms.max(0) as f64 / 1000.0;
    let output = row.completion.max(0) as f64;
    let speed = (seconds > 0.0 && output > 0.0).then(|| (output / seconds * 100.0).round() / 100.0);
    let wanted = json!({
        "duration_seconds": seconds,
        "time_to_first_token_seconds": detail["time_to_first_token_seconds"],
        "tokens_per_second": speed,
        "over_threshold": detail["over_threshold"],
    });
    assert_fields(what, timing, &fields(wanted));
    // One API's tests look like attempts of whatever request they share the id with.
    if world.database.version == Version::OneApi {
        return;
    }
    let shown = timing["attempts"].as_array().expect("a list");
    let told = |one: &Value| {
        json!([one["channel_id"], one["status_code"], one["detail_url"], one["error"].is_string()])
    };
    assert_eq!(shown.iter().map(told).collect::<Vec<_>>(), attempts(world, row), "{what}: {timing}");
    for attempt in shown {
        if let Some(name) = attempt["channel_id"].as_i64().and_then(|id| world.names.get(&id)) {
            assert_eq!(attempt["channel_name"], *name, "{what}: {timing}");
        }
    }
}

fn check_channel(
    what: &str,
    world: &World,
    detail: &Value,
    row: &Row,
    rest: &Rest,
    channels: &BTreeMap<i64, [String; 3]>,
) {
    let shown = &detail["channel"];
    if row.channel == 0 {
        assert_eq!(shown, &Value::Null, "{what}");
        return;
    }
    let wanted = if let Some([kind, status, group]) = channels.get(&row.channel) {
        let status = ["unknown", "enabled", "manually_disabled", "auto_disabled"]
            [status.parse::<usize>().expect("a status")];
        json!({
            "channel_name": world.names.get(&row.channel),
            "type": kind.parse::<i64>().expect("a type"),
            "status": status,
            "group": group,
        })
    } else {
        json!({"type": rest.other["channel_type"], "status": "deleted", "group": null})
    };
    assert_eq!(shown["channel_id"], row.channel, "{what}");
    assert_fields(what, shown, &fields(wanted));
}

/// Only what is known.
fn known<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    let nothing = [Value::Null, json!(""), json!([])];
    let known = fields.into_iter().filter(|(_, value)| !nothing.contains(value));
    known.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn request(row: &Row, rest: &Rest) -> Map<String, Value> {
    let other = &rest.other;
    let upstream = other["upstream_model_name"].as_str().unwrap_or(&row.model);
    known([
        // All of the demo's routes are asked so.
        ("method", if other["request_path"].is_string() { json!("POST") } else { Value::Null }),
        ("path", other["request_path"].clone()),
        ("model", json!(row.model)),
        ("upstream_model", json!(upstream)),
        ("stream", json!(row.stream)),
        ("group", json!(row.group)),
        ("token_name", json!(row.token_name)),
        ("username", json!(row.username)),
        ("ip", json!(rest.ip)),
        ("conversion", other["request_conversion"].clone()),
    ])
}

fn response(row: &Row, rest: &Rest) -> Map<String, Value> {
    let other = &rest.other;
    let failed = row.outcome() == "error";
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| other[name].as_str().filter(|text| !text.is_empty()));
        json!(found)
    };
    // new-api puts the status before an error.
    let (_, message) = row.content.split_once(", ").unwrap_or_default();
    let said = match (failed, message) {
        (false, _) => json!(row.content),
        (true, "") => text(&["error_code", "error_type"]),
        (true, message) => json!(message),
    };
    let errors = other["stream_status"]["end_error"].as_str();
    known([
        ("outcome", json!(row.outcome())),
        ("status_code", if failed { other["status_code"].clone() } else { Value::Null }),
        ("stream_end", other["stream_status"]["end_reason"].clone()),
        ("stream_errors", json!(errors.into_iter().collect::<Vec<_>>())),
        ("error_type", text(&["error_type", "upstream_error_type"])),
        ("error_code", text(&["error_code", "upstream_error_code", "violation_fee_code"])),
        ("text", said),
        ("upstream_request_id", json!(rest.upstream_request_id)),
    ])
}
