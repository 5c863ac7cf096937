//! By what a call of the webhook is recognised when it comes again.

use sha2::{Digest, Sha256};

use super::{Notification, Status};

/// Names what a call says: who was to get it, of which group, and how each alert stands.
pub type EventKey = [u8; 32];

impl Notification {
    /// The same for every call that says the same. Texts do not count: values in them change with each evaluation.
    pub fn key(&self) -> EventKey {
        let mut alerts: Vec<(&str, Status, i128, Option<i128>)> = self
            .alerts
            .iter()
            .map(|alert| {
                let ended = alert.ends_at.map(jiff::Timestamp::as_nanosecond);
                (alert.fingerprint.as_str(), alert.status, alert.starts_at.as_nanosecond(), ended)
            })
            .collect();
        alerts.sort_unstable();
        let mut hash = Sha256::new();
        let mut text = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        text(&self.receiver);
        text(&self.group_key);
        for (fingerprint, status, starts_at, ends_at) in alerts {
            text(fingerprint);
            text(&format!("{status:?} {starts_at} {ends_at:?}"));
        }
        hash.finalize().into()
    }

    /// It says nothing new: the sender repeats what lasts.
    pub fn is_reminder(&self) -> bool {
        self.reason.as_deref() == Some("repeat interval elapsed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(alerts: &str) -> Notification {
        let body = format!(r#"{{"receiver":"breaker","groupKey":"{{}}:{{}}","alerts":[{alerts}]}}"#);
        Notification::parse(body.as_bytes()).unwrap()
    }

    fn alert(name: &str, status: &str, starts_at: &str) -> String {
        format!(
            r#"{{"status":"{status}","labels":{{"alertname":"{name}"}},"startsAt":"{starts_at}",
               "endsAt":"2026-11-23T06:00:00Z"}}"#
        )
    }

    const START: &str = "2026-11-23T05:00:00Z";

    #[test]
    fn what_says_the_same_has_one_key_in_any_order_and_with_any_texts() {
        let (a, b) = (alert("a", "firing", START), alert("b", "resolved", START));
        let first = notification(&format!("{a},{b}"));
        let mut other = notification(&format!("{b},{a}"));
        assert_eq!(first.key(), other.key());
        other.alerts[0].annotations.insert("value".to_owned(), "42".to_owned());
        other.reason = Some("new alerts added".to_owned());
        assert_eq!(first.key(), other.key());
        // While it lasts its end is only a guess of the sender.
        let mut later = first.clone();
        later.external_url = Some("http://other-peer:9093".to_owned());
        assert_eq!(first.key(), later.key());
    }

    #[test]
    fn another_status_start_receiver_or_group_is_another_event() {
        let first = notification(&alert("a", "firing", START));
        let mut keys = vec![
            first.key(),
            notification(&alert("a", "resolved", START)).key(),
            notification(&alert("a", "firing", "2026-11-23T05:00:01Z")).key(),
            notification(&alert("b", "firing", START)).key(),
            notification("").key(),
            Notification { receiver: "critical".to_owned(), ..first.clone() }.key(),
            Notification { group_key: "x".to_owned(), ..first }.key(),
        ];
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 7);
    }
}
