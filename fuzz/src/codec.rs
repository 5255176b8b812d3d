//! Owns what the targets need of the tests of the codec.

#[path = "../../tests/codec/list.rs"]
pub mod list;
#[path = "../../tests/codec/random.rs"]
pub mod random;
