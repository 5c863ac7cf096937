//! Private Prometheus and Alertmanager servers.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{self, Ready, Server, Spec};
use crate::support::provide_cryptography;

/// A private Prometheus.
pub struct Prometheus {
    server: Server,
}

impl Prometheus {
    /// Starts it with the text of a `prometheus.yml` and more flags, as
    /// `--enable-feature=exemplar-storage,native-histograms`. The process works in a folder of its own: a rule file is
    /// named by an absolute path.
    pub fn start(config: &str, extra_flags: &[&str]) -> Self {
        Self::start_in(process::new_folder("prometheus-"), process::free_port(), config, extra_flags)
    }

    /// The same on a port that the configuration may name, with the files of a folder in `rules` beside the
    /// configuration.
    pub fn start_with_rules(port: u16, config: &str, rules: &Path) -> Self {
        let folder = process::new_folder("prometheus-");
        let beside = folder.path().join("rules");
        fs::create_dir(&beside).expect("making a folder for rules");
        for file in fs::read_dir(rules).expect("the folder of rules") {
            let file = file.expect("reading the folder of rules");
            fs::copy(file.path(), beside.join(file.file_name())).expect("copying rules");
        }
        Self::start_in(folder, port, config, &[])
    }

    /// The same, after promtool has made blocks of a file of OpenMetrics text.
    pub fn start_with_history(history: &Path, config: &str) -> Self {
        let folder = process::new_folder("prometheus-");
        let output = std::process::Command::new(process::find_program("promtool"))
            .args(["tsdb", "create-blocks-from", "--max-block-duration=54h", "openmetrics"])
            .args([history, &folder.path().join("data")])
            .output()
            .expect("promtool runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self::start_in(folder, process::free_port(), config, &["--storage.tsdb.retention.time=30d"])
    }

    fn start_in(folder: TempDir, port: u16, config: &str, extra_flags: &[&str]) -> Self {
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).expect("writing the configuration");
        let mut args = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--log.level=warn".to_owned(),
        ];
        args.extend(extra_flags.iter().map(|&flag| flag.to_owned()));
        Self { server: start("prometheus", args, folder, port) }
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// The series of an instant query: the array at `data.result`.
    pub async fn query(&self, promql: &str) -> Value {
        self.get("query", &[("query", promql)]).await["result"].take()
    }

    /// The servers that it sends alerts to: none in its first seconds.
    pub async fn alertmanagers(&self) -> Value {
        self.get("alertmanagers", &[]).await["activeAlertmanagers"].take()
    }

    /// The exemplars of a selector between two times, in Unix seconds.
    pub async fn query_exemplars(&self, selector: &str, start: f64, end: f64) -> Value {
        let (start, end) = (start.to_string(), end.to_string());
        self.get("query_exemplars", &[("query", selector), ("start", &start), ("end", &end)]).await
    }

    /// The `data` of an answer of `/api/v1/`; panics with Prometheus's message if it refuses.
    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let base = format!("{}/api/v1/{path}", self.url());
        let url = url::Url::parse_with_params(&base, parameters).expect("a URL");
        let mut answer = get_json(url.as_str()).await;
        assert_eq!(answer["status"], "success", "{url}: {answer}");
        answer["data"].take()
    }
}

/// A private Alertmanager.
pub struct Alertmanager {
    server: Server,
}

impl Alertmanager {
    /// Starts it with the text of an `alertmanager.yml`.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, vec!["--cluster.listen-address=".to_owned()])
    }

    /// Starts two that know of each other, with the same text.
    pub fn start_pair(config: &str) -> [Self; 2] {
        let ports = [process::free_port(), process::free_port()];
        [(ports[0], ports[1]), (ports[1], ports[0])].map(|(own, other)| {
            let address = format!("127.0.0.1:{own}");
            let cluster = vec![
                format!("--cluster.listen-address={address}"),
                format!("--cluster.advertise-address={address}"),
                format!("--cluster.peer=127.0.0.1:{other}"),
            ];
            Self::start_with(config, cluster)
        })
    }

    fn start_with(config: &str, cluster: Vec<String>) -> Self {
        let folder = process::new_folder("alertmanager-");
        let file = folder.path().join("alertmanager.yml");
        fs::write(&file, config).expect("writing the configuration");
        let port = process::free_port();
        let mut args = vec![
            format!("--config.file={}", file.display()),
            format!("--storage.path={}", folder.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--log.level=warn".to_owned(),
        ];
        args.extend(cluster);
        Self { server: start("prometheus-alertmanager", args, folder, port) }
    }

    /// Its address, without a slash at the end; as Prometheus's `alerting` takes it after `http://`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// Sends alerts, as Prometheus does: an array of `{"labels": {…}, "annotations": {…}, "startsAt": …}`.
    pub async fn post_alerts(&self, alerts: &Value) {
        provide_cryptography();
        let request = reqwest::Client::new().post(format!("{}/api/v2/alerts", self.url())).json(alerts);
        let answer = request.send().await.expect("Alertmanager answers");
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }

    /// The alerts that it holds.
    pub async fn alerts(&self) -> Value {
        get_json(&format!("{}/api/v2/alerts", self.url())).await
    }
}

fn start(program: &str, args: Vec<String>, folder: TempDir, port: u16) -> Server {
    let program = process::find_program(program);
    let ready = Ready::Http("/-/ready");
    let spec = Spec { program, args, user: None, ready, stop: "TERM", kill: "KILL" };
    Server::start(spec, folder, port)
}

async fn get_json(url: &str) -> Value {
    let answer = reqwest::get(url).await.expect("the server answers");
    answer.json().await.expect("the answer is JSON")
}
