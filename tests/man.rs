//! Owns the proof that options, `--help`, man page and README say the same.
//!
//! `UPDATE=1 cargo test man::` writes the made parts of the man page and the README anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use chronik::options::{self, exit, COMMANDS, OPTIONS};

const MAN: &str = "man/chronik-server.8";
const README: &str = "README.md";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Compares what stands between two marker lines with `made`, or writes it there.
pub fn holds(file: &str, begin: &str, end: &str, made: &str) {
    let text = read(file);
    let (Some(from), Some(to)) = (text.find(begin), text.find(end)) else {
        panic!("{file} has no {begin} and {end}");
    };
    let from = from + begin.len();
    if text[from..to] == *made {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        let new = format!("{}{made}{}", &text[..from], &text[to..]);
        std::fs::write(path(file), new).unwrap();
        return;
    }
    let differs = |(a, b): &(&str, &str)| a != b;
    let first = text[from..to].lines().zip(made.lines()).find(differs);
    panic!("{file} is not what the table of options makes; UPDATE=1 rewrites it. First difference: {first:?}");
}

/// Every word in `text` that begins with `prefix` and goes on as names do.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find(prefix) {
        let before = rest[..at].chars().next_back();
        rest = &rest[at + prefix.len()..];
        let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').next().unwrap();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '-') && !name.is_empty() && !name.starts_with('-') {
            found.insert(name.to_string());
        }
    }
    found
}

fn flags() -> BTreeSet<String> {
    OPTIONS.iter().filter(|o| o.on_command_line).map(|o| o.long.to_string()).collect()
}

fn variables() -> BTreeSet<String> {
    OPTIONS.iter().filter_map(|o| o.env()).collect()
}

/// The part of the README that speaks of options; the rest names options of other programs.
fn readme_options() -> String {
    let text = read(README);
    let (from, to) = (text.find("<!-- options -->"), text.find("<!-- /options -->"));
    text[from.expect("marker")..to.expect("marker")].to_string()
}

#[test]
fn the_readmes_table_is_made_from_the_options() {
    let made = format!("\n{}", options::readme_table());
    holds(README, "<!-- options -->\n", "<!-- /options -->", &made);
}

#[test]
fn the_man_page_is_made_from_the_options() {
    holds(MAN, ".\\\" options\n", ".\\\" /options\n", &options::man_options());
    holds(MAN, ".\\\" exit\n", ".\\\" /exit\n", &options::man_exit_status());
}

#[test]
fn help_man_and_readme_name_every_flag_and_no_other() {
    let man = read(MAN).replace("\\-\\-", "--").replace("Fl -", "--");
    for (what, text) in [("--help", options::help()), (MAN, man), (README, readme_options())] {
        assert_eq!(names(&text, "--"), flags(), "{what}");
    }
}

#[test]
fn help_man_and_readme_name_every_variable_and_no_other() {
    for (what, text) in [("--help", options::help()), (MAN, read(MAN)), (README, readme_options())] {
        let chronik: BTreeSet<_> = names(&text, "CHRONIK_").iter().map(|n| format!("CHRONIK_{n}")).collect();
        let others: BTreeSet<_> =
            variables().into_iter().filter(|v| !v.starts_with("CHRONIK_")).filter(|v| text.contains(v)).collect();
        let found: BTreeSet<_> = chronik.union(&others).cloned().collect();
        assert_eq!(found, variables(), "{what}");
    }
}

#[test]
fn help_man_and_readme_name_every_default_beside_its_flag() {
    let (help, man, readme) = (options::help(), read(MAN), readme_options());
    for opt in OPTIONS.iter().filter(|o| o.on_command_line && !o.default.is_empty()) {
        let (long, default) = (opt.long, opt.default);
        // In each of the three, an option's text ends where the next one's begins.
        let part = |text: &str, from: &str, next: &str| -> String {
            let at = text.find(from).unwrap_or_else(|| panic!("{from} is missing"));
            let rest = &text[at + from.len()..];
            rest[..rest.find(next).unwrap_or(rest.len())].to_string()
        };
        let hint = if opt.hint.is_empty() { String::new() } else { format!(" {}", opt.hint) };
        let in_help = part(&help, &format!("--{long}{hint}\n"), "\n  -").replace("\n      ", " ");
        assert!(in_help.contains(&format!("default: {default}")), "--help, --{long}: {in_help}");
        let item = if hint.is_empty() { format!("Fl -{long}\n") } else { format!("Fl -{long} Ar{hint}\n") };
        let in_man = part(&man, &item, ".It");
        assert!(in_man.contains(&format!("default is\n.Ql {default} .")), "{MAN}, --{long}: {in_man}");
        let in_readme = part(&readme, &format!("--{long}{hint}`"), "\n");
        assert!(in_readme.contains(&format!("| `{default}` |")), "{README}, --{long}: {in_readme}");
    }
}

#[test]
fn the_man_page_names_every_command() {
    let man = read(MAN);
    for command in COMMANDS {
        let at = man.find(&format!(".It Cm {}\n", command.name)).expect(command.name);
        let text: String = man[at..].split(".It").nth(1).unwrap_or_default().to_string();
        let refused = text.contains("Not available in this version.");
        assert_eq!(refused, command.missing.is_some(), "{}", command.name);
    }
}

#[test]
fn exit_codes_are_distinct_and_ascending() {
    assert!(exit::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn mandoc_finds_nothing_to_say() {
    let pages = [path(MAN), path("man/chronik.1")];
    let output = match Command::new("mandoc").args(["-Tlint", "-W", "style"]).args(pages).output() {
        Ok(output) => output,
        Err(_) => {
            eprintln!("skipped: mandoc is not installed");
            return;
        }
    };
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
    assert!(output.status.success());
}
