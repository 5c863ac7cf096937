//! Details of every kind of row, the whole of them as golden files.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::newapi::directory::Channel;
use crate::record::ChannelId;
use crate::record::RowOutcome;

const REQUEST_ID: &str = "20261123053419123456789a1b2c3d4Xy7Qk2Lm";

/// An installation with three channels, one of them deleted.
pub(super) struct World {
    channels: BTreeMap<ChannelId, Channel>,
    names: BTreeMap<ChannelId, String>,
}

impl World {
    pub fn new() -> Self {
        let channel = |name: &str, kind, status| Channel {
            name: name.into(),
            kind,
            status,
            group: "default,vip".into(),
            tag: if kind == 3 { "azure".into() } else { String::new() },
            ..Channel::default()
        };
        let channels = [(9, channel("azure-eu", 3, 3)), (12, channel("openai-main", 1, 1))];
        let names = [(9, "azure-eu"), (12, "openai-main"), (4, "claude-gone")];
        Self {
            channels: channels.into(),
            names: names.into_iter().map(|(id, name)| (id, name.to_owned())).collect(),
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            channels: Some(&self.channels),
            channel_names: &self.names,
            quota_per_unit: 500_000.0,
            slow_over_seconds: 5.0,
        }
    }

    pub fn detail(&self, entry: &Entry, siblings: &[Entry], bodies: Bodies) -> LogDetail {
        let siblings: Vec<Trial> = siblings.iter().map(Trial::new).collect();
        LogDetail::new(entry, &Surroundings { context: self.context(), siblings: &siblings, bodies })
    }

    fn story(&self, entries: &[Entry]) -> Option<RequestStory> {
        let row = |entry: &Entry| (Trial::new(entry), LogRow::new(entry, &self.context()));
        RequestStory::new(entries.iter().map(row).collect(), &self.context())
    }
}

/// A row of a request for gpt-4o.
pub(super) fn consumed(other: &str) -> Entry {
    Entry {
        id: 1041,
        created_at: 1_795_412_066,
        kind: 2,
        user_id: 3,
        username: "alice".into(),
        token_id: 5,
        token_name: "batch".into(),
        channel_id: 12,
        model: "gpt-4o".into(),
        group: "default".into(),
        other: other.to_owned(),
        request_id: REQUEST_ID.into(),
        ..Entry::default()
    }
}

fn failed(id: i64, channel_id: ChannelId, status: u16, tried: &str) -> Entry {
    let other = format!(
        r#"{{"admin_info":{{"use_channel":{tried}}},"channel_id":{channel_id},"channel_name":"azure-eu","channel_type":3,"error_code":"rate_limit_exceeded","error_type":"openai_error","request_path":"/v1/chat/completions","status_code":{status}}}"#
    );
    Entry {
        id,
        created_at: 1_795_412_060,
        kind: 5,
        channel_id,
        duration_ms: 1000,
        stream: true,
        content: format!("status_code={status}, Rate limit reached for sk-proj-0123456789abcdef"),
        ..consumed(&other)
    }
}

/// Answered by the third attempt: channel 9 was tried twice before.
fn retried() -> Entry {
    Entry {
        quota: 2116,
        prompt_tokens: 1203,
        completion_tokens: 211,
        duration_ms: 7000,
        stream: true,
        upstream_request_id: "req_0123".into(),
        ip: "10.1.2.3".into(),
        ..consumed(
            r#"{"admin_info":{"usage_billing_path":"upstream","use_channel":["9","9","12"]},"billing_source":"wallet","cache_ratio":0.5,"cache_tokens":512,"completion_ratio":4,"frt":4812,"group_ratio":0.945,"model_price":-1,"model_ratio":1.25,"request_conversion":["OpenAI Compatible"],"request_path":"/v1/chat/completions","stream_status":{"end_reason":"done","status":"ok"},"user_group_ratio":-1}"#,
        )
    }
}

/// Compares a value with its golden file, or writes that if `UPDATE_GOLDEN` is set.
fn assert_golden<T: Serialize>(name: &str, value: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/detail/golden").join(format!("{name}.json"));
    let actual = exchange::shown(value) + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let pairs = golden.lines().zip(actual.lines()).enumerate();
    let first = pairs.into_iter().find(|(_, (golden, actual))| golden != actual);
    assert!(
        golden == actual,
        "{name}.json differs from line {first:?} on (UPDATE_GOLDEN=1 accepts)\n{actual}"
    );
}

#[test]
fn a_request_answered_by_the_third_attempt() {
    let siblings = [failed(1040, 9, 503, r#"["9","9"]"#), failed(1039, 9, 429, r#"["9"]"#)];
    let detail = World::new().detail(&retried(), &siblings, Bodies::NotConfigured);
    assert_golden("retried", &detail);
}

#[test]
fn a_failed_attempt_on_a_channel_that_is_disabled_now() {
    let entry = failed(1039, 9, 429, r#"["9"]"#);
    let siblings = [retried(), failed(1040, 9, 503, r#"["9","9"]"#), entry.clone()];
    assert_golden("failed_attempt", &World::new().detail(&entry, &siblings, Bodies::NotConfigured));
}

#[test]
fn an_anthropic_answer_with_its_cache_on_a_deleted_channel() {
    let entry = Entry {
        channel_id: 4,
        model: "claude-sonnet-4-5".into(),
        quota: 10_170,
        prompt_tokens: 1000,
        completion_tokens: 40,
        duration_ms: 3000,
        ..consumed(
            r#"{"admin_info":{"use_channel":["4"]},"cache_creation_ratio":1.25,"cache_creation_ratio_1h":2,"cache_creation_ratio_5m":1.25,"cache_creation_tokens":3000,"cache_creation_tokens_1h":1000,"cache_creation_tokens_5m":2000,"cache_ratio":0.1,"cache_tokens":10800,"cache_write_tokens":3000,"claude":true,"completion_ratio":5,"frt":-1000,"group_ratio":1,"model_price":-1,"model_ratio":1.5,"request_path":"/v1/messages","usage_semantic":"anthropic","user_group_ratio":-1}"#,
        )
    };
    assert_golden("anthropic_cache", &World::new().detail(&entry, &[], Bodies::NotConfigured));
}

#[test]
fn two_images_at_a_fixed_price() {
    let entry = Entry {
        model: "dall-e-3".into(),
        quota: 32_000,
        prompt_tokens: 1,
        duration_ms: 12_000,
        content: "大小 1024x1024, 品质 standard, 生成数量 2".into(),
        ..consumed(
            r#"{"admin_info":{"use_channel":["12"]},"cache_ratio":0,"cache_tokens":0,"completion_ratio":0,"frt":-1000,"group_ratio":1,"model_price":0.04,"model_ratio":0,"request_path":"/v1/images/generations","user_group_ratio":0.8}"#,
        )
    };
    assert_golden("fixed_price", &World::new().detail(&entry, &[], Bodies::NotConfigured));
}

#[test]
fn what_a_task_costs_later_and_gives_back() {
    let world = World::new();
    let other = r#"{"actual_quota":480000,"group_ratio":1,"model_price":0.1,"pre_consumed_quota":400000,"seconds":8,"task_id":"task_abc"}"#;
    let settled = Entry { model: "sora-2".into(), quota: 80_000, ..consumed(other) };
    assert_golden("task_settlement", &world.detail(&settled, &[], Bodies::NotConfigured));
    let other = r#"{"group_ratio":1,"model_price":0.1,"reason":"task failed","task_id":"task_abc"}"#;
    let refund = Entry { kind: 6, model: "sora-2".into(), quota: 400_000, ..consumed(other) };
    assert_golden("refund", &world.detail(&refund, &[], Bodies::NotConfigured));
}

#[test]
fn a_test_of_a_channel() {
    let entry = Entry {
        token_id: 0,
        token_name: crate::record::CHANNEL_TEST_TOKEN.into(),
        content: crate::record::CHANNEL_TEST_TOKEN.into(),
        username: "root".into(),
        quota: 63,
        prompt_tokens: 10,
        completion_tokens: 10,
        duration_ms: 1000,
        ..consumed(
            r#"{"cache_ratio":0.5,"cache_tokens":4,"completion_ratio":4,"frt":-1000,"group_ratio":2,"model_price":-1,"model_ratio":1.25}"#,
        )
    };
    assert_golden("channel_test", &World::new().detail(&entry, &[], Bodies::NotConfigured));
}

#[test]
fn a_row_whose_other_is_cut_off() {
    let entry =
        Entry { quota: 87, prompt_tokens: 1000, completion_tokens: 40, ..consumed(r#"{"model_ratio":0.0"#) };
    assert_golden("broken_other", &World::new().detail(&entry, &[], Bodies::NotConfigured));
}

#[test]
fn a_row_of_one_api() {
    let entry = Entry {
        one_api: true,
        quota: 15,
        prompt_tokens: 10,
        completion_tokens: 5,
        duration_ms: 812,
        content: "倍率：1.00 × 1.00 × 1.00".into(),
        ..consumed("")
    };
    assert_golden("one_api", &World::new().detail(&entry, &[], Bodies::NotConfigured));
}

#[test]
fn a_request_with_its_bodies_in_their_order() {
    let bodies = Bodies::Stored {
        source: Preset::find("kill136").unwrap().source().unwrap(),
        request: br#"{"model": "gpt-4o", "api_key": "0123456789", "temperature": 0.10, "messages": [{"role": "user", "content": "hi"}]}"#.to_vec(),
        response: b"data: {\"choices\":[]}\n\ndata: [DONE]\n".to_vec(),
    };
    assert_golden("bodies", &World::new().detail(&retried(), &[], bodies));
}

#[test]
fn the_story_of_a_request() {
    let world = World::new();
    let entries = [retried(), failed(1040, 9, 503, r#"["9","9"]"#), failed(1039, 9, 429, r#"["9"]"#)];
    assert_golden("story", &world.story(&entries).unwrap());
    let story = world.story(&entries[1..]).unwrap();
    assert_eq!((story.outcome, story.totals.quota), (RowOutcome::Error, 0));
    assert_eq!(world.story(&[]), None);
}

#[test]
fn attempts_without_rows_are_known_to_have_failed() {
    let attempts = |entry: &Entry, siblings: &[Entry]| {
        World::new().detail(entry, siblings, Bodies::NotConfigured).timing.attempts
    };
    let errors = |attempts: &[Attempt]| {
        attempts.iter().map(|attempt| (attempt.channel_id, attempt.error.is_some())).collect::<Vec<_>>()
    };
    let alone = attempts(&retried(), &[]);
    assert_eq!(errors(&alone), [(9, true), (9, true), (12, false)]);
    assert!(alone[0].error.as_ref().unwrap().contains("ERROR_LOG_ENABLED"));
    // The second attempt's row goes to the second attempt, though the channel is the same.
    let second = attempts(&retried(), &[failed(1040, 9, 503, r#"["9","9"]"#)]);
    assert_eq!([second[0].status_code, second[1].status_code], [None, Some(503)]);
    let old = Entry { request_id: String::new(), ..retried() };
    assert!(
        attempts(&old, &[failed(1, 9, 500, r#"["9"]"#)])[0].error.as_ref().unwrap().contains("this version")
    );
    // Rows without a list are told apart by their times.
    let bare = Entry { other: String::new(), created_at: 1_795_412_061, ..failed(1038, 9, 500, "[]") };
    let answer = Entry { other: "{}".into(), ..retried() };
    let listed = attempts(&answer, &[failed(1040, 4, 503, "[]"), bare]);
    assert_eq!(errors(&listed), [(4, true), (9, true), (12, false)]);
    // A row of another request is none of this one's.
    let foreign = Entry { request_id: "other".into(), ..failed(1, 9, 500, r#"["9"]"#) };
    assert_eq!(attempts(&retried(), &[foreign])[0].status_code, None);
}

#[test]
fn every_type_of_row_has_a_detail() {
    let world = World::new();
    let outcomes: Vec<_> = (-1..=9)
        .map(|kind| {
            let entry = Entry { kind, content: "text".into(), other: String::new(), ..retried() };
            let detail = world.detail(&entry, &[], Bodies::NotConfigured);
            assert!(detail.cost.recomputed_usd.is_none() && detail.cost.note.is_some());
            assert_eq!(detail.other_error.is_some(), matches!(kind, 2 | 5 | 6), "{kind}");
            (detail.row.type_name, serde_json::to_value(detail.row.outcome).unwrap())
        })
        .collect();
    let wanted = [
        ("unknown", "other"),
        ("unknown", "other"),
        ("topup", "other"),
        ("consume", "success"),
        ("manage", "other"),
        ("system", "other"),
        ("error", "error"),
        ("refund", "refund"),
        ("login", "other"),
        ("unknown", "other"),
        ("unknown", "other"),
    ];
    assert_eq!(outcomes, wanted.map(|(name, outcome)| (name, serde_json::json!(outcome))));
    let test = Entry { kind: 5, one_api: true, ..retried() };
    assert_eq!(LogRow::new(&test, &world.context()).type_name, "test");
}

#[test]
fn broken_streams_say_how_they_ended() {
    let row = |status: &str| {
        let entry = Entry { stream: true, ..consumed(&format!(r#"{{"stream_status":{status}}}"#)) };
        let row = LogRow::new(&entry, &World::new().context());
        (row.outcome, row.error)
    };
    assert_eq!(
        row(r#"{"status":"error","end_reason":"client_gone","end_error":"context canceled"}"#),
        (RowOutcome::ClientGone, Some("client_gone: context canceled".into()))
    );
    assert_eq!(
        row(r#"{"status":"error","end_reason":"timeout"}"#),
        (RowOutcome::StreamError, Some("timeout".into()))
    );
    assert_eq!(row(r#"{"status":"ok","end_reason":"eof"}"#), (RowOutcome::Success, None));
}

#[test]
fn no_credential_is_shown_anywhere() {
    let leaks = "sk-live-0123456789abcdef";
    let other = format!(
        r#"{{"admin_info":{{"use_channel":["12"],"headers":{{"Authorization":"Basic 0123456789abcdef"}}}},"request_path":"/v1/{leaks}","reject_reason":"{leaks}","billing_mode":"{leaks}","error_code":"{leaks}","stream_status":{{"status":"error","end_reason":"eof","end_error":"{leaks}","errors":["{leaks}"]}}}}"#
    );
    let bodies = Bodies::Stored {
        source: Preset::find("kill136").unwrap().source().unwrap(),
        request: format!(r#"{{"a":"{leaks}","password":"0123456789abcdef"}}"#).into_bytes(),
        response: format!("data: {leaks}, Bearer 0123456789abcdef").into_bytes(),
    };
    let entry = Entry {
        stream: true,
        content: format!("status_code=401, {leaks}"),
        model: leaks.into(),
        token_name: leaks.into(),
        ..consumed(&other)
    };
    let world = World::new();
    for kind in [2, 5, 3] {
        let entry = Entry { kind, ..entry.clone() };
        let text = serde_json::to_string(&world.detail(&entry, &[], bodies.clone())).unwrap();
        assert!(!text.contains("0123456789") && text.contains("sk-***"), "{text}");
    }
}

#[test]
fn large_and_deep_others_are_no_trouble() {
    let world = World::new();
    let deep = format!(
        r#"{{"deep":{}{},"model_ratio":2,"group_ratio":1,"completion_ratio":1}}"#,
        "[".repeat(400_000),
        "]".repeat(400_000)
    );
    let entry = Entry { prompt_tokens: 10, quota: 20, ..consumed(&deep) };
    let detail = world.detail(&entry, &[], Bodies::NotConfigured);
    assert!(detail.other.is_none() && detail.other_error.unwrap().contains("levels"));
    assert_eq!(detail.cost.difference_usd, Some(0.0));
    let wide = format!(r#"{{"list":[{}0]}}"#, "1234567890123456789012345,".repeat(40_000));
    let detail = world.detail(&consumed(&wide), &[], Bodies::NotConfigured);
    assert_eq!(detail.other.unwrap().get(), wide);
    let huge = format!(r#"{{"a":"{}"}}"#, "x".repeat(MAX_OTHER));
    let detail = world.detail(&consumed(&huge), &[], Bodies::NotConfigured);
    assert_eq!(detail.other_error.as_deref(), Some("longer than 4 MiB"));
}

#[test]
fn a_channel_is_deleted_only_if_the_others_are_known() {
    let world = World::new();
    let entry = Entry { channel_id: 4, ..consumed("{}") };
    let state = |context: Context<'_>| {
        let surroundings = Surroundings { context, siblings: &[], bodies: Bodies::NotConfigured };
        LogDetail::new(&entry, &surroundings).channel.unwrap().status
    };
    assert_eq!(state(world.context()), ChannelStatus::Deleted);
    assert_eq!(state(Context { channels: None, ..world.context() }), ChannelStatus::Unknown);
    let none = Entry { channel_id: 0, ..consumed("{}") };
    assert_eq!(world.detail(&none, &[], Bodies::NotConfigured).channel, None);
}
