//! A limit that is added to a log that has been read, while rows come: how soon it is right, and whether the
//! follower notices.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::data::Table;
use crate::gateway::Gateway;
use crate::measure::{Row, median};
use crate::monitor::Process;

/// Limits that are added one after the other.
const ROUNDS: usize = 5;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the follower asks the log, and how often we look.
const POLL: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(10);

/// Rows that come meanwhile.
const ROWS_PER_SECOND: u32 = 10;

/// What all rows have cost, in new-api's own unit: consumed less given back, without channel tests, which have the name of
/// a token and no token. Their ages are within the window.
const QUOTA: &str = "SELECT SUM(CASE WHEN type = 6 THEN -quota ELSE quota END) FROM logs \
                     WHERE type IN (2, 6) AND (type = 6 OR token_id <> 0 OR COALESCE(token_name, '') = '')";

/// All lines of one engine.
pub fn measure(table: &Table, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let (store, file) = (
        folder.join(format!("limits-{}.db", table.engine)),
        folder.join(format!("limits-{}.yml", table.engine)),
    );
    let quota = table.number(QUOTA)?;
    std::fs::write(&file, "limits: []\n")?;
    let variables = [("LIMITS_FILE", file.as_os_str())];
    let mut process =
        Process::start_with(&table.url, &store, &format!("{}ms", POLL.as_millis()), &variables)?;
    process.wait_ready()?;
    let gateway = Gateway::start(table, ROWS_PER_SECOND)?;
    let mut calm = Looks::default();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        calm.look(&process)?;
    }
    let (mut times, mut looks) = (Vec::new(), calm.go_on());
    for round in 0..ROUNDS {
        let name = format!("all-{round}");
        let text = format!("limits:\n- name: {name}\n  measure: quota\n  max: 1\n  window: 31d\n");
        std::fs::write(&file, text)?;
        times.push(until_right(&process, &name, quota, &mut looks)?.as_secs_f64());
    }
    let commits = gateway.stop()?;
    process.stop()?;
    ensure!(looks.shown.last().is_some_and(|(_, rows)| *rows > 10), "no rows came meanwhile");
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let engine = table.engine;
    Ok(vec![
        Row::plain(
            &format!("limit added until its sum is right, {engine}, slowest of {ROUNDS}"),
            format!("{slowest:.2} s (median {:.2} s)", median(&mut times)),
            "≤ 2 s",
        ),
        Row {
            work: format!("row visible after POLL_INTERVAL meanwhile, {engine}, slowest"),
            measured: format!("{:+.0} ms", looks.slowest(&commits)),
            reference: format!("{:+.0} ms without", calm.slowest(&commits)),
            ratio: "–".to_owned(),
            target: "≤ +100 ms".to_owned(),
        },
    ])
}

/// Asks for the limits until this one is there, and it must be right as soon as it is.
fn until_right(process: &Process, name: &str, quota: f64, looks: &mut Looks) -> anyhow::Result<Duration> {
    let began = Instant::now();
    loop {
        looks.look(process)?;
        let limits = ask(process, "limits")?;
        let limit = limits["items"].as_array().and_then(|all| all.iter().find(|one| one["limit"] == name));
        if let Some(limit) = limit {
            ensure!(limit["used"] == quota, "the limit says {limit}, SQL {quota}");
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < PATIENCE, "no {name} after {PATIENCE:?}");
    }
}

/// How many of the rows that come were counted when.
#[derive(Default)]
struct Looks {
    shown: Vec<(Instant, u64)>,
}

impl Looks {
    fn look(&mut self, process: &Process) -> anyhow::Result<()> {
        std::thread::sleep(LOOK);
        // The rows of the table are some days old.
        let counted = ask(process, "overview?window=1h")?;
        let counted = counted["totals"]["requests"].as_u64().context("no number of requests")?;
        self.shown.push((Instant::now(), counted));
        Ok(())
    }

    /// Those that follow. What these have shown is known to them.
    fn go_on(&self) -> Self {
        Self { shown: self.shown.last().copied().into_iter().collect() }
    }

    /// The longest time from the commit of a row until these showed it, in milliseconds beyond the follower's pause.
    fn slowest(&self, commits: &[Instant]) -> f64 {
        let times = commits.iter().zip(1..).filter_map(|(committed, number)| {
            let first = self.shown.iter().position(|(_, rows)| *rows >= number)?;
            // What the very first look showed may have been there for long.
            (first > 0).then(|| self.shown[first].0.saturating_duration_since(*committed))
        });
        (times.max().unwrap_or_default().as_secs_f64() - POLL.as_secs_f64()) * 1000.0
    }
}

/// What the API answers. A page of all metrics of the log would take most of the time itself.
fn ask(process: &Process, route: &str) -> anyhow::Result<serde_json::Value> {
    Ok(serde_json::from_str(&process.get(&format!("/api/v1/{route}"), "application/json")?)?)
}
