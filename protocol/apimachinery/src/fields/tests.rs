use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scalar() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<i64>().prop_map(Scalar::integer),
        // Quarters, because the JSON parser is not exact in the last bit of every float.
        any::<i32>().prop_filter_map("not JSON", |n| Scalar::from_value(&json!(f64::from(n) / 4.0))),
        "[a-c<>&\"\\\\\n\u{1}é]{0,3}".prop_map(Scalar::text),
        any::<bool>().prop_map(Scalar::Bool),
    ]
}

fn element() -> impl Strategy<Value = PathElement> {
    prop_oneof![
        4 => "[a-d.:/]{0,2}".prop_map(PathElement::field),
        1 => proptest::collection::btree_map("[a-c]{1,2}", scalar(), 1..3)
            .prop_map(|pairs| PathElement::Key(pairs.into_iter().collect())),
        1 => scalar().prop_map(PathElement::Value),
        1 => any::<i64>().prop_map(PathElement::Index),
    ]
}

fn path() -> impl Strategy<Value = Path> {
    proptest::collection::vec(element(), 1..4).prop_map(|elements| elements.into_iter().collect())
}

fn set() -> impl Strategy<Value = FieldSet> {
    proptest::collection::vec(path(), 0..12).prop_map(|paths| paths.into_iter().collect())
}

proptest! {
    #[test]
    fn fields_v1_is_read_as_it_was_written(set in set()) {
        prop_assert_eq!(&FieldSet::from_value(&set.to_value()).unwrap(), &set);
        let text = serde_json::to_string(&set).unwrap();
        prop_assert_eq!(&FieldSet::from_json(&text).unwrap(), &set);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), set.to_value());
    }

    #[test]
    fn sets_obey_the_laws_of_sets(a in set(), b in set(), c in set(), path in path()) {
        prop_assert_eq!(a.clone().union(&b), b.clone().union(&a));
        prop_assert_eq!(a.clone().union(&b).union(&c), a.clone().union(&b.clone().union(&c)));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(&a.intersection(&a), &a);
        prop_assert_eq!(a.difference(&b).intersection(&b), FieldSet::new());
        prop_assert_eq!(&a.difference(&b).union(&a.intersection(&b)), &a);
        prop_assert_eq!(a.intersection(&b).len() + a.clone().union(&b).len(), a.len() + b.len());
        prop_assert_eq!(a.clone().union(&b).contains(&path), a.contains(&path) || b.contains(&path));
        prop_assert_eq!(a.difference(&b).contains(&path), a.contains(&path) && !b.contains(&path));
    }

    #[test]
    fn a_set_is_its_paths(a in set(), b in set()) {
        prop_assert_eq!(&a.paths().into_iter().collect::<FieldSet>(), &a);
        prop_assert!(a.paths().iter().all(|path| a.contains(path)));
        let rest = a.difference_with_below(&b);
        for path in a.paths() {
            let is_covered = (1..=path.elements().len()).any(|end| b.contains(&path.elements()[..end].iter().cloned().collect()));
            prop_assert_eq!(rest.contains(&path), !is_covered);
        }
    }
}

fn check(text: &str, paths: &[&str]) {
    let set = FieldSet::from_json(text).unwrap();
    assert_eq!(set.paths().iter().map(ToString::to_string).collect::<Vec<_>>(), paths, "{text}");
    assert_eq!(serde_json::to_string(&set).unwrap(), text);
}

#[test]
fn paths_are_named_as_in_a_conflict() {
    check("{}", &[]);
    check(
        r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}}}"#,
        &[".metadata.labels", ".metadata.labels.app"],
    );
    check(
        r#"{"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
        &[
            r#".spec.containers[name="app"]"#,
            r#".spec.containers[name="app"].image"#,
            r#".spec.containers[name="app"].name"#,
        ],
    );
    check(
        r#"{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{},"k:{\"port\":443,\"protocol\":\"TCP\"}":{}}}"#,
        &[r#".ports[port=80,protocol="TCP"]"#, r#".ports[port=443,protocol="TCP"]"#],
    );
    check(
        r#"{"f:metadata":{"f:finalizers":{"v:\"a\\u003cb\"":{}},"f:x":{"i:0":{},"i:1":{}}}}"#,
        &[r#".metadata.finalizers[="a<b"]"#, ".metadata.x[0]", ".metadata.x[1]"],
    );
    // What ends on a level comes before what goes deeper.
    check(r#"{"f:a":{"f:z":{}},"f:b":{}}"#, &[".b", ".a.z"]);
}

#[test]
fn reading_is_lenient_where_the_api_server_is() {
    for (text, normal) in [
        (r#"{"f:a":{"f:b":{}},"x:future":{"f:c":{}}}"#, r#"{"f:a":{"f:b":{}}}"#),
        (r#"{"f:a":{"x:future":{}}}"#, r#"{"f:a":{}}"#),
        (r#"{"f:a":null}"#, r#"{"f:a":{}}"#),
        (r#"{"f:a":{".":{}}}"#, r#"{"f:a":{}}"#),
        (r#"{"k:{\"b\":1.0, \"a\":\"x\"}":{}}"#, r#"{"k:{\"a\":\"x\",\"b\":1}":{}}"#),
    ] {
        assert_eq!(serde_json::to_string(&FieldSet::from_json(text).unwrap()).unwrap(), normal, "{text}");
    }
}

#[test]
fn what_is_not_fields_v1_is_refused() {
    let deep = (0..200).fold(json!({}), |below, _| json!({"f:a": below}));
    assert_eq!(FieldSet::from_value(&deep), Err(FieldsError::TooDeep));
    let wide: serde_json::Map<_, _> = (0..=MAX_PATHS).map(|n| (format!("f:{n}"), json!({}))).collect();
    assert_eq!(FieldSet::from_value(&wide.into()), Err(FieldsError::TooManyPaths));
    for (text, error) in [
        (r#"{"spec":{}}"#, FieldsError::NoType("spec".into())),
        (r#"{"ff:spec":{}}"#, FieldsError::NoType("ff:spec".into())),
        (r#"{"f:a":1}"#, FieldsError::NotAnObject { at: "f:a".into() }),
        (r#"{"k:[]":{}}"#, FieldsError::BadContent("k:[]".into())),
        (r#"{"k:{\"a\":[]}":{}}"#, FieldsError::BadContent(r#"k:{"a":[]}"#.into())),
        (r#"{"v:a":{}}"#, FieldsError::BadContent("v:a".into())),
        (r#"{"i:a":{}}"#, FieldsError::BadContent("i:a".into())),
    ] {
        assert_eq!(FieldSet::from_json(text), Err(error), "{text}");
    }
}
