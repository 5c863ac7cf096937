//! What people get, word for word: every situation, on every target, in both languages.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use token_monitor::alert::{Alert, Status};
use token_monitor::breaker::act::{Act, Failure, Kind, Origin, Outcome, Refusal};
use token_monitor::config::Language;
use token_monitor::limits::Restore;
use token_monitor::message::{
    AlertGroup, Change, Contributor, Known, LimitFacts, Notice, Target, Told, Trouble, Wording, compose,
};
use token_monitor::render;

use crate::snapshot::assert_golden;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// An alert on the limit of a channel, as the shipped rule makes it.
fn limit_exceeded() -> Told {
    Told {
        alert: Alert {
            status: Status::Firing,
            labels: texts(&[
                ("alertname", "NewApiLimitExceeded"),
                ("severity", "critical"),
                ("limit", "azure-daily"),
                ("channel_id", "3"),
                ("measure", "cost_usd"),
                ("window", "day"),
                ("action", "disable_channel"),
                ("restore", "window_reset"),
            ]),
            annotations: texts(&[
                ("summary", "Limit azure-daily is exceeded: 104.6% used, channel azure-old (3)"),
                (
                    "description",
                    "52.31 of 50.00 USD used this day, channel azure-old (3). The window ends at 2026-11-23 16:00:00 +0000 UTC. Its action at 100% is to disable the channel.",
                ),
                ("runbook_url", "docs/runbook.md#newapilimitexceeded"),
                ("dashboard", "/d/tm-limits"),
            ]),
            starts_at: at("2026-11-23T13:58:10Z"),
            ends_at: None,
            fingerprint: "a1".to_owned(),
            generator_url: Some(
                "http://prometheus:9090/graph?g0.expr=topk+by+%28limit%29&g0.tab=1".to_owned(),
            ),
            silence_url: None,
            dashboard_url: None,
        },
        incident: 41,
        change: Change::Opened,
        opened_at: at("2026-11-23T13:58:10Z"),
        act: Some(7),
    }
}

fn facts() -> LimitFacts {
    let who = |username: &str, model: &str, sum| {
        let who = Contributor {
            channel_name: "azure-east".to_owned(),
            channel_id: 3,
            model: model.to_owned(),
            username: username.to_owned(),
        };
        (who, sum)
    };
    LimitFacts {
        limit: "azure-daily".to_owned(),
        measure: "cost_usd".to_owned(),
        window: "day".to_owned(),
        used: 52.314,
        max: 50.0,
        resets_at: Some(at("2026-11-23T16:00:00Z")),
        contributors: vec![
            who("alice", "gpt-4o", 31.2),
            who("night_batch", "gpt-4o-mini", 15.05),
            who("", "o3", 3.1),
        ],
    }
}

fn act(outcome: Outcome) -> Act {
    Act {
        id: 7,
        kind: Kind::Trip,
        channel_id: Some(3),
        origin: Origin::Alert { incident: 41, rule: "NewApiLimitExceeded".to_owned() },
        asked_at: at("2026-11-23T14:10:01Z"),
        outcome,
        finished_at: Some(at("2026-11-23T14:10:02Z")),
        restore: Restore::WindowReset,
        restore_at: Some(at("2026-11-23T16:00:00Z")),
    }
}

fn known(outcome: Outcome) -> Known {
    Known {
        alerts: vec![Some(facts())],
        channel_names: [(3, "azure-east".to_owned()), (7, "openai_备用".to_owned())].into(),
        acts: [(7, act(outcome))].into(),
        now: at("2026-11-23T14:10:05Z"),
    }
}

fn group(alerts: Vec<Told>) -> AlertGroup {
    AlertGroup {
        receiver: "breaker".to_owned(),
        external_url: Some("http://alertmanager:9093".to_owned()),
        truncated: 0,
        event: "3f2a91c0".to_owned(),
        received_at: at("2026-11-23T14:10:01Z"),
        alerts,
    }
}

/// An alert without anything that we know more of.
fn other(severity: &str, pairs: &[(&str, &str)], summary: &str, description: &str) -> Told {
    let mut told = limit_exceeded();
    told.alert.labels = texts(pairs);
    told.alert.labels.insert("severity".to_owned(), severity.to_owned());
    told.alert.annotations = texts(&[("summary", summary), ("description", description)]);
    told.alert.generator_url = None;
    told.act = None;
    told
}

fn resolved(mut told: Told) -> Told {
    told.alert.status = Status::Resolved;
    told.alert.ends_at = Some(at("2026-11-23T16:00:20Z"));
    told.change = Change::Resolved;
    told
}

fn failing_channel() -> Told {
    other(
        "critical",
        &[("alertname", "NewApiChannelFailing"), ("channel_id", "7")],
        "Channel openai_old (7): 63.2% of attempts fail",
        "In the last 15 minutes 63.2% of 214 attempts on channel openai_old (7) failed, and it goes on. Wrong requests of clients (400, 413, 422) are not among them.",
    )
}

fn warning() -> Told {
    let mut told = limit_exceeded();
    told.alert.labels = texts(&[
        ("alertname", "NewApiLimitWarning"),
        ("severity", "warning"),
        ("limit", "tokens-hourly"),
        ("model", "gpt-4o*"),
    ]);
    told.act = None;
    told
}

/// As Grafana sends the alert of a user's own rule that breaks the circuit.
fn grafana() -> Told {
    let mut told = other(
        "page",
        &[
            ("alertname", "Refunds <high>"),
            ("action", "disable_channel"),
            ("channel_id", "7"),
            ("grafana_folder", "Money"),
            ("team", "billing & ops"),
        ],
        "Refunds above *2 USD* a minute",
        "Look for <at id=all></at> retries.\n\nThen call `ops_team`.",
    );
    told.alert
        .annotations
        .insert("runbook_url".to_owned(), "https://wiki.example.com/refunds?x=(1)".to_owned());
    told.alert.silence_url =
        Some("https://grafana.example.com/alerting/silence/new?alertmanager=grafana".to_owned());
    told.alert.dashboard_url = Some("https://grafana.example.com/d/money".to_owned());
    told.act = Some(7);
    told
}

fn last_of_model() -> Outcome {
    Outcome::Refused {
        why: Refusal::LastOf { group: "default".to_owned(), model: "gpt-4o".to_owned(), others: 2 },
    }
}

/// Many alerts of one rule, some of them over, and some that the sender left out.
fn storm() -> AlertGroup {
    let alerts = (1..=60)
        .map(|id: i64| {
            let mut told = failing_channel();
            told.alert.labels.insert("channel_id".to_owned(), id.to_string());
            if id % 10 == 0 { resolved(told) } else { told }
        })
        .collect();
    AlertGroup { truncated: 12, ..group(alerts) }
}

/// Every situation with a golden file.
fn situations() -> Vec<(&'static str, Notice, Known)> {
    let alerts = |told: Vec<Told>| Notice::Alerts(group(told));
    let denied = Outcome::Failed {
        why: Failure::Denied { detail: "无权进行此操作，access token 无效".to_owned() },
    };
    let mut calm = known(Outcome::Done);
    calm.now = at("2026-11-23T16:00:25Z");
    calm.alerts =
        vec![Some(LimitFacts { used: 0.0, resets_at: Some(at("2026-11-24T16:00:00Z")), ..facts() })];
    let mut tokens = known(Outcome::Done);
    tokens.alerts = vec![Some(LimitFacts {
        measure: "tokens".to_owned(),
        window: "1h".to_owned(),
        used: 1_634_567.0,
        max: 2e6,
        resets_at: Some(at("2026-11-23T14:41:00Z")),
        contributors: vec![],
        ..facts()
    })];
    let mut mixed = known(Outcome::Pending);
    mixed.alerts = vec![None, None, Some(facts()), None];
    let mixed_group = vec![resolved(failing_channel()), warning(), limit_exceeded(), failing_channel()];
    let mut restored = known(Outcome::Done);
    let by_schedule = Act {
        id: 8,
        kind: Kind::Restore,
        origin: Origin::Schedule { act: 7 },
        asked_at: at("2026-11-23T14:10:00Z"),
        ..act(Outcome::Done)
    };
    restored.acts.insert(8, by_schedule);
    let (plain, since) = (|| known(Outcome::Done), at("2026-11-23T13:55:05Z"));
    let mut unverified = plain();
    unverified.acts =
        [(7, Act { origin: Origin::Operator, ..act(Outcome::Unverified { status: Some(1) }) })].into();
    let detail =
        "Key Words Not Found (19024). Add “Token Monitor” to the bot's keywords, or set FEISHU_KEYWORD.";
    let refuses = Trouble::TargetRefuses {
        target: Target::Feishu,
        reason: "keyword".to_owned(),
        detail: detail.to_owned(),
    };
    vec![
        ("exceeded_tripped", alerts(vec![limit_exceeded()]), known(Outcome::Done)),
        ("exceeded_dry_run", alerts(vec![limit_exceeded()]), known(Outcome::WouldDo)),
        ("exceeded_refused", alerts(vec![limit_exceeded()]), known(last_of_model())),
        ("exceeded_failed", alerts(vec![limit_exceeded()]), known(denied)),
        ("resolved", alerts(vec![resolved(limit_exceeded())]), calm),
        ("mixed", alerts(mixed_group), mixed),
        ("warning", alerts(vec![warning()]), tokens),
        ("grafana", alerts(vec![grafana()]), known(Outcome::Refused { why: Refusal::Off })),
        ("storm", Notice::Alerts(storm()), plain()),
        ("act_restored", Notice::Act { act: 8 }, restored),
        ("act_unverified", Notice::Act { act: 7 }, unverified),
        ("act_dry_run", Notice::Act { act: 7 }, known(Outcome::WouldDo)),
        ("still_busy", Notice::StillBusy { act: 7, requests: 1234, seconds: 120 }, plain()),
        ("pipeline_silent", Notice::Trouble(Trouble::PipelineSilent { since }), plain()),
        ("pipeline_back", Notice::Trouble(Trouble::PipelineBack { since }), plain()),
        ("target_refuses", Notice::Trouble(refuses), plain()),
        (
            "dropped",
            Notice::Trouble(Trouble::Dropped { target: Target::Wecom, messages: 1200, since }),
            plain(),
        ),
        ("test", Notice::Test, plain()),
    ]
}

#[test]
fn messages_read_as_the_project_agreed() {
    for (language, name) in [(Language::En, "en"), (Language::ZhCn, "zh-CN")] {
        let wording = Wording {
            grafana_url: Some("https://grafana.example.com".to_owned()),
            feishu_keyword: Some("告警".to_owned()),
            ..Wording::new(language, TimeZone::get("Asia/Shanghai").expect("a zone"))
        };
        for (situation, notice, known) in situations() {
            let mut shown = String::new();
            for target in Target::ALL {
                let parts = compose(&notice, &known, &wording, target);
                write!(shown, "{}", render::shown(target, &parts)).expect("writing to a text");
            }
            assert_golden(&format!("messages/{situation}.{name}.txt"), &shown);
        }
    }
}
