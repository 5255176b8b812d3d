//! Owns the tests of the log on disk: writing, crashing, recovering, damage, full disks, both metadata stores.

mod checkpoints;
mod crash;
mod damage;
mod fixtures;
mod full;
mod heads;
mod metadata;
mod packs;
mod reading;
mod rotation;
pub mod support;
mod threads;
