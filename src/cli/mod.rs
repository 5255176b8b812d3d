//! Owns the command-line tool `chronik`: one table of commands, a small Kafka client, and a look at data directories.
//!
//! Results go to standard output, as text or as JSON alone; everything else goes to standard error.

mod backup;
pub mod client;
mod cluster;
pub mod completion;
mod datadir;
mod dump;
pub mod failure;
pub mod findings;
mod group;
mod output;
pub mod parse;
mod rebuild;
mod repair;
pub mod row;
mod segments;
mod sources;
pub mod survey;
pub mod table;
pub mod text;
mod topic;
mod topic_change;
pub mod value;
mod verify;

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use client::Cluster;
use failure::{Failure, ERROR, OK};
use output::{Format, Out};
use parse::{Args, Asked};
use row::Kind;
use value::object;

use crate::sys::signals;

/// What a command works with.
pub struct Session {
    pub out: Out,
    brokers: String,
    timeout: Duration,
    pub dry_run: bool,
    yes: bool,
}

/// The tool's process: everything from the arguments to the exit code.
pub fn main() -> u8 {
    if let Err(error) = signals::exit_on_interrupt(i32::from(failure::INTERRUPTED)) {
        // Without the handler an interrupt still ends the process, only with another status.
        let _ = writeln!(io::stderr(), "chronik: cannot listen to signals: {error}");
    }
    let mut words = Vec::new();
    for word in std::env::args_os().skip(1) {
        match word.into_string() {
            Ok(word) => words.push(word),
            Err(word) => {
                let _ = writeln!(io::stderr(), "chronik: the argument {word:?} is not valid UTF-8.");
                return failure::USAGE;
            }
        }
    }
    run(&words)
}

fn run(words: &[String]) -> u8 {
    let asked = parse::parse(words, &|name| std::env::var(name).ok());
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut plain = Out::new(Format::Text, false, false, "auto", no_color);
    let result = match asked {
        Err(failure) => Err(failure),
        Ok(Asked::Help(path)) => plain.text(&text::help(&path)).and_then(|()| plain.finish()).map(|()| OK),
        Ok(Asked::HelpJson(path)) => plain.json(&text::help_json(&path)).and_then(|()| plain.finish()).map(|()| OK),
        Ok(Asked::Version) => plain.text(&text::version()).and_then(|()| plain.finish()).map(|()| OK),
        Ok(Asked::Run(command, args)) => match (&command.kind, Session::new(&args, no_color)) {
            (_, Err(failure)) => Err(failure),
            (Kind::Run(run), Ok(mut session)) => {
                let code = run(&mut session, &args);
                // What was printed before a failure belongs before its sentence.
                let printed = session.out.finish();
                code.and_then(|code| printed.map(|()| code))
            }
            (Kind::Family(_), _) => Ok(ERROR),
        },
    };
    match result {
        Ok(code) => code,
        Err(Failure::ReaderGone) => OK,
        Err(Failure::Said { code, sentence }) => {
            plain.complain(&sentence);
            code
        }
    }
}

impl Session {
    fn new(args: &Args, no_color: bool) -> Result<Session, Failure> {
        let format = if args.value("output").as_deref() == Some("json") { Format::Json } else { Format::Text };
        let color = args.value("color").unwrap_or_default();
        let timeout = parse::duration("--timeout", &args.value("timeout").unwrap_or_default())?;
        Ok(Session {
            out: Out::new(format, args.flag("quiet"), args.flag("verbose"), &color, no_color),
            brokers: args.value("brokers").unwrap_or_default(),
            timeout,
            dry_run: args.flag("dry-run"),
            yes: args.flag("yes"),
        })
    }

    /// Connects to the first broker that answers.
    fn connect(&self) -> Result<Cluster, Failure> {
        let (cluster, passed_over) = Cluster::connect(&self.brokers, Instant::now() + self.timeout)?;
        for sentence in passed_over {
            self.out.note(&sentence);
        }
        self.out.detail(&format!("connected to {}", cluster.address()));
        Ok(cluster)
    }

    /// Asks whether to do what cannot be undone. A script must say --yes.
    fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(format!("{question} Give --yes to do it.")));
        }
        let _ = write!(io::stderr(), "{} [y/N] ", output::safe(question));
        let _ = io::stderr().flush();
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
            true => Ok(()),
            false => Err(Failure::error("Nothing was done.")),
        }
    }
}

/// `chronik version`.
fn version(session: &mut Session, _: &Args) -> Result<u8, Failure> {
    match session.out.is_json() {
        true => session.out.json(&object([("version", env!("CARGO_PKG_VERSION").into())]))?,
        false => session.out.text(&text::version())?,
    }
    Ok(OK)
}
