//! That no text from outside breaks a message, calls anybody or gets lost: the laws of every message on every target.

use proptest::prelude::*;

use super::*;
use crate::alert::{Alert, Status};

const HOSTILE: [&str; 12] = [
    "<at id=all></at>",
    "<@all>",
    "</b><a href=\"http://evil\">",
    "*_[]()~`",
    "[x](http://evil)",
    "@everyone",
    "\u{202e}\0\r\n# title\n> quote",
    "😀 告警 👩\u{200d}💻",
    "&lt;at id=all&gt;",
    "\"\\{{ x }}",
    "<font color=\"info\">",
    "{channel}{why}",
];

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => proptest::sample::select(HOSTILE.as_slice()).prop_map(str::to_owned),
        2 => proptest::collection::vec(any::<char>(), 0..20).prop_map(|chars| chars.into_iter().collect()),
        1 => (proptest::sample::select(HOSTILE.as_slice()), 1_usize..4000).prop_map(|(text, times)| text.repeat(times)),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

prop_compose! {
    fn alert()(
        values in proptest::collection::vec(hostile(), 10),
        ours in any::<bool>(),
        resolved in any::<bool>(),
        severity in proptest::sample::select(["critical", "warning", "info", "page"].as_slice()),
    ) -> Told {
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or_default();
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        labels.insert("alertname".into(), if ours { "NewApiLimitExceeded".into() } else { next() });
        labels.insert("severity".into(), severity.into());
        for name in ["limit", "channel_id", "model", "team"] {
            labels.insert(name.into(), next());
        }
        labels.insert(next(), next());
        let mut annotations = BTreeMap::new();
        for name in ["summary", "description", "runbook_url"] {
            annotations.insert(name.to_owned(), next());
        }
        told(labels, annotations, resolved)
    }
}

fn told(labels: BTreeMap<String, String>, annotations: BTreeMap<String, String>, resolved: bool) -> Told {
    Told {
        alert: Alert {
            status: if resolved { Status::Resolved } else { Status::Firing },
            labels,
            annotations,
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            fingerprint: String::new(),
            generator_url: Some(format!("http://prometheus/{}", "(x)".repeat(100))),
            silence_url: None,
            dashboard_url: None,
        },
        incident: 1,
        change: if resolved { Change::Resolved } else { Change::Opened },
        opened_at: Timestamp::UNIX_EPOCH,
        act: None,
    }
}

fn notice(alerts: Vec<Told>) -> Notice {
    Notice::Alerts(AlertGroup {
        receiver: "r".to_owned(),
        external_url: None,
        truncated: 0,
        event: "e1".to_owned(),
        received_at: Timestamp::UNIX_EPOCH,
        alerts,
    })
}

fn wording(language: Language) -> Wording {
    Wording { feishu_keyword: Some("告警".to_owned()), ..Wording::new(language, TimeZone::UTC) }
}

fn text_of(target: Target, part: &Part) -> String {
    match target {
        Target::Telegram => part.rich["text"].as_str().expect("a text").to_owned(),
        Target::Wecom => part.rich["markdown"]["content"].as_str().expect("a text").to_owned(),
        Target::Feishu => {
            let elements = part.rich["card"]["elements"].as_array().expect("elements");
            elements.iter().filter_map(|element| element["content"].as_str()).collect::<Vec<_>>().join("\n")
        }
    }
}

/// Checks what holds for every part whatever it tells.
fn assert_lawful(target: Target, part: &Part) {
    let text = text_of(target, part);
    match target {
        Target::Telegram => {
            assert!(telegram::units(&text) <= 4096, "{}", telegram::units(&text));
            assert_balanced(&text);
            for (place, _) in text.match_indices('@') {
                let within = text[..place].chars().next_back().is_some_and(char::is_alphanumeric);
                assert!(within || text[place + 1..].starts_with('\u{200b}'), "{text}");
            }
        }
        Target::Feishu => {
            let request = part.rich.to_string();
            assert!(request.len() <= 19_700, "{} bytes", request.len());
            assert!(!text.contains('<') && !text.contains("]("), "{text}");
            let title = part.rich["card"]["header"]["title"]["content"].as_str().expect("a title");
            assert!(title.contains("Token Monitor") && title.contains("告警"), "{title}");
        }
        Target::Wecom => {
            assert!(text.len() <= 4096, "{} bytes", text.len());
            let tags = text.split('<').skip(1).filter(|rest| !rest.starts_with('\u{200b}'));
            let (mut open, mut closed) = (0, 0);
            for tag in tags {
                if tag.starts_with("/font>") {
                    closed += 1;
                } else {
                    let colours = ["info", "comment", "warning"];
                    assert!(
                        colours.iter().any(|c| tag.starts_with(&format!("font color=\"{c}\">"))),
                        "{tag}"
                    );
                    open += 1;
                }
            }
            assert_eq!(open, closed, "{text}");
            assert!(!text.contains('`') && !text.contains("<@") && !text.contains("](http://evil"), "{text}");
        }
    }
    assert!(part.plain.len() <= 2048, "{} bytes", part.plain.len());
    assert!(!part.plain.contains("<a") && !part.plain.contains("<@"), "{}", part.plain);
    assert!(part.plain.contains("Token Monitor") && part.rich.to_string().contains("Token Monitor"));
    for text in [&text, &part.plain] {
        assert!(!text.contains(['\0', '\u{202e}', '\r']), "{text:?}");
    }
}

/// Every tag is one of ours, is closed, and closes what was opened last.
fn assert_balanced(html: &str) {
    let mut open = Vec::new();
    for rest in html.split('<').skip(1) {
        let tag = rest.split_once('>').unwrap_or_else(|| panic!("an open tag in {html}")).0;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{html}");
        } else {
            let name = tag.split(' ').next().unwrap_or_default();
            assert!(["b", "a", "blockquote"].contains(&name), "<{tag}> in {html}");
            assert!(
                name != "a" || tag.starts_with("a href=\"http") && tag.matches('"').count() == 2,
                "{tag}"
            );
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{html}");
}

/// How many alerts are told of: named by a mark at the beginning of a line, or counted.
fn told_of(texts: &[String]) -> u64 {
    let mut count = 0;
    for text in texts {
        for line in text.lines().skip(1) {
            let line = line.trim_start_matches("<b>").trim_start_matches("**");
            if let Some(rest) = line.strip_prefix('+') {
                count += rest
                    .split(' ')
                    .next()
                    .and_then(|number| number.replace(',', "").parse().ok())
                    .unwrap_or(0);
            } else if ["🔴", "🟠", "🔵", "🟢"].iter().any(|mark| line.starts_with(mark)) {
                count += 1;
            }
        }
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn fault_20_hostile_texts_are_shown_as_they_are_and_call_nobody(
        alerts in proptest::collection::vec(alert(), 1..9),
        channel in hostile(),
        chinese in any::<bool>(),
    ) {
        let wording = wording(if chinese { Language::ZhCn } else { Language::En });
        let known = Known { channel_names: [(3, channel)].into(), ..Known::default() };
        let notice = notice(alerts);
        for target in Target::ALL {
            let parts = compose(&notice, &known, &wording, target);
            prop_assert!((1..=5).contains(&parts.len()));
            for part in &parts {
                assert_lawful(target, part);
            }
        }
    }
}

fn named(number: usize, name: &str, resolved: bool) -> Told {
    let labels = [("alertname", format!("{name}{number}")), ("severity", "critical".to_owned())];
    let labels = labels.map(|(name, value)| (name.to_owned(), value)).into();
    let annotations = [("description".to_owned(), "说明 😀 ".repeat(100))].into();
    told(labels, annotations, resolved)
}

#[test]
fn fault_10_a_mixed_group_has_the_colour_of_what_fires_and_lists_both() {
    let colour = |alerts: Vec<Told>| {
        let parts = compose(&notice(alerts), &Known::default(), &wording(Language::En), Target::Feishu);
        (parts[0].rich["card"]["header"]["template"].as_str().expect("a colour").to_owned(), parts)
    };
    let gone = || (2..5).map(|number| named(number, "gone", true));
    let (red, parts) = colour(gone().chain([named(1, "fires", false)]).collect());
    assert_eq!(red, "red");
    let text = text_of(Target::Feishu, &parts[0]);
    for name in ["fires1", "gone2", "gone3", "gone4"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(text.find("fires1") < text.find("gone2"), "{text}");
    assert_eq!(colour(gone().collect()).0, "green");
    let mut warning = named(1, "fires", false);
    warning.alert.labels.insert("severity".to_owned(), "warning".to_owned());
    assert_eq!(colour(gone().chain([warning]).collect()).0, "orange");
}

#[test]
fn fault_18_a_storm_keeps_every_limit_and_loses_no_alert() {
    for (alerts, name) in [(200, "告警😀"), (500, "a"), (1, "a"), (6, "b")] {
        let notice = notice((0..alerts).map(|number| named(number, name, number % 4 == 3)).collect());
        for target in Target::ALL {
            let parts = compose(&notice, &Known::default(), &wording(Language::En), target);
            assert!((1..=5).contains(&parts.len()), "{}", parts.len());
            for (index, part) in parts.iter().enumerate() {
                assert_lawful(target, part);
                let number = format!("({}/{})", index + 1, parts.len());
                assert_eq!(part.plain.contains(&number), parts.len() > 1, "{}", part.plain);
            }
            let alone = u64::from(alerts == 1);
            let expected = u64::try_from(alerts).expect("few");
            let rich: Vec<String> =
                parts.iter().map(|part| format!("title\n{}", text_of(target, part))).collect();
            let rich: Vec<String> = match target {
                // Its title is not among the elements, WeCom's and Telegram's are the first line.
                Target::Feishu => rich,
                _ => parts.iter().map(|part| text_of(target, part)).collect(),
            };
            assert_eq!(told_of(&rich) + alone, expected, "{target:?}: {rich:#?}");
            let plain: Vec<String> = parts.iter().map(|part| part.plain.clone()).collect();
            assert_eq!(told_of(&plain) + alone, expected, "{target:?} plain: {plain:#?}");
            let short: Vec<String> = parts.iter().map(|part| part.short.clone()).collect();
            assert_eq!(told_of(&short) + alone, expected, "{target:?} short: {short:#?}");
            assert!(short.iter().all(|text| text.len() <= 1000), "{short:#?}");
        }
    }
}

#[test]
fn fault_19_a_long_annotation_is_cut_and_says_so() {
    let labels = BTreeMap::from([("alertname".to_owned(), "Mine".to_owned())]);
    let annotations = BTreeMap::from([("description".to_owned(), "é".repeat(50_000))]);
    let notice = notice(vec![told(labels, annotations, false)]);
    for target in Target::ALL {
        let parts = compose(&notice, &Known::default(), &wording(Language::En), target);
        assert_eq!(parts.len(), 1);
        assert_lawful(target, &parts[0]);
        assert!(text_of(target, &parts[0]).contains("é…(+48,500 characters)"), "{target:?}");
        assert!(parts[0].plain.contains(" characters)"));
    }
}

#[test]
fn fault_27_a_template_that_fails_later_gives_way_to_our_own_words() {
    let template = Template::new("{% if labels.fail %}{{ 1 // 0 }}{% endif %}Mine: {{ headline }}").unwrap();
    let wording = Wording { template: Some(template), ..wording(Language::En) };
    let text = |fail: &str| {
        let mut alert = named(1, "x", false);
        alert.alert.labels.insert("fail".to_owned(), fail.to_owned());
        let parts = compose(&notice(vec![alert]), &Known::default(), &wording, Target::Telegram);
        text_of(Target::Telegram, &parts[0])
    };
    assert!(text("").contains("Mine: x1"), "{}", text(""));
    assert!(!text("1").contains("Mine:") && text("1").contains("<b>Since:</b>"), "{}", text("1"));
}

#[test]
fn no_link_leads_to_a_container_that_only_docker_knows() {
    let text = |host: &str| {
        let mut alert = named(1, "x", false);
        alert.alert.generator_url = Some(format!("http://{host}:9090/graph?g0.expr=up"));
        let Notice::Alerts(group) = notice(vec![alert]) else { unreachable!("alerts") };
        let notice =
            Notice::Alerts(AlertGroup { external_url: Some(format!("http://{host}:9093")), ..group });
        let parts = compose(&notice, &Known::default(), &wording(Language::En), Target::Telegram);
        text_of(Target::Telegram, &parts[0])
    };
    let known = text("alerts.example");
    for link in [":9093/#/silences/new", ":9090/graph", "\"http://alerts.example:9093/\""] {
        assert!(known.contains(link), "{known}");
    }
    let unknown = text("3f1c9be0aa27");
    assert!(!unknown.contains("3f1c9be0aa27"), "{unknown}");
}

#[test]
fn a_notice_of_nothing_is_still_a_message() {
    for target in Target::ALL {
        for notice in [notice(vec![]), Notice::Act { act: 9 }, Notice::Test] {
            let parts = compose(&notice, &Known::default(), &wording(Language::En), target);
            assert_eq!(parts.len(), 1);
            assert_lawful(target, &parts[0]);
        }
    }
}
