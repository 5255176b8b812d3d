//! Owns sockets, the reactor and the wiring of threads.

mod backups;
pub mod buffers;
pub mod complaints;
pub mod connection;
pub mod core;
pub mod frames;
pub mod http;
pub mod inbox;
pub mod listeners;
pub mod opening;
pub mod outgoing;
pub mod reactor;
mod restoring;
pub mod server;
pub mod table;
pub mod threads;
mod tiers;
