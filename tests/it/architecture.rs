//! Who may use whom, and where things may stand: the rules of the house, checked on its text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the modules of each folder or file directly under src/ may use of the crate. `tail::seen` allows that
/// submodule only; `demo/command` is a rule for that submodule, which goes before the one for `demo`.
const MAY_USE: &[(&str, &[&str])] = &[
    // The pure core.
    ("record", &[]),
    ("usage", &["record"]),
    ("history", &["record"]),
    ("limits", &["history", "record"]),
    ("alert", &["limits"]),
    // Leaves.
    ("clock", &[]),
    ("lifecycle", &[]),
    ("outbound", &["secret"]),
    ("secret", &[]),
    ("telemetry", &[]),
    ("threads", &[]),
    // Databases, all SQL. A chunk of seen rows is stored as the tail remembers it.
    ("newapi", &["config::Admin", "outbound", "record", "threads"]),
    (
        "store",
        &[
            "alert",
            "breaker::act",
            "history",
            "limits::Restore",
            "limits::Severity",
            "limits::file::LastGood",
            "message",
            "record",
            "tail::seen",
            "threads",
            "usage",
        ],
    ),
    // A row in full, for people; pure but for the calendar.
    ("detail", &["history", "newapi", "record"]),
    // What people are told; pure but for the calendar.
    ("message", &["alert", "breaker::act", "config::Language", "limits"]),
    // What the loops know, and the loops.
    ("state", &["breaker::act", "history::Recent", "limits", "message::Target", "newapi", "record", "usage"]),
    ("intake", &["alert", "clock", "limits", "message", "state", "store"]),
    (
        "delivery",
        &[
            "alert",
            "breaker::act",
            "clock",
            "config",
            "history",
            "limits",
            "message",
            "outbound",
            "secret",
            "state",
            "store",
        ],
    ),
    // Its record of acts is pure and used by others.
    ("breaker", &["clock", "config", "history", "limits", "message", "newapi", "state", "store"]),
    ("refresh", &["newapi", "record", "state", "store"]),
    (
        "tail",
        &["clock", "config", "history", "limits::Period", "newapi", "record", "state", "store", "usage"],
    ),
    (
        "meter",
        &["clock", "config", "history::Filter", "lifecycle::Hangup", "limits", "record", "state", "store"],
    ),
    // The surface.
    ("metrics", &["breaker::act", "clock", "limits", "newapi", "record", "state", "usage"]),
    (
        "http",
        &[
            "alert",
            "breaker",
            "clock",
            "config",
            "detail",
            "history",
            "intake",
            "limits",
            "message",
            "metrics",
            "newapi",
            "record",
            "secret",
            "state",
            "store",
            "threads",
            "usage::OTHER",
        ],
    ),
    // Wiring. The configuration reads addresses and makes the rules of counting.
    ("config", &["detail", "message", "newapi::dsn", "secret", "telemetry", "usage"]),
    (
        "app",
        &[
            "breaker",
            "clock",
            "config",
            "delivery",
            "http",
            "intake",
            "lifecycle",
            "meter",
            "metrics",
            "newapi",
            "refresh",
            "state",
            "store",
            "tail",
        ],
    ),
    (
        "backfill",
        &["cli", "clock", "config", "lifecycle", "metrics", "newapi", "record", "store", "threads", "usage"],
    ),
    ("check", &["cli", "clock", "config", "delivery", "limits", "meter", "newapi", "store"]),
    (
        "cli",
        &[
            "app",
            "backfill",
            "check",
            "clock",
            "config",
            "deliveries",
            "demo",
            "health",
            "lifecycle",
            "render",
            "telemetry",
        ],
    ),
    ("health", &["config"]),
    ("render", &["alert", "cli", "clock", "config", "message"]),
    ("deliveries", &["cli", "clock", "config", "message::Target", "store"]),
    ("lib", &[]),
    ("main", &[]),
    // The stand-in knows of the monitor only the mark of a channel test; its command runs both.
    ("demo/command", &["app", "clock", "config", "lifecycle"]),
    ("demo", &["record::CHANNEL_TEST_TOKEN"]),
];

/// Crates that the pure core does without: no database, no time, no waiting.
const IMPURE: &[&str] =
    &["tokio", "sqlx", "rusqlite", "std::time::SystemTime", "jiff", "std::fs", "std::net"];

/// What a module of the core may use all the same: limits know days of time zones, and are told what time it is.
const ALLOWED: (&str, &str) = ("limits", "jiff");

/// Where the databases are talked to.
const DATABASES: &[&str] = &["newapi", "store", "demo"];

/// The address of the one registry that packages come from, in two pieces as [`REGISTRY_HOSTS`].
const CRATES_IO: &str = concat!("https://github.com/rust-lang/crates.io", "-index");

/// Longest file, in lines that hold something, without its tests.
const LONGEST_FILE: usize = 600;

/// A file of src/, split into what rules look at.
struct Source {
    /// Below src/, as `newapi/dsn`; of `newapi/mod.rs` it is `newapi`.
    module: String,
    /// As it is.
    text: String,
    /// Up to its tests: the code, without comments and with empty texts.
    code: String,
    /// The texts in that code.
    literals: Vec<String>,
}

impl Source {
    /// Every file, those with tests only left out.
    fn all() -> Vec<Self> {
        let files = files_under(&root().join("src"));
        assert!(files.len() > 40, "where is src?");
        files.iter().map(|file| Self::read(file)).filter(|source| !source.is_test()).collect()
    }

    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).expect("a source file");
        let relative = file.strip_prefix(root().join("src")).expect("below src").with_extension("");
        let module = relative.to_str().expect("a plain name").trim_end_matches("/mod").to_owned();
        let (code, literals) = lexed(text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        Self { module, text, code, literals }
    }

    fn is_test(&self) -> bool {
        self.module.ends_with("tests")
    }

    /// The folder or file directly under src/.
    fn top(&self) -> &str {
        self.module.split('/').next().unwrap_or_default()
    }

    /// Paths behind every `crate::` of the code, groups taken apart.
    fn uses(&self) -> BTreeSet<String> {
        let mut uses = BTreeSet::new();
        for rest in self.code.split("crate::").skip(1) {
            if let Some(group) = rest.strip_prefix('{') {
                let group = group.split("};").next().unwrap_or_default();
                uses.extend(group.split(',').map(path_at_start).filter(|path| !path.is_empty()));
            } else {
                uses.insert(path_at_start(rest));
            }
        }
        uses
    }
}

/// The longest `a::b::C` that the text begins with.
fn path_at_start(text: &str) -> String {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    text[..end].trim_end_matches(':').to_owned()
}

/// Takes Rust apart: the code without comments and with empty texts, and the texts.
fn lexed(source: &str) -> (String, Vec<String>) {
    let (mut code, mut literals, mut rest) = (String::new(), Vec::new(), source);
    while let Some(first) = rest.chars().next() {
        let raw = rest.strip_prefix('r').is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'));
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if raw && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &rest[hashes + 2..];
            let length = body.find(&end).expect("the end of a raw text");
            literals.push(body[..length].to_owned());
            rest = &body[length + end.len()..];
        } else if first == '"' {
            let length = quoted_length(&rest[1..]);
            literals.push(rest[1..=length].to_owned());
            rest = &rest[length + 2..];
        } else if let Some(length) = character_length(rest) {
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    (code, literals)
}

/// Bytes up to the quote that ends a text.
fn quoted_length(body: &str) -> usize {
    let mut escaped = false;
    body.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })
    .expect("the end of a text")
}

/// Bytes of a character literal, which may hold a quote; None for a lifetime and all else.
fn character_length(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    if body.starts_with('\\') {
        return Some(body[2..].find('\'')? + 4);
    }
    let length = body.chars().next()?.len_utf8();
    body[length..].starts_with('\'').then_some(length + 2)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder.
fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Fails with all that is wrong, a line each.
fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whether `path` is `allowed` or something in it.
fn within(path: &str, allowed: &str) -> bool {
    path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    for source in Source::all() {
        let rule = MAY_USE.iter().find(|(name, _)| source.module == *name || source.top() == *name);
        let Some((name, allowed)) =
            rule.map(|(name, allowed)| (name.split('/').next().unwrap_or(name), allowed))
        else {
            wrong.push(format!("{}: say in architecture.rs what this module may use", source.module));
            continue;
        };
        for path in source.uses() {
            if !within(&path, name) && !allowed.iter().any(|allowed| within(&path, allowed)) {
                wrong.push(format!("{} uses {path}, which {name} must not", source.module));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn every_rule_is_about_a_module_and_is_needed() {
    let sources = Source::all();
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        let rule = MAY_USE.iter().find(|(name, _)| source.module == *name || source.top() == *name);
        used.entry(rule.expect("checked above").0).or_default().extend(source.uses());
    }
    let mut wrong = Vec::new();
    for (name, allowed) in MAY_USE {
        let Some(used) = used.get(name) else {
            wrong.push(format!("there is no {name}"));
            continue;
        };
        let unused = allowed.iter().filter(|allowed| !used.iter().any(|path| within(path, allowed)));
        wrong.extend(unused.map(|allowed| format!("{name} does not need {allowed} any more")));
    }
    nothing(&wrong);
}

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    let core = ["history", "limits", "record", "usage"];
    for source in Source::all().iter().filter(|source| core.contains(&source.top())) {
        for name in IMPURE.iter().filter(|name| (source.top(), **name) != ALLOWED) {
            let path = format!("{name}::");
            if source.code.contains(&path) || source.code.contains(&format!("use {name}")) {
                wrong.push(format!("{} uses {name}", source.module));
            }
        }
    }
    nothing(&wrong);
}

/// Whether a text is a statement: words of SQL alone also stand in messages to people.
fn is_sql(text: &str) -> bool {
    let text = text.to_uppercase();
    let both = |first: &str, second: &str| text.contains(first) && text.contains(second);
    both("SELECT ", " FROM ")
        || both("INSERT ", "INTO ")
        || both("UPDATE ", " SET ")
        || both("DELETE ", "FROM ")
        || ["CREATE TABLE", "ALTER TABLE", "DROP TABLE", "CREATE INDEX", "PRAGMA "]
            .iter()
            .any(|words| text.contains(words))
}

#[test]
fn sql_and_its_drivers_stay_with_the_databases() {
    let (mut wrong, mut statements) = (Vec::new(), 0);
    for source in Source::all() {
        let at_home = DATABASES.contains(&source.top());
        for text in source.literals.iter().filter(|text| is_sql(text)) {
            statements += 1;
            if !at_home {
                wrong.push(format!("{} holds SQL: {text}", source.module));
            }
        }
        for driver in ["sqlx", "rusqlite"] {
            if !at_home && source.code.contains(driver) {
                wrong.push(format!("{} uses {driver}", source.module));
            }
        }
    }
    nothing(&wrong);
    assert!(statements > 30, "only {statements} statements were recognised");
}

#[test]
fn the_time_is_read_in_one_place_and_the_environment_in_another() {
    let rules = [
        ("SystemTime::now", "clock"),
        ("Timestamp::now", "clock"),
        ("Zoned::now", "clock"),
        ("env::var", "config"),
        ("env::vars", "config"),
    ];
    let mut wrong = Vec::new();
    for source in Source::all() {
        for (call, home) in rules {
            if source.top() != home && source.code.contains(call) {
                wrong.push(format!("{} calls {call}, which {home} is for", source.module));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn only_tests_unwrap() {
    let sources = Source::all();
    let unwraps = sources.iter().filter(|source| source.code.contains(".unwrap()"));
    nothing(&unwraps.map(|source| format!("{} unwraps", source.module)).collect::<Vec<_>>());
}

/// Time tells how much of a secret was right where it is compared sign by sign.
#[test]
fn secrets_are_compared_by_digests_in_constant_time() {
    let sources = Source::all();
    let of = |module: &str| sources.iter().find(|source| source.module == module).expect(module);
    let secret = &of("secret").code;
    for needed in ["Sha256::digest", "ct_eq"] {
        assert!(secret.contains(needed), "secrets are compared without {needed}");
    }
    let mut wrong = Vec::new();
    for trait_name in ["PartialEq", "Eq", "PartialOrd", "Ord", "Hash", "Deref", "AsRef", "Borrow"] {
        let words = secret.split(|c: char| !c.is_alphanumeric());
        if words.into_iter().any(|word| word == trait_name) {
            wrong.push(format!("Secret has {trait_name}, by which it can be compared"));
        }
    }
    // Those who check what somebody offers do not see the secrets at all.
    for module in ["http/auth", "http/webhook", "http/mod"] {
        let source = sources
            .iter()
            .find(|source| source.module == module || format!("{}/mod", source.module) == module);
        if source.expect(module).code.contains("expose(") {
            wrong.push(format!("{module} looks at a secret itself"));
        }
    }
    assert!(of("http/auth").code.contains(".matches("), "http/auth compares otherwise");
    for source in &sources {
        for statement in source.code.split([';', '{', '}']).filter(|text| text.contains(".expose()")) {
            if ["==", "!=", ".eq(", ".ne(", ".cmp(", "matches!("].iter().any(|how| statement.contains(how)) {
                wrong.push(format!("{} compares a secret: {}", source.module, statement.trim()));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let mut wrong = Vec::new();
    for file in files_under(&root().join("src")) {
        let source = Source::read(&file);
        if !source.text.starts_with("//! ") {
            wrong.push(format!("{} does not begin with what it is for", file.display()));
        }
        let before_tests = source.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = before_tests.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{} has {lines} lines, more than {LONGEST_FILE}", file.display()));
        }
    }
    nothing(&wrong);
}

#[test]
fn every_migration_is_run_in_order() {
    let mut files: Vec<String> = std::fs::read_dir(root().join("migrations"))
        .expect("the folder of migrations")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    files.sort();
    let store = std::fs::read_to_string(root().join("src/store/mod.rs")).expect("the store");
    let listed: Vec<&str> =
        store.split("migrations/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(listed, files);
    for (index, file) in files.iter().enumerate() {
        assert!(file.starts_with(&format!("{:04}_", index + 1)), "{file} is not the {}th", index + 1);
    }
}

#[test]
fn packages_come_from_crates_io_only() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect(name);
    let (mut wrong, mut section, mut packages) = (Vec::new(), String::new(), 0);
    for line in read("Cargo.toml").lines().map(str::trim) {
        if line.starts_with('[') {
            line.clone_into(&mut section);
        }
        let words = ["git", "path", "registry", "registry-index"];
        let has = |word: &str| {
            let rest = line.split(['{', ',']).map(str::trim);
            rest.into_iter().any(|part| part.split('=').next().map(str::trim) == Some(word))
        };
        if section.contains("dependencies") && words.into_iter().any(has) {
            wrong.push(format!("Cargo.toml {section}: {line}"));
        }
        if section.starts_with("[patch") || section.starts_with("[replace") {
            wrong.push(format!("Cargo.toml replaces packages: {line}"));
        }
    }
    for line in read("Cargo.lock").lines().filter(|line| line.starts_with("source = ")) {
        packages += 1;
        if line != format!("source = \"registry+{CRATES_IO}\"") {
            wrong.push(format!("Cargo.lock: {line}"));
        }
    }
    nothing(&wrong);
    assert!(packages > 100, "only {packages} packages were looked at");
}

/// Parts of addresses of package registries and their mirrors, in two pieces each: this file is looked at too.
const REGISTRY_HOSTS: &[(&str, &str)] = &[
    ("index.", "crates.io"),
    ("static.", "crates.io"),
    ("crates.io", "-index"),
    ("sparse", "+http"),
    ("registry", "+http"),
    ("registry.", "npmjs"),
    ("registry.", "yarnpkg"),
    ("files.", "pythonhosted"),
    ("pypi", ".org/simple"),
    ("proxy.", "golang.org"),
    ("rs", "proxy.cn"),
    ("mirrors", ".ustc"),
    ("mirrors", ".tuna"),
    ("mirrors", ".aliyun"),
    ("art", "ifactory"),
    ("/repository", "/crates"),
    ("replace-", "with ="),
    ("CARGO_", "REGISTRIES_"),
];

#[test]
fn no_tracked_file_names_a_package_registry() {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    assert!(listed.status.success(), "git ls-files fails: {}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("plain names");
    let names: Vec<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
    assert!(names.contains(&"Cargo.lock") && names.len() > 50, "git lists only {names:?}");
    let mut wrong = String::new();
    for name in names {
        // A tracked file may be gone from the folder, and an image is no text.
        let Ok(text) = std::fs::read_to_string(root().join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            // The lock file names where each package is from, and deny.toml forbids any other place.
            let official = line.contains(CRATES_IO);
            let of_the_lock_file = official && matches!(name, "Cargo.lock" | "deny.toml");
            let has_host = REGISTRY_HOSTS.iter().any(|(a, b)| line.contains(&format!("{a}{b}")));
            if has_host && !of_the_lock_file {
                writeln!(wrong, "{name}:{}: {line}", number + 1).expect("writing to a text");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_reader_of_rust_knows_texts_comments_and_characters() {
    let source = "let a = '\"'; // \"no text\"
        let b = \"say \\\"crate::x\\\"\"; let c = r#\"raw \"two\"\"#; fn f<'a>(x: &'a str) { '\\''; r#in; crate::y::Z }";
    let (code, literals) = lexed(source);
    assert_eq!(literals, [r#"say \"crate::x\""#, r#"raw "two""#]);
    assert!(
        code.contains("crate::y::Z") && !code.contains("crate::x") && !code.contains("no text"),
        "{code}"
    );
    let source = Source { module: "m".into(), text: String::new(), code, literals };
    assert_eq!(source.uses(), BTreeSet::from(["y::Z".to_owned()]));
    assert!(is_sql("SELECT a FROM b") && !is_sql("a user with SELECT alone is safer"));
}
