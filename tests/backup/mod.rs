//! Owns the tests of backups: what a copy of a running server holds, and what happens when something is in the way.

mod cutting;
mod damage;
mod faults;
pub mod memory_store;
mod process;
mod pruning;
mod restoring;
pub mod support;
mod tails;
