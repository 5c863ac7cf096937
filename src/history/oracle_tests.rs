//! Every question answered the slow way, over rows that are simply kept; and rows and questions to compare on.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Block, BlockBuilder, Contributor, Dimension, Entry, Fact, Filter, Found, Group, Measure, Measures,
    RowOutcome, Selection, Source, Steps, contributors, entries, last_errors, newest, newest_ids, overview,
    slowest, trend,
};
use crate::record::ErrorType;

const SLOW_OVER_MS: u32 = 5000;
const SHARES: [f64; 5] = [0.0, 0.5, 0.95, 0.99, 1.0];

fn row() -> impl Strategy<Value = Found> {
    let names = || prop::sample::select(vec!["", "a", "b", "gpt-4o", "模型"]).prop_map(str::to_owned);
    let amount = || prop_oneof![Just(0u64), 0..300u64, 0..1u64 << 40, Just((1 << 47) - 1)];
    let some = prop::sample::select(vec![0, 1, SLOW_OVER_MS, SLOW_OVER_MS + 1]);
    let duration = prop_oneof![some, 0..9_999u32, (0..700u32).prop_map(|seconds| seconds * 1000)];
    (
        (
            prop_oneof![0..9i64, 0..500i64],
            prop_oneof![0..8u8, Just(255)],
            prop::sample::select(RowOutcome::ALL.to_vec()),
            0..4i64,
        ),
        (names(), names(), names(), names(), any::<bool>(), any::<bool>()),
        (duration.clone(), prop::option::of(duration)),
        (amount(), amount(), amount(), amount(), amount(), amount()),
        (prop::sample::select(vec![0u16, 429, 500]), any::<bool>()),
    )
        .prop_map(
            |((created_at, kind, outcome, channel_id), texts, times, amounts, (status_code, upstream))| {
                let fact = Fact {
                    id: 0,
                    created_at,
                    kind,
                    outcome,
                    channel_id,
                    model: texts.0.into(),
                    group: texts.1.into(),
                    username: texts.2.into(),
                    token_name: texts.3.into(),
                    stream: texts.4,
                    retried: texts.5,
                    duration_ms: times.0,
                    first_token_ms: times.1,
                    input_tokens: amounts.0,
                    output_tokens: amounts.1,
                    cache_read_tokens: amounts.2,
                    cache_write_tokens: amounts.3,
                    consumed: amounts.4,
                    refunded: amounts.5,
                    status_code,
                    error_type: if upstream { ErrorType::UpstreamError } else { ErrorType::Other },
                };
                Found { fact, quota_per_unit: 500_000.0 }
            },
        )
}

/// Up to `most` rows in the order in which they are read: some come late, the rate of the dollar changes, and
/// for a while there are none.
pub(crate) fn rows(most: usize) -> impl Strategy<Value = Vec<Found>> {
    let rows = prop::collection::vec((row(), 0..30usize), 1..most);
    (rows, 0..most * 2, 0..most * 2).prop_map(|(rows, paused_at, dearer_at)| {
        let mut rows: Vec<(usize, Found)> = rows
            .into_iter()
            .enumerate()
            .map(|(at, (mut row, late))| {
                row.fact.id = i64::try_from(at).unwrap() * 3 - 5;
                row.fact.created_at += i64::from(at >= paused_at) * 1000 - 300;
                row.quota_per_unit = if at < dearer_at { 500_000.0 } else { 7.0 };
                (if late > 25 { at + late } else { at }, row)
            })
            .collect();
        rows.sort_by_key(|(at, _)| *at);
        rows.into_iter().map(|(_, row)| row).collect()
    })
}

/// The rows as blocks.
pub(crate) fn pack(builder: &mut BlockBuilder, rows: &[Found]) -> Vec<Block> {
    for row in rows {
        builder.push(&row.fact, row.quota_per_unit);
    }
    builder.take()
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    selection: Selection,
    by: Dimension,
    steps: Steps,
    page: usize,
}

impl Question {
    /// About every row.
    pub(crate) fn all() -> Self {
        let selection = Selection { from: i64::MIN, to: i64::MAX, filter: Filter::default() };
        Self { selection, by: Dimension::Model, steps: Steps { seconds: 100, offset: 7 }, page: 10 }
    }
}

pub(crate) fn question() -> impl Strategy<Value = Question> {
    let names = || {
        let name = prop::sample::select(vec!["", "a", "gpt-4o", "模型", "nobody"]).prop_map(str::to_owned);
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(name, 1..3)]
    };
    let time = || prop_oneof![Just(i64::MIN), Just(i64::MAX), -302..-290i64, 699..711i64, -400..1300i64];
    let outcomes = prop::collection::vec(prop::sample::select(RowOutcome::ALL.to_vec()), 1..4);
    let filter = (
        prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(0..6i64, 1..3)],
        (names(), names(), names(), names()),
        prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(0..8u8, 1..5)],
        prop_oneof![3 => Just(vec![]), 1 => outcomes],
        prop::option::weighted(0.3, prop_oneof![0..3u32, Just(SLOW_OVER_MS), 0..20_000u32]),
        prop::option::weighted(0.3, any::<bool>()),
    )
        .prop_map(|(channels, texts, kinds, outcomes, min_duration_ms, stream)| Filter {
            channels,
            models: texts.0,
            groups: texts.1,
            usernames: texts.2,
            token_names: texts.3,
            kinds,
            outcomes,
            min_duration_ms,
            stream,
        });
    let by = prop::sample::select(vec![Dimension::Model, Dimension::Channel, Dimension::User]);
    (time(), time(), filter, by, 1..500i64, -1000..1000i64, 1..30usize).prop_map(
        |(from, to, filter, by, seconds, offset, page)| Question {
            selection: Selection { from, to, filter },
            by,
            steps: Steps { seconds, offset },
            page,
        },
    )
}

fn selects(selection: &Selection, row: &Found) -> bool {
    fn one<T: PartialEq<V>, V>(list: &[T], value: &V) -> bool {
        list.is_empty() || list.iter().any(|item| item == value)
    }
    let filter = &selection.filter;
    selection.from <= row.fact.created_at
        && row.fact.created_at < selection.to
        && one(&filter.channels, &row.fact.channel_id)
        && one(&filter.models, &row.fact.model)
        && one(&filter.groups, &row.fact.group)
        && one(&filter.usernames, &row.fact.username)
        && one(&filter.token_names, &row.fact.token_name)
        && one(&filter.kinds, &row.fact.kind)
        && one(&filter.outcomes, &row.fact.outcome)
        && filter.min_duration_ms.is_none_or(|least| row.fact.duration_ms >= least)
        && filter.stream.is_none_or(|stream| row.fact.stream == stream)
}

fn group(by: Dimension, row: &Found) -> Group {
    match by {
        Dimension::Model => Group::Name(row.fact.model.to_string()),
        Dimension::Channel => Group::Channel(row.fact.channel_id),
        Dimension::User => Group::Name(row.fact.username.to_string()),
    }
}

fn sum<'a>(what: &'a [&Found], of: impl Fn(&Found) -> u64 + 'a) -> u64 {
    what.iter().fold(0, |sum, row| sum.saturating_add(of(row)))
}

/// Compares measures with the rows that they are said to be of.
fn compare(found: &Measures, rows: &[&Found], percentiles: bool) {
    let of = |pick: fn(&RowOutcome) -> bool| -> Vec<&Found> {
        rows.iter().filter(|row| pick(&row.fact.outcome)).copied().collect()
    };
    let answered = of(|outcome| outcome.answered());
    let paid =
        of(|outcome| outcome.answered() || matches!(outcome, RowOutcome::Settlement | RowOutcome::Refund));
    assert_eq!(found.requests, answered.len() as u64);
    assert_eq!(found.stream_errors, of(|outcome| *outcome == RowOutcome::StreamError).len() as u64);
    assert_eq!(found.errors, of(|outcome| *outcome == RowOutcome::Error).len() as u64);
    assert_eq!(found.tests, of(|outcome| *outcome == RowOutcome::Test).len() as u64);
    assert_eq!(found.input_tokens, sum(&answered, |row| row.fact.input_tokens));
    assert_eq!(found.output_tokens, sum(&answered, |row| row.fact.output_tokens));
    assert_eq!(found.cache_read_tokens, sum(&answered, |row| row.fact.cache_read_tokens));
    assert_eq!(found.cache_write_tokens, sum(&answered, |row| row.fact.cache_write_tokens));
    assert_eq!(found.quota_consumed, sum(&paid, |row| row.fact.consumed));
    assert_eq!(found.quota_refunded, sum(&paid, |row| row.fact.refunded));
    assert_eq!(found.slow_requests, sum(&answered, |row| u64::from(row.fact.duration_ms > SLOW_OVER_MS)));
    // Sums of whole numbers stop at their limit, within a block already.
    if found.quota_consumed < u64::MAX && found.quota_refunded < u64::MAX {
        for (usd, exact) in [
            (
                found.cost_usd,
                paid.iter().map(|row| row.fact.consumed as f64 / row.quota_per_unit).sum::<f64>(),
            ),
            (
                found.cost_refunded_usd,
                paid.iter().map(|row| row.fact.refunded as f64 / row.quota_per_unit).sum(),
            ),
        ] {
            assert!((usd - exact).abs() <= exact.abs() * 1e-9, "{usd} for {exact}");
        }
    }
    let durations: Vec<u32> = answered.iter().map(|row| row.fact.duration_ms).collect();
    let first: Vec<u32> = answered.iter().filter_map(|row| row.fact.first_token_ms).collect();
    for (found, mut exact) in [(&found.duration, durations), (&found.first_token, first)] {
        exact.sort_unstable();
        assert_eq!(found.count(), exact.len() as u64);
        assert_eq!(found.sum_ms(), exact.iter().map(|ms| u64::from(*ms)).sum::<u64>());
        // The least value that so many are not above.
        let at_share = |share: f64| {
            let reached = |place: &usize| (place + 1) as f64 >= share * exact.len() as f64;
            (0..exact.len()).find(reached).map_or(0, |place| u64::from(exact[place]))
        };
        let known = percentiles && !exact.is_empty();
        assert_eq!(found.percentiles(SHARES).is_some(), known);
        for (found, exact) in found.percentiles(SHARES).iter().flatten().zip(SHARES.map(at_share)) {
            let error = found.abs_diff(exact);
            assert!(error == 0 || exact % 1000 != 0 && error * 200 <= exact, "{found} for {exact}");
        }
    }
}

fn compare_groups(found: &super::Groups, rows: &[&Found], by: Dimension, percentiles: bool) {
    let mut expected: BTreeMap<Group, Vec<&Found>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.fact.outcome != RowOutcome::Other) {
        expected.entry(group(by, row)).or_default().push(row);
    }
    assert!(found.keys().eq(expected.keys()), "{:?} for {:?}", found.keys(), expected.keys());
    for (group, rows) in &expected {
        compare(&found[group], rows, percentiles);
    }
}

/// Asks all questions about `rows`, which are what the source holds.
pub(crate) fn check<S: Source<Error: std::fmt::Debug>>(source: &mut S, rows: &[Found], question: &Question) {
    let Question { selection, by, steps, page } = question;
    let selected: Vec<&Found> = rows.iter().filter(|row| selects(selection, row)).collect();

    assert!(rows.iter().all(|row| selection.selects(&row.fact) == selects(selection, row)));
    check_entries(source, &selected, selection);
    check_contributors(source, &selected, selection, *page);

    let answer = overview(source, selection, SLOW_OVER_MS).unwrap();
    compare(&answer.totals, &selected, true);
    compare_groups(&answer.by_model, &selected, Dimension::Model, true);
    compare_groups(&answer.by_channel, &selected, Dimension::Channel, true);
    compare_groups(&answer.by_user, &selected, Dimension::User, false);
    assert_eq!(answer.active_models, answer.by_model.values().filter(|model| model.requests > 0).count());
    assert_eq!(
        answer.active_channels,
        answer.by_channel.values().filter(|channel| channel.requests > 0).count()
    );

    let mut expected: BTreeMap<i64, Vec<&Found>> = BTreeMap::new();
    for row in selected.iter().filter(|row| row.fact.outcome != RowOutcome::Other) {
        let start =
            (row.fact.created_at - steps.offset).div_euclid(steps.seconds) * steps.seconds + steps.offset;
        expected.entry(start).or_default().push(row);
    }
    for by in [None, Some(*by)] {
        let answer = trend(source, selection, *steps, SLOW_OVER_MS, by).unwrap();
        assert!(answer.keys().eq(expected.keys()));
        for (start, rows) in &expected {
            compare(&answer[start].totals, rows, true);
            match by {
                None => assert!(answer[start].groups.is_empty()),
                Some(by) => compare_groups(&answer[start].groups, rows, by, false),
            }
        }
    }

    let mut expected: Vec<Found> =
        selected.iter().filter(|row| row.fact.outcome.answered()).map(|row| (*row).clone()).collect();
    let key = |row: &Found| (row.fact.duration_ms, row.fact.created_at, row.fact.id);
    expected.sort_by_key(|row| std::cmp::Reverse(key(row)));
    let pages = pages(|last| slowest(source, selection, last.map(key), *page).unwrap(), *page);
    assert_eq!(pages, expected);

    let mut expected: Vec<Found> = selected.iter().map(|row| (*row).clone()).collect();
    expected.sort_by_key(|row| std::cmp::Reverse(row.fact.id));
    let pages =
        self::pages(|last| newest(source, selection, last.map(|row| row.fact.id), *page).unwrap(), *page);
    assert_eq!(pages, expected);
    let ids = newest_ids(source, selection, None, usize::MAX).unwrap();
    assert_eq!(ids, expected.iter().map(Found::identity).collect::<Vec<_>>());

    let mut expected: BTreeMap<Group, &Found> = BTreeMap::new();
    for row in selected.iter().filter(|row| row.fact.outcome == RowOutcome::Error) {
        let last = expected.entry(group(*by, row)).or_insert(row);
        if (row.fact.created_at, row.fact.id) > (last.fact.created_at, last.fact.id) {
            *last = row;
        }
    }
    let answer = last_errors(source, selection, *by).unwrap();
    assert!(answer.keys().eq(expected.keys()));
    for (group, row) in expected {
        let found = answer[&group];
        assert_eq!(
            (found.id, found.created_at, found.status_code, found.error_type),
            (row.fact.id, row.fact.created_at, row.fact.status_code, row.fact.error_type)
        );
    }
}

/// Compares what limits ask for.
fn check_entries<S: Source<Error: std::fmt::Debug>>(
    source: &mut S,
    selected: &[&Found],
    selection: &Selection,
) {
    let key = |entry: &Entry<'_>| format!("{entry:?}");
    let mut expected: Vec<String> =
        selected.iter().map(|row| key(&Entry::of(&row.fact, row.quota_per_unit))).collect();
    expected.sort();
    let mut found = Vec::new();
    entries(source, selection.from, selection.to, &selection.filter, &mut |entry| found.push(key(entry)))
        .unwrap();
    found.sort();
    assert_eq!(found, expected);
}

fn check_contributors<S: Source<Error: std::fmt::Debug>>(
    source: &mut S,
    selected: &[&Found],
    selection: &Selection,
    limit: usize,
) {
    for measure in Measure::ALL {
        let mut sums: BTreeMap<(i64, String, String), i128> = BTreeMap::new();
        for row in selected {
            let fact = &row.fact;
            let triple = (fact.channel_id, fact.model.to_string(), fact.username.to_string());
            *sums.entry(triple).or_default() += i128::from(measure.of(&Entry::of(fact, row.quota_per_unit)));
        }
        let mut expected: Vec<Contributor> = sums
            .into_iter()
            .filter(|(_, sum)| *sum > 0)
            .map(|((channel_id, model, username), sum)| Contributor { channel_id, model, username, sum })
            .collect();
        expected.sort_by_key(|contributor| std::cmp::Reverse(contributor.sum));
        expected.truncate(limit);
        assert_eq!(contributors(source, selection, measure, limit).unwrap(), expected);
    }
}

/// All pages of a listing, one after the other.
fn pages(mut page: impl FnMut(Option<&Found>) -> Vec<Found>, size: usize) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    loop {
        let next = page(all.last());
        assert!(next.len() <= size);
        assert!(all.len() < 1_000_000, "the pages have no end");
        let done = next.len() < size;
        all.extend(next);
        if done {
            return all;
        }
    }
}
