//! What the table holds by SQL, and whether a monitor shows exactly that.

use std::time::{Duration, Instant};

use crate::schema::LogRow;
use crate::servers::Database;
use crate::support::{Page, Samples, now};

/// How long a monitor may take to show what the table holds.
const PATIENCE: Duration = Duration::from_secs(90);

/// Sums over all rows, or over all series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ledger {
    /// Rows of any type.
    pub rows: f64,
    requests: f64,
    errors: f64,
    input_tokens: f64,
    output_tokens: f64,
    quota: f64,
    /// Sum and count of the duration histogram.
    seconds: f64,
    timed: f64,
}

impl Ledger {
    /// What the table holds. Its rows must be such as [`traffic`] makes.
    pub async fn of(database: &Database) -> Self {
        let sql = "SELECT count(*), sum(CASE WHEN type = 2 THEN 1 ELSE 0 END), \
                   sum(CASE WHEN type = 5 THEN 1 ELSE 0 END), sum(prompt_tokens), sum(completion_tokens), \
                   sum(quota), sum(use_time) FROM logs";
        let rows = database.rows(sql).await;
        let number = |column: usize| rows[0][column].as_deref().map_or(0.0, |n| n.parse().expect("a number"));
        Self {
            rows: number(0),
            requests: number(1),
            errors: number(2),
            input_tokens: number(3),
            output_tokens: number(4),
            quota: number(5),
            seconds: number(6),
            timed: number(1),
        }
    }

    /// What a page shows.
    pub fn shown(samples: &Samples) -> Self {
        let sum = |metric| samples.sum(metric, &[]);
        Self {
            rows: sum("token_monitor_log_rows_total"),
            requests: sum("newapi_requests_total"),
            errors: sum("newapi_errors_total"),
            input_tokens: sum("newapi_input_tokens_total"),
            output_tokens: sum("newapi_output_tokens_total"),
            quota: sum("newapi_quota_consumed_total"),
            seconds: sum("newapi_request_duration_seconds_sum"),
            timed: sum("newapi_request_duration_seconds_count"),
        }
    }
}

/// Waits until the page shows what the table holds, which must not change meanwhile, and sees that it stays so.
pub async fn agrees(page: &Page, database: &Database) {
    let wanted = Ledger::of(database).await;
    let began = Instant::now();
    let mut agreed_at = None;
    loop {
        let samples = page.samples().await;
        let (shown, polled_at) = (Ledger::shown(&samples), last_poll(&samples));
        match agreed_at {
            None if shown == wanted => agreed_at = Some(polled_at),
            None => assert!(began.elapsed() < PATIENCE, "\nshown {shown:?}\ntable {wanted:?}"),
            Some(_) if shown != wanted => panic!("agreed, then\nshown {shown:?}\ntable {wanted:?}"),
            Some(then) if polled_at > then + 0.3 => return,
            Some(_) => assert!(began.elapsed() < PATIENCE, "the log is not polled any more"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn last_poll(samples: &Samples) -> f64 {
    samples.get("token_monitor_tail_last_success_timestamp_seconds").expect("always there")
}

/// Rows of several channels and models, some of them failed attempts, in the order in which they came about, up to
/// now. `first` numbers them: other numbers, other rows.
pub fn traffic(first: u64, count: u64) -> Vec<LogRow> {
    let now = now();
    let age = |index: u64| i64::try_from((count - index) / 20).expect("not that old");
    (0..count).map(|index| LogRow { created_at: now - age(index), ..row(first + index) }).collect()
}

fn row(number: u64) -> LogRow {
    let mut bits = mixed(number);
    let mut below = |limit: u64| {
        let choice = bits % limit;
        bits /= limit;
        i64::try_from(choice).expect("a small number")
    };
    let (channel_id, model, failed) = (1 + below(5), below(4), below(20) == 0);
    let row = LogRow {
        channel_id,
        model_name: format!("model-{model}"),
        request_id: format!("request-{number}"),
        is_stream: below(2) == 0,
        ..LogRow::default()
    };
    if failed {
        let other = r#"{"error_type":"openai_error","error_code":"rate_limit","status_code":429}"#;
        let content = "status_code=429, too many requests".to_owned();
        let other = Some(other.to_owned());
        LogRow {
            kind: 5,
            content,
            other,
            prompt_tokens: 0,
            completion_tokens: 0,
            quota: 0,
            use_time: 0,
            ..row
        }
    } else {
        let (prompt_tokens, completion_tokens) = (below(4000), below(1000));
        LogRow { prompt_tokens, completion_tokens, quota: below(9000), use_time: below(90), ..row }
    }
}

/// A number of which every bit depends on every bit of the given one (splitmix64).
pub fn mixed(number: u64) -> u64 {
    let a = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ (a >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ (b >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ (c >> 31)
}
