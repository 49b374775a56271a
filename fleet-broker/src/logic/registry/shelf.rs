//! The objects of one kind, found by the names that they bear themselves.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::Object;
use super::watch::Log;
use crate::resources::Kind;

/// The objects of one kind, and what happened to them.
#[derive(Debug)]
pub(super) struct Shelf {
    kind: Kind,
    objects: BTreeSet<Named>,
    /// Events by the version of their last change, which is almost always the newest: one that happens again moves
    /// from among [`EVENTS_MAX`](super::EVENTS_MAX) pointers to their end.
    ages: VecDeque<Arc<Object>>,
    pub(super) log: Log,
}

impl Shelf {
    /// An empty one, whose log begins after a version.
    pub(super) fn new(kind: Kind, since: u64) -> Shelf {
        Shelf { kind, objects: BTreeSet::new(), ages: VecDeque::new(), log: Log::new(since) }
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// The object of a namespace (empty for cluster-scoped kinds) and a name.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        let names: &dyn Names = &(namespace, name);
        self.objects.get(names).map(|Named(object)| object)
    }

    /// The objects from a namespace and name on, by both.
    pub(super) fn range(&self, start: Bound<(&str, &str)>) -> impl Iterator<Item = &Arc<Object>> {
        let start = start.as_ref().map(|names| names as &dyn Names);
        self.objects.range::<dyn Names, _>((start, Bound::Unbounded)).map(|Named(object)| object)
    }

    /// Events that last changed after a version, the one that did first before others.
    pub(super) fn changed_after(&self, version: u64) -> impl Iterator<Item = &Arc<Object>> {
        self.ages.range(self.ages.partition_point(|event| event.version() <= version)..)
    }

    /// Puts an object in the place of the one that bears its names.
    pub(super) fn put(&mut self, object: Arc<Object>) {
        let before = self.objects.replace(Named(Arc::clone(&object)));
        self.forget_age(before);
        if self.kind == Kind::Event {
            let at = self.ages.partition_point(|event| event.version() < object.version());
            self.ages.insert(at, object);
        }
    }

    /// Removes an object; nothing happens if there is none.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) {
        let names: &dyn Names = &(namespace, name);
        let before = self.objects.take(names);
        self.forget_age(before);
    }

    fn forget_age(&mut self, before: Option<Named>) {
        if let Some(Named(object)) = before
            && let Ok(at) = self.ages.binary_search_by_key(&object.version(), |event| event.version())
        {
            self.ages.remove(at);
        }
    }
}

/// An object by its namespace and name. A map from these would hold both once more.
#[derive(Debug)]
struct Named(Arc<Object>);

/// What objects are ordered and found by. It is a trait so that names which somebody else owns find an object.
trait Names {
    fn names(&self) -> (&str, &str);
}

impl Names for Named {
    fn names(&self) -> (&str, &str) {
        self.0.names()
    }
}

impl Names for (&str, &str) {
    fn names(&self) -> (&str, &str) {
        *self
    }
}

impl<'a> Borrow<dyn Names + 'a> for Named {
    fn borrow(&self) -> &(dyn Names + 'a) {
        self
    }
}

impl Ord for dyn Names + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(&other.names())
    }
}

impl PartialOrd for dyn Names + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Names + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn Names + '_ {}

impl Ord for Named {
    fn cmp(&self, other: &Named) -> Ordering {
        self.names().cmp(&other.names())
    }
}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Named) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Named) -> bool {
        self.names() == other.names()
    }
}

impl Eq for Named {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(version: u64, namespace: &str, name: &str) -> Arc<Object> {
        Arc::new(Object::at(version, json!({"metadata": {"namespace": namespace, "name": name}})))
    }

    /// In another order than theirs. Joined by a separator, some would be in the wrong one.
    const NAMES: [(&str, &str); 8] = [
        ("radio-b", "a"),
        ("radio", "gateway.tower-1"),
        ("", "tower-a"),
        ("radio", "gateway"),
        ("radio", "gateway-2"),
        ("radi", "z"),
        ("radio", "gateway.tower-10"),
        ("", "tower"),
    ];

    fn shelf() -> Shelf {
        let mut shelf = Shelf::new(Kind::Assignment, 0);
        (1..).zip(NAMES).for_each(|(version, (namespace, name))| shelf.put(object(version, namespace, name)));
        shelf
    }

    #[test]
    fn objects_are_found_by_all_of_their_names() {
        let mut shelf = shelf();
        for (version, (namespace, name)) in (1..).zip(NAMES) {
            assert_eq!(shelf.get(namespace, name).map(|object| object.version()), Some(version), "{name}");
        }
        for (namespace, name) in [
            ("radio", "gatewa"),
            ("radio", "gateway.tower-100"),
            ("", "gateway"),
            ("radi", "ogateway"),
            ("", ""),
        ] {
            assert_eq!(shelf.get(namespace, name), None, "{name}");
            shelf.remove(namespace, name);
        }
        assert_eq!(shelf.len(), NAMES.len());
        shelf.remove("radio", "gateway");
        assert_eq!((shelf.get("radio", "gateway"), shelf.len()), (None, NAMES.len() - 1));
        assert!(shelf.get("radio", "gateway-2").is_some());
    }

    #[test]
    fn what_is_put_takes_the_place_of_its_name() {
        let mut shelf = shelf();
        shelf.put(object(9, "radio", "gateway"));
        assert_eq!(shelf.get("radio", "gateway").map(|object| object.version()), Some(9));
        assert_eq!(shelf.len(), NAMES.len());
    }

    #[test]
    fn ranges_go_by_namespace_and_then_by_name() {
        let shelf = shelf();
        let mut sorted = NAMES;
        sorted.sort_unstable();
        let from = |start: Bound<(&str, &str)>| -> Vec<(String, String)> {
            let names = shelf.range(start).map(|object| object.names());
            names.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())).collect()
        };
        let rest = |start: usize| -> Vec<(String, String)> {
            sorted[start..]
                .iter()
                .map(|(namespace, name)| ((*namespace).to_owned(), (*name).to_owned()))
                .collect()
        };
        assert_eq!(from(Bound::Unbounded), rest(0));
        for (index, names) in sorted.into_iter().enumerate() {
            assert_eq!(from(Bound::Included(names)), rest(index), "{names:?}");
            assert_eq!(from(Bound::Excluded(names)), rest(index + 1), "{names:?}");
        }
        // Names that nothing bears: before, between and after those that are there.
        for (names, index) in [
            (("", ""), 0),
            (("radi", "zz"), 3),
            (("radio", ""), 3),
            (("radio", "gateway."), 5),
            (("radio-", ""), 7),
            (("s", ""), 8),
        ] {
            assert_eq!(from(Bound::Included(names)), rest(index), "{names:?}");
            assert_eq!(from(Bound::Excluded(names)), rest(index), "{names:?}");
        }
    }

    #[test]
    fn events_are_known_by_their_last_change() {
        let mut shelf = Shelf::new(Kind::Event, 0);
        // A store gives them in the order of their names.
        for (version, name) in [(7, "a"), (3, "b"), (5, "c")] {
            shelf.put(object(version, "default", name));
        }
        let after = |shelf: &Shelf, version| -> Vec<u64> {
            shelf.changed_after(version).map(|event| event.version()).collect()
        };
        assert_eq!(
            [0, 3, 4, 7].map(|version| after(&shelf, version)),
            [vec![3, 5, 7], vec![5, 7], vec![5, 7], vec![]]
        );
        shelf.put(object(8, "default", "b"));
        assert_eq!(after(&shelf, 0), [5, 7, 8]);
        shelf.remove("default", "a");
        shelf.remove("default", "d");
        assert_eq!(after(&shelf, 0), [5, 8]);
    }
}
