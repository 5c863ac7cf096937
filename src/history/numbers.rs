//! A column of whole numbers: each as its distance from the smallest, in the fewest bytes that hold the largest.
//! Decoding is one addition a value.

/// Bytes before the values: width, scale, smallest value.
const HEAD: usize = 10;

/// Values that are all multiples of it are stored without it: most durations are whole seconds.
const SCALE: u64 = 1000;

/// Maps signed numbers to unsigned ones in the same order.
pub(super) fn ordered(number: i64) -> u64 {
    number.cast_unsigned() ^ (1 << 63)
}

/// Back from [`ordered`].
pub(super) fn signed(number: u64) -> i64 {
    (number ^ (1 << 63)).cast_signed()
}

/// Packs `values`.
pub(super) fn encode(values: &[u64]) -> Vec<u8> {
    let (mut least, mut most) = (u64::MAX, 0);
    for value in values {
        least = least.min(*value);
        most = most.max(*value);
    }
    let least = least.min(most);
    // Small numbers gain nothing, and dividing every column would cost more than it saves.
    let scaled = most >= SCALE && values.iter().all(|value| value.is_multiple_of(SCALE));
    let scale = if scaled { SCALE } else { 1 };
    let span = (most - least) / scale;
    let width = match span {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xff_ffff => 3,
        0x100_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    let mut bytes = Vec::with_capacity(HEAD + usize::from(width) * values.len());
    bytes.extend([width, u8::from(scaled)]);
    bytes.extend(least.to_le_bytes());
    let distances = values.iter().map(|value| if scaled { (value - least) / SCALE } else { value - least });
    match width {
        0 => {}
        1 => bytes.extend(distances.map(|distance| distance.to_le_bytes()[0])),
        2 => append::<2>(&mut bytes, distances),
        3 => append::<3>(&mut bytes, distances),
        4 => append::<4>(&mut bytes, distances),
        _ => append::<8>(&mut bytes, distances),
    }
    bytes
}

fn append<const WIDTH: usize>(bytes: &mut Vec<u8>, distances: impl ExactSizeIterator<Item = u64>) {
    let start = bytes.len();
    bytes.resize(start + WIDTH * distances.len(), 0);
    for (place, distance) in bytes[start..].as_chunks_mut::<WIDTH>().0.iter_mut().zip(distances) {
        place.copy_from_slice(&distance.to_le_bytes()[..WIDTH]);
    }
}

/// A packed column, its length checked.
#[derive(Debug, Clone, Copy)]
struct Packed<'a> {
    least: u64,
    scaled: bool,
    width: u8,
    data: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Says what is wrong if `bytes` is not what [`encode`] makes of so many values.
    fn of(bytes: &'a [u8], rows: usize) -> Result<Self, &'static str> {
        let Some((head, data)) = bytes.split_first_chunk::<HEAD>() else {
            return Err("a column is cut short");
        };
        let [width, scaled, least @ ..] = *head;
        if !matches!(width, 0..=4 | 8) {
            return Err("a column has an unknown width");
        }
        if data.len() != rows * usize::from(width) {
            return Err("a column has the wrong length");
        }
        if scaled > 1 {
            return Err("a column has an unknown scale");
        }
        Ok(Self { least: u64::from_le_bytes(least), scaled: scaled == 1, width, data })
    }

    // A damaged column may overflow: then its values are nonsense, which is all that can be said of them.

    fn plain(self, distance: u64) -> u64 {
        self.least.wrapping_add(distance)
    }

    fn times(self, distance: u64) -> u64 {
        self.least.wrapping_add(distance.wrapping_mul(SCALE))
    }

    /// The value at `row`, which there must be.
    fn at(self, row: usize) -> u64 {
        let width = usize::from(self.width);
        let mut distance = [0; 8];
        distance[..width].copy_from_slice(&self.data[row * width..][..width]);
        let distance = u64::from_le_bytes(distance);
        if self.scaled { self.times(distance) } else { self.plain(distance) }
    }
}

/// Unpacks `rows` values into `out`; says what is wrong if `bytes` is not what [`encode`] makes of so many.
/// Nothing is allocated before the length is checked, but for a constant column, which is why callers bound `rows`.
pub(super) fn decode(bytes: &[u8], rows: usize, out: &mut Vec<u64>) -> Result<(), &'static str> {
    out.clear();
    let column = Packed::of(bytes, rows)?;
    if column.scaled {
        spread(column.data, column.width, rows, out, |distance| column.times(distance));
    } else {
        spread(column.data, column.width, rows, out, |distance| column.plain(distance));
    }
    Ok(())
}

/// The same for some of the `rows` values only: those at `places`, which are below `rows`.
pub(super) fn decode_some(
    bytes: &[u8],
    rows: usize,
    places: &[u16],
    out: &mut Vec<u64>,
) -> Result<(), &'static str> {
    out.clear();
    let column = Packed::of(bytes, rows)?;
    out.extend(places.iter().map(|place| column.at(usize::from(*place))));
    Ok(())
}

/// Unpacks `rows` values from the front of `bytes`, and takes them off.
pub(super) fn decode_front(bytes: &mut &[u8], rows: usize, out: &mut Vec<u64>) -> Result<(), &'static str> {
    let width = bytes.first().map_or(0, |width| usize::from(*width));
    let (column, rest) = bytes.split_at_checked(HEAD + rows * width).ok_or("a column is cut short")?;
    *bytes = rest;
    decode(column, rows, out)
}

fn spread(data: &[u8], width: u8, rows: usize, out: &mut Vec<u64>, value: impl Fn(u64) -> u64) {
    match width {
        0 => out.resize(rows, value(0)),
        1 => out.extend(data.iter().map(|byte| value(u64::from(*byte)))),
        2 => out.extend(data.as_chunks().0.iter().map(|pair| value(u64::from(u16::from_le_bytes(*pair))))),
        3 => out.extend(
            data.as_chunks().0.iter().map(|[a, b, c]| value(u64::from(u32::from_le_bytes([*a, *b, *c, 0])))),
        ),
        4 => out.extend(data.as_chunks().0.iter().map(|four| value(u64::from(u32::from_le_bytes(*four))))),
        _ => out.extend(data.as_chunks().0.iter().map(|eight| value(u64::from_le_bytes(*eight)))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[u64]) -> Vec<u64> {
        let mut out = Vec::new();
        decode(&encode(values), values.len(), &mut out).unwrap();
        out
    }

    #[test]
    fn a_column_takes_the_fewest_bytes_that_hold_it() {
        for (values, bytes) in [
            (vec![7; 100], 10),
            ((1_000_000..1_000_100).collect(), 110),
            ((0..100).map(|second| second * 1000).collect(), 110),
            (vec![u64::MAX - 70_000, u64::MAX], 16),
            (vec![0, u64::MAX], 26),
            (vec![], 10),
        ] {
            assert_eq!(encode(&values).len(), bytes, "{values:?}");
            assert_eq!(round_trip(&values), values);
        }
    }

    #[test]
    fn signed_numbers_keep_their_order() {
        let numbers = [i64::MIN, -5, -1, 0, 1, i64::MAX];
        assert!(numbers.map(ordered).is_sorted());
        assert_eq!(numbers.map(|number| signed(ordered(number))), numbers);
    }

    proptest! {
        #[test]
        fn every_column_comes_back(shift in 0u32..64, scale in prop::sample::select(vec![1u64, 1000]),
                                   seed in prop::collection::vec(any::<u64>(), 0..50)) {
            let values: Vec<u64> = seed.iter().map(|value| (value >> shift) / scale * scale).collect();
            prop_assert_eq!(&round_trip(&values), &values);
            // Every third one, by itself.
            let places: Vec<u16> = (0..50).step_by(3).filter(|place| usize::from(*place) < values.len()).collect();
            let mut some = Vec::new();
            decode_some(&encode(&values), values.len(), &places, &mut some).unwrap();
            prop_assert_eq!(some, values.iter().copied().step_by(3).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), rows in 0usize..20) {
            let mut out = Vec::new();
            if decode(&bytes, rows, &mut out).is_ok() {
                prop_assert_eq!(out.len(), rows);
            }
        }
    }
}
