//! How far a change may go now. Waves will live in [`advance`]; for now it promotes to every match at once.

use std::collections::BTreeSet;

use protocol::ids::ClusterId;

use crate::resources::PreviewCounts;

/// Share of the fleet, in percent, that one generation of an application may be taken from without an approval,
/// however many changes of labels that takes.
pub const REMOVALS_PERCENT: u64 = 1;

/// What a change of an application means for clusters.
#[derive(Debug, Default)]
pub struct Change {
    /// Clusters it is placed on now, changed or not.
    pub placed: u64,
    /// How many clusters shall run something else.
    pub install: u64,
    /// Clusters that shall no longer run it.
    pub remove: BTreeSet<ClusterId>,
    /// Clusters whose agents did not say that they know what they would be told.
    pub unread: u64,
    /// Clusters that would be among these, were they not frozen.
    pub frozen: Option<Frozen>,
}

/// Clusters on which a change may not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    /// How many.
    pub clusters: u64,
    /// The freeze that the first of them is under.
    pub name: String,
    /// Its reason.
    pub reason: String,
}

/// What a decision depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct View {
    /// Clusters in the fleet.
    pub fleet: u64,
    /// Clusters the application is placed on now.
    pub placed: u64,
    /// Clusters that were told to run it so far, whether or not it is still placed there.
    pub told: u64,
    /// Clusters that run what they were told, and are healthy.
    pub available: u64,
    /// Clusters that look at it, as they were told, and do not run it.
    pub observed: u64,
    /// What these say that applying it would do.
    pub preview: Option<PreviewCounts>,
    /// Clusters on which it failed or was refused.
    pub failed: u64,
    /// Clusters that cannot be reached now.
    pub offline: u64,
    /// Clusters it was taken from since this generation began, or since an approval.
    pub removed_before: u64,
    /// Whether an operator approved this generation, with a reason that was not used up yet.
    pub approved: bool,
}

/// What happens next, and why. The reason is shown to people unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing, until something changes.
    Hold {
        /// What it waits for, and what would unblock it.
        reason: String,
        /// The same, in one word.
        waits: Waits,
    },
    /// The change goes to its clusters.
    Promote {
        /// Why now.
        reason: String,
        /// Whether it took an approval, which is used up by it.
        approved: bool,
    },
    /// Every cluster has it and is healthy.
    Complete {
        /// In numbers.
        reason: String,
    },
}

/// What an application waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Clusters, which are on their way.
    Clusters,
    /// An operator's approval.
    Approval,
    /// The end of a freeze.
    Freeze,
    /// Clusters that failed.
    Failed,
    /// A bundle that can be told, or a document that has room.
    Blocked,
    /// An operator who accepts what a hub in another life learned.
    Recovery,
}

/// Decides how far `change` may go.
pub fn advance(change: &Change, view: View) -> Decision {
    let needed = needs_approval(change, view);
    let approved = needed.is_some();
    if let Some(reason) = needed.filter(|_| !view.approved) {
        return Decision::Hold { reason, waits: Waits::Approval };
    }
    let clusters = change.install + change.remove.len() as u64;
    if clusters > 0 {
        let reason = format!("{} at once", many(clusters, "cluster changes", "clusters change"));
        return Decision::Promote { reason, approved };
    }
    if let Some(Frozen { clusters, name, reason }) = &change.frozen {
        let what = many(*clusters, "cluster waits", "clusters wait");
        let reason = format!("{what}, frozen by {name} ({reason}): lift it with edgefleet unfreeze {name}");
        return Decision::Hold { reason, waits: Waits::Freeze };
    }
    if change.unread > 0 {
        let what = many(change.unread, "cluster waits", "clusters wait");
        let why = "for an agent that knows more modes than Enforce: connect those that are away, upgrade the others";
        return Decision::Hold { reason: format!("{what} {why}"), waits: Waits::Clusters };
    }
    let View { told, available, observed, preview, failed, offline, .. } = view;
    match () {
        () if failed > 0 => {
            Decision::Hold { reason: format!("{failed} of {told} clusters failed"), waits: Waits::Failed }
        }
        () if available == told => {
            Decision::Complete { reason: format!("{told} of {told} clusters are available") }
        }
        () if observed > 0 && available + observed == told => {
            let preview = preview.map(|preview| format!(": {preview}")).unwrap_or_default();
            Decision::Complete { reason: format!("{observed} of {told} clusters look at it{preview}") }
        }
        () => {
            let away = match offline {
                0 => String::new(),
                _ => format!(", {}", many(offline, "is offline", "are offline")),
            };
            let reason = format!("{available} of {told} clusters are available{away}");
            Decision::Hold { reason, waits: Waits::Clusters }
        }
    }
}

/// Why a change must be approved by an operator; none if it need not.
pub fn needs_approval(change: &Change, view: View) -> Option<String> {
    let how = "approve it by annotating the Application with edgefleet.dev/approve=\"GENERATION: reason\"";
    let View { fleet, placed, told, removed_before, .. } = view;
    let removed = u64::try_from(change.remove.len()).unwrap_or(u64::MAX);
    if placed == 0 && told > 0 {
        let run = many(told, "runs it", "run it");
        return Some(format!("the selector matches no cluster any more, {run}: {how}"));
    }
    let beyond = (removed + removed_before) * 100 > fleet * REMOVALS_PERCENT || removed == told;
    (removed > 0 && beyond).then(|| {
        let before = match removed_before {
            0 => String::new(),
            before => format!(", and was from {before} without an approval"),
        };
        format!("it would be removed from {removed} of {fleet} clusters{before}: {how}")
    })
}

/// A number with what it counts.
pub fn many(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_beyond_their_share_and_empty_selectors_wait() {
        let view = View { fleet: 1000, placed: 500, told: 510, available: 500, ..View::default() };
        let cases = [
            // removed, view, held
            (10, view, false),
            (11, view, true),
            (11, View { approved: true, ..view }, false),
            (4, View { removed_before: 6, ..view }, false),
            (4, View { removed_before: 7, ..view }, true),
            (0, View { removed_before: 900, ..view }, false),
            (1, View { fleet: 2, placed: 1, told: 2, ..view }, true),
            (5, View { placed: 5, told: 5, ..view }, true),
            (0, View { placed: 0, ..view }, true),
            (0, View { placed: 0, told: 0, available: 0, ..view }, false),
        ];
        for (removed, view, held) in cases {
            let remove = (0..removed).map(|n| ClusterId::new(format!("tower-{n}")).unwrap()).collect();
            let change = Change { placed: view.placed, remove, ..Change::default() };
            let decision = advance(&change, view);
            let waits = matches!(&decision, Decision::Hold { reason, .. } if reason.contains("approve it"));
            assert_eq!(waits, held, "{removed} of {view:?}: {decision:?}");
        }
    }
}
