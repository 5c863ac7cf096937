//! How many rows a second are counted: run by hand, in a release build.

use super::standings_tests::{at, limit, request, standings};
use super::{ChannelScope, Limit, Measure, ModelScope};

#[test]
#[ignore = "a measurement, for a release build"]
fn a_million_rows_a_second() {
    let now = at("2026-11-25T12:00:00Z");
    let windows = ["day", "week", "month", "1h", "24h", "7d"];
    for (what, count, matching) in
        [("20 limits that all match", 20, true), ("100 limits of 100 channels", 100, false)]
    {
        let limits: Vec<Limit> = (0..count)
            .zip(0..)
            .map(|(index, id)| Limit {
                channel: if matching { ChannelScope::Each } else { ChannelScope::One(id) },
                model: if matching && index % 2 == 0 { ModelScope::Each } else { ModelScope::Together },
                ..limit(Measure::ALL[index % 7], windows[index % 6])
            })
            .collect();
        let models: Vec<String> = (0..20).map(|number| format!("model-{number}")).collect();
        let mut standings = standings(&limits, now);
        let (rows, begun) = (2_000_000, std::time::Instant::now());
        for (row, model) in (0..rows).zip(models.iter().cycle()) {
            let second = now + row / 100;
            if row % 1000 == 0 {
                standings.advance(second);
            }
            standings.add(&request(second, row % 97, model), |_| true);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let begun = std::time::Instant::now();
        let keys = standings.read().len();
        println!(
            "{what}: {:.2} million rows/s, {keys} keys read in {:?}",
            rows as f64 / seconds / 1e6,
            begun.elapsed()
        );
    }
}
