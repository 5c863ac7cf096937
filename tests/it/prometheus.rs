//! The real Prometheus scrapes the monitor, in both formats that it asks for, and answers what dashboards ask.

use serde_json::Value;

use crate::page;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine, Prometheus};
use crate::support::{Folder, Monitor, eventually, flags, now};

/// A name that breaks every careless parser.
const ODD: &str = "we\"ird\\n \\ mo\ndel 🚀 {a=\"b\"} # {c=\"d\"} 1";

/// The features that make Prometheus ask for protobuf.
const PROTOBUF: &str = "--enable-feature=native-histograms,exemplar-storage";
/// Without them it asks for OpenMetrics.
const OPEN_METRICS: &str = "--enable-feature=exemplar-storage";

/// new-api, the monitor and Prometheus, and traffic that Prometheus has seen.
struct Scene {
    database: Database,
    monitor: Monitor,
    prometheus: Prometheus,
    _folder: Folder,
}

impl Scene {
    /// A minute of history; then Prometheus, which scrapes every second; then live traffic.
    async fn play(feature: &str) -> Self {
        let (database, folder) = (Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await, Folder::new());
        let odd = database.engine.literal(ODD);
        database.exec(&CHANNELS.replace("ODD", &odd)).await;
        let known = LogRow { created_at: now() - 60, ..streamed(2) };
        database.insert_logs(&vec![known; 5]).await;
        let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
        let prometheus = Prometheus::start(
            &format!(
                "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
                 scrape_configs:\n- job_name: token-monitor\n  static_configs: [{{targets: ['{}']}}]\n",
                monitor.address
            ),
            &[feature],
        );
        let scene = Self { database, monitor, prometheus, _folder: folder };
        scene.until("two scrapes", "count_over_time(newapi_up[1m])", |count| count >= 2.0).await;
        scene.database.insert_logs(&live_rows()).await;
        // The first request of a brand-new model, which cost one dollar: all of it must be seen as an increase. Its
        // estimate grows more exact with each further scrape.
        let dollars = "sum by (model) (increase(newapi_cost_usd_total{model='brand-new'}[1m]))";
        scene.until("the first dollar", dollars, |dollars| (0.99..1.3).contains(&dollars)).await;
        scene
    }

    /// Waits until the only sample of a query is as wanted.
    async fn until(&self, what: &str, promql: &str, wanted: impl Fn(f64) -> bool) {
        eventually(what, async || {
            let result = self.prometheus.query(promql).await;
            result.as_array().is_some_and(|samples| samples.len() == 1) && wanted(number(&result[0]))
        })
        .await;
    }

    /// The only sample of a query.
    async fn ask(&self, promql: &str) -> f64 {
        let result = self.prometheus.query(promql).await;
        assert_eq!(result.as_array().map(Vec::len), Some(1), "{promql}: {result}");
        number(&result[0])
    }

    /// Rates, shares, states and odd names: what is the same however histograms are kept.
    async fn answers_about_traffic(&self) {
        // 40 rows of a known label set, within what extrapolation over a few scrapes makes of them.
        let requests = self.ask("sum(increase(newapi_requests_total{model='gpt-4o'}[1m]))").await;
        assert!((39.9..60.0).contains(&requests), "{requests}");
        assert!(self.ask("sum(rate(newapi_requests_total[1m]))").await > 0.0);
        let share = "sum(rate(newapi_errors_total{model='gpt-4o'}[1m])) \
                     / (sum(rate(newapi_errors_total{model='gpt-4o'}[1m])) + sum(rate(newapi_requests_total{model='gpt-4o'}[1m])))";
        // 10 failed attempts, whose label set was new, of 50.
        let share = self.ask(share).await;
        assert!((0.13..0.3).contains(&share), "{share}");

        let dead = self.prometheus.query("newapi_model_enabled_channels == 0").await;
        assert_eq!(dead.as_array().map(Vec::len), Some(1), "{dead}");
        assert_eq!(dead[0]["metric"]["model"], "claude-sonnet-4");
        let off = self.prometheus.query("newapi_channel_status{status!='enabled'} == 1").await;
        assert_eq!(off.as_array().map(Vec::len), Some(1), "{off}");
        assert_eq!(off[0]["metric"]["channel_name"], "claude");
        assert_eq!(off[0]["metric"]["status"], "auto_disabled");

        let odd = self.prometheus.query("newapi_requests_total{channel_id='7'}").await;
        assert_eq!(odd[0]["metric"]["model"], ODD);
        assert_eq!(odd[0]["metric"]["channel_name"], ODD);
        let odd = self.prometheus.query("newapi_channel_info{channel_id='7'}").await;
        assert_eq!(odd[0]["metric"]["channel_name"], ODD);
        assert_eq!(odd[0]["value"][1], "1");
    }

    /// Every query of docs/metrics.md answers something. Histograms are kept in one of two ways.
    async fn answers_the_documented_queries(&self, native: bool) {
        let queries = documented_queries();
        assert!(queries.len() > 10, "{queries:?}");
        for query in queries {
            let of_the_other_way = query.contains("_bucket") == native;
            if query.contains("histogram_quantile") && of_the_other_way {
                continue;
            }
            let result = self.prometheus.query(&query).await;
            let samples = result.as_array().expect("samples");
            assert!(!samples.is_empty(), "nothing answers {query}");
            let finite = |sample: &&Value| number(sample).is_finite();
            assert!(samples.iter().any(|sample| finite(&sample)), "{query}: {result}");
        }
    }

    /// Exemplars of the model's durations point at rows that exist.
    async fn answers_with_exemplars(&self, selector: &str) {
        let result =
            self.prometheus.query_exemplars(selector, now() as f64 - 600.0, now() as f64 + 600.0).await;
        let exemplars: Vec<&Value> = result
            .as_array()
            .expect("series")
            .iter()
            .flat_map(|series| series["exemplars"].as_array().expect("exemplars"))
            .collect();
        assert!(!exemplars.is_empty(), "{selector}");
        for exemplar in exemplars {
            let (id, request) =
                (text(&exemplar["labels"]["log_id"]), text(&exemplar["labels"]["request_id"]));
            let count = format!("SELECT COUNT(*) FROM logs WHERE id = {id} AND request_id = '{request}'");
            assert_eq!(self.database.query_i64(&count).await, 1, "{exemplar}");
        }
    }
}

const CHANNELS: &str = r"
INSERT INTO channels (id, type, `key`, status, name, balance, balance_updated_time, models, `group`) VALUES
 (1, 1, '', 1, 'openai', 12.5, 1780000000, 'gpt-4o,brand-new', 'default'), (2, 14, '', 3, 'claude', 0, 0, 'claude-sonnet-4', 'default'),
 (7, 1, '', 1, ODD, 0, 0, ODD, 'default');
INSERT INTO abilities (`group`, model, channel_id, enabled) VALUES
 ('default', 'gpt-4o', 1, 1), ('default', 'brand-new', 1, 1), ('default', 'claude-sonnet-4', 2, 0);
";

fn streamed(use_time: i64) -> LogRow {
    LogRow {
        use_time,
        is_stream: true,
        created_at: now(),
        request_id: "req-live".to_owned(),
        other: Some(
            r#"{"frt":820,"cache_tokens":30,"stream_status":{"status":"ok","end_reason":"done"}}"#.to_owned(),
        ),
        ..LogRow::default()
    }
}

fn live_rows() -> Vec<LogRow> {
    let mut rows = vec![streamed(4); 38];
    rows.extend(vec![streamed(9); 2]);
    let error = r#"{"status_code":429,"error_type":"openai_error"}"#.to_owned();
    rows.extend(vec![LogRow { kind: 5, other: Some(error), ..streamed(1) }; 10]);
    rows.push(LogRow { kind: 6, quota: 100, ..streamed(0) });
    rows.push(LogRow { model_name: "brand-new".to_owned(), quota: 500_000, ..streamed(4) });
    rows.push(LogRow { model_name: ODD.to_owned(), channel_id: 7, ..streamed(1) });
    rows
}

/// The fenced examples of docs/metrics.md.
fn documented_queries() -> Vec<String> {
    let blocks = page::documentation().split("```promql\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("an end").to_owned()).collect()
}

/// The value of a sample; of a native histogram its count.
fn number(sample: &Value) -> f64 {
    let value = sample["value"].get(1).or_else(|| sample["histogram"][1].get("count"));
    text(value.expect("a value")).parse().expect("a number")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_openmetrics_and_answers_what_dashboards_ask() {
    let scene = Scene::play(OPEN_METRICS).await;
    scene.answers_about_traffic().await;
    scene.answers_the_documented_queries(false).await;
    scene.answers_with_exemplars("newapi_request_duration_seconds_bucket{model='gpt-4o'}").await;

    // Every request took 4 s but two of 40, which took 9; the bucket is 3 to 5, the other 8 to 13.
    let quantile = |q: f64, model: &str| {
        format!(
            "histogram_quantile({q}, sum by (le) (rate(newapi_request_duration_seconds_bucket{{model='{model}'}}[1m])))"
        )
    };
    let (median, slowest) =
        (scene.ask(&quantile(0.5, "gpt-4o")).await, scene.ask(&quantile(0.99, "gpt-4o")).await);
    assert!((3.0..=5.0).contains(&median) && (8.0..=13.0).contains(&slowest), "{median} {slowest}");
    // Also the first request of a model is there: its buckets were seen at 0.
    let first = scene.ask(&quantile(0.5, "brand-new")).await;
    assert!((3.0..=5.0).contains(&first), "{first}");
    let native = scene.prometheus.query("newapi_request_duration_seconds").await;
    assert_eq!(native, serde_json::json!([]), "text has no native histograms");
    scene.monitor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_protobuf_and_has_native_histograms() {
    let scene = Scene::play(PROTOBUF).await;
    scene.answers_about_traffic().await;
    scene.answers_the_documented_queries(true).await;
    scene.answers_with_exemplars("newapi_request_duration_seconds{model='gpt-4o'}").await;

    let native = scene.prometheus.query("newapi_request_duration_seconds{model='gpt-4o'}").await;
    let histogram = &native[0]["histogram"][1];
    assert_eq!((text(&histogram["count"]), text(&histogram["sum"])), ("45", "180"), "{native}");
    // Native buckets are 9 % wide: 4 s lies on a bound, 9 s between 8.72 and 9.51.
    let quantile = |q: f64, model: &str| {
        format!("histogram_quantile({q}, sum(rate(newapi_request_duration_seconds{{model='{model}'}}[1m])))")
    };
    let (median, slowest) =
        (scene.ask(&quantile(0.5, "gpt-4o")).await, scene.ask(&quantile(0.99, "gpt-4o")).await);
    assert!((3.6..=4.0).contains(&median) && (8.7..=9.6).contains(&slowest), "{median} {slowest}");
    let first = scene.ask(&quantile(0.5, "brand-new")).await;
    assert!((3.6..=4.0).contains(&first), "{first}");
    scene.monitor.stop().await;
}
