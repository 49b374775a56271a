//! What travels between Edgefleet's hub and its agents: documents, their signed envelope, the order in
//! which they are believed, topics and limits. No I/O, no clock, no chance: all of it is a function of
//! its arguments, so hub, agent and simulator share it unchanged.

pub mod carry;
pub mod ceilings;
pub mod codec;
pub mod cose;
pub mod documents;
pub mod enrol;
pub mod freshness;
pub mod ids;
pub mod kept;
pub mod keys;
pub mod limits;
pub mod order;
pub mod planted;
pub mod render;
pub mod renew;
pub mod time;
pub mod together;
pub mod topics;
pub mod verify;
