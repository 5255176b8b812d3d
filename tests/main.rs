//! The one integration binary; each module is a room of tests.
mod admin;
mod cli;
mod harness;
mod man;
mod records;
