//! What counts, when windows turn, what clocks and floods of keys do.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{
    Action, ChannelScope, Entry, Length, Limit, Measure, ModelScope, Period, REST, Restore, Severity,
    Standing, Standings, Window,
};
use crate::record::RowOutcome;

const DAY: i64 = 86_400;

pub(super) fn limit(measure: Measure, window: &str) -> Limit {
    let period = Period::ALL.into_iter().find(|period| period.as_str() == window);
    Limit {
        name: format!("{measure:?}-{window}"),
        channel: ChannelScope::Together,
        model: ModelScope::Together,
        measure,
        max: 100.0,
        window: period
            .map_or_else(|| Window::Rolling(Length::parse(window).expect("a length")), Window::Calendar),
        warn_at: None,
        severity: Severity::Critical,
        action: Action::Notify,
        restore: Restore::Never,
    }
}

pub(super) fn request(created_at: i64, channel_id: i64, model: &str) -> Entry<'_> {
    Entry {
        id: 1,
        created_at,
        outcome: RowOutcome::Success,
        channel_id,
        model,
        input_tokens: 30,
        output_tokens: 4,
        consumed: 1_000_000,
        refunded: 0,
        quota_per_unit: 500_000.0,
    }
}

pub(super) fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().expect("a time").as_second()
}

pub(super) fn standings(limits: &[Limit], now: i64) -> Standings {
    Standings::new(limits, &TimeZone::UTC, 2000, now)
}

fn used(standings: &Standings) -> Vec<f64> {
    standings.read().iter().map(|standing| standing.used).collect()
}

fn only(standings: &Standings) -> Standing {
    let mut read = standings.read();
    assert_eq!(read.len(), 1);
    read.remove(0)
}

#[test]
fn each_kind_of_row_counts_for_its_measures() {
    let now = at("2026-11-23T12:00:00Z");
    let limits = Measure::ALL.map(|measure| limit(measure, "day"));
    let request = Entry { refunded: 400_000, ..request(now, 1, "a") };
    // tokens, input_tokens, output_tokens, requests, errors, quota, cost_usd
    let cases = [
        (RowOutcome::Success, [34.0, 30.0, 4.0, 1.0, 0.0, 600_000.0, 1.2]),
        (RowOutcome::StreamError, [34.0, 30.0, 4.0, 1.0, 0.0, 600_000.0, 1.2]),
        (RowOutcome::ClientGone, [34.0, 30.0, 4.0, 1.0, 0.0, 600_000.0, 1.2]),
        (RowOutcome::Error, [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
        (RowOutcome::Settlement, [0.0, 0.0, 0.0, 0.0, 0.0, 600_000.0, 1.2]),
        (RowOutcome::Refund, [0.0, 0.0, 0.0, 0.0, 0.0, 600_000.0, 1.2]),
        (RowOutcome::Test, [0.0; 7]),
        (RowOutcome::Other, [0.0; 7]),
    ];
    for (outcome, expected) in cases {
        let mut standings = standings(&limits, now);
        standings.add(&Entry { outcome, ..request }, |_| true);
        assert_eq!(used(&standings), expected, "{outcome:?}");
    }
}

#[test]
fn money_given_back_lowers_what_is_used_and_never_below_nothing() {
    let now = at("2026-11-23T12:00:00Z");
    for window in ["day", "1h"] {
        let mut standings = standings(&[limit(Measure::CostUsd, window)], now);
        let refund =
            Entry { outcome: RowOutcome::Refund, consumed: 0, refunded: 1_500_000, ..request(now, 1, "a") };
        standings.add(&refund, |_| true);
        assert_eq!((only(&standings).used, only(&standings).ratio), (0.0, 0.0));
        standings.add(&request(now, 1, "a"), |_| true);
        assert_eq!(only(&standings).used, 0.0);
        standings.add(&request(now, 1, "a"), |_| true);
        assert_eq!(only(&standings).used, 1.0, "three dollars were given back, four charged");
    }
}

#[test]
fn sums_of_money_do_not_depend_on_the_order() {
    let now = at("2026-11-23T12:00:00Z");
    let rows: Vec<Entry<'_>> = (0..10_000)
        .zip([500_000.0, 7.3, 333.3].into_iter().cycle())
        .map(|(i, quota_per_unit)| Entry {
            consumed: i * 7919 % 1_000_003,
            quota_per_unit,
            ..request(now, 1, "a")
        })
        .collect();
    let mut forwards = standings(&[limit(Measure::CostUsd, "day")], now);
    let mut backwards = forwards.clone();
    for (first, last) in rows.iter().zip(rows.iter().rev()) {
        forwards.add(first, |_| true);
        backwards.add(last, |_| true);
    }
    assert_eq!(only(&forwards).used, only(&backwards).used);
    let exact: f64 = rows.iter().map(|row| row.consumed as f64 / row.quota_per_unit).sum();
    assert!((only(&forwards).used - exact).abs() < 1e-4);
    // Each row is right to half a nanodollar.
    let mut cheap = standings(&[limit(Measure::CostUsd, "day")], now);
    for _ in 0..10_000 {
        cheap.add(&Entry { consumed: 1, quota_per_unit: 7.0, ..request(now, 1, "a") }, |_| true);
    }
    assert!((only(&cheap).used - 10_000.0 / 7.0).abs() < 1e-5);
}

#[test]
fn a_day_begins_with_the_rows_dated_in_it() {
    let midnight = at("2026-11-24T00:00:00Z");
    let mut standings = standings(&[limit(Measure::Requests, "day")], midnight - 2);
    standings.add(&request(midnight - 3, 1, "a"), |_| true);
    // A gateway's clock is a little ahead.
    standings.add(&request(midnight + 1, 1, "a"), |_| true);
    standings.add(&request(midnight, 1, "a"), |_| true);
    assert_eq!(only(&standings).used, 1.0);
    assert_eq!(only(&standings).resets_at, Some(midnight));
    assert!(standings.advance(midnight));
    assert_eq!(only(&standings).used, 2.0);
    // A row of yesterday that is late.
    standings.add(&request(midnight - 1, 1, "a"), |_| true);
    assert_eq!(only(&standings).used, 2.0);
    // Our clock was a second ahead and is put right: yesterday is still known.
    assert!(standings.advance(midnight - 1));
    assert_eq!(only(&standings).used, 2.0, "yesterday's two");
    assert!(standings.advance(midnight));
    assert_eq!(only(&standings).used, 2.0);
    assert!(standings.advance(midnight + DAY));
    assert_eq!((only(&standings).used, only(&standings).resets_at), (0.0, Some(midnight + 2 * DAY)));
}

#[test]
fn a_jump_of_the_clock_is_told_where_rows_are_missing() {
    let noon = at("2026-11-25T12:00:00Z");
    for (window, jump) in
        [("day", 3 * DAY), ("week", 21 * DAY), ("1h", DAY), ("24h", 2 * DAY), ("30d", 31 * DAY)]
    {
        let mut standings = standings(&[limit(Measure::Requests, window)], noon);
        standings.add(&request(noon, 1, "a"), |_| true);
        assert!(standings.advance(noon + jump), "{window}: no row is dated after now");
        assert_eq!(only(&standings).used, 0.0);
        standings.add(&request(noon + 5, 1, "a"), |_| true);
        assert!(!standings.advance(noon + 10), "{window}: the rows of before are gone");
        // What the owner does then.
        let mut again = self::standings(&[limit(Measure::Requests, window)], noon + 10);
        assert!(again.earliest() <= noon);
        again.add(&request(noon, 1, "a"), |_| true);
        again.add(&request(noon + 5, 1, "a"), |_| true);
        assert_eq!(only(&again).used, 2.0);
        // Back, and forth.
        assert!(!again.advance(noon - jump), "{window}");
        let whole = again.advance(noon + 10);
        // Rolling windows keep what is dated ahead, calendar windows ask for it again.
        let rolling = window.starts_with(|c: char| c.is_ascii_digit());
        assert_eq!((whole, only(&again).used == 2.0), (rolling, rolling), "{window}");
    }
    for extreme in [i64::MIN, i64::MAX, 0] {
        let mut standings =
            standings(&["day", "month", "1m", "31d"].map(|w| limit(Measure::Tokens, w)), noon);
        standings.advance(extreme);
        for created_at in [i64::MIN, i64::MAX, 0, noon] {
            standings.add(&request(created_at, 1, "a"), |_| true);
        }
        standings.read();
        standings.advance(noon);
        standings.read();
    }
}

#[test]
fn the_rows_that_are_asked_for_are_those_of_the_longest_window() {
    let now = at("2026-11-25T12:00:00Z");
    let cases = [
        ("1m", now - 59),
        ("1000s", now - 999),
        ("24h", now - 86_400),
        ("day", at("2026-11-25T00:00:00Z")),
        ("week", at("2026-11-23T00:00:00Z")),
        ("month", at("2026-11-01T00:00:00Z")),
    ];
    for (window, earliest) in cases {
        assert_eq!(standings(&[limit(Measure::Tokens, window)], now).earliest(), earliest, "{window}");
    }
    let all = cases.map(|(window, _)| limit(Measure::Tokens, window));
    assert_eq!(standings(&all, now).earliest(), at("2026-11-01T00:00:00Z"));
    assert_eq!(standings(&[], now).earliest(), now);
}

#[test]
fn rows_seen_while_our_clock_was_behind_are_read_again_when_it_is_right() {
    let noon = at("2026-11-25T12:00:00Z");
    let mut standings = standings(&[limit(Measure::Requests, "1h")], noon - DAY);
    standings.add(&request(noon, 1, "a"), |_| true);
    assert_eq!(only(&standings).used, 1.0, "it counts at once, whatever its date");
    assert!(!standings.advance(noon));
    // The same where the clock was only a little behind.
    let mut standings = self::standings(&[limit(Measure::Requests, "1h")], noon - 1800);
    standings.add(&request(noon, 1, "a"), |_| true);
    assert!(!standings.advance(noon));
}

#[test]
fn a_gateway_whose_clock_is_too_far_ahead_makes_rows_be_read_again_hourly_at_most() {
    let noon = at("2026-11-25T12:00:00Z");
    let mut standings = standings(&[limit(Measure::Requests, "1h")], noon);
    let mut read_again = Vec::new();
    for minute in 1..240 {
        let now = noon + minute * 60;
        if !standings.advance(now) {
            read_again.push(minute);
            standings = self::standings(&[limit(Measure::Requests, "1h")], now);
        }
        if minute < 30 {
            standings.add(&request(now + 2400, 1, "a"), |_| true);
        }
    }
    assert_eq!(read_again, [60], "when the dates of those rows are near");
}

#[test]
fn a_row_dated_ahead_counts_at_once_in_a_rolling_window_and_leaves_by_its_date() {
    let now = at("2026-11-25T12:00:00Z");
    let mut standings = standings(&[limit(Measure::Requests, "1m")], now);
    standings.add(&request(now + 30, 1, "a"), |_| true);
    standings.add(&request(now + 5000, 1, "a"), |_| true);
    assert_eq!(only(&standings).used, 2.0);
    standings.advance(now + 89);
    assert_eq!(only(&standings).used, 2.0);
    standings.advance(now + 90);
    assert_eq!(only(&standings).used, 1.0);
    standings.advance(now + 659);
    assert_eq!(only(&standings).used, 1.0);
    standings.advance(now + 660);
    assert_eq!(only(&standings).used, 0.0, "taken to be ten minutes ahead, not more");
}

#[test]
fn a_window_of_thirty_days_costs_as_much_as_one_of_an_hour() {
    let start = at("2026-01-01T00:00:00Z");
    for (window, seconds, step) in
        [("1000s", 1000, 1), ("1h", 3600, 1), ("24h", DAY, 17), ("30d", 30 * DAY, 518)]
    {
        let mut standings = standings(&[limit(Measure::Requests, window)], start);
        for second in (0..3 * seconds).step_by(step) {
            standings.advance(start + second);
            standings.add(&request(start + second, 1, "a"), |_| true);
        }
        let (buckets, most) = (standings.buckets(), 1000 + 8 + 1);
        assert!((1000..=most).contains(&buckets), "{window}: {buckets}");
    }
}

#[test]
fn keys_appear_with_their_first_row_and_a_sum_of_all_is_always_there() {
    let now = at("2026-11-25T12:00:00Z");
    let each = |channel, model| Limit { channel, model, ..limit(Measure::Requests, "day") };
    let limits = [
        each(ChannelScope::Each, ModelScope::Together),
        each(ChannelScope::Each, ModelScope::Each),
        each(ChannelScope::One(5), ModelScope::Name("b".into())),
    ];
    let mut standings = standings(&limits, now);
    let keys = |standings: &Standings| -> Vec<(usize, Option<i64>, Option<String>, f64)> {
        let read = standings.read();
        read.iter().map(|s| (s.limit, s.channel_id, s.model.as_deref().map(str::to_owned), s.used)).collect()
    };
    let b = || Some("b".to_owned());
    assert_eq!(keys(&standings), [(2, Some(5), b(), 0.0)]);
    for (channel, model) in [(5, "b"), (3, "b"), (5, "a"), (5, "b"), (0, "b")] {
        standings.add(&request(now, channel, model), |_| true);
    }
    // A failed attempt is no request: it makes no key.
    standings.add(&Entry { outcome: RowOutcome::Error, ..request(now, 9, "x") }, |_| true);
    let expected = [
        (0, Some(3), None, 1.0),
        (0, Some(5), None, 3.0),
        (1, Some(3), b(), 1.0),
        (1, Some(5), Some("a".to_owned()), 1.0),
        (1, Some(5), b(), 2.0),
        (2, Some(5), b(), 2.0),
    ];
    assert_eq!(keys(&standings), expected);
    // The next day they are shown empty, the day after the next they are gone.
    standings.advance(now + DAY);
    assert!(used(&standings).iter().all(|used| *used == 0.0) && standings.read().len() == 6);
    standings.advance(now + 2 * DAY);
    assert_eq!(keys(&standings), [(2, Some(5), b(), 0.0)]);
    standings.add(&request(now + 2 * DAY, 3, "b"), |_| true);
    assert_eq!(standings.read().len(), 3);
    // A row that is too old for every window makes none.
    let hourly = Limit { model: ModelScope::Each, ..limit(Measure::Requests, "1h") };
    let mut standings = self::standings(&[hourly], now);
    standings.add(&request(now - DAY, 3, "b"), |_| true);
    assert_eq!(standings.read(), []);
}

#[test]
fn a_flood_of_models_is_summed_and_makes_room_when_it_is_over() {
    let now = at("2026-11-25T12:00:00Z");
    let limits =
        [Limit { model: ModelScope::Each, ..limit(Measure::Errors, "1h") }, limit(Measure::Errors, "1h")];
    let mut standings = Standings::new(&limits, &TimeZone::UTC, 10, now);
    let error = |now| Entry { outcome: RowOutcome::Error, ..request(now, 1, "") };
    for number in 0..50_000 {
        standings.add(&Entry { model: &format!("model-{number}"), ..error(now) }, |_| true);
    }
    assert!(standings.routed() <= 20_000);
    let read = standings.read();
    assert_eq!(read.len(), 12);
    let overflow = &read[10];
    assert!(overflow.overflow && overflow.channel_id.is_none());
    assert_eq!(overflow.model.as_deref(), Some(REST));
    assert_eq!(
        (overflow.used, read[11].used, read[0].model.as_deref()),
        (49_990.0, 50_000.0, Some("model-0"))
    );
    // A new name stays with the others as long as earlier rows of it may be among them.
    standings.add(&Entry { model: "model-70000", ..error(now) }, |_| true);
    assert_eq!(standings.read().len(), 12);
    standings.advance(now + 2 * 3600);
    standings.add(&Entry { model: "model-70000", ..error(now + 2 * 3600) }, |_| true);
    let read = standings.read();
    assert_eq!((read.len(), read[0].model.as_deref(), read[0].used), (2, Some("model-70000"), 1.0));
}

#[test]
fn a_rolling_window_resets_when_it_has_calmed_down() {
    let now = at("2026-11-25T12:00:00Z");
    let hourly = limit(Measure::Requests, "1000s");
    for (warn_at, max, remaining) in [(None, 100.0, 79), (Some(0.5), 100.0, 49), (Some(1.0), 100.0, 99)] {
        let limit = Limit { max, warn_at, ..hourly.clone() };
        let mut standings = standings(&[limit], now);
        for second in 0..120 {
            standings.advance(now + second);
            standings.add(&request(now + second, 1, "a"), |_| true);
        }
        // So many of the first requests must have left.
        let resets_at = now + 119 - remaining + 1000;
        assert_eq!(only(&standings).resets_at, Some(resets_at), "{warn_at:?}");
        standings.advance(resets_at - 1);
        assert!(only(&standings).resets_at.is_some());
        standings.advance(resets_at);
        assert_eq!((only(&standings).resets_at, only(&standings).used), (None, remaining as f64));
    }
}

#[test]
fn exhaustion_is_projected_at_the_present_rate() {
    let morning = at("2026-11-25T00:00:00Z");
    let daily = Limit { max: 30_000.0, ..limit(Measure::Requests, "day") };
    let mut standings = standings(&[daily], morning);
    // One a second from eight to noon.
    for second in 8 * 3600..12 * 3600 {
        standings.advance(morning + second);
        standings.add(&request(morning + second, 1, "a"), |_| true);
    }
    let expected = morning + 12 * 3600 + (30_000 - 4 * 3600);
    let found = only(&standings).exhausted_at.expect("it will be exhausted");
    assert!((found - expected).abs() < 600, "{} s off", found - expected);
    // After some quiet hours it is not expected any more.
    standings.advance(morning + 18 * 3600);
    assert_eq!(only(&standings).exhausted_at, None);
}

#[test]
fn names_that_nobody_vouches_for_are_one_sum_until_they_are_known() {
    let now = at("2026-11-25T12:00:00Z");
    let by_model = |measure| Limit { model: ModelScope::Each, ..limit(measure, "1h") };
    let named = Limit { model: ModelScope::Name("new".to_owned()), ..limit(Measure::Errors, "1h") };
    let mut standings = standings(&[by_model(Measure::Errors), named, limit(Measure::Errors, "1h")], now);
    let error = |model| Entry { outcome: RowOutcome::Error, ..request(now, 1, model) };
    let offered = |model: &str| model == "offered";
    for model in ["x", "y", "new", "offered", ""] {
        standings.add(&error(model), offered);
    }
    let read = |standings: &Standings| -> Vec<(usize, String, f64)> {
        let read = standings.read().into_iter();
        read.map(|one| (one.limit, one.model.as_deref().unwrap_or_default().to_owned(), one.used)).collect()
    };
    let wanted = |list: &[(usize, &str, f64)]| -> Vec<(usize, String, f64)> {
        list.iter().map(|(limit, model, used)| (*limit, (*model).to_owned(), *used)).collect()
    };
    let sums = wanted(&[(0, REST, 3.0), (0, "offered", 1.0), (1, "new", 1.0), (2, "", 5.0)]);
    assert_eq!(read(&standings), sums, "a limit that names a model counts it whoever knows it");
    assert!(standings.is_whole() && standings.read()[0].is_rest());
    // It answers, so it is one. What was counted for it before is read again.
    standings.add(&request(now, 1, "new"), offered);
    standings.add(&error("new"), |model| offered(model) || model == "new");
    assert!(!standings.is_whole());
    assert_eq!(read(&standings)[1], (0, "new".to_owned(), 1.0));
}

#[test]
fn a_flood_of_keys_of_one_limit_takes_no_room_from_others() {
    let now = at("2026-11-25T12:00:00Z");
    let flooded = Limit { model: ModelScope::Each, ..limit(Measure::Errors, "1h") };
    let money = Limit { channel: ChannelScope::Each, ..limit(Measure::CostUsd, "day") };
    let mut standings = Standings::new(&[flooded, money], &TimeZone::UTC, 10, now);
    for number in 0..100 {
        let model = format!("model-{number}");
        standings.add(&Entry { outcome: RowOutcome::Error, ..request(now, 1, &model) }, |_| true);
    }
    let keys = |standings: &Standings, limit| -> (usize, usize) {
        let read = standings.read();
        let of_limit = || read.iter().filter(|one| one.limit == limit);
        (of_limit().filter(|one| !one.overflow).count(), of_limit().filter(|one| one.overflow).count())
    };
    assert_eq!((keys(&standings, 0), keys(&standings, 1)), ((10, 1), (0, 0)));
    for channel in 1..=12 {
        standings.add(&request(now, channel, "m"), |_| true);
    }
    assert_eq!((keys(&standings, 0), keys(&standings, 1)), ((10, 1), (10, 1)));
    // What is empty makes room, and the sum of the rest goes with it.
    standings.advance(now + 3 * DAY);
    standings.advance(now + 3 * DAY + 3600);
    standings.add(&request(now + 3 * DAY, 12, "m"), |_| true);
    assert_eq!((keys(&standings, 0), keys(&standings, 1)), ((0, 0), (1, 0)));
}
