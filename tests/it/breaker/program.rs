//! The real program: it dies at every step, watches whether a channel went quiet, and `check` asks without acting.

use std::time::Duration;

use jiff::SignedDuration;
use token_monitor::breaker::act::{Kind, Outcome};
use token_monitor::clock::Clock;
use token_monitor::config::Flags;
use token_monitor::demo::world::{ADMIN_TOKEN, USER_TOKEN};
use token_monitor::store::{ActState, Store};

use super::{breaker_flags, no_secret_in, request};
use crate::fakes::admin::{FakeAdmin, Fault, Style};
use crate::schema::{LogRow, Version};
use crate::servers::Engine;
use crate::support::{Folder, Monitor, Process, command, eventually};

/// Lines of the ledger of a monitor that runs.
fn ledger(folder: &Folder, act: i64) -> Vec<String> {
    let path = folder.path().join("monitor.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(path, flags).expect("monitor.db");
    let mut statement =
        connection.prepare("SELECT step FROM ledger WHERE act = ? ORDER BY id").expect("a ledger");
    let lines = statement.query_map([act], |row| row.get(0)).expect("lines");
    lines.collect::<Result<_, _>>().expect("steps")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_still_answers_after_it_was_disabled_is_told_of_and_one_that_is_quiet_is_not() {
    let (gateway, folder) = (FakeAdmin::start(Style::New).await, Folder::new());
    let flags = breaker_flags(&gateway, &folder);
    let clock = Clock::fixed(Clock::system().now());
    let tripped = clock.unix();
    // As if the program had died right after it took the alerts in.
    let store = Store::open(&folder.path().join("monitor.db")).expect("monitor.db");
    let acts: Vec<i64> = store
        .write(|w| [2, 5].iter().map(|id| Ok(w.request_trip(&request(*id, *id, clock.now()))?.act)).collect())
        .expect("asked");
    drop(store);
    let monitor = Monitor::start_at(&flags, clock.clone()).await;
    monitor.page().wait_ready().await;
    eventually("both are disabled", async || gateway.status(2) == 2 && gateway.status(5) == 2).await;
    eventually("both are done", async || {
        acts.iter().all(|act| ledger(&folder, *act).contains(&"result".to_owned()))
    })
    .await;
    // The one begins requests long after; the other ends some that had begun before.
    let row = |channel_id: i64, use_time: i64| LogRow {
        channel_id,
        use_time,
        created_at: tripped + 170,
        ..LogRow::default()
    };
    // Two that began while other nodes had not heard of it are told with the others.
    let early = |seconds| LogRow { created_at: tripped + seconds, ..row(2, 1) };
    let rows = [early(20), early(40), row(2, 1), row(2, 2), row(2, 0), row(5, 100), row(5, 120), row(5, 150)];
    gateway.sql(&LogRow::insert(&rows, Engine::Sqlite, Version::V1_0_0Rc24));
    clock.set(clock.now() + SignedDuration::from_secs(200));
    eventually("it is told", async || ledger(&folder, acts[0]).contains(&"busy".to_owned())).await;
    clock.set(clock.now() + SignedDuration::from_secs(230));
    eventually("it is quiet", async || ledger(&folder, acts[1]).contains(&"quiet".to_owned())).await;
    let busy = ledger(&folder, acts[0]).iter().filter(|step| *step == "busy").count();
    assert_eq!((busy, ledger(&folder, acts[1]).contains(&"busy".to_owned())), (1, false));
    let path = folder.path().join("monitor.db");
    let connection = rusqlite::Connection::open(path).expect("monitor.db");
    let facts: String = connection
        .query_row("SELECT facts FROM notices WHERE kind = 'still_busy'", [], |row| row.get(0))
        .expect("a notice");
    let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
    assert_eq!((&facts["requests"], &facts["at_least"]), (&5.into(), &false.into()), "{facts}");
    let seconds = facts["seconds"].as_i64().expect("seconds");
    assert!((199..=230).contains(&seconds), "since it was disabled: {facts}");
    monitor.stop().await;
}

/// How the program dies in a round of the test below.
const DEATHS: [&str; 3] = ["the request is on its way", "it is done, and nobody said so", "at any moment"];

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_between_intent_and_read_back_leaves_a_ledger_that_explains_the_channel() {
    let (gateway, folder) = (FakeAdmin::start(Style::New).await, Folder::new());
    let flags = Flags {
        breaker_max_per_hour: Some("1000".to_owned()),
        rust_log: Some("warn".to_owned()),
        ..breaker_flags(&gateway, &folder)
    };
    let path = folder.path().join("monitor.db");
    let open = || Store::open(&path).expect("monitor.db");
    let record = |act: i64| open().acts_page(Some(act + 1), 1).expect("a page").remove(0);
    let mut found_by_reading = 0;
    for round in 0..9 {
        let (kind, wanted) = if round % 2 == 0 { (Kind::Trip, 2) } else { (Kind::Restore, 1) };
        let now = Clock::system().now();
        let act = open()
            .write(|writing| match kind {
                Kind::Trip => Ok(writing.request_trip(&request(round, 2, now))?.act),
                Kind::Restore => writing.request_by_operator(kind, 2, "", now),
            })
            .expect("asked");
        let before = gateway.written().len();
        let death = DEATHS[usize::try_from(round).expect("a place") % 3];
        match death {
            "the request is on its way" => gateway.writes([Fault::Slow(Duration::from_secs(3))]),
            "it is done, and nobody said so" => gateway.writes([Fault::DoneAndSilent]),
            _ => gateway.always(Fault::Slow(Duration::from_millis(50))),
        }
        let process = Process::spawn(&flags);
        if death == DEATHS[2] {
            tokio::time::sleep(Duration::from_millis(crate::ledger::mixed(round.unsigned_abs()) % 600)).await;
        } else {
            eventually("it was sent", async || gateway.written().len() > before).await;
            if death == DEATHS[1] {
                eventually("it was done", async || gateway.status(2) == wanted).await;
            }
        }
        process.kill();
        gateway.heal();
        let dead = record(act);
        if death != DEATHS[2] {
            assert_eq!(dead.state, ActState::Running, "{death}");
        }
        let sent = gateway.written().len();
        let process = Process::spawn(&flags);
        let done = || ledger(&folder, act).contains(&"result".to_owned());
        eventually("the act has ended", async || done()).await;
        process.kill();

        let (ended, steps) = (record(act), open().ledger(act).expect("a ledger"));
        let count = |name: &str| steps.iter().filter(|line| line.step == name).count();
        assert_eq!(ended.act.outcome, Outcome::Done, "{round} {death}: {steps:?}");
        assert_eq!((gateway.status(2), count("result"), count("told")), (wanted, 1, 1), "{round} {death}");
        // Nothing was ever sent that was not written down before.
        assert!(gateway.written().len() - before <= count("intent"), "{steps:?}");
        if death == DEATHS[1] {
            assert_eq!(gateway.written().len(), sent, "what was done is not done again");
            assert_eq!((count("reconciled"), count("intent")), (1, 1), "{steps:?}");
            found_by_reading += 1;
        }
        let held = open().held().expect("holds");
        assert_eq!(held.len(), usize::from(kind == Kind::Trip), "{round} {death}");
    }
    assert_eq!(found_by_reading, 3);
    no_secret_in(&folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_whether_the_key_may_act_without_acting() {
    for style in Style::ALL {
        let (gateway, folder) = (FakeAdmin::start(style).await, Folder::new());
        let all = "SELECT sum(status * id * id) FROM channels";
        let before = gateway.number(all);
        let checked = async |key: &str| {
            let flags = Flags { new_api_key: Some(key.to_owned()), ..breaker_flags(&gateway, &folder) };
            let mut command = command(&flags);
            command.arg("check");
            let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
            let output = output.expect("it runs");
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert!(!printed.contains("demo-secret"), "{printed}");
            (output.status.code(), printed)
        };
        let (code, printed) = checked(ADMIN_TOKEN).await;
        let route = if style == Style::Old { "by PUT" } else { "by POST" };
        assert!(code == Some(0) && printed.contains(route), "{style:?}: {printed}");
        assert!(printed.contains("breaker: enforce; at most 10 channels an hour"), "{printed}");
        let (code, printed) = checked(USER_TOKEN).await;
        assert!(code == Some(1) && printed.contains("fail  admin API"), "{style:?}: {printed}");
        assert!(printed.contains("access token of an administrator"), "{printed}");
        let (code, printed) = checked("sk-abc").await;
        assert!(code == Some(2) && printed.contains("starts with sk-"), "{style:?}: {printed}");
        assert_eq!(gateway.number(all), before, "{style:?}");
        assert!(gateway.written().iter().all(|line| line.contains("/none/")), "{:?}", gateway.written());
    }
}
