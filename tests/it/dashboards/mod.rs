//! The boards of Grafana: what can be known of them without Grafana. They are as their source says, in both languages; they
//! keep the rules that make panels work; and a demo and the real Prometheus answer everything that they ask.

mod answers;
mod kept;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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
