//! The deterministic simulation: the broker, its log and its recovery in one thread over a seeded clock, network and disk.

mod batch;
#[allow(dead_code)]
pub mod disk;
mod disk_tests;
pub mod image;
mod model;
mod proto;
pub mod rng;
