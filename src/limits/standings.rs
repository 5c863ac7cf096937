//! How much of each limit is used: rows summed into windows, kept up by the rows and the time.
//!
//! A limit has a sum for every key: one key if its rows are counted together, else one for each channel, model or
//! pair of them that had rows. Calendar windows hold exactly the rows dated in them. Rolling windows hold every row
//! of the window, and at most those that left it less than a thousandth of it ago: see the module `ring`.
//!
//! A new [`Standings`] is empty. Its owner adds the rows since [`Standings::earliest`], then every row once as it
//! comes, and calls [`Standings::advance`] as time goes by.

use std::sync::Arc;

use hashbrown::HashMap;
use jiff::tz::TimeZone;

use super::ring::AHEAD;
use super::turn::Turn;
use super::watched::Watched;
use super::{Entry, Limit, Measure, Period, Window};
use crate::record::ChannelId;

/// Keys of limits that count each channel or model by itself, all limits together. What exceeds it is summed, for each
/// limit, under one key more.
pub const DEFAULT_MAX_KEYS: usize = 2000;

/// Pairs of channel and model whose limits are remembered. Anyone with a key can put names of models into the log.
const MAX_ROUTES: usize = 20_000;

/// Seconds between two searches for keys that hold nothing any more.
const SWEEP_EVERY: i64 = 3600;

/// Where one key of a limit stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The limit's place in the list that [`Standings::new`] got.
    pub limit: usize,
    /// The channel that the sum is about; None if it is about several.
    pub channel_id: Option<ChannelId>,
    /// The model, or the pattern of models, that the sum is about; None if it is about all.
    pub model: Option<Arc<str>>,
    /// The sum of what exceeds the bound on keys. Channel and model are None.
    pub overflow: bool,
    /// In the unit of the measure, not below 0.
    pub used: f64,
    /// The limit's maximum.
    pub max: f64,
    /// `used / max`.
    pub ratio: f64,
    /// Unix seconds. By the calendar, the end of the window. Rolling: when, if nothing is added, it will have fallen
    /// below [`Limit::calm_ratio`]; None if it is below.
    pub resets_at: Option<i64>,
    /// Unix seconds. When `max` will be reached at the present rate; None if not before the window ends, or already.
    pub exhausted_at: Option<i64>,
}

/// The windows of all limits.
#[derive(Debug, Clone)]
pub struct Standings {
    zone: TimeZone,
    now: i64,
    limits: Vec<Watched>,
    /// By [`Period`], those that limits ask for.
    turns: [Option<Turn>; 3],
    routes: HashMap<ChannelId, HashMap<Box<str>, Vec<Target>>>,
    routed: usize,
    keys: usize,
    max_keys: usize,
    swept_at: i64,
    /// The latest date of a row that was further ahead of our clock than rolling windows keep.
    clamped: Option<i64>,
    /// Rows were dated wrongly because our clock was wrong.
    lost: bool,
}

/// A sum that rows of a channel and model go to.
#[derive(Debug, Clone, Copy)]
struct Target {
    limit: usize,
    /// None until something is added to it.
    slot: Option<usize>,
}

impl Standings {
    /// Empty windows of `limits` at the instant `now`, in Unix seconds. Limits that count each key by itself have at
    /// most `max_keys` keys together, see [`DEFAULT_MAX_KEYS`].
    pub fn new(limits: &[Limit], zone: &TimeZone, max_keys: usize, now: i64) -> Self {
        let mut turns = [None, None, None];
        for limit in limits {
            if let Window::Calendar(period) = limit.window {
                turns[period as usize].get_or_insert_with(|| Turn::new(period, zone, now));
            }
        }
        Self {
            zone: zone.clone(),
            now,
            limits: limits.iter().map(|limit| Watched::new(limit, now)).collect(),
            turns,
            routes: HashMap::new(),
            routed: 0,
            keys: 0,
            max_keys,
            swept_at: now,
            clamped: None,
            lost: false,
        }
    }

    /// Unix seconds since when rows are needed to fill the windows as they are now. Earlier ones may be added too.
    pub fn earliest(&self) -> i64 {
        let starts = self.limits.iter().map(|limit| match limit.period() {
            Some(period) => self.turn(period).map_or(self.now, |turn| turn.span().start),
            None => limit.rolls_since().unwrap_or(self.now),
        });
        starts.min().unwrap_or(self.now)
    }

    /// Counts a row that was not counted before. The order does not matter.
    ///
    /// A row that is dated in the next calendar window is kept for it. In rolling windows a row dated ahead counts at
    /// once; if it is more than 10 minutes ahead, as if it were 10 minutes.
    pub fn add(&mut self, entry: &Entry<'_>) {
        let amounts = Measure::ALL.map(|measure| measure.of(entry));
        if amounts.iter().all(|amount| *amount == 0) {
            return;
        }
        let places: [Option<usize>; 3] =
            std::array::from_fn(|at| self.turns[at].as_mut().and_then(|turn| turn.place(entry.created_at)));
        if !self.routes.get(&entry.channel_id).is_some_and(|models| models.contains_key(entry.model)) {
            self.route(entry);
        }
        let targets = self.routes.get_mut(&entry.channel_id).and_then(|models| models.get_mut(entry.model));
        for target in targets.into_iter().flatten() {
            let limit = &mut self.limits[target.limit];
            let amount = amounts[limit.measure() as usize];
            let Some(place) = limit.place(entry.created_at, &places).filter(|_| amount != 0) else {
                continue;
            };
            let slot = match target.slot {
                Some(slot) => slot,
                None => limit.slot_of(entry, &mut self.keys, self.max_keys),
            };
            target.slot = Some(slot);
            if limit.count(slot, place, amount, entry.created_at.min(self.now)) {
                self.clamped = self.clamped.max(Some(entry.created_at));
            }
        }
    }

    /// Goes on to the instant `now`, in Unix seconds, which may also be an earlier one.
    ///
    /// False if rows are missing that are needed now, because the clock jumped: then a new [`Standings`] must be
    /// filled. Until then the sums are those of the rows that are known.
    pub fn advance(&mut self, now: i64) -> bool {
        if now != self.now {
            self.lost |= self.clamped.is_some() && now.saturating_sub(self.now) > AHEAD;
            self.now = now;
            let zone = &self.zone;
            let from = self.turns.each_mut().map(|turn| turn.as_mut()?.advance(zone, now));
            for limit in &mut self.limits {
                limit.advance(now, &from);
            }
            if now < self.swept_at || now.saturating_sub(self.swept_at) >= SWEEP_EVERY {
                self.sweep();
            }
        }
        self.is_whole()
    }

    /// Whether every row that the windows need is known, if those since [`Standings::earliest`] were given.
    pub fn is_whole(&self) -> bool {
        let whole = |limit: &Watched| match limit.period() {
            Some(period) => self.turn(period).is_some_and(Turn::is_whole),
            None => limit.rolls_whole(),
        };
        !self.lost && self.limits.iter().all(whole)
    }

    /// Buckets that all rolling windows keep.
    #[cfg(test)]
    pub(super) fn buckets(&self) -> usize {
        self.limits.iter().map(Watched::buckets).sum()
    }

    /// Pairs of channel and model that are remembered.
    #[cfg(test)]
    pub(super) fn routed(&self) -> usize {
        self.routes.values().map(HashMap::len).sum()
    }

    /// Where each key of each limit stands at the instant of the last [`Standings::advance`], ordered by limit,
    /// channel and model. A limit whose rows are counted together always has its one key; others have those that had
    /// rows lately.
    pub fn read(&self) -> Vec<Standing> {
        let mut standings = Vec::with_capacity(self.limits.iter().map(Watched::keys).sum());
        for (index, limit) in self.limits.iter().enumerate() {
            let first = standings.len();
            for at in 0..limit.keys() {
                let end = limit.period().and_then(|period| self.turn(period)).map(|turn| turn.span().end);
                standings.push(limit.standing(index, at, self.now, end));
            }
            standings[first..].sort_unstable_by(|a: &Standing, b: &Standing| {
                (a.overflow, a.channel_id, &a.model).cmp(&(b.overflow, b.channel_id, &b.model))
            });
        }
        standings
    }

    fn turn(&self, period: Period) -> Option<&Turn> {
        self.turns[period as usize].as_ref()
    }

    /// Remembers which limits rows of this channel and model go to.
    fn route(&mut self, entry: &Entry<'_>) {
        if self.routed >= MAX_ROUTES {
            self.forget_routes();
        }
        let concerned = |limit: &Watched| limit.concerns(entry.channel_id, entry.model);
        let targets = self.limits.iter().enumerate().filter(|(_, limit)| concerned(limit));
        let targets = targets.map(|(limit, _)| Target { limit, slot: None }).collect();
        self.routes.entry(entry.channel_id).or_default().insert(entry.model.into(), targets);
        self.routed += 1;
    }

    fn forget_routes(&mut self) {
        self.routes.clear();
        self.routed = 0;
    }

    /// Forgets keys that hold nothing, so that those of channels and models of long ago make room.
    fn sweep(&mut self) {
        self.swept_at = self.now;
        // Their own dates are near by now: read again, they go where they belong. Not oftener than this, for a gateway
        // whose clock is always too far ahead.
        self.lost |= self.clamped.is_some_and(|date| date <= self.now.saturating_add(AHEAD));
        let before: usize = self.limits.iter().map(Watched::keys).sum();
        self.limits.iter_mut().filter(|limit| limit.is_split()).for_each(Watched::sweep);
        let after: usize = self.limits.iter().map(Watched::keys).sum();
        if after < before {
            self.keys = self.limits.iter().map(Watched::own_keys).sum();
            self.forget_routes();
        }
    }
}
