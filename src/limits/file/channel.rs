//! The channel of a limit: an id, a name of today, every channel by itself, or none.

use super::mistake::quoted;
use super::nearest::distance;
use super::values::Values;
use super::{ChannelScope, Known};
use crate::record::ChannelId;

/// Channels that a message names.
const NAMED: usize = 8;

impl Values<'_, '_, '_> {
    /// All channels together if the key is absent.
    pub(super) fn channel(&mut self) -> Option<ChannelScope> {
        if !self.fields.has("channel") {
            return Some(ChannelScope::Together);
        }
        let how = "Write one limit for each channel, leave `channel` out for all together, or write \"*\" for every \
                   channel by itself";
        let (text, quotes) = self.scalar("channel", how)?;
        if text == "*" {
            return Some(ChannelScope::Each);
        }
        let looks_like_id =
            !quotes && text.trim_start_matches(['-', '+']).bytes().all(|b| b.is_ascii_digit());
        if looks_like_id { self.channel_by_id(text) } else { self.channel_by_name(text) }
    }

    fn channel_by_id(&mut self, text: &str) -> Option<ChannelScope> {
        let Some(id) = text.parse::<ChannelId>().ok().filter(|id| *id > 0) else {
            self.wrong("channel", format!("{} is not the id of a channel. Ids begin at 1", quoted(text)));
            return None;
        };
        if !self.reading.known.channels.contains_key(&id) {
            let all = channels(self.reading.known, text);
            self.strange("channel", format!("there is no channel {id} today, so nothing counts. {all}"));
        }
        Some(ChannelScope::One(id))
    }

    fn channel_by_name(&mut self, text: &str) -> Option<ChannelScope> {
        let known = self.reading.known;
        let ids: Vec<ChannelId> =
            known.channels.iter().filter(|(_, name)| *name == text).map(|(id, _)| *id).collect();
        match ids.as_slice() {
            [id] => return Some(ChannelScope::One(*id)),
            [] => {
                let by_id = text.parse().ok().filter(|id: &ChannelId| known.channels.contains_key(id));
                let hint = by_id.map_or_else(
                    || channels(known, text),
                    |id| format!("For the channel with the id {id} write it without quotes: `channel: {id}`"),
                );
                self.wrong("channel", format!("there is no channel with the name {}. {hint}", quoted(text)));
            }
            ids => {
                let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let text = quoted(text);
                self.wrong(
                    "channel",
                    format!("several channels have the name {text}. Write one of the ids: {ids}"),
                );
            }
        }
        None
    }
}

/// The channels that there are, those with similar names first.
fn channels(known: &Known<'_>, text: &str) -> String {
    if known.channels.is_empty() {
        return "new-api has no channels".to_owned();
    }
    let mut all: Vec<(usize, ChannelId, &str)> =
        known.channels.iter().map(|(id, name)| (distance(text, name), *id, name.as_str())).collect();
    all.sort_unstable();
    let more = all.len().saturating_sub(NAMED);
    let named: Vec<String> =
        all.iter().take(NAMED).map(|(_, id, name)| format!("{} (id {id})", quoted(name))).collect();
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("There are: {}{rest}", named.join(", "))
}
