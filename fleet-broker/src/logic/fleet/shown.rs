//! What was put out last. Statuses stand in the registry; here is what tells whether the next is another one, and since
//! when what both say holds. It takes a fraction of their memory, and there is one for each cluster and assignment.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use protocol::ids::{AppId, ClusterId, Digest};
use serde::Serialize;

use super::status::{DRIFTED, JUDGED, STATUSES};
use crate::resources::{ApplicationStatus, AssignmentState, AssignmentStatus, ClusterStatus};

/// What was put out last, of everything that has a status.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) clusters: BTreeMap<ClusterId, Last>,
    pub(super) applications: BTreeMap<AppId, ApplicationStatus>,
    pub(super) assignments: BTreeMap<(ClusterId, AppId), LastAssignment>,
}

/// Of one status.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Last {
    digest: Digest,
    pub(super) transitions: Transitions,
}

/// Since when conditions have their status.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transitions(Box<[Transition]>);

#[derive(Debug, PartialEq, Eq)]
struct Transition {
    kind: Cow<'static, str>,
    status: &'static str,
    at: Time,
}

/// Conditions that agents report, beside those that the hub judges: of their names no copy is kept.
const REPORTED: [&str; 5] = ["KubernetesReady", "Held", "Applied", "Progressing", "Degraded"];

/// Of an assignment's status.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LastAssignment {
    pub(super) last: Last,
    pub(super) bundle: Box<str>,
    pub(super) state: AssignmentState,
    pub(super) since: Option<Time>,
}

impl Last {
    /// A cluster's, but for the time of its report.
    pub(super) fn of_cluster(status: &ClusterStatus) -> Self {
        debug_assert!(status.last_report_time.is_none());
        Self::of(status, &status.conditions)
    }

    fn of(status: &impl Serialize, conditions: &[Condition]) -> Self {
        let text = serde_json::to_vec(status).expect("a status is JSON");
        Self { digest: Digest::of(&text), transitions: Transitions::of(conditions) }
    }
}

impl Transitions {
    /// What `conditions` say.
    pub(super) fn of(conditions: &[Condition]) -> Self {
        let names = JUDGED.into_iter().chain([DRIFTED]).chain(REPORTED);
        let transition = |condition: &Condition| {
            let Condition { type_, status, last_transition_time, .. } = condition;
            let known = names.clone().find(|known| known == type_);
            Some(Transition {
                kind: known.map_or_else(|| type_.clone().into(), Cow::Borrowed),
                status: STATUSES.into_iter().find(|known| known == status)?,
                at: last_transition_time.clone(),
            })
        };
        Self(conditions.iter().filter_map(transition).collect())
    }

    /// Since when a condition has this status; none if it did not have it.
    pub(super) fn since(&self, kind: &str, status: &str) -> Option<Time> {
        let same = |old: &&Transition| old.kind == kind && old.status == status;
        self.0.iter().find(same).map(|old| old.at.clone())
    }
}

impl LastAssignment {
    pub(super) fn of(status: &AssignmentStatus) -> Self {
        Self {
            last: Last::of(status, &status.conditions),
            bundle: status.bundle.as_str().into(),
            state: status.state,
            since: status.since.clone(),
        }
    }
}
