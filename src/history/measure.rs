//! One number of a row, to be summed: what a limit limits.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::fact::RowOutcome;
use super::measures::Effect;

/// Parts of a US dollar that money is summed in. A row is rounded to the nearest one.
const NANODOLLARS: f64 = 1e9;

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

    /// What a row adds, by the rules of [`Measures`](super::Measures): whole tokens, rows or quota, and of dollars whole
    /// billionths. So sums do not depend on the order of rows, and what was added can be taken away again. Rows that
    /// give money back add less than nothing. [`Measure::value`] makes a number for people of a sum.
    #[inline]
    pub fn of(self, entry: &Entry<'_>) -> i64 {
        let effect = Effect::of(entry.outcome);
        let answered = effect == Effect::Answer;
        let if_answered = |amount: u64| if answered { whole(amount) } else { 0 };
        let quota = match effect {
            Effect::Answer | Effect::Money => whole(entry.consumed).saturating_sub(whole(entry.refunded)),
            _ => 0,
        };
        match self {
            Self::Tokens => if_answered(entry.input_tokens.saturating_add(entry.output_tokens)),
            Self::InputTokens => if_answered(entry.input_tokens),
            Self::OutputTokens => if_answered(entry.output_tokens),
            Self::Requests => i64::from(answered),
            Self::Errors => i64::from(entry.outcome == RowOutcome::Error),
            Self::Quota => quota,
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a cast of a float ends at the largest number"
            )]
            Self::CostUsd => (quota as f64 * (NANODOLLARS / entry.quota_per_unit)).round() as i64,
        }
    }

    /// A sum of [`Measure::of`] in the unit that the name says.
    pub fn value(self, sum: i128) -> f64 {
        let sum = sum as f64;
        if self == Self::CostUsd { sum / NANODOLLARS } else { sum }
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
            Measure::ALL.map(|measure| measure.value(measure.of(&Entry::of(&fact, 500_000.0)).into()))
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
            assert!(one > 0, "{rate}");
        }
    }
}
