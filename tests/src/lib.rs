//! Promises kept on real parts: the harness and, in its tests, the promises.
//!
//! A test asks this crate for the parts it needs: the cluster ([`kubectl`], [`Namespace`]), the programs
//! under test ([`Process`]), a network that fails ([`CutProxy`]), what other projects publish
//! ([`module_dir`]). It then waits for what it was promised with [`wait_for`]. `tests/run` provides the
//! cluster; a part that is missing is an error that says how to get it.

mod cluster;
pub mod figures;
mod hub;
mod network;
mod process;
mod real_input;
mod seed;
mod setting;
pub mod spoke;
mod wait;

pub use cluster::{Kubectl, Namespace, client_of_others, kubeconfig, kubectl, tool};
pub use hub::{FLEET_TENANT, HubFolder};
pub use network::{CutProxy, free_port};
pub use process::{Process, program};
pub use real_input::{module_dir, older_module_dir};
pub use seed::seed;
pub use wait::wait_for;
