//! What the director signs: desired states, heads, acknowledgements.

use std::collections::BTreeMap;

use protocol::{
    codec, cose,
    documents::{Ack, Desired, DesiredRelease, Document as _, DocumentType, Head, Permit},
    ids::{AppId, ClusterId, JournalId, Nonce},
    limits,
    order::Order,
    time::{Now, UnixSeconds},
    topics::Downward,
};
use serde::Serialize;

use super::{Cluster, Document, DocumentKind, Edit, Effect, Fleet, Signed};

impl Fleet {
    /// Signs a cluster's next desired state, with `edits`, and sends it if the cluster is there.
    pub(super) fn tell(&mut self, now: Now, id: &ClusterId, edits: Vec<Edit>, effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get(id) else { return };
        let last = cluster.signed.as_ref().map(|signed| &signed.desired);
        let (releases, remove) = merge(cluster, edits);
        let seq = last.map_or(0, |last| last.order.seq) + 1;
        let desired = Desired {
            cluster: id.clone(),
            order: Order { epoch: self.trust.root().min_epoch, seq },
            prev: last.map(|last| last.digest()),
            issued: now.wall,
            install_by: now.wall.plus(limits::INSTALL_BY_SECONDS),
            releases,
            remove,
            policy: None,
        };
        let bytes = self.sign(Desired::TYPE, id, &desired);
        let Ok(desired) = self.trust.director(id, &bytes) else {
            // The signer was checked against the root when the hub started; a document over its limits stays unsigned.
            return;
        };
        let stored =
            Document { kind: DocumentKind::Desired, key: id.to_string(), bytes: Some(bytes.clone()) };
        effects.push(Effect::Store(vec![stored]));
        if let Some(cluster) = self.clusters.get_mut(id) {
            cluster.signed = Some(Signed { bytes, desired });
        }
        self.changed.clusters.insert(id.clone());
        self.send_news(now, id, None, true, effects);
    }

    /// Sends a head, and with it the desired state if the cluster does not hold it.
    pub(super) fn send_news(
        &self,
        now: Now,
        id: &ClusterId,
        nonce: Option<Nonce>,
        with_desired: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(cluster) = self.clusters.get(id).filter(|cluster| cluster.connected && cluster.accepted)
        else {
            return;
        };
        let Some(signed) = &cluster.signed else { return };
        let head = self.head(now, id, cluster, signed, nonce);
        effects.push(Effect::Push(id.clone(), Downward::Head, self.sign(Head::TYPE, id, &head)));
        if with_desired {
            effects.push(Effect::Push(id.clone(), Downward::Desired, signed.bytes.clone()));
        }
    }

    /// Signs heads anew for every connected cluster, before the old ones go stale.
    pub(super) fn resign_heads(&self, now: Now, effects: &mut Vec<Effect>) {
        for id in self.clusters.keys() {
            self.send_news(now, id, None, false, effects);
        }
    }

    /// Acknowledges a cluster's reports.
    pub(super) fn acknowledge(&self, id: &ClusterId, journal: JournalId, effects: &mut Vec<Effect>) {
        let Some(report) = self.clusters.get(id).and_then(|cluster| cluster.report.as_ref()) else { return };
        let ack = Ack { cluster: id.clone(), journal, report_seq: report.seq, digest: report.digest() };
        effects.push(Effect::Push(id.clone(), Downward::Ack, self.sign(Ack::TYPE, id, &ack)));
    }

    fn head(
        &self,
        now: Now,
        id: &ClusterId,
        cluster: &Cluster,
        signed: &Signed,
        nonce: Option<Nonce>,
    ) -> Head {
        let fresh_until = now.wall.plus(limits::HEAD_FRESH_SECONDS);
        let permit = |release: &DesiredRelease| Permit {
            app: release.app.clone(),
            not_before: now.wall,
            not_after: fresh_until,
        };
        let releases = if cluster.is_held(now.wall) { &[] } else { signed.desired.releases.as_slice() };
        Head {
            cluster: id.clone(),
            incarnation: self.incarnation,
            order: signed.desired.order,
            desired: signed.desired.digest(),
            root_version: self.trust.root().version,
            hub_time: now.wall,
            fresh_until,
            permits: releases.iter().map(permit).collect(),
            nonce,
        }
    }

    fn sign(&self, kind: DocumentType, cluster: &ClusterId, document: &impl Serialize) -> Vec<u8> {
        let binding = cose::Binding { kind, fleet: &self.trust.root().fleet, cluster: Some(cluster) };
        cose::sign_one(binding, &codec::encode(document), &self.director)
    }
}

impl Cluster {
    /// Whether an operator holds the cluster at `time`.
    pub(super) fn is_held(&self, time: UnixSeconds) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.until.is_none_or(|until| time < until))
    }
}

/// A cluster's releases and removals after `edits`. A removal is said again until the cluster reports it done.
fn merge(cluster: &Cluster, edits: Vec<Edit>) -> (Vec<DesiredRelease>, Vec<AppId>) {
    let last = cluster.signed.as_ref().map(|signed| &signed.desired);
    let mut releases: BTreeMap<AppId, DesiredRelease> =
        last.iter().flat_map(|last| &last.releases).map(|r| (r.app.clone(), r.clone())).collect();
    let mut remove: Vec<AppId> = last.map(|last| last.remove.clone()).unwrap_or_default();
    remove.retain(|app| !cluster.report.as_ref().is_some_and(|report| report.is_removed(app)));
    for edit in edits {
        match edit {
            Edit::Install(release) => {
                remove.retain(|app| app != &release.app);
                releases.insert(release.app.clone(), release);
            }
            Edit::Remove(app) => {
                releases.remove(&app);
                remove.push(app);
            }
        }
    }
    remove.sort();
    remove.dedup();
    (releases.into_values().collect(), remove)
}
