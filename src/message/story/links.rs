//! Addresses that an alert does not bring along but that can be made: where it is silenced, and what to do about it.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::alert::Alert;

/// Longest address of a silence, in bytes. A shorter one that lacks labels would silence more than was meant.
const LONGEST: usize = 1000;

/// What is encoded of a filter: all that could mean something in an address or in a message.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// How Grafana marks its alerts. Its own page for silences comes with them.
const GRAFANA: [&str; 2] = ["grafana_folder", "__alert_rule_uid__"];

/// Where an alert is silenced: the sender's own address, else the form of Alertmanager at `sender` with all labels of the
/// alert filled in.
pub(super) fn silence(alert: &Alert, sender: Option<&str>) -> Option<String> {
    if alert.silence_url.is_some() || GRAFANA.iter().any(|label| !alert.label(label).is_empty()) {
        return alert.silence_url.clone();
    }
    let base = sender?.trim_end_matches('/');
    let labels = || alert.labels.iter().filter(|(_, value)| !value.is_empty());
    // What was cut matches nothing.
    let is_cut = |text: &str| text.contains("…(+");
    if base.contains(['#', '?']) || labels().any(|(name, value)| is_cut(name) || is_cut(value)) {
        return None;
    }
    let matchers: Vec<String> =
        labels().map(|(name, value)| format!("{}={}", named(name), quoted(value))).collect();
    let filter = format!("{{{}}}", matchers.join(","));
    let mut url = format!("{base}/#/silences/new?filter=");
    // Writing to a text cannot fail.
    let _ = write!(url, "{}", utf8_percent_encode(&filter, ENCODED));
    (!matchers.is_empty() && url.len() <= LONGEST).then_some(url)
}

/// Where it says what to do about an alert. An annotation that is no address is a path below `base`, or leads nowhere.
pub(super) fn runbook(alert: &Alert, base: Option<&str>) -> Option<String> {
    let named = alert.annotation("runbook_url").trim();
    if named.is_empty() || named.contains("://") {
        return Some(named.to_owned()).filter(|named| !named.is_empty());
    }
    Some(format!("{}/{}", base?, named.trim_start_matches('/')))
}

/// Whether the host is what Docker names a container that nobody named: what Alertmanager and Prometheus call themselves without
/// `--web.external-url`, and nobody else knows.
/// <https://docs.docker.com/engine/network/#dns-services>
pub(super) fn is_of_a_container(url: &str) -> bool {
    let host = url.split("://").nth(1).and_then(|rest| rest.split([':', '/']).next()).unwrap_or_default();
    host.len() == 12 && host.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A label's name as a matcher has it. Names beyond the usual letters are quoted, which Alertmanager reads since 0.27.
fn named(name: &str) -> String {
    let usual = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(usual) {
        name.to_owned()
    } else {
        quoted(name)
    }
}

fn quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use percent_encoding::percent_decode_str;

    use super::*;
    use crate::alert::Status;

    fn alert(labels: &[(&str, &str)]) -> Alert {
        Alert {
            status: Status::Firing,
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            annotations: std::collections::BTreeMap::new(),
            starts_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            fingerprint: String::new(),
            generator_url: None,
            silence_url: None,
            dashboard_url: None,
        }
    }

    #[test]
    fn an_alert_of_alertmanager_is_silenced_by_all_its_labels() {
        let url = silence(
            &alert(&[("alertname", "X"), ("channel_id", "3"), ("empty", "")]),
            Some("http://am:9093/"),
        );
        let wanted = "http://am:9093/#/silences/new?filter=%7Balertname%3D%22X%22%2Cchannel_id%3D%223%22%7D";
        assert_eq!(url.as_deref(), Some(wanted));
        // Whatever stands in a label stays in it.
        let odd = alert(&[("a", "\"},b=\"x\\\n&filter=é<at>"), ("my label", "1")]);
        let url = silence(&odd, Some("http://am")).expect("a link");
        let filter = url.split_once("filter=").expect("a filter").1;
        assert!(
            filter.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%-._".contains(&byte)),
            "{filter}"
        );
        let filter = percent_decode_str(filter).decode_utf8().expect("a text");
        assert_eq!(filter, r#"{a="\"},b=\"x\\\n&filter=é<at>","my label"="1"}"#);
    }

    #[test]
    fn what_would_silence_something_else_is_no_link() {
        let plain = [("alertname", "X")];
        assert_eq!(silence(&alert(&plain), None), None);
        assert_eq!(silence(&alert(&[]), Some("http://am")), None);
        let long = "x".repeat(1000);
        assert_eq!(silence(&alert(&[("alertname", "X"), ("b", &long)]), Some("http://am")), None);
        assert_eq!(silence(&alert(&[("alertname", "X…(+12)")]), Some("http://am")), None);
        assert_eq!(silence(&alert(&[("alertname", "X"), ("grafana_folder", "f")]), Some("http://g")), None);
        let own = Alert { silence_url: Some("http://g/silence".to_owned()), ..alert(&plain) };
        assert_eq!(silence(&own, Some("http://am")).as_deref(), Some("http://g/silence"));
    }

    #[test]
    fn a_runbook_is_an_address_or_below_one() {
        let at = |url: &str, base| {
            let annotations = [("runbook_url".to_owned(), url.to_owned())].into();
            runbook(&Alert { annotations, ..alert(&[]) }, base)
        };
        let base = Some("https://git.example.com/monitor");
        assert_eq!(
            at("docs/runbook.md#x", base).as_deref(),
            Some("https://git.example.com/monitor/docs/runbook.md#x")
        );
        assert_eq!(at("https://wiki/x", base).as_deref(), Some("https://wiki/x"));
        assert_eq!((at("docs/runbook.md#x", None), at(" ", base)), (None, None));
    }
}
