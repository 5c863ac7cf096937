//! The Watchdog alert stops arriving while the program runs: every chat is told once, whatever becomes of the
//! program, and once more when the alert is back.

use std::path::Path;
use std::time::{Duration, Instant};

use token_monitor::clock::Clock;
use token_monitor::config::{Config, Flags};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::fakes::bots;
use crate::night::{Chats, named, payload};
use crate::support::{Api, Folder, build, eventually, flags, resolved};

/// Shorter than `WATCHDOG_TIMEOUT` may be, so that nobody has to wait for a minute.
const TIMEOUT: Duration = Duration::from_secs(3);

/// In this time silence would have been noticed, and told.
const LONG_ENOUGH: Duration = Duration::from_secs(6);

const SILENT: &str = "The Watchdog alert last arrived";
const BACK: &str = "The Watchdog alert is back";

/// It stands in every message.
const ANYTHING: &str = "Token Monitor";

/// The program, in this process so that it can be less patient than its variables allow.
struct Program {
    api: Api,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Program {
    async fn start(chats: &Chats, folder: &Path) -> Self {
        let nowhere = format!("sqlite://{}", folder.join("nowhere.db").display());
        let config = Config {
            delivery: bots(&chats.variables()),
            watchdog_timeout: TIMEOUT,
            ..resolved(&flags(&nowhere, folder))
        };
        let app = build(config, Clock::system()).await;
        let api = Api::new(app.address(), None);
        Self { api, running: tokio::spawn(app.run(CancellationToken::new())) }
    }

    /// Alertmanager brings an alert of this name.
    async fn hears(&self, name: &str) {
        let answer = self.api.post("/webhook/alertmanager", &payload(name, &[named(name)])).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Waits until it has noted of so many messages that they were sent: what is killed before that is sent again.
    async fn has_noted(&self, sent: usize) {
        eventually("what was sent is noted", async || {
            self.api.pages("deliveries?state=sent").await.0.len() == sent
        })
        .await;
    }

    /// Ends it in the midst of whatever it does.
    async fn kill(self) {
        self.running.abort();
        let ended = self.running.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "it had ended by itself");
    }
}

/// How many messages of each chat say this.
fn telling(chats: &Chats, what: &str) -> [usize; 3] {
    chats.messages().map(|chat| chat.iter().filter(|text| text.contains(what)).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_watchdog_is_told_once_however_often_the_program_is_killed_and_so_is_its_return() {
    let (chats, folder) = (Chats::start().await, Folder::new());
    let program = Program::start(&chats, &folder.path()).await;
    // Killed in the silence, before that is long enough to be told.
    let heard = Instant::now();
    program.hears("Watchdog").await;
    program.kill().await;
    let program = Program::start(&chats, &folder.path()).await;
    eventually("every chat tells of the silence", async || telling(&chats, SILENT) == [1; 3]).await;
    assert!(heard.elapsed() >= TIMEOUT, "told after {:?}", heard.elapsed());

    // Killed in the silence, after it was told.
    program.has_noted(3).await;
    program.kill().await;
    let program = Program::start(&chats, &folder.path()).await;
    sleep(LONG_ENOUGH).await;
    assert_eq!(telling(&chats, ANYTHING), [1; 3], "{:#?}", chats.messages());

    // It repeats itself, and only the first one is news.
    program.hears("Watchdog").await;
    program.hears("Watchdog").await;
    eventually("every chat tells that it is back", async || telling(&chats, BACK) == [1; 3]).await;
    // A silence after that is another one.
    eventually("every chat tells of the next silence", async || telling(&chats, SILENT) == [2; 3]).await;
    assert_eq!(telling(&chats, ANYTHING), [3; 3], "{:#?}", chats.messages());
    program.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_that_was_never_heard_is_not_missed() {
    let (chats, folder) = (Chats::start().await, Folder::new());
    let program = Program::start(&chats, &folder.path()).await;
    program.hears("Burning").await;
    eventually("every chat tells of what was heard", async || telling(&chats, "Burning") == [1; 3]).await;
    sleep(LONG_ENOUGH).await;
    assert_eq!(telling(&chats, ANYTHING), [1; 3], "{:#?}", chats.messages());
    program.kill().await;
}

#[test]
fn it_may_be_silent_for_ten_minutes_or_for_as_long_as_the_variable_says() {
    for (said, seconds) in [(None, 600), (Some("90s"), 90)] {
        let flags = Flags {
            watchdog_timeout: said.map(str::to_owned),
            ..flags("sqlite:///nowhere.db", Path::new("/nowhere"))
        };
        assert_eq!(resolved(&flags).watchdog_timeout, Duration::from_secs(seconds));
    }
}
