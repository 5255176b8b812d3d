//! Owns the tests of object storage: what every store promises, and how the clouds' stores bear faults of the network.

mod clouds;
mod contract;
pub mod faulty;
mod local;
mod s3;
pub mod server;
mod servers;
pub mod surroundings;
