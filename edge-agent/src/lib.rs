//! The agent: one small process that keeps one cluster in its signed desired state.

pub mod enrol;
pub mod link;
mod tls;
