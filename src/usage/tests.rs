//! That rows are counted as the contract says.

use super::*;
use crate::record::{ErrorType, Other, Outcome};

fn rules(max_series: usize) -> Rules {
    Rules { max_series, slow_over_seconds: 5.0, extra_labels: Vec::new() }
}

fn context<'a>(
    rules: &'a Rules,
    offered_models: &'a std::collections::HashSet<String>,
    live: bool,
) -> Context<'a> {
    Context { rules, quota_per_unit: 500_000.0, offered_models, live, exemplars_since: 0 }
}

fn request(id: i64, channel_id: i64, model: &str) -> LogRecord<'_> {
    LogRecord {
        id,
        created_at: 1_000,
        kind: 2,
        channel_id,
        model: model.into(),
        quota: 250_000,
        prompt_tokens: 10,
        completion_tokens: 3,
        duration_ms: 7_000,
        token_id: 1,
        ..LogRecord::default()
    }
}

fn error(model: &str) -> LogRecord<'_> {
    LogRecord {
        kind: 5,
        quota: 0,
        other: Cow::Owned(Other { status_code: Some(429), ..Other::default() }),
        ..request(1, 1, model)
    }
}

fn number(usage: &Usage, channel_id: i64, model: &str, leaf: Leaf) -> f64 {
    let key = Key { channel_id: Some(channel_id), model: model.to_owned(), extra: Vec::new() };
    match usage.get(&key).and_then(|series| series.get(leaf)).map(|cell| cell.value) {
        Some(Value::Number(number)) => number,
        Some(Value::Histogram(histogram)) => histogram.count() as f64,
        None => 0.0,
    }
}

fn sum(usage: &Usage, family: Family) -> f64 {
    usage
        .series()
        .flat_map(|(_, series)| series.cells())
        .filter(|(leaf, _)| leaf.family() == family)
        .map(|(_, cell)| match cell.value {
            Value::Number(number) => number,
            Value::Histogram(histogram) => histogram.count() as f64,
        })
        .sum()
}

#[test]
fn a_request_adds_to_every_family_it_belongs_to() {
    let (rules, offered) = (rules(100), std::collections::HashSet::new());
    let mut usage = Usage::default().successor();
    let mut record = request(1, 7, "gpt");
    record.other.to_mut().use_channel = vec![3, 7].into();
    usage.observe(&record, &context(&rules, &offered, false));

    assert_eq!(number(&usage, 7, "gpt", Leaf::Requests(Outcome::Success, false)), 1.0);
    assert_eq!(number(&usage, 7, "gpt", Leaf::Plain(Family::CostUsd)), 0.5);
    assert_eq!(number(&usage, 7, "gpt", Leaf::Plain(Family::SlowRequests)), 1.0);
    assert_eq!(number(&usage, 7, "gpt", Leaf::Timing(Family::RequestDuration, true)), 1.0);
    assert_eq!(number(&usage, 3, "gpt", Leaf::Plain(Family::Failovers)), 1.0);
    assert_eq!(sum(&usage, Family::TimeToFirstToken), 0.0);
    assert_eq!(usage.totals().rows_by_type().find(|(kind, _)| *kind == "2"), Some(("2", 1)));
}

#[test]
fn a_model_name_of_the_error_log_counts_by_itself_only_if_it_is_real() {
    let (rules, offered) = (rules(100), std::collections::HashSet::from(["offered".to_owned()]));
    let context = context(&rules, &offered, false);
    let leaf = Leaf::Errors(429, ErrorType::Other);
    let mut usage = Usage::default().successor();
    usage.observe(&error("junk"), &context);
    usage.observe(&error("offered"), &context);
    usage.observe(&error("answered"), &context);
    usage.observe(&request(2, 1, "answered"), &context);
    usage.observe(&error("answered"), &context);

    assert_eq!(number(&usage, 1, OTHER, leaf), 2.0);
    assert_eq!(number(&usage, 1, "offered", leaf), 1.0);
    assert_eq!(number(&usage, 1, "answered", leaf), 1.0);
    assert_eq!(usage.changes().models, ["answered"]);
}

#[test]
fn what_exceeds_the_cap_is_summed_and_nothing_is_lost() {
    let (rules, offered) = (rules(10), std::collections::HashSet::new());
    let context = context(&rules, &offered, false);
    let mut usage = Usage::default().successor();
    for id in 0..1_000 {
        usage.observe(&request(id, id % 4, &format!("model-{}", id % 50)), &context);
    }
    for family in [Family::Requests, Family::RequestDuration, Family::CostUsd] {
        assert_eq!(usage.size(family), 10, "{family:?}");
    }
    assert_eq!(sum(&usage, Family::Requests), 1_000.0);
    assert_eq!(sum(&usage, Family::RequestDuration), 1_000.0);
    assert_eq!(sum(&usage, Family::InputTokens), 10_000.0);
    assert!(usage.series().count() <= 11 * 2, "label sets without a cell of their own must not stay");
    assert!(usage.totals().overflow[Family::Requests.index()] > 0);
}

#[test]
fn a_new_label_set_is_held_until_a_scrape_has_seen_it_as_zero() {
    let (rules, offered) = (rules(100), std::collections::HashSet::new());
    let first = Usage::default();
    let mut second = first.successor();
    second.observe(&request(1, 1, "gpt"), &context(&rules, &offered, true));
    assert!(second.has_held());
    second.committed();
    let mut third = second.successor();
    assert!(!third.release(first.version()), "nobody has seen the second state yet");
    assert!(third.release(second.version()));
    assert!(!third.has_held());
    assert_eq!(third.changes().series.len(), 1, "the release must be written down");
}

#[test]
fn a_clone_in_work_does_not_change_what_others_see() {
    let (rules, offered) = (rules(100), std::collections::HashSet::new());
    let context = context(&rules, &offered, false);
    let mut published = Usage::default().successor();
    published.observe(&request(1, 1, "gpt"), &context);
    let mut next = published.successor();
    next.observe(&request(2, 1, "gpt"), &context);
    assert_eq!(sum(&published, Family::Requests), 1.0);
    assert_eq!(sum(&next, Family::Requests), 2.0);
}

#[test]
fn what_a_series_was_at_the_last_commit_is_kept_while_rows_come_in_live() {
    let (rules, offered) = (rules(100), std::collections::HashSet::new());
    let was = |usage: &Usage| -> Vec<Option<f64>> {
        let requests = Leaf::Requests(Outcome::Success, false);
        let number = |touched: &Touched| match touched.before.as_ref()?.get(requests)?.value {
            Value::Number(number) => Some(number),
            Value::Histogram(_) => None,
        };
        usage.changes().series.iter().map(number).collect()
    };
    let mut usage = Usage::default().successor();
    usage.observe(&request(1, 1, "gpt"), &context(&rules, &offered, false));
    assert_eq!((was(&usage), usage.changes().in_full), (vec![None], false), "a new one was nothing");
    usage.committed();
    for id in 2..5 {
        usage.observe(&request(id, 1, "gpt"), &context(&rules, &offered, true));
    }
    assert_eq!((was(&usage), usage.changes().in_full), (vec![Some(1.0)], false));
    usage.committed();
    usage.observe(&request(5, 1, "gpt"), &context(&rules, &offered, true));
    assert_eq!(was(&usage), [Some(4.0)]);
    usage.observe(&request(6, 2, "gpt"), &context(&rules, &offered, true));
    assert_eq!((was(&usage), usage.changes().in_full), (vec![Some(4.0), None], false));
    usage.committed();
    // In a catch-up there would be a copy of each.
    usage.observe(&request(7, 1, "gpt"), &context(&rules, &offered, true));
    usage.observe(&request(8, 2, "gpt"), &context(&rules, &offered, false));
    assert_eq!((was(&usage), usage.changes().in_full), (vec![None, None], true));
}

#[test]
fn a_restored_usage_counts_on() {
    let (rules, offered) = (rules(2), std::collections::HashSet::new());
    let context = context(&rules, &offered, true);
    let mut usage = Usage::default().successor();
    usage.observe(&request(1, 1, "a"), &context);
    usage.observe(&request(2, 1, "b"), &context);
    usage.observe(&request(3, 1, "c"), &context);
    let text: Vec<(String, String)> = usage
        .series()
        .map(|(key, series)| {
            (serde_json::to_string(key.as_ref()).unwrap(), serde_json::to_string(series).unwrap())
        })
        .collect();
    let series = text.iter().map(|(key, series)| {
        (serde_json::from_str::<Key>(key).unwrap(), serde_json::from_str::<Series>(series).unwrap())
    });
    let restored = Usage::restore(series, HashSet::new(), usage.totals().clone());
    assert_eq!(restored.size(Family::Requests), 2);
    assert_eq!(sum(&restored, Family::Requests), 3.0);
    assert!(restored.has_held());
    assert!(restored.series().all(|(_, series)| series.is_sound()));
}
