//! The API as it is served.

use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Access;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::newapi::Database;
use crate::newapi::dsn::Dsn;
use crate::secret::Secret;
use crate::state;
use crate::store::Store;
use crate::usage::Rules;

const PASSWORD: &str = "pass:word";

/// The API over nothing.
pub(super) fn api() -> Api {
    let history = Duration::from_secs(31 * 86_400);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("monitor.db")).unwrap();
    let log = Database::new(&Dsn::parse("sqlite:///nowhere/one-api.db").unwrap());
    let state = state::State::default();
    let answers = Answers::new(state, store, log, None, 5.0, jiff::tz::TimeZone::UTC).unwrap();
    Api::new(answers, history, Clock::system()).unwrap()
}

/// The routes on a port of their own.
struct Served {
    base: String,
    client: reqwest::Client,
    stop: CancellationToken,
}

impl Served {
    async fn start(password: Option<&str>) -> Self {
        let (state, clock) = (state::State::default(), Clock::system());
        let rules = Rules { max_series: 10, slow_over_seconds: 5.0, extra_labels: Vec::new() };
        let metrics = Metrics::new(state.clone(), clock.clone(), rules, Duration::from_secs(60));
        let access = Access {
            password: password.map(Secret::new),
            metrics_token: Some(Secret::new("token")),
            metrics_public: false,
        };
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("monitor.db")).unwrap();
        let intake = Intake::new(store, state.clone(), clock.clone(), Vec::new(), Duration::from_secs(600));
        let parts = Parts::new(state, metrics, api(), access, clock, intake);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(super::super::serve(listener, parts, stop.clone()));
        Self { base, client: crate::outbound::client(None).unwrap(), stop }
    }

    fn ask(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// Status, headers and body of a request with the password.
    async fn get(&self, path: &str) -> (u16, HeaderMap, Value) {
        taken(self.ask(Method::GET, path).bearer_auth(PASSWORD)).await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn taken(request: reqwest::RequestBuilder) -> (u16, HeaderMap, Value) {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null))
}

fn is_problem(headers: &HeaderMap, body: &Value, status: u16) {
    assert_eq!(headers["content-type"], "application/problem+json", "{body}");
    assert_eq!(body["status"], status, "{body}");
    assert!(body["type"].as_str().unwrap().starts_with("/problems/"), "{body}");
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let served = Served::start(Some(PASSWORD)).await;
    let long = format!("/api/v1/logs?model={}", "a".repeat(9_000));
    for (path, status, parameter) in [
        ("/api/v1/nothing", 404, None),
        ("/api/v1", 404, None),
        ("/api/v1/", 404, None),
        ("/api/v1/logs/", 404, None),
        ("/api/v1/overview/", 404, None),
        ("/api/v1/logs/99999999999999999999", 400, Some("id")),
        ("/api/v1/logs/-1", 400, Some("id")),
        ("/api/v1/logs/%ff", 400, Some("id")),
        ("/api/v1/logs/1?limit=1", 400, Some("limit")),
        ("/api/v1/requests/a%20b", 400, Some("request_id")),
        ("/api/v1/overview?limit=5", 400, Some("limit")),
        ("/api/v1/logs?limit=501", 400, Some("limit")),
        ("/api/v1/logs?from=2001-01-01T00:00:00Z", 400, Some("from")),
        ("/api/v1/trend?window=31d&step=1m", 400, Some("step")),
        (&long, 414, None),
        // The history was not read.
        ("/api/v1/overview", 503, None),
    ] {
        let (got, headers, body) = served.get(path).await;
        assert_eq!(got, status, "{path}: {body}");
        is_problem(&headers, &body, status);
        assert_eq!(body["parameter"].as_str(), parameter, "{path}: {body}");
        assert_eq!(headers.contains_key("retry-after"), status == 503, "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }
    let (_, _, body) = served.get("/api/v1/nothing").await;
    assert!(body["accepted"].as_str().unwrap().contains("/api/v1/slow-requests"), "{body}");
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let served = Served::start(Some(PASSWORD)).await;
    for method in [Method::POST, Method::DELETE, Method::OPTIONS] {
        let request = served.ask(method, "/api/v1/logs").bearer_auth(PASSWORD);
        let (status, headers, body) = taken(request).await;
        assert_eq!((status, headers["allow"].to_str().unwrap()), (405, "GET,HEAD"));
        is_problem(&headers, &body, 405);
    }
}

#[tokio::test]
async fn nothing_of_the_api_is_shown_without_the_password() {
    let served = Served::start(Some(PASSWORD)).await;
    for path in ["/api/v1/openapi.json", "/api/v1/overview", "/api/v1/nothing", "/api/v1/logs?x=1", "/api/v1"]
    {
        for wrong in [None, Some("token"), Some("wrong")] {
            let request = served.ask(Method::GET, path);
            let request = match wrong {
                Some(word) => request.bearer_auth(word),
                None => request,
            };
            let (status, headers, body) = taken(request).await;
            assert_eq!(status, 401, "{path}");
            assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Basic realm="));
            is_problem(&headers, &body, 401);
        }
    }
    let basic = served.ask(Method::GET, "/api/v1/openapi.json").basic_auth("grafana", Some(PASSWORD));
    assert_eq!(taken(basic).await.0, 200);
    for open in ["/", "/healthz"] {
        assert_eq!(taken(served.ask(Method::GET, open)).await.0, 200, "{open}");
    }
    for nothing in ["/api/v2", "/api", "/x"] {
        assert_eq!(taken(served.ask(Method::GET, nothing)).await.0, 404, "{nothing}");
    }
    assert_eq!(taken(served.ask(Method::POST, "/api/v1/logs")).await.0, 401);
}

#[tokio::test]
async fn without_a_password_the_api_is_open() {
    let served = Served::start(None).await;
    assert_eq!(taken(served.ask(Method::GET, "/api/v1/openapi.json")).await.0, 200);
}

#[tokio::test]
async fn an_answer_is_compressed_if_the_client_likes_it_and_not_sent_twice() {
    let served = Served::start(Some(PASSWORD)).await;
    let path = "/api/v1/openapi.json";
    let ask = |method| served.ask(method, path).bearer_auth(PASSWORD);

    let plain = ask(Method::GET).send().await.unwrap();
    assert_eq!(plain.headers()["content-type"], "application/json");
    assert_eq!(plain.headers()["cache-control"], "private, max-age=300");
    assert_eq!(plain.headers()["vary"], "accept-encoding");
    assert!(!plain.headers().contains_key("content-encoding"));
    let tag = plain.headers()["etag"].clone();
    let length = plain.bytes().await.unwrap().len();

    let packed = ask(Method::GET).header("accept-encoding", "br;q=1, gzip;q=0.5").send().await.unwrap();
    assert_eq!(
        (&packed.headers()["content-encoding"], &packed.headers()["etag"]),
        (&HeaderValue::from_static("gzip"), &tag)
    );
    let bytes = packed.bytes().await.unwrap();
    assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < length / 3, "{} of {length}", bytes.len());

    let again = ask(Method::GET).header("if-none-match", tag.clone()).header("accept-encoding", "gzip");
    let again = again.send().await.unwrap();
    assert_eq!((again.status().as_u16(), &again.headers()["etag"]), (304, &tag));
    assert!(again.bytes().await.unwrap().is_empty());

    let head = ask(Method::HEAD).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["etag"]), (200, &tag));
    assert_eq!(head.headers()["content-length"], length.to_string());
    assert!(head.bytes().await.unwrap().is_empty());

    let small = served.ask(Method::GET, "/api/v1/overview?x=1").bearer_auth(PASSWORD);
    let small = small.header("accept-encoding", "gzip").send().await.unwrap();
    assert!(!small.headers().contains_key("content-encoding"));
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_tells_the_route_and_nothing_that_was_sent() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Everything of this test runs on this thread.
    let _log = tracing::subscriber::set_default(subscriber);
    let served = Served::start(Some(PASSWORD)).await;
    let told = ["/api/v1/logs/{id}", "/api/v1/requests/{request_id}", "status=401", "status=503", "no route"];
    let mut ours = String::new();
    for _ in 0..50 {
        // Places in the code that another test met first, when nobody listened, stay silent until they are asked
        // again whether somebody does.
        tracing::callsite::rebuild_interest_cache();
        for path in
            ["/api/v1/logs/111222333", "/api/v1/logs?username=alice", "/api/v1/requests/r444", "/x555"]
        {
            served.get(path).await;
            taken(served.ask(Method::GET, path).basic_auth("carol", Some("guess"))).await;
        }
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        ours = log.lines().filter(|line| line.contains("token_monitor")).collect();
        if told.iter().all(|told| ours.contains(told)) {
            break;
        }
    }
    for told in told {
        assert!(ours.contains(told), "{told}: {ours}");
    }
    for secret in ["111222333", "alice", "r444", "x555", "carol", "guess", PASSWORD, "Basic", "Bearer"] {
        assert!(!ours.contains(secret), "{secret}: {ours}");
    }
}

#[tokio::test]
async fn no_other_site_is_let_in() {
    let served = Served::start(Some(PASSWORD)).await;
    for method in [Method::GET, Method::OPTIONS] {
        let request = served.ask(method, "/api/v1/openapi.json").bearer_auth(PASSWORD);
        let request =
            request.header("origin", "https://example.com").header("access-control-request-method", "GET");
        let headers = request.send().await.unwrap().headers().clone();
        assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control")), "{headers:?}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_answers_and_leaves_its_place() {
    let mut api = api();
    let index = api.routes.iter().position(|route| route.id == "overview").unwrap();
    api.routes[index].handler = Arc::new(|_| async { panic!("a bug") }.boxed());
    let api = Arc::new(api);
    for _ in 0..20 {
        let path = Err(argument_rejection().await);
        let problem =
            api.clone().answer(index, path, "", &HeaderMap::new(), Body::empty()).await.unwrap_err();
        assert_eq!(problem.kind(), Kind::Internal);
        assert!(!serde_json::to_string(&problem.body()).unwrap().contains("a bug"));
    }
}

/// What a request without a matched path gives.
async fn argument_rejection() -> RawPathParamsRejection {
    use axum::extract::FromRequestParts as _;
    let (mut parts, ()) = axum::http::Request::new(()).into_parts();
    RawPathParams::from_request_parts(&mut parts, &()).await.unwrap_err()
}
