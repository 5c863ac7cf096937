//! Names of channels that were deleted before anybody remembered them: failed attempts of old versions tell them.
//! No clock.

use std::collections::BTreeMap;

use crate::newapi::Directory;
use crate::record::{ChannelId, LogRecord};

/// Most channels whose names are taken from rows, and longest such name in characters.
const MAX_NAMES: usize = 2_000;
const LONGEST_NAME: usize = 128;

/// What rows told of channels that are known from nowhere else.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// The newest row that told a channel's name.
    told_by: BTreeMap<ChannelId, i64>,
    unsaved: BTreeMap<ChannelId, String>,
    unshown: BTreeMap<ChannelId, String>,
}

impl Names {
    /// Takes a name from the row of a failed attempt, unless the channel is there or its name was `known` before.
    pub(super) fn note(
        &mut self,
        record: &LogRecord<'_>,
        directory: &Directory,
        known: &BTreeMap<ChannelId, String>,
    ) {
        let (id, Some(name)) = (record.channel_id, &record.other.channel_name) else { return };
        let wanted = match self.told_by.get(&id) {
            Some(row) => *row < record.id,
            None => self.told_by.len() < MAX_NAMES && !known.contains_key(&id),
        };
        if !wanted || directory.channels.contains_key(&id) {
            return;
        }
        self.told_by.insert(id, record.id);
        let name: String = name.chars().take(LONGEST_NAME).collect();
        let last = self.unsaved.get(&id).or_else(|| self.unshown.get(&id)).or_else(|| known.get(&id));
        if last != Some(&name) {
            self.unsaved.insert(id, name);
        }
    }

    /// What monitor.db does not hold yet.
    pub(super) fn unsaved(&self) -> Vec<(ChannelId, String)> {
        self.unsaved.iter().map(|(id, name)| (*id, name.clone())).collect()
    }

    /// It does now.
    pub(super) fn saved(&mut self) {
        self.unshown.append(&mut self.unsaved);
    }

    /// What was saved and is not shown yet.
    pub(super) fn take_unshown(&mut self) -> BTreeMap<ChannelId, String> {
        std::mem::take(&mut self.unshown)
    }

    /// Takes what a round had `saved` before it failed, of which only monitor.db knows.
    pub(super) fn recover(
        &mut self,
        saved: BTreeMap<ChannelId, String>,
        directory: &Directory,
        known: &BTreeMap<ChannelId, String>,
    ) {
        for (id, name) in saved {
            if !directory.channels.contains_key(&id) && known.get(&id) != Some(&name) {
                self.told_by.entry(id).or_insert(0);
                self.unshown.insert(id, name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::newapi::Channel;
    use crate::record::Other;

    fn row(id: i64, channel_id: ChannelId, name: &str) -> LogRecord<'static> {
        let other = Cow::Owned(Other { channel_name: Some(name.to_owned()), ..Other::default() });
        LogRecord { id, channel_id, other, ..LogRecord::default() }
    }

    fn told(known: &[(ChannelId, &str)], rows: &[LogRecord<'_>]) -> Vec<(ChannelId, String)> {
        let mut directory = Directory::default();
        directory.channels.insert(1, Channel { name: "here".into(), ..Channel::default() });
        let known = known.iter().map(|(id, name)| (*id, (*name).to_owned())).collect();
        let mut names = Names::default();
        for row in rows {
            names.note(row, &directory, &known);
        }
        names.unsaved()
    }

    #[test]
    fn the_newest_row_names_a_channel_that_nobody_knows() {
        let rows = [row(7, 9, "new"), row(5, 9, "old"), row(8, 1, "renamed"), row(9, 4, "remembered")];
        assert_eq!(told(&[(4, "kept")], &rows), [(9, "new".to_owned())]);
        let nameless = LogRecord { id: 9, channel_id: 8, ..LogRecord::default() };
        assert_eq!(told(&[], &[nameless]), []);
    }

    #[test]
    fn names_are_short_and_few() {
        let long = "é".repeat(500);
        assert_eq!(told(&[], &[row(1, 9, &long)]), [(9, "é".repeat(LONGEST_NAME))]);
        let many: Vec<LogRecord<'_>> = (2..5000).map(|id| row(id, id, "a")).collect();
        assert_eq!(told(&[], &many).len(), MAX_NAMES);
    }

    #[test]
    fn a_name_is_saved_once_and_a_later_row_changes_it() {
        let (mut names, directory, mut known) = (Names::default(), Directory::default(), BTreeMap::new());
        for (id, name, news) in [(1, "a", 1), (2, "a", 0), (3, "b", 1), (4, "b", 0)] {
            names.note(&row(id, 9, name), &directory, &known);
            assert_eq!(names.unsaved().len(), news, "row {id}");
            names.saved();
            known.append(&mut names.take_unshown());
        }
        assert_eq!(known[&9], "b");
    }

    #[test]
    fn what_a_failed_round_saved_is_shown_and_still_changes() {
        let (mut names, directory, known) = (Names::default(), Directory::default(), BTreeMap::new());
        names.recover([(9, "part".to_owned())].into(), &directory, &known);
        let shown = names.take_unshown();
        assert_eq!(shown[&9], "part");
        names.note(&row(5, 9, "later"), &directory, &shown);
        assert_eq!(names.unsaved(), [(9, "later".to_owned())]);
    }
}
