//! What many names do: the page, the memory and Prometheus stay small, and no count is lost.

#![expect(clippy::float_cmp, reason = "counts are whole numbers and must be exact")]

use std::fmt::Write as _;

use crate::exposition::{Exposition, Labels, Sample};
use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Folder, Process, Samples, flags, now};

/// `MAX_SERIES` by default.
const MAX_SERIES: usize = 2_000;

/// Most resident memory of the monitor, in KiB. The dev build needs more than a release.
const MOST_MEMORY_KIB: u64 = 100 * 1024;

/// The families that a plain request touches.
const REQUEST_FAMILIES: [&str; 11] = [
    "newapi_requests_total",
    "newapi_input_tokens_total",
    "newapi_output_tokens_total",
    "newapi_cache_read_tokens_total",
    "newapi_cache_write_tokens_total",
    "newapi_quota_consumed_total",
    "newapi_quota_refunded_total",
    "newapi_cost_usd_total",
    "newapi_cost_refunded_usd_total",
    "newapi_request_duration_seconds",
    "newapi_slow_requests_total",
];

/// Rows `from..=to`, each with a model of its own, in one statement: quickly made.
async fn insert_models(database: &Database, kind: i64, other: &str, from: u32, to: u32) {
    let at = now() - 60;
    let mut sql =
        format!("WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) ");
    write!(
        sql,
        "INSERT INTO logs (created_at, type, model_name, quota, prompt_tokens, completion_tokens, use_time, \
         is_stream, channel_id, token_id, token_name, `group`, other) \
         SELECT {at}, {kind}, 'name-' || i, i, 100, 20, 3, 0, 1, 1, 'default', 'default', '{other}' FROM n"
    )
    .expect("a String takes everything");
    database.exec(&sql).await;
}

fn resident_kib(process: &Process) -> u64 {
    let path = format!("/proc/{}/status", process.child.id());
    let status = std::fs::read_to_string(path).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn is_overflow(labels: &Labels) -> bool {
    labels["model"] == "_other" && labels["channel_id"] == "_other" && labels["channel_name"] == "_other"
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_model_names_in_the_error_log_cost_one_series() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    let other = r#"{"status_code":404,"error_type":"new_api_error"}"#;
    insert_models(&database, 5, other, 1, 50_000).await;
    let monitor = Process::spawn(&flags(&database.url, &folder.path()));
    monitor.page().wait_ready().await;
    insert_models(&database, 5, other, 50_001, 100_000).await;
    let all = |samples: &Samples| samples.sum("newapi_errors_total", &[]) == 100_000.0;
    let samples = monitor.page().wait_samples("all failed attempts are counted", all).await;

    assert_eq!(samples.count("newapi_errors_total"), 1, "{samples:?}");
    let labels =
        ["model=\"_other\"", "channel_id=\"1\"", "status_code=\"404\"", "error_type=\"new_api_error\""];
    assert_eq!(samples.sum("newapi_errors_total", &labels), 100_000.0);
    assert_eq!(samples.sum("token_monitor_log_rows_total", &["type=\"5\""]), 100_000.0);
    assert_eq!(samples.sum("token_monitor_series_overflow_total", &[]), 0.0, "the cap was never reached");
    let (_, page) = monitor.page().get("/metrics").await.expect("an answer");
    assert!(page.len() < 20_000, "{} bytes", page.len());
    let memory = resident_kib(&monitor);
    assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn real_models_beyond_the_cap_are_summed() {
    let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
    insert_models(&database, 2, "{}", 1, 15_000).await;
    let monitor = Process::spawn(&flags(&database.url, &folder.path()));
    monitor.page().wait_ready().await;
    insert_models(&database, 2, "{}", 15_001, 20_000).await;
    let all = |samples: &Samples| samples.sum("newapi_requests_total", &[]) == 20_000.0;
    monitor.page().wait_samples("all requests are counted", all).await;

    let (_, text) = monitor.page().get("/metrics").await.expect("an answer");
    let page = Exposition::from_text(&text);
    for family in REQUEST_FAMILIES {
        let is_histogram = page.family(family).expect("on the page").kind == "histogram";
        let name = if is_histogram { format!("{family}_count") } else { family.to_owned() };
        let samples: Vec<_> = page.samples().filter(|sample| sample.name == name).collect();
        let (rest, own): (Vec<_>, Vec<_>) =
            samples.into_iter().partition(|sample| is_overflow(&sample.labels));
        assert_eq!((own.len(), rest.len()), (MAX_SERIES, 1), "{family}");
        let about = |metric: &str| {
            let of_family = |sample: &&Sample| sample.name == metric && sample.labels["family"] == family;
            page.samples().find(of_family).expect("every family has one").value
        };
        assert_eq!(about("token_monitor_series"), MAX_SERIES as f64, "{family}");
        assert_eq!(about("token_monitor_series_overflow_total"), 18_000.0, "{family}");
    }
    assert_eq!(page.sum("newapi_requests_total"), 20_000.0);
    assert_eq!(page.sum("newapi_input_tokens_total"), 2_000_000.0);
    assert_eq!(page.sum("newapi_output_tokens_total"), 400_000.0);
    assert_eq!(page.sum("newapi_request_duration_seconds_count"), 20_000.0);
    assert_eq!(page.sum("newapi_request_duration_seconds_sum"), 60_000.0);
    // Every row charged its own number: 1 + 2 + … + 20,000.
    assert_eq!(page.sum("newapi_quota_consumed_total"), 200_010_000.0);
    let cost = page.sum("newapi_cost_usd_total");
    assert!((cost - 200_010_000.0 / 500_000.0).abs() < 1e-6, "{cost}");
    let memory = resident_kib(&monitor);
    assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
}
