//! The labels that every traffic family has. Pure.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::Equivalent;
use serde::{Deserialize, Serialize};

use super::ExtraLabel;
use crate::record::ChannelId;

/// The label value that stands for everything beyond a cap.
pub const OTHER: &str = "_other";

/// The labels that every traffic family has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The channel, or nothing for the series that sums what exceeds a cap.
    pub channel_id: Option<ChannelId>,
    /// The model asked for.
    pub model: String,
    /// Values of the opted-in labels, in the order of `EXTRA_LABELS`.
    pub extra: Vec<String>,
}

/// The same with borrowed texts, to look a key up without making one.
#[derive(Debug)]
pub(super) struct KeyRef<'a> {
    pub(super) channel_id: ChannelId,
    pub(super) model: &'a str,
    pub(super) extra: &'a [Cow<'a, str>],
}

// Written out for both, so that equal keys have equal hashes whatever `derive` does.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_key(self.channel_id, &self.model, &self.extra, state);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_key(Some(self.channel_id), self.model, self.extra, state);
    }
}

fn hash_key(channel_id: Option<ChannelId>, model: &str, extra: &[impl AsRef<str>], state: &mut impl Hasher) {
    channel_id.hash(state);
    model.hash(state);
    for value in extra {
        value.as_ref().hash(state);
    }
}

impl Equivalent<Arc<Key>> for KeyRef<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        key.channel_id == Some(self.channel_id)
            && key.model == self.model
            && key.extra.iter().eq(self.extra.iter().map(AsRef::as_ref))
    }
}

impl KeyRef<'_> {
    /// A key of its own.
    pub(super) fn to_key(&self) -> Key {
        Key {
            channel_id: Some(self.channel_id),
            model: self.model.to_owned(),
            extra: self.extra.iter().map(|value| value.clone().into_owned()).collect(),
        }
    }
}

impl Key {
    /// Reads what comparing it begins with, for the sake of reading it.
    #[inline]
    pub(super) fn glance(&self) -> u64 {
        self.channel_id.unwrap_or_default().unsigned_abs() ^ self.model.len() as u64
    }

    /// The key of the series that sums what exceeds a cap, with `extra` opted-in labels.
    pub fn overflow(extra: usize) -> Self {
        Self { channel_id: None, model: OTHER.to_owned(), extra: vec![OTHER.to_owned(); extra] }
    }

    /// Brings the values of the label dimensions `from` to the dimensions `to`.
    pub fn relabel(&mut self, from: &[ExtraLabel], to: &[ExtraLabel]) {
        let missing = if self.channel_id.is_none() { OTHER } else { "" };
        self.extra = to
            .iter()
            .map(|label| {
                let at = from.iter().position(|old| old == label);
                at.and_then(|at| self.extra.get(at)).cloned().unwrap_or_else(|| missing.to_owned())
            })
            .collect();
    }
}
