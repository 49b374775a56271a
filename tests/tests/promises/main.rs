//! What Edgefleet promises to an operator, kept on real parts: a hub, an agent in a process of its own, the MQTT link
//! between them through a proxy that can be cut, and a Kubernetes API server that it reaches through another.

mod agent_killed;
mod agent_killed_everywhere;
mod api_away;
mod arrives;
mod bad_input;
mod broken;
mod carried;
mod diagnosed;
mod disk_full;
mod fleet_keys;
mod forged;
mod frozen;
mod harness;
mod hub_killed;
mod hub_killed_everywhere;
mod journal_damaged;
mod manifests;
mod observed;
mod offline;
mod prune;
mod quiet;
mod relay;
mod released;
mod renewed;
mod restored;
mod resumed;
mod revoked;
mod same_truth;
mod scaled;
mod tenants;
mod told;
mod truncated;
mod unwatched;
