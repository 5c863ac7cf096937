//! That questions get the answers that the rows themselves would give, whatever blocks the rows are in.

use proptest::prelude::*;

use super::block::NUMBER_COLUMNS;
use super::memory_tests::Memory;
use super::oracle_tests::{Question, check, pack, question, rows};
use super::*;
use crate::record::ErrorType;

fn fact(id: i64) -> Fact<'static> {
    Fact {
        id,
        created_at: 1000 + id,
        kind: 2,
        outcome: RowOutcome::Success,
        channel_id: 1,
        model: "m".into(),
        group: "g".into(),
        username: "u".into(),
        token_name: "t".into(),
        stream: false,
        retried: false,
        duration_ms: 1000,
        first_token_ms: None,
        input_tokens: 10,
        output_tokens: 1,
        cache_read_tokens: 0,
        cache_write_tokens: 0,
        consumed: 5,
        refunded: 0,
        status_code: 0,
        error_type: ErrorType::Other,
    }
}

fn everything() -> Selection {
    Selection { from: i64::MIN, to: i64::MAX, filter: Filter::default() }
}

/// Packs rows in batches of the sizes given, over and over.
fn memory(rows: &[Found], batches: &[usize], merging: bool) -> Memory {
    let (mut memory, mut builder, mut rest) = (Memory::default(), BlockBuilder::default(), rows);
    for size in batches.iter().cycle() {
        let (batch, later) = rest.split_at((*size).min(rest.len()));
        memory.append(pack(&mut builder, batch), merging);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    memory
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_question_is_answered_as_the_rows_themselves_would(
        rows in rows(300),
        batches in prop::collection::vec(1..60usize, 1..6),
        merging in any::<bool>(),
        questions in prop::collection::vec(question(), 1..6),
    ) {
        let mut memory = memory(&rows, &batches, merging);
        check(&mut memory, &rows, &Question::all());
        for question in &questions {
            check(&mut memory, &rows, question);
        }
    }

    #[test]
    fn damage_is_an_error_or_another_number_but_never_a_panic(
        rows in rows(40),
        column in 0..Column::ALL.len(),
        cut in 0..400usize,
        grow in prop::collection::vec(any::<u8>(), 0..5),
        flip in prop::option::of((0..400usize, 1..=255u8)),
    ) {
        let mut memory = memory(&rows, &[1000], false);
        let bytes = &mut memory.blocks[0].columns[column];
        if let Some((at, bits)) = flip {
            let at = at % bytes.len();
            bytes[at] ^= bits;
        } else {
            bytes.truncate(cut);
            bytes.extend(grow);
        }
        ask_everything(&mut memory);
    }
}

/// Asks every question; whether any answer was an error.
fn ask_everything(memory: &mut Memory) -> bool {
    let filter =
        Filter { models: vec!["a".into()], usernames: vec!["b".into()], kinds: vec![2], ..Filter::default() };
    let filter = Filter { min_duration_ms: Some(5), ..filter };
    let mut failed = false;
    let model = Filter { models: vec!["m".into()], ..Filter::default() };
    let of_model = Selection { filter: model, ..everything() };
    for selection in [everything(), of_model, Selection { from: 3, to: 400, filter }] {
        let steps = Steps { seconds: 1 << 40, offset: 0 };
        failed |= overview(memory, &selection, 1).is_err();
        failed |= trend(memory, &selection, steps, 1, Some(Dimension::User)).is_err();
        failed |= slowest(memory, &selection, None, 5).is_err();
        failed |= newest(memory, &selection, None, 5).is_err();
        failed |= last_errors(memory, &selection, Dimension::Channel).is_err();
        failed |= entries(memory, selection.from, selection.to, &selection.filter, &mut |_| {}).is_err();
        failed |= contributors(memory, &selection, Measure::Tokens, 5).is_err();
    }
    let headers = memory.headers().unwrap();
    failed |= merge(memory, &headers).is_err();
    failed
}

#[test]
fn a_column_of_the_wrong_length_width_or_kind_is_an_error() {
    let found: Vec<Found> = (0..100).map(|id| Found { fact: fact(id * id), quota_per_unit: 7.0 }).collect();
    let sound = memory(&found, &[100], false);
    let mut asked = sound.clone();
    assert!(!ask_everything(&mut asked));
    for column in 0..Column::ALL.len() {
        let size = sound.blocks[0].columns[column].len();
        for damage in 0..5 {
            let mut damaged = sound.clone();
            let bytes = &mut damaged.blocks[0].columns[column];
            match damage {
                0 => bytes.clear(),
                1 => bytes.truncate(size - 1),
                2 => bytes.push(0),
                3 => bytes[0] = 5,
                _ if column < NUMBER_COLUMNS => bytes[1] = 2,
                _ => bytes[1] = 0xff,
            }
            assert!(ask_everything(&mut damaged), "column {column}, damage {damage}");
        }
    }
}

#[test]
fn a_header_that_cannot_be_is_an_error_before_memory_is_taken() {
    let found = [Found { fact: fact(1), quota_per_unit: 7.0 }];
    for damage in 0..4 {
        let mut memory = memory(&found, &[1], false);
        let header = &mut memory.blocks[0].header;
        match damage {
            0 => header.rows = u32::MAX,
            1 => header.rows = 0,
            2 => header.quota_per_unit = f64::NAN,
            _ => header.quota_per_unit = 0.0,
        }
        assert!(overview(&mut memory, &everything(), 1).is_err(), "damage {damage}");
    }
}

#[test]
fn numbers_without_a_meaning_are_an_error() {
    let rows = [(1, "a"), (2, "b"), (3, "c")]
        .map(|(kind, username)| Fact {
            kind,
            channel_id: kind.into(),
            username: username.into(),
            ..fact(kind.into())
        })
        .map(|fact| Found { fact, quota_per_unit: 7.0 });
    for column in [Column::TagOf, Column::RouteOf, Column::CallerOf] {
        let mut memory = memory(&rows, &[9], false);
        *memory.blocks[0].columns[column.number()].last_mut().unwrap() = 3;
        assert!(ask_everything(&mut memory), "{column:?}");
    }
}

#[test]
fn a_block_is_full_by_rows_or_by_texts_and_ends_when_the_dollar_changes() {
    let mut builder = BlockBuilder::default();
    for id in 0..9000 {
        builder.push(&fact(id), if id < 8500 { 7.0 } else { 8.0 });
    }
    let rows = |blocks: &[Block]| -> Vec<(u32, u8)> {
        blocks.iter().map(|block| (block.header.rows, block.header.tier)).collect()
    };
    assert_eq!(rows(&builder.take()), [(4000, 3), (4000, 3), (500, 2), (500, 2)]);
    assert_eq!(builder.take(), []);

    for id in 0..1000 {
        let name = format!("{id}{}", "x".repeat(5000));
        builder.push(&Fact { model: name.into(), ..fact(id) }, 0.0);
    }
    let blocks = builder.take();
    assert_eq!(blocks.iter().map(|block| block.header.rows).sum::<u32>(), 1000);
    for (at, block) in blocks.iter().enumerate() {
        let size: usize = block.columns.iter().map(Vec::len).sum();
        assert!(size < 300_000, "{size}");
        assert_eq!(block.header.tier == 3, at + 1 < blocks.len(), "a block full of text must stay as it is");
    }
}

#[test]
fn small_blocks_are_merged_and_no_row_is_packed_often() {
    let (mut memory, mut builder) = (Memory::default(), BlockBuilder::default());
    let found: Vec<Found> = (0..5000).map(|id| Found { fact: fact(id), quota_per_unit: 7.0 }).collect();
    for row in &found {
        memory.append(pack(&mut builder, std::slice::from_ref(row)), true);
        assert!(memory.blocks.len() < 60);
    }
    assert!(memory.repacked <= 3 * 5000, "{} rows were packed anew", memory.repacked);
    check(&mut memory, &found, &Question::all());
}

#[test]
fn models_beyond_reason_are_summed_in_the_rest() {
    let mut builder = BlockBuilder::default();
    for id in 0..20_010 {
        builder.push(
            &Fact { model: format!("invented-{id}").into(), outcome: RowOutcome::Error, ..fact(id) },
            7.0,
        );
    }
    let mut memory = Memory::default();
    memory.append(builder.take(), false);
    let answer = overview(&mut memory, &everything(), 1).unwrap();
    assert_eq!((answer.by_model.len(), answer.totals.errors), (20_001, 20_010));
    assert_eq!(answer.by_model[&Group::Rest].errors, 10);
    let steps = Steps { seconds: 1, offset: 0 };
    let trend = trend(&mut memory, &everything(), steps, 1, Some(Dimension::Model)).unwrap();
    assert_eq!(
        trend.values().map(|step| step.groups.values().map(|group| group.errors).sum::<u64>()).sum::<u64>(),
        20_010
    );
    assert_eq!(last_errors(&mut memory, &everything(), Dimension::Model).unwrap().len(), 20_001);
}

#[test]
fn a_window_begins_with_its_first_second_and_ends_before_its_last() {
    let mut builder = BlockBuilder::default();
    for id in 0..6 {
        builder.push(&fact(id), 7.0);
    }
    let mut memory = Memory::default();
    memory.append(builder.take(), false);
    for (from, to) in (998..1008).flat_map(|from| (998..1008).map(move |to| (from, to))) {
        let selection = Selection { from, to, ..everything() };
        let expected = (1000..1006).filter(|at| (from..to).contains(at)).count();
        let found = overview(&mut memory, &selection, 1).unwrap().totals.requests;
        assert_eq!(found, expected as u64, "{from} to {to}");
        assert_eq!(newest(&mut memory, &selection, None, 9).unwrap().len(), expected);
    }
}

#[test]
fn steps_begin_at_multiples_of_their_length() {
    let steps = Steps { seconds: 60, offset: 10 };
    assert_eq!([steps.start(9), steps.start(10), steps.start(69), steps.start(-51)], [-50, 10, 10, -110]);
    assert_eq!(steps.starts(9, 131).collect::<Vec<_>>(), [-50, 10, 70, 130]);
    assert_eq!(steps.starts(10, 10).count(), 1 - 1);
    assert_eq!(Steps { seconds: 0, offset: 0 }.start(i64::MIN), i64::MIN);
}

#[test]
fn outcomes_have_the_names_that_parameters_use() {
    for outcome in RowOutcome::ALL {
        assert_eq!(RowOutcome::parse(outcome.as_str()), Some(outcome));
        assert_eq!(RowOutcome::ALL[outcome as usize], outcome);
    }
    assert_eq!(RowOutcome::parse("no such"), None);
}
