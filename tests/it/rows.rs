//! What each kind of row counts as: one row in, exactly this change of the page. And how series come to be shown.

use token_monitor::config::Flags;

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, Page, Samples, eventually, flags, now};
use crate::tally::{Labels, Tally, agrees};

/// What a row adds to the page.
struct Gain {
    tally: Tally,
    labels: Labels<'static>,
}

impl Gain {
    /// The row itself, of a `type`, on channel 1 and gpt-4o.
    fn row(kind: &str) -> Self {
        let mut tally = Tally::default();
        tally.add("token_monitor_log_rows_total", &vec![("type", kind.into())], 1.0);
        Self { tally, labels: labels(1, "gpt-4o") }
    }

    /// A whole request as [`LogRow::default`] is one, with these tokens: input, output, read and written ones.
    fn request(tokens: [u32; 4]) -> Self {
        Self::row("2").outcome("success", false).tokens(tokens).money(1000.0, 0.0).time(1.0, false)
    }

    /// A streamed request that takes a second.
    fn stream(outcome: &str) -> Self {
        Self::row("2").outcome(outcome, true).tokens([100, 20, 0, 0]).money(1000.0, 0.0).time(1.0, false)
    }

    fn on(mut self, channel: i64, model: &str) -> Self {
        self.labels = labels(channel, model);
        self
    }

    fn with(&mut self, more: &[(&'static str, &str)]) -> Labels<'static> {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        self.labels.iter().cloned().chain(more).collect()
    }

    fn outcome(mut self, outcome: &str, stream: bool) -> Self {
        let labels = self.with(&[("outcome", outcome), ("stream", &stream.to_string())]);
        self.tally.add("newapi_requests_total", &labels, 1.0);
        self
    }

    fn tokens(mut self, tokens: [u32; 4]) -> Self {
        for (kind, count) in ["input", "output", "cache_read", "cache_write"].into_iter().zip(tokens) {
            self.tally.add(&format!("newapi_{kind}_tokens_total"), &self.labels, f64::from(count));
        }
        self
    }

    fn money(mut self, consumed: f64, refunded: f64) -> Self {
        for (family, amount) in [
            ("newapi_quota_consumed_total", consumed),
            ("newapi_quota_refunded_total", refunded),
            ("newapi_cost_usd_total", consumed / 500_000.0),
            ("newapi_cost_refunded_usd_total", refunded / 500_000.0),
        ] {
            self.tally.add(family, &self.labels, amount);
        }
        self
    }

    fn time(mut self, seconds: f64, retried: bool) -> Self {
        let labels = self.with(&[("retried", &retried.to_string())]);
        self.tally.observe(true, &labels, seconds);
        self
    }

    fn first_token(mut self, seconds: f64) -> Self {
        let labels = self.with(&[("retried", "false")]);
        self.tally.observe(false, &labels, seconds);
        self
    }

    fn failover(mut self, channel: i64) -> Self {
        self.tally.add("newapi_failovers_total", &labels(channel, "gpt-4o"), 1.0);
        self
    }

    fn one(mut self, family: &str) -> Self {
        self.tally.add(family, &self.labels, 1.0);
        self
    }

    fn error(mut self, status: &str, kind: &str) -> Self {
        let labels = self.with(&[("status_code", status), ("error_type", kind)]);
        self.tally.add("newapi_errors_total", &labels, 1.0);
        self
    }

    fn defect(mut self, reason: &str) -> Self {
        self.tally.add("token_monitor_row_defects_total", &vec![("reason", reason.into())], 1.0);
        self
    }
}

/// Channels 1, 9 and 12 exist.
fn labels(channel: i64, model: &str) -> Labels<'static> {
    let name = if [1, 9, 12].contains(&channel) { format!("channel {channel}") } else { String::new() };
    vec![("channel_id", channel.to_string()), ("channel_name", name), ("model", model.to_owned())]
}

/// A row, what it is, and what it adds.
type Case = (String, LogRow, Gain);

/// An ordinary row but for its `other`.
fn case(other: &str, gain: Gain) -> Case {
    changed(other, |_| {}, gain)
}

/// The same with further changes.
fn changed(other: &str, change: impl FnOnce(&mut LogRow), gain: Gain) -> Case {
    let mut row = LogRow { created_at: now(), other: Some(other.to_owned()), ..LogRow::default() };
    change(&mut row);
    let shown: String = format!("{row:?}").chars().take(600).collect();
    (shown, row, gain)
}

/// Stands for a NUL, which an SQL text cannot hold.
const NUL: &str = "<NUL>";

/// An SQLite log with three channels that offer gpt-4o and sora-2.
async fn database() -> Database {
    let database = Database::create(Engine::Sqlite, Version::V1_0_0Rc24).await;
    for id in [1, 9, 12] {
        let insert = format!(
            "INSERT INTO channels (id, `key`, name, models) VALUES ({id}, '', 'channel {id}', 'gpt-4o, sora-2')"
        );
        database.exec(&insert).await;
    }
    database
}

/// Inserts one row after the other; each changes the page as it says, and not otherwise.
async fn each_changes_the_page_as_said(cases: Vec<Case>) {
    let (database, folder) = (database().await, Folder::new());
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let mut wanted = Tally::default();
    for (what, row, gain) in cases {
        let insert = LogRow::insert(&[row], Engine::Sqlite, database.version);
        database.exec(&insert.replace(NUL, "' || char(0) || '")).await;
        wanted.add_all(&gain.tally);
        agrees(&monitor.page(), &what, &wanted).await;
    }
    monitor.stop().await;
}

#[tokio::test]
async fn consumption_is_a_request_a_test_or_money_only() {
    let test = |row: &mut LogRow| (row.token_name, row.token_id) = ("模型测试".to_owned(), 0);
    let plain = || Gain::request([100, 20, 0, 0]);
    let settled = |quota| Gain::row("2").money(quota, 0.0);
    each_changes_the_page_as_said(vec![
        case("{}", plain()),
        changed("{}", test, Gain::row("2").one("newapi_channel_tests_total")),
        // A user may name a token so; one with an id is real.
        changed("{}", |row| row.token_name = "模型测试".into(), plain()),
        changed("{}", |row| row.token_id = 0, plain()),
        case(r#"{"task_id":"task_abc","pre_consumed_quota":1,"actual_quota":1001}"#, settled(1000.0)),
        changed(
            r#"{"is_task":true,"task_id":"task_abc"}"#,
            |row| row.use_time = 0,
            Gain::row("2")
                .outcome("success", false)
                .tokens([100, 20, 0, 0])
                .money(1000.0, 0.0)
                .time(0.0, false),
        ),
        case(r#"{"task_id":""}"#, plain()),
        case(r#"{"violation_fee":true,"fee_quota":1000,"status_code":403}"#, settled(1000.0)),
        changed("{}", |row| row.quota = -700, Gain::row("2").money(0.0, 700.0)),
        changed("{}", |row| row.quota = 0, plain().money(-1000.0, 0.0)),
        changed(
            r#"{"task_id":"task_abc","reason":"task failed"}"#,
            |row| (row.kind, row.quota, row.model_name) = (6, 500_000, "sora-2".into()),
            Gain::row("6").on(1, "sora-2").money(0.0, 500_000.0),
        ),
    ])
    .await;
}

#[tokio::test]
async fn times_retries_and_failovers_are_booked_on_the_right_channel() {
    let timed = |seconds, retried| {
        Gain::row("2")
            .outcome("success", false)
            .tokens([100, 20, 0, 0])
            .money(1000.0, 0.0)
            .time(seconds, retried)
    };
    let on_12 = Gain::row("2").on(12, "gpt-4o").outcome("success", false).tokens([100, 20, 0, 0]);
    let tried = |list: &str| format!(r#"{{"admin_info":{{"use_channel":{list}}}}}"#);
    each_changes_the_page_as_said(vec![
        changed("{}", |row| row.use_time = 5, timed(5.0, false)),
        changed("{}", |row| row.use_time = 6, timed(6.0, false).one("newapi_slow_requests_total")),
        changed("{}", |row| row.use_time = 2000, timed(2000.0, false).one("newapi_slow_requests_total")),
        case(&tried(r#"["1"]"#), timed(1.0, false)),
        changed(
            &tried(r#"["9","12"]"#),
            |row| row.channel_id = 12,
            on_12.money(1000.0, 0.0).time(1.0, true).failover(9),
        ),
        case(&tried(r#"["1","1"]"#), timed(1.0, true)),
        case(&tried(r#"["1","9","1"]"#), timed(1.0, true).failover(1).failover(9)),
        case(&tried(r#"["7","7","1"]"#), timed(1.0, true).failover(7)),
        // The failed attempt says the same of the beginning.
        changed(&tried(r#"["9","12"]"#), |row| row.kind = 5, Gain::row("5").error("unknown", "other")),
    ])
    .await;
}

#[tokio::test]
async fn streams_end_well_or_badly_or_because_the_client_left() {
    let stream = |other: &str, gain| changed(other, |row| row.is_stream = true, gain);
    let ended = |reason: &str, status: &str| {
        format!(r#"{{"stream_status":{{"end_reason":"{reason}","status":"{status}"}},"frt":-1000}}"#)
    };
    each_changes_the_page_as_said(vec![
        stream("{}", Gain::stream("success")),
        stream(&ended("done", "ok"), Gain::stream("success")),
        stream(&ended("eof", "ok"), Gain::stream("success")),
        stream(&ended("client_gone", "error"), Gain::stream("client_gone")),
        stream(&ended("client_gone", "ok"), Gain::stream("client_gone")),
        stream(&ended("timeout", "error"), Gain::stream("stream_error")),
        stream(&ended("", "error"), Gain::stream("stream_error")),
        stream(r#"{"stream_status":{}}"#, Gain::stream("success")),
        stream(r#"{"frt":812}"#, Gain::stream("success").first_token(0.812)),
        stream(r#"{"frt":812.5}"#, Gain::stream("success").first_token(0.8125)),
        stream(r#"{"frt":0}"#, Gain::stream("success")),
        // Not streamed: there is no first chunk, whatever stands there.
        case(r#"{"frt":812}"#, Gain::request([100, 20, 0, 0])),
        case(r#"{"frt":-1000}"#, Gain::request([100, 20, 0, 0])),
    ])
    .await;
}

#[tokio::test]
async fn input_tokens_include_cached_ones_for_every_provider() {
    each_changes_the_page_as_said(vec![
        case(r#"{"cache_tokens":64}"#, Gain::request([100, 20, 64, 0])),
        case(r#"{"cache_tokens":64.0,"cache_creation_tokens":"8"}"#, Gain::request([100, 20, 64, 8])),
        case(
            r#"{"claude":true,"cache_tokens":10240,"cache_creation_tokens":2048}"#,
            Gain::request([12_388, 20, 10_240, 2048]),
        ),
        case(r#"{"usage_semantic":"anthropic","cache_tokens":5}"#, Gain::request([105, 20, 5, 0])),
        case(r#"{"usage_semantic":"openai","cache_tokens":5}"#, Gain::request([100, 20, 5, 0])),
        case(r#"{"claude":false,"cache_tokens":5}"#, Gain::request([100, 20, 5, 0])),
        case(r#"{"claude":true,"cache_tokens":5,"input_tokens_total":777}"#, Gain::request([777, 20, 5, 0])),
        case(r#"{"cache_tokens":5,"input_tokens_total":778}"#, Gain::request([778, 20, 5, 0])),
        case(
            r#"{"claude":true,"cache_creation_tokens_5m":2000,"cache_creation_tokens_1h":48}"#,
            Gain::request([2148, 20, 0, 2048]),
        ),
        case(
            r#"{"claude":true,"cache_creation_tokens_5m":40,"cache_creation_tokens":50,"cache_write_tokens":60}"#,
            Gain::request([160, 20, 0, 60]),
        ),
    ])
    .await;
}

#[tokio::test]
async fn errors_are_counted_by_status_and_by_a_closed_set_of_types() {
    let failed = |other: &str, status: &str, kind: &str| {
        changed(other, |row| (row.kind, row.quota) = (5, 0), Gain::row("5").error(status, kind))
    };
    let mut cases = vec![
        failed(r#"{"status_code":429,"error_type":"openai_error","error_code":7}"#, "429", "openai_error"),
        failed(r#"{"status_code":429,"error_type":"openai_error","error_code":null}"#, "429", "openai_error"),
        failed(r#"{"status_code":"503","error_type":"made up by an upstream"}"#, "503", "other"),
        failed(r#"{"status_code":500.0}"#, "500", "other"),
        failed(r#"{"error_type":"claude_error","status_code":null}"#, "unknown", "claude_error"),
        failed("{}", "unknown", "other"),
    ];
    for kind in ["new_api", "gemini", "upstream", "midjourney", "rerank"] {
        let other = format!(r#"{{"error_type":"{kind}_error","status_code":400}}"#);
        cases.push(failed(&other, "400", &format!("{kind}_error")));
    }
    for impossible in ["9999", "-1", "0", "\"x\"", "[]"] {
        let (what, row, gain) = failed(&format!(r#"{{"status_code":{impossible}}}"#), "unknown", "other");
        cases.push((what, row, gain.defect("other_wrong_type")));
    }
    // Money on an error row is nobody's.
    cases.push(changed("{}", |row| row.kind = 5, Gain::row("5").error("unknown", "other")));
    each_changes_the_page_as_said(cases).await;
}

#[tokio::test]
async fn other_types_are_counted_by_type_only() {
    let kinds =
        [(1, "1"), (3, "3"), (4, "4"), (7, "7"), (0, "0"), (8, "other"), (99, "other"), (-1, "other")];
    let cases = kinds.map(|(kind, label)| {
        let change = |row: &mut LogRow| (row.kind, row.other) = (kind, Some("not JSON".into()));
        changed("", change, Gain::row(label))
    });
    each_changes_the_page_as_said(cases.into()).await;
}

#[tokio::test]
async fn a_row_whose_other_is_hostile_is_counted_from_its_columns() {
    let plain = || Gain::request([100, 20, 0, 0]);
    let not_json = |other: &str| case(other, plain().defect("other_not_json"));
    let wrong = |other: &str| case(other, plain().defect("other_wrong_type"));
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    let megabyte = "a".repeat(1 << 20);
    let cases = vec![
        changed("", |row| row.other = None, plain().defect("other_empty")),
        case("", plain().defect("other_empty")),
        case(" \n\t", plain().defect("other_empty")),
        not_json("not JSON"),
        not_json("[]"),
        not_json("null"),
        not_json("7"),
        not_json("{"),
        not_json("{} {}"),
        not_json(r#"{"cache_tokens":64,}"#),
        not_json(&open),
        not_json(&format!("{open}{close}")),
        not_json(&format!(r#"{{"cache_tokens":64,"deep":{open}"#)),
        case(&format!(r#"{{"deep":{open}{close},"cache_tokens":64}}"#), Gain::request([100, 20, 64, 0])),
        not_json(&megabyte),
        case(&format!(r#"{{"{megabyte}":"{megabyte}","cache_tokens":64}}"#), Gain::request([100, 20, 64, 0])),
        not_json(&format!(r#"{{"a":"{NUL}"}}"#)),
        not_json(&format!("{{}}{NUL}")),
        case(r#"{"a\u0000":"\u0000","cache_tokens":64}"#, Gain::request([100, 20, 64, 0])),
        not_json(r#"{"frt":1e999}"#),
        wrong(r#"{"cache_tokens":"many"}"#),
        wrong(r#"{"cache_tokens":-5,"cache_creation_tokens":1e300}"#),
        wrong(r#"{"input_tokens_total":99999999999999999999999999}"#),
        wrong(r#"{"cache_tokens":[64],"claude":{},"frt":"soon","stream_status":7,"task_id":[]}"#),
        wrong(r#"{"admin_info":"none","is_task":"perhaps","violation_fee":3}"#),
        wrong(r#"{"admin_info":{"use_channel":["x",{}]}}"#),
        // What is right beside what is wrong still counts.
        case(
            r#"{"claude":[],"cache_tokens":64}"#,
            Gain::request([100, 20, 64, 0]).defect("other_wrong_type"),
        ),
    ];
    each_changes_the_page_as_said(cases).await;
}

#[tokio::test]
async fn columns_with_impossible_numbers_and_strange_names_do_no_harm() {
    let model = |name: &str| {
        let gain = Gain::row("2").on(1, name).outcome("success", false).tokens([100, 20, 0, 0]);
        (name.to_owned(), gain.money(1000.0, 0.0).time(1.0, false))
    };
    let named = |name: &str| {
        let (name, gain) = model(name);
        changed("{}", |row| row.model_name = name, gain)
    };
    let long = "m".repeat(2000);
    let (_, as_other) = model("_other");
    let on_77 = |input| Gain::row("2").on(77, "gpt-4o").outcome("success", false).tokens([input, 20, 0, 0]);
    each_changes_the_page_as_said(vec![
        named("a \"quoted\" \\ model\nof two lines"),
        named(""),
        named("模型, {a=\"b\"} 1"),
        changed("{}", |row| row.model_name = long, as_other),
        changed(
            "{}",
            |row| (row.prompt_tokens, row.channel_id) = (-5, 77),
            on_77(0).money(1000.0, 0.0).time(1.0, false).defect("bad_column"),
        ),
        changed(
            "{}",
            |row| (row.use_time, row.channel_id) = (-3, 77),
            on_77(100).money(1000.0, 0.0).time(0.0, false).defect("bad_column"),
        ),
        changed(
            "{}",
            |row| (row.quota, row.channel_id) = (i64::MAX, 77),
            on_77(100).money(9_223_372_036_854_775_807.0, 0.0).time(1.0, false),
        ),
    ])
    .await;
}

/// Anyone with a key can put any name into the error log.
#[tokio::test]
async fn a_model_that_no_channel_offers_counts_as_other_until_it_was_answered_once() {
    let (database, folder) = (database().await, Folder::new());
    let flags = flags(&database.url, &folder.path());
    let monitor = Monitor::ready(&flags).await;
    let row = |kind, model: &str| LogRow { kind, model_name: model.into(), ..LogRow::default() };
    let errors =
        |samples: &Samples, model: &str| samples.sum("newapi_errors_total", &[&format!("model=\"{model}\"")]);
    for number in 0..40 {
        database.insert_log(&row(5, &format!("junk-{number}"))).await;
    }
    database.insert_logs(&[row(5, "gpt-4o"), row(5, "fresh"), row(2, "fresh"), row(5, "fresh")]).await;
    let shown = |samples: &Samples| {
        (errors(samples, "_other"), errors(samples, "gpt-4o"), errors(samples, "fresh")) == (41.0, 1.0, 1.0)
    };
    let samples = monitor.page().wait_samples("errors by model", shown).await;
    assert!(samples.0.keys().all(|series| !series.contains("junk")));
    monitor.stop().await;

    let monitor = Monitor::ready(&flags).await;
    assert!(shown(&monitor.page().samples().await));
    database.insert_logs(&[row(5, "fresh"), row(5, "junk-1")]).await;
    let after = |samples: &Samples| (errors(samples, "_other"), errors(samples, "fresh")) == (42.0, 2.0);
    monitor.page().wait_samples("what is known stays known", after).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_new_label_set_is_shown_as_zero_first_and_the_first_catch_up_at_once() {
    let (database, folder) = (database().await, Folder::new());
    database.insert_logs(&vec![LogRow { created_at: now(), ..LogRow::default() }; 5]).await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    let page = monitor.page();
    let requests = |samples: &Samples, model: &str| {
        let labels = format!("model=\"{model}\"");
        let names =
            ["newapi_requests_total", "newapi_quota_consumed_total", "newapi_request_duration_seconds_count"];
        let has = samples.0.keys().any(|series| series.contains(&labels));
        has.then(|| names.map(|name| samples.sum(name, &[&labels])))
    };
    assert_eq!(requests(&page.samples().await, "gpt-4o"), Some([5.0, 5000.0, 5.0]), "in full at once");

    database.insert_logs(&vec![LogRow { model_name: "sora-2".into(), ..LogRow::default() }; 3]).await;
    let mut shown = vec![];
    while shown.last() != Some(&[3.0, 3000.0, 3.0]) {
        assert!(shown.len() < 3000, "{shown:?}");
        shown.extend(requests(&page.samples().await, "sora-2"));
    }
    shown.dedup();
    assert_eq!(shown, [[0.0; 3], [3.0, 3000.0, 3.0]]);

    // The same label set goes on without a further zero, and so it does after a restart.
    database.insert_log(&LogRow { model_name: "sora-2".into(), ..LogRow::default() }).await;
    page.wait_samples("the fourth", |s| requests(s, "sora-2") == Some([4.0, 4000.0, 4.0])).await;
    monitor.stop().await;
    let monitor = Monitor::ready(&flags(&database.url, &folder.path())).await;
    assert_eq!(requests(&monitor.page().samples().await, "sora-2"), Some([4.0, 4000.0, 4.0]));
    monitor.stop().await;
}

/// Families that a half-read history must not be seen in.
fn traffic(samples: &Samples) -> Vec<&String> {
    let ours =
        ["newapi_requests", "newapi_quota", "newapi_cost", "newapi_request_", "token_monitor_log_rows"];
    samples.0.keys().filter(|series| ours.iter().any(|name| series.starts_with(name))).collect()
}

#[tokio::test]
async fn until_the_history_is_read_the_monitor_is_not_ready_and_shows_no_traffic() {
    let (database, folder) = (Database::create(Engine::Postgres, Version::V1_0_0Rc24).await, Folder::new());
    database.insert_logs(&vec![LogRow { created_at: now(), ..LogRow::default() }; 500]).await;
    let mut lock = database.session().await;
    lock.exec("BEGIN; LOCK TABLE logs IN ACCESS EXCLUSIVE MODE").await;
    let monitor = Monitor::start(&flags(&database.url, &folder.path())).await;
    let page = monitor.page();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually("the monitor waits for the log", async || database.query_i64(waiting).await > 0).await;
    let (status, text) = page.get("/readyz").await.expect("an answer");
    assert_eq!(status, 503, "{text}");
    assert!(matches!(page.get("/healthz").await, Some((200, _))));
    let samples = page.samples().await;
    assert_eq!(traffic(&samples), Vec::<&String>::new());
    assert!(samples.get("token_monitor_tail_lag_seconds").is_some());

    lock.exec("COMMIT").await;
    page.wait_ready().await;
    assert!((page.samples().await.sum("newapi_requests_total", &[]) - 500.0).abs() < 0.5);
    monitor.stop().await;
}

#[tokio::test]
async fn a_page_shows_nothing_of_the_history_or_all_of_it() {
    let (database, folder) = (database().await, Folder::new());
    database.insert_logs(&vec![LogRow { created_at: now(), ..LogRow::default() }; 30_000]).await;
    let monitor = Monitor::start(&flags(&database.url, &folder.path())).await;
    let page = monitor.page();
    let mut without = 0;
    loop {
        let ready = matches!(page.get("/readyz").await, Some((200, _)));
        let samples = page.samples().await;
        if traffic(&samples).is_empty() {
            assert!(!ready, "ready without traffic");
            without += 1;
        } else {
            assert!((samples.sum("newapi_requests_total", &[]) - 30_000.0).abs() < 0.5);
            break;
        }
    }
    assert!(without > 0, "the catch-up was too short to be seen");
    monitor.stop().await;
}

#[tokio::test]
async fn the_history_begins_where_it_should() {
    let (database, folder) = (database().await, Folder::new());
    let at = |age: i64, quota| LogRow { created_at: now() - age, quota, ..LogRow::default() };
    // In the order of their ids, which is not that of their times; a margin for the time until the start.
    let rows =
        [at(9000, 1), at(3660, 2), at(3540, 10), at(3660, 4), at(3500, 100), at(0, 1000), at(-600, 10_000)];
    database.insert_logs(&rows).await;
    let flags = Flags { history: Some("1h".into()), ..flags(&database.url, &folder.path()) };
    let monitor = Monitor::ready(&flags).await;
    let quota = |samples: &Samples| samples.sum("newapi_quota_consumed_total", &[]);
    assert!((quota(&monitor.page().samples().await) - 11_110.0).abs() < 0.5);
    let counted = monitor.page().samples().await.sum("token_monitor_log_rows_total", &[]);
    assert!((counted - 4.0).abs() < 0.5, "what is outside is no row: {counted}");
    // What comes later is counted, whatever its clock says.
    database.insert_log(&at(90_000, 100_000)).await;
    monitor.page().wait_samples("the last one", |s| (quota(s) - 111_110.0).abs() < 0.5).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_history_of_nothing_begins_with_the_next_row() {
    let (database, folder) = (database().await, Folder::new());
    let at = |age: i64, quota| LogRow { created_at: now() - age, quota, ..LogRow::default() };
    database.insert_logs(&[at(9000, 1), at(60, 10)]).await;
    let flags = Flags { history: Some("0s".into()), ..flags(&database.url, &folder.path()) };
    let monitor = Monitor::ready(&flags).await;
    database.insert_log(&at(1, 100)).await;
    let quota = |samples: &Samples| samples.sum("newapi_quota_consumed_total", &[]);
    monitor.page().wait_samples("the new one", |samples| (quota(samples) - 100.0).abs() < 0.5).await;
    monitor.stop().await;
}

#[tokio::test]
async fn a_family_has_max_series_label_sets_and_one_for_the_rest_and_its_sums_stay_exact() {
    let (database, folder) = (database().await, Folder::new());
    let row = |number: i64| LogRow {
        created_at: now(),
        model_name: format!("model-{}", number % 50),
        quota: 1 << (number % 7),
        is_stream: number % 2 == 0,
        other: Some(r#"{"frt":400}"#.into()),
        ..LogRow::default()
    };
    let (history, live): (Vec<_>, Vec<_>) = ((0..300).map(row).collect(), (300..600).map(row).collect());
    database.insert_logs(&history).await;
    let flags = Flags { max_series: Some("10".into()), ..flags(&database.url, &folder.path()) };
    let monitor = Monitor::ready(&flags).await;
    database.insert_logs(&live).await;
    let quota: i64 = history.iter().chain(&live).map(|row| row.quota).sum();
    let wanted = [
        ("newapi_requests_total", 600.0),
        ("newapi_input_tokens_total", 60_000.0),
        ("newapi_quota_consumed_total", f64::from(i32::try_from(quota).expect("small"))),
        ("newapi_request_duration_seconds_count", 600.0),
        ("newapi_request_duration_seconds_sum", 600.0),
        ("newapi_time_to_first_token_seconds_count", 300.0),
    ];
    let exact = |samples: &Samples| {
        wanted.iter().all(|(family, value)| (samples.sum(family, &[]) - value).abs() < 1e-6)
    };
    let samples = monitor.page().wait_samples("exact sums", exact).await;
    for (family, _) in wanted {
        assert_eq!(samples.count(family), 11, "{family}");
        let rest = samples.sum(family, &["channel_id=\"_other\"", "model=\"_other\""]);
        assert!(rest > 0.0, "{family}");
    }
    let label = "family=\"newapi_requests_total\"";
    assert!((samples.sum("token_monitor_series", &[label]) - 10.0).abs() < 0.5);
    assert!(samples.sum("token_monitor_series_overflow_total", &[label]) > 100.0);
    monitor.stop().await;

    let monitor = Monitor::ready(&flags).await;
    assert!(exact(&monitor.page().samples().await), "after a restart");
    monitor.stop().await;
}

/// Names of the channels that have requests.
fn names(samples: &Samples) -> Vec<String> {
    let of = |name: &str| samples.sum("newapi_requests_total", &[&format!("channel_name=\"{name}\"")]);
    let all = ["channel 1", "channel 9", "channel 12", "renamed", "renamed again"];
    all.into_iter().filter(|name| of(name) > 0.0).map(str::to_owned).collect()
}

async fn wait_names(page: &Page, wanted: &[&str]) {
    page.wait_samples(&format!("the names {wanted:?}"), |samples| names(samples) == wanted).await;
}

#[tokio::test]
async fn a_channel_has_todays_name_and_keeps_the_last_one_when_it_is_deleted() {
    let (database, folder) = (database().await, Folder::new());
    let on = |channel_id| LogRow { channel_id, created_at: now(), ..LogRow::default() };
    database.insert_logs(&[on(1), on(9), on(12)]).await;
    let flags = flags(&database.url, &folder.path());
    let monitor = Monitor::ready(&flags).await;
    wait_names(&monitor.page(), &["channel 1", "channel 9", "channel 12"]).await;
    database
        .exec("UPDATE channels SET name = 'renamed' WHERE id = 1; DELETE FROM channels WHERE id = 9")
        .await;
    wait_names(&monitor.page(), &["channel 9", "channel 12", "renamed"]).await;
    assert_eq!(monitor.page().samples().await.count("newapi_channel_info"), 2);
    monitor.stop().await;

    // While nobody looks, too: the last name that was seen stays.
    database
        .exec("UPDATE channels SET name = 'renamed again' WHERE id = 12; DELETE FROM channels WHERE id = 1")
        .await;
    database.insert_logs(&[on(9), on(1)]).await;
    let monitor = Monitor::ready(&flags).await;
    wait_names(&monitor.page(), &["channel 9", "renamed", "renamed again"]).await;
    let samples = monitor.page().samples().await;
    assert!((samples.sum("newapi_requests_total", &["channel_name=\"channel 9\""]) - 2.0).abs() < 0.5);
    assert_eq!(samples.count("newapi_channel_info"), 1);
    monitor.stop().await;
}
