//! The generator of rows: pure and seeded. It has no database and no clock; whoever drives it says which second
//! comes next and which channels are in use.
//!
//! Each second draws from dice of its own, so what happens in it does not depend on where the generator started.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::f64::consts::TAU;

use super::dice::mix;
use super::episodes::{BURN_FACTOR, Episode, Episodes, Spell};
use super::request::{Ask, Event, LONGEST_MS, Moment};
use super::routes::Routes;
use super::row::Row;
use super::sundry;
use super::world::{MODELS, TOKENS};

/// Rows a second of live traffic, averaged over a day.
pub const LIVE_ROWS_PER_SECOND: f64 = 3.4;
/// The history is thinner than live traffic, so that days of it are made in a second.
const PAST_SHARE: f64 = 0.1;
/// Seconds over which the thin history grows into live traffic, so that no graph shows a cliff.
const RAMP: i64 = 3600;
/// Rows that an average request leaves, errors and settlements included.
const ROWS_PER_REQUEST: f64 = 1.02;
/// Seconds to begin early, so that requests and tasks that began before the first wanted second end in it.
const WARM_UP: i64 = LONGEST_MS / 1000 + 700;

/// How many requests there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// A thin past that grows into live traffic.
    Demo {
        /// Unix seconds of the first live second.
        live_from: i64,
    },
    /// The same density throughout, with the daily rhythm: what benchmarks need.
    Steady {
        /// Averaged over a day.
        rows_per_second: f64,
        /// Unix seconds; episodes are rare before and frequent after it.
        live_from: i64,
    },
}

impl Pace {
    fn live_from(self) -> i64 {
        match self {
            Self::Demo { live_from } | Self::Steady { live_from, .. } => live_from,
        }
    }

    /// Requests expected in this second.
    fn requests(self, second: i64) -> f64 {
        let rows = match self {
            Self::Steady { rows_per_second, .. } => rows_per_second,
            Self::Demo { live_from } => {
                let risen = (second - live_from + RAMP).clamp(0, RAMP) as f64 / RAMP as f64;
                LIVE_ROWS_PER_SECOND * (PAST_SHARE + (1.0 - PAST_SHARE) * risen)
            }
        };
        rows / ROWS_PER_REQUEST * rhythm(second)
    }
}

/// The share of the day's average at this second: quiet nights, busy days, and some restlessness.
fn rhythm(second: i64) -> f64 {
    const BUSIEST_HOUR_UTC: f64 = 9.0;
    let turn = |period: f64| (second as f64 / period).fract();
    let day = (TAU * (turn(86_400.0) - BUSIEST_HOUR_UTC / 24.0)).cos();
    1.0 + 0.38 * day + 0.06 * (TAU * turn(1020.0)).sin()
}

/// Makes rows, second by second, in the order in which new-api would write them.
#[derive(Debug)]
pub struct Generator {
    seed: u64,
    pace: Pace,
    node: String,
    episodes: Episodes,
    /// The second that [`Self::advance`] makes next.
    second: i64,
    /// Requests under way.
    pending: BinaryHeap<Reverse<Pending>>,
    sequence: u64,
    made: Vec<Event>,
}

/// Ordered by time, then by the order of making.
#[derive(Debug)]
struct Pending {
    at_ms: i64,
    sequence: u64,
    /// Boxed, because a heap moves what it holds.
    row: Box<Row>,
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.sequence).cmp(&(other.at_ms, other.sequence))
    }
}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pending {}

impl Generator {
    /// One whose rows are complete from `from` (unix seconds) on. Rows that ended earlier come out too while it
    /// warms up; [`Self::second`] tells where it is.
    pub fn new(seed: u64, pace: Pace, from: i64) -> Self {
        Self {
            seed,
            pace,
            node: format!("{:08x}", mix(seed, 0x6e6f_6465) >> 32),
            episodes: Episodes::new(seed, pace.live_from()),
            second: from - WARM_UP,
            pending: BinaryHeap::new(),
            sequence: 0,
            made: Vec::new(),
        }
    }

    /// The second that comes next; rows that end before it are complete.
    pub fn second(&self) -> i64 {
        self.second
    }

    /// Leaves out what would have happened before `second`, after a pause of the clock.
    pub fn skip_to(&mut self, second: i64) {
        self.second = self.second.max(second);
    }

    /// Starts an episode at the next second. Says what it started.
    pub fn start_episode(&mut self, kind: Episode) -> Spell {
        self.episodes.start(kind, self.second)
    }

    /// The episodes of the next second.
    pub fn spells(&self) -> Vec<Spell> {
        self.episodes.at(self.second).collect()
    }

    /// Makes the requests that begin in the next second.
    pub fn advance(&mut self, routes: &Routes) {
        let spells = self.spells();
        let mut made = std::mem::take(&mut self.made);
        let expected = self.pace.requests(self.second);
        let mut moment = Moment::new(self.seed, self.second, &self.node, routes, &spells, &mut made);
        sundry::add(&mut moment);
        for _ in 0..moment.dice.poisson(expected) {
            let token = moment.dice.weighted(TOKENS.iter().map(|token| token.share));
            let model = moment.dice.weighted(MODELS.iter().map(|model| model.share));
            moment.request(Ask { token, model, pinned: None });
        }
        for spell in spells.iter().filter(|spell| spell.kind == Episode::Burn) {
            let extra = expected * MODELS[spell.model].share / 100.0 * BURN_FACTOR;
            for _ in 0..moment.dice.poisson(extra) {
                moment.request(Ask { token: 0, model: spell.model, pinned: Some(spell.channel) });
            }
        }
        for Event { at_ms, row } in made.drain(..) {
            self.sequence += 1;
            self.pending.push(Reverse(Pending { at_ms, sequence: self.sequence, row: Box::new(row) }));
        }
        self.made = made;
        self.second += 1;
    }

    /// The next row that ends before `to`, advancing as far as that needs; `None` if there is none left.
    pub fn next_before(&mut self, to: i64, routes: &Routes) -> Option<Row> {
        loop {
            if let Some(row) = self.next_due() {
                return Some(row);
            }
            if self.second >= to {
                return None;
            }
            self.advance(routes);
        }
    }

    /// The next row that has ended by now, in order.
    pub fn next_due(&mut self) -> Option<Row> {
        if self.pending.peek()?.0.at_ms >= self.second * 1000 {
            return None;
        }
        self.pending.pop().map(|pending| *pending.0.row)
    }
}

/// The rows that end in `from..to` (unix seconds) of a world that nobody touches, in order; with `rows_per_second`
/// as many as a benchmark needs.
pub fn history(seed: u64, from: i64, to: i64, rows_per_second: f64) -> impl Iterator<Item = Row> {
    let mut generator = Generator::new(seed, Pace::Steady { rows_per_second, live_from: to }, from);
    let routes = Routes::initial();
    std::iter::from_fn(move || generator.next_before(to, &routes)).filter(move |row| row.created_at >= from)
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
