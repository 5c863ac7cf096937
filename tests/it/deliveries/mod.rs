//! Messages on their way to the three services, which are played by [`crate::fakes`].
//!
//! Tests with a number in their name show one of the faults that the project promises to stand.

mod answers;
mod network;
mod order;
mod process;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use token_monitor::alert::{Alert, Status};
use token_monitor::clock::Clock;
use token_monitor::config::{DeliveryConfig, Language};
use token_monitor::delivery::{Knowledge, Outbox};
use token_monitor::message::{AlertGroup, Change, Notice, Target, Told, Wording};
use token_monitor::state::State;
use token_monitor::store::{Delivery, DeliveryFilter, DeliveryState, NewNotice, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Folder, eventually};

/// An outbox and what it needs, without a monitor around it.
pub struct World {
    _folder: Folder,
    pub store: Store,
    pub state: State,
    pub clock: Clock,
}

/// An outbox at work.
pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Stops it in good order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("no failure");
    }
}

impl World {
    pub fn new() -> Self {
        Self::at(Clock::system())
    }

    pub fn at(clock: Clock) -> Self {
        let folder = Folder::new();
        let store = Store::open(&folder.path().join("monitor.db")).expect("a store");
        Self { _folder: folder, store, state: State::default(), clock }
    }

    /// Starts an outbox for these bots.
    pub fn run(&self, bots: DeliveryConfig) -> Running {
        let (store, state, clock) = (self.store.clone(), self.state.clone(), self.clock.clone());
        let wording = Wording::new(Language::En, TimeZone::UTC);
        let knowledge =
            Knowledge::new(store.clone(), state.clone(), store.history(), TimeZone::UTC, clock.clone());
        let outbox = Outbox::new(store, state, clock, bots, wording, knowledge).expect("an outbox");
        let stop = CancellationToken::new();
        let task = tokio::spawn(outbox.run(stop.clone()));
        Running { stop, task }
    }

    /// Queues a notice of new alerts of these names, and rings.
    pub fn tell(&self, group: &str, names: &[&str], targets: &[Target]) {
        let alerts: Vec<Told> = names.iter().map(|name| told(name, Change::Opened)).collect();
        self.tell_at(group, alerts, targets, self.clock.now());
    }

    /// The same of alerts as they are, as if it had been at another time.
    pub fn tell_at(&self, group: &str, alerts: Vec<Told>, targets: &[Target], at: Timestamp) {
        tell(&self.store, group, alerts, targets, at);
        self.state.outbox_bell().notify_one();
    }

    /// Deliveries to a target, oldest first.
    pub fn deliveries(&self, target: Target) -> Vec<Delivery> {
        let mut all = self
            .store
            .deliveries_page(
                None,
                20_000,
                &DeliveryFilter { target: Some(target), ..DeliveryFilter::default() },
            )
            .expect("deliveries");
        all.reverse();
        all
    }

    /// Waits until the deliveries to a target are in these states.
    pub async fn wait_states(&self, target: Target, wanted: &[DeliveryState]) {
        eventually(&format!("{} deliveries are {wanted:?}", target.as_str()), async || {
            self.deliveries(target).iter().map(|delivery| delivery.state).eq(wanted.iter().copied())
        })
        .await;
    }

    /// Requests with this result and reason.
    pub fn counted(&self, target: Target, result: &str, reason: &str) -> u64 {
        let deliveries = self.state.alerting().deliveries;
        let found = deliveries.iter().find(|((t, r, w), _)| (*t, *r, *w) == (target, result, reason));
        found.map_or(0, |(_, count)| *count)
    }
}

/// Queues a notice.
pub fn tell(store: &Store, group: &str, alerts: Vec<Told>, targets: &[Target], at: Timestamp) {
    store.write(|writing| writing.enqueue(&notice(group, alerts, at), targets)).expect("queued");
}

/// A notice of these alerts.
pub fn notice(group: &str, alerts: Vec<Told>, at: Timestamp) -> NewNotice {
    let notice = Notice::Alerts(AlertGroup {
        receiver: "test".into(),
        external_url: None,
        truncated: 0,
        event: format!("event-of-{group}"),
        received_at: at,
        alerts,
    });
    NewNotice { group_key: group.into(), notice, at, hold_until: None, waits_for: Vec::new() }
}

/// An alert of a name, an incident of its own.
pub fn told(name: &str, change: Change) -> Told {
    let began = Timestamp::from_second(1_790_000_000).expect("a time");
    Told {
        alert: Alert {
            status: if change == Change::Resolved { Status::Resolved } else { Status::Firing },
            labels: BTreeMap::from([
                ("alertname".to_owned(), name.to_owned()),
                ("severity".to_owned(), "warning".to_owned()),
            ]),
            annotations: BTreeMap::new(),
            starts_at: began,
            ends_at: (change == Change::Resolved).then_some(began),
            fingerprint: format!("fingerprint of {name}"),
            generator_url: None,
            silence_url: None,
            dashboard_url: None,
        },
        incident: name.bytes().fold(7_i64, |sum, byte| sum * 31 % 1_000_003 + i64::from(byte)),
        change,
        opened_at: began,
        act: None,
    }
}
