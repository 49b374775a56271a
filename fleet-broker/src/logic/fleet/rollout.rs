//! How far a change may go now. Waves will live in [`advance`]; for now it promotes to every match at once.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{documents::DesiredRelease, ids::ClusterId};

/// Share of the fleet, in percent, that one change may take an application from without an approval.
pub const REMOVALS_PERCENT: usize = 1;

/// What a change of an application means for clusters.
#[derive(Debug, Default)]
pub struct Change {
    /// Clusters that shall run something else, and what.
    pub install: BTreeMap<ClusterId, DesiredRelease>,
    /// Clusters that shall no longer run it.
    pub remove: BTreeSet<ClusterId>,
}

/// What a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Clusters in the fleet.
    pub fleet: usize,
    /// Clusters the application is placed on now.
    pub placed: usize,
    /// Clusters that were told to run it so far.
    pub told: usize,
    /// Clusters that run what they were told, and are healthy.
    pub available: usize,
    /// Clusters on which it failed or was refused.
    pub failed: usize,
    /// Clusters that are away and have not got it yet.
    pub offline: usize,
    /// Whether an operator approved this generation, with a reason.
    pub approved: bool,
}

/// What happens next, and why. The reason is shown to people unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing, until something changes.
    Hold {
        /// What it waits for, and what would unblock it.
        reason: String,
    },
    /// The change goes to these clusters.
    Promote {
        /// Where to.
        clusters: BTreeSet<ClusterId>,
        /// Why now.
        reason: String,
    },
    /// Every cluster has it and is healthy.
    Complete {
        /// In numbers.
        reason: String,
    },
}

/// Decides how far `change` may go.
pub fn advance(change: &Change, view: View) -> Decision {
    if let Some(reason) = needs_approval(change, view).filter(|_| !view.approved) {
        return Decision::Hold { reason };
    }
    let clusters: BTreeSet<ClusterId> = change.install.keys().chain(&change.remove).cloned().collect();
    if !clusters.is_empty() {
        let reason = format!("{} clusters change at once", clusters.len());
        return Decision::Promote { clusters, reason };
    }
    let View { placed, available, failed, offline, .. } = view;
    match () {
        () if failed > 0 => Decision::Hold { reason: format!("{failed} of {placed} clusters failed") },
        () if available == placed => {
            Decision::Complete { reason: format!("{placed} of {placed} clusters are available") }
        }
        () => {
            let away = if offline > 0 { format!(", {offline} are offline") } else { String::new() };
            Decision::Hold { reason: format!("{available} of {placed} clusters are available{away}") }
        }
    }
}

/// Why a change must be approved by an operator; none if it need not.
fn needs_approval(change: &Change, view: View) -> Option<String> {
    let how = "approve it by annotating the Application with edgefleet.dev/approve=\"GENERATION: reason\"";
    let removed = change.remove.len();
    if view.placed == 0 && view.told > 0 {
        return Some(format!("the selector matches no cluster any more, {} run it: {how}", view.told));
    }
    if removed * 100 > view.fleet * REMOVALS_PERCENT || (removed > 0 && removed == view.told) {
        return Some(format!("it would be removed from {removed} of {} clusters: {how}", view.fleet));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_beyond_their_share_and_empty_selectors_wait() {
        let view = View {
            fleet: 1000,
            placed: 500,
            told: 510,
            available: 500,
            failed: 0,
            offline: 0,
            approved: false,
        };
        let cases = [
            // removed, view, held
            (10, view, false),
            (11, view, true),
            (11, View { approved: true, ..view }, false),
            (1, View { fleet: 2, placed: 1, told: 2, ..view }, true),
            (5, View { placed: 5, told: 5, ..view }, true),
            (0, View { placed: 0, ..view }, true),
            (0, View { placed: 0, told: 0, available: 0, ..view }, false),
        ];
        for (removed, view, held) in cases {
            let remove = (0..removed).map(|n| ClusterId::new(format!("tower-{n}")).unwrap()).collect();
            let change = Change { install: BTreeMap::new(), remove };
            let decision = advance(&change, view);
            assert_eq!(
                matches!(decision, Decision::Hold { .. }),
                held,
                "{removed} of {view:?}: {decision:?}"
            );
        }
    }
}
