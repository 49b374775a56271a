//! How an object would differ after an apply, field by field, as the API server's own paths name fields.

use serde_json::{Map, Value};

use crate::logic::{event::Foreseen, report};

/// Fields that are named of one object: enough to see what it is about. Values are not told, they may be secret.
const FIELDS: usize = 8;

/// Nesting below which a field is named as a whole: as deep as any that people know by name.
const DEPTH: usize = 16;

/// Metadata that every write moves.
const BOOKKEEPING: [&str; 3] = ["managedFields", "resourceVersion", "generation"];

/// What an apply does that makes `after` of what is there.
pub(super) fn foreseen(before: Option<&Value>, after: &Value) -> Foreseen {
    let Some(before) = before else { return Foreseen::Create };
    let mut fields = Vec::new();
    walk(before, after, &mut String::new(), 0, &mut fields);
    if fields.is_empty() { Foreseen::Same } else { Foreseen::Change(fields) }
}

fn walk(before: &Value, after: &Value, path: &mut String, depth: usize, fields: &mut Vec<String>) {
    if before == after || fields.len() >= FIELDS {
        return;
    }
    match (before, after) {
        (Value::Object(before), Value::Object(after)) if depth < DEPTH => {
            maps(before, after, path, depth, fields);
        }
        (Value::Array(before), Value::Array(after)) if depth < DEPTH && before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                let name = after["name"].as_str().filter(|_| before["name"] == after["name"]);
                let step = name.map_or_else(|| format!("[{index}]"), |name| format!("[name=\"{name}\"]"));
                below(&step, before, after, path, depth, fields);
            }
        }
        _ => fields.push(report::cut(path)),
    }
}

fn maps<'a>(
    before: &'a Map<String, Value>,
    after: &'a Map<String, Value>,
    path: &mut String,
    depth: usize,
    fields: &mut Vec<String>,
) {
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        if path == ".metadata" && BOOKKEEPING.contains(&key.as_str()) {
            continue;
        }
        let of = |map: &'a Map<String, Value>| map.get(key).unwrap_or(&Value::Null);
        below(&format!(".{key}"), of(before), of(after), path, depth, fields);
    }
}

fn below(
    step: &str,
    before: &Value,
    after: &Value,
    path: &mut String,
    depth: usize,
    fields: &mut Vec<String>,
) {
    let mark = path.len();
    path.push_str(step);
    walk(before, after, path, depth + 1, fields);
    path.truncate(mark);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_differ_are_named() {
        let check = |before: Value, after: Value, expected: &[&str]| {
            let found = foreseen(Some(&before), &after);
            let named = expected.iter().map(|field| (*field).to_owned()).collect();
            let expected = if expected.is_empty() { Foreseen::Same } else { Foreseen::Change(named) };
            assert_eq!(found, expected, "{before} {after}");
        };
        check(json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": 1}}), &[]);
        check(json!({"spec": {"replicas": 1}}), json!({"spec": {"replicas": 2}}), &[".spec.replicas"]);
        check(json!({"data": {"b": "1"}}), json!({"data": {"a": "1"}}), &[".data.a", ".data.b"]);
        check(json!({}), json!({"data": {"a": "1"}}), &[".data"]);
        let of = |image: &str| json!({"containers": [{"name": "web", "image": image}]});
        check(of("a"), of("b"), &[".containers[name=\"web\"].image"]);
        check(json!({"args": ["a", "b"]}), json!({"args": ["a", "c"]}), &[".args[1]"]);
        check(json!({"args": ["a"]}), json!({"args": ["a", "b"]}), &[".args"]);
        let written = |version: &str, at: &str| {
            let fields = json!([{"manager": at}]);
            json!({"metadata": {"resourceVersion": version, "generation": 1, "managedFields": fields}})
        };
        check(written("1", "then"), written("2", "now"), &[]);
        let elsewhere = |generation: u64| json!({"spec": {"generation": generation}});
        check(elsewhere(1), elsewhere(2), &[".spec.generation"]);
        assert_eq!(foreseen(None, &json!({})), Foreseen::Create);
    }

    #[test]
    fn as_many_are_named_as_anybody_reads() {
        let many = |value: u32| {
            let fields = (0..100).map(|index| (format!("field-{index:03}"), value.into()));
            Value::Object(fields.collect())
        };
        let Foreseen::Change(fields) = foreseen(Some(&many(1)), &many(2)) else { panic!("nothing") };
        assert_eq!((fields.len(), fields[0].as_str()), (FIELDS, ".field-000"));
    }
}
