//! The one integration binary; each module is a room of tests.

mod admin;
mod cli;
mod codec;
mod differential;
mod fetch;
mod groups;
mod harness;
mod like_kafka;
mod man;
mod net;
mod records;
mod share;
mod sim;
mod tidy;
mod tool;
mod txn;
mod wal;
