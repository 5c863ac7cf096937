//! Rules that every board keeps; each is there because a panel, a link or a table failed without it in some Grafana.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use token_monitor::state::{DEAD_REASONS, RETRY_REASONS};

use super::{API, BOARDS, Board, LANGUAGES, list, named, nothing, text, texts};
use crate::rules;

/// Collects what is wrong with each board.
pub(super) fn each(check: impl Fn(&Board, &mut Vec<String>)) {
    let boards = Board::all();
    assert_eq!(boards.len(), BOARDS.len() * LANGUAGES.len());
    let mut wrong = Vec::new();
    for board in &boards {
        check(board, &mut wrong);
    }
    nothing(&wrong);
}

/// The same for each panel that is not the heading of a row.
pub(super) fn each_panel(check: impl Fn(&Board, &Value, &mut dyn FnMut(&str))) {
    each(|board, wrong| {
        for panel in board.panels().filter(|panel| panel["type"] != "row") {
            let place = format!("{}: {}", board.uid(), panel["title"]);
            check(board, panel, &mut |what| wrong.push(format!("{place}: {what}")));
        }
    });
}

#[test]
fn boards_are_found_under_their_names() {
    for (suffix, folder) in LANGUAGES {
        let boards = Board::of(suffix, folder);
        let found: BTreeSet<String> = boards.iter().map(|board| board.uid().to_owned()).collect();
        assert_eq!(found, BOARDS.map(|(uid, _)| format!("{uid}{suffix}")).into());
        for board in &boards {
            let (uid, title) = (board.uid(), text(&board.json["title"]));
            assert!(uid.len() <= 40, "{uid} is too long");
            assert_eq!(
                (&board.json["id"], &board.json["schemaVersion"]),
                (&Value::Null, &json!(38)),
                "{uid}"
            );
            assert_eq!(board.json["tags"], json!([format!("token-monitor{suffix}")]), "{uid}");
            // Grafana leaves out a board that is called like a folder.
            let clash = LANGUAGES.iter().any(|(_, folder)| folder.eq_ignore_ascii_case(title));
            assert!(!clash, "{title} is a folder's name");
            let called = BOARDS.iter().find(|(name, _)| uid.trim_end_matches(suffix) == *name);
            assert!(
                suffix.is_empty() || called.is_some_and(|(_, chinese)| *chinese == title),
                "{uid}: {title}"
            );
        }
    }
    let slug = |folder: &str| folder.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let slugs: BTreeSet<String> = LANGUAGES.iter().map(|(_, folder)| slug(folder)).collect();
    assert_eq!(slugs.len(), LANGUAGES.len(), "folders with the same slug become one");
}

#[test]
fn panels_fill_the_grid_and_do_not_overlap() {
    each(|board, wrong| {
        let (mut taken, mut ids) = (BTreeMap::new(), BTreeSet::new());
        for panel in board.panels() {
            let title = text(&panel["title"]);
            if !ids.insert(panel["id"].as_u64().expect("an id")) {
                wrong.push(format!("{}: {title} has the id of another panel", board.uid()));
            }
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
            let least = if panel["type"] == "table" { 4 } else { 1 };
            if x + w > 24 || h < least {
                wrong.push(format!("{}: {title} is out of the grid or too low", board.uid()));
            }
            for cell in (y..y + h).flat_map(|line| (x..x + w).map(move |column| (line, column))) {
                if let Some(other) = taken.insert(cell, title) {
                    wrong.push(format!("{}: {title} lies on {other}", board.uid()));
                    break;
                }
            }
        }
        let height = taken.keys().map(|(line, _)| line + 1).max().unwrap_or_default();
        if taken.len() as u64 != 24 * height {
            wrong.push(format!("{}: there are gaps between panels", board.uid()));
        }
    });
}

#[test]
fn every_panel_says_what_it_is_and_in_which_unit() {
    each_panel(|_, panel, wrong| {
        let kind = text(&panel["type"]);
        let missing = |name: &str| panel[name].as_str().is_none_or(|text| text.trim().is_empty());
        if missing("title") || missing("description") {
            wrong("no title or no description");
        }
        let defaults = &panel["fieldConfig"]["defaults"];
        let numeric =
            ["stat", "timeseries", "piechart", "bargauge", "heatmap", "state-timeline"].contains(&kind);
        if numeric && defaults["unit"].is_null() {
            wrong("no unit");
        }
        if kind == "stat" && defaults["noValue"].is_null() {
            wrong("no noValue");
        }
        // It stands in every empty cell.
        if kind == "table" && defaults["noValue"].as_str().is_some_and(|text| text.chars().count() > 2) {
            wrong("a long noValue");
        }
        // What looks like a number would be shown as one: an id as 143 K.
        let words = list(&panel["targets"]).iter().flat_map(|target| list(&target["columns"]));
        let words = words.filter(|column| kind == "stat" && column["type"] == "string");
        for column in words {
            let overrides = list(&panel["fieldConfig"]["overrides"]).iter();
            let mut properties = overrides
                .filter(|one| one["matcher"]["options"] == column["text"])
                .flat_map(|one| list(&one["properties"]));
            if !properties.any(|property| property["id"] == "unit" && property["value"] == "string") {
                wrong(&format!("{} is no number", column["text"]));
            }
        }
        if kind == "state-timeline" && defaults["color"]["mode"] != "palette-classic" {
            wrong("mappings are ignored with this mode of colour");
        }
        let overrides = list(&panel["fieldConfig"]["overrides"]);
        for number in list(&panel["targets"]).iter().flat_map(|target| list(&target["columns"])) {
            let of_column = |one: &&Value| one["matcher"]["options"] == number["text"];
            let properties = overrides.iter().filter(of_column).flat_map(|one| list(&one["properties"]));
            let has_unit = properties.into_iter().any(|one| one["id"] == "unit");
            if kind == "table" && number["type"] == "number" && !has_unit {
                wrong(&format!("no unit for {}", number["text"]));
            }
        }
    });
}

#[test]
fn thresholds_are_used_where_they_are_set() {
    each_panel(|_, panel, wrong| {
        for one in list(&panel["fieldConfig"]["overrides"]) {
            let value = |id: &str| list(&one["properties"]).iter().find(|property| property["id"] == id);
            let mode = value("color").map(|property| &property["value"]["mode"]);
            if value("thresholds").is_some() && mode != Some(&json!("thresholds")) {
                wrong(&format!("thresholds of {} without their colours", one["matcher"]["options"]));
            }
        }
    });
}

#[test]
fn every_question_names_its_data_source_by_a_variable() {
    each(|board, wrong| {
        let allowed = |source: &Value| {
            let pair = (source["type"].as_str(), source["uid"].as_str());
            [(Some("prometheus"), Some("${ds}")), (Some(API), Some("${api}"))].contains(&pair)
        };
        let built_in = |one: &&Value| one.get("builtIn").is_none();
        let annotations = list(&board.json["annotations"]["list"]).iter().filter(built_in);
        let variables = board.variables().iter().filter(|one| one["type"] == "query");
        let panels = board.panels().filter(|panel| panel["type"] != "row");
        let targets = board.panels().flat_map(|panel| list(&panel["targets"]));
        for one in annotations.chain(variables).chain(panels).chain(targets) {
            if !allowed(&one["datasource"]) {
                wrong.push(format!("{}: a data source: {}", board.uid(), one["datasource"]));
            }
        }
        for panel in board.panels() {
            let ids: Vec<&Value> = list(&panel["targets"]).iter().map(|target| &target["refId"]).collect();
            let unique: BTreeSet<&str> = ids.iter().map(|id| text(id)).collect();
            let exemplars =
                list(&panel["targets"]).iter().filter(|target| target["exemplar"] == true).count();
            if unique.len() != ids.len() || exemplars > 1 {
                wrong.push(format!("{}: {}: refIds or exemplars", board.uid(), panel["title"]));
            }
        }
    });
}

#[test]
fn every_variable_is_defined_before_it_is_used() {
    each(|board, wrong| {
        let mut defined = BTreeSet::new();
        for variable in board.variables() {
            let mut used = Vec::new();
            texts(variable, &mut used);
            let used = used.into_iter().filter(|text| *text != "$__all").flat_map(named);
            wrong.extend(
                used.filter(|name| !defined.contains(name))
                    .map(|name| format!("{}: {} uses {name}", board.uid(), variable["name"])),
            );
            defined.insert(text(&variable["name"]));
        }
        for part in ["panels", "annotations"] {
            let mut used = Vec::new();
            texts(&board.json[part], &mut used);
            let unknown = used.into_iter().flat_map(named).filter(|name| !defined.contains(name));
            wrong.extend(unknown.map(|name| format!("{}: {part} use {name}", board.uid())));
        }
    });
}

#[test]
fn every_metric_and_label_of_a_board_is_on_the_page() {
    let mut wrong = Vec::new();
    for board in Board::english() {
        for (place, query) in board.queries() {
            if let Some(expr) = query["expr"].as_str() {
                wrong.extend(rules::mistakes_in(&place, expr));
            }
        }
        for (place, series, label) in board.label_values() {
            wrong.extend(rules::mistakes_in(&place, &format!("count by ({label}) ({series})")));
        }
    }
    nothing(&wrong);
}

#[test]
fn columns_of_the_api_keep_their_order_and_their_names() {
    each(|board, wrong| {
        for (place, query) in board.queries().into_iter().filter(|(_, query)| query.get("expr").is_none()) {
            if query["parser"] != "backend"
                || list(&query["columns"]).iter().any(|column| column["text"] == "Value")
            {
                wrong.push(format!("{place}: another parser, or a column called Value"));
            }
        }
    });
    each_panel(|_, panel, wrong| {
        let columns: BTreeSet<&str> = list(&panel["targets"])
            .iter()
            .flat_map(|target| list(&target["columns"]))
            .map(|column| text(&column["text"]))
            .collect();
        let ordered = |one: &&Value| one["id"] == "organize";
        let order =
            list(&panel["transformations"]).iter().find(ordered).map(|one| &one["options"]["indexByName"]);
        let shows_all = panel["type"] == "table" || panel["options"]["reduceOptions"]["fields"] == "/.*/";
        if shows_all && columns.len() > 1 {
            let names =
                order.and_then(Value::as_object).map(|names| names.keys().map(String::as_str).collect());
            if names != Some(columns.clone()) {
                wrong(&format!("the order is of {names:?}, the columns are {columns:?}"));
            }
        }
        // A name in an override that nothing has does nothing. Where each row is drawn as a part, parts have names too.
        let parts =
            if panel["options"]["reduceOptions"]["values"] == true { mapped(panel) } else { Vec::new() };
        let parts: BTreeSet<&str> =
            parts.iter().flat_map(|(_, words)| words.values()).map(|word| text(&word["text"])).collect();
        for one in list(&panel["fieldConfig"]["overrides"]) {
            let name = text(&one["matcher"]["options"]);
            if !columns.is_empty() && !columns.contains(name) && !parts.contains(name) {
                wrong(&format!("{name} is no column"));
            }
        }
        // Nor does a pattern that meets no column.
        let fields = panel["options"]["reduceOptions"]["fields"].as_str().unwrap_or_default();
        let only = fields.trim_start_matches("/^").trim_end_matches("$/");
        if fields.starts_with("/^") && !columns.contains(only) {
            wrong(&format!("{only} is no column"));
        }
    });
}

/// The columns of a panel that have words for fixed values, each with these.
fn mapped(panel: &Value) -> Vec<(&str, BTreeMap<&str, &Value>)> {
    let overrides = list(&panel["fieldConfig"]["overrides"]).iter();
    overrides
        .filter_map(|one| {
            let property = list(&one["properties"]).iter().find(|property| property["id"] == "mappings")?;
            let values = list(&property["value"]).iter().filter(|mapping| mapping["type"] == "value");
            let words = values.filter_map(|mapping| mapping["options"].as_object()).flatten();
            Some((
                text(&one["matcher"]["options"]),
                words.map(|(value, word)| (value.as_str(), word)).collect(),
            ))
        })
        .collect()
}

/// Columns whose values come from a closed list: route, selector, values. Each must have a word in each language.
fn closed_lists() -> Vec<(&'static str, &'static str, BTreeSet<&'static str>)> {
    let set = |values: &str| -> BTreeSet<&'static str> {
        values.split(' ').map(|value| &*value.to_owned().leak()).collect()
    };
    let results = "pending done would_do already_so refused failed unverified";
    let refusals = "off no_channel unknown_channel protected too_old from_the_future last_of too_many hands_off not_ours over";
    let failures = "unreachable denied rate_limited rejected server";
    let kinds = "topup consume manage system error refund login test unknown";
    vec![
        ("/limits", "measure", set("tokens input_tokens output_tokens requests errors quota cost_usd")),
        ("/limits", "window", set("day week month")),
        ("/limits", "action", set("notify disable_channel")),
        ("/breaker", "action", set("trip restore")),
        ("/breaker", "result", set(results)),
        ("/breaker", "reason", set(&format!("{refusals} {failures}"))),
        ("/breaker", "restore", set("never window_reset")),
        ("/incidents", "state", set("firing resolved")),
        ("/incidents", "act.result", set(results)),
        ("/deliveries", "state", set("pending leased sent dead superseded")),
        ("/deliveries", "reason", DEAD_REASONS.into_iter().chain(RETRY_REASONS).collect()),
        ("/channels", "status", set("enabled manually_disabled auto_disabled deleted unknown")),
        ("/requests/${request_id}", "type_name", set(kinds)),
        (
            "/requests/${request_id}",
            "outcome",
            set("success client_gone stream_error error refund settlement test other"),
        ),
    ]
}

#[test]
fn values_of_closed_lists_have_words_and_no_word_is_for_nothing() {
    each(|board, wrong| {
        for panel in board.panels() {
            let words = mapped(panel);
            for target in list(&panel["targets"]) {
                for (url, selector, values) in closed_lists() {
                    let columns = list(&target["columns"]).iter();
                    let mut columns = columns.filter(|column| column["selector"] == selector);
                    let Some(column) = columns.next().filter(|_| target["url"] == format!("/api/v1{url}"))
                    else {
                        continue;
                    };
                    let words = words.iter().find(|(name, _)| column["text"] == *name);
                    let known: BTreeSet<&str> =
                        words.map(|(_, words)| words.keys().copied().collect()).unwrap_or_default();
                    if known != values {
                        wrong.push(format!("{}: {selector}: {known:?}, not {values:?}", board.uid()));
                    }
                }
            }
        }
    });
}

/// Kinds of tokens and of cost that a row may have. Tools that new-api lists by name may have other names too.
const KINDS: [&str; 19] = [
    "fresh_input",
    "cache_read",
    "cache_write",
    "image_input",
    "audio_input",
    "output",
    "audio_output",
    "fixed_price",
    "web_search",
    "file_search",
    "image_generation",
    "tool_web_search",
    "tool_file_search",
    "tool_image_generation",
    "rounding",
    "minimum_charge",
    "charged",
    "settlement",
    "refund",
];

#[test]
fn kinds_of_parts_are_those_of_the_document() {
    let document: Value =
        serde_json::from_str(include_str!("../golden/api/openapi.json")).expect("the document is JSON");
    let documented = |part: &str| {
        let kind = &document["components"]["schemas"][part]["properties"]["kind"];
        let words = text(&kind["description"]).split('`').skip(1).step_by(2).map(str::to_owned);
        words.collect::<BTreeSet<String>>()
    };
    let of_cost = KINDS.map(|kind| if kind.starts_with("tool_") { "tool_…" } else { kind });
    assert_eq!(documented("CostPart"), of_cost.map(str::to_owned).into());
    let of_tokens = documented("TokenPart");
    assert!(!of_tokens.is_empty() && of_tokens.iter().all(|kind| KINDS.contains(&kind.as_str())));
}

#[test]
fn parts_of_a_row_have_words_and_colours_of_their_own() {
    let mut seen = 0;
    for board in Board::all() {
        for panel in board.panels() {
            let has_kinds = list(&panel["targets"]).iter().flat_map(|target| list(&target["columns"]));
            if !has_kinds.into_iter().any(|column| column["selector"] == "kind") {
                continue;
            }
            seen += 1;
            let words = mapped(panel);
            let [(_, words)] = words.as_slice() else { panic!("{}: {words:?}", panel["title"]) };
            let known: BTreeSet<&str> = words.keys().copied().collect();
            assert_eq!(known, BTreeSet::from(KINDS), "{}: {}", board.uid(), panel["title"]);
            for (kind, word) in words {
                let overrides = list(&panel["fieldConfig"]["overrides"]).iter();
                let mut colours = overrides
                    .filter(|one| one["matcher"]["options"] == word["text"])
                    .flat_map(|one| list(&one["properties"]))
                    .filter(|property| property["id"] == "color");
                assert_eq!(colours.next().expect("a colour")["value"]["fixedColor"], word["color"], "{kind}");
            }
        }
    }
    assert_eq!(seen, 2 * LANGUAGES.len());
}

#[test]
fn filters_that_boards_share_are_on_each_and_travel_with_a_click_on_a_row() {
    each(|board, wrong| {
        for name in ["channel_id", "model", "group"] {
            if !board.variables().iter().any(|variable| variable["name"] == name) {
                wrong.push(format!("{} loses the filter {name}", board.uid()));
            }
        }
        let mut found = Vec::new();
        texts(&board.json["panels"], &mut found);
        for url in found.into_iter().filter(|text| text.starts_with("/d/tm-log-detail")) {
            for kept in [
                "${__url_time_range}",
                "${channel_id:queryparam}",
                "${model:queryparam}",
                "${group:queryparam}",
            ] {
                if !url.contains(kept) {
                    wrong.push(format!("{}: {url} loses {kept}", board.uid()));
                }
            }
        }
    });
}

/// Of a screen of 1440 pixels, and what a column without a width needs at least.
const SCREEN: u64 = 1400;
const LEAST: u64 = 90;

#[test]
fn tables_fit_a_small_screen() {
    each_panel(|_, panel, wrong| {
        if panel["type"] != "table" || panel["transformations"][0]["id"] == "groupingToMatrix" {
            return;
        }
        let properties = |name: &str| {
            let overrides = list(&panel["fieldConfig"]["overrides"]).iter();
            let mut of_name = overrides.filter(|one| one["matcher"]["options"] == *name);
            of_name.next().map_or(&[] as &[Value], |one| list(&one["properties"])).to_vec()
        };
        let organize = &panel["transformations"][0]["options"];
        let columns = organize["indexByName"].as_object().expect("columns").keys();
        let columns = columns.filter(|name| organize["excludeByName"][name.as_str()] != true);
        let shown = columns.map(|name| organize["renameByName"][name].as_str().unwrap_or(name));
        let needed: u64 = shown
            .map(|name| {
                let properties = properties(name);
                let value = |id: &str| properties.iter().find(|one| one["id"] == id).map(|one| &one["value"]);
                let hidden = value("custom.hidden").is_some();
                if hidden { 0 } else { value("custom.width").and_then(Value::as_u64).unwrap_or(LEAST) }
            })
            .sum();
        let room = SCREEN * panel["gridPos"]["w"].as_u64().expect("a width") / 24;
        if needed > room {
            wrong(&format!("needs {needed} of {room} pixels"));
        }
    });
}

#[test]
fn annotations_have_no_end_that_may_be_missing() {
    each(|board, wrong| {
        for one in list(&board.json["annotations"]["list"]) {
            if list(&one["target"]["columns"]).iter().any(|column| column["text"] == "timeEnd") {
                wrong.push(format!("{}: an incident that goes on has no end", board.uid()));
            }
        }
    });
}

/// What is left of a board without its language.
fn bones(value: &Value) -> Value {
    /// Fields whose value is for people or names a column.
    const WORDS: [&str; 13] = [
        "title",
        "description",
        "legendFormat",
        "text",
        "label",
        "display",
        "options",
        "indexByName",
        "field",
        "fields",
        "renameByName",
        "name",
        "displayName",
    ];
    match value {
        Value::Object(fields) => {
            let kept = |(key, value): (&String, &Value)| {
                let is_word = WORDS.contains(&key.as_str()) && (value.is_string() || key.ends_with("ByName"));
                (key.clone(), if is_word { Value::Null } else { bones(value) })
            };
            Value::Object(fields.iter().map(kept).collect())
        }
        Value::Array(values) => values.iter().map(bones).collect(),
        Value::String(text) => json!(text.replace("-zh", "")),
        other => other.clone(),
    }
}

#[test]
fn languages_differ_in_words_only() {
    let [english, chinese] = LANGUAGES.map(|(suffix, folder)| Board::of(suffix, folder));
    for board in english {
        let twin = chinese.iter().find(|other| other.uid() == format!("{}-zh", board.uid())).expect("a twin");
        let (mut one, mut other) = (bones(&board.json), bones(&twin.json));
        // A property of an override may be a text for people, and so may a choice.
        for bones in [&mut one, &mut other] {
            for variable in bones["templating"]["list"].as_array_mut().expect("variables") {
                if variable["type"] == "custom" {
                    variable["query"].take();
                }
            }
            for panel in bones["panels"].as_array_mut().expect("panels") {
                let overrides = panel["fieldConfig"]["overrides"].as_array_mut();
                let properties =
                    overrides.into_iter().flatten().filter_map(|one| one["properties"].as_array_mut());
                for property in properties.flatten().filter(|property| property["id"] == "displayName") {
                    property["value"].take();
                }
            }
        }
        assert_eq!(one, other, "{}", board.uid());
    }
}
