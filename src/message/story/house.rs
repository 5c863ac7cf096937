//! The monitor's own troubles, and the test message.

use super::{Story, Teller, Tone, single};
use crate::message::figures::{self, grouped};
use crate::message::text::{Row, Text};
use crate::message::words::Phrase;
use crate::message::{Target, Trouble};

impl Teller<'_> {
    /// Something is wrong with the monitor's own work, or right again.
    pub(super) fn trouble(self, trouble: &Trouble) -> Story {
        let say = |phrase, texts: &[(&str, Text)]| self.words.say(phrase, texts);
        let (tone, title, mut rows) = match trouble {
            Trouble::TargetRefuses { target, reason, detail } => {
                let (why, advice) = refused(*target, reason);
                let texts = [("target", self.target(*target)), ("reason", self.phrase(why))];
                // Of these the next one may well arrive.
                let one = matches!(reason.as_str(), "rejected" | "too_long");
                let (title, said) = if one {
                    (Phrase::TitleRefusedOne, Phrase::RefusedOne)
                } else {
                    (Phrase::TitleRefuses, Phrase::Refuses)
                };
                let mut rows = vec![Row::Line(say(said, &texts))];
                rows.push(Row::Line(self.phrase(advice)));
                if !detail.trim().is_empty() {
                    rows.push(self.field(Phrase::ItSays, Text::value(detail)));
                }
                rows.push(Row::Line(self.phrase(Phrase::RefusesThen)));
                (if one { Tone::Warning } else { Tone::Critical }, say(title, &texts), rows)
            }
            Trouble::Dropped { target, messages, since } => {
                let texts = [
                    ("target", self.target(*target)),
                    ("count", Text::ours(grouped(*messages))),
                    ("time", self.time(*since)),
                ];
                let rows = vec![
                    Row::Line(say(Phrase::Dropped, &texts)),
                    Row::Line(self.phrase(Phrase::DroppedThen)),
                ];
                (Tone::Warning, say(Phrase::TitleDropped, &texts), rows)
            }
            Trouble::PipelineSilent { since } => {
                let rows = vec![
                    Row::Line(say(Phrase::Silent, &[("time", self.time(*since))])),
                    Row::Line(self.phrase(Phrase::SilentThen)),
                ];
                (Tone::Critical, self.phrase(Phrase::TitleSilent), rows)
            }
            Trouble::PipelineBack { since } => {
                let length = self.length(figures::between(*since, self.known.now));
                let time = Text::ours(figures::time(*since, &self.wording.zone));
                let rows = vec![Row::Line(say(Phrase::Back, &[("length", length), ("time", time)]))];
                (Tone::Good, self.phrase(Phrase::TitleBack), rows)
            }
        };
        rows.extend(self.board());
        single(tone, title, rows, None)
    }

    /// What `check --send` sends.
    pub(super) fn test(self, target: Target) -> Story {
        let now = Text::ours(figures::time(self.known.now, &self.wording.zone));
        let said = self.words.say(Phrase::Test, &[("target", self.target(target)), ("time", now)]);
        single(Tone::Info, self.phrase(Phrase::TitleTest), vec![Row::Line(said)], None)
    }

    fn target(self, target: Target) -> Text {
        self.phrase(match target {
            Target::Telegram => Phrase::TargetTelegram,
            Target::Feishu => Phrase::TargetFeishu,
            Target::Wecom => Phrase::TargetWecom,
        })
    }
}

/// Why a target refuses messages, and what helps, by our word for it.
fn refused(target: Target, reason: &str) -> (Phrase, Phrase) {
    match (reason, target) {
        ("unauthorized", Target::Telegram) => (Phrase::ReasonUnauthorized, Phrase::MendTelegramBot),
        ("unauthorized", Target::Feishu) => (Phrase::ReasonUnauthorized, Phrase::MendFeishuBot),
        ("unauthorized", Target::Wecom) => (Phrase::ReasonUnauthorized, Phrase::MendWecomBot),
        ("chat", _) => (Phrase::ReasonChat, Phrase::MendChat),
        ("forbidden", _) => (Phrase::ReasonForbidden, Phrase::MendForbidden),
        ("keyword", _) => (Phrase::ReasonKeyword, Phrase::MendKeyword),
        ("signature", _) => (Phrase::ReasonSignature, Phrase::MendSignature),
        ("ip_not_allowed", _) => (Phrase::ReasonIp, Phrase::MendIp),
        ("too_long", _) => (Phrase::ReasonTooLong, Phrase::MendOther),
        _ => (Phrase::ReasonRejected, Phrase::MendOther),
    }
}
