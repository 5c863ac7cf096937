//! Chance from a seed: the same numbers on every run, and the few distributions that traffic needs.
//!
//! The arithmetic stands here rather than in `rand`, whose generators and distributions may change with a version
//! and would change every fixture that was recorded from them.

use std::f64::consts::TAU;

/// A source of chance: xoshiro256++, which unlike a cipher costs next to nothing to seed anew for each second.
#[derive(Debug, Clone)]
pub struct Dice([u64; 4]);

/// Mixes two numbers into one that looks random (the finaliser of SplitMix64).
pub fn mix(seed: u64, salt: u64) -> u64 {
    let mut z = seed ^ salt.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The nearest whole number; what does not fit becomes the limit.
#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is wanted")]
pub fn whole(number: f64) -> i64 {
    number.round() as i64
}

impl Dice {
    /// The dice that belong to a seed and, say, a second.
    pub fn new(seed: u64, salt: i64) -> Self {
        let start = mix(seed, salt.cast_unsigned());
        Self([1, 2, 3, 4].map(|word| mix(start, word)))
    }

    /// Any number.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.0 = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// 0 <= x < 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// 0 <= x < `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let wide = (u128::from(self.bits()) * n as u128) >> 64;
        usize::try_from(wide).unwrap_or(0)
    }

    /// `low` <= x < `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// The index of one of `shares`, each as likely as it is large.
    pub fn weighted(&mut self, shares: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.unit() * shares.clone().sum::<f64>();
        let mut last = 0;
        for (index, share) in shares.enumerate() {
            last = index;
            left -= share;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// Heavy-tailed: half of the numbers lie below `median`, and `sigma` 1 puts one in a hundred above ten times it.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }

    /// How many of many rare events happen when `mean` are expected.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        if mean > 30.0 {
            // Multiplying that many numbers is slow, and the bell curve is as good by then.
            let count = whole(mean + mean.sqrt() * self.normal()).max(0);
            return u32::try_from(count).unwrap_or(u32::MAX);
        }
        let floor = (-mean).exp();
        let mut product = self.unit();
        let mut count = 0;
        while product > floor {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut dice = Dice::new(42, 1_790_000_000);
        assert_eq!(dice.bits(), Dice::new(42, 1_790_000_000).bits());
        assert_ne!(dice.bits(), Dice::new(43, 1_790_000_000).bits());
        assert_ne!(Dice::new(42, 0).bits(), Dice::new(42, 1).bits());
    }

    #[test]
    fn distributions_have_the_mean_they_promise() {
        let mut dice = Dice::new(1, 1);
        for mean in [0.3, 4.0, 80.0] {
            let sum: u32 = (0..4000).map(|_| dice.poisson(mean)).sum();
            let measured = f64::from(sum) / 4000.0;
            assert!((measured / mean - 1.0).abs() < 0.1, "{measured} for {mean}");
        }
        let below = (0..4000).filter(|_| dice.lognormal(500.0, 1.0) < 500.0).count();
        assert!((1850..2150).contains(&below), "{below}");
        let second = (0..4000).filter(|_| dice.weighted([1.0, 3.0].into_iter()) == 1).count();
        assert!((2900..3100).contains(&second), "{second}");
    }
}
