//! What changed since the last commit. Pure.

use std::sync::Arc;

use super::{Key, Series};

/// If more label sets than this change between two commits, nobody keeps what they were: a copy of each is memory, some 4 KB,
/// and so many are nearly as soon written in full.
const MOST_KEPT: usize = 1_000;

/// What changed since the last commit: what the next one must write.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Touched series.
    pub series: Vec<Touched>,
    /// Names that joined the known models.
    pub models: Vec<String>,
    /// The label dimensions changed, so what is stored must go.
    pub relabelled: bool,
    /// Of touched series that are not new nobody knows what they were, so all must be written in full.
    pub in_full: bool,
}

/// A series that changed.
#[derive(Debug, Clone)]
pub struct Touched {
    /// Its labels.
    pub key: Arc<Key>,
    /// What it was at the last commit. None if there was none then, or if [`Changes::in_full`].
    pub before: Option<Arc<Series>>,
}

/// What a series was at the last commit.
pub(super) enum Before {
    /// It was not there.
    New,
    /// This.
    Kept(Arc<Series>),
    /// It is changed in place.
    Unknown,
}

impl Before {
    /// Of a series that is there, and about to be changed.
    pub(super) fn of(series: &Arc<Series>, keep: bool) -> Self {
        if keep { Self::Kept(Arc::clone(series)) } else { Self::Unknown }
    }
}

impl Changes {
    /// Everything changed, because the label dimensions are others.
    pub(super) fn of_all<'a>(keys: impl Iterator<Item = &'a Arc<Key>>) -> Self {
        let series = keys.map(|key| Touched { key: Arc::clone(key), before: None }).collect();
        Self { series, relabelled: true, in_full: true, ..Self::default() }
    }

    /// Whether it is of use to know what a series was.
    pub(super) fn keeps(&self) -> bool {
        !self.in_full
    }

    /// Notes a series that is touched for the first time since the last commit.
    pub(super) fn touch(&mut self, key: Arc<Key>, before: Before) {
        let unknown = matches!(before, Before::Unknown);
        let before = if let Before::Kept(series) = before { Some(series) } else { None };
        self.series.push(Touched { key, before });
        if (unknown || self.series.len() > MOST_KEPT) && !self.in_full {
            self.in_full = true;
            self.series.iter_mut().for_each(|touched| touched.before = None);
        }
    }
}
