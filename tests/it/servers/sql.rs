//! Private MariaDB and PostgreSQL servers, for tests that stop them or need them small.

use std::fs;
use std::path::PathBuf;

use super::process::{self, Ready, Server, Spec};

/// A private MariaDB server.
pub struct MySql {
    server: Server,
}

impl MySql {
    /// Makes an empty server and starts it; takes a second or two.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more options of `mariadbd`, as `--max-connections=5`.
    pub fn start_with(options: &[&str]) -> Self {
        let folder = process::new_folder("mariadb-");
        let user = process::unprivileged("mysql");
        let data = process::make_data(folder.path(), user);
        // Of its own: a server that starts takes temporary tables in /tmp for its own of before, and removes them.
        let temporary = format!("--tmpdir={}", data.display());
        let data = format!("--datadir={}", data.display());
        let install = [
            "--no-defaults",
            &data,
            &temporary,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-log-file-size=16M",
        ];
        let install = install.map(str::to_owned);
        process::prepare(&process::find_program("mariadb-install-db"), &install, folder.path(), user);
        let port = process::free_port();
        let port_option = format!("--port={port}");
        let fixed = [
            "--no-defaults",
            &data,
            &temporary,
            "--bind-address=127.0.0.1",
            &port_option,
            // No socket: its path could be too long.
            "--socket=",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M",
        ];
        let args = fixed.iter().chain(options).map(|&option| option.to_owned()).collect();
        let program = process::find_program("mariadbd");
        let spec = Spec { program, args, user, ready: Ready::Greets, stop: "TERM", kill: "KILL" };
        Self { server: Server::start(spec, folder, port) }
    }

    /// The URL of a database of this server; of the server itself with `""`.
    pub fn url(&self, db: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{db}", self.port())
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Stops it in good order; its connections end and new ones are refused.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again, after stopping it if it runs, with the same port and data.
    pub fn restart(&mut self) {
        self.server.stop();
        self.server.launch();
    }
}

/// A private PostgreSQL server.
pub struct Postgres {
    server: Server,
}

impl Postgres {
    /// Makes an empty server and starts it; takes a second or two.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more settings, as `max_connections=5`.
    pub fn start_with(settings: &[&str]) -> Self {
        let folder = process::new_folder("postgres-");
        let user = process::unprivileged("postgres");
        let data = process::make_data(folder.path(), user).display().to_string();
        let programs = programs_of_postgres();
        let init = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        process::prepare(&programs.join("initdb"), &init.map(str::to_owned), folder.path(), user);
        let port = process::free_port();
        let mut args = ["-D", &data, "-p", &port.to_string()].map(str::to_owned).to_vec();
        let fixed = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "shared_buffers=16MB",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
        ];
        for setting in fixed.iter().chain(settings) {
            args.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        let ready = Ready::PostgresAccepts(programs.join("pg_isready"));
        let program = programs.join("postgres");
        // QUIT, not KILL: a killed parent leaves its processes for a while, and they keep it from starting again.
        let spec = Spec { program, args, user, ready, stop: "INT", kill: "QUIT" };
        Self { server: Server::start(spec, folder, port) }
    }

    /// The URL of a database of this server; of the server itself with `""`.
    pub fn url(&self, db: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{db}", self.port())
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Stops it in good order; its connections end and new ones are refused.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again, after stopping it if it runs, with the same port and data.
    pub fn restart(&mut self) {
        self.server.stop();
        self.server.launch();
    }
}

/// Debian keeps the server's programs off the path, in a folder per version; the newest if there are several.
fn programs_of_postgres() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/initdb").is_file())
        .max_by_key(number);
    newest.map_or_else(
        || process::find_program("initdb").parent().expect("a file is in a folder").to_owned(),
        |version| version.join("bin"),
    )
}
