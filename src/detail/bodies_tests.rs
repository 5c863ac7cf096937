//! Bodies of every shape that a column may hold.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn shown(raw: &[u8]) -> (String, bool) {
    let body = Body::read(raw).unwrap().unwrap();
    (body.shown.get().to_owned(), body.truncated)
}

#[test]
fn json_stays_json_in_its_order_and_text_becomes_a_string() {
    let text = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"my key is sk-abc"}],"n":1.0}"#;
    assert_eq!(shown(text.as_bytes()), (text.replace("sk-abc", "sk-***"), false));
    assert_eq!(shown(&zipped(text.as_bytes())).0, text.replace("sk-abc", "sk-***"));
    let events = "data: {\"id\":1}\n\ndata: [DONE]\n";
    assert_eq!(shown(events.as_bytes()).0, r#""data: {\"id\":1}\n\ndata: [DONE]\n""#);
    assert_eq!(shown(b"\xff\xfe?").0, "\"\u{fffd}\u{fffd}?\"");
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert_eq!(shown(deep.as_bytes()).0, format!("\"{deep}\""));
}

#[test]
fn gzip_is_known_in_hexadecimal_and_base64() {
    let zip = zipped(b"{\"a\": 1}");
    let hex: Vec<String> = zip.iter().map(|byte| format!("{byte:02x}")).collect();
    let hex = hex.concat();
    assert_eq!(shown(format!("\\x{hex}").as_bytes()).0, r#"{"a":1}"#);
    let mut base64 = STANDARD.encode(&zip);
    base64.insert(20, '\n');
    assert_eq!(shown(base64.as_bytes()).0, r#"{"a":1}"#);
    // What only begins like it is text.
    assert_eq!(shown(b"H4sI am").0, "\"H4sI am\"");
    assert_eq!(shown(b"\\x1f8bzz").0, r#""\\x1f8bzz""#);
}

#[test]
fn nothing_is_no_body() {
    for raw in [&b""[..], b" \n ", &zipped(b"")] {
        assert!(Body::read(raw).unwrap().is_none(), "{raw:?}");
    }
}

#[test]
fn long_bodies_are_cut_between_characters() {
    let exact = "x".repeat(MAX_BODY);
    assert_eq!(shown(exact.as_bytes()), (format!("\"{exact}\""), false));
    let (text, truncated) = shown(("x".repeat(MAX_BODY - 1) + "é tail").as_bytes());
    assert!(truncated && text.len() == MAX_BODY - 1 + 2 && text.ends_with("xx\""));
    let (text, truncated) = shown(&vec![0xff; MAX_BODY]);
    assert!(truncated && text.len() <= MAX_BODY + 2);
    // JSON that was cut is text, and its credentials are masked all the same.
    let json = format!(r#"{{"api_key":"0123456789","pad":"{}"}}"#, "x".repeat(MAX_BODY));
    let (text, truncated) = shown(json.as_bytes());
    assert!(truncated && text.starts_with(r#""{\"api_key\":\"012***\""#), "{}", &text[..60]);
}

#[test]
fn a_bomb_inflates_no_further_than_the_limit() {
    let bomb = zipped(&vec![b'a'; 64 * MAX_BODY]);
    assert!(bomb.len() < MAX_BODY / 8);
    let (text, truncated) = shown(&bomb);
    assert!(truncated && text.len() == MAX_BODY + 2);
    let (bytes, _) = inflate(&bomb).unwrap();
    assert!(bytes.capacity() <= 4 * MAX_BODY, "{} bytes were inflated", bytes.capacity());
}

#[test]
fn broken_gzip_shows_what_can_be_read() {
    let noise: Vec<u8> = (0..40_000_u32).map(|i| b'a' + u8::try_from(i * i / 7 % 26).unwrap()).collect();
    let whole = zipped(&noise);
    let (text, truncated) = shown(&whole[..whole.len() - 100]);
    assert!(truncated && text.len() > 1000);
    assert!(Body::read(&GZIP).unwrap_err().starts_with("broken gzip"));
    assert!(Body::read(&[&GZIP[..], b"garbage........"].concat()).is_err());
}

#[test]
fn the_state_says_what_is_missing_and_why() {
    let source = Preset::find("kill136").unwrap().source().unwrap();
    let state = |bodies: &Bodies| bodies.show().2;
    let none = state(&Bodies::NotConfigured);
    assert!(!none.available && none.source.is_none() && none.reason.unwrap().contains("BODY_TABLE"));
    let reason = state(&Bodies::NotStored(source.clone())).reason.unwrap();
    assert_eq!(reason, "table request_logs has no row for this log");
    let reason = state(&Bodies::Unreadable(source.clone(), "no such table".into())).reason.unwrap();
    assert_eq!(reason, "table request_logs cannot be read: no such table");
    let half = Bodies::Stored { source: source.clone(), request: b"{}".to_vec(), response: Vec::new() };
    let half = state(&half);
    assert!(half.available && !half.truncated);
    assert_eq!(half.source.as_deref(), Some("table request_logs (request_body, response_body)"));
    assert_eq!(half.reason.as_deref(), Some("no body of the response is stored"));
    let broken = Bodies::Stored { source, request: GZIP.to_vec(), response: Vec::new() };
    let broken = state(&broken);
    assert!(!broken.available && broken.reason.unwrap().contains("broken gzip"));
}

#[test]
fn names_that_could_be_more_than_names_are_refused() {
    assert!(BodySource::new("log_details2", Some("body"), None, Join::LogId).is_ok());
    for bad in ["", "a b", "a;drop", "a\"", "a`", "sch.tab", "表", &"x".repeat(65)] {
        let source = BodySource::new(bad, Some("body"), None, Join::LogId);
        assert!(matches!(source, Err(BadSource::Name(_))), "{bad}");
        assert!(BodySource::new("t", Some(bad), None, Join::LogId).is_err(), "{bad}");
        assert!(BodySource::new("t", None, Some(bad), Join::LogId).is_err(), "{bad}");
    }
    assert_eq!(BodySource::new("t", None, None, Join::LogId), Err(BadSource::NoColumn));
    assert_eq!(Join::parse("log_id"), Ok(Join::LogId));
    assert_eq!(Join::parse("request_id"), Ok(Join::RequestId));
    assert!(Join::parse("id").is_err());
}

#[test]
fn every_preset_is_a_source_of_its_own_name() {
    for preset in Preset::ALL {
        assert_eq!(preset.source().unwrap().table(), preset.table);
        assert_eq!(Preset::find(preset.name), Some(preset));
    }
}
