//! What becomes of the limits when the file comes, goes and changes.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

use super::*;
use crate::config::LimitsPath;
use crate::newapi::Channel;

const GOOD: &str = "limits:\n  - {name: a, measure: requests, max: 5, window: 1h}\n";
const BAD: &str = "limits:\n  - {name: a, measure: apples, max: 5, window: 1h}\n";
const NAMED: &str = "limits:\n  - {name: b, channel: azure, measure: requests, max: 5, window: 1h}\n";

/// A meter on a file that need not be there, with the last run's monitor.db.
struct Desk {
    folder: tempfile::TempDir,
    store: Store,
    state: State,
    meter: Meter,
}

fn meter(folder: &Path, state: &State, store: &Store) -> Meter {
    let config = MeterConfig {
        file: LimitsPath { path: folder.join("limits.yml"), named: false },
        timezone: TimeZone::UTC,
        max_series: 2000,
        history: Duration::from_secs(31 * 86_400),
    };
    let clock = Clock::fixed(Timestamp::from_second(1_800_000_000).expect("a time"));
    Meter::new(config, state.clone(), store.clone(), clock)
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("monitor.db")).expect("a monitor.db");
        let state = State::default();
        state.update_directory(|directory| directory.ready = true);
        state.update_tail(|tail| tail.caught_up = true);
        let meter = meter(folder.path(), &state, &store);
        Self { folder, store, state, meter }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("limits.yml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).expect("writing");
    }

    /// Looks twice, as a change needs. Names of the limits in force, and whether something is wrong.
    fn look(&mut self) -> (Vec<String>, bool) {
        self.meter.step();
        self.meter.step();
        let status = self.state.limits();
        assert!(status.looked && status.standings.is_some());
        (status.limits.iter().map(|limit| limit.name.clone()).collect(), status.error.is_some())
    }

    /// Starts again.
    fn again(&mut self) {
        self.meter = meter(self.folder.path(), &self.state, &self.store);
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn without_a_file_nothing_is_limited_until_one_comes() {
    let mut desk = Desk::new();
    assert_eq!(desk.look(), (names(&[]), false));
    desk.write(GOOD);
    assert_eq!(desk.look(), (names(&["a"]), false));
    desk.write("limits: []");
    assert_eq!(desk.look(), (names(&[]), false));
}

#[test]
fn a_file_that_is_gone_or_bad_ends_no_limit() {
    let mut desk = Desk::new();
    desk.write(GOOD);
    assert_eq!(desk.look(), (names(&["a"]), false));
    desk.write(BAD);
    assert_eq!(desk.look(), (names(&["a"]), true));
    std::fs::remove_file(desk.file()).expect("removing");
    assert_eq!(desk.look(), (names(&["a"]), true));
    // Nor over a restart: with no file, with a bad one, and when that disappears for a moment.
    desk.again();
    assert_eq!(desk.look(), (names(&["a"]), true));
    desk.again();
    desk.write(BAD);
    assert_eq!(desk.look(), (names(&["a"]), true));
    std::fs::remove_file(desk.file()).expect("removing");
    assert_eq!(desk.look(), (names(&["a"]), true));
    desk.write("limits: []");
    assert_eq!(desk.look(), (names(&[]), false));
    desk.again();
    std::fs::remove_file(desk.file()).expect("removing");
    assert_eq!(desk.look(), (names(&[]), false), "that nothing is limited was said");
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let mut desk = Desk::new();
    assert_eq!(desk.look().0, names(&[]));
    desk.write("limits: []");
    desk.meter.step();
    desk.write(GOOD);
    desk.meter.step();
    assert_eq!(desk.state.limits().loaded_at, None, "two looks must agree");
    desk.meter.step();
    assert_eq!(desk.state.limits().limits.len(), 1);
    desk.write("limits: []");
    desk.meter.asked = true;
    desk.meter.step();
    assert_eq!(desk.state.limits().limits.len(), 0, "SIGHUP means now");
}

#[test]
fn a_channel_that_comes_after_the_file_is_known_then() {
    let mut desk = Desk::new();
    desk.write(NAMED);
    assert_eq!(desk.look(), (names(&[]), true));
    desk.state.update_facts(|facts| {
        let azure = Channel { name: "azure".to_owned(), ..Channel::default() };
        Arc::make_mut(&mut facts.directory).channels.insert(3, azure);
    });
    assert_eq!(desk.look(), (names(&["b"]), false));
    // A name of then is understood when the channel has another one.
    desk.state.update_facts(|facts| {
        Arc::make_mut(&mut facts.directory).channels.clear();
    });
    desk.again();
    assert_eq!(desk.look(), (names(&["b"]), true));
}
