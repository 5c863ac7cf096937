//! Ten thousand wrong passwords slow down nobody who has the right one, and cost no memory that stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use token_monitor::config::Flags;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::installation::every_kind_of_row;
use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Api, Folder, Process, flags, now};

const GUESSES: usize = 10_000;

/// Connections of those who guess, at the same time.
const AT_ONCE: usize = 400;

/// Resident memory of a process now and at most, in KiB.
fn memory(process: &Process) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).expect("Linux");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    (of("VmRSS:"), of("VmHWM:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_passwords_slow_down_nobody_else() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&every_kind_of_row(now() - 120)).await;
    let flags = Flags { access_password: Some("right".into()), ..flags(&database.url, &folder.path()) };
    let process = Process::spawn(&flags);
    process.page().wait_ready().await;
    let right = Api::new(process.address, Some("right"));
    right.get("overview").await;
    let (before, _) = memory(&process);

    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut guesses = JoinSet::new();
    let client = reqwest::Client::new();
    let overview = format!("http://{}/api/v1/overview", process.address);
    for number in 0..GUESSES {
        let (places, guess) =
            (Arc::clone(&places), client.get(&overview).bearer_auth(format!("guess-{number}")));
        guesses.spawn(async move {
            let _place = places.acquire_owned().await.expect("a place");
            let answer = guess.send().await.expect("an answer");
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            let status = answer.status().as_u16();
            answer.bytes().await.expect("a body");
            status
        });
    }
    let (mut times, mut statuses) = (Vec::new(), Vec::new());
    while statuses.len() < GUESSES {
        while let Some(status) = guesses.try_join_next() {
            statuses.push(status.expect("an answer"));
        }
        let began = Instant::now();
        right.get("overview").await;
        times.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let refused = statuses.iter().filter(|status| **status == 401).count();
    let turned_away = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(refused + turned_away, GUESSES, "nobody gets in");
    assert!(refused > 100 && turned_away > 100, "{refused} refused, {turned_away} turned away");

    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    // Guesses are held back for two seconds. One who knows the password never is; what remains is a busy machine.
    assert!(
        times.len() > 30 && p99 < Duration::from_millis(1500),
        "p99 of {} answers is {p99:?}",
        times.len()
    );
    let (after, peak) = memory(&process);
    assert!(peak < before + 96 * 1024, "{before} KiB before, {peak} KiB at most");
    assert!(after < before + 64 * 1024, "{before} KiB before, {after} KiB after");
    right.get("overview").await;
}
