//! Attacks, each by its name, and what the pure protocol says to them.

#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod bombs;
mod bytes;
mod carry;
mod enrolment;
mod order;
mod parameters;
mod releases;
mod renewal;
mod roots;
mod signatures;
mod time;
mod together;
mod topics;
