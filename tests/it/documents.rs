//! What the documents promise and a program can try: the users of the README, and the table of variables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use token_monitor::config::Flags;

use crate::schema::Version;
use crate::servers::{Database, Engine};
use crate::support::{Folder, command, flags};

const README: &str = include_str!("../../README.md");
const CHINESE: &str = include_str!("../../README.zh-CN.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

/// The statements of the SQL example that holds `mark`.
fn example(mark: &str) -> Vec<&'static str> {
    let blocks = README.split("```sql\n").skip(1).filter_map(|block| block.split("```").next());
    let block = blocks.into_iter().find(|block| block.contains(mark)).expect("an example in the README");
    block.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).collect()
}

/// Exit code and words of `check` on a database.
fn check(database_url: &str) -> (Option<i32>, String) {
    let folder = Folder::new();
    let output =
        command(&flags(database_url, &folder.path())).arg("check").output().expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the README's statements for a user of the database's own name, and `check` as that user.
async fn check_as_documented_user(engine: Engine, mark: &str) {
    let database = Database::create(engine, Version::V1_0_0Rc24).await;
    let user = format!("u_{}", database.name());
    for statement in example(mark) {
        let statement = statement.replace("token_monitor", &user).replace("new-api", &database.name());
        database.exec(&statement).await;
    }
    let (scheme, rest) = database.url.split_once("://").expect("a URL");
    let (_, address) = rest.split_once('@').expect("a user");
    let (code, said) = check(&format!("{scheme}://{user}:password@{address}"));
    for statement in match engine {
        Engine::Postgres => vec![format!("DROP OWNED BY {user}"), format!("DROP ROLE {user}")],
        _ => vec![format!("DROP USER '{user}'@'%'")],
    } {
        database.exec(&statement).await;
    }
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("the user may only read").count(), 2, "{said}");
    assert!(!said.contains("warn"), "{said}");
    // The server's administrator may do anything, which is said but is no failure.
    let (code, said) = check(&database.url);
    assert_eq!((code, said.matches("the user may write").count()), (Some(0), 2), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_mysql_user_has_the_rights_it_needs_and_no_more() {
    check_as_documented_user(Engine::MySql, "CREATE USER").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_postgresql_user_has_the_rights_it_needs_and_no_more() {
    check_as_documented_user(Engine::Postgres, "CREATE ROLE").await;
}

/// Every document of ours, with its path.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in [".", "docs", "docs/adr", "docs/images", "config", "secrets"] {
        let files = std::fs::read_dir(root.join(folder)).expect("a folder");
        let files = files.map(|entry| entry.expect("a file").path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("a document"))).collect()
}

/// What the headings of a document are linked by: letters and digits of any alphabet in lower case, with hyphens for spaces.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    let headings = text.lines().filter(|line| {
        in_code ^= line.starts_with("```");
        !in_code && line.starts_with('#')
    });
    let anchor = |heading: &str| {
        let title = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect::<String>()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = documents();
    let names: BTreeSet<&str> = documents.iter().filter_map(|(path, _)| path.file_name()?.to_str()).collect();
    for name in [
        "README.md",
        "README.zh-CN.md",
        "SECURITY.md",
        "deployment.md",
        "0001-one-state-copied-per-commit.md",
    ] {
        assert!(names.contains(name), "{name} is not looked at");
    }
    let (mut links, mut wrong) = (0, Vec::new());
    for (path, text) in &documents {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            links += 1;
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let known = |anchor: &str| {
                std::fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor))
            };
            if !target.exists() || !anchor.is_empty() && !known(anchor) {
                wrong.push(format!("{} links to {link}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(links > 100, "{links} links found");
}

/// The commands in the blocks of a document that have this mark, without comments and empty lines.
fn commands(text: &str, mark: &str) -> Vec<String> {
    let fence = format!("```{mark}\n");
    let blocks = text.split(&fence).skip(1).filter_map(|block| block.split("\n```").next());
    let lines = blocks.flat_map(str::lines).map(|line| line.split("    #").next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// The Chinese one tells more, because the other documents are in English, but nothing else.
#[test]
fn both_readmes_have_the_same_commands_in_the_same_order() {
    for mark in ["sh", "sql"] {
        let (english, chinese) = (commands(README, mark), commands(CHINESE, mark));
        assert!(english.len() > 5, "{english:?}");
        let mut rest = chinese.iter();
        for command in &english {
            assert!(
                rest.any(|other| other == command),
                "README.zh-CN.md does not have in its place: {command}"
            );
        }
    }
    let begins = ["cargo run --release -- demo", "scripts/test"];
    for readme in [README, CHINESE] {
        assert_eq!(commands(readme, "sh")[..2], begins, "it begins with two commands");
    }
}

/// `.env` tells Compose its files, an operator's own among them. A command with `-f` would take no notice of it.
#[test]
fn commands_of_compose_leave_its_files_to_env() {
    let mut seen = 0;
    for (path, text) in documents() {
        let commands = commands(&text, "sh");
        let of_compose = |command: &String| command.starts_with("docker compose ");
        let wrong: Vec<&String> =
            commands.iter().filter(|command| of_compose(command) && command.contains(" -f ")).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", path.display());
        seen += commands.iter().filter(|command| of_compose(command)).count();
    }
    assert!(seen > 15, "{seen} commands of Compose found");
    for readme in [README, CHINESE] {
        let commands = commands(readme, "sh");
        let made = commands.iter().position(|command| command == "cp .env.example .env");
        let used = commands.iter().position(|command| command.starts_with("docker compose "));
        assert!(made.is_some() && made < used, "without .env Compose finds no file");
    }
}

/// Whoever deploys must find in both how to get each value, who may come in, and where to report a weakness.
#[test]
fn both_readmes_guide_a_newcomer() {
    for (name, readme) in [("README.md", README), ("README.zh-CN.md", CHINESE)] {
        for words in [
            "`DATABASE_URL`",
            "`ACCESS_PASSWORD`",
            "`NEW_API_BASE_URL`",
            "`NEW_API_KEY`",
            "`NEW_API_USER_ID`",
            "`TELEGRAM_BOT_TOKEN`",
            "`TELEGRAM_CHAT_ID`",
            "`FEISHU_WEBHOOK`",
            "`WECOM_WEBHOOK`",
            "系统访问令牌",
            "个人设置",
            "`sk-`",
            "host.docker.internal",
            "| 5173 |",
            "| 3002 |",
            "`BIND_ADDRESS=127.0.0.1`",
            "(SECURITY.md)",
            "(CONTRIBUTING.md)",
            "(docs/upgrading-new-api.md)",
        ] {
            assert!(readme.contains(words), "{name} does not tell {words}");
        }
    }
}

#[test]
fn the_code_map_names_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = std::fs::read_to_string(root.join("src/lib.rs")).expect("the library");
    let map = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the document");
    let map = map.split("## A row").next().expect("the code map");
    for module in library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        assert!(map.contains(&format!("`{module}`")), "ARCHITECTURE.md does not name {module}");
    }
}

#[test]
fn the_example_of_a_payload_can_be_rendered() {
    let document = include_str!("../../docs/messages.md");
    let block = document.split("```json\n").nth(1).and_then(|block| block.split("```").next());
    let folder = Folder::new();
    let file = folder.path().join("payload.json");
    std::fs::write(&file, block.expect("an example")).expect("a file");
    let output = command(&Flags::default()).arg("render").arg(&file).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.matches("Limit exceeded: azure-daily, channel 3").count(), 6, "{said}");
}

#[test]
fn every_variable_is_documented_and_no_other() {
    let output = command(&Flags::default()).arg("--help").output().expect("the binary runs");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let known: BTreeSet<&str> =
        help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()).collect();
    assert!(known.len() > 20, "{help}");
    let is_variable =
        |word: &&str| word.contains('_') || ["LISTEN", "HISTORY", "TIMEZONE", "LANGUAGE"].contains(word);
    let shouts = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let documented: BTreeSet<&str> =
        CONFIGURATION.split('`').skip(1).step_by(2).filter(shouts).filter(is_variable).collect();
    // Names of new-api's own variables, and the pattern of the others.
    let foreign = BTreeSet::from(["LOG_SQL_DSN", "NAME_FILE", "SQLITE_PATH", "SQL_DSN"]);
    assert_eq!(documented.difference(&foreign).copied().collect::<BTreeSet<_>>(), known);
}
