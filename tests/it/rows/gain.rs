//! What a row adds to the page, and the comparison of one row with it.

use crate::schema::{LogRow, Version};
use crate::servers::{Database, Engine};
use crate::support::{Folder, Monitor, flags, now};
use crate::tally::{Labels, Tally, agrees};

/// What a row adds to the page.
pub struct Gain {
    pub tally: Tally,
    pub labels: Labels<'static>,
}

impl Gain {
    /// The row itself, of a `type`, on channel 1 and gpt-4o.
    pub fn row(kind: &str) -> Self {
        let mut tally = Tally::default();
        tally.add("token_monitor_log_rows_total", &vec![("type", kind.into())], 1.0);
        Self { tally, labels: labels(1, "gpt-4o") }
    }

    /// A whole request as [`LogRow::default`] is one, with these tokens: input, output, read and written ones.
    pub fn request(tokens: [u32; 4]) -> Self {
        Self::row("2").outcome("success", false).tokens(tokens).money(1000.0, 0.0).time(1.0, false)
    }

    /// A streamed request that takes a second.
    pub fn stream(outcome: &str) -> Self {
        Self::row("2").outcome(outcome, true).tokens([100, 20, 0, 0]).money(1000.0, 0.0).time(1.0, false)
    }

    pub fn on(mut self, channel: i64, model: &str) -> Self {
        self.labels = labels(channel, model);
        self
    }

    fn with(&mut self, more: &[(&'static str, &str)]) -> Labels<'static> {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        self.labels.iter().cloned().chain(more).collect()
    }

    pub fn outcome(mut self, outcome: &str, stream: bool) -> Self {
        let labels = self.with(&[("outcome", outcome), ("stream", &stream.to_string())]);
        self.tally.add("newapi_requests_total", &labels, 1.0);
        self
    }

    pub fn tokens(mut self, tokens: [u32; 4]) -> Self {
        for (kind, count) in ["input", "output", "cache_read", "cache_write"].into_iter().zip(tokens) {
            self.tally.add(&format!("newapi_{kind}_tokens_total"), &self.labels, f64::from(count));
        }
        self
    }

    pub fn money(mut self, consumed: f64, refunded: f64) -> Self {
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

    pub fn time(mut self, seconds: f64, retried: bool) -> Self {
        let labels = self.with(&[("retried", &retried.to_string())]);
        self.tally.observe(true, &labels, seconds);
        self
    }

    pub fn first_token(mut self, seconds: f64) -> Self {
        let labels = self.with(&[("retried", "false")]);
        self.tally.observe(false, &labels, seconds);
        self
    }

    pub fn failover(mut self, channel: i64) -> Self {
        self.tally.add("newapi_failovers_total", &labels(channel, "gpt-4o"), 1.0);
        self
    }

    pub fn one(mut self, family: &str) -> Self {
        self.tally.add(family, &self.labels, 1.0);
        self
    }

    pub fn error(mut self, status: &str, kind: &str) -> Self {
        let labels = self.with(&[("status_code", status), ("error_type", kind)]);
        self.tally.add("newapi_errors_total", &labels, 1.0);
        self
    }

    pub fn defect(mut self, reason: &str) -> Self {
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
pub type Case = (String, LogRow, Gain);

/// An ordinary row but for its `other`.
pub fn case(other: &str, gain: Gain) -> Case {
    changed(other, |_| {}, gain)
}

/// The same with further changes.
pub fn changed(other: &str, change: impl FnOnce(&mut LogRow), gain: Gain) -> Case {
    let mut row = LogRow { created_at: now(), other: Some(other.to_owned()), ..LogRow::default() };
    change(&mut row);
    let shown: String = format!("{row:?}").chars().take(600).collect();
    (shown, row, gain)
}

/// Stands for a NUL, which an SQL text cannot hold.
pub const NUL: &str = "<NUL>";

/// An SQLite log with three channels that offer gpt-4o and sora-2.
pub async fn database() -> Database {
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
pub async fn each_changes_the_page_as_said(cases: Vec<Case>) {
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
