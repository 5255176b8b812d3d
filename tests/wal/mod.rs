//! Owns the tests of the log on disk: writing, crashing, recovering, damage, full disks, both metadata stores.

mod crash;
pub mod support;
