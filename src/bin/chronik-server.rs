//! The server: parse options, open the data directory, recover, start threads, run.
//!
//! Exit codes are listed in the man page and in `options::exit`. What is fatal, and what is only a line in the log, is
//! said in `net::server`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(chronik::net::server::main())
}
