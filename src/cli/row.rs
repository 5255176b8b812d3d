//! Owns what a row of the table of commands is: names, arguments, options, what they complete to, and what runs.

use super::failure::Failure;
use super::parse::Args;
use super::Session;

/// What a command does; the answer is the exit code.
pub type Run = fn(&mut Session, &Args) -> Result<u8, Failure>;

/// A word of the command line: something to run, or a family of such.
pub struct Command {
    /// The word.
    pub name: &'static str,
    /// What it does, in one sentence; more sentences go to the manual page too.
    pub help: &'static str,
    /// What stands behind it, in order.
    pub args: &'static [Arg],
    /// Its own options; the global ones are in `GLOBAL`.
    pub options: &'static [Opt],
    pub kind: Kind,
}

/// What a word leads to.
pub enum Kind {
    /// Further words.
    Family(&'static [Command]),
    /// A function.
    Run(Run),
}

/// How many values an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    One,
    Optional,
    /// One or more.
    Many,
    /// None or more.
    Any,
}

/// An argument by position.
pub struct Arg {
    /// Its name in capitals.
    pub name: &'static str,
    pub times: Times,
    pub complete: Complete,
}

/// What a shell may offer for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complete {
    Nothing,
    /// Files and folders.
    Path,
    /// Names of topics, asked from the brokers.
    Topic,
    /// Names of groups, asked from the brokers.
    Group,
    /// One of these words; nothing else is accepted.
    Words(&'static [&'static str]),
}

/// An option.
#[derive(Debug)]
pub struct Opt {
    pub long: &'static str,
    pub short: Option<char>,
    /// Name of the value; empty for an option without one.
    pub hint: &'static str,
    /// The default as a person would type it; empty if there is none.
    pub default: &'static str,
    /// A variable of the environment that stands for it; empty if there is none.
    pub env: &'static str,
    /// May be given more than once.
    pub repeats: bool,
    pub complete: Complete,
    pub help: &'static str,
}

impl Opt {
    pub(super) const fn short(mut self, short: char) -> Opt {
        self.short = Some(short);
        self
    }

    pub(super) const fn default(mut self, default: &'static str) -> Opt {
        self.default = default;
        self
    }

    pub(super) const fn env(mut self, env: &'static str) -> Opt {
        self.env = env;
        self
    }

    pub(super) const fn repeats(mut self) -> Opt {
        self.repeats = true;
        self
    }

    pub(super) const fn complete(mut self, complete: Complete) -> Opt {
        self.complete = complete;
        self
    }
}

/// An option without a value.
pub(super) const fn flag(long: &'static str, help: &'static str) -> Opt {
    value(long, "", help)
}

/// An option with a value.
pub(super) const fn value(long: &'static str, hint: &'static str, help: &'static str) -> Opt {
    Opt { long, short: None, hint, default: "", env: "", repeats: false, complete: Complete::Nothing, help }
}

pub(super) const fn arg(name: &'static str, times: Times, complete: Complete) -> Arg {
    Arg { name, times, complete }
}

/// A family of commands.
pub(super) const fn family(name: &'static str, help: &'static str, commands: &'static [Command]) -> Command {
    Command { name, help, args: &[], options: &[], kind: Kind::Family(commands) }
}

/// A command that runs.
pub(super) const fn command(
    name: &'static str,
    help: &'static str,
    args: &'static [Arg],
    options: &'static [Opt],
    run: Run,
) -> Command {
    Command { name, help, args, options, kind: Kind::Run(run) }
}
