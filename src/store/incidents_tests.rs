//! That what was taken in is remembered for a while, and not for ever.

use super::*;

fn store() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Store::open(&folder.path().join("monitor.db")).unwrap(), folder)
}

fn at(hours: i64) -> Timestamp {
    Timestamp::from_second(1_795_410_000 + hours * 3600).unwrap()
}

fn alert(name: &str, status: Status, hours: i64, labels: &[(&str, &str)]) -> Alert {
    let labels = labels.iter().copied().chain([("alertname", name)]);
    Alert {
        status,
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        annotations: BTreeMap::new(),
        starts_at: at(hours),
        ends_at: None,
        fingerprint: name.to_owned(),
        generator_url: None,
        silence_url: None,
        dashboard_url: None,
    }
}

fn note(store: &Store, alerts: &[Alert], hours: i64) {
    store.write(|writing| writing.note_alerts(alerts, "r", at(hours))).unwrap();
}

#[test]
fn a_call_is_remembered_for_its_window_whatever_the_clock_does() {
    let (store, _folder) = store();
    let window = SignedDuration::from_mins(10);
    let note = |minutes: i64| {
        let now = at(0) + SignedDuration::from_mins(minutes);
        store.write(|writing| writing.note_event(&[7; 32], now, window)).unwrap()
    };
    let news = [0, 1, 9, 10, 11, 5, -3_000, -2_995].map(|minutes| (minutes, note(minutes)));
    let expected = [
        (0, true),
        (1, false),
        (9, false),
        (10, true),
        (11, false),
        (5, false),
        (-3_000, true),
        (-2_995, false),
    ];
    assert_eq!(news, expected);
}

#[test]
fn old_calls_are_forgotten() {
    let (store, _folder) = store();
    for number in 0..50_u8 {
        let key = [number; 32];
        let hours = i64::from(number / 10);
        store.write(|writing| writing.note_event(&key, at(hours), SignedDuration::from_mins(10))).unwrap();
    }
    let left: i64 =
        store.read(|file| Ok(file.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?)).unwrap();
    assert_eq!(left, 20, "those of the last hour");
}

#[test]
fn incidents_are_listed_page_by_page_and_filtered() {
    let (store, _folder) = store();
    let alerts: Vec<Alert> = (0..10)
        .map(|number| {
            let channel = (number % 2 + 1).to_string();
            alert(
                &format!("a{number}"),
                Status::Firing,
                0,
                &[("channel_id", &channel), ("severity", "critical")],
            )
        })
        .collect();
    note(&store, &alerts, 0);
    note(&store, &[alert("a3", Status::Resolved, 0, &[("channel_id", "2")])], 1);
    let page = |before, filter: &IncidentFilter| -> Vec<i64> {
        store.incidents_page(before, 4, filter).unwrap().iter().map(|incident| incident.id).collect()
    };
    let all = IncidentFilter::default();
    assert_eq!((page(None, &all), page(Some(7), &all)), (vec![10, 9, 8, 7], vec![6, 5, 4, 3]));
    assert_eq!(page(None, &IncidentFilter { firing: Some(false), ..all.clone() }), [4]);
    assert_eq!(page(Some(6), &IncidentFilter { firing: Some(true), ..all.clone() }), [5, 3, 2, 1]);
    assert_eq!(
        page(None, &IncidentFilter { channels: vec![2], firing: Some(true), ..IncidentFilter::default() }),
        [10, 8, 6, 2]
    );
    assert_eq!(page(None, &IncidentFilter { channels: vec![2, 1], ..all }), [10, 9, 8, 7]);
    let one = store.incidents_page(Some(5), 1, &IncidentFilter::default()).unwrap().remove(0);
    assert_eq!((one.rule.as_str(), one.severity, one.channel_id), ("a3", Severity::Critical, Some(2)));
    assert_eq!(
        (one.resolved_at, one.notifications, one.labels["alertname"].as_str()),
        (Some(at(1)), 2, "a3")
    );
}

#[test]
fn what_is_over_for_ninety_days_is_forgotten_and_what_lasts_is_not() {
    let (store, _folder) = store();
    note(&store, &[alert("old", Status::Firing, 0, &[]), alert("lasting", Status::Firing, 0, &[])], 0);
    note(&store, &[alert("old", Status::Resolved, 0, &[])], 1);
    note(&store, &[alert("new", Status::Firing, 2161, &[])], 2161);
    let rules = |store: &Store| -> Vec<String> {
        let all = store.incidents_page(None, 10, &IncidentFilter::default()).unwrap();
        all.into_iter().map(|incident| incident.rule).collect()
    };
    assert_eq!(rules(&store), ["new", "lasting", "old"]);
    note(&store, &[alert("new", Status::Firing, 2161, &[])], 2162);
    assert_eq!(rules(&store), ["new", "lasting"]);
}
