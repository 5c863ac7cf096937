//! One limit, and a sum for each of its keys.

use std::sync::Arc;

use hashbrown::HashMap;

use super::rate::{Outlook, Rate, present};
use super::ring::{Grid, Reach, Ring};
use super::standings::Standing;
use super::turn::CURRENT;
use super::{ChannelScope, Entry, Limit, Measure, ModelScope, Period, REST, Window};
use crate::record::ChannelId;

/// A limit and its sums.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    channel: ChannelScope,
    model: ModelScope,
    measure: Measure,
    max: f64,
    calm: f64,
    frame: Frame,
    present: f64,
    slots: Vec<Slot>,
    by_key: HashMap<Key, usize>,
    overflow: Option<usize>,
}

/// The window of a limit.
#[derive(Debug, Clone)]
enum Frame {
    Calendar(Period),
    /// With the first bucket since which every row is known.
    Rolling(Grid, Reach, i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    channel_id: Option<ChannelId>,
    model: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Slot {
    key: Key,
    sums: Sums,
    rate: Rate,
}

#[derive(Debug, Clone)]
enum Sums {
    Calendar([i128; 3]),
    Rolling(Ring),
}

impl Watched {
    /// Empty sums at the instant `now`.
    pub(super) fn new(limit: &Limit, now: i64) -> Self {
        let (frame, seconds) = match &limit.window {
            Window::Calendar(period) => {
                let days = [1, 7, 30][*period as usize];
                (Frame::Calendar(*period), days * 86_400)
            }
            Window::Rolling(length) => {
                let grid = Grid::new(length.seconds());
                let reach = grid.reach(now);
                (Frame::Rolling(grid, reach, reach.edge), length.seconds())
            }
        };
        let mut watched = Self {
            channel: limit.channel,
            model: limit.model.clone(),
            measure: limit.measure,
            max: limit.max,
            calm: limit.max * limit.calm_ratio(),
            frame,
            present: present(seconds),
            slots: Vec::new(),
            by_key: HashMap::new(),
            overflow: None,
        };
        if !watched.is_split() {
            let key = watched.key(0, "");
            watched.push(key);
        }
        watched
    }

    /// Whether it has a key for each channel or model.
    pub(super) fn is_split(&self) -> bool {
        self.channel == ChannelScope::Each || self.model == ModelScope::Each
    }

    /// Whether rows of this channel and model count.
    pub(super) fn concerns(&self, channel_id: ChannelId, model: &str) -> bool {
        self.channel.holds(channel_id) && self.model.holds(model)
    }

    /// What is summed.
    pub(super) fn measure(&self) -> Measure {
        self.measure
    }

    /// The kind of its windows, if they are the calendar's.
    pub(super) fn period(&self) -> Option<Period> {
        if let Frame::Calendar(period) = self.frame { Some(period) } else { None }
    }

    /// When the first row of its rolling window may be dated.
    pub(super) fn rolls_since(&self) -> Option<i64> {
        if let Frame::Rolling(grid, reach, _) = &self.frame { Some(grid.start(reach.edge)) } else { None }
    }

    /// Whether every row of its rolling window is known.
    pub(super) fn rolls_whole(&self) -> bool {
        matches!(&self.frame, Frame::Rolling(_, reach, known_from) if reach.edge >= *known_from)
    }

    /// How many sums there are.
    pub(super) fn keys(&self) -> usize {
        self.slots.len()
    }

    /// How many of them are those of a channel or model by itself.
    pub(super) fn own_keys(&self) -> usize {
        self.by_key.len()
    }

    /// Buckets that are kept.
    #[cfg(test)]
    pub(super) fn buckets(&self) -> usize {
        let sums = self.slots.iter().map(|slot| &slot.sums);
        sums.map(|sums| if let Sums::Rolling(ring) = sums { ring.buckets() } else { 0 }).sum()
    }

    /// Where one of its sums stands. `end` is when its calendar window ends; `index` is the limit's own.
    pub(super) fn standing(&self, index: usize, at: usize, now: i64, end: Option<i64>) -> Standing {
        let slot = &self.slots[at];
        // Where more was given back than charged, nothing was used.
        let shown = |sum: i128| self.measure.value(sum.max(0));
        let used = shown(slot.sums.now());
        let per_second = slot.rate.per_second(now, self.present);
        let outlook = Outlook { now, used, max: self.max, per_second };
        let (resets_at, exhausted_at) = match (&self.frame, &slot.sums) {
            (Frame::Rolling(grid, ..), Sums::Rolling(ring)) => {
                let calm = |sum| shown(sum) < self.calm;
                let resets_at = ring.falls_below(calm).map(|bucket| grid.leaves(bucket));
                (resets_at, outlook.exhausted_while_rolling(grid.seconds()))
            }
            _ => (end, end.and_then(|end| outlook.exhausted_by(end))),
        };
        Standing {
            limit: index,
            channel_id: slot.key.channel_id,
            model: slot.key.model.clone(),
            overflow: self.overflow == Some(at),
            used,
            max: self.max,
            ratio: used / self.max,
            resets_at,
            exhausted_at,
        }
    }

    /// The key that rows of this channel and model count for.
    fn key(&self, channel_id: ChannelId, model: &str) -> Key {
        Key {
            channel_id: match self.channel {
                ChannelScope::Together => None,
                ChannelScope::Each => Some(channel_id),
                ChannelScope::One(id) => Some(id),
            },
            model: match &self.model {
                ModelScope::Together => None,
                ModelScope::Each => Some(model.into()),
                ModelScope::Name(name) => Some(name.as_str().into()),
                ModelScope::Glob(glob) => Some(glob.as_str().into()),
            },
        }
    }

    /// The place of the sum that `entry` goes to. A model that is not `known` has no sum of its own; without `room`, nor has
    /// any other key that has none yet.
    pub(super) fn slot_of(&mut self, entry: &Entry<'_>, known: bool, room: bool) -> usize {
        if !self.is_split() {
            return 0;
        }
        let key = self.key(entry.channel_id, if known { entry.model } else { REST });
        if let Some(slot) = self.by_key.get(&key) {
            return *slot;
        }
        // Once there is a sum of the rest, a new key's earlier rows may be in it: it stays there until that is empty.
        if let Some(overflow) = self.overflow {
            return overflow;
        }
        if !room {
            return self.overflow();
        }
        let slot = self.push(key.clone());
        self.by_key.insert(key, slot);
        slot
    }

    /// The sum of what has no room. Where channels are not counted one by one, that of unknown models is the same.
    fn overflow(&mut self) -> usize {
        let mut key = self.key(0, REST);
        if self.channel == ChannelScope::Each {
            key.channel_id = None;
        }
        let slot = self.by_key.get(&key).copied().unwrap_or_else(|| self.push(key));
        self.overflow = Some(slot);
        slot
    }

    /// Whether it matters to it which model a row is about.
    pub(super) fn is_by_model(&self) -> bool {
        self.model == ModelScope::Each
    }

    fn push(&mut self, key: Key) -> usize {
        let sums = match self.frame {
            Frame::Calendar(_) => Sums::Calendar([0; 3]),
            Frame::Rolling(..) => Sums::Rolling(Ring::default()),
        };
        self.slots.push(Slot { key, sums, rate: Rate::default() });
        self.slots.len() - 1
    }

    /// Where in a window a row of the instant `at` goes: which of three windows, or which bucket.
    pub(super) fn place(&self, at: i64, places: &[Option<usize>; 3]) -> Option<i64> {
        match &self.frame {
            Frame::Calendar(period) => places[*period as usize].and_then(|place| i64::try_from(place).ok()),
            Frame::Rolling(grid, reach, _) => Some(grid.bucket(at)).filter(|bucket| *bucket >= reach.kept),
        }
    }

    /// Adds to a sum; true if the row is too far ahead for its own bucket.
    pub(super) fn count(&mut self, slot: usize, place: i64, amount: i64, at: i64) -> bool {
        let slot = &mut self.slots[slot];
        slot.rate.add(self.measure.value(amount.into()), at, self.present);
        match (&mut slot.sums, &self.frame) {
            (Sums::Rolling(ring), Frame::Rolling(_, reach, _)) => {
                ring.add(place.min(reach.last), amount, *reach);
                place > reach.last
            }
            (Sums::Calendar(sums), _) => {
                let sum = usize::try_from(place).ok().and_then(|place| sums.get_mut(place));
                if let Some(sum) = sum {
                    *sum += i128::from(amount);
                }
                false
            }
            (Sums::Rolling(_), Frame::Calendar(_)) => false,
        }
    }

    /// Goes on to `now`; `from` says where calendar windows were before, if they changed.
    pub(super) fn advance(&mut self, now: i64, from: &[Option<[Option<usize>; 3]>; 3]) {
        match &mut self.frame {
            Frame::Calendar(period) => {
                let Some(from) = from[*period as usize] else { return };
                for slot in &mut self.slots {
                    if let Sums::Calendar(sums) = &mut slot.sums {
                        *sums = from.map(|old| old.map_or(0, |old| sums[old]));
                    }
                }
            }
            Frame::Rolling(grid, reach, known_from) => {
                let next = grid.reach(now);
                if next == *reach {
                    return;
                }
                *reach = next;
                *known_from = next.kept.max(*known_from);
                for slot in &mut self.slots {
                    if let Sums::Rolling(ring) = &mut slot.sums {
                        ring.turn(next);
                    }
                }
            }
        }
    }

    /// Forgets keys that hold nothing.
    pub(super) fn sweep(&mut self) {
        let overflow = self.overflow.map(|at| self.slots[at].key.clone());
        let of_its_own = overflow.as_ref().filter(|key| !self.by_key.contains_key(*key));
        self.slots.retain(|slot| !slot.sums.is_empty());
        let keys = self.slots.iter().enumerate().map(|(at, slot)| (slot.key.clone(), at));
        self.by_key = keys.filter(|(key, _)| Some(key) != of_its_own).collect();
        self.overflow = overflow.and_then(|key| self.slots.iter().position(|slot| slot.key == key));
    }
}

impl Sums {
    /// What is in the present window.
    fn now(&self) -> i128 {
        match self {
            Self::Calendar(sums) => sums[CURRENT],
            Self::Rolling(ring) => ring.sum(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Calendar(sums) => *sums == [0; 3],
            Self::Rolling(ring) => ring.is_empty(),
        }
    }
}
