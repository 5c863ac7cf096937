//! How much the API does at once, and for how long. A slow database must not pile up requests.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;

use super::problem::{Kind, Problem};

/// A request that took this long is worth a line that is seen without asking for it.
const SLOW_MS: u128 = 1_000;

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in work.
    pub working: usize,
    /// Requests that wait for one of those to end.
    pub waiting: usize,
    /// How long they wait.
    pub patience: Duration,
    /// How long one may take, its wait not counted.
    pub time: Duration,
}

impl Default for Limits {
    /// As many in work as there are connections to a database, and some more for answers from memory.
    fn default() -> Self {
        Self { working: 8, waiting: 64, patience: Duration::from_secs(2), time: Duration::from_secs(15) }
    }
}

/// What requests may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// Our own work only.
    Nobody,
    /// new-api's database.
    Database,
    /// new-api, which is asked to do something.
    NewApi,
}

impl WaitsFor {
    /// Why something takes so long, as the end of a sentence.
    const fn why(self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Database => "; they read new-api's database",
            Self::NewApi => "; they wait for new-api",
        }
    }
}

/// Lets requests in, one by one. Cheap to clone; clones share the limits.
#[derive(Debug, Clone)]
pub struct Gate {
    limits: Limits,
    waits_for: WaitsFor,
    working: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Gate {
    /// A gate with these limits.
    pub fn new(limits: Limits, waits_for: WaitsFor) -> Self {
        let places = |number| Arc::new(Semaphore::new(number));
        Self { limits, waits_for, working: places(limits.working), waiting: places(limits.waiting) }
    }

    /// Does `work` when its turn comes.
    ///
    /// # Errors
    /// If too many others wait or work, if `work` takes too long, and those of `work`.
    pub async fn enter<T>(&self, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        let _place = self.wait().await?;
        tokio::time::timeout(self.limits.time, work).await.unwrap_or_else(|_| {
            let from = match self.waits_for {
                WaitsFor::Nobody => "",
                WaitsFor::Database => " from new-api's database",
                WaitsFor::NewApi => " from new-api",
            };
            let detail = format!("no answer{from} within {} s", self.limits.time.as_secs());
            Err(Problem::new(Kind::Timeout, detail).retry_after(Duration::from_secs(5)))
        })
    }

    async fn wait(&self) -> Result<impl Drop + use<>, Problem> {
        let overloaded =
            |detail: String| Problem::new(Kind::Overloaded, detail).retry_after(self.limits.patience);
        if let Ok(place) = self.working.clone().try_acquire_owned() {
            return Ok(place);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(overloaded(format!(
                "{} requests wait already{}",
                self.limits.waiting,
                self.waits_for.why()
            )));
        };
        match tokio::time::timeout(self.limits.patience, self.working.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(overloaded(format!(
                "{} requests are in work, and none ended within {} s{}",
                self.limits.working,
                self.limits.patience.as_secs(),
                self.waits_for.why()
            ))),
        }
    }
}

/// Notes each request: method, route, status and time. No path, query or header, for these hold names, ids and
/// passwords; the route says what was asked for.
pub async fn note(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let began = tokio::time::Instant::now();
    let method = request.method().clone();
    let response = next.run(request).await;
    let (status, ms) = (response.status(), began.elapsed().as_millis());
    let route = route.as_ref().map_or("no route", MatchedPath::as_str);
    if status.is_server_error() || ms >= SLOW_MS {
        tracing::info!(%method, route, status = status.as_u16(), ms, "request");
    } else {
        tracing::debug!(%method, route, status = status.as_u16(), ms, "request");
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn gate() -> Gate {
        Gate::new(Limits::default(), WaitsFor::Database)
    }

    async fn work(seconds: u64) -> Result<(), Problem> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(())
    }

    fn kind(result: &Result<(), Problem>) -> Option<Kind> {
        result.as_ref().err().map(Problem::kind)
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_work_at_once() {
        let (gate, working, most) = (gate(), AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = || {
            gate.enter(async {
                most.fetch_max(working.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                working.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            })
        };
        let results = futures_util::future::join_all((0..72).map(|_| ask())).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(most.load(Ordering::Relaxed), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_are_turned_away_at_once_and_the_patient_after_a_while() {
        let gate = gate();
        let began = tokio::time::Instant::now();
        let ask = async |_| {
            let result = gate.enter(work(10)).await;
            (kind(&result), began.elapsed().as_secs())
        };
        let mut results = futures_util::future::join_all((0..100).map(ask)).await;
        results.sort_by_key(|(_, seconds)| *seconds);
        assert_eq!(results[..28], [(Some(Kind::Overloaded), 0); 28]);
        assert_eq!(results[28..92], [(Some(Kind::Overloaded), 2); 64]);
        assert_eq!(results[92..], [(None, 10); 8]);
        assert_eq!(kind(&gate.enter(work(0)).await), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_given_up_and_gives_its_place_back() {
        let gate = gate();
        let results = futures_util::future::join_all((0..8).map(|_| gate.enter(work(60)))).await;
        assert!(results.iter().all(|result| kind(result) == Some(Kind::Timeout)), "{results:?}");
        let problem = serde_json::to_value(results[0].as_ref().unwrap_err().body()).unwrap();
        assert_eq!(problem["retry_after_seconds"], 5);
        assert_eq!(problem["detail"], "no answer from new-api's database within 15 s");
        assert_eq!(gate.working.available_permits(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_hangs_up_leaves_the_line() {
        let gate = gate();
        {
            let all = futures_util::future::join_all((0..72).map(|_| gate.enter(work(10))));
            assert!(tokio::time::timeout(Duration::from_secs(1), all).await.is_err());
        }
        assert_eq!((gate.working.available_permits(), gate.waiting.available_permits()), (8, 64));
    }
}
