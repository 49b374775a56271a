//! What the agent decides, as pure functions: no I/O, no clock, no chance, no waiting.
//! [`agent::Agent::handle`] takes one event and returns the effects that the shell carries out.

pub mod agent;
pub mod app;
pub mod backoff;
pub mod carry;
pub mod entry;
pub mod event;
pub mod health;
mod instant;
mod news;
pub mod object;
pub mod owned;
pub mod plan;
pub mod preview;
pub mod renewal;
pub mod report;
mod restore;
mod settle;
mod steps;
pub mod transfer;

pub use restore::RestoreError;
