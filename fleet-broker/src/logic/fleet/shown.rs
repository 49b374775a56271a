//! What was put out last. Statuses stand in the registry; here is what tells whether the next is another one. Since when
//! they say what they say is no part of it, and neither is the time of a report.

use protocol::ids::{AppId, Digest};

use crate::resources::Status;

/// Of a cluster, and of each application there.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) status: Option<Digest>,
    assignments: Vec<(AppId, Digest)>,
}

impl Shown {
    /// Notes what is put out of an application. Whether that is another than before.
    pub(super) fn replace(&mut self, app: &AppId, digest: Digest) -> bool {
        match self.assignments.iter_mut().find(|(known, _)| known == app) {
            Some((_, known)) => std::mem::replace(known, digest) != digest,
            None => {
                // There are few, of each of many clusters.
                self.assignments.reserve_exact(1);
                self.assignments.push((app.clone(), digest));
                true
            }
        }
    }

    /// Forgets applications of which nothing is put out any more, and says which.
    pub(super) fn keep(&mut self, is_there: impl Fn(&AppId) -> bool) -> Vec<AppId> {
        let gone = self.assignments.extract_if(.., |(app, _)| !is_there(app));
        gone.map(|(app, _)| app).collect()
    }
}

/// What tells an undated status from another.
pub(super) fn digest(status: &impl Status) -> Digest {
    Digest::of(&serde_json::to_vec(status).expect("a status is JSON"))
}
