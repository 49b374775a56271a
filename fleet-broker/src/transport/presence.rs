//! Who is connected. Every change and every message passes one lock, so that the hub reads a cluster's
//! events in order: `Connected`, its messages, `Gone`; and nothing of an older connection after its `Gone`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use protocol::{ids::ClusterId, topics::Upward};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Acceptance, ConnectionId, Named, TransportEvent, session::Outbound};

/// The table of connected clusters, and the way to the hub.
pub(super) struct Presence {
    events: mpsc::Sender<TransportEvent>,
    is_accepted: Acceptance,
    connections: AtomicU64,
    connected: Mutex<BTreeMap<ClusterId, Connected>>,
}

/// One connected cluster.
pub(super) struct Connected {
    pub(super) connection: ConnectionId,
    pub(super) outbound: Arc<Outbound>,
    pub(super) stop: watch::Sender<bool>,
}

impl Presence {
    pub(super) fn new(events: mpsc::Sender<TransportEvent>, is_accepted: Acceptance) -> Self {
        Self { events, is_accepted, connections: AtomicU64::new(1), connected: Mutex::default() }
    }

    /// A number no earlier connection of this process had.
    pub(super) fn number(&self) -> ConnectionId {
        ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the registry lets this cluster in now, with this key.
    pub(super) fn accepts(&self, who: &Named) -> bool {
        (self.is_accepted)(who)
    }

    /// Enters a connection. An older one of the same cluster is told to stop and is `Gone` first. False:
    /// the cluster was revoked meanwhile, or the hub is stopping. Asking under the lock leaves no gap
    /// between a revocation and the kick that follows it.
    pub(super) async fn arrive(&self, who: &Named, connected: Connected) -> bool {
        let cluster = &who.cluster;
        let Ok(mut permits) = self.events.reserve_many(2).await else {
            return false;
        };
        let mut table = self.table();
        if !self.accepts(who) {
            return false;
        }
        let connection = connected.connection;
        let older = table.insert(cluster.clone(), connected);
        let gone = older.map(|older| {
            older.stop.send_replace(true);
            TransportEvent::Gone { cluster: cluster.clone(), connection: older.connection, clean: false }
        });
        let here = TransportEvent::Connected { cluster: cluster.clone(), connection };
        for (permit, event) in permits.by_ref().zip(gone.into_iter().chain([here])) {
            permit.send(event);
        }
        drop(table);
        true
    }

    /// Hands a message to the hub, and returns what tells that the hub has it. None: the connection is
    /// no longer the cluster's newest, or the hub is stopping.
    pub(super) async fn message(
        &self,
        cluster: &ClusterId,
        connection: ConnectionId,
        topic: Upward,
        payload: Bytes,
    ) -> Option<oneshot::Receiver<()>> {
        let permit = self.events.reserve().await.ok()?;
        let table = self.table();
        if table.get(cluster)?.connection != connection {
            return None;
        }
        let (done, wait) = oneshot::channel();
        permit.send(TransportEvent::Message { cluster: cluster.clone(), connection, topic, payload, done });
        drop(table);
        Some(wait)
    }

    /// Takes a connection out, if it is still the cluster's newest, and says so.
    pub(super) async fn depart(&self, cluster: &ClusterId, connection: ConnectionId, clean: bool) {
        let permit = self.events.reserve().await;
        let mut table = self.table();
        if table.get(cluster).is_none_or(|newest| newest.connection != connection) {
            return;
        }
        table.remove(cluster);
        if let Ok(permit) = permit {
            permit.send(TransportEvent::Gone { cluster: cluster.clone(), connection, clean });
        }
    }

    /// Passes an enrolment ask to the hub. None: the hub is stopping.
    pub(super) async fn ask(&self, event: TransportEvent) -> Option<()> {
        self.events.send(event).await.ok()
    }

    /// The way to a connected cluster.
    pub(super) fn outbound(&self, cluster: &ClusterId) -> Option<Arc<Outbound>> {
        self.table().get(cluster).map(|connected| Arc::clone(&connected.outbound))
    }

    /// Tells a cluster's connection to stop. False: it was not connected.
    pub(super) fn kick(&self, cluster: &ClusterId) -> bool {
        self.table().get(cluster).map(|connected| connected.stop.send_replace(true)).is_some()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Connected>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
