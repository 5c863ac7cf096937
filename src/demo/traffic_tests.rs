//! What the rows are like: the same each time, priced as they say, of believable shares.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use serde_json::Value;

use super::*;
use crate::demo::row::kind;
use crate::demo::world::{CHANNELS, channel};
use crate::record::CHANNEL_TEST_TOKEN;

const NOW: i64 = 1_790_000_000;

/// Made once for all tests.
fn day() -> &'static [Row] {
    static DAY: LazyLock<Vec<Row>> = LazyLock::new(|| history(42, NOW - 86_400, NOW, 0.3).collect());
    &DAY
}

fn other(row: &Row) -> Value {
    serde_json::from_str(&row.other).unwrap_or_else(|error| panic!("{error} in {}", row.other))
}

fn number(other: &Value, name: &str) -> f64 {
    other[name].as_f64().unwrap_or(0.0)
}

/// Rows as the live generator makes them from `from` to `to`, with these routes.
fn live(generator: &mut Generator, to: i64, routes: &Routes) -> Vec<Row> {
    std::iter::from_fn(|| generator.next_before(to, routes)).collect()
}

#[test]
fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
    let hour = |seed| history(seed, NOW - 3600, NOW, 1.0).collect::<Vec<_>>();
    assert_eq!(hour(42), hour(42));
    assert_ne!(hour(42), hour(43));
    assert!(hour(42).len() > 2000);
}

#[test]
fn a_second_does_not_depend_on_where_the_generator_started() {
    let pace = Pace::Demo { live_from: NOW };
    let routes = Routes::initial();
    let after = |from: i64| -> Vec<Row> {
        let mut generator = Generator::new(42, pace, from);
        live(&mut generator, NOW + 300, &routes).into_iter().filter(|row| row.created_at >= NOW).collect()
    };
    assert_eq!(after(NOW), after(NOW - 5000));
}

#[test]
fn rows_come_in_the_order_of_their_ends_and_inside_the_bounds() {
    let rows = day();
    assert!(rows.is_sorted_by_key(|row| row.created_at));
    assert!(rows.iter().all(|row| (NOW - 86_400..NOW).contains(&row.created_at)));
    assert!(rows.iter().all(|row| (0..=960).contains(&row.use_time)));
}

#[test]
fn every_consumption_costs_what_its_own_factors_say() {
    let mut priced = HashMap::new();
    for row in day().iter().filter(|row| row.kind == kind::CONSUME) {
        let other = other(row);
        let group = number(&other, "group_ratio");
        if other.get("violation_fee").is_some() {
            assert_eq!(Some(row.quota), other["fee_quota"].as_i64());
            continue;
        }
        if let Some(actual) = other["actual_quota"].as_i64() {
            assert_eq!(row.quota, actual - other["pre_consumed_quota"].as_i64().unwrap());
            continue;
        }
        let price = number(&other, "model_price");
        let (cached, written) = (number(&other, "cache_tokens"), number(&other, "cache_creation_tokens"));
        let tokens = row.prompt_tokens as f64 + row.completion_tokens as f64 + cached + written;
        let expected = if price > 0.0 {
            price * 500_000.0 * group
        } else {
            let fresh = if other["claude"] == true {
                row.prompt_tokens as f64
            } else {
                assert!(cached <= row.prompt_tokens as f64, "{row:?}");
                row.prompt_tokens as f64 - cached
            };
            let all = fresh
                + cached * number(&other, "cache_ratio")
                + written * number(&other, "cache_creation_ratio")
                + row.completion_tokens as f64 * number(&other, "completion_ratio");
            (all * number(&other, "model_ratio") * group).max(if tokens > 0.0 { 1.0 } else { 0.0 })
        };
        assert!((row.quota as f64 - expected.round()).abs() < 0.5, "{} for {expected}: {row:?}", row.quota);
        *priced.entry((price > 0.0, other["claude"] == true, cached > 0.0)).or_insert(0) += 1;
    }
    assert_eq!(priced.len(), 5, "fixed price, and each way of counting with and without cache: {priced:?}");
}

#[test]
fn names_in_other_are_sorted_as_go_sorts_them() {
    for row in day().iter().filter(|row| !row.other.is_empty()) {
        // serde_json sorts names and prints numbers as Go does.
        assert_eq!(other(row).to_string(), row.other);
    }
}

#[test]
fn failed_attempts_share_the_request_id_and_the_lost_time_with_the_success() {
    let rows = day();
    let successes: HashMap<&str, &Row> =
        rows.iter().filter(|row| row.kind == kind::CONSUME).map(|row| (&*row.request_id, row)).collect();
    let mut recovered = 0;
    let mut moved = 0;
    for row in rows.iter().filter(|row| row.kind == kind::ERROR) {
        let details = other(row);
        let status = &details["status_code"];
        assert!(row.content.starts_with(&format!("status_code={status}, ")), "{}", row.content);
        assert_eq!((row.quota, row.prompt_tokens), (0, 0));
        assert_eq!(details["channel_id"].as_i64(), Some(row.channel_id));
        let tried = details["admin_info"]["use_channel"].as_array().unwrap().clone();
        assert_eq!(tried.last().unwrap(), &row.channel_id.to_string());
        let Some(success) = successes.get(&*row.request_id) else { continue };
        let after = other(success);
        if after["violation_fee"] == true {
            continue;
        }
        recovered += 1;
        let all = after["admin_info"]["use_channel"].as_array().unwrap().clone();
        assert!(all.starts_with(&tried) && all.len() > tried.len(), "{all:?} after {tried:?}");
        assert_eq!(all.last().unwrap(), &success.channel_id.to_string());
        assert!(success.created_at >= row.created_at);
        // A task's submission says 0.
        assert!(success.use_time >= row.use_time || success.model_name == "sora-2");
        moved += usize::from(success.channel_id != row.channel_id);
    }
    assert!(recovered > 150 && moved > 100, "{recovered} recovered, {moved} elsewhere");
}

type Wanted = dyn Fn(&Row, &Value) -> bool;

#[test]
fn the_shares_of_a_day_are_believable() {
    let rows = day();
    let total = rows.len() as f64;
    assert!((24_000.0..28_000.0).contains(&total), "{total} rows");
    let mut kinds: BTreeMap<i64, f64> = BTreeMap::new();
    for row in rows {
        *kinds.entry(row.kind).or_default() += 1.0;
    }
    assert!((0.94..0.99).contains(&(kinds[&kind::CONSUME] / total)), "{kinds:?}");
    assert!((0.012..0.06).contains(&(kinds[&kind::ERROR] / total)), "{kinds:?}");
    for kind in [kind::TOPUP, kind::MANAGE, kind::SYSTEM, kind::REFUND, kind::LOGIN] {
        assert!(kinds.get(&kind).is_some_and(|count| (1.0..200.0).contains(count)), "type {kind}: {kinds:?}");
    }

    let share = |wanted: &Wanted| {
        rows.iter().filter(|row| row.kind == kind::CONSUME && wanted(row, &other(row))).count() as f64
            / kinds[&kind::CONSUME]
    };
    let reason =
        |wanted: &'static str| move |_: &Row, other: &Value| other["stream_status"]["end_reason"] == wanted;
    let expected: [(&str, f64, f64, &Wanted); 10] = [
        ("streams", 0.55, 0.75, &|row, _| row.is_stream),
        ("done", 0.3, 0.6, &reason("done")),
        ("eof", 0.1, 0.25, &reason("eof")),
        ("client_gone", 0.005, 0.03, &reason("client_gone")),
        ("timeout", 0.0005, 0.005, &reason("timeout")),
        ("cached", 0.1, 0.4, &|_, other| number(other, "cache_tokens") > 0.0),
        ("claude", 0.15, 0.3, &|_, other| other["claude"] == true),
        ("retried", 0.01, 0.06, &|_, other| {
            other["admin_info"]["use_channel"].as_array().is_some_and(|all| all.len() > 1)
        }),
        ("multi-key", 0.2, 0.5, &|_, other| other["admin_info"]["is_multi_key"] == true),
        ("tests", 0.005, 0.03, &|row, _| row.token_name == CHANNEL_TEST_TOKEN && row.token_id == 0),
    ];
    for (name, low, high, wanted) in expected {
        let measured = share(wanted);
        assert!((low..high).contains(&measured), "{name}: {measured}");
    }
}

#[test]
fn latency_has_a_heavy_tail_and_first_tokens_only_where_there_was_a_stream() {
    let rows = day();
    let mut times: Vec<i64> =
        rows.iter().filter(|row| row.kind == kind::CONSUME).map(|row| row.use_time).collect();
    times.sort_unstable();
    let at =
        |share: f64| times[usize::try_from(crate::demo::dice::whole(times.len() as f64 * share)).unwrap()];
    assert!((2..=8).contains(&at(0.5)), "median {}", at(0.5));
    assert!((20..=90).contains(&at(0.99)), "p99 {}", at(0.99));
    assert!(*times.last().unwrap() > 200);
    for row in rows.iter().filter(|row| row.kind == kind::CONSUME) {
        let Some(frt) = other(row)["frt"].as_f64() else { continue };
        if row.is_stream {
            assert!(frt > 0.0 && frt <= (row.use_time + 1) as f64 * 1000.0, "{row:?}");
        } else {
            assert!((frt + 1000.0).abs() < 0.5);
        }
    }
}

#[test]
fn request_ids_are_unique_but_for_the_rows_of_one_request() {
    let rows = day();
    let finals = rows.iter().filter(|row| row.kind == kind::CONSUME && !row.other.contains("violation_fee"));
    let ids: Vec<&str> = finals.map(|row| &*row.request_id).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    assert!(ids.iter().all(|id| id.len() == 39));
}

#[test]
fn days_are_busier_than_nights_and_live_traffic_is_two_to_five_rows_a_second() {
    let rows = day().len() as f64 / 86_400.0 / 0.3;
    assert!((0.92..1.08).contains(&rows), "{rows}");
    for second in (NOW..NOW + 86_400).step_by(60) {
        let expected = Pace::Demo { live_from: NOW }.requests(second) * ROWS_PER_REQUEST;
        assert!((1.8..5.2).contains(&expected), "{expected}");
    }
    let midnight = NOW - NOW.rem_euclid(86_400);
    assert!(rhythm(midnight + 9 * 3600) > 2.0 * rhythm(midnight + 21 * 3600));
}

#[test]
fn a_disabled_channel_gets_no_request_and_its_models_move_or_vanish() {
    let routes = Routes::from_abilities(
        crate::demo::routes::abilities()
            .filter(|ability| [1, 2, 3, 5].contains(&CHANNELS[ability.channel].id)),
    );
    let mut generator = Generator::new(42, Pace::Demo { live_from: NOW }, NOW);
    let rows = live(&mut generator, NOW + 600, &routes);
    let count = |model: &str| rows.iter().filter(|row| row.model_name == model).count();
    assert!(rows.iter().all(|row| [0, 1, 2, 3, 5].contains(&row.channel_id)));
    assert!(count("gemini-2.5-flash") > 20, "over openrouter");
    assert_eq!(count("sora-2"), 0);
}

/// Requests a second on a channel, the share of failures, the mean duration, and money.
fn facts(rows: &[Row], id: i64) -> (f64, f64, f64, f64) {
    let here: Vec<&Row> = rows.iter().filter(|row| row.channel_id == id).collect();
    let errors = here.iter().filter(|row| row.kind == kind::ERROR).count() as f64;
    let total = (here.len() as f64).max(1.0);
    let time = here.iter().map(|row| row.use_time).sum::<i64>() as f64;
    let quota = here.iter().map(|row| row.quota).sum::<i64>() as f64;
    (total, errors / total, time / total, quota)
}

#[test]
fn episodes_do_what_they_are_called() {
    let routes = Routes::initial();
    let run = |kind: Option<Episode>| {
        // Long after the beginning nothing is scheduled in this stretch but what is started here.
        let mut generator =
            Generator::new(42, Pace::Steady { rows_per_second: 3.0, live_from: NOW + 90_000 }, NOW);
        live(&mut generator, NOW, &routes);
        let place = kind.map(|kind| generator.start_episode(kind).channel_id());
        (live(&mut generator, NOW + 180, &routes), place)
    };
    let (calm, _) = run(None);

    let (slow, place) = run(Some(Episode::Slow));
    let place = place.unwrap();
    assert!(facts(&slow, place).2 > 2.5 * facts(&calm, place).2, "{slow:?}");

    let (failing, place) = run(Some(Episode::Errors));
    assert!(facts(&failing, place.unwrap()).1 > 0.4, "{:?}", facts(&failing, place.unwrap()));

    let (burning, place) = run(Some(Episode::Burn));
    let place = place.unwrap();
    let (was, is) = (facts(&calm, place).3, facts(&burning, place).3);
    assert!(is > 10.0 * was && is > 10.0 * 500_000.0, "{is} after {was}");
    assert!(
        burning.iter().filter(|row| row.token_name == "nightly-agent").all(|row| row.channel_id == place)
    );
}

#[test]
fn switching_the_burning_channel_off_ends_the_burning() {
    let mut generator = Generator::new(42, Pace::Demo { live_from: NOW }, NOW);
    live(&mut generator, NOW, &Routes::initial());
    let spell = generator.start_episode(Episode::Burn);
    let without = Routes::from_abilities(
        crate::demo::routes::abilities()
            .filter(|ability| ability.channel != spell.channel && ability.channel != channel(11).unwrap()),
    );
    let rows = live(&mut generator, NOW + 180, &without);
    assert!(rows.len() > 200 && rows.iter().all(|row| row.token_name != "nightly-agent"));
}
