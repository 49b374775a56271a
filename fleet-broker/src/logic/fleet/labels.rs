//! The labels of a cluster, in two pieces of memory for each: a map would have room for eleven.

use std::collections::BTreeMap;

use apimachinery::selector::Selector;

/// Labels, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Whether a cluster with these labels is selected.
    pub fn are_selected_by(&self, selector: &Selector) -> bool {
        selector.matches_with(|key| self.get(key))
    }

    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| **known == *key);
        found.map(|(_, value)| &**value)
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        Self(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl From<&Labels> for BTreeMap<String, String> {
    fn from(labels: &Labels) -> Self {
        labels.0.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }
}
