//! Which clusters an application goes to, and how it is set on each.

use std::collections::BTreeMap;

use apimachinery::selector::{LabelSelector, Selector};
use protocol::{
    documents::{DesiredRelease, Mode},
    ids::{AppId, ClusterId, Name},
};

use super::{Application, Cluster, Release};

/// What every placed cluster shall run of an application.
pub(super) type Placed = BTreeMap<ClusterId, DesiredRelease>;

/// Places an application with `release` on those of `clusters` that its selector names.
pub(super) fn place(
    id: &AppId,
    application: &Application,
    release: &Release,
    clusters: &BTreeMap<ClusterId, Cluster>,
) -> Placed {
    let selected = selects(&application.spec.placement.cluster_selector);
    let overrides: Vec<_> = application
        .spec
        .overrides
        .iter()
        .map(|entry| (selects(&entry.cluster_selector), &entry.parameters))
        .collect();
    let placed = clusters.iter().filter(|(_, cluster)| cluster.accepted && selected(&cluster.labels));
    placed
        .map(|(cluster_id, cluster)| {
            let mut values = application.spec.parameters.clone();
            // The first override that names the cluster wins.
            if let Some((_, parameters)) = overrides.iter().find(|(selects, _)| selects(&cluster.labels)) {
                values.extend(parameters.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            (cluster_id.clone(), desired(id, application, release, values))
        })
        .collect()
}

fn desired(
    id: &AppId,
    application: &Application,
    release: &Release,
    values: BTreeMap<String, String>,
) -> DesiredRelease {
    let depends_on = application.spec.depends_on.iter();
    DesiredRelease {
        app: id.clone(),
        release: release.digest,
        len: u32::try_from(release.bytes.len()).unwrap_or(u32::MAX),
        values,
        mode: match application.spec.mode {
            crate::resources::Mode::Enforce => Mode::Enforce,
        },
        depends_on: depends_on.filter_map(|dependency| Name::new(&*dependency.application).ok()).collect(),
    }
}

/// A selector that cannot be read selects nothing; the API lets none in.
fn selects(selector: &LabelSelector) -> impl Fn(&BTreeMap<String, String>) -> bool + use<> {
    let selector = Selector::try_from(selector).ok();
    move |labels| selector.as_ref().is_some_and(|selector| selector.matches(labels))
}
