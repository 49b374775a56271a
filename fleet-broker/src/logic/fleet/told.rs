//! What is told of the fleet in events: of what is decided when it differs from what was decided before, and of a
//! report what the one before it did not say. Who says the same again is not told of.

use std::time::Duration;

use protocol::{
    documents::{AppReport, AppState, Condition, ConditionStatus, Drift, Report},
    ids::{AppId, ClusterId},
    time::Now,
};

use super::{
    Cluster, Effect, Fleet,
    decide::Edit,
    reported::Before,
    rollout::{Decision, Waits},
    status::DRIFTED,
};
use crate::{
    logic::{
        occurrence::{Occurrence, Reason},
        registry::ObjectKey,
    },
    resources::{self, Kind},
};

/// How long after the hub's start clusters may take to come back: they wait at random, so that they do not come at
/// once, for up to some minutes.
const MISSING_AFTER: Duration = Duration::from_secs(10 * 60);

/// The reason by which a cluster says that it does not delete what it was told to.
const PRUNE_REFUSED: &str = "PruneRefused";

/// Tells of a cluster.
pub(super) fn of_cluster(id: &ClusterId, reason: Reason, message: impl Into<String>) -> Effect {
    let about = ObjectKey::new(Kind::Cluster, "", id.as_str());
    Effect::Occurred(Occurrence { about, reason, message: message.into() })
}

/// Tells of an application.
pub(super) fn of_application(id: &AppId, reason: Reason, message: impl Into<String>) -> Effect {
    let about = ObjectKey::new(Kind::Application, id.tenant.as_str(), id.name.as_str());
    Effect::Occurred(Occurrence { about, reason, message: message.into() })
}

/// Tells of an application on a cluster.
fn of_assignment(app: &AppId, cluster: &ClusterId, reason: Reason, message: String) -> Effect {
    Effect::Occurred(Occurrence { about: assignment_key(app, cluster), reason, message })
}

/// The Assignment of an application on a cluster.
pub fn assignment_key(app: &AppId, cluster: &ClusterId) -> ObjectKey {
    ObjectKey::new(Kind::Assignment, app.tenant.as_str(), &format!("{}.{cluster}", app.name))
}

impl Fleet {
    /// What is to be told of a decision, if it is another than the one before. What was told before a restart is known
    /// from the status that was shown with it.
    pub(super) fn tell_decision(&self, id: &AppId, decision: &Decision) -> Option<Effect> {
        let (reason, message) = words(decision)?;
        let again = match (decision, self.decisions.get(id)) {
            (Decision::Promote { .. }, _) => false,
            (_, Some(before)) => words(before).is_some_and(|(before, _)| before == reason),
            (_, None) => self.shown.get(id).is_some_and(|shown| {
                let complete = matches!(decision, Decision::Complete { .. });
                shown.reason.as_deref() == Some(message)
                    || complete && shown.decision == Some(resources::Decision::Complete)
            }),
        };
        (!again).then(|| of_application(id, reason, self.with_approval(id, decision, message)))
    }

    fn with_approval(&self, id: &AppId, decision: &Decision, message: &str) -> String {
        let approval = self.applications.get(id).and_then(|application| application.approval.as_ref());
        match (decision, approval) {
            (Decision::Promote { approved: true, .. }, Some(approval)) => {
                format!("{message}, as approved for generation {approval}")
            }
            _ => message.to_owned(),
        }
    }

    /// Tells what a cluster is told to do about an application.
    pub(super) fn tell_edit(&self, cluster: &ClusterId, edit: &Edit) -> Effect {
        match edit {
            Edit::Install(release) => {
                let bundle =
                    self.bundle_name(release).unwrap_or_else(|| format!("sha256:{}", release.release));
                of_assignment(
                    &release.app,
                    cluster,
                    Reason::Offered,
                    format!("bundle {bundle} is to run here"),
                )
            }
            Edit::Remove(app) => {
                of_assignment(app, cluster, Reason::Removing, "it is to be removed from here".to_owned())
            }
        }
    }

    /// Tells that a cluster's connection is up, or down, unless that was told last. What the hub's own restart cuts is
    /// not told of.
    pub(super) fn tell_presence(&mut self, id: &ClusterId, effects: &mut Vec<Effect>) {
        let accepted = self.clusters.get_uncounted(id).filter(|cluster| cluster.accepted);
        let Some(cluster) = accepted else { return };
        if cluster.told_connected.replace(cluster.connected) != Some(cluster.connected) {
            effects.push(match cluster.connected {
                true => of_cluster(id, Reason::Connected, "the cluster is connected"),
                false => of_cluster(id, Reason::Offline, "the connection is down"),
            });
        }
    }

    /// Tells of clusters that have not come back after the hub started.
    pub(super) fn tell_missing(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if now.monotonic < MISSING_AFTER || std::mem::replace(&mut self.told_missing, true) {
            return;
        }
        let is_missing = |cluster: &Cluster| {
            cluster.registered && !cluster.connected && cluster.told_connected == Some(true)
        };
        let missing = self.clusters.iter().filter(|(_, cluster)| is_missing(cluster));
        let missing: Vec<_> = missing.map(|(id, _)| id.clone()).collect();
        missing.iter().for_each(|id| self.tell_presence(id, effects));
    }
}

impl Cluster {
    /// Tells what a report says that the one before did not, of what the cluster was told to run or to remove: of
    /// anything else it has no say.
    pub(super) fn tell_report(&self, id: &ClusterId, report: &Report, effects: &mut Vec<Effect>) {
        let Some(signed) = &self.signed else { return };
        let before = self.report.as_ref().map(Before::new);
        for app in &report.apps {
            let is_told =
                signed.desired.release_of(&app.app).is_some() || signed.desired.remove.contains(&app.app);
            if is_told {
                let news = news(before.as_ref(), app).into_iter();
                effects.extend(news.map(|(reason, message)| of_assignment(&app.app, id, reason, message)));
            }
        }
    }
}

/// The word for a decision and its reason; none for one that only says how far a change is.
fn words(decision: &Decision) -> Option<(Reason, &str)> {
    let (word, reason) = match decision {
        Decision::Promote { reason, .. } => (Reason::Promoted, reason),
        Decision::Complete { reason } => (Reason::Complete, reason),
        Decision::Hold { reason, waits } => match waits {
            Waits::Clusters => return None,
            Waits::Approval => (Reason::AwaitsApproval, reason),
            Waits::Freeze => (Reason::Frozen, reason),
            Waits::Failed => (Reason::Failed, reason),
            Waits::Blocked => (Reason::Blocked, reason),
            Waits::Recovery => (Reason::Recovering, reason),
        },
    };
    Some((word, reason))
}

/// What a report says of an application that the one before did not.
fn news(before: Option<&Before<'_>>, report: &AppReport) -> Vec<(Reason, String)> {
    let mut news = Vec::new();
    let brief = before.and_then(|before| before.brief(&report.app));
    // Where something is wrong, what was said before has to be read.
    let full = || before.and_then(|before| before.app(&report.app));
    let was = brief.map(|before| before.state);
    let applied = report.applied.as_ref();
    let is_new = applied.map(|applied| applied.digest) != brief.and_then(|before| before.applied);
    let becomes = |what: &str| match applied {
        Some(applied) => format!("bundle {}-{} is {what}", report.app.name, applied.version),
        None => format!("what it runs is {what}"),
    };
    if applied.is_some() && is_new {
        news.push((Reason::Applied, becomes("applied")));
    }
    if report.state == AppState::Available && (is_new || was != Some(AppState::Available)) {
        news.push((Reason::Available, becomes("available")));
    }
    if let Some(worst) = report.worst.as_ref().filter(|_| report.state == AppState::Degraded)
        && full().is_none_or(|before| (before.state, &before.worst) != (report.state, &report.worst))
    {
        let refused = worst.reason == PRUNE_REFUSED;
        let reason = if refused { Reason::PruneRefused } else { Reason::Degraded };
        news.push((reason, format!("{}: {}: {}", worst.object, worst.reason, worst.message)));
    }
    if let Some(rejected) = &report.rejected
        && full().and_then(|before| before.rejected.as_ref()) != Some(rejected)
    {
        news.push((Reason::Rejected, format!("{}: {}", rejected.reason, rejected.message)));
    }
    news.extend(drift(full, report));
    if report.state == AppState::Removed && was.is_some_and(|was| was != AppState::Removed) {
        news.push((Reason::Removed, "it is removed from here".to_owned()));
    }
    news
}

/// What others changed, and what was healed of it.
fn drift<'a>(before: impl Fn() -> Option<&'a AppReport>, report: &AppReport) -> Vec<(Reason, String)> {
    let drifted = |report: &AppReport| -> Option<String> {
        let holds = |c: &&Condition| c.kind == DRIFTED && c.status == ConditionStatus::True;
        report.conditions.iter().find(holds).map(|condition| condition.message.clone())
    };
    let found = drifted(report).filter(|found| before().and_then(drifted).as_ref() != Some(found));
    let known = |drift: &&Drift| {
        let before = before().into_iter().flat_map(|before| &before.drift);
        before.filter(|known| known.object == drift.object).all(|known| known.count < drift.count)
    };
    let healed = report.drift.iter().filter(known);
    let healed =
        healed.map(|d| (Reason::Healed, format!("{} was changed by {} and healed", d.object, d.manager)));
    found.map(|found| (Reason::Drifted, found)).into_iter().chain(healed).collect()
}
