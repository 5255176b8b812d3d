//! Owns what the targets need of the simulation.

#[path = "../../tests/sim/disk.rs"]
pub mod disk;
#[path = "../../tests/sim/image.rs"]
pub mod image;
#[path = "../../tests/sim/node.rs"]
pub mod node;
#[path = "../../tests/sim/rng.rs"]
pub mod rng;
