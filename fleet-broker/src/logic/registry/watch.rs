//! Changes, the bounded log of them, and what a watcher with selectors sees of each.

use std::collections::VecDeque;
use std::sync::Arc;

use super::failure::{self, Failure};
use super::{Filter, Object, ObjectKey, Registry};
use crate::resources::Kind;

/// Most changes of one kind that are remembered: a whole fleet of 10,000 clusters may change at once and a watcher
/// still keep up. Whoever is further behind lists again.
pub(super) const LOG_MAX_LEN: usize = 16_384;

/// One object as it was and as it is.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that the change made.
    pub version: u64,
    /// Which object.
    pub key: ObjectKey,
    /// None when it was created.
    pub before: Option<Arc<Object>>,
    /// None when it was deleted.
    pub after: Option<Arc<Object>>,
    /// Who made it.
    pub actor: Arc<str>,
}

/// What a watcher sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// How it concerns the watcher's selection.
    pub event_type: EventType,
    /// The object; a deleted one as it was last, at the version of its deletion.
    pub object: Arc<Object>,
}

/// How a change concerns a watcher's selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is selected, and was not.
    Added,
    /// It is and was selected.
    Modified,
    /// It was selected, and is not: deleted, or changed so that the selector no longer holds.
    Deleted,
}

#[derive(Debug)]
pub(super) struct Log {
    /// Everything after this version is in `changes`.
    since: u64,
    changes: VecDeque<Logged>,
}

/// A [`Change`] in the log of its kind. Which object it is of, the object says itself.
#[derive(Debug)]
struct Logged {
    version: u64,
    before: Option<Arc<Object>>,
    after: Option<Arc<Object>>,
    actor: Arc<str>,
}

impl Log {
    pub(super) fn new(since: u64) -> Log {
        Log { since, changes: VecDeque::new() }
    }

    pub(super) fn push(&mut self, change: Change) {
        if self.changes.len() == LOG_MAX_LEN
            && let Some(oldest) = self.changes.pop_front()
        {
            self.since = oldest.version;
        }
        let Change { version, key: _, before, after, actor } = change;
        self.changes.push_back(Logged { version, before, after, actor });
    }

    fn after(&self, version: u64) -> Result<impl Iterator<Item = &Logged>, Failure> {
        if version < self.since {
            return Err(failure::expired(format!("too old resource version: {version} ({})", self.since)));
        }
        let start = self.changes.partition_point(|change| change.version <= version);
        Ok(self.changes.range(start..))
    }
}

impl Registry {
    /// What happened to the selected objects of a kind after `since`, oldest first.
    ///
    /// # Errors
    /// `Expired` when the log no longer reaches back that far; `Timeout` when `since` is in the future.
    pub fn events(&self, kind: Kind, filter: &Filter, since: u64) -> Result<Vec<Event>, Failure> {
        self.check_watchable(kind, since)?;
        let changes = self.shelf(kind).log.after(since)?;
        Ok(changes.filter_map(|change| event(change, filter)).collect())
    }

    /// Whether one can watch this kind from version `since`.
    ///
    /// # Errors
    /// `Expired` when the log no longer reaches back that far; `Timeout` when `since` is in the future.
    pub fn check_watchable(&self, kind: Kind, since: u64) -> Result<(), Failure> {
        if since > self.version {
            return Err(failure::too_large_version(since, self.version));
        }
        self.shelf(kind).log.after(since).map(drop)
    }

    /// All changes after `since`, of every kind but events, in order, at most `limit`: what was told of is no cause.
    ///
    /// # Errors
    /// `Expired` when a log no longer reaches back that far.
    pub fn changes(&self, since: u64, limit: usize) -> Result<Vec<Change>, Failure> {
        let mut changes = Vec::new();
        for kind in Kind::OWN {
            let logged = self.shelf(kind).log.after(since)?.take(limit);
            changes.extend(logged.filter_map(|logged| logged.change(kind)));
        }
        changes.sort_by_key(|change: &Change| change.version);
        changes.truncate(limit);
        Ok(changes)
    }
}

impl Logged {
    /// The change; none if there was no object before and after it.
    fn change(&self, kind: Kind) -> Option<Change> {
        let key = self.after.as_ref().or(self.before.as_ref())?.key(kind);
        let Logged { version, before, after, actor } = self;
        let (before, after, actor) = (before.clone(), after.clone(), Arc::clone(actor));
        Some(Change { version: *version, key, before, after, actor })
    }
}

fn event(change: &Logged, filter: &Filter) -> Option<Event> {
    let selected = |object: &&Arc<Object>| filter.matches(object);
    let before = change.before.as_ref().filter(selected);
    let after = change.after.as_ref().filter(selected);
    match (before, after) {
        (None, None) => None,
        (None, Some(object)) => Some(Event { event_type: EventType::Added, object: Arc::clone(object) }),
        (Some(_), Some(object)) => {
            Some(Event { event_type: EventType::Modified, object: Arc::clone(object) })
        }
        (Some(object), None) => {
            let last = Object::at(change.version, object.value());
            Some(Event { event_type: EventType::Deleted, object: Arc::new(last) })
        }
    }
}
