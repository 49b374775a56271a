//! The topology of what is built into Kubernetes, as a table.
//!
//! The facts are those of the API server's OpenAPI, version 1.36: `x-kubernetes-list-type`,
//! `x-kubernetes-list-map-keys` and `x-kubernetes-map-type`, with the defaults of list keys.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::{ListKey, ListType, Origin, Topology, Type, TypeId};
use crate::fields::{Path, Scalar};
use crate::meta::GroupVersionKind;

/// Every kind with what is special about its fields. All else in it merges plainly: objects field by field,
/// lists as a whole. `metadata` is that of `ObjectMeta` everywhere. After the path of a field stands
///
/// | written | merges as |
/// | --- | --- |
/// | `atomic` | one value |
/// | `{}` | a map: key by key |
/// | `set` | a list without order or repetition |
/// | `[a b=TCP]Type` | a list whose items are told apart by these keys, the items of that type |
/// | `Type` | the type says |
///
/// A key without a default reads as the empty text where an item lacks it, and `a!` as nothing at all.
const KINDS: &str = "
v1 Binding: target atomic
v1 ComponentStatus: conditions [type]
v1 ConfigMap: binaryData {}, data {}
v1 Endpoints:
v1 Event: involvedObject atomic, related atomic
v1 LimitRange:
v1 Namespace: status.conditions [type]
v1 Node: spec.podCIDRs set, status.addresses [type], status.allocatable {}, status.capacity {},
    status.conditions [type]
v1 PersistentVolume: spec PersistentVolumeSpec
v1 PersistentVolumeClaim: spec PersistentVolumeClaimSpec, status.allocatedResourceStatuses {},
    status.allocatedResources {}, status.capacity {}, status.conditions [type]
v1 Pod: spec PodSpec, status.allocatedResources {}, status.conditions [type], status.podIPs [ip],
    status.resourceClaimStatuses [name], status.resources ResourceRequirements
v1 PodTemplate: template PodTemplateSpec
v1 ReplicationController: spec.selector atomic, spec.template PodTemplateSpec, status.conditions [type]
v1 ResourceQuota: spec.hard {}, spec.scopeSelector atomic, status.hard {}, status.used {}
v1 Secret: data {}, stringData {}
v1 Service: spec.ports [port=0 protocol=TCP], spec.selector atomic, status.conditions [type]
v1 ServiceAccount: secrets [name!]atomic
apps/v1 ControllerRevision: data atomic
apps/v1 DaemonSet: spec.selector atomic, spec.template PodTemplateSpec, status.conditions [type]
apps/v1 Deployment: spec.selector atomic, spec.template PodTemplateSpec, status.conditions [type]
apps/v1 ReplicaSet: spec.selector atomic, spec.template PodTemplateSpec, status.conditions [type]
apps/v1 StatefulSet: spec.selector atomic, spec.template PodTemplateSpec, status.conditions [type]
batch/v1 CronJob: spec.jobTemplate.metadata ObjectMeta, spec.jobTemplate.spec JobSpec
batch/v1 Job: spec JobSpec, status.uncountedTerminatedPods.failed set,
    status.uncountedTerminatedPods.succeeded set
autoscaling/v1 HorizontalPodAutoscaler: spec.scaleTargetRef atomic
autoscaling/v1 Scale:
autoscaling/v2 HorizontalPodAutoscaler: status.conditions [type]
policy/v1 Eviction:
policy/v1 PodDisruptionBudget: spec.selector atomic, status.conditions [type], status.disruptedPods {}
networking.k8s.io/v1 IPAddress:
networking.k8s.io/v1 Ingress: spec.defaultBackend.resource atomic,
    spec.defaultBackend.service.port atomic
networking.k8s.io/v1 IngressClass:
networking.k8s.io/v1 NetworkPolicy: spec.podSelector atomic
networking.k8s.io/v1 ServiceCIDR: status.conditions [type]
rbac.authorization.k8s.io/v1 ClusterRole:
rbac.authorization.k8s.io/v1 ClusterRoleBinding: roleRef atomic
rbac.authorization.k8s.io/v1 Role:
rbac.authorization.k8s.io/v1 RoleBinding: roleRef atomic
storage.k8s.io/v1 CSIDriver: spec.volumeLifecycleModes set
storage.k8s.io/v1 CSINode: spec.drivers [name]
storage.k8s.io/v1 CSIStorageCapacity: nodeTopology atomic
storage.k8s.io/v1 StorageClass: parameters {}
storage.k8s.io/v1 VolumeAttachment: spec.source.inlineVolumeSpec PersistentVolumeSpec,
    status.attachmentMetadata {}
storage.k8s.io/v1 VolumeAttributesClass: parameters {}
scheduling.k8s.io/v1 PriorityClass:
coordination.k8s.io/v1 Lease:
node.k8s.io/v1 RuntimeClass: overhead.podFixed {}, scheduling.nodeSelector atomic
discovery.k8s.io/v1 EndpointSlice:
events.k8s.io/v1 Event: regarding atomic, related atomic
certificates.k8s.io/v1 CertificateSigningRequest: spec.extra {}, status.conditions [type]
flowcontrol.apiserver.k8s.io/v1 FlowSchema: status.conditions [type!]
flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration: status.conditions [type!]
admissionregistration.k8s.io/v1 MutatingAdmissionPolicy: spec.matchConditions [name],
    spec.matchConstraints atomic, spec.paramKind atomic
admissionregistration.k8s.io/v1 MutatingAdmissionPolicyBinding: spec.matchResources atomic,
    spec.paramRef atomic
admissionregistration.k8s.io/v1 MutatingWebhookConfiguration: webhooks [name]MutatingWebhook
admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy: spec.matchConditions [name],
    spec.matchConstraints atomic, spec.paramKind atomic, spec.variables [name]atomic,
    status.conditions [type]
admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding: spec.matchResources atomic,
    spec.paramRef atomic, spec.validationActions set
admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration: webhooks [name]ValidatingWebhook
apiextensions.k8s.io/v1 CustomResourceDefinition: status.conditions [type]
apiregistration.k8s.io/v1 APIService: status.conditions [type]
";

/// The types that several fields share.
const TYPES: &str = "
Container: env [name]EnvVar, ports [containerPort=0 protocol=TCP], resources ResourceRequirements,
    volumeDevices [devicePath], volumeMounts [mountPath]
EnvVar: valueFrom.configMapKeyRef atomic, valueFrom.fieldRef atomic, valueFrom.fileKeyRef atomic,
    valueFrom.resourceFieldRef atomic, valueFrom.secretKeyRef atomic
EphemeralContainer: env [name]EnvVar, ports [containerPort=0 protocol=TCP],
    resources ResourceRequirements, volumeDevices [devicePath], volumeMounts [mountPath]
JobSpec: selector atomic, template PodTemplateSpec
MutatingWebhook: matchConditions [name], namespaceSelector atomic, objectSelector atomic
PersistentVolumeClaimSpec: dataSource atomic, resources.limits {}, resources.requests {},
    selector atomic
PersistentVolumeSpec: capacity {}, cephfs.secretRef atomic, cinder.secretRef atomic, claimRef atomic,
    csi.controllerExpandSecretRef atomic, csi.controllerPublishSecretRef atomic,
    csi.nodeExpandSecretRef atomic, csi.nodePublishSecretRef atomic, csi.nodeStageSecretRef atomic,
    csi.volumeAttributes {}, flexVolume.options {}, flexVolume.secretRef atomic, iscsi.secretRef atomic,
    nodeAffinity.required atomic, rbd.secretRef atomic, scaleIO.secretRef atomic,
    storageos.secretRef atomic
PodSpec: affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution atomic,
    containers [name]Container, ephemeralContainers [name]EphemeralContainer, hostAliases [ip],
    imagePullSecrets [name]atomic, initContainers [name]Container, nodeSelector atomic, overhead {},
    resourceClaims [name], resources ResourceRequirements, schedulingGates [name],
    topologySpreadConstraints [topologyKey whenUnsatisfiable]TopologySpreadConstraint,
    volumes [name]Volume
PodTemplateSpec: metadata ObjectMeta, spec PodSpec
ResourceRequirements: claims [name], limits {}, requests {}
TopologySpreadConstraint: labelSelector atomic
ValidatingWebhook: matchConditions [name], namespaceSelector atomic, objectSelector atomic
Volume: cephfs.secretRef atomic, cinder.secretRef atomic, csi.nodePublishSecretRef atomic,
    csi.volumeAttributes {}, ephemeral.volumeClaimTemplate.metadata ObjectMeta,
    ephemeral.volumeClaimTemplate.spec PersistentVolumeClaimSpec, flexVolume.options {},
    flexVolume.secretRef atomic, iscsi.secretRef atomic, rbd.secretRef atomic, scaleIO.secretRef atomic,
    storageos.secretRef atomic
";

/// What every object carries in `metadata`.
const OBJECT_META: &str =
    "ObjectMeta: annotations {}, finalizers set, labels {}, ownerReferences [uid]atomic";

/// What the status endpoint of a kind leaves alone besides `spec`.
const STATUS_RESETS: &str = "
v1 Pod: metadata.deletionTimestamp, metadata.ownerReferences
apps/v1 Deployment: metadata.labels
networking.k8s.io/v1 ServiceCIDR: metadata
storage.k8s.io/v1 VolumeAttachment: metadata
flowcontrol.apiserver.k8s.io/v1 FlowSchema: metadata
flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration: metadata
admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy: metadata
";

/// The topology of a built-in kind.
pub(super) fn find(gvk: &GroupVersionKind) -> Option<Topology> {
    let root = *BUILT_IN.kinds.get(gvk)?;
    let besides = BUILT_IN.status_resets.get(gvk).into_iter().flatten().cloned();
    let status_reset = besides.chain([Path::of_fields(&["spec"])]).collect();
    Some(Topology { types: Arc::clone(&BUILT_IN.types), root, origin: Origin::BuiltIn, status_reset })
}

/// Adds the type of `metadata` to a table.
pub(super) fn object_meta(types: &mut Vec<Type>) -> TypeId {
    let (_, fields) = OBJECT_META.split_once(':').expect("the constant has a colon");
    let root = Type::PLAIN;
    let object_meta =
        parse_fields(fields, root, &BTreeMap::new(), types).expect("a test parses the constant");
    push(types, object_meta)
}

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| BuiltIn::parse().expect("a test parses the tables"));

struct BuiltIn {
    types: Arc<[Type]>,
    kinds: BTreeMap<GroupVersionKind, TypeId>,
    status_resets: BTreeMap<GroupVersionKind, Vec<Path>>,
}

impl BuiltIn {
    /// Reads the tables; nothing if they do not follow their own grammar.
    fn parse() -> Option<Self> {
        let mut types = Type::common();
        let object_meta = object_meta(&mut types);
        let entries = entries(TYPES)?;
        let mut names = BTreeMap::from([("ObjectMeta", object_meta)]);
        for (name, _) in &entries {
            names.insert(name, push(&mut types, Type::PLAIN));
        }
        for (name, fields) in &entries {
            let parsed = parse_fields(fields, Type::PLAIN, &names, &mut types)?;
            types[names.get(name.as_str())?.0] = parsed;
        }
        let mut kinds = BTreeMap::new();
        for (head, fields) in self::entries(KINDS)? {
            let mut root = parse_fields(&fields, Type::PLAIN, &names, &mut types)?;
            root.fields.insert("metadata".to_owned(), object_meta);
            kinds.insert(parse_kind(&head)?, push(&mut types, root));
        }
        let mut status_resets = BTreeMap::new();
        for (head, fields) in self::entries(STATUS_RESETS)? {
            let path = |field: &str| Path::of_fields(&field.trim().split('.').collect::<Vec<_>>());
            status_resets.insert(parse_kind(&head)?, fields.split(',').map(path).collect());
        }
        Some(Self { types: types.into(), kinds, status_resets })
    }
}

fn parse_kind(head: &str) -> Option<GroupVersionKind> {
    let (api_version, kind) = head.split_once(' ')?;
    GroupVersionKind::new(api_version, kind).ok()
}

/// Splits a table at its entries: what stands before the colon, and the fields after it.
fn entries(table: &str) -> Option<Vec<(String, String)>> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty()) {
        if line.starts_with(' ') {
            entries.last_mut()?.1.push_str(line);
        } else {
            let (head, fields) = line.split_once(':')?;
            entries.push((head.to_owned(), fields.to_owned()));
        }
    }
    Some(entries)
}

/// Adds what `fields` says to `owner`.
fn parse_fields(
    fields: &str,
    mut owner: Type,
    names: &BTreeMap<&str, TypeId>,
    types: &mut Vec<Type>,
) -> Option<Type> {
    for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
        let (path, merge) = field.split_once(' ')?;
        let merge = parse_merge(merge, names, types)?;
        let (name, below) = path.split_once('.').unwrap_or((path, ""));
        if below.is_empty() {
            owner.fields.insert(name.to_owned(), merge);
        } else {
            let id = *owner.fields.entry(name.to_owned()).or_insert_with(|| push(types, Type::PLAIN));
            set_field(id, below, merge, types);
        }
    }
    Some(owner)
}

fn set_field(mut owner: TypeId, path: &str, merge: TypeId, types: &mut Vec<Type>) {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        let known = types[owner.0].fields.get(parent).copied();
        let next = known.unwrap_or_else(|| push(types, Type::PLAIN));
        types[owner.0].fields.insert(parent.to_owned(), next);
        owner = next;
    }
    types[owner.0].fields.insert(last.to_owned(), merge);
}

fn parse_merge(merge: &str, names: &BTreeMap<&str, TypeId>, types: &mut Vec<Type>) -> Option<TypeId> {
    let named = |name: &str| match name {
        "" => Some(TypeId::PLAIN),
        "atomic" => Some(TypeId::ATOMIC),
        "{}" => Some(TypeId::MAP),
        name => names.get(name).copied(),
    };
    let list = if merge == "set" {
        Type { list: ListType::Set, ..Type::PLAIN }
    } else if let Some((keys, item)) = merge.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let keys = keys.split(' ').map(parse_key).collect();
        Type { list: ListType::Keyed(keys), item: named(item)?, ..Type::PLAIN }
    } else {
        return named(merge);
    };
    Some(push(types, list))
}

fn parse_key(key: &str) -> ListKey {
    if let Some(name) = key.strip_suffix('!') {
        return ListKey { name: name.to_owned(), default: None };
    }
    let (name, default) = key.split_once('=').unwrap_or((key, ""));
    let default = default.parse().map_or_else(|_| Scalar::text(default), Scalar::integer);
    ListKey { name: name.to_owned(), default: Some(default) }
}

fn push(types: &mut Vec<Type>, new: Type) -> TypeId {
    types.push(new);
    TypeId(types.len() - 1)
}
