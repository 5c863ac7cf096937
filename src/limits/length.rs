//! Lengths of time as people write them: `90s`, `1h`, `7d`, `1h30m`.

use std::fmt::Write;
use std::time::Duration;

/// Units, each with the spellings that are understood; the first is the one that is shown.
const UNITS: &[(i64, &[&str])] = &[
    (1, &["s", "sec", "secs", "second", "seconds"]),
    (60, &["m", "min", "mins", "minute", "minutes"]),
    (3600, &["h", "hr", "hrs", "hour", "hours"]),
    (86_400, &["d", "day", "days"]),
    (7 * 86_400, &["w", "week", "weeks"]),
];

/// A length of time in whole seconds, and how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Length {
    seconds: i64,
    text: String,
}

impl Length {
    /// The length that `text` says: numbers with units, as in `1h30m` or `90 minutes`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        let mut length = Self { seconds: 0, text: String::new() };
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let (number, after) = (rest[..digits].parse::<i64>().ok()?, rest[digits..].trim_start());
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (seconds, spellings) =
                UNITS.iter().find(|(_, spellings)| spellings.contains(&&after[..letters]))?;
            length.seconds = length.seconds.checked_add(number.checked_mul(*seconds)?)?;
            write!(length.text, "{number}{}", spellings[0]).ok()?;
            rest = after[letters..].trim_start();
        }
        Some(length)
    }

    /// In seconds.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }

    /// The same as a duration.
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds.unsigned_abs())
    }

    /// As it was written, with short units and no spaces. The label value.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A length in the largest unit that it is a whole number of, as `31d`.
pub(super) fn short(seconds: u64) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds.is_multiple_of(*size)).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_they_are_written_and_shown_short() {
        let cases = [
            ("1h", 3600, "1h"),
            ("24h", 86_400, "24h"),
            ("1d", 86_400, "1d"),
            ("7d", 7 * 86_400, "7d"),
            (" 1 h 30 min ", 5400, "1h30m"),
            ("90minutes", 5400, "90m"),
            ("007d", 7 * 86_400, "7d"),
            ("2w", 14 * 86_400, "2w"),
            ("0s", 0, "0s"),
        ];
        for (text, seconds, shown) in cases {
            let length = Length::parse(text).expect(text);
            assert_eq!((length.seconds(), length.as_str()), (seconds, shown));
        }
        let refused =
            ["", " ", "h", "1", "1h30", "-1h", "1.5h", "1 month", "1M", "1h,2m", "99999999999999999999s"];
        for text in refused.into_iter().chain(["9223372036854775807w", "1h ５m"]) {
            assert_eq!(Length::parse(text), None, "{text}");
        }
    }

    #[test]
    fn seconds_are_shown_in_whole_units() {
        assert_eq!(
            [86_400 * 31, 3600 * 36, 90, 60, 0].map(short),
            ["31d", "36h", "90s", "1m", "0d"].map(str::to_owned)
        );
    }
}
