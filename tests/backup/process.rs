//! Owns the tests of backups with real processes.
