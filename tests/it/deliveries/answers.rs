//! What each service answers, and what becomes of the message.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::json;
use token_monitor::clock::Clock;
use token_monitor::message::Change;
use token_monitor::message::Target::{Feishu, Telegram, Wecom};
use token_monitor::metrics::{Format, Metrics};
use token_monitor::store::DeliveryState::{Dead, Pending, Sent};
use token_monitor::usage::Rules;

use super::{World, told};
use crate::fakes::{self, Fake, Script, bots};
use crate::night::Chats;
use crate::support::eventually;

/// Answers with the code of a refusal, of Feishu.
fn refusal(code: i64, msg: &str) -> Script {
    Script::Answer(200, json!({"code": code, "msg": msg, "data": {}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_all_three() {
    let (telegram, feishu, wecom) = (
        Fake::start(fakes::Telegram::default()).await,
        Fake::start(fakes::Feishu::default()).await,
        Fake::start(fakes::Wecom::default()).await,
    );
    let world = World::new();
    let all = [telegram.variables(), feishu.variables(), wecom.variables()].concat();
    let running = world.run(bots(&all));
    world.tell("g", &["Burning", "Slow"], &[Telegram, Feishu, Wecom]);
    for target in [Telegram, Feishu, Wecom] {
        world.wait_states(target, &[Sent]).await;
    }
    for messages in [telegram.messages(), feishu.messages(), wecom.messages()] {
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].contains("Burning") && messages[0].contains("Slow"), "{messages:?}");
    }
    eventually("nothing waits by the metrics", async || {
        world.state.alerting().outbox.values().all(|waiting| waiting.pending == 0)
    })
    .await;
    assert_eq!(world.state.alerting().outbox.len(), 3);
    assert_eq!(world.counted(Wecom, "sent", ""), 1);
    running.stop().await;
}

/// What Feishu refuses messages for: its code and words, our word for it, and what the others are told of it.
const REFUSALS: [(i64, &str, &str, [&str; 2]); 4] = [
    (
        19024,
        "Key Words Not Found",
        "keyword",
        ["(they lack the bot's keyword)", "Set FEISHU_KEYWORD to one of the bot's keywords"],
    ),
    (
        19021,
        "sign match fail",
        "signature",
        ["(the signature is missing or wrong)", "Set FEISHU_SECRET to the key"],
    ),
    (
        19022,
        "Ip Not Allowed",
        "ip_not_allowed",
        ["(the monitor's address is not in the bot's whitelist)", "to the bot's IP whitelist"],
    ),
    (
        19001,
        "access token invalid",
        "unauthorized",
        ["(the bot is not known there, or its address is wrong)", "to FEISHU_WEBHOOK"],
    ),
];

/// Whether the page that Prometheus gets has this line.
async fn shows(world: &World, line: &str) -> bool {
    let rules = Rules { max_series: 10, slow_over_seconds: 5.0, extra_labels: Vec::new() };
    let metrics = Metrics::new(world.state.clone(), world.clock.clone(), rules, Duration::from_secs(60));
    let scraper = (IpAddr::from([127, 0, 0, 1]), "test");
    let page = metrics.scrape(Format::Text, scraper).await.expect("a page").concat();
    String::from_utf8_lossy(&page).lines().any(|shown| shown == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_14_feishu_refuses_for_good() {
    for (code, words, reason, told) in REFUSALS {
        let chats = Chats::start().await;
        // With HTTP status 200, as ever.
        chats.feishu.script((0..3).map(|_| refusal(code, words)));
        let world = World::new();
        let running = world.run(bots(&chats.variables()));
        let dead = |count| {
            let labels = format!("target=\"feishu\",result=\"dead\",reason=\"{reason}\"");
            format!("token_monitor_deliveries_total{{{labels}}} {count}")
        };
        eventually("the reason is there before the first", async || shows(&world, &dead(0)).await).await;
        world.tell("g", &["Burning"], &[Feishu]);
        world.tell("h", &["Slow"], &[Feishu]);
        world.wait_states(Feishu, &[Dead, Dead]).await;
        for delivery in world.deliveries(Feishu) {
            assert_eq!((delivery.code, delivery.reason.as_str(), delivery.attempts), (Some(code), reason, 1));
            let error = &delivery.error;
            assert!(error.starts_with(words) && error.len() > words.len() + 20, "{error}");
        }
        eventually("both are counted by their reason", async || shows(&world, &dead(2)).await).await;
        // Each of the others is told who refuses, why, in whose words, what helps, and what to do then.
        for target in [Telegram, Wecom] {
            world.wait_states(target, &[Sent]).await;
        }
        for alarm in [chats.telegram.messages(), chats.wecom.messages()].concat() {
            let always = ["🔴", "Messages to Feishu are refused", words, "deliveries retry --dead"];
            for wanted in always.into_iter().chain(told) {
                assert!(alarm.contains(wanted), "{wanted}: {alarm}");
            }
        }
        // One more is no news to them, and the bot that refuses is not written to of its own refusals.
        world.tell("i", &["Dear"], &[Feishu]);
        world.wait_states(Feishu, &[Dead, Dead, Dead]).await;
        eventually("all are counted", async || shows(&world, &dead(3)).await).await;
        running.stop().await;
        assert_eq!((chats.feishu.seen().len(), chats.feishu.messages().len()), (3, 0), "{reason}");
        assert_eq!((world.deliveries(Telegram).len(), world.deliveries(Wecom).len()), (1, 1), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_15_feishu_is_too_busy_or_cannot_read_the_card() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    feishu.script([
        refusal(11232, "frequency limited psm[lark]"),
        Script::Answer(400, json!({"code": 9499, "msg": "too many request", "data": {}})),
        Script::Answer(400, json!({"code": 9499, "msg": "Bad Request", "data": {}})),
    ]);
    let world = World::new();
    let running = world.run(bots(&feishu.variables()));
    world.tell("g", &["Burning"], &[Feishu]);
    world.wait_states(Feishu, &[Sent]).await;
    let seen = feishu.seen();
    let kinds: Vec<_> = seen.iter().map(|seen| seen.body["msg_type"].as_str().unwrap_or("?")).collect();
    assert_eq!(kinds, ["interactive", "interactive", "interactive", "text"]);
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(2), "no pause");
    assert!(feishu.messages()[0].contains("Burning"));
    // The pauses burnt nothing.
    assert_eq!(world.deliveries(Feishu)[0].attempts, 2);
    // What is not even taken as text is given up.
    let bad = || Script::Answer(400, json!({"code": 9499, "msg": "Bad Request", "data": {}}));
    feishu.script([bad(), bad()]);
    world.tell("h", &["Slow"], &[Feishu]);
    world.wait_states(Feishu, &[Sent, Dead]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_16_feishu_answers_what_it_never_should() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    feishu.script([
        Script::Text(200, "<html>log in here</html>"),
        Script::Text(200, ""),
        Script::Text(502, "bad gateway"),
    ]);
    let world = World::new();
    let running = world.run(bots(&feishu.variables()));
    world.tell("g", &["Burning"], &[Feishu]);
    world.wait_states(Feishu, &[Sent]).await;
    assert_eq!((feishu.seen().len(), feishu.messages().len()), (4, 1));
    assert_eq!((world.counted(Feishu, "retry", "answer"), world.counted(Feishu, "retry", "server")), (2, 1));
    feishu.script([Script::Answer(200, json!({"StatusCode": 0, "StatusMessage": "success"}))]);
    world.tell("h", &["Slow"], &[Feishu]);
    world.wait_states(Feishu, &[Sent, Sent]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_17_the_clock_is_wrong_and_a_message_waited_for_long() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    let (right, hours) = (Clock::system().now(), SignedDuration::from_hours(2));
    let world = World::at(Clock::fixed(right.checked_sub(hours).expect("a time")));
    let running = world.run(bots(&feishu.variables()));
    world.tell("g", &["Burning"], &[Feishu]);
    eventually("the wrong clock is explained", async || {
        let delivery = &world.deliveries(Feishu)[0];
        delivery.state == Pending
            && delivery.reason == "clock"
            && ["7199", "7200", "7201", "7202", "7203"].iter().any(|s| delivery.error.contains(s))
            && delivery.error.contains("behind")
    })
    .await;
    // Two hours later by its own clock, the same row is signed anew.
    world.clock.set(Clock::system().now());
    world.wait_states(Feishu, &[Sent]).await;
    let then = right.checked_sub(SignedDuration::from_mins(70)).expect("a time");
    world.tell_at("h", vec![told("Old", Change::Opened)], &[Feishu], then);
    world.clock.set(Clock::system().now());
    world.wait_states(Feishu, &[Sent, Sent]).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_21_wecom_is_asked_too_often_gets_too_much_and_is_gone() {
    let (feishu, wecom) =
        (Fake::start(fakes::Feishu::default()).await, Fake::start(fakes::Wecom::default()).await);
    let all = [feishu.variables(), wecom.variables()].concat();
    let world = World::new();
    world.tell("g", &["A"], &[Feishu, Wecom]);
    for time in 1..=3 {
        wecom.script([Script::Answer(200, json!({"errcode": 45009, "errmsg": "api freq out of limit"}))]);
        let running = world.run(bots(&all));
        eventually("asked", async || world.counted(Wecom, "retry", "rate_limited") == time).await;
        // Nobody else is held up, and WeCom is left alone.
        world.tell(&format!("h{time}"), &["B"], &[Feishu, Wecom]);
        eventually("Feishu gets everything", async || {
            feishu.messages().len() == usize::try_from(time).expect("small") + 1
        })
        .await;
        running.stop().await;
        assert_eq!(wecom.seen().len(), usize::try_from(time).expect("small"));
        let pause = world.store.paused_until(Wecom).expect("readable").expect("a pause");
        assert!(pause.duration_since(world.clock.now()) > SignedDuration::from_secs(57), "{pause}");
        assert_eq!(world.deliveries(Wecom)[0].attempts, 0);
        // A restart does not end the pause.
        let running = world.run(bots(&all));
        tokio::time::sleep(Duration::from_millis(300)).await;
        running.stop().await;
        assert_eq!(wecom.seen().len(), usize::try_from(time).expect("small"));
        // A minute later.
        let now = world.clock.now();
        world.store.write(|writing| writing.pause(Wecom, now)).expect("written");
        for delivery in world.deliveries(Wecom) {
            world.store.retry_delivery(delivery.id, now).expect("written");
        }
    }
    wecom.script([Script::Answer(200, json!({"errcode": 40058, "errmsg": "exceed max length 4096"}))]);
    let running = world.run(bots(&all));
    world.wait_states(Wecom, &[Sent, Sent, Sent, Sent]).await;
    assert_eq!(wecom.seen()[4].body["msgtype"], "text");
    assert_eq!(world.deliveries(Wecom)[0].attempts, 2);
    wecom.change(|wecom| wecom.removed = true);
    world.tell("z", &["C"], &[Wecom]);
    world.wait_states(Wecom, &[Sent, Sent, Sent, Sent, Dead]).await;
    assert_eq!(world.deliveries(Wecom)[4].reason, "unauthorized");
    eventually("Feishu is told", async || feishu.messages().iter().any(|text| text.contains("WeCom"))).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_22_telegram_wants_to_wait_moves_cannot_parse_and_forbids() {
    let telegram = Fake::start(fakes::Telegram { configured_thread: Some(7), ..fakes::Telegram::default() });
    let telegram = telegram.await;
    let (world, began) = (World::new(), Instant::now());
    let wait = json!({"ok": false, "error_code": 429, "description": "Too Many Requests: retry after 35",
        "parameters": {"retry_after": 35}});
    telegram.script([Script::Answer(429, wait)]);
    world.tell("g", &["A"], &[Telegram]);
    let running = world.run(bots(&telegram.variables()));
    eventually("asked", async || world.counted(Telegram, "retry", "rate_limited") == 1).await;
    running.stop().await;
    let pause = world.store.paused_until(Telegram).expect("readable").expect("a pause");
    let length = pause.duration_since(world.clock.now()) + SignedDuration::try_from(began.elapsed()).unwrap();
    assert!(length >= SignedDuration::from_secs(36) && length < SignedDuration::from_secs(40), "{length}");
    let delivery = &world.deliveries(Telegram)[0];
    assert_eq!(delivery.attempts, 0);
    let now = world.clock.now();
    world.store.write(|writing| writing.pause(Telegram, now)).expect("written");
    world.store.retry_delivery(delivery.id, now).expect("written");

    // The topic is gone, the group has become a supergroup, and the text does not parse.
    telegram.change(|telegram| telegram.chat = -1_009_999);
    let running = world.run(bots(&telegram.variables()));
    world.wait_states(Telegram, &[Sent]).await;
    let last = telegram.seen().pop().expect("a request").body;
    assert_eq!((&last["chat_id"], last.get("message_thread_id")), (&json!(-1_009_999), None));
    let unparsable =
        json!({"ok": false, "error_code": 400, "description": "Bad Request: can't parse entities: x"});
    telegram.script([Script::Answer(400, unparsable)]);
    world.tell("h", &["B"], &[Telegram]);
    world.wait_states(Telegram, &[Sent, Sent]).await;
    assert_eq!(telegram.seen().pop().expect("a request").body.get("parse_mode"), None);
    running.stop().await;
    // The new number outlives a restart; another chat in the configuration would not be changed.
    assert_eq!(world.store.moved_chat("-4001").expect("readable").as_deref(), Some("-1009999"));
    let before = telegram.seen().len();
    telegram.change(|telegram| telegram.threads = vec![7]);
    let running = world.run(bots(&telegram.variables()));
    world.tell("i", &["C"], &[Telegram]);
    world.wait_states(Telegram, &[Sent, Sent, Sent]).await;
    assert_eq!(telegram.seen().len(), before + 1);
    assert_eq!(telegram.seen()[before].body["message_thread_id"], 7);
    telegram.change(|telegram| telegram.kicked = true);
    world.tell("j", &["D"], &[Telegram]);
    world.wait_states(Telegram, &[Sent, Sent, Sent, Dead]).await;
    assert_eq!(world.deliveries(Telegram)[3].reason, "forbidden");
    running.stop().await;
}
