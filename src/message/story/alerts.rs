//! A group of alerts: which of them are told in full, in which order, and what is said of each.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::acts::{disables, tag};
use super::links;
use super::{Block, Story, Teller, Tone};
use crate::alert::{Alert, Status};
use crate::breaker::act::Act;
use crate::config::Language;
use crate::limits::{REST, Severity};
use crate::message::figures::{self, percent};
use crate::message::template::{self, View};
use crate::message::text::{Link, Row, Text, cut};
use crate::message::words::Phrase;
use crate::message::{AlertGroup, Change, LimitFacts, Told};

/// Alerts of a message that are told in full; each further one has a line. Nobody reads more at night.
const MAX_DETAILED: usize = 5;

/// The boards that come with the monitor.
const OUR_BOARDS: [&str; 7] =
    ["tm-overview", "tm-channels", "tm-performance", "tm-logs", "tm-log-detail", "tm-limits", "tm-self"];

/// Labels of a user's own alert that are shown.
const MAX_LABELS: usize = 12;

/// Longest text of an own wording's field, in characters; the message cuts further.
const MAX_FIELD: usize = 4000;

/// Labels that are shown by another name, or are about where the alert came from.
const KNOWN_LABELS: [&str; 10] = [
    "alertname",
    "severity",
    "channel_id",
    "channel_name",
    "model",
    "group",
    "action",
    "restore",
    "grafana_folder",
    "datasource_uid",
];

/// An alert and what is known of it.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    told: &'a Told,
    facts: Option<&'a LimitFacts>,
    act: Option<&'a Act>,
    over: Option<Timestamp>,
}

impl<'a> Case<'a> {
    fn alert(&self) -> &'a Alert {
        &self.told.alert
    }

    fn tone(&self) -> Tone {
        if self.over.is_some() { Tone::Good } else { Tone::of(self.alert().severity()) }
    }

    /// The number of the channel that it is about.
    fn channel_id(&self) -> Option<i64> {
        self.alert().label("channel_id").parse().ok().filter(|id| *id > 0)
    }

    /// Firing before resolved, worst first, those that switch channels off first, then the oldest.
    fn rank(&self) -> impl Ord + use<> {
        let severity = match self.alert().severity() {
            Severity::Critical => 0,
            Severity::Warning => 1,
            Severity::Info => 2,
        };
        (self.over.is_some(), severity, Reverse(self.told.act.is_some()), self.told.opened_at)
    }
}

impl Teller<'_> {
    /// A group of alerts.
    pub(super) fn alerts(self, group: &AlertGroup) -> Story {
        let mut cases: Vec<Case<'_>> = group
            .alerts
            .iter()
            .enumerate()
            .map(|(index, told)| Case {
                told,
                facts: self.known.alerts.get(index).and_then(Option::as_ref),
                act: told.act.and_then(|act| self.known.acts.get(&act)),
                over: (told.alert.status == Status::Resolved)
                    .then(|| told.alert.ends_at.unwrap_or(group.received_at)),
            })
            .collect();
        cases.sort_by_cached_key(Case::rank);

        let alone = cases.len() == 1 && group.truncated == 0;
        let blocks = cases
            .iter()
            .enumerate()
            .map(|(index, case)| {
                let brief = self.brief(case);
                if index >= MAX_DETAILED {
                    return Block { rows: vec![Row::Line(brief.clone())], brief, is_line: true };
                }
                let mut rows = Vec::new();
                if !alone {
                    let headline = Text::ours(format!("{} ", case.tone().mark()));
                    rows.push(Row::Head(headline.and(self.headline(case))));
                }
                rows.extend(self.body(case));
                rows.extend(self.links(case, group.external_url.as_deref()));
                Block { rows, brief, is_line: false }
            })
            .collect();
        let worst = cases.first().map_or(Tone::Info, Case::tone);
        let mut after = Vec::new();
        if group.truncated > 0 {
            after.push(Row::Line(Text::ours(self.words.count(Phrase::SenderTruncated, group.truncated))));
        }
        let mark = self.words.say(Phrase::Event, &[("event", Text::value(cut(&group.event, 16).0))]);
        let mark = (!group.event.is_empty()).then_some(mark);
        Story { tone: worst, title: self.title(&cases, alone), blocks, after, mark }
    }

    /// The title of a message: the alert itself, or how many.
    fn title(self, cases: &[Case<'_>], alone: bool) -> Text {
        if alone && let Some(case) = cases.first() {
            let headline = self.headline(case);
            return match case.told.change {
                Change::Repeated if case.over.is_none() => {
                    self.words.say(Phrase::StillFiring, &[("what", headline)])
                }
                _ => headline,
            };
        }
        let resolved = cases.iter().filter(|case| case.over.is_some()).count();
        let firing = cases.len() - resolved;
        let mut counts = Vec::new();
        if firing > 0 {
            let phrase = match firing {
                _ if resolved > 0 => Phrase::CountMixed,
                1 => Phrase::CountFiringOne,
                _ => Phrase::CountFiring,
            };
            counts.push(self.words.count(phrase, u64::try_from(firing).unwrap_or(u64::MAX)));
        }
        if resolved > 0 {
            counts.push(self.words.count(Phrase::CountResolved, u64::try_from(resolved).unwrap_or(u64::MAX)));
        }
        let counts = Text::ours(counts.join(self.words.of(Phrase::Comma)));
        let rule = cases.first().map_or("", |case| case.alert().name());
        if !rule.is_empty() && cases.iter().all(|case| case.alert().name() == rule) {
            return self.words.say(Phrase::CountOf, &[("what", self.rule(rule)), ("counts", counts)]);
        }
        counts
    }

    /// What a rule is called.
    fn rule(self, alertname: &str) -> Text {
        match Phrase::of_rule(alertname) {
            Some(name) => self.phrase(name),
            None if alertname.trim().is_empty() => self.phrase(Phrase::NoName),
            None => Text::value(alertname),
        }
    }

    /// The alert in half a line: what, of whom, and whether anything was done.
    fn headline(self, case: &Case<'_>) -> Text {
        let what = self.matter(case);
        let what =
            if case.over.is_some() { self.words.say(Phrase::Resolved, &[("what", what)]) } else { what };
        match self.held(case).filter(|_| case.over.is_none()).and_then(tag) {
            Some(tag) => what.then(" · ").then(self.words.of(tag)),
            None => what,
        }
    }

    /// What an alert is about: its rule and whom that concerns; of a user's own rule what it says itself.
    fn matter(self, case: &Case<'_>) -> Text {
        let alert = case.alert();
        let summary = self.annotation(alert, "summary");
        if Phrase::of_rule(alert.name()).is_none() && !summary.trim().is_empty() {
            return Text::value(summary);
        }
        let rule = self.rule(alert.name());
        let subject = self.subject(case);
        if subject.is_empty() {
            return rule;
        }
        self.words.say(Phrase::Titled, &[("what", rule), ("whom", subject)])
    }

    /// Whom an alert concerns: the limit and channel, or whatever else there is.
    fn subject(self, case: &Case<'_>) -> Text {
        let alert = case.alert();
        let mut parts = Vec::new();
        let named = |name: &str| Some(alert.label(name)).filter(|value| !value.is_empty()).map(Text::value);
        parts.extend(named("limit"));
        parts.extend(self.channel_of_alert(case, Self::channel_among));
        if parts.len() < 2 {
            parts.extend(self.model(case));
        }
        if parts.is_empty() || alert.label("channel_id").is_empty() {
            parts.extend(named("group"));
        }
        if parts.is_empty() {
            let others = ["target", "reason", "result", "family", "integration", "rule_group"];
            parts.extend(others.into_iter().find_map(named));
        }
        let comma = self.words.of(Phrase::Comma);
        parts.into_iter().reduce(|all, part| all.then(comma).and(part)).unwrap_or_default()
    }

    /// The channel of an alert in a field of its own.
    fn channel_label(self, case: &Case<'_>) -> Option<Text> {
        self.channel_of_alert(case, Self::channel_name)
    }

    /// The channel of an alert by today's name, by the one in its labels if that is not known, else as `by_id` says it.
    fn channel_of_alert(self, case: &Case<'_>, by_id: impl Fn(Self, i64) -> Text) -> Option<Text> {
        if let Some(id) = case.channel_id() {
            let old = case.alert().label("channel_name");
            if !self.known.channel_names.contains_key(&id) && !old.is_empty() {
                return Some(Text::value(old).then(&format!(" ({id})")));
            }
            return Some(by_id(self, id));
        }
        match case.alert().label("channel_id") {
            "" => None,
            REST => Some(self.phrase(Phrase::OtherChannels)),
            odd => Some(Text::value(odd)),
        }
    }

    /// The model of an alert, or the pattern of models that its limit is about.
    fn model(self, case: &Case<'_>) -> Option<Text> {
        let of_limit = case.facts.map(|facts| facts.models.as_str()).filter(|pattern| !pattern.is_empty());
        match case.alert().label("model") {
            "" => of_limit.map(Text::value),
            REST => Some(self.phrase(Phrase::OtherModels)),
            model => Some(Text::value(model)),
        }
    }

    /// What an alert says in the language of its reader, if its rule has that, such as `summary_zh`.
    fn annotation<'a>(self, alert: &'a Alert, name: &str) -> &'a str {
        let own = match self.wording.language {
            Language::En => "",
            Language::ZhCn => alert.annotation(&format!("{name}_zh")),
        };
        if own.trim().is_empty() { alert.annotation(name) } else { own }
    }

    /// An alert on one line, with its mark.
    fn brief(self, case: &Case<'_>) -> Text {
        let mut brief = Text::ours(format!("{} ", case.tone().mark())).and(self.headline(case));
        if case.over.is_none()
            && let Some(share) = case.facts.and_then(|facts| percent(facts.used, facts.max))
        {
            brief = brief.then(&format!(" · {share}%"));
        }
        brief
    }

    /// All that is known of an alert, in rows; an operator's own wording if there is one.
    fn body(self, case: &Case<'_>) -> Vec<Row> {
        if let Some(template) = &self.wording.template {
            match template.render(self.view(case)) {
                Ok(text) if !text.trim().is_empty() => return vec![Row::Own(Text::lines(&text))],
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("MESSAGE_TEMPLATE: {error}; the alert is told in the usual words");
                }
            }
        }
        let alert = case.alert();
        let mut rows = Vec::new();
        let ours = Phrase::of_rule(alert.name()).is_some();
        if !ours && !self.annotation(alert, "summary").trim().is_empty() && !alert.name().is_empty() {
            rows.push(self.field(Phrase::Rule, Text::value(alert.name())));
        }
        let limit = alert.label("limit");
        if !limit.is_empty() {
            rows.push(self.field(Phrase::Limit, Text::value(limit)));
        }
        rows.extend(self.channel_label(case).map(|channel| self.field(Phrase::Channel, channel)));
        rows.extend(self.model(case).map(|model| self.field(Phrase::Model, model)));
        if !alert.label("group").is_empty() {
            rows.push(self.field(Phrase::Group, Text::value(alert.label("group"))));
        }
        if let Some(facts) = case.facts {
            let name = if case.over.is_some() { Phrase::Now } else { Phrase::Used };
            rows.push(self.field(name, self.used(facts)));
            rows.push(self.field(Phrase::Window, self.window(facts)));
        }
        rows.push(match case.over {
            Some(over) => self.field(Phrase::Lasted, self.lasted(case, over)),
            None => self.field(Phrase::Since, self.time(case.told.opened_at)),
        });
        rows.extend(self.done(case).map(|done| self.field(Phrase::Breaker, done)));
        let then = self.held(case).and_then(|act| self.afterwards(act));
        rows.extend(then.map(|then| self.field(Phrase::Afterwards, then)));
        if let (Some(facts), None) = (case.facts, case.over) {
            rows.extend(self.contributors(facts));
        }
        rows.extend(self.description(case).map(Row::Long));
        if !ours {
            rows.extend(self.labels(alert).map(|labels| self.field(Phrase::Labels, labels)));
        }
        rows
    }

    fn lasted(self, case: &Case<'_>, over: Timestamp) -> Text {
        let from = case.told.opened_at;
        let texts = [
            ("length", self.length(figures::between(from, over))),
            ("from", Text::ours(figures::time(from, &self.wording.zone))),
            ("to", Text::ours(figures::time(over, &self.wording.zone))),
        ];
        self.words.say(Phrase::FromTo, &texts)
    }

    /// The act for an alert, unless it disabled the channel and that is over: a person changed it since, or it was enabled
    /// again. To say then that it is disabled would be to say that nothing is spent.
    fn held<'a>(self, case: &Case<'a>) -> Option<&'a Act> {
        case.act.filter(|act| !disables(act) || self.holds(act))
    }

    /// What was done about the channel.
    fn done(self, case: &Case<'_>) -> Option<Text> {
        let channel =
            || case.channel_id().map_or_else(|| self.phrase(Phrase::ChannelUnknown), |id| self.channel(id));
        match (case.act, case.told.act) {
            (Some(_), _) if self.held(case).is_none() => {
                Some(self.words.say(Phrase::TripReleased, &[("channel", channel())]))
            }
            (Some(act), _) => Some(self.outcome(act)),
            (None, Some(_)) => Some(self.words.say(Phrase::AskedUnknown, &[("channel", channel())])),
            (None, None) if case.alert().asks_to_disable() && case.over.is_none() => {
                Some(self.words.say(Phrase::Asks, &[("channel", channel())]))
            }
            (None, None) => None,
        }
    }

    /// Labels that are not shown otherwise.
    fn labels(self, alert: &Alert) -> Option<Text> {
        let severity = alert.label("severity");
        let odd = Severity::ALL.iter().all(|known| known.as_str() != severity);
        let shown: Vec<(&String, &String)> = alert
            .labels
            .iter()
            .filter(|(name, value)| {
                let hidden =
                    KNOWN_LABELS.contains(&name.as_str()) || name.starts_with("__") || *name == "limit";
                !value.is_empty() && (!hidden || odd && *name == "severity")
            })
            .collect();
        let comma = self.words.of(Phrase::Comma);
        let pair = |(name, value): &(&String, &String)| Text::value(name).then("=").and(Text::value(value));
        let all = shown.iter().take(MAX_LABELS).map(pair).reduce(|all, pair| all.then(comma).and(pair))?;
        match shown.len().saturating_sub(MAX_LABELS) {
            0 => Some(all),
            left => {
                let left = u64::try_from(left).unwrap_or(u64::MAX);
                Some(all.then(&self.words.count(Phrase::LabelsLeft, left)))
            }
        }
    }

    /// Where to go on, the most useful first.
    fn links(self, case: &Case<'_>, sender: Option<&str>) -> Vec<Row> {
        let alert = case.alert();
        let label = |phrase| self.words.of(phrase);
        let sender = sender.filter(|url| !links::is_of_a_container(url));
        let mut links = Vec::new();
        let dashboard = alert.annotation("dashboard").trim();
        let dashboard = match (dashboard.strip_prefix('/'), &self.wording.grafana_url) {
            (Some(path), Some(grafana)) => {
                Some(format!("{grafana}/{}", board_in(self.wording.language, path)))
            }
            (Some(_), None) => None,
            (None, _) => Some(dashboard.to_owned()).filter(|url| !url.is_empty()),
        };
        let dashboard = dashboard.or_else(|| alert.dashboard_url.clone());
        links.extend(dashboard.and_then(|url| Link::new(label(Phrase::LinkDashboard), &url)));
        let runbook = links::runbook(alert, self.wording.runbook_url.as_deref());
        links.extend(runbook.and_then(|url| Link::new(label(Phrase::LinkRunbook), &url)));
        if case.over.is_none() {
            let silence = links::silence(alert, sender);
            links.extend(silence.and_then(|url| Link::new(label(Phrase::LinkSilence), &url)));
        }
        let source = alert.generator_url.as_deref().filter(|url| !links::is_of_a_container(url));
        links.extend(source.and_then(|url| Link::new(label(Phrase::LinkSource), url)));
        links.extend(sender.and_then(|url| Link::new(label(Phrase::LinkSender), url)));
        if links.is_empty() { Vec::new() } else { vec![Row::Links(links)] }
    }

    /// The same for an operator's own wording.
    fn view(self, case: &Case<'_>) -> View {
        let alert = case.alert();
        let plain = |text: Text| text.plain(MAX_FIELD, self.words);
        let facts = case.facts;
        let biggest = facts.into_iter().flat_map(|facts| {
            let row = move |(who, sum): &(_, f64)| plain(self.contributor(facts, who, *sum));
            facts.contributors.iter().map(row)
        });
        let label = |name| cut(alert.label(name), MAX_FIELD).0.to_owned();
        View {
            status: if case.over.is_some() { "resolved" } else { "firing" },
            change: match case.told.change {
                Change::Opened => "opened",
                Change::Repeated => "repeated",
                Change::Resolved => "resolved",
            },
            severity: alert.severity().as_str(),
            rule: label("alertname"),
            rule_name: plain(self.rule(alert.name())),
            headline: plain(self.headline(case)),
            limit: label("limit"),
            channel: self.channel_label(case).map(plain).unwrap_or_default(),
            channel_id: label("channel_id"),
            model: self.model(case).map(plain).unwrap_or_default(),
            used: facts.map(|facts| plain(self.used(facts))).unwrap_or_default(),
            percent: facts.and_then(|facts| percent(facts.used, facts.max)).unwrap_or_default(),
            window: facts.map(|facts| plain(self.window(facts))).unwrap_or_default(),
            since: plain(self.time(case.told.opened_at)),
            lasted: case.over.map(|over| plain(self.lasted(case, over))).unwrap_or_default(),
            breaker: self.done(case).map(plain).unwrap_or_default(),
            then: case.act.and_then(|act| self.afterwards(act)).map(plain).unwrap_or_default(),
            contributors: biggest.collect(),
            summary: plain(Text::lines(self.annotation(alert, "summary"))),
            description: plain(Text::lines(self.annotation(alert, "description"))),
            labels: template::pairs(&alert.labels),
            annotations: template::pairs(&alert.annotations),
        }
    }

    /// What an alert says itself, as far as that is not said already. Descriptions of the rules that come with the monitor say
    /// all that their summaries say, those of limits what stands above, and all of them how it is while it lasts.
    fn description(self, case: &Case<'_>) -> Option<Text> {
        let alert = case.alert();
        let says = |name| self.annotation(alert, name).trim();
        let (summary, description) = (says("summary"), says("description"));
        let ours = Phrase::of_rule(alert.name()).is_some();
        let said = if ours && (case.facts.is_some() || case.over.is_some()) {
            ""
        } else if !description.is_empty() {
            description
        } else if ours {
            summary
        } else {
            // Grafana's users often write only this one.
            says("message")
        };
        // The summary of a user's own rule is the headline.
        let said = if ours || said != summary { said } else { "" };
        (!said.trim().is_empty()).then(|| Text::lines(said))
    }
}

/// The path of a board in this language: each of ours has a twin.
fn board_in(language: Language, path: &str) -> String {
    let suffix = match language {
        Language::En => "",
        Language::ZhCn => "-zh",
    };
    let rest = path.strip_prefix("d/").unwrap_or_default();
    let (uid, query) = rest.split_at(rest.find(['?', '/']).unwrap_or(rest.len()));
    if OUR_BOARDS.contains(&uid) { format!("d/{uid}{suffix}{query}") } else { path.to_owned() }
}
