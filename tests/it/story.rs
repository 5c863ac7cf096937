//! The whole story, with everything as shipped: the demo burns money, a limit is crossed, Prometheus and two Alertmanagers
//! tell the monitor, the channel is disabled, three chats say so once each, and when it is over the channel is enabled again.

use std::time::{Duration, Instant};

use crate::alarms::{CHANNEL, Gateway, MODEL, alertmanager_config, knows, password_file, prometheus};
use crate::fakes::{self, Fake};
use crate::servers::Alertmanager;
use crate::support::{Folder, eventually, now};

/// How long all of it may take.
const IN_TIME: Duration = Duration::from_secs(60);

/// What a minute may cost.
const MAX_USD: f64 = 2.0;

fn limits(max: f64) -> String {
    format!(
        "limits:\n\
         - name: burning\n  channel: {CHANNEL}\n  model: {MODEL}\n  measure: cost_usd\n  max: {max}\n  window: 1m\n  \
           action: disable_channel\n  restore: window_reset\n"
    )
}

fn status(gateway: &Gateway) -> i64 {
    let query = "SELECT status FROM channels WHERE id = ?1";
    gateway.database().query_one(query, [CHANNEL], |row| row.get(0)).expect("a status")
}

/// Requests that the channel answered and that began after `second`: rows are written when requests end.
fn begun_after(gateway: &Gateway, second: i64) -> i64 {
    let query = "SELECT count(*) FROM logs \
                 WHERE type = 2 AND channel_id = ?1 AND token_id > 0 AND created_at - use_time > ?2";
    gateway.database().query_one(query, [CHANNEL, second], |row| row.get(0)).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_burns_money_is_switched_off_told_of_and_switched_on_again() {
    let (telegram, feishu, wecom) = (
        Fake::start(fakes::Telegram::default()).await,
        Fake::start(fakes::Feishu::default()).await,
        Fake::start(fakes::Wecom::default()).await,
    );
    let variables = [telegram.variables(), feishu.variables(), wecom.variables()].concat();
    let (gateway, secrets) = (Gateway::start(&variables).await, Folder::new());
    let monitor = gateway.process.address;
    let secret = password_file(&secrets.path());
    let [one, other] = Alertmanager::start_pair(&alertmanager_config(monitor, &secret));
    let prometheus = prometheus(monitor, &[&one, &other], &secret);
    knows(&prometheus, 2).await;
    assert_eq!(status(&gateway), 1);

    let chats = || [telegram.messages(), feishu.messages(), wecom.messages()];
    let telling = |what: &str| chats().map(|chat| chat.iter().filter(|text| text.contains(what)).count());
    let began = Instant::now();
    gateway.limit(&limits(MAX_USD));
    gateway.burn().await;
    eventually("the channel is disabled", async || status(&gateway) == 2).await;
    let (disabled_after, disabled_at) = (began.elapsed(), now());
    eventually("every chat tells of it", async || telling("burning") == [1, 1, 1]).await;

    tokio::time::sleep(Duration::from_secs(3)).await;
    // Rows tell whole seconds.
    assert_eq!(begun_after(&gateway, disabled_at + 1), 0, "the channel still gets requests");

    // An operator allows more.
    gateway.limit(&limits(MAX_USD * 1000.0));
    eventually("the channel is enabled again", async || status(&gateway) == 1).await;
    let took = began.elapsed();
    eventually("every chat tells of that", async || telling("burning").iter().all(|count| *count >= 2)).await;
    println!("disabled after {disabled_after:?}, enabled again after {took:?}\n{:#?}", chats());
    assert!(took < IN_TIME, "{took:?}");

    for chat in chats() {
        let [trip, back] = chat.as_slice() else { panic!("two messages, {chat:#?}") };
        for words in [
            "channel disabled",
            "Token Monitor",
            "of 2.00 USD",
            "new-api confirms it",
            "root, claude-opus-4-1",
        ] {
            assert!(trip.contains(words), "{words}: {trip}");
        }
        assert!(back.contains("Resolved") && back.contains("Lasted"), "{back}");
        // Who burns it used nearly all of it.
        let most = trip.split("root, ").nth(1).and_then(|rest| rest.split(" USD, ").nth(1));
        let percent: f64 =
            most.and_then(|rest| rest.split(" %").next()).expect("a part").parse().expect("a number");
        assert!((50.0..=100.0).contains(&percent), "{trip}");
    }
}
