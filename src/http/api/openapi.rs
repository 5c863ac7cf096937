//! The OpenAPI document, made from the table of routes: what is not there is not routed, and what is routed is
//! there.

use serde_json::{Value, json};
use utoipa::PartialSchema;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder, Ref, Required,
    Response, ResponseBuilder, Server,
};

use super::super::params::Param;
use super::super::problem::{self, Kind, Problem, ProblemBody};
use super::BASE;
use super::routes::{Route, Verb};

/// Groups of routes.
const TAGS: [(&str, &str); 5] = [
    ("sums", "What was spent and how fast it was, exactly."),
    ("rows", "Rows of the log, and one of them in full."),
    ("state", "What there is now."),
    ("alerting", "Alerts that came in, messages that went out, and the circuit breaker."),
    ("meta", "This API."),
];

/// Errors that any route may answer: status, name of the response, what it means, kind of the example.
const ERRORS: [(&str, &str, &str, Kind); 13] = [
    (
        "400",
        "BadRequest",
        "A parameter is unknown, repeated or wrong; the problem names it.",
        Kind::BadParameter,
    ),
    ("401", "Unauthorized", "The password is missing or wrong.", Kind::Unauthorized),
    (
        "403",
        "ForeignHost",
        "There is no password, and the host asked for is a foreign name.",
        Kind::ForeignHost,
    ),
    ("404", "NotFound", "There is no such thing.", Kind::NotFound),
    ("408", "BodyTooSlow", "The body did not arrive in time.", Kind::BodyTooSlow),
    ("409", "Refused", "A guard of the circuit breaker refuses; the problem says which.", Kind::Refused),
    ("413", "BodyTooLarge", "The body is longer than 8 KiB.", Kind::BodyTooLarge),
    ("414", "QueryTooLong", "The query is longer than 8 KiB.", Kind::QueryTooLong),
    ("415", "NotJson", "The header Content-Type does not say application/json.", Kind::NotJson),
    ("429", "TooManyFailures", "Too many wrong passwords at once.", Kind::TooManyFailures),
    ("500", "Internal", "A fault of this program; its log says more.", Kind::Internal),
    (
        "502",
        "GatewayFailed",
        "new-api could not be made to do it; the problem says what it said.",
        Kind::GatewayFailed,
    ),
    (
        "503",
        "Unavailable",
        "The history is still being read, a database does not answer, or too many requests are waiting.",
        Kind::DatabaseUnavailable,
    ),
];

/// The document of these routes.
pub fn document(routes: &[Route]) -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in routes {
        let method = if route.verb == Verb::Post { HttpMethod::Post } else { HttpMethod::Get };
        let item = PathItem::new(method, operation(route));
        paths = paths.path(format!("{BASE}{}", route.path), item);
    }
    let about = "What was spent, what is slow, why was this request slow, what failed. \
        Times are RFC 3339 in UTC, names of fields say the unit. Unknown parameters are errors.";
    let info =
        InfoBuilder::new().title("Token Monitor").version(env!("CARGO_PKG_VERSION")).description(Some(about));
    OpenApiBuilder::new()
        .info(info.build())
        .servers(Some([Server::new("/")]))
        .paths(paths.build())
        .components(Some(components(routes)))
        .tags(Some(TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())))
        // Either of the two.
        .security(Some(["bearer", "basic"].map(|name| SecurityRequirement::new(name, [""; 0]))))
        .build()
}

fn operation(route: &Route) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.id))
        .tag(route.tag)
        .summary(Some(route.summary))
        .description(Some(route.about));
    if let Some(param) = route.in_path {
        let parameter = ParameterBuilder::new()
            .name(param.name())
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(param.about()))
            .schema(Some(param.schema()))
            .example(Some(param.example()));
        operation = operation.parameter(parameter.build());
    }
    for param in route.accepts.params {
        operation = operation.parameter(parameter(*param, route));
    }
    operation = operation.response("200", answer(route));
    let posted = route.verb == Verb::Post;
    operation = if posted {
        operation.request_body(Some(body())).response("202", answer(route))
    } else {
        let known = "The answer that the client has, by If-None-Match, is still right.";
        operation.response("304", Response::new(known))
    };
    for (status, name, ..) in ERRORS {
        let applies = match status {
            "404" => route.in_path.is_some() && !posted,
            "408" | "409" | "413" | "415" | "502" => posted,
            _ => true,
        };
        if applies {
            operation = operation.response(status, Ref::from_response_name(name));
        }
    }
    operation.build()
}

/// What may be sent with POST.
fn body() -> RequestBody {
    let reason = ObjectBuilder::new().schema_type(Type::String).max_length(Some(200));
    let reason = reason.description(Some("Why, for the ledger."));
    let object = ObjectBuilder::new().property("reason", reason.build());
    let content = ContentBuilder::new().schema(Some(object.build()));
    RequestBodyBuilder::new()
        .description(Some("May be empty; the header Content-Type must say application/json all the same."))
        .content("application/json", content.example(Some(json!({"reason": "too many errors"}))).build())
        .build()
}

fn parameter(param: Param, route: &Route) -> Parameter {
    let about = match param {
        Param::Limit => format!("{} {} if nothing is said.", param.about(), route.accepts.limit),
        _ => param.about(),
    };
    ParameterBuilder::new()
        .name(param.name())
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(about))
        .schema(Some(param.schema()))
        .example(Some(param.example()).filter(|example| example != &Value::from("")))
        .build()
}

fn answer(route: &Route) -> Response {
    let content = match &route.answer {
        Some(name) => ContentBuilder::new().schema(Some(Ref::from_schema_name(name))),
        None => ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::Object))),
    };
    let response = ResponseBuilder::new().description(route.summary);
    let response = if route.verb == Verb::Post {
        response.header("Cache-Control", header("no-store: it tells what was done."))
    } else {
        response
            .header("ETag", header("Send it as If-None-Match to get 304 if nothing changed."))
            .header("Cache-Control", header("How long the answer may be used."))
    };
    response.content("application/json", content.example(route.example.clone()).build()).build()
}

fn components(routes: &[Route]) -> Components {
    let mut components = ComponentsBuilder::new().schema("Problem", ProblemBody::schema());
    for (name, schema) in routes.iter().flat_map(|route| route.schemas.clone()) {
        components = components.schema(name, schema);
    }
    for (status, name, about, kind) in ERRORS {
        components = components.response(name, error(status, about, kind));
    }
    let scheme = |scheme, about: &'static str| {
        SecurityScheme::Http(Http::builder().scheme(scheme).description(Some(about)).build())
    };
    components
        .security_scheme("bearer", scheme(HttpAuthScheme::Bearer, "ACCESS_PASSWORD as the token."))
        .security_scheme("basic", scheme(HttpAuthScheme::Basic, "Any user name, with ACCESS_PASSWORD."))
        .build()
}

fn error(status: &str, about: &str, kind: Kind) -> Response {
    let example = match kind {
        Kind::BadParameter => {
            Problem::parameter("limit", "`900` is not accepted", "a whole number from 1 to 500")
        }
        Kind::DatabaseUnavailable => Problem::new(kind, "new-api's database cannot be reached")
            .retry_after(std::time::Duration::from_secs(5)),
        _ => Problem::new(kind, about.to_owned()),
    };
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .example(serde_json::to_value(example.body()).ok());
    let response = ResponseBuilder::new().description(about).content(problem::CONTENT_TYPE, content.build());
    match status {
        "401" => response.header("WWW-Authenticate", header("Asks for a password.")),
        "429" | "503" => response.header("Retry-After", header("Seconds after which asking again may help.")),
        _ => response,
    }
    .build()
}

fn header(about: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::String).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()
}
