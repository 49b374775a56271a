//! A Kubernetes cluster as a pure model: the API server's answers and what its controllers do next.
//!
//! Ownership of fields is the engine's in `apimachinery`; here are kinds, names, versions, deletion and the
//! controllers whose outcome the agent waits for. Time and chance come in, and everything that will happen
//! comes out with its delay, so that the same seed gives the same trace. There are no pods stored: they are
//! worked out from their workload when somebody asks.

mod api;
mod controllers;
mod kinds;
mod live;
mod store;
mod validate;

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc, time::Duration};

use serde_json::Value;

pub use self::{controllers::FAIL_LABEL, live::LiveCluster};
use self::{
    controllers::Work,
    kinds::Kinds,
    store::{Change, Store},
};
use super::{ClusterError, Request, Response, WatchEvent};
use crate::logic::object::{Gvk, ObjectRef};

/// What a simulated cluster is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Decides all that is not decided by requests: UIDs and how long things take.
    pub seed: u64,
    /// When the model's time zero is, in seconds since 1970 (UTC).
    pub start: i64,
    /// Version it answers to [`Request::Version`].
    pub version: String,
    /// From a request to its answer, and from a change to the watches that see it.
    pub latency: Duration,
    /// From the creation of a CRD until its kinds are served.
    pub establish_after: Duration,
    /// From a change of a workload until it is ready.
    pub ready_after: RangeInclusive<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            start: 1_767_225_600,
            version: "v1.36.3+sim".into(),
            latency: Duration::from_millis(5),
            establish_after: Duration::from_millis(500),
            ready_after: Duration::from_secs(1)..=Duration::from_secs(20),
        }
    }
}

/// What a cluster can be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A request of the agent.
    Request {
        /// Chosen by the asker; comes back with the answer.
        id: u64,
        /// The request.
        request: Request,
    },
    /// A watch of the agent, until [`Input::Unwatch`].
    Watch {
        /// Chosen by the asker; comes back with every event.
        id: u64,
        /// Kind to watch.
        kind: Gvk,
        /// Which objects, as [`Cluster::watch`](super::Cluster::watch) takes it.
        label_selector: String,
    },
    /// The end of a watch.
    Unwatch {
        /// Which.
        id: u64,
    },
    /// Something that a person or another controller does, without being answered.
    Edit(Edit),
    /// What an earlier [`Output::Task`] held, when its time has come.
    Task(Task),
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The answer to a request.
    Answer {
        /// Of which request.
        id: u64,
        /// The answer.
        answer: Result<Response, ClusterError>,
    },
    /// What a watch sees.
    Event {
        /// Of which watch.
        id: u64,
        /// The event.
        event: WatchEvent,
    },
    /// Work of the cluster's own: to be handed back as [`Input::Task`].
    Task(Task),
}

/// A write by someone other than the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// The field manager, such as `kubectl-edit`.
    pub manager: String,
    /// The subresource written to, such as `scale`; empty for the object itself.
    pub subresource: String,
    /// Which object.
    pub object: ObjectRef,
    /// What is done to it.
    pub action: Action,
}

/// What an [`Edit`] does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Merges a patch into it (RFC 7386), creating it if it is not there.
    Merge(Value),
    /// Deletes it.
    Delete,
}

/// Work of the cluster's own controllers, opaque to whoever carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task(Work);

/// A simulated cluster.
#[derive(Clone, Debug)]
pub struct SimCluster {
    settings: Arc<Settings>,
    kinds: Kinds,
    store: Store,
    watches: BTreeMap<u64, Watch>,
}

#[derive(Clone, Debug)]
struct Watch {
    kind: Gvk,
    label_selector: String,
    /// Whether the kind was served when it was asked for.
    begun: bool,
}

impl SimCluster {
    /// A cluster with the namespaces `default` and `kube-system` and nothing in them. Clusters that differ
    /// only in what runs on them share their settings.
    pub fn new(settings: Arc<Settings>) -> Self {
        let store = Store::new(settings.seed);
        let mut cluster = Self { kinds: Kinds::default(), store, watches: BTreeMap::new(), settings };
        for name in ["default", "kube-system"] {
            cluster.found_namespace(name);
        }
        cluster
    }

    /// Takes one input at a time of the model and gives what comes of it, each with its delay from `now`.
    /// Inputs must come in order of time.
    pub fn handle(&mut self, now: Duration, input: Input) -> Vec<(Duration, Output)> {
        let mut effects = Effects { latency: self.settings.latency, outputs: Vec::new() };
        match input {
            Input::Request { id, request } => {
                let answer = self.answer(now, request, &mut effects);
                effects.outputs.push((effects.latency, Output::Answer { id, answer }));
            }
            Input::Watch { id, kind, label_selector } => {
                self.watches.insert(id, Watch { kind, label_selector, begun: false });
                self.begin_watch(id, &mut effects);
            }
            Input::Unwatch { id } => drop(self.watches.remove(&id)),
            Input::Edit(edit) => self.edit(now, edit, &mut effects),
            Input::Task(Task(work)) => self.work(now, work, &mut effects),
        }
        effects.outputs
    }

    /// Takes back all objects of an earlier state, as an API server restored from a backup does. Whoever watches loses that
    /// and lists anew; controllers look at everything again.
    pub fn restore(&mut self, earlier: &Self) -> Vec<(Duration, Output)> {
        let mut effects = Effects { latency: self.settings.latency, outputs: Vec::new() };
        self.kinds = earlier.kinds.clone();
        self.store.restore(&earlier.store);
        for id in self.watches.keys().copied().collect::<Vec<_>>() {
            let message = "the API server was restored".to_owned();
            effects.event(id, WatchEvent::Lost(ClusterError::Unavailable { message }));
            self.begin_watch(id, &mut effects);
        }
        for (object, value) in self.store.iter() {
            let (object, after) = (object.clone(), Some(Arc::clone(value)));
            let change = Change { object, before: None, after, version: 0 };
            controllers::notice(&change, &self.settings, &mut effects);
        }
        effects.outputs
    }

    /// An object as it is stored, for a test to look at.
    pub fn object(&self, object: &ObjectRef) -> Option<&Value> {
        self.store.get(object).map(Arc::as_ref)
    }

    /// All objects, in order, for a test to look at.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectRef, &Value)> {
        self.store.iter().map(|(object, value)| (object, value.as_ref()))
    }

    /// Reports everything that exists to a watch, or that its kind is not served.
    fn begin_watch(&mut self, id: u64, effects: &mut Effects) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.begun = self.kinds.get(&watch.kind).is_some();
        if !watch.begun {
            let lost = WatchEvent::Lost(ClusterError::UnknownKind { gvk: watch.kind.clone() });
            return effects.event(id, lost);
        }
        effects.event(id, WatchEvent::Listing);
        for (object, value) in self.store.of_kind(&watch.kind) {
            if store::selected(value, &watch.label_selector) {
                effects.event(id, WatchEvent::Changed(store::meta(object, value)));
            }
        }
        effects.event(id, WatchEvent::Synced);
    }

    /// Begins the watches that waited for a kind.
    fn begin_waiting_watches(&mut self, effects: &mut Effects) {
        let waiting: Vec<u64> =
            self.watches.iter().filter(|(_, watch)| !watch.begun).map(|(id, _)| *id).collect();
        for id in waiting {
            if self.watches.get(&id).is_some_and(|watch| self.kinds.get(&watch.kind).is_some()) {
                self.begin_watch(id, effects);
            }
        }
    }

    /// Tells watches and controllers of a change.
    fn changed(&self, change: &Change, effects: &mut Effects) {
        for (id, watch) in &self.watches {
            if watch.begun && watch.kind == change.object.gvk {
                let sees = |value: &Option<Arc<Value>>| {
                    value.clone().filter(|value| store::selected(value, &watch.label_selector))
                };
                match (sees(&change.before), sees(&change.after)) {
                    (_, Some(value)) => {
                        effects.event(*id, WatchEvent::Changed(store::meta(&change.object, &value)));
                    }
                    (Some(last), None) => {
                        let mut meta = store::meta(&change.object, &last);
                        meta.resource_version = change.version.to_string();
                        effects.event(*id, WatchEvent::Gone(meta));
                    }
                    (None, None) => {}
                }
            }
        }
        controllers::notice(change, &self.settings, effects);
    }
}

/// What comes of an input, as it is worked out.
struct Effects {
    latency: Duration,
    outputs: Vec<(Duration, Output)>,
}

impl Effects {
    fn event(&mut self, id: u64, event: WatchEvent) {
        self.outputs.push((self.latency, Output::Event { id, event }));
    }

    fn later(&mut self, delay: Duration, work: Work) {
        self.outputs.push((delay, Output::Task(Task(work))));
    }
}

#[cfg(test)]
mod tests;
