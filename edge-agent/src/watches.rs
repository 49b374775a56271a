//! The watches that are open: one for each kind that the agent names.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use futures::{StreamExt, stream::LocalBoxStream};
use protocol::planted::Bug;

use crate::{
    cluster::{Cluster, ObjectMeta, Remedy, WatchEvent},
    logic::{
        event::{Observation, Seen},
        object::Gvk,
        report::chain,
    },
};

/// Open watches. Dropping one ends it.
pub(crate) struct Watches {
    /// Every object of an application carries this label.
    label_selector: &'static str,
    /// Decides when watches are tried again.
    seed: u64,
    open: Vec<(Gvk, LocalBoxStream<'static, WatchEvent>)>,
    /// The watch that is asked first: none waits behind a busy one for ever.
    first: usize,
}

impl Watches {
    pub(crate) fn new(label_selector: &'static str, seed: u64) -> Self {
        Self { label_selector, seed, open: Vec::new(), first: 0 }
    }

    /// Watches `kinds` and no others. What is watched already goes on.
    pub(crate) fn observe(&mut self, cluster: &impl Cluster, kinds: Vec<Gvk>) {
        self.open.retain(|(kind, _)| kinds.contains(kind));
        for kind in kinds {
            if !self.open.iter().any(|(open, _)| *open == kind) {
                let stream = cluster.watch(kind.clone(), self.label_selector.to_owned(), self.seed);
                self.open.push((kind, stream));
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }

    /// The next event of any watch; waits for ever while none is open.
    pub(crate) async fn next(&mut self) -> (Gvk, WatchEvent) {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<(Gvk, WatchEvent)> {
        let count = self.open.len();
        for turn in 0..count {
            let index = (self.first + turn) % count;
            let (kind, stream) = &mut self.open[index];
            if let Poll::Ready(Some(event)) = stream.poll_next_unpin(context) {
                self.first = index + 1;
                return Poll::Ready((kind.clone(), event));
            }
        }
        Poll::Pending
    }
}

/// What the agent is told of an event. An interruption mends itself; whether the API server is there at all has to be
/// known.
pub fn observation(kind: Gvk, event: WatchEvent) -> Option<Observation> {
    match event {
        WatchEvent::Listing => Some(Observation::Listing(kind)),
        WatchEvent::Synced => Some(Observation::Synced(kind)),
        WatchEvent::Changed(meta) => Some(Observation::Changed(seen(meta))),
        WatchEvent::Gone(meta) => Some(Observation::Gone(seen(meta))),
        WatchEvent::Lost(error) if error.is_outage() && !Bug::InterruptionUntold.is_planted() => {
            tracing::debug!(%kind, %error, "a watch was interrupted");
            Some(Observation::Interrupted)
        }
        // What is not seen meanwhile is neither healed nor told, so that somebody has to know.
        WatchEvent::Lost(error) if error.remedy() == Remedy::Operator => {
            tracing::warn!(%kind, %error, "a watch was interrupted and does not come back by itself");
            Some(Observation::Blind(kind, chain(&error)))
        }
        WatchEvent::Lost(error) => {
            tracing::debug!(%kind, %error, "a watch was interrupted");
            None
        }
    }
}

fn seen(meta: ObjectMeta) -> Seen {
    Seen { object: meta.object, uid: meta.uid, resource_version: meta.resource_version }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterError;

    #[test]
    fn what_mends_itself_is_not_told_and_the_rest_is() {
        let kind = || Gvk::new("v1", "ConfigMap");
        let message = || "the API server's words".to_owned();
        let forbidden = ClusterError::Forbidden { message: message() };
        let told = Observation::Blind(kind(), chain(&forbidden));
        for (error, expected) in [
            (forbidden, Some(told)),
            (ClusterError::Unauthorized { message: message() }, Some(Observation::Interrupted)),
            (ClusterError::Unexpected { message: message() }, Some(Observation::Interrupted)),
            (ClusterError::Expired { message: message() }, None),
            (ClusterError::UnknownKind { gvk: kind() }, None),
        ] {
            let what = error.to_string();
            assert_eq!(observation(kind(), WatchEvent::Lost(error)), expected, "{what}");
        }
    }
}
