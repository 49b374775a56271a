//! What the director signs: desired states and heads. Acknowledgements stand in `acks`.

use std::collections::BTreeMap;

use protocol::{
    codec, cose,
    documents::{Desired, DesiredRelease, Document as _, DocumentType, Head, Permit},
    ids::{AppId, ClusterId, Nonce},
    limits,
    order::{Held, Order},
    planted::Bug,
    time::{Now, UnixSeconds},
    topics::Downward,
    verify::VerifyError,
};
use serde::Serialize;

use super::{
    Cluster, Document, DocumentKind, Effect, Fleet, Signed, chain, decide::Edit, kept, recovery::NOTHING,
};

/// How far a cluster's time may be behind the hub's, for it is told in whole seconds and after it was on its way. What is
/// permitted from now on begins so long ago, or clusters would wait for a second that has come.
const CLOCK_LAG_SECONDS: u64 = 5;

impl Fleet {
    /// Signs a cluster's next desired state, with `edits`, and sends it if the cluster is there.
    ///
    /// # Errors
    /// Why there can be no such document: it would be beyond its limits. Nothing has changed then.
    pub(super) fn tell(
        &mut self,
        now: Now,
        id: &ClusterId,
        edits: &[Edit],
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        self.sign_desired(now, id, edits, effects)?;
        self.send_news(now, id, None, true, effects);
        Ok(())
    }

    /// Signs a cluster's next desired state, with `edits`, without sending it.
    ///
    /// # Errors
    /// As with [`Self::tell`].
    pub(super) fn sign_desired(
        &mut self,
        now: Now,
        id: &ClusterId,
        edits: &[Edit],
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let Some(cluster) = self.clusters.get(id) else { return Ok(()) };
        let last = cluster.signed.as_ref();
        let (releases, remove) = merge(cluster, edits);
        let epoch = self.trust.root().min_epoch;
        // What was signed before the last loss may have gone further than what is held now.
        let base = cluster.base(self.incarnation).map(|base| base.order).filter(|base| base.epoch == epoch);
        let base = base.filter(|_| !Bug::PlaceUsedAgain.is_planted());
        let seq = last.map_or(0, |last| last.desired.order.seq).max(base.map_or(0, |base| base.seq)) + 1;
        let order = Order { epoch, seq };
        let desired = Desired {
            cluster: id.clone(),
            order,
            prev: last.map(|last| last.desired.digest()),
            issued: now.wall,
            install_by: now.wall.plus(limits::INSTALL_BY_SECONDS),
            releases,
            remove,
            policy: None,
        };
        let since = |release: &DesiredRelease| {
            let same = last.filter(|last| last.desired.release_of(&release.app) == Some(release));
            same.and_then(|last| last.since(&release.app)).unwrap_or(order)
        };
        let since = desired.releases.iter().map(since).collect();
        let (bytes, desired) = self.trust.direct(&self.director, desired).map_err(|error| problem(&error))?;
        let desired = kept(desired, &bytes);
        let mut stores =
            vec![Document { kind: DocumentKind::Desired, key: id.to_string(), bytes: Some(bytes) }];
        if let Some(cluster) = self.clusters.get_mut(id) {
            cluster.signed = Some(Signed { desired, since });
            let agreement = cluster.told_of(edits.iter().map(Edit::app));
            stores.extend(agreement.map(|agreement| agreement.document(id)));
        }
        if !Bug::ToldWithoutStore.is_planted() {
            effects.push(Effect::Store(stores));
        }
        self.changed.clusters.insert(id.clone());
        Ok(())
    }

    /// Sends a head, and with it the desired state if the cluster does not hold it. A cluster of which it is not known
    /// what it holds is sent nothing, and while an operator has yet to accept a recovery none is sent anything new. None
    /// is sent what its agent cannot read.
    pub(super) fn send_news(
        &self,
        now: Now,
        id: &ClusterId,
        nonce: Option<Nonce>,
        with_desired: bool,
        effects: &mut Vec<Effect>,
    ) {
        let member = |cluster: &Cluster| cluster.connected && cluster.accepted && self.has_met(cluster);
        let Some(cluster) = self.clusters.get(id).filter(|cluster| member(cluster)) else { return };
        let Some(signed) = &cluster.signed else { return };
        let waits = self.is_paused() || cluster.is_held(now.wall);
        let may_start =
            |release: &&DesiredRelease| !waits && self.frozen(&release.app, &cluster.labels).is_none();
        let releases = signed.desired.releases.iter().filter(may_start);
        let nonce = nonce.or(cluster.challenge());
        let head = self.head(now, id, signed.held(), releases, nonce);
        effects.push(Effect::Push(id.clone(), Downward::Head, self.sign(Head::TYPE, id, &head)));
        // An agent that was put back to an earlier version goes on with what it holds.
        let is_read = signed.desired.releases.iter().all(|release| cluster.reads(release));
        let paused = self.is_paused() && !Bug::PausedHubTells.is_planted();
        if with_desired && is_read && !paused {
            effects.push(Effect::Push(id.clone(), Downward::Desired, signed.desired.envelope()));
        }
    }

    /// Asks a cluster for what it holds, by a head that names what is known here and lets nothing start.
    pub(super) fn ask_for_held(&self, now: Now, id: &ClusterId, nonce: Nonce, effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get(id) else { return };
        let nothing = Order { epoch: self.trust.root().min_epoch, seq: 0 };
        let known = cluster.signed.as_ref().map_or(Held { order: nothing, digest: NOTHING }, Signed::held);
        let head = self.head(now, id, known, std::iter::empty(), Some(nonce));
        effects.push(Effect::Push(id.clone(), Downward::Head, self.sign(Head::TYPE, id, &head)));
    }

    /// Signs heads anew for every connected cluster, before the old ones go stale.
    pub(super) fn resign_heads(&self, now: Now, effects: &mut Vec<Effect>) {
        for id in self.clusters.keys() {
            self.send_news(now, id, None, false, effects);
        }
    }

    pub(super) fn head<'a>(
        &self,
        now: Now,
        id: &ClusterId,
        named: Held,
        permitted: impl Iterator<Item = &'a DesiredRelease>,
        nonce: Option<Nonce>,
    ) -> Head {
        let fresh_until = now.wall.plus(limits::HEAD_FRESH_SECONDS);
        let permit = |release: &DesiredRelease| Permit {
            app: release.app.clone(),
            not_before: UnixSeconds(now.wall.0.saturating_sub(CLOCK_LAG_SECONDS)),
            not_after: fresh_until,
        };
        Head {
            cluster: id.clone(),
            incarnation: self.incarnation,
            order: named.order,
            desired: named.digest,
            root_version: self.trust.root().version,
            hub_time: now.wall,
            fresh_until,
            permits: permitted.map(permit).collect(),
            nonce,
        }
    }

    pub(super) fn sign(&self, kind: DocumentType, cluster: &ClusterId, document: &impl Serialize) -> Vec<u8> {
        let binding = cose::Binding { kind, fleet: &self.trust.root().fleet, cluster: Some(cluster) };
        cose::sign_one(binding, &codec::encode(document), &self.director)
    }
}

/// Why there is no such document, as whoever decides on applications says it.
fn problem(error: &VerifyError) -> String {
    if let VerifyError::Content { source, .. } = error { source.to_string() } else { chain(error) }
}

impl Cluster {
    /// Whether an operator holds the cluster at `time`.
    pub(super) fn is_held(&self, time: UnixSeconds) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.until.is_none_or(|until| time < until))
    }
}

impl Signed {
    /// Under which desired state an application's entry became what it is.
    pub(super) fn since(&self, app: &AppId) -> Option<Order> {
        self.entries().find(|(told, _)| *told == app).map(|(_, since)| since)
    }

    /// The applications it tells of, each with the place under which its entry became what it is.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&AppId, Order)> {
        let apps = self.desired.releases.iter().map(|release| &release.app);
        apps.zip(self.since.iter().copied())
    }
}

/// A cluster's releases and removals after `edits`. A removal is said again until the cluster reports it done.
fn merge(cluster: &Cluster, edits: &[Edit]) -> (Vec<DesiredRelease>, Vec<AppId>) {
    let last = cluster.signed.as_ref().map(|signed| &signed.desired);
    let rest = last.filter(|_| edits.is_empty() || !Bug::RestForgotten.is_planted());
    let mut releases: BTreeMap<AppId, DesiredRelease> =
        rest.iter().flat_map(|last| &last.releases).map(|r| (r.app.clone(), r.clone())).collect();
    let mut remove: Vec<AppId> = last.map(|last| last.remove.clone()).unwrap_or_default();
    remove.retain(|app| !cluster.is_rid_of(app));
    for edit in edits {
        match edit {
            Edit::Install(release) => {
                remove.retain(|app| app != &release.app);
                releases.insert(release.app.clone(), DesiredRelease::clone(release));
            }
            Edit::Remove(app) => {
                releases.remove(app);
                remove.push(app.clone());
            }
        }
    }
    remove.sort();
    remove.dedup();
    (releases.into_values().collect(), remove)
}
