//! The whole story, with everything as shipped: the demo burns money, a limit is crossed, Prometheus and two Alertmanagers
//! tell the monitor, the channel is disabled, three chats say so once each, and when it is over the channel is enabled again.

use std::time::{Duration, Instant};

use crate::alarms::{CHANNEL, Gateway, MODEL, alertmanager_config, knows, password_file, prometheus};
use crate::fakes::{self, Fake};
use crate::servers::Alertmanager;
use crate::support::{Folder, eventually};

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

/// The last row of an answered request on the channel.
fn last_request(gateway: &Gateway) -> i64 {
    let query = "SELECT max(id) FROM logs WHERE type = 2 AND channel_id = ?1 AND token_id > 0";
    gateway.database().query_one(query, [CHANNEL], |row| row.get(0)).expect("an id")
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
    let disabled_after = began.elapsed();
    eventually("every chat tells of it", async || telling("burning") == [1, 1, 1]).await;

    // Requests under way may still end.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let last = last_request(&gateway);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(last_request(&gateway), last, "the channel still answers");

    // An operator allows more.
    gateway.limit(&limits(MAX_USD * 1000.0));
    eventually("the channel is enabled again", async || status(&gateway) == 1).await;
    let took = began.elapsed();
    eventually("every chat tells of that", async || telling("burning").iter().all(|count| *count >= 2)).await;
    println!("disabled after {disabled_after:?}, enabled again after {took:?}\n{:#?}", chats());
    assert!(took < IN_TIME, "{took:?}");

    let [first, second, third] = chats();
    for chat in [&first, &second, &third] {
        let trips = chat.iter().filter(|text| text.contains("burning") && text.contains("100")).count();
        assert!(trips <= chat.len(), "{chat:#?}");
        assert!(chat.len() <= 4, "{chat:#?}");
    }
}
