//! How an application stands over all clusters, kept from one look to the next: only what clusters changed since is counted
//! again. A fleet of ten thousand reports a few times a second, and each report would count all of them.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{
    ids::{AppId, ClusterId},
    planted::Bug,
};

use super::{Application, Cluster, Fleet, decide::Step, placement::Placement};
use crate::resources::{ApplicationClusters, AssignmentState};

/// The counts of one application.
#[derive(Debug)]
pub(super) struct Tally {
    /// Where it goes with its release, or why nobody is told.
    pub(super) placement: Result<Placement, String>,
    /// Up to which change of clusters it counts.
    counted: u64,
    /// What each cluster adds.
    parts: BTreeMap<ClusterId, Part>,
    /// Clusters that are registered, whatever they run.
    pub(super) fleet: u64,
    /// Clusters it is placed on.
    pub(super) placed: u64,
    /// Clusters whose agents did not say that they know what they would be told.
    pub(super) unread: u64,
    /// Clusters that hold it otherwise than a restored hub's records say.
    pub(super) found: u64,
    /// Of accepted clusters that were told to run it.
    pub(super) counts: ApplicationClusters,
    /// Clusters that shall run something else.
    pub(super) install: BTreeSet<ClusterId>,
    /// Clusters that shall no longer run it.
    pub(super) remove: BTreeSet<ClusterId>,
    /// Clusters that would be among these, were they not frozen.
    pub(super) frozen: BTreeSet<ClusterId>,
}

/// What one cluster adds to the counts of one application.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Part {
    registered: bool,
    placed: bool,
    found: bool,
    offline: bool,
    updated: bool,
    /// How it is there, if it was told to run there.
    state: Option<AssignmentState>,
    next: Next,
}

/// What follows there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Nothing,
    Unread,
    Frozen,
    Install,
    Remove,
}

impl Fleet {
    /// The counts of an application with all that changed up to now; none if there is no such application.
    pub(super) fn tally(&mut self, id: &AppId) -> Option<&Tally> {
        let application = self.applications.get(id)?;
        let mut tally = self.tallies.remove(id).unwrap_or_else(|| Tally::new(self.place(id, application)));
        let (last, changed) = self.clusters.changed_after(tally.counted);
        tally.counted = last;
        for (cluster, state) in changed {
            let part = self.part(id, application, &tally, state);
            tally.count(cluster, part);
        }
        Some(self.tallies.entry(id.clone()).or_insert(tally))
    }

    fn place(&self, id: &AppId, application: &Application) -> Result<Placement, String> {
        Placement::new(id, application, self.release_for(id, application)?)
    }

    fn part(&self, id: &AppId, application: &Application, tally: &Tally, cluster: &Cluster) -> Part {
        let mut part = Part {
            registered: cluster.registered,
            found: cluster.found().any(|found| found == id),
            ..Part::default()
        };
        if !cluster.accepted {
            return part;
        }
        if let Some(release) = cluster.told(id) {
            let known = self.known_of(cluster);
            (part.state, part.updated) = (Some(known.state(release)), known.runs(release));
            part.offline = !cluster.connected;
        }
        if let Ok(placement) = &tally.placement {
            let wanted = placement.on(&cluster.labels);
            part.placed = wanted.is_some();
            part.next = match self.step(id, application, wanted, cluster) {
                Step::None => Next::Nothing,
                Step::Unread => Next::Unread,
                Step::Frozen => Next::Frozen,
                Step::Install(_) => Next::Install,
                Step::Remove => Next::Remove,
            };
        }
        part
    }
}

impl Tally {
    fn new(placement: Result<Placement, String>) -> Self {
        Self {
            placement,
            counted: 0,
            parts: BTreeMap::new(),
            fleet: 0,
            placed: 0,
            unread: 0,
            found: 0,
            counts: ApplicationClusters::default(),
            install: BTreeSet::new(),
            remove: BTreeSet::new(),
            frozen: BTreeSet::new(),
        }
    }

    /// Counts a cluster as it is now.
    fn count(&mut self, id: &ClusterId, part: Part) {
        let before = match self.parts.get_mut(id) {
            Some(before) => std::mem::replace(before, part),
            None => {
                self.parts.insert(id.clone(), part);
                Part::default()
            }
        };
        if before == part {
            return;
        }
        let is = |wanted: fn(&Part) -> bool| [wanted(&before), wanted(&part)].map(u64::from);
        let sum = |count: &mut u64, [before, now]: [u64; 2]| *count = *count + now - before;
        sum(&mut self.fleet, is(|part| part.registered));
        sum(&mut self.placed, is(|part| part.placed));
        sum(&mut self.unread, is(|part| part.next == Next::Unread));
        sum(&mut self.found, is(|part| part.found));
        let counts = &mut self.counts;
        sum(&mut counts.desired, is(|part| part.state.is_some()));
        sum(&mut counts.updated, is(|part| part.updated));
        sum(&mut counts.available, is(|part| part.state == Some(AssignmentState::Updated)));
        if Bug::CountedTwice.is_planted() {
            sum(&mut counts.available, is(|part| part.updated));
        }
        sum(&mut counts.failed, is(Part::has_failed));
        sum(&mut counts.observed, is(|part| part.state == Some(AssignmentState::Observed)));
        sum(&mut counts.offline, is(|part| part.offline));
        for (clusters, next) in [
            (&mut self.install, Next::Install),
            (&mut self.remove, Next::Remove),
            (&mut self.frozen, Next::Frozen),
        ] {
            match (before.next == next, part.next == next) {
                (true, false) => drop(clusters.remove(id)),
                (false, true) => drop(clusters.insert(id.clone())),
                (true, true) | (false, false) => {}
            }
        }
    }
}

impl Part {
    fn has_failed(&self) -> bool {
        matches!(self.state, Some(AssignmentState::Failed | AssignmentState::Rejected))
    }
}

/// Clusters up to which tests count anew after each event.
#[cfg(test)]
const COUNTED_ANEW: usize = 16;

#[cfg(test)]
impl Fleet {
    /// Whatever happened, what is kept is what all clusters add up to. Of large fleets that takes too long.
    pub(super) fn count_anew(&mut self) {
        if self.clusters.len() > COUNTED_ANEW {
            return;
        }
        let ids: Vec<AppId> = self.applications.keys().cloned().collect();
        for id in ids {
            let kept = self.tally(&id).map(Tally::figures);
            self.tallies.remove(&id);
            assert_eq!(kept, self.tally(&id).map(Tally::figures), "of {id}");
        }
    }
}

#[cfg(test)]
impl Tally {
    fn figures(&self) -> String {
        let Self { fleet, placed, unread, found, counts, install, remove, frozen, .. } = self;
        format!("{fleet} {placed} {unread} {found} {counts:?} {install:?} {remove:?} {frozen:?}")
    }
}
