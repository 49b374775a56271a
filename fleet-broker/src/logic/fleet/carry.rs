//! What is carried by hand: updates to a cluster without a link, and its reports back.
//!
//! An export is what the link would bring, and holds what the link would hold: a freeze and a hold withhold permits,
//! and a hub in another life waits to be accepted. It is signed for as long as the desired state may be installed, since
//! nobody can sign it again on the way.

use std::sync::Arc;

use protocol::{
    carry::{Carried, Label, Way},
    documents::{CarryHead, DesiredRelease, Document as _, Head, Permit, Report},
    ids::{ClusterId, Digest},
    limits,
    time::{Now, UnixSeconds},
    verify::Verified,
};

use super::{Cluster, Effect, Fleet, Release, Signed, reported::Reported};

/// Longest reason in a label, which fits into one message with one for each application.
const REASON_CHARS: usize = 256;

/// All that goes into the file for a cluster.
#[derive(Debug)]
pub struct Export {
    /// What the file says of itself.
    pub label: Label,
    /// The envelope of the carried head.
    pub head: Vec<u8>,
    /// The envelope of the desired state.
    pub desired: Vec<u8>,
    /// Releases and their content.
    pub releases: Vec<ExportedRelease>,
}

/// A release that goes into a file.
#[derive(Debug)]
pub struct ExportedRelease {
    /// Digest of its envelope.
    pub digest: Digest,
    /// Its envelope.
    pub envelope: Arc<[u8]>,
    /// Digest of its content.
    pub pack: Digest,
}

/// Why nothing is exported, or a report not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarryRefusal {
    /// There is no such cluster.
    #[error("cluster {0} is not registered")]
    Unknown(ClusterId),
    /// It may not connect either.
    #[error("cluster {0} has not joined, is not accepted, or its key is revoked")]
    NotAdmitted(ClusterId),
    /// The hub leads another life.
    #[error("{0}")]
    Recovering(String),
    /// A bundle that the cluster was told is not here any more.
    #[error("the bundle of {app} {cluster} was told is not at this hub: push it again")]
    NoBundle {
        /// The application.
        app: String,
        /// The cluster.
        cluster: ClusterId,
    },
    /// A desired state that cannot be made.
    #[error("no desired state can be signed for it: {0}")]
    Unsigned(String),
    /// A report that the cluster did not sign.
    #[error(
        "a report in the file is not signed by cluster {0} with the key it joined with: nothing of it is taken"
    )]
    Forged(ClusterId),
    /// A report of a disk that is no more.
    #[error("the report is of a former life of the journal of cluster {0}: nothing of it is taken")]
    FormerLife(ClusterId),
}

impl Fleet {
    /// What brings a cluster to its newest desired state without a link. Unless `full`, without the content that the
    /// cluster last said it has.
    pub fn export(
        &mut self,
        now: Now,
        id: &ClusterId,
        full: bool,
    ) -> (Result<Export, CarryRefusal>, Vec<Effect>) {
        let mut effects = Vec::new();
        let export = self.prepare(now, id, &mut effects).and_then(|()| self.exported(now, id, full));
        (export, effects)
    }

    /// Takes reports of a cluster that were carried here: all of them, or none if one is not the cluster's own. How
    /// many of them were news.
    pub fn carried_reports(
        &mut self,
        now: Now,
        id: &ClusterId,
        envelopes: &[Vec<u8>],
    ) -> (Result<usize, CarryRefusal>, Vec<Effect>) {
        let mut effects = Vec::new();
        let taken = self.take_carried(now, id, envelopes, &mut effects);
        (taken, effects)
    }

    /// The newest desired state is signed, and may be installed for half of its time at least.
    fn prepare(&mut self, now: Now, id: &ClusterId, effects: &mut Vec<Effect>) -> Result<(), CarryRefusal> {
        self.may_carry(id)?;
        if self.is_paused() {
            let text = "nothing changes until `edgefleet restore --accept`";
            return Err(CarryRefusal::Recovering(text.to_owned()));
        }
        let Some(cluster) = self.clusters.get(id) else {
            return Err(CarryRefusal::NotAdmitted(id.clone()));
        };
        if !self.has_met(cluster) {
            let text =
                format!("{id} has not said yet what it holds, to this life of the hub: connect it once");
            return Err(CarryRefusal::Recovering(text));
        }
        let half = limits::INSTALL_BY_SECONDS / 2;
        let good = |signed: &Signed| signed.desired.install_by.since(now.wall) >= half;
        if cluster.signed.as_ref().is_some_and(good) {
            return Ok(());
        }
        self.tell(now, id, &[], effects).map_err(CarryRefusal::Unsigned)
    }

    /// What is carried is for, and from, whoever may connect.
    fn may_carry(&self, id: &ClusterId) -> Result<(), CarryRefusal> {
        match (self.joining(id), self.admits(id)) {
            (None, _) => Err(CarryRefusal::Unknown(id.clone())),
            (Some(_), false) => Err(CarryRefusal::NotAdmitted(id.clone())),
            (Some(_), true) => Ok(()),
        }
    }

    fn exported(&self, now: Now, id: &ClusterId, full: bool) -> Result<Export, CarryRefusal> {
        let member = self.clusters.get(id).and_then(|cluster| Some((cluster, cluster.signed.as_ref()?)));
        let (cluster, signed) = member.ok_or_else(|| CarryRefusal::NotAdmitted(id.clone()))?;
        let mut apps = Vec::new();
        let mut releases = Vec::new();
        for told in &signed.desired.releases {
            let has = cluster.has(told).filter(|_| !full);
            let known = self.known(told);
            let included = has.is_none();
            let version = has.or_else(|| known.map(|known| known.verified.version.clone()));
            let Some(version) = version else {
                return Err(CarryRefusal::NoBundle { app: told.app.to_string(), cluster: id.clone() });
            };
            if let Some(known) = known.filter(|_| included) {
                releases.push(ExportedRelease {
                    digest: told.release,
                    envelope: Arc::clone(&known.bytes),
                    pack: known.verified.pack,
                });
            }
            let withheld = self.withheld(now, cluster, told);
            apps.push(Carried { app: told.app.clone(), version, included, withheld });
        }
        let (head, valid_until) = self.carry_head(now, id, signed, &apps);
        let way = Way::ToCluster { order: signed.desired.order, valid_until, apps };
        let fleet = self.trust.root().fleet.clone();
        let label = Label { fleet, cluster: id.clone(), made: now.wall, way };
        Ok(Export { label, head, desired: signed.desired.envelope(), releases })
    }

    /// Why an application may not start on a cluster now.
    fn withheld(&self, now: Now, cluster: &Cluster, told: &DesiredRelease) -> Option<String> {
        let hold = cluster.hold.as_ref().filter(|_| cluster.is_held(now.wall));
        let hold = hold.map(|hold| cut(format!("the cluster is on hold: {}", hold.reason)));
        let frozen = || {
            let (name, freeze) = self.frozen(&told.app, &cluster.labels)?;
            Some(cut(format!("freeze {name}: {}", freeze.reason)))
        };
        hold.or_else(frozen)
    }

    fn carry_head(
        &self,
        now: Now,
        id: &ClusterId,
        signed: &Signed,
        apps: &[Carried],
    ) -> (Vec<u8>, UnixSeconds) {
        let longest = now.wall.plus(limits::INSTALL_BY_SECONDS);
        let valid_until = signed.desired.install_by.min(longest);
        let permitted = apps.iter().filter(|app| app.withheld.is_none());
        let permit =
            |app: &Carried| Permit { app: app.app.clone(), not_before: now.wall, not_after: valid_until };
        let head = Head {
            fresh_until: valid_until,
            permits: permitted.map(permit).collect(),
            ..self.head(now, id, signed.held(), std::iter::empty(), None)
        };
        (self.sign(CarryHead::TYPE, id, &CarryHead { head }), valid_until)
    }

    fn known(&self, told: &DesiredRelease) -> Option<&Release> {
        let mut known = self.bundles.values().flatten();
        known.find(|release| release.verified.digest() == told.release)
    }

    fn take_carried(
        &mut self,
        now: Now,
        id: &ClusterId,
        envelopes: &[Vec<u8>],
        effects: &mut Vec<Effect>,
    ) -> Result<usize, CarryRefusal> {
        self.may_carry(id)?;
        let key = self.clusters.get(id).and_then(|cluster| cluster.identity);
        let verified = |envelope: &Vec<u8>| self.verify::<Report>(id, &key?, envelope);
        let reports: Option<Vec<Verified<Report>>> = envelopes.iter().map(verified).collect();
        let reports = reports.ok_or_else(|| CarryRefusal::Forged(id.clone()))?;
        let held = self.clusters.get(id).and_then(|cluster| cluster.report.as_ref());
        let is_former = |report: &Verified<Report>| held.is_some_and(|held| held.outlived(report));
        if reports.iter().any(is_former) {
            return Err(CarryRefusal::FormerLife(id.clone()));
        }
        let mut taken = 0;
        for (report, envelope) in reports.iter().zip(envelopes) {
            let held = self.clusters.get(id).and_then(|cluster| cluster.report.as_ref());
            if held.is_none_or(|held| !held.covers(report)) {
                taken += 1;
                let made = report.clock.min(now.wall);
                self.take_carried_report(now, id, (report, envelope), made, effects);
            }
        }
        Ok(taken)
    }
}

/// As much of a reason as a label may carry for each of its applications.
fn cut(reason: String) -> String {
    reason.chars().take(REASON_CHARS).collect()
}

impl Cluster {
    /// The version of a release that the cluster said it accepted, content and all.
    fn has(&self, told: &DesiredRelease) -> Option<String> {
        let said = self.report.as_ref()?.read();
        let accepted = said.app(&told.app)?.accepted.as_ref()?;
        (accepted.digest == told.release).then(|| accepted.version.to_string())
    }
}

impl Reported {
    /// Whether all that `report` says is known, or something newer.
    fn covers(&self, report: &Report) -> bool {
        let same = (self.seq, self.order) == (report.report_seq, report.order);
        self.journal == report.journal && (same || self.is_newer_than(report))
    }

    /// Whether `report` is of a life of the journal that ended: known to have, or older than what the life that goes
    /// on has said since. A link would not bring such a report again; a forgotten stick may.
    fn outlived(&self, report: &Report) -> bool {
        let other = self.journal != report.journal;
        other && (self.past.contains(&report.journal) || report.clock <= self.at)
    }
}
