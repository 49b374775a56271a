//! Disks that somebody copied: two machines say that they are the same cluster. The hub listens to who connected last.

use std::sync::Arc;

use edge_agent::cluster::sim::Settings;

use super::{Link, Machine, What, World};
use crate::site::Site;

/// Which machines are copies of which.
pub(super) struct Clones {
    settings: Arc<Settings>,
    /// For each cluster, which site is connected in its name.
    speakers: Vec<usize>,
    /// For each cluster, whose copy runs.
    running: Vec<Option<usize>>,
    /// Which cluster each further site is a copy of.
    copies: Vec<usize>,
}

impl Clones {
    pub(super) fn new(clusters: usize, settings: Arc<Settings>) -> Self {
        let speakers = (0..clusters).collect();
        Self { settings, speakers, running: vec![None; clusters], copies: Vec::new() }
    }

    /// Clusters; sites from this number on are copies.
    pub(super) fn clusters(&self) -> usize {
        self.speakers.len()
    }

    pub(super) fn is_clone(&self, site: usize) -> bool {
        site >= self.clusters()
    }

    /// The cluster that a site says it is.
    fn cluster(&self, site: usize) -> usize {
        site.checked_sub(self.clusters()).map_or(site, |copy| self.copies[copy])
    }

    /// The site that is connected in a cluster's name, or was last.
    pub(super) fn speaker(&self, cluster: usize) -> usize {
        self.speakers[cluster]
    }

    /// Whether two machines run as this cluster.
    pub(super) fn is_cloned(&self, cluster: usize) -> bool {
        self.running[cluster].is_some()
    }

    /// Whether a copy was switched off for good.
    pub(super) fn has_ended(&self, site: usize) -> bool {
        self.is_clone(site) && self.running[self.cluster(site)] != Some(site)
    }
}

impl World<'_> {
    /// Somebody copies a cluster's disk into another machine.
    pub(super) fn clone_disk(&mut self, site: usize) {
        if self.clones.is_cloned(site) || self.sites[site].agent.is_none() {
            return;
        }
        self.report.fault("disks cloned");
        let (image, held) = (self.sites[site].disk.image(), self.ledger.held(site));
        let copy = self.sites.len();
        let settings = Arc::clone(&self.clones.settings);
        let other = Site::new(site, &self.charter, settings, self.chance.split());
        other.disk.put_back(image);
        self.sites.push(other);
        self.links.push(Link::default());
        self.images.push(None);
        self.clusters.push(None);
        self.edited.push(None);
        self.forgot.push(false);
        self.stuck.push(false);
        self.ledger.add_site(held);
        // What the hub says to one of them it says to both.
        let mut watch = self.watches[site].clone();
        watch.has_another_disk();
        self.watches.push(watch);
        self.watches[site].has_another_disk();
        self.clones.copies.push(site);
        self.clones.running[site] = Some(copy);
        self.queue.push(self.now, What::Boot { site: copy });
        let longest = self.faults.cloned_for.map(|longest| longest.0);
        self.fault_for(longest, What::Machine { site: copy, what: Machine::CloneEnds });
    }

    /// The copy is found, and switched off.
    pub(super) fn end_clone(&mut self, copy: usize) {
        if self.clones.has_ended(copy) {
            return;
        }
        let cluster = self.clones.cluster(copy);
        self.clones.running[cluster] = None;
        self.edited[cluster] = Some(self.now);
        self.unnoticed(copy);
        self.sites[copy].crash(self.now);
    }

    /// Who connects in the name of a cluster takes the connection over from who had it.
    pub(super) fn take_over(&mut self, site: usize) -> Result<(), String> {
        let cluster = self.clones.cluster(site);
        let before = std::mem::replace(&mut self.clones.speakers[cluster], site);
        if before != site && self.links[before].hub_side.take().is_some() {
            self.hub.disconnect(&self.sites[site].id);
            self.lose_connection(before)?;
        }
        Ok(())
    }
}
