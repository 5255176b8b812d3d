//! Owns the one table of options that feeds parser, --help, man page and environment.
//!
//! `table` holds the rows, `value` reads one value, `text` writes what people read, `exit` names
//! the exit codes; this file goes from arguments and environment to a [`Config`]. It reads neither
//! by itself, except in [`from_process`], so that every rule can be tested without a process.
//!
//! The command line wins over the environment, the environment over the default. An empty
//! variable counts as unset. Nothing is accepted and then ignored: a value out of bounds, an
//! unknown option and whatever is not built yet are refused with one sentence.

pub mod exit;
mod row;
mod storage;
mod table;
mod text;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::io::Write;

use getopts::Fail;

use crate::config::{Config, MetadataStore, Port, ShareConfig};
use crate::limits;
use table::{Action, Draft, Kind};
use value::Refusal;

pub use storage::storage_from_env;
pub use table::{Command, Group, Opt, COMMANDS, OPTIONS};
pub use text::{help, man_exit_status, man_options, readme_table, version};
pub(crate) use value::{nearest, quoted};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Run the server with these settings.
    Run(Box<Config>),
    /// Print this to stdout and exit with [`exit::OK`].
    Print(String),
}

/// Why the server does not start, in one sentence for the person who started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// One sentence that names the option or variable, its value and what is allowed.
    pub sentence: String,
    /// [`exit::USAGE`] for the command line, [`exit::CONFIG`] for the environment and for settings
    /// that contradict each other.
    pub exit_code: u8,
}

impl UsageError {
    fn usage(sentence: impl Into<String>) -> UsageError {
        UsageError { sentence: sentence.into(), exit_code: exit::USAGE }
    }

    fn config(sentence: impl Into<String>) -> UsageError {
        UsageError { sentence: sentence.into(), exit_code: exit::CONFIG }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for UsageError {}

/// Where a setting comes from; a later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Default,
    Environment,
    CommandLine,
}

/// A setting as `--print-config` shows it.
struct Setting {
    opt: &'static Opt,
    value: String,
    origin: Origin,
    /// The option or variable as the person wrote it.
    who: String,
}

/// Reads the process's own arguments and environment. `Err` is the code to exit with; whatever had
/// to be said has been printed.
pub fn from_process() -> Result<Box<Config>, u8> {
    let outcome = parse(std::env::args_os().skip(1), &|name| std::env::var_os(name));
    report(outcome, &mut std::io::stdout(), &mut std::io::stderr())
}

/// Prints what an outcome asks for. A reader that has gone away is not an error: `--help | head`
/// succeeds.
pub fn report(
    outcome: Result<Outcome, UsageError>,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> Result<Box<Config>, u8> {
    match outcome {
        Ok(Outcome::Run(config)) => Ok(config),
        Ok(Outcome::Print(text)) => {
            let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            match written {
                Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(exit::FAILURE),
                _ => Err(exit::OK),
            }
        }
        Err(error) => Err(main_usage_error(&error, stderr)),
    }
}

/// Writes the sentence to `stderr`, after the program's name, and returns the exit code.
pub fn main_usage_error(error: &UsageError, stderr: &mut dyn Write) -> u8 {
    // There is nobody left to tell when stderr cannot be written; the exit code still says it.
    let _ = writeln!(stderr, "chronik-server: {error}");
    error.exit_code
}

/// Builds the settings from the arguments (without the program's name) and the environment, which
/// is only asked for the variables of the table. Reads no file and opens nothing.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Outcome, UsageError> {
    let matches = match_arguments(args)?;
    let mut draft = Draft::default();
    for opt in OPTIONS {
        if let (Kind::Act(set), true) = (&opt.kind, opt.on_command_line && matches.opt_present(opt.long)) {
            set(&mut draft);
        }
    }
    match draft.action {
        Some(Action::Help) => return Ok(Outcome::Print(help())),
        Some(Action::Version) => return Ok(Outcome::Print(version())),
        _ => (),
    }
    let checking = draft.action == Some(Action::CheckConfig);
    read_settings(&matches, env, draft).map_err(|error| match checking {
        // A supervisor that checks first wants one code for every reason not to start.
        true => UsageError::config(error.sentence),
        false => error,
    })
}

fn read_settings(
    matches: &getopts::Matches,
    env: &dyn Fn(&str) -> Option<OsString>,
    mut draft: Draft,
) -> Result<Outcome, UsageError> {
    check_command(&matches.free)?;
    let mut settings = Vec::with_capacity(OPTIONS.len());
    for opt in OPTIONS.iter().filter(|o| !matches!(o.kind, Kind::Act(_))) {
        let setting = find_setting(opt, matches, env)?;
        if setting.origin != Origin::Default {
            value::apply(opt, &setting.value, &mut draft).map_err(|refusal| refused(&setting, refusal))?;
        }
        settings.push(setting);
    }
    settle(&mut draft, &mut settings)?;
    Ok(match draft.action {
        Some(Action::CheckConfig) => Outcome::Print("The configuration is valid.\n".into()),
        Some(Action::PrintConfig) => Outcome::Print(text::print_config(&settings)),
        _ => Outcome::Run(Box::new(draft.config)),
    })
}

fn match_arguments(args: impl Iterator<Item = OsString>) -> Result<getopts::Matches, UsageError> {
    let mut texts = Vec::new();
    for arg in args {
        texts.push(arg.into_string().map_err(|arg| {
            let shown = value::quoted(&arg.to_string_lossy());
            UsageError::usage(format!("The argument {shown} is not valid UTF-8."))
        })?);
    }
    let mut parser = getopts::Options::new();
    for opt in OPTIONS.iter().filter(|o| o.on_command_line) {
        let short = opt.short.map(String::from).unwrap_or_default();
        match opt.kind {
            Kind::Act(_) => parser.optflag(&short, opt.long, ""),
            Kind::Flag(_) | Kind::Refused { takes_value: false } => parser.optflagopt(&short, opt.long, "", ""),
            _ => parser.optopt(&short, opt.long, "", ""),
        };
    }
    parser.parse(&texts).map_err(|fail| {
        UsageError::usage(match fail {
            Fail::UnrecognizedOption(name) => unknown_option(&name),
            Fail::ArgumentMissing(name) => format!("{} needs a value.", dashed(&name)),
            Fail::OptionDuplicated(name) => {
                format!("{} is given more than once; give it once.", dashed(&name))
            }
            Fail::UnexpectedArgument(name) => format!("{} takes no value.", dashed(&name)),
            // Nothing in the table is required; the sentence is still true if that changes.
            Fail::OptionMissing(name) => format!("{} is missing.", dashed(&name)),
        })
    })
}

/// Names an option in full, whether it was written long or short.
fn dashed(name: &str) -> String {
    let long = OPTIONS.iter().find(|o| o.short.is_some_and(|s| name.chars().eq([s]))).map_or(name, |o| o.long);
    format!("--{long}")
}

fn unknown_option(name: &str) -> String {
    let shown = if name.chars().count() == 1 {
        value::quoted(&format!("-{name}"))
    } else {
        value::quoted(&format!("--{name}"))
    };
    let normal = name.replace(['_', '.'], "-").to_lowercase();
    if let Some(env) = OPTIONS.iter().find(|o| o.long == normal && !o.on_command_line).and_then(Opt::env) {
        return format!("There is no option {shown}; this is set by the variable {env} alone.");
    }
    let names = OPTIONS.iter().filter(|o| o.on_command_line).map(|o| o.long);
    match value::nearest(&normal, names) {
        Some(near) => format!("There is no option {shown}; did you mean --{near}?"),
        None => format!("There is no option {shown}; --help lists every option."),
    }
}

fn check_command(free: &[String]) -> Result<(), UsageError> {
    let Some(word) = free.first() else {
        return Ok(());
    };
    let Some(command) = COMMANDS.iter().find(|c| c.name == word) else {
        let shown = value::quoted(word);
        let near = value::nearest(word, COMMANDS.iter().map(|c| c.name));
        return Err(UsageError::usage(match near {
            Some(near) => format!("There is no command {shown}; did you mean {near}?"),
            None => format!("There is no command {shown}; standalone is the one to use."),
        }));
    };
    if let Some(missing) = command.missing {
        return Err(UsageError::usage(format!(
            "The command {word} is not available in this version: it needs {missing}."
        )));
    }
    match free.get(1) {
        None => Ok(()),
        Some(extra) => Err(UsageError::usage(format!(
            "The argument {} is one too many; options begin with two dashes.",
            value::quoted(extra)
        ))),
    }
}

fn find_setting(
    opt: &'static Opt,
    matches: &getopts::Matches,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Setting, UsageError> {
    let setting = |value: String, origin, who| Setting { opt, value, origin, who };
    if opt.on_command_line && matches.opt_present(opt.long) {
        let who = format!("--{}", opt.long);
        let value = match matches.opt_str(opt.long) {
            Some(value) => value,
            None => "true".to_string(),
        };
        if value.is_empty() {
            return Err(UsageError::usage(format!("{who} needs a value.")));
        }
        return Ok(setting(value, Origin::CommandLine, who));
    }
    Ok(find_variable(opt, env)?.unwrap_or_else(|| setting(opt.default.to_string(), Origin::Default, String::new())))
}

/// The setting that the environment makes, if it does.
fn find_variable(opt: &'static Opt, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<Setting>, UsageError> {
    let Some(name) = opt.env() else {
        return Ok(None);
    };
    let Some(value) = env(&name).filter(|v| !v.is_empty()) else {
        return Ok(None);
    };
    let value =
        value.into_string().map_err(|_| UsageError::config(format!("The value of {name} is not valid UTF-8.")))?;
    Ok(Some(Setting { opt, value, origin: Origin::Environment, who: name }))
}

fn refused(setting: &Setting, refusal: Refusal) -> UsageError {
    let who = &setting.who;
    let shown = if setting.opt.secret { "the value given".to_string() } else { value::quoted(&setting.value) };
    let wrong_value = matches!(refusal, Refusal::Expected(_));
    let sentence = match refusal {
        Refusal::Expected(what) if looks_like_kubernetes(setting) => format!(
            "{who}: {shown} is not valid, give {what}; Kubernetes sets this variable for a \
             service of that name unless the pod says enableServiceLinks: false."
        ),
        Refusal::Expected(what) => format!("{who}: {shown} is not valid; give {what}."),
        Refusal::NotAvailable(what) => {
            format!("{who} is not available in this version: it needs {what}.")
        }
        Refusal::ValueNotAvailable(allowed) => {
            format!("{who}: {shown} is not available in this version; give {allowed}.")
        }
    };
    // Asking for what is not built is a usage error, wherever it is asked.
    if wrong_value && setting.origin == Origin::Environment {
        UsageError::config(sentence)
    } else {
        UsageError::usage(sentence)
    }
}

/// Kubernetes describes services in variables that happen to have our names, as `tcp://10.0.0.1:9092`.
fn looks_like_kubernetes(setting: &Setting) -> bool {
    setting.origin == Origin::Environment
        && (setting.value.starts_with("tcp://") || setting.value.starts_with("udp://"))
}

/// Settles what depends on more than one option, and refuses settings that contradict each other.
fn settle(draft: &mut Draft, settings: &mut [Setting]) -> Result<(), UsageError> {
    let config = &mut draft.config;
    if let Some(port) = draft.bind_port {
        if carry_port(settings, "bind-addr", "kafka-port", port) {
            config.kafka_port = Port::Fixed(port);
        }
    }
    if let Some(port) = draft.advertised_addr_port {
        if carry_port(settings, "advertised-addr", "advertised-port", port) {
            config.advertised_port = Some(port);
        }
    }
    if let Some(hours) = draft.log_retention_hours {
        config.log_retention_ms = if hours < 0 { -1 } else { hours * 3_600_000 };
    }
    if let Some(ms) = draft.log_retention_ms {
        config.log_retention_ms = ms;
    }
    storage::check(&config.storage, settings)?;
    check_backup(config)?;
    share_memory(config, settings);
    check_sizes(config)?;
    check_memory(config)?;
    check_ports(config)
}

fn check_backup(config: &Config) -> Result<(), UsageError> {
    let refused = |sentence: &str| Err(UsageError::config(sentence.to_owned()));
    if config.storage.keeps_objects() && config.metadata_store == MetadataStore::File {
        return refused(
            "Object storage and --file-metadata don't go together, because metadata in files can't be copied at one moment \
             with the log; convert the directory with --convert-metadata.",
        );
    }
    if config.backup.restore_directory.is_some() && config.backup.restore_from.is_none() {
        return refused("--restore-directory needs --restore-from, which says where that directory's backups are.");
    }
    match (config.backup.enabled, &config.backup.url) {
        (true, None) => refused("--enable-backup needs --backup-url, which says where backups go."),
        (false, Some(_)) => refused("--backup-url does nothing without --enable-backup; give both or none."),
        (true, _) if config.metadata_store == MetadataStore::File => refused(
            "--enable-backup and --file-metadata don't go together, because metadata in files can't be copied at one \
             moment with the log; stop the server and run 'chronik backup create' instead.",
        ),
        _ => Ok(()),
    }
}

/// Takes the port of a `host:port` unless the port's own option was given at least as strongly.
fn carry_port(settings: &mut [Setting], from: &str, to: &str, port: u16) -> bool {
    let Some(giver) = settings.iter().find(|s| s.opt.long == from) else {
        return false;
    };
    let (origin, who) = (giver.origin, giver.who.clone());
    match settings.iter_mut().find(|s| s.opt.long == to) {
        Some(taker) if taker.origin < origin => {
            (taker.origin, taker.who, taker.value) = (origin, who, port.to_string());
            true
        }
        _ => false,
    }
}

/// Gives what no option bounds its part of the memory limit.
fn share_memory(config: &mut Config, settings: &mut [Setting]) {
    let part = config.memory_limit / limits::MEMORY_PART;
    config.response_bytes_max = part;
    let mut follow = |long: &str, value: &mut usize, most: usize| {
        if let Some(setting) = settings.iter_mut().find(|s| s.opt.long == long && s.origin == Origin::Default) {
            if *value != part.min(most) {
                *value = part.min(most);
                setting.value = value.to_string();
            }
        }
    };
    follow("queued-max-request-bytes", &mut config.queued_max_request_bytes, usize::MAX);
    let (largest, keys) = (config.socket_request_max_bytes, config.log_cleaner_dedupe_buffer_size);
    follow("socket-request-max-bytes", &mut config.socket_request_max_bytes, largest);
    follow("log-cleaner-dedupe-buffer-size", &mut config.log_cleaner_dedupe_buffer_size, keys);
}

fn check_memory(config: &Config) -> Result<(), UsageError> {
    // One request is read to its end however many there are.
    let requests = config.queued_max_request_bytes.saturating_add(config.socket_request_max_bytes);
    let store = if config.storage.keeps_objects() { limits::MEMORY_STORE_BYTES } else { 0 };
    let rest = config.response_bytes_max + config.log_cleaner_dedupe_buffer_size + limits::MEMORY_FIXED_BYTES + store;
    let sum = requests.saturating_add(rest);
    if sum <= config.memory_limit {
        return Ok(());
    }
    Err(UsageError::config(format!(
        "--memory-limit is {}, but what it has to hold is {sum}: --queued-max-request-bytes, --socket-request-max-bytes, \
         --log-cleaner-dedupe-buffer-size, {} for answers, and {} for everything else.",
        config.memory_limit,
        config.response_bytes_max,
        limits::MEMORY_FIXED_BYTES + store
    )))
}

fn check_sizes(config: &Config) -> Result<(), UsageError> {
    let at_most = |low: &str, low_value: u64, high: &str, high_value: u64| {
        if low_value <= high_value {
            return Ok(());
        }
        Err(UsageError::config(format!(
            "--{low} is {low_value}, but it must not exceed {high}, which is {high_value}."
        )))
    };
    let message = config.message_max_bytes as u64;
    at_most("message-max-bytes", message, "half of --log-segment-bytes", config.log_segment_bytes / 2)?;
    at_most("message-max-bytes", message, "--socket-request-max-bytes", config.socket_request_max_bytes as u64)?;
    at_most(
        "socket-request-max-bytes",
        config.socket_request_max_bytes as u64,
        "--queued-max-request-bytes",
        config.queued_max_request_bytes as u64,
    )?;
    at_most(
        "group-min-session-timeout-ms",
        config.group_min_session_timeout_ms as u64,
        "--group-max-session-timeout-ms",
        config.group_max_session_timeout_ms as u64,
    )?;
    let ordered = [
        ("min-session-timeout-ms", config.group_consumer_min_session_timeout_ms),
        ("session-timeout-ms", config.group_consumer_session_timeout_ms),
        ("max-session-timeout-ms", config.group_consumer_max_session_timeout_ms),
        ("min-heartbeat-interval-ms", config.group_consumer_min_heartbeat_interval_ms),
        ("heartbeat-interval-ms", config.group_consumer_heartbeat_interval_ms),
        ("max-heartbeat-interval-ms", config.group_consumer_max_heartbeat_interval_ms),
        ("min-assignment-interval-ms", config.group_consumer_min_assignment_interval_ms),
        ("assignment-interval-ms", config.group_consumer_assignment_interval_ms),
        ("max-assignment-interval-ms", config.group_consumer_max_assignment_interval_ms),
    ];
    for three in ordered.chunks(3) {
        for pair in three.windows(2) {
            let (low, high) = (format!("group-consumer-{}", pair[0].0), format!("--group-consumer-{}", pair[1].0));
            at_most(&low, pair[0].1 as u64, &high, pair[1].1 as u64)?;
        }
    }
    check_share(&config.share)
}

/// The settings of share groups lie within the bounds that groups have.
fn check_share(share: &ShareConfig) -> Result<(), UsageError> {
    let s = share;
    let bounds = [
        ("heartbeat-interval-ms", s.min_heartbeat_interval_ms, s.heartbeat_interval_ms, s.max_heartbeat_interval_ms),
        ("session-timeout-ms", s.min_session_timeout_ms, s.session_timeout_ms, s.max_session_timeout_ms),
        (
            "record-lock-duration-ms",
            s.min_record_lock_duration_ms,
            s.record_lock_duration_ms,
            s.max_record_lock_duration_ms,
        ),
        (
            "assignment-interval-ms",
            s.min_assignment_interval_ms,
            s.assignment_interval_ms,
            s.max_assignment_interval_ms,
        ),
        ("delivery-count-limit", s.min_delivery_count_limit, s.delivery_count_limit, s.max_delivery_count_limit),
        (
            "partition-max-record-locks",
            s.min_partition_max_record_locks,
            s.partition_max_record_locks,
            s.max_partition_max_record_locks,
        ),
    ];
    for (name, min, value, max) in bounds {
        if !(min..=max).contains(&value) {
            return Err(UsageError::config(format!(
                "--group-share-{name} is {value}, but it must lie between --group-share-min-{name}, which is {min}, and \
                 --group-share-max-{name}, which is {max}."
            )));
        }
    }
    if s.heartbeat_interval_ms >= s.session_timeout_ms {
        return Err(UsageError::config(format!(
            "--group-share-heartbeat-interval-ms is {}, but it must be less than --group-share-session-timeout-ms, which \
             is {}.",
            s.heartbeat_interval_ms, s.session_timeout_ms
        )));
    }
    Ok(())
}

fn check_ports(config: &Config) -> Result<(), UsageError> {
    let listeners = [
        ("kafka-port", &config.bind_host, config.kafka_port),
        ("admin-port", &config.admin_bind_host, config.admin_port),
        ("metrics-port", &config.metrics_bind_host, config.metrics_port),
    ];
    for (i, (name, host, port)) in listeners.iter().enumerate() {
        for (other_name, other_host, other_port) in &listeners[..i] {
            let same_host = host == other_host || value::is_wildcard(host) || value::is_wildcard(other_host);
            if let (Port::Fixed(number), true) = (port, port == other_port && same_host) {
                return Err(UsageError::config(format!(
                    "--{other_name} and --{name} are both {number}; give each its own."
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_defaults_are_the_configs() {
        let mut draft = Draft::default();
        for opt in OPTIONS {
            if !opt.default.is_empty() {
                let applied = value::apply(opt, opt.default, &mut draft);
                assert!(applied.is_ok(), "default of --{}", opt.long);
            }
        }
        settle(&mut draft, &mut []).unwrap();
        assert_eq!(draft.config, Config::default());
    }

    #[test]
    fn every_option_has_an_effect_or_is_refused() {
        for opt in OPTIONS {
            if let Kind::Act(set) = &opt.kind {
                let mut draft = Draft::default();
                set(&mut draft);
                assert!(draft.action.is_some() || draft.config != Config::default(), "--{} does nothing", opt.long);
                continue;
            }
            let mut effect = false;
            for sample in [
                "true",
                "false",
                "17",
                "1700",
                "900001",
                "16777217",
                "268435457",
                "2147483648",
                "off",
                "a.example",
                "file:///backups",
                "LogAppendTime",
                "zstd",
                "range",
                "upgrade",
                "s3",
                "debug",
                "never",
            ] {
                let mut draft = Draft::default();
                effect |= match value::apply(opt, sample, &mut draft) {
                    Ok(()) => format!("{draft:?}") != format!("{:?}", Draft::default()),
                    Err(Refusal::Expected(_)) => false,
                    Err(_) => true,
                };
            }
            assert!(effect, "--{} is accepted and does nothing", opt.long);
        }
    }
}
