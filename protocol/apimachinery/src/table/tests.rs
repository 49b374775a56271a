use super::*;

#[test]
fn durations_as_kubectl_says_them() {
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    let rows = [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR, "3h"),
        (7 * HOUR + 59 * 60, "7h59m"),
        (8 * HOUR, "8h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY, "2d"),
        (7 * DAY + 23 * HOUR, "7d23h"),
        (8 * DAY, "8d"),
        (730 * DAY - 1, "729d"),
        (730 * DAY, "2y"),
        (8 * 365 * DAY - 1, "7y364d"),
        (8 * 365 * DAY, "8y"),
    ];
    for (seconds, expected) in rows {
        assert_eq!(human_duration(seconds), expected, "{seconds}");
    }
}

#[test]
fn cells_are_typed() {
    let object = json!({
        "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"x.dev/y": "note"}},
        "spec": {"n": 3, "f": 1.5, "yes": true, "text": "t", "list": [{"type": "A", "status": "True"}, {"type": "B"}]},
    });
    let rows = [
        ("string", ".spec.text", json!("t")),
        ("string", ".spec.n", json!("3")),
        ("string", ".spec.list[0].type", json!("A")),
        ("string", ".spec.list[?(@.type==\"A\")].status", json!("True")),
        ("string", ".spec.list[?(@.type=='C')].status", Value::Null),
        ("string", ".metadata.annotations['x.dev/y']", json!("note")),
        ("string", ".spec.none.deep", Value::Null),
        ("integer", ".spec.n", json!(3)),
        ("integer", ".spec.text", Value::Null),
        ("number", ".spec.f", json!(1.5)),
        ("boolean", ".spec.yes", json!(true)),
        ("boolean", ".spec.text", Value::Null),
        ("date", ".metadata.creationTimestamp", json!("61s")),
        ("date", ".spec.text", json!("<invalid>")),
        ("date", ".spec.n", Value::Null),
    ];
    let now = "2026-01-01T00:01:01Z".parse().unwrap();
    for (column_type, path, expected) in rows {
        let definition = json!({"name": "C", "type": column_type, "jsonPath": path});
        let columns = Columns::new(vec![serde_json::from_value(definition).unwrap()]).unwrap();
        let table = columns.table([&object], json!({}), IncludeObject::Metadata, true, now);
        assert_eq!(table["rows"][0]["cells"], json!(["a", expected]), "{column_type} {path}");
        assert_eq!(table["rows"][0]["object"], partial_metadata(&object));
        assert_eq!(table["columnDefinitions"][0]["name"], "Name");
        assert_eq!(table["columnDefinitions"][1]["name"], "C");
    }
}

#[test]
fn unknown_paths_are_refused() {
    for path in ["spec", ".", ".a..b", ".a[*]", ".a[", ".a[?(@.b>1)]", "..a", ".a[-1]"] {
        assert!(Path::parse(path).is_err(), "{path}");
    }
}

#[test]
fn a_kind_may_be_printed_in_its_own_way() {
    let definition = json!({"name": "Object", "type": "string", "jsonPath": ""});
    let made: MakeCell =
        |object| json!(format!("cluster/{}", object["metadata"]["name"].as_str().unwrap_or("?")));
    let columns = Columns::made(vec![(serde_json::from_value(definition).unwrap(), made)]);
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let object = json!({"metadata": {"name": "a"}});
    let table = columns.table([&object], json!({}), IncludeObject::None, true, now);
    assert_eq!(table["columnDefinitions"].as_array().map(Vec::len), Some(1));
    assert_eq!(table["rows"], json!([{"cells": ["cluster/a"]}]));
}
