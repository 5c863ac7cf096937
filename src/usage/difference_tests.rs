//! That the difference of two states makes the later one of the earlier one, bit by bit.

use proptest::prelude::*;

use super::*;
use crate::record::{ErrorType, Outcome};
use crate::usage::Family;
use crate::usage::series::Addition;

/// What can happen to a label set.
#[derive(Debug, Clone)]
enum Event {
    Add(Leaf, f64),
    Hold(Leaf),
    Release(u64),
}

fn leaf() -> impl Strategy<Value = Leaf> {
    let family = || prop::sample::select(&Family::ALL[..]);
    let timing = prop::sample::select(&[Family::RequestDuration, Family::TimeToFirstToken][..]);
    let plain =
        |family: &Family| family.bounds().is_empty() && !matches!(family, Family::Requests | Family::Errors);
    prop_oneof![
        4 => family().prop_filter("a plain counter", plain).prop_map(Leaf::Plain),
        2 => (prop::sample::select(&Outcome::ALL[..]), any::<bool>())
            .prop_map(|(outcome, stream)| Leaf::Requests(outcome, stream)),
        3 => (timing, any::<bool>()).prop_map(|(family, retried)| Leaf::Timing(family, retried)),
        2 => (0..4_u16, prop::sample::select(&[ErrorType::OpenaiError, ErrorType::UpstreamError, ErrorType::Other][..]))
            .prop_map(|(code, kind)| Leaf::Errors(code * 100, kind)),
        2 => family().prop_map(Leaf::Overflow),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let amount =
        prop_oneof![Just(0.0), (0..5_000_u32).prop_map(f64::from), 0.0..2_000.0, 1e-40..1e-3, 1e9..1e15];
    prop_oneof![
        8 => (leaf(), amount).prop_map(|(leaf, amount)| Event::Add(leaf, amount)),
        1 => leaf().prop_map(Event::Hold),
        1 => (0..9_u64).prop_map(Event::Release),
    ]
}

fn happen(series: &mut Series, event: &Event, born: u64) {
    match event {
        Event::Add(leaf, amount) if leaf.family().bounds().is_empty() => {
            series.add(*leaf, Addition::Count(*amount));
        }
        Event::Add(leaf, seconds) => series.add(*leaf, Addition::Observation(*seconds, None)),
        Event::Hold(leaf) if series.has(*leaf) => series.hold(*leaf, born),
        Event::Hold(_) => {}
        Event::Release(seen) => {
            series.release(*seen);
        }
    }
}

/// As monitor.db has it, so that equal bytes are equal floats.
fn stored(series: &Series) -> Vec<u8> {
    postcard::to_allocvec(series).unwrap()
}

fn by_way_of_bytes(difference: &Difference) -> Difference {
    postcard::from_bytes(&postcard::to_allocvec(difference).unwrap()).unwrap()
}

fn number(leaf: Leaf, amount: f64) -> Series {
    let mut series = Series::default();
    series.count(leaf, amount);
    series
}

const INPUT: Leaf = Leaf::Plain(Family::InputTokens);
const COST: Leaf = Leaf::Plain(Family::CostUsd);

proptest! {
    #[test]
    fn applied_to_the_state_before_it_makes_the_one_after_bit_by_bit(
        commits in prop::collection::vec(prop::collection::vec(event(), 0..12), 1..12),
    ) {
        let (mut now, mut followed) = (Series::default(), Series::default());
        for (events, born) in commits.iter().zip(0..) {
            let before = now.clone();
            for event in events {
                happen(&mut now, event, born);
            }
            let difference = Difference::between(&before, &now);
            prop_assert_eq!(difference.is_none(), stored(&before) == stored(&now));
            if let Some(difference) = difference {
                prop_assert!(by_way_of_bytes(&difference).apply(&mut followed));
            }
            prop_assert_eq!(stored(&followed), stored(&now));
            prop_assert!(followed.is_sound());
        }
    }

    #[test]
    fn one_of_a_damaged_file_breaks_nothing_but_the_label_set(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(difference) = postcard::from_bytes::<Difference>(&bytes) {
            let mut series = number(INPUT, 1.0);
            if difference.apply(&mut series) {
                series.is_sound();
            }
        }
    }
}

#[test]
fn the_least_bit_is_a_difference() {
    let before = number(COST, 0.1 + 0.2);
    let mut now = before.clone();
    now.numbers = before.numbers.map(|number| if number > 0.0 { number.next_up() } else { number });
    assert!(before.numbers.iter().zip(&now.numbers).all(|(before, now)| now - before < 1e-15));
    let mut followed = before.clone();
    assert!(Difference::between(&before, &now).unwrap().apply(&mut followed));
    assert_eq!(stored(&followed), stored(&now));
}

#[test]
fn a_cell_that_is_new_and_counts_nothing_is_a_difference() {
    let before = number(INPUT, 3.0);
    for leaf in [
        COST,
        Leaf::Requests(Outcome::Success, true),
        Leaf::Errors(0, ErrorType::Other),
        Leaf::Overflow(Family::CostUsd),
    ] {
        let mut now = before.clone();
        now.count(leaf, 0.0);
        let mut followed = before.clone();
        assert!(Difference::between(&before, &now).unwrap().apply(&mut followed));
        assert!(followed.has(leaf), "{leaf:?}");
    }
}

#[test]
fn what_only_memory_has_is_no_difference() {
    let mut before = Series::default();
    let example =
        |at| crate::usage::histogram::Exemplar { log_id: at, request_id: "r".into(), value: 1.0, at };
    let mut now = before.clone();
    for (series, at) in [(&mut before, 1), (&mut now, 2)] {
        series.observe(Leaf::Timing(Family::RequestDuration, false), 1.0, Some(example(at)));
        series.hold(Leaf::Timing(Family::RequestDuration, false), 4);
    }
    now.reborn(9);
    now.touched = 9;
    assert_eq!(Difference::between(&before, &now), None);
}

#[test]
fn one_row_in_a_full_label_set_takes_little() {
    let mut before = Series::default();
    let timing = |family| Leaf::Timing(family, false);
    let numbers = [Family::InputTokens, Family::OutputTokens, Family::QuotaConsumed, Family::CostUsd];
    let count = |series: &mut Series, seconds: f64| {
        series.observe(timing(Family::RequestDuration), seconds, None);
        series.observe(timing(Family::TimeToFirstToken), seconds / 3.0, None);
        series.count(Leaf::Requests(Outcome::Success, true), 1.0);
        for family in numbers {
            series.count(Leaf::Plain(family), seconds * 7.7);
        }
    };
    (1..1_000).for_each(|at| count(&mut before, f64::from(at) * 0.3));
    let mut now = before.clone();
    count(&mut now, 17.0);
    let difference = Difference::between(&before, &now).unwrap();
    let (small, full) = (postcard::to_allocvec(&difference).unwrap().len(), stored(&now).len());
    assert!(small < 100 && full > 450, "{small} bytes instead of {full}");
}

#[test]
fn places_that_no_label_set_has_are_refused() {
    let sound = Difference { present: 0, numbers: vec![], timings: vec![], rare: vec![], held: None };
    let timing = |buckets| HistogramDifference { sum: 1.0, zero: 0, buckets, native: vec![] };
    for difference in [
        Difference { numbers: vec![(200, 1.0)], ..sound.clone() },
        Difference { timings: vec![(4, timing(vec![]))], ..sound.clone() },
        Difference { timings: vec![(0, timing(vec![(18, 1)]))], ..sound.clone() },
        Difference {
            rare: vec![(Leaf::Overflow(Family::RequestDuration), RareDifference::Number(1.0))],
            ..sound.clone()
        },
        Difference {
            rare: vec![(Leaf::Errors(500, ErrorType::Other), RareDifference::Histogram(timing(vec![])))],
            ..sound.clone()
        },
    ] {
        assert!(!difference.clone().apply(&mut Series::default()), "{difference:?}");
    }
}
