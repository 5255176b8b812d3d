//! Owns the texts that are made from the table: help at every level, its JSON, and the manual page's sections.

use std::fmt::Write;

use super::failure;
use super::parse::title;
use super::row::{Arg, Command, Complete, Kind, Opt, Times};
use super::table::{COMMANDS, GLOBAL};
use super::value::{object, Value};

/// Widest line of help and of the manual page's source, in characters.
const WIDTH: usize = 78;

/// What `--version` prints.
pub fn version() -> String {
    format!("chronik {}\n", env!("CARGO_PKG_VERSION"))
}

/// What `--help` prints for the command at the end of the path; for the program when it is empty.
pub fn help(path: &[&'static Command]) -> String {
    let title = title(path);
    let mut out = String::new();
    match path.last() {
        None => out.push_str("chronik looks after Chronik Stream, or another Kafka cluster, from a shell.\n"),
        Some(command) => push(&mut out, "", 0, command.help),
    }
    let (commands, args, own) = match path.last() {
        None => (COMMANDS, &[][..], &[][..]),
        Some(Command { kind: Kind::Family(commands), args, options, .. }) => (*commands, *args, *options),
        Some(Command { args, options, .. }) => (&[][..], *args, *options),
    };
    let words = if commands.is_empty() { String::new() } else { " COMMAND".to_owned() };
    let args: String = args.iter().map(|arg| format!(" {}", shown_arg(arg))).collect();
    let _ = write!(out, "\nUsage: {title}{words} [OPTION]...{args}\n");
    if !commands.is_empty() {
        out.push_str("\nCommands:\n");
        for command in commands {
            push(&mut out, &format!("  {:<15}", command.name), 17, command.help);
        }
    }
    for (heading, options) in [("Options", own), ("Options of every command", GLOBAL)] {
        if !options.is_empty() {
            let _ = write!(out, "\n{heading}:\n");
        }
        for opt in options {
            let _ = writeln!(out, "  {}", synopsis(opt));
            push(&mut out, "      ", 6, &format!("{}{}", opt.help, notes(opt)));
        }
    }
    out.push_str("\nSee chronik(1) for exit codes and examples.\n");
    out
}

fn shown_arg(arg: &Arg) -> String {
    match arg.times {
        Times::One => arg.name.to_owned(),
        Times::Optional => format!("[{}]", arg.name),
        Times::Many => format!("{}...", arg.name),
        Times::Any => format!("[{}]...", arg.name),
    }
}

fn synopsis(opt: &Opt) -> String {
    let short = opt.short.map_or(String::new(), |short| format!("-{short}, "));
    let hint = if opt.hint.is_empty() { String::new() } else { format!(" {}", opt.hint) };
    format!("{short}--{}{hint}", opt.long)
}

fn notes(opt: &Opt) -> String {
    let mut parts = Vec::new();
    if opt.repeats {
        parts.push("may be repeated".to_owned());
    }
    if !opt.default.is_empty() {
        parts.push(format!("default: {}", opt.default));
    }
    if !opt.env.is_empty() {
        parts.push(format!("env: {}", opt.env));
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!(" [{}]", parts.join(", ")),
    }
}

/// Appends `head` and `text`, wrapped, with later lines indented.
fn push(out: &mut String, head: &str, indent: usize, text: &str) {
    out.push_str(head);
    let mut column = head.chars().count();
    for (at, word) in text.split(' ').enumerate() {
        if at > 0 && column + 1 + word.chars().count() > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if at > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.chars().count();
    }
    out.push('\n');
}

/// What `--help-json` prints: the command with all below it.
pub fn help_json(path: &[&'static Command]) -> Value {
    match path.last() {
        Some(command) => describe(command),
        None => object([
            ("name", "chronik".into()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("options", Value::List(GLOBAL.iter().map(describe_option).collect())),
            ("commands", Value::List(COMMANDS.iter().map(describe).collect())),
            ("exit_codes", Value::List(failure::ALL.iter().map(exit_code).collect())),
        ]),
    }
}

fn exit_code((code, sentence): &(u8, &'static str)) -> Value {
    object([("code", (*code).into()), ("help", (*sentence).into())])
}

fn describe(command: &Command) -> Value {
    let commands = match command.kind {
        Kind::Family(commands) => commands.iter().map(describe).collect(),
        Kind::Run(_) => Vec::new(),
    };
    let args = command.args.iter().map(|arg| {
        object([
            ("name", arg.name.into()),
            ("required", matches!(arg.times, Times::One | Times::Many).into()),
            ("repeats", matches!(arg.times, Times::Any | Times::Many).into()),
            ("values", words_of(arg.complete)),
        ])
    });
    object([
        ("name", command.name.into()),
        ("help", command.help.into()),
        ("args", Value::List(args.collect())),
        ("options", Value::List(command.options.iter().map(describe_option).collect())),
        ("commands", Value::List(commands)),
    ])
}

fn describe_option(opt: &Opt) -> Value {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    object([
        ("long", opt.long.into()),
        ("short", opt.short.map(String::from).into()),
        ("value", text(opt.hint).into()),
        ("default", text(opt.default).into()),
        ("env", text(opt.env).into()),
        ("repeats", opt.repeats.into()),
        ("values", words_of(opt.complete)),
        ("help", opt.help.into()),
    ])
}

fn words_of(complete: Complete) -> Value {
    match complete {
        Complete::Words(words) => words.to_vec().into(),
        _ => Value::Null,
    }
}

/// The manual page's sections OPTIONS and COMMANDS, in mdoc.
pub fn man_commands() -> String {
    let mut out = String::from(".Sh OPTIONS\nThese are options of every command.\n");
    push_man_options(&mut out, GLOBAL);
    out.push_str(".Sh COMMANDS\n");
    for command in COMMANDS {
        push_man_command(&mut out, &[command]);
    }
    out
}

fn push_man_command(out: &mut String, path: &[&'static Command]) {
    let Some(command) = path.last() else { return };
    if let Kind::Family(commands) = command.kind {
        let _ = writeln!(out, ".Ss {}", command.name);
        push_sentences(out, command.help);
        for command in commands {
            push_man_command(out, &[path, &[command]].concat());
        }
        return;
    }
    if path.len() == 1 {
        let _ = writeln!(out, ".Ss {}", command.name);
    }
    let words: Vec<&str> = path.iter().map(|command| command.name).collect();
    let _ = write!(out, ".Bl -tag -width Ds\n.It Cm {}", words.join(" "));
    for arg in command.args {
        let (optional, many) = match arg.times {
            Times::One => (false, false),
            Times::Optional => (true, false),
            Times::Many => (false, true),
            Times::Any => (true, true),
        };
        let dots = if many { " ..." } else { "" };
        let _ = match optional {
            true => write!(out, " Op Ar {}{dots}", arg.name),
            false => write!(out, " Ar {}{dots}", arg.name),
        };
    }
    out.push('\n');
    push_sentences(out, command.help);
    if !command.options.is_empty() {
        push_man_options(out, command.options);
    }
    out.push_str(".El\n");
}

fn push_man_options(out: &mut String, options: &[Opt]) {
    out.push_str(".Bl -tag -width Ds\n");
    for opt in options {
        out.push_str(".It ");
        if let Some(short) = opt.short {
            let _ = write!(out, "Fl {short} , ");
        }
        let _ = write!(out, "Fl -{}", opt.long);
        if !opt.hint.is_empty() {
            let _ = write!(out, " Ar {}", opt.hint);
        }
        out.push('\n');
        push_sentences(out, opt.help);
        if opt.repeats {
            out.push_str("May be repeated.\n");
        }
        if !opt.default.is_empty() {
            let _ = writeln!(out, "The default is\n.Ql {} .", opt.default);
        }
        if !opt.env.is_empty() {
            let _ = writeln!(out, "Environment:\n.Ev {} .", opt.env);
        }
    }
    out.push_str(".El\n");
}

/// mdoc wants each sentence on a line of its own.
fn push_sentences(out: &mut String, text: &str) {
    for sentence in
        text.replace('\\', "\\e").replace("--", "\\-\\-").replace(" -o", " \\-o").replace(". ", ".\n").lines()
    {
        push(out, "", 0, sentence);
    }
}

/// The entries of the manual page's section EXIT STATUS, in mdoc.
pub fn man_exit_status() -> String {
    let mut out = String::new();
    for (code, sentence) in failure::ALL {
        let _ = writeln!(out, ".It {code}");
        push(&mut out, "", 0, sentence);
    }
    out
}
