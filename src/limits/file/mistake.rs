//! What is wrong with a file, in words for whoever has to mend it.

use std::fmt;

/// Mistakes that are told of one file; somebody who sees so many looks at the first ones.
const MOST: usize = 100;

/// Characters of a file's text that a message repeats.
const MOST_CHARACTERS: usize = 60;

/// Where in a file something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// One thing that is wrong, or strange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// Name of the limit, if it is known.
    pub limit: Option<String>,
    /// What is wrong and what is accepted.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.place.line, self.place.column)?;
        if let Some(name) = &self.limit {
            write!(f, "limit {}: ", quoted(name))?;
        }
        f.write_str(&self.text)
    }
}

/// All that is wrong with a file, in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes {
    /// The first hundred.
    pub all: Vec<Mistake>,
    /// How many more there are.
    pub more: usize,
}

impl Mistakes {
    /// Notes one.
    pub(super) fn add(&mut self, place: Place, limit: Option<&str>, text: impl Into<String>) {
        if self.all.len() < MOST {
            self.all.push(Mistake { place, limit: limit.map(str::to_owned), text: text.into() });
        } else {
            self.more += 1;
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// In the order of the file.
    pub(super) fn sorted(mut self) -> Self {
        self.all.sort_by_key(|mistake| (mistake.place.line, mistake.place.column));
        self
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.all.iter().enumerate() {
            write!(f, "{}{mistake}", if index > 0 { "\n" } else { "" })?;
        }
        if self.more > 0 { write!(f, "\nand {} more mistakes", self.more) } else { Ok(()) }
    }
}

impl std::error::Error for Mistakes {}

/// A text of the file in a message: not too long, on one line.
pub(super) fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(MOST_CHARACTERS).flat_map(shown_character).collect();
    let dots = if text.chars().nth(MOST_CHARACTERS).is_some() { "…" } else { "" };
    format!("`{shown}{dots}`")
}

fn shown_character(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}
