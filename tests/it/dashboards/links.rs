//! Links of the boards: where they lead, what they take along, and how long they get.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::kept::{each, each_panel};
use super::{Board, LANGUAGES, grafana, list, nothing, text, texts};

/// A page that was turned to is none of another range, and an address must hold a variable once.
#[test]
fn ranges_of_a_board_with_pages_begin_with_the_first_page() {
    each(|board, wrong| {
        let paged = board.variables().iter().any(|variable| variable["name"] == "cursor");
        for link in list(&board.json["links"]).iter().filter(|link| link["type"] == "link") {
            let url = text(&link["url"]);
            let visible = board.variables().iter().filter(|variable| variable["skipUrlSync"] != true);
            let named = visible.map(|variable| text(&variable["name"])).filter(|name| *name != "cursor");
            let all_named = named.into_iter().all(|name| url.contains(&format!("${{{name}:queryparam}}")));
            let anew = link["includeVars"] == false && url.ends_with("&var-cursor=") && all_named;
            if paged && !anew || !paged && link["includeVars"] != true {
                wrong.push(format!("{}: {url}", board.uid()));
            }
        }
        let asks = |query: &Value| {
            let params = list(&query["url_options"]["params"]).iter();
            let sent: BTreeMap<&str, &str> =
                params.map(|pair| (text(&pair["key"]), text(&pair["value"]))).collect();
            (sent.contains_key("cursor"), sent.get("stale_cursor") == Some(&"first"))
        };
        let careless = board.queries().into_iter().filter(|(_, query)| asks(query) == (true, false));
        wrong.extend(
            careless.map(|(place, _)| format!("{place}: a changed filter is an error on a later page")),
        );
    });
}

/// The address of a link, taken apart: uid and query.
fn board_of(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("/d/")?;
    Some(rest.split_once('?').unwrap_or((rest, "")))
}

#[test]
fn every_link_leads_to_a_board_of_the_same_language() {
    let boards = Board::all();
    let by_uid: BTreeMap<&str, &Board> = boards.iter().map(|board| (board.uid(), board)).collect();
    let (mut wrong, mut links) = (Vec::new(), 0);
    for board in &boards {
        let mut found = Vec::new();
        texts(&board.json, &mut found);
        for url in found.into_iter().filter(|text| text.starts_with('?') || text.starts_with("/d/")) {
            links += 1;
            let Some((target, query)) =
                board_of(url).and_then(|(uid, query)| Some((by_uid.get(uid)?, query)))
            else {
                wrong.push(format!("{}: {url} leads nowhere", board.uid()));
                continue;
            };
            if target.suffix != board.suffix {
                wrong.push(format!("{}: {url} changes the language", board.uid()));
            }
            let has = |name: &str| target.variables().iter().any(|variable| variable["name"] == name);
            let sent = query.split('&').filter_map(|pair| pair.split('=').next()?.strip_prefix("var-"));
            let kept =
                query.split('&').filter_map(|pair| pair.strip_prefix("${")?.strip_suffix(":queryparam}"));
            let unknown = sent.chain(kept).filter(|name| !has(name));
            wrong.extend(unknown.map(|name| format!("{}: {url}: there is no {name}", board.uid())));
        }
    }
    assert!(links > 50, "{links} links");
    let sources = std::fs::read_to_string(grafana().join("provisioning/datasources/token-monitor.yaml"));
    let sources = sources.expect("the data sources");
    // A dot has a button for each language.
    let exemplars: Vec<&str> =
        sources.lines().filter_map(|line| line.trim().strip_prefix("url: /d/")).collect();
    let expected = LANGUAGES.map(|(suffix, _)| format!("tm-log-detail{suffix}?var-log_id=$${{__value.raw}}"));
    assert_eq!(exemplars, expected);
    nothing(&wrong);
}

#[test]
fn links_of_cells_take_columns_that_come_as_they_are() {
    each_panel(|_, panel, wrong| {
        let mut found = Vec::new();
        texts(&panel["fieldConfig"], &mut found);
        let fields = found.iter().flat_map(|text| text.split("${__data.fields.").skip(1));
        let fields: BTreeSet<&str> = fields.filter_map(|rest| rest.split('}').next()).collect();
        for field in fields {
            let mut columns = list(&panel["targets"]).iter().flat_map(|target| list(&target["columns"]));
            let is_text = columns.any(|column| column["text"] == field && column["type"] == "string");
            let mapped = list(&panel["fieldConfig"]["overrides"]).iter().any(|one| {
                let mappings = list(&one["properties"]).iter().any(|property| property["id"] == "mappings");
                one["matcher"]["options"] == field && mappings
            });
            if !is_text || mapped {
                wrong(&format!("{field} is formatted, or no column"));
            }
        }
    });
}

#[test]
fn variables_that_hold_bodies_stay_out_of_addresses() {
    each(|board, wrong| {
        // Those that hold the choice of another board must be in it.
        let is_choice = |one: &Value| one["type"] == "textbox" || one["multi"] == true;
        let unsynced = |one: &&Value| one["hide"] == 2 && !is_choice(one) && one["skipUrlSync"] != true;
        let unsynced = board.variables().iter().filter(unsynced);
        wrong.extend(
            unsynced.map(|one| format!("{}: {} is written to the address", board.uid(), one["name"])),
        );
    });
}
