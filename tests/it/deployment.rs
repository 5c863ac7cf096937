//! What is shipped for a server, as files: the image, the compose file and its variables. `scripts/test-image` builds and
//! runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use token_monitor::config::Flags;

use crate::support::{Folder, command};

const COMPOSE: &str = include_str!("../../docker-compose.remote.yml");
const DOCKERFILE: &str = include_str!("../../Dockerfile");
const EXAMPLE: &str = include_str!("../../.env.example");

/// Variables that the compose file has for the other containers.
const OF_THE_COMPOSE_FILE: &[&str] = &[
    "ALERTMANAGER_EXTERNAL_URL",
    "BIND_ADDRESS",
    "GRAFANA_LANGUAGE",
    "PROMETHEUS_EXTERNAL_URL",
    "PROMETHEUS_RETENTION",
];

/// Variables of Compose itself.
const OF_COMPOSE: &[&str] = &["COMPOSE_FILE"];

/// Variables of the monitor that the compose file must not pass on: its ports and volumes depend on them.
const FIXED: &[&str] = &["LISTEN", "MONITOR_DATABASE_URL"];

fn exists(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}

/// Lines without comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with('#'))
}

/// The top-level section of the compose file that begins with `name:`.
fn section(name: &str) -> Vec<&'static str> {
    let start = lines(COMPOSE).skip_while(|line| !line.starts_with(&format!("{name}:"))).skip(1);
    start.take_while(|line| line.is_empty() || line.starts_with(' ')).collect()
}

/// The services, each with its lines.
fn services() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut services = BTreeMap::new();
    let mut name = "";
    for line in section("services") {
        let is_name = line.starts_with("  ") && !line.starts_with("   ") && line.ends_with(':');
        if is_name {
            name = line.trim().trim_end_matches(':');
            services.insert(name, Vec::new());
        } else if let Some(lines) = services.get_mut(name) {
            lines.push(line);
        }
    }
    services
}

/// Every variable that the binary names in its help.
fn known() -> BTreeSet<String> {
    let output = command(&Flags::default()).arg("--help").output().expect("the binary runs");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
    let known: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(known.len() > 40, "{help}");
    known
}

/// `${NAME}` and `${NAME:-default}` of the compose file; `$$` is the shell's own.
fn interpolated() -> BTreeSet<String> {
    let text = lines(COMPOSE).collect::<Vec<_>>().join("\n").replace("$$", "");
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split("${").skip(1).filter_map(|rest| rest.split(ends).next()).map(str::to_owned).collect()
}

/// What is passed on to the monitor.
fn passed_on() -> BTreeSet<String> {
    let names = section("x-monitor-environment").into_iter().filter(|line| !line.is_empty());
    let names = names.map(|line| {
        line.strip_suffix(':').unwrap_or_else(|| panic!("{line} has a value of its own")).trim().to_owned()
    });
    names.collect()
}

/// The variables of `.env.example`, those in comments as well.
fn exemplified() -> BTreeSet<String> {
    let shouts = |name: &&str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    let lines = EXAMPLE.lines().map(|line| line.trim_start_matches("# "));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .filter(shouts)
        .map(str::to_owned)
        .collect()
}

fn owned(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_example_has_every_variable_and_no_other() {
    let mut expected = known();
    expected.extend(owned(OF_THE_COMPOSE_FILE));
    expected.extend(owned(OF_COMPOSE));
    assert_eq!(exemplified(), expected);
    let required = ["DATABASE_URL=", "ACCESS_PASSWORD="];
    assert!(
        required.iter().all(|line| EXAMPLE.lines().any(|found| found == *line)),
        "a value that is no one's"
    );
}

/// Commands of the documents have no `-f`: it would leave out what an operator's own `COMPOSE_FILE` names besides.
#[test]
fn compose_takes_the_file_that_the_example_names() {
    let named = EXAMPLE.lines().find_map(|line| line.strip_prefix("COMPOSE_FILE="));
    assert_eq!(named, Some("docker-compose.remote.yml"));
    assert!(exists("docker-compose.remote.yml") && !COMPOSE.contains("docker compose -f"));
}

#[test]
fn the_compose_file_passes_every_variable_on_and_no_other() {
    let expected: BTreeSet<String> = known().difference(&owned(FIXED)).cloned().collect();
    assert_eq!(passed_on(), expected);
    let mut expected = owned(OF_THE_COMPOSE_FILE);
    expected.insert("GRAFANA_URL".to_owned());
    assert_eq!(interpolated(), expected);
}

#[test]
fn defaults_of_the_example_are_those_of_the_program() {
    let values: BTreeMap<&str, &str> = lines(EXAMPLE).filter_map(|line| line.split_once('=')).collect();
    let mut command = command(&Flags::default());
    command.envs(values.iter()).args(["--database-url", "sqlite:///nowhere/one-api.db", "check"]);
    let output = command.env("ACCESS_PASSWORD", "p").output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("every value is understood"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_image_is_pinned() {
    let images = lines(COMPOSE).filter_map(|line| line.trim().strip_prefix("image: "));
    let stages = lines(DOCKERFILE).filter_map(|line| line.strip_prefix("FROM "));
    let mut seen = 0;
    for image in images.chain(stages.map(|stage| stage.split(' ').next().unwrap_or_default())) {
        let (_, tag) = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        assert!(
            tag != "latest" && tag.contains(|c: char| c.is_ascii_digit()) || tag == "bookworm-slim",
            "{image}"
        );
        seen += 1;
    }
    assert_eq!(seen, 8);
    let plugin = COMPOSE.split("yesoreyeram-infinity-datasource@").nth(1).expect("the plugin with a version");
    assert!(plugin.starts_with(|c: char| c.is_ascii_digit()));
    let plugin = plugin.lines().next().unwrap_or_default();
    let stack = include_str!("../../scripts/stack");
    assert!(
        stack.contains(&format!("yesoreyeram-infinity-datasource@{plugin} ")),
        "scripts/stack has another one"
    );
    // What is pinned must not be replaced behind our back.
    assert!(COMPOSE.contains("GF_PLUGINS_PREINSTALL_AUTO_UPDATE: \"false\""));
    assert!(stack.contains("GF_PLUGINS_PREINSTALL_AUTO_UPDATE=false"));
    let ours = format!("image: token-monitor:{}\n", env!("CARGO_PKG_VERSION"));
    assert!(COMPOSE.contains(&ours), "the image is not of this version");
    let toolchain = include_str!("../../rust-toolchain.toml");
    let channel = toolchain.split("channel = \"").nth(1).and_then(|rest| rest.split('"').next());
    let compiler = format!("FROM rust:{}-slim-bookworm AS build\n", channel.expect("a channel"));
    assert!(DOCKERFILE.contains(&compiler), "the image is built by another compiler");
}

#[test]
fn two_ports_are_published() {
    let ports: Vec<&str> = lines(COMPOSE).map(str::trim).filter(|line| line.starts_with("ports:")).collect();
    let expected =
        ["3002:3002", "5173:3000"].map(|port| format!("ports: [\"${{BIND_ADDRESS:-0.0.0.0}}:{port}\"]"));
    assert_eq!(ports, expected);
}

/// An address with a path must not move what health checks, scrapes and alerts ask for.
#[test]
fn addresses_for_people_change_nothing_for_the_other_containers() {
    let services = services();
    for (name, variable) in
        [("alertmanager", "ALERTMANAGER_EXTERNAL_URL"), ("prometheus", "PROMETHEUS_EXTERNAL_URL")]
    {
        let arguments: Vec<&str> = services[name].iter().copied().map(str::trim).collect();
        let url = format!("- --web.external-url=${{{variable}:-}}");
        assert!(arguments.contains(&url.as_str()), "{name}: {arguments:?}");
        assert!(arguments.contains(&"- --web.route-prefix=/"), "{name}: {arguments:?}");
    }
}

#[test]
fn every_service_is_confined_and_watched() {
    let services = services();
    let names: Vec<&str> = services.keys().copied().collect();
    assert_eq!(
        names,
        ["alertmanager", "backfill", "grafana", "history-load", "monitor-server", "prometheus"]
    );
    let hardened = section("x-hardened").join("\n");
    for line in [
        "restart: unless-stopped",
        "read_only: true",
        "cap_drop: [ALL]",
        "no-new-privileges:true",
        "max-size",
    ] {
        assert!(hardened.contains(line), "{line}");
    }
    for (name, lines) in services {
        let text = lines.join("\n");
        assert!(text.contains("<<:") && text.contains("*hardened"), "{name} is not confined");
        assert!(text.contains("mem_limit: "), "{name} may take all memory");
        for forbidden in ["privileged:", "network_mode", "pid: host", "docker.sock", "read_only: false"] {
            assert!(!text.contains(forbidden), "{name}: {forbidden}");
        }
        let ours = text.contains("*monitor,");
        let user = text.split("user: \"").nth(1).and_then(|rest| rest.split([':', '"']).next());
        assert!(
            if ours { user.is_none() } else { user.is_some_and(|user| user != "0") },
            "{name} runs as {user:?}"
        );
        let once = text.contains("restart: \"no\"");
        assert_eq!(once, text.contains("init: true"), "{name}: only a shell that goes on needs an init");
        // The monitor's own check is in the image.
        let checked = text.contains("healthcheck:\n") && text.contains("test: [CMD");
        assert!(
            once && text.contains("{ disable: true }") || checked || name == "monitor-server",
            "{name}: health"
        );
    }
}

#[test]
fn services_start_by_health() {
    let services = services();
    for (name, lines) in &services {
        for line in lines.iter().filter(|line| line.contains("condition:")) {
            let (needed, condition) = line.trim().split_once(": { condition: ").expect("a condition");
            let once = services[needed].iter().any(|line| line.trim() == "restart: \"no\"");
            let expected = if once { "service_completed_successfully }" } else { "service_healthy }" };
            assert_eq!(condition, expected, "{name} waits for {needed}");
        }
    }
}

/// What a promtool does that loads: it takes the last of its arguments for the folder, and makes `INTO/01ABC` of it.
const ONE_BLOCK: &str = "for into; do :; done; echo block >\"$into/01ABC\"";

/// The two services that give Prometheus a past, as their scripts stand in the compose file, with programs that do what they
/// are told in place of the real ones.
struct FirstStart {
    folder: Folder,
}

impl FirstStart {
    fn new() -> Self {
        let start = Self { folder: Folder::new() };
        for name in ["bin", "history", "prometheus"] {
            std::fs::create_dir(start.path(name)).expect("a folder");
        }
        start
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// What a program does from now on; it says that it was called.
    fn program(&self, name: &str, does: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.path("bin").join(name);
        std::fs::write(&file, format!("#!/bin/sh\necho \"called: {name} $*\"\n{does}\n")).expect("a program");
        std::fs::set_permissions(&file, Permissions::from_mode(0o755)).expect("a mode");
    }

    /// Exit code and words of a service.
    fn run(&self, service: &str) -> (Option<i32>, String) {
        let lines = &services()[service];
        let script = lines.iter().skip_while(|line| line.trim() != "- |").skip(1);
        let script = script.take_while(|line| line.is_empty() || line.starts_with("        "));
        let script: Vec<&str> = script.map(|line| line.get(8..).unwrap_or_default()).collect();
        let script = script.join("\n").replace("$$", "$");
        let here = |name: &str| self.path(name).display().to_string();
        let script = script.replace("/history/", &format!("{}/", here("history")));
        let script = script.replace("cd /history", &format!("cd {}", here("history")));
        let script = script.replace("cd /prometheus", &format!("cd {}", here("prometheus")));
        let mut path = std::ffi::OsString::from(format!("{}:", here("bin")));
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let output = Command::new("sh").arg("-c").arg(script).env("PATH", path).output();
        let output = output.expect("sh runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    fn has(&self, file: &str) -> bool {
        self.path(file).exists()
    }
}

#[test]
fn a_first_start_that_fails_leaves_the_history_to_the_next_one() {
    let start = FirstStart::new();
    start.program("token-monitor", "echo 'connection refused' >&2; exit 1");
    let (code, said) = start.run("backfill");
    assert_eq!(code, Some(1), "{said}");
    for words in ["called: token-monitor backfill --wait ", "connection refused", "up -d", "/history/done"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!start.has("history/done"));
    // The second start has it written, and loaded into an empty volume.
    start.program("token-monitor", "echo samples >history.om");
    start.program("promtool", ONE_BLOCK);
    assert_eq!(start.run("backfill").0, Some(0));
    let (code, said) = start.run("history-load");
    assert!(code == Some(0) && said.contains("called: promtool tsdb create-blocks-from"), "{said}");
    assert!(start.has("prometheus/01ABC") && !start.has("history/history.om"), "{said}");
    assert!(!start.has("prometheus/loading") && !start.has("prometheus/loaded"), "{said}");
    // Later ones do nothing, and say nothing.
    for service in ["backfill", "history-load"] {
        assert_eq!(start.run(service), (Some(0), String::new()), "{service}");
    }
}

#[test]
fn history_that_cannot_be_loaded_is_told_and_is_not_in_the_way() {
    // Prometheus has recorded already.
    let start = FirstStart::new();
    start.program("promtool", "");
    std::fs::write(start.path("history/history.om"), "samples").expect("a file");
    std::fs::create_dir(start.path("prometheus/wal")).expect("a folder");
    let (code, said) = start.run("history-load");
    assert!(code == Some(0) && said.contains("is not loaded") && !said.contains("called:"), "{said}");
    assert!(!start.has("history/history.om"), "it takes room for nothing");
    // promtool fails half way.
    let start = FirstStart::new();
    start.program("promtool", &format!("{ONE_BLOCK}; exit 1"));
    std::fs::write(start.path("history/history.om"), "samples").expect("a file");
    let (code, said) = start.run("history-load");
    assert!(
        code == Some(0) && said.contains("called: promtool") && said.contains("could not be loaded"),
        "{said}"
    );
    assert!(!start.has("prometheus/01ABC") && !start.has("history/history.om"));
    assert!(!start.has("prometheus/loading") && !start.has("prometheus/loaded"));
    // Whoever wants no past says so.
    let start = FirstStart::new();
    start.program("token-monitor", "exit 1");
    for name in ["history/done", "history/history.om.partial"] {
        std::fs::write(start.path(name), "").expect("a file");
    }
    assert_eq!(start.run("backfill"), (Some(0), String::new()));
    assert_eq!(start.run("history-load"), (Some(0), String::new()));
    assert!(!start.has("history/history.om.partial"), "it takes room for nothing");
}

#[test]
fn history_whose_loading_is_interrupted_is_loaded_as_a_whole_by_the_next_start() {
    let start = FirstStart::new();
    std::fs::write(start.path("history/history.om"), "samples").expect("a file");
    // As the container is: all of it ends while promtool has made the first of its blocks.
    start.program("promtool", &format!("{ONE_BLOCK}; kill -KILL $PPID; exit 1"));
    let (code, said) = start.run("history-load");
    assert!(code.is_none() && start.has("prometheus/loading/01ABC"), "{code:?} {said}");
    assert!(!start.has("prometheus/01ABC") && start.has("history/history.om"), "{said}");
    // The next one begins again, and is interrupted when the first of two blocks is where it belongs.
    start.program(
        "promtool",
        "for into; do :; done; for name in 01DEF 01GHI; do echo block >\"$into/$name\"; done",
    );
    start.program("mv", "if [ -e 01DEF ]; then kill -KILL $PPID; exit 1; fi; exec /bin/mv \"$@\"");
    let (code, said) = start.run("history-load");
    assert!(code.is_none() && said.contains("called: promtool"), "{code:?} {said}");
    assert!(start.has("prometheus/01DEF") && start.has("prometheus/loaded/01GHI"), "{said}");
    assert!(!start.has("prometheus/loading") && start.has("history/history.om"), "{said}");
    // The one after that moves what is left.
    start.program("mv", "exec /bin/mv \"$@\"");
    let (code, said) = start.run("history-load");
    assert!(
        code == Some(0) && !said.contains("called: promtool") && !said.contains("is not loaded"),
        "{said}"
    );
    for (file, there) in [
        ("prometheus/01ABC", false),
        ("prometheus/01DEF", true),
        ("prometheus/01GHI", true),
        ("prometheus/loading", false),
        ("prometheus/loaded", false),
        ("history/history.om", false),
    ] {
        assert_eq!(start.has(file), there, "{file}: {said}");
    }
}

#[test]
fn grafana_opens_on_an_overview_that_is_there() {
    let grafana = services()["grafana"].join("\n");
    let folders: Vec<&str> =
        grafana.split("folder=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(folders, ["Token Monitor zh-CN", "Token Monitor"]);
    for folder in folders {
        assert!(exists(&format!("grafana/dashboards/{folder}/overview.json")), "{folder}");
    }
    assert!(grafana.contains("DEFAULT_HOME_DASHBOARD_PATH=\"$$TM_DASHBOARDS/$$folder/overview.json\""));
}

#[test]
fn everything_that_is_mounted_is_there() {
    let mut mounted = 0;
    let volumes: BTreeSet<&str> =
        section("volumes").iter().map(|line| line.trim().trim_end_matches(':')).collect();
    for line in section("services").into_iter().filter_map(|line| line.trim().strip_prefix("- ")) {
        let Some((source, rest)) = line.split_once(":/") else { continue };
        if source.starts_with("./") {
            assert!(exists(source), "{source} is not there");
            assert!(rest.ends_with(":ro"), "{source} may be written");
            mounted += 1;
        } else if !source.contains(['"', ' ', '$', '.', '-']) || volumes.contains(source) {
            assert!(volumes.contains(source), "the volume {source} is not declared");
        }
    }
    assert!(mounted >= 8, "{mounted} mounts found");
    for (file, read) in [
        ("prometheus/prometheus.yml", "/etc/prometheus/prometheus.yml"),
        // A copy that is made of it at the start.
        ("alertmanager/alertmanager.yml", "/tmp/alertmanager.yml"),
    ] {
        assert!(COMPOSE.contains(&format!("--config.file={read}")) && exists(file), "{file}");
        assert!(COMPOSE.contains(&format!("/etc/{file}")) || read.starts_with("/etc/"), "{file}");
    }
}

/// The shell that Alertmanager's service begins with, in folders of a test.
fn entrypoint(of: &str, folder: &Path) -> String {
    let services = services();
    let script = services[of].iter().skip_while(|line| line.trim() != "- |").skip(1);
    let script: Vec<&str> = script.take_while(|line| line.starts_with("        ")).copied().collect();
    let (shipped, here) = (env!("CARGO_MANIFEST_DIR"), folder.display());
    let script = script.join("\n").replace("$$", "$").replace("/tmp/", &format!("{here}/"));
    script
        .replace("/run/secrets/", &format!("{here}/"))
        .replace("/etc/alertmanager/", &format!("{shipped}/alertmanager/"))
}

#[test]
fn alertmanager_is_started_with_a_time_limit_for_requests_if_it_knows_one() {
    let shipped = include_str!("../../alertmanager/alertmanager.yml");
    let line = "        # timeout: 10s\n";
    assert_eq!(shipped.matches(line).count(), 1);
    for (verdict, wanted) in
        [("true", shipped.replace(line, "        timeout: 10s\n")), ("false", shipped.to_owned())]
    {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, does) in [("amtool", verdict), ("alertmanager", "printf '%s ' \"$@\"; cat \"$PASSWORD\"")]
        {
            let program = folder.path().join(name);
            std::fs::write(&program, format!("#!/bin/sh\n{does}\n")).expect("a program");
            std::fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("to be run");
        }
        let mut path = std::ffi::OsString::from(folder.path());
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let output = Command::new("sh")
            .args(["-c", &entrypoint("alertmanager", folder.path()), "alertmanager", "--an-option"])
            .env("PATH", path)
            .env("ACCESS_PASSWORD", "p4ss")
            .env("PASSWORD", folder.path().join("access_password"))
            .output()
            .expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "--an-option p4ss", "{output:?}");
        let read = std::fs::read_to_string(folder.path().join("alertmanager.yml")).expect("a configuration");
        assert_eq!(read, wanted);
    }
}

#[test]
fn prometheus_and_alertmanager_find_the_password_where_they_look() {
    for file in ["prometheus/prometheus.yml", "alertmanager/alertmanager.yml"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file");
        assert!(text.contains("credentials_file: /run/secrets/access_password"), "{file}");
    }
    assert_eq!(COMPOSE.matches(">/run/secrets/access_password && exec ").count(), 2);
    assert_eq!(COMPOSE.matches("/run/secrets:mode=0700,uid=65534,gid=65534").count(), 2);
}

/// What Grafana's provisioning takes from the environment must be there, also if the password comes from a file.
#[test]
fn grafana_gets_every_variable_that_its_provisioning_names() {
    let provisioning = include_str!("../../grafana/provisioning/datasources/token-monitor.yaml").to_owned()
        + include_str!("../../grafana/provisioning/dashboards/token-monitor.yaml");
    let named: BTreeSet<String> = lines(&provisioning)
        .flat_map(|line| line.replace("$$", "").split('$').skip(1).map(str::to_owned).collect::<Vec<_>>())
        .map(|rest| rest.chars().take_while(|char| char.is_ascii_uppercase() || *char == '_').collect())
        .collect();
    assert_eq!(named, owned(&["ACCESS_PASSWORD", "TM_API_URL", "TM_DASHBOARDS", "TM_PROMETHEUS_URL"]));
    let services = services();
    let grafana = &services["grafana"];
    let exported: Vec<&str> = grafana
        .iter()
        .filter_map(|line| line.trim().strip_prefix("export "))
        .flat_map(str::split_whitespace)
        .collect();
    let (_, stack) =
        include_str!("../../scripts/stack").split_once("launch Grafana ").expect("it starts Grafana");
    for name in named {
        let set = grafana.iter().any(|line| line.trim().starts_with(&format!("{name}:")));
        assert!(set || exported.contains(&name.as_str()), "the compose file does not give {name} to Grafana");
        assert!(stack.contains(&format!(" {name}=")), "scripts/stack does not give {name} to Grafana");
    }
}

#[test]
fn the_image_runs_as_nobody_and_asks_for_its_own_health() {
    let last = DOCKERFILE.rsplit("\nFROM ").next().expect("a last stage");
    for line in ["USER 10001:10001", "VOLUME /data", "MALLOC_ARENA_MAX=2", "ENTRYPOINT [\"token-monitor\"]"] {
        assert!(last.contains(line), "{line}");
    }
    assert!(last.contains("HEALTHCHECK ") && last.contains("CMD [\"token-monitor\", \"health\"]"));
    assert!(DOCKERFILE.contains("--locked") && DOCKERFILE.contains("STRIP=symbols"));
    assert!(!last.contains("RUN "), "the last stage is one layer");
    // What the build does not read must not decide whether it is done again, and no secret must get into a layer.
    let context: Vec<&str> = lines(include_str!("../../.dockerignore")).collect();
    assert_eq!(context.first(), Some(&"*"));
    for kept in &context[1..] {
        let path = kept.strip_prefix('!').expect("an exception");
        assert!(exists(path), "{path} is not there");
    }
}

#[test]
fn health_is_what_a_server_at_the_address_says() {
    let free = crate::support::free_address();
    let mut command = command(&Flags { listen: Some(free.to_string()), ..Flags::default() });
    let output = command.arg("health").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("http://{free}/healthz")));
}
