//! The registry by data: operations on two clusters, and what they answer.

use jiff::Timestamp;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::*;
use crate::resources::{API_VERSION, AssignmentState, AssignmentStatus, ClusterStatus};

const UID: &str = "11111111-2222-4333-8444-555555555555";

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Cluster, "", name)
}

fn cluster(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut value = json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": name, "labels": {"stage": "prod"}},
        "spec": {"accepted": true},
    });
    change(&mut value);
    value
}

fn status(agent: &str) -> ClusterStatus {
    ClusterStatus { agent: Some(agent.to_owned()), ..ClusterStatus::default() }
}

/// Does one operation and applies it.
fn write<T>(
    registry: &mut Registry,
    operation: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut transaction = registry.begin(now(), "tester");
    let answer = operation(&mut transaction)?;
    let changes = transaction.finish();
    registry.apply(changes);
    Ok(answer)
}

fn options(validation: FieldValidation) -> WriteOptions {
    WriteOptions { validation, manager: "tester".to_owned() }
}

fn create(registry: &mut Registry, value: Value) -> Result<Arc<Object>, Failure> {
    write(registry, |transaction| {
        Ok(transaction.create(Kind::Cluster, "", value, &options(FieldValidation::Strict), UID)?.object)
    })
}

fn merge(registry: &mut Registry, name: &str, part: Part, patch: Value) -> Result<Arc<Object>, Failure> {
    write(registry, |transaction| {
        let patch = Patch::Merge(patch.to_string().into_bytes());
        Ok(transaction.patch(&key(name), part, &patch, &options(FieldValidation::Strict))?.object)
    })
}

/// Version 100, with `tower-a` (101) and `tower-b` (102).
fn registry() -> Registry {
    let mut registry = Registry::restore(100, Vec::new()).unwrap();
    create(&mut registry, cluster("tower-a", |_| ())).unwrap();
    create(&mut registry, cluster("tower-b", |value| value["metadata"]["labels"]["stage"] = json!("test")))
        .unwrap();
    registry
}

#[test]
fn created_objects_get_what_the_server_decides() {
    let mut registry = registry();
    let sent = cluster("", |value| {
        value["metadata"] = json!({
            "generateName": "tower-",
            "creationTimestamp": null,
            "generation": 7,
            "uid": "mine",
            "deletionTimestamp": "2020-01-01T00:00:00Z",
            "managedFields": [{"manager": "x"}],
        });
        value["status"] = json!({"agent": "forged"});
    });
    let object = create(&mut registry, sent).unwrap();
    let metadata = json!({
        "name": "tower-11111",
        "generateName": "tower-",
        "uid": UID,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "generation": 1,
        "resourceVersion": "103",
        "managedFields": [{
            "manager": "tester",
            "operation": "Update",
            "apiVersion": API_VERSION,
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:generateName": {}}, "f:spec": {".": {}, "f:accepted": {}}},
        }],
    });
    assert_eq!(object.value()["metadata"], metadata);
    assert_eq!(object.value().get("status"), None);
    assert_eq!((registry.version(), registry.count(Kind::Cluster)), (103, 3));
}

#[test]
fn creation_is_refused() {
    let long = "x".repeat(OBJECT_MAX_LEN);
    let rows: Vec<(Value, u16, &str)> = vec![
        (json!([]), 400, "must be a JSON object"),
        (cluster("tower-c", |value| value["kind"] = json!("Bundle")), 400, "the kind in the data (Bundle)"),
        (
            cluster("tower-c", |value| value["apiVersion"] = json!("v1")),
            400,
            "the API version in the data (v1)",
        ),
        (cluster("tower-c", |value| value["metadata"] = json!([])), 400, "metadata must be an object"),
        (
            cluster("tower-c", |value| value["metadata"]["resourceVersion"] = json!("1")),
            400,
            "resourceVersion",
        ),
        (
            cluster("tower-c", |value| value["metadata"]["nam"] = json!("1")),
            400,
            "unknown field \"metadata.nam\"",
        ),
        (cluster("tower-c", |value| value["spec"]["x"] = json!(1)), 400, "unknown field \"spec.x\""),
        (cluster("tower-c", |value| value["metadata"]["labels"]["a b"] = json!("1")), 422, "metadata.labels"),
        (cluster("tower-c", |value| value["metadata"]["labels"]["a"] = json!(1)), 422, "metadata.labels"),
        (
            cluster("tower-c", |value| value["metadata"]["annotations"] = json!({"a b": ""})),
            422,
            "metadata.annotations",
        ),
        (cluster("tower-c", |value| value["metadata"]["finalizers"] = json!(["x"])), 422, "fully qualified"),
        (cluster("Tower", |_| ()), 422, "metadata.name"),
        (cluster("", |_| ()), 422, "metadata.name"),
        (cluster("tower-a", |_| ()), 409, "clusters.edgefleet.dev \"tower-a\" already exists"),
        (cluster("tower-c", |value| value["status"] = json!({"agent": 1})), 0, ""),
        (
            cluster("tower-c", |value| value["metadata"]["annotations"] = json!({"a": long})),
            422,
            "at most 262144",
        ),
    ];
    for (value, code, message) in rows {
        let mut registry = registry();
        match create(&mut registry, value.clone()) {
            Ok(_) => assert_eq!(code, 0, "{value}"),
            Err(failure) => {
                assert_eq!(failure.code, code, "{value}: {failure}");
                assert!(failure.message.contains(message), "{value}: {failure}");
                assert_eq!((registry.version(), registry.count(Kind::Cluster)), (102, 2));
            }
        }
    }
}

#[test]
fn changes_of_what_decide_generation_and_version() {
    // Part, patch, generation and version afterwards.
    let rows = [
        (Part::Main, json!({}), 1, 102),
        (Part::Main, json!({"spec": {"accepted": true}}), 1, 102),
        (Part::Main, json!({"metadata": {"labels": {"a": "b"}}}), 1, 103),
        (Part::Main, json!({"metadata": {"labels": {"stage": null}}}), 1, 103),
        (Part::Main, json!({"metadata": {"generation": 9, "uid": UID, "creationTimestamp": null}}), 1, 102),
        (Part::Main, json!({"spec": {"accepted": false}}), 2, 103),
        (Part::Main, json!({"status": {"agent": "1"}}), 1, 102),
        (Part::Status, json!({"status": {"agent": "1"}}), 1, 103),
        (Part::Status, json!({"spec": {"accepted": false}}), 1, 102),
        (Part::Main, json!({"metadata": {"resourceVersion": "101"}, "spec": {"accepted": false}}), 2, 103),
    ];
    for (part, patch, generation, version) in rows {
        let mut registry = registry();
        let object = merge(&mut registry, "tower-a", part, patch.clone()).unwrap();
        assert_eq!((object.generation(), registry.version()), (generation, version), "{patch}");
        assert_eq!(registry.get(&key("tower-a")), Some(&object));
        assert_eq!(object.uid(), UID);
    }
}

#[test]
fn changes_are_refused() {
    let rows = [
        ("tower-x", json!({}), 404, "clusters.edgefleet.dev \"tower-x\" not found"),
        ("tower-a", json!([]), 400, "must be a JSON object"),
        ("tower-a", json!({"kind": null}), 400, "the kind in the data"),
        ("tower-a", json!({"metadata": {"name": "tower-b"}}), 400, "does not match the name on the URL"),
        ("tower-a", json!({"metadata": {"uid": "other"}}), 409, "UID in precondition: other"),
        (
            "tower-a",
            json!({"metadata": {"resourceVersion": "99"}}),
            409,
            "the object has been modified; please apply your changes to the latest version and try again",
        ),
        ("tower-a", json!({"spec": {"x": 1}}), 422, "strict decoding error: unknown field \"spec.x\""),
        ("tower-a", json!({"spec": {"hold": {}}}), 422, "spec.hold.reason: Required value"),
        ("tower-a", json!({"spec": null}), 422, "spec: Required value"),
    ];
    for (name, patch, code, message) in rows {
        let mut registry = registry();
        let failure = merge(&mut registry, name, Part::Main, patch.clone()).unwrap_err();
        assert_eq!(failure.code, code, "{patch}: {failure}");
        assert!(failure.message.contains(message), "{patch}: {failure}");
        assert_eq!(registry.version(), 102);
    }
}

#[test]
fn a_replacement_needs_the_version_it_is_based_on() {
    let rows = [(None, 422), (Some("100"), 409), (Some("101"), 0)];
    for (version, code) in rows {
        let mut registry = registry();
        let value = cluster("tower-a", |value| {
            value["metadata"]["resourceVersion"] = json!(version);
            value["spec"]["accepted"] = json!(false);
        });
        let result = write(&mut registry, |transaction| {
            transaction.replace(&key("tower-a"), Part::Main, value, &options(FieldValidation::Strict))
        });
        assert_eq!(result.as_ref().map_or_else(|failure| failure.code, |_| 0), code, "{version:?}");
        assert_eq!(registry.version(), if code == 0 { 103 } else { 102 });
    }
}

#[test]
fn unknown_fields_are_dropped_when_the_client_does_not_mind() {
    for (validation, warnings) in [(FieldValidation::Warn, 1), (FieldValidation::Ignore, 0)] {
        let mut registry = registry();
        let value = cluster("tower-c", |value| value["spec"]["x"] = json!(1));
        let written = write(&mut registry, |transaction| {
            transaction.create(Kind::Cluster, "", value, &options(validation), UID)
        })
        .unwrap();
        assert_eq!(written.object.value()["spec"], json!({"accepted": true}));
        assert_eq!(written.warnings.len(), warnings);
    }
}

#[test]
fn deletion_waits_for_finalizers() {
    let mut registry = registry();
    let delete = |registry: &mut Registry, uid: Option<&str>| {
        let preconditions = Preconditions { uid: uid.map(str::to_owned), resource_version: None };
        write(registry, |transaction| transaction.delete(&key("tower-a"), &preconditions))
    };
    merge(&mut registry, "tower-a", Part::Main, json!({"metadata": {"finalizers": ["a.dev/b"]}})).unwrap();
    assert_eq!(delete(&mut registry, Some("other")).unwrap_err().code, 409);
    for _ in 0..2 {
        let Deleted::Terminating(object) = delete(&mut registry, Some(UID)).unwrap() else {
            panic!("it is gone")
        };
        assert!(object.is_deleting());
        assert_eq!((object.version(), object.generation()), (104, 2));
    }
    merge(&mut registry, "tower-a", Part::Main, json!({"metadata": {"finalizers": null}})).unwrap();
    assert_eq!(registry.get(&key("tower-a")), None);
    assert_eq!(delete(&mut registry, None).unwrap_err().code, 404);
    let Deleted::Gone(_) =
        write(&mut registry, |transaction| transaction.delete(&key("tower-b"), &Preconditions::default()))
            .unwrap()
    else {
        panic!("it is not gone")
    };
    assert_eq!(registry.count(Kind::Cluster), 0);
}

#[test]
fn a_transaction_sees_itself_and_nobody_else_does() {
    let registry = registry();
    let mut transaction = registry.begin(now(), "tester");
    transaction
        .create(Kind::Cluster, "", cluster("tower-c", |_| ()), &options(FieldValidation::Strict), UID)
        .unwrap();
    transaction.update_status(&key("tower-c"), status("1")).unwrap();
    transaction.delete(&key("tower-a"), &Preconditions::default()).unwrap();
    assert!(transaction.get(&key("tower-a")).is_none());
    assert_eq!(transaction.get(&key("tower-c")).unwrap().version(), 104);
    assert!(registry.get(&key("tower-c")).is_none());
    let versions: Vec<u64> = transaction.finish().iter().map(|change| change.version).collect();
    assert_eq!(versions, [103, 104, 105]);
    assert_eq!(registry.version(), 102);
}

#[test]
fn watchers_see_their_selection() {
    // What happens, what a watcher of `stage=prod` sees of it.
    let rows = [
        ("tower-a", json!({"spec": {"accepted": false}}), Some((EventType::Modified, "103"))),
        ("tower-a", json!({"metadata": {"labels": {"stage": "test"}}}), Some((EventType::Deleted, "103"))),
        ("tower-b", json!({"metadata": {"labels": {"stage": "prod"}}}), Some((EventType::Added, "103"))),
        ("tower-b", json!({"spec": {"accepted": false}}), None),
    ];
    let filter = Filter { labels: "stage=prod".parse().unwrap(), ..Filter::default() };
    for (name, patch, expected) in rows {
        let mut registry = registry();
        merge(&mut registry, name, Part::Main, patch.clone()).unwrap();
        let events = registry.events(Kind::Cluster, &filter, 102).unwrap();
        let actual: Vec<_> = events
            .iter()
            .map(|event| (event.event_type, event.object.value()["metadata"]["resourceVersion"].clone()))
            .collect();
        let expected = expected.map(|(event_type, version)| (event_type, json!(version)));
        assert_eq!(actual, Vec::from_iter(expected), "{patch}");
        for event in events.iter().filter(|event| event.event_type == EventType::Deleted) {
            assert_eq!(event.object.label("stage"), Some("prod"), "as it was when it was last selected");
        }
    }
}

#[test]
fn the_log_is_bounded_and_says_when_it_ends() {
    let mut registry = registry();
    let all = Filter::default();
    let codes = |registry: &Registry, since| {
        registry.events(Kind::Cluster, &all, since).map_err(|failure| failure.code)
    };
    assert_eq!(codes(&registry, 99).unwrap_err(), 410, "before the restart");
    assert_eq!(codes(&registry, 100).unwrap().len(), 2);
    assert_eq!(codes(&registry, 103).unwrap_err(), 504, "in the future");
    for round in 0..watch::LOG_MAX_LEN {
        let mut transaction = registry.begin(now(), "tester");
        transaction.update_status(&key("tower-a"), status(&round.to_string())).unwrap();
        let changes = transaction.finish();
        registry.apply(changes);
    }
    assert_eq!(codes(&registry, 101).unwrap_err(), 410);
    assert_eq!(codes(&registry, 102).unwrap().len(), watch::LOG_MAX_LEN);
    assert_eq!(registry.events(Kind::Bundle, &all, 100).unwrap(), [], "each kind has a log of its own");
    assert_eq!(registry.changes(102, 10).unwrap().len(), 10);
}

#[test]
fn pages_follow_each_other() {
    let mut registry = registry();
    create(&mut registry, cluster("tower-c", |_| ())).unwrap();
    let all = Filter::default();
    let (mut names, mut token) = (Vec::new(), String::new());
    for remaining in [Some(2), Some(1), None] {
        let page = registry.list(Kind::Cluster, &all, 1, &token).unwrap();
        assert_eq!((page.version, page.remaining), (103, remaining));
        names.extend(page.items.iter().map(|object| object.name().to_owned()));
        token = page.next.unwrap_or_default();
        // What changes meanwhile does not move the version from which the client will watch.
        registry.version += 1;
    }
    assert_eq!((names.join(" "), token.as_str()), ("tower-a tower-b tower-c".to_owned(), ""));

    let filter = Filter { labels: "stage=prod".parse().unwrap(), ..Filter::default() };
    let page = registry.list(Kind::Cluster, &filter, 1, "").unwrap();
    assert_eq!((page.items.len(), page.remaining), (1, None), "selectors make the rest unknown");
    for token in ["x", "e30", &"a".repeat(5000)] {
        assert_eq!(registry.list(Kind::Cluster, &all, 1, token).unwrap_err().code, 400, "{token}");
    }
}

fn assignment_key() -> ObjectKey {
    ObjectKey::new(Kind::Assignment, "radio", "gateway.tower-a")
}

fn projection(stage: &str, state: AssignmentState) -> Projection {
    Projection {
        key: assignment_key(),
        labels: BTreeMap::from([("stage".to_owned(), stage.to_owned())]),
        status: AssignmentStatus {
            cluster: "tower-a".to_owned(),
            application: "gateway".to_owned(),
            bundle: "gateway-1.0.0".to_owned(),
            state,
            conditions: Vec::new(),
            worst_object: None,
            message: None,
            preview: None,
            since: None,
        },
    }
}

#[test]
fn projections_are_the_same_objects_whoever_makes_them() {
    let key = assignment_key();
    let mut registry = registry();
    let mut project = |stage, state| {
        write(&mut registry, |transaction| transaction.project(projection(stage, state))).unwrap()
    };
    let first = project("prod", AssignmentState::Pending);
    let same = project("prod", AssignmentState::Pending);
    assert_eq!((first.version(), same.version()), (103, 103), "nothing new");
    let next = project("prod", AssignmentState::Updated);
    assert_eq!((next.version(), next.uid()), (104, first.uid()));
    assert_eq!((next.label("stage"), &*next.field("status.state")), (Some("prod"), "Updated"));
    let moved = project("test", AssignmentState::Updated);
    assert_eq!((moved.version(), moved.label("stage")), (105, Some("test")));
    write(&mut registry, |transaction| {
        transaction.unproject(&key);
        transaction.unproject(&key);
        Ok(())
    })
    .unwrap();
    assert_eq!((registry.version(), registry.count(Kind::Assignment)), (106, 0));
    let events = registry.events(Kind::Assignment, &Filter::default(), 102).unwrap();
    let types: Vec<_> = events.iter().map(|event| event.event_type).collect();
    assert_eq!(types, [EventType::Added, EventType::Modified, EventType::Modified, EventType::Deleted]);
}

#[test]
fn a_status_of_the_hubs_own_changes_nothing_else() {
    let mut registry = registry();
    let before = registry.get(&key("tower-a")).unwrap().value();
    let mut put = |agent| {
        write(&mut registry, |transaction| transaction.update_status(&key("tower-a"), status(agent))).unwrap()
    };
    let (first, same, next) = (put("1"), put("1"), put("2"));
    assert_eq!((first.version(), same.version(), next.version()), (103, 103, 104));
    let mut expected = before;
    expected["metadata"]["resourceVersion"] = json!("104");
    expected["status"] = json!({"agent": "2"});
    assert_eq!(next.value(), expected);
    assert_eq!((next.generation(), next.label("stage")), (1, Some("prod")));
}

#[test]
fn what_was_stored_is_taken_up_or_refused() {
    let stored = |kind: &str, version| StoredObject {
        kind: kind.to_owned(),
        namespace: String::new(),
        name: "tower-a".to_owned(),
        version,
        text: to_raw_value(&cluster("tower-a", |_| ())).unwrap(),
    };
    let registry = Registry::restore(100, vec![stored("Cluster", 100)]).unwrap();
    let taken_up = registry.get(&key("tower-a")).unwrap();
    assert_eq!(taken_up.version(), 100);
    assert_eq!(taken_up.value()["metadata"]["resourceVersion"], "100", "its text said none");
    // What a hub wrote is kept as it is.
    let written = StoredObject { text: to_raw_value(&**taken_up).unwrap(), ..stored("Cluster", 100) };
    let registry = Registry::restore(100, vec![written]).unwrap();
    assert_eq!(registry.get(&key("tower-a")).unwrap(), taken_up);
    assert!(matches!(
        Registry::restore(100, vec![stored("Rollout", 1)]),
        Err(RestoreError::UnknownKind { .. })
    ));
    assert!(matches!(Registry::restore(99, vec![stored("Cluster", 100)]), Err(RestoreError::Version { .. })));
}

#[test]
fn a_row_tells_the_name_of_what_is_stored_in_it() {
    let stored = |name: &str, version: u64| StoredObject {
        kind: "Cluster".to_owned(),
        namespace: String::new(),
        name: name.to_owned(),
        version,
        text: to_raw_value(&cluster("tower-b", |value| {
            value["metadata"]["resourceVersion"] = json!(version.to_string());
            value["metadata"]["uid"] = json!(UID);
        }))
        .unwrap(),
    };
    // The text of each says that it is tower-b.
    let rows = ["tower-c", "tower-b", "tower-a"].into_iter().zip(1..);
    let rows = rows.map(|(name, version)| stored(name, version)).collect();
    let mut registry = Registry::restore(100, rows).unwrap();
    let page = registry.list(Kind::Cluster, &Filter::default(), 0, "").unwrap();
    let names: Vec<&str> = page.items.iter().map(|object| object.name()).collect();
    assert_eq!(names, ["tower-a", "tower-b", "tower-c"]);
    for (name, version) in [("tower-a", 3), ("tower-b", 2), ("tower-c", 1)] {
        let object = registry.get(&key(name)).unwrap();
        let metadata = &object.value()["metadata"];
        assert_eq!((&metadata["name"], metadata.get("namespace")), (&json!(name), None));
        assert_eq!((object.version(), &*object.uid(), object.label("stage")), (version, UID, Some("prod")));
    }
    assert_eq!(registry.get(&key("tower-b")).unwrap().text(), stored("tower-b", 2).text.get());
    // What is written of it goes to its row.
    let mut transaction = registry.begin(now(), "tester");
    transaction.update_status(&key("tower-a"), status("1")).unwrap();
    transaction.delete(&key("tower-c"), &Preconditions::default()).unwrap();
    let changes = transaction.finish();
    let keys: Vec<&ObjectKey> = changes.iter().map(|change| &change.key).collect();
    assert_eq!(keys, [&key("tower-a"), &key("tower-c")]);
    registry.apply(changes);
    assert_eq!(registry.count(Kind::Cluster), 2);
    let logged: Vec<ObjectKey> =
        registry.changes(100, 10).unwrap().into_iter().map(|change| change.key).collect();
    assert_eq!(logged, [key("tower-a"), key("tower-c")]);
}

#[test]
#[should_panic(expected = "Cluster tower-b says that it is another")]
fn an_object_is_not_put_under_a_name_that_it_does_not_bear() {
    let registry = registry();
    let object = Arc::clone(registry.get(&key("tower-a")).unwrap());
    registry.begin(now(), "tester").record(key("tower-b"), Some(object));
}

#[test]
fn namespaces_follow_from_what_is_in_them() {
    let mut registry = registry();
    assert!(registry.namespaces().is_empty());
    let application = json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"name": "gateway"},
        "spec": {"bundle": "gateway-1.0.0", "placement": {"clusterSelector": {}}},
    });
    write(&mut registry, |transaction| {
        transaction.create(Kind::Application, "radio", application, &options(FieldValidation::Strict), UID)
    })
    .unwrap();
    let expected = BTreeMap::from([("radio".to_owned(), "2026-01-01T00:00:00Z".to_owned())]);
    assert_eq!(registry.namespaces(), expected);
}

#[test]
fn what_an_assignment_says_since_when_outlives_its_labels() {
    let mut registry = registry();
    let mut put = |second: i64, stage: &str, state: AssignmentState| {
        let mut transaction = registry.begin(Timestamp::from_second(second).unwrap(), "tester");
        let object = transaction.project(projection(stage, state)).unwrap();
        let changes = transaction.finish();
        registry.apply(changes);
        (object.label("stage").map(str::to_owned), object.value()["status"]["since"].clone())
    };
    for (second, stage, state, since) in [
        (1, "test", AssignmentState::Pending, "1970-01-01T00:00:01Z"),
        (2, "prod", AssignmentState::Pending, "1970-01-01T00:00:01Z"),
        (3, "prod", AssignmentState::Updated, "1970-01-01T00:00:03Z"),
        (4, "test", AssignmentState::Failed, "1970-01-01T00:00:04Z"),
    ] {
        let expected = (Some(stage.to_owned()), json!(since));
        assert_eq!(put(second, stage, state), expected, "{second}");
    }
}
