//! What each kind of row counts as: one row in, exactly this change of the page.

mod gain;

pub use gain::database;

use crate::schema::LogRow;
use gain::{Gain, NUL, case, changed, each_changes_the_page_as_said};

#[tokio::test]
async fn consumption_is_a_request_a_test_or_money_only() {
    let test = |row: &mut LogRow| (row.token_name, row.token_id) = ("模型测试".to_owned(), 0);
    let plain = || Gain::request([100, 20, 0, 0]);
    let settled = |quota| Gain::row("2").money(quota, 0.0);
    each_changes_the_page_as_said(vec![
        case("{}", plain()),
        changed("{}", test, Gain::row("2").one("newapi_channel_tests_total")),
        // A user may name a token so; one with an id is real.
        changed("{}", |row| row.token_name = "模型测试".into(), plain()),
        changed("{}", |row| row.token_id = 0, plain()),
        case(r#"{"task_id":"task_abc","pre_consumed_quota":1,"actual_quota":1001}"#, settled(1000.0)),
        changed(
            r#"{"is_task":true,"task_id":"task_abc"}"#,
            |row| row.use_time = 0,
            Gain::row("2")
                .outcome("success", false)
                .tokens([100, 20, 0, 0])
                .money(1000.0, 0.0)
                .time(0.0, false),
        ),
        case(r#"{"task_id":""}"#, plain()),
        case(r#"{"violation_fee":true,"fee_quota":1000,"status_code":403}"#, settled(1000.0)),
        changed("{}", |row| row.quota = -700, Gain::row("2").money(0.0, 700.0)),
        changed("{}", |row| row.quota = 0, plain().money(-1000.0, 0.0)),
        changed(
            r#"{"task_id":"task_abc","reason":"task failed"}"#,
            |row| (row.kind, row.quota, row.model_name) = (6, 500_000, "sora-2".into()),
            Gain::row("6").on(1, "sora-2").money(0.0, 500_000.0),
        ),
        // What is settled for a model that nobody offers stands where it is given back from.
        changed(
            r#"{"task_id":"task_abc","actual_quota":1001}"#,
            |row| row.model_name = "unheard-of".into(),
            Gain::row("2").on(1, "_other").money(1000.0, 0.0),
        ),
        changed(
            r#"{"task_id":"task_abc","reason":"task failed"}"#,
            |row| (row.kind, row.model_name) = (6, "unheard-of".into()),
            Gain::row("6").on(1, "_other").money(0.0, 1000.0),
        ),
    ])
    .await;
}

#[tokio::test]
async fn times_retries_and_failovers_are_booked_on_the_right_channel() {
    let timed = |seconds, retried| {
        Gain::row("2")
            .outcome("success", false)
            .tokens([100, 20, 0, 0])
            .money(1000.0, 0.0)
            .time(seconds, retried)
    };
    let on_12 = Gain::row("2").on(12, "gpt-4o").outcome("success", false).tokens([100, 20, 0, 0]);
    let tried = |list: &str| format!(r#"{{"admin_info":{{"use_channel":{list}}}}}"#);
    each_changes_the_page_as_said(vec![
        changed("{}", |row| row.use_time = 5, timed(5.0, false)),
        changed("{}", |row| row.use_time = 6, timed(6.0, false).one("newapi_slow_requests_total")),
        changed("{}", |row| row.use_time = 2000, timed(2000.0, false).one("newapi_slow_requests_total")),
        case(&tried(r#"["1"]"#), timed(1.0, false)),
        changed(
            &tried(r#"["9","12"]"#),
            |row| row.channel_id = 12,
            on_12.money(1000.0, 0.0).time(1.0, true).failover(9),
        ),
        case(&tried(r#"["1","1"]"#), timed(1.0, true)),
        case(&tried(r#"["1","9","1"]"#), timed(1.0, true).failover(1).failover(9)),
        case(&tried(r#"["7","7","1"]"#), timed(1.0, true).failover(7)),
        // What is no request went on to no other channel.
        changed(
            &tried(r#"["9","12"]"#),
            |row| (row.token_name, row.token_id) = ("模型测试".to_owned(), 0),
            Gain::row("2").one("newapi_channel_tests_total"),
        ),
        case(
            r#"{"task_id":"task_abc","admin_info":{"use_channel":["9","1"]}}"#,
            Gain::row("2").money(1000.0, 0.0),
        ),
        // The failed attempt says the same of the beginning.
        changed(&tried(r#"["9","12"]"#), |row| row.kind = 5, Gain::row("5").error("unknown", "other")),
    ])
    .await;
}

#[tokio::test]
async fn streams_end_well_or_badly_or_because_the_client_left() {
    let stream = |other: &str, gain| changed(other, |row| row.is_stream = true, gain);
    let ended = |reason: &str, status: &str| {
        format!(r#"{{"stream_status":{{"end_reason":"{reason}","status":"{status}"}},"frt":-1000}}"#)
    };
    each_changes_the_page_as_said(vec![
        stream("{}", Gain::stream("success")),
        stream(&ended("done", "ok"), Gain::stream("success")),
        stream(&ended("eof", "ok"), Gain::stream("success")),
        stream(&ended("client_gone", "error"), Gain::stream("client_gone")),
        stream(&ended("client_gone", "ok"), Gain::stream("client_gone")),
        stream(&ended("timeout", "error"), Gain::stream("stream_error")),
        stream(&ended("", "error"), Gain::stream("stream_error")),
        stream(r#"{"stream_status":{}}"#, Gain::stream("success")),
        stream(r#"{"frt":812}"#, Gain::stream("success").first_token(0.812)),
        stream(r#"{"frt":812.5}"#, Gain::stream("success").first_token(0.8125)),
        stream(r#"{"frt":0}"#, Gain::stream("success")),
        // Not streamed: there is no first chunk, whatever stands there.
        case(r#"{"frt":812}"#, Gain::request([100, 20, 0, 0])),
        case(r#"{"frt":-1000}"#, Gain::request([100, 20, 0, 0])),
    ])
    .await;
}

#[tokio::test]
async fn input_tokens_include_cached_ones_for_every_provider() {
    each_changes_the_page_as_said(vec![
        case(r#"{"cache_tokens":64}"#, Gain::request([100, 20, 64, 0])),
        case(r#"{"cache_tokens":64.0,"cache_creation_tokens":"8"}"#, Gain::request([100, 20, 64, 8])),
        case(
            r#"{"claude":true,"cache_tokens":10240,"cache_creation_tokens":2048}"#,
            Gain::request([12_388, 20, 10_240, 2048]),
        ),
        case(r#"{"usage_semantic":"anthropic","cache_tokens":5}"#, Gain::request([105, 20, 5, 0])),
        case(r#"{"usage_semantic":"openai","cache_tokens":5}"#, Gain::request([100, 20, 5, 0])),
        case(r#"{"claude":false,"cache_tokens":5}"#, Gain::request([100, 20, 5, 0])),
        case(r#"{"claude":true,"cache_tokens":5,"input_tokens_total":777}"#, Gain::request([777, 20, 5, 0])),
        case(r#"{"cache_tokens":5,"input_tokens_total":778}"#, Gain::request([778, 20, 5, 0])),
        case(
            r#"{"claude":true,"cache_creation_tokens_5m":2000,"cache_creation_tokens_1h":48}"#,
            Gain::request([2148, 20, 0, 2048]),
        ),
        case(
            r#"{"claude":true,"cache_creation_tokens_5m":40,"cache_creation_tokens":50,"cache_write_tokens":60}"#,
            Gain::request([160, 20, 0, 60]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn errors_are_counted_by_status_and_by_a_closed_set_of_types() {
    let failed = |other: &str, status: &str, kind: &str| {
        changed(other, |row| (row.kind, row.quota) = (5, 0), Gain::row("5").error(status, kind))
    };
    let mut cases = vec![
        failed(r#"{"status_code":429,"error_type":"openai_error","error_code":7}"#, "429", "openai_error"),
        failed(r#"{"status_code":429,"error_type":"openai_error","error_code":null}"#, "429", "openai_error"),
        failed(r#"{"status_code":"503","error_type":"made up by an upstream"}"#, "503", "other"),
        failed(r#"{"status_code":500.0}"#, "500", "other"),
        failed(r#"{"error_type":"claude_error","status_code":null}"#, "unknown", "claude_error"),
        failed("{}", "unknown", "other"),
    ];
    for kind in ["new_api", "gemini", "upstream", "midjourney", "rerank"] {
        let other = format!(r#"{{"error_type":"{kind}_error","status_code":400}}"#);
        cases.push(failed(&other, "400", &format!("{kind}_error")));
    }
    for impossible in ["9999", "-1", "0", "\"x\"", "[]"] {
        let (what, row, gain) = failed(&format!(r#"{{"status_code":{impossible}}}"#), "unknown", "other");
        cases.push((what, row, gain.defect("other_wrong_type")));
    }
    // Money on an error row is nobody's.
    cases.push(changed("{}", |row| row.kind = 5, Gain::row("5").error("unknown", "other")));
    each_changes_the_page_as_said(cases).await;
}

#[tokio::test]
async fn other_types_are_counted_by_type_only() {
    let kinds =
        [(1, "1"), (3, "3"), (4, "4"), (7, "7"), (0, "0"), (8, "other"), (99, "other"), (-1, "other")];
    let cases = kinds.map(|(kind, label)| {
        let change = |row: &mut LogRow| (row.kind, row.other) = (kind, Some("not JSON".into()));
        changed("", change, Gain::row(label))
    });
    each_changes_the_page_as_said(cases.into()).await;
}

#[tokio::test]
async fn a_row_whose_other_is_hostile_is_counted_from_its_columns() {
    let plain = || Gain::request([100, 20, 0, 0]);
    let not_json = |other: &str| case(other, plain().defect("other_not_json"));
    let wrong = |other: &str| case(other, plain().defect("other_wrong_type"));
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    let megabyte = "a".repeat(1 << 20);
    let cases = vec![
        changed("", |row| row.other = None, plain().defect("other_empty")),
        case("", plain().defect("other_empty")),
        case(" \n\t", plain().defect("other_empty")),
        not_json("not JSON"),
        not_json("[]"),
        not_json("null"),
        not_json("7"),
        not_json("{"),
        not_json("{} {}"),
        not_json(r#"{"cache_tokens":64,}"#),
        not_json(&open),
        not_json(&format!("{open}{close}")),
        not_json(&format!(r#"{{"cache_tokens":64,"deep":{open}"#)),
        case(&format!(r#"{{"deep":{open}{close},"cache_tokens":64}}"#), Gain::request([100, 20, 64, 0])),
        not_json(&megabyte),
        case(&format!(r#"{{"{megabyte}":"{megabyte}","cache_tokens":64}}"#), Gain::request([100, 20, 64, 0])),
        not_json(&format!(r#"{{"a":"{NUL}"}}"#)),
        not_json(&format!("{{}}{NUL}")),
        case(r#"{"a\u0000":"\u0000","cache_tokens":64}"#, Gain::request([100, 20, 64, 0])),
        not_json(r#"{"frt":1e999}"#),
        wrong(r#"{"cache_tokens":"many"}"#),
        wrong(r#"{"cache_tokens":-5,"cache_creation_tokens":1e300}"#),
        wrong(r#"{"input_tokens_total":99999999999999999999999999}"#),
        wrong(r#"{"cache_tokens":[64],"claude":{},"frt":"soon","stream_status":7,"task_id":[]}"#),
        wrong(r#"{"admin_info":"none","is_task":"perhaps","violation_fee":3}"#),
        wrong(r#"{"admin_info":{"use_channel":["x",{}]}}"#),
        // What is right beside what is wrong still counts.
        case(
            r#"{"claude":[],"cache_tokens":64}"#,
            Gain::request([100, 20, 64, 0]).defect("other_wrong_type"),
        ),
    ];
    each_changes_the_page_as_said(cases).await;
}

#[tokio::test]
async fn columns_with_impossible_numbers_and_strange_names_do_no_harm() {
    let model = |name: &str| {
        let gain = Gain::row("2").on(1, name).outcome("success", false).tokens([100, 20, 0, 0]);
        (name.to_owned(), gain.money(1000.0, 0.0).time(1.0, false))
    };
    let named = |name: &str| {
        let (name, gain) = model(name);
        changed("{}", |row| row.model_name = name, gain)
    };
    let long = "m".repeat(2000);
    let (_, as_other) = model("_other");
    let on_77 = |input| Gain::row("2").on(77, "gpt-4o").outcome("success", false).tokens([input, 20, 0, 0]);
    each_changes_the_page_as_said(vec![
        named("a \"quoted\" \\ model\nof two lines"),
        named(""),
        named("模型, {a=\"b\"} 1"),
        changed("{}", |row| row.model_name = long, as_other),
        changed(
            "{}",
            |row| (row.prompt_tokens, row.channel_id) = (-5, 77),
            on_77(0).money(1000.0, 0.0).time(1.0, false).defect("bad_column"),
        ),
        changed(
            "{}",
            |row| (row.use_time, row.channel_id) = (-3, 77),
            on_77(100).money(1000.0, 0.0).time(0.0, false).defect("bad_column"),
        ),
        changed(
            "{}",
            |row| (row.quota, row.channel_id) = (i64::MAX, 77),
            on_77(100).money(9_223_372_036_854_775_807.0, 0.0).time(1.0, false),
        ),
    ])
    .await;
}
