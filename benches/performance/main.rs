//! The benchmarks of DESIGN section 9 that concern the exporter, the API and alerts, as one table. Run by `scripts/bench`, which
//! starts the servers and names them in the environment.

mod alerting;
mod api;
mod backfill;
mod client;
mod data;
mod gateway;
mod limits;
mod measure;
mod monitor;

use std::time::Duration;

use data::{Engine, Table};
use measure::{Row, median, percentile};

/// Rounds of a comparison; their medians are quoted.
const ROUNDS: usize = 3;

/// Polls that are timed on each table.
const POLLS: usize = 100;

/// Rows of the small table that polls are compared with.
const SMALL: usize = 20_000;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let rows: usize = std::env::var_os("BENCH_ROWS")
        .and_then(|text| text.into_string().ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(2_000_000);
    let folder = data::folder()?;
    println!("{rows} rows, {} cores", std::thread::available_parallelism()?);
    let mut table = measure::Results::default();

    let parts = Parts::from_env()?;
    for engine in Engine::ALL.into_iter().filter(|engine| parts.engine(*engine)) {
        eprintln!("{engine}: filling the tables");
        let big = Table::fill(engine, &folder, "big", rows)?;
        // Before the polls, which add rows.
        if parts.of_engine("api") {
            eprintln!("{engine}: the API");
            api::measure(&big, rows, &folder, &mut table)?;
        }
        if parts.of_engine("backfill") {
            eprintln!("{engine}: writing the history");
            table.extend(backfill::measure(&big, &folder)?);
        }
        if parts.of_engine("follow") {
            eprintln!("{engine}: catching up");
            table.extend(catch_up(&big, &folder)?);
        }
        if parts.of_engine("polls") {
            eprintln!("{engine}: polling");
            let small = Table::fill(engine, &folder, "small", SMALL)?;
            table.push(Box::pin(polls(&small, &big, &folder)).await?);
            small.remove()?;
        }
        // Last, because rows come meanwhile.
        if parts.of_engine("limits") {
            eprintln!("{engine}: limits");
            table.extend(limits::measure(&big, &folder)?);
        }
        big.remove()?;
    }
    if parts.wanted("scrape") {
        eprintln!("scraping");
        table.extend(scrapes(&folder)?);
    }
    if parts.wanted("freshness") {
        eprintln!("freshness");
        table.push(freshness(&folder)?);
    }
    if parts.wanted("alerting") {
        eprintln!("alerting");
        table.extend(Box::pin(alerting::measure(&folder)).await?);
    }
    if parts.wanted("idle") {
        eprintln!("idle cost");
        table.push(idle(&folder)?);
    }

    println!("{table}");
    Ok(())
}

/// What is to be measured, from `BENCH_PARTS`.
struct Parts(Vec<String>);

impl Parts {
    const ENGINES: [&str; 3] = ["sqlite", "mariadb", "postgresql"];
    /// What is measured on each engine.
    const OF_ENGINES: [&str; 5] = ["follow", "polls", "api", "limits", "backfill"];
    const OTHERS: [&str; 4] = ["scrape", "freshness", "alerting", "idle"];

    fn from_env() -> anyhow::Result<Self> {
        let text =
            std::env::var_os("BENCH_PARTS").and_then(|parts| parts.into_string().ok()).unwrap_or_default();
        let parts: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let known = [&Self::ENGINES[..], &Self::OF_ENGINES, &Self::OTHERS].concat();
        if let Some(part) = parts.iter().find(|part| !known.contains(&part.as_str())) {
            anyhow::bail!("there is no part {part}: {}", known.join(", "));
        }
        Ok(Self(parts))
    }

    fn names_any(&self, of: &[&str]) -> bool {
        self.0.iter().any(|part| of.contains(&part.as_str()))
    }

    /// Without names everything is wanted.
    fn wanted(&self, part: &str) -> bool {
        self.0.is_empty() || self.names_any(&[part])
    }

    /// Those that are named; all of them if only what to measure on them is.
    fn engine(&self, engine: Engine) -> bool {
        let name = engine.to_string().to_lowercase();
        self.wanted(&name) || self.names_any(&Self::OF_ENGINES) && !self.names_any(&Self::ENGINES)
    }

    /// What is named; all of it if only engines are.
    fn of_engine(&self, part: &str) -> bool {
        self.wanted(part) || !self.names_any(&Self::OF_ENGINES)
    }
}

/// The real binary from its start until it is ready, in turn with the engine's own client reading the same.
fn catch_up(big: &Table, folder: &std::path::Path) -> anyhow::Result<Vec<Row>> {
    let (mut ours, mut theirs, mut memory) = (Vec::new(), Vec::new(), 0.0_f64);
    big.read_with_client()?;
    for round in 0..ROUNDS {
        theirs.push(big.read_with_client()?.as_secs_f64());
        let store = folder.join(format!("catch-up-{}-{round}.db", big.engine));
        let mut process = monitor::Process::start(&big.url, &store, "2s")?;
        ours.push(process.wait_ready()?.as_secs_f64());
        memory = memory.max(process.resident_mib()?);
        process.stop()?;
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let client = big.engine.client();
    Ok(vec![
        Row::ratio(
            &format!("catch up, {}", big.engine),
            ours,
            &format!("{client} {theirs:.2} s"),
            ours / theirs,
            "≤ 1.25",
        ),
        Row::plain(
            &format!("memory after the catch-up, {}", big.engine),
            format!("{memory:.1} MiB"),
            "≤ 64 MiB",
        ),
    ])
}

/// One poll with 100 new rows, on both tables in turn.
async fn polls(small: &Table, big: &Table, folder: &std::path::Path) -> anyhow::Result<Row> {
    let mut follow_small =
        Box::pin(monitor::Follower::new(small, &folder.join(format!("poll-s-{}.db", small.engine)))).await?;
    let mut follow_big =
        Box::pin(monitor::Follower::new(big, &folder.join(format!("poll-b-{}.db", big.engine)))).await?;
    let (mut on_small, mut on_big) = (Vec::new(), Vec::new());
    for _ in 0..POLLS {
        on_small.push(follow_small.poll(small, 100).await?.as_secs_f64() * 1000.0);
        on_big.push(follow_big.poll(big, 100).await?.as_secs_f64() * 1000.0);
    }
    let (small_ms, big_ms) = (median(&mut on_small), median(&mut on_big));
    Ok(Row {
        work: format!("poll with 100 new rows, {}", big.engine),
        measured: format!("{big_ms:.2} ms"),
        reference: format!("{small_ms:.2} ms on {SMALL} rows"),
        ratio: format!("{:.2}", big_ms / small_ms),
        target: "≤ 1.1".to_owned(),
    })
}

/// Scrapes of a page of 10,000 series, in turn with a server that only copied the same bytes.
fn scrapes(folder: &std::path::Path) -> anyhow::Result<Vec<Row>> {
    let table = Table::fill_labels(folder, "scrape", 190)?;
    let mut process = monitor::Process::start(&table.url, &folder.join("scrape-monitor.db"), "200ms")?;
    process.wait_ready()?;
    let page = process.get("/metrics", "application/openmetrics-text")?;
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    let copying_server = monitor::Copier::start(page.into_bytes())?;
    let gateway = gateway::Gateway::start(&table, 50)?;
    let (mut ours, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..1_000 {
        ours.push(process.time_get("/metrics", "application/openmetrics-text")?.as_secs_f64() * 1000.0);
        copied.push(copying_server.time_get()?.as_secs_f64() * 1000.0);
        std::thread::sleep(Duration::from_millis(3));
    }
    gateway.stop()?;
    process.stop()?;
    let (p99, copy_p99) = (percentile(&mut ours, 0.99), percentile(&mut copied, 0.99));
    let (p50, copy_p50) = (median(&mut ours), median(&mut copied));
    Ok(vec![
        Row::plain(
            &format!("scrape of {series} series, p99"),
            format!("{p99:.2} ms (copy {copy_p99:.2} ms)"),
            "≤ 25 ms",
        ),
        Row {
            work: "the same, median against copying the bytes".to_owned(),
            measured: format!("{p50:.2} ms"),
            reference: format!("{copy_p50:.2} ms"),
            ratio: format!("{:.2}", p50 / copy_p50),
            target: "≤ 2".to_owned(),
        },
    ])
}

/// From the commit of a row until a scrape shows it, beyond the poll interval.
fn freshness(folder: &std::path::Path) -> anyhow::Result<Row> {
    let interval = Duration::from_millis(500);
    let table = Table::fill_labels(folder, "fresh", 20)?;
    let mut process = monitor::Process::start(&table.url, &folder.join("fresh-monitor.db"), "500ms")?;
    process.wait_ready()?;
    let mut waits = Vec::new();
    for _ in 0..60 {
        let before = process.requests()?;
        let committed = table.insert_one()?;
        while process.requests()? <= before {
            std::thread::sleep(Duration::from_millis(1));
        }
        waits.push(committed.elapsed().as_secs_f64() * 1000.0);
    }
    process.stop()?;
    let over = percentile(&mut waits, 0.99) - interval.as_secs_f64() * 1000.0;
    Ok(Row::plain("row visible after POLL_INTERVAL, p99", format!("{over:+.0} ms"), "≤ +100 ms"))
}

/// Processor use of the binary with ten rows a second and a scrape every fifteen seconds.
fn idle(folder: &std::path::Path) -> anyhow::Result<Row> {
    let table = Table::fill_labels(folder, "idle", 100)?;
    let mut process = monitor::Process::start(&table.url, &folder.join("idle-monitor.db"), "2s")?;
    process.wait_ready()?;
    let gateway = gateway::Gateway::start(&table, 10)?;
    std::thread::sleep(Duration::from_secs(5));
    let before = process.cpu_seconds()?;
    for _ in 0..4 {
        process.get("/metrics", "application/openmetrics-text")?;
        std::thread::sleep(Duration::from_secs(15));
    }
    let used = (process.cpu_seconds()? - before) / 60.0 * 100.0;
    gateway.stop()?;
    process.stop()?;
    Ok(Row::plain("processor use at 10 rows/s", format!("{used:.2} % of a core"), "≤ 1 %"))
}
