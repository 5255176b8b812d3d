//! Owns what is particular to the machine: files, clock, threads, signals.

pub mod aligned;
pub mod allocator;
pub mod clock;
pub mod disk;
mod fileops;
pub mod lock;
pub mod mailbox;
pub mod priority;
pub mod read_disk;
pub mod real_disk;
pub mod sendfile;
pub mod signals;
pub mod socket;
pub mod traffic;
pub mod usage;
