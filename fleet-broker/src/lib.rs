//! The hub: decides what each cluster runs, and shows an operator the whole fleet.

pub mod api;
pub mod backup;
mod boundary;
mod clock;
pub mod controller;
mod enrolment;
pub mod hub;
pub mod keys;
pub mod kubeconfig;
pub mod logic;
pub mod pki;
pub mod presented;
mod random;
mod renewal;
pub mod resources;
pub mod serve;
pub mod store;
pub mod transport;
