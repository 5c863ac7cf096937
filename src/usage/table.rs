//! Label sets and their counts, found by their labels. Pure.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, Equivalent, HashTable};

use super::key::Key;
use super::series::Series;

/// One label set. Both parts are shared with other states until they are touched.
#[derive(Debug, Clone)]
pub(super) struct LabelSet {
    pub(super) key: Arc<Key>,
    pub(super) series: Arc<Series>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    hasher: DefaultHashBuilder,
    sets: HashTable<LabelSet>,
}

impl Table {
    pub(super) fn get<Q: Hash + Equivalent<Arc<Key>>>(&self, key: &Q) -> Option<&LabelSet> {
        self.sets.find(self.hasher.hash_one(key), |set| key.equivalent(&set.key))
    }

    pub(super) fn get_mut<Q: Hash + Equivalent<Arc<Key>>>(&mut self, key: &Q) -> Option<&mut LabelSet> {
        self.sets.find_mut(self.hasher.hash_one(key), |set| key.equivalent(&set.key))
    }

    /// What is most likely found, without a look at any labels: they lie elsewhere, and whoever looks waits for them.
    #[inline]
    pub(super) fn guess(&self, key: &impl Hash) -> Option<&LabelSet> {
        self.sets.find(self.hasher.hash_one(key), |_| true)
    }

    /// Adds one that is not there.
    pub(super) fn insert(&mut self, key: Arc<Key>, series: Arc<Series>) {
        let Self { hasher, sets } = self;
        let hash = hasher.hash_one(&key);
        sets.insert_unique(hash, LabelSet { key, series }, |set| hasher.hash_one(&set.key));
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LabelSet> {
        self.sets.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut LabelSet> {
        self.sets.iter_mut()
    }
}
