//! The keys of a mapping, each at most once and each a known one.

use std::collections::BTreeMap;

use super::mistake::{Mistakes, Place, quoted};
use super::nearest::meant;
use super::tree::{Node, Value};

/// Where each name was given.
pub(super) type Items<'a> = BTreeMap<&'a str, Place>;

/// The values of known keys.
pub(super) struct Fields<'a> {
    values: BTreeMap<&'a str, &'a Node>,
}

impl<'a> Fields<'a> {
    /// The fields of a mapping whose keys are `accepted`; `meanings` are what people call them.
    pub(super) fn of(
        pairs: &'a [(Node, Node)],
        accepted: &[&'static str],
        meanings: &[(&str, &'static str)],
        limit: Option<&str>,
        mistakes: &mut Mistakes,
    ) -> Self {
        let mut values: BTreeMap<&str, &Node> = BTreeMap::new();
        let mut places: Items<'_> = BTreeMap::new();
        for (key, value) in pairs {
            let Value::Scalar { text, .. } = &key.value else {
                mistakes.add(key.place, limit, format!("a key must be one of: {}", accepted.join(", ")));
                continue;
            };
            if !accepted.contains(&text.as_str()) {
                let hint = meant(text, accepted.iter().copied(), meanings)
                    .map_or(String::new(), |meant| format!(". Did you mean `{meant}`?"));
                let accepted = accepted.join(", ");
                let text = format!("{} is not a key here. Accepted: {accepted}{hint}", quoted(text));
                mistakes.add(key.place, limit, text);
            } else if let Some(first) = places.get(text.as_str()) {
                let line = first.line;
                let text = format!("`{text}` is given twice, first on line {line}. Remove one of them");
                mistakes.add(key.place, limit, text);
            } else {
                places.insert(text, key.place);
                values.insert(text, value);
            }
        }
        Self { values }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.values.get(key).copied()
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
}

/// The text of a key before all keys were looked at.
pub(super) fn first_text<'a>(pairs: &'a [(Node, Node)], wanted: &str) -> Option<&'a str> {
    pairs.iter().find_map(|(key, value)| match (&key.value, &value.value) {
        (Value::Scalar { text, .. }, Value::Scalar { text: found, quoted })
            if text == wanted && !found.trim().is_empty() && (*quoted || !is_nothing(found)) =>
        {
            Some(found.as_str())
        }
        _ => None,
    })
}

/// Whether a text without quotes is no value.
pub(super) fn is_nothing(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}
