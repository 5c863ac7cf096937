//! Examples of answers, for the document.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::measures::{Active, Measures};
use super::views::{
    Answer, ChannelMeasures, ChannelState, Contributor, GroupChannels, LastError, LimitList, LimitState,
    ModelMeasures, ModelState, Overview, RequestRows, Shares, SlowRequest, Totals, Trend, TrendPoint,
    UserMeasures,
};
use crate::detail::{
    Bodies, ChannelStatus, Context, LogDetail, LogRow, RequestStory, Surroundings, Trial, attempts_of,
};
use crate::history::Measure;
use crate::newapi::{Channel, Entry};

/// The day of the examples, and seconds later.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_769_846_400 + seconds).unwrap_or_default()
}

impl Answer for Overview {
    fn example() -> Self {
        let totals = |scale| Totals {
            measures: Measures::example(scale),
            active: Active { active_models: scale + 3, active_channels: 4 },
        };
        let shares = Shares { tokens_share: Some(1.0), cost_share: Some(1.0) };
        let measures = Measures::example(3);
        Self {
            from: at(-86_400),
            to: at(0),
            totals: totals(3),
            change: totals(3).change_since(&totals(2)),
            by_model: vec![ModelMeasures {
                model: "gpt-4o".to_owned(),
                measures: measures.clone(),
                shares: shares.clone(),
            }],
            by_channel: vec![ChannelMeasures {
                channel_id: 3,
                channel_name: "azure-eu".to_owned(),
                measures: measures.clone(),
                shares: shares.clone(),
            }],
            by_user: vec![UserMeasures { username: "alice".to_owned(), measures, shares }],
        }
    }
}

impl Answer for Trend {
    fn example() -> Self {
        let point = |seconds| TrendPoint {
            time: at(seconds),
            model: None,
            channel_id: None,
            channel_name: None,
            username: None,
            measures: Measures::example(1),
        };
        Self {
            from: at(-7_200),
            to: at(0),
            step_seconds: 3_600,
            by: None,
            items: vec![point(-7_200), point(-3_600)],
            next: None,
            next_cursor: None,
        }
    }
}

/// The row that answered the request of the examples.
fn answered() -> Entry {
    Entry {
        id: 143_217,
        created_at: at(-8).as_second(),
        kind: 2,
        user_id: 5,
        username: "alice".to_owned(),
        token_id: 12,
        token_name: "production".to_owned(),
        channel_id: 3,
        model: "gpt-4o".to_owned(),
        group: "default".to_owned(),
        quota: 3_867,
        prompt_tokens: 1_203,
        completion_tokens: 311,
        duration_ms: 7_000,
        stream: true,
        other: r#"{"admin_info":{"use_channel":["9","3"]},"cache_ratio":0.5,"cache_tokens":512,"completion_ratio":4,"frt":812,"group_ratio":1,"model_price":-1,"model_ratio":1.763,"request_path":"/v1/chat/completions","stream_status":{"end_reason":"done","status":"ok"},"user_group_ratio":-1}"#.to_owned(),
        request_id: "20260131075952123456789a1b2c3d4Xy7Qk2Lm".to_owned(),
        ..Entry::default()
    }
}

/// The attempt that failed before.
fn failed() -> Entry {
    Entry {
        id: 143_216,
        kind: 5,
        channel_id: 9,
        quota: 0,
        completion_tokens: 0,
        duration_ms: 2_000,
        content: "status_code=429, rate limit reached".to_owned(),
        other: r#"{"admin_info":{"use_channel":["9"]},"error_type":"openai_error","error_code":"rate_limit_exceeded","status_code":429}"#.to_owned(),
        ..answered()
    }
}

/// Shows the rows of the examples.
fn with_context<T>(show: impl FnOnce(Context<'_>) -> T) -> T {
    let channel = |name: &str, kind| Channel {
        name: name.to_owned(),
        kind,
        status: 1,
        group: "default".to_owned(),
        ..Channel::default()
    };
    let channels = BTreeMap::from([(3, channel("azure-eu", 3)), (9, channel("openai-main", 1))]);
    show(Context {
        channels: Some(&channels),
        channel_names: &BTreeMap::new(),
        quota_per_unit: 500_000.0,
        slow_over_seconds: 5.0,
    })
}

impl Answer for LogRow {
    fn example() -> Self {
        with_context(|context| Self::new(&answered(), &context))
    }
}

impl Answer for SlowRequest {
    fn example() -> Self {
        with_context(|context| Self {
            row: LogRow::new(&answered(), &context),
            attempts: attempts_of(&Trial::new(&answered()), &[Trial::new(&failed())], &context),
        })
    }
}

impl Answer for LogDetail {
    fn example() -> Self {
        let bodies = Bodies::NotConfigured;
        with_context(|context| {
            Self::new(&answered(), &Surroundings { context, siblings: &[Trial::new(&failed())], bodies })
        })
    }
}

impl Answer for RequestRows {
    fn example() -> Self {
        let story = with_context(|context| {
            let rows = [failed(), answered()].map(|row| (Trial::new(&row), LogRow::new(&row, &context)));
            RequestStory::new(rows.into(), &context)
        });
        // Two rows always make a story.
        Self { story: story.unwrap_or_else(RequestStory::nothing), next: None, next_cursor: None }
    }
}

fn last_error() -> LastError {
    LastError {
        id: 143_190,
        created_at: at(-310),
        status_code: Some(429),
        error_type: "openai_error".to_owned(),
        detail_url: "/api/v1/logs/143190".to_owned(),
    }
}

impl Answer for LimitList {
    fn example() -> Self {
        let alice = Contributor {
            channel_id: 3,
            channel_name: "azure-eu".to_owned(),
            model: "gpt-4o".to_owned(),
            username: "alice".to_owned(),
            used: 31.5,
            share: Some(0.75),
        };
        let azure = LimitState {
            limit: "azure-daily".to_owned(),
            channel_id: Some(3),
            channel_name: Some("azure-eu".to_owned()),
            model: Some("gpt-4o*".to_owned()),
            rest: false,
            measure: Measure::CostUsd,
            window: "day".to_owned(),
            since: at(-50_000),
            used: 42.0,
            max: 50.0,
            remaining: 8.0,
            ratio: 0.84,
            warn_at: Some(0.8),
            severity: "critical",
            action: "disable_channel",
            restore: "window_reset".to_owned(),
            resets_at: Some(at(36_400)),
            exhausted_at: Some(at(9_500)),
            contributors: Some(vec![alice]),
        };
        Self { items: vec![azure], next: None, next_cursor: None, loaded_at: Some(at(-90_000)), error: None }
    }
}

impl Answer for ChannelState {
    fn example() -> Self {
        Self {
            channel_id: 3,
            channel_name: "azure-eu".to_owned(),
            r#type: Some(3),
            type_name: Some("Azure"),
            status: ChannelStatus::Enabled,
            group: "default,vip".to_owned(),
            tag: "azure".to_owned(),
            balance_usd: None,
            used_quota: 91_250_000,
            response_time_seconds: Some(1.4),
            tested_at: Some(at(-5_000)),
            success_share: Some(0.97),
            last_error: Some(last_error()),
            measures: Measures::example(1),
        }
    }
}

impl Answer for ModelState {
    fn example() -> Self {
        Self {
            model: "gpt-4o".to_owned(),
            groups: vec![GroupChannels { group: "default".to_owned(), enabled_channels: 2 }],
            success_share: Some(0.97),
            last_error: None,
            measures: Measures::example(1),
        }
    }
}
