//! Reads the text of `limits.yml`: strict, and every mistake told with its place and with what is accepted.

mod channel;
mod fields;
mod mistake;
mod nearest;
#[cfg(test)]
mod tests;
mod tree;
mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use mistake::{Mistake, Mistakes, Place};

use self::fields::{Fields, Items};
use self::tree::{Node, Value};
use super::{Action, ChannelScope, Limit, ModelScope, Restore, Severity};
use crate::record::ChannelId;

/// Longest file, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Most limits in a file.
pub const MAX_LIMITS: usize = 500;

/// What limits may refer to.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Today's channels and their names.
    pub channels: &'a BTreeMap<ChannelId, String>,
    /// How far back rows are known, `HISTORY`.
    pub history: Duration,
}

/// A file without mistakes.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitsFile {
    /// In the order of the file.
    pub limits: Vec<Limit>,
    /// What is accepted but may not be what was meant.
    pub warnings: Vec<Mistake>,
}

/// A text that was in force, with the channels that its names meant then: a channel that was renamed since must not
/// make it unreadable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    /// The file's text.
    pub text: String,
    /// Names of channels by id.
    pub channels: BTreeMap<ChannelId, String>,
}

/// The keys of a limit.
const KEYS: &[&str] =
    &["name", "channel", "model", "measure", "max", "window", "warn_at", "severity", "action", "restore"];

/// What people call them.
const MEANINGS: &[(&str, &str)] = &[
    ("id", "name"),
    ("title", "name"),
    ("channel_id", "channel"),
    ("channel_name", "channel"),
    ("channels", "channel"),
    ("model_name", "model"),
    ("models", "model"),
    ("metric", "measure"),
    ("type", "measure"),
    ("unit", "measure"),
    ("limit", "max"),
    ("maximum", "max"),
    ("threshold", "max"),
    ("value", "max"),
    ("amount", "max"),
    ("period", "window"),
    ("interval", "window"),
    ("duration", "window"),
    ("every", "window"),
    ("warn", "warn_at"),
    ("warning", "warn_at"),
    ("level", "severity"),
    ("on_exceed", "action"),
    ("do", "action"),
    ("reset", "restore"),
    ("enable", "restore"),
];

/// Reads the text of a file of limits.
///
/// # Errors
/// All that is wrong with it, as far as it can be read.
pub fn parse(text: &str, known: &Known<'_>) -> Result<LimitsFile, Mistakes> {
    let mut file = Reading { known, mistakes: Mistakes::default(), warnings: Mistakes::default() };
    let limits = if text.len() > MAX_BYTES {
        let bytes = text.len();
        let text = format!("the file has {bytes} bytes. At most {MAX_BYTES} are accepted");
        file.mistakes.add(Place { line: 1, column: 1 }, None, text);
        Vec::new()
    } else {
        match tree::read(text, &mut file.mistakes) {
            Some(root) => file.root(&root),
            None if file.mistakes.is_empty() => {
                // An editor that empties a file before it writes it must not remove all limits.
                file.mistakes.add(Place { line: 1, column: 1 }, None, EMPTY);
                Vec::new()
            }
            None => Vec::new(),
        }
    };
    if file.mistakes.is_empty() {
        Ok(LimitsFile { limits, warnings: file.warnings.sorted().all })
    } else {
        Err(file.mistakes.sorted())
    }
}

/// What was found so far.
struct Reading<'a> {
    known: &'a Known<'a>,
    mistakes: Mistakes,
    warnings: Mistakes,
}

impl Reading<'_> {
    fn root(&mut self, root: &Node) -> Vec<Limit> {
        match &root.value {
            Value::Mapping(pairs) => {
                let top = Fields::of(pairs, &["limits"], &[("limit", "limits")], None, &mut self.mistakes);
                match top.get("limits") {
                    Some(node) => self.list(node),
                    None if pairs.is_empty() => {
                        self.mistakes.add(root.place, None, EMPTY);
                        Vec::new()
                    }
                    None => Vec::new(),
                }
            }
            Value::List(_) => {
                self.mistakes.add(
                    root.place,
                    None,
                    "the file is a list. Put `limits:` on a line before it, and indent the list",
                );
                Vec::new()
            }
            Value::Scalar { text, quoted: false } if fields::is_nothing(text) => {
                self.mistakes.add(root.place, None, EMPTY);
                Vec::new()
            }
            Value::Scalar { .. } => {
                self.mistakes.add(
                    root.place,
                    None,
                    "the file is one text. It must begin with `limits:`, followed by a list",
                );
                Vec::new()
            }
            Value::Refused => Vec::new(),
        }
    }

    fn list(&mut self, node: &Node) -> Vec<Limit> {
        let items = match &node.value {
            Value::List(items) => items,
            Value::Refused => return Vec::new(),
            Value::Scalar { text, quoted: false } if fields::is_nothing(text) => {
                self.mistakes.add(
                    node.place,
                    None,
                    "`limits` has no value. Write `limits: []` if there are to be none",
                );
                return Vec::new();
            }
            _ => {
                self.mistakes.add(
                    node.place,
                    None,
                    "`limits` must be a list: each limit begins with a dash, as in `- name: azure-daily`",
                );
                return Vec::new();
            }
        };
        let mut names: Items<'_> = BTreeMap::new();
        let mut limits = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if index == MAX_LIMITS {
                let count = items.len();
                let text =
                    format!("this is limit {} of {count}. At most {MAX_LIMITS} are accepted", index + 1);
                self.mistakes.add(item.place, None, text);
                break;
            }
            limits.extend(self.limit(item, &mut names));
        }
        limits
    }

    fn limit<'n>(&mut self, node: &'n Node, names: &mut Items<'n>) -> Option<Limit> {
        let Value::Mapping(pairs) = &node.value else {
            if !matches!(node.value, Value::Refused) {
                self.mistakes.add(
                    node.place,
                    None,
                    format!("a limit must have keys with values. Accepted: {}", KEYS.join(", ")),
                );
            }
            return None;
        };
        let name = fields::first_text(pairs, "name");
        let fields = Fields::of(pairs, KEYS, MEANINGS, name, &mut self.mistakes);
        let mut values = values::Values { place: node.place, fields: &fields, limit: name, reading: self };
        // Every key is read, whatever is wrong with the ones before.
        let name = values.name(names);
        let channel = values.channel();
        let model = values.model();
        let measure = values.measure();
        let max = values.max();
        let window = values.window();
        let warn_at = values.warn_at();
        let severity = values.severity();
        let action = values.action();
        let restore = values.restore();
        if action == Some(Action::DisableChannel) && !fields.has("channel") {
            values.wrong(
                "action",
                "`disable_channel` needs a channel: add `channel` with a name, an id or \"*\", or write `notify`",
            );
        }
        let restores = restore.as_ref().is_some_and(|restore| *restore != Restore::Never);
        if restores && matches!(action, Some(Action::Notify)) {
            values.wrong(
                "restore",
                "there is nothing to restore: add `action: disable_channel`, or remove `restore`",
            );
        }
        Some(Limit {
            name: name?,
            channel: channel?,
            model: model?,
            measure: measure?,
            max: max?,
            window: window?,
            warn_at: warn_at?,
            severity: severity?,
            action: action?,
            restore: restore?,
        })
    }
}

const EMPTY: &str = "the file is empty. Write `limits: []` if there are to be none";
