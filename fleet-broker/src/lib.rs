//! The hub: decides what each cluster runs, and shows an operator the whole fleet.

pub mod pki;
pub mod transport;
