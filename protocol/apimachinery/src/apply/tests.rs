use serde_json::{Value, json};

use super::*;
use crate::fields::{FieldsError, MAX_PATHS};

/// One object and the writes it sees, a day apart.
struct Story {
    topology: Topology,
    live: Option<Value>,
    day: u32,
}

impl Story {
    fn of(gvk: &str) -> Self {
        let topology = Topology::built_in(&gvk.parse().unwrap()).unwrap_or_else(|| Topology::untyped(true));
        Self { topology, live: None, day: 0 }
    }

    fn apply(&mut self, name: &str, object: &Value) -> &mut Self {
        self.try_apply(name, object, false).unwrap();
        self
    }

    fn try_apply(&mut self, name: &str, object: &Value, force: bool) -> Result<bool, ApplyError> {
        self.write("", name, |live, manager, topology| apply(live, object, manager, force, topology), object)
    }

    fn update(&mut self, name: &str, object: &Value) -> &mut Self {
        self.write("", name, |live, manager, topology| track_update(live, object, manager, topology), object)
            .unwrap();
        self
    }

    fn update_status(&mut self, name: &str, object: &Value) -> &mut Self {
        let track = |live: Option<&Value>, manager: &Manager<'_>, topology: &Topology| {
            track_update(live, object, manager, topology)
        };
        self.write("status", name, track, object).unwrap();
        self
    }

    fn write(
        &mut self,
        subresource: &str,
        name: &str,
        write: impl FnOnce(Option<&Value>, &Manager<'_>, &Topology) -> Result<Applied, ApplyError>,
        object: &Value,
    ) -> Result<bool, ApplyError> {
        self.day += 1;
        let time = format!("2026-01-{:02}T00:00:00Z", self.day);
        let api_version = ObjectView::new(object).api_version().unwrap();
        let manager = Manager { name, api_version, subresource, time: &time };
        let applied = write(self.live.as_ref(), &manager, &self.topology)?;
        self.live = Some(applied.object);
        Ok(applied.is_changed)
    }

    fn live(&self) -> &Value {
        self.live.as_ref().unwrap()
    }

    /// The object without what everyone has, and each manager as `name operation day: paths`.
    fn check(&self, fields: &Value, owners: &[&str]) {
        let mut object = without_managed_fields(self.live());
        for shared in ["apiVersion", "kind"] {
            object.as_object_mut().unwrap().remove(shared);
        }
        let metadata = metadata_of(&mut object);
        metadata.remove("name");
        if metadata.is_empty() {
            object.as_object_mut().unwrap().remove("metadata");
        }
        assert_eq!(&object, fields);
        assert_eq!(self.owners(), owners);
    }

    fn owners(&self) -> Vec<String> {
        let owner = |entry: crate::meta::ManagedFieldsEntry<'_>| {
            let fields = FieldSet::from_value(entry.fields().unwrap()).unwrap();
            let paths: Vec<_> = fields.paths().iter().map(ToString::to_string).collect();
            let day = entry.time().map_or("-", |time| &time[8..10]);
            let subresource = entry.subresource().map(|name| format!("/{name}")).unwrap_or_default();
            let (name, operation) = (entry.manager().unwrap(), entry.operation().unwrap());
            format!("{name}{subresource} {operation} {day}: {}", paths.join(" "))
        };
        ObjectView::new(self.live()).managed_fields().map(owner).collect()
    }
}

fn config_map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

fn deployment(spec: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn pod(containers: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}})
}

#[test]
fn who_applies_owns_what_it_applied() {
    let mut story = Story::of("v1, Kind=ConfigMap");
    story.apply("a", &config_map(&json!({"x": "1", "y": "1"})));
    story.check(&json!({"data": {"x": "1", "y": "1"}}), &["a Apply 01: .data.x .data.y"]);
    // Once more is no change, and no new time.
    assert_eq!(story.try_apply("a", &config_map(&json!({"x": "1", "y": "1"})), false), Ok(false));
    story.check(&json!({"data": {"x": "1", "y": "1"}}), &["a Apply 01: .data.x .data.y"]);
    // What is applied no more goes.
    story.apply("a", &config_map(&json!({"y": "2"})));
    story.check(&json!({"data": {"y": "2"}}), &["a Apply 03: .data.y"]);
    // The last of a field goes with the field.
    story.apply("a", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}));
    story.check(&json!({}), &[]);
}

#[test]
fn equal_values_are_shared_and_stay_until_the_last_owner_lets_go() {
    let mut story = Story::of("v1, Kind=ConfigMap");
    story.apply("a", &config_map(&json!({"x": "1", "y": "1"})));
    assert_eq!(story.try_apply("b", &config_map(&json!({"x": "1"})), false), Ok(true));
    // The object is as before, so the new owner has no time: it never changed anything.
    story.check(
        &json!({"data": {"x": "1", "y": "1"}}),
        &["b Apply -: .data.x", "a Apply 01: .data.x .data.y"],
    );
    story.apply("a", &config_map(&json!({"z": "1"})));
    story.check(&json!({"data": {"x": "1", "z": "1"}}), &["b Apply -: .data.x", "a Apply 03: .data.z"]);
}

#[test]
fn another_value_is_a_conflict_that_force_wins() {
    let mut story = Story::of("apps/v1, Kind=Deployment");
    story.update("kubectl-client-side-apply", &deployment(&json!({"replicas": 1, "paused": true})));
    let applied = deployment(&json!({"replicas": 3}));
    let error = story.try_apply("kubectl", &applied, false).unwrap_err();
    let message = r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#;
    assert_eq!(error.to_string(), message);
    let ApplyError::Conflicts(conflicts) = error else { panic!("{error}") };
    assert_eq!(
        conflicts.status(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409,
            "message": message, "reason": "Conflict",
            "details": {"causes": [{
                "reason": "FieldManagerConflict",
                "message": r#"conflict with "kubectl-client-side-apply" using apps/v1"#,
                "field": ".spec.replicas",
            }]},
        })
    );
    assert_eq!(story.try_apply("kubectl", &applied, true), Ok(true));
    story.check(
        &json!({"spec": {"replicas": 3, "paused": true}}),
        &["kubectl Apply 03: .spec.replicas", "kubectl-client-side-apply Update 01: .spec .spec.paused"],
    );
}

#[test]
fn several_conflicts_are_listed_by_manager() {
    let mut story = Story::of("v1, Kind=Pod");
    let app = json!([{"name": "app", "image": "v1", "env": [{"name": "A", "value": "1"}]}]);
    story.apply("b", &pod(&app)).apply("a", &pod(&json!([{"name": "app", "workingDir": "/"}])));
    let other = pod(&json!([
        {"name": "app", "image": "v2", "workingDir": "/srv", "env": [{"name": "A", "value": "2"}]}
    ]));
    assert_eq!(
        story.try_apply("c", &other, false).unwrap_err().to_string(),
        "Apply failed with 3 conflicts: conflicts with \"a\":\n\
         - .spec.containers[name=\"app\"].workingDir\n\
         conflicts with \"b\":\n\
         - .spec.containers[name=\"app\"].image\n\
         - .spec.containers[name=\"app\"].env[name=\"A\"].value"
    );
}

#[test]
fn items_with_keys_merge_one_by_one() {
    let mut story = Story::of("v1, Kind=Pod");
    let ports = json!([{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]);
    story.apply("a", &pod(&json!([{"name": "app", "image": "v1", "ports": ports}])));
    story.apply("b", &pod(&json!([{"name": "side", "image": "v1"}, {"name": "app"}])));
    // The applied order holds, and b shares the item with a.
    story.check(
        &json!({"spec": {"containers": [
            {"name": "side", "image": "v1"}, {"name": "app", "image": "v1", "ports": ports},
        ]}}),
        &[
            r#"a Apply 01: .spec.containers[name="app"] .spec.containers[name="app"].image .spec.containers[name="app"].name .spec.containers[name="app"].ports[containerPort=53,protocol="UDP"] .spec.containers[name="app"].ports[containerPort=80,protocol="TCP"] .spec.containers[name="app"].ports[containerPort=53,protocol="UDP"].containerPort .spec.containers[name="app"].ports[containerPort=53,protocol="UDP"].protocol .spec.containers[name="app"].ports[containerPort=80,protocol="TCP"].containerPort"#,
            r#"b Apply 02: .spec.containers[name="app"] .spec.containers[name="side"] .spec.containers[name="app"].name .spec.containers[name="side"].image .spec.containers[name="side"].name"#,
        ],
    );
    // What only a owned of the shared item goes; the item and its key stay with b.
    story.apply("a", &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}));
    assert_eq!(
        story.live()["spec"],
        json!({"containers": [{"name": "side", "image": "v1"}, {"name": "app"}]})
    );
}

#[test]
fn updaters_own_what_they_changed_and_lose_what_others_change() {
    let mut story = Story::of("v1, Kind=ConfigMap");
    story.update("curl", &config_map(&json!({"x": "1", "y": "1"})));
    story.check(&json!({"data": {"x": "1", "y": "1"}}), &["curl Update 01: .data .data.x .data.y"]);
    let with_managers = |story: &Story, data: Value| {
        let mut object = story.live().clone();
        object["data"] = data;
        object
    };
    let after = with_managers(&story, json!({"x": "2", "y": "1"}));
    story.update("controller", &after);
    story.check(
        &json!({"data": {"x": "2", "y": "1"}}),
        &["curl Update 01: .data .data.y", "controller Update 02: .data.x"],
    );
    // An applier takes no field from an updater by agreeing with it, and removing wants no permission.
    story.apply("a", &config_map(&json!({"x": "2", "z": "1"})));
    let after = with_managers(&story, json!({"z": "1"}));
    story.update("curl", &after);
    story.check(&json!({"data": {"z": "1"}}), &["a Apply 03: .data.z", "curl Update 01: .data"]);
}

#[test]
fn the_status_is_written_apart() {
    let mut story = Story::of("apps/v1, Kind=Deployment");
    let mut object = deployment(&json!({"replicas": 1}));
    object["status"] = json!({"replicas": 7});
    story.apply("a", &object);
    story.check(&json!({"spec": {"replicas": 1}}), &["a Apply 01: .spec.replicas"]);
    let mut reported = story.live().clone();
    reported["spec"]["replicas"] = json!(5);
    reported["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    story.update_status("controller", &reported);
    story.check(
        &json!({
            "spec": {"replicas": 1},
            "status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]},
        }),
        &[
            "a Apply 01: .spec.replicas",
            r#"controller/status Update 02: .status .status.conditions .status.replicas .status.conditions[type="Available"] .status.conditions[type="Available"].status .status.conditions[type="Available"].type"#,
        ],
    );
    assert_eq!(story.try_apply("a", &object, false), Ok(false));
}

#[test]
fn what_nobody_managed_is_owned_by_someone_nameless() {
    let mut story = Story::of("v1, Kind=ConfigMap");
    story.live = Some(config_map(&json!({"x": "1", "y": "1"})));
    let error = story.try_apply("a", &config_map(&json!({"x": "2"})), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.x"#
    );
    story.apply("a", &config_map(&json!({"x": "1"})));
    story.check(
        &json!({"data": {"x": "1", "y": "1"}}),
        &["a Apply -: .data.x", "before-first-apply Update 02: .data .data.x .data.y"],
    );
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_client() {
    let mut story = Story::of("v1, Kind=ConfigMap");
    let mut object = config_map(&json!({"x": "1", "y": "1"}));
    let annotation = object.to_string();
    object["metadata"]["annotations"] = json!({last_applied::ANNOTATION: annotation});
    story.update("kubectl-client-side-apply", &object);
    let next = config_map(&json!({"x": "2"}));
    assert!(story.try_apply("other", &next, false).is_err());
    assert_eq!(story.try_apply("kubectl", &next, false), Ok(true));
    assert_eq!(story.live()["data"], json!({"x": "2", "y": "1"}));
    let kept = ObjectView::new(story.live()).annotation(last_applied::ANNOTATION).unwrap();
    assert_eq!(serde_json::from_str::<Value>(kept).unwrap(), next);
}

#[test]
fn the_oldest_of_many_updaters_are_merged() {
    let mut story = Story::of("v1, Kind=ConfigMap");
    for n in 0..12 {
        let data: Map<_, _> = (0..=n).map(|key| (format!("k{key:02}"), json!("1"))).collect();
        story.update(&format!("m{n:02}"), &config_map(&data.into()));
    }
    let owners = story.owners();
    assert_eq!(owners.len(), 10);
    assert_eq!(
        owners[..2],
        ["ancient-changes Update 03: .data .data.k00 .data.k01 .data.k02", "m03 Update 04: .data.k03"]
    );
    assert_eq!(owners[9], "m11 Update 12: .data.k11");
}

#[test]
fn a_write_may_say_who_manages_what() {
    let mut story = Story::of("v1, Kind=ConfigMap");
    story.apply("a", &config_map(&json!({"x": "1"})));
    let mut given = story.live().clone();
    given["metadata"]["managedFields"][0]["manager"] = json!("b");
    story.update("curl", &given);
    assert_eq!(story.owners(), ["b Apply 01: .data.x"]);
    for nobody in [json!([{}]), json!([])] {
        let mut given = story.live().clone();
        given["metadata"]["managedFields"] = nobody;
        story.update("curl", &given);
        assert_eq!(story.owners(), [""; 0]);
    }
    // Through a subresource it may not.
    let mut story = Story::of("apps/v1, Kind=Deployment");
    story.apply("a", &deployment(&json!({"replicas": 1})));
    let mut given = story.live().clone();
    given["metadata"]["managedFields"] = json!([{}]);
    story.update_status("controller", &given);
    assert_eq!(story.owners(), ["a Apply 01: .spec.replicas"]);
}

#[test]
fn custom_resources_without_a_schema_merge_their_maps_and_replace_their_lists() {
    let thing = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec});
    let mut story = Story::of("example.com/v1, Kind=Thing");
    story.apply("a", &thing(json!({"map": {"x": 1}, "list": [1]})));
    story.apply("b", &thing(json!({"map": {"y": 1}})));
    let list = thing(json!({"list": [2]}));
    assert_eq!(
        story.try_apply("b", &list, false).unwrap_err().to_string(),
        r#"Apply failed with 1 conflict: conflict with "a": .spec.list"#
    );
    assert_eq!(story.try_apply("b", &list, true), Ok(true));
    // Keys that no schema declares are owned along with what is below them.
    story.check(
        &json!({"spec": {"map": {"x": 1}, "list": [2]}}),
        &["a Apply 01: .spec .spec.map .spec.map.x", "b Apply 04: .spec .spec.list"],
    );
}

#[test]
fn who_owned_a_part_owns_the_whole_once_the_schema_says_so() {
    let schema = |kind: &str| {
        let labels = json!({"type": "object", "x-kubernetes-map-type": kind, "additionalProperties": {"type": "string"}});
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"labels": labels}}}})
    };
    let thing =
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "spec": {"labels": {"x": "1", "y": "1"}}});
    let mut story = Story::of("example.com/v1, Kind=Thing");
    story.topology = Topology::custom(&schema("granular"), true).unwrap();
    story.apply("a", &thing);
    assert_eq!(story.owners(), ["a Apply 01: .spec.labels.x .spec.labels.y"]);
    story.topology = Topology::custom(&schema("atomic"), true).unwrap();
    story.apply("b", &thing);
    assert_eq!(story.owners(), ["b Apply -: .spec.labels", "a Apply 01: .spec.labels"]);
}

#[test]
fn nulls_and_the_metadata_of_the_server_do_not_count() {
    let mut story = Story::of("v1, Kind=ConfigMap");
    story.apply("a", &config_map(&json!({"x": "1"})));
    let live = story.live.as_mut().unwrap();
    live["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    live["metadata"]["uid"] = json!("u");
    let mut again = config_map(&json!({"x": "1", "y": null}));
    again["metadata"]["creationTimestamp"] = Value::Null;
    // To own `y` is news, though the object is the same.
    assert_eq!(story.try_apply("a", &again, false), Ok(true));
    assert_eq!(story.try_apply("a", &again, false), Ok(false));
    story.check(
        &json!({
            "data": {"x": "1"}, "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u"},
        }),
        &["a Apply 02: .data.x .data.y"],
    );
}

#[test]
fn what_cannot_be_read_as_managed_fields_is_refused() {
    let entry = json!({"manager": "a", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}});
    let topology = Topology::built_in(&"v1, Kind=ConfigMap".parse().unwrap()).unwrap();
    let manager = Manager { name: "a", api_version: "v1", subresource: "", time: "2026-01-01T00:00:00Z" };
    for (field, value, error) in [
        ("operation", json!("Patch"), ManagedFieldsError::Operation(0)),
        ("apiVersion", json!(""), ManagedFieldsError::ApiVersion(0)),
        ("fieldsType", json!("FieldsV2"), ManagedFieldsError::FieldsType(0)),
        ("time", json!("yesterday"), ManagedFieldsError::Time(0)),
        ("fieldsV1", json!({"x": {}}), ManagedFieldsError::Fields(0, FieldsError::NoType("x".into()))),
    ] {
        let mut entry = entry.clone();
        entry[field] = value;
        let mut live = config_map(&json!({}));
        live["metadata"]["managedFields"] = json!([entry]);
        let refused = apply(Some(&live), &config_map(&json!({})), &manager, false, &topology);
        assert_eq!(refused, Err(ApplyError::ManagedFields(error)));
    }
    let mut live = config_map(&json!({}));
    live["metadata"]["managedFields"] = Value::Array(vec![entry; MAX_MANAGERS + 1]);
    let refused = apply(Some(&live), &config_map(&json!({})), &manager, false, &topology);
    assert_eq!(refused, Err(ApplyError::ManagedFields(ManagedFieldsError::TooMany(MAX_MANAGERS + 1))));
}

/// What is written must be readable, or the object could never be written again.
#[test]
fn what_is_written_keeps_to_the_limits_of_what_is_read() {
    let nested = |depth| (0..depth).fold(json!("1"), |below, _| json!({"x": below}));
    let thing = |depth| json!({"apiVersion": "example.com/v1", "kind": "Thing", "spec": nested(depth)});
    let mut story = Story::of("example.com/v1, Kind=Thing");
    story.apply("a", &thing(MAX_DEPTH - 1));
    story.live = Some(serde_json::from_str(&story.live().to_string()).unwrap());
    assert_eq!(story.try_apply("a", &thing(MAX_DEPTH - 1), false), Ok(false));
    assert_eq!(story.try_apply("a", &thing(MAX_DEPTH), false), Err(ApplyError::TooDeep));

    let with_keys =
        |count| config_map(&(0..count).map(|n| (format!("k{n}"), "".into())).collect::<Map<_, _>>().into());
    let mut story = Story::of("v1, Kind=ConfigMap");
    let too_many = ManagedFieldsError::Fields(0, FieldsError::TooManyPaths);
    assert_eq!(story.try_apply("a", &with_keys(MAX_PATHS), false), Err(too_many.into()));

    let mut story = Story::of("v1, Kind=ConfigMap");
    for n in 0..MAX_MANAGERS {
        story.day = 0;
        story.apply(&n.to_string(), &config_map(&json!({"x": "1"})));
    }
    let too_many = ManagedFieldsError::TooMany(MAX_MANAGERS + 1);
    story.day = 0;
    assert_eq!(story.try_apply("z", &config_map(&json!({"x": "1"})), false), Err(too_many.into()));
}

#[test]
fn what_cannot_be_applied_is_refused() {
    let live = config_map(&json!({"x": "1"}));
    let topology = Topology::built_in(&"v1, Kind=ConfigMap".parse().unwrap()).unwrap();
    let pods = Topology::built_in(&"v1, Kind=Pod".parse().unwrap()).unwrap();
    let manager = Manager { name: "a", api_version: "v1", subresource: "", time: "2026-01-01T00:00:00Z" };
    let deep = (0..200).fold(json!(1), |below, _| json!([below]));
    let given = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"managedFields": []}});
    for (object, manager, topology, message) in [
        (
            json!({"apiVersion": "v2", "kind": "ConfigMap"}),
            manager,
            &topology,
            "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Secret"}),
            manager,
            &topology,
            "cannot apply Secret to the live ConfigMap",
        ),
        (given, manager, &topology, "metadata.managedFields must be nil"),
        (config_map(&deep), manager, &topology, "the object is nested deeper than 120 levels"),
        (
            config_map(&json!({})),
            Manager { time: "now", ..manager },
            &topology,
            "the time of field manager a is \"now\": it must be RFC 3339",
        ),
        (pod(&json!([{"name": "x"}, {"name": "x"}])), manager, &pods, "failed to merge"),
    ] {
        let live = (topology.reset_fields("").len() == 1 && object["kind"] != "Pod").then_some(&live);
        let error = apply(live, &object, &manager, false, topology).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
