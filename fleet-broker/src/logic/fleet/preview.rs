//! Applications that clusters only look at: who can be told so, and what they say would change.

use protocol::{
    documents::{self, AppReport, AppState, DesiredRelease},
    ids::AppId,
};

use super::{Cluster, Fleet};
use crate::resources::{ApplicationClusters, Mode, Preview, PreviewCounts, PreviewedObject};

impl Fleet {
    /// A cluster said hello: of applications that are only looked at it is known now whether its agent can be told.
    pub(super) fn touch_observed(&mut self) {
        let observed = self.applications.iter().filter(|(_, one)| one.spec.mode != Mode::Enforce);
        self.changed.later.extend(observed.map(|(id, _)| id.clone()));
    }

    /// What applying an application would do, over all accepted clusters that look at it; none if no cluster does.
    /// `counts` are those of the application: one that nobody looks at costs nothing more.
    pub(super) fn previewed(&self, id: &AppId, counts: ApplicationClusters) -> Option<PreviewCounts> {
        if counts.observed == 0 {
            return None;
        }
        let accepted =
            self.clusters.values().filter(|cluster| cluster.accepted && cluster.told(id).is_some());
        let previews = accepted.filter_map(|cluster| {
            let said = cluster.report.as_ref()?.read();
            said.app(id).and_then(preview).map(|preview| preview.objects)
        });
        previews.reduce(|mut all, one| {
            all.add(one);
            all
        })
    }
}

impl Cluster {
    /// Whether the agent knows documents that say this. One that said nothing yet since the hub started is taken for one
    /// that knows what every agent does: a desired state that it cannot read would cut it off.
    pub(super) fn reads(&self, release: &DesiredRelease) -> bool {
        release.version() == 1 || self.claim.is_some_and(|claim| claim.documents >= release.version())
    }

    /// Whether the agent said that it does not know what it was told before: it is another one since.
    pub(super) fn unlearned(&self, release: &DesiredRelease) -> bool {
        self.claim.is_some() && !self.reads(release)
    }
}

/// What a cluster says that applying would do. A report that speaks of something else as well is judged by that.
pub(super) fn preview(report: &AppReport) -> Option<Preview> {
    let documents::Preview { unchanged, create, change, adopt, conflict, refuse, delete, objects } =
        report.preview.as_ref()?;
    let first = objects.iter().map(|one| PreviewedObject {
        object: one.object.clone(),
        reason: one.reason.clone(),
        message: one.message.clone(),
    });
    let count = |number: &u32| u64::from(*number);
    let objects = PreviewCounts {
        unchanged: count(unchanged),
        create: count(create),
        change: count(change),
        adopt: count(adopt),
        conflict: count(conflict),
        refuse: count(refuse),
        delete: count(delete),
    };
    Some(Preview { objects, first: first.collect() })
}

/// What an assignment says of an application that is only looked at.
pub(super) fn message(report: &AppReport) -> Option<String> {
    let preview = report.preview.as_ref().filter(|_| report.state == AppState::Observed)?;
    Some(preview.to_string())
}
