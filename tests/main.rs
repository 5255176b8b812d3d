//! The one integration binary; each module is a room of tests.

mod tidy;
