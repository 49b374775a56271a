//! The agent: one small process that keeps one cluster in its signed desired state.
//!
//! [`logic`] decides and is pure; everything else runs what it decided.

pub mod cluster;
pub mod logic;
