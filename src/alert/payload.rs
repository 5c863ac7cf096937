//! Reading the body of a webhook: Alertmanager's version 4 of any release, Grafana's, and what people's own templates make of
//! them. Fields that are not known are passed over, what is needed is asked for by name, and what is kept is short.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hasher;

use jiff::Timestamp;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Alert, Notification, Status};

/// Alerts of one call that are kept. Further ones are counted, but for those that ask for a channel to be disabled.
const MAX_ALERTS: usize = 10_000;

/// Of those, so many more are kept.
const MAX_FURTHER: usize = 10_000;

/// Labels of one alert that are kept besides those that we read ourselves; the same for annotations.
const MAX_TEXTS: usize = 100;

/// Labels that are kept however many others there are.
const OWN_LABELS: [&str; 8] =
    ["action", "alertname", "channel_id", "channel_name", "limit", "model", "restore", "severity"];

/// Longest name of a label or an annotation, in characters.
const LONGEST_NAME: usize = 200;

/// Longest value of a label, in characters.
const LONGEST_LABEL: usize = 1_000;

/// Longest annotation, in characters: as much as fits into one message.
const LONGEST_ANNOTATION: usize = 4_000;

/// Longest link. A longer one is left out, because a piece of it leads nowhere.
const LONGEST_LINK: usize = 2_000;

/// Longest name of a receiver, in characters.
const LONGEST_RECEIVER: usize = 200;

/// Longest fingerprint that is taken as it is. Alertmanager's have 16 characters.
const LONGEST_FINGERPRINT: usize = 64;

/// Deepest nesting of a body. serde_json's own limit does not count in what is passed over.
const DEEPEST: usize = 64;

/// Longest reason for a refusal, in characters: it may repeat what was sent.
const LONGEST_REASON: usize = 300;

/// Why a body is none of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPayload {
    /// Where, as `alerts[3].startsAt`; empty if it is about the whole.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for BadPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

impl std::error::Error for BadPayload {}

impl Notification {
    /// Reads the body of a call.
    ///
    /// # Errors
    /// If it is not JSON, or not what a webhook sends; says where and what.
    pub fn parse(body: &[u8]) -> Result<Self, BadPayload> {
        if let Some(place) = too_deep(body) {
            let reason = format!("brackets are nested deeper than {DEEPEST} at byte {place}");
            return Err(BadPayload { path: String::new(), reason });
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let sent: Sent = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            // What is no path at all is shown as a dot or a question mark.
            let path = error.path().to_string();
            let path =
                if matches!(path.as_str(), "." | "?") { String::new() } else { cut(&path, LONGEST_NAME) };
            refuse(path, error.inner())
        })?;
        json.end().map_err(|error| refuse(String::new(), &error))?;
        let Some(alerts) = sent.alerts else {
            let reason = "is missing; a webhook of Alertmanager or Grafana holds a list of alerts".to_owned();
            return Err(BadPayload { path: "alerts".to_owned(), reason });
        };
        Ok(Self {
            group_key: group_key(sent.group_key, &sent.group_labels),
            receiver: cut(&sent.receiver, LONGEST_RECEIVER),
            external_url: link(sent.external_url),
            reason: Some(sent.notification_reason).filter(|reason| !reason.is_empty()),
            truncated: sent.truncated_alerts.saturating_add(alerts.left_out),
            alerts: alerts.kept,
        })
    }
}

/// Where brackets are nested too deeply.
fn too_deep(body: &[u8]) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    body.iter().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEEPEST
    })
}

fn refuse(path: String, error: &serde_json::Error) -> BadPayload {
    let reason = if error.is_data() { error.to_string() } else { format!("this is not JSON: {error}") };
    BadPayload { path, reason: cut(&reason, LONGEST_REASON) }
}

/// A body as it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    #[serde(default, deserialize_with = "or_nothing")]
    receiver: String,
    #[serde(default, deserialize_with = "or_nothing")]
    group_key: String,
    #[serde(default, deserialize_with = "or_nothing")]
    group_labels: BTreeMap<String, String>,
    #[serde(default, rename = "externalURL", deserialize_with = "or_nothing")]
    external_url: String,
    /// Not in camel case, as the only one; not before Alertmanager 0.32.
    #[serde(default, rename = "notification_reason", deserialize_with = "or_nothing")]
    notification_reason: String,
    #[serde(default, deserialize_with = "or_nothing")]
    truncated_alerts: u64,
    alerts: Option<Alerts>,
}

/// An alert as it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentAlert {
    status: Status,
    #[serde(default, deserialize_with = "or_nothing")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_nothing")]
    annotations: BTreeMap<String, String>,
    starts_at: Timestamp,
    #[serde(default)]
    ends_at: Option<Timestamp>,
    #[serde(default, rename = "generatorURL", deserialize_with = "or_nothing")]
    generator_url: String,
    #[serde(default, deserialize_with = "or_nothing")]
    fingerprint: String,
    #[serde(default, rename = "silenceURL", deserialize_with = "or_nothing")]
    silence_url: String,
    #[serde(default, rename = "dashboardURL", deserialize_with = "or_nothing")]
    dashboard_url: String,
    #[serde(default, rename = "panelURL", deserialize_with = "or_nothing")]
    panel_url: String,
}

/// null is what an empty map, list or text is written as by some.
fn or_nothing<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The alerts of a body, made short while they are read, so that a large body does not stay in memory.
#[derive(Default)]
struct Alerts {
    kept: Vec<Alert>,
    left_out: u64,
}

impl<'de> Deserialize<'de> for Alerts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Alerts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of alerts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Alerts, A::Error> {
        let mut alerts = Alerts::default();
        while alerts.kept.len() < MAX_ALERTS + MAX_FURTHER {
            let Some(alert) = list.next_element::<SentAlert>()? else { return Ok(alerts) };
            let alert = alert.shortened();
            if alerts.kept.len() < MAX_ALERTS || alert.asks_to_disable() {
                alerts.kept.push(alert);
            } else {
                alerts.left_out += 1;
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            alerts.left_out += 1;
        }
        Ok(alerts)
    }
}

impl SentAlert {
    fn shortened(self) -> Alert {
        // Of the labels as they were sent.
        let fingerprint = fingerprint(self.fingerprint, &self.labels);
        // While an alert lasts its end is the year 1, or the time at which the sender would give it up.
        let ended = self.ends_at.filter(|at| self.status == Status::Resolved && at.as_second() > 0);
        Alert {
            status: self.status,
            labels: shortened(self.labels, LONGEST_LABEL),
            annotations: shortened(self.annotations, LONGEST_ANNOTATION),
            starts_at: self.starts_at,
            ends_at: ended,
            fingerprint,
            generator_url: link(self.generator_url),
            silence_url: link(self.silence_url),
            dashboard_url: link(self.panel_url).or_else(|| link(self.dashboard_url)),
        }
    }
}

/// As much of the texts as is kept.
fn shortened(texts: BTreeMap<String, String>, longest: usize) -> BTreeMap<String, String> {
    let mut kept = BTreeMap::new();
    for (name, value) in texts {
        if kept.len() < MAX_TEXTS || OWN_LABELS.contains(&name.as_str()) {
            kept.insert(cut(&name, LONGEST_NAME), cut(&value, longest));
        }
    }
    kept
}

/// The text if it has at most `longest` characters; else its beginning, with the number of characters that follow it.
fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_owned(),
        Some((end, _)) => {
            let (kept, rest) = text.split_at(end);
            format!("{kept}…(+{})", rest.chars().count())
        }
    }
}

/// A text without the mark of [`cut`], and how many characters follow it.
pub fn uncut(text: &str) -> (&str, usize) {
    let mark = text.strip_suffix(')').and_then(|rest| rest.rsplit_once("…(+"));
    let counted = mark.and_then(|(kept, left)| Some((kept, left.parse::<u32>().ok()?)));
    counted.map_or((text, 0), |(kept, left)| (kept, left as usize))
}

/// A link that a person can follow.
fn link(url: String) -> Option<String> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    let plain = !url.chars().any(|c| c.is_control() || c.is_whitespace());
    Some(url).filter(|url| is_web && plain && url.len() <= LONGEST_LINK)
}

/// The sender's name for the group, or one made of the labels that the group has in common.
fn group_key(sent: String, labels: &BTreeMap<String, String>) -> String {
    if sent.is_empty() { format!("{{}}:{labels:?}") } else { sent }
}

/// The sender's name for the labels, or the one that Alertmanager would give them.
fn fingerprint(sent: String, labels: &BTreeMap<String, String>) -> String {
    let usable =
        (1..=LONGEST_FINGERPRINT).contains(&sent.len()) && sent.bytes().all(|b| b.is_ascii_graphic());
    if usable {
        return sent;
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        hash.write(text.as_bytes());
        hash.write(&[0xff]);
    }
    format!("{:016x}", hash.finish())
}

/// FNV-1a of 64 bits, by which Prometheus names label sets.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
