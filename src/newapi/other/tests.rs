//! That every shape of `other` that a version wrote is read, and that hostile ones fail nothing.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// v0.6.3.1.1, a stream that was answered: no `stream_status`, no `user_group_ratio`.
const V0_6_STREAM: &str = r#"{"admin_info":{"use_channel":["2"]},"cache_ratio":0.5,"cache_tokens":0,"completion_ratio":4,"frt":41,"group_ratio":1,"model_price":-1,"model_ratio":0.075}"#;
/// v0.9.28, a request through a channel that holds several keys.
const V0_9_MULTI_KEY: &str = r#"{"admin_info":{"is_multi_key":true,"multi_key_index":2,"use_channel":["3"]},"cache_ratio":0.5,"cache_tokens":0,"completion_ratio":4,"frt":-1000,"group_ratio":1,"model_price":-1,"model_ratio":0.075,"user_group_ratio":-1}"#;
/// v0.9.28, a failed attempt; the gateway's own error.
const V0_9_ERROR: &str = r#"{"admin_info":{"use_channel":["6"]},"channel_id":6,"channel_name":"ch-dead","channel_type":1,"error_code":"do_request_failed","error_type":"new_api_error","status_code":500}"#;
/// v0.11.9, a stream that was counted locally because the upstream cut it.
const V0_11_EOF: &str = r#"{"admin_info":{"local_count_tokens":true,"use_channel":["2"]},"billing_source":"wallet","cache_ratio":1,"cache_tokens":0,"completion_ratio":1,"frt":37,"group_ratio":1,"model_price":-1,"model_ratio":37.5,"request_conversion":["OpenAI Compatible"],"request_path":"/v1/chat/completions","stream_status":{"end_reason":"eof","status":"ok"},"user_group_ratio":-1}"#;
/// v0.13.2, a mapped model.
const V0_13_MAPPED: &str = r#"{"admin_info":{"use_channel":["5"]},"billing_source":"wallet","cache_ratio":1,"cache_tokens":0,"completion_ratio":1,"frt":30,"group_ratio":1,"is_model_mapped":true,"model_price":-1,"model_ratio":37.5,"request_conversion":["OpenAI Compatible"],"request_path":"/v1/chat/completions","stream_status":{"end_reason":"done","status":"ok"},"upstream_model_name":"small-model","user_group_ratio":-1}"#;
/// v0.13.2, a stream whose client left.
const V0_13_CLIENT_GONE: &str = r#"{"admin_info":{"use_channel":["1"]},"cache_tokens":0,"frt":52,"group_ratio":1,"stream_status":{"end_error":"context canceled","end_reason":"client_gone","error_count":1,"errors":["context canceled"],"status":"error"},"user_group_ratio":-1}"#;
/// v0.13.2, Claude through the OpenAI interface.
const V0_13_CLAUDE: &str = r#"{"admin_info":{"use_channel":["4"]},"billing_source":"wallet","cache_creation_ratio":1.25,"cache_creation_tokens":300,"cache_ratio":0.1,"cache_tokens":700,"claude":true,"completion_ratio":5,"frt":-1000,"group_ratio":1,"model_price":-1,"model_ratio":1.5,"request_conversion":["OpenAI Compatible","Claude Messages"],"request_path":"/v1/chat/completions","usage_semantic":"anthropic","user_group_ratio":-1}"#;
/// v1.0.0-rc.15, a failed attempt, with the channel's name.
const RC15_ERROR: &str = r#"{"admin_info":{"use_channel":["1"]},"channel_id":1,"channel_name":"azure-eu","channel_type":1,"error_code":"rate_limit_exceeded","error_type":"openai_error","request_path":"/v1/chat/completions","status_code":429}"#;
/// v1.0.0-rc.24, a request that was answered by the second channel.
const RC24_RETRIED: &str = r#"{"admin_info":{"usage_billing_path":"upstream","use_channel":["9","12"]},"billing_preference":"subscription_first","billing_source":"wallet","cache_ratio":0.5,"cache_tokens":512,"completion_ratio":4,"frt":812,"group_ratio":1,"model_price":-1,"model_ratio":1.25,"request_conversion":["OpenAI Compatible"],"request_path":"/v1/chat/completions","stream_status":{"end_reason":"done","status":"ok"},"user_group_ratio":-1}"#;
/// v1.0.0-rc.24, a stream of Claude's with the normalised cache writes, of two lifetimes.
const RC24_CLAUDE: &str = r#"{"admin_info":{"is_multi_key":true,"multi_key_index":0,"usage_billing_path":"billing-usage-anthropic","use_channel":["3"]},"cache_creation_ratio":1.25,"cache_creation_ratio_5m":1.25,"cache_creation_tokens":2048,"cache_creation_tokens_5m":2000,"cache_creation_tokens_1h":48,"cache_ratio":0.1,"cache_tokens":10240,"cache_write_tokens":2048,"claude":true,"completion_ratio":5,"frt":53,"input_tokens_total":13000,"group_ratio":1,"model_price":-1,"model_ratio":1.5,"request_path":"/v1/messages","stream_status":{"end_reason":"eof","status":"ok"},"usage_semantic":"anthropic","user_group_ratio":-1}"#;
/// rc.3x and later, a failed attempt: nothing about the channel, and objects that older versions lack.
const RC3X_ERROR: &str = r#"{"admin_info":{"billing_model":"m","request_policy":[],"use_channel":["9"]},"error_code":null,"error_type":"upstream_error","request_path":"/v1/messages","response_model":{"name":"m"},"root_info":{"a":{"b":[1]}},"status_code":503}"#;
/// rc.20 and later, an administrator's own action.
const RC20_ADMIN: &str = r#"{"admin_info":{"admin_id":1,"admin_role":100,"admin_username":"root","auth_method":"access_token"},"op":{"action":"option.update","params":{"key":"RetryTimes"}}}"#;
/// rc.20 and later, a login.
const RC20_LOGIN: &str = r#"{"login_method":"password","op":{"action":"login","params":{"method":"password"}},"user_agent":"curl/8"}"#;
/// A task's submission, which is a request.
const TASK_SUBMITTED: &str = r#"{"admin_info":{"use_channel":["7"]},"group_ratio":1,"is_task":true,"model_price":0.5,"request_path":"/v1/videos","seconds":8,"task_id":"task_abc"}"#;
/// A task's refund.
const TASK_REFUND: &str =
    r#"{"group_ratio":1,"model_price":0.5,"reason":"task failed","task_id":"task_abc"}"#;
/// A fee for a refused request.
const VIOLATION: &str = r#"{"fee_quota":25000,"status_code":403,"upstream_error_type":"x","violation_fee":true,"violation_fee_code":"c"}"#;

const OK: Option<StreamStatus> = Some(StreamStatus { client_gone: false, error: false });

#[test]
fn rows_of_every_known_version_are_read() {
    let error = |status, kind, name: Option<&str>, channel| Other {
        status_code: Some(status),
        error_type: Some(kind),
        channel_name: name.map(str::to_owned),
        use_channel: std::iter::once(channel).collect(),
        ..Other::default()
    };
    let request = |cache, frt, stream_status, channels: &[i64]| Other {
        cache_read_tokens: Some(cache),
        first_response_ms: Some(frt),
        stream_status,
        use_channel: channels.into(),
        ..Other::default()
    };
    let gone = Some(StreamStatus { client_gone: true, error: true });
    let claude = Other {
        cache_write_tokens: Some(2048),
        input_tokens_total: Some(13000),
        anthropic: true,
        multi_key_index: Some(0),
        ..request(10240, 53.0, OK, &[3])
    };
    let old_claude =
        Other { cache_write_tokens: Some(300), anthropic: true, ..request(700, -1000.0, None, &[4]) };
    let task = Other { has_task_id: true, ..Other::default() };
    let cases = [
        (V0_6_STREAM, request(0, 41.0, None, &[2])),
        (V0_9_MULTI_KEY, Other { multi_key_index: Some(2), ..request(0, -1000.0, None, &[3]) }),
        (V0_9_ERROR, error(500, ErrorType::NewApiError, Some("ch-dead"), 6)),
        (V0_11_EOF, request(0, 37.0, OK, &[2])),
        (V0_13_MAPPED, request(0, 30.0, OK, &[5])),
        (V0_13_CLIENT_GONE, request(0, 52.0, gone, &[1])),
        (V0_13_CLAUDE, old_claude),
        (RC15_ERROR, error(429, ErrorType::OpenaiError, Some("azure-eu"), 1)),
        (RC24_RETRIED, request(512, 812.0, OK, &[9, 12])),
        (RC24_CLAUDE, claude),
        (RC3X_ERROR, error(503, ErrorType::UpstreamError, None, 9)),
        (RC20_ADMIN, Other::default()),
        (RC20_LOGIN, Other::default()),
        (TASK_SUBMITTED, Other { is_task: true, use_channel: [7][..].into(), ..task.clone() }),
        (TASK_REFUND, task),
        (VIOLATION, Other { violation_fee: true, status_code: Some(403), ..Other::default() }),
        ("{}", Other::default()),
        (" {} \n", Other::default()),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text.as_bytes()), (expected, None), "{text}");
    }
}

/// The named field of what `text` parses to, through `get`, and whether its type was wrong.
fn field<T>(text: &str, get: impl Fn(&Other) -> T) -> (T, bool) {
    let (other, defect) = parse(text.as_bytes());
    assert!(matches!(defect, None | Some(Defect::OtherWrongType)), "{text}: {defect:?}");
    (get(&other), defect.is_some())
}

#[test]
fn numbers_may_be_floats_and_strings() {
    let cases = [
        ("0", Some(0), false),
        ("-0", Some(0), false),
        ("2048.0", Some(2048), false),
        ("2.048e3", Some(2048), false),
        (r#""2048""#, Some(2048), false),
        (r#""2048.0""#, Some(2048), false),
        (r#""20\u00348""#, Some(2048), false),
        ("9007199254740992", Some(1 << 53), false),
        ("null", None, false),
        ("9007199254740993", None, true),
        ("99999999999999999999", None, true),
        ("1e300", None, true),
        ("-1", None, true),
        ("-99999999999999999999", None, true),
        ("2048.5", None, true),
        (r#""""#, None, true),
        (r#"" 1""#, None, true),
        (r#""-1""#, None, true),
        (r#""NaN""#, None, true),
        (r#""inf""#, None, true),
        ("true", None, true),
        ("[1]", None, true),
        (r#"{"a":1}"#, None, true),
    ];
    for (value, expected, wrong) in cases {
        let text = format!(r#"{{"cache_tokens":{value},"frt":7}}"#);
        assert_eq!(field(&text, |other| other.cache_read_tokens), (expected, wrong), "{value}");
        assert_eq!(field(&text, |other| other.first_response_ms).0, Some(7.0), "{value}: the rest is kept");
    }
}

#[test]
fn first_response_is_any_finite_number() {
    let cases = [
        ("-1000", Some(-1000.0), false),
        ("812.25", Some(812.25), false),
        (r#""812""#, Some(812.0), false),
        (r#""fast""#, None, true),
        (r#""1e999""#, None, true),
        ("false", None, true),
    ];
    for (value, expected, wrong) in cases {
        let text = format!(r#"{{"frt":{value}}}"#);
        assert_eq!(field(&text, |other| other.first_response_ms), (expected, wrong), "{value}");
    }
}

#[test]
fn booleans_may_be_numbers_and_strings() {
    let cases = [
        ("true", true, false),
        ("1", true, false),
        ("1.0", true, false),
        (r#""true""#, true, false),
        (r#""1""#, true, false),
        ("false", false, false),
        ("0", false, false),
        (r#""false""#, false, false),
        ("null", false, false),
        ("2", false, true),
        (r#""yes""#, false, true),
        ("[]", false, true),
    ];
    for (value, expected, wrong) in cases {
        for key in ["claude", "is_task", "violation_fee"] {
            let text = format!(r#"{{"{key}":{value}}}"#);
            let get = |other: &Other| other.anthropic || other.is_task || other.violation_fee;
            assert_eq!(field(&text, get), (expected, wrong), "{text}");
        }
    }
}

#[test]
fn a_status_code_is_one_of_http() {
    let cases = [
        ("100", Some(100), false),
        ("599", Some(599), false),
        (r#""429""#, Some(429), false),
        ("99", None, true),
        ("600", None, true),
        ("65965", None, true),
        ("-1", None, true),
        (r#""teapot""#, None, true),
    ];
    for (value, expected, wrong) in cases {
        let text = format!(r#"{{"status_code":{value}}}"#);
        assert_eq!(field(&text, |other| other.status_code), (expected, wrong), "{value}");
    }
}

#[test]
fn cache_writes_come_from_the_best_field_there_is() {
    let cases = [
        (r#"{"cache_write_tokens":1,"cache_creation_tokens":2,"cache_creation_tokens_5m":4}"#, Some(1)),
        (r#"{"cache_write_tokens":0,"cache_creation_tokens":2}"#, Some(0)),
        (r#"{"cache_creation_tokens_1h":8,"cache_creation_tokens":2,"cache_creation_tokens_5m":4}"#, Some(2)),
        (r#"{"cache_creation_tokens_5m":4,"cache_creation_tokens_1h":8}"#, Some(12)),
        (r#"{"cache_creation_tokens_1h":8}"#, Some(8)),
        (r#"{"cache_write_tokens":"x","cache_creation_tokens":2}"#, Some(2)),
        (r#"{"cache_creation_ratio":1.25}"#, None),
    ];
    for (text, expected) in cases {
        assert_eq!(field(text, |other| other.cache_write_tokens).0, expected, "{text}");
    }
}

#[test]
fn either_sign_of_anthropic_counting_is_enough() {
    let cases = [
        (r#"{"claude":true}"#, true),
        (r#"{"usage_semantic":"anthropic"}"#, true),
        (r#"{"usage_semantic":"anthropic","claude":false}"#, true),
        (r#"{"usage_semantic":"openai"}"#, false),
    ];
    for (text, expected) in cases {
        assert_eq!(field(text, |other| other.anthropic), (expected, false), "{text}");
    }
}

#[test]
fn channels_are_ids_as_strings_or_numbers() {
    let cases = [
        (r#"["9","12","9"]"#, vec![9, 12, 9], false),
        (r#"[9,"12",3.0,null]"#, vec![9, 12, 3], false),
        (r#"["9","x",{"a":[]},[[]],true,"-4",""]"#, vec![9], true),
        ("[]", vec![], false),
        ("null", vec![], false),
        (r#""9""#, vec![], true),
        (r#"{"0":"9"}"#, vec![], true),
    ];
    for (value, expected, wrong) in cases {
        let text = format!(r#"{{"admin_info":{{"use_channel":{value},"multi_key_index":1}}}}"#);
        assert_eq!(field(&text, |other| other.use_channel.to_vec()), (expected, wrong), "{value}");
        assert_eq!(field(&text, |other| other.multi_key_index).0, Some(1), "{value}");
    }
    let text = format!(r#"{{"admin_info":{{"use_channel":[{}{{}}]}},"frt":1}}"#, r#""5","#.repeat(100_000));
    assert_eq!(field(&text, |other| other.use_channel.to_vec()), (vec![5; MAX_CHANNELS], false));
    assert_eq!(field(&text, |other| other.first_response_ms).0, Some(1.0));
}

#[test]
fn a_wrong_type_costs_its_own_field_only() {
    let keys = [
        "cache_tokens",
        "cache_write_tokens",
        "cache_creation_tokens",
        "cache_creation_tokens_5m",
        "cache_creation_tokens_1h",
        "input_tokens_total",
        "claude",
        "usage_semantic",
        "frt",
        "stream_status",
        "task_id",
        "is_task",
        "violation_fee",
        "status_code",
        "error_type",
        "channel_name",
        "admin_info",
    ];
    let after = r#""input_tokens_total":5"#;
    for key in keys {
        for wrong in ["[[1],{}]", r#"[{"x":2}]"#] {
            let text = format!(r#"{{"{key}":{wrong},{after}}}"#);
            let expected = Other { input_tokens_total: Some(5), ..Other::default() };
            assert_eq!(parse(text.as_bytes()), (expected, Some(Defect::OtherWrongType)), "{text}");
        }
        let text = format!(r#"{{"{key}":null,{after}}}"#);
        let expected = Other { input_tokens_total: Some(5), ..Other::default() };
        assert_eq!(parse(text.as_bytes()), (expected, None), "{text}");
    }
    for text in [
        r#"{"admin_info":"root"}"#,
        r#"{"admin_info":{"multi_key_index":-1}}"#,
        r#"{"admin_info":7}"#,
        r#"{"channel_name":7}"#,
        r#"{"error_type":{"a":1}}"#,
        r#"{"task_id":12}"#,
        r#"{"usage_semantic":true}"#,
    ] {
        assert_eq!(parse(text.as_bytes()), (Other::default(), Some(Defect::OtherWrongType)), "{text}");
    }
}

#[test]
fn a_stream_status_keeps_what_can_be_read_of_it() {
    let cases = [
        ("{}", OK, false),
        (r#"{"status":"ok","end_reason":"done"}"#, OK, false),
        (r#"{"status":"error"}"#, Some(StreamStatus { client_gone: false, error: true }), false),
        (
            r#"{"status":1,"end_reason":"client_gone","errors":[{}]}"#,
            Some(StreamStatus { client_gone: true, error: false }),
            true,
        ),
        (r#"{"status":null}"#, OK, false),
        (r#""ok""#, None, true),
    ];
    for (value, expected, wrong) in cases {
        let text = format!(r#"{{"stream_status":{value}}}"#);
        assert_eq!(field(&text, |other| other.stream_status), (expected, wrong), "{value}");
    }
}

#[test]
fn the_last_of_two_equal_keys_wins() {
    let text = r#"{"cache_tokens":1,"claude":true,"admin_info":{"use_channel":["1"],"multi_key_index":3},
        "cache_tokens":2,"claude":false,"admin_info":{"use_channel":["2"]}}"#;
    let expected = Other { cache_read_tokens: Some(2), use_channel: [2][..].into(), ..Other::default() };
    assert_eq!(parse(text.as_bytes()), (expected, None));
}

#[test]
fn escapes_in_keys_and_strings_are_undone() {
    let text = r#"{"\u0063ache_tokens":3,"channel_name":"a\"\u6d4b","error_type":"\u006fpenai_error"}"#;
    let expected = Other {
        cache_read_tokens: Some(3),
        channel_name: Some("a\"测".to_owned()),
        error_type: Some(ErrorType::OpenaiError),
        ..Other::default()
    };
    assert_eq!(parse(text.as_bytes()), (expected, None));
}

#[test]
fn nothing_is_known_from_text_that_is_empty_or_no_object() {
    for text in ["", " ", "\n\t \r"] {
        assert_eq!(parse(text.as_bytes()), (Other::default(), Some(Defect::OtherEmpty)), "{text:?}");
    }
    let cases: [&[u8]; 18] = [
        b"[]",
        b"null",
        b"1",
        b"\"{}\"",
        b"x",
        b"{",
        b"{\"cache_tokens\":1",
        b"{\"cache_tokens\":1}}",
        b"{\"cache_tokens\":1,}",
        b"{\"cache_tokens\":01}",
        b"{\"cache_tokens\":NaN}",
        b"{\"frt\":1e999}",
        b"{'cache_tokens':1}",
        b"{1:2}",
        b"\0",
        b"{\"cache_tokens\":1}\0",
        b"{\"channel_name\":\"\xff\xfe\"}",
        b"\xef\xbb\xbf{}",
    ];
    for text in cases {
        let expected = (Other::default(), Some(Defect::OtherNotJson));
        assert_eq!(parse(text), expected, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn depth_and_length_are_no_danger() {
    const LEVELS: usize = 100_000;
    let deep = "[".repeat(LEVELS) + &"]".repeat(LEVELS);
    let deep_objects = r#"{"a":"#.repeat(LEVELS) + "1" + &"}".repeat(LEVELS);
    let long = format!("\"{}\"", "9".repeat(1 << 20));
    let escaped = format!("\"\\n{}\"", "9".repeat(1 << 20));
    for hostile in [&deep, &deep_objects, &long, &escaped] {
        let (text, known) = (
            format!(r#"{{"unknown":{hostile},"frt":1}}"#),
            format!(
                r#"{{"cache_tokens":{hostile},"stream_status":{{"status":{hostile}}},
                "admin_info":{{"use_channel":[{hostile}],"multi_key_index":{hostile}}},"frt":1}}"#
            ),
        );
        assert_eq!(field(&text, |other| other.first_response_ms), (Some(1.0), false));
        assert_eq!(field(&known, |other| other.first_response_ms), (Some(1.0), true));
    }
    for key in ["unknown", "cache_tokens", "admin_info"] {
        let text = format!(r#"{{"{key}":{}"#, "[".repeat(LEVELS));
        assert_eq!(parse(text.as_bytes()), (Other::default(), Some(Defect::OtherNotJson)), "{key}");
    }
    assert_eq!(parse(deep.as_bytes()).1, Some(Defect::OtherNotJson));
}

/// `other` as new-api would write it.
fn to_json(other: &Other) -> Value {
    let mut json = json!({
        "cache_tokens": other.cache_read_tokens,
        "cache_write_tokens": other.cache_write_tokens,
        "input_tokens_total": other.input_tokens_total,
        "claude": other.anthropic,
        "frt": other.first_response_ms,
        "task_id": if other.has_task_id { "task_1" } else { "" },
        "is_task": other.is_task,
        "violation_fee": other.violation_fee,
        "status_code": other.status_code,
        "error_type": other.error_type.map(ErrorType::as_str),
        "channel_name": other.channel_name,
        "admin_info": {
            "use_channel": other.use_channel.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "multi_key_index": other.multi_key_index,
        },
    });
    if let Some(status) = other.stream_status {
        json["stream_status"] = json!({
            "status": if status.error { "error" } else { "ok" },
            "end_reason": if status.client_gone { "client_gone" } else { "done" },
        });
    }
    json
}

fn any_error_type() -> impl Strategy<Value = ErrorType> {
    prop::sample::select(vec![
        ErrorType::NewApiError,
        ErrorType::OpenaiError,
        ErrorType::ClaudeError,
        ErrorType::GeminiError,
        ErrorType::UpstreamError,
        ErrorType::MidjourneyError,
        ErrorType::RerankError,
        ErrorType::Other,
    ])
}

fn any_other() -> impl Strategy<Value = Other> {
    let tokens = || prop::option::of(0..=MAX_INTEGER);
    let float = prop::option::of(-1e300..1e300);
    let stream = prop::option::of(
        any::<(bool, bool)>().prop_map(|(client_gone, error)| StreamStatus { client_gone, error }),
    );
    let failure =
        (prop::option::of(100_u16..=599), prop::option::of(any_error_type()), prop::option::of(".+"));
    let channels = prop::collection::vec(0..1_000_000_i64, 0..=MAX_CHANNELS);
    let counts = (tokens(), tokens(), tokens(), float);
    let admin = (channels, prop::option::of(0..1000_i64));
    (counts, any::<(bool, bool, bool, bool)>(), stream, failure, admin).prop_map(
        |(counts, flags, stream_status, failure, admin)| Other {
            cache_read_tokens: counts.0,
            cache_write_tokens: counts.1,
            input_tokens_total: counts.2,
            first_response_ms: counts.3,
            anthropic: flags.0,
            has_task_id: flags.1,
            is_task: flags.2,
            violation_fee: flags.3,
            stream_status,
            status_code: failure.0,
            error_type: failure.1,
            channel_name: failure.2,
            use_channel: admin.0.into(),
            multi_key_index: admin.1,
        },
    )
}

/// Any JSON, with the names that are known among its keys and values.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "cache_tokens",
        "cache_creation_tokens_5m",
        "claude",
        "frt",
        "stream_status",
        "status",
        "end_reason",
        "task_id",
        "status_code",
        "error_type",
        "channel_name",
        "admin_info",
        "use_channel",
        "multi_key_index",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        let entry = (word.clone().prop_map(str::to_owned), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Value::from),
            prop::collection::vec(entry, 0..8)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Fails if the short way and the general one read `text` differently.
fn assert_both_agree(text: &[u8]) {
    if let Some(fields) = quick::parse(text) {
        assert_eq!(fields.finish(), parse_any(text), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn rows_as_new_api_writes_them_go_the_short_way() {
    for text in [
        V0_6_STREAM,
        V0_9_MULTI_KEY,
        V0_9_ERROR,
        V0_11_EOF,
        V0_13_MAPPED,
        V0_13_CLIENT_GONE,
        V0_13_CLAUDE,
        RC15_ERROR,
        RC24_RETRIED,
        RC24_CLAUDE,
        TASK_SUBMITTED,
        TASK_REFUND,
        VIOLATION,
        "{}",
    ] {
        assert!(quick::parse(text.as_bytes()).is_some(), "{text}");
        assert_both_agree(text.as_bytes());
    }
}

#[test]
fn what_is_unusual_is_left_to_the_general_way() {
    for text in [
        r#"{"cache_tokens":"5"}"#,
        r#"{"cache_tokens":5.0}"#,
        r#"{"cache_tokens":05}"#,
        r#"{"cache_tokens":-5}"#,
        r#"{"cache_tokens":9007199254740993}"#,
        r#"{"cache_\u0074okens":5}"#,
        r#"{"x":"a\"b"}"#,
        r#"{"x":01}"#,
        r#"{"x":1.}"#,
        r#"{"x":tru}"#,
        r#"{"x":1,}"#,
        r#"{"x":1}x"#,
        r#"{"x":[1,]}"#,
        r#"{"status_code":42}"#,
        r#"{"admin_info":null}"#,
        r#"{"error_type":"ß"}"#,
        "{\"x\":\"\n\"}",
        " {}",
        "[]",
    ] {
        assert!(quick::parse(text.as_bytes()).is_none(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        parse(&bytes);
        assert_both_agree(&bytes);
    }

    #[test]
    fn both_ways_agree_on_any_change_of_two_bytes(
        text in prop::sample::select(vec![V0_9_ERROR, V0_13_CLIENT_GONE, RC24_CLAUDE, RC24_RETRIED, TASK_SUBMITTED]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[]\",:\\0123456789-.etfn x\x00\xc3".to_vec())), 1..3),
    ) {
        let mut text = text.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        assert_both_agree(&text);
    }

    #[test]
    fn both_ways_agree_on_any_object(json in any_json()) {
        assert_both_agree(json.to_string().as_bytes());
    }

    #[test]
    fn any_change_to_a_row_is_survived(at in 0..RC24_CLAUDE.len(), byte: u8) {
        let mut text = RC24_CLAUDE.as_bytes().to_vec();
        text[at] = byte;
        parse(&text);
        parse(&text[..at]);
    }

    #[test]
    fn any_object_is_read(json in any_json()) {
        let defect = parse(json.to_string().as_bytes()).1;
        prop_assert_eq!(defect == Some(Defect::OtherNotJson), !json.is_object());
    }

    #[test]
    fn what_new_api_can_write_is_read_as_it_is(other in any_other()) {
        let text = to_json(&other).to_string();
        assert_both_agree(text.as_bytes());
        prop_assert_eq!(parse(text.as_bytes()), (other, None));
    }
}
