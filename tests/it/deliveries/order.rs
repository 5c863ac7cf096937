//! Order, superseding, ageing, and how fast it all goes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use token_monitor::message::Change::{Opened, Resolved};
use token_monitor::message::Target::{Feishu, Telegram, Wecom};
use token_monitor::store::DeliveryState::{Dead, Sent, Superseded};
use token_monitor::store::{Settled, Writing};

use super::{World, notice, told};
use crate::fakes::{self, Fake, Script, bots};
use crate::support::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn fault_11_an_end_never_overtakes_its_beginning() {
    let (feishu, wecom) =
        (Fake::start(fakes::Feishu::default()).await, Fake::start(fakes::Wecom::default()).await);
    let world = World::new();
    // A message that was tried.
    feishu.script([Script::Text(503, "")]);
    let running = world.run(bots(&feishu.variables()));
    world.tell("g", &["Burning"], &[Feishu]);
    eventually("Feishu was tried", async || feishu.seen().len() == 1).await;
    world.tell_at("g", vec![told("Burning", Resolved)], &[Feishu], world.clock.now());
    world.wait_states(Feishu, &[Sent, Sent]).await;
    running.stop().await;
    let messages = feishu.messages();
    assert!(
        messages[0].contains("Burning")
            && !messages[0].contains("Resolved")
            && messages[1].contains("Resolved · Burning"),
        "{messages:?}"
    );

    // And one that was not.
    world.tell("g", &["Burning"], &[Wecom]);
    world.tell_at("g", vec![told("Burning", Resolved)], &[Wecom], world.clock.now());
    let running = world.run(bots(&[feishu.variables(), wecom.variables()].concat()));
    world.wait_states(Wecom, &[Superseded, Sent]).await;
    let messages = wecom.messages();
    assert!(messages.len() == 1 && messages[0].contains("Resolved · Burning"), "{messages:?}");
    assert!(messages[0].contains("Lasted"), "{messages:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_26_ten_thousand_messages_wait_after_an_outage() {
    let (feishu, wecom) =
        (Fake::start(fakes::Feishu::default()).await, Fake::start(fakes::Wecom::default()).await);
    let world = World::new();
    let (now, old) =
        (world.clock.now(), world.clock.now().checked_sub(SignedDuration::from_hours(25)).expect("a time"));
    // 4,000 notices of 40 groups in the last hours, and 6,000 that are older than a day.
    let queue = |writing: &Writing<'_>| {
        for n in 0..10_000 {
            let (group, at) =
                if n < 6_000 { (format!("old{n}"), old) } else { (format!("g{}", n % 40), now) };
            writing.enqueue(&notice(&group, vec![told(&format!("alert{n}"), Opened)], at), &[Wecom])?;
        }
        Ok(())
    };
    world.store.write(queue).expect("queued");
    let began = Instant::now();
    let running = world.run(bots(&[feishu.variables(), wecom.variables()].concat()));
    // One digest tells the others what was given up; nothing else is sent to them.
    eventually("the digest", async || feishu.messages().len() == 1).await;
    assert!(feishu.messages()[0].contains("6,000 messages"), "{:?}", feishu.messages());
    eventually("twenty messages", async || wecom.messages().len() == 20).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(wecom.seen().len(), 20, "more than a minute's worth");
    let names: BTreeSet<String> = wecom
        .messages()
        .iter()
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter(|word| word.starts_with("alert"))
        .collect();
    assert!(
        names.len() >= 20 * 20,
        "{} alerts were named in twenty parts of messages about 100 each",
        names.len()
    );
    let waiting = world.state.alerting().outbox[&Wecom];
    assert!((20..400).contains(&waiting.pending), "{waiting:?}");
    assert_eq!(world.counted(Wecom, "dead", "too_old"), 6_000);
    running.stop().await;
    assert_eq!(feishu.messages().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_stays_below_what_each_service_allows() {
    let (telegram, feishu, wecom) = (
        Fake::start(fakes::Telegram::default()).await,
        Fake::start(fakes::Feishu::default()).await,
        Fake::start(fakes::Wecom::default()).await,
    );
    let world = World::new();
    let all = [telegram.variables(), feishu.variables(), wecom.variables()].concat();
    let running = world.run(bots(&all));
    for n in 0..25 {
        world.tell(&format!("g{n}"), &["A"], &[Telegram, Feishu, Wecom]);
    }
    eventually("Feishu has all", async || feishu.messages().len() == 25).await;
    eventually("WeCom has a minute's worth", async || wecom.messages().len() == 20).await;
    // A restart does not forget what the services have seen.
    running.stop().await;
    let running = world.run(bots(&all));
    eventually("Telegram has some", async || telegram.messages().len() >= 5).await;
    running.stop().await;
    assert_eq!(wecom.seen().len(), 20);
    // Nobody ever had to be told to wait.
    for (target, name) in [(Telegram, "telegram"), (Feishu, "feishu"), (Wecom, "wecom")] {
        assert_eq!(world.counted(target, "retry", "rate_limited"), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_critical_or_was_acted_on_goes_ahead_of_a_storm_and_takes_its_group_along() {
    let wecom = Fake::start(fakes::Wecom::default()).await;
    let world = World::new();
    let critical = |name: &str, change| {
        let mut told = told(name, change);
        told.alert.labels.insert("severity".to_owned(), "critical".to_owned());
        vec![told]
    };
    // What was tried is not said by a later message as well.
    world.tell("tried", &["tried"], &[Wecom]);
    let now = world.clock.now();
    let leased = world.store.lease(Wecom, now).expect("readable").expect("a delivery");
    let why = (None, "server", String::new());
    let again = Settled::Again { at: now, shape: leased.shape, counts: true, why };
    world.store.write(|writing| writing.settle(leased.id, &again, now)).expect("written");
    for n in 0..12 {
        world.tell(&format!("g{n}"), &[&format!("minor{n}")], &[Wecom]);
    }
    let mut acted = told("acted", Opened);
    acted.act = Some(7);
    world.tell_at("over", critical("over", Resolved), &[Wecom], now);
    world.tell_at("burning", critical("burning", Opened), &[Wecom], now);
    world.tell_at("acted", vec![acted], &[Wecom], now);
    world.tell_at("g11", critical("worse", Opened), &[Wecom], now);
    world.tell_at("tried", critical("flames", Opened), &[Wecom], now);

    let running = world.run(bots(&wecom.variables()));
    eventually("all have arrived", async || wecom.messages().len() == 17).await;
    running.stop().await;
    let messages = wecom.messages();
    let wanted = ["tried", "worse", "burning", "acted", "flames", "minor0"];
    for (message, name) in messages.iter().zip(wanted) {
        assert!(message.contains(name), "{name}: {messages:?}");
    }
    assert!(messages[1].contains("minor11") && messages[16].contains("over"), "{messages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_28_a_target_is_removed_while_messages_wait_for_it() {
    let feishu = Fake::start(fakes::Feishu::default()).await;
    let world = World::new();
    world.tell("g", &["A"], &[Feishu, Wecom]);
    world.tell("h", &["B"], &[Feishu, Wecom]);
    let running = world.run(bots(&feishu.variables()));
    world.wait_states(Wecom, &[Dead, Dead]).await;
    assert!(world.deliveries(Wecom).iter().all(|delivery| delivery.reason == "target_removed"));
    world.wait_states(Feishu, &[Sent, Sent]).await;
    assert_eq!(world.counted(Wecom, "dead", "target_removed"), 2);
    running.stop().await;
}
