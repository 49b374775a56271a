//! A hub's fleet, its store, what people see of it, and its clusters.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apimachinery::selector::{LabelSelector, Selector};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use protocol::{
    codec,
    cose::{self, Binding},
    documents::{
        Ceilings, Desired, Document as _, Encoding, Parameter, ParameterType, Release, ReleaseRole, Role,
        Root, Want,
    },
    ids::{AppId, ClusterId, Digest, FleetId, Incarnation, KeyId, Name},
    keys::SigningKey,
    order::Epoch,
    time::{Now, UnixSeconds},
    topics::{Downward, Upward},
    verify::Trust,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::{
    Application, BundleRecord, ClusterRecord, DocumentKind, Effect, Event, Fleet, FreezeRecord, HoldRecord,
    carry::{CarryRefusal, Export},
    decide::SHOWN_AFTER,
    recovery::{Record, Recovery},
};
use super::cluster::TestCluster;
use crate::logic::occurrence::Occurrence;
use crate::resources::{ApplicationStatus, AssignmentState, AssignmentStatus, Before, ClusterStatus, Status};

pub(super) const START: UnixSeconds = UnixSeconds(1_800_000_000);
pub(super) const DAY: u64 = 24 * 60 * 60;

const ROOTS: [u8; 3] = [1, 2, 3];
pub(super) const DIRECTOR: u8 = 4;
pub(super) const RADIO: [u8; 2] = [5, 6];
/// A key that no root names.
pub(super) const STRANGER: u8 = 9;

pub(super) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Zeroizing::new([seed; 32]))
}

fn key_ids(seeds: &[u8]) -> Vec<KeyId> {
    seeds.iter().map(|seed| key(*seed).public().id()).collect()
}

pub(super) fn fleet_id() -> FleetId {
    FleetId::new("north").unwrap()
}

pub(super) fn id(text: &str) -> ClusterId {
    ClusterId::new(text).unwrap()
}

pub(super) fn app(name: &str) -> AppId {
    AppId::new("radio", name).unwrap()
}

pub(super) fn trust() -> Trust {
    let seeds = [&ROOTS[..], &[DIRECTOR], &RADIO].concat();
    let root = Root {
        fleet: fleet_id(),
        version: 1,
        min_epoch: Epoch(1),
        issued: START,
        not_after: START.plus(365 * DAY),
        keys: seeds.iter().map(|seed| key(*seed).public()).collect(),
        root: Role { threshold: 2, keys: key_ids(&ROOTS) },
        director: Role { threshold: 1, keys: key_ids(&[DIRECTOR]) },
        releases: vec![ReleaseRole {
            tenant: Name::new("radio").unwrap(),
            namespaces: vec!["radio".parse().unwrap()],
            keys: key_ids(&RADIO),
            threshold: 1,
            privileged_threshold: 2,
        }],
        ca_pins: Vec::new(),
        prev: None,
    };
    let binding = Binding { kind: Root::TYPE, fleet: &root.fleet, cluster: None };
    let (first, second) = (key(ROOTS[0]), key(ROOTS[1]));
    Trust::given(&cose::sign_many(binding, &codec::encode(&root), &[&first, &second])).unwrap()
}

/// An empty release of an application, with a parameter that takes `info` or `debug`.
pub(super) fn release(app: &AppId, version: &str) -> Release {
    Release {
        app: app.clone(),
        version: version.to_owned(),
        counter: 1,
        floor: 0,
        pack: Digest::of(b""),
        objects: Vec::new(),
        scope: vec![Name::new("radio").unwrap()],
        parameters: vec![Parameter {
            name: "level".to_owned(),
            of: ParameterType::Enum(vec!["info".to_owned(), "debug".to_owned()]),
            default: None,
            targets: Vec::new(),
        }],
        ceilings: Ceilings::default(),
        not_after: START.plus(90 * DAY),
    }
}

pub(super) fn signed(release: &Release, seed: u8) -> Vec<u8> {
    let binding = Binding { kind: Release::TYPE, fleet: &fleet_id(), cluster: None };
    cose::sign_many(binding, &codec::encode(release), &[&key(seed)])
}

/// An application that runs `bundle` on clusters of stage prod, with `more` in its spec.
pub(super) fn spec(bundle: &str, more: Value) -> Value {
    let mut spec = json!({
        "bundle": bundle,
        "placement": {"clusterSelector": {"matchLabels": {"stage": "prod"}}},
    });
    let fields = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().unwrap().extend(fields);
    spec
}

pub(super) fn removing() -> Value {
    let selector = json!({"matchLabels": {"stage": "prod"}});
    json!({"placement": {"clusterSelector": selector, "onUnmatch": "Remove"}})
}

/// Everything that is written, sent or shown ends up here, as it would in the shell.
pub(super) struct Bench {
    pub(super) fleet: Fleet,
    pub(super) now: Now,
    pub(super) store: BTreeMap<(DocumentKind, String), Vec<u8>>,
    pub(super) clusters: BTreeMap<ClusterId, TestCluster>,
    pub(super) statuses: BTreeMap<ClusterId, ClusterStatus>,
    pub(super) applications: BTreeMap<AppId, ApplicationStatus>,
    pub(super) assignments: BTreeMap<(AppId, ClusterId), (BTreeMap<String, String>, AssignmentStatus)>,
    pub(super) occurred: Vec<Occurrence>,
    /// Whether a test says itself when a change goes on.
    pub(super) stepwise: bool,
    generations: BTreeMap<AppId, u64>,
    /// What the registry holds, in the order in which a hub that starts reads it.
    objects: BTreeMap<(u8, String), Event>,
}

/// A hub's store at some time.
#[derive(Clone)]
pub(super) struct Backup {
    pub(super) store: BTreeMap<(DocumentKind, String), Vec<u8>>,
    objects: BTreeMap<(u8, String), Event>,
    statuses: BTreeMap<ClusterId, ClusterStatus>,
    applications: BTreeMap<AppId, ApplicationStatus>,
    generations: BTreeMap<AppId, u64>,
}

fn empty_fleet() -> Fleet {
    Fleet::new(trust(), Arc::new(key(DIRECTOR)), Incarnation::new([7; 16]))
}

fn object_of(event: &Event) -> Option<(u8, String)> {
    match event {
        Event::Freeze(name, _) => Some((0, name.clone())),
        Event::Bundle(tenant, name, _) => Some((1, format!("{tenant}/{name}"))),
        Event::Cluster(id, _) => Some((2, id.to_string())),
        Event::Application(id, _) => Some((3, id.to_string())),
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

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            fleet: empty_fleet(),
            now: Now { monotonic: Duration::ZERO, wall: START },
            store: BTreeMap::new(),
            clusters: BTreeMap::new(),
            statuses: BTreeMap::new(),
            applications: BTreeMap::new(),
            assignments: BTreeMap::new(),
            occurred: Vec::new(),
            stepwise: false,
            generations: BTreeMap::new(),
            objects: BTreeMap::new(),
        }
    }

    /// `count` clusters of stage prod, joined and connected, which hold what they were told first: nothing.
    pub(super) fn with_clusters(count: u16) -> Self {
        let mut bench = Self::new();
        for index in 1..=count {
            let name = format!("tower-{index}");
            bench.register(&name, &[("stage", "prod")]);
            bench.join(&name);
            bench.connect(&name);
        }
        bench.tick();
        bench
    }

    /// Those, on which application `gateway` runs healthily.
    pub(super) fn running(count: u16, more: Value) -> Self {
        let mut bench = Self::with_clusters(count);
        bench.publish("gateway", "1");
        bench.apply("gateway", spec("gateway-1", more), None);
        for index in 1..=count {
            bench.report(&format!("tower-{index}"));
        }
        bench.settle();
        bench
    }

    /// Lets something happen, does what follows, and says what that was.
    pub(super) fn handle(&mut self, event: Event) -> Vec<Effect> {
        self.handle_all([event])
    }

    /// Lets several things happen together.
    pub(super) fn handle_all(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Effect> {
        let heard: Vec<Event> = events.into_iter().map(|event| self.fleet.hear(event)).collect();
        let begun = heard.into_iter().flat_map(|event| self.begin(event)).collect();
        let mut effects = self.end(begun);
        while !self.stepwise && self.fleet.has_more() {
            let begun = self.fleet.handle(self.now, Event::More);
            effects.extend(self.end(begun));
        }
        if !self.stepwise && self.fleet.holds_back() {
            self.now.monotonic += SHOWN_AFTER;
            effects.extend(self.end(Vec::new()));
        }
        effects
    }

    fn end(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        effects.extend(self.follow());
        for effect in &effects {
            self.carry_out(effect);
        }
        self.fleet.count_anew();
        effects
    }

    fn begin(&mut self, event: Event) -> Vec<Effect> {
        if let Some(key) = object_of(&event) {
            let gone = matches!(
                event,
                Event::Bundle(_, _, None)
                    | Event::Cluster(_, None)
                    | Event::Application(_, None)
                    | Event::Freeze(_, None)
            );
            self.objects.insert(key.clone(), event.clone());
            self.objects.retain(|known, _| !gone || known != &key);
        }
        self.fleet.handle(self.now, event)
    }

    /// What follows from what was handled.
    fn follow(&mut self) -> Vec<Effect> {
        let mut effects = self.fleet.settle(self.now);
        effects.extend(self.fleet.show());
        while self.fleet.has_to_show() {
            effects.extend(self.fleet.settle(self.now));
            effects.extend(self.fleet.show());
        }
        effects
    }

    /// Exports for a cluster.
    pub(super) fn export(&mut self, name: &str, full: bool) -> Result<Export, CarryRefusal> {
        let (export, mut effects) = self.fleet.export(self.now, &id(name), full);
        effects.extend(self.follow());
        effects.iter().for_each(|effect| self.carry_out(effect));
        export
    }

    /// Takes reports that were carried here.
    pub(super) fn carried(&mut self, name: &str, envelopes: &[Vec<u8>]) -> Result<usize, CarryRefusal> {
        let (taken, mut effects) = self.fleet.carried_reports(self.now, &id(name), envelopes);
        effects.extend(self.follow());
        effects.iter().for_each(|effect| self.carry_out(effect));
        taken
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Store(documents) => {
                for document in documents {
                    let key = (document.kind, document.key.clone());
                    match document.bytes.clone() {
                        Some(bytes) => drop(self.store.insert(key, bytes)),
                        None => drop(self.store.remove(&key)),
                    }
                }
            }
            Effect::Push(id, topic, bytes) => {
                let stored = self.store.get(&(DocumentKind::Desired, id.to_string()));
                assert!(*topic != Downward::Desired || stored == Some(bytes), "sent before it was stored");
                let cluster = self.clusters.get_mut(id).expect("only clusters that exist are told anything");
                cluster.take(*topic, bytes);
            }
            Effect::SendContent { .. } | Effect::Kick(_) => {}
            Effect::Occurred(occurrence) => self.occurred.push(occurrence.clone()),
            Effect::ClusterStatus(id, status) => {
                let dated = dated(self.now, self.statuses.get(id), &**status);
                let before = self.statuses.insert(id.clone(), dated);
                assert_ne!(before.as_ref(), self.statuses.get(id), "put out without a change");
            }
            Effect::ApplicationStatus(id, status) => {
                let dated = dated(self.now, self.applications.get(id), &**status);
                let before = self.applications.insert(id.clone(), dated);
                assert_ne!(before.as_ref(), self.applications.get(id), "put out without a change");
            }
            Effect::Assignment(app, id, shown) => {
                let key = (app.clone(), id.clone());
                let before = self.assignments.remove(&key);
                if let Some((labels, status)) = shown.as_deref() {
                    let dated = dated(self.now, before.as_ref().map(|(_, before)| before), status);
                    self.assignments.insert(key.clone(), (labels.clone(), dated));
                }
                assert_ne!(before.as_ref(), self.assignments.get(&key), "put out without a change");
            }
        }
    }

    /// What a backup holds.
    pub(super) fn backup(&self) -> Backup {
        Backup {
            store: self.store.clone(),
            objects: self.objects.clone(),
            statuses: self.statuses.clone(),
            applications: self.applications.clone(),
            generations: self.generations.clone(),
        }
    }

    /// The hub is lost, and another starts from an old store: the backup's, or with no `life` of its own a disk's that
    /// was put back without a word.
    pub(super) fn come_back(&mut self, backup: &Backup, life: Option<u8>) -> Vec<Effect> {
        let Backup { store, objects, statuses, applications, generations } = backup.clone();
        (self.store, self.objects, self.statuses) = (store, objects, statuses);
        (self.applications, self.generations) = (applications, generations);
        self.clusters.values_mut().for_each(|cluster| cluster.forgiving = true);
        if let Some(life) = life {
            let record = |event: &Event| {
                let Event::Application(app, Some(application)) = event else { return None };
                Some(Record::of(app, application))
            };
            let records = self.objects.values().filter_map(record).collect();
            let incarnation = Incarnation::new([life; 16]);
            let document = Recovery::restored(incarnation, self.now.wall, START, records).document();
            self.store.insert((document.kind, document.key), document.bytes.unwrap());
        }
        self.restart()
    }

    pub(super) fn accept(&mut self) -> Vec<Effect> {
        self.handle(Event::Accept("the clusters are as they should be".to_owned()))
    }

    /// The hub ends and starts again from what it stored; every connection is cut. Says what follows from that.
    pub(super) fn restart(&mut self) -> Vec<Effect> {
        self.fleet = empty_fleet();
        for ((kind, key), bytes) in &self.store {
            self.fleet.restore(*kind, key, bytes).unwrap();
        }
        for (id, status) in &self.statuses {
            self.fleet.restore_cluster_status(id.as_str(), &json!(status));
        }
        for (id, status) in &self.applications {
            self.fleet.restore_application_status(id.tenant.as_str(), id.name.as_str(), &json!(status));
        }
        // Assignments are not stored.
        self.assignments.clear();
        for cluster in self.clusters.values_mut() {
            cluster.cut();
        }
        self.now.monotonic = Duration::ZERO;
        let objects: Vec<Event> = self.objects.values().cloned().collect();
        objects.into_iter().flat_map(|event| self.handle(event)).collect()
    }

    /// Lets time pass. Ticks follow separately, as they do in the shell.
    pub(super) fn wait(&mut self, seconds: u64) {
        self.now.monotonic += Duration::from_secs(seconds);
        self.now.wall = self.now.wall.plus(seconds);
    }

    pub(super) fn tick(&mut self) -> Vec<Effect> {
        self.handle(Event::Tick)
    }

    /// Ticks until nothing more follows.
    pub(super) fn settle(&mut self) {
        let quiet = (0..4).any(|_| self.tick().is_empty());
        assert!(quiet, "ticks alone keep having effects");
    }

    pub(super) fn register(&mut self, name: &str, labels: &[(&str, &str)]) -> Vec<Effect> {
        self.record(name, labels, |_| ())
    }

    pub(super) fn record(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        with: impl FnOnce(&mut ClusterRecord),
    ) -> Vec<Effect> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut record = ClusterRecord { labels, accepted: true, hold: None };
        with(&mut record);
        self.handle(Event::Cluster(id(name), Some(record)))
    }

    pub(super) fn hold(&mut self, name: &str, until: Option<UnixSeconds>) -> Vec<Effect> {
        let hold = HoldRecord { reason: "crane on site".to_owned(), until };
        self.record(name, &[("stage", "prod")], |record| record.hold = Some(hold))
    }

    /// Freezes applications of a tenant, or all, on clusters with these labels.
    pub(super) fn freeze(
        &mut self,
        name: &str,
        tenant: Option<&str>,
        labels: &[(&str, &str)],
    ) -> Vec<Effect> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let selector = LabelSelector { match_labels: labels, ..LabelSelector::default() };
        let record = FreezeRecord {
            reason: "trade fair".to_owned(),
            tenant: tenant.map(|tenant| Name::new(tenant).unwrap()),
            selector: Selector::try_from(&selector).unwrap(),
        };
        self.handle(Event::Freeze(name.to_owned(), Some(record)))
    }

    pub(super) fn unfreeze(&mut self, name: &str) -> Vec<Effect> {
        self.handle(Event::Freeze(name.to_owned(), None))
    }

    pub(super) fn join(&mut self, name: &str) {
        // Keys may be the same: every document names its cluster.
        let seed = 100 + u8::try_from(self.clusters.len() % 150).unwrap();
        let cluster = TestCluster::new(id(name), seed);
        let public = cluster.key.public();
        self.clusters.insert(id(name), cluster);
        self.handle(Event::Enrolled(id(name), public));
    }

    /// A connection comes up, without a word yet.
    pub(super) fn arrive(&mut self, name: &str) -> Vec<Effect> {
        self.cluster(name).connected = true;
        self.handle(Event::Connected(id(name)))
    }

    /// A cluster connects and says hello; what follows from that.
    pub(super) fn connect(&mut self, name: &str) -> Vec<Effect> {
        self.arrive(name);
        let hello = self.cluster(name).hello();
        let mut effects = self.say(name, Upward::Hello, hello);
        // A hub that knows another desired state is shown the one that is held.
        if let Some(held) = self.cluster(name).shows.take() {
            effects.extend(self.say(name, Upward::Held, held));
        }
        effects
    }

    pub(super) fn disconnect(&mut self, name: &str) -> Vec<Effect> {
        self.cluster(name).cut();
        self.handle(Event::Gone(id(name)))
    }

    pub(super) fn say(&mut self, name: &str, topic: Upward, bytes: Vec<u8>) -> Vec<Effect> {
        self.handle(Event::Said(id(name), topic, bytes))
    }

    /// The cluster reports what one report holds of what it has to say; it sees itself that the answer is right.
    pub(super) fn report(&mut self, name: &str) -> Vec<Effect> {
        let wall = self.now.wall;
        let report = self.cluster(name).next_report(wall);
        self.say(name, Upward::Report, report)
    }

    pub(super) fn want(
        &mut self,
        name: &str,
        target: Digest,
        encoding: Encoding,
        offset: u64,
    ) -> Vec<Effect> {
        let cluster = self.cluster(name);
        let want = Want { cluster: cluster.id.clone(), target, encoding, base: None, offset };
        let want = cluster.sign(&want);
        self.say(name, Upward::Want, want)
    }

    pub(super) fn publish(&mut self, name: &str, version: &str) -> Digest {
        let bytes = signed(&release(&app(name), version), RADIO[0]);
        let digest = Digest::of(&bytes);
        self.bundle(&format!("{name}-{version}"), bytes);
        digest
    }

    pub(super) fn bundle(&mut self, name: &str, release: Vec<u8>) -> Vec<Effect> {
        let tenant = Name::new("radio").unwrap();
        self.handle(Event::Bundle(tenant, name.to_owned(), Some(BundleRecord { release })))
    }

    /// Writes an application's spec, as its next generation.
    pub(super) fn apply(&mut self, name: &str, spec: Value, approval: Option<&str>) -> Vec<Effect> {
        *self.generations.entry(app(name)).or_default() += 1;
        self.annotate(name, spec, approval)
    }

    /// Writes an application again, of the same generation.
    pub(super) fn annotate(&mut self, name: &str, spec: Value, approval: Option<&str>) -> Vec<Effect> {
        let application = Application {
            spec: serde_json::from_value(spec).unwrap(),
            generation: self.generations[&app(name)],
            approval: approval.map(str::to_owned),
        };
        self.handle(Event::Application(app(name), Some(application)))
    }

    pub(super) fn cluster(&mut self, name: &str) -> &mut TestCluster {
        self.clusters.get_mut(&id(name)).unwrap()
    }

    /// What a cluster's document tells it to run, by application's name: the values, told or not yet.
    pub(super) fn told(&self, name: &str) -> Vec<String> {
        let Some(signed) = self.fleet.clusters[&id(name)].signed.as_ref() else { return Vec::new() };
        let Desired { releases, remove, .. } = &**signed.desired;
        let values = |values: &BTreeMap<String, String>| {
            values.iter().map(|(name, value)| format!(" {name}={value}")).collect::<String>()
        };
        let runs = releases.iter().map(|release| format!("{}{}", release.app.name, values(&release.values)));
        runs.chain(remove.iter().map(|app| format!("-{}", app.name))).collect()
    }

    pub(super) fn reason(&self, name: &str) -> String {
        let status = &self.applications[&app(name)];
        format!("{:?}: {}", status.decision.unwrap(), status.reason.as_deref().unwrap())
    }

    pub(super) fn state(&self, name: &str) -> Option<AssignmentState> {
        self.assignments.get(&(app("gateway"), id(name))).map(|(_, status)| status.state)
    }

    pub(super) fn condition(&self, name: &str, kind: &str) -> (String, i64) {
        let conditions = &self.statuses[&id(name)].conditions;
        let condition = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (condition.status.clone(), condition.last_transition_time.0.as_second())
    }
}

/// How often a kind of effect is among `effects`.
pub(super) fn pushes(effects: &[Effect], cluster: &str, topic: Downward) -> usize {
    let to = |effect: &&Effect| matches!(effect, Effect::Push(id, pushed, _) if id.as_str() == cluster && *pushed == topic);
    effects.iter().filter(to).count()
}

pub(super) fn kicks(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Kick(_))).count()
}

pub(super) fn stores(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Store(_))).count()
}

/// A status as the registry dates it.
fn dated<T: Status + Clone>(now: Now, before: Option<&T>, status: &T) -> T {
    let now = Timestamp::from_second(now.wall.0.try_into().unwrap()).unwrap();
    let before = before.map(|before| serde_json::to_string(before).unwrap()).unwrap_or_default();
    let mut dated = status.clone();
    dated.date(&Time(now), &Before::read(&before));
    dated
}
