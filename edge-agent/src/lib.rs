//! The agent: one small process that keeps one cluster in its signed desired state, with or without a link.
//!
//! [`logic`] decides and is pure; everything else runs what it decided.

pub mod cluster;
pub mod enrol;
pub mod link;
pub mod logic;
mod tls;
