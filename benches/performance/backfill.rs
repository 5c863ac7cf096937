//! Writing the history of a large log.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::ROUNDS;
use crate::data::Table;
use crate::measure::{Row, median};
use crate::monitor::Process;

/// How often the process is looked at while it runs.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The real binary, while a monitor follows the log, in turn with the engine's own client reading the same rows.
pub fn measure(table: &Table, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let (file, store) = (folder.join("history.om"), folder.join(format!("history-{}.db", table.engine)));
    let mut monitor = Process::start(&table.url, &store, "2s")?;
    monitor.wait_ready()?;
    let (mut ours, mut theirs, mut peak, mut bytes) = (Vec::new(), Vec::new(), 0.0_f64, 0);
    table.read_with_client()?;
    for _ in 0..ROUNDS {
        theirs.push(table.read_with_client()?.as_secs_f64());
        let (took, most) = write(table, &file, &store)?;
        ours.push(took.as_secs_f64());
        peak = peak.max(most);
        bytes = std::fs::metadata(&file)?.len();
        std::fs::remove_file(&file)?;
    }
    monitor.stop()?;
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let what = format!("backfill, {} MB, {}", bytes / 1_000_000, table.engine);
    let reference = format!("{} {theirs:.2} s", table.engine.client());
    Ok(vec![
        Row::ratio(&what, ours, &reference, ours / theirs, "≤ 1.25"),
        Row::plain(&format!("most memory of it, {}", table.engine), format!("{peak:.1} MiB"), "–"),
    ])
}

/// How long it takes, and the most memory it has, in MiB.
fn write(table: &Table, file: &Path, store: &Path) -> anyhow::Result<(Duration, f64)> {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_token-monitor"))
        .args(["backfill", "--output"])
        .arg(file)
        .env("DATABASE_URL", &table.url)
        .env("MONITOR_DATABASE_URL", format!("sqlite://{}", store.display()))
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let (mut peak, status) = (0.0_f64, format!("/proc/{}/status", child.id()));
    let ended = loop {
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        peak = peak.max(kib.unwrap_or(0.0) / 1024.0);
        std::thread::sleep(LOOK_EVERY);
    };
    let took = began.elapsed();
    ensure!(ended.success(), "backfill ended with {ended}");
    Ok((took, peak))
}
