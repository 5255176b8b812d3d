//! Owns what is particular to the machine: files, clock, threads, signals.

pub mod aligned;
pub mod disk;
pub mod signals;
pub mod usage;
