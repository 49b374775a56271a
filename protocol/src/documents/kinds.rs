//! Which kinds Kubernetes itself keeps outside namespaces.
//!
//! An API server drops the namespace of a cluster-scoped object without a word, so a release that gives one to
//! a `ClusterRole` would pass as namespaced. Kinds of custom resources cannot be known here: whoever applies
//! them compares the declared scope with the API server's discovery.

/// Group and kind of every cluster-scoped kind of Kubernetes 1.37 that an API server stores.
const CLUSTER_SCOPED: [(&str, &str); 33] = [
    ("", "Namespace"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("certificates.k8s.io", "ClusterTrustBundle"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("internal.apiserver.k8s.io", "StorageVersion"),
    ("networking.k8s.io", "IPAddress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("node.k8s.io", "RuntimeClass"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "DeviceTaintRule"),
    ("resource.k8s.io", "ResourcePoolStatusRequest"),
    ("resource.k8s.io", "ResourceSlice"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("storagemigration.k8s.io", "StorageVersionMigration"),
];

/// Whether Kubernetes keeps this kind outside namespaces.
pub(crate) fn is_cluster_scoped(group: &str, kind: &str) -> bool {
    CLUSTER_SCOPED.contains(&(group, kind))
}

/// Whether the text can be an API group: empty for the core group, else a DNS name (RFC 1123).
pub(crate) fn is_group(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.is_empty() || (text.len() <= 253 && text.split('.').all(label))
}

/// Whether the text can be an API version, such as `v1beta1`: one segment of a URL's path.
pub(crate) fn is_version(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether the text can be a kind, such as `Deployment`.
pub(crate) fn is_kind(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        good.iter().for_each(|text| assert!(rule(text), "{text:?} is refused"));
        bad.iter().for_each(|text| assert!(!rule(text), "{text:?} is accepted"));
    }

    #[test]
    fn names_of_the_api_cannot_leave_their_place_in_a_url() {
        let escapes = ["a/b", "..", ".", "a%2fb", "a?b", "a#b", "a b", "a\0"];
        check(is_group, &["", "apps", "rbac.authorization.k8s.io"], &escapes);
        check(is_version, &["v1", "v2beta1"], &escapes);
        check(is_kind, &["Pod", "CustomResourceDefinition"], &escapes);
        check(is_version, &[], &["", "V1"]);
        check(is_kind, &[], &["", "a-b"]);
    }

    #[test]
    fn a_kind_is_known_by_its_group_too() {
        assert!(is_cluster_scoped("rbac.authorization.k8s.io", "ClusterRole"));
        assert!(!is_cluster_scoped("example.com", "ClusterRole"));
        assert!(!is_cluster_scoped("rbac.authorization.k8s.io", "Role"));
    }
}
