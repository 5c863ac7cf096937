//! What holds for any row, however wrong it is.

use proptest::prelude::*;
use utoipa::OpenApi;

use super::tests::{World, consumed};
use super::*;

/// JSON values, numbers of every size among them.
fn value() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        (-3..5000_i64).prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has none", |n| n.is_finite()).prop_map(|n| format!("{n:?}")),
        Just("1e999".to_owned()),
        Just("99999999999999999999".to_owned()),
    ];
    let leaf = prop_oneof![
        4 => number,
        1 => Just("null".to_owned()),
        1 => any::<bool>().prop_map(|b| b.to_string()),
        2 => "[a-z0-9\\-\"\\\\密]{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[{}]", list.join(","))),
            prop::collection::vec((name(), inner), 0..4).prop_map(object),
        ]
    })
}

fn object(fields: Vec<(String, String)>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn name() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "model_ratio",
        "group_ratio",
        "completion_ratio",
        "cache_ratio",
        "cache_tokens",
        "model_price",
        "frt",
        "user_group_ratio",
        "cache_creation_tokens",
        "cache_creation_ratio",
        "cache_creation_tokens_5m",
        "cache_creation_ratio_5m",
        "cache_creation_tokens_1h",
        "cache_creation_ratio_1h",
        "cache_write_tokens",
        "input_tokens_total",
        "claude",
        "image_ratio",
        "image_output",
        "audio",
        "ws",
        "audio_input",
        "audio_output",
        "text_input",
        "text_output",
        "audio_ratio",
        "audio_completion_ratio",
        "audio_input_price",
        "audio_input_token_count",
        "web_search_price",
        "web_search_call_count",
        "tool_surcharges",
        "price",
        "count",
        "name",
        "is_task",
        "task_id",
        "seconds",
        "violation_fee",
        "stream_status",
        "admin_info",
        "use_channel",
        "status_code",
        "billing_mode",
        "key",
    ];
    prop::sample::select(NAMES).prop_map(str::to_owned)
}

fn entry() -> impl Strategy<Value = Entry> {
    let numbers = || prop_oneof![3 => -2..20_000_i64, 1 => any::<i64>()];
    // Half of the rows have what a price needs.
    let priced = prop::option::of((0.0..40.0_f64, 0.0..9.0_f64, 0.0..3.0_f64));
    let other = (priced, prop::collection::vec((name(), value()), 0..14)).prop_map(|(priced, mut fields)| {
        if let Some((model, completion, group)) = priced {
            for (name, value) in
                [("model_ratio", model), ("completion_ratio", completion), ("group_ratio", group)]
            {
                fields.push((name.to_owned(), format!("{value:?}")));
            }
        }
        object(fields)
    });
    let text = prop_oneof![Just(String::new()), ".{0,30}", Just("生成数量 3".to_owned())];
    (
        (-1..9_i64, any::<bool>(), any::<bool>(), text),
        (numbers(), numbers(), numbers(), numbers(), numbers()),
        other,
    )
        .prop_map(
            |((kind, stream, one_api, content), (quota, prompt, completion, duration, at), other)| Entry {
                kind: if kind > 7 { 2 } else { kind },
                stream,
                one_api: one_api && kind == 5,
                content,
                quota,
                prompt_tokens: prompt,
                completion_tokens: completion,
                duration_ms: duration,
                created_at: at,
                ..consumed(&other)
            },
        )
}

fn assert_sums_up(entry: &Entry) {
    let detail = World::new().detail(entry, std::slice::from_ref(entry), Bodies::NotConfigured);
    let tokens: u64 = detail.tokens.parts.iter().map(|part| part.tokens).fold(0, u64::saturating_add);
    assert_eq!(tokens, detail.tokens.total);
    let cost = &detail.cost;
    let sum: f64 = cost.parts.iter().map(|part| part.cost_usd).sum();
    let total = cost.recomputed_usd.unwrap_or(cost.cost_usd);
    let size = cost.parts.iter().map(|part| part.cost_usd.abs()).fold(1.0, f64::max);
    assert!((sum - total).abs() <= size * 1e-9, "{sum} is not {total}: {cost:?}");
    let text = serde_json::to_string(&detail).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    for text in [&detail.request_text, &detail.response_text] {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
    }
}

proptest! {
    #[test]
    fn parts_sum_up_whatever_a_row_holds(entry in entry()) {
        assert_sums_up(&entry);
    }

    #[test]
    fn no_text_as_other_or_body_breaks_a_detail(other in ".{0,200}", body in prop::collection::vec(any::<u8>(), 0..200)) {
        let source = Preset::find("kill136").unwrap().source().unwrap();
        let bodies = Bodies::Stored { source, request: body, response: other.clone().into_bytes() };
        let detail = World::new().detail(&consumed(&other), &[], bodies);
        let text = serde_json::to_string(&detail).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn masking_keeps_json_json(value in value()) {
        let copy = json::clean(&value).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(copy.get()).is_ok(), "{}", copy);
        let lines = json::laid_out(copy.get());
        let again = json::clean(&lines).unwrap();
        let once = json::clean(copy.get()).unwrap();
        prop_assert_eq!(again.get(), once.get());
    }
}

#[derive(OpenApi)]
#[openapi(components(schemas(LogDetail, RequestStory)))]
struct Api;

#[test]
fn every_field_is_described() {
    let api = serde_json::to_value(Api::openapi()).unwrap();
    let schemas = api["components"]["schemas"].as_object().unwrap();
    let mut fields = 0;
    for (name, schema) in schemas {
        let own = schema["properties"].as_object().into_iter().flatten();
        let all = schema["allOf"].as_array().into_iter().flatten();
        let flattened = all.filter_map(|part| part["properties"].as_object()).flatten();
        for (field, about) in own.chain(flattened) {
            let one_of = about["oneOf"].as_array().and_then(|choices| choices.first());
            let about = one_of.unwrap_or(about);
            assert!(about["description"].is_string(), "{name}.{field}: {about}");
            fields += 1;
        }
    }
    assert!(fields > 80, "{fields} fields in {:?}", schemas.keys().collect::<Vec<_>>());
}
