//! What a notice tells, in rows of text that every target writes in its own way.

mod acts;
mod alerts;
mod facts;
mod house;
mod links;

use super::figures;
use super::text::{Link, Row, Text};
use super::words::{Phrase, Words};
use super::{Known, Notice, Target, Wording};
use crate::config::Language;
use crate::limits::Severity;

/// A message before it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Story {
    /// How bad it is.
    pub tone: Tone,
    /// What it is about, without a mark of the tone.
    pub title: Text,
    /// What there is to say, the most important first.
    pub blocks: Vec<Block>,
    /// Said after all blocks, whatever became of them.
    pub after: Vec<Row>,
    /// By which a message that came twice is recognised.
    pub mark: Option<Text>,
}

/// What belongs together: an alert, or all of another notice. It is never torn apart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    /// All of it.
    pub rows: Vec<Row>,
    /// The same on one line, for where there is no room.
    pub brief: Text,
    /// It has room for one line only from the beginning, and needs no distance to its neighbours.
    pub is_line: bool,
}

/// How bad it is, and the colour of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Red.
    Critical,
    /// Orange.
    Warning,
    /// Blue.
    Info,
    /// Green.
    Good,
    /// Purple: it would have been done.
    DryRun,
}

impl Tone {
    /// A mark that shows the colour where text has none.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Critical => "🔴",
            Self::Warning => "🟠",
            Self::Info => "🔵",
            Self::Good => "🟢",
            Self::DryRun => "🟣",
        }
    }

    fn of(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::Critical,
            Severity::Warning => Self::Warning,
            Severity::Info => Self::Info,
        }
    }
}

/// Whoever tells: all that words depend on.
#[derive(Debug, Clone, Copy)]
struct Teller<'a> {
    words: Words,
    wording: &'a Wording,
    known: &'a Known,
}

/// Tells a notice.
pub(super) fn tell(notice: &Notice, known: &Known, wording: &Wording, target: Target) -> Story {
    let teller = Teller { words: Words::new(wording.language), wording, known };
    match notice {
        Notice::Alerts(group) => teller.alerts(group),
        Notice::Act { act } => teller.act(*act),
        Notice::StillBusy { act, requests, at_least, seconds } => {
            teller.busy(*act, *requests, *at_least, *seconds)
        }
        Notice::Trouble(trouble) => teller.trouble(trouble),
        Notice::Test => teller.test(target),
    }
}

impl Teller<'_> {
    /// A channel in a sentence: `channel azure-east (3)`.
    fn channel(self, id: i64) -> Text {
        self.words.say(Phrase::ChannelOf, &[("channel", self.channel_name(id))])
    }

    /// A channel by itself: `azure-east (3)`.
    fn channel_name(self, id: i64) -> Text {
        self.known_channel(id).unwrap_or_else(|| Text::ours(id.to_string()))
    }

    fn known_channel(self, id: i64) -> Option<Text> {
        let name = self.known.channel_names.get(&id).filter(|name| !name.is_empty());
        name.map(|name| Text::value(name).then(&format!(" ({id})")))
    }

    /// A channel among other things, where a number alone would say nothing: `azure-east (3)`, else `channel 3`.
    fn channel_among(self, id: i64) -> Text {
        self.known_channel(id).unwrap_or_else(|| self.channel(id))
    }

    /// A time, and how long ago or until then it is.
    fn time(self, at: jiff::Timestamp) -> Text {
        let seconds = figures::between(self.known.now, at);
        let phrase = if seconds > 0 { Phrase::In } else { Phrase::Ago };
        let length = figures::length(seconds.saturating_abs(), self.words);
        let time = figures::time(at, &self.wording.zone);
        self.words.say(phrase, &[("time", Text::ours(time)), ("length", Text::ours(length))])
    }

    /// A length of time as text.
    fn length(self, seconds: i64) -> Text {
        Text::ours(figures::length(seconds, self.words))
    }

    /// A phrase as text.
    fn phrase(self, phrase: Phrase) -> Text {
        Text::ours(self.words.of(phrase))
    }

    /// A field of the message.
    fn field(self, name: Phrase, text: Text) -> Row {
        Row::Field(self.words.of(name), text)
    }

    /// The board of limits, where there is a Grafana.
    fn board(self) -> Option<Row> {
        let grafana = self.wording.grafana_url.as_deref()?;
        let path = match self.wording.language {
            Language::En => "d/tm-limits",
            Language::ZhCn => "d/tm-limits-zh",
        };
        let link = Link::new(self.words.of(Phrase::LinkLimits), &format!("{grafana}/{path}"))?;
        Some(Row::Links(vec![link]))
    }

    /// Sentences one after the other.
    fn sentences(self, sentences: Vec<Text>) -> Text {
        let mut all = Text::default();
        for sentence in sentences.into_iter().filter(|sentence| !sentence.is_empty()) {
            if !all.is_empty() {
                all = all.then(self.words.of(Phrase::Space));
            }
            all = all.and(sentence);
        }
        all
    }
}

/// A message of one block.
fn single(tone: Tone, title: Text, rows: Vec<Row>, mark: Option<Text>) -> Story {
    let block = Block { brief: title.clone(), rows, is_line: false };
    Story { tone, title, blocks: vec![block], after: Vec::new(), mark }
}
