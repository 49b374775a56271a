//! Hub and agent over real MQTT on real TLS sockets: what is delivered, what is refused, what comes back.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test expects one event and fails on every other")]

mod access;
mod delivery;
mod enrolment;
mod harness;
mod hostile;
