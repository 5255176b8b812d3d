//! The one integration binary; each module is a room of tests.

mod cli;
mod codec;
mod man;
mod records;
mod sim;
