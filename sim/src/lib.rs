//! The simulator: the production's hub core and thousands of its agents in virtual time, from one seed, with every fault
//! of real sites. One thread, one queue of what will happen, one source of chance: the same seed gives the same run.
//!
//! Only effects are the simulator's own: network, disk, Kubernetes, clock, people. What is checked after each event is
//! checked against its own [`ledger`].

pub mod campaign;
pub mod chance;
pub mod charter;
pub mod disk;
pub mod happening;
pub mod html;
pub mod hub;
pub mod ledger;
pub mod live;
pub mod planted;
pub mod plot;
pub mod queue;
pub mod rehearsal;
pub mod report;
pub mod scenario;
pub mod shrink;
pub mod site;
pub mod stored;
pub mod timeline;
pub mod world;
