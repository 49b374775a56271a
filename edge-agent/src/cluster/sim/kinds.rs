//! Which kinds a cluster serves and how: built-in ones, and those of established CRDs.

use std::{collections::BTreeMap, sync::LazyLock};

use apimachinery::{meta::GroupVersionKind, schema::Topology};
use serde_json::Value;

use crate::logic::object::{Gvk, ObjectRef};

/// Built-in kinds with their plural. After it: `n` for kinds of namespaces, `g` for kinds that count
/// generations. From the API server's discovery, version 1.36.
const BUILT_IN: &str = "
v1 ConfigMap configmaps n
v1 Endpoints endpoints n
v1 LimitRange limitranges n
v1 Namespace namespaces
v1 Node nodes
v1 PersistentVolume persistentvolumes
v1 PersistentVolumeClaim persistentvolumeclaims n
v1 Pod pods ng
v1 ResourceQuota resourcequotas n
v1 Secret secrets n
v1 Service services n
v1 ServiceAccount serviceaccounts n
apps/v1 DaemonSet daemonsets ng
apps/v1 Deployment deployments ng
apps/v1 ReplicaSet replicasets ng
apps/v1 StatefulSet statefulsets ng
batch/v1 CronJob cronjobs ng
batch/v1 Job jobs ng
autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers n
policy/v1 PodDisruptionBudget poddisruptionbudgets ng
networking.k8s.io/v1 Ingress ingresses ng
networking.k8s.io/v1 IngressClass ingressclasses g
networking.k8s.io/v1 NetworkPolicy networkpolicies ng
rbac.authorization.k8s.io/v1 ClusterRole clusterroles
rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings
rbac.authorization.k8s.io/v1 Role roles n
rbac.authorization.k8s.io/v1 RoleBinding rolebindings n
storage.k8s.io/v1 StorageClass storageclasses
scheduling.k8s.io/v1 PriorityClass priorityclasses g
coordination.k8s.io/v1 Lease leases n
node.k8s.io/v1 RuntimeClass runtimeclasses
discovery.k8s.io/v1 EndpointSlice endpointslices ng
admissionregistration.k8s.io/v1 MutatingWebhookConfiguration mutatingwebhookconfigurations g
admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy validatingadmissionpolicies g
admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding validatingadmissionpolicybindings g
admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration validatingwebhookconfigurations g
apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions g
apiregistration.k8s.io/v1 APIService apiservices
";

/// How a kind is served.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) plural: String,
    pub(super) namespaced: bool,
    pub(super) has_generation: bool,
    pub(super) topology: Topology,
}

/// The kinds a cluster serves. The built-in ones are the same for all clusters and shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    custom: BTreeMap<Gvk, Kind>,
}

impl Kinds {
    pub(super) fn get(&self, kind: &Gvk) -> Option<&Kind> {
        BUILT_IN_KINDS.get(kind).or_else(|| self.custom.get(kind))
    }

    /// Serves the kinds of a CRD.
    pub(super) fn serve(&mut self, definition: &Value) {
        for (gvk, kind) in defined(definition) {
            self.custom.insert(gvk, kind);
        }
    }

    /// Serves the kinds of a CRD no longer; gives them.
    pub(super) fn withdraw(&mut self, definition: &Value) -> Vec<Gvk> {
        let kinds: Vec<Gvk> = defined(definition).into_iter().map(|(gvk, _)| gvk).collect();
        kinds.iter().for_each(|gvk| drop(self.custom.remove(gvk)));
        kinds
    }

    /// An object's resource as messages name it: `deployments.apps`, `configmaps`.
    pub(super) fn resource(&self, object: &ObjectRef) -> String {
        let plural = self.get(&object.gvk).map_or("", |kind| kind.plural.as_str());
        match object.gvk.group.as_str() {
            "" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        }
    }
}

static BUILT_IN_KINDS: LazyLock<BTreeMap<Gvk, Kind>> =
    LazyLock::new(|| BUILT_IN.lines().filter_map(built_in).collect());

fn built_in(line: &str) -> Option<(Gvk, Kind)> {
    let mut words = line.split(' ');
    let gvk = Gvk::new(words.next()?, words.next()?);
    let plural = words.next()?.to_owned();
    let flags = words.next().unwrap_or("");
    let topology = Topology::built_in(&machinery(&gvk))?;
    let (namespaced, has_generation) = (flags.contains('n'), flags.contains('g'));
    Some((gvk, Kind { plural, namespaced, has_generation, topology }))
}

fn defined(definition: &Value) -> Vec<(Gvk, Kind)> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let served = |version: &&Value| version["served"] == true;
    let versions = spec["versions"].as_array().into_iter().flatten().filter(served);
    versions
        .map(|version| {
            let has_status = version["subresources"]["status"].is_object();
            let topology = Topology::custom(&version["schema"]["openAPIV3Schema"], has_status)
                .unwrap_or_else(|_| Topology::untyped(has_status));
            let kind = Kind {
                plural: text(&spec["names"]["plural"]),
                namespaced: spec["scope"] == "Namespaced",
                has_generation: true,
                topology,
            };
            let (group, kind_name) = (text(&spec["group"]), text(&spec["names"]["kind"]));
            (Gvk { group, version: text(&version["name"]), kind: kind_name }, kind)
        })
        .collect()
}

fn machinery(gvk: &Gvk) -> GroupVersionKind {
    GroupVersionKind { group: gvk.group.clone(), version: gvk.version.clone(), kind: gvk.kind.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_kind_has_its_merge_rules() {
        let rows = BUILT_IN.lines().filter(|line| !line.is_empty()).count();
        assert_eq!(BUILT_IN_KINDS.len(), rows);
    }
}
