//! The whole story, with everything as shipped: the demo burns money, a limit is crossed, Prometheus and two Alertmanagers
//! tell the monitor, the channel is disabled, three chats say so once each, and when it is over the channel is enabled again.
//!
//! It takes longest of all; its name is one of the first in the alphabet, so that it does not end long after the others.

use std::time::Duration;

use token_monitor::clock::Clock;

use crate::alarms::{CHANNEL, Gateway, MODEL, alertmanager_config, knows, password_file, prometheus};
use crate::fakes::{self, Fake};
use crate::servers::Alertmanager;
use crate::support::{Folder, eventually, now};

/// How long after the row that crossed the limit the channel may still be there, in seconds.
const DISABLED_IN_TIME: f64 = 30.0;

/// How long all of it may take, from the same row on, in seconds.
const BACK_IN_TIME: f64 = 60.0;

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

/// When the row was made that brought a minute's costs to the limit, in Unix seconds, from `since` on.
fn crossed(gateway: &Gateway, since: i64) -> Option<f64> {
    let query = "SELECT created_at FROM (SELECT id, created_at, SUM(quota) OVER \
                 (ORDER BY created_at RANGE BETWEEN 59 PRECEDING AND CURRENT ROW) / 500000.0 AS cost \
                 FROM logs WHERE type = 2 AND channel_id = ?1 AND model_name = ?2) \
                 WHERE cost >= ?3 AND created_at >= ?4 ORDER BY id LIMIT 1";
    let found: Result<i64, _> =
        gateway.database().query_one(query, (CHANNEL, MODEL, MAX_USD, since), |row| row.get(0));
    found.ok().map(|at| at as f64)
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
    let clock = Clock::system();
    let began = now();
    gateway.limit(&limits(MAX_USD));
    gateway.burn().await;
    eventually("the channel is disabled", async || status(&gateway) == 2).await;
    let (disabled_at, second) = (clock.unix_f64(), now());
    eventually("every chat tells of it", async || telling("burning") == [1, 1, 1]).await;

    tokio::time::sleep(Duration::from_secs(3)).await;
    // Rows tell whole seconds.
    assert_eq!(begun_after(&gateway, second + 1), 0, "the channel still gets requests");

    // An operator allows more.
    gateway.limit(&limits(MAX_USD * 1000.0));
    eventually("the channel is enabled again", async || status(&gateway) == 1).await;
    let back_at = clock.unix_f64();
    let told = || [telling("channel disabled"), telling("Resolved"), telling("Enabled again")];
    eventually("every chat tells of all of it", async || told() == [[1; 3]; 3]).await;

    let crossed = crossed(&gateway, began).expect("a row that crossed it");
    let (disabled, back) = (disabled_at - crossed, back_at - crossed);
    println!(
        "disabled {disabled:.1} s, enabled again {back:.1} s after the row that crossed\n{:#?}",
        chats()
    );
    assert!(disabled < DISABLED_IN_TIME && back < BACK_IN_TIME, "{disabled} s, {back} s");

    for chat in chats() {
        assert_eq!(chat.len(), 3, "nothing else is told, {chat:#?}");
        let with = |what: &str| chat.iter().find(|text| text.contains(what)).expect("it was there");
        let (trip, over, back) = (with("channel disabled"), with("Resolved"), with("Enabled again"));
        for words in
            ["burning", "Token Monitor", "of 2.00 USD", "new-api confirms it", "root, claude-opus-4-1"]
        {
            assert!(trip.contains(words), "{words}: {trip}");
        }
        assert!(over.contains("burning") && over.contains("Lasted"), "{over}");
        assert!(back.contains("new-api confirms it"), "{back}");
        // Who burns it used nearly all of it.
        let most = trip.split("root, ").nth(1).and_then(|rest| rest.split(" USD, ").nth(1));
        let percent: f64 =
            most.and_then(|rest| rest.split('%').next()).expect("a part").parse().expect("a number");
        assert!((50.0..=100.0).contains(&percent), "{trip}");
    }
}
