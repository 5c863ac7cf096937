//! What a call of the webhook does: in one transaction the event, its incidents, the messages to people and what is asked of
//! the breaker. Also the Watchdog: says so when calls stop coming.

mod silence;

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::alert::{Alert, Notification, Status};
use crate::clock::Clock;
use crate::limits::Severity;
use crate::message::{AlertGroup, Change, Notice, Target, Told, Trouble};
use crate::state::State;
use crate::store::{NewNotice, Noted, Requested, Store, StoreError, TripRequest, Writing};
use silence::Watch;

/// The same call within this time is a twin: of another Alertmanager of the cluster, or sent again because our answer was
/// lost. Longer than an interval of a group and the time for which peers wait for each other.
const TWIN_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// The same for a reminder, which is meant to be heard each time.
const REMINDER_WINDOW: SignedDuration = SignedDuration::from_mins(2);

/// What merely lasts is told again only if people were not told of it for this time: another route of the sender may
/// bring the same alerts.
const OLD_NEWS: SignedDuration = SignedDuration::from_mins(2);

/// A message waits so long for the breaker, so that it can say how its act went.
const HOLD: SignedDuration = SignedDuration::from_secs(5);

/// Besides what is new, so many alerts of the group that merely last are told, the worst first: without them a message
/// about one that is over would look as if all were well.
const MAX_LASTING: usize = 20;

/// Longest key of a group that is used as it is, in bytes.
const LONGEST_GROUP_KEY: usize = 300;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was taken in.
    Accepted,
    /// It was taken in before.
    Duplicate,
}

impl Taken {
    /// The label value of `result`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Takes in notifications. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    store: Store,
    state: State,
    clock: Clock,
    targets: Vec<Target>,
    watchdog_timeout: Duration,
    /// When this process began.
    began: Timestamp,
}

impl Intake {
    /// Takes in what is then told to `targets`.
    pub fn new(
        store: Store,
        state: State,
        clock: Clock,
        targets: Vec<Target>,
        watchdog_timeout: Duration,
    ) -> Self {
        let began = clock.now();
        Self { store, state, clock, targets, watchdog_timeout, began }
    }

    /// Takes in a call. When this returns, all that it leads to is in monitor.db.
    ///
    /// # Errors
    /// If monitor.db cannot be written. Nothing was taken in then, and the sender should come again.
    pub async fn accept(&self, notification: Notification) -> Result<Taken, StoreError> {
        let (intake, at) = (self.clone(), self.clock.now());
        let heard = notification.has_watchdog();
        let taken = spawn_blocking(move || intake.take(notification, at))
            .await
            .map_err(|error| StoreError::Damaged(format!("taking in a call failed: {error}")))??;
        self.state.update_alerting(|status| {
            status.last_webhook_at = Some(seconds(at));
            if heard {
                status.last_watchdog_at = Some(seconds(at));
            }
        });
        // Whether there is anything new for them is for them to see.
        self.state.breaker_bell().notify_one();
        self.state.outbox_bell().notify_one();
        Ok(taken)
    }

    /// The whole of it, which blocks.
    fn take(&self, mut notification: Notification, at: Timestamp) -> Result<Taken, StoreError> {
        let heard = notification.has_watchdog();
        notification.alerts.retain(|alert| !alert.is_watchdog());
        self.store.write(|writing| {
            writing.note_webhook(at)?;
            // Also in a call that came before: it repeats itself, and that is what it is for.
            if heard && let Some(since) = writing.note_watchdog(at)? {
                tracing::info!("the Watchdog alert arrives again");
                self.tell_trouble(writing, Trouble::PipelineBack { since }, at)?;
            }
            if notification.alerts.is_empty() {
                return Ok(Taken::Accepted);
            }
            let window = if notification.is_reminder() { REMINDER_WINDOW } else { TWIN_WINDOW };
            let key = notification.key();
            if !writing.note_event(&key, at, window)? && !writing.reopens(&notification.alerts, at)? {
                return Ok(Taken::Duplicate);
            }
            self.take_alerts(writing, notification, &event_name(&key, at), at)?;
            Ok(Taken::Accepted)
        })
    }

    fn take_alerts(
        &self,
        writing: &Writing<'_>,
        notification: Notification,
        event: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let noted = writing.note_alerts(&notification.alerts, &notification.receiver, at)?;
        let mut asked = Vec::with_capacity(noted.len());
        for (alert, noted) in notification.alerts.iter().zip(&noted) {
            if let Some(ended) = noted.ended {
                writing.incident_over(ended, at)?;
            }
            if noted.change == Some(Change::Resolved) {
                writing.incident_over(noted.incident, at)?;
            }
            asked.push(self.ask(writing, alert, noted, at)?);
        }
        let acts = |wanted: fn(&Requested) -> bool| -> Vec<i64> {
            asked.iter().flatten().filter(|asked| wanted(asked)).map(|asked| asked.act).collect()
        };
        let (fresh, pending) = (acts(|asked| asked.fresh), acts(|asked| asked.pending));
        let group_key = group_key(&notification);
        let alerts: Vec<(Told, Option<Timestamp>)> = notification
            .alerts
            .into_iter()
            .zip(noted)
            .zip(asked)
            .filter_map(|((alert, noted), asked)| {
                let (incident, opened_at) = (noted.incident, noted.started_at);
                let act = asked.map(|asked| asked.act);
                Some((Told { alert, incident, change: noted.change?, opened_at, act }, noted.told_at))
            })
            .collect();
        let (alerts, left_out) = worth_telling(alerts, &fresh, at);
        if alerts.is_empty() {
            return Ok(());
        }
        for told in &alerts {
            writing.note_told(told.incident, at)?;
        }
        let mut group = AlertGroup {
            receiver: notification.receiver,
            external_url: notification.external_url,
            truncated: notification.truncated.saturating_add(left_out),
            event: event.to_owned(),
            received_at: at,
            alerts,
        };
        group.bound();
        let notice = Notice::Alerts(group);
        let hold_until = (!pending.is_empty()).then(|| at.saturating_add(HOLD).unwrap_or(at));
        writing
            .enqueue(&NewNotice { group_key, notice, at, hold_until, waits_for: pending }, &self.targets)?;
        Ok(())
    }

    /// Asks the breaker for what an alert asks for.
    fn ask(
        &self,
        writing: &Writing<'_>,
        alert: &Alert,
        noted: &Noted,
        at: Timestamp,
    ) -> Result<Option<Requested>, StoreError> {
        if alert.status != Status::Firing || !alert.asks_to_disable() {
            return Ok(None);
        }
        let requested = writing.request_trip(&TripRequest {
            incident: noted.incident,
            rule: alert.name().to_owned(),
            fingerprint: alert.fingerprint.clone(),
            channel: alert.channel_to_disable(),
            starts_at: alert.starts_at,
            restore: alert.restore(),
            limit: Some(alert.label("limit")).filter(|limit| !limit.is_empty()).map(str::to_owned),
            at,
            process_began: self.began,
        })?;
        writing.note_act(noted.incident, requested.act)?;
        Ok(Some(requested))
    }

    /// Tells of trouble with the way to us.
    fn tell_trouble(&self, writing: &Writing<'_>, trouble: Trouble, at: Timestamp) -> Result<(), StoreError> {
        let notice = NewNotice {
            group_key: "pipeline".to_owned(),
            notice: Notice::Trouble(trouble),
            at,
            hold_until: None,
            waits_for: Vec::new(),
        };
        writing.enqueue(&notice, &self.targets)?;
        Ok(())
    }

    /// Watches the Watchdog until `stop`.
    ///
    /// # Errors
    /// Only for a bug.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut watch = Watch::new(self.clock.now(), self.watchdog_timeout);
        let mut remembered = false;
        loop {
            let (intake, now) = (self.clone(), self.clock.now());
            watch = spawn_blocking(move || {
                if !remembered {
                    intake.remember();
                }
                intake.look(&mut watch, now);
                watch
            })
            .await?;
            remembered = true;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(silence::STEP) => {}
            }
        }
    }

    /// Shows when a call was last taken in, and the Watchdog last heard, by whichever run.
    fn remember(&self) {
        match self.store.pipeline() {
            Ok(pipeline) => self.state.update_alerting(|status| {
                status.last_webhook_at = status.last_webhook_at.or(pipeline.last_webhook_at.map(seconds));
                status.last_watchdog_at = status.last_watchdog_at.or(pipeline.watchdog_at.map(seconds));
            }),
            Err(error) => tracing::warn!("when the webhook was last called is not known: {error}"),
        }
    }

    /// Looks whether the Watchdog is silent, and says so once.
    fn look(&self, watch: &mut Watch, now: Timestamp) {
        watch.pass(now);
        let told = self.store.pipeline().and_then(|pipeline| {
            let Some(since) = watch.silent_since(&pipeline, now) else { return Ok(false) };
            self.store.write(|writing| {
                let news = writing.note_silence(since)?;
                if news {
                    self.tell_trouble(writing, Trouble::PipelineSilent { since }, now)?;
                }
                Ok(news)
            })
        });
        match told {
            Ok(true) => {
                tracing::warn!("the Watchdog alert stopped arriving");
                self.state.outbox_bell().notify_one();
            }
            Ok(false) => {}
            // The webhook and the tailer say so as well, and louder.
            Err(error) => tracing::debug!("the Watchdog cannot be watched: {error}"),
        }
    }
}

/// What of a group is told, with when people were last told of each, and how many alerts are left out. If anything is
/// new, that, and the worst of what lasts; else all that lasts, if nobody heard of it for a while.
fn worth_telling(
    alerts: Vec<(Told, Option<Timestamp>)>,
    fresh_acts: &[i64],
    now: Timestamp,
) -> (Vec<Told>, u64) {
    let is_news = |told: &Told| {
        told.change != Change::Repeated || told.act.is_some_and(|act| fresh_acts.contains(&act))
    };
    if !alerts.iter().any(|(told, _)| is_news(told)) {
        let is_old = |at: Option<Timestamp>| at.is_none_or(|at| now.duration_since(at).abs() >= OLD_NEWS);
        let due = alerts.iter().any(|(_, told_at)| is_old(*told_at));
        return (alerts.into_iter().map(|(told, _)| told).filter(|_| due).collect(), 0);
    }
    let rank = |severity: Severity| Severity::ALL.iter().position(|known| *known == severity);
    let mut lasting: Vec<usize> = (0..alerts.len()).filter(|index| !is_news(&alerts[*index].0)).collect();
    lasting.sort_by_key(|index| rank(alerts[*index].0.alert.severity()));
    let left_out = lasting.split_off(lasting.len().min(MAX_LASTING));
    let mut keep = vec![true; alerts.len()];
    for index in &left_out {
        keep[*index] = false;
    }
    let kept = alerts.into_iter().zip(keep).filter(|(_, keep)| *keep).map(|((told, _), _)| told);
    (kept.collect(), left_out.len() as u64)
}

/// What keeps the messages of a group in their order.
fn group_key(notification: &Notification) -> String {
    let key = format!("alerts {} {}", notification.receiver, notification.group_key);
    if key.len() <= LONGEST_GROUP_KEY { key } else { format!("alerts {}", hex(&Sha256::digest(&key))) }
}

/// A short name of an event, by which a person sees that two messages are one that came twice.
fn event_name(key: &[u8], at: Timestamp) -> String {
    let mut hash = Sha256::new();
    hash.update(key);
    // A reminder says the same and is another one.
    hash.update(at.as_millisecond().to_le_bytes());
    hex(&hash.finalize()[..4])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Unix seconds with their fraction.
fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

#[cfg(test)]
mod tests;
