//! Amounts, times and lengths of time as people read them.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::words::{Phrase, Words};

/// A whole number with separators: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Two amounts of a measure with as many places as both need to be told apart from nothing, without the unit. Dollars have
/// cents, and if less than one is allowed hundredths of them; all else is whole.
pub(super) fn amount(measure: &str, amount: f64, max: f64) -> String {
    if !amount.is_finite() {
        return "?".to_owned();
    }
    let places: u32 = if measure != "cost_usd" {
        0
    } else if max.abs() < 1.0 {
        4
    } else {
        2
    };
    let sign = if amount < 0.0 { "-" } else { "" };
    // Down: what is not yet used up must not look as if it were.
    let scaled = amount.abs() * 10_f64.powi(i32::try_from(places).unwrap_or(0));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "above 0, and a cast of a float ends at the largest number"
    )]
    // Binary fractions end a little below what they stand for.
    let units = (scaled * (1.0 + 1e-12) + 1e-9).floor() as u64;
    let one = 10_u64.pow(places);
    if places == 0 {
        return format!("{sign}{}", grouped(units));
    }
    let width = usize::try_from(places).unwrap_or(0);
    format!("{sign}{}.{:0width$}", grouped(units / one), units % one)
}

/// A part of a whole in percent, with one place, rounded down: 99.96 % is not yet 100. None if there is no whole.
pub(super) fn percent(part: f64, whole: f64) -> Option<String> {
    let share = part / whole;
    if whole <= 0.0 || !share.is_finite() {
        return None;
    }
    Some(format!("{:.1}", (share * 1000.0 * (1.0 + 1e-12)).floor() / 10.0))
}

/// A time where the reader is, with what it differs from UTC: `2026-11-23 21:58 +08:00`.
pub(super) fn time(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M %:z").to_string()
}

/// A length of time in its two largest units: `2 h 5 min`. Less than nothing is nothing.
pub(super) fn length(seconds: i64, words: Words) -> String {
    let seconds = seconds.max(0);
    let parts = [
        (seconds / 86_400, Phrase::Days),
        (seconds / 3600 % 24, Phrase::Hours),
        (seconds / 60 % 60, Phrase::Minutes),
        (seconds % 60, Phrase::Seconds),
    ];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let mut said = String::new();
    // Who reads minutes needs no seconds.
    let last = if first >= 2 { first } else { first + 1 };
    for (number, unit) in &parts[first..=last] {
        if *number > 0 || said.is_empty() {
            let space = if said.is_empty() { "" } else { " " };
            let _ = write!(said, "{space}{number} {}", words.of(*unit));
        }
    }
    said
}

/// A length of time as `limits.yml` has it, such as `1h30m`, with the words of a language; None if it is none.
pub(super) fn spelled(length: &str, words: Words) -> Option<String> {
    let (mut rest, mut parts) = (length, Vec::new());
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let number: u64 = number.parse().ok()?;
        let (unit, after) = after.split_at_checked(1)?;
        let (number, unit) = match unit {
            "s" => (number, Phrase::Seconds),
            "m" => (number, Phrase::Minutes),
            "h" => (number, Phrase::Hours),
            "d" => (number, Phrase::Days),
            "w" => (number.checked_mul(7)?, Phrase::Days),
            _ => return None,
        };
        parts.push(format!("{number} {}", words.of(unit)));
        rest = after;
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// Seconds from one time to another.
pub(super) fn between(from: Timestamp, to: Timestamp) -> i64 {
    to.as_second().saturating_sub(from.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Language;

    #[test]
    fn amounts_have_the_places_that_their_measure_needs() {
        let cases = [
            ("cost_usd", 52.314, 50.0, "52.31"),
            ("cost_usd", 1_234_567.891, 50.0, "1,234,567.89"),
            ("cost_usd", 49.999, 50.0, "49.99"),
            ("cost_usd", 0.29, 50.0, "0.29"),
            ("cost_usd", 0.001_25, 0.01, "0.0012"),
            ("cost_usd", -3.5, 50.0, "-3.50"),
            ("tokens", 1_234_567.0, 1e6, "1,234,567"),
            ("requests", 999.0, 1e3, "999"),
            ("tokens", 0.0, 1e6, "0"),
            ("tokens", f64::NAN, 1e6, "?"),
            ("tokens", f64::INFINITY, 1e6, "?"),
            ("tokens", f64::MAX, 1e6, "18,446,744,073,709,551,615"),
        ];
        for (measure, number, max, shown) in cases {
            assert_eq!(amount(measure, number, max), shown);
        }
    }

    #[test]
    fn almost_everything_is_not_everything() {
        assert_eq!(percent(49.999, 50.0).as_deref(), Some("99.9"));
        assert_eq!(percent(52.31, 50.0).as_deref(), Some("104.6"));
        assert_eq!(percent(0.3, 1.0).as_deref(), Some("30.0"));
        assert_eq!(percent(1.0, 0.0), None);
        assert_eq!(percent(f64::NAN, 1.0), None);
    }

    #[test]
    fn lengths_have_two_units_at_most() {
        let both =
            |seconds| [Language::En, Language::ZhCn].map(|language| length(seconds, Words::new(language)));
        assert_eq!(both(-5), ["0 s", "0 秒"]);
        assert_eq!(both(45), ["45 s", "45 秒"]);
        assert_eq!(both(119), ["1 min", "1 分钟"]);
        assert_eq!(both(7500), ["2 h 5 min", "2 小时 5 分钟"]);
        assert_eq!(both(7200), ["2 h", "2 小时"]);
        assert_eq!(both(90_000), ["1 d 1 h", "1 天 1 小时"]);
        assert!(!both(i64::MAX)[0].is_empty());
    }

    #[test]
    fn a_length_is_spelled_as_it_was_written() {
        let zh = |length| spelled(length, Words::new(Language::ZhCn));
        assert_eq!(zh("1h").as_deref(), Some("1 小时"));
        assert_eq!(zh("24h").as_deref(), Some("24 小时"));
        assert_eq!(zh("1h30m").as_deref(), Some("1 小时 30 分钟"));
        assert_eq!(zh("2w").as_deref(), Some("14 天"));
        for odd in ["", "h", "1", "1x", "1 h", "一h", "1é", "99999999999999999999h", "9223372036854775807w"]
        {
            assert_eq!(zh(odd), None, "{odd}");
        }
    }

    #[test]
    fn times_are_those_of_the_zone() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        assert_eq!(time("2026-11-23T14:10:05Z".parse().unwrap(), &zone), "2026-11-23 22:10 +08:00");
        assert_eq!(time(Timestamp::MIN, &TimeZone::UTC), "-9999-01-02 01:59 +00:00");
    }
}
