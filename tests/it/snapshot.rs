//! Comparing a page with the golden file that the project agreed on.

use std::fmt::Write as _;
use std::path::Path;

/// Puts placeholders where the page differs from run to run.
pub fn steady(page: &str) -> String {
    let line = |line: &str| {
        if let Some((name, _)) = line.split_once(' ')
            && ["token_monitor_tail_lag_seconds", "token_monitor_tail_last_success_timestamp_seconds"]
                .contains(&name)
        {
            return format!("{name} <changes>\n");
        }
        if let Some((sample, _)) = line.rsplit_once(' ')
            && [
                "newapi_limit_reset_timestamp_seconds{",
                "token_monitor_config_last_reload_success_timestamp_seconds",
            ]
            .iter()
            .any(|name| line.starts_with(name))
        {
            return format!("{sample} <changes>\n");
        }
        match line.rsplit_once(' ') {
            Some((exemplar, _)) if line.contains(" # {") => format!("{exemplar} <time>\n"),
            _ => format!("{}\n", line.replace(env!("CARGO_PKG_VERSION"), "<version>")),
        }
    };
    page.lines().map(line).collect()
}

/// Compares with a golden file, or writes it if `UPDATE_GOLDEN` is set.
pub fn assert_golden(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("writing the golden file");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file");
    let difference = difference(&golden, actual);
    assert!(
        difference.is_empty(),
        "{file} and the page differ (`-` is missing now, `+` is new; UPDATE_GOLDEN=1 accepts):\n{difference}"
    );
}

/// Lines that only one of the texts has, in order, by their longest common subsequence.
fn difference(old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            common[i][j] =
                if a == b { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, String::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            writeln!(lines, "- {}", old[i]).expect("a String takes everything");
            i += 1;
        } else {
            writeln!(lines, "+ {}", new[j]).expect("a String takes everything");
            j += 1;
        }
    }
    lines
}
