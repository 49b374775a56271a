//! One fleet from fixed seeds, one document of each type, and its signatures.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{collections::BTreeMap, sync::LazyLock};

use protocol::{
    codec,
    cose::{self, Binding},
    documents::*,
    ids::{AppId, ClusterId, Digest, FleetId, Incarnation, JournalId, KeyId, Name, Nonce},
    keys::SigningKey,
    order::{Epoch, Order},
    time::UnixSeconds,
    together::Tree,
    verify::{Trust, VerifyError, by_cluster},
};
use serde_json::json;
use zeroize::Zeroizing;

/// The time at which every document of the fleet was signed.
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
pub(crate) const DAY: u64 = 24 * 60 * 60;

/// Seeds. Each names the key that grows from it.
pub(crate) const ROOTS: [u8; 3] = [1, 2, 3];
pub(crate) const DIRECTOR: u8 = 4;
pub(crate) const RADIO: [u8; 2] = [5, 6];
pub(crate) const METER: u8 = 7;
pub(crate) const CLUSTER: u8 = 8;
pub(crate) const STRANGER: u8 = 9;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Zeroizing::new([seed; 32]))
}

pub(crate) fn key_ids(seeds: &[u8]) -> Vec<KeyId> {
    seeds.iter().map(|seed| key(*seed).public().id()).collect()
}

pub(crate) fn fleet() -> FleetId {
    FleetId::new("north").unwrap()
}

pub(crate) fn tower() -> ClusterId {
    ClusterId::new("tower-1").unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn gateway() -> AppId {
    AppId::new("radio", "gateway").unwrap()
}

pub(crate) fn digest(content: u8) -> Digest {
    Digest::new([content; 32])
}

/// Three root keys of which two sign, a director, and the release keys of tenants `radio` and `meter`.
pub(crate) fn root() -> Root {
    let seeds = [&ROOTS[..], &[DIRECTOR], &RADIO, &[METER]].concat();
    let release_role = |tenant: &str, patterns: &[&str], seeds: &[u8]| ReleaseRole {
        tenant: name(tenant),
        namespaces: patterns.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        keys: key_ids(seeds),
        threshold: 1,
        privileged_threshold: 2,
    };
    Root {
        fleet: fleet(),
        version: 1,
        min_epoch: Epoch(1),
        issued: NOW,
        not_after: NOW.plus(365 * DAY),
        keys: seeds.iter().map(|seed| key(*seed).public()).collect(),
        root: Role { threshold: 2, keys: key_ids(&ROOTS) },
        director: Role { threshold: 1, keys: key_ids(&[DIRECTOR]) },
        releases: vec![
            release_role("radio", &["radio", "radio-*"], &RADIO),
            release_role("meter", &["meter"], &[METER]),
        ],
        ca_pins: vec![digest(0xca)],
        prev: None,
    }
}

/// The root after [`root`].
pub(crate) fn next_root() -> Root {
    Root { version: 2, prev: Some(digest(1)), ..root() }
}

pub(crate) fn trust_in(root: &Root) -> Result<Trust, VerifyError> {
    let bytes = sign(root, &ROOTS[..2]);
    Trust::pin(&bytes, &fleet(), Digest::of(&bytes))
}

pub(crate) fn trust() -> &'static Trust {
    static TRUST: LazyLock<Trust> = LazyLock::new(|| trust_in(&root()).unwrap());
    &TRUST
}

/// The JSON of the objects of [`release`].
pub(crate) fn contents() -> [Vec<u8>; 2] {
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "gateway", "namespace": "radio", "labels": { "tier": "edge" } },
        "spec": { "replicas": 2, "paused": false, "weight": 0.5, "template": { "spec": { "containers": [
            { "name": "gateway", "image": "gateway:1.4.2", "args": null }
        ] } } }
    });
    let settings = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "gateway-settings", "namespace": "radio" },
        "data": { "band": "n28" }
    });
    [deployment, settings].map(|object| object.to_string().into_bytes())
}

pub(crate) fn entry(group: &str, kind: &str, namespace: Option<&str>, of: &str, bytes: &[u8]) -> ObjectEntry {
    ObjectEntry {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.map(name),
        name: ObjectName::new(of).unwrap(),
        len: u32::try_from(bytes.len()).unwrap(),
        sha256: Digest::of(bytes),
    }
}

pub(crate) fn parameter(of: ParameterType, object: u32, pointer: &str) -> Parameter {
    let targets = vec![ParameterTarget { object, pointer: pointer.to_owned() }];
    Parameter { name: "value".to_owned(), of, default: None, targets }
}

/// Tenant radio's application gateway, in its namespace, with two parameters.
pub(crate) fn release() -> Release {
    let [deployment, settings] = contents();
    Release {
        app: gateway(),
        version: "1.4.2".to_owned(),
        counter: 42,
        floor: 40,
        pack: Digest::of(&[deployment.clone(), settings.clone()].concat()),
        objects: vec![
            entry("apps", "Deployment", Some("radio"), "gateway", &deployment),
            entry("", "ConfigMap", Some("radio"), "gateway-settings", &settings),
        ],
        scope: vec![name("radio")],
        parameters: vec![
            Parameter {
                name: "replicas".to_owned(),
                default: Some("3".to_owned()),
                ..parameter(ParameterType::Integer { min: 1, max: 5 }, 0, "/spec/replicas")
            },
            Parameter {
                name: "band".to_owned(),
                ..parameter(ParameterType::Enum(vec!["n28".to_owned(), "n78".to_owned()]), 1, "/data/band")
            },
        ],
        ceilings: Ceilings {
            max_deletes: Some(5),
            ignore_differences: vec![IgnoreRule {
                kind: "Deployment".to_owned(),
                name: None,
                pointers: vec!["/spec/paused".to_owned()],
            }],
            splittable: vec![0],
            secret_slots: vec![SecretSlot {
                namespace: name("radio"),
                name: ObjectName::new("uplink").unwrap(),
                floor: 3,
            }],
            ..Ceilings::default()
        },
        not_after: NOW.plus(90 * DAY),
    }
}

/// An entry that names exactly these bytes of a release.
pub(crate) fn naming(bytes: &[u8]) -> DesiredRelease {
    DesiredRelease {
        app: gateway(),
        release: Digest::of(bytes),
        len: u32::try_from(bytes.len()).unwrap(),
        values: BTreeMap::from([("replicas".to_owned(), "4".to_owned())]),
        mode: Mode::Enforce,
        enforce: None,
        depends_on: vec![name("gateway-crds")],
    }
}

pub(crate) fn desired() -> Desired {
    Desired {
        cluster: tower(),
        order: Order { epoch: Epoch(1), seq: 7 },
        prev: Some(digest(6)),
        issued: NOW,
        install_by: NOW.plus(30 * DAY),
        releases: vec![naming(&sign(&release(), &RADIO[..1]))],
        remove: vec![AppId::new("radio", "old-gateway").unwrap()],
        policy: None,
    }
}

pub(crate) fn nonce() -> Nonce {
    Nonce::new([0x0e; 16])
}

pub(crate) fn head() -> Head {
    Head {
        cluster: tower(),
        incarnation: Incarnation::new([0x1c; 16]),
        order: Order { epoch: Epoch(1), seq: 7 },
        desired: digest(7),
        root_version: 1,
        hub_time: NOW,
        fresh_until: NOW.plus(DAY),
        permits: vec![Permit { app: gateway(), not_before: NOW, not_after: NOW.plus(3600) }],
        nonce: Some(nonce()),
    }
}

pub(crate) fn ack() -> Ack {
    Ack { cluster: tower(), journal: JournalId::new([0x10; 16]), report_seq: 300, digest: digest(3) }
}

/// The tower's acknowledgement and its neighbours', each as it would stand in an envelope of its own.
pub(crate) fn acks_together() -> Vec<Vec<u8>> {
    let of = |cluster: &str| Ack { cluster: ClusterId::new(cluster).unwrap(), ..ack() };
    ["tower-0", "tower-1", "tower-2"].map(|cluster| codec::encode(&of(cluster))).to_vec()
}

/// What is signed for them.
pub(crate) fn acks() -> Acks {
    Acks { root: Tree::new(acks_together().iter().map(Vec::as_slice)).root() }
}

pub(crate) fn carry_head() -> CarryHead {
    CarryHead { head: Head { nonce: None, fresh_until: NOW.plus(30 * DAY), ..head() } }
}

pub(crate) fn hello() -> Hello {
    Hello {
        cluster: tower(),
        journal: JournalId::new([0x10; 16]),
        documents: vec![1],
        root_version: 1,
        incarnation: None,
        order: Order { epoch: Epoch(1), seq: 6 },
        desired: Some(digest(6)),
        nonce: nonce(),
        clock: NOW,
        agent: "0.1.0".to_owned(),
    }
}

pub(crate) fn want() -> Want {
    Want { cluster: tower(), target: digest(9), encoding: Encoding::Zstd, base: None, offset: 65_536 }
}

pub(crate) fn report() -> Report {
    let release = ReleaseRef { digest: digest(2), version: "1.4.2".into(), counter: 42 };
    let available = Condition {
        kind: "Available".into(),
        status: ConditionStatus::True,
        reason: "AllHealthy".into(),
        message: "2 of 2 objects are healthy".to_owned(),
    };
    let app = AppReport {
        app: gateway(),
        state: AppState::Available,
        accepted: Some(release.clone()),
        applied: Some(release),
        reverted: None,
        rejected: None,
        conditions: vec![available.clone()],
        worst: None,
        counts: Counts { desired: 2, applied: 2, healthy: 2, failed: 0 },
        drift: vec![Drift {
            object: "Deployment radio/gateway".to_owned(),
            manager: "kubectl-edit".to_owned(),
            found: NOW,
            count: 1,
        }],
        preview: None,
    };
    Report {
        cluster: tower(),
        journal: JournalId::new([0x10; 16]),
        report_seq: 301,
        order: Order { epoch: Epoch(1), seq: 7 },
        digest: Report::digest_of([&app]),
        apps: vec![app],
        conditions: vec![available],
        clock: NOW,
        kubernetes: "v1.35.1+k3s1".into(),
        agent: "0.1.0".into(),
    }
}

/// The payload of the fleet's document of this type.
pub(crate) fn payload(kind: DocumentType) -> Vec<u8> {
    match kind {
        DocumentType::Root => codec::encode(&next_root()),
        DocumentType::Release => codec::encode(&release()),
        DocumentType::Desired => codec::encode(&desired()),
        DocumentType::Head => codec::encode(&head()),
        DocumentType::Ack => codec::encode(&ack()),
        DocumentType::Acks => codec::encode(&acks()),
        DocumentType::CarryHead => codec::encode(&carry_head()),
        DocumentType::Hello => codec::encode(&hello()),
        DocumentType::Want => codec::encode(&want()),
        DocumentType::Report => codec::encode(&report()),
    }
}

/// As many of the right signers as this type needs.
pub(crate) fn signers(kind: DocumentType) -> Vec<u8> {
    match kind {
        DocumentType::Root => ROOTS[..2].to_vec(),
        DocumentType::Release => RADIO[..1].to_vec(),
        DocumentType::Desired
        | DocumentType::Head
        | DocumentType::Ack
        | DocumentType::Acks
        | DocumentType::CarryHead => vec![DIRECTOR],
        DocumentType::Hello | DocumentType::Want | DocumentType::Report => vec![CLUSTER],
    }
}

/// The fleet's document of this type, rightly signed.
pub(crate) fn envelope(kind: DocumentType) -> Vec<u8> {
    sign_payload(kind, &fleet(), &tower(), &payload(kind), &signers(kind))
}

/// Whether a type is for the whole fleet and carries several signatures.
pub(crate) fn is_for_the_fleet(kind: DocumentType) -> bool {
    matches!(kind, DocumentType::Root | DocumentType::Release | DocumentType::Acks)
}

/// Signs any document for the fleet and its cluster.
pub(crate) fn sign<T: Document>(document: &T, seeds: &[u8]) -> Vec<u8> {
    sign_payload(T::TYPE, &fleet(), &tower(), &codec::encode(document), seeds)
}

pub(crate) fn sign_payload(
    kind: DocumentType,
    fleet: &FleetId,
    cluster: &ClusterId,
    payload: &[u8],
    seeds: &[u8],
) -> Vec<u8> {
    let keys: Vec<SigningKey> = seeds.iter().map(|seed| key(*seed)).collect();
    if is_for_the_fleet(kind) {
        return cose::sign_many(
            Binding { kind, fleet, cluster: None },
            payload,
            &keys.iter().collect::<Vec<_>>(),
        );
    }
    cose::sign_one(Binding { kind, fleet, cluster: Some(cluster) }, payload, &keys[0])
}

/// What the receiver of a document of this type says to `bytes`.
pub(crate) fn verdict(kind: DocumentType, bytes: &[u8]) -> Result<(), VerifyError> {
    verdict_in(trust(), kind, bytes)
}

pub(crate) fn verdict_in(trust: &Trust, kind: DocumentType, bytes: &[u8]) -> Result<(), VerifyError> {
    let (fleet, tower, cluster) = (fleet(), tower(), key(CLUSTER).public());
    match kind {
        DocumentType::Root => trust.rotate(bytes).map(drop),
        DocumentType::Release => trust.release(bytes).map(drop),
        DocumentType::Desired => trust.director::<Desired>(&tower, bytes).map(drop),
        DocumentType::Head => trust.director::<Head>(&tower, bytes).map(drop),
        DocumentType::Ack => trust.director::<Ack>(&tower, bytes).map(drop),
        DocumentType::Acks => trust.acks(bytes).map(drop),
        DocumentType::CarryHead => trust.director::<CarryHead>(&tower, bytes).map(drop),
        DocumentType::Hello => by_cluster::<Hello>(&fleet, &tower, &cluster, bytes).map(drop),
        DocumentType::Want => by_cluster::<Want>(&fleet, &tower, &cluster, bytes).map(drop),
        DocumentType::Report => by_cluster::<Report>(&fleet, &tower, &cluster, bytes).map(drop),
    }
}

/// The verdict and its causes as one text; empty where the bytes are believed.
pub(crate) fn said<E: std::error::Error>(verdict: Result<(), E>) -> String {
    let Err(error) = verdict else { return String::new() };
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Fails unless the refusal says `expected`; an empty expectation asks for belief.
pub(crate) fn expect<E: std::error::Error>(verdict: Result<(), E>, expected: &str, why: &str) {
    let said = said(verdict);
    let as_expected = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
    assert!(as_expected, "{why}: said {said:?}, expected {expected:?}");
}
