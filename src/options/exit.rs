//! Owns the exit codes of the program. The man page lists the same ones, and a test compares them.
//!
//! Where `sysexits.h` has a number for a case, that number is taken: supervisors and people know them.

/// Stopped because it was asked to, or printed what was asked for.
pub const OK: u8 = 0;
/// Failed while running, for a reason without a number of its own.
pub const FAILURE: u8 = 1;
/// The command line is wrong, or asks for what this version does not have.
pub const USAGE: u8 = 2;
/// The data directory is damaged, newer than this program, or of the other metadata store (`EX_DATAERR`).
pub const DATA: u8 = 65;
/// A listener could not be opened, for instance because the port is taken (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// Reading or writing the data directory failed (`EX_IOERR`). What was acknowledged is safe.
pub const IO: u8 = 74;
/// Another server uses the data directory (`EX_TEMPFAIL`).
pub const IN_USE: u8 = 75;
/// An environment variable or a combination of settings is wrong (`EX_CONFIG`).
pub const CONFIG: u8 = 78;
/// A second signal asked to stop at once; the number is 128 + SIGINT, whichever signal it was.
pub const SECOND_SIGNAL: u8 = 130;

/// Every code with the sentence that the man page gives it, in ascending order.
pub const ALL: &[(u8, &str)] = &[
    (OK, "Stopped because it was asked to, or printed what was asked for."),
    (FAILURE, "Failed while running, for a reason that has no number of its own."),
    (USAGE, "The command line is wrong, or asks for what is not available in this version."),
    (DATA, "The data directory is damaged, was written by a newer version, or belongs to the other metadata store."),
    (UNAVAILABLE, "A listener could not be opened, for instance because its port is taken."),
    (IO, "Reading or writing the data directory failed."),
    (IN_USE, "Another server uses the data directory."),
    (CONFIG, "An environment variable or a combination of settings is wrong."),
    (SECOND_SIGNAL, "A second signal asked to stop at once."),
];
