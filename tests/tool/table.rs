//! Owns the proof that parser, help, its JSON, the manual page and the completions say what the table of commands says.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use chronik::cli::row::{Command as Row, Kind, Opt};
use chronik::cli::table::{COMMANDS, GLOBAL};
use chronik::cli::{completion, failure, text};

use super::{command, json, printed, stderr, tool};
use crate::codec::json::{parse, Json};
use crate::man::holds;

const MAN: &str = "man/chronik.1";

/// Every command with the words that lead to it, families among them.
fn rows() -> Vec<Vec<&'static Row>> {
    fn add(path: Vec<&'static Row>, rows: &mut Vec<Vec<&'static Row>>) {
        if let Kind::Family(commands) = path[path.len() - 1].kind {
            for command in commands {
                add([&path[..], &[command]].concat(), rows);
            }
        }
        rows.push(path);
    }
    let mut rows = Vec::new();
    COMMANDS.iter().for_each(|command| add(vec![command], &mut rows));
    rows
}

fn words(path: &[&'static Row]) -> Vec<&'static str> {
    path.iter().map(|row| row.name).collect()
}

/// The long options that a text names.
fn flags(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in text.split("--").skip(1) {
        let name: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        if !name.is_empty() {
            found.insert(name.trim_end_matches('-').to_owned());
        }
    }
    found
}

fn names(options: &[&Opt]) -> BTreeSet<String> {
    options.iter().map(|opt| opt.long.to_owned()).collect()
}

#[test]
fn the_manual_page_is_made_from_the_table() {
    holds(MAN, ".\\\" commands\n", ".\\\" /commands\n", &text::man_commands());
    holds(MAN, ".\\\" exit\n", ".\\\" /exit\n", &text::man_exit_status());
}

#[test]
fn help_at_every_level_names_its_commands_and_options_and_no_other() {
    for path in rows() {
        let row = path[path.len() - 1];
        let help = printed(&[&words(&path)[..], &["--help"]].concat(), 0);
        let options: Vec<&Opt> = row.options.iter().chain(GLOBAL).collect();
        let usage = help.replace("chronik --help", "");
        assert_eq!(flags(&usage), names(&options), "{:?}", words(&path));
        assert!(help.contains(row.help.split(' ').next().unwrap()), "{help}");
        if let Kind::Family(commands) = row.kind {
            for command in commands {
                assert!(help.contains(&format!("\n  {} ", command.name)), "{} in {help}", command.name);
            }
        }
    }
    let help = printed(&["--help"], 0);
    assert!(COMMANDS.iter().all(|command| help.contains(&format!("\n  {} ", command.name))), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
}

#[test]
fn help_as_json_is_the_whole_table() {
    let all = parse(&printed(&["--help-json"], 0));
    assert_eq!(all.list("exit_codes").len(), failure::ALL.len());
    assert_eq!(all.list("options").len(), GLOBAL.len());
    fn check(rows: &'static [Row], described: &[Json]) {
        assert_eq!(rows.len(), described.len());
        for (row, json) in rows.iter().zip(described) {
            assert_eq!(json.text("name"), Some(row.name));
            let options: Vec<_> = json.list("options").iter().filter_map(|opt| opt.text("long")).collect();
            assert_eq!(options, row.options.iter().map(|opt| opt.long).collect::<Vec<_>>(), "{}", row.name);
            assert_eq!(json.list("args").len(), row.args.len(), "{}", row.name);
            let inner = if let Kind::Family(commands) = row.kind { commands } else { &[] };
            check(inner, json.list("commands"));
        }
    }
    check(COMMANDS, all.list("commands"));
    assert_eq!(parse(&printed(&["topic", "--help-json"], 0)).text("name"), Some("topic"));
}

#[test]
fn completions_name_every_command_and_option() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completion", shell], 0);
        assert_eq!(script, completion::script(shell));
        for path in rows() {
            assert!(script.contains(path[path.len() - 1].name), "{shell}: {:?}", words(&path));
            for opt in path[path.len() - 1].options.iter().chain(GLOBAL) {
                let spelt = if shell == "fish" { format!(" -l {} ", opt.long) } else { format!("--{}", opt.long) };
                assert!(script.contains(&spelt), "{shell}: {spelt}");
            }
        }
    }
}

#[test]
fn shells_understand_their_completions() {
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let file = std::env::temp_dir().join(format!("chronik-completion-{}.{shell}", std::process::id()));
        std::fs::write(&file, completion::script(shell)).unwrap();
        match Command::new(shell).arg(check).arg(&file).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", stderr(&output)),
            Err(_) => eprintln!("skipped: {shell} is not installed"),
        }
        std::fs::remove_file(&file).unwrap();
    }
}

#[test]
fn bash_offers_what_fits_the_place() {
    let offers = |line: &str| -> Vec<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let script = format!(
            "{}\nCOMP_WORDS=({}) COMP_CWORD={}; [ -n \"{}\" ] || COMP_WORDS+=('')\n_chronik; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            completion::script("bash"),
            words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" "),
            words.len() - 1,
            words[words.len() - 1]
        );
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    if Command::new("bash").arg("--version").output().is_err() {
        eprintln!("skipped: bash is not installed");
        return;
    }
    assert_eq!(offers("chronik to"), ["topic"]);
    assert_eq!(offers("chronik -b h:1 topic de"), ["describe", "delete"]);
    assert_eq!(offers("chronik wal repair --in"), ["--into"]);
    assert_eq!(offers("chronik topic list -o j"), ["json"]);
    assert_eq!(offers("chronik completion "), ["bash", "zsh", "fish"]);
}

#[test]
fn usage_errors_end_with_2_and_one_sentence_on_standard_error() {
    for args in [
        &["no-such"][..],
        &["topic"],
        &["topic", "create"],
        &["topic", "list", "--no-such"],
        &["topic", "list", "-o", "xml"],
        &["topic", "list", "--timeout", "soon"],
        &["topic", "create", "t", "-c", "novalue"],
        &["topic", "create", "t", "-p", "0"],
        &["topic", "add-partitions", "t"],
        &["topic", "trim", "t"],
        &["topic", "list", "-b", "host:port"],
        &["wal", "dump", "--from", "x"],
        &["wal", "repair"],
        &[],
    ] {
        let output = tool(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
        let said = stderr(&output);
        assert!(said.starts_with("chronik: ") && said.lines().count() == 1, "{args:?}: {said}");
    }
}

#[test]
fn a_reader_that_has_gone_is_a_success() {
    for args in [&["--help"][..], &["completion", "bash"], &["--help-json"]] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let mut child =
            command(args).stdout(Stdio::from(OwnedFd::from(theirs))).stderr(Stdio::piped()).spawn().unwrap();
        assert!(child.wait().unwrap().success(), "{args:?}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{args:?}");
    }
}

#[test]
fn a_cluster_that_is_not_there_and_one_that_is_no_kafka_are_told_apart() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // Until the tool has gone, so that what it was sent is not taken back.
        let _ = stream.read(&mut length);
    });
    let output = tool(&["topic", "list", "-b", &address]);
    server.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("no Kafka broker"), "{}", stderr(&output));
    // The port was free a moment ago, and nobody listens on it now.
    let output = tool(&["topic", "list", "-b", &address]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(output.stdout.is_empty() && stderr(&output).contains("Cannot reach"), "{}", stderr(&output));
}

#[test]
fn a_broker_that_never_answers_is_given_up_after_the_timeout() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = tool(&["topic", "list", "-b", &address, "--timeout", "100ms"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("in time"), "{}", stderr(&output));
}

#[test]
fn the_version_is_the_packages() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(printed(&["--version"], 0), format!("chronik {version}\n"));
    assert_eq!(printed(&["version"], 0), format!("chronik {version}\n"));
    assert_eq!(json(&["version"], 0).text("version"), Some(version));
}
