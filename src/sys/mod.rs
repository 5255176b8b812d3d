//! Owns what is particular to the machine: files, clock, threads, signals.

pub mod aligned;
pub mod disk;
mod fileops;
pub mod lock;
pub mod mailbox;
pub mod real_disk;
pub mod signals;
pub mod usage;
