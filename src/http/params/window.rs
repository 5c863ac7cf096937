//! The time that a question is about: `from`, `to`, `window`; and the steps of a trend.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::problem::{Problem, echo};
use super::Known;

/// What `from` and `to` accept, in words.
pub const MOMENTS: &str =
    "RFC 3339 such as 2026-01-31T08:00:00Z, unix seconds such as 1769846400, or unix milliseconds";

/// What `window` accepts, in words.
pub const LENGTHS: &str = "a duration such as 30m, 24h or 7d, at least 1s";

/// Numbers from here on are milliseconds: as seconds they would lie in the year 5138.
const FIRST_MILLISECONDS: i64 = 100_000_000_000;

/// A window may begin this much before the history, so that a question about all of it, asked with a clock that
/// is a little off, or a minute ago, is no error.
const GRACE: Duration = Duration::from_secs(3600);

/// Smallest and largest step of a trend.
pub const STEPS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(31 * 86_400));

/// Most steps of a trend.
pub const MAX_STEPS: u64 = 2_000;

/// About so many steps, at most, if the step is not given.
const USUAL_STEPS: u64 = 200;

/// Steps that people read easily, in minutes.
const ROUND_MINUTES: [u64; 15] =
    [1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 720, 1_440, 2_880, 10_080, 31 * 1_440];

/// From when to when; the end does not belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first instant.
    pub from: Timestamp,
    /// The first instant that does not belong to it. None: open, so rows of a gateway node whose clock runs
    /// ahead belong to it too.
    pub to: Option<Timestamp>,
    /// When it was asked for.
    pub now: Timestamp,
    /// From when on every row is known.
    known_from: Timestamp,
}

/// The three parameters as given.
#[derive(Debug, Clone, Copy, Default)]
pub struct Given<'a> {
    /// `from`
    pub from: Option<&'a str>,
    /// `to`
    pub to: Option<&'a str>,
    /// `window`
    pub window: Option<&'a str>,
}

impl Window {
    /// Reads the parameters. `usual` is how long the window is if they do not say.
    ///
    /// # Errors
    /// Which parameter is wrong, and what is accepted.
    pub fn parse(given: Given<'_>, usual: Duration, known: Known) -> Result<Self, Problem> {
        let Known { now, history, .. } = known;
        if let (Some(_), Some(_)) = (given.from, given.window) {
            return Err(Problem::parameter(
                "window",
                "`window` and `from` both say where the window begins",
                "from and to; or window, which ends at `to` or now; one of window and from",
            ));
        }
        let to = given.to.map(|text| moment("to", text)).transpose()?;
        let end = to.map_or(now, |to| to.min(now));
        let (usual, oldest) = (usual.min(history.max(GRACE)), before(now, history));
        let first = before(oldest, GRACE).max(known.known_from);
        let (named, from) = match (given.from, given.window) {
            (Some(text), _) => ("from", moment("from", text)?),
            (None, Some(text)) => ("window", before(end, length(text)?)),
            // A length that nobody asked for gives way to the history.
            (None, None) if first < end => ("to", before(end, usual).max(first)),
            (None, None) => ("to", before(end, usual)),
        };
        if given.from.is_some() && from >= end {
            return Err(match to.filter(|to| *to <= now) {
                Some(to) => Problem::parameter(
                    "from",
                    format!("the window is the wrong way round: from {from} is not before to {to}"),
                    "a `from` before `to`",
                ),
                None => Problem::parameter(
                    "from",
                    format!("{from} has not come yet: it is {now} now"),
                    "an instant in the past",
                ),
            });
        }
        if from < first {
            let (history, raised) = (plain(history), first > oldest);
            let (oldest, why) = if raised {
                (first, format!("HISTORY was shorter than {history} when it was read"))
            } else {
                (oldest, format!("HISTORY is {history}"))
            };
            return Err(Problem::parameter(
                named,
                format!("the window begins at {from}, and nothing before {oldest} is kept: {why}"),
                format!("a window that begins at {oldest} or later"),
            ));
        }
        // An end that has not come yet is no end.
        Ok(Self { from, to: to.filter(|to| *to < now), now, known_from: first })
    }

    /// Its end, now if it is open.
    pub fn end(&self) -> Timestamp {
        self.to.unwrap_or(self.now)
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        self.end().duration_since(self.from).unsigned_abs()
    }

    /// Its bounds for times that are whole seconds: a row belongs to it if `first <= created_at`, and
    /// `created_at < end` where there is one.
    pub fn seconds(&self) -> (i64, Option<i64>) {
        (ceil(self.from), self.to.map(ceil))
    }

    /// The window of the same length just before.
    #[must_use]
    pub fn before(&self) -> Self {
        Self { from: before(self.from, self.length()), to: Some(self.from), ..*self }
    }

    /// Whether every row of that one is known.
    pub fn before_is_known(&self) -> bool {
        self.before().from >= self.known_from
    }
}

/// How a trend is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Length of each step, whole seconds.
    pub length: Duration,
}

impl Step {
    /// Reads `step`, or chooses a round one.
    ///
    /// # Errors
    /// If it is no duration in bounds, or would make too many steps.
    pub fn parse(text: Option<&str>, window: &Window) -> Result<Self, Problem> {
        let seconds = window.length().as_secs();
        let Some(text) = text else { return Ok(Self::usual(seconds)) };
        let accepted = || {
            let (least, most) = (plain(STEPS.0), plain(STEPS.1));
            format!("a duration of whole seconds from {least} to {most}, such as 5m, 1h or 1d")
        };
        let length = humantime::parse_duration(text).map_err(|_| {
            Problem::parameter("step", format!("`{}` is not a duration", echo(text)), accepted())
        })?;
        if length.subsec_nanos() != 0 || !(STEPS.0..=STEPS.1).contains(&length) {
            let detail = format!("`{}` is not a step that can be had", echo(text));
            return Err(Problem::parameter("step", detail, accepted()));
        }
        let count = seconds.div_ceil(length.as_secs());
        if count > MAX_STEPS {
            let least = plain(Duration::from_secs(seconds.div_ceil(MAX_STEPS)));
            return Err(Problem::parameter(
                "step",
                format!("`{}` cuts this window into {count} steps, more than {MAX_STEPS}", echo(text)),
                format!("at least {least} for this window"),
            ));
        }
        Ok(Self { length })
    }

    /// The smallest round step that gives a trend for the eye.
    fn usual(seconds: u64) -> Self {
        let fits = |minutes: &u64| seconds.div_ceil(minutes * 60) <= USUAL_STEPS;
        let minutes = ROUND_MINUTES.into_iter().find(fits).unwrap_or(ROUND_MINUTES[ROUND_MINUTES.len() - 1]);
        Self { length: Duration::from_secs(minutes * 60) }
    }
}

/// An instant in any of the three ways.
fn moment(name: &'static str, text: &str) -> Result<Timestamp, Problem> {
    let wrong = || Problem::parameter(name, format!("`{}` is not an instant", echo(text)), MOMENTS);
    let is_number = text.strip_prefix('-').unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit());
    let moment = if is_number {
        let number: i64 = text.parse().map_err(|_| wrong())?;
        let milliseconds = number.unsigned_abs() >= FIRST_MILLISECONDS.unsigned_abs();
        if milliseconds { Timestamp::from_millisecond(number) } else { Timestamp::from_second(number) }
    } else {
        // The plus of an offset that was not encoded has become a space.
        text.parse().or_else(|_| text.trim().replace(' ', "+").parse())
    };
    moment.map_err(|_| wrong())
}

fn length(text: &str) -> Result<Duration, Problem> {
    let wrong = |detail: String| Problem::parameter("window", detail, LENGTHS);
    let length =
        humantime::parse_duration(text).map_err(|_| wrong(format!("`{}` is not a duration", echo(text))))?;
    if length < Duration::from_secs(1) {
        return Err(wrong(format!("`{}` is too short", echo(text))));
    }
    Ok(length)
}

/// A duration as people write it in these parameters, whole seconds.
pub fn plain(length: Duration) -> String {
    let (mut rest, mut parts) = (length.as_secs(), Vec::new());
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest >= seconds {
            parts.push(format!("{}{unit}", rest / seconds));
            rest %= seconds;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// `length` before `moment`, or the earliest instant there is.
fn before(moment: Timestamp, length: Duration) -> Timestamp {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    moment.checked_sub(length).unwrap_or(Timestamp::MIN)
}

/// Unix seconds, a fraction counting as a whole one.
fn ceil(moment: Timestamp) -> i64 {
    moment.as_second() + i64::from(moment.subsec_nanosecond() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const HISTORY: Duration = Duration::from_secs(31 * 86_400);

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn read(from: &str, to: &str, window: &str) -> Result<Window, Problem> {
        let given = |text: &'static str| (!text.is_empty()).then_some(text);
        // Texts of tests live long enough.
        let leak = |text: &str| given(Box::leak(text.to_owned().into_boxed_str()));
        Window::parse(Given { from: leak(from), to: leak(to), window: leak(window) }, DAY, known())
    }

    fn known() -> Known {
        Known { now: now(), today: DAY, history: HISTORY, known_from: Timestamp::MIN }
    }

    fn refused(from: &str, to: &str, window: &str) -> (String, String) {
        let problem = read(from, to, window).expect_err(&format!("{from} {to} {window}"));
        let body = serde_json::to_value(problem.body()).unwrap();
        assert_eq!(body["status"], 400);
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (text("parameter"), format!("{} | {}", text("detail"), text("accepted")))
    }

    #[test]
    fn an_instant_is_rfc3339_seconds_or_milliseconds() {
        let wanted = at("2026-01-31T08:00:00Z");
        for text in [
            "2026-01-31T08:00:00Z",
            "2026-01-31T16:00:00+08:00",
            "2026-01-31T16:00:00 08:00",
            "2026-01-31t08:00:00.000z",
            "1769846400",
            "1769846400000",
        ] {
            assert_eq!(read(text, "", "").unwrap().from, wanted, "{text}");
        }
        for text in
            ["yesterday", "2026-01-31", "2026-01-31T08:00:00", "1e9", "99999999999999999999", "-", "1.5"]
        {
            let (parameter, said) = refused(text, "", "");
            assert_eq!(parameter, "from");
            assert!(said.contains("is not an instant") && said.contains("RFC 3339"), "{said}");
        }
    }

    #[test]
    fn without_an_end_a_window_is_open_and_ends_now() {
        let window = read("", "", "").unwrap();
        assert_eq!((window.from, window.to, window.end()), (at("2026-01-30T12:00:00Z"), None, now()));
        assert_eq!(window.length(), DAY);
        let window = read("", "", "7d").unwrap();
        assert_eq!((window.to, window.length()), (None, 7 * DAY));
        // An end in the future leaves it open, too.
        assert_eq!(read("1769846400", "2026-02-01T00:00:00Z", "").unwrap().to, None);
    }

    #[test]
    fn a_window_may_end_in_the_past() {
        let window = read("", "2026-01-30T00:00:00Z", "2h").unwrap();
        assert_eq!((window.from, window.to), (at("2026-01-29T22:00:00Z"), Some(at("2026-01-30T00:00:00Z"))));
        let before = window.before();
        assert_eq!((before.from, before.to), (at("2026-01-29T20:00:00Z"), Some(window.from)));
        assert_eq!(before.length(), window.length());
        assert_eq!(read("", "2026-01-30T00:00:00Z", "").unwrap().length(), DAY);
    }

    #[test]
    fn rows_have_whole_seconds() {
        let window = read("1769846400001", "1769846401500", "").unwrap();
        assert_eq!(window.seconds(), (1_769_846_401, Some(1_769_846_402)));
        assert_eq!(
            read("1769846400", "1769846401", "").unwrap().seconds(),
            (1_769_846_400, Some(1_769_846_401))
        );
    }

    #[test]
    fn windows_that_cannot_be_are_refused_by_name() {
        let (parameter, said) = refused("1769846400", "1769846400", "");
        assert!(parameter == "from" && said.contains("wrong way round"), "{said}");
        let (parameter, said) = refused("2027-01-01T00:00:00Z", "", "");
        assert!(parameter == "from" && said.contains("has not come yet"), "{said}");
        let (parameter, said) = refused("2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z", "");
        assert!(parameter == "from" && said.contains("has not come yet"), "{said}");
        let (parameter, said) = refused("1769846400", "", "1h");
        assert!(parameter == "window" && said.contains("both"), "{said}");
        for text in ["0s", "soon", "-1h", "5"] {
            assert_eq!(refused("", "", text).0, "window", "{text}");
        }
    }

    #[test]
    fn beyond_the_history_is_refused_with_its_length_and_an_hour_of_grace() {
        assert!(read("2025-12-31T11:00:00Z", "", "").is_ok());
        for (from, to, window, named) in [
            ("2025-12-31T10:59:59Z", "", "", "from"),
            ("0", "", "", "from"),
            ("-9223372036854775808", "", "", "from"),
            ("", "", "32d", "window"),
            ("", "", "500000000y", "window"),
            ("", "2025-12-30T00:00:00Z", "", "to"),
            ("", "2026-01-01T00:00:00Z", "31d", "window"),
        ] {
            let (parameter, said) = refused(from, to, window);
            assert_eq!(parameter, named, "{said}");
            assert!(said.contains("HISTORY is 31d") || said.contains("is not an instant"), "{said}");
        }
    }

    #[test]
    fn a_short_history_shortens_the_usual_window() {
        let short = Known { history: Duration::ZERO, ..known() };
        let none = Window::parse(Given::default(), DAY, short).unwrap();
        assert_eq!(none.length(), Duration::from_secs(3600));
        let given = Given { to: Some("2026-01-31T08:00:00Z"), ..Given::default() };
        let all = Window::parse(given, Duration::MAX, known()).unwrap();
        assert_eq!(all.from, at("2025-12-31T11:00:00Z"));
    }

    #[test]
    fn what_was_not_read_under_a_shorter_history_is_said_to_be_missing() {
        let known = Known { known_from: at("2026-01-21T12:00:00Z"), ..known() };
        let read = |given: Given<'_>| Window::parse(given, Duration::MAX, known);
        let window = |text| Given { window: Some(text), ..Given::default() };
        assert_eq!(read(window("10d")).unwrap().from, known.known_from);
        let body = |problem: Problem| serde_json::to_value(problem.body()).unwrap();
        let problem = body(read(window("11d")).unwrap_err());
        assert_eq!(problem["parameter"], "window");
        assert_eq!(problem["accepted"], "a window that begins at 2026-01-21T12:00:00Z or later");
        let said = problem["detail"].as_str().unwrap();
        assert!(said.contains("HISTORY was shorter than 31d when it was read"), "{said}");
        // Nobody asked for more than there is.
        assert_eq!(read(Given::default()).unwrap().from, known.known_from);
        let early = Given { to: Some("2026-01-20T00:00:00Z"), ..Given::default() };
        assert_eq!(body(read(early).unwrap_err())["parameter"], "to");
    }

    #[test]
    fn the_window_before_is_known_if_it_begins_in_what_is_kept() {
        let known_before = |window: &str| read("", "", window).unwrap().before_is_known();
        assert!(known_before("372h") && known_before("15d"));
        // An hour more than HISTORY is kept.
        assert!(!known_before("16d") && !known_before("31d"));
    }

    fn step(text: Option<&str>, window: &str) -> Result<u64, String> {
        let window = read("", "", window).unwrap();
        Step::parse(text, &window)
            .map(|step| step.length.as_secs() / 60)
            .map_err(|problem| serde_json::to_string(&problem.body()).unwrap())
    }

    #[test]
    fn the_usual_step_is_round_and_gives_some_hundred_steps() {
        for (window, minutes) in [("1h", 1), ("6h", 2), ("24h", 10), ("7d", 60), ("31d", 240), ("1s", 1)] {
            assert_eq!(step(None, window), Ok(minutes), "{window}");
        }
        assert_eq!(Step::usual(3_660 * 86_400).length, STEPS.1);
    }

    #[test]
    fn a_step_that_gives_too_many_names_the_smallest() {
        assert_eq!(step(Some("1h 30m"), "31d"), Ok(90));
        let said = step(Some("1m"), "31d").unwrap_err();
        assert!(said.contains("44640 steps") && said.contains("at least 22m 20s"), "{said}");
        assert_eq!(step(Some("22m 20s"), "31d"), Ok(22));
        for text in ["59s", "32d", "60500ms", "often", "0s"] {
            let said = step(Some(text), "24h").unwrap_err();
            assert!(said.contains("from 1m to 31d"), "{said}");
        }
    }
}
