//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::Clock;
use crate::config::{self, Config, Flags, Problem, Problems, Settings};
use crate::deliveries::{self, Deliveries};
use crate::{backfill, check, demo, health, lifecycle, render, telemetry};

/// Exit code of wrong usage or configuration.
const WRONG_CONFIGURATION: u8 = 2;

/// Exact token, cost and latency metrics for a new-api gateway.
///
/// Every option can also be set by the environment variable named with it; an empty variable counts as unset.
/// Secrets can be read from a file: NAME_FILE holds its path.
#[derive(Parser)]
#[command(name = "token-monitor", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Run the monitor (the default)
    Serve,
    /// Try it: a stand-in for new-api with days of history and live traffic under data/demo, and the monitor on it
    Demo,
    /// Look at messages to people, send again what was given up, give up what waits
    #[command(subcommand)]
    Deliveries(Deliveries),
    /// Check the configuration, each database and each bot, one line per finding
    Check {
        /// Send a test message to each bot
        #[arg(long)]
        send: bool,
    },
    /// Write the history of the log as OpenMetrics text, so that a new Prometheus has a past
    Backfill(backfill::Arguments),
    /// Show what each target would get for a payload of Alertmanager or Grafana, and send nothing
    Render(render::Arguments),
    /// Ask a running monitor at LISTEN whether it lives; the container's health check
    Health,
}

/// Runs the command line and says how it went: 0 fine, 1 failed at run time, 2 wrong usage or configuration.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let filter = cli.flags.rust_log.clone().filter(|filter| !filter.is_empty());
    let format = cli.flags.log_format.clone().filter(|format| !format.is_empty());
    let started = config::log_format(format.as_deref().unwrap_or("text"))
        .map_err(|problem| problem.to_string())
        .and_then(|format| telemetry::start(format, filter.as_deref().unwrap_or("info")));
    if let Err(message) = started {
        eprintln!("{message}");
        return ExitCode::from(WRONG_CONFIGURATION);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async move {
        match cli.command.unwrap_or(Command::Serve) {
            Command::Serve => serve(&cli.flags).await,
            Command::Demo => finish(demo::command::run(&cli.flags).await),
            Command::Deliveries(what) => deliveries::run(&cli.flags, &what),
            Command::Backfill(arguments) => backfill::run(&cli.flags, &arguments).await,
            Command::Render(arguments) => render::run(&cli.flags, &arguments),
            Command::Health => health::run(&cli.flags),
            Command::Check { send } => check::run(&cli.flags, send).await,
        }
    })
}

async fn serve(flags: &Flags) -> ExitCode {
    let config = match Settings::from_flags(flags).and_then(|settings| Config::resolve(&settings)) {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    let served = async {
        let stop = CancellationToken::new();
        lifecycle::stop_on_signals(stop.clone())?;
        App::build(config, Clock::system()).await?.run(stop).await
    };
    finish(served.await)
}

/// Prints what is wrong with the configuration.
pub fn refuse(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("{problem}");
    }
    eprintln!("token-monitor --help explains every option");
    ExitCode::from(WRONG_CONFIGURATION)
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast::<Problems>() {
            Ok(Problems(problems)) => refuse(&problems),
            Err(error) => {
                eprintln!("token-monitor: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}
