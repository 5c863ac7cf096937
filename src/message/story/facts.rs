//! Where a limit stands, as rows.

use super::Teller;
use crate::config::Language;
use crate::message::figures::{self, amount, percent};
use crate::message::text::{Row, Text};
use crate::message::words::Phrase;
use crate::message::{Contributor, LimitFacts};

/// Most contributors in a message; whoever comes after them is on the dashboard.
const MAX_CONTRIBUTORS: usize = 5;

impl Teller<'_> {
    /// Used against max, with percent and unit.
    pub(super) fn used(self, facts: &LimitFacts) -> Text {
        let share = percent(facts.used, facts.max);
        let phrase = if share.is_some() { Phrase::UsedShare } else { Phrase::UsedOf };
        let texts = [
            ("used", Text::ours(amount(&facts.measure, facts.used, facts.max))),
            ("max", Text::ours(amount(&facts.measure, facts.max, facts.max))),
            ("unit", self.unit(&facts.measure)),
            ("percent", Text::ours(share.unwrap_or_default())),
        ];
        self.words.say(phrase, &texts)
    }

    /// The unit of a measure.
    pub(super) fn unit(self, measure: &str) -> Text {
        Phrase::of_unit(measure).map_or_else(|| Text::value(measure), |unit| self.phrase(unit))
    }

    /// The window, and when it begins anew or has calmed down.
    pub(super) fn window(self, facts: &LimitFacts) -> Text {
        let (window, at_once) = match facts.window.as_str() {
            "day" => (self.phrase(Phrase::Today), true),
            "week" => (self.phrase(Phrase::ThisWeek), true),
            "month" => (self.phrase(Phrase::ThisMonth), true),
            rolling => (self.words.say(Phrase::LastWindow, &[("window", self.rolling(rolling))]), false),
        };
        match facts.resets_at.filter(|at| *at > self.known.now) {
            Some(at) => {
                let phrase = if at_once { Phrase::Resets } else { Phrase::CalmsDown };
                self.words.say(phrase, &[("window", window), ("time", self.time(at))])
            }
            None => window,
        }
    }

    /// The length of a rolling window. In English it is said as it is written.
    fn rolling(self, window: &str) -> Text {
        let said = match self.wording.language {
            Language::En => None,
            Language::ZhCn => figures::spelled(window, self.words),
        };
        said.map_or_else(|| Text::value(window), Text::ours)
    }

    /// Who used most of it.
    pub(super) fn contributors(self, facts: &LimitFacts) -> Vec<Row> {
        let biggest = facts.contributors.iter().take(MAX_CONTRIBUTORS);
        let items =
            biggest.map(|(who, sum)| Row::Item(self.contributor(facts, who, *sum))).collect::<Vec<_>>();
        if items.is_empty() {
            return items;
        }
        let mut rows = vec![self.field(Phrase::Biggest, Text::default())];
        rows.extend(items);
        rows
    }

    /// One of them: user, model, channel, and their part.
    pub(super) fn contributor(self, facts: &LimitFacts, who: &Contributor, sum: f64) -> Text {
        let named = |name: &str, none: Phrase| {
            if name.is_empty() { self.phrase(none) } else { Text::value(name) }
        };
        let channel = match who.channel_id {
            0 => self.phrase(Phrase::Anywhere),
            id if who.channel_name.is_empty() => self.channel_among(id),
            id => Text::value(&who.channel_name).then(&format!(" ({id})")),
        };
        let share = percent(sum, facts.used);
        let phrase = if share.is_some() { Phrase::Share } else { Phrase::ShareAlone };
        let part = [
            ("amount", Text::ours(amount(&facts.measure, sum, facts.max))),
            ("unit", self.unit(&facts.measure)),
            ("percent", Text::ours(share.unwrap_or_default())),
        ];
        let comma = self.words.of(Phrase::Comma);
        named(&who.username, Phrase::NoUser)
            .then(comma)
            .and(named(&who.model, Phrase::NoModel))
            .then(comma)
            .and(channel)
            .then(self.words.of(Phrase::Colon))
            .and(self.words.say(phrase, &part))
    }
}
