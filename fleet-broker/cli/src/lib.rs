//! The command line's own work, apart from reading arguments: keys, manifests, bundles.

pub mod bundle;
pub mod clock;
pub mod commands;
pub mod diff;
pub mod doctor;
pub mod hub;
pub mod kinds;
pub mod manifest;
pub mod output;
pub mod pack;
pub mod quickstart;
pub mod release;
pub mod source;
pub mod yaml;

pub use fleet_broker::keys;
