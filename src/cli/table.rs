//! Owns the one table of commands. Parser, help, `--help-json`, manual page and completions come from it or are checked
//! against it.
//!
//! What is not built has no row. A family that joins later is one more line in `COMMANDS`.

use super::row::Complete::{self, Group, Nothing, Path, Topic, Words};
use super::row::Times::{Any, Many, One, Optional};
use super::row::{arg, command, family, flag, value, Arg, Command, Opt};
use super::{backup, cluster, completion, dump, group, repair, segments, topic, topic_change, verify, version};

/// Options that every command takes.
pub static GLOBAL: &[Opt] = &[
    value("brokers", "HOST:PORT", "Where to reach the cluster: one broker or several, separated by commas.")
        .short('b')
        .default("127.0.0.1:9092")
        .env("CHRONIK_BROKERS"),
    value("output", "FORMAT", "How results are printed: text for people, json for programs.")
        .short('o')
        .default("text")
        .complete(Words(&["text", "json"])),
    flag("quiet", "Print less: names only in lists, nothing about what went well.").short('q'),
    flag("verbose", "Say more about what is going on, on standard error.").short('v'),
    value("color", "WHEN", "Colours: auto, when a terminal reads and NO_COLOR is not set; always; never.")
        .default("auto")
        .complete(Words(&["auto", "always", "never"])),
    value("timeout", "TIME", "How long to wait for brokers in all: seconds, or a number with ms, s or m.")
        .default("30s"),
    flag("dry-run", "Say what would be done, and do nothing."),
    flag("yes", "Do not ask before something is deleted.").short('y'),
    flag("help", "Print help for the command and exit.").short('h'),
    flag("help-json", "Print the description of the command, and of all below it, as JSON and exit."),
    flag("version", "Print the version and exit.").short('V'),
];

const DATA_DIR: Opt = value("data-dir", "PATH", "The data directory of a server that is not running.")
    .short('d')
    .default("./data")
    .env("CHRONIK_DATA_DIR")
    .complete(Path);

const TOPICS: &[Arg] = &[arg("TOPIC", Many, Topic)];
const SHELLS: Complete = Words(&["bash", "zsh", "fish"]);

/// Every command.
pub static COMMANDS: &[Command] = &[
    family("topic", "List, make, change and delete topics.", TOPIC),
    family("group", "Look at consumer groups.", GROUP),
    family("cluster", "Look at the cluster.", CLUSTER),
    family("wal", "Look at, check and mend the log of a data directory, without a server.", WAL),
    family("segment", "Look at and check segments of the log, without a server.", SEGMENT),
    family("backup", "Make, list, verify, restore and delete backups.", BACKUP),
    command(
        "completion",
        "Print the script that completes commands in a shell.",
        &[arg("SHELL", One, SHELLS)],
        &[],
        completion::run,
    ),
    command("version", "Print the version.", &[], &[], version),
];

static TOPIC: &[Command] = &[
    command(
        "list",
        "List the topics.",
        &[],
        &[flag("internal", "Also those that the brokers keep for themselves.")],
        topic::list,
    ),
    command(
        "create",
        "Make topics.",
        TOPICS,
        &[
            value("partitions", "NUMBER", "Number of partitions. Without it the broker decides.").short('p'),
            value("replicas", "NUMBER", "Number of replicas. Without it the broker decides.").short('r'),
            value("config", "KEY=VALUE", "A setting of the topic.").short('c').repeats(),
            flag("if-not-exists", "A topic that is there already is no error."),
        ],
        topic_change::create,
    ),
    command(
        "describe",
        "Show partitions, offsets and settings of topics.",
        TOPICS,
        &[flag("all-configs", "Also the settings that have their defaults.")],
        topic::describe,
    ),
    command(
        "delete",
        "Delete topics with all their records.",
        TOPICS,
        &[flag("if-exists", "A topic that is not there is no error.")],
        topic_change::delete,
    ),
    command(
        "add-partitions",
        "Give topics more partitions. Keys are spread anew by most producers.",
        TOPICS,
        &[value("to", "NUMBER", "How many partitions each topic is to have then.")],
        topic_change::add_partitions,
    ),
    command(
        "set",
        "Change settings of a topic.",
        &[arg("TOPIC", One, Topic), arg("KEY=VALUE", Many, Nothing)],
        &[],
        topic_change::set,
    ),
    command(
        "unset",
        "Give settings of a topic their defaults back.",
        &[arg("TOPIC", One, Topic), arg("KEY", Many, Nothing)],
        &[],
        topic_change::unset,
    ),
    command(
        "trim",
        "Delete the records of a topic before an offset.",
        &[arg("TOPIC", One, Topic)],
        &[
            value("before", "OFFSET", "The first offset that stays, or end to delete everything."),
            value("partition", "NUMBER", "Only this partition; without it all of them.").short('p').repeats(),
        ],
        topic_change::trim,
    ),
];

static GROUP: &[Command] = &[
    command("list", "List the groups.", &[], &[], group::list),
    command(
        "describe",
        "Show members, committed offsets and lag of groups.",
        &[arg("GROUP", Many, Group)],
        &[],
        group::describe,
    ),
];

static CLUSTER: &[Command] =
    &[command("info", "Show the brokers, the controller and the features.", &[], &[], cluster::info)];

static WAL: &[Command] = &[
    command(
        "dump",
        "Print what the log holds, group by group. With -o json each group is one line.",
        &[],
        &[
            DATA_DIR,
            value("from", "SEQUENCE", "The first group to print."),
            value("to", "SEQUENCE", "The last group to print."),
            flag("meta", "Only changes of metadata, with their keys and values."),
        ],
        dump::run,
    ),
    command(
        "verify",
        "Read every byte of the log and say what is damaged: which file, where, and which records are concerned.",
        &[],
        &[DATA_DIR],
        verify::run,
    ),
    command(
        "repair",
        "Copy everything readable into a new data directory and say what is lost. The damaged one is only read.",
        &[],
        &[DATA_DIR, value("into", "PATH", "The new data directory, which must not exist or be empty.").complete(Path)],
        repair::run,
    ),
];

static SEGMENT: &[Command] = &[
    command("list", "List the segments of the log.", &[], &[DATA_DIR], segments::list),
    command(
        "dump",
        "Print the header and the index of segments. A segment is a number, pack-NUMBER, or the path of a file.",
        &[arg("SEGMENT", Many, Path)],
        &[DATA_DIR],
        segments::dump,
    ),
    command(
        "verify",
        "Read every byte of segments and say what is damaged. Without an argument all of the data directory are read.",
        &[arg("SEGMENT", Any, Path)],
        &[DATA_DIR],
        segments::verify,
    ),
];

const BACKUP_URL: Opt = value(
    "url",
    "URL",
    "Where the backups are: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, azure://CONTAINER/PREFIX or file:///PATH. \
     Keys come from the environment, as for the server.",
)
.short('u')
.env("CHRONIK_BACKUP_URL");
const BACKUP_TIME: Opt = value("to-time", "TIME", "The newest backup made at this time or before.");
const BACKUP_DIRECTORY: Opt = value(
    "directory",
    "ID",
    "The id of the data directory, or its beginning; needed where the store has backups of several.",
);

static BACKUP: &[Command] = &[
    command(
        "create",
        "Make a backup of a data directory, whose server may be running. Only what the store lacks is sent.",
        &[],
        &[BACKUP_URL, value("data-dir", "PATH", "The data directory.").short('d').default("./data").env("CHRONIK_DATA_DIR").complete(Path)],
        backup::create,
    ),
    command("list", "List the backups, and whether all that they need is there.", &[], &[BACKUP_URL], backup::list),
    command(
        "verify",
        "Read every byte of a backup and say what is damaged. Without a name it is the newest.",
        &[arg("BACKUP", Optional, Nothing)],
        &[BACKUP_URL, BACKUP_TIME, BACKUP_DIRECTORY],
        backup::verify,
    ),
    command(
        "restore",
        "Make a new data directory of a backup. Without a name it is the newest. An interrupted restore goes on when it is run again.",
        &[arg("BACKUP", Optional, Nothing)],
        &[
            BACKUP_URL,
            value("into", "PATH", "The new data directory, which must not exist or be empty.").complete(Path),
            value("topics", "NAME,...", "Only these topics; a name may end with a *. Groups' offsets come along, nothing else.")
                .repeats(),
            value("rename", "OLD=NEW", "A topic comes back under another name; both may end with a *.").repeats(),
            BACKUP_TIME,
            BACKUP_DIRECTORY,
        ],
        backup::restore,
    ),
    command(
        "delete",
        "Delete backups, and what no other needs.",
        &[arg("BACKUP", Any, Nothing)],
        &[
            BACKUP_URL,
            value("keep", "NUMBER", "Delete all but the newest of each data directory."),
            value("keep-days", "DAYS", "Delete those that are older; the newest always stays."),
            BACKUP_DIRECTORY,
        ],
        backup::delete,
    ),
];
