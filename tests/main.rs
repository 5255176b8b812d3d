//! The one integration binary; each module is a room of tests.

mod cli;
mod man;
mod records;
mod tidy;
