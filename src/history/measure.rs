//! One number of a row, to be summed: what a limit limits.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::fact::RowOutcome;
use super::measures::Effect;

/// Parts that a US dollar is divided into to be summed exactly.
const PARTS_OF_DOLLAR: f64 = 1e12;

/// Most of them that a row adds, far beyond all money: so that no number of rows breaks a sum, whatever a dollar is
/// said to be.
const MOST_PARTS: f64 = 1e27;

/// What is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Input and output tokens.
    Tokens,
    /// All input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
    /// Answered requests.
    Requests,
    /// Failed attempts.
    Errors,
    /// Charged and not given back, in new-api's unit.
    Quota,
    /// The same in US dollars, each row by what a dollar was when it was read.
    CostUsd,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Tokens,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Requests,
        Self::Errors,
        Self::Quota,
        Self::CostUsd,
    ];

    /// As configuration and parameters name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Requests => "requests",
            Self::Errors => "errors",
            Self::Quota => "quota",
            Self::CostUsd => "cost_usd",
        }
    }

    /// What a row adds, by the rules of [`Measures`](super::Measures): whole tokens, rows or quota, and of dollars
    /// the parts of a trillion. So sums do not depend on the order of rows, and what was added can be taken away
    /// again. Rows that give money back add less than nothing. [`Measure::value`] makes a number for people of a sum.
    #[inline]
    pub fn of(self, entry: &Entry<'_>) -> i128 {
        let effect = Effect::of(entry.outcome);
        let answered = effect == Effect::Answer;
        let if_answered = |amount: u64| if answered { i128::from(amount) } else { 0 };
        let quota = match effect {
            Effect::Answer | Effect::Money => i128::from(entry.consumed) - i128::from(entry.refunded),
            _ => 0,
        };
        match self {
            Self::Tokens => if_answered(entry.input_tokens) + if_answered(entry.output_tokens),
            Self::InputTokens => if_answered(entry.input_tokens),
            Self::OutputTokens => if_answered(entry.output_tokens),
            Self::Requests => i128::from(answered),
            Self::Errors => i128::from(entry.outcome == RowOutcome::Error),
            Self::Quota => quota,
            #[expect(clippy::cast_possible_truncation, reason = "clamped")]
            Self::CostUsd => {
                let parts = quota as f64 / entry.quota_per_unit * PARTS_OF_DOLLAR;
                parts.round().clamp(-MOST_PARTS, MOST_PARTS) as i128
            }
        }
    }

    /// A sum of [`Measure::of`] in the unit that the name says.
    pub fn value(self, sum: i128) -> f64 {
        if self == Self::CostUsd { sum as f64 / PARTS_OF_DOLLAR } else { sum as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Fact;

    #[test]
    fn names_are_those_of_the_configuration() {
        for measure in Measure::ALL {
            let name = serde_json::to_string(&measure).unwrap();
            assert_eq!(name, format!("\"{}\"", measure.as_str()));
            assert_eq!(serde_json::from_str::<Measure>(&name).unwrap(), measure);
        }
    }

    #[test]
    fn a_row_adds_what_its_outcome_lets_it_add() {
        let of = |outcome| {
            let fact = Fact {
                outcome,
                input_tokens: 100,
                output_tokens: 20,
                consumed: 3000,
                refunded: 500,
                ..Fact::default()
            };
            Measure::ALL.map(|measure| measure.value(measure.of(&Entry::of(&fact, 500_000.0))))
        };
        let answered = [120.0, 100.0, 20.0, 1.0, 0.0, 2500.0, 0.005];
        assert_eq!(of(RowOutcome::Success), answered);
        assert_eq!(of(RowOutcome::StreamError), answered);
        assert_eq!(of(RowOutcome::ClientGone), answered);
        assert_eq!(of(RowOutcome::Error), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(of(RowOutcome::Settlement), [0.0, 0.0, 0.0, 0.0, 0.0, 2500.0, 0.005]);
        assert_eq!(of(RowOutcome::Refund), [0.0, 0.0, 0.0, 0.0, 0.0, 2500.0, 0.005]);
        assert_eq!(of(RowOutcome::Test), [0.0; 7]);
        assert_eq!(of(RowOutcome::Other), [0.0; 7]);
    }

    #[test]
    fn no_amount_and_no_rate_breaks_a_sum() {
        let fact = Fact { outcome: RowOutcome::Success, consumed: u64::MAX, ..Fact::default() };
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE] {
            let one = Measure::CostUsd.of(&Entry::of(&fact, rate));
            assert!(one > 0 && one.checked_mul(1 << 32).is_some(), "{rate}");
        }
    }
}
