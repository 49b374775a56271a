//! The clusters of a fleet, and which of them changed since somebody last looked: of ten thousand, a handful did.

use std::{collections::BTreeMap, ops::Deref};

use protocol::ids::ClusterId;

use super::Cluster;

/// All clusters, by their names. Whoever changes one leaves a mark, by which [`super::tally::Tally`] counts it again.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// Boxed, or what the tree has in reserve would be as large as they are.
    known: BTreeMap<ClusterId, Box<Cluster>>,
    /// Each cluster once, by its last change.
    changes: BTreeMap<u64, ClusterId>,
    /// The last change of all.
    last: u64,
}

impl Deref for Clusters {
    type Target = BTreeMap<ClusterId, Box<Cluster>>;

    fn deref(&self) -> &Self::Target {
        &self.known
    }
}

impl Clusters {
    /// A cluster that is about to change.
    pub(super) fn get_mut(&mut self, id: &ClusterId) -> Option<&mut Cluster> {
        let cluster = self.known.get_mut(id)?;
        let name = self.changes.remove(&cluster.change);
        self.last += 1;
        cluster.change = self.last;
        self.changes.insert(self.last, name.unwrap_or_else(|| id.clone()));
        Some(cluster)
    }

    /// A cluster that is about to change, known or not.
    pub(super) fn entry(&mut self, id: ClusterId) -> &mut Cluster {
        self.known.entry(id.clone()).or_default();
        self.get_mut(&id).expect("it was just made")
    }

    /// A cluster of which something changes that nobody counts: what was shown of it, and whether it was answered.
    pub(super) fn get_uncounted(&mut self, id: &ClusterId) -> Option<&mut Cluster> {
        self.known.get_mut(id).map(|cluster| &mut **cluster)
    }

    /// The last change, and the clusters that changed after an earlier one, in no order that means anything.
    pub(super) fn changed_after(&self, change: u64) -> (u64, impl Iterator<Item = (&ClusterId, &Cluster)>) {
        let changed = self.changes.range(change + 1..).map(|(_, id)| id);
        (self.last, changed.filter_map(|id| self.known.get_key_value(id)).map(|(id, one)| (id, &**one)))
    }
}
