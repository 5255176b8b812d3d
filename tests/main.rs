//! The one integration binary; each module is a room of tests.
mod cli;
mod groups;
mod man;
