//! What a US dollar was when single rows were read.

use std::collections::{BTreeMap, BTreeSet};

use super::Source;
use super::block::{Column, Columns};
use super::decode::Decoded;

/// new-api's quota for one US dollar by id and `created_at` of the rows with these ids, as far as it was another
/// than `usual` when they were read. While it never changed, nothing but the headers is looked at.
pub fn rates<S: Source>(
    source: &mut S,
    ids: &BTreeSet<i64>,
    usual: f64,
) -> Result<BTreeMap<(i64, i64), f64>, S::Error> {
    let (mut block, mut rates) = (Decoded::default(), BTreeMap::new());
    for header in source.headers()? {
        let within = ids.range(header.min_id..=header.max_id.max(header.min_id)).next().is_some();
        if header.quota_per_unit == usual || !within {
            continue;
        }
        block.open(&header)?;
        block.load(source, Columns::of(&[Column::Id, Column::CreatedAt]))?;
        for row in 0..header.rows as usize {
            if ids.contains(&block.id(row)) {
                rates.insert((block.id(row), block.created_at(row)), header.quota_per_unit);
            }
        }
    }
    Ok(rates)
}
