//! The two clusters that must be alike.

use anyhow::{Result, bail};
use edge_agent::cluster::{
    Cluster, ClusterError, Request, Response, WatchEvent,
    kube::KubeCluster,
    sim::{Action, Edit, LiveCluster},
};
use edge_agent::logic::object::{Gvk, ObjectRef};
use futures::stream::LocalBoxStream;
use serde_json::Value;
use tests::{Kubectl, Namespace};

/// A cluster and a namespace in it for one case.
pub(crate) enum Side {
    Simulated(LiveCluster),
    Real { cluster: KubeCluster, namespace: Namespace, kubectl: Kubectl },
}

impl Side {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Simulated(_) => "simulated",
            Self::Real { .. } => "real",
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Simulated(_) => "conformance",
            Self::Real { namespace, .. } => namespace.name(),
        }
    }

    pub(crate) async fn send(&self, request: Request) -> Result<Response, ClusterError> {
        match self {
            Self::Simulated(cluster) => cluster.send(request).await,
            Self::Real { cluster, .. } => cluster.send(request).await,
        }
    }

    pub(crate) fn watch(&self, kind: Gvk, label_selector: &str) -> LocalBoxStream<'static, WatchEvent> {
        match self {
            Self::Simulated(cluster) => cluster.watch(kind, label_selector.into(), 1),
            Self::Real { cluster, .. } => cluster.watch(kind, label_selector.into(), 1),
        }
    }

    /// What a person does with kubectl: merges a patch into an object that exists.
    pub(crate) async fn edit(
        &self,
        object: &ObjectRef,
        manager: &str,
        subresource: &str,
        patch: &Value,
    ) -> Result<()> {
        match self {
            Self::Simulated(cluster) => {
                cluster.edit(Edit {
                    manager: manager.into(),
                    subresource: subresource.into(),
                    object: object.clone(),
                    action: Action::Merge(patch.clone()),
                });
                Ok(())
            }
            Self::Real { kubectl, .. } => {
                let Gvk { group, version, kind } = &object.gvk;
                let (kind, patch) = (format!("{kind}.{version}.{group}"), patch.to_string());
                let manager = format!("--field-manager={manager}");
                let mut arguments =
                    vec!["patch", &kind, &object.name, "--type=merge", "-p", &patch, &manager];
                if let Some(namespace) = &object.namespace {
                    arguments.extend(["--namespace", namespace]);
                }
                if !subresource.is_empty() {
                    arguments.extend(["--subresource", subresource]);
                }
                kubectl.run(&arguments).await.map(drop)
            }
        }
    }

    /// The object as it is now.
    pub(crate) async fn get(&self, object: &ObjectRef) -> Result<Value> {
        match self.send(Request::Get(object.clone())).await? {
            Response::Object(value) => Ok(value),
            other @ (Response::List(_) | Response::Deleted | Response::Deleting | Response::Version(_)) => {
                bail!("{object} was asked for, {other:?} came")
            }
        }
    }
}
