//! What is measured of a group of rows, and how it compares with the window before.

use serde::Serialize;
use utoipa::ToSchema;

/// One measure as a number to compare; None where there is none.
trait Measure {
    fn number(self) -> Option<f64>;
}

impl Measure for u64 {
    fn number(self) -> Option<f64> {
        Some(self as f64)
    }
}

impl Measure for f64 {
    fn number(self) -> Option<f64> {
        Some(self)
    }
}

impl Measure for Option<f64> {
    fn number(self) -> Option<f64> {
        self
    }
}

/// `new / old - 1`; None if there is nothing to compare with.
fn change(new: impl Measure, old: impl Measure) -> Option<f64> {
    let (new, old) = (new.number()?, old.number()?);
    (old != 0.0).then(|| new / old - 1.0)
}

/// Makes a struct of measures and the struct of their changes, so that both always have the same fields.
macro_rules! measures {
    (
        $(#[$about:meta])* $name:ident,
        $(#[$change_about:meta])* $change:ident,
        $($(#[doc = $doc:literal])+ $field:ident: $kind:ty,)+
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
        pub struct $name {
            $($(#[doc = $doc])+ #[schema(required = true)] pub $field: $kind,)+
        }

        $(#[$change_about])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
        pub struct $change {
            $(
                $(#[doc = $doc])+
                /// As a ratio: new / old - 1.
                #[schema(required = true)]
                pub $field: Option<f64>,
            )+
        }

        impl $name {
            /// How much each differs from what it was `before`.
            pub fn change_since(&self, before: &Self) -> $change {
                $change { $($field: change(self.$field, before.$field),)+ }
            }
        }
    };
}

measures! {
    /// Measures of a group of rows. Times are of answered requests; a value that no row gives is null. So are percentiles
    /// by user and those of a trend that is told apart, of which only sums are kept.
    Measures,
    /// Changes of measures against the window before, as ratios; null where there was nothing.
    MeasuresChange,
    /// Answered requests.
    requests: u64,
    /// Failed attempts on channels.
    errors: u64,
    /// errors / (requests + errors).
    error_share: Option<f64>,
    /// Input tokens, cached ones included.
    input_tokens: u64,
    /// Output tokens.
    output_tokens: u64,
    /// Input tokens read from a provider's cache.
    cache_read_tokens: u64,
    /// Tokens written to a provider's cache.
    cache_write_tokens: u64,
    /// Input and output tokens.
    tokens: u64,
    /// Charged, in new-api's unit.
    quota: u64,
    /// Given back, in new-api's unit.
    quota_refunded: u64,
    /// Charged, in US dollars.
    cost_usd: f64,
    /// Given back, in US dollars.
    cost_refunded_usd: f64,
    /// Average duration, seconds.
    duration_average_seconds: Option<f64>,
    /// Duration that half of the requests did not exceed, seconds.
    duration_p50_seconds: Option<f64>,
    /// Duration that 95 % of the requests did not exceed, seconds.
    duration_p95_seconds: Option<f64>,
    /// Duration that 99 % of the requests did not exceed, seconds.
    duration_p99_seconds: Option<f64>,
    /// Average time to the first token of streamed requests, seconds.
    time_to_first_token_average_seconds: Option<f64>,
    /// Time to the first token that half of the streamed requests did not exceed, seconds.
    time_to_first_token_p50_seconds: Option<f64>,
    /// Time to the first token that 95 % of the streamed requests did not exceed, seconds.
    time_to_first_token_p95_seconds: Option<f64>,
    /// Time to the first token that 99 % of the streamed requests did not exceed, seconds.
    time_to_first_token_p99_seconds: Option<f64>,
    /// Requests over SLOW_REQUEST_THRESHOLD.
    slow_requests: u64,
    /// slow_requests / requests.
    slow_share: Option<f64>,
}

measures! {
    /// How many there are of what had traffic.
    Active,
    /// Changes of that against the window before, as ratios; null where there was nothing.
    ActiveChange,
    /// Models with at least one request.
    active_models: u64,
    /// Channels with at least one request.
    active_channels: u64,
}

impl Measures {
    /// Plausible numbers for examples; `scale` makes groups differ.
    pub fn example(scale: u64) -> Self {
        let (requests, errors) = (900 * scale, 18 * scale);
        let (input_tokens, output_tokens) = (1_350_000 * scale, 270_000 * scale);
        Self {
            requests,
            errors,
            error_share: Some(0.0196),
            input_tokens,
            output_tokens,
            cache_read_tokens: 400_000 * scale,
            cache_write_tokens: 20_000 * scale,
            tokens: input_tokens + output_tokens,
            quota: 2_150_000 * scale,
            quota_refunded: 5_000 * scale,
            cost_usd: 4.3 * scale as f64,
            cost_refunded_usd: 0.01 * scale as f64,
            duration_average_seconds: Some(6.2),
            duration_p50_seconds: Some(4.0),
            duration_p95_seconds: Some(19.0),
            duration_p99_seconds: Some(41.0),
            time_to_first_token_average_seconds: Some(0.9),
            time_to_first_token_p50_seconds: Some(0.7),
            time_to_first_token_p95_seconds: Some(2.4),
            time_to_first_token_p99_seconds: Some(5.1),
            slow_requests: 310 * scale,
            slow_share: Some(0.344),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_ratio_and_nothing_where_there_was_nothing() {
        let before = Measures {
            requests: 100,
            cost_usd: 2.0,
            duration_p95_seconds: Some(10.0),
            ..Measures::default()
        };
        let now = Measures {
            requests: 150,
            errors: 5,
            cost_usd: 1.0,
            duration_p95_seconds: None,
            ..before.clone()
        };
        let change = now.change_since(&before);
        assert_eq!(change.requests, Some(0.5));
        assert_eq!(change.cost_usd, Some(-0.5));
        assert_eq!((change.errors, change.duration_p95_seconds, change.slow_share), (None, None, None));
    }

    #[test]
    fn changes_have_the_keys_of_what_they_compare() {
        let keys = |value: serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let (measures, change) =
            (Measures::example(1), Measures::default().change_since(&Measures::default()));
        assert_eq!(
            keys(serde_json::to_value(measures).unwrap()),
            keys(serde_json::to_value(change).unwrap())
        );
    }
}
