//! What must hold at the end, when nothing went wrong for long.

use protocol::ids::Digest;

use super::{Placed, QUIET, World};
use crate::{charter::TENANT, happening::Violation};
use fleet_broker::resources::AssignmentState;

impl World<'_> {
    /// All is well: each cluster runs what was placed last, people see that, and nothing is applied any more.
    pub(super) fn check_end(&self) -> Result<(), Box<Violation>> {
        let placed: Vec<&Placed> = self.placed.iter().flatten().collect();
        let released = |placed: &&Placed| &self.charter.releases[placed.release];
        let digests: Vec<&Digest> = placed.iter().map(|placed| &released(placed).digest).collect();
        for (number, site) in self.sites.iter().take(self.clones.clusters()).enumerate() {
            let within = format!("{:?} after the last fault", self.plan.scenario.settles_within.0);
            if let Some(problem) = self.ledger.lacks(site, &digests) {
                return Err(self.violation(format!("{problem}, {within}"), Some(number)));
            }
            // One that forgot what is its own deletes nothing.
            let left = self
                .ledger
                .leaves(site, &digests)
                .filter(|_| !self.forgot[number] && !self.watches[number].is_restored());
            if let Some(problem) = left {
                return Err(self.violation(format!("{problem}, {within}"), Some(number)));
            }
            for placed in &placed {
                let published = released(placed);
                let seen = self.hub.seen(&published.app, &site.id);
                let is_seen = seen.is_some_and(|seen| {
                    seen.bundle == published.bundle && seen.state == AssignmentState::Updated
                });
                if !is_seen {
                    let what = format!("people see {seen:?} of {} on {}, {within}", published.app, site.id);
                    return Err(self.violation(what, Some(number)));
                }
            }
        }
        if self.applied_late > 0 {
            let what = format!(
                "{} objects in namespace {TENANT} or beside are applied in the last {QUIET:?}, though nothing changed",
                self.applied_late
            );
            return Err(self.violation(what, None));
        }
        Ok(())
    }
}
