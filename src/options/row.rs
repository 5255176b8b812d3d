//! Owns what a row of the table of options is: its names, its kind of value, and where the value goes.

use std::path::PathBuf;

use log::LevelFilter;

use crate::config::{Config, Fsync, Port};

/// What the parser fills in while it reads. Some settings need each other and are settled at the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub config: Config,
    /// The port of a `host:port` given to `--bind-addr`.
    pub bind_port: Option<u16>,
    /// The port of a `host:port` given to `--advertised-addr`.
    pub advertised_addr_port: Option<u16>,
    pub log_retention_hours: Option<i64>,
    pub log_retention_ms: Option<i64>,
    pub action: Option<Action>,
}

/// What to do instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Help,
    Version,
    CheckConfig,
    PrintConfig,
}

/// Sections of `--help`, the man page and the README, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Instead of serving.
    General,
    /// Listeners and addresses.
    Listeners,
    /// Data directory and durability.
    Storage,
    /// Stores of objects.
    Objects,
    /// Copies of the data directory.
    Backup,
    /// Topics and records.
    Topics,
    /// Consumer groups and producers.
    Groups,
    /// Connections and requests.
    Limits,
    /// Options of what is still to come.
    Later,
}

impl Group {
    /// Every group, in the order of the sections.
    pub const ALL: [Group; 9] = [
        Group::General,
        Group::Listeners,
        Group::Storage,
        Group::Objects,
        Group::Backup,
        Group::Topics,
        Group::Groups,
        Group::Limits,
        Group::Later,
    ];

    /// The section's heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::General => "General",
            Group::Listeners => "Listeners and addresses",
            Group::Storage => "Data directory and durability",
            Group::Objects => "Object storage",
            Group::Backup => "Backup",
            Group::Topics => "Topics and records",
            Group::Groups => "Consumer groups and producers",
            Group::Limits => "Connections and requests",
            Group::Later => "Not available in this version",
        }
    }
}

pub(super) type Set<T> = fn(&mut Draft, T);

/// What a value may be, and where it goes.
pub(super) enum Kind {
    /// No value; does something instead of serving.
    Act(fn(&mut Draft)),
    /// On when given; `=true` and `=false` are accepted.
    Flag(Set<bool>),
    /// `true` or `false`.
    Bool(Set<bool>),
    /// A whole number; `minus_one` allows -1 below `min`.
    Int { min: i64, max: i64, minus_one: bool, set: Set<i64> },
    /// Bytes, or a number with `KiB`, `MiB` or `GiB`.
    Bytes { min: i64, max: i64, minus_one: bool, set: Set<i64> },
    /// Milliseconds, or a number with `ms`, `s`, `m`, `h` or `d`.
    Millis { min: i64, max: i64, minus_one: bool, set: Set<i64> },
    /// A listening port: a number, 0 for any free one, and `off` if allowed.
    Port { off: bool, set: Set<Port> },
    /// A port that clients are told, 1 to 65535.
    RemotePort(Set<u16>),
    /// A host or an address, optionally with a port; `wildcard` allows "every address".
    HostPort { wildcard: bool, set: Set<(String, Option<u16>)> },
    /// A host or an address.
    Host(Set<String>),
    /// One of the names; those in `refused` are known and not available in this version.
    Choice { names: &'static [&'static str], refused: &'static [&'static str], set: Set<&'static str> },
    /// A level, or a list in the manner of `RUST_LOG` when it comes from there.
    Level(Set<LevelFilter>),
    /// `always`, `interval=MS` or `never`.
    Fsync(Set<Fsync>),
    /// A path.
    Path(Set<PathBuf>),
    /// A name, an address, a key: visible ASCII characters.
    Text(Set<String>),
    /// The URL of an object store; what it names is looked at when the store is opened.
    StoreUrl(Set<String>),
    /// A cluster id.
    ClusterId(Set<String>),
    /// Known and refused, whatever the value.
    Refused { takes_value: bool },
}

/// Where an option's value may also come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Env {
    None,
    /// `CHRONIK_` and the long name in capitals.
    Derived,
    Named(&'static str),
}

/// One option.
pub struct Opt {
    /// Long name, without the dashes; `--print-config` calls it so even if it is in the environment alone.
    pub long: &'static str,
    /// Short name, without the dash.
    pub short: Option<char>,
    /// Name of the value in `--help`; empty for an option without one.
    pub hint: &'static str,
    /// The default as a person would type it; empty if there is none.
    pub default: &'static str,
    /// Section it stands in.
    pub group: Group,
    /// What it does, in one or two sentences.
    pub help: &'static str,
    /// What it needs that this version does not have.
    pub missing: Option<&'static str>,
    /// Never printed by `--print-config` nor quoted in an error.
    pub secret: bool,
    /// Can be given on the command line; otherwise in the environment alone.
    pub on_command_line: bool,
    pub(super) env: Env,
    pub(super) kafka: bool,
    pub(super) kind: Kind,
}

impl Opt {
    /// The environment variable that sets it, below the command line and above the default.
    pub fn env(&self) -> Option<String> {
        match self.env {
            Env::None => None,
            Env::Derived => Some(format!("CHRONIK_{}", self.long.replace('-', "_").to_uppercase())),
            Env::Named(name) => Some(name.to_string()),
        }
    }

    /// The config key: Kafka's name where Kafka has one, otherwise the long name.
    pub fn key(&self) -> String {
        if self.kafka {
            self.long.replace('-', ".")
        } else {
            self.long.to_string()
        }
    }

    /// True if Kafka has a broker setting of this name and meaning.
    pub fn is_kafkas(&self) -> bool {
        self.kafka
    }

    pub(super) const fn short(mut self, short: char) -> Opt {
        self.short = Some(short);
        self
    }

    pub(super) const fn kafka(mut self) -> Opt {
        self.kafka = true;
        self
    }

    pub(super) const fn env_named(mut self, name: &'static str) -> Opt {
        self.env = Env::Named(name);
        self
    }

    pub(super) const fn env_only(mut self) -> Opt {
        self.on_command_line = false;
        self
    }

    /// Never shown, and never on the command line, which everybody on the machine can read.
    pub(super) const fn secret(mut self) -> Opt {
        self.secret = true;
        self.env_only()
    }

    pub(super) const fn no_env(mut self) -> Opt {
        self.env = Env::None;
        self
    }

    pub(super) const fn missing(mut self, what: &'static str) -> Opt {
        self.missing = Some(what);
        self
    }
}

pub(super) const fn opt(
    group: Group,
    long: &'static str,
    hint: &'static str,
    default: &'static str,
    help: &'static str,
    kind: Kind,
) -> Opt {
    Opt {
        long,
        short: None,
        hint,
        default,
        group,
        help,
        missing: None,
        secret: false,
        on_command_line: true,
        env: Env::Derived,
        kafka: false,
        kind,
    }
}

pub(super) const fn act(long: &'static str, help: &'static str, set: fn(&mut Draft)) -> Opt {
    opt(Group::General, long, "", "", help, Kind::Act(set)).no_env()
}

pub(super) const fn int(min: i64, max: i64, set: Set<i64>) -> Kind {
    Kind::Int { min, max, minus_one: false, set }
}

pub(super) const fn bytes(min: i64, max: i64, set: Set<i64>) -> Kind {
    Kind::Bytes { min, max, minus_one: false, set }
}

pub(super) const fn millis(min: i64, max: i64, set: Set<i64>) -> Kind {
    Kind::Millis { min, max, minus_one: false, set }
}
