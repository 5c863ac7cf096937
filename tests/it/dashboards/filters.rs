//! Filters: a panel follows each filter that its board offers, or its "i" says that it does not.

use std::collections::BTreeSet;

use super::kept::each_panel;
use super::{Board, LANGUAGES, named, text, texts};

/// Stands in what the "i" says of filters, by the suffix of the language.
const WORDS: [(&str, &str); LANGUAGES.len()] = [("", "filter"), ("-zh", "筛选")];

/// The filters that people see above a board. The row of the log detail is what the board is about and filters nothing.
fn offered(board: &Board) -> BTreeSet<&str> {
    let by_people = board
        .variables()
        .iter()
        .filter(|one| ["query", "custom", "textbox"].contains(&text(&one["type"])) && one["hide"] != 2);
    by_people.map(|one| text(&one["name"])).filter(|name| *name != "log_id").collect()
}

#[test]
fn a_panel_follows_each_filter_or_says_that_it_does_not() {
    each_panel(|board, panel, wrong| {
        let word = WORDS.iter().find(|(suffix, _)| *suffix == board.suffix);
        let (_, word) = word.expect("a word of the language");
        if text(&panel["description"]).contains(*word) {
            return;
        }
        let mut asked = Vec::new();
        texts(&panel["targets"], &mut asked);
        let followed: BTreeSet<&str> = asked.into_iter().flat_map(named).collect();
        for name in offered(board).difference(&followed) {
            wrong(&format!("does not follow {name}, and does not say so"));
        }
    });
}

#[test]
fn boards_about_requests_offer_filters() {
    for board in Board::all() {
        let uid = board.uid().trim_end_matches(board.suffix);
        let has_none = ["tm-log-detail", "tm-limits", "tm-self"].contains(&uid);
        assert_eq!(offered(&board).is_empty(), has_none, "{uid}");
    }
}
