//! What was published and placed, and so must be there; and what clusters are told of it, which never goes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use edgefleet::{bundle::Bundle, hub::Hub};
use fleet_broker::resources::{Cluster, Revision};
use protocol::ids::{AppId, FleetId};
use serde_json::json;
use tests::FLEET_TENANT;

use crate::{
    harness::{build, plan},
    manifests::greeting,
};

/// The one application.
#[derive(Debug)]
pub(super) struct Delivery {
    fleet: FleetId,
    app: AppId,
    keys: PathBuf,
    /// Bundles whose publication was answered.
    published: BTreeSet<String>,
    /// The bundle that the application names, as it was answered.
    placed: Option<String>,
    /// The bundle that it may name, as no answer came.
    placing: Option<String>,
    /// The newest desired state that the hub showed of each cluster.
    desired: BTreeMap<String, Revision>,
}

impl Delivery {
    pub(super) fn new(fleet: &str, folder: &Path) -> Result<Self> {
        Ok(Self {
            fleet: FleetId::new(fleet)?,
            app: AppId::new(FLEET_TENANT, "web")?,
            keys: folder.join("keys"),
            published: BTreeSet::new(),
            placed: None,
            placing: None,
            desired: BTreeMap::new(),
        })
    }

    /// Publishes a version of the application, and has it run on the cluster that was made in that life, which goes on to
    /// have it when the next one comes.
    pub(super) async fn deliver(&mut self, operator: &Hub, version: u64) -> Result<()> {
        let bundle = self.build(version)?;
        operator.push(&bundle).await?;
        let name = format!("{}-{}", self.app.name, bundle.release().version);
        self.published.insert(name.clone());
        self.placing = Some(name.clone());
        let application = json!({
            "apiVersion": "edgefleet.dev/v1alpha1", "kind": "Application",
            "metadata": {"namespace": self.app.tenant.as_str(), "name": self.app.name.as_str()},
            "spec": {"bundle": name, "placement": {"clusterSelector": {"matchLabels": {"life": version.to_string()}}}},
        });
        operator.put_application(application).await?;
        (self.placed, self.placing) = (Some(name), None);
        Ok(())
    }

    /// Everything that was answered is there, and no cluster is told less than before.
    pub(super) async fn compare(&mut self, operator: &Hub, clusters: &[Cluster]) -> Result<()> {
        for name in &self.published {
            let found = operator.bundle(&self.app.tenant, name).await?;
            ensure!(found.is_some(), "LOST: bundle {name}");
        }
        // What was there and whole once is looked for by its name alone from now on: in the application.
        self.published.clear();
        let found = operator.application(&self.app).await?.map(|application| application.spec.bundle);
        let is_either = found == self.placed || self.placing.is_some() && found == self.placing;
        ensure!(is_either, "LOST: {self:?}: the application names {found:?}");
        (self.placed, self.placing) = (found, None);
        for cluster in clusters {
            let name = cluster.metadata.name.clone().context("its name")?;
            let shown = cluster.status.as_ref().and_then(|status| status.desired);
            let before = self.desired.get(&name).copied();
            ensure!(shown >= before, "LOST: {name} was told {before:?}, and now {shown:?}");
            self.desired.extend(shown.map(|shown| (name, shown)));
        }
        Ok(())
    }

    /// How many clusters were told something.
    pub(super) fn told(&self) -> usize {
        self.desired.len()
    }

    fn build(&self, version: u64) -> Result<Bundle> {
        let manifests = greeting(FLEET_TENANT, &format!("life-{version}"));
        // Both keys, because a namespace is an object of the whole cluster.
        let signers = ["release-1.key", "release-2.key"].map(|key| self.keys.join(key));
        build(&self.fleet, &plan(&self.app, version), &manifests, &signers)
    }
}
