//! One notice out of two of the same group, when the older one was not told yet. Pure.

use crate::message::{AlertGroup, Change, Told};

/// What `newer` says, and what only `older` says: nothing that people have not been told is lost.
pub(super) fn merge(older: AlertGroup, mut newer: AlertGroup) -> AlertGroup {
    let mut left = Vec::new();
    for old in older.alerts {
        let same = newer.alerts.iter_mut().find(|new| new.incident == old.incident);
        if let Some(new) = same {
            continue_incident(&old, new);
            continue;
        }
        let next = newer.alerts.iter_mut().find(|new| new.alert.fingerprint == old.alert.fingerprint);
        match next {
            // It began anew, and that it had ended in between says the newer one itself.
            Some(new) if old.change != Change::Resolved && (old.act.is_none() || new.act.is_none()) => {
                new.act = new.act.or(old.act);
            }
            _ => left.push(old),
        }
    }
    newer.alerts.append(&mut left);
    newer.truncated = newer.truncated.max(older.truncated);
    newer.bound();
    newer
}

/// The same incident, as the older notice saw it and as it is now.
fn continue_incident(old: &Told, new: &mut Told) {
    // Nobody was told that it began.
    if old.change == Change::Opened && new.change == Change::Repeated {
        new.change = Change::Opened;
    }
    new.opened_at = new.opened_at.min(old.opened_at);
    new.act = new.act.or(old.act);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::alert::{Alert, Status};

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn told(name: &str, incident: i64, change: Change, opened_at: i64) -> Told {
        let alert = Alert {
            status: if change == Change::Resolved { Status::Resolved } else { Status::Firing },
            labels: BTreeMap::from([("alertname".to_owned(), name.to_owned())]),
            annotations: BTreeMap::new(),
            starts_at: second(opened_at),
            ends_at: None,
            fingerprint: name.to_owned(),
            generator_url: None,
            silence_url: None,
            dashboard_url: None,
        };
        Told { alert, incident, change, opened_at: second(opened_at), act: None }
    }

    fn group(alerts: Vec<Told>) -> AlertGroup {
        AlertGroup {
            receiver: "r".into(),
            external_url: None,
            truncated: 0,
            event: "e".into(),
            received_at: second(100),
            alerts,
        }
    }

    fn short(group: &AlertGroup) -> Vec<(i64, Change, i64)> {
        group.alerts.iter().map(|told| (told.incident, told.change, told.opened_at.as_second())).collect()
    }

    #[test]
    fn an_alert_that_only_the_older_notice_names_is_kept() {
        let older = group(vec![told("a", 1, Change::Resolved, 10), told("b", 2, Change::Opened, 20)]);
        let merged = merge(older, group(vec![told("c", 3, Change::Opened, 30)]));
        let wanted = vec![(3, Change::Opened, 30), (1, Change::Resolved, 10), (2, Change::Opened, 20)];
        assert_eq!(short(&merged), wanted);
    }

    #[test]
    fn a_firing_that_is_resolved_since_is_named_once_and_lasted_from_its_beginning() {
        let merged = merge(
            group(vec![told("a", 1, Change::Opened, 10)]),
            group(vec![told("a", 1, Change::Resolved, 12)]),
        );
        assert_eq!(short(&merged), [(1, Change::Resolved, 10)]);
    }

    #[test]
    fn a_beginning_that_nobody_was_told_of_stays_one() {
        let merged = merge(
            group(vec![told("a", 1, Change::Opened, 10)]),
            group(vec![told("a", 1, Change::Repeated, 10)]),
        );
        assert_eq!(short(&merged), [(1, Change::Opened, 10)]);
    }

    #[test]
    fn an_end_is_told_beside_a_new_beginning() {
        let merged = merge(
            group(vec![told("a", 1, Change::Resolved, 10)]),
            group(vec![told("a", 2, Change::Opened, 50)]),
        );
        assert_eq!(short(&merged), [(2, Change::Opened, 50), (1, Change::Resolved, 10)]);
    }

    #[test]
    fn an_act_of_the_breaker_is_never_forgotten() {
        let mut old = told("a", 1, Change::Opened, 10);
        old.act = Some(7);
        let merged = merge(group(vec![old.clone()]), group(vec![told("a", 1, Change::Resolved, 10)]));
        assert_eq!(merged.alerts[0].act, Some(7));
        let mut new = told("a", 2, Change::Opened, 50);
        new.act = Some(8);
        let merged = merge(group(vec![old]), group(vec![new]));
        assert_eq!(merged.alerts.iter().filter_map(|told| told.act).collect::<Vec<_>>(), [8, 7]);
    }

    #[test]
    fn what_something_was_done_about_is_named_however_many_there_are() {
        let acted = Told { act: Some(7), ..told("z", 9_999, Change::Opened, 5) };
        let many = (0..600).map(|n| told(&format!("a{n}"), n, Change::Opened, 10)).collect();
        let merged = merge(group(vec![acted]), group(many));
        assert_eq!((merged.alerts.len(), merged.truncated), (500, 101));
        assert_eq!(merged.alerts[0].act, Some(7));
    }

    #[test]
    fn what_exceeds_the_bound_is_counted() {
        let many = |from: i64| {
            (from..from + 400).map(|n| told(&format!("a{n}"), n, Change::Opened, 1)).collect::<Vec<_>>()
        };
        let mut older = group(many(0));
        older.truncated = 3;
        let merged = merge(older, group(many(1000)));
        assert_eq!((merged.alerts.len(), merged.truncated), (500, 303));
    }
}
