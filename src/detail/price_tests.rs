//! Prices of rows as new-api writes them.

use super::*;
use crate::record::CHANNEL_TEST_TOKEN;

const UNIT: f64 = 500_000.0;

/// A row of a request with this quota, prompt and completion.
fn row(quota: i64, prompt: i64, completion: i64, other: &str) -> Entry {
    Entry {
        kind: 2,
        token_id: 1,
        quota,
        prompt_tokens: prompt,
        completion_tokens: completion,
        other: format!("{{{other}}}"),
        ..Entry::default()
    }
}

fn test_row(quota: i64, prompt: i64, completion: i64, other: &str) -> Entry {
    let name = CHANNEL_TEST_TOKEN.to_owned();
    Entry { token_id: 0, token_name: name, ..row(quota, prompt, completion, other) }
}

fn price(entry: &Entry) -> Result<Price, String> {
    recompute(entry, &entry.read(), &Fields::parse(&entry.other), UNIT)
}

/// The row's price is the recorded one, made of these parts.
#[track_caller]
fn assert_exact(entry: &Entry, parts: &[(&str, f64)]) {
    let price = price(entry).unwrap();
    assert_eq!((price.quota, price.note.as_deref()), (entry.quota as f64, None), "{price:?}");
    let near = |(a, b): (&(String, f64), &(&str, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9;
    assert!(
        price.parts.len() == parts.len() && price.parts.iter().zip(parts).all(near),
        "{:?} is not {parts:?}",
        price.parts
    );
}

const MINI: &str = r#""cache_ratio":0.5,"cache_tokens":0,"completion_ratio":4,"frt":-1000,"group_ratio":1,"model_price":-1,"model_ratio":0.075"#;
const CLAUDE: &str = r#""cache_ratio":0.1,"claude":true,"completion_ratio":5,"frt":-1000,"group_ratio":1,"model_price":-1,"model_ratio":1.5,"user_group_ratio":-1"#;

#[test]
fn tokens_cost_their_ratios() {
    assert_exact(&row(87, 1000, 40, MINI), &[("fresh_input", 75.0), ("output", 12.0)]);
    let other = r#""cache_ratio":0.5,"cache_tokens":800,"completion_ratio":4,"group_ratio":1,"model_price":-1,"model_ratio":1.25,"user_group_ratio":-1"#;
    assert_exact(
        &row(950, 1000, 40, other),
        &[("fresh_input", 250.0), ("cache_read", 500.0), ("output", 200.0)],
    );
}

#[test]
fn a_half_is_rounded_up_and_the_least_charge_is_one() {
    let other = r#""completion_ratio":1,"group_ratio":1,"model_price":-1,"model_ratio":37.5"#;
    assert_exact(&row(488, 10, 3, other), &[("fresh_input", 375.0), ("output", 112.5), ("rounding", 0.5)]);
    // 10 * 0.15 * 0.7 is 1.05 to people and 1.0499999999999998 to floats; ten times as much ends in a half.
    let other = r#""completion_ratio":1,"group_ratio":0.7,"model_price":-1,"model_ratio":0.15"#;
    assert_exact(&row(11, 100, 0, other), &[("fresh_input", 10.5), ("rounding", 0.5)]);
    assert_exact(&row(1, 3, 0, MINI), &[("fresh_input", 0.225), ("minimum_charge", 0.775)]);
}

#[test]
fn nothing_used_costs_nothing_unless_it_was_a_tool() {
    let free = price(&row(0, 0, 0, MINI)).unwrap();
    assert_eq!((free.quota, free.parts.len()), (0.0, 0));
    let other = format!(r#"{MINI},"tool_surcharges":[{{"name":"web_search","count":1,"price":10}}]"#);
    assert_exact(&row(5000, 0, 0, &other), &[("tool_web_search", 5000.0)]);
    let other = r#""completion_ratio":1,"group_ratio":1,"model_price":-1,"model_ratio":0"#;
    assert_exact(&row(0, 100, 5, other), &[]);
}

#[test]
fn anthropics_cache_stands_beside_the_prompt() {
    let other =
        format!(r#"{CLAUDE},"cache_tokens":800,"cache_creation_tokens":400,"cache_creation_ratio":1.25"#);
    assert_exact(
        &row(2670, 1000, 40, &other),
        &[("fresh_input", 1500.0), ("cache_read", 120.0), ("cache_write", 750.0), ("output", 300.0)],
    );
    // 100 of the tokens written have no time to live.
    let other = format!(
        r#"{CLAUDE},"cache_creation_tokens":400,"cache_creation_ratio":1.25,"cache_creation_tokens_5m":100,"cache_creation_ratio_5m":1.25,"cache_creation_tokens_1h":200,"cache_creation_ratio_1h":2"#
    );
    assert_exact(
        &row(2775, 1000, 40, &other),
        &[("fresh_input", 1500.0), ("cache_write", 975.0), ("output", 300.0)],
    );
}

#[test]
fn other_providers_cache_writes_are_inside_the_prompt() {
    let other = r#""cache_creation_ratio":1.25,"cache_creation_tokens":400,"cache_ratio":0.1,"cache_tokens":100,"completion_ratio":4,"group_ratio":1,"model_price":-1,"model_ratio":1"#;
    assert_exact(
        &row(1050, 1000, 10, other),
        &[("fresh_input", 500.0), ("cache_read", 10.0), ("cache_write", 500.0), ("output", 40.0)],
    );
    // Anthropic's usage in OpenAI's shape tells how long the cache lives, and counts beside the prompt.
    let other = r#""cache_creation_ratio_5m":1.25,"cache_creation_tokens_5m":400,"completion_ratio":4,"group_ratio":1,"model_price":-1,"model_ratio":1"#;
    assert_exact(&row(1500, 1000, 0, other), &[("fresh_input", 1000.0), ("cache_write", 500.0)]);
    // More cached than asked for is no credit.
    let other = r#""cache_ratio":0.1,"cache_tokens":2000,"completion_ratio":4,"group_ratio":1,"model_price":-1,"model_ratio":1"#;
    assert_exact(&row(200, 1000, 0, other), &[("cache_read", 200.0)]);
}

#[test]
fn old_versions_cut_anthropics_prices_off() {
    let whole = format!(r#"{CLAUDE},"cache_tokens":3"#);
    assert_exact(
        &row(15, 10, 0, &whole),
        &[("fresh_input", 15.0), ("cache_read", 0.45), ("rounding", -0.45)],
    );
    let up = format!(r#"{CLAUDE},"cache_tokens":5"#);
    let parts = [("fresh_input", 15.0), ("cache_read", 0.75)];
    assert_exact(&row(16, 10, 0, &up), &[parts[0], parts[1], ("rounding", 0.25)]);
    assert_exact(&row(15, 10, 0, &up), &[parts[0], parts[1], ("rounding", -0.75)]);
    // Of others no version does.
    assert_eq!(
        price(&row(487, 10, 3, r#""completion_ratio":1,"group_ratio":1,"model_ratio":37.5"#)).unwrap().quota,
        488.0
    );
}

#[test]
fn a_users_own_ratio_goes_before_the_groups() {
    let other = MINI.replace("\"group_ratio\":1", "\"group_ratio\":1,\"user_group_ratio\":2");
    assert_exact(&row(174, 1000, 40, &other), &[("fresh_input", 150.0), ("output", 24.0)]);
}

#[test]
fn fixed_prices_do_not_look_at_tokens() {
    let other = r#""completion_ratio":0,"group_ratio":0.8,"model_price":0.04,"model_ratio":0"#;
    assert_exact(&row(16_000, 1, 0, other), &[("fixed_price", 16_000.0)]);
    // Midjourney and tasks have no tokens at all.
    assert_exact(&row(50_000, 0, 0, r#""group_ratio":1,"model_price":0.1"#), &[("fixed_price", 50_000.0)]);
    let images = Entry { content: "品质 hd, 生成数量 3".into(), ..row(48_000, 1, 0, other) };
    assert_exact(&images, &[("fixed_price", 48_000.0)]);
    let one = Entry { quota: 16_000, ..images };
    assert_exact(&one, &[("fixed_price", 16_000.0)]);
    assert_exact(
        &row(0, 5, 5, r#""completion_ratio":0,"group_ratio":1,"model_price":0,"model_ratio":0"#),
        &[],
    );
}

#[test]
fn tasks_are_multiplied_by_what_was_asked_for() {
    let other = r#""group_ratio":1,"is_task":true,"model_price":0.1,"task_id":"t","seconds":8,"size":1.5"#;
    assert_exact(&row(600_000, 0, 0, other), &[("fixed_price", 600_000.0)]);
    let other = r#""group_ratio":1,"is_task":true,"model_price":0.1,"task_id":"t""#;
    let told = Entry {
        content: "操作 generate, 计算参数：seconds: 4.00, size: 1.67".into(),
        ..row(333_333, 0, 0, other)
    };
    let price = price(&told).unwrap();
    assert_eq!(price.quota, 334_000.0);
    assert!(price.note.unwrap().contains("two decimals"));
    assert_exact(
        &row(250_000, 0, 0, r#""group_ratio":1,"is_task":true,"model_ratio":1,"model_price":-1"#),
        &[("fixed_price", 250_000.0)],
    );
}

#[test]
fn tools_have_prices_of_their_own() {
    let other = format!(
        r#"{MINI},"web_search":true,"web_search_price":10,"web_search_call_count":2,"file_search":true,"file_search_price":2.5,"file_search_call_count":1,"image_generation_call":true,"image_generation_call_price":0.04"#
    );
    assert_exact(
        &row(87 + 10_000 + 1250 + 20_000, 1000, 40, &other),
        &[
            ("fresh_input", 75.0),
            ("output", 12.0),
            ("web_search", 10_000.0),
            ("file_search", 1250.0),
            ("image_generation", 20_000.0),
        ],
    );
}

#[test]
fn sound_and_images_cost_more() {
    let other = r#""completion_ratio":4,"group_ratio":1,"image":true,"image_output":100,"image_ratio":2,"model_price":-1,"model_ratio":1"#;
    assert_exact(
        &row(1140, 1000, 10, other),
        &[("fresh_input", 900.0), ("image_input", 200.0), ("output", 40.0)],
    );
    let other = r#""audio_input_price":1,"audio_input_seperate_price":true,"audio_input_token_count":400,"completion_ratio":4,"group_ratio":1,"model_price":-1,"model_ratio":0.15"#;
    assert_exact(&row(290, 1000, 0, other), &[("fresh_input", 90.0), ("audio_input", 200.0)]);
    let other = r#""audio_completion_ratio":2,"audio_input":60,"audio_output":20,"audio_ratio":16,"completion_ratio":4,"group_ratio":1,"model_price":-1,"model_ratio":1.25,"text_input":40,"text_output":10,"ws":true"#;
    assert_exact(
        &row(2100, 100, 30, other),
        &[("fresh_input", 50.0), ("audio_input", 1200.0), ("output", 50.0), ("audio_output", 800.0)],
    );
}

#[test]
fn tests_are_charged_without_cache_and_mostly_without_the_group() {
    let other = r#""cache_ratio":0.5,"cache_tokens":900,"completion_ratio":4,"group_ratio":2,"model_price":-1,"model_ratio":0.075"#;
    assert_exact(&test_row(87, 1000, 40, other), &[("fresh_input", 75.0), ("output", 12.0)]);
    assert_exact(&test_row(174, 1000, 40, other), &[("fresh_input", 150.0), ("output", 24.0)]);
    let other = r#""completion_ratio":0,"group_ratio":2,"model_price":0.04,"model_ratio":0"#;
    assert_exact(&test_row(20_000, 1, 0, other), &[("fixed_price", 20_000.0)]);
}

#[test]
fn a_difference_is_explained_as_far_as_it_goes() {
    let fork = price(&row(174, 1000, 40, &format!(r#"{MINI},"channel_ratio":2"#))).unwrap();
    assert_eq!(fork.quota, 87.0);
    assert_eq!(
        fork.note.unwrap(),
        "new-api charged 174, the recorded factors give 87; it may have used channel_ratio too"
    );
}

#[test]
fn the_reason_is_told_where_there_is_no_price() {
    let why = |entry: &Entry| price(entry).unwrap_err();
    let missing = [
        ("", "no price factors"),
        (r#""group_ratio":1"#, "neither model_price nor model_ratio"),
        (r#""model_ratio":1"#, "no group_ratio"),
        (r#""model_ratio":1,"group_ratio":1"#, "no completion_ratio"),
        (r#""model_ratio":1,"group_ratio":1,"completion_ratio":1,"cache_tokens":5"#, "no cache_ratio"),
        (
            r#""model_ratio":1,"group_ratio":1,"completion_ratio":1,"claude":true,"cache_creation_tokens_1h":5"#,
            "no cache_creation_ratio_1h",
        ),
        (r#""model_ratio":1e308,"group_ratio":1e308,"completion_ratio":1"#, "too large"),
        (
            r#""model_ratio":1,"group_ratio":1,"admin_info":{"quota_saturation":{"op":"x"}}"#,
            "its largest one",
        ),
        (r#""violation_fee":true,"fee_quota":5"#, "a fixed fee"),
        (r#""task_id":"t","actual_quota":5,"pre_consumed_quota":3"#, "it cost 5 and 3 had been paid"),
        (r#""task_id":"t""#, "settlement of task t"),
    ];
    for (other, words) in missing {
        let why = why(&row(5, 10, 5, other));
        assert!(why.contains(words), "{other}: {why}");
    }
    let expression = r#""billing_mode":"tiered_expr","expr_b64":"dGllcigiYmFzZSIsIHAqMik=","matched_tier":"base","model_ratio":1,"group_ratio":1"#;
    assert_eq!(
        why(&row(5, 10, 5, expression)),
        r#"charged by new-api's expression (tiered_expr), tier base: tier("base", p*2)"#
    );
    assert!(why(&row(-5, 0, 0, MINI)).contains("negative charge"));
    let kinds =
        [(5, "not charged"), (6, "given back"), (3, "no request"), (0, "no request"), (99, "no request")];
    for (kind, words) in kinds {
        let why = why(&Entry { kind, ..row(5, 10, 5, MINI) });
        assert!(why.contains(words), "{kind}: {why}");
    }
    assert!(why(&Entry { one_api: true, ..row(5, 10, 5, "") }).contains("One API"));
}
