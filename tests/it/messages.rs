//! What people get, word for word: every situation, on every target, in both languages.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
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
                ("summary_zh", "限额 azure-daily 已超出：已用 104.6%，渠道 azure-old (3)"),
                ("description_zh", "今日已用 52.31 / 50.00 美元，渠道 azure-old (3)。"),
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
        models: String::new(),
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
    let holds = matches!(outcome, Outcome::Done | Outcome::AlreadySo { held: true, .. });
    let holders = if holds { vec![act(outcome.clone())] } else { Vec::new() };
    Known {
        alerts: vec![Some(facts())],
        channel_names: [(3, "azure-east".to_owned()), (7, "openai_备用".to_owned())].into(),
        holders: [(3, holders)].into(),
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

fn resolved(mut told: Told, ended: &str) -> Told {
    told.alert.status = Status::Resolved;
    told.alert.ends_at = Some(at(ended));
    told.change = Change::Resolved;
    told
}

/// Most attempts on a channel fail, as the shipped rule says it.
fn failing_channel(id: i64, name: &str) -> Told {
    let mut told = other(
        "critical",
        &[("alertname", "NewApiChannelFailing"), ("channel_id", &id.to_string())],
        &format!("Channel {name} ({id}): 63.2% of attempts fail"),
        &format!(
            "In the last 15 minutes 63.2% of 214 attempts on channel {name} ({id}) failed, and it goes on. Wrong requests of clients (400, 413, 422) are not among them."
        ),
    );
    told.alert.annotations.extend(texts(&[
        ("summary_zh", &format!("渠道 {name} ({id})：63.2% 的请求失败")),
        ("description_zh", &format!("渠道 {name} ({id}) 最近 15 分钟的 214 次请求中 63.2% 失败，且仍在持续。客户端自身的错误请求（400、413、422）不计入。")),
        ("runbook_url", "docs/runbook.md#newapichannelfailing"),
        ("dashboard", "/d/tm-channels"),
    ]));
    told.incident = 100 + id;
    told.alert.fingerprint = format!("{id:016x}");
    told
}

/// A limit of models by a pattern, which no label of its alert tells.
fn warning() -> Told {
    let mut told = limit_exceeded();
    told.alert.labels = texts(&[
        ("alertname", "NewApiLimitWarning"),
        ("severity", "warning"),
        ("limit", "tokens-hourly"),
        ("measure", "tokens"),
        ("window", "1h"),
    ]);
    told.act = None;
    told
}

/// The limit of each channel, of all channels that are not counted by themselves.
fn rest_exceeded() -> Told {
    let mut told = limit_exceeded();
    for name in ["channel_id", "model"] {
        told.alert.labels.insert(name.to_owned(), "_other".to_owned());
    }
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
    told.act = Some(9);
    told
}

/// What became of what it asked for.
fn of_grafana(outcome: Outcome) -> Known {
    let act = Act {
        id: 9,
        channel_id: Some(7),
        origin: Origin::Alert { incident: 41, rule: "Refunds <high>".to_owned() },
        restore: Restore::Never,
        restore_at: None,
        ..act(outcome)
    };
    Known {
        holders: [(7, vec![act.clone()])].into(),
        acts: [(9, act)].into(),
        alerts: vec![None],
        ..known(Outcome::Done)
    }
}

fn last_of_model() -> Outcome {
    Outcome::Refused {
        why: Refusal::LastOf { group: "default".to_owned(), model: "gpt-4o".to_owned(), others: 2 },
    }
}

/// Many alerts of one rule, some of them over, and some that a sender left out whose `max_alerts` says so.
fn storm() -> (AlertGroup, Known) {
    let name = |id: i64| if id % 7 == 0 { format!("备用_{id}") } else { format!("azure-{id}") };
    let alerts = (1..=60).map(|id| {
        let mut told = failing_channel(id, &name(id));
        let began = at("2026-11-23T13:58:10Z") + SignedDuration::from_secs(id * 3);
        (told.alert.starts_at, told.opened_at) = (began, began);
        if id % 10 == 0 { resolved(told, "2026-11-23T14:09:40Z") } else { told }
    });
    let known = Known {
        alerts: vec![None; 60],
        channel_names: (1..=60).map(|id| (id, name(id))).collect(),
        acts: BTreeMap::new(),
        ..known(Outcome::Done)
    };
    (AlertGroup { truncated: 12, receiver: "critical".to_owned(), ..group(alerts.collect()) }, known)
}

/// A second alert on a channel that the breaker disabled for another one, which wishes it to stay so.
fn held_by_two() -> Known {
    let first = Act {
        id: 5,
        origin: Origin::Alert { incident: 38, rule: "NewApiChannelFailing".to_owned() },
        asked_at: at("2026-11-23T13:40:00Z"),
        finished_at: Some(at("2026-11-23T13:40:01Z")),
        restore: Restore::parse("4h").expect("a length"),
        restore_at: Some(at("2026-11-23T17:40:01Z")),
        ..act(Outcome::Done)
    };
    let second = Outcome::AlreadySo { status: 2, by: Some(5), held: true };
    let mut known = known(second.clone());
    known.holders = [(3, vec![first.clone(), act(second)])].into();
    known.acts.insert(5, first);
    known
}

/// A channel that is to be enabled again, in time.
fn restore(outcome: Outcome) -> Known {
    let by_schedule = Act {
        id: 8,
        kind: Kind::Restore,
        origin: Origin::Schedule { act: 7 },
        asked_at: at("2026-11-23T16:00:20Z"),
        finished_at: Some(at("2026-11-23T16:00:21Z")),
        restore: Restore::Never,
        restore_at: None,
        ..act(outcome)
    };
    let mut known = known(Outcome::Done);
    known.acts.insert(8, by_schedule);
    known.now = at("2026-11-23T16:00:22Z");
    known
}

/// Every situation with a golden file.
fn situations() -> Vec<(&'static str, Notice, Known)> {
    [of_alerts(), of_acts(), of_the_house()].concat()
}

fn of_alerts() -> Vec<(&'static str, Notice, Known)> {
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
        limit: "tokens-hourly".to_owned(),
        models: "gpt-4o*".to_owned(),
        measure: "tokens".to_owned(),
        window: "1h".to_owned(),
        used: 1_634_567.0,
        max: 2e6,
        resets_at: Some(at("2026-11-23T14:41:00Z")),
        contributors: vec![],
    })];
    let mut mixed = known(Outcome::Pending);
    mixed.alerts = vec![None, None, Some(facts()), None];
    let over = resolved(failing_channel(4, "azure-west"), "2026-11-23T14:09:40Z");
    let mixed_group = vec![over, warning(), limit_exceeded(), failing_channel(7, "openai_old")];
    let mut lasting = limit_exceeded();
    lasting.change = Change::Repeated;
    let mut later = known(Outcome::Done);
    later.now = at("2026-11-23T15:58:20Z");
    // A person enabled it again.
    let released = Known { holders: BTreeMap::new(), ..later.clone() };
    let mut rest = known(Outcome::Refused { why: Refusal::Rest });
    rest.acts = [(7, Act { channel_id: None, ..act(Outcome::Refused { why: Refusal::Rest }) })].into();
    rest.alerts = vec![Some(LimitFacts { contributors: vec![], ..facts() })];
    let (storm, of_storm) = storm();
    vec![
        ("exceeded_tripped", alerts(vec![limit_exceeded()]), known(Outcome::Done)),
        ("exceeded_dry_run", alerts(vec![limit_exceeded()]), known(Outcome::WouldDo)),
        ("exceeded_refused", alerts(vec![limit_exceeded()]), known(last_of_model())),
        ("exceeded_failed", alerts(vec![limit_exceeded()]), known(denied)),
        ("exceeded_pending", alerts(vec![limit_exceeded()]), known(Outcome::Pending)),
        ("exceeded_held_already", alerts(vec![limit_exceeded()]), held_by_two()),
        ("exceeded_off_by_hand", alerts(vec![limit_exceeded()]), known(Outcome::already(2))),
        ("exceeded_off_by_gateway", alerts(vec![limit_exceeded()]), known(Outcome::already(3))),
        (
            "exceeded_too_many",
            alerts(vec![limit_exceeded()]),
            known(Outcome::Refused { why: Refusal::TooMany { per_hour: 10 } }),
        ),
        ("exceeded_rest", alerts(vec![rest_exceeded()]), rest),
        ("still_firing_released", alerts(vec![lasting.clone()]), released),
        ("still_firing", alerts(vec![lasting]), later),
        ("resolved", alerts(vec![resolved(limit_exceeded(), "2026-11-23T16:00:20Z")]), calm),
        ("mixed", alerts(mixed_group), mixed),
        ("warning", alerts(vec![warning()]), tokens),
        (
            "failing",
            alerts(vec![failing_channel(7, "openai_old")]),
            Known { alerts: vec![None], ..known(Outcome::Done) },
        ),
        ("grafana", alerts(vec![grafana()]), of_grafana(Outcome::Refused { why: Refusal::Off })),
        ("storm", Notice::Alerts(storm), of_storm),
    ]
}

fn of_acts() -> Vec<(&'static str, Notice, Known)> {
    let by_a_person = |outcome: Outcome| {
        let act = Act { origin: Origin::Operator, restore: Restore::Never, restore_at: None, ..act(outcome) };
        Known { acts: [(7, act)].into(), ..known(Outcome::Done) }
    };
    let unreachable =
        Outcome::Failed { why: Failure::Unreachable { detail: "connection refused".to_owned() } };
    let hands_off = |status| restore(Outcome::Refused { why: Refusal::HandsOff { status: Some(status) } });
    let busy = |requests, at_least, seconds| Notice::StillBusy { act: 7, requests, at_least, seconds };
    vec![
        ("act_pending", Notice::Act { act: 7 }, known(Outcome::Pending)),
        ("act_restored", Notice::Act { act: 8 }, restore(Outcome::Done)),
        ("act_restore_failed", Notice::Act { act: 8 }, restore(unreachable)),
        ("act_hands_off", Notice::Act { act: 8 }, hands_off(2)),
        ("act_hands_off_enabled", Notice::Act { act: 8 }, hands_off(1)),
        ("act_unverified", Notice::Act { act: 7 }, by_a_person(Outcome::Unverified { status: Some(1) })),
        ("act_unread", Notice::Act { act: 7 }, by_a_person(Outcome::Unverified { status: None })),
        ("act_dry_run", Notice::Act { act: 7 }, known(Outcome::WouldDo)),
        ("still_busy", busy(57, false, 240), known(Outcome::Done)),
        ("still_busy_much", busy(1000, true, 95), known(Outcome::Done)),
    ]
}

fn of_the_house() -> Vec<(&'static str, Notice, Known)> {
    let (plain, since) = (|| known(Outcome::Done), at("2026-11-23T13:55:05Z"));
    let refuses = Trouble::TargetRefuses {
        target: Target::Feishu,
        reason: "keyword".to_owned(),
        detail: "Key Words Not Found".to_owned(),
    };
    let refused_one = Trouble::TargetRefuses {
        target: Target::Wecom,
        reason: "rejected".to_owned(),
        detail: "invalid content".to_owned(),
    };
    vec![
        ("pipeline_silent", Notice::Trouble(Trouble::PipelineSilent { since }), plain()),
        ("pipeline_back", Notice::Trouble(Trouble::PipelineBack { since }), plain()),
        ("target_refuses", Notice::Trouble(refuses), plain()),
        ("target_refused_one", Notice::Trouble(refused_one), plain()),
        (
            "dropped",
            Notice::Trouble(Trouble::Dropped { target: Target::Wecom, messages: 1200, since }),
            plain(),
        ),
        ("test", Notice::Test, plain()),
    ]
}

/// Whether a message goes to all targets but this one, because it is what is wrong.
fn is_about(notice: &Notice, wanted: Target) -> bool {
    let Notice::Trouble(Trouble::TargetRefuses { target, .. } | Trouble::Dropped { target, .. }) = notice
    else {
        return false;
    };
    *target == wanted
}

#[test]
fn messages_read_as_the_project_agreed() {
    for (language, name) in [(Language::En, "en"), (Language::ZhCn, "zh-CN")] {
        let wording = Wording {
            grafana_url: Some("https://grafana.example.com".to_owned()),
            runbook_url: Some("https://git.example.com/ops/token-monitor/blob/main".to_owned()),
            feishu_keyword: Some("告警".to_owned()),
            ..Wording::new(language, TimeZone::get("Asia/Shanghai").expect("a zone"))
        };
        for (situation, notice, known) in situations() {
            let mut shown = String::new();
            for target in Target::ALL.into_iter().filter(|target| !is_about(&notice, *target)) {
                let parts = compose(&notice, &known, &wording, target);
                write!(shown, "{}", render::shown(target, &parts)).expect("writing to a text");
            }
            assert_golden(&format!("messages/{situation}.{name}.txt"), &shown);
        }
    }
}
