//! Counts that have no labels of traffic. Pure.

use serde::{Deserialize, Serialize};

use super::Family;
use crate::record::Defect;

/// Row types with a label value of their own; others share one.
pub(super) const ROW_TYPES: usize = 8;

/// Counts that have no channel or model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Rows by type 0 to 7; the last one is every other type.
    pub rows: [u64; ROW_TYPES + 1],
    /// Rows that became visible after a higher id had been read.
    pub late_rows: u64,
    /// Rows by [`Defect`].
    pub defects: [u64; Defect::ALL.len()],
    /// Additions to a family's `_other` because of the cap.
    pub overflow: [u64; Family::ALL.len()],
    /// `created_at` of the newest row of a failed attempt; 0 if none was ever read.
    pub last_error_row_at: i64,
    /// Whether a row ever had a stream status.
    pub saw_stream_status: bool,
    /// `created_at` of the newest row.
    pub newest_row_at: i64,
}

impl Totals {
    /// Rows with their `type` label.
    pub fn rows_by_type(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ["0", "1", "2", "3", "4", "5", "6", "7", "other"].into_iter().zip(self.rows)
    }

    /// All rows.
    pub fn all_rows(&self) -> u64 {
        self.rows.iter().sum()
    }
}
