//! Drives the fleet core: what happens comes in, what it decides is stored, sent and shown, in this order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use apimachinery::selector::Selector;
use protocol::{
    enrol::JoinCode,
    ids::{AppId, ClusterId, KeyId, Name},
    time::{Now, UnixSeconds},
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::{
    clock,
    enrolment::{self, Tokens},
    hub::Hub,
    logic::{
        fleet::{
            Application, BundleRecord, ClusterRecord, Event, Fleet, FreezeRecord, HoldRecord,
            recovery::Standing,
        },
        occurrence::Occurrence,
        registry::{Change, Object, ObjectKey},
    },
    pki::CertificateAuthority,
    presented::OwnCertificate,
    renewal::Renewals,
    resources::{self, APPROVE_ANNOTATION, Kind},
    store::StoreError,
    transport::{Transport, TransportEvent},
};

mod came;
mod carry;
mod outcome;
mod show;
pub use carry::CarryQuestion;
use outcome::{Batch, Storing, Waiting};
pub use show::show_one;

/// Name under which the fleet writes statuses.
const ACTOR: &str = "system:fleet";

/// How often counts are brought up to date: many reports make one change.
const TICK: Duration = Duration::from_millis(500);

/// Events handled as one: one commit, one transaction of statuses.
const BATCH: usize = 512;

/// Registry changes read at once.
const CHANGES: usize = 1024;

/// Clusters that may connect, each with its identity key alone; shared with the listener that asks.
pub(crate) type Admitted = Arc<Mutex<BTreeMap<ClusterId, KeyId>>>;

/// Asks to revoke the key that a cluster joined with.
#[derive(Debug)]
pub struct RevokeRequest {
    /// Which cluster.
    pub cluster: ClusterId,
    /// What others are to know.
    pub reason: String,
    /// Takes what was done, once it is durable; none if no such cluster has joined.
    pub answer: oneshot::Sender<Option<Revoked>>,
}

/// A key that is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The key.
    pub key: KeyId,
    /// Why: if it was revoked before, what was said then.
    pub reason: String,
    /// Whether its connection was ended now.
    pub was_connected: bool,
}

/// Asks for a join code.
#[derive(Debug)]
pub struct JoinRequest {
    /// For which cluster.
    pub cluster: ClusterId,
    /// Takes the code, or why there is none.
    pub answer: oneshot::Sender<Result<JoinCode, String>>,
}

/// What the API asks the fleet.
#[derive(Debug)]
pub enum Question {
    /// For a join code.
    Join(JoinRequest),
    /// To believe a cluster's identity key no more.
    Revoke(RevokeRequest),
    /// How far it is with a recovery, if it is in one.
    Standing(oneshot::Sender<Option<Standing>>),
    /// To accept what it learned in a recovery.
    Accept {
        /// Why.
        reason: String,
        /// Takes how far it is then.
        answer: oneshot::Sender<Option<Standing>>,
    },
    /// About what is carried by hand.
    Carry(CarryQuestion),
}

/// Everything the fleet core is driven with.
pub(crate) struct Controller {
    pub(crate) fleet: Fleet,
    pub(crate) hub: Hub,
    pub(crate) transport: Transport,
    pub(crate) authority: CertificateAuthority,
    pub(crate) root: Vec<u8>,
    pub(crate) tokens: Tokens,
    pub(crate) renewals: Renewals,
    pub(crate) own: OwnCertificate,
    pub(crate) join: enrolment::Hub,
    pub(crate) admitted: Admitted,
    pub(crate) started: Instant,
    pub(crate) seen: u64,
    /// What happened and is to be told. Like statuses it waits for clusters that are to hear of a change.
    pub(crate) untold: Vec<Occurrence>,
    /// A batch that is being stored while the next is decided.
    pub(crate) storing: Option<Storing>,
}

impl Controller {
    /// Runs until `stop`, or until the store fails: then nothing can be promised any more.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<TransportEvent>,
        mut questions: mpsc::Receiver<Question>,
        mut stop: oneshot::Receiver<()>,
    ) -> Result<(), StoreError> {
        let mut versions = self.hub.subscribe();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Batch::default();
        self.reload(&mut batch);
        self.log_standing();
        self.settle(&mut batch);
        self.carry_out(&mut batch).await?;
        loop {
            tokio::select! {
                biased;
                _ = &mut stop => break,
                changed = versions.changed() => match changed {
                    Ok(()) => self.registry_changed(&mut batch),
                    Err(_) => break,
                },
                Some(question) = questions.recv() => self.asked(question, &mut batch),
                Some(event) = events.recv() => {
                    let mut came = vec![event];
                    while came.len() < BATCH && let Ok(event) = events.try_recv() {
                        came.push(event);
                    }
                    self.transport_events(came, &mut batch);
                }
                _ = ticks.tick() => {
                    self.own.renew_if_due(&self.authority, clock::now());
                    self.fleet_event(Event::Tick, &mut batch);
                    self.expire_events().await;
                }
                () = std::future::ready(()), if self.has_left() => {}
            }
            if self.fleet.has_more() {
                self.fleet_event(Event::More, &mut batch);
            }
            self.settle(&mut batch);
            self.carry_out(&mut batch).await?;
        }
        self.finish().await?;
        if !self.untold.is_empty() {
            self.hub.commit(ACTOR, std::mem::take(&mut self.untold), Vec::new()).await?;
        }
        self.transport.stop().await;
        Ok(())
    }

    fn now(&self) -> Now {
        let wall = UnixSeconds(u64::try_from(clock::now().as_second()).unwrap_or_default());
        Now { monotonic: self.started.elapsed(), wall }
    }

    /// Feeds every object to the fleet: at the start, and if the log of changes ran over. Freezes come before what
    /// they stop, bundles before the clusters whose assignments name them, applications last, when all they depend
    /// on is known.
    fn reload(&mut self, batch: &mut Batch) {
        let (version, objects) = self.hub.read(|registry| {
            let kinds = [Kind::Freeze, Kind::Bundle, Kind::Cluster, Kind::Application];
            let objects: Vec<(Kind, Arc<Object>)> = kinds
                .iter()
                .flat_map(|kind| registry.objects(*kind).map(|object| (*kind, Arc::clone(object))))
                .collect();
            (registry.version(), objects)
        });
        self.seen = version;
        let objects: Vec<(ObjectKey, Arc<Object>)> = objects
            .into_iter()
            .map(|(kind, object)| (ObjectKey::new(kind, object.namespace(), object.name()), object))
            .collect();
        let there: BTreeSet<&ObjectKey> = objects.iter().map(|(key, _)| key).collect();
        for event in self.fleet.removals() {
            let gone = key_of(&event).filter(|key| !there.contains(key));
            gone.iter().for_each(|key| self.object_changed(key, None, batch));
        }
        for (key, object) in &objects {
            self.object_changed(key, Some(object), batch);
        }
    }

    fn registry_changed(&mut self, batch: &mut Batch) {
        loop {
            let read = self.hub.read(|registry| (registry.changes(self.seen, CHANGES), registry.version()));
            let (Ok(changes), version) = read else {
                tracing::warn!("the fleet fell behind the log of changes and reads everything again");
                return self.reload(batch);
            };
            self.seen = changes.last().map_or(version, |change| change.version);
            for change in changes.iter().filter(|change| is_news(change)) {
                self.object_changed(&change.key, change.after.as_ref(), batch);
            }
            if changes.len() < CHANGES {
                return;
            }
        }
    }

    fn object_changed(&mut self, key: &ObjectKey, object: Option<&Arc<Object>>, batch: &mut Batch) {
        let Some(event) = event_of(key, object) else { return };
        if let Event::Cluster(id, _) = &event {
            let id = id.clone();
            self.fleet_event(event, batch);
            self.admit(&id);
        } else {
            self.fleet_event(event, batch);
        }
    }

    fn asked(&mut self, question: Question, batch: &mut Batch) {
        match question {
            Question::Join(request) => self.joining(request, batch),
            Question::Revoke(request) => self.revoking(request, batch),
            Question::Standing(answer) => drop(answer.send(self.fleet.standing())),
            Question::Accept { reason, answer } => {
                self.fleet_event(Event::Accept(reason), batch);
                batch.waiting.push(Waiting::Standing(answer, self.fleet.standing().map(Box::new)));
            }
            Question::Carry(question) => self.carrying(question, batch),
        }
    }

    fn joining(&mut self, request: JoinRequest, batch: &mut Batch) {
        if self.fleet.joining(&request.cluster).is_none() {
            let refusal = format!("cluster {} is not registered", request.cluster);
            drop(request.answer.send(Err(refusal)));
            return;
        }
        let now = self.now().wall;
        match self.tokens.make(&self.join, request.cluster, now) {
            Some((code, writes)) => {
                batch.writes.extend(writes);
                batch.waiting.push(Waiting::Code(request.answer, Box::new(code)));
            }
            None => drop(request.answer.send(Err("too many join codes are open".to_owned()))),
        }
    }

    fn revoking(&mut self, request: RevokeRequest, batch: &mut Batch) {
        let RevokeRequest { cluster, reason, answer } = request;
        let Some(key) = self.fleet.identity(&cluster) else {
            drop(answer.send(None));
            return;
        };
        let was_connected = self.fleet.is_connected(&cluster);
        self.fleet_event(Event::Revoke(cluster.clone(), reason.clone()), batch);
        self.admit(&cluster);
        batch.writes.extend(self.tokens.void(&cluster));
        let reason = self.fleet.revocation(&key).map_or(reason, |revocation| revocation.reason.clone());
        batch.waiting.push(Waiting::Revoked(answer, Revoked { key, reason, was_connected }));
    }

    fn fleet_event(&mut self, event: Event, batch: &mut Batch) {
        let now = self.now();
        self.fleet.handle_into(now, event, &mut batch.effects);
    }

    /// Ends a batch: what happened together is looked at together.
    fn settle(&mut self, batch: &mut Batch) {
        let now = self.now();
        batch.effects.extend(self.fleet.settle(now));
        batch.effects.extend(self.fleet.show());
    }

    /// Whether it goes on although nothing happens.
    fn has_left(&self) -> bool {
        self.fleet.has_more() || self.fleet.has_to_show() || self.told_now() > 0
    }

    fn admit(&self, id: &ClusterId) {
        let mut admitted = lock(&self.admitted);
        match self.fleet.admitted_key(id) {
            Some(key) => admitted.insert(id.clone(), key),
            None => admitted.remove(id),
        };
    }

    /// Says in the log that the hub is in another life, and what it waits for.
    fn log_standing(&self) {
        let Some(Standing { recovery, joined, unheard, .. }) = self.fleet.standing() else { return };
        let (cause, unheard) = (recovery.cause.text(), unheard.len());
        match recovery.accepted {
            Some(accepted) => {
                tracing::info!(cause, joined, unheard, reason = accepted.reason, "a recovery was accepted");
            }
            None => {
                tracing::warn!(cause, joined, unheard, "nothing changes until `edgefleet restore --accept`")
            }
        }
    }
}

/// A lock that is held for moments only; a panic under it has ended the hub.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic under this lock has ended the hub")
}

/// Whether a change is one that the fleet has to decide on: statuses are its own.
fn is_news(change: &Change) -> bool {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return true };
    before.generation() != after.generation() || !before.is_marked_as(after)
}

/// What an object means to the fleet. Objects come validated, so what does not read is none of the fleet's.
fn event_of(key: &ObjectKey, object: Option<&Arc<Object>>) -> Option<Event> {
    let value = object.map(|object| object.value());
    let value = value.as_ref();
    match key.kind {
        Kind::Cluster => Some(Event::Cluster(ClusterId::new(&*key.name).ok()?, value.and_then(cluster))),
        Kind::Bundle => {
            let tenant = Name::new(&*key.namespace).ok()?;
            Some(Event::Bundle(tenant, key.name.clone(), value.and_then(bundle)))
        }
        Kind::Application => {
            let id = AppId::new(&*key.namespace, &*key.name).ok()?;
            Some(Event::Application(id, value.and_then(application)))
        }
        Kind::Freeze => Some(Event::Freeze(key.name.clone(), value.and_then(freeze))),
        Kind::Assignment | Kind::Event => None,
    }
}

/// The object that an event is about, if it is about one.
fn key_of(event: &Event) -> Option<ObjectKey> {
    match event {
        Event::Cluster(id, _) => Some(ObjectKey::new(Kind::Cluster, "", id.as_str())),
        Event::Bundle(tenant, name, _) => Some(ObjectKey::new(Kind::Bundle, tenant.as_str(), name)),
        Event::Application(id, _) => {
            Some(ObjectKey::new(Kind::Application, id.tenant.as_str(), id.name.as_str()))
        }
        Event::Freeze(name, _) => Some(ObjectKey::new(Kind::Freeze, "", name)),
        Event::Enrolled(..)
        | Event::Revoke(..)
        | Event::Connected(_)
        | Event::Gone(_)
        | Event::Said(..)
        | Event::Heard(..)
        | Event::Accept(_)
        | Event::More
        | Event::Tick => None,
    }
}

fn cluster(value: &Value) -> Option<ClusterRecord> {
    let cluster: resources::Cluster = serde_json::from_value(value.clone()).ok()?;
    let until = |hold: &resources::Hold| {
        let at = hold.until.as_ref()?.0.as_second();
        Some(UnixSeconds(u64::try_from(at).unwrap_or_default()))
    };
    let hold = cluster.spec.hold.as_ref();
    Some(ClusterRecord {
        labels: cluster.metadata.labels.unwrap_or_default(),
        accepted: cluster.spec.accepted,
        hold: hold.map(|hold| HoldRecord { reason: hold.reason.clone(), until: until(hold) }),
    })
}

fn bundle(value: &Value) -> Option<BundleRecord> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let release = value.pointer("/spec/release")?.as_str()?;
    Some(BundleRecord { release: STANDARD.decode(release).ok()? })
}

fn freeze(value: &Value) -> Option<FreezeRecord> {
    let resources::FreezeSpec { reason, tenant, cluster_selector } =
        serde_json::from_value::<resources::Freeze>(value.clone()).ok()?.spec;
    Some(FreezeRecord {
        reason,
        tenant: tenant.map(Name::new).transpose().ok()?,
        selector: Selector::try_from(&cluster_selector.unwrap_or_default()).ok()?,
    })
}

fn application(value: &Value) -> Option<Application> {
    let application: resources::Application = serde_json::from_value(value.clone()).ok()?;
    let annotations = application.metadata.annotations.unwrap_or_default();
    let generation = application.metadata.generation.unwrap_or_default();
    Some(Application {
        spec: application.spec,
        generation: u64::try_from(generation).unwrap_or_default(),
        approval: annotations.get(APPROVE_ANNOTATION).cloned(),
    })
}
