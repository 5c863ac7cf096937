//! Configuration: every variable of DESIGN section 3, read once, checked once.
//!
//! The command line gives texts ([`Settings`]); [`Config::resolve`] turns them into values or into a list of
//! [`Problem`]s, each naming the variable, the value (unless it is secret) and what is accepted. An empty
//! variable counts as absent, because that is what compose files pass for a variable that nobody set.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::detail::{BodySource, Join, Preset};
use crate::message::Wording;
use crate::newapi::dsn::Dsn;
use crate::secret::Secret;
use crate::telemetry::LogFormat;
use crate::usage::{ExtraLabel, Rules};

pub mod address;
mod alerting;
mod settings;

pub use alerting::{
    BreakerConfig, BreakerMode, DeliveryConfig, FeishuBot, MessageConfig, TelegramBot, WecomBot,
};
pub use settings::{Flags, LISTEN, Settings};

/// Checked configuration of `serve`.
#[derive(Debug, Clone)]
pub struct Config {
    /// new-api's main database.
    pub database: Dsn,
    /// Where its `logs` table is, if not there.
    pub log_database: Option<Dsn>,
    /// Our own state.
    pub monitor_database: PathBuf,
    /// Address of the HTTP server.
    pub listen: SocketAddr,
    /// Who may read what.
    pub access: Access,
    /// new-api's admin API, if it may be used.
    pub admin: Option<Admin>,
    /// Zone of days in limits and times in messages.
    pub timezone: TimeZone,
    /// Language of messages to people.
    pub language: Language,
    /// Following the log.
    pub tail: TailConfig,
    /// Counting rows.
    pub rules: Rules,
    /// Where bodies of requests are stored, if they are.
    pub bodies: Option<BodySource>,
    /// Where limits are written.
    pub limits: LimitsPath,
    /// Where messages go.
    pub delivery: DeliveryConfig,
    /// How they read.
    pub messages: MessageConfig,
    /// When channels are disabled.
    pub breaker: BreakerConfig,
    /// How long the Watchdog alert may be silent.
    pub watchdog_timeout: Duration,
}

impl Config {
    /// How messages read, for whoever needs nothing else: no database has to be named.
    ///
    /// # Errors
    /// Every problem with the variables of messages.
    pub fn wording(settings: &Settings) -> Result<Wording, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut reader = Reader { settings, problems: &mut problems };
        let (messages, zone, language) = (reader.messages(), reader.timezone(), reader.language());
        if problems.is_empty() { Ok(messages.wording(language, zone)) } else { Err(problems) }
    }

    /// How limits are followed.
    pub fn meter(&self) -> MeterConfig {
        MeterConfig {
            file: self.limits.clone(),
            timezone: self.timezone.clone(),
            max_series: self.rules.max_series,
            history: self.tail.history,
        }
    }
}

/// Who may read what over HTTP.
#[derive(Debug, Clone)]
pub struct Access {
    /// Opens everything.
    pub password: Option<Secret>,
    /// Opens `/metrics` only.
    pub metrics_token: Option<Secret>,
    /// `/metrics` needs nothing.
    pub metrics_public: bool,
}

/// new-api's admin API.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Base address, without a trailing slash.
    pub base_url: url::Url,
    /// An administrator's access token.
    pub key: Secret,
    /// Sent as `New-Api-User`.
    pub user_id: u64,
}

/// How the log is followed.
#[derive(Debug, Clone)]
pub struct TailConfig {
    /// Pause between polls.
    pub poll_interval: Duration,
    /// How late a row may become visible after a higher id.
    pub late_window: Duration,
    /// How far back the first start reads.
    pub history: Duration,
    /// Zone of days, weeks and months, which the first start reads whole.
    pub timezone: TimeZone,
    /// A catch-up commits after so many rows: until then they are kept in memory, some 35 bytes each. A commit writes
    /// nearly every label set, so fewer of them are worth that memory. Not for operators; tests read fewer.
    pub commit_rows: u64,
}

/// How limits are followed.
#[derive(Debug, Clone)]
pub struct MeterConfig {
    /// Where they are written.
    pub file: LimitsPath,
    /// Zone of days, weeks and months.
    pub timezone: TimeZone,
    /// Keys of a limit that counts channels or models one by one.
    pub max_series: usize,
    /// How far back rows are known.
    pub history: Duration,
}

/// Where limits are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsPath {
    /// The file.
    pub path: PathBuf,
    /// `LIMITS_FILE` names it, so it must be there.
    pub named: bool,
}

/// Language of messages to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    En,
    /// Simplified Chinese.
    ZhCn,
}

/// What is wrong with one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong and what is accepted. Never holds a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

/// All that is wrong, where an error is wanted.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Problems(pub Vec<Problem>);

/// The file of limits that is read if it is there.
const USUAL_LIMITS_FILE: &str = "limits.yml";

/// Shortest and longest pause between polls.
const POLL_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(300));
/// Rows of a catch-up from commit to commit.
pub const COMMIT_ROWS: u64 = 200_000;
/// Longest wait for late rows; what is waited for is kept in memory.
const LATE_WINDOWS: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(6 * 3600));
/// Shortest and longest history.
const HISTORIES: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(10 * 366 * 86_400));
/// Most label sets per family that a Prometheus should be asked to keep.
const MAX_SERIES: std::ops::RangeInclusive<usize> = 1..=1_000_000;

impl Config {
    /// Checks everything and reports all problems at once.
    ///
    /// # Errors
    /// Every problem found.
    pub fn resolve(settings: &Settings) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut reader = Reader { settings, problems: &mut problems };
        let database = reader.dsn("DATABASE_URL", settings.database_url.as_deref());
        if settings.database_url.is_none() {
            reader.problem("DATABASE_URL", "is required: the address of new-api's database, e.g. mysql://user:pass@host:3306/new-api, postgres://user:pass@host:5432/new-api or sqlite:///data/one-api.db");
        }
        let log_database = reader.dsn("LOG_DATABASE_URL", settings.log_database_url.as_deref());
        let listen = reader.listen();
        let access = reader.access(listen);
        let admin = reader.admin();
        let (delivery, messages) = (reader.delivery(), reader.messages());
        let breaker = reader.breaker(admin.as_ref(), &access);
        let watchdog_timeout =
            reader.duration("WATCHDOG_TIMEOUT", &settings.watchdog_timeout, alerting::WATCHDOG_TIMEOUTS);
        let monitor_database = reader.monitor_database();
        let (timezone, language) = (reader.timezone(), reader.language());
        let tail = TailConfig {
            poll_interval: reader.duration("POLL_INTERVAL", &settings.poll_interval, POLL_INTERVALS),
            late_window: reader.duration("LATE_WINDOW", &settings.late_window, LATE_WINDOWS),
            history: reader.duration("HISTORY", &settings.history, HISTORIES),
            timezone: timezone.clone(),
            commit_rows: COMMIT_ROWS,
        };
        let rules = reader.rules();
        let bodies = reader.bodies();
        match database {
            Some(database) if problems.is_empty() => Ok(Self {
                database,
                log_database,
                monitor_database,
                listen,
                access,
                admin,
                timezone,
                language,
                tail,
                rules,
                bodies,
                limits: LimitsPath {
                    path: settings.limits_file.as_deref().unwrap_or(USUAL_LIMITS_FILE).into(),
                    named: settings.limits_file.is_some(),
                },
                delivery,
                messages,
                breaker,
                watchdog_timeout,
            }),
            _ => Err(problems),
        }
    }
}

/// `LOG_FORMAT`, which is needed before anything else can be reported.
///
/// # Errors
/// If it is neither `text` nor `json`.
pub fn log_format(value: &str) -> Result<LogFormat, Problem> {
    match value {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Problem { variable: "LOG_FORMAT", message: format!("`{value}` is not one of text, json") }),
    }
}

/// Reads single variables and collects what is wrong.
struct Reader<'a> {
    settings: &'a Settings,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, variable: &'static str, message: impl Into<String>) {
        self.problems.push(Problem { variable, message: message.into() });
    }

    fn dsn(&mut self, variable: &'static str, value: Option<&str>) -> Option<Dsn> {
        match Dsn::parse(value?) {
            Ok(dsn) => Some(dsn),
            Err(error) => {
                self.problem(variable, error.to_string());
                None
            }
        }
    }

    fn monitor_database(&mut self) -> PathBuf {
        let value = &self.settings.monitor_database_url;
        let path = value
            .strip_prefix("sqlite://")
            .or_else(|| value.strip_prefix("sqlite:"))
            .map(|path| path.split('?').next().unwrap_or_default());
        match path {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => {
                let shown = address::shown(value);
                self.problem(
                    "MONITOR_DATABASE_URL",
                    format!(
                        "`{shown}` is not the address of a SQLite file; accepted: sqlite://data/monitor.db"
                    ),
                );
                PathBuf::new()
            }
        }
    }

    fn listen(&mut self) -> SocketAddr {
        let value = &self.settings.listen;
        address::listen(value).unwrap_or_else(|why| {
            self.problem("LISTEN", format!("`{value}` {why}; accepted: {}", address::ACCEPTED));
            SocketAddr::from(([127, 0, 0, 1], 0))
        })
    }

    fn access(&mut self, listen: SocketAddr) -> Access {
        let password = self.settings.access_password.clone();
        if password.is_none() && !listen.ip().is_loopback() {
            self.problem(
                "ACCESS_PASSWORD",
                format!("is required because LISTEN is {listen}; set it, or listen on 127.0.0.1 only"),
            );
        }
        let metrics_public = self.flag("METRICS_PUBLIC", &self.settings.metrics_public.clone());
        Access {
            password,
            metrics_token: self.settings.metrics_token.clone(),
            metrics_public: metrics_public || listen.ip().is_loopback(),
        }
    }

    fn admin(&mut self) -> Option<Admin> {
        let user_id = self.settings.new_api_user_id.parse().unwrap_or_else(|_| {
            let value = &self.settings.new_api_user_id;
            self.problems.push(Problem {
                variable: "NEW_API_USER_ID",
                message: format!("`{value}` is not a user id; accepted: a whole number such as 1"),
            });
            1
        });
        match (&self.settings.new_api_base_url, &self.settings.new_api_key) {
            (None, None) => None,
            (Some(base), Some(key)) => {
                if key.expose().starts_with("sk-") {
                    self.problem("NEW_API_KEY", "starts with sk-, so it is a key for models and can never open the admin API; accepted: the access token of an administrator (new-api: personal settings, system access token)");
                }
                let base_url = self.http_url("NEW_API_BASE_URL", base)?;
                Some(Admin { base_url, key: key.clone(), user_id })
            }
            (Some(_), None) => {
                self.problem("NEW_API_KEY", "is required because NEW_API_BASE_URL is set; set both or none");
                None
            }
            (None, Some(_)) => {
                self.problem("NEW_API_BASE_URL", "is required because NEW_API_KEY is set; set both or none");
                None
            }
        }
    }

    fn http_url(&mut self, variable: &'static str, value: &str) -> Option<url::Url> {
        let url = address::http(value);
        if url.is_none() {
            let shown = address::shown(value);
            self.problem(
                variable,
                format!("`{shown}` is not an http or https address; accepted: https://new-api.example.com"),
            );
        }
        url
    }

    /// The same for an address that is a secret as a whole.
    fn secret_url(&mut self, variable: &'static str, value: &Secret) -> Option<url::Url> {
        let url = address::http(value.expose());
        if url.is_none() {
            self.problem(variable, "is not an http or https address");
        }
        url
    }

    fn timezone(&mut self) -> TimeZone {
        let Some(name) = &self.settings.timezone else { return TimeZone::system() };
        TimeZone::get(name).unwrap_or_else(|_| {
            self.problem("TIMEZONE", format!("`{name}` is not a time zone; accepted: an IANA name such as Asia/Shanghai, Europe/Berlin or UTC"));
            TimeZone::UTC
        })
    }

    fn language(&mut self) -> Language {
        match self.settings.language.as_str() {
            "en" => Language::En,
            "zh-CN" => Language::ZhCn,
            // Many a shell has this variable in gettext's form, such as `de_DE:de`:
            // <https://www.gnu.org/software/gettext/manual/html_node/The-LANGUAGE-variable.html>.
            list if list.contains(['_', ':']) => {
                let first = list.split(':').find(|name| name.starts_with("zh") || name.starts_with("en"));
                if first.is_some_and(|name| name.starts_with("zh")) { Language::ZhCn } else { Language::En }
            }
            other => {
                self.problem("LANGUAGE", format!("`{other}` is not one of en, zh-CN"));
                Language::En
            }
        }
    }

    fn rules(&mut self) -> Rules {
        let settings = self.settings;
        let threshold = self.duration(
            "SLOW_REQUEST_THRESHOLD",
            &settings.slow_request_threshold,
            (Duration::ZERO, Duration::from_secs(86_400)),
        );
        let max_series = match settings.max_series.parse() {
            Ok(number) if MAX_SERIES.contains(&number) => number,
            _ => {
                let (value, least, most) = (&settings.max_series, MAX_SERIES.start(), MAX_SERIES.end());
                self.problem("MAX_SERIES", format!("`{value}` is not a whole number from {least} to {most}"));
                *MAX_SERIES.start()
            }
        };
        Rules { max_series, slow_over_seconds: threshold.as_secs_f64(), extra_labels: self.extra_labels() }
    }

    fn bodies(&mut self) -> Option<BodySource> {
        let settings = self.settings;
        let own = [
            ("BODY_REQUEST_COLUMN", &settings.body_request_column),
            ("BODY_RESPONSE_COLUMN", &settings.body_response_column),
            ("BODY_JOIN", &settings.body_join),
        ];
        if let Some(name) = &settings.body_preset {
            if settings.body_table.is_some() {
                self.problem("BODY_PRESET", "says what BODY_TABLE says as well: set one of them");
            }
            let Some(preset) = Preset::find(name) else {
                let known: Vec<&str> = Preset::ALL.iter().map(|preset| preset.name).collect();
                self.problem("BODY_PRESET", format!("`{name}` is not one of {}", known.join(", ")));
                return None;
            };
            return preset.source().ok();
        }
        let Some(table) = &settings.body_table else {
            for (variable, _) in own.into_iter().filter(|(_, value)| value.is_some()) {
                self.problem(variable, "needs BODY_TABLE, the table that it is a column of");
            }
            return None;
        };
        let join = match Join::parse(settings.body_join.as_deref().unwrap_or("request_id")) {
            Ok(join) => join,
            Err(error) => {
                self.problem("BODY_JOIN", error.to_string());
                return None;
            }
        };
        let (request, response) = (&settings.body_request_column, &settings.body_response_column);
        match BodySource::new(table, request.as_deref(), response.as_deref(), join) {
            Ok(source) => Some(source),
            Err(error) => {
                self.problem("BODY_TABLE", format!("{error} (BODY_REQUEST_COLUMN, BODY_RESPONSE_COLUMN)"));
                None
            }
        }
    }

    fn extra_labels(&mut self) -> Vec<ExtraLabel> {
        let mut labels = BTreeSet::new();
        let names = self.settings.extra_labels.clone().unwrap_or_default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match ExtraLabel::ALL.into_iter().find(|label| label.as_str() == name) {
                Some(label) => {
                    labels.insert(label);
                }
                None => {
                    self.problem("EXTRA_LABELS", format!("`{name}` is not one of group, token, user, key"));
                }
            }
        }
        labels.into_iter().collect()
    }

    fn flag(&mut self, variable: &'static str, value: &str) -> bool {
        match value {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.problem(variable, format!("`{value}` is not one of true, false"));
                false
            }
        }
    }

    fn duration(
        &mut self,
        variable: &'static str,
        value: &str,
        (least, most): (Duration, Duration),
    ) -> Duration {
        let range = format!("{} to {}", humantime::format_duration(least), humantime::format_duration(most));
        match humantime::parse_duration(value) {
            Ok(duration) if (least..=most).contains(&duration) => duration,
            Ok(_) => {
                self.problem(variable, format!("`{value}` is out of range; accepted: {range}"));
                least
            }
            Err(_) => {
                self.problem(
                    variable,
                    format!("`{value}` is not a duration; accepted: 500ms, 2s, 5m, 12h, 31d ({range})"),
                );
                least
            }
        }
    }
}

#[cfg(test)]
mod tests;
