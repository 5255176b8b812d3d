//! Owns the tests of the command-line tool, run as a process: its table, its client, what it says about damaged logs.

mod damage;
mod online;
mod repair;
mod salvage;
mod table;

use std::process::{Command, Output, Stdio};

use crate::codec::json::{parse, Json};

/// Runs the tool with nothing of this process's environment that it would read.
pub fn tool(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronik"));
    for name in ["CHRONIK_BROKERS", "CHRONIK_DATA_DIR", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What the tool prints when it ends with this exit code.
pub fn printed(args: &[&str], code: i32) -> String {
    let output = tool(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}{}", stdout(&output), stderr(&output));
    stdout(&output)
}

/// The JSON document that the tool prints when it ends with this exit code.
pub fn json(args: &[&str], code: i32) -> Json {
    parse(&printed(&[args, &["-o", "json"]].concat(), code))
}

/// The members of a JSON list.
pub fn items(json: &Json) -> &[Json] {
    match json {
        Json::List(items) => items,
        other => panic!("no list: {other:?}"),
    }
}
