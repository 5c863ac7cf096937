//! From an alert to its effects: how soon the webhook answers while no bot can be reached, and how soon a channel is disabled.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use token_monitor::clock::Clock;
use token_monitor::demo::{Demo, Options};
use token_monitor::outbound;
use tokio::net::TcpListener;

use crate::data::Table;
use crate::measure::{Row, median, percentile};
use crate::monitor::Process;

/// Calls of the webhook, and alerts in each.
const CALLS: usize = 200;
const ALERTS: usize = 100;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

const PASSWORD: &str = "bench-password";

/// Both figures.
pub async fn measure(folder: &Path) -> anyhow::Result<Vec<Row>> {
    Ok(vec![webhook(folder).await?, breaker(folder).await?])
}

async fn call(
    client: &reqwest::Client,
    address: SocketAddr,
    body: &serde_json::Value,
) -> anyhow::Result<Duration> {
    let body = serde_json::to_vec(body)?;
    let began = Instant::now();
    let request = client
        .post(format!("http://{address}/webhook/alertmanager"))
        .bearer_auth(PASSWORD)
        .header("content-type", "application/json");
    let answer = request.body(body).send().await?;
    ensure!(answer.status() == 200, "the webhook answers {}", answer.status());
    answer.bytes().await?;
    Ok(began.elapsed())
}

/// A call about one group.
fn payload(group: usize, alerts: impl Iterator<Item = serde_json::Value>) -> serde_json::Value {
    json!({
        "receiver": "bench", "status": "firing", "version": "4", "groupKey": format!("{{}}:{{group=\"{group}\"}}"),
        "externalURL": "http://127.0.0.1:9093", "truncatedAlerts": 0, "alerts": alerts.collect::<Vec<_>>(),
    })
}

fn alert(id: usize, labels: &serde_json::Value) -> serde_json::Value {
    let summary =
        format!("Alert {id}: what happened, to which channel and model, and how much of it was used by now");
    json!({
        "status": "firing", "labels": labels, "annotations": { "summary": summary, "description": summary },
        "startsAt": Clock::system().now().to_string(), "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://127.0.0.1:9090/graph", "fingerprint": format!("{id:016x}"),
    })
}

/// The time to an answer, while every bot is away and messages pile up.
async fn webhook(folder: &Path) -> anyhow::Result<Row> {
    let table = Table::fill_labels(folder, "webhook", 20)?;
    let (feishu, wecom) =
        (format!("{NOWHERE}/open-apis/bot/v2/hook/none"), format!("{NOWHERE}/send?key=none"));
    let variables = [
        ("ACCESS_PASSWORD", PASSWORD),
        ("TELEGRAM_BOT_TOKEN", "1:none"),
        ("TELEGRAM_CHAT_ID", "-1"),
        ("TELEGRAM_API_BASE", NOWHERE),
        ("FEISHU_WEBHOOK", &feishu),
        ("WECOM_WEBHOOK", &wecom),
        // Every attempt that fails is a line.
        ("RUST_LOG", "error"),
    ];
    let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
    let mut process = Process::start_with(&table.url, &folder.join("webhook-monitor.db"), "2s", &variables)?;
    process.wait_ready()?;
    let client = outbound::client(None)?;
    let mut times = Vec::new();
    for group in 0..CALLS {
        let alerts = (group * ALERTS..(group + 1) * ALERTS).map(|id| {
            alert(id, &json!({ "alertname": "Bench", "severity": "warning", "number": id.to_string() }))
        });
        let took = call(&client, process.address(), &payload(group, alerts)).await?;
        times.push(took.as_secs_f64() * 1000.0);
    }
    process.stop()?;
    let middle = median(&mut times);
    let p99 = percentile(&mut times, 0.99);
    let measured = format!("{p99:.1} ms (median {middle:.1} ms)");
    Ok(Row::plain("webhook answer, all bots down, 100 alerts each, p99", measured, "≤ 50 ms"))
}

/// From sending an alert until the stand-in's channel is disabled, the slowest of all its channels.
async fn breaker(folder: &Path) -> anyhow::Result<Row> {
    let options = Options { dir: folder.join("breaker"), ..Options::default() };
    let now = Clock::system().unix();
    let demo = tokio::task::spawn_blocking(move || Demo::open(&options, now)).await??;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let admin = demo.admin_router().into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, admin).await });
    let variables = [
        ("ACCESS_PASSWORD", PASSWORD),
        ("NEW_API_BASE_URL", &base),
        ("NEW_API_KEY", demo.admin_token()),
        ("BREAKER_ALLOW_LAST", "true"),
        ("BREAKER_MAX_PER_HOUR", "1000"),
    ];
    let variables = variables.map(|(name, value)| (name, OsStr::new(value)));
    let url = format!("sqlite://{}", demo.database_path().display());
    let mut process = Process::start_with(&url, &folder.join("breaker-monitor.db"), "2s", &variables)?;
    process.wait_ready()?;
    let database = rusqlite::Connection::open(demo.database_path())?;
    let enabled: Vec<i64> = database
        .prepare("SELECT id FROM channels WHERE status = 1")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let client = outbound::client(None)?;
    let mut times = Vec::new();
    for (place, channel) in enabled.iter().enumerate() {
        let labels = json!({
            "alertname": "Burning", "severity": "critical", "action": "disable_channel", "channel_id": channel.to_string(),
        });
        let began = Instant::now();
        call(&client, process.address(), &payload(place, std::iter::once(alert(place, &labels)))).await?;
        loop {
            let status: i64 =
                database
                    .query_row("SELECT status FROM channels WHERE id = ?1", [channel], |row| row.get(0))?;
            if status == 2 {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(20), "channel {channel} is not disabled");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    process.stop()?;
    serving.abort();
    let slowest = times.iter().copied().reduce(f64::max).context("no channel is enabled")?;
    let measured = format!("{slowest:.0} ms (median {:.0} ms)", median(&mut times));
    Ok(Row::plain("alert received until its channel is disabled, slowest", measured, "≤ 1 s"))
}
