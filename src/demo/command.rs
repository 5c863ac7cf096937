//! `token-monitor demo`: the stand-in and the monitor in one process.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Demo, Options};
use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, Flags, Problems, Settings};
use crate::lifecycle::{self, Lifecycle};

/// Where the demo listens unless LISTEN says otherwise: nobody else can reach it, so it needs no password.
const LISTEN: &str = "127.0.0.1:3002";

/// Limits that the demo's traffic comes near to, and runs into in an episode.
const LIMITS: &str = include_str!("limits.yml");

/// Runs the demo until a signal. `flags` other than those of databases and admin API are respected.
///
/// # Errors
/// If the stand-in or the monitor cannot run; [`Problems`] if the configuration is wrong.
pub async fn run(flags: &Flags) -> anyhow::Result<()> {
    let clock = Clock::system();
    let options = Options::default();
    let now = clock.unix();
    println!("Preparing a stand-in for new-api in {} …", options.dir.display());
    let dir = options.dir.clone();
    let demo = tokio::task::spawn_blocking(move || Demo::open(&options, now)).await??;

    let limits = limits_file(flags, &dir)?;

    let admin = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let admin_address = admin.local_addr()?;
    let flags = Flags {
        database_url: Some(format!("sqlite://{}", demo.database_path().display())),
        database_url_file: None,
        log_database_url: None,
        log_database_url_file: None,
        monitor_database_url: Some(format!("sqlite://{}", dir.join("monitor.db").display())),
        new_api_base_url: Some(format!("http://{admin_address}")),
        new_api_key: Some(demo.admin_token().to_owned()),
        new_api_key_file: None,
        limits_file: Some(limits.display().to_string()),
        listen: Some(
            flags.listen.clone().filter(|listen| !listen.is_empty()).unwrap_or_else(|| LISTEN.to_owned()),
        ),
        ..flags.clone()
    };
    let config = Settings::from_flags(&flags)
        .and_then(|settings| Config::resolve(&Settings { demo: true, ..settings }))
        .map_err(Problems)?;

    let stop = CancellationToken::new();
    lifecycle::stop_on_signals(stop.clone())?;
    let app = App::build(config, clock.clone()).await?;
    announce(app.address(), admin_address, demo.database_path(), &limits);

    let mut life = Lifecycle::new(stop.clone());
    let router = demo.admin_router().into_make_service_with_connect_info::<SocketAddr>();
    let admin_stop = stop.clone();
    life.spawn("demo admin API", async move {
        axum::serve(admin, router)
            .with_graceful_shutdown(admin_stop.cancelled_owned())
            .await
            .context("the demo's admin API failed")
    });
    life.spawn("demo traffic", demo.run(move || clock.unix(), stop.clone()));
    app.spawn(&mut life, &stop);
    life.run().await
}

/// `LIMITS_FILE`, else limits of the demo's own, which may be changed and are not written again.
fn limits_file(flags: &Flags, dir: &Path) -> anyhow::Result<PathBuf> {
    if let Some(file) = flags.limits_file.as_ref().filter(|file| !file.trim().is_empty()) {
        return Ok(file.into());
    }
    let path = dir.join("limits.yml");
    match std::fs::File::create_new(&path) {
        Ok(mut file) => file.write_all(LIMITS.as_bytes())?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
    Ok(path)
}

fn announce(monitor: SocketAddr, admin: SocketAddr, database: &Path, limits: &Path) {
    println!("Token Monitor    http://{monitor}/");
    println!("Metrics          http://{monitor}/metrics");
    println!("Limits           http://{monitor}/api/v1/limits, written in {}", limits.display());
    println!("Stand-in's API   http://{admin}/api/status");
    println!("Stand-in's data  {}", database.display());
    println!("Something to see: curl -X POST http://{admin}/demo/episode/burn   (or slow, errors)");
    println!("Stop with Ctrl-C; start again and it goes on where it was.");
}
