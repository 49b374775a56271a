//! What people see: conditions of clusters, counts of applications, one assignment for each application and
//! cluster. Only what changed is put out, and a heartbeat changes nothing but ages.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use protocol::{
    documents::{self, AppReport, AppState, ConditionStatus, DesiredRelease, Drift},
    ids::{AppId, ClusterId},
    limits,
    planted::Bug,
    time::UnixSeconds,
};

use serde_json::Value;

use super::{
    Cluster, Effect, Fleet, Reported, Revocation, Signed, preview,
    reported::{Brief, Said},
    rollout::Decision,
    shown,
};
use crate::resources::{
    self, ApplicationClusters, ApplicationStatus, AssignmentState, AssignmentStatus, ClusterApplications,
    ClusterStatus, Revision, Status as _, UNDATED,
};

/// Clusters whose statuses are put out at once: more than can say something at once, so that none waits for long, and few
/// enough that nobody who speaks to the hub meanwhile does.
const SHOWN_AT_ONCE: usize = 1024;

/// The condition that says whether a cluster is there.
const CONNECTED: &str = "Connected";

/// Why a cluster is not connected, and why it is not known how it is.
const OFFLINE: &str = "Offline";

/// The condition that says whether others changed what was applied.
pub(super) const DRIFTED: &str = "Drifted";

/// The condition that says, while a restored hub learns, whether what a cluster holds is known to it again.
pub(super) const ADOPTED: &str = "Adopted";

/// The condition that is there only while the key with which a cluster joined is revoked.
const REVOKED: &str = "Revoked";

/// The condition that says whether a cluster runs what it was told.
const SYNCED: &str = "Synced";

/// The condition by which an agent says whether its API server answers.
const KUBERNETES_READY: &str = "KubernetesReady";

/// What the hub judges by itself: of these a cluster has no say.
const JUDGED: [&str; 8] =
    ["Joined", CONNECTED, REVOKED, SYNCED, "Available", "Carried", "ClockSynced", ADOPTED];

/// One condition, of which nobody has said yet since when.
pub(super) struct Fresh<'a> {
    pub(super) kind: &'a str,
    pub(super) status: &'static str,
    pub(super) reason: &'a str,
    pub(super) message: String,
}

impl Fresh<'_> {
    fn undated(self) -> Condition {
        let Self { kind, status, reason, message } = self;
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: None,
            last_transition_time: UNDATED,
        }
    }

    /// The condition of a cluster that is not heard: nobody knows, as Kubernetes says of a node's.
    fn unheard(self, at: UnixSeconds) -> Self {
        let Self { kind, status, message, .. } = self;
        let colon = if message.is_empty() { "" } else { ": " };
        let message = format!("{status} as of {}{colon}{message}", instant(at));
        Fresh { kind, status: word(ConditionStatus::Unknown), reason: OFFLINE, message }
    }
}

impl Fleet {
    /// What people are to see of clusters and their applications, where that changed since this was last asked, of some
    /// at once; nothing while it is held back.
    pub fn show(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for _ in 0..SHOWN_AT_ONCE {
            if !self.has_to_show() {
                break;
            }
            let Some(id) = self.changed.clusters.pop_first() else { break };
            let said = self.said_last(&id);
            self.show_cluster(&id, said.as_ref(), &mut effects);
            let relabelled = self.changed.relabelled.remove(&id);
            self.show_assignments(&id, said.as_ref(), relabelled, &mut effects);
        }
        effects
    }

    /// Whether [`Self::show`] has something to show.
    pub fn has_to_show(&self) -> bool {
        !self.holds_back() && !self.changed.clusters.is_empty()
    }

    /// Whether all that people are to see is shown with what is shown next.
    pub(super) fn shows_all_next(&self) -> bool {
        !self.holds_back() && self.changed.clusters.len() <= SHOWN_AT_ONCE
    }

    /// Takes up a status that was put out before a restart: it is put out again once it is another.
    pub fn restore_cluster_status(&mut self, name: &str, status: &Value) {
        if let (Ok(id), Ok(mut status)) =
            (ClusterId::new(name), serde_json::from_value::<ClusterStatus>(status.clone()))
        {
            let connected = status.conditions.iter().find(|condition| condition.type_ == CONNECTED);
            let cluster = self.clusters.entry(id);
            cluster.told_connected = connected.map(|condition| condition.status == truth(true));
            status.undate();
            status.last_report_time = None;
            cluster.shown.status = Some(shown::digest(&status));
        }
    }

    /// Takes up a status that was put out before a restart.
    pub fn restore_application_status(&mut self, tenant: &str, name: &str, status: &Value) {
        if let (Ok(id), Ok(mut status)) =
            (AppId::new(tenant, name), serde_json::from_value::<ApplicationStatus>(status.clone()))
        {
            status.undate();
            self.shown.insert(id, status);
        }
    }

    /// All that a cluster said last, read once for all that is shown of it.
    pub(super) fn said_last(&self, id: &ClusterId) -> Option<Said> {
        self.clusters.get(id)?.report.as_ref().map(Reported::read)
    }

    pub(super) fn show_cluster(&mut self, id: &ClusterId, said: Option<&Said>, effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get(id) else { return };
        let status = cluster.registered.then(|| {
            cluster_status(self.known_of(cluster), said, self.revocation_of(id), self.adopted(cluster))
        });
        let Some(cluster) = self.clusters.get_uncounted(id) else { return };
        let digest = status.as_ref().map(shown::digest);
        let before = std::mem::replace(&mut cluster.shown.status, digest);
        if let Some(mut status) = status.filter(|_| before != digest) {
            // A report's time alone is no change: it is put out together with the next one.
            status.last_report_time =
                cluster.report.as_ref().map(|report| time(report.carried.unwrap_or(report.at)));
            effects.push(Effect::ClusterStatus(id.clone(), Box::new(status)));
        }
    }

    fn show_assignments(
        &mut self,
        id: &ClusterId,
        said: Option<&Said>,
        relabelled: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(cluster) = self.clusters.get(id) else { return };
        let statuses = self.assignments(id, cluster, said);
        let Some(cluster) = self.clusters.get_uncounted(id) else { return };
        for app in cluster.shown.keep(|app| statuses.iter().any(|(shown, _)| shown == app)) {
            effects.push(Effect::Assignment(app, id.clone(), None));
        }
        for (app, status) in statuses {
            if cluster.shown.replace(&app, shown::digest(&status)) || relabelled {
                let shown = Box::new(((&cluster.labels).into(), status));
                effects.push(Effect::Assignment(app, id.clone(), Some(shown)));
            }
        }
    }

    /// Of all that a cluster is told to run, or to remove and has not.
    fn assignments(
        &self,
        id: &ClusterId,
        cluster: &Cluster,
        said: Option<&Said>,
    ) -> Vec<(AppId, AssignmentStatus)> {
        let Some(Signed { desired, .. }) = cluster.signed.as_ref().filter(|_| cluster.registered) else {
            return Vec::new();
        };
        let known = self.known_of(cluster);
        let said = said.filter(|_| known.report.is_some());
        let report = |app: &AppId| said.and_then(|said| said.app(app));
        let told = desired.releases.iter().map(|release| {
            let (app, bundle) = (&release.app, self.bundle_name(release));
            (app.clone(), assignment_status(id, known.state(release), report(app), release, bundle))
        });
        let removing = desired.remove.iter().filter(|app| !cluster.is_rid_of(app));
        let removing = removing.map(|app| (app.clone(), removing_status(id, report(app), app)));
        told.chain(removing).collect()
    }

    /// The name of a bundle, if it was published here.
    pub(super) fn bundle_name(&self, told: &DesiredRelease) -> Option<String> {
        let of_tenant = self.bundles.range((told.app.tenant.clone(), String::new())..);
        let mut of_tenant = of_tenant.take_while(|((tenant, _), _)| tenant == &told.app.tenant);
        of_tenant.find_map(|((_, name), known)| {
            known.as_ref().ok().filter(|known| known.verified.digest() == told.release).map(|_| name.clone())
        })
    }

    /// Puts out counts and decisions of applications, if they changed.
    pub(super) fn show_applications(&mut self, ids: &BTreeSet<AppId>, effects: &mut Vec<Effect>) {
        for id in ids {
            let Some(counts) = self.tally(id).map(|tally| tally.counts) else { continue };
            let (Some(application), Some(decision)) = (self.applications.get(id), self.decisions.get(id))
            else {
                continue;
            };
            let mut status = application_status(application.generation, counts, decision);
            status.preview = self.previewed(id, counts);
            if self.shown.get(id) != Some(&status) {
                self.shown.insert(id.clone(), status.clone());
                effects.push(Effect::ApplicationStatus(id.clone(), Box::new(status)));
            }
        }
    }
}

impl Cluster {
    /// When it was last heard, if it is not connected now. What came by hand is the newest there can be, and says of
    /// itself how old it is.
    fn unheard_since(&self) -> Option<UnixSeconds> {
        let report = self.report.as_ref().filter(|report| !self.connected && report.carried.is_none())?;
        Some(report.at)
    }
}

/// A cluster, and what is known of what it runs.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    cluster: &'a Cluster,
    report: Option<&'a Reported>,
}

impl Fleet {
    /// In another life of the hub a report is older than what the cluster may have been told since: until it said what it
    /// holds, nothing is known of what it runs.
    pub(super) fn known_of<'a>(&self, cluster: &'a Cluster) -> Known<'a> {
        let report = cluster.report.as_ref();
        Known { cluster, report: report.filter(|_| self.has_met(cluster) || Bug::BackupIsShown.is_planted()) }
    }
}

impl<'a> Known<'a> {
    fn reported(self, app: &AppId) -> Option<&'a Brief> {
        self.report?.app(app)
    }

    /// Whether the cluster has all of a release applied.
    pub(super) fn runs(self, release: &DesiredRelease) -> bool {
        self.reported(&release.app).is_some_and(|report| report.applied == Some(release.release))
    }

    /// Whether what it runs of an application is healthy, be it the release it was told or the one before.
    fn is_healthy(self, release: &DesiredRelease) -> bool {
        self.reported(&release.app).is_some_and(|report| report.state == AppState::Available)
    }

    pub(super) fn state(self, release: &DesiredRelease) -> AssignmentState {
        let Self { cluster, report } = self;
        let reachable = cluster.connected && !cluster.held;
        let away = if reachable { AssignmentState::Pending } else { AssignmentState::Deferred };
        let Some(app) = self.reported(&release.app) else { return away };
        // Settings are told with the desired state, so a report made under an older one does not speak of them.
        let told = cluster.signed.as_ref().and_then(|signed| signed.since(&release.app));
        let current = told.is_some_and(|told| report.is_some_and(|report| report.order >= told));
        if !current && !Bug::ReportBeforeNews.is_planted() {
            return away;
        }
        if app.rejected == Some(release.release) {
            return AssignmentState::Rejected;
        }
        if app.accepted != Some(release.release) {
            return away;
        }
        match app.state {
            AppState::Available => AssignmentState::Updated,
            AppState::Observed => AssignmentState::Observed,
            AppState::Applying | AppState::Progressing => AssignmentState::Applying,
            AppState::Degraded => AssignmentState::Failed,
            AppState::Rejected => AssignmentState::Rejected,
            AppState::Pending | AppState::Removing | AppState::Removed => AssignmentState::Pending,
        }
    }
}

fn assignment_status(
    id: &ClusterId,
    state: AssignmentState,
    report: Option<&AppReport>,
    release: &DesiredRelease,
    bundle: Option<String>,
) -> AssignmentStatus {
    let rejected =
        report.and_then(|report| report.rejected.as_ref()).filter(|_| state == AssignmentState::Rejected);
    // A refused release has no objects there: what ails those of the one before is not why.
    let worst = report.and_then(|report| report.worst.as_ref()).filter(|_| rejected.is_none());
    let previewed = report.filter(|_| state == AssignmentState::Observed);
    let message = match (rejected, worst) {
        (Some(rejected), _) => Some(format!("{}: {}", rejected.reason, rejected.message)),
        (None, _) if previewed.is_some() => previewed.and_then(preview::message),
        (None, Some(worst)) => Some(format!("{}: {}", worst.reason, worst.message)),
        (None, None) => waiting(report),
    };
    let unknown = || Some("its bundle is not at this hub, and stays as it is: push it again".to_owned());
    let message = message.or_else(|| if bundle.is_none() { unknown() } else { None });
    let conditions = report.map(|report| report.conditions.as_slice()).unwrap_or_default();
    let healed = report.map(healed).unwrap_or_default();
    let fresh = conditions.iter().map(|c| {
        let was_healed = c.kind == DRIFTED && c.status == ConditionStatus::False && !healed.is_empty();
        let (reason, message) = match was_healed {
            true => ("Healed", healed.clone()),
            false => (c.reason.as_str(), c.message.clone()),
        };
        Fresh { kind: &c.kind, status: word(c.status), reason, message }
    });
    AssignmentStatus {
        cluster: id.to_string(),
        application: release.app.name.to_string(),
        bundle: bundle.unwrap_or_else(|| format!("sha256:{}", release.release)),
        state,
        conditions: fresh.map(Fresh::undated).collect(),
        worst_object: worst.filter(|_| previewed.is_none()).map(|worst| worst.object.clone()),
        message,
        preview: report.and_then(preview::preview),
        since: None,
    }
}

/// Of an application that is told to go and has not gone yet, however long that takes.
fn removing_status(id: &ClusterId, report: Option<&AppReport>, app: &AppId) -> AssignmentStatus {
    let worst = report.and_then(|report| report.worst.as_ref());
    let applied = report.and_then(|report| report.applied.as_ref());
    let bundle = applied.map(|applied| format!("{}-{}", app.name, applied.version));
    AssignmentStatus {
        cluster: id.to_string(),
        application: app.name.to_string(),
        bundle: bundle.unwrap_or_default(),
        state: AssignmentState::Removing,
        conditions: Vec::new(),
        worst_object: worst.map(|worst| worst.object.clone()),
        message: worst.map(|worst| format!("{}: {}", worst.reason, worst.message)),
        preview: None,
        since: None,
    }
}

/// Who changed what and was healed, newest first: an operator who looks later still learns of it.
fn healed(report: &AppReport) -> String {
    let one = |drift: &Drift| {
        format!("{} was changed by {} and healed (times: {})", drift.object, drift.manager, drift.count)
    };
    report.drift.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn waiting(report: Option<&AppReport>) -> Option<String> {
    let condition = report?.conditions.iter().find(|condition| condition.kind == "Progressing")?;
    let holds = condition.status == ConditionStatus::True && !condition.message.is_empty();
    holds.then(|| format!("{}: {}", condition.reason, condition.message))
}

fn cluster_status(
    known: Known<'_>,
    said: Option<&Said>,
    revocation: Option<&Revocation>,
    adopted: Option<Fresh<'_>>,
) -> ClusterStatus {
    let signed = known.cluster.signed.as_ref();
    let releases = signed.map(|signed| signed.desired.releases.as_slice()).unwrap_or_default();
    let states: Vec<AssignmentState> = releases.iter().map(|release| known.state(release)).collect();
    let count =
        |wanted: &[AssignmentState]| states.iter().filter(|state| wanted.contains(state)).count() as u64;
    let applications = ClusterApplications {
        desired: states.len() as u64,
        updated: releases.iter().filter(|release| known.runs(release)).count() as u64,
        available: releases.iter().filter(|release| known.is_healthy(release)).count() as u64,
        failed: count(&[AssignmentState::Failed, AssignmentState::Rejected]),
        observed: count(&[AssignmentState::Observed]),
    };
    let looked_at = |release: &DesiredRelease| known.state(release) == AssignmentState::Observed;
    let settled = [
        releases.iter().all(|release| known.runs(release) || looked_at(release)),
        releases.iter().all(|release| known.is_healthy(release) || looked_at(release)),
    ];
    let conditions = conditions(known, said, revocation, applications, settled);
    ClusterStatus {
        conditions: conditions.into_iter().chain(adopted).map(Fresh::undated).collect(),
        last_report_time: None,
        desired: signed.map(|signed| revision(signed.desired.order)),
        observed: known.report.map(|report| revision(report.order)),
        agent: said.map(|said| said.agent.clone()),
        kubernetes: said.map(|said| said.kubernetes.clone()).filter(|version| !version.is_empty()),
        applications: Some(applications),
    }
}

fn conditions<'a>(
    Known { cluster, report }: Known<'_>,
    said: Option<&'a Said>,
    revocation: Option<&Revocation>,
    applications: ClusterApplications,
    settled: [bool; 2],
) -> Vec<Fresh<'a>> {
    let condition = |kind, holds, reason, message| Fresh { kind, status: truth(holds), reason, message };
    let joined = cluster.identity.is_some();
    let mut all = vec![
        condition("Joined", joined, if joined { "Enrolled" } else { "NotEnrolled" }, String::new()),
        condition(
            CONNECTED,
            cluster.connected,
            if cluster.connected { "LinkUp" } else { OFFLINE },
            String::new(),
        ),
    ];
    all.extend(
        revocation.map(|revocation| condition(REVOKED, true, "KeyRevoked", revocation.reason.clone())),
    );
    let (Some(report), Some(said)) = (report, said) else { return all };
    let heard = heard(cluster, report, said, applications, settled);
    // That it was told more since is known of who is not heard too.
    let behind = cluster.signed.as_ref().is_some_and(|signed| signed.desired.order != report.order);
    let known = |condition: &Fresh<'_>| behind && condition.kind == SYNCED;
    match cluster.unheard_since() {
        Some(at) => all.extend(heard.into_iter().map(|one| if known(&one) { one } else { one.unheard(at) })),
        None => all.extend(heard),
    }
    if let Some(made) = report.carried {
        let text = format!("reported by hand, as of {}", instant(made));
        all.push(condition("Carried", true, "ReportCarried", text));
    }
    all
}

/// What a cluster's report says of it.
fn heard<'a>(
    cluster: &Cluster,
    report: &Reported,
    said: &'a Said,
    applications: ClusterApplications,
    [updated, available]: [bool; 2],
) -> Vec<Fresh<'a>> {
    let condition = |kind, holds, reason, message| Fresh { kind, status: truth(holds), reason, message };
    let told = cluster.signed.as_ref().map(|signed| signed.desired.order);
    let synced = told == Some(report.order) && updated;
    let looked_at = match applications.observed {
        0 => String::new(),
        observed => format!(", {observed} are only looked at"),
    };
    let ClusterApplications { desired, updated, .. } = applications;
    let text = format!("{updated} of {desired} applications are up to date{looked_at}");
    let synced = condition(SYNCED, synced, if synced { "UpToDate" } else { "Behind" }, text);
    let text = format!("{} of {desired} applications are available{looked_at}", applications.available);
    let mut available =
        condition("Available", available, if available { "Healthy" } else { "Unhealthy" }, text);
    // An agent that does not see its cluster says what it saw last.
    let not_ready =
        |own: &documents::Condition| own.kind == KUBERNETES_READY && own.status == ConditionStatus::False;
    if said.conditions.iter().any(not_ready) {
        available.message = format!("{} as last seen: {}", available.status, available.message);
        (available.status, available.reason) = (word(ConditionStatus::Unknown), "KubernetesNotReady");
    }
    let close = report.clock_skew <= limits::CLOCK_SKEW_SECONDS;
    let text = if close { String::new() } else { format!("{} s from the hub's", report.clock_skew) };
    let clock = condition("ClockSynced", close, if close { "Close" } else { "Skewed" }, text);
    // What only the agent knows: its API server, a hold at the site, documents it refused.
    let own = said.conditions.iter().filter(|own| !JUDGED.contains(&own.kind.as_str()));
    let own = own.map(|own| Fresh {
        kind: &own.kind,
        status: word(own.status),
        reason: &own.reason,
        message: own.message.clone(),
    });
    [synced, available, clock].into_iter().chain(own).collect()
}

fn application_status(
    generation: u64,
    counts: ApplicationClusters,
    decision: &Decision,
) -> ApplicationStatus {
    let (word, reason) = match decision {
        Decision::Hold { reason, .. } => (resources::Decision::Hold, reason),
        Decision::Promote { reason, .. } => (resources::Decision::Promote, reason),
        Decision::Complete { reason } => (resources::Decision::Complete, reason),
    };
    let available = counts.available == counts.desired;
    let looked_at = counts.observed > 0 && counts.available + counts.observed == counts.desired;
    let text = match counts.observed {
        0 => format!("{} of {} clusters are available", counts.available, counts.desired),
        observed => format!("{observed} of {} clusters look at it", counts.desired),
    };
    let fresh = [
        Fresh {
            kind: "Available",
            status: if looked_at { "Unknown" } else { truth(available && counts.desired > 0) },
            reason: match (looked_at, available) {
                (true, _) => "Observed",
                (false, true) => "Healthy",
                (false, false) => "Unhealthy",
            },
            message: text,
        },
        Fresh {
            kind: "Progressing",
            status: truth(word != resources::Decision::Complete),
            reason: if word == resources::Decision::Complete { "Complete" } else { "RollingOut" },
            message: reason.clone(),
        },
    ];
    let observed_generation = i64::try_from(generation).ok();
    let conditions = fresh.map(|fresh| Condition { observed_generation, ..fresh.undated() }).to_vec();
    ApplicationStatus {
        conditions,
        observed_generation: generation,
        clusters: Some(counts),
        decision: Some(word),
        reason: Some(reason.clone()),
        preview: None,
    }
}

pub(super) fn truth(holds: bool) -> &'static str {
    if holds { "True" } else { "False" }
}

fn word(status: ConditionStatus) -> &'static str {
    match status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    }
}

fn revision(order: protocol::order::Order) -> Revision {
    Revision { epoch: u64::from(order.epoch.0), sequence: order.seq }
}

fn time(at: UnixSeconds) -> Time {
    Time(instant(at))
}

/// A time as people read it.
pub(super) fn instant(at: UnixSeconds) -> Timestamp {
    i64::try_from(at.0).ok().and_then(|s| Timestamp::from_second(s).ok()).unwrap_or_default()
}
