//! That a file is understood, or refused in words that help: a table of mistakes with the exact messages.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::*;
use crate::limits::{Glob, Length, Measure, Period, Window};

fn channels() -> BTreeMap<ChannelId, String> {
    let names =
        [(1, "openai"), (2, "azure-east"), (3, "azure-west"), (7, "backup"), (8, "backup"), (9, "12")];
    names.map(|(id, name)| (id, name.to_owned())).into()
}

fn read(text: &str) -> Result<LimitsFile, Mistakes> {
    parse(text, &Known { channels: &channels(), history: Duration::from_secs(31 * 86_400) })
}

/// The messages about a text.
fn told(text: &str) -> Vec<String> {
    read(text).err().unwrap_or_default().all.iter().map(ToString::to_string).collect()
}

/// A file with one limit: a good one whose lines are replaced by `lines` of the same keys, or added to.
fn with(lines: &str) -> String {
    let key = |line: &str| line.split(':').next().unwrap_or_default().trim().to_owned();
    let given: Vec<String> = lines.lines().map(key).collect();
    let mut text = "limits:\n  - name: a\n".to_owned();
    if given.contains(&"name".to_owned()) {
        text = format!("limits:\n  - {}\n", lines.lines().next().unwrap_or_default());
    }
    for line in ["measure: tokens", "max: 5", "window: day"] {
        if !given.contains(&key(line)) {
            text.extend(["    ", line, "\n"]);
        }
    }
    for line in lines.lines().filter(|line| key(line) != "name") {
        text.extend(["    ", line, "\n"]);
    }
    text
}

#[test]
fn every_key_is_read() {
    let text = "
limits:
  - name: azure-daily
    channel: 3
    model: \"gpt-4o*\"
    measure: cost_usd
    max: 50
    window: day
    warn_at: 0.8
    severity: warning
    action: disable_channel
    restore: window_reset
  - {name: 每小时, channel: openai, model: gpt-4o, measure: requests, max: 1e3, window: 1 hour, action: disable_channel, restore: 90min}
  - {name: c, channel: \"*\", model: '*', measure: errors, max: .5, window: 7d}
  - {name: d, channel: \"12\", measure: quota, max: 1, window: month, severity: info, restore: never}
";
    let file = read(text).expect("a good file");
    assert_eq!(file.warnings, []);
    let first = Limit {
        name: "azure-daily".into(),
        channel: ChannelScope::One(3),
        model: ModelScope::Glob(Glob::new("gpt-4o*")),
        measure: Measure::CostUsd,
        max: 50.0,
        window: Window::Calendar(Period::Day),
        warn_at: Some(0.8),
        severity: Severity::Warning,
        action: Action::DisableChannel,
        restore: Restore::WindowReset,
    };
    let length = |text| Length::parse(text).expect("a length");
    let second = Limit {
        name: "每小时".into(),
        channel: ChannelScope::One(1),
        model: ModelScope::Name("gpt-4o".into()),
        measure: Measure::Requests,
        max: 1000.0,
        window: Window::Rolling(length("1h")),
        warn_at: None,
        severity: Severity::Critical,
        restore: Restore::After(length("90m")),
        ..first.clone()
    };
    assert_eq!(file.limits[..2], [first, second]);
    assert_eq!((file.limits[2].channel, &file.limits[2].model), (ChannelScope::Each, &ModelScope::Each));
    assert_eq!((file.limits[2].max, file.limits[2].window.as_str()), (0.5, "7d"));
    assert_eq!(
        (file.limits[3].channel, &file.limits[3].model),
        (ChannelScope::One(9), &ModelScope::Together)
    );
    assert_eq!((file.limits[3].action, file.limits[3].severity), (Action::Notify, Severity::Info));
    assert_eq!(read("limits: []").expect("no limits").limits, []);
    assert_eq!(read("\u{feff}# none\r\nlimits: []\r\n").expect("no limits").limits, []);
}

#[test]
fn the_example_is_a_good_file_that_shows_every_key() {
    let text = include_str!("../../../limits.example.yml");
    let channels = BTreeMap::from([(3, "azure".to_owned()), (5, "openai-main".to_owned())]);
    let file = parse(text, &Known { channels: &channels, history: Duration::from_secs(31 * 86_400) });
    let file = file.expect("a good example");
    assert!(file.limits.len() >= 5 && file.warnings.is_empty(), "{:?}", file.warnings);
    for key in KEYS {
        assert!(text.contains(&format!("    {key}: ")) || text.contains(&format!("- {key}: ")), "{key}");
    }
    for word in Measure::ALL.iter().map(|measure| measure.as_str()) {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn what_the_document_shows_is_good_and_what_it_quotes_is_said() {
    let text = include_str!("../../../docs/limits.md");
    let files: Vec<&str> =
        text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(files.len() >= 5);
    let channels = BTreeMap::from([(3, "azure".to_owned()), (5, "openai".to_owned())]);
    for file in files {
        let read = parse(file, &Known { channels: &channels, history: Duration::from_secs(31 * 86_400) });
        assert_eq!(read.expect(file).warnings, []);
    }
    let bad =
        "limits:\n  - name: azure-daily\n    max: 5\n    measure: cost\n    model: a\n    window: hour\n";
    for message in told(bad) {
        assert!(text.contains(&message), "{message}");
    }
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_is_accepted() {
    let table = include_str!("mistakes.txt");
    let (mut cases, mut wrong) = (0, String::new());
    for case in table.split("\n====\n").filter(|case| !case.trim().is_empty()) {
        let (text, expected) = case.split_once("\n--\n").expect("a text and its messages");
        // A text that is no whole file is the lines of one limit.
        let text = match text.strip_prefix("file\n") {
            Some(whole) => format!("{whole}\n"),
            None => with(text.trim_start_matches("limit\n")),
        };
        let found = told(&text.replace('→', "\t")).join("\n");
        if found != expected.trim_end() {
            write!(wrong, "\n{text}--\n{found}\n-- instead of\n{expected}\n").expect("writing to a text");
        }
        cases += 1;
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(cases >= 60, "{cases}");
}

#[test]
fn all_mistakes_of_a_file_are_told_in_its_order() {
    let text = "
limits:
  - name: a
    measure: cost
    max: -1
    window: hour
    color: red
  - name: a
    measure: tokens
    max: 1
    window: day
    action: disable_channel
";
    let told: Vec<(usize, usize)> =
        read(text).expect_err("mistakes").all.iter().map(|m| (m.place.line, m.place.column)).collect();
    assert_eq!(told, [(4, 14), (5, 10), (6, 13), (7, 5), (8, 11), (12, 13)]);
}

#[test]
fn a_channel_that_is_gone_is_a_warning_only() {
    let file = read(&with("channel: 99")).expect("a good file");
    assert_eq!(file.limits[0].channel, ChannelScope::One(99));
    let warnings: Vec<String> = file.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "line 6, column 14: limit `a`: `channel`: there is no channel 99 today, so nothing counts. There are: `12` \
          (id 9), `openai` (id 1), `backup` (id 7), `backup` (id 8), `azure-east` (id 2), `azure-west` (id 3)"
        ]
    );
    let known = Known { channels: &BTreeMap::new(), history: Duration::from_secs(86_400) };
    let none = parse(&with("channel: x"), &known).expect_err("no such channel");
    assert!(none.to_string().ends_with("new-api has no channels"), "{none}");
    let many = (1..50).map(|id| (id, format!("channel-{id}"))).collect();
    let many = parse(&with("channel: channel-77"), &Known { channels: &many, ..known }).expect_err("many");
    let many = many.to_string();
    assert!(
        many.contains("There are: `channel-7` (id 7), `channel-17` (id 17), ")
            && many.ends_with(" and 41 more")
    );
}

#[test]
fn a_file_has_bounds() {
    let limit = |name: usize| format!("  - {{name: n{name}, measure: tokens, max: 1, window: day}}\n");
    let file = |count| format!("limits:\n{}", (0..count).map(limit).collect::<String>());
    assert_eq!(read(&file(MAX_LIMITS)).expect("as many as are accepted").limits.len(), MAX_LIMITS);
    assert_eq!(told(&file(501)), ["line 502, column 5: this is limit 501 of 501. At most 500 are accepted"]);
    let long = format!("limits: []{}", " ".repeat(MAX_BYTES));
    assert_eq!(told(&long), ["line 1, column 1: the file has 1048586 bytes. At most 1048576 are accepted"]);
    let many = format!("limits:\n{}", "  - x\n".repeat(300));
    let many = read(&many).expect_err("many mistakes");
    assert_eq!((many.all.len(), many.more), (100, 200));
    assert!(many.to_string().ends_with("\nand 200 more mistakes"));
}

#[test]
fn hostile_files_are_refused_soon() {
    let deep = |open: &str| format!("limits: {}", open.repeat(100_000));
    let bomb = "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nlimits: [*c, *c]\n";
    let long_name = with(&format!("channel: {}", "é".repeat(500_000)));
    let nul = "limits: [\0]".to_owned();
    for text in [deep("["), deep("{a: "), deep("- "), deep("? "), bomb.to_owned(), long_name, nul] {
        let mistakes = read(&text).expect_err("refused");
        assert!(mistakes.to_string().len() < 20_000);
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z0-9:{}\\[\\],*&!|>'\"#%@`~\\-. \n\t]{0,200}") {
        let _ = read(&text);
        let _ = read(&with(&text.replace('\n', "\n    ")));
    }
}
