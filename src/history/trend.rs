//! Sums over time.

use std::collections::{BTreeMap, HashMap};

use super::Source;
use super::block::{Column, Columns};
use super::decode::place;
use super::fact::Selection;
use super::measures::{Dimension, Effect, Groups, Keys, Lanes, MEASURED, Measures, Sums};
use super::scan::Scan;

/// Groups of all steps that are told apart; those that come up later are summed in the rest of their step.
const MAX_CELLS: usize = 50_000;

/// How time is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Length in seconds, at least 1.
    pub seconds: i64,
    /// A step begins here, and at every multiple of the length from here. Unix seconds.
    pub offset: i64,
}

impl Steps {
    /// The beginning of the step that holds `at`.
    pub fn start(self, at: i64) -> i64 {
        let seconds = self.seconds.max(1);
        at.saturating_sub(at.saturating_sub(self.offset).rem_euclid(seconds))
    }

    /// The beginnings of all steps that overlap a window, also of those without rows.
    pub fn starts(self, from: i64, to: i64) -> impl Iterator<Item = i64> {
        let seconds = self.seconds.max(1);
        std::iter::successors(Some(self.start(from)), move |start| start.checked_add(seconds))
            .take_while(move |start| *start < to)
    }
}

/// Sums of one step.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// All rows together.
    pub totals: Measures,
    /// By the dimension asked for; no percentiles, because there may be many groups in many steps.
    pub groups: Groups,
}

/// Where the rows of one step and group go.
type Cell = (i64, usize);

/// Stands for all groups of a step together.
const TOTAL: usize = usize::MAX;

/// Measures by step and group, and what is summed of the block at hand.
struct Cells {
    keys: Option<Keys>,
    known: HashMap<Cell, usize>,
    measures: Vec<Measures>,
    sums: Vec<Sums>,
    touched: Vec<usize>,
}

impl Cells {
    /// The place of a cell.
    fn place(&mut self, cell: Cell) -> usize {
        let full = self.known.len() >= MAX_CELLS && cell.1 != TOTAL && !self.known.contains_key(&cell);
        let cell = if full { (cell.0, Keys::REST) } else { cell };
        *self.known.entry(cell).or_insert_with(|| {
            self.measures.push(Measures::default());
            self.sums.push(Sums::default());
            self.measures.len() - 1
        })
    }
}

/// Sums the selected rows by steps of time, each by itself and, if asked, by groups. Steps without rows are left
/// out; [`Steps::starts`] lists them all. Whoever calls bounds the number of steps.
pub fn trend<S: Source>(
    source: &mut S,
    selection: &Selection,
    steps: Steps,
    slow_over_ms: u32,
    by: Option<Dimension>,
) -> Result<BTreeMap<i64, Step>, S::Error> {
    let code = by.map(Dimension::column);
    let mut wanted = MEASURED.and(Columns::of(&[Column::CreatedAt]));
    wanted = code.map_or(wanted, |code| wanted.and(Columns::of(&[code])));
    let mut scan = Scan::new(selection);
    let mut cells = Cells {
        keys: by.map(Keys::new),
        known: HashMap::new(),
        measures: Vec::new(),
        sums: Vec::new(),
        touched: Vec::new(),
    };
    for header in source.headers()? {
        if !scan.select(source, &header)? {
            continue;
        }
        scan.load(source, wanted)?;
        let block = &scan.block;
        let groups = cells.keys.as_mut().map(|keys| keys.numbers(block)).unwrap_or_default();
        let lanes = Lanes::new(block, slow_over_ms);
        // Rows come nearly in order of time, so the cells of a row are often those of the row before.
        let mut last = (Cell::default(), (0, 0));
        let mut fresh = true;
        for row in scan.rows.iter().map(|row| usize::from(*row)) {
            let facts = lanes.row(row);
            if facts.effect == Effect::Nothing {
                continue;
            }
            let start = steps.start(block.created_at(row));
            let group = code.map_or(TOTAL, |code| groups[place(block.numbers(code)[row])]);
            if fresh || last.0 != (start, group) {
                last = ((start, group), (cells.place((start, TOTAL)), cells.place((start, group))));
                cells.touched.extend([last.1.0, last.1.1]);
                fresh = false;
            }
            let (total, one) = last.1;
            cells.sums[total].add(&facts);
            if facts.effect == Effect::Answer {
                cells.measures[total].time(lanes.times(row));
            }
            if one != total {
                cells.sums[one].add(&facts);
            }
        }
        cells.settle(block.quota_per_unit);
    }
    Ok(cells.steps())
}

impl Cells {
    /// Takes over what the block at hand summed up to.
    fn settle(&mut self, quota_per_unit: f64) {
        self.touched.sort_unstable();
        self.touched.dedup();
        for at in self.touched.drain(..) {
            self.measures[at].add(&std::mem::take(&mut self.sums[at]), quota_per_unit);
        }
    }

    fn steps(mut self) -> BTreeMap<i64, Step> {
        let mut steps: BTreeMap<i64, Step> = BTreeMap::new();
        for ((start, group), at) in self.known {
            let step = steps.entry(start).or_default();
            let measures = std::mem::take(&mut self.measures[at]);
            match &self.keys {
                Some(keys) if group != TOTAL => {
                    step.groups.insert(keys.group(group), measures);
                }
                _ => step.totals = measures,
            }
        }
        steps
    }
}
