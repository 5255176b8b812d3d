//! The command-line tool: topics, groups and clusters over the Kafka protocol, and data directories on the disk.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(chronik::cli::main())
}
