//! Messages as WeCom wants them: a markdown of its own with three colours, none of them red.

use serde_json::{Value, json};

use super::layout::{self, Caps, Written};
use super::story::Tone;
use super::text::{Kind, Row, Text};
use super::words::{Phrase, Words};

/// Longest content, in bytes.
const BUDGET: usize = 4096;

/// Writes for WeCom.
pub(super) struct Paper {
    pub words: Words,
}

impl layout::Paper for Paper {
    fn budget(&self) -> usize {
        BUDGET
    }

    fn cost(&self, written: &Written) -> usize {
        written.markup.len() + "\n\n".len()
    }

    fn frame(&self, title: &str, mark: &str) -> usize {
        heading(Tone::Warning, title).len() + grey(mark).len() + "\n\n".len()
    }

    fn write(&self, rows: &[Row], caps: Caps) -> Written {
        let written = |text: &Text, cap| text.written(cap, self.words, escape);
        let mut lines = Vec::new();
        for row in rows {
            match row {
                Row::Head(text) => lines.push(format!("**{}**", written(text, caps.value))),
                Row::Line(text) => lines.push(written(text, caps.value)),
                Row::Field(name, text) => {
                    let name = grey(&format!("{name}{}", self.words.of(Phrase::Colon).trim_end()));
                    let space =
                        if self.words.of(Phrase::Space).is_empty() || text.is_empty() { "" } else { " " };
                    lines.push(format!("{name}{space}{}", written(text, caps.value)));
                }
                Row::Item(text) => lines.push(format!("• {}", written(text, caps.value))),
                Row::Long(text) => {
                    let quote = |line: &str| format!("> {line}");
                    lines.extend(written(text, caps.long).lines().filter(|line| !line.is_empty()).map(quote));
                }
                Row::Own(text) => lines.push(written(text, caps.long)),
                Row::Links(all) => {
                    let link = |link: &super::text::Link| format!("[{}]({})", link.label, link.url);
                    let shown: Vec<String> = caps.links(all).map(link).collect();
                    if !shown.is_empty() {
                        lines.push(shown.join(" "));
                    }
                }
            }
        }
        Written { markup: lines.join("\n"), ..Written::default() }
    }

    fn part(&self, tone: Tone, title: &str, blocks: &[Written], mark: &str) -> Value {
        let mut content = heading(tone, title);
        let mut close = false;
        for block in blocks {
            content.push_str(if block.is_line && close { "\n" } else { "\n\n" });
            content.push_str(&block.markup);
            close = block.is_line;
        }
        if !mark.is_empty() {
            content.push_str("\n\n");
            content.push_str(&grey(mark));
        }
        json!({ "msgtype": "markdown", "markdown": { "content": content } })
    }
}

fn heading(tone: Tone, title: &str) -> String {
    let mut heading = String::new();
    escape(&mut heading, title, Kind::Foreign);
    let colour = match tone {
        Tone::Critical | Tone::Warning => "warning",
        Tone::Good => "info",
        Tone::Info | Tone::DryRun => return format!("**{heading}**"),
    };
    format!("**<font color=\"{colour}\">{heading}</font>**")
}

fn grey(text: &str) -> String {
    format!("<font color=\"comment\">{text}</font>")
}

/// There is no documented way to escape: a character without width parts what would be markup.
fn escape(out: &mut String, text: &str, kind: Kind) {
    if kind == Kind::Ours {
        out.push_str(text);
        return;
    }
    let mut before = out.chars().next_back().unwrap_or('\n');
    for c in text.chars() {
        let begins_line = matches!(c, '#' | '>' | '-' | '+') && before == '\n';
        if begins_line || c == '(' && before == ']' {
            out.push('\u{200b}');
        }
        match c {
            '<' | '*' => out.extend([c, '\u{200b}']),
            '`' => out.push('\''),
            c => out.push(c),
        }
        before = c;
    }
}
