//! What goes wrong now and then: a slow provider, a burst of errors, a channel that burns money.
//!
//! When and where follows from the seed and the time alone; besides, an episode can be started by hand. What an
//! episode does to requests is decided in [`super::request`].

use super::dice::mix;
use super::world::{self, CHANNELS};

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Episode {
    /// A channel answers [`SLOWDOWN`] times slower.
    Slow,
    /// Most attempts on a channel fail.
    Errors,
    /// An administrator's job hammers one channel with expensive requests. It names the channel, so switching
    /// the channel off ends the burning.
    Burn,
}

/// Factor on latency in [`Episode::Slow`].
pub const SLOWDOWN: f64 = 8.0;
/// Share of attempts that fail in [`Episode::Errors`].
pub const FAILING: f64 = 0.85;
/// Factor on a model's ordinary rate of requests in [`Episode::Burn`].
pub const BURN_FACTOR: f64 = 50.0;

/// Seconds between episodes while live.
const LIVE_PERIOD: i64 = 600;
/// Seconds between episodes in the history, rare enough not to hide what an ordinary day costs.
const PAST_PERIOD: i64 = 3 * 3600;
/// Seconds from the first live second to the first episode.
const FIRST_AFTER: i64 = 120;

impl Episode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Slow, Self::Errors, Self::Burn];

    /// As it stands in the URL that starts one, and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Errors => "errors",
            Self::Burn => "burn",
        }
    }

    /// The opposite of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// How long one lasts, in seconds.
    pub fn lasts(self) -> i64 {
        match self {
            Self::Slow | Self::Burn => 180,
            Self::Errors => 120,
        }
    }

    /// Where it may happen: ids of channels, and for [`Episode::Burn`] the model.
    fn places(self) -> &'static [(i64, &'static str)] {
        match self {
            Self::Slow => &[(1, ""), (4, ""), (6, ""), (8, "")],
            Self::Errors => &[(1, ""), (2, ""), (4, ""), (5, ""), (8, "")],
            // Models so rare that fifty times their share does not drown the rest.
            Self::Burn => &[(4, "claude-opus-4-1"), (1, "o3"), (5, "claude-opus-4-1")],
        }
    }
}

/// One episode, at its place and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spell {
    /// What.
    pub kind: Episode,
    /// Index into [`CHANNELS`].
    pub channel: usize,
    /// Index into the models, of meaning for [`Episode::Burn`] only.
    pub model: usize,
    /// First second.
    pub from: i64,
    /// The second after the last.
    pub until: i64,
}

impl Spell {
    fn new(kind: Episode, draw: u64, from: i64) -> Self {
        let places = kind.places();
        let place = usize::try_from(draw % places.len() as u64).unwrap_or(0);
        let (id, name) = places[place];
        Self {
            kind,
            channel: world::channel(id).unwrap_or(0),
            model: world::model(name).unwrap_or(0),
            from,
            until: from + kind.lasts(),
        }
    }

    /// Id of the channel.
    pub fn channel_id(&self) -> i64 {
        CHANNELS[self.channel].id
    }

    fn covers(&self, second: i64) -> bool {
        (self.from..self.until).contains(&second)
    }
}

/// The schedule.
#[derive(Debug, Clone)]
pub struct Episodes {
    seed: u64,
    live_from: i64,
    by_hand: Vec<Spell>,
}

impl Episodes {
    /// Rare ones before `live_from` (unix seconds), frequent ones after it, the first two minutes after it.
    pub fn new(seed: u64, live_from: i64) -> Self {
        Self { seed, live_from, by_hand: Vec::new() }
    }

    /// Starts one at `now`, at the first of its places. Says what it started.
    pub fn start(&mut self, kind: Episode, now: i64) -> Spell {
        self.by_hand.retain(|spell| spell.until > now);
        let spell = Spell::new(kind, 0, now);
        self.by_hand.push(spell);
        spell
    }

    /// What is going on in this second, scheduled or by hand.
    pub fn at(&self, second: i64) -> impl Iterator<Item = Spell> + '_ {
        let by_hand = self.by_hand.iter().copied();
        by_hand.chain(self.scheduled(second)).filter(move |spell| spell.covers(second))
    }

    /// The episode of the period that `second` lies in.
    fn scheduled(&self, second: i64) -> Option<Spell> {
        let since = second - self.live_from;
        let (period, slot, begin) = if since >= 0 {
            let slot = since / LIVE_PERIOD;
            (LIVE_PERIOD, slot, self.live_from + slot * LIVE_PERIOD)
        } else {
            let slot = second.div_euclid(PAST_PERIOD);
            (PAST_PERIOD, slot, slot * PAST_PERIOD)
        };
        let draw = mix(self.seed, slot.cast_unsigned().wrapping_add(period.cast_unsigned() << 40));
        let spread = (draw >> 32).cast_signed() % (period - FIRST_AFTER - 200).max(1);
        let offset = if since >= 0 && slot == 0 { FIRST_AFTER } else { FIRST_AFTER / 2 + spread };
        // In turn rather than by chance, so that half an hour shows all of them.
        let kinds = Episode::ALL.len() as u64;
        let turn = (slot.cast_unsigned() % kinds + self.seed % kinds) % kinds;
        let kind = Episode::ALL[usize::try_from(turn).unwrap_or(0)];
        let spell = Spell::new(kind, draw, begin + offset);
        // An episode of the past must not reach into the present, where it would be cut to a stump.
        (since >= 0 || spell.until <= self.live_from).then_some(spell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn spells(episodes: &Episodes, from: i64, to: i64) -> Vec<Spell> {
        let mut found: Vec<Spell> = (from..to).flat_map(|second| episodes.at(second)).collect();
        found.dedup();
        found
    }

    #[test]
    fn a_newcomer_sees_the_first_after_two_minutes_and_all_within_half_an_hour() {
        for seed in [0, 1, 42, u64::MAX] {
            let found = spells(&Episodes::new(seed, NOW), NOW, NOW + 1800);
            assert_eq!(found[0].from, NOW + 120);
            assert_eq!(found.len(), 3);
            for kind in Episode::ALL {
                let spell = found.iter().find(|spell| spell.kind == kind).unwrap();
                assert_eq!(spell.until - spell.from, kind.lasts(), "whole");
            }
        }
    }

    #[test]
    fn the_past_has_few_and_depends_on_the_seed() {
        let past = |seed| spells(&Episodes::new(seed, NOW), NOW - 3 * 86_400, NOW);
        assert!((20..=25).contains(&past(42).len()), "{}", past(42).len());
        assert_eq!(past(42), past(42));
        assert_ne!(past(42), past(43));
    }

    #[test]
    fn one_started_by_hand_comes_at_once_and_ends() {
        let mut episodes = Episodes::new(42, NOW);
        let spell = episodes.start(Episode::Burn, NOW + 7);
        assert_eq!(spell.channel_id(), 4);
        assert!(episodes.at(NOW + 7).any(|found| found == spell));
        assert!(!episodes.at(NOW + 6).any(|found| found == spell));
        assert!(!episodes.at(NOW + 7 + 180).any(|found| found == spell));
    }
}
