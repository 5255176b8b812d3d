//! The one integration binary; each module is a room of tests.

mod admin;
mod backup;
mod bounds;
mod cleaning;
mod cli;
mod clients;
mod codec;
mod compact;
mod differential;
mod fetch;
mod fuzz;
mod groups;
mod harness;
mod leaving;
mod like_kafka;
mod logged;
mod man;
mod net;
mod records;
mod share;
mod sim;
mod store;
mod tidy;
mod tidying;
mod tier;
mod tool;
mod txn;
mod wal;

/// Counted, so that the fuzz targets can bound what an input makes the program take.
#[global_allocator]
static MEMORY: fuzz::memory::Counting = fuzz::memory::Counting;
