//! The text of a file as a tree of nodes, each with its place. Plain YAML only: no anchors, aliases, tags or second
//! document, so the tree is never larger than the text.

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::mistake::{Mistakes, Place};

/// How deep lists and mappings may stand in each other; a file of limits needs three.
const DEEPEST: usize = 32;

/// Something of the file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Value {
    /// A text, a number, nothing: what it means depends on where it stands.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
    /// Something that was told to be wrong already.
    Refused,
}

/// The tree of `text`. None if it is no YAML, which is told.
pub(super) fn read(text: &str, mistakes: &mut Mistakes) -> Option<Node> {
    let options = granit_parser::options! {
        emit_unresolved_aliases: true,
        disallow_directives: true,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut reader = Reader { events: Parser::new_from_str_with_options(text, options), mistakes };
    match reader.document() {
        Ok(root) => root,
        Err(error) => {
            let place = place(*error.marker());
            let (info, hint) = (error.info(), hint(text, place.line));
            mistakes.add(place, None, format!("this is not YAML: {info}{hint}"));
            None
        }
    }
}

fn place(marker: granit_parser::Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

/// What is usually behind a line that cannot be read.
fn hint(text: &str, line: usize) -> &'static str {
    let line = text.lines().nth(line - 1).unwrap_or_default();
    let indentation = &line[..line.len() - line.trim_start().len()];
    let value = line.split_once(": ").map_or(line, |(_, value)| value).trim_start();
    if indentation.contains('\t') {
        ". Indent with spaces, not with tabs"
    } else if value.starts_with('*') {
        ". Write a star in quotes: \"*\""
    } else if value.starts_with(['@', '`', '%', '&', '!', '|', '>', '{', '}', '[', ']', '?'])
        || value.contains(": ")
    {
        ". Write a text with such signs in quotes"
    } else {
        ". Look at this line and the one before: indentation, quotes, colons"
    }
}

struct Reader<'a, 'm> {
    events: Parser<'a, StrInput<'a>>,
    mistakes: &'m mut Mistakes,
}

impl<'a> Reader<'a, '_> {
    fn next(&mut self) -> Result<(Event<'a>, Place), ScanError> {
        let (event, span) = self.events.next_event().unwrap_or(Ok((Event::StreamEnd, Span::default())))?;
        Ok((event, place(span.start)))
    }

    fn document(&mut self) -> Result<Option<Node>, ScanError> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) if root.is_some() => {
                    self.mistakes.add(
                        place,
                        None,
                        "a second document begins here. One file has one list of limits",
                    );
                    return Ok(root);
                }
                Event::DocumentStart(..) => {
                    let (event, place) = self.next()?;
                    root = Some(self.node(event, place)?);
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place) -> Result<Node, ScanError> {
        if event.anchor_id().is_some() {
            self.mistakes.add(
                place,
                None,
                "anchors (`&name`) are not accepted: write the values where they are needed",
            );
        }
        if let Some(tag) = event.tag() {
            let tag = tag.original();
            self.mistakes.add(
                place,
                None,
                format!("tags are not accepted: remove {}", super::mistake::quoted(&tag)),
            );
        }
        let value = match event {
            Event::Scalar(text, style, ..) => {
                Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.mapping()?,
            _ => {
                self.mistakes.add(
                    place,
                    None,
                    "a value that begins with `*` needs quotes, as in \"*\" or \"*-mini\"",
                );
                Value::Refused
            }
        };
        Ok(Node { place, value })
    }

    fn list(&mut self) -> Result<Value, ScanError> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, place)?);
        }
    }

    fn mapping(&mut self) -> Result<Value, ScanError> {
        let mut pairs = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Mapping(pairs));
            }
            let key = self.node(event, place)?;
            let (event, place) = self.next()?;
            pairs.push((key, self.node(event, place)?));
        }
    }
}
