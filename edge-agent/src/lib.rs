//! The agent: one small process that keeps one cluster in its signed desired state, with or without a link.
//!
//! [`logic`] decides and is pure; everything else runs what it decided. [`driver`] is the loop between them.

pub mod boundary;
pub mod carry;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
pub mod driver;
pub mod enrol;
pub mod execute;
mod files;
pub mod join;
pub mod journal;
pub mod link;
pub mod logic;
pub mod pack;
mod renew;
mod run;
pub mod status;
#[cfg(test)]
#[cfg(feature = "sim")]
mod testing;
mod tls;
pub mod uplink;
pub mod watches;

pub use run::{RunError, VERSION, run, run_apart, run_seen};
