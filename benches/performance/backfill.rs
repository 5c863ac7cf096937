//! Writing the history of a large log.

use std::fs::File;
use std::io::Write;
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

/// Files are written in pieces of this size.
const PIECE: usize = 1024 * 1024;

/// The real binary, while a monitor follows the log, in turn with the engine's own client reading the same rows and, after
/// that, the writing of a file of the same size: what a history takes that is read and written with no work between.
pub fn measure(table: &Table, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let (file, store) = (folder.join("history.om"), folder.join(format!("history-{}.db", table.engine)));
    let mut monitor = Process::start(&table.url, &store, "2s")?;
    monitor.wait_ready()?;
    let (mut ours, mut theirs, mut both) = (Vec::new(), Vec::new(), Vec::new());
    table.read_with_client()?;
    let (_, mut peak) = write(table, &file, &store)?;
    let bytes = std::fs::metadata(&file)?.len();
    std::fs::remove_file(&file)?;
    for _ in 0..ROUNDS {
        let reading = table.read_with_client()?;
        let writing = write_as_much(&file, bytes)?;
        std::fs::remove_file(&file)?;
        theirs.push(reading.as_secs_f64());
        both.push((reading + writing).as_secs_f64());
        let (took, most) = write(table, &file, &store)?;
        std::fs::remove_file(&file)?;
        ours.push(took.as_secs_f64());
        peak = peak.max(most);
    }
    monitor.stop()?;
    let (ours, theirs, both) = (median(&mut ours), median(&mut theirs), median(&mut both));
    let what = format!("backfill, {} MB, {}", bytes / 1_000_000, table.engine);
    let reading = format!("{} {theirs:.2} s", table.engine.client());
    let all = format!("and a file as large {both:.2} s");
    Ok(vec![
        Row::ratio(&what, ours, &reading, ours / theirs, "≤ 1.25"),
        Row::ratio(&what, ours, &all, ours / both, "≤ 1.25"),
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

/// How long a file of so many bytes takes, made of nothing.
fn write_as_much(file: &Path, bytes: u64) -> anyhow::Result<Duration> {
    let (piece, began) = (vec![0; PIECE], Instant::now());
    let (mut file, mut left) = (File::create(file)?, usize::try_from(bytes)?);
    while left > 0 {
        let some = left.min(PIECE);
        file.write_all(&piece[..some])?;
        left -= some;
    }
    Ok(began.elapsed())
}
