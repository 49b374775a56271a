//! Where a parameter or an ignore rule may point: never at what makes an object the object that was signed.

use crate::limits;

/// Whether `pointer` is a JSON pointer (RFC 6901) to a place inside a document, not to the whole of it. With
/// only these escapes a place has one spelling.
pub(crate) fn is_well_formed(pointer: &str) -> bool {
    let escapes_hold = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    pointer.starts_with('/') && escapes_hold && pointer.len() <= limits::TEXT_BYTES
}

/// Whether a parameter may be set at `pointer`: not in an object's identity, and of its metadata only in
/// labels and annotations.
pub(crate) fn may_be_set(pointer: &str) -> bool {
    match segments(pointer) {
        ["apiVersion" | "kind", _] => false,
        ["metadata", "labels" | "annotations"] => pointer.matches('/').count() == 3,
        ["metadata", _] => false,
        [_, _] => true,
    }
}

/// Whether what `pointer` names may be left to others: not an object's identity, nor what holds it.
pub(crate) fn may_be_ignored(pointer: &str) -> bool {
    match segments(pointer) {
        ["apiVersion" | "kind", _] => false,
        ["metadata", within] => !["", "name", "namespace"].contains(&within),
        [_, _] => true,
    }
}

/// The first two segments; empty where there is none. No escape can stand in a segment that is compared here.
fn segments(pointer: &str) -> [&str; 2] {
    let mut segments = pointer.split('/').skip(1);
    [segments.next().unwrap_or_default(), segments.next().unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_out_of_reach() {
        let cases = [
            // pointer, well formed, may be set, may be ignored
            ("/spec/replicas", true, true, true),
            ("/data/a~1b~0", true, true, true),
            ("/spec/containers/0/image", true, true, true),
            ("/metadata/labels/tier", true, true, true),
            ("/metadata/annotations/a~1b", true, true, true),
            ("/metadata/labels/../name", true, false, true),
            ("/metadata/labels", true, false, true),
            ("/metadata/finalizers/0", true, false, true),
            ("/metadata/ownerReferences/0/name", true, false, true),
            ("/metadata/name", true, false, false),
            ("/metadata/namespace", true, false, false),
            ("/metadata/name/x", true, false, false),
            ("/metadata/", true, false, false),
            ("/metadata", true, false, false),
            ("/apiVersion", true, false, false),
            ("/kind", true, false, false),
            ("/kind/x", true, false, false),
            // Other keys than "metadata" and "kind", although they look alike.
            ("/metadata~1name", true, true, true),
            ("//kind", true, true, true),
            ("/spec/kind", true, true, true),
            ("", false, true, true),
            ("spec", false, true, true),
            ("kind", false, true, true),
            ("/spec/~", false, true, true),
            ("/spec/a~2", false, true, true),
        ];
        for (pointer, well_formed, set, ignored) in cases {
            assert_eq!(is_well_formed(pointer), well_formed, "{pointer:?} well formed");
            assert_eq!(may_be_set(pointer), set, "{pointer:?} set");
            assert_eq!(may_be_ignored(pointer), ignored, "{pointer:?} ignored");
        }
        assert!(!is_well_formed(&format!("/{}", "a".repeat(limits::TEXT_BYTES))));
    }
}
