//! Queries as a whole.

use super::*;
use crate::record::RowOutcome;

const ALL: Accepts = Accepts { params: &Param::ALL, window: Usual::Last(DAY), limit: 20 };
const DAY: Duration = Duration::from_secs(86_400);

fn known() -> Known {
    Known {
        now: "2026-01-31T12:00:00Z".parse().unwrap(),
        today: Duration::from_secs(12 * 3600),
        history: Duration::from_secs(31 * 86_400),
        known_from: Timestamp::MIN,
    }
}

fn read(query: &str) -> Query {
    Query::parse("logs", &ALL, query, known()).unwrap_or_else(|problem| panic!("{query}: {problem:?}"))
}

fn refused(accepts: &Accepts, query: &str) -> serde_json::Value {
    let problem = Query::parse("logs", accepts, query, known()).expect_err(query);
    serde_json::to_value(problem.body()).unwrap()
}

#[test]
fn a_question_without_words_has_usual_answers() {
    let query = read("");
    assert_eq!((query.window.length(), query.window.to), (DAY, None));
    assert_eq!((query.limit, query.after, query.by), (20, None, None));
    assert_eq!(query.step.length, Duration::from_secs(600));
    assert_eq!(query.filters, Filters::default());
}

#[test]
fn what_a_dashboard_sends_for_all_is_no_filter() {
    for value in ["", "*", ".*"] {
        let query = read(&format!(
            "from=1769846400000&to=1769850000000&channel_id={value}&model={value}&group={value}&username={value}\
             &token_name={value}&type={value}&request_id={value}&min_duration={value}&outcome={value}\
             &stream={value}&cursor=&limit=&by=&step=&window="
        ));
        assert_eq!(query.filters, Filters::default(), "{value}");
    }
}

#[test]
fn every_filter_is_read() {
    let query = read(
        "channel_id=3,1&model=gpt-4o,claude&group=vip&username=al%5C%2Cice&token_name=ci&type=5,2&request_id=r1\
         &min_duration=1m&outcome=error,success&stream=false&limit=500&step=1h&by=user",
    );
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let wanted = Filters {
        channel_ids: vec![1, 3],
        models: texts(&["claude", "gpt-4o"]),
        groups: texts(&["vip"]),
        usernames: texts(&["al,ice"]),
        token_names: texts(&["ci"]),
        kinds: vec![2, 5],
        request_ids: texts(&["r1"]),
        min_duration: Some(Duration::from_secs(60)),
        outcomes: vec![RowOutcome::Success, RowOutcome::Error],
        stream: Some(false),
        ..Filters::default()
    };
    assert_eq!(query.filters, wanted);
    assert_eq!((query.limit, query.by), (500, Some(By::User)));
    assert_eq!(query.step.length, Duration::from_secs(3600));
}

#[test]
fn an_unknown_parameter_is_named_with_those_there_are() {
    let accepts = Accepts { params: &[Param::Window, Param::Limit], ..ALL };
    let body = refused(&accepts, "limit=5&modle=gpt-4o");
    assert_eq!(body["parameter"], "modle");
    assert_eq!(body["accepted"], "window, limit");
    assert_eq!(refused(&accepts, "model=")["parameter"], "model");
    assert_eq!(refused(&Accepts { params: &[], ..ALL }, "x=1")["accepted"], "no parameter");
}

#[test]
fn a_wrong_value_is_answered_with_the_words_of_its_declaration() {
    for (param, value) in [
        (Param::Limit, "0"),
        (Param::Limit, "501"),
        (Param::Limit, "+5"),
        (Param::Limit, "99999999999999999999"),
        (Param::Stream, "yes"),
        (Param::By, "group"),
        (Param::ChannelId, "main"),
        (Param::Type, "9"),
        (Param::Outcome, "failed"),
        (Param::MinDuration, "8d"),
        (Param::From, "monday"),
        (Param::To, "monday"),
        (Param::Window, "monday"),
    ] {
        let body = refused(&ALL, &format!("{}={value}", param.name()));
        assert_eq!(body["parameter"], param.name());
        assert_eq!(body["accepted"], param.declaration().accepted, "{body}");
    }
}

#[test]
fn every_declared_example_is_accepted() {
    static PARAMS: [Param; 22] = Param::ALL;
    for param in &PARAMS {
        let query = format!("{}={}", param.name(), param.declaration().example);
        // Two are called `state`, of different routes.
        let accepts = Accepts { params: std::slice::from_ref(param), ..ALL };
        Query::parse("logs", &accepts, &query, known())
            .unwrap_or_else(|problem| panic!("{query}: {problem:?}"));
    }
}

#[test]
fn a_next_page_keeps_what_was_asked_and_where_the_window_began() {
    let first = read("window=24h&model=gpt-4o%2Bx,%E6%A8%A1&limit=2");
    let cursor = first.next_cursor(Position([7, 8, 9]));
    let link = first.next_link("/api/v1/logs", &cursor);
    assert!(
        link.starts_with("/api/v1/logs?window=24h&model=gpt%2D4o%2Bx%2C%E6%A8%A1&limit=2&cursor="),
        "{link}"
    );

    let later = Known { now: "2026-01-31T13:00:00Z".parse().unwrap(), ..known() };
    let second = Query::parse("logs", &ALL, link.split_once('?').unwrap().1, later).unwrap();
    assert_eq!(second.after, Some(Position([7, 8, 9])));
    assert_eq!((second.filters.clone(), second.limit), (first.filters.clone(), 2));
    assert_eq!(second.window.from, first.window.from);
    // The third page does not hold the second one's cursor as well.
    let third = second.next_link("/api/v1/logs", "next");
    assert_eq!(third.matches("cursor=").count(), 1, "{third}");
}

#[test]
fn a_beginning_that_is_given_wins_over_the_cursor() {
    let cursor = read("from=2026-01-31T00:00:00Z").next_cursor(Position([1, 2, 0]));
    let query = read(&format!("from=2026-01-31T06:00:00Z&cursor={cursor}"));
    assert_eq!(query.window.from.to_string(), "2026-01-31T06:00:00Z");
}

#[test]
fn a_cursor_of_other_filters_is_refused() {
    let cursor = read("model=a").next_cursor(Position([1, 2, 0]));
    assert_eq!(read(&format!("model=a&limit=7&cursor={cursor}")).after, Some(Position([1, 2, 0])));
    assert_eq!(refused(&ALL, &format!("model=b&cursor={cursor}"))["parameter"], "cursor");
    assert_eq!(refused(&ALL, "cursor=143")["parameter"], "cursor");
}
