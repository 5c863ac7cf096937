//! Plain text, for a target that refuses everything else.

use super::layout::{CAPS, Caps};
use super::story::Block;
use super::text::{Kind, Row, Text};
use super::words::{Phrase, Words};

/// Longest text, in bytes: what WeCom takes. So it is short enough for the others as well.
pub(super) const BUDGET: usize = 2048;

/// The same for a target that finds even that too long.
pub(super) const SHORT: usize = 1000;

/// Kept for what is said in the end.
const END: usize = 200;

/// A part as plain text of `budget` bytes: blocks in full as long as there is room, then a line each, then counted.
pub(super) fn text(
    budget: usize,
    title: &str,
    blocks: &[&Block],
    ends: &[Row],
    mark: &str,
    words: Words,
) -> String {
    let mut text = String::new();
    escape(&mut text, title, Kind::Foreign);
    let ends = lines(ends, CAPS[2], words);
    let room = budget.saturating_sub(END + ends.len() + mark.len());
    let mut left = 0;
    for block in blocks {
        let distance = if block.is_line { "\n" } else { "\n\n" };
        let mut full = CAPS.into_iter().map(|caps| lines(&block.rows, caps, words));
        let brief = || lines(&[Row::Line(block.brief.clone())], CAPS[2], words);
        let written =
            full.find(|full| text.len() + distance.len() + full.len() <= room).unwrap_or_else(brief);
        if text.len() + distance.len() + written.len() <= room {
            text.push_str(distance);
            text.push_str(&written);
        } else {
            left += 1;
        }
    }
    let left = if left > 0 { words.count(Phrase::NotListed, left) } else { String::new() };
    for end in [ends.as_str(), &left, mark] {
        if !end.is_empty() {
            text.push('\n');
            text.push_str(end);
        }
    }
    text
}

fn lines(rows: &[Row], caps: Caps, words: Words) -> String {
    let mut lines = Vec::new();
    let written = |text: &Text, cap| text.written(cap, words, escape);
    for row in rows {
        match row {
            Row::Head(text) | Row::Line(text) => lines.push(written(text, caps.value)),
            Row::Field(name, text) => {
                let line = format!("{name}{}{}", words.of(Phrase::Colon), written(text, caps.value));
                lines.push(line.trim_end().to_owned());
            }
            Row::Item(text) => lines.push(format!("- {}", written(text, caps.value))),
            Row::Long(text) | Row::Own(text) => lines.push(written(text, caps.long)),
            Row::Links(all) => {
                let line = |link: &super::text::Link| {
                    format!("{}{}{}", link.label, words.of(Phrase::Colon), link.url)
                };
                lines.extend(caps.links(all).map(line));
            }
        }
    }
    lines.join("\n")
}

/// Text messages know mentions and links as well.
pub(super) fn escape(out: &mut String, text: &str, kind: Kind) {
    let mut before = out.chars().next_back().unwrap_or(' ');
    for c in text.chars() {
        if kind == Kind::Foreign && before == ']' && c == '(' {
            out.push('\u{200b}');
        }
        out.push(c);
        if kind == Kind::Foreign && (c == '<' || mentions(before, c)) {
            out.push('\u{200b}');
        }
        before = c;
    }
}

/// Whether the character begins the mention of a person, which it does not within a word, such as an address.
pub(super) fn mentions(before: char, c: char) -> bool {
    c == '@' && !before.is_alphanumeric()
}
