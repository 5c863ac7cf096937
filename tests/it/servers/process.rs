//! A server's process: started in a folder of its own, waited for, stopped, started again, and gone at the end.

use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_mins(1);

/// How to see that a server answers.
#[derive(Clone)]
pub(super) enum Ready {
    /// The server speaks first when it is ready, as MySQL's protocol has it.
    Greets,
    /// PostgreSQL's own program, of this path.
    PostgresAccepts(PathBuf),
    /// This path answers with status 200.
    Http(&'static str),
}

/// What to run and how to deal with it.
pub(super) struct Spec {
    pub program: PathBuf,
    pub args: Vec<String>,
    /// The user to run as, if we are root and the server will not be.
    pub user: Option<User>,
    pub ready: Ready,
    /// The signal that asks it to stop in good order.
    pub stop: &'static str,
    /// The signal that ends it at once.
    pub kill: &'static str,
}

/// A running or stopped server. Dropping it ends the process and removes the folder.
pub(super) struct Server {
    spec: Spec,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts it; returns when it answers on the port.
    pub(super) fn start(spec: Spec, folder: TempDir, port: u16) -> Self {
        let mut server = Self { spec, folder, port, child: None };
        server.launch();
        server
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Starts the process again after [`Self::stop`] or [`Self::kill`], with the same port and data.
    pub(super) fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = log_file(self.folder.path());
        let mut command = Command::new(&self.spec.program);
        command.args(&self.spec.args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle of the log")).stderr(log);
        run_as(&mut command, self.spec.user);
        let child =
            command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", self.spec.program.display()));
        // By this file scripts/test finds the process if this program is ended before it can clean up.
        fs::write(self.folder.path().join("pid"), child.id().to_string()).expect("writing the pid file");
        self.child = Some(child);
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let start = Instant::now();
        while !self.spec.ready.holds(self.port) {
            let child = self.child.as_mut().expect("just started");
            let ended = child.try_wait().expect("asking for the child's state").is_some();
            if ended || start.elapsed() > PATIENCE {
                let program = self.spec.program.display();
                panic!("{program} does not start; its log ends with:\n{}", log_tail(self.folder.path()));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to stop in good order, and waits until it has.
    pub(super) fn stop(&mut self) {
        self.end(self.spec.stop);
    }

    /// Ends it at once, as a crash would.
    pub(super) fn kill(&mut self) {
        self.end(self.spec.kill);
    }

    fn end(&mut self, signal: &str) {
        let Some(mut child) = self.child.take() else { return };
        send_signal(child.id(), signal);
        let start = Instant::now();
        while child.try_wait().expect("asking for the child's state").is_none() {
            if start.elapsed() > PATIENCE {
                child.kill().ok();
                child.wait().ok();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Ready {
    fn holds(&self, port: u16) -> bool {
        match self {
            Self::Greets => first_byte(port, b"").is_some(),
            Self::PostgresAccepts(program) => Command::new(program)
                .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
                .status()
                .is_ok_and(|status| status.success()),
            Self::Http(path) => {
                let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
                first_byte(port, request.as_bytes()).is_some_and(|answer| answer.contains(" 200 "))
            }
        }
    }
}

/// Sends the request and returns the beginning of what the server says.
fn first_byte(port: u16, request: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(request).ok()?;
    let mut buffer = [0; 64];
    let n = stream.read(&mut buffer).ok()?;
    (n > 0).then(|| String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// The standard library sends SIGKILL only; every shell has a `kill`, which not every machine has as a program.
fn send_signal(pid: u32, signal: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot send {signal} to {pid}");
}

/// A user of the system, by numbers.
#[derive(Clone, Copy)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

/// The named user if we are root, `None` (stay who we are) if not.
pub(super) fn unprivileged(name: &str) -> Option<User> {
    let we_are_root = fs::metadata("/proc/self").expect("/proc is mounted").uid() == 0;
    if !we_are_root {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("reading /etc/passwd");
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("there is no user {name}: scripts/test installs what makes it"));
    let number = |n: usize| line.split(':').nth(n).and_then(|s| s.parse().ok()).expect("a numeric id");
    Some(User { uid: number(2), gid: number(3) })
}

fn run_as(command: &mut Command, user: Option<User>) {
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
}

/// Runs a program that prepares the server's data, in the server's folder; panics with what it printed if it fails.
pub(super) fn prepare(program: &Path, args: &[String], folder: &Path, user: Option<User>) {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    run_as(&mut command, user);
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {}: {e}", program.display()));
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} failed: {printed}", program.display());
}

/// A new folder that every user may enter, where scripts/test looks for servers that were left behind.
pub(super) fn new_folder(prefix: &str) -> TempDir {
    let parent = std::env::var_os("TEST_SERVERS_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(parent).expect("making a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("opening the folder");
    folder
}

/// Makes `data` in the folder, for the server's user only.
pub(super) fn make_data(folder: &Path, user: Option<User>) -> PathBuf {
    let data = folder.join("data");
    fs::create_dir(&data).expect("making the data folder");
    fs::set_permissions(&data, Permissions::from_mode(0o700)).expect("closing the data folder");
    give(&data, user);
    data
}

/// Makes a file or folder the user's, if the server runs as another one than we.
pub(super) fn give(path: &Path, user: Option<User>) {
    if let Some(user) = user {
        std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).expect("giving it away");
    }
}

fn log_file(folder: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("opening the server's log")
}

fn log_tail(folder: &Path) -> String {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The program's path: as a shell would find it, or where Debian keeps programs for administrators.
pub(super) fn find_program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut programs = folders.map(|folder| folder.join(name));
    programs
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: run scripts/test"))
}

/// A number that no other run has.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A free port of 127.0.0.1, below those that the system gives to outgoing connections, and never the same one twice:
/// a stopped server's port stays its own.
pub fn free_port() -> u16 {
    static FIRST: OnceLock<u16> = OnceLock::new();
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const RANGE: u16 = 12_000;
    let first = *FIRST.get_or_init(|| u16::try_from(random() % u64::from(RANGE)).expect("below the range"));
    for _ in 0..RANGE {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed) % RANGE) % RANGE;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
