//! What others do to the clusters themselves: a namespace that does not go, an API server that is restored.

use std::time::Duration;

use edge_agent::cluster::sim::Action;
use serde_json::json;

use super::{Machine, What, World};
use crate::{scenario::Time, site::namespace};

/// What keeps a namespace from going: something whose controller is away.
const FINALIZER: &str = "example.com/away";

/// How long people take to make a namespace anew, at most.
const MADE_ANEW: Duration = Duration::from_secs(600);

impl World<'_> {
    pub(super) fn cluster_suffers(&mut self, site: usize, what: Machine) -> Result<(), String> {
        let again = |every: Option<Time>| every.map(|every| every.0);
        let later = |what| What::Machine { site, what };
        match what {
            Machine::NamespaceStuck => {
                let Some(every) = again(self.faults.namespace_stuck_every) else { return Ok(()) };
                self.fault_later(Some(every), later(what));
                if std::mem::replace(&mut self.stuck[site], true) {
                    return Ok(());
                }
                self.report.fault("namespaces stuck");
                let longest = again(self.faults.namespace_stuck_for);
                self.fault_for(longest, later(Machine::NamespaceFreed));
                self.by_hand(site, Action::Merge(json!({"metadata": {"finalizers": [FINALIZER]}})))?;
                self.by_hand(site, Action::Delete)
            }
            Machine::NamespaceFreed => {
                if !self.stuck[site] {
                    return Ok(());
                }
                self.fault_for(Some(MADE_ANEW), later(Machine::NamespaceMade));
                self.by_hand(site, Action::Merge(json!({"metadata": {"finalizers": null}})))
            }
            Machine::NamespaceMade => {
                self.stuck[site] = false;
                self.by_hand(site, Action::Merge(json!({})))
            }
            Machine::ClusterRestored => {
                let Some(every) = again(self.faults.cluster_restored_every) else { return Ok(()) };
                self.fault_later(Some(every), later(what));
                let now = self.sites[site].cluster_image();
                let Some(earlier) = self.clusters[site].replace(now) else { return Ok(()) };
                self.report.fault("API servers restored");
                self.edited[site] = Some(self.now);
                self.watches[site].suffers(self.now);
                let caused = self.sites[site].restore_cluster(&earlier);
                self.follow(site, caused)
            }
            Machine::DiskFills
            | Machine::DiskHasRoom
            | Machine::Cloned
            | Machine::CloneEnds
            | Machine::FlushFails
            | Machine::OldDisk
            | Machine::JournalLost
            | Machine::ClockWrong
            | Machine::ClockRight
            | Machine::PowerSaved
            | Machine::WindowOpens
            | Machine::WindowCloses
            | Machine::PeopleLook
            | Machine::LinkSlow
            | Machine::LinkFast => Ok(()),
        }
    }

    /// Somebody does something to the tenant's namespace.
    fn by_hand(&mut self, site: usize, action: Action) -> Result<(), String> {
        self.edited[site] = Some(self.now);
        self.watches[site].suffers(self.now);
        let caused = self.sites[site].edit(self.now, namespace(), action);
        self.follow(site, caused)
    }
}
