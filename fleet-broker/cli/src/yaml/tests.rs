use serde_json::json;

use super::*;

fn values(text: &str) -> Vec<Value> {
    read(text).unwrap().into_iter().map(|document| document.value).collect()
}

#[test]
fn plain_scalars_mean_what_kubectl_takes_them_for() {
    let cases = [
        ("yes", json!(true)),
        ("Off", json!(false)),
        ("y", json!(true)),
        ("yEs", json!("yEs")),
        ("'yes'", json!("yes")),
        ("! yes", json!("yes")),
        ("~", json!(null)),
        ("0755", json!(493)),
        ("0o755", json!(493)),
        ("0777_7", json!(4095)),
        ("089", json!(89)),
        ("00", json!(0)),
        ("0x1F", json!(31)),
        ("-0b11", json!(-3)),
        ("0x", json!("0x")),
        ("+5", json!(5)),
        ("--5", json!("--5")),
        ("+", json!("+")),
        ("1_000", json!(1000)),
        ("_1", json!("_1")),
        ("1e3", json!(1000)),
        ("1.0", json!(1)),
        ("1.", json!(1)),
        ("-0.0", json!(0)),
        ("-.5", json!(-0.5)),
        (".", json!(".")),
        ("._5", json!("._5")),
        ("12e", json!("12e")),
        ("1e999", json!("1e999")),
        ("1e21", json!(1e21)),
        ("0x1p-2", json!("0x1p-2")),
        ("1234567890123456789.0", json!(1_234_567_890_123_456_800_i64)),
        ("9223372036854775807", json!(i64::MAX)),
        ("9223372036854775808", json!(9_223_372_036_854_775_808.0)),
        ("-9223372036854775809", json!(-9_223_372_036_854_775_809.0)),
        ("08:30", json!("08:30")),
        ("2020-01-01", json!("2020-01-01")),
        ("=", json!("=")),
        ("!!str 5", json!("5")),
        ("!!int '5'", json!(5)),
        ("!!float 5", json!(5)),
        ("!!binary aGVsbG8=", json!("hello")),
        ("!other 5", json!("5")),
    ];
    for (text, expected) in cases {
        assert_eq!(values(&format!("a: {text}")), [json!({ "a": expected })], "{text}");
    }
}

#[test]
fn documents_are_found_with_their_lines() {
    let text = "# nothing\n---\na: 1\n---\n---\n# still nothing\n---\n\nb: 2\n...\n";
    let found: Vec<_> = read(text).unwrap().into_iter().map(|d| (d.value, d.number, d.line)).collect();
    assert_eq!(found, [(json!({"a": 1}), 1, 3), (json!({"b": 2}), 4, 9)]);
    let text = "{\"a\": 1.0}\n\n{\"b\":\n 2}";
    let found: Vec<_> = read(text).unwrap().into_iter().map(|d| (d.value, d.number, d.line)).collect();
    assert_eq!(found, [(json!({"a": 1}), 1, 1), (json!({"b": 2}), 2, 3)]);
    assert_eq!(values("{a: yes}"), [json!({"a": true})], "a flow mapping is not JSON");
    assert_eq!(values(""), Vec::<Value>::new());
}

#[test]
fn anchors_and_merges_are_replaced() {
    let cases = [
        ("a: &x {b: 1}\nc: *x", json!({"a": {"b": 1}, "c": {"b": 1}})),
        ("a: 1\n<<: {a: 2, b: 3}", json!({"a": 2, "b": 3})),
        ("<<: {a: 2, b: 3}\na: 1", json!({"a": 1, "b": 3})),
        ("<<: [{a: 2, b: 3}, {a: 4, c: 5}]", json!({"a": 2, "b": 3, "c": 5})),
        ("'<<': {a: 2}", json!({"<<": {"a": 2}})),
        ("&k key: 1\nb: *k", json!({"key": 1, "b": "key"})),
        ("10: a\nno: b\n0x10: c", json!({"10": "a", "false": "b", "16": "c"})),
    ];
    for (text, expected) in cases {
        assert_eq!(values(text), [expected], "{text}");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    let nested = "[".repeat(DEPTH + 2) + &"]".repeat(DEPTH + 2);
    let cases = [
        ("a: 1\nb: [1,\n", (2, 4), ""),
        ("a:\n  b: 1\n c: 2\n", (3, 2), ""),
        ("a: 1\na: 2", (2, 1), "the key \"a\" stands twice in one mapping"),
        ("a: .inf", (1, 4), "JSON has no inf; quote it if it is text"),
        ("1.5: a", (1, 1), "the key 1.5 is a fraction; quote it"),
        ("~: a", (1, 1), "a key is empty; quote it if that is meant"),
        ("? [a]\n: b", (1, 3), "a key must be text, not a list or a mapping"),
        ("<<: 5", (1, 5), "only a mapping, or a list of them, can be merged with <<"),
        ("a: &x [*x]", (1, 8), "an alias stands inside what it stands for"),
        ("a: *x", (1, 4), ""),
        ("a: !!int x", (1, 10), "\"x\" is not what its tag says (Integer)"),
        ("{\"a\": 1,\n \"b\" 2}", (2, 6), "expected `:`"),
        (&nested, (1, 102), "nested deeper than 100 levels"),
    ];
    for (text, (line, column), problem) in cases {
        let error = read(text).unwrap_err();
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.problem.contains(problem), "{text}: {error}");
    }
}

#[test]
fn aliases_cannot_multiply_without_end() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("b{level}: &a{level} [{aliases}]\n"));
    }
    assert_eq!(read(&text).unwrap_err().problem, "more than 2000000 values");
}
