//! What can be decided without a clock, a disk or a network.

pub mod access;
pub mod fleet;
pub mod occurrence;
pub mod registry;
pub mod renewal;
