//! Writing the history of a large log.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::data::Table;
use crate::measure::Row;
use crate::monitor::Process;

/// How often the process is looked at while it runs.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The real binary, while a monitor follows the log, beside the engine's own client reading the same rows.
pub fn measure(table: &Table, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let theirs = table.read_with_client()?.as_secs_f64();
    let (file, store) = (folder.join("history.om"), folder.join(format!("history-{}.db", table.engine)));
    let mut monitor = Process::start(&table.url, &store, "2s")?;
    monitor.wait_ready()?;
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_token-monitor"))
        .args(["backfill", "--output"])
        .arg(&file)
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
    let ours = began.elapsed().as_secs_f64();
    monitor.stop()?;
    ensure!(ended.success(), "backfill ended with {ended}");
    let megabytes = std::fs::metadata(&file)?.len() / 1_000_000;
    std::fs::remove_file(&file)?;
    let client = table.engine.client();
    let what = format!("backfill, {megabytes} MB, {}", table.engine);
    let reference = format!("{client} {theirs:.2} s");
    Ok(vec![
        Row::ratio(&what, ours, &reference, ours / theirs, "≤ 1.25"),
        Row::plain(&format!("most memory of it, {}", table.engine), format!("{peak:.1} MiB"), "–"),
    ])
}
