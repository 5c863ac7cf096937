//! Rows that are nobody's request: channel tests, top-ups, administration, gifts, logins.

use super::charge::Usage;
use super::detail::{self, Ending, Serving};
use super::json::Object;
use super::request::{Ask, Moment};
use super::row::{Row, Text, kind};
use super::world::{self, ANTHROPIC, AWS, CHANNELS, MODELS, USERS, User, Work};
use crate::record::CHANNEL_TEST_TOKEN;

/// Seconds between two tests of a channel.
const TEST_PERIOD: i64 = 1800;
/// What happens how often, in times a day. Not scaled with traffic.
const PER_DAY: [(i64, f64); 4] =
    [(kind::TOPUP, 6.0), (kind::MANAGE, 4.0), (kind::SYSTEM, 4.0), (kind::LOGIN, 14.0)];

/// Adds what else happens in this second.
pub(super) fn add(moment: &mut Moment<'_>) {
    for (index, place) in (0_i64..).zip(0..CHANNELS.len()) {
        if (moment.second + index * 97) % TEST_PERIOD == 0 && moment.routes.uses(place) {
            channel_test(moment, place);
        }
    }
    let mut fate = moment.dice.unit() * 86_400.0;
    for (kind, times) in PER_DAY {
        if (0.0..times).contains(&fate) {
            note(moment, kind);
        }
        fate -= times;
    }
}

fn channel_test(moment: &mut Moment<'_>, channel: usize) {
    let first = CHANNELS[channel].models.split(',').find_map(world::model);
    let Some(model) = first.filter(|model| MODELS[*model].work == Work::Chat) else { return };
    let mut call = moment.call(Ask { token: 0, model, pinned: None });
    call.stream = false;
    call.path = "/v1/chat/completions";
    call.tried = format!("\"{}\"", CHANNELS[channel].id);
    call.elapsed_ms = moment.first_ms(call.model, channel);
    let anthropic = call.model.is_claude() && [ANTHROPIC, AWS].contains(&CHANNELS[channel].kind);
    let usage = Usage { prompt: 8, completion: 14, anthropic, ..Usage::default() };
    let serving = Serving { channel, key: moment.key(channel), usage, ending: Ending::Whole, frt_ms: -1000 };

    let upstream_request_id = moment.upstream_id();
    let mut row = Moment::row(&call, kind::CONSUME, channel);
    row.content = Text::Borrowed(CHANNEL_TEST_TOKEN);
    row.token_name = Text::Borrowed(CHANNEL_TEST_TOKEN);
    row.token_id = 0;
    row.quota = usage.quota(call.model, call.group_ratio);
    row.prompt_tokens = usage.prompt;
    row.completion_tokens = usage.completion;
    row.upstream_request_id = upstream_request_id.into();
    row.other = detail::tokens(&call, &serving).into();
    moment.emit(&call, row);
}

fn note(moment: &mut Moment<'_>, kind: i64) {
    let ordinary = 2 + moment.dice.below(USERS.len() - 3);
    let user = &USERS[if kind == kind::MANAGE { 0 } else { ordinary }];
    let (content, other) = match kind {
        kind::TOPUP => (
            "使用在线充值成功，充值金额: ＄10.000000 额度，支付金额：73.000000",
            r#"{"admin_info":{"node_name":"demo","payment_method":"alipay","server_ip":"192.0.2.10"}}"#
                .to_owned(),
        ),
        kind::MANAGE => {
            ("Updated system setting RetryTimes", managed("option.update", r#"{"key":"RetryTimes"}"#))
        }
        kind::SYSTEM => ("用户签到，获得额度 ＄0.020000 额度", String::new()),
        _ => ("Logged in successfully via password", login()),
    };
    let at_ms = moment.second * 1000;
    let request_id = moment.request_id(at_ms);
    moment.push(at_ms, entry(user, kind, content, other, request_id));
}

/// A row without a request. Top-ups and logins carry the address they came from.
fn entry(user: &User, kind: i64, content: &'static str, other: String, request_id: String) -> Row {
    Row {
        user_id: user.id,
        kind,
        content: Text::Borrowed(content),
        username: Text::Borrowed(user.name),
        ip: Text::Borrowed(if kind == kind::SYSTEM { "" } else { "192.0.2.44" }),
        request_id: request_id.into(),
        other: other.into(),
        ..Row::default()
    }
}

/// `other` of an administrator's change made with the access token of user 1.
pub(super) fn managed(action: &str, params: &str) -> String {
    let mut op = Object::new(96);
    op.text("action", action).raw("params", params);
    let mut other = Object::new(240);
    other.raw(
        "admin_info",
        r#"{"admin_id":1,"admin_role":100,"admin_username":"root","auth_method":"access_token"}"#,
    );
    other.raw("op", op.finish());
    other.finish()
}

fn login() -> String {
    r#"{"login_method":"password","op":{"action":"login","params":{"method":"password"}},"user_agent":"Mozilla/5.0"}"#
        .to_owned()
}
