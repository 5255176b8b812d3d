//! The server: parse options, open the data directory, recover, start threads, run.
fn main() {}
