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
use super::{Entry, Limit, Measure, Period, REST, Window};
use crate::record::{ChannelId, RowOutcome};

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
    /// The model, or the pattern of models, that the sum is about; None if it is about all; [`REST`] if it is
    /// about models that nobody offers and that never answered, or that have no room.
    pub model: Option<Arc<str>>,
    /// The sum holds what exceeds the bound on keys. If channels are counted one by one, its channel is None.
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

impl Standing {
    /// Whether it is about what is not counted by itself, and about nobody by name.
    pub fn is_rest(&self) -> bool {
        self.overflow || self.model.as_deref() == Some(REST)
    }
}

/// The windows of all limits.
#[derive(Debug, Clone)]
pub struct Standings {
    zone: TimeZone,
    now: i64,
    limits: Vec<Watched>,
    /// By [`Period`], those that limits ask for.
    turns: [Option<Turn>; 3],
    routes: HashMap<ChannelId, HashMap<Box<str>, Route>>,
    routed: usize,
    max_keys: usize,
    swept_at: i64,
    /// The latest date of a row that was further ahead of our clock than rolling windows keep.
    clamped: Option<i64>,
    /// Rows were dated wrongly because our clock was wrong, or counted for a model that was not known then.
    lost: bool,
}

/// Where rows of a channel and model go.
#[derive(Debug, Clone)]
struct Route {
    /// The model is one that may have sums of its own.
    known: bool,
    targets: Vec<Target>,
}

/// A sum that rows of a channel and model go to.
#[derive(Debug, Clone, Copy)]
struct Target {
    limit: usize,
    /// None until something is added to it.
    slot: Option<usize>,
}

impl Standings {
    /// Empty windows of `limits` at the instant `now`, in Unix seconds. A limit that counts each key by itself has at most
    /// `max_keys` keys. What exceeds it is summed under one key more.
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

    /// Counts a row that was not counted before. The order does not matter. Whether the model of one that failed or gave
    /// money back is a real one is asked of `is_real`: anyone with a key can put any name into the log.
    ///
    /// A row that is dated in the next calendar window is kept for it. In rolling windows a row dated ahead counts at
    /// once; if it is more than 10 minutes ahead, as if it were 10 minutes.
    pub fn add(&mut self, entry: &Entry<'_>, is_real: impl Fn(&str) -> bool) {
        let amounts = Measure::ALL.map(|measure| measure.of(entry));
        if amounts.iter().all(|amount| *amount == 0) {
            return;
        }
        let places: [Option<usize>; 3] =
            std::array::from_fn(|at| self.turns[at].as_mut().and_then(|turn| turn.place(entry.created_at)));
        let route = self.routes.get(&entry.channel_id).and_then(|models| models.get(entry.model));
        if !route.is_some_and(|route| route.known) {
            let vouched = !matches!(entry.outcome, RowOutcome::Error | RowOutcome::Refund);
            let known = vouched || entry.model.is_empty() || is_real(entry.model);
            // What was counted for it while it was not known is read again.
            let by_model =
                |target: &&Target| target.slot.is_some() && self.limits[target.limit].is_by_model();
            self.lost |= known && route.is_some_and(|route| route.targets.iter().any(|t| by_model(&t)));
            if known || route.is_none() {
                self.route(entry, known);
            }
        }
        let route = self.routes.get_mut(&entry.channel_id).and_then(|models| models.get_mut(entry.model));
        let Some(Route { known, targets }) = route else { return };
        for target in targets {
            let limit = &self.limits[target.limit];
            let amount = amounts[limit.measure() as usize];
            let Some(place) = limit.place(entry.created_at, &places).filter(|_| amount != 0) else {
                continue;
            };
            let slot = target.slot.unwrap_or_else(|| {
                let limit = &mut self.limits[target.limit];
                let room = limit.own_keys() < self.max_keys;
                limit.slot_of(entry, *known, room)
            });
            target.slot = Some(slot);
            if self.limits[target.limit].count(slot, place, amount, entry.created_at.min(self.now)) {
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
    fn route(&mut self, entry: &Entry<'_>, known: bool) {
        if self.routed >= MAX_ROUTES {
            self.forget_routes();
        }
        let concerned = |limit: &Watched| limit.concerns(entry.channel_id, entry.model);
        let targets = self.limits.iter().enumerate().filter(|(_, limit)| concerned(limit));
        let targets = targets.map(|(limit, _)| Target { limit, slot: None }).collect();
        let models = self.routes.entry(entry.channel_id).or_default();
        let before = models.insert(entry.model.into(), Route { known, targets });
        self.routed += usize::from(before.is_none());
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
            self.forget_routes();
        }
    }
}
