//! What others do to the clusters themselves: a namespace that does not go, an API server that is restored.

use std::time::Duration;

use edge_agent::cluster::sim::Action;
use serde_json::json;

use super::{Machine, What, World};
use crate::site::namespace;

/// What keeps a namespace from going: something whose controller is away.
const FINALIZER: &str = "example.com/away";

/// How long people take to make a namespace anew, at most.
const MADE_ANEW: Duration = Duration::from_secs(600);

impl World<'_> {
    pub(super) fn namespace_stuck(&mut self, site: usize) -> Result<(), String> {
        if std::mem::replace(&mut self.stuck[site], true) {
            return Ok(());
        }
        self.report.fault("namespaces stuck");
        let longest = self.faults.namespace_stuck_for.map(|longest| longest.0);
        self.fault_for(longest, What::Machine { site, what: Machine::NamespaceFreed });
        self.by_hand(site, Action::Merge(json!({"metadata": {"finalizers": [FINALIZER]}})))?;
        self.by_hand(site, Action::Delete)
    }

    pub(super) fn namespace_freed(&mut self, site: usize) -> Result<(), String> {
        if !self.stuck[site] {
            return Ok(());
        }
        self.fault_for(Some(MADE_ANEW), What::Machine { site, what: Machine::NamespaceMade });
        self.by_hand(site, Action::Merge(json!({"metadata": {"finalizers": null}})))
    }

    pub(super) fn namespace_made(&mut self, site: usize) -> Result<(), String> {
        self.stuck[site] = false;
        self.by_hand(site, Action::Merge(json!({})))
    }

    /// The API server is as it was some time ago; what it is now comes back the next time.
    pub(super) fn cluster_restored(&mut self, site: usize) -> Result<(), String> {
        let now = self.sites[site].cluster_image();
        let Some(earlier) = self.clusters[site].replace(now) else { return Ok(()) };
        self.report.fault("API servers restored");
        self.edited[site] = Some(self.now);
        self.watches[site].suffers(self.now);
        let caused = self.sites[site].restore_cluster(&earlier);
        self.follow(site, caused)
    }

    /// Somebody does something to the tenant's namespace.
    fn by_hand(&mut self, site: usize, action: Action) -> Result<(), String> {
        self.edited[site] = Some(self.now);
        self.watches[site].suffers(self.now);
        let caused = self.sites[site].edit(self.now, namespace(), action);
        self.follow(site, caused)
    }
}
