//! Events, which tell what happened to objects: counted where it happens again, and bounded in every direction.
//!
//! What Kubernetes' EventCorrelator keeps in the memory of each client is read here from the events themselves, so a
//! hub that starts again counts on.

use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use super::tale::{Facts, Second, Tale};
use super::transaction::{Transaction, derived_uid};
use super::{Object, ObjectKey, Registry};
use crate::logic::occurrence::{Occurrence, of_change, plain};
use crate::resources::{Kind, event};

/// Most events in all: three for each of 10,000 clusters in a rollout, and room for what else happens meanwhile. Each
/// takes some 0.3 KB of memory. The one that happened longest ago makes room.
pub const EVENTS_MAX: usize = 40_000;

/// Most events about one object: more than anybody reads, and of every reason some.
pub const EVENTS_PER_OBJECT_MAX: usize = 64;

/// How long an event is kept after it happened last. Kubernetes keeps one hour, since there somebody watches; of a
/// fleet, who comes back on Monday, or from a week away, is to see what happened.
pub const EVENT_KEPT_SECONDS: i64 = 7 * 24 * 60 * 60;

/// Most events of one object and reason that differ in their message alone, of these seconds. What follows is
/// counted as one: both are Kubernetes' defaults.
const SIMILAR_MAX: usize = 10;
const SIMILAR_SECONDS: i64 = 600;

/// How often the same may happen at once, and then within how many seconds once more. What is beyond that is not
/// counted: whoever flaps, or means to fill the disk, gets no row for it. Kubernetes' defaults.
const BURST: i64 = 25;
const REFILL_SECONDS: i64 = 300;

/// What begins the message of those that are counted as one: Kubernetes' words.
const COMBINED: &str = "(combined from similar events): ";

/// Longest name of an object: that of a DNS subdomain.
const NAME_MAX_LEN: usize = 253;

/// What a transaction has to know of events.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How many there are more than before.
    more: usize,
    /// How many there are fewer.
    fewer: usize,
    /// Up to this version, none that was there before is the oldest any more.
    looked: u64,
}

impl Transaction<'_> {
    /// Tells in an event what happened to an object. Nothing happens if there is no such object.
    pub fn tell(&mut self, occurrence: &Occurrence) {
        let about = &occurrence.about;
        let Some(uid) = self.uid_of(about) else { return };
        let message = plain(&occurrence.message);
        let place = Place::new(about, &uid);
        let same = place.key(occurrence, &message);
        if let Some(tale) = self.get(&same).and_then(|event| event.tale()).cloned() {
            return self.count(&same, &tale, None);
        }
        let known = self.events_about(&place);
        let similar = |event: &&Arc<Object>| {
            let age = self.now.as_second() - happened_last(event);
            event.field("reason") == occurrence.reason.word() && age < SIMILAR_SECONDS
        };
        let (key, message) = if known.iter().filter(similar).count() < SIMILAR_MAX {
            (same, message)
        } else {
            (place.key(occurrence, COMBINED), plain(&format!("{COMBINED}{message}")))
        };
        if let Some(tale) = self.get(&key).and_then(|event| event.tale()).cloned() {
            return self.count(&key, &tale, Some(message));
        }
        if known.len() >= EVENTS_PER_OBJECT_MAX
            && let Some(oldest) = known.iter().min_by_key(|event| event.version())
        {
            self.forget(oldest.key(Kind::Event));
        }
        while self.events() >= EVENTS_MAX
            && let Some((key, _)) = self.oldest_event()
        {
            self.forget(key);
        }
        self.begin_event(key, &place, occurrence, &message);
    }

    /// Tells what the changes so far mean, which a client made.
    pub fn tell_changes(&mut self) {
        let told: Vec<Occurrence> = self.changes.iter().flat_map(of_change).collect();
        told.iter().for_each(|occurrence| self.tell(occurrence));
    }

    /// Removes events that are kept long enough, `limit` at most.
    pub fn expire_events(&mut self, limit: usize) {
        for _ in 0..limit {
            let Some((key, _)) = self.oldest_event().filter(|(_, event)| is_over(event, self.now)) else {
                return;
            };
            self.forget(key);
        }
    }

    fn begin_event(&mut self, key: ObjectKey, place: &Place<'_>, occurrence: &Occurrence, message: &str) {
        let now = Second(self.now.as_second());
        let tale = Tale::of(&Facts {
            namespace: &key.namespace,
            name: &key.name,
            about: place.about.kind,
            about_name: &place.about.name,
            about_uid: place.uid.into(),
            reason: occurrence.reason.word(),
            message,
            is_warning: occurrence.reason.is_warning(),
            first: now,
            last: now,
            count: 1,
        });
        self.told.more += 1;
        self.put_event(key, tale);
    }

    /// It happened again; with another message, the newest is shown.
    fn count(&mut self, key: &ObjectKey, tale: &Tale, message: Option<String>) {
        let (now, facts) = (self.now.as_second(), tale.facts());
        if i64::from(facts.count) >= BURST + (now - facts.first.0).max(0) / REFILL_SECONDS {
            return;
        }
        let message = message.as_deref().unwrap_or(facts.message);
        let again = Tale::of(&Facts { count: facts.count + 1, last: Second(now), message, ..facts });
        self.put_event(key.clone(), again);
    }

    fn put_event(&mut self, key: ObjectKey, tale: Tale) {
        let object = Arc::new(Object::told(self.next_version(), tale));
        self.record(key, Some(object));
    }

    fn forget(&mut self, key: ObjectKey) {
        self.told.fewer += 1;
        self.record(key, None);
    }

    fn events(&self) -> usize {
        (self.base.count(Kind::Event) + self.told.more).saturating_sub(self.told.fewer)
    }

    /// The event that happened longest ago, of those that nothing happened to in this transaction.
    fn oldest_event(&mut self) -> Option<(ObjectKey, Arc<Object>)> {
        for event in self.base.shelf(Kind::Event).changed_after(self.told.looked) {
            let key = event.key(Kind::Event);
            if !self.staged.contains_key(&key) {
                return Some((key, Arc::clone(event)));
            }
            self.told.looked = event.version();
        }
        None
    }

    fn events_about(&self, place: &Place<'_>) -> Vec<Arc<Object>> {
        let within =
            |namespace: &str, name: &str| namespace == place.namespace && name.starts_with(&place.prefix);
        let staged = self.staged.range(ObjectKey::new(Kind::Event, &place.namespace, &place.prefix)..);
        let staged = staged
            .take_while(|(key, _)| key.kind == Kind::Event && within(&key.namespace, &key.name))
            .filter_map(|(_, event)| event.as_ref());
        let base = self.base.shelf(Kind::Event).range(Bound::Included((&place.namespace, &place.prefix)));
        let base = base
            .take_while(|event| within(event.namespace(), event.name()))
            .filter(|event| !self.staged.contains_key(&event.key(Kind::Event)));
        let all = base.chain(staged);
        all.filter(|event| event.field("involvedObject.uid") == place.uid).cloned().collect()
    }

    /// The id of an object that is there, or was until this transaction. An assignment's follows from its name.
    fn uid_of(&self, key: &ObjectKey) -> Option<String> {
        if !key.kind.is_stored() {
            return Some(derived_uid(key));
        }
        let object = self.get(key).or_else(|| self.base.get(key))?;
        Some(object.uid().into_owned())
    }
}

impl Registry {
    /// Whether there is an event that is kept long enough.
    pub fn has_old_events(&self, now: Timestamp) -> bool {
        let shelf = self.shelf(Kind::Event);
        shelf.changed_after(0).next().is_some_and(|event| is_over(event, now))
    }
}

/// Where the events about an object are.
struct Place<'a> {
    about: &'a ObjectKey,
    uid: &'a str,
    namespace: String,
    /// How their names begin: an object's events are found without looking at others.
    prefix: String,
}

impl<'a> Place<'a> {
    fn new(about: &'a ObjectKey, uid: &'a str) -> Place<'a> {
        let scoped = about.kind.is_namespaced();
        let namespace = if scoped { &about.namespace } else { event::DEFAULT_NAMESPACE };
        let kind = about.kind.name().to_lowercase();
        let room = NAME_MAX_LEN - ".-".len() - kind.len() - HASH_LEN;
        // Names of objects are ASCII.
        let name = about.name.get(..room).map_or(about.name.as_str(), |cut| cut.trim_end_matches(['-', '.']));
        Place { about, uid, namespace: namespace.to_owned(), prefix: format!("{name}.{kind}-") }
    }

    /// The event that tells of this: the same of the same has the same name.
    fn key(&self, occurrence: &Occurrence, message: &str) -> ObjectKey {
        let text = format!("{}\n{}\n{message}", self.uid, occurrence.reason.word());
        let hash = hex::encode(digest(&SHA256, text.as_bytes()));
        ObjectKey::new(Kind::Event, &self.namespace, &format!("{}{}", self.prefix, &hash[..HASH_LEN]))
    }
}

/// Hexadecimal digits at the end of an event's name: Kubernetes' number, and enough for all there may be.
const HASH_LEN: usize = 16;

fn is_over(event: &Object, now: Timestamp) -> bool {
    now.as_second() - happened_last(event) >= EVENT_KEPT_SECONDS
}

/// When it happened last; long ago if the event does not read.
fn happened_last(event: &Object) -> i64 {
    event.tale().map_or(0, |tale| tale.last.0)
}

#[cfg(test)]
mod tests;
