//! Order, superseding, ageing, and how fast it all goes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use token_monitor::config::Language;
use token_monitor::message::Change::{Opened, Resolved};
use token_monitor::message::Target::{self, Feishu, Telegram, Wecom};
use token_monitor::message::{Change, Known, Told, Wording, compose};
use token_monitor::store::DeliveryState::{Dead, Sent, Superseded};
use token_monitor::store::{LeasedWork, Settled, Store, Writing};

use super::{World, notice, tell, told};
use crate::fakes::{self, Fake, Script, Service, bots};
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

/// Alerts that nobody could be told of for more than a day.
const OLD: usize = 2_000;

/// Later ones. With one storm they are 500 messages more than may wait.
const YOUNG: usize = 10_499;
const EXCESS: usize = 500;

/// Young ones with news before anybody was told of them: another alert of the group, or that they are over.
const SECOND: Range<usize> = 10_300..10_400;
const OVER: Range<usize> = 10_000..10_200;

/// One that is over when people were told of it.
const TOLD_AND_OVER: usize = 600;

/// Alerts of the storm.
const MANY: usize = 600;

fn name(kind: &str, number: usize) -> String {
    format!("{kind}{number:05}")
}

fn group(kind: &str, number: usize) -> String {
    format!("{}/{number}", kind.to_lowercase())
}

/// An alert that is told to be over, as [`Backlog::named`] has it.
fn over(number: usize) -> String {
    format!("over {}", name("Young", number))
}

/// An outbox that is emptied by a clock of the test's own, so that a night takes seconds.
struct Backlog {
    store: Store,
    _folder: tempfile::TempDir,
    wecom: fakes::Wecom,
    path: String,
    /// The same moment by both clocks.
    began: (Instant, Timestamp),
    now: Timestamp,
    /// The messages in the group.
    chat: Vec<String>,
}

impl Backlog {
    fn new() -> Self {
        // In memory where that can be had: the disk would only make tens of thousands of commits slow.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let store = Store::open(&folder.path().join("monitor.db")).expect("a store");
        let (wecom, address) = (fakes::Wecom::default(), SocketAddr::from(([127, 0, 0, 1], 9)));
        let webhook = wecom.variables(address).remove(0).1;
        let path = webhook.split_once(&address.to_string()).expect("an address").1.to_owned();
        let now = Timestamp::from_second(1_790_000_000).expect("a time");
        Self { store, _folder: folder, wecom, path, began: (Instant::now(), now), now, chat: Vec::new() }
    }

    fn pass(&mut self, length: SignedDuration) {
        self.now += length;
    }

    /// Queues alerts, each in a group of its own.
    fn queue(&self, kind: &str, numbers: Range<usize>) {
        let queue = |writing: &Writing<'_>| {
            for number in numbers {
                let alert = vec![told(&name(kind, number), Opened)];
                writing.enqueue(&notice(&group(kind, number), alert, self.now), &[Wecom])?;
            }
            Ok(())
        };
        self.store.write(queue).expect("queued");
    }

    /// Queues news of a young one.
    fn news(&self, number: usize, kind: &str, change: Change) {
        let alert = vec![told(&name(kind, number), change)];
        tell(&self.store, &group("Young", number), alert, &[Wecom], self.now);
    }

    /// What the outbox does now and then: what it gives up and why.
    fn upkeep(&self) -> Vec<(&'static str, u64)> {
        let now = self.now;
        let given_up = self.store.write(|writing| {
            writing.end_leases(now, false)?;
            let given_up = writing.give_up(now, &[Feishu, Wecom])?;
            writing.tell_dropped(Wecom, &[Feishu], now)?;
            Ok(given_up)
        });
        given_up.expect("written").into_iter().map(|gone| (gone.reason, gone.count)).collect()
    }

    /// Takes the message that is due next for a target.
    fn take(&self, target: Target) -> Option<Value> {
        let now = self.now;
        let leased = self.store.lease(target, now).expect("readable")?;
        let parts = match leased.work {
            LeasedWork::Send(part) => vec![part],
            LeasedWork::Compose { notice, .. } => {
                let known = Known { now, ..Known::default() };
                let parts = compose(&notice, &known, &Wording::new(Language::En, TimeZone::UTC), target);
                let kept = self.store.write(|writing| writing.compose(leased.id, &parts, &[], now));
                assert!(kept.expect("written"));
                parts
            }
        };
        self.store.write(|writing| writing.settle(leased.id, &Settled::Sent, now)).expect("written");
        parts.into_iter().next().map(|part| part.rich)
    }

    /// Sends what is due next to WeCom, twenty a minute. False if there is nothing.
    fn send(&mut self) -> bool {
        let Some(body) = self.take(Wecom) else { return false };
        let (instant, began) = self.began;
        let at = instant + Duration::try_from(self.now.duration_since(began)).expect("later");
        let (_, answer, taken) = self.wecom.answer(&self.path, &body, at);
        assert!(taken, "{answer}: {body:#}");
        self.chat.push(self.wecom.words(&body));
        self.pass(SignedDuration::from_secs(3));
        true
    }

    /// Every alert as often as it is named, in the order of the messages.
    fn named(&self) -> Vec<String> {
        let is_number = |text: &str| text.parse::<usize>().is_ok();
        let is_name = |word: &str| {
            let mut kinds = ["Old", "Young", "Second", "Many"].into_iter();
            kinds.any(|kind| word.strip_prefix(kind).is_some_and(is_number))
        };
        let mut named = Vec::new();
        for line in self.chat.iter().flat_map(|text| text.lines()) {
            let over = if line.contains("Resolved · ") { "over " } else { "" };
            let words = line.split(|c: char| !c.is_ascii_alphanumeric());
            named.extend(words.filter(|word| is_name(word)).map(|word| format!("{over}{word}")));
        }
        named
    }

    /// How many alerts are counted without their names.
    fn counted(&self) -> usize {
        let lines = self.chat.iter().flat_map(|text| text.lines());
        let numbers = lines.filter_map(|line| line.strip_prefix('+')?.split(' ').next());
        numbers.filter_map(|number| number.replace(',', "").parse::<usize>().ok()).sum()
    }
}

#[test]
fn fault_26_ten_thousand_messages_are_sent_to_the_last_one_and_no_alert_is_lost_or_told_twice() {
    let mut backlog = Backlog::new();
    backlog.queue("Old", 0..OLD);
    backlog.pass(SignedDuration::from_hours(20));
    backlog.queue("Young", 0..YOUNG);
    for numbers in [0..400, 400..MANY] {
        let many: Vec<Told> = numbers.map(|number| told(&name("Many", number), Opened)).collect();
        tell(&backlog.store, "storm", many, &[Wecom], backlog.now);
    }
    backlog.pass(SignedDuration::from_hours(5));
    for number in SECOND {
        backlog.news(number, "Second", Opened);
    }
    // The service is back. What is too old for it, and then what has no room, is given up.
    assert_eq!(backlog.upkeep(), [("too_old", 2_000)]);
    backlog.pass(SignedDuration::from_secs(10));
    assert_eq!(backlog.upkeep(), [("too_many", 500)]);
    assert_eq!(backlog.store.queues().expect("readable")[&Wecom].waiting, 10_000);

    let mut sent = 0;
    while backlog.send() {
        sent += 1;
        if sent == 5_000 {
            for number in OVER.chain([TOLD_AND_OVER]) {
                backlog.news(number, "Young", Resolved);
            }
        }
        if sent % 500 == 0 {
            let given_up = backlog.upkeep();
            assert!(given_up.is_empty(), "{given_up:?} after {sent}");
        }
    }
    assert!(!backlog.store.queues().expect("readable").contains_key(&Wecom), "something still waits");
    // Of the storm one, of each that had news one, was said by another message.
    let (_, superseded) = backlog.store.superseded(0).expect("readable");
    assert_eq!(superseded[&Wecom], 1 + 100 + 200);

    let (storm, mut named): (Vec<String>, Vec<String>) =
        backlog.named().into_iter().partition(|name| name.starts_with("Many"));
    let young = named.iter().filter(|name| name.starts_with("Young"));
    assert!(young.is_sorted(), "they overtook each other");
    let mut wanted: Vec<String> = SECOND.map(|number| name("Second", number)).collect();
    wanted.push(over(TOLD_AND_OVER));
    wanted.extend((EXCESS..YOUNG).map(|number| {
        // Of one that is over before anybody was told of it, one message says both.
        if OVER.contains(&number) { over(number) } else { name("Young", number) }
    }));
    named.sort();
    wanted.sort();
    let odd = named.iter().zip(&wanted).find(|(named, wanted)| named != wanted);
    assert!(named == wanted, "{} named, {} wanted, {odd:?}", named.len(), wanted.len());
    let different: BTreeSet<&String> = storm.iter().collect();
    assert_eq!((different.len(), storm.len() + backlog.counted()), (storm.len(), MANY));

    // The others are told how many were given up, and nothing else.
    let digests = std::iter::from_fn(|| backlog.take(Feishu));
    let digests: Vec<String> = digests.map(|body| fakes::Feishu::default().words(&body)).collect();
    assert_eq!(digests.len(), 2, "{digests:?}");
    assert!(digests[0].contains("2,000 messages to WeCom"), "{}", digests[0]);
    assert!(digests[1].contains("500 messages to WeCom"), "{}", digests[1]);
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
