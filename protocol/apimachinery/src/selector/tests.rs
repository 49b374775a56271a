use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn text_matches_labels() {
    // Selector, labels, whether they match.
    let rows = [
        ("", "", true),
        ("", "a=b", true),
        ("a=b", "a=b", true),
        ("a==b", "a=b", true),
        ("a=b", "a=c", false),
        ("a=b", "", false),
        ("a=", "a=", true),
        ("a=", "", false),
        ("a!=b", "a=c", true),
        ("a!=b", "", true),
        ("a!=b", "a=b", false),
        ("a", "a=", true),
        ("a", "b=", false),
        ("!a", "b=", true),
        ("! a", "a=x", false),
        ("a in (b,c)", "a=c", true),
        ("a in (b, c)", "a=d", false),
        ("a in (b,)", "a=", true),
        ("a in ()", "a=", true),
        ("a notin (b,c)", "a=d", true),
        ("a notin (b,c)", "", true),
        ("a notin (b,c)", "a=b", false),
        (" a = b , c != d , e in (x,y) , !f , g notin (z) ", "a=b,e=y,g=w", true),
        ("a=b,c!=d", "a=b,c=d", false),
        ("in in (in)", "in=in", true),
        ("edgefleet.dev/ring=2", "edgefleet.dev/ring=2", true),
    ];
    for (text, object, expected) in rows {
        let selector = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(selector.matches(&labels(object)), expected, "{text:?} on {object:?}");
    }
}

#[test]
fn errors_say_where_and_why() {
    let rows = [
        ("a b", "column 3: found \"b\", expected '=', '==', '!=', 'in', 'notin', ',' or the end"),
        ("a=b c", "column 5: found \"c\", expected ',' or the end"),
        (",", "column 1: found ',', expected a label key"),
        ("a,", "column 3: found the end, expected a label key"),
        ("é=1,,", "column 5: found ',', expected a label key"),
        ("a in", "column 5: found the end, expected '('"),
        ("a in (b", "column 8: found the end, expected ',' or ')'"),
        ("a in b", "column 6: found \"b\", expected '('"),
        ("a in (b c)", "column 9: found \"c\", expected ',' or ')'"),
        ("!", "column 2: found the end, expected a label key"),
        ("a!b", "column 2: found '!'"),
        ("-a=b", "key \"-a\": name part must consist of"),
        ("a=-b", "value \"-b\" of key \"a\": a valid label must be"),
    ];
    for (text, expected) in rows {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let many = vec!["a"; REQUIREMENTS_MAX + 1].join(",");
    assert_eq!(parse(&many), Err(SelectorError::TooMany { count: REQUIREMENTS_MAX + 1 }));
    assert!(matches!(parse(&"a".repeat(TEXT_MAX_LEN + 1)), Err(SelectorError::TooLong { .. })));
}

#[test]
fn structs_become_selectors() {
    let rows = [
        (r#"{}"#, Ok("")),
        (r#"{"matchLabels":{"b":"1","a":""}}"#, Ok("a=,b=1")),
        (
            r#"{"matchLabels":{"a":"1"},"matchExpressions":[{"key":"b","operator":"In","values":["y","x"]}]}"#,
            Ok("a=1,b in (x,y)"),
        ),
        (r#"{"matchExpressions":[{"key":"b","operator":"NotIn","values":["x"]}]}"#, Ok("b!=x")),
        (r#"{"matchExpressions":[{"key":"b","operator":"Exists"}]}"#, Ok("b")),
        (r#"{"matchExpressions":[{"key":"b","operator":"DoesNotExist","values":[]}]}"#, Ok("!b")),
        (r#"{"matchExpressions":[{"key":"b","operator":"In"}]}"#, Err("must be specified")),
        (
            r#"{"matchExpressions":[{"key":"b","operator":"Exists","values":["x"]}]}"#,
            Err("may not be specified"),
        ),
        (r#"{"matchLabels":{"a b":"1"}}"#, Err("key \"a b\"")),
    ];
    for (json, expected) in rows {
        let spec: LabelSelector = serde_json::from_str(json).unwrap();
        match (Selector::try_from(&spec), expected) {
            (Ok(selector), Ok(text)) => assert_eq!(selector.to_string(), text, "{json}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{json}: {error}"),
            (result, _) => panic!("{json}: {result:?}"),
        }
    }
}

#[test]
fn field_selectors() {
    let rows = [
        ("", Ok(true)),
        ("metadata.name=gateway", Ok(true)),
        ("metadata.name==gateway,metadata.namespace=radio", Ok(true)),
        ("metadata.name!=gateway", Ok(false)),
        ("metadata.namespace=core", Ok(false)),
        ("metadata.namespace!=core,", Ok(true)),
        ("metadata.name", Err("column 1")),
        ("metadata.name=gateway,é", Err("column 23")),
        ("status.phase=x", Err("field label not supported: status.phase")),
    ];
    for (text, expected) in rows {
        match (FieldSelector::parse(text, METADATA_FIELDS), expected) {
            (Ok(selector), Ok(matches)) => {
                let value =
                    |field: &str| if field == "metadata.name" { "gateway".into() } else { "radio".into() };
                assert_eq!(selector.matches_with(value), matches, "{text}")
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (result, _) => panic!("{text}: {result:?}"),
        }
    }
}

fn any_requirement() -> impl Strategy<Value = Requirement> {
    let key = "([a-z0-9]{1,4}\\.dev/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,6}[A-Za-z0-9])?|in|notin";
    let values =
        || proptest::collection::btree_set("([A-Za-z0-9]([-A-Za-z0-9_.]{0,6}[A-Za-z0-9])?)?|in", 1..4);
    let test = prop_oneof![
        values().prop_map(Test::In),
        values().prop_map(Test::NotIn),
        Just(Test::Exists),
        Just(Test::DoesNotExist),
    ];
    (key, test).prop_map(|(key, test)| Requirement { key, test })
}

proptest! {
    #[test]
    fn display_and_parse_are_inverse(requirements in proptest::collection::vec(any_requirement(), 0..6)) {
        let selector = Selector(requirements);
        prop_assert_eq!(parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ab=!,() ]{0,16}|\\PC{0,16}") {
        if let Ok(selector) = parse(&text) {
            prop_assert_eq!(parse(&selector.to_string()), Ok(selector));
        }
    }
}
