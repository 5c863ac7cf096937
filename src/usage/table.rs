//! Label sets and their counts, found by their labels. Pure.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, Equivalent, HashTable};

use super::key::Key;
use super::series::Series;

/// All label sets, numbered in the order of their appearance. A clone costs a step for each of them, and is made for every
/// poll that brings rows: so labels, which hardly ever change, are shared as one.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    labels: Arc<Labels>,
    /// By number.
    series: Vec<Arc<Series>>,
}

#[derive(Debug, Clone, Default)]
struct Labels {
    hasher: DefaultHashBuilder,
    numbers: HashTable<usize>,
    /// By number.
    keys: Vec<Arc<Key>>,
}

impl Labels {
    fn find<Q: Hash + Equivalent<Arc<Key>>>(&self, key: &Q) -> Option<usize> {
        self.numbers.find(self.hasher.hash_one(key), |number| key.equivalent(&self.keys[*number])).copied()
    }
}

impl Table {
    pub(super) fn get<Q: Hash + Equivalent<Arc<Key>>>(&self, key: &Q) -> Option<&Arc<Series>> {
        self.labels.find(key).map(|number| &self.series[number])
    }

    pub(super) fn get_mut<Q: Hash + Equivalent<Arc<Key>>>(
        &mut self,
        key: &Q,
    ) -> Option<(&Arc<Key>, &mut Arc<Series>)> {
        self.labels.find(key).map(|number| (&self.labels.keys[number], &mut self.series[number]))
    }

    /// What is most likely found, without a look at any labels: they lie elsewhere, and whoever looks waits for them.
    #[inline]
    pub(super) fn guess(&self, key: &impl Hash) -> Option<(&Key, &Series)> {
        let Labels { hasher, numbers, keys } = self.labels.as_ref();
        numbers.find(hasher.hash_one(key), |_| true).map(|number| (&*keys[*number], &*self.series[*number]))
    }

    /// The one of `key`, and whether it is new.
    pub(super) fn get_or_insert(&mut self, key: &Arc<Key>) -> (&mut Arc<Series>, bool) {
        let known = self.labels.find(key.as_ref());
        let number = known.unwrap_or_else(|| self.insert(Arc::clone(key), Arc::default()));
        (&mut self.series[number], known.is_none())
    }

    /// Adds one that is not there. Gives its number.
    pub(super) fn insert(&mut self, key: Arc<Key>, series: Arc<Series>) -> usize {
        let Labels { hasher, numbers, keys } = Arc::make_mut(&mut self.labels);
        let (hash, number) = (hasher.hash_one(&key), keys.len());
        keys.push(key);
        numbers.insert_unique(hash, number, |number| hasher.hash_one(&keys[*number]));
        self.series.push(series);
        number
    }

    /// All of them, in the order of their appearance.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<Key>, &Arc<Series>)> {
        self.labels.keys.iter().zip(&self.series)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<Key>, &mut Arc<Series>)> {
        self.labels.keys.iter().zip(&mut self.series)
    }
}
