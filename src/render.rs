//! `token-monitor render`: shows what each target would get for the body of a webhook, and sends nothing.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::alert::{Alert, Notification, Status};
use crate::cli;
use crate::clock::Clock;
use crate::config::{Config, Flags, Settings};
use crate::message::{AlertGroup, Change, Known, Notice, Part, Target, Told, compose};

/// Longest payload that is read: what the webhook takes.
const MAX_PAYLOAD: u64 = 16 * 1024 * 1024;

/// What to show.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// A payload as Alertmanager or Grafana sends it; - reads standard input
    #[arg(value_name = "PAYLOAD.json")]
    payload: PathBuf,
    /// One target only
    #[arg(long, value_name = "TARGET", value_parser = target)]
    target: Option<Target>,
}

fn target(name: &str) -> Result<Target, String> {
    Target::parse(name).ok_or_else(|| "accepted: telegram, feishu, wecom".to_owned())
}

/// Renders and prints.
pub fn run(flags: &Flags, arguments: &Arguments) -> ExitCode {
    let wording = match Settings::from_flags(flags).and_then(|settings| Config::wording(&settings)) {
        Ok(wording) => wording,
        Err(problems) => return cli::refuse(&problems),
    };
    let notification = match read(&arguments.payload) {
        Ok(notification) => notification,
        Err(error) => {
            eprintln!("{}: {error:#}", arguments.payload.display());
            return ExitCode::FAILURE;
        }
    };
    let now = Clock::system().now();
    let known = Known { now, ..Known::default() };
    let notice = Notice::Alerts(group(notification, now));
    for target in Target::ALL {
        if arguments.target.is_none_or(|only| only == target) {
            let parts = compose(&notice, &known, &wording, target);
            // Whoever reads may have seen enough, as `head` has.
            let _ = write!(std::io::stdout(), "{}", shown(target, &parts));
        }
    }
    ExitCode::SUCCESS
}

fn read(path: &Path) -> anyhow::Result<Notification> {
    let mut body = Vec::new();
    let source: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).context("cannot be opened")?)
    };
    source.take(MAX_PAYLOAD + 1).read_to_end(&mut body).context("cannot be read")?;
    anyhow::ensure!(body.len() as u64 <= MAX_PAYLOAD, "is longer than {MAX_PAYLOAD} bytes");
    Ok(Notification::parse(&body)?)
}

/// As the webhook would take it in, if it knew nothing before.
fn group(notification: Notification, received_at: jiff::Timestamp) -> AlertGroup {
    let told = |alert: Alert| Told {
        change: if alert.status == Status::Resolved { Change::Resolved } else { Change::Opened },
        opened_at: alert.starts_at,
        alert,
        incident: 0,
        act: None,
    };
    AlertGroup {
        receiver: notification.receiver,
        external_url: notification.external_url,
        truncated: notification.truncated,
        event: "preview".to_owned(),
        received_at,
        alerts: notification.alerts.into_iter().map(told).collect(),
    }
}

/// What a target gets, to be read: the text of each part as it is sent, Feishu's cards whole, and the plain text.
pub fn shown(target: Target, parts: &[Part]) -> String {
    let mut shown = String::new();
    for (index, part) in parts.iter().enumerate() {
        let text = match target {
            Target::Telegram => part.rich["text"].as_str().map(str::to_owned),
            Target::Wecom => part.rich["markdown"]["content"].as_str().map(str::to_owned),
            Target::Feishu => serde_json::to_string_pretty(&part.rich).ok(),
        };
        let (number, of) = (index + 1, parts.len());
        let (name, text, plain) = (target.as_str(), text.unwrap_or_default(), &part.plain);
        let _ = write!(
            shown,
            "===== {name}, part {number} of {of}\n{text}\n----- {name}, plain text\n{plain}\n\n"
        );
    }
    shown
}
