//! A limit that is added to a log that has been read, while rows come: how soon it is right, and whether the
//! follower notices.

use std::ffi::OsStr;
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
const LOOK: Duration = Duration::from_millis(2);

/// Rows that come meanwhile.
const ROWS_PER_SECOND: u32 = 10;

/// Label sets on the page. To write and to read all 3,000 of the log takes longer than a row may take to be
/// shown.
const MAX_SERIES: &str = "200";

/// How many rows of the kind that comes are counted, on the page.
const ROWS: &str = "token_monitor_log_rows_total{type=\"2\"} ";

/// What all rows have cost, in new-api's own unit: consumed less given back, without channel tests. Their ages are within
/// the window.
const QUOTA: &str = "SELECT SUM(CASE WHEN type = 6 THEN -quota ELSE quota END) FROM logs \
                     WHERE type IN (2, 6) AND (type = 6 OR token_id <> 0)";

/// All lines of one engine.
pub fn measure(table: &Table, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let (store, file) = (
        folder.join(format!("limits-{}.db", table.engine)),
        folder.join(format!("limits-{}.yml", table.engine)),
    );
    let quota = table.number(QUOTA)?;
    std::fs::write(&file, "limits: []\n")?;
    let variables = [("LIMITS_FILE", file.as_os_str()), ("MAX_SERIES", OsStr::new(MAX_SERIES))];
    let mut process =
        Process::start_with(&table.url, &store, &format!("{}ms", POLL.as_millis()), &variables)?;
    process.wait_ready()?;
    let before = value(&process.get("/metrics", "text/plain")?, ROWS).context("no rows")?;
    let gateway = Gateway::start(table, ROWS_PER_SECOND)?;
    let mut calm = Polls::default();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        calm.look(&process)?;
    }
    let (mut times, mut polls) = (Vec::new(), calm.go_on());
    for round in 0..ROUNDS {
        let name = format!("all-{round}");
        let text = format!("limits:\n- name: {name}\n  measure: quota\n  max: 1\n  window: 31d\n");
        std::fs::write(&file, text)?;
        times.push(until_right(&process, &name, quota, &mut polls)?.as_secs_f64());
    }
    let commits = gateway.stop()?;
    process.stop()?;
    ensure!(polls.shown.last().is_some_and(|(_, rows)| *rows > before), "no row came meanwhile");
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let engine = table.engine;
    Ok(vec![
        Row::plain(
            &format!("limit added until its sum is right, {engine}, slowest of {ROUNDS}"),
            format!("{slowest:.2} s (median {:.2} s)", median(&mut times)),
            "≤ 2 s",
        ),
        Row {
            work: format!("longest poll meanwhile, {engine}"),
            measured: format!("{:.0} ms", polls.longest()),
            reference: format!("{:.0} ms without", calm.longest()),
            ratio: format!("{:.2}", polls.longest() / calm.longest()),
            target: "not disturbed".to_owned(),
        },
        Row {
            work: format!("row visible after POLL_INTERVAL meanwhile, {engine}, slowest"),
            measured: format!("{:+.0} ms", polls.slowest(&commits, before)),
            reference: format!("{:+.0} ms without", calm.slowest(&commits, before)),
            ratio: "–".to_owned(),
            // A scrape waits up to 250 ms for the limits to be of the same commit.
            target: "≤ +350 ms".to_owned(),
        },
    ])
}

/// Looks at the page until the limit is there, and it must be right as soon as it is.
fn until_right(process: &Process, name: &str, quota: f64, polls: &mut Polls) -> anyhow::Result<Duration> {
    let (began, sample) = (Instant::now(), format!("newapi_limit_used{{limit=\"{name}\""));
    loop {
        let page = polls.look(process)?;
        if let Some(used) = value(&page, &sample) {
            #[expect(clippy::float_cmp, reason = "whole numbers")]
            let right = used == quota;
            ensure!(right, "the limit says {used}, SQL {quota}");
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < PATIENCE, "no {sample} after {PATIENCE:?}");
    }
}

/// When the follower's polls were answered, as the page shows it, and how many rows it showed when.
#[derive(Default)]
struct Polls {
    last: Option<f64>,
    longest_gap: f64,
    shown: Vec<(Instant, f64)>,
}

impl Polls {
    /// Looks once and gives the page.
    fn look(&mut self, process: &Process) -> anyhow::Result<String> {
        std::thread::sleep(LOOK);
        let page = process.get("/metrics", "text/plain")?;
        self.shown.push((Instant::now(), value(&page, ROWS).context("no rows")?));
        let at = value(&page, "token_monitor_tail_last_success_timestamp_seconds ").context("no polls")?;
        if let Some(last) = self.last.replace(at) {
            self.longest_gap = self.longest_gap.max(at - last);
        }
        Ok(page)
    }

    /// Those that follow. What these have shown is known to them.
    fn go_on(&self) -> Self {
        Self { shown: self.shown.last().copied().into_iter().collect(), ..Self::default() }
    }

    /// The longest time from the commit of a row until these showed it, in milliseconds beyond the follower's
    /// pause. `before` rows were shown before the first of `commits`.
    fn slowest(&self, commits: &[Instant], before: f64) -> f64 {
        let times = commits.iter().zip(1_u32..).filter_map(|(committed, number)| {
            let number = before + f64::from(number);
            let first = self.shown.iter().position(|(_, rows)| *rows >= number)?;
            // What the very first look showed may have been there for long.
            (first > 0).then(|| self.shown[first].0.saturating_duration_since(*committed))
        });
        (times.max().unwrap_or_default().as_secs_f64() - POLL.as_secs_f64()) * 1000.0
    }

    /// Milliseconds of the longest poll: the longest time between two, without the pause.
    fn longest(&self) -> f64 {
        (self.longest_gap - POLL.as_secs_f64()).max(0.001) * 1000.0
    }
}

/// The value of the first line that begins so.
fn value(page: &str, begin: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.starts_with(begin))?;
    line.rsplit_once(' ')?.1.parse().ok()
}
