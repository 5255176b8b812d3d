//! Owns what is particular to the machine: files, clock, threads, signals.

pub mod aligned;
pub mod clock;
pub mod disk;
pub mod sendfile;
pub mod socket;
pub mod signals;
pub mod usage;
mod fileops;
pub mod lock;
pub mod mailbox;
pub mod real_disk;
