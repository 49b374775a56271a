//! Which clusters an application goes to, and how it is set on each.

use std::collections::BTreeMap;

use apimachinery::selector::{LabelSelector, Selector};
use protocol::{
    documents::{DesiredRelease, Mode},
    ids::{AppId, Name},
};

use super::{Application, Release};
use crate::resources;

/// Where one application goes with one release. What clusters may be told is made once, not once for each.
#[derive(Debug)]
pub(super) struct Placement {
    selector: Selector,
    everywhere: DesiredRelease,
    /// The first that names a cluster wins.
    overrides: Vec<(Selector, DesiredRelease)>,
}

impl Placement {
    /// Reads an application as one that runs `release`.
    ///
    /// # Errors
    /// In a sentence, what no cluster could run: then none is told.
    pub(super) fn new(id: &AppId, application: &Application, release: &Release) -> Result<Self, String> {
        let spec = &application.spec;
        let everywhere = desired(id, application, release)?;
        check_values("parameters", release, &everywhere)?;
        let overrides = spec.overrides.iter().enumerate().map(|(index, entry)| {
            let field = format!("overrides[{index}]");
            let mut desired = everywhere.clone();
            desired.values.extend(entry.parameters.iter().map(|(name, value)| (name.clone(), value.clone())));
            check_values(&format!("{field}.parameters"), release, &desired)?;
            Ok((selector(&format!("{field}.clusterSelector"), &entry.cluster_selector)?, desired))
        });
        Ok(Self {
            selector: selector("placement.clusterSelector", &spec.placement.cluster_selector)?,
            overrides: overrides.collect::<Result<_, String>>()?,
            everywhere,
        })
    }

    /// What a cluster with these labels shall run; none if it is not selected.
    pub(super) fn on(&self, labels: &BTreeMap<String, String>) -> Option<&DesiredRelease> {
        let first = self.overrides.iter().find(|(selector, _)| selector.matches(labels));
        self.selector.matches(labels).then(|| first.map_or(&self.everywhere, |(_, desired)| desired))
    }
}

fn desired(id: &AppId, application: &Application, release: &Release) -> Result<DesiredRelease, String> {
    let spec = &application.spec;
    // A dependency that is left out would let the application start too early.
    let depends_on = spec.depends_on.iter().map(|dependency| Name::new(&*dependency.application));
    let depends_on = depends_on.collect::<Result<_, _>>().map_err(|error| format!("dependsOn: {error}"))?;
    Ok(DesiredRelease {
        app: id.clone(),
        release: release.verified.digest(),
        len: u32::try_from(release.bytes.len()).expect("a verified release is within its limit"),
        values: spec.parameters.clone(),
        mode: match spec.mode {
            resources::Mode::Enforce => Mode::Enforce,
        },
        depends_on,
    })
}

fn check_values(field: &str, release: &Release, desired: &DesiredRelease) -> Result<(), String> {
    let resolved = release.verified.resolve(&desired.values);
    resolved.map(drop).map_err(|error| format!("{field}: {error}"))
}

fn selector(field: &str, selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector).map_err(|error| format!("{field}: {error}"))
}
