//! What holds whatever is applied.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Objects whose lists have keys, are sets and are atomic, and which overlap often. No list or map is
/// empty: whether one that is emptied stays is for its owners, not for the laws below.
fn object() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[ab]", digit(), 0..3);
    let finalizers = proptest::sample::subsequence(vec!["x/a", "x/b", "x/c"], 0..4).prop_shuffle();
    let containers = proptest::collection::btree_map("[pq]", container(), 0..3)
        .prop_map(|named| named.into_iter().map(named_container).collect::<Vec<_>>())
        .prop_shuffle();
    (labels, finalizers, containers).prop_map(|(labels, finalizers, containers)| {
        let metadata = without_empty(json!({"name": "p", "labels": labels, "finalizers": finalizers}));
        let spec = without_empty(json!({"containers": containers}));
        without_empty(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
    })
}

fn container() -> impl Strategy<Value = Value> {
    let args = proptest::collection::vec(digit(), 0..3);
    let env = proptest::collection::btree_map("[AB]", digit(), 0..3);
    (args, env).prop_map(|(args, env)| {
        let pair = |(name, value)| json!({"name": name, "value": value});
        without_empty(json!({"args": args, "env": env.into_iter().map(pair).collect::<Vec<_>>()}))
    })
}

fn named_container((name, mut container): (String, Value)) -> Value {
    container["name"] = name.into();
    container
}

fn digit() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("1"), Just("2")]
}

fn without_empty(mut object: Value) -> Value {
    let is_empty = |value: &Value| *value == json!({}) || *value == json!([]);
    object.as_object_mut().unwrap().retain(|_, value| !is_empty(value));
    object
}

fn topologies() -> impl Strategy<Value = Topology> {
    let built_in = Topology::built_in(&"v1, Kind=Pod".parse().unwrap()).unwrap();
    prop_oneof![Just(built_in), Just(Topology::untyped(true))]
}

fn manager(name: &str) -> Manager<'_> {
    Manager { name, api_version: "v1", subresource: "", time: "2026-01-01T00:00:00Z" }
}

fn bare(object: &Value) -> Value {
    without_managed_fields(object)
}

fn nothing() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}})
}

proptest! {
    #[test]
    fn to_apply_twice_is_to_apply_once(
        topology in topologies(), first in object(), second in object(), force in any::<bool>()
    ) {
        let live = apply(None, &first, &manager("a"), false, &topology).unwrap().object;
        if let Ok(once) = apply(Some(&live), &second, &manager("b"), force, &topology) {
            let later = Manager { time: "2026-01-02T00:00:00Z", ..manager("b") };
            let twice = apply(Some(&once.object), &second, &later, false, &topology).unwrap();
            prop_assert!(!twice.is_changed);
            prop_assert_eq!(twice.object, once.object);
        }
    }

    #[test]
    fn to_apply_nothing_removes_what_was_owned_alone(topology in topologies(), first in object(), second in object()) {
        let live = apply(None, &first, &manager("a"), false, &topology).unwrap().object;
        if let Ok(both) = apply(Some(&live), &second, &manager("b"), false, &topology) {
            let after = apply(Some(&both.object), &nothing(), &manager("b"), false, &topology).unwrap().object;
            let owned = field_set(&bare(&live), topology.root()).unwrap();
            let left = field_set(&bare(&after), topology.root()).unwrap();
            prop_assert_eq!(left, owned, "{}", after);
            prop_assert!(ObjectView::new(&after).managed_fields().all(|entry| entry.manager() == Some("a")));
        }
    }

    #[test]
    fn force_always_wins(topology in topologies(), first in object(), second in object()) {
        let live = apply(None, &first, &manager("a"), false, &topology).unwrap().object;
        let forced = apply(Some(&live), &second, &manager("b"), true, &topology).unwrap().object;
        let change = compare(&bare(&forced), &merge(&bare(&forced), &second, topology.root()).unwrap(), topology.root());
        prop_assert_eq!(change.unwrap().modified, FieldSet::new());
        // Nobody else disagrees with it any more.
        let others = apply(Some(&forced), &second, &manager("c"), false, &topology);
        prop_assert!(others.is_ok(), "{:?}", others);
    }

    #[test]
    fn whatever_changes_has_an_owner(topology in topologies(), mut first in object(), second in object()) {
        // What nobody manages stays unmanaged until it is applied.
        first["metadata"]["generateName"] = "p-".into();
        let live = track_update(None, &first, &manager("a"), &topology).unwrap().object;
        let after = track_update(Some(&live), &second, &manager("b"), &topology).unwrap().object;
        let change = compare(&bare(&live), &bare(&after), topology.root()).unwrap();
        let touched = managed::without_unowned(&change.modified.union(&change.added));
        let entries = ObjectView::new(&after).managed_fields();
        let of_b = entries.filter(|entry| entry.manager() == Some("b"));
        let of_b = of_b.filter_map(|entry| FieldSet::from_value(entry.fields().unwrap()).ok());
        prop_assert_eq!(of_b.fold(FieldSet::new(), |all, fields| all.union(&fields)), touched);
    }
}
