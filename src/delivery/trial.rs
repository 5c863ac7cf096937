//! `check --send`: a message to each bot, at once and not by the outbox.

use super::bot::{Bot, Verdict};
use crate::clock::Clock;
use crate::config::DeliveryConfig;
use crate::message::{Known, Notice, Target, Wording, compose};
use crate::store::Shape;

/// Requests for one part at most: a chat that moved, a topic that is gone, a plainer shape.
const MOST_REQUESTS: u32 = 5;

/// Sends a message to each bot; says how it went in words, good or bad.
///
/// # Errors
/// If a client cannot be made.
pub async fn try_bots(
    config: DeliveryConfig,
    wording: &Wording,
    clock: &Clock,
) -> anyhow::Result<Vec<(Target, Result<String, String>)>> {
    let mut results = Vec::new();
    for mut bot in Bot::all(config, clock)? {
        let known = Known { now: clock.now(), ..Known::default() };
        let (mut remarks, mut failed) = (Vec::new(), None);
        for part in compose(&Notice::Test, &known, wording, bot.target()) {
            let mut shape = Shape::Rich;
            let mut last = None;
            for _ in 0..MOST_REQUESTS {
                let failure = match bot.send(&part, shape).await {
                    Verdict::Sent => {
                        last = None;
                        break;
                    }
                    Verdict::Changed(failure) => failure,
                    Verdict::Plainer(failure) => {
                        let Some(plainer) = shape.plainer() else {
                            last = Some(failure);
                            break;
                        };
                        shape = plainer;
                        failure
                    }
                    Verdict::Retry(failure) | Verdict::Pause(_, failure) | Verdict::Dead(failure) => {
                        last = Some(failure);
                        break;
                    }
                };
                remarks.push(failure.detail.clone());
                last = Some(failure);
            }
            failed = failed.or(last);
        }
        let result = match failed {
            None if remarks.is_empty() => Ok("took a test message".to_owned()),
            None => Ok(format!("took a test message, but not at once: {}", remarks.join("; "))),
            Some(failure) => Err(format!("{}: {}", failure.reason, failure.detail)),
        };
        results.push((bot.target(), result));
    }
    Ok(results)
}
