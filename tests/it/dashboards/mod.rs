//! The boards of Grafana: what can be known of them without Grafana. They are as their source says, in both languages; they
//! keep the rules that make panels work; and a demo and the real Prometheus answer everything that they ask.

mod answers;
mod filters;
mod kept;
mod links;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use token_monitor::config::Flags;

use crate::support::{Folder, command};

/// The folders, by the suffix of the uids in them. Grafana tells folders apart by their slug, in which only Latin letters
/// count.
const LANGUAGES: [(&str, &str); 2] = [("", "Token Monitor"), ("-zh", "Token Monitor zh-CN")];

/// The boards, and what the users of the Chinese ones call them.
const BOARDS: [(&str, &str); 7] = [
    ("tm-overview", "实时概览"),
    ("tm-channels", "渠道与模型"),
    ("tm-performance", "性能分析"),
    ("tm-logs", "日志明细"),
    ("tm-log-detail", "日志详情"),
    ("tm-limits", "告警与熔断"),
    ("tm-self", "监控自身"),
];

const API: &str = "yesoreyeram-infinity-datasource";

/// A board as it is shipped.
struct Board {
    /// End of its uid, which says its language.
    suffix: &'static str,
    json: Value,
}

impl Board {
    /// All boards of a language.
    fn of(suffix: &'static str, folder: &str) -> Vec<Self> {
        let folder = grafana().join("dashboards").join(folder);
        let files =
            std::fs::read_dir(&folder).expect("the folder of boards").map(|file| file.expect("a file"));
        let read = |file: std::fs::DirEntry| {
            let text = std::fs::read_to_string(file.path()).expect("a board");
            Self { suffix, json: serde_json::from_str(&text).expect("a board is JSON") }
        };
        files.map(read).collect()
    }

    /// All boards.
    fn all() -> Vec<Self> {
        LANGUAGES.into_iter().flat_map(|(suffix, folder)| Self::of(suffix, folder)).collect()
    }

    /// The boards in English.
    fn english() -> Vec<Self> {
        Self::of(LANGUAGES[0].0, LANGUAGES[0].1)
    }

    fn uid(&self) -> &str {
        text(&self.json["uid"])
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["panels"]).iter()
    }

    fn variables(&self) -> &[Value] {
        list(&self.json["templating"]["list"])
    }

    /// Variables whose values Prometheus tells by `label_values(SERIES, LABEL)`: the place, the series, the label.
    fn label_values(&self) -> Vec<(String, &str, &str)> {
        let of_prometheus = self.variables().iter().filter(|one| one["datasource"]["type"] == "prometheus");
        of_prometheus
            .map(|one| {
                let query = text(&one["query"]["query"]);
                let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
                let pair = inside.and_then(|inside| inside.rsplit_once(", "));
                let (series, label) = pair.unwrap_or_else(|| panic!("{query}"));
                (format!("{}: {}", self.uid(), text(&one["name"])), series, label)
            })
            .collect()
    }

    /// What a variable is when nobody has chosen anything.
    fn default_of(&self, name: &str) -> &str {
        let variable = self.variables().iter().find(|one| one["name"] == name);
        text(&variable.unwrap_or_else(|| panic!("{} has no {name}", self.uid()))["current"]["value"])
    }

    /// Every question to a data source with the place where it stands: targets of panels, of annotations, of variables.
    fn queries(&self) -> Vec<(String, &Value)> {
        let place = |what: &Value| format!("{}: {}", self.uid(), text(what));
        let of_panels = self.panels().flat_map(|panel| {
            list(&panel["targets"]).iter().map(move |query| (place(&panel["title"]), query))
        });
        let annotations = list(&self.json["annotations"]["list"]).iter();
        let of_annotations = annotations
            .filter(|one| one.get("target").is_some())
            .map(|one| (place(&one["name"]), &one["target"]));
        let of_variables = self
            .variables()
            .iter()
            .filter_map(|one| Some((place(&one["name"]), one["query"].get("infinityQuery")?)));
        of_panels.chain(of_annotations).chain(of_variables).collect()
    }
}

fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// An array; what is absent is an empty one.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The variables that a text names as `$name`, `${name}`, `${name:format}` or `${name.path}`; Grafana's own are left out.
fn named(text: &str) -> BTreeSet<&str> {
    let names = text.split('$').skip(1).map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())]
    });
    names.filter(|name| !name.is_empty() && !name.starts_with("__")).collect()
}

/// Every text in a value, keys not counted.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// Fails with all that is wrong, a line each.
fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn boards_are_as_their_source_says_and_the_dictionary_is_complete() {
    let output = Command::new("python3").arg(grafana().join("source/build.py")).arg("--check").output();
    let output = output.expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What messages say of an alert whose rule names this board.
fn rendered(language: &str, dashboard: &str) -> String {
    let (folder, at) = (Folder::new(), "2026-01-31T08:00:00Z");
    let annotations = json!({"summary": "something", "dashboard": dashboard});
    let alert = json!({"status": "firing", "labels": {"alertname": "Mine"}, "annotations": annotations, "startsAt": at});
    let payload =
        json!({"version": "4", "status": "firing", "receiver": "r", "groupKey": "g", "alerts": [alert]});
    let file = folder.path().join("payload.json");
    std::fs::write(&file, payload.to_string()).expect("writing");
    let mut command = command(&Flags { language: Some(language.to_owned()), ..Flags::default() });
    let output =
        command.env("GRAFANA_URL", "http://grafana").arg("render").arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn messages_lead_to_the_board_of_their_language() {
    for (language, suffix) in [("en", ""), ("zh-CN", "-zh")] {
        for (uid, _) in BOARDS {
            let said = rendered(language, &format!("/d/{uid}?var-channel_id=3"));
            assert!(said.contains(&format!("http://grafana/d/{uid}{suffix}?var-channel_id=3")), "{said}");
        }
        let said = rendered(language, "/d/tm-mine/its-name");
        assert!(said.contains("http://grafana/d/tm-mine/its-name"), "a board of somebody's own: {said}");
    }
}

#[test]
fn every_board_that_a_rule_names_is_one() {
    let rules = std::fs::read_dir(grafana().join("../prometheus/rules")).expect("the rules");
    let texts = rules.map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("rules"));
    let named: BTreeSet<String> = texts
        .flat_map(|text| {
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix("dashboard: /d/"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(
        named.len() > 3 && named.iter().all(|uid| BOARDS.iter().any(|(board, _)| board == uid)),
        "{named:?}"
    );
}
