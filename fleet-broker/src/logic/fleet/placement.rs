//! Which clusters an application goes to, and how it is set on each.

use std::{collections::BTreeMap, sync::Arc};

use apimachinery::selector::{LabelSelector, Selector};
use protocol::{
    documents::{self, DesiredRelease, Mode, ObjectRule},
    ids::{AppId, Name},
};

use super::{Application, Labels, Release};
use crate::resources::{self, ApplicationSpec};

/// Which clusters an application selects, and which parameters it sets on each.
#[derive(Debug)]
pub struct Selection {
    selector: Selector,
    everywhere: BTreeMap<String, String>,
    /// The first that names a cluster wins.
    overrides: Vec<(Selector, BTreeMap<String, String>)>,
}

impl Selection {
    /// Reads what an application says.
    ///
    /// # Errors
    /// In a sentence, which of its selectors is none.
    pub fn of(spec: &ApplicationSpec) -> Result<Self, String> {
        let overrides = spec.overrides.iter().enumerate().map(|(index, entry)| {
            let mut values = spec.parameters.clone();
            values.extend(entry.parameters.iter().map(|(name, value)| (name.clone(), value.clone())));
            let field = format!("overrides[{index}].clusterSelector");
            Ok((selector(&field, &entry.cluster_selector)?, values))
        });
        Ok(Self {
            selector: selector("placement.clusterSelector", &spec.placement.cluster_selector)?,
            overrides: overrides.collect::<Result<_, String>>()?,
            everywhere: spec.parameters.clone(),
        })
    }

    /// Refuses parameters that `release` does not take, whichever cluster they are for.
    ///
    /// # Errors
    /// Which of them, in a sentence.
    pub fn check(&self, release: &documents::Release) -> Result<(), String> {
        let check = |field: &str, values: &BTreeMap<String, String>| {
            release.resolve(values).map(drop).map_err(|error| format!("{field}: {error}"))
        };
        check("parameters", &self.everywhere)?;
        let mut overrides = self.overrides.iter().enumerate();
        overrides
            .try_for_each(|(index, (_, values))| check(&format!("overrides[{index}].parameters"), values))
    }

    /// Whether a cluster with these labels is selected.
    pub fn selects(&self, labels: &Labels) -> bool {
        labels.are_selected_by(&self.selector)
    }

    /// The parameters that are set on a cluster with these labels.
    pub fn values(&self, labels: &Labels) -> &BTreeMap<String, String> {
        self.override_of(labels).map_or(&self.everywhere, |index| &self.overrides[index].1)
    }

    fn override_of(&self, labels: &Labels) -> Option<usize> {
        self.overrides.iter().position(|(selector, _)| labels.are_selected_by(selector))
    }
}

/// Where one application goes with one release. What clusters may be told is made once, not once for each.
#[derive(Debug)]
pub(super) struct Placement {
    selection: Selection,
    everywhere: Arc<DesiredRelease>,
    /// One for each override.
    overrides: Vec<Arc<DesiredRelease>>,
}

impl Placement {
    /// Reads an application as one that runs `release`.
    ///
    /// # Errors
    /// In a sentence, what no cluster could run: then none is told.
    pub(super) fn new(id: &AppId, application: &Application, release: &Release) -> Result<Self, String> {
        let selection = Selection::of(&application.spec)?;
        selection.check(&release.verified)?;
        let everywhere = desired(id, application, release)?;
        let set = |values: &BTreeMap<String, String>| DesiredRelease {
            values: values.clone(),
            ..everywhere.clone()
        };
        let overrides = selection.overrides.iter().map(|(_, values)| Arc::new(set(values))).collect();
        Ok(Self { selection, everywhere: Arc::new(everywhere), overrides })
    }

    /// What a cluster with these labels shall run; none if it is not selected.
    pub(super) fn on(&self, labels: &Labels) -> Option<&Arc<DesiredRelease>> {
        let first = || self.selection.override_of(labels);
        self.selection
            .selects(labels)
            .then(|| first().map_or(&self.everywhere, |index| &self.overrides[index]))
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
            resources::Mode::Observe => Mode::Observe,
            resources::Mode::DryRun => Mode::DryRun,
        },
        depends_on,
        enforce: (!spec.enforce.is_empty()).then(|| spec.enforce.iter().map(rule).collect()),
    })
}

fn rule(rule: &resources::ObjectRule) -> ObjectRule {
    ObjectRule { kind: rule.kind.clone(), namespace: rule.namespace.clone(), name: rule.name.clone() }
}

fn selector(field: &str, selector: &LabelSelector) -> Result<Selector, String> {
    Selector::try_from(selector).map_err(|error| format!("{field}: {error}"))
}
