//! Puts statuses and events into the registry.

use super::{ACTOR, Controller};
use crate::{
    clock,
    logic::{
        fleet::{Effect, assignment_key},
        occurrence::Occurrence,
        registry::{Failure, ObjectKey, Projection, Transaction},
    },
    resources::Kind,
};

/// Old events that are removed at once: a fleet's are as old as its rollout, and nobody waits for their end.
const EXPIRED_AT_ONCE: usize = 256;

impl Controller {
    /// Statuses are what the fleet thinks: losing one to a failing store is mended by the next start.
    pub(super) async fn show(&self, effects: Vec<Effect>, occurred: Vec<Occurrence>) {
        if effects.is_empty() && occurred.is_empty() {
            return;
        }
        let shown = self.hub.write(ACTOR, |transaction| {
            for effect in effects {
                // An object that was just deleted has no status any more.
                if let Err(refusal) = show_one(transaction, effect) {
                    tracing::debug!(refusal = refusal.message, "status not written");
                }
            }
            occurred.iter().for_each(|occurrence| transaction.tell(occurrence));
            Ok(())
        });
        if let Err(failure) = shown.await {
            tracing::error!(failure = failure.message, "statuses not written");
        }
    }

    /// Removes events that are old enough; without any, nothing is written.
    pub(super) async fn expire_events(&self) {
        if !self.hub.read(|registry| registry.has_old_events(clock::now())) {
            return;
        }
        let expired = self.hub.write(ACTOR, |transaction| {
            transaction.expire_events(EXPIRED_AT_ONCE);
            Ok(())
        });
        if let Err(failure) = expired.await {
            tracing::error!(failure = failure.message, "old events not removed");
        }
    }
}

/// Puts one status where people see it; other effects are none.
///
/// # Errors
/// When its object is not there any more.
pub fn show_one(transaction: &mut Transaction<'_>, effect: Effect) -> Result<(), Failure> {
    match effect {
        Effect::ClusterStatus(id, status) => {
            let key = ObjectKey::new(Kind::Cluster, "", id.as_str());
            transaction.update_status(&key, *status).map(drop)
        }
        Effect::ApplicationStatus(id, status) => {
            let key = ObjectKey::new(Kind::Application, id.tenant.as_str(), id.name.as_str());
            transaction.update_status(&key, *status).map(drop)
        }
        Effect::Assignment(app, cluster, Some(shown)) => {
            let (key, (labels, status)) = (assignment_key(&app, &cluster), *shown);
            transaction.project(Projection { key, labels, status }).map(drop)
        }
        Effect::Assignment(app, cluster, None) => {
            transaction.unproject(&assignment_key(&app, &cluster));
            Ok(())
        }
        Effect::Store(_)
        | Effect::Push(..)
        | Effect::SendContent { .. }
        | Effect::Kick(_)
        | Effect::Occurred(_) => Ok(()),
    }
}
