//! Requests that we make: one client for each destination, so that no proxy, cookie or broken connection of one is another's.

use std::time::Duration;

use anyhow::Context as _;

use crate::secret::Secret;

/// A destination that does not answer a connection in this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time for a whole request with its answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read; nobody whom we ask says more.
pub const MAX_ANSWER: usize = 1024 * 1024;

/// A client that goes straight to its destination, or through `proxy` only: the variables `HTTP_PROXY` and `HTTPS_PROXY` are
/// not looked at. It follows no redirect, which would turn a message into an empty request, and checks certificates.
///
/// # Errors
/// If there is no such proxy, or no TLS.
pub fn client(proxy: Option<&Secret>) -> anyhow::Result<reqwest::Client> {
    // Fails if there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("token-monitor/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = proxy {
        // The address may hold a password, so it is in no error.
        let proxy =
            reqwest::Proxy::all(proxy.expose()).map_err(|_| anyhow::anyhow!("the proxy cannot be used"))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(reqwest::Error::without_url).context("no client for HTTP can be made")
}

/// Reads an answer's body up to [`MAX_ANSWER`].
///
/// # Errors
/// In words without the address, which may be a secret.
pub async fn body(mut answer: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(words)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("the answer is longer than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What went wrong with a request, without its address, which may be a secret.
pub fn words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}
