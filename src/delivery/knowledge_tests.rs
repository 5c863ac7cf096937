//! What messages are told of limits and of who uses them.

use std::sync::Arc;

use super::*;
use crate::alert::Status;
use crate::history::{BlockBuilder, Fact, RowOutcome};
use crate::limits::{Action, ChannelScope, Glob, Measure, Period, Restore, Severity, Window};
use crate::message::{AlertGroup, Change, Told};
use crate::record::ErrorType;
use crate::store::{Checkpoint, Finished, Keep, Position, TripRequest};
use crate::usage::Usage;

/// Noon of a day.
const NOW: i64 = 1_789_992_000;

fn limit(name: &str, channel: ChannelScope, model: ModelScope) -> Limit {
    Limit {
        name: name.to_owned(),
        channel,
        model,
        measure: Measure::Tokens,
        max: 100.0,
        window: Window::Calendar(Period::Day),
        warn_at: None,
        severity: Severity::Critical,
        action: Action::Notify,
        restore: Restore::Never,
    }
}

fn key(limit: usize, channel_id: Option<i64>, model: Option<&str>, used: f64) -> Standing {
    Standing {
        limit,
        channel_id,
        model: model.map(Arc::from),
        overflow: false,
        used,
        max: 100.0,
        ratio: used / 100.0,
        resets_at: Some(NOW + 3600),
        exhausted_at: None,
    }
}

fn fact(id: i64, channel_id: i64, model: &'static str, username: &'static str, tokens: u64) -> Fact<'static> {
    Fact {
        id,
        created_at: NOW - 60,
        kind: 2,
        outcome: RowOutcome::Success,
        channel_id,
        model: model.into(),
        group: "default".into(),
        username: username.into(),
        token_name: "t".into(),
        stream: false,
        retried: false,
        duration_ms: 1000,
        first_token_ms: None,
        input_tokens: tokens,
        output_tokens: 0,
        cache_read_tokens: 0,
        cache_write_tokens: 0,
        consumed: 0,
        refunded: 0,
        status_code: 0,
        error_type: ErrorType::Other,
    }
}

fn alert(labels: &[(&str, &str)]) -> Told {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let at = Timestamp::from_second(NOW).unwrap();
    let alert = Alert {
        status: Status::Firing,
        labels: labels.collect(),
        annotations: BTreeMap::new(),
        starts_at: at,
        ends_at: None,
        fingerprint: String::new(),
        generator_url: None,
        silence_url: None,
        dashboard_url: None,
    };
    Told { alert, incident: 1, change: Change::Opened, opened_at: at, act: None }
}

fn notice(alerts: Vec<Told>) -> Notice {
    let received_at = Timestamp::from_second(NOW).unwrap();
    let (receiver, event) = (String::new(), String::new());
    Notice::Alerts(AlertGroup { receiver, external_url: None, truncated: 0, event, received_at, alerts })
}

/// Knowledge of these limits and rows.
fn knowledge(
    limits: Vec<Limit>,
    standings: Vec<Standing>,
    rows: &[Fact<'_>],
) -> (tempfile::TempDir, Knowledge) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("monitor.db")).unwrap();
    let mut builder = BlockBuilder::default();
    for row in rows {
        builder.push(row, 500_000.0);
    }
    let (position, usage, history) = (Position::default(), Usage::default(), builder.take());
    let checkpoint = Checkpoint {
        position: &position,
        usage: &usage,
        seen: None,
        forgotten: &[],
        history: &history,
        keep: Keep { since: 0, now: NOW },
        durable: true,
    };
    store.commit(&checkpoint, &[]).unwrap();
    let state = State::default();
    state.show_limits(Arc::new(LimitsStatus {
        limits,
        standings: Some(standings),
        ..LimitsStatus::default()
    }));
    state.update_facts(|facts| {
        facts.channel_names = Arc::new(BTreeMap::from([(3, "azure".to_owned()), (4, "backup".to_owned())]));
    });
    let clock = Clock::fixed(Timestamp::from_second(NOW).unwrap());
    let history = store.history();
    (folder, Knowledge::new(store, state, history, TimeZone::UTC, clock))
}

#[tokio::test]
async fn an_alert_about_a_limit_finds_its_key_and_who_uses_it() {
    let rows = [fact(1, 3, "gpt", "anna", 60), fact(2, 3, "gpt", "bert", 20), fact(3, 4, "gpt", "carl", 500)];
    let (_folder, knowledge) = knowledge(
        vec![limit("each", ChannelScope::Each, ModelScope::Together)],
        vec![key(0, Some(4), None, 500.0), key(0, Some(3), None, 80.0)],
        &rows,
    );
    let told = vec![
        alert(&[("limit", "each"), ("channel_id", "3")]),
        alert(&[("limit", "each"), ("channel_id", "9")]),
        alert(&[("limit", "gone"), ("channel_id", "3")]),
        alert(&[("channel_id", "4")]),
    ];
    let known = knowledge.about(&notice(told)).await;
    let facts = known.alerts[0].as_ref().unwrap();
    assert_eq!((facts.limit.as_str(), facts.used, facts.max), ("each", 80.0, 100.0));
    assert_eq!((facts.measure.as_str(), facts.window.as_str()), ("tokens", "day"));
    assert_eq!(facts.resets_at.unwrap().as_second(), NOW + 3600);
    let users: Vec<_> = facts.contributors.iter().map(|(who, part)| (who.username.as_str(), *part)).collect();
    assert_eq!(users, [("anna", 60.0), ("bert", 20.0)]);
    assert_eq!(facts.contributors[0].0.channel_name, "azure");
    assert_eq!(known.alerts[1..], [None, None, None]);
    assert_eq!(known.channel_names, BTreeMap::from([(3, "azure".to_owned()), (4, "backup".to_owned())]));
}

#[tokio::test]
async fn a_limit_of_a_pattern_has_no_model_in_its_labels() {
    let rows = [fact(1, 3, "gpt-4o", "anna", 30), fact(2, 3, "claude", "bert", 90)];
    let (_folder, knowledge) = knowledge(
        vec![limit("four", ChannelScope::Together, ModelScope::Glob(Glob::new("gpt-4*")))],
        vec![key(0, None, Some("gpt-4*"), 30.0)],
        &rows,
    );
    let known = knowledge.about(&notice(vec![alert(&[("limit", "four")])])).await;
    let facts = known.alerts[0].as_ref().unwrap();
    let users: Vec<_> = facts.contributors.iter().map(|(who, part)| (who.model.as_str(), *part)).collect();
    assert_eq!(users, [("gpt-4o", 30.0)]);
    assert_eq!(facts.models, "gpt-4*", "which is told all the same");
}

#[tokio::test]
async fn the_rest_beyond_the_bound_on_keys_has_no_contributors() {
    let rest = Standing { overflow: true, ..key(0, None, None, 70.0) };
    let (_folder, knowledge) = knowledge(
        vec![limit("each", ChannelScope::Each, ModelScope::Together)],
        vec![rest],
        &[fact(1, 3, "gpt", "anna", 60)],
    );
    let labels = [("limit", "each"), ("channel_id", "_other"), ("channel_name", "_other")];
    let known = knowledge.about(&notice(vec![alert(&labels)])).await;
    let facts = known.alerts[0].as_ref().unwrap();
    assert_eq!((facts.used, facts.contributors.len()), (70.0, 0));
}

#[tokio::test]
async fn an_act_is_told_with_those_that_it_refers_to_and_those_that_hold_its_channel() {
    let (_folder, knowledge) = knowledge(Vec::new(), Vec::new(), &[]);
    let at = |second| Timestamp::from_second(NOW + second).unwrap();
    let ask = |incident, channel| {
        let request = TripRequest {
            incident,
            rule: "Burning".to_owned(),
            fingerprint: "f".to_owned(),
            channel: Ok(channel),
            starts_at: at(0),
            restore: Restore::Never,
            limit: None,
            at: at(0),
            process_began: at(0),
        };
        knowledge.store.write(|writing| Ok(writing.request_trip(&request)?.act)).unwrap()
    };
    let (first, second, other) = (ask(1, 3), ask(2, 3), ask(3, 4));
    let ends = |act, outcome| {
        let finished = Finished { hold: true, ..Finished::without_effect(outcome) };
        knowledge.store.write(|writing| writing.finish_act(act, at(1), &finished)).unwrap();
    };
    ends(first, Outcome::Done);
    ends(other, Outcome::Done);
    ends(second, Outcome::AlreadySo { status: 2, by: Some(first), held: true });
    let known = knowledge.about(&Notice::Act { act: second }).await;
    assert_eq!(known.acts.keys().copied().collect::<Vec<_>>(), [first, second]);
    let holders: Vec<i64> = known.holders[&3].iter().map(|act| act.id).collect();
    assert_eq!((holders, known.holders.len()), (vec![first, second], 1));
    let trip = knowledge.store.acts_page(Some(first + 1), 1).unwrap().remove(0);
    let restore = knowledge.store.write(|writing| writing.request_restore(&trip, at(2))).unwrap();
    let known = knowledge.about(&Notice::Act { act: restore }).await;
    assert_eq!(known.acts.keys().copied().collect::<Vec<_>>(), [first, restore]);
}

#[tokio::test]
async fn a_notice_without_alerts_needs_nothing() {
    let (_folder, knowledge) = knowledge(Vec::new(), Vec::new(), &[]);
    let known = knowledge.about(&Notice::Test).await;
    assert!(known.alerts.is_empty() && known.acts.is_empty() && known.channel_names.is_empty());
    assert_eq!(known.now.as_second(), NOW);
}
