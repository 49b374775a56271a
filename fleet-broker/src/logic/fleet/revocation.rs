//! Identity keys that are believed no more. They are known by the key, not by the cluster: they stay revoked when the
//! Cluster object is deleted, and the cluster is free to join with another key.

use protocol::{
    codec,
    ids::{ClusterId, KeyId},
    keys::PublicKey,
    time::{Now, UnixSeconds},
};
use serde::{Deserialize, Serialize};

use super::{Document, DocumentKind, Effect, Fleet, told};
use crate::logic::occurrence::Reason;

/// Why a key is believed no more. Kept for ever: a key costs some hundred bytes, and a stolen one never gets better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Whose key it was.
    pub cluster: ClusterId,
    /// What the operator said.
    pub reason: String,
    /// When.
    pub at: UnixSeconds,
}

impl Fleet {
    /// The identity key that a cluster joined with, whether or not its object is still there.
    pub fn identity(&self, id: &ClusterId) -> Option<KeyId> {
        Some(self.clusters.get(id)?.identity.as_ref()?.id())
    }

    /// Why a key is believed no more, if it is not.
    pub fn revocation(&self, key: &KeyId) -> Option<&Revocation> {
        self.revoked.get(key)
    }

    /// Whether a cluster is connected now.
    pub fn is_connected(&self, id: &ClusterId) -> bool {
        self.clusters.get(id).is_some_and(|cluster| cluster.connected)
    }

    /// Whether this key may have a new certificate in the cluster's name.
    ///
    /// # Errors
    /// Why not, for a technician at the site.
    pub fn may_renew(&self, id: &ClusterId, identity: &PublicKey) -> Result<(), String> {
        if let Some(revocation) = self.revocation(&identity.id()) {
            return Err(revocation.refusal());
        }
        let cluster = self.clusters.get(id).filter(|cluster| cluster.registered);
        let Some(cluster) = cluster else {
            return Err(format!("cluster {id} is not registered at this hub"));
        };
        if cluster.identity != Some(*identity) {
            return Err(format!("cluster {id} joined with another identity key than this one"));
        }
        if !cluster.accepted {
            return Err(format!("cluster {id} is not accepted: an operator must set spec.accepted"));
        }
        Ok(())
    }

    /// Believes the cluster's key no more, and ends its connection. What it runs is left alone. A key that was revoked
    /// before keeps its first reason.
    pub(super) fn revoke(&mut self, now: Now, id: ClusterId, reason: String, effects: &mut Vec<Effect>) {
        let Some(key) = self.identity(&id).filter(|key| !self.revoked.contains_key(key)) else { return };
        let revocation = Revocation { cluster: id.clone(), reason, at: now.wall };
        let bytes = Some(codec::encode(&revocation));
        let document = Document { kind: DocumentKind::Revocation, key: key.to_string(), bytes };
        effects.push(Effect::Store(vec![document]));
        effects.push(told::of_cluster(&id, Reason::KeyRevoked, revocation.reason.clone()));
        effects.push(Effect::Kick(id.clone()));
        self.revoked.insert(key, revocation);
        self.touch(&id);
    }

    /// Whether the key that a cluster has now is revoked, and why.
    pub(super) fn revocation_of(&self, id: &ClusterId) -> Option<&Revocation> {
        self.revocation(&self.identity(id)?)
    }
}

impl Revocation {
    /// What whoever holds the key is told.
    pub fn refusal(&self) -> String {
        format!(
            "the identity key of cluster {} was revoked ({}): what runs here goes on; to join again, ask for a join \
             code and use a new state directory",
            self.cluster, self.reason
        )
    }
}
