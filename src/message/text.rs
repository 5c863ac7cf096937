//! What a message says before it is written for a target: rows of text in which what is ours and what came from outside are
//! told apart, because only the latter is cut when there is no room.

use std::fmt::Write as _;

use super::words::Words;
use crate::alert::uncut;

/// A piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Row {
    /// What the rows below it are about.
    Head(Text),
    /// A line by itself.
    Line(Text),
    /// A line that begins with what it is about.
    Field(&'static str, Text),
    /// One of a list.
    Item(Text),
    /// A text of several lines, such as a description. Folded where that can be done, if it is long.
    Long(Text),
    /// The lines of a person's own wording, as they are.
    Own(Text),
    /// Where to go on.
    Links(Vec<Link>),
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// What it leads to.
    pub label: &'static str,
    /// Where: an absolute http or https URL, without quotes, spaces, brackets and angle brackets.
    pub url: String,
}

impl Link {
    /// A link, if that is an address that can be opened: anything else, `javascript:` above all, is none.
    pub(super) fn new(label: &'static str, address: &str) -> Option<Self> {
        let url = url::Url::parse(address.trim()).ok()?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return None;
        }
        // No address of ours has a password in it, and one that has would show it.
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let mut plain = String::with_capacity(url.as_str().len());
        for c in url.as_str().chars() {
            match c {
                '(' | ')' | '[' | ']' | '<' | '>' | '"' | '\'' | '`' | '*' | '\\' | '|' | '{' | '}' => {
                    let _ = write!(plain, "%{:02X}", u32::from(c));
                }
                c if c.is_ascii_graphic() => plain.push(c),
                _ => return None,
            }
        }
        Some(Self { label, url: plain })
    }
}

/// A run of text, built of [`Span`]s.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Text(Vec<Span>);

/// Characters of one kind.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    text: String,
    kind: Kind,
}

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Our words.
    Ours,
    /// From outside: nothing about it can be trusted.
    Foreign,
}

impl Text {
    /// Our own words.
    pub(super) fn ours(text: impl Into<String>) -> Self {
        Self(vec![Span { text: text.into(), kind: Kind::Ours }])
    }

    /// A value from outside, on one line.
    pub(super) fn value(text: &str) -> Self {
        let clean = clean(text);
        let lines: Vec<&str> = clean.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
        Self(vec![Span { text: lines.join(" "), kind: Kind::Foreign }])
    }

    /// A text from outside, of as many lines as it has. More than one empty line is one.
    pub(super) fn lines(text: &str) -> Self {
        let mut lines = String::new();
        let mut empty = 0;
        let clean = clean(text);
        for line in clean.split('\n').map(str::trim_end) {
            if line.trim().is_empty() {
                empty += 1;
                continue;
            }
            if !lines.is_empty() {
                lines.push_str(if empty > 0 { "\n\n" } else { "\n" });
            }
            empty = 0;
            lines.push_str(line);
        }
        Self(vec![Span { text: lines, kind: Kind::Foreign }])
    }

    /// `self`, then `other`.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// `self`, then our words.
    pub(super) fn then(self, ours: &str) -> Self {
        self.and(Self::ours(ours))
    }

    /// Our words `template`, each `{name}` of which is replaced by the text of that name. What a text holds is never replaced.
    /// Where ASCII and Chinese meet at an edge of such a text, a space parts them, as people write it.
    pub(super) fn filled(template: &str, texts: &[(&str, Text)]) -> Self {
        let mut filled = Self::default();
        let mut rest = template;
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            filled = filled.beside(Self::ours(before));
            if let Some((_, text)) = texts.iter().find(|(known, _)| *known == name) {
                filled = filled.beside(text.clone());
            }
            rest = after;
        }
        filled.beside(Self::ours(rest))
    }

    /// `self`, then `other`, parted by a space if they are of different scripts.
    fn beside(self, other: Self) -> Self {
        let last = self.0.iter().rev().find_map(|span| span.text.chars().next_back());
        let first = other.0.iter().find_map(|span| span.text.chars().next());
        match (last, first) {
            (_, None) => self,
            (Some(last), Some(first)) if want_space(last, first) => self.then(" ").and(other),
            _ => self.and(other),
        }
    }

    /// There is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|span| span.text.is_empty())
    }

    /// Writes each span by `write`, foreign ones cut to `cap` characters, which is said.
    pub(super) fn written(
        &self,
        cap: usize,
        words: Words,
        mut write: impl FnMut(&mut String, &str, Kind),
    ) -> String {
        let mut out = String::new();
        for span in &self.0 {
            match span.kind {
                Kind::Foreign => {
                    let (kept, cut) = cut(&span.text, cap);
                    write(&mut out, kept, Kind::Foreign);
                    if cut > 0 {
                        write(&mut out, &words.cut(cut), Kind::Ours);
                    }
                }
                Kind::Ours => write(&mut out, &span.text, Kind::Ours),
            }
        }
        out
    }

    /// Without any markup, foreign parts cut to `cap` characters.
    pub(super) fn plain(&self, cap: usize, words: Words) -> String {
        self.written(cap, words, |out, text, _| out.push_str(text))
    }
}

/// Whether a space is written between these two: a Chinese character, and what is not, but for marks that belong to the other.
fn want_space(left: char, right: char) -> bool {
    let chinese =
        |c: char| matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{323af}');
    let ends = |c: char| c.is_ascii_graphic() && !matches!(c, '(' | '[' | '{' | '<' | '"' | '\'' | '/');
    let begins = |c: char| {
        c.is_ascii_graphic()
            && !matches!(
                c,
                ')' | ']' | '}' | '>' | '"' | '\'' | '/' | ',' | '.' | ':' | ';' | '!' | '?' | '%'
            )
    };
    chinese(left) && begins(right) || ends(left) && chinese(right)
}

/// The first `cap` characters, and how many follow. What is hardly longer than `cap` is not cut: to say so would take as
/// much room.
pub(super) fn cut(text: &str, cap: usize) -> (&str, usize) {
    const SLACK: usize = 16;
    let (text, cut_before) = uncut(text);
    let Some((end, _)) = text.char_indices().nth(cap) else { return (text, cut_before) };
    let left = text[end..].chars().count();
    if left <= SLACK {
        return (text, cut_before);
    }
    // Half of a joined emoji is another one.
    let kept = text[..end].trim_end_matches(['\u{200d}', '\u{fe0f}']);
    (kept, left + cut_before)
}

/// Without characters that a reader does not see, or that change how others are shown; what ends a line is `\n`.
fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut before = '\0';
    for c in text.chars() {
        match c {
            '\n' if before == '\r' => {}
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => clean.push('\n'),
            '\t' => clean.push(' '),
            c if c.is_control() || misleads(c) => clean.push('\u{fffd}'),
            c => clean.push(c),
        }
        before = c;
    }
    clean
}

/// Turns the direction of what follows, or is not seen at all.
fn misleads(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Language;

    const EN: Words = Words::new(Language::En);

    #[test]
    fn a_value_is_one_line_that_shows_what_it_holds() {
        let shown = |text: &str| Text::value(text).plain(100, EN);
        assert_eq!(shown("a\r\nb\n\n c\u{2028}d"), "a b c d");
        assert_eq!(shown("a\0b\u{202e}c\u{200b}d\te"), "a\u{fffd}b\u{fffd}c\u{fffd}d e");
        assert_eq!(shown("渠道 👩\u{200d}💻"), "渠道 👩\u{200d}💻");
        assert_eq!(Text::lines("\n\na\n\n\n\nb \nc\n\n").plain(100, EN), "a\n\nb\nc");
    }

    #[test]
    fn what_is_cut_is_counted() {
        let long = "渠".repeat(1500);
        assert_eq!(Text::value(&long).plain(10, EN), format!("{}…(+1,490 characters)", "渠".repeat(10)));
        assert_eq!(cut("12345678901234567890", 10), ("12345678901234567890", 0), "no shorter when cut");
    }

    #[test]
    fn what_was_cut_before_is_counted_too() {
        let sent = format!("{}…(+46000)", "x".repeat(4000));
        assert_eq!(cut(&sent, 1500), (&sent[..1500], 48_500));
        assert_eq!(cut(&sent, 5000), (&sent[..4000], 46_000));
        assert_eq!(cut("f(x)…(+y)", 100), ("f(x)…(+y)", 0));
    }

    #[test]
    fn texts_are_filled_in_once() {
        let texts = [("a", Text::value("{b}")), ("b", Text::ours("never"))];
        assert_eq!(Text::filled("x {a} y{c} {", &texts).plain(100, EN), "x {b} y {");
    }

    #[test]
    fn where_a_text_meets_chinese_there_is_one_space() {
        let filled = |template: &str, text: &str| {
            let texts = [("a", Text::value(text)), ("b", Text::ours("飞书"))];
            Text::filled(template, &texts).plain(100, EN)
        };
        assert_eq!(filled("已接受禁用{a}的请求", "azure-east (3)"), "已接受禁用 azure-east (3) 的请求");
        assert_eq!(filled("渠道 {a}此前", "3"), "渠道 3 此前");
        assert_eq!(filled("发往{a}的消息", "Telegram"), "发往 Telegram 的消息");
        assert_eq!(filled("发往{b}的消息", ""), "发往飞书的消息");
        assert_eq!(filled("{a}后（{a}）：“{a}”，{a}。", "5"), "5 后（5）：“5”，5。");
        assert_eq!(filled("渠道 {a} 仍在", "备用"), "渠道 备用 仍在");
        assert_eq!(filled("占{a}%，共{a}", "12"), "占 12%，共 12");
        // Chinese names in English texts stand as they would.
        assert_eq!(filled("disabled {a}, and ({a}) “{a}”.", "备用"), "disabled 备用, and (备用) “备用”.");
    }

    #[test]
    fn only_addresses_that_open_safely_are_links() {
        let url = |address| Link::new("", address).map(|link| link.url);
        assert_eq!(url("http://g/d/x?q=(a)[b]&c='").as_deref(), Some("http://g/d/x?q=%28a%29%5Bb%5D&c=%27"));
        assert_eq!(
            url("https://例子.cn/<at id=all>").as_deref(),
            Some("https://xn--fsqu00a.cn/%3Cat%20id=all%3E")
        );
        for address in ["javascript:alert(1)", "/d/tm-limits", "docs/runbook.md", "", "tg://resolve?domain=x"]
        {
            assert_eq!(url(address), None, "{address}");
        }
        assert_eq!(url("http://user:password@host/"), None);
    }
}
