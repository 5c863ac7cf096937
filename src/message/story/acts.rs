//! What the breaker did, and what a tired person is to do about it.

use super::{Story, Teller, Tone, single};
use crate::breaker::act::{Act, Failure, Kind, Origin, Outcome, Refusal};
use crate::limits::Restore;
use crate::message::figures::grouped;
use crate::message::text::{Row, Text};
use crate::message::words::Phrase;

impl<'a> Teller<'a> {
    /// A message about an act alone.
    pub(super) fn act(self, id: i64) -> Story {
        let mark = Some(self.act_mark(id));
        let Some(act) = self.known.acts.get(&id) else {
            let rows = vec![Row::Line(self.phrase(Phrase::ActUnknown))];
            return single(Tone::Warning, self.phrase(Phrase::TitleActUnknown), rows, mark);
        };
        let title = self.words.say(title(act), &[("channel", self.channel_of(act))]);
        let mut rows = vec![Row::Line(self.outcome(act))];
        rows.extend(self.afterwards(act).map(Row::Line));
        rows.push(self.field(Phrase::AskedBy, self.origin(&act.origin)));
        rows.push(self.field(Phrase::At, self.time(act.asked_at)));
        rows.extend(self.board());
        single(tone(act), title, rows, mark)
    }

    /// A channel that should be quiet is not.
    pub(super) fn busy(self, id: i64, requests: u64, at_least: bool, seconds: i64) -> Story {
        let count = Text::ours(grouped(requests));
        let count = if at_least { self.words.say(Phrase::AtLeast, &[("count", count)]) } else { count };
        let channel = self
            .known
            .acts
            .get(&id)
            .map_or_else(|| self.phrase(Phrase::ChannelUnknown), |act| self.channel_of(act));
        let said = self.words.say(
            Phrase::Busy,
            &[("channel", channel.clone()), ("count", count), ("length", self.length(seconds))],
        );
        let mut rows = vec![Row::Line(said), Row::Line(self.phrase(Phrase::BusyAdvise))];
        rows.extend(self.board());
        let title = self.words.say(Phrase::TitleBusy, &[("channel", channel)]);
        single(Tone::Critical, title, rows, Some(self.act_mark(id)))
    }

    fn act_mark(self, id: i64) -> Text {
        self.words.say(Phrase::Act, &[("act", Text::ours(id.to_string()))])
    }

    /// The channel of an act, in a sentence.
    pub(super) fn channel_of(self, act: &Act) -> Text {
        act.channel_id.map_or_else(|| self.phrase(Phrase::ChannelUnknown), |id| self.channel(id))
    }

    /// What an act came to, in a sentence or a few.
    pub(super) fn outcome(self, act: &Act) -> Text {
        let trip = act.kind == Kind::Trip;
        let either = |if_trip, if_restore| if trip { if_trip } else { if_restore };
        let by_hand = either(Phrase::TripByHand, Phrase::RestoreByHand);
        let (phrase, key, text, advice) = match &act.outcome {
            Outcome::Pending => (either(Phrase::TripPending, Phrase::RestorePending), "", None, None),
            Outcome::Done => (either(Phrase::TripDone, Phrase::RestoreDone), "", None, None),
            Outcome::WouldDo => (either(Phrase::TripWouldDo, Phrase::RestoreWouldDo), "", None, None),
            Outcome::AlreadySo { .. } if !trip => (Phrase::RestoreAlready, "", None, None),
            Outcome::AlreadySo { by: Some(by), held, .. } => {
                let phrase = if *held { Phrase::TripAlreadyHeld } else { Phrase::TripAlreadyOurs };
                (phrase, "act", Some(Text::ours(by.to_string())), None)
            }
            Outcome::AlreadySo { status: 3, .. } => (Phrase::TripAlreadyByGateway, "", None, None),
            Outcome::AlreadySo { .. } => (Phrase::TripAlreadyByHand, "", None, None),
            Outcome::Refused { why: Refusal::Over } if trip => (Phrase::TripOver, "", None, None),
            Outcome::Refused { why: Refusal::HandsOff { status: Some(1) } } if !trip => {
                (Phrase::RestoreByPerson, "", None, None)
            }
            Outcome::Refused { why } => {
                let phrase = either(Phrase::TripRefused, Phrase::RestoreRefused);
                (phrase, "why", Some(self.refusal(why)), a_person_may(why).then_some(by_hand))
            }
            Outcome::Failed { why } => {
                let phrase = either(Phrase::TripFailed, Phrase::RestoreFailed);
                (phrase, "why", Some(self.failure(why)), Some(by_hand))
            }
            Outcome::Unverified { status: Some(status) } => {
                let phrase = either(Phrase::TripUnverified, Phrase::RestoreUnverified);
                (phrase, "status", Some(self.status(*status)), None)
            }
            Outcome::Unverified { status: None } => {
                (either(Phrase::TripUnread, Phrase::RestoreUnread), "", None, None)
            }
        };
        let channel = match &act.outcome {
            Outcome::Refused { why: Refusal::Rest } => self.phrase(Phrase::OtherChannels),
            _ => self.channel_of(act),
        };
        let texts = [("channel", channel), (key, text.unwrap_or_default())];
        let mut sentences = vec![self.words.say(phrase, &texts)];
        sentences.extend(advice.map(|phrase| self.phrase(phrase)));
        self.sentences(sentences)
    }

    /// What becomes of a channel that was disabled. It is enabled again when every act that holds it agrees, so the one that
    /// lasts longest speaks.
    pub(super) fn afterwards(self, act: &Act) -> Option<Text> {
        if !disables(act) {
            return None;
        }
        let others = self.holders(act).iter().filter(|other| other.id != act.id);
        let longest = others.chain([act]).max_by_key(|act| match (&act.restore, act.restore_at) {
            (Restore::Never, _) => (3, None),
            (Restore::WindowReset, None) => (2, None),
            (Restore::After(_), None) => (1, None),
            (_, Some(at)) => (0, Some(at)),
        })?;
        Some(match (&longest.restore, longest.restore_at) {
            (Restore::Never, _) => self.phrase(Phrase::ThenNever),
            (_, Some(at)) => {
                let phrase = if at > self.known.now { Phrase::ThenAt } else { Phrase::ThenWas };
                self.words.say(phrase, &[("time", self.time(at))])
            }
            (Restore::WindowReset, None) => self.phrase(Phrase::ThenCalm),
            (Restore::After(length), None) => {
                self.words.say(Phrase::ThenAfter, &[("length", self.length(length.seconds()))])
            }
        })
    }

    /// Whether its channel is still held for an act.
    pub(super) fn holds(self, act: &Act) -> bool {
        self.holders(act).iter().any(|holder| holder.id == act.id)
    }

    /// The acts for which the channel of one is held.
    fn holders(self, act: &Act) -> &'a [Act] {
        let holders = act.channel_id.and_then(|channel| self.known.holders.get(&channel));
        holders.map_or(&[], Vec::as_slice)
    }

    fn refusal(self, why: &Refusal) -> Text {
        let say = |phrase, texts: &[(&str, Text)]| self.words.say(phrase, texts);
        match why {
            Refusal::Off => self.phrase(Phrase::WhyOff),
            Refusal::Rest => self.phrase(Phrase::WhyRest),
            Refusal::NoChannel { text } if text.trim().is_empty() => self.phrase(Phrase::WhyNoLabel),
            Refusal::NoChannel { text } => say(Phrase::WhyNoChannel, &[("text", Text::value(text))]),
            Refusal::UnknownChannel => self.phrase(Phrase::WhyUnknownChannel),
            Refusal::Protected => self.phrase(Phrase::WhyProtected),
            Refusal::TooOld { seconds } => say(Phrase::WhyTooOld, &[("length", self.length(*seconds))]),
            Refusal::FromTheFuture { seconds } => {
                say(Phrase::WhyFuture, &[("length", self.length(*seconds))])
            }
            Refusal::LastOf { group, model, others } => {
                let phrase = if *others > 0 { Phrase::WhyLastMore } else { Phrase::WhyLast };
                let texts = [
                    ("group", Text::value(group)),
                    ("model", Text::value(model)),
                    ("others", Text::ours(grouped(*others))),
                ];
                self.sentences(vec![say(phrase, &texts), self.phrase(Phrase::AdviseLast)])
            }
            Refusal::TooMany { per_hour } => {
                say(Phrase::WhyTooMany, &[("count", Text::ours(grouped(*per_hour)))])
            }
            Refusal::HandsOff { status: Some(status) } => {
                say(Phrase::WhyHandsOffNow, &[("status", self.status(*status))])
            }
            Refusal::HandsOff { status: None } => self.phrase(Phrase::WhyHandsOff),
            Refusal::NotOurs => self.phrase(Phrase::WhyNotOurs),
            Refusal::Over => self.phrase(Phrase::WhyOver),
        }
    }

    fn failure(self, why: &Failure) -> Text {
        let with = |phrase, detail: &str| {
            // Sentences of ours go on behind it.
            let detail = detail.trim().trim_end_matches(['.', '。']);
            let detail = if detail.is_empty() { self.phrase(Phrase::NoDetail) } else { Text::value(detail) };
            self.words.say(phrase, &[("detail", detail)])
        };
        match why {
            Failure::NotSet => self.phrase(Phrase::FailNotSet),
            Failure::NoDatabase => self.phrase(Phrase::FailNoDatabase),
            Failure::Unreachable { detail } => with(Phrase::FailUnreachable, detail),
            Failure::Denied { detail } => with(Phrase::FailDenied, detail),
            Failure::RateLimited => self.phrase(Phrase::FailRateLimited),
            Failure::Rejected { detail } => with(Phrase::FailRejected, detail),
            Failure::Server { status } => {
                self.words.say(Phrase::FailServer, &[("status", Text::ours(status.to_string()))])
            }
        }
    }

    fn status(self, status: i64) -> Text {
        match status {
            1 => self.phrase(Phrase::StatusEnabled),
            2 => self.phrase(Phrase::StatusByHand),
            3 => self.phrase(Phrase::StatusByGateway),
            other => self.words.say(Phrase::StatusOther, &[("status", Text::ours(other.to_string()))]),
        }
    }

    fn origin(self, origin: &Origin) -> Text {
        match origin {
            Origin::Alert { rule, .. } => {
                let name = Phrase::of_rule(rule).map_or_else(|| Text::value(rule), |name| self.phrase(name));
                self.words.say(Phrase::ByAlert, &[("rule", name)])
            }
            Origin::Operator => self.phrase(Phrase::ByOperator),
            Origin::Schedule { act } => {
                let number = ("act", Text::ours(act.to_string()));
                match self.known.acts.get(act).map(|parent| &parent.origin) {
                    Some(parent @ Origin::Alert { .. }) => {
                        self.words.say(Phrase::ByScheduleOf, &[number, ("origin", self.origin(parent))])
                    }
                    _ => self.words.say(Phrase::BySchedule, &[number]),
                }
            }
        }
    }
}

/// Whether an act is one that has a channel held.
pub(super) fn disables(act: &Act) -> bool {
    act.kind == Kind::Trip && matches!(act.outcome, Outcome::Done | Outcome::AlreadySo { held: true, .. })
}

/// Whether it helps that a person does what was refused.
fn a_person_may(why: &Refusal) -> bool {
    !matches!(
        why,
        Refusal::HandsOff { .. }
            | Refusal::NotOurs
            | Refusal::Over
            | Refusal::UnknownChannel
            | Refusal::Rest
            | Refusal::NoChannel { .. }
    )
}

/// What a message about an act is called.
fn title(act: &Act) -> Phrase {
    let either = |if_trip, if_restore| if act.kind == Kind::Trip { if_trip } else { if_restore };
    match &act.outcome {
        Outcome::Pending => either(Phrase::TitleTripPending, Phrase::TitleRestorePending),
        Outcome::Done => either(Phrase::TitleTripDone, Phrase::TitleRestoreDone),
        Outcome::WouldDo => either(Phrase::TitleTripWouldDo, Phrase::TitleRestoreWouldDo),
        Outcome::AlreadySo { .. } => either(Phrase::TitleTripAlready, Phrase::TitleRestoreAlready),
        Outcome::Refused { why: Refusal::Over } if act.kind == Kind::Trip => Phrase::TitleTripOver,
        Outcome::Refused { why: Refusal::HandsOff { status: Some(1) } } if act.kind == Kind::Restore => {
            Phrase::TitleRestoreByPerson
        }
        Outcome::Refused { .. } => either(Phrase::TitleTripRefused, Phrase::TitleRestoreRefused),
        Outcome::Failed { .. } => either(Phrase::TitleTripFailed, Phrase::TitleRestoreFailed),
        Outcome::Unverified { .. } => either(Phrase::TitleTripUnverified, Phrase::TitleRestoreUnverified),
    }
}

/// How bad an act's outcome is. A channel that goes on spending is worst.
fn tone(act: &Act) -> Tone {
    match (&act.outcome, act.kind, &act.origin) {
        (Outcome::WouldDo, ..) => Tone::DryRun,
        (
            Outcome::Pending
            | Outcome::AlreadySo { .. }
            | Outcome::Refused { why: Refusal::Over | Refusal::HandsOff { .. } | Refusal::NotOurs },
            ..,
        )
        | (Outcome::Done, Kind::Trip, Origin::Operator) => Tone::Info,
        (Outcome::Done, Kind::Restore, _) => Tone::Good,
        (_, Kind::Trip, _) => Tone::Critical,
        (_, Kind::Restore, _) => Tone::Warning,
    }
}

/// The end of a title that says in short what came of an act.
pub(super) fn tag(act: &Act) -> Option<Phrase> {
    Some(match &act.outcome {
        Outcome::Pending | Outcome::Refused { why: Refusal::Over } => return None,
        Outcome::Done => Phrase::TagDisabled,
        Outcome::WouldDo => Phrase::TagDryRun,
        Outcome::AlreadySo { .. } => Phrase::TagAlready,
        Outcome::Refused { .. } | Outcome::Failed { .. } => Phrase::TagNotDisabled,
        Outcome::Unverified { .. } => Phrase::TagUnverified,
    })
}
