//! The kinds Kubernetes brings along: whether they live in a namespace, and when their turn is.

/// Where objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespace,
    /// Beside all namespaces.
    Cluster,
}

/// When an object is applied: what others need comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// CustomResourceDefinitions.
    Definitions,
    /// Namespaces.
    Namespaces,
    /// Who may do what, and how much of it.
    Policy,
    /// What workloads read, mount and are reached by.
    Config,
    /// What runs.
    Workloads,
    /// Everything else: custom resources, and what stands in the way of requests once it is there.
    Rest,
}

/// Whether objects of this kind live in a namespace; none if the kind is not Kubernetes' own.
pub fn scope_of(group: &str, kind: &str) -> Option<Scope> {
    find(group, kind).map(|row| row.2)
}

/// When objects of this kind are applied.
pub fn phase_of(group: &str, kind: &str) -> Phase {
    find(group, kind).map_or(Rest, |row| row.3)
}

type Row = (&'static str, &'static str, Scope, Phase);

fn find(group: &str, kind: &str) -> Option<&'static Row> {
    KINDS.iter().find(|row| row.0 == group && row.1 == kind)
}

use Phase::{Config, Definitions, Namespaces, Policy, Rest, Workloads};
use Scope::{Cluster, Namespace};

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Every kind of Kubernetes 1.37 that an API server stores and a bundle may hold.
const KINDS: &[Row] = &[
    ("", "Binding", Namespace, Rest),
    ("", "ConfigMap", Namespace, Config),
    ("", "Endpoints", Namespace, Config),
    ("", "Event", Namespace, Rest),
    ("", "LimitRange", Namespace, Policy),
    ("", "Namespace", Cluster, Namespaces),
    ("", "Node", Cluster, Rest),
    ("", "PersistentVolume", Cluster, Config),
    ("", "PersistentVolumeClaim", Namespace, Config),
    ("", "Pod", Namespace, Workloads),
    ("", "PodTemplate", Namespace, Config),
    ("", "ReplicationController", Namespace, Workloads),
    ("", "ResourceQuota", Namespace, Policy),
    ("", "Secret", Namespace, Config),
    ("", "Service", Namespace, Config),
    ("", "ServiceAccount", Namespace, Policy),
    (ADMISSION, "MutatingAdmissionPolicy", Cluster, Rest),
    (ADMISSION, "MutatingAdmissionPolicyBinding", Cluster, Rest),
    (ADMISSION, "MutatingWebhookConfiguration", Cluster, Rest),
    (ADMISSION, "ValidatingAdmissionPolicy", Cluster, Rest),
    (ADMISSION, "ValidatingAdmissionPolicyBinding", Cluster, Rest),
    (ADMISSION, "ValidatingWebhookConfiguration", Cluster, Rest),
    ("apiextensions.k8s.io", "CustomResourceDefinition", Cluster, Definitions),
    ("apiregistration.k8s.io", "APIService", Cluster, Rest),
    ("apps", "ControllerRevision", Namespace, Config),
    ("apps", "DaemonSet", Namespace, Workloads),
    ("apps", "Deployment", Namespace, Workloads),
    ("apps", "ReplicaSet", Namespace, Workloads),
    ("apps", "StatefulSet", Namespace, Workloads),
    ("autoscaling", "HorizontalPodAutoscaler", Namespace, Rest),
    ("batch", "CronJob", Namespace, Workloads),
    ("batch", "Job", Namespace, Workloads),
    ("certificates.k8s.io", "CertificateSigningRequest", Cluster, Rest),
    ("certificates.k8s.io", "ClusterTrustBundle", Cluster, Config),
    ("certificates.k8s.io", "PodCertificateRequest", Namespace, Rest),
    ("coordination.k8s.io", "Lease", Namespace, Rest),
    ("coordination.k8s.io", "LeaseCandidate", Namespace, Rest),
    ("discovery.k8s.io", "EndpointSlice", Namespace, Config),
    ("events.k8s.io", "Event", Namespace, Rest),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", Cluster, Policy),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", Cluster, Policy),
    ("internal.apiserver.k8s.io", "StorageVersion", Cluster, Rest),
    ("networking.k8s.io", "IPAddress", Cluster, Rest),
    ("networking.k8s.io", "Ingress", Namespace, Rest),
    ("networking.k8s.io", "IngressClass", Cluster, Config),
    ("networking.k8s.io", "NetworkPolicy", Namespace, Policy),
    ("networking.k8s.io", "ServiceCIDR", Cluster, Config),
    ("node.k8s.io", "RuntimeClass", Cluster, Config),
    ("policy", "PodDisruptionBudget", Namespace, Policy),
    (RBAC, "ClusterRole", Cluster, Policy),
    (RBAC, "ClusterRoleBinding", Cluster, Policy),
    (RBAC, "Role", Namespace, Policy),
    (RBAC, "RoleBinding", Namespace, Policy),
    ("resource.k8s.io", "DeviceClass", Cluster, Config),
    ("resource.k8s.io", "DeviceTaintRule", Cluster, Config),
    ("resource.k8s.io", "ResourceClaim", Namespace, Config),
    ("resource.k8s.io", "ResourceClaimTemplate", Namespace, Config),
    ("resource.k8s.io", "ResourcePoolStatusRequest", Cluster, Rest),
    ("resource.k8s.io", "ResourceSlice", Cluster, Rest),
    ("scheduling.k8s.io", "CompositePodGroup", Namespace, Config),
    ("scheduling.k8s.io", "PodGroup", Namespace, Config),
    ("scheduling.k8s.io", "PriorityClass", Cluster, Policy),
    ("scheduling.k8s.io", "Workload", Namespace, Config),
    ("storage.k8s.io", "CSIDriver", Cluster, Config),
    ("storage.k8s.io", "CSINode", Cluster, Rest),
    ("storage.k8s.io", "CSIStorageCapacity", Namespace, Rest),
    ("storage.k8s.io", "StorageClass", Cluster, Config),
    ("storage.k8s.io", "VolumeAttachment", Cluster, Rest),
    ("storage.k8s.io", "VolumeAttributesClass", Cluster, Config),
    ("storagemigration.k8s.io", "StorageVersionMigration", Cluster, Rest),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_group() {
        let cases = [
            ("apps", "Deployment", Some(Namespace), Workloads),
            ("", "Deployment", None, Rest),
            ("", "Namespace", Some(Cluster), Namespaces),
            (RBAC, "ClusterRole", Some(Cluster), Policy),
            ("example.com", "Ingress", None, Rest),
            ("apiextensions.k8s.io", "CustomResourceDefinition", Some(Cluster), Definitions),
        ];
        for (group, kind, scope, phase) in cases {
            assert_eq!((scope_of(group, kind), phase_of(group, kind)), (scope, phase), "{kind}.{group}");
        }
    }

    #[test]
    fn no_kind_stands_twice() {
        let mut names: Vec<_> = KINDS.iter().map(|row| (row.0, row.1)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
    }

    #[test]
    fn phases_come_in_the_order_others_need() {
        let order = [Definitions, Namespaces, Policy, Config, Workloads, Rest];
        assert!(order.is_sorted());
    }
}
