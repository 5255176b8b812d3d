//! Owns why a command fails, and the exit codes that say so.

use std::io;

use crate::wire::ErrorCode;

/// Everything that was asked for is done.
pub const OK: u8 = 0;
/// Something failed.
pub const ERROR: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// A topic, group, file or the like is not there.
pub const NOT_FOUND: u8 = 3;
/// The brokers, or the files, do not let this user.
pub const DENIED: u8 = 4;
/// No broker answered in time.
pub const UNREACHABLE: u8 = 5;
/// Stopped by the person (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// Every code with the sentence that the manual page gives it, in ascending order.
pub const ALL: &[(u8, &str)] = &[
    (OK, "Everything that was asked for is done."),
    (ERROR, "Something failed, or one of several items did, or damage was found."),
    (USAGE, "The command line is wrong."),
    (NOT_FOUND, "A topic, group or file that was named is not there."),
    (DENIED, "The brokers or the file system do not allow it."),
    (UNREACHABLE, "No broker could be reached, or none answered in time."),
    (INTERRUPTED, "Interrupted."),
];

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// A sentence for standard error, and the exit code.
    Said { code: u8, sentence: String },
    /// Whoever read standard output has gone: nobody is left to be told, and nothing went wrong.
    ReaderGone,
}

impl Failure {
    pub fn new(code: u8, sentence: impl Into<String>) -> Failure {
        Failure::Said { code, sentence: sentence.into() }
    }

    pub fn error(sentence: impl Into<String>) -> Failure {
        Failure::new(ERROR, sentence)
    }

    pub fn usage(sentence: impl Into<String>) -> Failure {
        Failure::new(USAGE, sentence)
    }

    /// A file or folder could not be used.
    pub fn file(what: &str, error: &io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            io::ErrorKind::PermissionDenied => DENIED,
            _ => ERROR,
        };
        Failure::new(code, format!("{what}: {error}"))
    }

    /// A broker answered with an error about `what`.
    pub fn broker(what: &str, error: ErrorCode, message: Option<&str>) -> Failure {
        Failure::new(code_of(error), format!("{what}: {}", broker_sentence(error, message)))
    }

    /// A write to standard output failed.
    pub fn stdout(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::error(format!("cannot write to standard output: {error}")),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::file("Reading failed", &error)
    }
}

/// The broker's own words if it gave any, otherwise those of the protocol, with the error's name.
pub fn broker_sentence(error: ErrorCode, message: Option<&str>) -> String {
    let words = message.filter(|text| !text.is_empty()).unwrap_or_else(|| error.message());
    format!("{} ({error})", words.trim_end_matches('.'))
}

/// The exit code for what a broker said.
pub fn code_of(error: ErrorCode) -> u8 {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::GROUP_ID_NOT_FOUND
        | ErrorCode::RESOURCE_NOT_FOUND => NOT_FOUND,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::SASL_AUTHENTICATION_FAILED => DENIED,
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::BROKER_NOT_AVAILABLE
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::COORDINATOR_NOT_AVAILABLE => UNREACHABLE,
        _ => ERROR,
    }
}

/// The code of several failures: the one that they share, or `ERROR`; `OK` without any.
pub fn together(codes: impl IntoIterator<Item = u8>) -> u8 {
    let mut codes = codes.into_iter().filter(|code| *code != OK);
    let Some(first) = codes.next() else { return OK };
    match codes.all(|code| code == first) {
        true => first,
        false => ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_have_the_code_that_they_share() {
        assert_eq!(together([OK, OK]), OK);
        assert_eq!(together([OK, NOT_FOUND]), NOT_FOUND);
        assert_eq!(together([DENIED, NOT_FOUND]), ERROR);
    }

    #[test]
    fn exit_codes_are_distinct_and_ascending() {
        assert!(ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
