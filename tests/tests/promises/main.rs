//! What Edgefleet promises to an operator, kept on real parts: a hub, an agent in a process of its own, the MQTT link
//! between them through a proxy that can be cut, and a Kubernetes API server that it reaches through another.

mod agent_killed;
mod arrives;
mod bad_input;
mod broken;
mod harness;
mod hub_restart;
mod offline;
mod prune;
