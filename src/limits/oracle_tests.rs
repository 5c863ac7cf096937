//! Standings against sums over rows that are simply kept, with clocks, late rows and restarts as they come.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::{
    Action, ChannelScope, Entry, Glob, Length, Limit, Measure, ModelScope, Period, Restore, Severity,
    Standings, Window,
};
use crate::record::{ChannelId, RowOutcome};

/// Zones and instants around which their clocks do something unusual.
const MOMENTS: &[(&str, &str)] = &[
    ("UTC", "2026-02-27T20:00:00Z"),
    ("Asia/Shanghai", "2026-12-31T10:00:00Z"),
    ("Europe/Berlin", "2026-03-28T20:00:00Z"),
    ("Europe/Berlin", "2026-10-24T18:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T08:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T08:00:00Z"),
    ("America/Sao_Paulo", "2018-11-03T20:00:00Z"),
    ("America/Havana", "2026-10-31T20:00:00Z"),
    ("Pacific/Apia", "2011-12-29T20:00:00Z"),
];

const LENGTHS: &[&str] = &["1m", "10m", "1000s", "1001s", "1h", "67m", "24h", "100000s", "7d", "30d"];

const MODELS: &[&str] = &["gpt-4o", "gpt-4o-mini", "claude", "模型", ""];

#[derive(Debug, Clone)]
struct Row {
    created_at: i64,
    outcome: RowOutcome,
    channel_id: ChannelId,
    model: &'static str,
    input_tokens: u64,
    output_tokens: u64,
    consumed: u64,
    refunded: u64,
    quota_per_unit: f64,
}

impl Row {
    fn entry(&self) -> Entry<'_> {
        Entry {
            id: 0,
            created_at: self.created_at,
            outcome: self.outcome,
            channel_id: self.channel_id,
            model: self.model,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            consumed: self.consumed,
            refunded: self.refunded,
            quota_per_unit: self.quota_per_unit,
        }
    }

    /// What it adds to a measure.
    fn amount(&self, measure: Measure) -> f64 {
        use RowOutcome::{ClientGone, Error, Refund, Settlement, StreamError, Success};
        let answered = matches!(self.outcome, Success | StreamError | ClientGone);
        let pays = answered || matches!(self.outcome, Settlement | Refund);
        let quota = if pays { self.consumed as f64 - self.refunded as f64 } else { 0.0 };
        let if_answered = |number: u64| if answered { number as f64 } else { 0.0 };
        match measure {
            Measure::Tokens => if_answered(self.input_tokens + self.output_tokens),
            Measure::InputTokens => if_answered(self.input_tokens),
            Measure::OutputTokens => if_answered(self.output_tokens),
            Measure::Requests => if_answered(1),
            Measure::Errors => f64::from(u8::from(self.outcome == Error)),
            Measure::Quota => quota,
            Measure::CostUsd => quota / self.quota_per_unit,
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// A row appears, dated so many seconds after now.
    Row(i64, Row),
    /// The clock goes on, or back.
    Clock(i64),
    Restart,
}

fn row() -> impl Strategy<Value = Row> {
    let amounts = (0..1_000_000u64, 0..1000u64, 0..10_000_000u64, 0..20_000_000u64);
    let outcome =
        prop_oneof![3 => Just(RowOutcome::Success), 1 => prop::sample::select(RowOutcome::ALL.to_vec())];
    let units = prop::sample::select(vec![500_000.0, 7.0, 1.0]);
    (outcome, 0..4i64, prop::sample::select(MODELS), amounts, units).prop_map(
        |(outcome, channel_id, model, (input_tokens, output_tokens, consumed, refunded), quota_per_unit)| {
            let gives_back = matches!(outcome, RowOutcome::Refund | RowOutcome::Settlement);
            let refunded = if gives_back { refunded } else { 0 };
            let consumed = if outcome == RowOutcome::Refund { 0 } else { consumed };
            let created_at = 0;
            Row {
                created_at,
                outcome,
                channel_id,
                model,
                input_tokens,
                output_tokens,
                consumed,
                refunded,
                quota_per_unit,
            }
        },
    )
}

/// `far`: how many seconds ahead a row's date may be.
fn event(far: i64) -> impl Strategy<Value = Event> {
    // Dates near the edge of a rolling window.
    let edge = (prop::sample::select(LENGTHS), -100..100i64).prop_map(|(text, part)| {
        let seconds = Length::parse(text).map_or(0, |length| length.seconds());
        -seconds - seconds * part / 30_000 - part % 3
    });
    let late = prop_oneof![
        6 => edge,
        6 => Just(0i64),
        3 => -5..5i64,
        2 => -7200..600i64,
        1 => -3 * 86_400..0i64,
        1 => 0..far,
    ];
    let step = prop_oneof![
        4 => 1..5i64,
        4 => 1..1200i64,
        3 => 1200..20_000i64,
        1 => 20_000..200_000i64,
        1 => -10..0i64,
        1 => -100_000..0i64,
    ];
    prop_oneof![
        6 => (late, row()).prop_map(|(late, row)| Event::Row(late, row)),
        4 => step.prop_map(Event::Clock),
        1 => Just(Event::Restart),
    ]
}

fn rolling(text: &str) -> Window {
    Window::Rolling(Length::parse(text).expect("a length"))
}

fn calendar_window() -> impl Strategy<Value = Window> {
    prop::sample::select(Period::ALL.map(Window::Calendar).to_vec())
}

fn any_window() -> impl Strategy<Value = Window> {
    prop_oneof![1 => calendar_window(), 2 => prop::sample::select(LENGTHS).prop_map(rolling)]
}

fn limit(window: impl Strategy<Value = Window>) -> impl Strategy<Value = Limit> {
    let channel =
        prop::sample::select(vec![ChannelScope::Together, ChannelScope::Each, ChannelScope::One(2)]);
    let model = prop::sample::select(vec![
        ModelScope::Together,
        ModelScope::Each,
        ModelScope::Name("claude".into()),
        ModelScope::Glob(Glob::new("gpt-4o*")),
    ]);
    (channel, model, prop::sample::select(Measure::ALL.to_vec()), window).prop_map(
        |(channel, model, measure, window)| Limit {
            name: "a".into(),
            channel,
            model,
            measure,
            max: 1e6,
            window,
            warn_at: None,
            severity: Severity::Critical,
            action: Action::Notify,
            restore: Restore::Never,
        },
    )
}

/// All rows so far, and the standings that ought to agree with them.
struct World<'a> {
    limits: &'a [Limit],
    zone: TimeZone,
    now: i64,
    rows: Vec<Row>,
    standings: Standings,
    /// Whether a row was further ahead of the clock than rolling windows keep.
    too_far: bool,
}

impl<'a> World<'a> {
    fn new(limits: &'a [Limit], (zone, start): (&str, &str)) -> Self {
        let zone = TimeZone::get(zone).expect("a known zone");
        let now = start.parse::<Timestamp>().expect("a time").as_second();
        let standings = Standings::new(limits, &zone, 1000, now);
        Self { limits, zone, now, rows: Vec::new(), standings, too_far: false }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Row(late, row) => {
                let row = Row { created_at: self.now + late, ..row.clone() };
                self.standings.add(&row.entry(), |_| true);
                self.too_far |= row.created_at > self.now + 600;
                self.rows.push(row);
            }
            Event::Clock(step) => {
                self.now += step;
                if !self.standings.advance(self.now) {
                    self.restart();
                }
            }
            Event::Restart => self.restart(),
        }
    }

    /// What the owner does: only the rows that are asked for, and in another order.
    fn restart(&mut self) {
        self.standings = Standings::new(self.limits, &self.zone, 1000, self.now);
        let since = self.standings.earliest();
        for row in self.rows.iter().rev().filter(|row| row.created_at >= since) {
            self.standings.add(&row.entry(), |_| true);
        }
        assert!(self.standings.is_whole());
        self.too_far = self.rows.iter().any(|row| row.created_at > self.now + 600);
    }

    fn date(&self, at: i64) -> DateTime {
        self.zone.to_datetime(Timestamp::from_second(at).expect("a time"))
    }

    /// The calendar window that an instant is in, as something to compare.
    fn period(&self, period: Period, at: i64) -> Date {
        let date = self.date(at).date();
        match period {
            Period::Day => date,
            Period::Week => {
                let mut monday = date;
                while monday.weekday() != jiff::civil::Weekday::Monday {
                    monday = monday.yesterday().expect("a day");
                }
                monday
            }
            Period::Month => date.first_of_month(),
        }
    }

    /// Compares every sum of every limit.
    fn check(&self) {
        let read = self.standings.read();
        for (index, limit) in self.limits.iter().enumerate() {
            if self.too_far && matches!(limit.window, Window::Rolling(_)) {
                continue;
            }
            let mut found: BTreeMap<(Option<ChannelId>, Option<&str>), f64> = BTreeMap::new();
            for standing in read.iter().filter(|standing| standing.limit == index) {
                assert!(!standing.overflow && standing.ratio == standing.used / limit.max);
                let before = found.insert((standing.channel_id, standing.model.as_deref()), standing.used);
                assert_eq!(before, None, "a key is there once");
                if let (Window::Calendar(period), Some(end)) = (&limit.window, standing.resets_at) {
                    assert_eq!(self.period(*period, end - 1), self.period(*period, self.now));
                    assert_ne!(self.period(*period, end), self.period(*period, self.now));
                }
            }
            for (key, rows) in self.by_key(limit) {
                let used = found.remove(&key).unwrap_or(0.0);
                let sums = self.possible(limit, &rows);
                let near = |sum: &f64| (sum.max(0.0) - used).abs() <= 1e-9 * (rows.len() as f64 + sum.abs());
                assert!(sums.iter().any(near), "{limit:?} {key:?}: {used}, where {sums:?} are right");
            }
            assert!(found.values().all(|used| *used == 0.0), "{limit:?}: {found:?}");
        }
    }

    fn by_key(&self, limit: &Limit) -> BTreeMap<(Option<ChannelId>, Option<&str>), Vec<&Row>> {
        let mut keys: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
        for row in &self.rows {
            let channel = match limit.channel {
                ChannelScope::Together => None,
                ChannelScope::Each if row.channel_id == 0 => continue,
                ChannelScope::One(2) if row.channel_id != 2 => continue,
                ChannelScope::Each | ChannelScope::One(_) => Some(row.channel_id),
            };
            let model = match &limit.model {
                ModelScope::Together => None,
                ModelScope::Each if row.model.is_empty() => continue,
                ModelScope::Each => Some(row.model),
                ModelScope::Name(_) if row.model == "claude" => Some("claude"),
                ModelScope::Glob(_) if row.model.starts_with("gpt-4o") => Some("gpt-4o*"),
                _ => continue,
            };
            keys.entry((channel, model)).or_default().push(row);
        }
        keys
    }

    /// Sums that are right: one by the calendar; rolling, one for each instant in the last thousandth at the edge.
    fn possible(&self, limit: &Limit, rows: &[&Row]) -> Vec<f64> {
        let sum = |counts: &dyn Fn(i64) -> bool| -> f64 {
            let rows = rows.iter().filter(|row| counts(row.created_at));
            rows.map(|row| row.amount(limit.measure)).sum()
        };
        match &limit.window {
            Window::Calendar(period) => {
                let now = self.period(*period, self.now);
                vec![sum(&|at| self.period(*period, at) == now)]
            }
            Window::Rolling(length) => {
                let edge = self.now - length.seconds();
                let slack = if length.seconds() <= 1000 { 0 } else { length.seconds() / 1000 };
                let instants = rows.iter().map(|row| row.created_at - 1);
                let cuts = instants.filter(|at| (edge - slack..edge).contains(at)).chain([edge]);
                cuts.map(|cut| sum(&|at| at > cut)).collect()
            }
        }
    }
}

fn agree(limits: &[Limit], moment: (&str, &str), events: &[Event]) {
    let mut world = World::new(limits, moment);
    for event in events {
        world.happen(event);
        world.check();
    }
}

proptest! {
    #[test]
    fn standings_agree_with_the_rows(
        limits in prop::collection::vec(limit(any_window()), 1..5),
        moment in prop::sample::select(MOMENTS),
        events in prop::collection::vec(event(600), 1..100),
    ) {
        agree(&limits, moment, &events);
    }

    #[test]
    fn calendar_windows_agree_with_rows_of_any_date(
        limits in prop::collection::vec(limit(calendar_window()), 1..4),
        moment in prop::sample::select(MOMENTS),
        events in prop::collection::vec(event(50 * 86_400), 1..100),
    ) {
        agree(&limits, moment, &events);
    }

    #[test]
    fn nothing_is_lost_where_keys_are_too_many(
        events in prop::collection::vec(event(1), 1..100),
        max_keys in 0..6usize,
        limit in limit(Just(rolling("24h"))),
    ) {
        let mut limit = limit;
        limit.measure = Measure::Requests;
        let limits = [limit.clone(), Limit { channel: ChannelScope::Together, model: ModelScope::Together, ..limit.clone() }];
        let mut world = World::new(&limits, MOMENTS[0]);
        world.standings = Standings::new(&limits, &world.zone, max_keys, world.now);
        for event in &events {
            match event {
                Event::Clock(step) => {
                    world.now += step.max(&0);
                    world.standings.advance(world.now);
                }
                Event::Row(..) => world.happen(event),
                Event::Restart => {}
            }
            let read = world.standings.read();
            let used: f64 = read.iter().filter(|standing| standing.limit == 0).map(|standing| standing.used).sum();
            let rows = world.by_key(&limit).into_values().flatten().collect::<Vec<_>>();
            prop_assert!(world.possible(&limit, &rows).contains(&used));
            let split = limit.channel == ChannelScope::Each || limit.model == ModelScope::Each;
            prop_assert!(!split || read.iter().filter(|s| s.limit == 0 && !s.overflow).count() <= max_keys);
        }
    }
}
