//! The JSON API of the real binary, on the big table.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Deserialize;
use token_monitor::demo::dice::Dice;

use crate::client::Client;
use crate::data::{CHANNELS, MODELS, Table};
use crate::measure::{Results, Row, median, percentile};
use crate::monitor;

/// Requests of a line of the table, and how long they may take together.
const REQUESTS: usize = 1_000;
const TIME: Duration = Duration::from_secs(20);

/// Fewest requests that give a p99 of any kind; sums of everything are asked for less often.
const FEWEST: usize = 100;
const FEWEST_SUMS: usize = 20;

/// Rows of a page while the log is walked through: the most there are.
const PAGE: usize = 500;

/// Pages around a depth that are asked for again.
const AROUND: usize = 40;

/// Clients at once, and how long.
const CLIENTS: usize = 64;
const SECONDS: u64 = 60;

const TARGET: &str = "≤ 20 ms";

/// All that the table holds: it has 20 days, and HISTORY is 31.
const ALL: &str = "window=31d";

#[derive(Deserialize)]
struct Page {
    items: Vec<Item>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    id: i64,
    created_at: String,
    request_id: Option<String>,
}

/// All lines of one engine, each told as soon as it is known.
pub fn measure(
    table: &Table,
    rows: usize,
    folder: &std::path::Path,
    results: &mut Results,
) -> anyhow::Result<()> {
    let store = folder.join(format!("api-{}.db", table.engine));
    let mut process = monitor::Process::start(&table.url, &store, "2s")?;
    process.wait_ready()?;
    let mut one = One {
        client: Client::connect(process.address())?,
        dice: Dice::new(7, 1),
        engine: table.engine.to_string(),
        day: String::new(),
    };
    // The table ends some days ago.
    let page: Page = serde_json::from_slice(one.client.expect("/api/v1/logs?limit=1")?.body)?;
    let newest = page.items.first().context("no rows")?;
    one.day = format!("window=24h&to={}", newest.created_at);
    results.extend(one.slow_requests()?);
    results.extend(one.logs(rows)?);
    results.push(one.times("log in full, any id", TARGET, FEWEST, |dice| {
        format!("/api/v1/logs/{}", dice.below(rows) + 1)
    })?);
    for (work, path) in
        [("overview", "overview"), ("trend", "trend"), ("trend by model", "trend?by=model&step=1d")]
    {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("/api/v1/{path}{sign}{ALL}");
        results.push(one.times(&format!("{work}, all rows"), "–", FEWEST_SUMS, |_| path.clone())?);
    }
    crowd(&process, &mut one, rows, results)?;
    process.stop()
}

/// One client alone.
struct One {
    client: Client,
    dice: Dice,
    engine: String,
    /// The last 24 hours that have rows.
    day: String,
}

impl One {
    /// The p99 of requests one after the other.
    fn times(
        &mut self,
        work: &str,
        target: &str,
        fewest: usize,
        path: impl Fn(&mut Dice) -> String,
    ) -> anyhow::Result<Row> {
        let (began, mut times) = (Instant::now(), Vec::new());
        while times.len() < fewest || times.len() < REQUESTS && began.elapsed() < TIME {
            let path = path(&mut self.dice);
            times.push(milliseconds(self.client.expect(&path)?.took));
        }
        let (p50, p99) = (median(&mut times), percentile(&mut times, 0.99));
        Ok(Row::plain(
            &format!("{work}, {}, p99", self.engine),
            format!("{p99:.2} ms (median {p50:.2} ms)"),
            target,
        ))
    }

    fn slow_requests(&mut self) -> anyhow::Result<Vec<Row>> {
        let path = "/api/v1/slow-requests";
        let day = format!("{path}?{}", self.day);
        Ok(vec![
            self.times("slow requests, 24 h", TARGET, FEWEST, |_| day.clone())?,
            self.times("slow requests, all rows", TARGET, FEWEST, |_| format!("{path}?{ALL}"))?,
            self.times("slow requests, all rows, rare filter", TARGET, FEWEST, |dice| {
                format!("{path}?{ALL}&{}", rare(dice))
            })?,
        ])
    }

    /// Pages of the log. Walks through all of it, so that cursors of any depth are there.
    fn logs(&mut self, rows: usize) -> anyhow::Result<Vec<Row>> {
        let path = "/api/v1/logs";
        let (mut cursors, mut times, mut seen) = (Vec::new(), Vec::new(), 0);
        let mut next = format!("{path}?limit={PAGE}");
        let mut last_id = i64::MAX;
        loop {
            let answer = self.client.expect(&next)?;
            times.push(milliseconds(answer.took));
            let page: Page = serde_json::from_slice(answer.body)?;
            ensure!(
                page.items.iter().all(|item| item.id < std::mem::replace(&mut last_id, item.id)),
                "ids go up"
            );
            seen += page.items.len();
            let Some(cursor) = page.next_cursor else { break };
            next = format!("{path}?limit={PAGE}&cursor={cursor}");
            cursors.push(cursor);
        }
        ensure!(seen == rows, "{seen} rows were shown of {rows}");
        let p99 = percentile(&mut times, 0.99);
        let walk = Row::plain(
            &format!("log, all {} pages of {PAGE} rows, {}, p99", times.len(), self.engine),
            format!("{p99:.2} ms (median {:.2} ms)", median(&mut times)),
            "–",
        );
        let around = |middle: usize| {
            let end = (middle + AROUND).min(cursors.len());
            cursors
                .get(end.saturating_sub(2 * AROUND)..end)
                .filter(|some| !some.is_empty())
                .context("too few rows")
        };
        let (half, end) = (around(cursors.len() / 2)?, around(cursors.len())?);
        let at = |cursors: &[String], dice: &mut Dice| {
            format!("{path}?cursor={}", cursors[dice.below(cursors.len())])
        };
        Ok(vec![
            self.times("log, first page", TARGET, FEWEST, |_| path.to_owned())?,
            self.times("log, page in the middle", TARGET, FEWEST, |dice| at(half, dice))?,
            self.times("log, page near the end", TARGET, FEWEST, |dice| at(end, dice))?,
            self.times("log, rare filter", TARGET, FEWEST, |dice| format!("{path}?{}", rare(dice)))?,
            walk,
        ])
    }

    /// Ids of requests, of rows anywhere in the log.
    fn requests(&mut self, rows: usize) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        for _ in 0..50 {
            let path = format!("/api/v1/logs/{}", self.dice.below(rows) + 1);
            let item: Item = serde_json::from_slice(self.client.expect(&path)?.body)?;
            ids.extend(item.request_id);
        }
        ensure!(!ids.is_empty(), "no row has the id of a request");
        Ok(ids)
    }
}

/// What a client of the crowd saw.
#[derive(Default)]
struct Seen {
    times: Vec<f64>,
    refused: usize,
    failed: Vec<String>,
}

/// Many clients at once, each asking one thing after the other, all routes alike. None may fail.
fn crowd(
    process: &monitor::Process,
    one: &mut One,
    rows: usize,
    results: &mut Results,
) -> anyhow::Result<()> {
    let seconds = std::env::var_os("BENCH_SECONDS")
        .and_then(|text| text.into_string().ok()?.parse().ok())
        .unwrap_or(SECONDS);
    let (requests, day) = (one.requests(rows)?, one.day.clone());
    let (address, before) = (process.address(), process.resident_mib()?);
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let seen: Vec<Seen> = std::thread::scope(|scope| {
        let asking = |client| {
            let (dice, requests, day) = (Dice::new(11, client), &requests, &day);
            scope.spawn(move || ask_until(end, address, dice, rows, requests, day))
        };
        let clients: Vec<_> = (0..).take(CLIENTS).map(asking).collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    });
    let took = began.elapsed().as_secs_f64();
    let (after, peak) = (process.resident_mib()?, process.peak_mib()?);
    let mut times: Vec<f64> = seen.iter().flat_map(|seen| seen.times.iter().copied()).collect();
    let refused: usize = seen.iter().map(|seen| seen.refused).sum();
    let failed: Vec<&String> = seen.iter().flat_map(|seen| &seen.failed).collect();
    ensure!(!times.is_empty(), "nothing was answered: {failed:?}");
    let (p50, p99) = (median(&mut times), percentile(&mut times, 0.99));
    let engine = &one.engine;
    results.extend(vec![
        Row::plain(
            &format!("{CLIENTS} clients at once for {seconds} s, all routes, {engine}"),
            format!(
                "{:.0} answers/s, p99 {p99:.0} ms (median {p50:.0} ms), {refused} times 503, {} failures",
                times.len() as f64 / took,
                failed.len()
            ),
            "no failures",
        ),
        Row::plain(
            &format!("memory before and after them, {engine}"),
            format!("{before:.1} MiB, {after:.1} MiB (highest {peak:.1} MiB)"),
            "bounded",
        ),
    ]);
    let first: Vec<_> = failed.iter().take(5).collect();
    ensure!(failed.is_empty(), "{} requests of the crowd failed, the first: {first:?}", failed.len());
    Ok(())
}

fn ask_until(
    end: Instant,
    address: SocketAddr,
    mut dice: Dice,
    rows: usize,
    requests: &[String],
    day: &str,
) -> Seen {
    let (mut seen, mut client) = (Seen::default(), None);
    while Instant::now() < end {
        let path = anything(&mut dice, rows, requests, day);
        let mut connected = match client.take().map_or_else(|| Client::connect(address), Ok) {
            Ok(client) => client,
            Err(error) => {
                seen.failed.push(error.to_string());
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        match connected.get(&path) {
            Ok(answer) if answer.status == 200 => seen.times.push(milliseconds(answer.took)),
            Ok(answer) if answer.status == 503 => seen.refused += 1,
            Ok(answer) => seen.failed.push(format!("{path}: {}", answer.status)),
            Err(error) => {
                seen.failed.push(format!("{path}: {error}"));
                continue;
            }
        }
        client = Some(connected);
    }
    seen
}

/// A question of any route that is read, about a day or the whole log.
fn anything(dice: &mut Dice, rows: usize, requests: &[String], day: &str) -> String {
    let rest = match dice.below(17) {
        0 => format!("overview?{day}"),
        1 => format!("trend?{day}"),
        2 => format!("trend?by=model&{day}"),
        3 => format!("slow-requests?{day}"),
        4 => format!("slow-requests?{ALL}&{}", rare(dice)),
        5 => "logs".to_owned(),
        6 => format!("logs?{}", rare(dice)),
        7 => format!("logs/{}", dice.below(rows) + 1),
        8 => format!("requests/{}", requests[dice.below(requests.len())]),
        9 => format!("channels?{day}"),
        10 => format!("models?{day}"),
        11 => "logs/latest".to_owned(),
        12 => "limits".to_owned(),
        13 => "incidents".to_owned(),
        14 => "deliveries".to_owned(),
        15 => "breaker".to_owned(),
        _ => "openapi.json".to_owned(),
    };
    format!("/api/v1/{rest}")
}

/// Failed attempts and broken streams of one label set: a few rows of a million.
fn rare(dice: &mut Dice) -> String {
    let (channel, model) = (dice.below(CHANNELS) + 1, dice.below(MODELS));
    format!("channel_id={channel}&model=model-{model}&outcome=stream_error,client_gone,error")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
