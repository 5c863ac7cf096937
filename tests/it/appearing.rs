//! How series come to be shown: from the first row of a history on, with which names, and how many.

use token_monitor::config::Flags;

use crate::rows::database;
use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, Page, Samples, eventually, flags, now};

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

/// A failed attempt on a channel, as old versions wrote it.
fn failed_on(channel_id: i64, name: &str) -> LogRow {
    let other = serde_json::json!({"status_code": 500, "channel_id": channel_id, "channel_name": name});
    LogRow {
        kind: 5,
        channel_id,
        quota: 0,
        other: Some(other.to_string()),
        created_at: now(),
        ..LogRow::default()
    }
}

#[tokio::test]
async fn a_channel_that_was_deleted_before_the_first_start_has_the_last_name_that_a_row_tells() {
    for engine in Engine::ALL {
        let (database, folder) = (Database::create(engine, Version::V0_13_2).await, Folder::new());
        let (key, group) = (engine.identifier("key"), engine.identifier("group"));
        let channel = format!(
            "INSERT INTO channels (id, {key}, name, models, {group}) VALUES (1, '', 'today', 'gpt-4o', 'default')"
        );
        database.exec(&channel).await;
        let on = |channel_id| LogRow { channel_id, created_at: now(), ..LogRow::default() };
        database
            .insert_logs(&[
                failed_on(9, "old"),
                on(9),
                failed_on(9, "last"),
                on(1),
                failed_on(1, "before"),
                on(12),
            ])
            .await;
        let named = |samples: &Samples, name: &str| {
            let label = format!("channel_name=\"{name}\"");
            ["newapi_requests_total", "newapi_errors_total"].map(|family| samples.sum(family, &[&label]))
        };
        let flags = flags(&database.url, &folder.path());
        let monitor = Monitor::ready(&flags).await;
        let samples = monitor.page().samples().await;
        let shown = ["old", "last", "today", "before", ""].map(|name| named(&samples, name));
        assert_eq!(shown, [[0.0, 0.0], [1.0, 2.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]], "{engine:?}");
        let overview = monitor.api().get("overview").await;
        let by_channel = overview["by_channel"].as_array().expect("a list").iter();
        let mut of_sums: Vec<&str> =
            by_channel.map(|item| item["channel_name"].as_str().expect("a name")).collect();
        of_sums.sort_unstable();
        assert_eq!(of_sums, ["", "last", "today"], "{engine:?}");

        // A row that comes later knows better, and after a restart it is remembered.
        database.insert_logs(&[failed_on(9, "later"), failed_on(9, "latest")]).await;
        monitor
            .page()
            .wait_samples("the latest name", |samples| named(samples, "latest") == [1.0, 4.0])
            .await;
        monitor.stop().await;
        let monitor = Monitor::ready(&flags).await;
        assert_eq!(named(&monitor.page().samples().await, "latest"), [1.0, 4.0], "{engine:?}");
        monitor.stop().await;
    }
}
