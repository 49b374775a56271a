use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::logic::registry::{
    Deleted, FieldValidation, ObjectKey, Part, Patch, Registry, Transaction, WriteOptions,
};

/// What a client does, and what is told of it.
type Row = (Act, &'static [&'static str]);

enum Act {
    Create(Kind, Value),
    Patch(Kind, &'static str, Value),
    Delete(Kind),
}

use Act::{Create, Delete, Patch as Change};

/// One client's acts, in this order.
fn rows() -> Vec<Row> {
    let on_hold =
        json!({"accepted": true, "hold": {"reason": "crane on site", "until": "2027-01-01T00:00:00Z"}});
    let app = json!({"bundle": "gateway-1", "placement": {"clusterSelector": {}}});
    vec![
        (Create(Kind::Cluster, json!({})), &["Created: registered by ann"]),
        (Change(Kind::Cluster, "main", json!({"spec": {"accepted": true}})), &["Accepted: accepted by ann"]),
        (Change(Kind::Cluster, "main", json!({"spec": {"accepted": true}})), &[]),
        (
            Change(Kind::Cluster, "main", json!({"spec": on_hold})),
            &["Held: held by ann until 2027-01-01T00:00:00Z: crane on site"],
        ),
        (
            Change(Kind::Cluster, "main", json!({"spec": {"hold": {"reason": "storm", "until": null}}})),
            &["Held: held by ann: storm"],
        ),
        (Change(Kind::Cluster, "main", json!({"spec": {"hold": null}})), &["HoldEnded: ended by ann"]),
        (
            Change(Kind::Cluster, "main", json!({"metadata": {"labels": {"a": "b"}}})),
            &["Changed: labels changed by ann"],
        ),
        (Change(Kind::Cluster, "main", json!({"metadata": {"annotations": {"a": "b"}}})), &[]),
        (Change(Kind::Cluster, "status", json!({"status": {"agent": "1"}})), &[]),
        (
            Change(Kind::Cluster, "main", json!({"spec": {"accepted": false}})),
            &["NotAccepted: not accepted any more, by ann"],
        ),
        (Delete(Kind::Cluster), &["Deleted: deleted by ann"]),
        (
            Create(Kind::Cluster, on_hold),
            &[
                "Created: registered by ann",
                "Accepted: accepted by ann",
                "Held: held by ann until 2027-01-01T00:00:00Z: crane on site",
            ],
        ),
        (Create(Kind::Application, app), &["Created: generation 1 by ann: bundle gateway-1"]),
        (
            Change(Kind::Application, "main", json!({"spec": {"bundle": "gateway-2"}})),
            &["Changed: generation 2 by ann: bundle gateway-2"],
        ),
        (
            Change(
                Kind::Application,
                "main",
                json!({"metadata": {"annotations": {APPROVE_ANNOTATION: "2: the depot closes"}}}),
            ),
            &["Approved: approved by ann: generation 2: the depot closes"],
        ),
        (
            Change(
                Kind::Application,
                "main",
                json!({"metadata": {"annotations": {APPROVE_ANNOTATION: null}}}),
            ),
            &[],
        ),
        (Delete(Kind::Application), &["Deleted: deleted by ann"]),
        (Create(Kind::Freeze, json!({"reason": "fair"})), &["Frozen: frozen by ann: fair"]),
        (
            Change(Kind::Freeze, "main", json!({"spec": {"reason": "trade fair"}})),
            &["Frozen: frozen by ann: trade fair"],
        ),
        (
            Change(
                Kind::Freeze,
                "main",
                json!({"metadata": {"annotations": {UNFREEZE_ANNOTATION: "it is over"}}}),
            ),
            &[],
        ),
        (Delete(Kind::Freeze), &["Lifted: lifted by ann: it is over"]),
    ]
}

#[test]
fn what_a_client_does() {
    let mut registry = Registry::restore(1, Vec::new()).unwrap();
    for (index, (act, expected)) in rows().into_iter().enumerate() {
        let mut transaction = registry.begin(Timestamp::UNIX_EPOCH, "ann");
        do_it(&act, &index.to_string(), &mut transaction);
        let changes = transaction.finish();
        let occurred = changes.iter().flat_map(of_change);
        let told: Vec<String> =
            occurred.map(|one| format!("{}: {}", one.reason.word(), one.message)).collect();
        assert_eq!(told, expected, "act {index}");
        registry.apply(changes);
    }
}

fn do_it(act: &Act, uid: &str, transaction: &mut Transaction<'_>) {
    let options = WriteOptions { validation: FieldValidation::Strict, manager: "kubectl".to_owned() };
    let key = |kind: Kind| {
        let namespace = if kind.is_namespaced() { "radio" } else { "" };
        ObjectKey::new(kind, namespace, "gateway")
    };
    match act {
        Create(kind, spec) => {
            let body = json!({
                "apiVersion": kind.api_version(), "kind": kind.name(),
                "metadata": {"name": key(*kind).name}, "spec": spec,
            });
            transaction.create(*kind, &key(*kind).namespace, body, &options, uid).unwrap();
        }
        Change(kind, part, patch) => {
            let part = if *part == "main" { Part::Main } else { Part::Status };
            let patch = Patch::Merge(patch.to_string().into_bytes());
            transaction.patch(&key(*kind), part, &patch, &options).unwrap();
        }
        Delete(kind) => {
            let deleted = transaction.delete(&key(*kind), &Default::default()).unwrap();
            assert!(matches!(deleted, Deleted::Gone(_)));
        }
    }
}
