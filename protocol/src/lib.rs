//! What travels between Edgefleet's hub and its agents: documents, their signed envelope, the order in
//! which they are believed, topics and limits. No I/O, no clock, no chance: all of it is a function of
//! its arguments, so hub, agent and simulator share it unchanged.

pub mod ids;
pub mod limits;
pub mod topics;
