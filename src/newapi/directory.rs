//! What new-api knows besides its log: channels, abilities, and what a dollar is. Refreshed in the background.

use std::collections::{BTreeMap, HashSet};

use super::database::{Database, ReadError, Reason};
use super::dsn::Engine;
use super::query::{Param, Query, RowRef, Rows};
use crate::record::ChannelId;

/// new-api's default when the option was never saved.
const DEFAULT_QUOTA_PER_UNIT: f64 = 500_000.0;
/// new-api's default when the option was never saved.
const DEFAULT_USD_EXCHANGE_RATE: f64 = 7.3;

/// Most channels and abilities that are read; an installation has hundreds.
const MAX_CHANNELS: usize = 20_000;
const MAX_ABILITIES: usize = 200_000;

/// One state of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Directory {
    /// All channels by id.
    pub channels: BTreeMap<ChannelId, Channel>,
    /// Channels enabled for each group and model.
    pub abilities: BTreeMap<(String, String), u32>,
    /// Groups and models that only one enabled channel serves, by that channel: without it nobody would.
    pub last_of: BTreeMap<ChannelId, Vec<(String, String)>>,
    /// Every model that stands in a channel.
    pub models: HashSet<String>,
    /// Quota that is worth one US dollar.
    pub quota_per_unit: f64,
    /// CNY for one US dollar, as new-api displays it.
    pub usd_exchange_rate: f64,
}

/// A channel, without its key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Channel {
    /// Its name today.
    pub name: String,
    /// Provider, as new-api numbers them.
    pub kind: i64,
    /// 1 enabled, 2 manually disabled, 3 disabled by new-api itself.
    pub status: i64,
    /// Comma list of groups.
    pub group: String,
    /// Free text by which new-api groups channels.
    pub tag: String,
    /// US dollars, if new-api ever asked the provider.
    pub balance_usd: Option<f64>,
    /// Quota ever used; may go down.
    pub used_quota: i64,
    /// Seconds that the last test took, if there was one.
    pub response_time_seconds: Option<f64>,
    /// Unix seconds of the last test, if there was one.
    pub tested_at: Option<i64>,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            channels: BTreeMap::new(),
            abilities: BTreeMap::new(),
            last_of: BTreeMap::new(),
            models: HashSet::new(),
            quota_per_unit: DEFAULT_QUOTA_PER_UNIT,
            usd_exchange_rate: DEFAULT_USD_EXCHANGE_RATE,
        }
    }
}

impl Directory {
    /// Reads everything.
    ///
    /// # Errors
    /// If new-api's main database cannot be read.
    pub async fn read(database: &Database) -> Result<Self, ReadError> {
        let mut directory = Self::default();
        directory.read_channels(database).await?;
        directory.read_abilities(database).await?;
        directory.read_options(database).await?;
        Ok(directory)
    }

    async fn read_channels(&mut self, database: &Database) -> Result<(), ReadError> {
        let columns = database.columns("channels").await?;
        let (int, text) = (|name: &str| columns.int(name), |name: &str| columns.text(name));
        let ints =
            ["id", "type", "status", "used_quota", "response_time", "test_time", "balance_updated_time"];
        let texts = ["name", "group", "tag", "balance", "models"];
        let select: Vec<String> = ints.into_iter().map(int).chain(texts.into_iter().map(text)).collect();
        let (mut left, mut last) = (MAX_CHANNELS, 0);
        // Lists of models are long, so one read may not bring all.
        while left > 0 {
            let sql =
                format!("SELECT {} FROM channels WHERE id > ? ORDER BY id LIMIT {left}", select.join(", "));
            let query = Query::new(sql, vec![last.into()], ints.len(), texts.len());
            let rows = database.read(query).await?;
            let Some(row) = rows.len().checked_sub(1).and_then(|at| rows.get(at)) else { break };
            last = row.int(0);
            left = left.saturating_sub(rows.len());
            self.take_channels(&rows);
            if !rows.cut {
                break;
            }
        }
        Ok(())
    }

    fn take_channels(&mut self, rows: &Rows) {
        for row in rows.iter() {
            let models = row.text(4);
            let models = models.split(',').map(str::trim).filter(|model| !model.is_empty());
            self.models.extend(models.map(str::to_owned));
            let balance: f64 = row.text(3).trim().parse().unwrap_or(0.0);
            let tested_at = Some(row.int(5)).filter(|at| *at > 0);
            self.channels.insert(
                row.int(0),
                Channel {
                    kind: row.int(1),
                    status: row.int(2),
                    used_quota: row.int(3),
                    response_time_seconds: tested_at.map(|_| row.int(4).max(0) as f64 / 1000.0),
                    tested_at,
                    balance_usd: (balance != 0.0 || row.int(6) > 0).then_some(balance),
                    name: row.text(0).into_owned(),
                    group: row.text(1).into_owned(),
                    tag: row.text(2).into_owned(),
                },
            );
        }
    }

    async fn read_abilities(&mut self, database: &Database) -> Result<(), ReadError> {
        let group = database.quote("group");
        let (enabled, cast) = match database.engine() {
            Engine::Postgres => ("a.enabled::text IN ('true', 't', '1')", "BIGINT"),
            Engine::MySql => ("a.enabled", "SIGNED"),
            Engine::Sqlite => ("a.enabled", "INTEGER"),
        };
        // An ability may have been left enabled where its channel is not, or is gone: nobody serves by it.
        let serves = format!("{enabled} AND c.status = 1");
        let sums = format!(
            "SELECT CAST(SUM(CASE WHEN {enabled} THEN 1 ELSE 0 END) AS {cast}), \
             CAST(SUM(CASE WHEN {serves} THEN 1 ELSE 0 END) AS {cast}), \
             CAST(MAX(CASE WHEN {serves} THEN a.channel_id ELSE 0 END) AS {cast}), \
             a.{group}, a.model FROM abilities a LEFT JOIN channels c ON c.id = a.channel_id"
        );
        let (mut left, mut last) = (MAX_ABILITIES, None::<(String, String)>);
        while left > 0 {
            // By the database's own order, so that nothing is left out whatever that is.
            let (after, params) = match &last {
                None => (String::new(), vec![]),
                Some((name, model)) => (
                    format!("WHERE a.{group} > ? OR (a.{group} = ? AND a.model > ?)"),
                    [name, name, model].map(|text| Param::from(text.as_str())).into(),
                ),
            };
            let order = format!("a.{group}, a.model");
            let sql = format!("{sums} {after} GROUP BY {order} ORDER BY {order} LIMIT {left}");
            let rows = database.read(Query::new(sql, params, 3, 2)).await?;
            last = rows.iter().map(|row| self.take_ability(row)).last();
            left = left.saturating_sub(rows.len());
            if !rows.cut {
                break;
            }
        }
        // Rows come in any order, and two readings of the same must be equal.
        self.last_of.values_mut().for_each(|pairs| pairs.sort_unstable());
        Ok(())
    }

    /// Adds a group and model, and says which.
    fn take_ability(&mut self, row: RowRef<'_>) -> (String, String) {
        let enabled = u32::try_from(row.int(0)).unwrap_or(0);
        let pair = (row.text(0).into_owned(), row.text(1).into_owned());
        self.models.insert(pair.1.clone());
        if row.int(1) == 1 {
            self.last_of.entry(row.int(2)).or_default().push(pair.clone());
        }
        self.abilities.insert(pair.clone(), enabled);
        pair
    }

    /// Only these two are ever asked for: other options hold secrets.
    async fn read_options(&mut self, database: &Database) -> Result<(), ReadError> {
        let key = database.quote("key");
        let sql = format!(
            "SELECT {key}, COALESCE(value, '') FROM options WHERE {key} IN ('QuotaPerUnit', 'USDExchangeRate')"
        );
        let rows = match database.read(Query::new(sql, vec![], 0, 2)).await {
            Ok(rows) => rows,
            // A log-only copy of the database may lack it; the defaults are right for most.
            Err(error) if error.reason == Reason::MissingTable => return Ok(()),
            Err(error) => return Err(error),
        };
        for row in rows.iter() {
            let value =
                row.text(1).trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value > 0.0);
            match (row.text(0).as_ref(), value) {
                ("QuotaPerUnit", Some(value)) => self.quota_per_unit = value,
                ("USDExchangeRate", Some(value)) => self.usd_exchange_rate = value,
                (name, None) => {
                    tracing::warn!(option = name, "option is not a positive number; default used");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Names of the providers, by new-api's numbers (its `constant/channel.go`).
pub fn provider_name(kind: i64) -> Option<&'static str> {
    Some(match kind {
        1 => "OpenAI",
        2 => "Midjourney",
        3 => "Azure",
        4 => "Ollama",
        5 => "MidjourneyPlus",
        8 => "Custom",
        14 => "Anthropic",
        15 => "Baidu",
        16 => "Zhipu",
        17 => "Ali",
        18 => "Xunfei",
        19 => "360",
        20 => "OpenRouter",
        22 => "FastGPT",
        23 => "Tencent",
        24 => "Gemini",
        25 => "Moonshot",
        26 => "ZhipuV4",
        27 => "Perplexity",
        31 => "LingYiWanWu",
        33 => "AWS",
        34 => "Cohere",
        35 => "MiniMax",
        36 => "Suno",
        37 => "Dify",
        38 => "Jina",
        39 => "Cloudflare",
        40 => "SiliconFlow",
        41 => "VertexAI",
        42 => "Mistral",
        43 => "DeepSeek",
        44 => "MokaAI",
        45 => "VolcEngine",
        46 => "BaiduV2",
        47 => "Xinference",
        48 => "xAI",
        49 => "Coze",
        50 => "Kling",
        51 => "Jimeng",
        52 => "Vidu",
        53 => "Submodel",
        54 => "DoubaoVideo",
        55 => "Sora",
        56 => "Replicate",
        57 => "Codex",
        58 => "AdvancedCustom",
        59 => "Sub2API",
        60 => "NewAPI",
        _ => return None,
    })
}
