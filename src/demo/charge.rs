//! What a request costs: new-api's formula, from the factors that stand in the row's `other`.

use super::dice::whole;
use super::world::{Model, QUOTA_PER_USD};

/// Anthropic's price of writing to its cache, relative to a fresh token.
pub const CACHE_WRITE_RATIO: f64 = 1.25;

/// Tokens of one answer, as a row holds them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `prompt_tokens`: with `cached` for OpenAI's way of counting, without for Anthropic's.
    pub prompt: i64,
    /// Output.
    pub completion: i64,
    /// Read from the provider's cache.
    pub cached: i64,
    /// Written to it; Anthropic only.
    pub written: i64,
    /// Anthropic's way of counting.
    pub anthropic: bool,
}

impl Usage {
    /// Prompt tokens that were neither read from nor written to a cache.
    pub fn fresh(&self) -> i64 {
        if self.anthropic { self.prompt } else { self.prompt - self.cached }
    }

    /// Quota for these tokens, at least 1 unless there are none.
    pub fn quota(&self, model: &Model, group_ratio: f64) -> i64 {
        if self.prompt + self.completion + self.cached + self.written == 0 {
            return 0;
        }
        let tokens = self.fresh() as f64
            + self.cached as f64 * model.cache_ratio
            + self.written as f64 * CACHE_WRITE_RATIO
            + self.completion as f64 * model.completion_ratio;
        whole(tokens * model.ratio * group_ratio).max(1)
    }
}

/// Quota of one call at a fixed price.
pub fn fixed(model: &Model, group_ratio: f64) -> i64 {
    whole(model.price * QUOTA_PER_USD * group_ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::world::{self, MODELS};

    fn model(name: &str) -> &'static Model {
        &MODELS[world::model(name).unwrap()]
    }

    #[test]
    fn quota_is_what_real_servers_charged() {
        let usage = Usage { prompt: 1000, completion: 40, ..Usage::default() };
        assert_eq!(usage.quota(model("gpt-4o-mini"), 1.0), 87);
        assert_eq!(usage.quota(model("gpt-4o"), 1.0), 1450);
        let claude = Usage { anthropic: true, ..usage };
        assert_eq!(claude.quota(model("claude-sonnet-4-5"), 1.0), 1800);
    }

    #[test]
    fn cached_tokens_are_part_of_the_prompt_only_for_openai() {
        let usage = Usage { prompt: 1000, cached: 800, ..Usage::default() };
        assert_eq!(usage.quota(model("gpt-4o"), 1.0), 750);
        let claude = Usage { anthropic: true, written: 400, ..usage };
        assert_eq!(claude.quota(model("claude-sonnet-4-5"), 1.0), 2370);
    }

    #[test]
    fn the_least_charge_is_one_and_nothing_costs_nothing() {
        let one = Usage { prompt: 3, ..Usage::default() };
        assert_eq!(one.quota(model("text-embedding-3-small"), 0.8), 1);
        assert_eq!(Usage::default().quota(model("gpt-4o"), 1.0), 0);
        assert_eq!(fixed(model("sora-2"), 0.8), 320_000);
    }
}
