//! Owns the completion scripts of three shells, made from the table.
//!
//! Names of topics and groups are asked from the brokers by the tool itself, within two seconds and silently.

use std::fmt::Write;

use super::failure::{Failure, OK};
use super::parse::Args;
use super::row::{Command, Complete, Kind, Opt};
use super::table::{COMMANDS, GLOBAL};
use super::Session;

/// `chronik completion SHELL`.
pub fn run(session: &mut Session, args: &Args) -> Result<u8, Failure> {
    let script = script(args.free.first().map_or("", String::as_str));
    session.out.text(&script)?;
    Ok(OK)
}

/// The script for `bash`, `zsh` or `fish`; empty for another name.
pub fn script(shell: &str) -> String {
    match shell {
        "bash" => bash(),
        "zsh" => zsh(),
        "fish" => fish(),
        _ => String::new(),
    }
}

/// A command that runs or a family, with the words that lead there.
struct Place {
    words: String,
    commands: &'static [Command],
    command: Option<&'static Command>,
}

/// Every level of the table: the program itself, families, commands.
fn places() -> Vec<Place> {
    let mut places = vec![Place { words: String::new(), commands: COMMANDS, command: None }];
    for command in COMMANDS {
        add_places(command, "", &mut places);
    }
    places
}

fn add_places(command: &'static Command, before: &str, places: &mut Vec<Place>) {
    let words = format!("{before}{}", command.name);
    let commands = match command.kind {
        Kind::Family(commands) => commands,
        Kind::Run(_) => &[],
    };
    for inner in commands {
        add_places(inner, &format!("{words} "), places);
    }
    places.push(Place { words, commands, command: Some(command) });
}

fn own_options(place: &Place) -> impl Iterator<Item = &'static Opt> {
    place.command.map_or(&[][..], |command| command.options).iter()
}

/// All options of the table, each once; names that several commands share mean the same kind of value everywhere.
fn all_options() -> Vec<&'static Opt> {
    let mut all: Vec<&'static Opt> = GLOBAL.iter().collect();
    for place in places() {
        for opt in own_options(&place) {
            if !all.iter().any(|known| known.long == opt.long) {
                all.push(opt);
            }
        }
    }
    all
}

/// How an option may be written: `-o --output`.
fn spellings(opt: &Opt) -> Vec<String> {
    let short = opt.short.map(|short| format!("-{short}"));
    short.into_iter().chain([format!("--{}", opt.long)]).collect()
}

/// What names come from, as a command for the shell.
fn names_command(complete: Complete) -> Option<&'static str> {
    match complete {
        Complete::Topic => Some("chronik topic list -q --timeout 2s 2>/dev/null"),
        Complete::Group => Some("chronik group list -q --timeout 2s 2>/dev/null"),
        _ => None,
    }
}

/// The shell's own command that offers values of this kind, for bash.
fn bash_offer(complete: Complete) -> String {
    match (complete, names_command(complete)) {
        (Complete::Path, _) => "compgen -f -- \"$cur\"".to_owned(),
        (Complete::Words(words), _) => format!("compgen -W '{}' -- \"$cur\"", words.join(" ")),
        (_, Some(names)) => format!("compgen -W \"$({names})\" -- \"$cur\""),
        _ => ":".to_owned(),
    }
}

fn bash() -> String {
    let mut out = String::from(
        "# Completion of chronik for bash: source it, or put it where bash-completion looks.\n\
         _chronik() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words='' word i skip=''\n  \
         COMPREPLY=()\n  case $prev in\n",
    );
    let with_value: Vec<_> = all_options().into_iter().filter(|opt| !opt.hint.is_empty()).collect();
    for opt in &with_value {
        let _ = writeln!(
            out,
            "    {}) mapfile -t COMPREPLY < <({}); return ;;",
            spellings(opt).join("|"),
            bash_offer(opt.complete)
        );
    }
    let skipped: Vec<String> = with_value.iter().flat_map(|opt| spellings(opt)).collect();
    let _ = write!(
        out,
        "  esac\n  for ((i = 1; i < COMP_CWORD; i++)); do\n    word=${{COMP_WORDS[i]}}\n    \
         [ -z \"$skip\" ] || {{ skip=''; continue; }}\n    case $word in\n      {}) skip=1 ;;\n      -*) ;;\n      \
         *) case \"$words $word\" in\n{}        esac ;;\n    esac\n  done\n  case $words in\n",
        skipped.join("|"),
        bash_words()
    );
    for place in places() {
        let options: Vec<String> = own_options(&place).chain(GLOBAL).flat_map(spellings).collect();
        let names: Vec<&str> = place.commands.iter().map(|command| command.name).collect();
        let args = place.command.map_or(&[][..], |command| command.args);
        let offer = match (names.is_empty(), args.first()) {
            (false, _) => format!("compgen -W '{}' -- \"$cur\"", names.join(" ")),
            (true, Some(arg)) => bash_offer(arg.complete),
            _ => ":".to_owned(),
        };
        let _ = write!(
            out,
            "    '{}')\n      if [[ $cur == -* ]]; then mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\")\n      \
             else mapfile -t COMPREPLY < <({offer}); fi ;;\n",
            leading_blank(&place.words),
            options.join(" ")
        );
    }
    out.push_str("  esac\n}\ncomplete -o filenames -F _chronik chronik\n");
    out
}

fn leading_blank(words: &str) -> String {
    match words.is_empty() {
        true => String::new(),
        false => format!(" {words}"),
    }
}

/// The branches that follow the words of the table and stop at the first other one.
fn bash_words() -> String {
    let known: Vec<String> = places()
        .iter()
        .filter(|place| !place.words.is_empty())
        .map(|place| format!("'{}'", leading_blank(&place.words)))
        .collect();
    format!("          {}) words=\"$words $word\" ;;\n", known.join("|"))
}

/// Text within single quotes of zsh and fish, and within brackets and colons of zsh.
fn plain(text: &str) -> String {
    text.replace('\'', "").replace(['[', ']', ':'], "")
}

fn zsh_offer(hint: &str, complete: Complete) -> String {
    let hint = plain(hint);
    match (complete, names_command(complete)) {
        (Complete::Path, _) => format!(":{hint}:_files"),
        (Complete::Words(words), _) => format!(":{hint}:({})", words.join(" ")),
        (_, Some(names)) => format!(":{hint}:{{local -a names; names=(${{(f)\"$({names})\"}}); compadd -a names}}"),
        _ => format!(":{hint}: "),
    }
}

fn zsh_option(opt: &Opt, out: &mut String) {
    let value = if opt.hint.is_empty() { String::new() } else { zsh_offer(opt.hint, opt.complete) };
    for spelling in spellings(opt) {
        let _ = write!(out, " \\\n        '*{spelling}[{}]{}'", plain(opt.help), value.replace('\'', "'\\''"));
    }
}

fn zsh() -> String {
    let mut out = String::from(
        "#compdef chronik\n# Completion of chronik for zsh: put it as _chronik in a folder of $fpath.\n\
         _chronik() {\n  local words_done='' word skip=''\n  local -i i\n  for ((i = 2; i < CURRENT; i++)); do\n    \
         word=${words[i]}\n    [[ -z $skip ]] || { skip=''; continue }\n    case $word in\n",
    );
    let skipped: Vec<String> =
        all_options().into_iter().filter(|opt| !opt.hint.is_empty()).flat_map(spellings).collect();
    let known = places();
    let known: Vec<String> =
        known.iter().filter(|p| !p.words.is_empty()).map(|p| format!("'{}'", leading_blank(&p.words))).collect();
    let _ = write!(
        out,
        "      {}) skip=1 ;;\n      -*) ;;\n      *) case \"$words_done $word\" in\n        \
         {}) words_done=\"$words_done $word\" ;;\n      esac ;;\n    esac\n  done\n  case $words_done in\n",
        skipped.join("|"),
        known.join("|")
    );
    for place in places() {
        let _ = write!(out, "    '{}')\n      _arguments", leading_blank(&place.words));
        for opt in own_options(&place).chain(GLOBAL) {
            zsh_option(opt, &mut out);
        }
        let args = place.command.map_or(&[][..], |command| command.args);
        if !place.commands.is_empty() {
            let list: Vec<String> = place
                .commands
                .iter()
                .map(|command| format!("{}\\:\"{}\"", command.name, plain(command.help).replace('"', "")))
                .collect();
            let _ = write!(out, " \\\n        '*:command:(({}))'", list.join(" "));
        } else if let Some(arg) = args.first() {
            let _ = write!(out, " \\\n        '*{}'", zsh_offer(arg.name, arg.complete).replace('\'', "'\\''"));
        }
        out.push_str(" ;;\n");
    }
    out.push_str("  esac\n}\n_chronik \"$@\"\n");
    out
}

fn fish_offer(complete: Complete) -> String {
    match (complete, names_command(complete)) {
        (Complete::Path, _) => " -F".to_owned(),
        (Complete::Words(words), _) => format!(" -a '{}'", words.join(" ")),
        (_, Some(names)) => format!(" -a '({names})'"),
        _ => String::new(),
    }
}

fn fish() -> String {
    let mut out = String::from(
        "# Completion of chronik for fish: put it as chronik.fish in ~/.config/fish/completions.\n\
         complete -c chronik -f\n\
         function __chronik_at\n  set -l words (commandline -opc)[2..]\n  set -l found\n  for word in $words\n    \
         string match -q -- '-*' $word; or set -a found $word\n  end\n  string match -q -- \"$argv[1]\" \"$found[1..2]\"; or \
         string match -q -- \"$argv[1]\" \"$found[1]\"; or test -z \"$argv[1]\" -a -z \"$found\"\nend\n",
    );
    for place in places() {
        let at = format!("-n '__chronik_at \"{}\"'", place.words);
        for command in place.commands {
            let _ = writeln!(out, "complete -c chronik {at} -a {} -d '{}'", command.name, plain(command.help));
        }
        for opt in own_options(&place) {
            fish_option(opt, &at, &mut out);
        }
        if let Some(arg) = place.command.and_then(|command| command.args.first()) {
            let offer = fish_offer(arg.complete);
            if !offer.is_empty() {
                let _ = writeln!(out, "complete -c chronik {at}{offer}");
            }
        }
    }
    for opt in GLOBAL {
        fish_option(opt, "", &mut out);
    }
    out
}

fn fish_option(opt: &Opt, at: &str, out: &mut String) {
    let short = opt.short.map_or(String::new(), |short| format!(" -s {short}"));
    let value = if opt.hint.is_empty() { String::new() } else { format!(" -x{}", fish_offer(opt.complete)) };
    let value = value.replace(" -x -F", " -r -F");
    let blank = if at.is_empty() { "" } else { " " };
    let _ = writeln!(out, "complete -c chronik{blank}{at}{short} -l {}{value} -d '{}'", opt.long, plain(opt.help));
}
