//! Owns the way from the words of a command line to a command and its arguments, by the table.

use std::time::Duration;

use getopts::{Fail, Options};

use super::failure::Failure;
use super::row::{Command, Complete, Kind, Opt, Times};
use super::table::{COMMANDS, GLOBAL};
use crate::options::{nearest, quoted};

/// What a command line asks for.
pub enum Asked {
    Run(&'static Command, Args),
    Help(Vec<&'static Command>),
    HelpJson(Vec<&'static Command>),
    Version,
}

/// The values of one command.
#[derive(Debug)]
pub struct Args {
    matches: getopts::Matches,
    /// The arguments by position.
    pub free: Vec<String>,
    options: Vec<&'static Opt>,
    env: Vec<(&'static str, String)>,
}

impl Args {
    /// Whether an option without a value was given.
    pub fn flag(&self, long: &str) -> bool {
        self.matches.opt_present(long)
    }

    /// The value of an option: as given, or the environment's, or the default.
    pub fn value(&self, long: &str) -> Option<String> {
        if let Some(given) = self.matches.opt_str(long) {
            return Some(given);
        }
        let opt = self.options.iter().find(|opt| opt.long == long)?;
        let env = self.env.iter().find(|(name, _)| *name == opt.env).map(|(_, value)| value.clone());
        env.or_else(|| (!opt.default.is_empty()).then(|| opt.default.to_owned()))
    }

    /// All values of an option that may repeat.
    pub fn values(&self, long: &str) -> Vec<String> {
        self.matches.opt_strs(long)
    }

    /// The value of an option as a number, if it was given.
    pub fn number<T: std::str::FromStr>(&self, long: &str, what: &str) -> Result<Option<T>, Failure> {
        self.value(long).map(|text| number(&format!("--{long}"), &text, what)).transpose()
    }
}

/// A number, or a usage failure that names what may stand there.
pub fn number<T: std::str::FromStr>(who: &str, text: &str, what: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::usage(format!("{who}: {} is not valid; give {what}.", quoted(text))))
}

/// A duration: seconds, or a number with `ms`, `s` or `m`; at least a millisecond, at most a day.
pub fn duration(who: &str, text: &str) -> Result<Duration, Failure> {
    let wrong =
        || Failure::usage(format!("{who}: {} is not valid; give a time such as 500ms, 10s or 2m.", quoted(text)));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let ms = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
    match ms {
        1..=86_400_000 => Ok(Duration::from_millis(ms)),
        _ => Err(wrong()),
    }
}

/// Reads a command line without the program's name; `env` is asked for the variables of the table only.
///
/// # Errors
/// A usage failure in one sentence.
pub fn parse(words: &[String], env: &dyn Fn(&str) -> Option<String>) -> Result<Asked, Failure> {
    let (path, rest) = find_command(words)?;
    let command = path.last().copied();
    let own = command.map_or(&[][..], |command| command.options);
    let options: Vec<&'static Opt> = own.iter().chain(GLOBAL).collect();
    let matches = getopts_of(&options).parse(&rest).map_err(|fail| refused(fail, &path, &options))?;
    if matches.opt_present("help-json") {
        return Ok(Asked::HelpJson(path));
    }
    if matches.opt_present("help") {
        return Ok(Asked::Help(path));
    }
    if matches.opt_present("version") {
        return Ok(Asked::Version);
    }
    let Some(command) = command else {
        return Err(Failure::usage("A command is missing; chronik --help lists them."));
    };
    if let Kind::Family(_) = command.kind {
        return Err(Failure::usage(format!("A command is missing; chronik {} --help lists them.", command.name)));
    }
    let value_of = |opt: &&'static Opt| {
        let value = (!opt.env.is_empty()).then(|| env(opt.env)).flatten().filter(|value| !value.is_empty())?;
        Some((opt.env, value))
    };
    let env = options.iter().filter_map(value_of).collect();
    let args = Args { free: matches.free.clone(), matches, options, env };
    check_words(&args)?;
    check_arguments(&path, command, &args.free)?;
    Ok(Asked::Run(command, args))
}

/// The command that the words name, from its family on, and the words that are left. Options may stand in between.
fn find_command(words: &[String]) -> Result<(Vec<&'static Command>, Vec<String>), Failure> {
    let mut path: Vec<&'static Command> = Vec::new();
    let mut level = COMMANDS;
    let mut rest = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            rest.push(word.clone());
            break;
        }
        if word.starts_with('-') {
            rest.push(word.clone());
            if takes_next(word) {
                rest.extend(words.next().cloned());
            }
            continue;
        }
        let Some(command) = level.iter().find(|command| command.name == word) else {
            return Err(unknown_command(word, &path, level));
        };
        path.push(command);
        match command.kind {
            Kind::Family(commands) => level = commands,
            Kind::Run(_) => break,
        }
    }
    rest.extend(words.cloned());
    Ok((path, rest))
}

/// Whether a global option that stands before the command has its value in the next word.
fn takes_next(word: &str) -> bool {
    let opt = match word.strip_prefix("--") {
        Some(long) => GLOBAL.iter().find(|opt| opt.long == long),
        None => GLOBAL.iter().find(|opt| opt.short.is_some_and(|short| word.chars().skip(1).eq([short]))),
    };
    opt.is_some_and(|opt| !opt.hint.is_empty())
}

fn unknown_command(word: &str, path: &[&'static Command], level: &'static [Command]) -> Failure {
    let before = title(path);
    let near = nearest(word, level.iter().map(|command| command.name));
    Failure::usage(match near {
        Some(near) => format!("There is no command {}; did you mean {before} {near}?", quoted(word)),
        None => format!("There is no command {}; {before} --help lists them.", quoted(word)),
    })
}

/// `chronik topic list`.
pub fn title(path: &[&'static Command]) -> String {
    path.iter().fold("chronik".to_owned(), |title, command| format!("{title} {}", command.name))
}

fn getopts_of(options: &[&'static Opt]) -> Options {
    let mut parser = Options::new();
    for opt in options {
        let short = opt.short.map(String::from).unwrap_or_default();
        match (opt.hint.is_empty(), opt.repeats) {
            (true, _) => parser.optflag(&short, opt.long, ""),
            (false, false) => parser.optopt(&short, opt.long, "", ""),
            (false, true) => parser.optmulti(&short, opt.long, "", ""),
        };
    }
    parser
}

fn refused(fail: Fail, path: &[&'static Command], options: &[&'static Opt]) -> Failure {
    let full = |name: &str| {
        let long = options.iter().find(|opt| opt.short.is_some_and(|short| name.chars().eq([short])));
        format!("--{}", long.map_or(name, |opt| opt.long))
    };
    Failure::usage(match fail {
        Fail::UnrecognizedOption(name) => {
            let dashes = if name.chars().count() == 1 { "-" } else { "--" };
            let shown = quoted(&format!("{dashes}{name}"));
            match nearest(&name, options.iter().map(|opt| opt.long)) {
                Some(near) => format!("There is no option {shown}; did you mean --{near}?"),
                None => format!("There is no option {shown}; {} --help lists every option.", title(path)),
            }
        }
        Fail::ArgumentMissing(name) => format!("{} needs a value.", full(&name)),
        Fail::OptionDuplicated(name) => format!("{} is given more than once; give it once.", full(&name)),
        Fail::UnexpectedArgument(name) => format!("{} takes no value.", full(&name)),
        Fail::OptionMissing(name) => format!("{} is missing.", full(&name)),
    })
}

/// Values that are one of some words.
fn check_words(args: &Args) -> Result<(), Failure> {
    for opt in &args.options {
        let Complete::Words(words) = opt.complete else { continue };
        let Some(value) = args.value(opt.long) else { continue };
        if !words.contains(&value.as_str()) {
            let (who, list) = (opt.long, words.join(", "));
            return Err(Failure::usage(format!("--{who}: {} is not valid; give one of {list}.", quoted(&value))));
        }
    }
    Ok(())
}

fn check_arguments(path: &[&'static Command], command: &'static Command, free: &[String]) -> Result<(), Failure> {
    let least = command.args.iter().filter(|arg| matches!(arg.times, Times::One | Times::Many)).count();
    if let (true, Some(missing)) = (free.len() < least, command.args.get(free.len())) {
        return Err(Failure::usage(format!("{} needs {}; see --help.", title(path), missing.name)));
    }
    let endless = command.args.iter().any(|arg| matches!(arg.times, Times::Many | Times::Any));
    if let (false, Some(extra)) = (endless, free.get(command.args.len())) {
        return Err(Failure::usage(format!("The argument {} is one too many.", quoted(extra))));
    }
    for (arg, text) in command.args.iter().zip(free) {
        if let Complete::Words(words) = arg.complete {
            if !words.contains(&text.as_str()) {
                let list = words.join(", ");
                return Err(Failure::usage(format!(
                    "{}: {} is not valid; give one of {list}.",
                    arg.name,
                    quoted(text)
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn run(text: &str) -> (&'static str, Args) {
        match parse(&words(text), &|_| None) {
            Ok(Asked::Run(command, args)) => (command.name, args),
            Ok(_) => panic!("{text}: not a command"),
            Err(failure) => panic!("{text}: {failure:?}"),
        }
    }

    fn sentence(text: &str) -> String {
        match parse(&words(text), &|_| None) {
            Err(Failure::Said { code, sentence }) => {
                assert_eq!(code, super::super::failure::USAGE, "{text}");
                sentence
            }
            _ => panic!("{text}: accepted"),
        }
    }

    #[test]
    fn options_may_stand_before_between_and_behind_the_words() {
        for text in ["-b h:1 topic delete a b -y", "topic -b h:1 delete -y a b", "topic delete a b -b h:1 --yes"] {
            let (name, args) = run(text);
            assert_eq!((name, args.free.len(), args.flag("yes")), ("delete", 2, true), "{text}");
            assert_eq!(args.value("brokers").as_deref(), Some("h:1"), "{text}");
        }
        assert_eq!(run("topic set t -- -a=1").1.free, ["t", "-a=1"]);
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_default() {
        let env = |name: &str| (name == "CHRONIK_BROKERS").then(|| "e:2".to_owned());
        let value = |text: &str| match parse(&words(text), &env) {
            Ok(Asked::Run(_, args)) => args.value("brokers"),
            _ => panic!("{text}"),
        };
        assert_eq!(value("topic list").as_deref(), Some("e:2"));
        assert_eq!(value("topic list -b c:3").as_deref(), Some("c:3"));
        assert_eq!(run("topic list").1.value("brokers").as_deref(), Some("127.0.0.1:9092"));
    }

    #[test]
    fn mistakes_are_answered_with_what_was_meant() {
        assert!(sentence("topics list").contains("did you mean chronik topic?"));
        assert!(sentence("topic lst").contains("did you mean chronik topic list?"));
        assert!(sentence("topic list --intrnal").contains("did you mean --internal?"));
        assert!(sentence("topic").contains("chronik topic --help"));
        assert!(sentence("topic create").contains("needs TOPIC"));
        assert!(sentence("topic list extra").contains("one too many"));
        assert!(sentence("topic list -o xml").contains("text, json"));
        assert!(sentence("completion tcsh").contains("bash, zsh, fish"));
        assert!(sentence("topic list -b").contains("--brokers needs a value"));
        assert!(sentence("").contains("chronik --help"));
    }

    #[test]
    fn durations_have_units_and_bounds() {
        let ms = |text: &str| duration("--timeout", text).map(|d| d.as_millis()).ok();
        assert_eq!((ms("5"), ms("5s"), ms("250ms"), ms("2m")), (Some(5000), Some(5000), Some(250), Some(120_000)));
        for wrong in ["", "0", "-1", "1h", "1.5s", "99999999999999999999s", "9999m"] {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
    }
}
