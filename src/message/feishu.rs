//! Messages as Feishu wants them: an interactive card of the first schema, which every client shows.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::layout::{self, Caps, Written};
use super::story::Tone;
use super::text::{Kind, Link, Row, Text};
use super::words::{Phrase, Words};

/// Longest request, in bytes, less what time and signature take when it is sent.
const BUDGET: usize = 20_000 - 300;

/// What the card around title and elements takes, in bytes; the tests know better if this is too little.
const CARD: usize = 420;

/// What an element takes besides its text.
const ELEMENT: usize = 64;

/// The same for a button, with its braces and names.
const BUTTON: usize = 100;

/// Writes for Feishu.
pub(super) struct Paper {
    pub words: Words,
}

impl layout::Paper for Paper {
    fn budget(&self) -> usize {
        BUDGET
    }

    fn cost(&self, written: &Written) -> usize {
        let button = |link: &Link| json_length(&link.url) + json_length(link.label) + BUTTON;
        // Text, a line before it, and a row of buttons.
        json_length(&written.markup) + 3 * ELEMENT + written.buttons.iter().map(button).sum::<usize>()
    }

    fn frame(&self, title: &str, mark: &str) -> usize {
        CARD + json_length(title) + json_length(mark)
    }

    fn write(&self, rows: &[Row], caps: Caps) -> Written {
        let written = |text: &Text, cap| text.written(cap, self.words, escape);
        let (mut lines, mut buttons) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Row::Head(text) => lines.push(format!("**{}**", written(text, caps.value))),
                Row::Line(text) => lines.push(written(text, caps.value)),
                Row::Field(name, text) => {
                    let colon = self.words.of(Phrase::Colon).trim_end();
                    let space = if text.is_empty() { "" } else { " " };
                    lines.push(format!("**{name}{colon}**{space}{}", written(text, caps.value)));
                }
                Row::Item(text) => lines.push(format!("• {}", written(text, caps.value))),
                Row::Long(text) | Row::Own(text) => lines.push(written(text, caps.long)),
                Row::Links(all) => buttons.extend(caps.links(all).cloned()),
            }
        }
        Written { markup: lines.join("\n"), buttons, is_line: false }
    }

    fn part(&self, tone: Tone, title: &str, blocks: &[Written], mark: &str) -> Value {
        let mut elements: Vec<Value> = Vec::new();
        let mut lines = String::new();
        for block in blocks {
            if block.is_line {
                if !lines.is_empty() {
                    lines.push('\n');
                }
                lines.push_str(&block.markup);
                continue;
            }
            add(&mut elements, &std::mem::take(&mut lines), &[]);
            add(&mut elements, &block.markup, &block.buttons);
        }
        add(&mut elements, &lines, &[]);
        if !mark.is_empty() {
            let text = json!({ "tag": "plain_text", "content": mark });
            elements.push(json!({ "tag": "note", "elements": [text] }));
        }
        json!({
            "msg_type": "interactive",
            "card": {
                "config": { "wide_screen_mode": true },
                "header": { "title": { "tag": "plain_text", "content": title }, "template": template(tone) },
                "elements": elements,
            },
        })
    }
}

/// Adds text and buttons, parted from what is before them.
fn add(elements: &mut Vec<Value>, markup: &str, buttons: &[Link]) {
    if markup.is_empty() && buttons.is_empty() {
        return;
    }
    if !elements.is_empty() {
        elements.push(json!({ "tag": "hr" }));
    }
    if !markup.is_empty() {
        elements.push(json!({ "tag": "markdown", "content": markup }));
    }
    if !buttons.is_empty() {
        let button = |(index, link): (usize, &Link)| {
            let kind = if index == 0 { "primary" } else { "default" };
            let text = json!({ "tag": "plain_text", "content": link.label });
            json!({ "tag": "button", "text": text, "type": kind, "url": link.url })
        };
        let buttons: Vec<Value> = buttons.iter().enumerate().map(button).collect();
        elements.push(json!({ "tag": "action", "actions": buttons }));
    }
}

/// The colour of the card's header.
fn template(tone: Tone) -> &'static str {
    match tone {
        Tone::Critical => "red",
        Tone::Warning => "orange",
        Tone::Info => "blue",
        Tone::Good => "green",
        Tone::DryRun => "purple",
    }
}

/// Bytes of a text in JSON.
fn json_length(text: &str) -> usize {
    let escape = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        c if c.is_control() => 6,
        c => c.len_utf8(),
    };
    2 + text.chars().map(escape).sum::<usize>()
}

/// What could be markup, above all `<at id=all></at>`, is written as entities, whoever wrote it.
fn escape(out: &mut String, text: &str, kind: Kind) {
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '*' | '_' | '~' | '[' | ']' | '#' | '`' | '\\' | '|' => {
                entity(out, c);
            }
            '-' | '+' if kind == Kind::Foreign && (out.is_empty() || out.ends_with('\n')) => {
                entity(out, c);
            }
            c => out.push(c),
        }
    }
}

fn entity(out: &mut String, c: char) {
    let _ = write!(out, "&#{};", u32::from(c));
}
