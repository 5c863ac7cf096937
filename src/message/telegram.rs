//! Messages as Telegram wants them: HTML of a few tags.

use serde_json::{Value, json};

use super::layout::{self, Caps, Written};
use super::plain::mentions;
use super::story::Tone;
use super::text::{Kind, Row, Text};
use super::words::{Phrase, Words};

/// Longest text without its tags, in UTF-16 units: the documentation does not say which unit, and this is the largest.
const BUDGET: usize = 4096;

/// A text longer than this, in characters, is folded.
const FOLDED: usize = 300;

/// Writes for Telegram.
pub(super) struct Paper {
    pub words: Words,
}

impl layout::Paper for Paper {
    fn budget(&self) -> usize {
        BUDGET
    }

    fn cost(&self, written: &Written) -> usize {
        units(&written.markup) + "\n\n".len()
    }

    fn frame(&self, title: &str, mark: &str) -> usize {
        let units = |text: &str| text.encode_utf16().count();
        // Each character of a title may need a guard.
        2 * units(title) + units(mark) + "\n\n".len()
    }

    fn write(&self, rows: &[Row], caps: Caps) -> Written {
        let written = |text: &Text, cap| text.written(cap, self.words, escape);
        let mut lines = Vec::new();
        for row in rows {
            match row {
                Row::Head(text) => lines.push(format!("<b>{}</b>", written(text, caps.value))),
                Row::Line(text) => lines.push(written(text, caps.value)),
                Row::Field(name, text) => {
                    let line = format!(
                        "<b>{}{}</b>{}",
                        escaped(name),
                        self.words.of(Phrase::Colon).trim_end(),
                        if self.words.of(Phrase::Space).is_empty() || text.is_empty() { "" } else { " " },
                    );
                    lines.push(line + &written(text, caps.value));
                }
                Row::Item(text) => lines.push(format!("• {}", written(text, caps.value))),
                Row::Long(text) => {
                    let fold = if text.plain(caps.long, self.words).chars().count() > FOLDED {
                        " expandable"
                    } else {
                        ""
                    };
                    lines.push(format!("<blockquote{fold}>{}</blockquote>", written(text, caps.long)));
                }
                Row::Own(text) => lines.push(written(text, caps.long)),
                Row::Links(all) => {
                    let link = |link: &super::text::Link| {
                        format!("<a href=\"{}\">{}</a>", escaped(&link.url), escaped(link.label))
                    };
                    let shown: Vec<String> = caps.links(all).map(link).collect();
                    if !shown.is_empty() {
                        lines.push(shown.join(" · "));
                    }
                }
            }
        }
        Written { markup: lines.join("\n"), ..Written::default() }
    }

    fn part(&self, _: Tone, title: &str, blocks: &[Written], mark: &str) -> Value {
        let mut heading = String::new();
        escape(&mut heading, title, Kind::Foreign);
        let mut text = format!("<b>{heading}</b>");
        let mut close = false;
        for block in blocks {
            text.push_str(if block.is_line && close { "\n" } else { "\n\n" });
            text.push_str(&block.markup);
            close = block.is_line;
        }
        if !mark.is_empty() {
            text.push_str("\n\n");
            text.push_str(&escaped(mark));
        }
        json!({ "text": text, "parse_mode": "HTML", "link_preview_options": { "is_disabled": true } })
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(&mut out, text, Kind::Ours);
    out
}

fn escape(out: &mut String, text: &str, kind: Kind) {
    let mut before = out.chars().next_back().unwrap_or(' ');
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        // A name behind an @ would be called.
        if kind == Kind::Foreign && mentions(before, c) {
            out.push('\u{200b}');
        }
        before = c;
    }
}

/// UTF-16 units of what is seen of a text with tags.
pub(super) fn units(markup: &str) -> usize {
    let (mut units, mut tag, mut entity) = (0, false, false);
    for c in markup.chars() {
        match c {
            '<' => tag = true,
            '>' => tag = false,
            _ if tag => {}
            '&' => {
                entity = true;
                units += 1;
            }
            ';' if entity => entity = false,
            _ if entity => {}
            c => units += c.len_utf16(),
        }
    }
    units
}
