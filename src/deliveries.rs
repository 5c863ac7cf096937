//! `token-monitor deliveries`: looks at messages, sends again what was given up, gives up what waits. Works beside a
//! monitor that runs, and without one.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli;
use crate::clock::Clock;
use crate::config::{Config, Flags, Settings};
use crate::message::Target;
use crate::store::{Delivery, DeliveryFilter, DeliveryState, Store, StoreError};

/// Deliveries that `--dead` sends again at most, so that a mistake does not flood a chat.
const MOST_AT_ONCE: usize = 500;

/// What is done with deliveries.
#[derive(Clone, Subcommand)]
pub enum Deliveries {
    /// Show deliveries, newest first
    List(List),
    /// Send deliveries that wait or were given up, as soon as the monitor looks
    Retry(Retry),
    /// Give up deliveries that wait
    Drop {
        /// Their numbers
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
    },
}

/// Which deliveries are shown.
#[derive(Clone, Args)]
pub struct List {
    /// Only those that are pending, leased, sent, dead or superseded
    #[arg(long, value_parser = state)]
    state: Option<DeliveryState>,
    /// Only those to telegram, feishu or wecom
    #[arg(long, value_parser = target)]
    target: Option<Target>,
    /// How many at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

/// Which deliveries are sent again.
#[derive(Clone, Args)]
pub struct Retry {
    /// Their numbers
    #[arg(value_name = "ID", required_unless_present = "dead")]
    ids: Vec<i64>,
    /// All that were given up, up to 500
    #[arg(long, conflicts_with = "ids")]
    dead: bool,
    /// With --dead: only those to telegram, feishu or wecom
    #[arg(long, requires = "dead", value_parser = target)]
    target: Option<Target>,
}

fn state(text: &str) -> Result<DeliveryState, String> {
    DeliveryState::parse(text).ok_or_else(|| "accepted: pending, leased, sent, dead, superseded".to_owned())
}

fn target(text: &str) -> Result<Target, String> {
    Target::parse(text).ok_or_else(|| "accepted: telegram, feishu, wecom".to_owned())
}

/// Does it. Exit 0 if all that was named was done, 1 if not, 2 for a wrong configuration.
pub fn run(flags: &Flags, what: &Deliveries) -> ExitCode {
    let config = match Settings::from_flags(flags).and_then(|settings| Config::resolve(&settings)) {
        Ok(config) => config,
        Err(problems) => return cli::refuse(&problems),
    };
    let done = Store::open_beside(&config.monitor_database)
        .and_then(|store| act(&store, what, Clock::system().now(), &config.timezone));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("token-monitor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(store: &Store, what: &Deliveries, now: Timestamp, zone: &TimeZone) -> Result<bool, StoreError> {
    match what {
        Deliveries::List(list) => {
            let found = store.deliveries_page(
                None,
                usize::from(list.limit),
                &DeliveryFilter { state: list.state, target: list.target, ..DeliveryFilter::default() },
            )?;
            for delivery in &found {
                say(&line(delivery, zone));
            }
            if found.is_empty() {
                say("no deliveries");
            }
            Ok(true)
        }
        Deliveries::Retry(retry) if retry.dead => {
            let dead = Some(DeliveryState::Dead);
            let found = store.deliveries_page(
                None,
                MOST_AT_ONCE,
                &DeliveryFilter { state: dead, target: retry.target, ..DeliveryFilter::default() },
            )?;
            let ids: Vec<i64> = found.iter().rev().map(|delivery| delivery.id).collect();
            if ids.is_empty() {
                say("no deliveries");
            }
            each(&ids, "is sent again", "is neither waiting nor given up", |id| store.retry_delivery(id, now))
        }
        Deliveries::Retry(retry) => {
            let not = "is neither waiting nor given up";
            each(&retry.ids, "is sent again", not, |id| store.retry_delivery(id, now))
        }
        Deliveries::Drop { ids } => {
            each(ids, "is given up", "is not waiting", |id| store.drop_delivery(id, now))
        }
    }
}

/// Does something with each, and says how it went. False if one was not as it must be.
fn each(
    ids: &[i64],
    done: &str,
    not: &str,
    work: impl Fn(i64) -> Result<bool, StoreError>,
) -> Result<bool, StoreError> {
    let mut all = true;
    for id in ids {
        let fits = work(*id)?;
        say(&format!("{id} {}", if fits { done } else { not }));
        all &= fits;
    }
    Ok(all)
}

/// One line of a list.
fn line(delivery: &Delivery, zone: &TimeZone) -> String {
    let at = |at: Timestamp| at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let Delivery { id, target, kind, part, parts, attempts, .. } = delivery;
    let (created, state) = (at(delivery.created_at), delivery.state.as_str());
    let mut line =
        format!("{id}  {created}  {target}  {state}  {kind}  part {part} of {parts}  tried {attempts}");
    if let Some(next) = delivery.next_at {
        line.push_str("  next ");
        line.push_str(&at(next));
    }
    if !delivery.reason.is_empty() {
        line = format!("{line}  {}: {}", delivery.reason, delivery.error);
    }
    // What a target said is one line, and no terminal obeys it.
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Prints a line. Whoever reads may have seen enough, as `head` has.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
