//! Sets of paths into an object: what a manager owns, and what a change touched.
//!
//! The model is that of `structured-merge-diff`, which the API server uses: a path is in the set by itself;
//! its parents and children are not, unless they are put there too.

mod codec;
mod element;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use codec::{FieldsError, SourceText};
pub(crate) use element::quote;
pub use element::{Number, Path, PathElement, Scalar};

/// How many paths one set of managedFields may hold, counting those that only lead to others. Each takes some
/// twenty bytes there beside the field itself, so an object with more would not fit the 1.5 MiB etcd stores.
pub const MAX_PATHS: usize = 65_536;

/// A set of paths. Two sets are equal when they hold the same paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Holds only nodes that are owned or have something below them.
    nodes: BTreeMap<PathElement, Node>,
}

/// What the set says about one path and the paths beneath it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// Whether the path itself is in the set.
    pub(crate) is_owned: bool,
    /// The paths beneath, relative to this one.
    pub(crate) below: FieldSet,
}

impl Node {
    /// A path without anything beneath it.
    pub(crate) fn leaf() -> Self {
        Self { is_owned: true, below: FieldSet::default() }
    }

    fn is_empty(&self) -> bool {
        !self.is_owned && self.below.is_empty()
    }
}

impl FieldSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no path is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The number of paths in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.values().map(|node| usize::from(node.is_owned) + node.below.len()).sum()
    }

    /// The number of paths in the set and of those that only lead to them, which [`MAX_PATHS`] limits.
    pub(crate) fn size(&self) -> usize {
        self.nodes.values().map(|node| 1 + node.below.size()).sum()
    }

    /// Puts one path into the set. The root is no path: nobody owns an object as such.
    pub fn insert(&mut self, path: &Path) {
        let Some((last, parents)) = path.elements().split_last() else { return };
        let mut level = self;
        for parent in parents {
            level = &mut level.nodes.entry(parent.clone()).or_default().below;
        }
        level.nodes.entry(last.clone()).or_default().is_owned = true;
    }

    /// Whether this very path is in the set.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        let Some((last, parents)) = path.elements().split_last() else { return false };
        let mut level = self;
        for parent in parents {
            match level.nodes.get(parent) {
                Some(node) => level = &node.below,
                None => return false,
            }
        }
        level.nodes.get(last).is_some_and(|node| node.is_owned)
    }

    /// The paths that are in either set.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (element, theirs) in &other.nodes {
            let ours = self.nodes.entry(element.clone()).or_default();
            ours.is_owned |= theirs.is_owned;
            ours.below = std::mem::take(&mut ours.below).union(&theirs.below);
        }
        self
    }

    /// The paths that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| {
            let theirs = theirs?;
            Some(Node {
                is_owned: ours.is_owned && theirs.is_owned,
                below: ours.below.intersection(&theirs.below),
            })
        })
    }

    /// The paths that are in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| {
            let Some(theirs) = theirs else { return Some(ours.clone()) };
            Some(Node {
                is_owned: ours.is_owned && !theirs.is_owned,
                below: ours.below.difference(&theirs.below),
            })
        })
    }

    /// The paths that are in this set and neither in the other nor beneath a path of the other.
    #[must_use]
    pub fn difference_with_below(&self, other: &Self) -> Self {
        self.combine(other, |ours, theirs| match theirs {
            None => Some(ours.clone()),
            Some(Node { is_owned: true, .. }) => None,
            Some(theirs) => {
                Some(Node { is_owned: ours.is_owned, below: ours.below.difference_with_below(&theirs.below) })
            }
        })
    }

    /// The paths that have no other path of the set beneath them.
    #[must_use]
    pub fn leaves(&self) -> Self {
        self.combine(self, |ours, _| {
            Some(Node { is_owned: ours.below.is_empty(), below: ours.below.leaves() })
        })
    }

    /// The paths of the set, in the order in which the API server reports conflicts: those that end on a
    /// level before those that go deeper.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::with_capacity(self.len());
        self.collect_paths(&mut Path::default(), &mut paths);
        paths
    }

    pub(crate) fn get(&self, element: &PathElement) -> Option<&Node> {
        self.nodes.get(element)
    }

    /// The first step of the first path.
    pub(crate) fn first(&self) -> Option<&PathElement> {
        self.nodes.keys().next()
    }

    /// Adds what `node` says about the path of this one `element`.
    pub(crate) fn put(&mut self, element: PathElement, node: Node) {
        if node.is_empty() {
            return;
        }
        let ours = self.nodes.entry(element).or_default();
        ours.is_owned |= node.is_owned;
        ours.below = std::mem::take(&mut ours.below).union(&node.below);
    }

    /// The set of what `change` makes of every node.
    pub(crate) fn map(&self, mut change: impl FnMut(&PathElement, &Node) -> Node) -> Self {
        let changed = self.nodes.iter().map(|(element, node)| (element.clone(), change(element, node)));
        Self { nodes: changed.filter(|(_, node)| !node.is_empty()).collect() }
    }

    fn combine(&self, other: &Self, keep: impl Fn(&Node, Option<&Node>) -> Option<Node>) -> Self {
        self.map(|element, ours| keep(ours, other.nodes.get(element)).unwrap_or_default())
    }

    fn collect_paths(&self, prefix: &mut Path, paths: &mut Vec<Path>) {
        for (element, _) in self.nodes.iter().filter(|(_, node)| node.is_owned) {
            prefix.push(element.clone());
            paths.push(prefix.clone());
            prefix.pop();
        }
        for (element, node) in self.nodes.iter().filter(|(_, node)| !node.below.is_empty()) {
            prefix.push(element.clone());
            node.below.collect_paths(prefix, paths);
            prefix.pop();
        }
    }
}

impl FromIterator<Path> for FieldSet {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Self {
        let mut set = Self::new();
        paths.into_iter().for_each(|path| set.insert(&path));
        set
    }
}
