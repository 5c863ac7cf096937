//! Which of the accepted words somebody may have meant.

/// Longer words are compared by their beginnings.
const COMPARED: usize = 64;

/// How many letters must be inserted, removed or replaced to make one of the other, upper and lower case being equal.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().take(COMPARED).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for (column, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[column + 1];
            row[column + 1] = replaced.min(corner + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

/// The accepted word that `text` was probably meant to be. `meanings` are words that people use for accepted ones.
pub(super) fn meant<'a>(
    text: &str,
    accepted: impl Iterator<Item = &'a str>,
    meanings: &[(&str, &'a str)],
) -> Option<&'a str> {
    let known = meanings.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
    known.map(|(_, meant)| *meant).or_else(|| {
        let nearest = accepted.map(|word| (distance(text, word), word)).min()?;
        // A third of the letters may be wrong.
        (nearest.0 * 3 <= text.chars().count().max(3)).then_some(nearest.1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_far_apart_as_their_letters() {
        let cases = [("", "", 0), ("day", "Day", 0), ("day", "dya", 2), ("max", "maxx", 1), ("", "abc", 3)];
        for (a, b, letters) in cases {
            assert_eq!((distance(a, b), distance(b, a)), (letters, letters), "{a} {b}");
        }
        assert_eq!(distance(&"a".repeat(10_000), &"a".repeat(9_000)), 0);
    }

    #[test]
    fn what_is_meant_is_near_or_is_another_word_for_it() {
        let accepted = || ["tokens", "cost_usd", "errors"].into_iter();
        assert_eq!(meant("token", accepted(), &[]), Some("tokens"));
        assert_eq!(meant("Cost USD", accepted(), &[]), Some("cost_usd"));
        assert_eq!(meant("dollars", accepted(), &[("dollars", "cost_usd")]), Some("cost_usd"));
        assert_eq!(meant("bananas", accepted(), &[]), None);
    }
}
