//! What was used: every count that the program keeps, as one value that is cheap to copy.
//!
//! A [`Usage`] is never changed in place once others can see it. The tailer clones it (series are shared until
//! touched), lets [`Usage::observe`] count a batch of rows, commits what changed to monitor.db, and only then
//! publishes the clone. So no reader ever sees a count that a crash could take back, and each sees one state.
//! Pure: no clock, no database.

mod adding;
mod changes;
mod difference;
pub mod histogram;
mod key;
mod leaf;
pub mod native;
mod series;
mod table;
mod totals;

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::record::{Class, LogRecord};
use adding::Adding;
use changes::Before;
pub use changes::{Changes, Touched};
pub use difference::Difference;
use histogram::Histogram;
use key::KeyRef;
pub use key::{Key, OTHER};
pub use leaf::{Family, Leaf};
use series::Addition;
pub use series::{Cell, PARTS, Series, Value};
use table::Table;
use totals::ROW_TYPES;
pub use totals::Totals;

/// At most so many names of models that once had an answered request. An attacker cannot add to them.
const MAX_KNOWN_MODELS: usize = 50_000;

/// Rows that [`Usage::fetch`] looks at together.
pub const FETCHED: usize = 16;

/// Longest model name that becomes a label, in bytes; longer ones are no model's name.
const MAX_MODEL_BYTES: usize = 1024;

/// An opted-in label dimension (`EXTRA_LABELS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtraLabel {
    /// Billing group.
    Group,
    /// Name of the API token.
    Token,
    /// User name.
    User,
    /// Index of the key in a multi-key channel.
    Key,
}

impl ExtraLabel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Group, Self::Token, Self::User, Self::Key];

    /// The label's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Token => "token",
            Self::User => "user",
            Self::Key => "key",
        }
    }

    fn value<'a>(self, record: &'a LogRecord<'_>) -> Cow<'a, str> {
        match self {
            Self::Group => Cow::Borrowed(&record.group),
            Self::Token => Cow::Borrowed(&record.token_name),
            Self::User => Cow::Borrowed(&record.username),
            Self::Key => {
                record.other.multi_key_index.map(|index| index.to_string()).unwrap_or_default().into()
            }
        }
    }
}

/// How rows are counted; fixed while the program runs.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Label sets per family before the rest is summed.
    pub max_series: usize,
    /// A request that took longer is slow. Seconds.
    pub slow_over_seconds: f64,
    /// Further labels, in the order of their values in a [`Key`].
    pub extra_labels: Vec<ExtraLabel>,
}

/// What a row's counting depends on besides the row.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// How rows are counted.
    pub rules: &'a Rules,
    /// new-api's quota for one US dollar at this moment.
    pub quota_per_unit: f64,
    /// Models that some channel offers.
    pub offered_models: &'a std::collections::HashSet<String>,
    /// Rows come in as they happen: new label sets are shown as 0 first.
    pub live: bool,
    /// Rows at or after it (unix seconds) may serve as exemplars.
    pub exemplars_since: i64,
}

/// Everything counted.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Grows with every state and every commit.
    version: u64,
    series: Table,
    known_models: Arc<HashSet<String>>,
    totals: Totals,
    /// Label sets per family, not counting `_other`.
    sizes: [usize; Family::ALL.len()],
    held: usize,
    changes: Changes,
}

impl Usage {
    /// Restores what a checkpoint holds.
    pub fn restore(
        series: impl IntoIterator<Item = (Key, Series)>,
        known_models: HashSet<String>,
        totals: Totals,
    ) -> Self {
        let mut usage = Self { known_models: Arc::new(known_models), totals, ..Self::default() };
        for (key, series) in series {
            for (leaf, cell) in series.cells() {
                if !matches!(leaf, Leaf::Overflow(_)) {
                    usage.sizes[leaf.family().index()] += 1;
                }
                usage.held += usize::from(cell.held);
            }
            usage.series.insert(Arc::new(key), Arc::new(series));
        }
        usage
    }

    /// A clone that may be changed and published after this one.
    #[must_use]
    pub fn successor(&self) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next
    }

    /// The same, if nobody else has it.
    #[must_use]
    pub fn into_successor(mut self) -> Self {
        self.version += 1;
        self
    }

    /// A restored one that follows the state `version`, which was the last to be shown: what is held was not.
    #[must_use]
    pub fn resumed(mut self, version: u64) -> Self {
        self.version = version + 1;
        for (_, series) in self.series.iter_mut() {
            if series.holds() {
                Arc::make_mut(series).reborn(version + 1);
            }
        }
        self
    }

    /// Marks everything as changed, because the label dimensions are others than those stored.
    pub fn touch_all(&mut self) {
        self.changes = Changes::of_all(self.series.iter().map(|(key, _)| key));
    }

    /// Which state this is: later ones have higher numbers.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What changed since the last commit.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Forgets what changed, once it is committed. What changes from now on is another version.
    pub fn committed(&mut self) {
        self.changes = Changes::default();
        self.version += 1;
    }

    /// Counts that have no labels of traffic.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// All label sets, in the order of their appearance.
    pub fn series(&self) -> impl Iterator<Item = (&Arc<Key>, &Series)> {
        self.series.iter().map(|(key, series)| (key, series.as_ref()))
    }

    /// One label set.
    pub fn get(&self, key: &Key) -> Option<&Series> {
        self.series.get(key).map(Arc::as_ref)
    }

    /// One label set, to be kept as it is now.
    pub fn shared(&self, key: &Key) -> Option<Arc<Series>> {
        self.series.get(key).cloned()
    }

    /// Label sets of a family, not counting `_other`.
    pub fn size(&self, family: Family) -> usize {
        self.sizes[family.index()]
    }

    /// Whether a request for this model was ever answered.
    pub fn knows_model(&self, model: &str) -> bool {
        self.known_models.contains(model)
    }

    /// Counts a row that had not been visible when a higher id was read.
    pub fn count_late_row(&mut self) {
        self.totals.late_rows += 1;
    }

    /// Looks at whatever counting these rows will change. Each row goes to another label set than the row before, so
    /// the processor would wait for memory row by row. Here it looks at the same part of all of them, one part after the
    /// other, each of which the part before says where to find: so it waits once for each part.
    pub fn fetch<'a, 'b: 'a>(
        &self,
        rows: impl Iterator<Item = (&'a LogRecord<'b>, &'a Class)>,
        rules: &Rules,
    ) {
        let mut found: SmallVec<[(&Key, &Series, &Class); FETCHED]> = SmallVec::new();
        for (record, class) in rows {
            let extra: Vec<Cow<'_, str>> =
                rules.extra_labels.iter().map(|label| label.value(record)).collect();
            let key = KeyRef { channel_id: record.channel_id, model: &record.model, extra: &extra };
            found.extend(self.series.guess(&key).map(|(key, series)| (key, series, class)));
        }
        let mut seen = 0;
        for (key, series, _) in &found {
            seen ^= key.glance() ^ series.glance();
        }
        let mut timings: SmallVec<[(&Histogram, f64); 2 * FETCHED]> = SmallVec::new();
        for (key, series, class) in found {
            seen ^= u64::from(key.model.as_bytes().first().copied().unwrap_or_default());
            timings.extend(series.timings_of(class));
        }
        for (histogram, _) in &timings {
            seen ^= histogram.glance();
        }
        for (histogram, seconds) in timings {
            seen ^= histogram.glance_native(seconds);
        }
        std::hint::black_box(seen);
    }

    /// Counts one row.
    pub fn observe(&mut self, record: &LogRecord<'_>, context: &Context<'_>) {
        self.observe_as(&record.class(), record, context);
    }

    /// Counts one row of which it is known what it counts as.
    pub fn observe_as(&mut self, class: &Class, record: &LogRecord<'_>, context: &Context<'_>) {
        self.count_row(record);
        if *class == Class::Unrelated {
            return;
        }
        let extra: Vec<Cow<'_, str>> =
            context.rules.extra_labels.iter().map(|label| label.value(record)).collect();
        let model = self.model(record, class, context);
        let mut key = KeyRef { channel_id: record.channel_id, model, extra: &extra };
        self.add_to(&key, context, |series| match class {
            Class::Request(request) => series.request(record, request, context),
            Class::Settlement { consumed, refunded } => series.money(*consumed, *refunded, context),
            Class::Refund { refunded } => series.money(0, *refunded, context),
            Class::ChannelTest => series.add(Leaf::Plain(Family::ChannelTests), 1.0),
            Class::FailedAttempt { status_code, error_type } => {
                series.add(Leaf::Errors(status_code.unwrap_or(0), *error_type), 1.0);
            }
            Class::Unrelated => {}
        });
        for channel_id in record.failovers(class) {
            key.channel_id = channel_id;
            self.add_to(&key, context, |series| series.add(Leaf::Plain(Family::Failovers), 1.0));
        }
    }

    fn count_row(&mut self, record: &LogRecord<'_>) {
        let totals = &mut self.totals;
        let row_type = usize::try_from(record.kind).map_or(ROW_TYPES, |kind| kind.min(ROW_TYPES));
        totals.rows[row_type] += 1;
        totals.newest_row_at = totals.newest_row_at.max(record.created_at);
        if let Some(defect) = record.defect {
            totals.defects[defect as usize] += 1;
        }
        if record.kind == 5 && !record.one_api {
            totals.last_error_row_at = totals.last_error_row_at.max(record.created_at);
        }
        totals.saw_stream_status |= record.other.stream_status.is_some();
    }

    /// The model's label. Anyone with an API key can write any model name into the error log, so a name counts by
    /// itself only if a channel offers it or a request for it was answered.
    fn model<'a>(&mut self, record: &'a LogRecord<'_>, class: &Class, context: &Context<'_>) -> &'a str {
        let model: &str = &record.model;
        let trusted = match class {
            // Money that is settled later goes to the label that it would be given back from.
            Class::FailedAttempt { .. } | Class::Refund { .. } | Class::Settlement { .. } => {
                model.is_empty()
                    || self.known_models.contains(model)
                    || context.offered_models.contains(model)
            }
            _ => true,
        };
        if matches!(class, Class::Request(_)) {
            self.learn_model(model);
        }
        if trusted && model.len() <= MAX_MODEL_BYTES { model } else { OTHER }
    }

    fn learn_model(&mut self, model: &str) {
        if !self.known_models.contains(model) && self.known_models.len() < MAX_KNOWN_MODELS {
            Arc::make_mut(&mut self.known_models).insert(model.to_owned());
            self.changes.models.push(model.to_owned());
        }
    }

    /// Lets `work` add to the cells of `key`; a leaf that its family has no room for goes to the family's `_other`.
    fn add_to(&mut self, key: &KeyRef<'_>, context: &Context<'_>, work: impl FnOnce(&mut Adding<'_>)) {
        let mut fresh = Series::default();
        // Rows of the past change their series in place: a copy of each would be half as much memory again.
        let keep = context.live && self.changes.keeps();
        let (known, before, series) = match self.series.get_mut(key) {
            Some((known, series)) => {
                let before = Before::of(series, keep && series.touched != self.version);
                (Some(known), before, Arc::make_mut(series))
            }
            None => (None, Before::New, &mut fresh),
        };
        let mut adding = Adding {
            series,
            sizes: &mut self.sizes,
            held: &mut self.held,
            max_series: context.rules.max_series,
            live: context.live,
            version: self.version,
            admitted: false,
            overflow: Vec::new(),
        };
        work(&mut adding);
        let Adding { series, admitted, overflow, .. } = adding;
        if admitted && series.touched != self.version {
            series.touched = self.version;
            let key = if let Some(known) = known {
                Arc::clone(known)
            } else {
                let key = Arc::new(key.to_key());
                self.series.insert(Arc::clone(&key), Arc::new(fresh));
                key
            };
            self.changes.touch(key, before);
        }
        if !overflow.is_empty() {
            self.add_to_overflow(overflow, context);
        }
    }

    fn add_to_overflow(&mut self, additions: Vec<(Leaf, Addition)>, context: &Context<'_>) {
        let key = Arc::new(Key::overflow(context.rules.extra_labels.len()));
        let keep = context.live && self.changes.keeps();
        let (series, new) = self.series.get_or_insert(&key);
        let before =
            if new { Before::New } else { Before::of(series, keep && series.touched != self.version) };
        let series = Arc::make_mut(series);
        for (leaf, addition) in additions {
            self.totals.overflow[leaf.family().index()] += 1;
            if context.live && !series.has(leaf) {
                self.held += 1;
                series.hold(leaf, self.version);
            }
            series.add(leaf, addition);
        }
        if series.touched != self.version {
            series.touched = self.version;
            self.changes.touch(key, before);
        }
    }

    /// Whether any count is still shown as 0.
    pub fn has_held(&self) -> bool {
        self.held > 0
    }

    /// Lets everything be shown that was already shown as 0 in state `seen` or before. True if there was any.
    pub fn release(&mut self, seen: u64) -> bool {
        let mut released = 0;
        for (key, series) in self.series.iter_mut() {
            if series.holds_since(seen) {
                let first = series.touched != self.version;
                let before = Before::of(series, first && self.changes.keeps());
                let series = Arc::make_mut(series);
                if first {
                    series.touched = self.version;
                    self.changes.touch(Arc::clone(key), before);
                }
                released += series.release(seen);
            }
        }
        self.held -= released;
        released > 0
    }
}

#[cfg(test)]
mod tests;
