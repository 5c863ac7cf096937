//! The routes of the API, each told once: path, parameters, answer, handler. The router, the reader of queries
//! and the document are all made from this table.

use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::super::json::{Document, Freshness};
use super::super::params::{Accepts, Param, Query, Usual};
use super::super::problem::{Kind as Wrong, Problem, echo};
use super::alerting::{Breaker, Delivery, Incident};
use super::answers::Page;
use super::path::PathParam;
use super::views::{Answer, ChannelState, LimitList, List, ModelState, SlowRequest};
use super::{Api, BASE};
use crate::breaker::act::Kind;
use crate::detail::LogRow;

/// A request, understood.
#[derive(Debug, Clone)]
pub struct Call {
    /// What answers.
    pub api: Arc<Api>,
    /// Its query.
    pub query: Query,
    /// The value of the path's parameter; empty if the path has none.
    pub argument: String,
    /// What was sent; empty with GET.
    pub body: Bytes,
}

/// How a route is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It is read, with GET or HEAD.
    Get,
    /// It does something, with POST and a body that says that it is JSON.
    Post,
}

/// Answers a call.
pub type Handler = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Document, Problem>> + Send + Sync>;

/// One route.
#[derive(Clone)]
pub struct Route {
    /// Its name in the document, in cursors, and nowhere else.
    pub id: &'static str,
    /// Its path below [`BASE`], in axum's and OpenAPI's common way.
    pub path: &'static str,
    /// How it is called.
    pub verb: Verb,
    /// Its group in the document.
    pub tag: &'static str,
    /// What it answers, in a few words.
    pub summary: &'static str,
    /// What else there is to know.
    pub about: &'static str,
    /// The parameter in its path.
    pub in_path: Option<PathParam>,
    /// Its parameters.
    pub accepts: Accepts,
    /// How long an answer may be used.
    pub freshness: Freshness,
    /// It waits for new-api's database, which may be slow or away.
    pub reads_log: bool,
    /// Name of the schema of its answer; None for an object of any kind.
    pub answer: Option<String>,
    /// That schema and all that it refers to.
    pub schemas: Vec<(String, RefOr<Schema>)>,
    /// An answer.
    pub example: Option<Value>,
    /// Answers.
    pub handler: Handler,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The usual window.
const DAY: Usual = Usual::Last(Duration::from_secs(86_400));

/// No parameters.
const NOTHING: Accepts = Accepts { params: &[], window: DAY, limit: 0 };

/// The parameters of a route about rows of the log: the window, what is its own, and every filter.
macro_rules! about_rows {
    ([$($first:ident),*], $request_id:ident, [$($last:ident),*]) => {
        &[
            Param::From,
            Param::To,
            Param::Window,
            $(Param::$first,)*
            Param::ChannelId,
            Param::Model,
            Param::Group,
            Param::Username,
            Param::TokenName,
            Param::Type,
            Param::$request_id,
            Param::MinDuration,
            Param::Outcome,
            Param::Stream,
            $(Param::$last,)*
        ]
    };
}

/// Parameters of sums.
const SUMS: &[Param] = about_rows!([], NoRequestId, []);

/// The same, cut into steps.
const SUMS_IN_STEPS: &[Param] = about_rows!([Step, By], NoRequestId, []);

/// Parameters of rows.
const ROWS: &[Param] = about_rows!([], RequestId, [Limit, Cursor]);

/// The same for pages of the log, which a board asks for with whatever filters it has by then.
const PAGES: &[Param] = about_rows!([], RequestId, [Limit, Cursor, StaleCursor]);

/// Parameters of limits.
const LIMITS: &[Param] =
    &[Param::From, Param::To, Param::Window, Param::ChannelId, Param::Model, Param::Limit, Param::Cursor];

/// Parameters of alerts that came in.
const INCIDENTS: &[Param] = &[
    Param::From,
    Param::To,
    Param::Window,
    Param::IncidentState,
    Param::ChannelId,
    Param::Model,
    Param::Limit,
    Param::Cursor,
];

/// Parameters of messages that went out.
const DELIVERIES: &[Param] = &[
    Param::From,
    Param::To,
    Param::Window,
    Param::DeliveryState,
    Param::Target,
    Param::ChannelId,
    Param::Limit,
    Param::Cursor,
];

/// Parameters of what was asked of the breaker.
const ACTS: &[Param] =
    &[Param::From, Param::To, Param::Window, Param::ChannelId, Param::Limit, Param::Cursor];

/// All routes. To add one, add it here; the router and the document follow.
pub fn routes() -> Vec<Route> {
    let mut routes = sums();
    routes.extend(rows());
    routes.extend(states());
    routes.extend(alerting());
    routes.push(Route {
        freshness: Freshness::Seconds(300),
        ..Route::raw(
            "openapi",
            "/openapi.json",
            "meta",
            Arc::new(|call: Call| ready(Ok(call.api.document.clone())).boxed()),
        )
        .says("This API", "An OpenAPI 3.1 document.")
    });
    routes
}

fn sums() -> Vec<Route> {
    let day = |params| Accepts { params, window: DAY, limit: 0 };
    vec![
        Route::new("overview", "/overview", "sums", |call: Call| async move {
            call.api.answers.overview(&call.query).await
        })
        .says(
            "What was spent, by whom, and how fast it was",
            "Totals of the window, their change against the window of the same length before, and the same by model, channel and user. The window is the last 24 hours if nothing is said.",
        )
        .takes(day(SUMS)),
        Route::new("trend", "/trend", "sums", |call: Call| async move {
            call.api.answers.trend(&call.query).await
        })
        .says(
            "The same measures over time",
            "One item for each step, and for each model, channel or user in it. The window is the last 24 hours if nothing is said.",
        )
        .takes(day(SUMS_IN_STEPS)),
    ]
}

fn rows() -> Vec<Route> {
    vec![
        Route::new("slow_requests", "/slow-requests", "rows", |call: Call| async move {
            let page = call.api.answers.slow_requests(&call.query).await?;
            Ok::<List<SlowRequest>, _>(call.list("/slow-requests", page))
        })
        .says(
            "The slowest requests",
            "Slowest first, newest first among equals. The window is the last 24 hours if nothing is said.",
        )
        .takes(Accepts { params: ROWS, window: DAY, limit: 20 })
        .reading_log(),
        Route::new("logs", "/logs", "rows", |call: Call| async move {
            let mut page = call.api.answers.logs(&call.query).await?;
            if let Some(first) = call.query.first_page().filter(|_| page.items.is_empty()) {
                page = call.api.answers.logs(&first).await?;
            }
            Ok::<List<LogRow>, _>(call.list("/logs", page))
        })
        .says(
            "Rows of the log",
            "Newest first. `next` leads to older rows; it neither repeats nor skips one while new rows arrive. The window is all that is kept if nothing is said.",
        )
        .takes(Accepts { params: PAGES, window: Usual::All, limit: 50 })
        .reading_log(),
        Route::new("log", "/logs/{id}", "rows", |call: Call| async move {
            let Some(id) = PathParam::LogId.number_or_latest(&call.argument)? else {
                let row = call.api.answers.latest_log().await?;
                return row.ok_or_else(|| Problem::not_found("there is no answered request in the log"));
            };
            let row = call.api.answers.log(id).await?;
            row.ok_or_else(|| Problem::not_found(format!("there is no row {id} in the log")))
        })
        .says(
            "One row in full",
            "Tokens, cost and its factors, timing, attempts, request and response. `latest` instead of an id is the newest answered request.",
        )
        .at(PathParam::LogId)
        .reading_log(),
        Route::new("request", "/requests/{request_id}", "rows", |call: Call| async move {
            let id = PathParam::RequestId.text(&call.argument)?;
            let rows = call.api.answers.request(id).await?;
            rows.ok_or_else(|| Problem::not_found(format!("there is no row of request {id} in the log")))
        })
        .says("All rows of one request", "Failed attempts and the final row, in the order tried.")
        .at(PathParam::RequestId)
        .reading_log(),
    ]
}

fn states() -> Vec<Route> {
    let today = Accepts { params: SUMS, window: Usual::Today, limit: 0 };
    vec![
        Route::new("channels", "/channels", "state", |call: Call| async move {
            Ok::<List<ChannelState>, _>(List::whole(call.api.answers.channels(&call.query).await?))
        })
        .says(
            "Channels today",
            "Every channel with its measures in the window, by default since midnight (TIMEZONE). Filters choose the rows that are measured; `channel_id` also the channels that are listed.",
        )
        .takes(today),
        Route::new("models", "/models", "state", |call: Call| async move {
            Ok::<List<ModelState>, _>(List::whole(call.api.answers.models(&call.query).await?))
        })
        .says(
            "Models today",
            "Every model with its measures in the window, by default since midnight (TIMEZONE). Filters choose the rows that are measured; `model` also the models that are listed.",
        )
        .takes(today),
        Route::new("limits", "/limits", "state", |call: Call| async move {
            let (limits, next) = call.api.answers.limits(&call.query, call.api.now()).await?;
            let links = call.list("/limits", Page::<()> { items: Vec::new(), next });
            Ok(LimitList { next: links.next, next_cursor: links.next_cursor, ..limits })
        })
        .says(
            "Limits now",
            "Where each limit of limits.yml stands, the most used first, and who uses it. Limits have windows of their own: `from`, `to` and `window` are read, so that a dashboard can send them, and change nothing. `channel_id` and `model` leave those that are about these alone, as the fields of an item say; a limit on several channels or models together is about none of them alone.",
        )
        .takes(Accepts { params: LIMITS, window: Usual::Ever, limit: 100 }),
    ]
}

fn alerting() -> Vec<Route> {
    let list = |params| Accepts { params, window: Usual::Ever, limit: 50 };
    let operate = |id, path, kind| {
        Route::new(id, path, "alerting", move |call: Call| async move {
            let channel_id = PathParam::Channel.number(&call.argument)?;
            let reason = reason(&call.body)?;
            call.api.answers.operate(kind, channel_id, reason, call.api.now()).await
        })
        .at(PathParam::Channel)
        .posted()
    };
    vec![
        Route::new("incidents", "/incidents", "alerting", |call: Call| async move {
            let page = call.api.answers.incidents(&call.query).await?;
            Ok::<List<Incident>, _>(call.list("/incidents", page))
        })
        .says(
            "Alerts that came in",
            "Newest first: since when, until when, and what was done about them. In a window are those that fired at any time in it.",
        )
        .takes(list(INCIDENTS)),
        Route::new("deliveries", "/deliveries", "alerting", |call: Call| async move {
            let page = call.api.answers.deliveries(&call.query).await?;
            Ok::<List<Delivery>, _>(call.list("/deliveries", page))
        })
        .says(
            "Messages that went out",
            "Newest first: where to, how far they are, and what the target said. In a window are those that were queued in it.",
        )
        .takes(list(DELIVERIES)),
        Route::new("breaker", "/breaker", "alerting", |call: Call| async move {
            let (breaker, next) = call.api.answers.breaker(&call.query).await?;
            let links = call.list("/breaker", Page::<()> { items: Vec::new(), next });
            Ok(Breaker { next: links.next, next_cursor: links.next_cursor, ..breaker })
        })
        .says(
            "The circuit breaker",
            "Which channels it holds disabled, and what it was asked for, newest first. In a window is what was asked for in it; `open` is what is held now.",
        )
        .takes(list(ACTS)),
        operate("trip", "/channels/{id}/trip", Kind::Trip).says(
            "Disable a channel",
            "The breaker does it with its guards, but for the age of an alert and BREAKER_MAX_PER_HOUR. Waits up to 8 s for how it goes; 202 if that is not known by then.",
        ),
        operate("reset", "/channels/{id}/reset", Kind::Restore).says(
            "Enable a channel that the breaker disabled",
            "Waits up to 8 s for how it goes; 202 if that is not known by then.",
        ),
    ]
}

/// Longest reason of an operator, in characters.
const LONGEST_REASON: usize = 200;

/// What an operator gives as a reason; a body that is empty gives none.
fn reason(body: &[u8]) -> Result<String, Problem> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[serde(default)]
        reason: Option<String>,
    }
    let wrong = |detail: String| {
        let accepted = format!("nothing, or {{\"reason\": \"…\"}} of up to {LONGEST_REASON} characters");
        Problem::new(Wrong::BadBody, detail).accepted(accepted)
    };
    if body.is_empty() {
        return Ok(String::new());
    }
    // Else an empty array would do, for serde takes a list of values for an object of them.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(wrong("it is not a JSON object".to_owned()));
    }
    let asked: Asked = serde_json::from_slice(body).map_err(|error| wrong(echo(&error.to_string())))?;
    let reason = asked.reason.unwrap_or_default();
    if reason.chars().count() > LONGEST_REASON || reason.chars().any(char::is_control) {
        return Err(wrong("the reason is too long, or holds a control character".to_owned()));
    }
    Ok(reason)
}

impl Route {
    /// A route whose handler answers a `T`, which is then also what the document says.
    fn new<T, F>(
        id: &'static str,
        path: &'static str,
        tag: &'static str,
        handler: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Answer,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let mut schemas = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut schemas);
        let handler: Handler = Arc::new(move |call| {
            let answer = handler(call);
            async move {
                let answer = answer.await?;
                Ok(Document::of(&answer)?.with_status(answer.status()))
            }
            .boxed()
        });
        Self {
            answer: Some(T::name().into_owned()),
            schemas,
            example: serde_json::to_value(T::example()).ok(),
            ..Self::raw(id, path, tag, handler)
        }
    }

    /// A route whose answer is written already.
    fn raw(id: &'static str, path: &'static str, tag: &'static str, handler: Handler) -> Self {
        Self {
            id,
            path,
            verb: Verb::Get,
            tag,
            summary: "",
            about: "",
            in_path: None,
            accepts: NOTHING,
            freshness: Freshness::Live,
            reads_log: false,
            answer: None,
            schemas: Vec::new(),
            example: None,
            handler,
        }
    }

    fn says(self, summary: &'static str, about: &'static str) -> Self {
        Self { summary, about, ..self }
    }

    fn takes(self, accepts: Accepts) -> Self {
        Self { accepts, ..self }
    }

    fn at(self, in_path: PathParam) -> Self {
        Self { in_path: Some(in_path), ..self }
    }

    fn posted(self) -> Self {
        Self { verb: Verb::Post, freshness: Freshness::Never, ..self }
    }

    fn reading_log(self) -> Self {
        Self { reads_log: true, ..self }
    }
}

impl Call {
    /// A page as a list, with the link to the next one.
    fn list<T>(&self, path: &str, page: Page<T>) -> List<T> {
        let next_cursor = page.next.map(|position| self.query.next_cursor(position));
        let next = next_cursor.as_ref().map(|cursor| self.query.next_link(&format!("{BASE}{path}"), cursor));
        List { items: page.items, next, next_cursor }
    }
}
