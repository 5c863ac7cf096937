//! Money in US dollars: what was charged, and what the recorded factors make of it.

use serde::Serialize;
use utoipa::ToSchema;

use super::Context;
use super::entry::Reading;
use super::fields::Fields;
use super::price::{Price, recompute};
use crate::newapi::Entry;
use crate::record::Class;

/// What a row cost.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Cost {
    /// As charged, in new-api's own unit. On a refund, what was given back.
    pub quota: i64,
    /// The same in US dollars.
    pub cost_usd: f64,
    /// What it is made of. Sums to `recomputed_usd`, or to `cost_usd` where that is null.
    pub parts: Vec<CostPart>,
    /// US dollars by the recorded factors; null if they do not tell, see `note`.
    pub recomputed_usd: Option<f64>,
    /// `cost_usd` minus `recomputed_usd`, in US dollars.
    pub difference_usd: Option<f64>,
    /// Why it cannot be recomputed, or what explains a difference.
    pub note: Option<String>,
}

/// One part of it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CostPart {
    /// A kind of tokens (`fresh_input`, `cache_read`, `cache_write`, `image_input`, `audio_input`, `output`,
    /// `audio_output`), `fixed_price`, a tool (`web_search`, `file_search`, `image_generation`, `tool_…`), `rounding` or
    /// `minimum_charge`. Where nothing can be recomputed `charged`, `settlement` or `refund`.
    pub kind: String,
    /// US dollars; rounding may be negative.
    pub cost_usd: f64,
}

impl Cost {
    pub(super) fn new(entry: &Entry, reading: &Reading, fields: &Fields<'_>, context: &Context<'_>) -> Self {
        let cost_usd = context.usd(entry.quota as f64);
        match recompute(entry, reading, fields, context.quota_per_unit) {
            Ok(price) => Self::recomputed(entry, price, cost_usd, context),
            Err(why) => {
                let kind = match reading.class {
                    Class::Refund { .. } => "refund",
                    Class::Settlement { .. } => "settlement",
                    _ => "charged",
                };
                let part = CostPart { kind: kind.to_owned(), cost_usd };
                let parts = if cost_usd == 0.0 { Vec::new() } else { vec![part] };
                let note = Some(why);
                Self { quota: entry.quota, cost_usd, parts, recomputed_usd: None, difference_usd: None, note }
            }
        }
    }

    fn recomputed(entry: &Entry, price: Price, cost_usd: f64, context: &Context<'_>) -> Self {
        let recomputed_usd = context.usd(price.quota);
        let parts = price.parts.into_iter();
        let parts =
            parts.map(|(kind, amount)| CostPart { kind, cost_usd: tidy(context.usd(amount)) }).collect();
        Self {
            quota: entry.quota,
            cost_usd,
            parts,
            recomputed_usd: Some(recomputed_usd),
            difference_usd: Some(if entry.quota as f64 == price.quota {
                0.0
            } else {
                tidy(cost_usd - recomputed_usd)
            }),
            note: price.note,
        }
    }
}

/// Without the last digits, which are a float's and not the price's: a millionth of a millionth of a dollar is below
/// anything that is charged.
fn tidy(usd: f64) -> f64 {
    const DIGITS: f64 = 1e12;
    if usd.abs() < 1000.0 { (usd * DIGITS).round() / DIGITS } else { usd }
}
