//! Variables of messages and of the breaker.

use std::collections::BTreeSet;
use std::time::Duration;

use url::Url;

use super::{Access, Admin, Language, Reader};
use crate::message::{MAX_TEMPLATE, Target, Template};
use crate::secret::Secret;

/// Shortest and longest silence of the Watchdog. Alertmanager repeats it every few minutes.
pub(super) const WATCHDOG_TIMEOUTS: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(86_400));

/// Most channels that may be disabled in an hour.
const MAX_PER_HOUR: std::ops::RangeInclusive<u64> = 1..=1000;

/// The bots that are configured.
#[derive(Debug, Clone, Default)]
pub struct DeliveryConfig {
    /// A Telegram chat.
    pub telegram: Option<TelegramBot>,
    /// A Feishu group.
    pub feishu: Option<FeishuBot>,
    /// A WeCom group.
    pub wecom: Option<WecomBot>,
}

impl DeliveryConfig {
    /// Where messages go.
    pub fn targets(&self) -> Vec<Target> {
        let configured = |target: &Target| match target {
            Target::Telegram => self.telegram.is_some(),
            Target::Feishu => self.feishu.is_some(),
            Target::Wecom => self.wecom.is_some(),
        };
        Target::ALL.into_iter().filter(configured).collect()
    }
}

/// A Telegram bot and the chat that it writes to.
#[derive(Debug, Clone)]
pub struct TelegramBot {
    /// Its token.
    pub token: Secret,
    /// A number, or `@name`.
    pub chat_id: String,
    /// A topic of the chat.
    pub thread_id: Option<i64>,
    /// Where the Bot API is, without a trailing slash.
    pub api_base: Url,
    /// The only way to it.
    pub proxy: Option<Secret>,
}

/// A custom bot of a Feishu or Lark group.
#[derive(Debug, Clone)]
pub struct FeishuBot {
    /// Its address, which is a secret.
    pub webhook: Secret,
    /// Key of signatures.
    pub secret: Option<Secret>,
}

/// A bot of a WeCom group.
#[derive(Debug, Clone)]
pub struct WecomBot {
    /// Its address, which is a secret.
    pub webhook: Secret,
}

/// How messages read.
#[derive(Debug, Clone)]
pub struct MessageConfig {
    /// Own wording.
    pub template: Option<Template>,
    /// Where links begin.
    pub grafana_url: Option<String>,
    /// Where people read the project, without a trailing slash.
    pub runbook_url: Option<String>,
    /// A word that Feishu wants.
    pub feishu_keyword: Option<String>,
}

/// What the breaker does when an alert asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerMode {
    /// Nothing.
    Off,
    /// It says what it would do.
    DryRun,
    /// It does it.
    Enforce,
}

impl BreakerMode {
    /// As the variable says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::DryRun => "dry_run",
            Self::Enforce => "enforce",
        }
    }
}

/// When channels are disabled.
#[derive(Debug, Clone)]
pub struct BreakerConfig {
    /// Whether at all.
    pub mode: BreakerMode,
    /// Also the last one of a group and model.
    pub allow_last: bool,
    /// At most so many.
    pub max_per_hour: u64,
    /// Never these.
    pub protect: BTreeSet<i64>,
}

impl Reader<'_> {
    pub(super) fn delivery(&mut self) -> DeliveryConfig {
        DeliveryConfig { telegram: self.telegram(), feishu: self.feishu(), wecom: self.wecom() }
    }

    fn telegram(&mut self) -> Option<TelegramBot> {
        let settings = self.settings;
        let api_base = self.http_url("TELEGRAM_API_BASE", &settings.telegram_api_base);
        if let Some(proxy) = &settings.telegram_proxy {
            let schemes = ["http", "https", "socks5", "socks5h"];
            let url = Url::parse(proxy.expose());
            if !url.is_ok_and(|url| schemes.contains(&url.scheme()) && url.host().is_some()) {
                self.problem("TELEGRAM_PROXY", "is not the address of a proxy; accepted: http://host:port, https://host:port, socks5h://host:port");
            }
        }
        let thread_id = settings.telegram_thread_id.as_ref().and_then(|text| {
            let id = text.parse::<i64>().ok().filter(|id| *id > 0);
            if id.is_none() {
                self.problem(
                    "TELEGRAM_THREAD_ID",
                    format!("`{text}` is not the number of a topic; accepted: a whole number above 0"),
                );
            }
            id
        });
        match (&settings.telegram_bot_token, &settings.telegram_chat_id) {
            (None, None) => None,
            (Some(_), None) => {
                self.problem(
                    "TELEGRAM_CHAT_ID",
                    "is required because TELEGRAM_BOT_TOKEN is set; set both or none",
                );
                None
            }
            (None, Some(_)) => {
                self.problem(
                    "TELEGRAM_BOT_TOKEN",
                    "is required because TELEGRAM_CHAT_ID is set; set both or none",
                );
                None
            }
            (Some(token), Some(chat)) => {
                let is_number = chat.parse::<i64>().is_ok_and(|id| id != 0);
                if !(is_number || chat.starts_with('@') && chat.len() > 1) {
                    self.problem("TELEGRAM_CHAT_ID", format!("`{chat}` is not a chat; accepted: a number such as -1001234567890, or @name of a public channel"));
                }
                let in_token = |c: char| c.is_ascii_alphanumeric() || "_-:".contains(c);
                if !token.expose().contains(':') || !token.expose().chars().all(in_token) {
                    self.problem(
                        "TELEGRAM_BOT_TOKEN",
                        "is not a bot's token; accepted: what @BotFather gave, such as 123456:ABC-DEF",
                    );
                }
                Some(TelegramBot {
                    token: token.clone(),
                    chat_id: chat.clone(),
                    thread_id,
                    api_base: api_base?,
                    proxy: settings.telegram_proxy.clone(),
                })
            }
        }
    }

    fn feishu(&mut self) -> Option<FeishuBot> {
        const ACCEPTED: &str = "accepted: https://open.feishu.cn/open-apis/bot/v2/hook/… or https://open.larksuite.com/open-apis/bot/v2/hook/…";
        let settings = self.settings;
        let Some(webhook) = &settings.feishu_webhook else {
            if settings.feishu_secret.is_some() {
                self.problem("FEISHU_SECRET", "needs FEISHU_WEBHOOK, the bot that it belongs to");
            }
            return None;
        };
        let url = self.secret_url("FEISHU_WEBHOOK", webhook)?;
        if url.path().starts_with("/open-apis/bot/hook/") {
            self.problem(
                "FEISHU_WEBHOOK",
                format!("is the address of a bot of the first generation; {ACCEPTED}"),
            );
        } else if !url.path().contains("/bot/v2/hook/") {
            self.problem("FEISHU_WEBHOOK", format!("is not the address of a custom bot; {ACCEPTED}"));
        }
        Some(FeishuBot { webhook: webhook.clone(), secret: settings.feishu_secret.clone() })
    }

    fn wecom(&mut self) -> Option<WecomBot> {
        let webhook = self.settings.wecom_webhook.as_ref()?;
        let url = self.secret_url("WECOM_WEBHOOK", webhook)?;
        if !url.query_pairs().any(|(name, value)| name == "key" && !value.is_empty()) {
            self.problem(
                "WECOM_WEBHOOK",
                "has no key; accepted: https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=…",
            );
        }
        Some(WecomBot { webhook: webhook.clone() })
    }

    pub(super) fn messages(&mut self) -> MessageConfig {
        let settings = self.settings;
        let mut base = |variable, url: &Option<String>| {
            let url = url.as_ref().and_then(|url| self.http_url(variable, url));
            url.map(|url| url.as_str().trim_end_matches('/').to_owned())
        };
        let grafana_url = base("GRAFANA_URL", &settings.grafana_url);
        let runbook_url = base("RUNBOOK_URL", &settings.runbook_url);
        MessageConfig {
            template: self.template(),
            grafana_url,
            runbook_url,
            feishu_keyword: settings.feishu_keyword.clone(),
        }
    }

    /// Reads own wording, and tries it.
    fn template(&mut self) -> Option<Template> {
        let path = self.settings.message_template.as_deref()?;
        let made = match std::fs::metadata(path) {
            Ok(file) if file.len() > MAX_TEMPLATE as u64 => {
                Err(format!("is longer than {MAX_TEMPLATE} bytes"))
            }
            _ => std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}")),
        };
        match made.and_then(|text| Template::new(&text)) {
            Ok(template) => Some(template),
            Err(what) => {
                self.problem("MESSAGE_TEMPLATE", format!("`{path}`: {what}"));
                None
            }
        }
    }

    pub(super) fn breaker(&mut self, admin: Option<&Admin>, access: &Access) -> BreakerConfig {
        let settings = self.settings;
        let mode = match settings.breaker_mode.as_deref() {
            None if admin.is_some() => BreakerMode::Enforce,
            None | Some("off") => BreakerMode::Off,
            Some("dry_run") => BreakerMode::DryRun,
            Some("enforce") => BreakerMode::Enforce,
            Some(other) => {
                self.problem("BREAKER_MODE", format!("`{other}` is not one of off, dry_run, enforce"));
                BreakerMode::Off
            }
        };
        if mode == BreakerMode::Enforce && admin.is_none() {
            self.problem("BREAKER_MODE", "`enforce` needs NEW_API_BASE_URL and NEW_API_KEY");
        }
        if mode == BreakerMode::Enforce && access.password.is_none() && !settings.demo {
            self.problem("ACCESS_PASSWORD", "is required because the breaker may disable channels: without it anyone could; set it, or BREAKER_MODE to dry_run or off");
        }
        let max_per_hour = match settings.breaker_max_per_hour.parse() {
            Ok(number) if MAX_PER_HOUR.contains(&number) => number,
            _ => {
                let (value, least, most) =
                    (&settings.breaker_max_per_hour, MAX_PER_HOUR.start(), MAX_PER_HOUR.end());
                self.problem(
                    "BREAKER_MAX_PER_HOUR",
                    format!("`{value}` is not a whole number from {least} to {most}"),
                );
                *MAX_PER_HOUR.start()
            }
        };
        let allow_last = self.flag("BREAKER_ALLOW_LAST", &settings.breaker_allow_last.clone());
        BreakerConfig { mode, allow_last, max_per_hour, protect: self.protected() }
    }

    fn protected(&mut self) -> BTreeSet<i64> {
        let list = self.settings.breaker_protect.clone().unwrap_or_default();
        let mut ids = BTreeSet::new();
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            match text.parse::<i64>() {
                Ok(id) if id > 0 => drop(ids.insert(id)),
                _ => self.problem(
                    "BREAKER_PROTECT",
                    format!("`{text}` is not a channel's id; accepted: a list such as 1,7"),
                ),
            }
        }
        ids
    }
}

/// The sum of what `LANGUAGE`, `TIMEZONE` and the variables of messages say.
impl MessageConfig {
    /// How messages are worded.
    pub fn wording(&self, language: Language, zone: jiff::tz::TimeZone) -> crate::message::Wording {
        crate::message::Wording {
            language,
            zone,
            grafana_url: self.grafana_url.clone(),
            runbook_url: self.runbook_url.clone(),
            feishu_keyword: self.feishu_keyword.clone(),
            template: self.template.clone(),
        }
    }
}
