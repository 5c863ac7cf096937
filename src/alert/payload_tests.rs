//! Bodies as Alertmanager and Grafana send them, and bodies that nobody should send.

use super::*;

/// As Alertmanager 0.34 sends it.
const ALERTMANAGER: &str = r#"{"receiver":"team\\.ops","status":"firing","alerts":[
  {"status":"firing","labels":{"alertname":"NewApiLimitExceeded","severity":"critical","action":"disable_channel","channel_id":"3","restore":"window_reset"},
   "annotations":{"summary":"over"},"startsAt":"2026-11-23T04:50:53.123456789Z","endsAt":"0001-01-01T00:00:00Z",
   "generatorURL":"http://prometheus:9090/graph?g0.expr=x","fingerprint":"af8c4b3d2e1f0a9b"},
  {"status":"resolved","labels":{"alertname":"B"},"annotations":{},"startsAt":"2026-11-23T12:00:00+08:00","endsAt":"2026-11-23T04:30:00Z",
   "generatorURL":"","fingerprint":"00c4b3d2e1f0a9bc"}],
  "notification_reason":"new alerts added","groupLabels":{"alertname":"X"},"commonLabels":{},"commonAnnotations":{},"routeLabels":{},
  "externalURL":"http://am:9093","version":"4","groupKey":"{}/{severity=\"critical\"}:{alertname=\"X\"}","truncatedAlerts":2}"#;

/// As Grafana 12 sends it.
const GRAFANA: &str = r#"{"receiver":"token-monitor","status":"firing","orgId":1,"alerts":[
  {"status":"firing","labels":{"alertname":"High spend","grafana_folder":"new-api","action":"disable_channel","channel_id":"7"},
   "annotations":{"summary":"spend"},"startsAt":"2026-11-23T12:50:50+08:00","endsAt":"0001-01-01T00:00:00Z","generatorURL":"https://grafana.example/alerting/1",
   "fingerprint":"c6eadffa33fcdf37","silenceURL":"https://grafana.example/silence","dashboardURL":"https://grafana.example/d/a","panelURL":"https://grafana.example/d/a?viewPanel=2",
   "values":{"B":44.2,"C":1},"valueString":"[ var='B' value=44.2 ]","imageURL":null}],
  "groupLabels":{"alertname":"High spend"},"commonLabels":null,"commonAnnotations":null,"externalURL":"https://grafana.example/","version":"1",
  "groupKey":"{}:{alertname=\"High spend\"}","truncatedAlerts":0,"title":"[FIRING:1]","state":"alerting","message":"**Firing**"}"#;

fn parse(text: &str) -> Notification {
    Notification::parse(text.as_bytes()).unwrap()
}

fn said(text: &str) -> String {
    Notification::parse(text.as_bytes()).unwrap_err().to_string()
}

/// A body with one alert of these fields.
fn one(fields: &str) -> String {
    format!(r#"{{"alerts":[{{"status":"firing","startsAt":"2026-11-23T04:50:53Z"{fields}}}]}}"#)
}

#[test]
fn alertmanagers_payload_is_read_with_its_year_one_its_zones_and_its_nanoseconds() {
    let read = parse(ALERTMANAGER);
    assert_eq!((read.receiver.as_str(), read.truncated), (r"team\.ops", 2));
    assert_eq!(read.group_key, r#"{}/{severity="critical"}:{alertname="X"}"#);
    assert_eq!(read.external_url.as_deref(), Some("http://am:9093"));
    assert_eq!(read.reason.as_deref(), Some("new alerts added"));
    let [firing, resolved] = read.alerts.as_slice() else { panic!("{read:?}") };
    assert_eq!((firing.status, firing.ends_at), (Status::Firing, None));
    assert_eq!(firing.starts_at.to_string(), "2026-11-23T04:50:53.123456789Z");
    assert!(firing.asks_to_disable());
    assert_eq!(resolved.starts_at.to_string(), "2026-11-23T04:00:00Z");
    assert_eq!(resolved.ends_at.map(|at| at.to_string()).as_deref(), Some("2026-11-23T04:30:00Z"));
    assert_eq!((resolved.generator_url.as_ref(), resolved.fingerprint.as_str()), (None, "00c4b3d2e1f0a9bc"));
}

#[test]
fn grafanas_payload_is_read_with_its_links() {
    let read = parse(GRAFANA);
    let alert = &read.alerts[0];
    assert_eq!((alert.name(), alert.label("channel_id")), ("High spend", "7"));
    assert_eq!(alert.silence_url.as_deref(), Some("https://grafana.example/silence"));
    assert_eq!(alert.dashboard_url.as_deref(), Some("https://grafana.example/d/a?viewPanel=2"));
    assert_eq!(alert.starts_at.to_string(), "2026-11-23T04:50:50Z");
    assert_eq!(read.reason, None);
}

#[test]
fn old_versions_and_templates_of_people_leave_much_out() {
    let read = parse(&one(""));
    let alert = &read.alerts[0];
    assert_eq!((read.receiver.as_str(), read.reason, read.truncated), ("", None, 0));
    assert_eq!((alert.labels.len(), alert.ends_at), (0, None));
    // The hash of nothing.
    assert_eq!(alert.fingerprint, "cbf29ce484222325");
    let read = parse(&one(
        r#","labels":null,"annotations":null,"fingerprint":null,"generatorURL":null,"endsAt":null"#,
    ));
    assert_eq!(read.alerts[0].labels.len(), 0);
    assert_eq!(parse(r#"{"alerts":[]}"#).alerts, []);
}

#[test]
fn a_missing_fingerprint_is_the_one_that_alertmanager_would_give() {
    // Of model.LabelSet{"alertname":"a","b":"c"}.Fingerprint().
    let labelled = parse(&one(r#","labels":{"b":"c","alertname":"a"}"#));
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in b"alertname\xffa\xffb\xffc\xff" {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(1_099_511_628_211);
    }
    assert_eq!(labelled.alerts[0].fingerprint, format!("{hash:016x}"));
    let odd =
        parse(&one(&format!(r#","labels":{{"b":"c","alertname":"a"}},"fingerprint":"{}""#, "f".repeat(65))));
    assert_eq!(odd.alerts[0].fingerprint, labelled.alerts[0].fingerprint);
}

#[test]
fn groups_without_a_key_are_told_apart_by_their_labels() {
    let of = |labels: &str| parse(&format!(r#"{{"groupLabels":{labels},"alerts":[]}}"#)).group_key;
    assert_eq!(of(r#"{"a":"1"}"#), of(r#"{"a":"1"}"#));
    assert_ne!(of(r#"{"a":"1"}"#), of(r#"{"a":"2"}"#));
    assert!(!of("null").is_empty());
}

#[test]
fn what_is_wrong_is_told_with_its_path() {
    let start = r#""startsAt":"2026-11-23T04:50:53Z""#;
    let good = format!(r#"{{"status":"firing",{start}}}"#);
    for (body, begins) in [
        (String::new(), "this is not JSON"),
        ("hello".into(), "this is not JSON"),
        (ALERTMANAGER[..400].into(), "alerts[0]"),
        ("[]".into(), "invalid"),
        ("null".into(), "invalid"),
        ("{}".into(), "alerts: is missing"),
        (r#"{"alerts":null}"#.into(), "alerts: is missing"),
        (r#"{"alerts":{}}"#.into(), "alerts: invalid type: map, expected a list of alerts"),
        (
            format!(r#"{{"alerts":[{good},{good},{good},{{"status":"firing","startsAt":"today"}}]}}"#),
            "alerts[3].startsAt: ",
        ),
        (format!(r#"{{"alerts":[{{{start}}}]}}"#), "alerts[0]: missing field `status`"),
        (r#"{"alerts":[{"status":"firing"}]}"#.into(), "alerts[0]: missing field `startsAt`"),
        (format!(r#"{{"alerts":[{{"status":"burning",{start}}}]}}"#), "alerts[0].status: unknown variant"),
        (one(r#","labels":{"a":7}"#), "alerts[0].labels.a: invalid type"),
        (one(r#","endsAt":7"#), "alerts[0].endsAt: "),
        (format!("{GRAFANA}}}"), "this is not JSON: trailing"),
    ] {
        let said = said(&body);
        assert!(said.starts_with(begins), "{body}: {said}");
        assert!(said.chars().count() <= LONGEST_NAME + LONGEST_REASON + 30);
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for deep in [
        format!(r#"{{"values":{}{},"alerts":[]}}"#, "[".repeat(100_000), "]".repeat(100_000)),
        format!(r#"{{"values":{}"#, "[".repeat(1_000_000)),
        format!(r#"{{"alerts":{}"#, "[".repeat(1_000_000)),
        "[".repeat(1_000_000),
    ] {
        assert!(said(&deep).starts_with("brackets are nested deeper than 64 at byte "));
    }
    // In texts they are none.
    let text = format!(r#","labels":{{"a":"{}\\\"["}}"#, "[".repeat(500));
    assert_eq!(parse(&one(&text)).alerts[0].label("a").len(), 503);
}

#[test]
fn a_reason_that_repeats_what_was_sent_is_short() {
    assert!(said(&one(&format!(r#","labels":{{"{}":1}}"#, "n".repeat(50_000)))).chars().count() < 600);
    assert!(said(&format!(r#"{{"alerts":"{}"}}"#, "v".repeat(50_000))).chars().count() < 400);
}

#[test]
fn a_long_text_is_cut_where_it_says_so() {
    let read = parse(&one(&format!(r#","annotations":{{"description":"{}"}}"#, "é".repeat(50_000))));
    let text = read.alerts[0].annotation("description");
    assert!(text.starts_with("éé") && text.ends_with("é…(+46000)"), "{}", &text[text.len() - 20..]);
    assert_eq!(text.chars().count(), LONGEST_ANNOTATION + "…(+46000)".chars().count());
    let exact = "x".repeat(LONGEST_LABEL);
    let read = parse(&one(&format!(r#","labels":{{"a":"{exact}"}}"#)));
    assert_eq!(read.alerts[0].label("a"), exact);
}

#[test]
fn labels_without_end_leave_those_that_matter() {
    let many: Vec<String> = (0..5_000).map(|number| format!(r#""a{number:04}":"x""#)).collect();
    let read =
        parse(&one(&format!(r#","labels":{{{},"severity":"info","channel_id":"3"}}"#, many.join(","))));
    let alert = &read.alerts[0];
    assert_eq!(alert.labels.len(), MAX_TEXTS + 2);
    assert_eq!((alert.label("severity"), alert.label("channel_id")), ("info", "3"));
}

#[test]
fn of_too_many_alerts_none_that_asks_to_disable_is_lost() {
    let plain = r#"{"status":"firing","startsAt":"2026-11-23T04:50:53Z"}"#;
    let asks =
        r#"{"status":"firing","startsAt":"2026-11-23T04:50:53Z","labels":{"action":"disable_channel"}}"#;
    let mut all = vec![plain; MAX_ALERTS + 500];
    all.push(asks);
    let read = parse(&format!(r#"{{"truncatedAlerts":1,"alerts":[{}]}}"#, all.join(",")));
    assert_eq!((read.alerts.len(), read.truncated), (MAX_ALERTS + 1, 501));
    assert!(read.alerts.last().unwrap().asks_to_disable());
}

#[test]
fn only_links_that_lead_somewhere_are_kept() {
    let of = |url: &str| parse(&one(&format!(r#","generatorURL":"{url}""#))).alerts[0].generator_url.clone();
    assert_eq!(of("https://x/y?z").as_deref(), Some("https://x/y?z"));
    for bad in [
        "",
        "javascript:alert(1)",
        "/graph",
        "ftp://x",
        "http://x y",
        &format!("http://{}", "x".repeat(3_000)),
    ] {
        assert_eq!(of(bad), None, "{bad}");
    }
}

#[test]
fn what_asks_to_disable_says_which_channel_or_what_it_says_instead() {
    let of =
        |label: &str| parse(&one(&format!(r#","labels":{{"channel_id":"{label}"}}"#))).alerts[0].channel();
    assert_eq!(of("12"), Ok(12));
    assert_eq!(of("9223372036854775807"), Ok(i64::MAX));
    for bad in ["", "0", "-1", "+1", " 1", "12;DROP TABLE channels", "1e3", "9223372036854775808", "１２"] {
        assert_eq!(of(bad), Err(bad.to_owned()));
    }
    assert_eq!(of(&"9".repeat(500)).unwrap_err().chars().count(), 81);
    assert_eq!(parse(&one("")).alerts[0].channel(), Err(String::new()));
}

#[test]
fn an_alert_of_grafana_that_there_is_no_data_asks_for_nothing() {
    for name in ["DatasourceNoData", "DatasourceError"] {
        let labels =
            format!(r#","labels":{{"alertname":"{name}","action":"disable_channel","channel_id":"3"}}"#);
        assert!(!parse(&one(&labels)).alerts[0].asks_to_disable(), "{name}");
    }
}
