//! Owns the texts that are made from the table: `--help`, `--version`, `--print-config`, the README's
//! table and the man page's section OPTIONS. A test compares the last two with the files.

use std::fmt::Write;

use super::table::{Group, Kind, Opt, COMMANDS, OPTIONS};
use super::{Origin, Setting};

/// Widest line of `--help` and of the man page's source, in characters.
const WIDTH: usize = 78;

/// What `--version` prints.
pub fn version() -> String {
    format!("chronik-server {}\n", env!("CARGO_PKG_VERSION"))
}

/// What `--help` prints.
pub fn help() -> String {
    let mut out = String::from(
        "chronik-server serves the Kafka protocol from a data directory.\n\n\
         Usage: chronik-server [OPTION]... [COMMAND]\n\nCommands:\n",
    );
    for command in COMMANDS {
        let mut text = command.help.to_string();
        if command.missing.is_some() {
            text.push_str(" Not available in this version.");
        }
        push(&mut out, &format!("  {:<12}", command.name), 14, &text);
    }
    for group in Group::ALL {
        let _ = write!(out, "\n{}:\n", group.title());
        for opt in OPTIONS.iter().filter(|o| o.group == group) {
            out.push_str(&format!("  {}\n", synopsis(opt)));
            push(&mut out, "      ", 6, &format!("{}{}", opt.help, notes(opt)));
        }
    }
    out.push_str(
        "\nA SIZE may end in KiB, MiB or GiB, a TIME in ms, s, m, h or d.\n\
         The command line wins over the environment, the environment over the default.\n\
         See chronik-server(8) for signals, files and exit codes.\n",
    );
    out
}

/// The option as it is typed: `-p, --kafka-port PORT`; the variable, if there is nothing to type.
fn synopsis(opt: &Opt) -> String {
    if !opt.on_command_line {
        return opt.env().unwrap_or_default();
    }
    let short = opt.short.map_or(String::new(), |s| format!("-{s}, "));
    let hint = if opt.hint.is_empty() { String::new() } else { format!(" {}", opt.hint) };
    format!("{short}--{}{hint}", opt.long)
}

/// Default and environment in brackets, as far as there are any.
fn notes(opt: &Opt) -> String {
    let mut parts = Vec::new();
    if !opt.default.is_empty() {
        parts.push(format!("default: {}", opt.default));
    }
    if let (Some(env), true) = (opt.env(), opt.on_command_line) {
        parts.push(format!("env: {env}"));
    }
    if parts.is_empty() {
        String::new()
    } else {
        format!(" [{}]", parts.join(", "))
    }
}

/// Appends `head` and `text`, wrapped, with later lines indented.
fn push(out: &mut String, head: &str, indent: usize, text: &str) {
    out.push_str(head);
    let mut column = indent;
    for (i, word) in text.split(' ').enumerate() {
        if i > 0 && column + 1 + word.chars().count() > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.chars().count();
    }
    out.push('\n');
}

/// The README's table of options, in Markdown, with a line break at its end.
pub fn readme_table() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let _ = write!(out, "**{}**\n\n| Option | Environment | Default | |\n|---|---|---|---|\n", group.title());
        for opt in OPTIONS.iter().filter(|o| o.group == group) {
            let code = |text: &str| match text {
                "" => String::new(),
                text => format!("`{text}`"),
            };
            let typed = if opt.on_command_line { synopsis(opt) } else { String::new() };
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                code(&typed),
                code(&opt.env().unwrap_or_default()),
                code(opt.default),
                opt.help
            );
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The subsections of the man page's section OPTIONS, in mdoc.
pub fn man_options() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let _ = writeln!(out, ".Ss {}\n.Bl -tag -width Ds", group.title());
        for opt in OPTIONS.iter().filter(|o| o.group == group) {
            out.push_str(".It ");
            if !opt.on_command_line {
                let _ = write!(out, "Ev {}", opt.env().unwrap_or_default());
                push_man_text(&mut out, opt);
                continue;
            }
            if let Some(short) = opt.short {
                let _ = write!(out, "Fl {short} , ");
            }
            let _ = write!(out, "Fl -{}", opt.long);
            if !opt.hint.is_empty() {
                let _ = write!(out, " Ar {}", opt.hint);
            }
            push_man_text(&mut out, opt);
        }
        out.push_str(".El\n");
    }
    out
}

/// The entries of the man page's section EXIT STATUS, in mdoc.
pub fn man_exit_status() -> String {
    let mut out = String::new();
    for (code, sentence) in super::exit::ALL {
        let _ = writeln!(out, ".It {code}");
        push(&mut out, "", 0, sentence);
    }
    out
}

fn push_man_text(out: &mut String, opt: &Opt) {
    // mdoc wants each sentence on a line of its own.
    out.push('\n');
    for sentence in mdoc_text(opt.help).replace(". ", ".\n").lines() {
        push(out, "", 0, sentence);
    }
    push_man_notes(out, opt);
}

fn push_man_notes(out: &mut String, opt: &Opt) {
    if !opt.default.is_empty() {
        let _ = writeln!(out, "The default is\n.Ql {} .", mdoc_text(opt.default));
    }
    if let (Some(env), true) = (opt.env(), opt.on_command_line) {
        let _ = writeln!(out, "Environment:\n.Ev {env} .");
    }
}

/// Keeps troff from taking a dash for a hyphen and a backslash for an escape.
fn mdoc_text(text: &str) -> String {
    text.replace('\\', "\\e").replace("--", "\\-\\-")
}

/// What `--print-config` prints: one `name=value` per line, and where it comes from.
pub(super) fn print_config(settings: &[Setting]) -> String {
    let mut out = String::new();
    for setting in settings {
        if matches!(setting.opt.kind, Kind::Refused { .. }) {
            continue;
        }
        let value = match (setting.opt.secret, setting.value.is_empty()) {
            (true, false) => "***",
            _ => &setting.value,
        };
        let origin = match setting.origin {
            Origin::Default => "default",
            Origin::Environment | Origin::CommandLine => &setting.who,
        };
        let _ = writeln!(out, "{}={value}  # {origin}", setting.opt.long);
    }
    out
}
