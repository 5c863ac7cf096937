//! Bodies that are sent to us: only as JSON, only so long, and only within a time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::auth::is_bearer;
use super::problem::{Kind, Problem};

/// Of a body that is too long so much more is read and thrown away: who is not read to the end may never see the answer.
const READ_PAST: u64 = 64 * 1024 * 1024;

/// Wants a body that says that it is JSON. A page of another site cannot send one in the name of a browser that
/// remembers a password, for the browser asks us first. The same holds for a Bearer, which no browser adds by itself, so who
/// brings one may say what he likes.
///
/// # Errors
/// If it says otherwise, or nothing.
pub fn wants_json(headers: &HeaderMap) -> Result<(), Problem> {
    if is_bearer(headers) {
        return Ok(());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail =
        "the header Content-Type does not say that this is JSON, and the password is not sent as Bearer";
    Err(Problem::new(Kind::NotJson, detail).accepted("Content-Type: application/json"))
}

/// The whole body.
///
/// # Errors
/// If it is longer than `limit` bytes, announced or not, if it takes longer than `time`, or if it breaks off.
pub async fn read(body: Body, headers: &HeaderMap, limit: usize, time: Duration) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body is longer than {limit} bytes");
        Problem::new(Kind::BodyTooLarge, detail).accepted(format!("at most {limit} bytes"))
    };
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let is_short = |length: u64| usize::try_from(length).is_ok_and(|length| length <= limit);
    let (ends, mut stream) = (Instant::now() + time, body.into_data_stream());
    let (mut kept, mut fits, mut seen) = (BytesMut::new(), length.is_none_or(is_short), 0);
    loop {
        let Ok(chunk) = tokio::time::timeout_at(ends, stream.next()).await else {
            let detail = format!("the body did not arrive within {} s", time.as_secs());
            return Err(if fits { Problem::new(Kind::BodyTooSlow, detail) } else { too_large() });
        };
        match chunk {
            None if fits => return Ok(kept.freeze()),
            None => return Err(too_large()),
            Some(Err(_)) => return Err(Problem::new(Kind::BadBody, "the body broke off")),
            Some(Ok(chunk)) => {
                seen += chunk.len() as u64;
                fits = fits && is_short(seen);
                if fits {
                    kept.extend_from_slice(&chunk);
                } else {
                    kept = BytesMut::new();
                }
                if !fits && seen > READ_PAST {
                    return Err(too_large());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use futures_util::stream;

    use super::*;

    const TIME: Duration = Duration::from_secs(10);

    fn chunks(number: usize, length: usize) -> Body {
        let chunk = Bytes::from(vec![b'x'; length]);
        Body::from_stream(stream::iter((0..number).map(move |_| Ok::<_, std::io::Error>(chunk.clone()))))
    }

    async fn kind(body: Body, length: Option<&'static str>) -> Result<usize, Kind> {
        let length = length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from_static(length)));
        let read = read(body, &HeaderMap::from_iter(length), 1_000, TIME).await;
        read.map(|bytes| bytes.len()).map_err(|problem| problem.kind())
    }

    #[tokio::test]
    async fn a_body_may_be_as_long_as_the_limit_in_any_pieces() {
        assert_eq!(kind(chunks(1, 1_000), Some("1000")).await, Ok(1_000));
        assert_eq!(kind(chunks(10, 100), None).await, Ok(1_000));
        assert_eq!(kind(Body::empty(), None).await, Ok(0));
        assert_eq!(kind(chunks(11, 100), None).await, Err(Kind::BodyTooLarge));
        assert_eq!(kind(chunks(1, 10), Some("1001")).await, Err(Kind::BodyTooLarge));
        assert_eq!(kind(chunks(1, 10), Some("99999999999999999999999")).await, Ok(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_however_it_drips() {
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        });
        assert_eq!(kind(Body::from_stream(drip), None).await, Err(Kind::BodyTooSlow));
        assert_eq!(
            kind(Body::from_stream(stream::pending::<std::io::Result<Bytes>>()), None).await,
            Err(Kind::BodyTooSlow)
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(std::io::Error::other("reset"))]);
        assert_eq!(kind(Body::from_stream(broken), None).await, Err(Kind::BadBody));
    }

    #[test]
    fn only_json_is_json() {
        let said = |kind: &'static str| {
            wants_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]))
                .is_ok()
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/json ;x=y"] {
            assert!(said(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "text/plain; application/json",
            "multipart/form-data",
        ] {
            assert!(!said(bad), "{bad}");
        }
        assert!(wants_json(&HeaderMap::new()).is_err());
    }
}
