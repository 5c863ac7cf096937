//! Who a sum comes from.

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::Source;
use super::block::{Column, Columns};
use super::decode::place;
use super::entry::ENTRY;
use super::fact::Selection;
use super::measure::Measure;
use super::measures::{Dimension, Keys, MAX_GROUPS};
use super::scan::Scan;
use crate::record::ChannelId;

/// Triples that are told apart; each takes a few bytes only.
const MAX_TRIPLES: usize = 5 * MAX_GROUPS;

/// A channel, model and user together, and their part of a sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contributor {
    /// The channel, 0 for rows that never reached one.
    pub channel_id: ChannelId,
    /// The model that was asked for.
    pub model: String,
    /// Name of the user.
    pub username: String,
    /// See [`Measure::of`] and [`Measure::value`].
    pub sum: i128,
}

/// The biggest sums of one measure by channel, model and user, biggest first, of equal ones the lower channel and the
/// earlier name first; only sums above 0. Models and users that come up after 20,000 others, and triples after
/// 100,000 others, are left out.
pub fn contributors<S: Source>(
    source: &mut S,
    selection: &Selection,
    measure: Measure,
    limit: usize,
) -> Result<Vec<Contributor>, S::Error> {
    let mut scan = Scan::new(selection);
    let (mut models, mut users) = (Keys::new(Dimension::Model), Keys::new(Dimension::User));
    let mut sums: HashMap<(ChannelId, usize, usize), i128> = HashMap::new();
    for header in source.headers()? {
        if !scan.select(source, &header)? {
            continue;
        }
        scan.load(source, ENTRY.and(Columns::of(&[Column::CallerOf])))?;
        let block = &scan.block;
        let (models, users) = (models.numbers(block), users.numbers(block));
        let [routes, callers] = [Column::RouteOf, Column::CallerOf].map(|column| block.numbers(column));
        for row in scan.rows.iter().map(|row| usize::from(*row)) {
            let entry = block.entry(row);
            let amount = i128::from(measure.of(&entry));
            if amount == 0 {
                continue;
            }
            let triple = (entry.channel_id, models[place(routes[row])], users[place(callers[row])]);
            if let Some(sum) = sums.get_mut(&triple) {
                *sum = sum.saturating_add(amount);
            } else if sums.len() < MAX_TRIPLES && triple.1 != Keys::REST && triple.2 != Keys::REST {
                sums.insert(triple, amount);
            }
        }
    }
    let mut biggest: Vec<_> = sums.into_iter().filter(|(_, sum)| *sum > 0).collect();
    let rank = |((channel_id, model, user), sum): &((ChannelId, usize, usize), i128)| {
        (Reverse(*sum), *channel_id, models.key(*model), users.key(*user))
    };
    biggest.sort_unstable_by(|a, b| rank(a).cmp(&rank(b)));
    biggest.truncate(limit);
    let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
    Ok(biggest
        .into_iter()
        .map(|((channel_id, model, user), sum)| Contributor {
            channel_id,
            model: text(models.key(model)),
            username: text(users.key(user)),
            sum,
        })
        .collect())
}
