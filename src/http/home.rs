//! `GET /`: what this is and how it is, for a person with a browser. Shows nothing secret.

use axum::extract::State;
use axum::response::Html;

use super::health::{self, Part};
use crate::clock::Clock;
use crate::state;

const STYLE: &str = include_str!("home.css");

pub(super) async fn page(State(state): State<state::State>, State(clock): State<Clock>) -> Html<String> {
    let parts = health::parts(&state);
    let ready = parts.iter().all(|part| part.ready);
    let (class, word) = if ready { ("good", "Ready") } else { ("bad", "Not ready") };
    let version = env!("CARGO_PKG_VERSION");
    let rows: String = parts.iter().map(part_row).collect();
    let facts: Vec<String> = figures(&state, &clock)
        .into_iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value)))
        .collect();
    let facts = facts.concat();
    Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"10\">\
         <title>Token Monitor</title><style>{STYLE}</style></head><body><main>\
         <header><h1>Token Monitor</h1><p>Spending, speed and limits of a new-api gateway · version {version}</p>\
         <p class=\"badge {class}\">{word}</p></header>\
         <section><h2>Health</h2><table><tbody>{rows}</tbody></table></section>\
         <section><h2>Followed so far</h2><dl>{facts}</dl></section>\
         <nav><a href=\"/metrics\">Metrics</a><a href=\"/readyz\">Readiness</a><a href=\"/healthz\">Liveness</a>\
         <a href=\"/api/v1/openapi.json\">API</a></nav>\
         </main></body></html>"
    ))
}

fn part_row(part: &Part) -> String {
    let (class, word) = if part.ready { ("good", "ok") } else { ("bad", "waiting") };
    let name = match part.name {
        "log" => "new-api's log",
        "history" => "History",
        "channels" => "new-api's channels",
        other => other,
    };
    let detail = escape(&part.detail);
    format!("<tr><th>{name}</th><td class=\"{class}\">{word}</td><td>{detail}</td></tr>")
}

fn figures(state: &state::State, clock: &Clock) -> Vec<(&'static str, String)> {
    let (tail, facts) = (state.tail(), state.facts());
    let mut figures = Vec::new();
    if let Some(usage) = &facts.usage {
        figures.push(("Rows", thousands(usage.totals().all_rows())));
        figures.push(("Label sets", thousands(usage.series().count() as u64)));
        let newest = usage.totals().newest_row_at;
        if newest > 0 {
            figures.push(("Newest row", ago(clock.unix() - newest)));
        }
    } else {
        figures.push(("Rows", format!("{} (catching up)", thousands(tail.rows_read))));
    }
    figures.push(("Channels", thousands(facts.directory.channels.len() as u64)));
    if tail.history_from > 0 {
        let from = jiff::Timestamp::from_second(tail.history_from).unwrap_or_default();
        figures.push(("History from", from.strftime("%Y-%m-%d %H:%M UTC").to_string()));
    }
    figures
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn ago(seconds: i64) -> String {
    match seconds {
        i64::MIN..=1 => "just now".to_owned(),
        2..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(ago(0), "just now");
        assert_eq!(ago(90), "90 s ago");
        assert_eq!(ago(7_200), "2 h ago");
    }

    #[test]
    fn details_cannot_bring_markup() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
