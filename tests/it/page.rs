//! The metrics page: every name, label, kind and help text on it, in every format, and that it is one state.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model as model;
use token_monitor::config::Flags;
use tokio_util::sync::CancellationToken;

use crate::exposition::{Exposition, Labels};
use crate::installation::Installation;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::snapshot::{assert_golden, steady};
use crate::support::{Folder, Monitor, flags, now};

/// As Prometheus asks with and without native histograms.
const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const OPEN_METRICS: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

const PROTOBUF_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The labels that every traffic family has.
const TRAFFIC: &str = "channel_id channel_name model";

/// Names, kinds and further labels of the traffic families: section 5 of the contract.
const TRAFFIC_FAMILIES: [(&str, &str, &str); 15] = [
    ("newapi_requests_total", "counter", "outcome stream"),
    ("newapi_errors_total", "counter", "status_code error_type"),
    ("newapi_input_tokens_total", "counter", ""),
    ("newapi_output_tokens_total", "counter", ""),
    ("newapi_cache_read_tokens_total", "counter", ""),
    ("newapi_cache_write_tokens_total", "counter", ""),
    ("newapi_quota_consumed_total", "counter", ""),
    ("newapi_quota_refunded_total", "counter", ""),
    ("newapi_cost_usd_total", "counter", ""),
    ("newapi_cost_refunded_usd_total", "counter", ""),
    ("newapi_request_duration_seconds", "histogram", "retried"),
    ("newapi_time_to_first_token_seconds", "histogram", "retried"),
    ("newapi_slow_requests_total", "counter", ""),
    ("newapi_failovers_total", "counter", ""),
    ("newapi_channel_tests_total", "counter", ""),
];

/// Labels of a limit.
const LIMIT: &str = "limit channel_id channel_name model measure window action restore severity";

/// The same of the other families, with all their labels.
const OTHER_FAMILIES: [(&str, &str, &str); 33] = [
    ("newapi_limit_used", "gauge", LIMIT),
    ("newapi_limit_max", "gauge", LIMIT),
    ("newapi_limit_used_ratio", "gauge", LIMIT),
    ("newapi_limit_warn_ratio", "gauge", LIMIT),
    ("newapi_limit_reset_timestamp_seconds", "gauge", LIMIT),
    ("token_monitor_config_last_reload_successful", "gauge", ""),
    ("token_monitor_config_last_reload_success_timestamp_seconds", "gauge", ""),
    ("token_monitor_webhooks_total", "counter", "result"),
    ("token_monitor_last_webhook_timestamp_seconds", "gauge", ""),
    ("token_monitor_last_watchdog_timestamp_seconds", "gauge", ""),
    ("token_monitor_deliveries_total", "counter", "target result reason"),
    ("token_monitor_outbox_pending", "gauge", "target"),
    ("token_monitor_outbox_oldest_seconds", "gauge", "target"),
    ("token_monitor_breaker_actions_total", "counter", "action result"),
    ("token_monitor_breaker_open", "gauge", "channel_id channel_name"),
    ("newapi_channel_info", "gauge", "channel_id channel_name type group tag"),
    ("newapi_channel_status", "gauge", "channel_id channel_name status"),
    ("newapi_channel_balance_usd", "gauge", "channel_id channel_name"),
    ("newapi_channel_used_quota", "gauge", "channel_id channel_name"),
    ("newapi_channel_response_time_seconds", "gauge", "channel_id channel_name"),
    ("newapi_channel_test_timestamp_seconds", "gauge", "channel_id channel_name"),
    ("newapi_model_enabled_channels", "gauge", "group model"),
    ("newapi_up", "gauge", ""),
    ("token_monitor_build_info", "gauge", "version"),
    ("token_monitor_capability", "gauge", "feature"),
    ("token_monitor_tail_lag_seconds", "gauge", ""),
    ("token_monitor_tail_last_success_timestamp_seconds", "gauge", ""),
    ("token_monitor_log_rows_total", "counter", "type"),
    ("token_monitor_late_rows_total", "counter", ""),
    ("token_monitor_row_defects_total", "counter", "reason"),
    ("token_monitor_tail_errors_total", "counter", "reason"),
    ("token_monitor_series", "gauge", "family"),
    ("token_monitor_series_overflow_total", "counter", "family"),
];

/// A family's kind and labels.
type Shape = (String, BTreeSet<String>);

fn contract() -> BTreeMap<String, Shape> {
    let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let traffic = TRAFFIC_FAMILIES
        .iter()
        .map(|(name, kind, labels)| (*name, *kind, words(&format!("{TRAFFIC} {labels}"))));
    let others = OTHER_FAMILIES.iter().map(|(name, kind, labels)| (*name, *kind, words(labels)));
    traffic.chain(others).map(|(name, kind, labels)| (name.to_owned(), (kind.to_owned(), labels))).collect()
}

/// Fails with what only one of the maps has.
fn assert_same<K: Ord + Debug, V: PartialEq + Debug>(what: &str, a: &BTreeMap<K, V>, b: &BTreeMap<K, V>) {
    let only = |a: &BTreeMap<K, V>, b: &BTreeMap<K, V>| -> String {
        let lines = a.iter().filter(|(key, value)| b.get(key) != Some(value));
        lines.map(|line| format!("{line:?}\n")).collect::<Vec<_>>().concat()
    };
    let (first, second) = (only(a, b), only(b, a));
    let same = first.is_empty() && second.is_empty();
    assert!(same, "{what} differ; only in the first:\n{first}only in the second:\n{second}");
}

/// What `docs/metrics.md` describes: table rows of name, kind, labels and meaning.
fn documented() -> BTreeMap<String, Shape> {
    let mut families = BTreeMap::new();
    for line in documentation().lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells.as_slice() else { continue };
        let name = name.trim_matches('`');
        if name.starts_with("newapi_") || name.starts_with("token_monitor_") {
            let labels = labels.split_whitespace().map(|label| label.trim_matches('`').to_owned()).collect();
            let before = families.insert(name.to_owned(), ((*kind).to_owned(), labels));
            assert_eq!(before, None, "{name} is described twice");
        }
    }
    families
}

pub fn documentation() -> &'static str {
    include_str!("../../docs/metrics.md")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_page_is_as_it_was_agreed() {
    let installation = Installation::start().await;
    assert_golden("metrics.txt", &steady(&installation.text(None).await));
    assert_golden("metrics.openmetrics.txt", &steady(&installation.text(Some(OPEN_METRICS)).await));
    installation.monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_contract_and_documentation_name_the_same_metrics() {
    let installation = Installation::start().await;
    let page = Exposition::from_text(&installation.text(None).await);
    let shown: BTreeMap<String, Shape> = page
        .families
        .iter()
        .map(|family| {
            assert!(!family.help.is_empty() && !family.samples.is_empty(), "{}", family.name);
            let labels = family.label_names().into_iter().map(str::to_owned).collect();
            (family.name.clone(), (family.kind.clone(), labels))
        })
        .collect();
    assert_eq!(shown.len(), page.families.len(), "a family stands twice");
    assert_same("the page and the contract", &shown, &contract());
    assert_same("docs/metrics.md and the contract", &documented(), &contract());

    // Label values from a closed set are explained too.
    for sample in page.samples() {
        for label in ["outcome", "stream", "status", "retried", "error_type", "reason", "feature"] {
            if let Some(value) = sample.labels.get(label) {
                let explained = documentation().contains(&format!("`{value}`"));
                assert!(explained, "docs/metrics.md does not mention {label}=`{value}` of {}", sample.name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_has_nothing_to_say() {
    let installation = Installation::start().await;
    let page = installation.text(None).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_gets_the_format_they_ask_for() {
    let installation = Installation::start().await;
    for (accept, kind) in [
        (None, TEXT_TYPE),
        (Some("*/*"), TEXT_TYPE),
        (Some("text/html,application/xhtml+xml,*/*;q=0.8"), TEXT_TYPE),
        (Some("text/plain;version=0.0.4"), TEXT_TYPE),
        (Some("application/openmetrics-text"), OPEN_METRICS_TYPE),
        (Some("text/plain;q=0.2, application/openmetrics-text;q=0.3"), OPEN_METRICS_TYPE),
        (Some("text/plain, application/openmetrics-text;q=0"), TEXT_TYPE),
        (Some(OPEN_METRICS), OPEN_METRICS_TYPE),
        (Some(PROTOBUF), PROTOBUF_TYPE),
        (Some("application/vnd.google.protobuf;proto=another.Message"), TEXT_TYPE),
        (Some("application/json"), TEXT_TYPE),
    ] {
        let (answered, body) = installation.scrape(accept).await;
        assert_eq!(answered, kind, "{accept:?}");
        assert_eq!(body.ends_with(b"\n# EOF\n"), kind == OPEN_METRICS_TYPE, "{accept:?}");
        assert_eq!(std::str::from_utf8(&body).is_err(), kind == PROTOBUF_TYPE, "{accept:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_name_their_row_within_the_limits_of_openmetrics() {
    let began = now();
    let installation = Installation::start().await;
    let page = installation.text(Some(OPEN_METRICS)).await;
    assert!(page.ends_with("\n# EOF\n"));
    assert_eq!(page.matches("# EOF").count(), 1);
    let exemplars = Exposition::from_text(&page).exemplars();
    for (labels, exemplar) in &exemplars {
        let length: usize =
            exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        assert!(length <= 128, "{exemplar:?}");
        assert!(exemplar.labels["log_id"].parse::<i64>().is_ok_and(|id| id > 0), "{exemplar:?}");
        let le: f64 = labels["le"].parse().expect("only buckets have exemplars");
        assert!(exemplar.value <= le, "{exemplar:?} in {labels:?}");
        assert!((began as f64 - 130.0..=now() as f64).contains(&exemplar.at), "{exemplar:?}");
    }
    let ids = |log_id: &str| {
        let of_row = exemplars.iter().filter(|(_, exemplar)| exemplar.labels["log_id"] == log_id);
        of_row.map(|(_, exemplar)| exemplar.labels.get("request_id").cloned()).collect::<Vec<_>>()
    };
    // The retried row falls in a bucket of both histograms.
    assert_eq!(ids("2"), vec![Some("req-retried".to_owned()); 2]);
    assert_eq!(ids("5"), [None], "a request id that is too long is left out, the row's id is not");
    assert_eq!(ids("7"), [], "failed attempts have no duration");
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_says_the_same_as_text() {
    let installation = Installation::start().await;
    let text = Exposition::from_text(&installation.text(Some(OPEN_METRICS)).await);
    let binary = Exposition::from_protobuf(&installation.scrape(Some(PROTOBUF)).await.1);

    let head = |page: &Exposition| -> Vec<(String, String, String)> {
        page.families.iter().map(|f| (f.name.clone(), f.kind.clone(), f.help.clone())).collect()
    };
    assert_eq!(head(&text), head(&binary));
    let values = |page: &Exposition| -> BTreeMap<(String, Labels), f64> {
        let steady = page.samples().filter(|sample| !sample.name.starts_with("token_monitor_tail_l"));
        steady.map(|sample| ((sample.name.clone(), sample.labels.clone()), sample.value)).collect()
    };
    assert_same("text and protobuf", &values(&text), &values(&binary));
    assert_eq!(text.exemplars(), binary.exemplars());
    assert!(!binary.exemplars().is_empty());

    for name in ["newapi_request_duration_seconds", "newapi_time_to_first_token_seconds"] {
        let histograms = &binary.family(name).expect("a histogram").histograms;
        assert!(!histograms.is_empty());
        for histogram in histograms {
            assert_eq!(native_count(histogram), histogram.sample_count, "{name}");
            assert!(histogram.zero_threshold > 0.0, "else an empty one would be taken for a classic one");
        }
    }
}

/// How many values the native buckets hold, by the spans and deltas that Prometheus reads.
fn native_count(histogram: &model::Histogram) -> u64 {
    let spans: u32 = histogram.positive_span.iter().map(|span| span.length).sum();
    assert_eq!(spans as usize, histogram.positive_delta.len());
    let counts = histogram.positive_delta.iter().scan(0_i64, |count, delta| {
        *count += delta;
        Some(u64::try_from(*count).expect("no negative bucket"))
    });
    counts.sum::<u64>() + histogram.zero_count
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_any_text_come_through_every_format() {
    let database = Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await;
    let odd = "we\"ird\\n \\ mo\ndel 🚀 {a=\"b\"} # {c=\"d\"} 1";
    let name = database.engine.literal(odd);
    database
        .exec(&format!("INSERT INTO channels (id, type, `key`, status, name, `group`, tag) VALUES (1, 1, '', 1, {name}, {name}, {name})"))
        .await;
    let row = LogRow {
        model_name: odd.to_owned(),
        created_at: now(),
        request_id: odd.to_owned(),
        ..LogRow::default()
    };
    database.insert_logs(&[row]).await;
    let installation = Installation::of(database).await;
    for page in [
        Exposition::from_text(&installation.text(None).await),
        Exposition::from_text(&installation.text(Some(OPEN_METRICS)).await),
        Exposition::from_protobuf(&installation.scrape(Some(PROTOBUF)).await.1),
    ] {
        let labels = |family: &str| page.family(family).expect("the family").samples[0].labels.clone();
        for family in ["newapi_requests_total", "newapi_request_duration_seconds"] {
            assert_eq!(labels(family)["model"], odd);
            assert_eq!(labels(family)["channel_name"], odd);
        }
        assert_eq!(
            (&labels("newapi_channel_info")["group"], &labels("newapi_channel_info")["tag"]),
            (&odd.to_owned(), &odd.to_owned())
        );
        assert!(page.exemplars().iter().all(|(_, exemplar)| !exemplar.labels.contains_key("request_id")));
    }
}

/// Rows of one request, 10 input tokens and one duration each, until `stop`; a new model now and then.
async fn pour_rows(database: Arc<Database>, stop: CancellationToken) {
    for batch in 0_u32.. {
        if stop.is_cancelled() {
            return;
        }
        let model_name = format!("model-{}", batch / 25);
        let row = LogRow { model_name, prompt_tokens: 10, created_at: now(), ..LogRow::default() };
        database.insert_logs(&vec![row; 3]).await;
        // Writers without a pause would leave the reader of a file without locks no moment to read.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
}

/// The limit of each model stands where its requests do. A new model is shown as 0 first, but not by its limit.
fn limits_agree(page: &Exposition, what: &str) {
    let by_model = |name: &str| -> BTreeMap<String, f64> {
        let samples = page.samples().filter(|sample| sample.name == name);
        samples.map(|sample| (sample.labels["model"].clone(), sample.value)).collect()
    };
    let used = by_model("newapi_limit_used");
    for (model, requests) in by_model("newapi_requests_total") {
        if requests > 0.0 {
            assert_eq!(used.get(&model), Some(&requests), "{what}: {model}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scrape_is_one_state_while_rows_pour_in() {
    let database = Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await;
    let (database, folder, stop) = (Arc::new(database), Folder::new(), CancellationToken::new());
    let limits = folder.path().join("limits.yml");
    let each = r#"limits: [{name: each, model: "*", measure: requests, max: 1000000, window: 24h}]"#;
    std::fs::write(&limits, each).expect("writing the limits");
    let limits_file = Some(limits.display().to_string());
    let monitor = Monitor::ready(&Flags { limits_file, ..flags(&database.url, &folder.path()) }).await;
    let pouring = tokio::spawn(pour_rows(Arc::clone(&database), stop.clone()));
    let client = reqwest::Client::new();
    let (mut scrapes, mut states) = (0, BTreeSet::new());
    let formats = [("*/*", TEXT_TYPE), (OPEN_METRICS, OPEN_METRICS_TYPE), (PROTOBUF, PROTOBUF_TYPE)];
    // The monitor is not asked to be fast here, only to be whole: enough scrapes of enough states.
    while scrapes < 400 || states.len() < 20 {
        let (accept, kind) = formats[scrapes % formats.len()];
        let request = client.get(format!("http://{}/metrics", monitor.address)).header("accept", accept);
        let body = request.send().await.expect("an answer").bytes().await.expect("a body");
        let page = if kind == PROTOBUF_TYPE {
            Exposition::from_protobuf(&body)
        } else {
            Exposition::from_text(std::str::from_utf8(&body).expect("UTF-8"))
        };
        let requests = page.sum("newapi_requests_total");
        let tokens = page.sum("newapi_input_tokens_total");
        let durations = page.sum("newapi_request_duration_seconds_count");
        assert_eq!((tokens, durations), (10.0 * requests, requests), "scrape {scrapes} in {kind}");
        limits_agree(&page, &format!("scrape {scrapes} in {kind}"));
        states.insert(requests.to_bits());
        scrapes += 1;
    }
    stop.cancel();
    pouring.await.expect("rows were written");
    monitor.stop().await;
}
