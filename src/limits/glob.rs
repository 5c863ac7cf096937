//! Patterns of names of models: `*` is any text, `?` is any one character, all else is itself.

/// A pattern with a `*` or a `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    pattern: Vec<char>,
}

impl Glob {
    /// The pattern that `text` is.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), pattern: text.chars().collect() }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `text` holds a sign that makes it a pattern.
    pub fn is_one(text: &str) -> bool {
        text.contains(['*', '?'])
    }

    /// Whether the whole of `name` fits. Takes at most (length of the pattern) × (length of the name) steps.
    pub fn matches(&self, name: &str) -> bool {
        let (mut at, mut rest) = (0, name.chars());
        // Where the last star was and what it had not yet taken.
        let mut star: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            match (self.pattern.get(at), rest.next()) {
                (Some('*'), _) => {
                    star = Some((at, before.clone()));
                    rest = before;
                    at += 1;
                }
                (Some(wanted), Some(found)) if *wanted == '?' || *wanted == found => at += 1,
                (None, None) => return true,
                _ => {
                    let Some((place, left)) = &mut star else { return false };
                    if left.next().is_none() {
                        return false;
                    }
                    (at, rest) = (*place + 1, left.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names_and_nothing_else() {
        let cases = [
            ("gpt-4o*", "gpt-4o", true),
            ("gpt-4o*", "gpt-4o-mini", true),
            ("gpt-4o*", "my-gpt-4o", false),
            ("gpt-4o*", "GPT-4o", false),
            ("*-mini", "gpt-4o-mini", true),
            ("*-mini", "gpt-4o-mini-high", false),
            ("gpt-?o", "gpt-4o", true),
            ("gpt-?o", "gpt-o", false),
            ("gpt-?o", "gpt-44o", false),
            ("?", "模", true),
            ("*模*", "大模型", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXcXb", false),
            ("**", "", true),
            ("*", "anything", true),
            ("*?", "", false),
            ("a*", "a", true),
            ("a.c", "abc", false),
            ("[ab]*", "a", false),
        ];
        for (pattern, name, fits) in cases {
            assert_eq!(Glob::new(pattern).matches(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_decided_soon() {
        assert!(!Glob::new(&"*a".repeat(100)).matches(&"a".repeat(99)));
        assert!(!Glob::new(&format!("{}b", "*a".repeat(100))).matches(&"a".repeat(10_000)));
    }
}
