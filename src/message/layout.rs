//! From a story to the parts that a target gets: what has no room in one part goes into the next, a block is never torn, and
//! whatever has no room in the last one is counted.

use serde_json::Value;

use super::story::{Block, Story, Tone};
use super::text::{Link, Row, Text};
use super::words::{Phrase, Words};
use super::{Part, Target, Wording};
use super::{feishu, plain, telegram, wecom};

/// Most parts of a message. A storm is no reason to fill the chat, and WeCom takes 20 messages a minute.
const MAX_PARTS: usize = 5;

/// Where there are many blocks, one of them takes at most this part of the room.
const CROWDED: usize = 3;

/// Longest value from outside in a title, in characters.
const TITLE_CAP: usize = 80;

/// How far things from outside are cut, in characters; each is tried if there is no room for what is before it.
pub(super) const CAPS: [Caps; 4] = [
    Caps { value: 200, long: 1500, link: 1000 },
    Caps { value: 100, long: 500, link: 400 },
    Caps { value: 60, long: 150, link: 200 },
    Caps { value: 24, long: 48, link: 0 },
];

/// How far things from outside are cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    /// A value on a line.
    pub value: usize,
    /// A text of several lines.
    pub long: usize,
    /// An address; a longer one is left out.
    pub link: usize,
}

impl Caps {
    /// Links that are not too long.
    pub(super) fn links(self, links: &[Link]) -> impl Iterator<Item = &Link> {
        links.iter().filter(move |link| link.url.len() <= self.link)
    }
}

/// A block as a target wants it.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    /// Its text with markup.
    pub markup: String,
    /// Buttons, for targets that have some.
    pub buttons: Vec<Link>,
    /// It stands close to its neighbours.
    pub is_line: bool,
}

/// How one kind of target writes.
pub(super) trait Paper {
    /// What a part has room for, in its own unit.
    fn budget(&self) -> usize;
    /// What a block takes of it, the distance to the one before included.
    fn cost(&self, written: &Written) -> usize;
    /// What title and all else that every part has take of it.
    fn frame(&self, title: &str, mark: &str) -> usize;
    /// Writes rows.
    fn write(&self, rows: &[Row], caps: Caps) -> Written;
    /// The body of a request.
    fn part(&self, tone: Tone, title: &str, blocks: &[Written], mark: &str) -> Value;
}

/// What stands in a part.
#[derive(Debug, Default)]
struct Sheet<'a> {
    blocks: Vec<&'a Block>,
    written: Vec<Written>,
    cost: usize,
}

/// Lays a story out for a target.
pub(super) fn lay_out(story: &Story, wording: &Wording, target: Target) -> Vec<Part> {
    let words = Words::new(wording.language);
    let paper: Box<dyn Paper> = match target {
        Target::Telegram => Box::new(telegram::Paper { words }),
        Target::Feishu => Box::new(feishu::Paper { words }),
        Target::Wecom => Box::new(wecom::Paper { words }),
    };
    let keyword = wording.feishu_keyword.as_deref().filter(|_| target == Target::Feishu);
    let title = |number: usize, of: usize| title(story, words, keyword, number, of);
    let mark = story.mark.as_ref().map_or_else(String::new, |mark| mark.plain(TITLE_CAP, words));

    // Whatever is said in the end must have room, so it is reckoned in every part.
    let most =
        Text::ours(words.count(Phrase::NotListed, u64::try_from(story.blocks.len()).unwrap_or(u64::MAX)));
    let mut ends = story.after.clone();
    ends.push(Row::Line(most));
    let frame = paper.frame(&title(MAX_PARTS, MAX_PARTS), &mark) + paper.cost(&paper.write(&ends, CAPS[1]));
    let room = paper.budget().saturating_sub(frame);

    let (mut sheets, left) = pack(story, &*paper, room, words);
    let mut ends = story.after.clone();
    if left > 0 {
        ends.push(Row::Line(Text::ours(words.count(Phrase::NotListed, left))));
    }
    if let (Some(last), false) = (sheets.last_mut(), ends.is_empty()) {
        last.written.push(paper.write(&ends, CAPS[1]));
    }
    let of = sheets.len();
    sheets
        .iter()
        .enumerate()
        .map(|(index, sheet)| {
            let title = title(index + 1, of);
            let ends = if index + 1 == of { ends.as_slice() } else { &[] };
            Part {
                rich: paper.part(story.tone, &title, &sheet.written, &mark),
                plain: plain::text(plain::BUDGET, &title, &sheet.blocks, ends, &mark, words),
                short: plain::text(plain::SHORT, &title, &sheet.blocks, ends, &mark, words),
            }
        })
        .collect()
}

/// Puts blocks on sheets, and says how many had no room.
fn pack<'a>(story: &'a Story, paper: &dyn Paper, room: usize, words: Words) -> (Vec<Sheet<'a>>, u64) {
    let crowded = story.blocks.iter().any(|block| block.is_line);
    let most = if crowded { room / CROWDED } else { room };
    let (mut sheets, mut left) = (vec![Sheet::default()], 0);
    for block in &story.blocks {
        let mut written = if block.is_line {
            paper.write(&block.rows, CAPS[2])
        } else {
            fitting(block, paper, most, words)
        };
        written.is_line = block.is_line;
        let mut cost = paper.cost(&written);
        let last = sheets.len() == MAX_PARTS;
        let Some(sheet) = sheets.last_mut() else { break };
        if sheet.cost + cost > room && last {
            written = paper.write(&[Row::Line(block.brief.clone())], CAPS[2]);
            written.is_line = true;
            cost = paper.cost(&written);
        }
        if sheet.cost + cost <= room {
            sheet.blocks.push(block);
            sheet.written.push(written);
            sheet.cost += cost;
        } else if last {
            left += 1;
        } else {
            sheets.push(Sheet { blocks: vec![block], written: vec![written], cost });
        }
    }
    (sheets, left)
}

/// A block cut as little as the room allows.
fn fitting(block: &Block, paper: &dyn Paper, room: usize, words: Words) -> Written {
    let mut written = Written::default();
    for caps in CAPS {
        written = paper.write(&block.rows, caps);
        if paper.cost(&written) <= room {
            return written;
        }
    }
    // Rows stand in the order of their importance.
    let caps = CAPS[CAPS.len() - 1];
    for kept in (0..block.rows.len()).rev() {
        let mut rows = block.rows[..kept].to_vec();
        let cut = u64::try_from(block.rows.len() - kept).unwrap_or(u64::MAX);
        rows.push(Row::Line(Text::ours(words.count(Phrase::CutLines, cut))));
        written = paper.write(&rows, caps);
        if paper.cost(&written) <= room {
            break;
        }
    }
    written
}

/// The title of a part. It holds the words by which bots know our messages, and is the first that a phone shows.
fn title(story: &Story, words: Words, keyword: Option<&str>, number: usize, of: usize) -> String {
    const NAME: &str = "Token Monitor";
    let mut title = format!("{} {} · {NAME}", story.tone.mark(), story.title.plain(TITLE_CAP, words));
    if let Some(keyword) = keyword.filter(|keyword| !title.contains(*keyword)) {
        title = format!("{title} · {keyword}");
    }
    if of > 1 {
        title = format!("{title} ({number}/{of})");
    }
    title
}
