//! A fleet for tests: real keys, a real root, signed releases and desired states, and a hub that answers over a
//! channel as far as one agent needs.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use protocol::{
    codec, cose,
    documents::{
        Ack, AppReport, AppState, Ceilings, Chunk, Desired, DesiredRelease, Document, DocumentType, Encoding,
        Head, Hello, Mode, ObjectEntry, ObjectName, Permit, Release, ReleaseRole, Report, Role, Root, Want,
    },
    ids::{AppId, ClusterId, Digest, FleetId, Incarnation, Name, Nonce},
    keys::SigningKey,
    limits,
    order::{Epoch, Order},
    time::UnixSeconds,
    topics::{Downward, Upward},
    verify::{Trust, Verified, by_cluster},
};
use serde_json::Value;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::{
    logic::{agent::Identity, object::ObjectRef},
    pack,
    uplink::{FromHub, HubSide, Receipt, ToHub},
};

/// The fleet's time: as good as any.
pub(crate) const TIME: UnixSeconds = UnixSeconds(1_800_000_000);

/// A year later.
const LATER: UnixSeconds = UnixSeconds(1_831_536_000);

/// A fleet of one cluster, `tower-1`, with one tenant, `radio`.
pub(crate) struct Fleet {
    pub(crate) id: FleetId,
    pub(crate) cluster: ClusterId,
    pub(crate) trust: Trust,
    /// The root's envelope.
    pub(crate) root: Vec<u8>,
    director: SigningKey,
    release: [SigningKey; 2],
    agent: Arc<SigningKey>,
}

/// A signed release and its content.
#[derive(Clone)]
pub(crate) struct Bundle {
    pub(crate) release: Verified<Release>,
    pub(crate) envelope: Vec<u8>,
    pub(crate) packed: Vec<u8>,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Zeroizing::new([seed; 32]))
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let (id, cluster) = (FleetId::new("north").unwrap(), ClusterId::new("tower-1").unwrap());
        let (owner, director, release) = (key(1), key(2), [key(3), key(4)]);
        let public = |key: &SigningKey| key.public();
        let root = Root {
            fleet: id.clone(),
            version: 1,
            min_epoch: Epoch(1),
            issued: TIME,
            not_after: LATER,
            keys: vec![public(&owner), public(&director), public(&release[0]), public(&release[1])],
            root: Role { threshold: 1, keys: vec![owner.public().id()] },
            director: Role { threshold: 1, keys: vec![director.public().id()] },
            releases: vec![ReleaseRole {
                tenant: Name::new("radio").unwrap(),
                namespaces: vec!["radio".parse().unwrap(), "radio-*".parse().unwrap()],
                keys: release.iter().map(|key| key.public().id()).collect(),
                threshold: 1,
                privileged_threshold: 2,
            }],
            ca_pins: Vec::new(),
            prev: None,
        };
        let binding = cose::Binding { kind: DocumentType::Root, fleet: &id, cluster: None };
        let root = cose::sign_many(binding, &codec::encode(&root), &[&owner]);
        let trust = Trust::pin(&root, &id, Digest::of(&root)).unwrap();
        Self { id, cluster, trust, root, director, release, agent: Arc::new(key(5)) }
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            cluster: self.cluster.clone(),
            fleet: self.id.clone(),
            key: Arc::clone(&self.agent),
            version: "test",
            heartbeat: Duration::from_secs(3600),
        }
    }

    /// A release of `radio/gateway`, signed by both keys.
    pub(crate) fn bundle(&self, counter: u64, objects: &[Value], ceilings: Ceilings) -> Bundle {
        let documents: Vec<Vec<u8>> = objects.iter().map(|object| object.to_string().into_bytes()).collect();
        let content = documents.concat();
        let namespace =
            |object: &Value| object["metadata"]["namespace"].as_str().map(|n| Name::new(n).unwrap());
        let entry = |(object, bytes): (&Value, &Vec<u8>)| {
            let ObjectRef { gvk, name, .. } = ObjectRef::of(object).unwrap();
            ObjectEntry {
                group: gvk.group,
                version: gvk.version,
                kind: gvk.kind,
                namespace: namespace(object),
                name: ObjectName::new(name).unwrap(),
                len: bytes.len() as u32,
                sha256: Digest::of(bytes),
            }
        };
        let release = Release {
            app: AppId::new("radio", "gateway").unwrap(),
            version: format!("1.{counter}"),
            counter,
            floor: 0,
            pack: Digest::of(&content),
            objects: objects.iter().zip(&documents).map(entry).collect(),
            scope: objects.iter().filter_map(namespace).collect(),
            parameters: Vec::new(),
            ceilings,
            not_after: LATER,
        };
        let binding = cose::Binding { kind: DocumentType::Release, fleet: &self.id, cluster: None };
        let keys = [&self.release[0], &self.release[1]];
        let envelope = cose::sign_many(binding, &codec::encode(&release), &keys);
        let release = self.trust.release(&envelope).unwrap();
        Bundle { release, envelope, packed: pack::packed(&content, pack::WINDOW_LOG) }
    }

    pub(crate) fn director(&self) -> &SigningKey {
        &self.director
    }

    pub(crate) fn sign<T: Document>(&self, document: &T) -> Vec<u8> {
        let binding = cose::Binding { kind: T::TYPE, fleet: &self.id, cluster: Some(&self.cluster) };
        cose::sign_one(binding, &codec::encode(document), &self.director)
    }
}

/// A hub of one cluster.
pub(crate) struct Hub {
    fleet: Rc<Fleet>,
    state: RefCell<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    seq: u64,
    desired: Vec<u8>,
    apps: Vec<AppId>,
    content: BTreeMap<(Digest, Encoding), Vec<u8>>,
    reports: BTreeMap<AppId, AppReport>,
    conditions: Vec<String>,
}

impl Hub {
    pub(crate) fn new(fleet: Rc<Fleet>) -> Self {
        Self { fleet, state: RefCell::default(), changed: Notify::new() }
    }

    /// From now on the cluster shall run `bundles`, and `remove` no longer.
    pub(crate) fn desire(&self, bundles: &[Bundle], remove: &[AppId]) {
        let mut state = self.state.borrow_mut();
        state.seq += 1;
        for Bundle { release, envelope, packed } in bundles {
            state.content.insert((release.digest(), Encoding::Plain), envelope.clone());
            state.content.insert((release.pack, Encoding::Zstd), packed.clone());
        }
        let named = bundles.iter().map(|bundle| DesiredRelease {
            app: bundle.release.app.clone(),
            release: bundle.release.digest(),
            len: bundle.envelope.len() as u32,
            values: BTreeMap::new(),
            mode: Mode::Enforce,
            enforce: None,
            depends_on: Vec::new(),
        });
        let desired = Desired {
            cluster: self.fleet.cluster.clone(),
            order: Order { epoch: Epoch(1), seq: state.seq },
            prev: (!state.desired.is_empty()).then(|| Digest::of(&state.desired)),
            issued: TIME,
            install_by: TIME.plus(limits::INSTALL_BY_SECONDS),
            releases: named.collect(),
            remove: remove.to_vec(),
            policy: None,
        };
        state.apps = bundles.iter().map(|bundle| bundle.release.app.clone()).collect();
        state.desired = self.fleet.sign(&desired);
        self.changed.notify_one();
    }

    /// The newest report of the application.
    pub(crate) fn report(&self) -> Option<AppReport> {
        self.state.borrow().reports.values().next().cloned()
    }

    /// The kinds of the conditions that the newest report speaks of.
    pub(crate) fn conditions(&self) -> Vec<String> {
        self.state.borrow().conditions.clone()
    }

    pub(crate) fn state(&self) -> Option<AppState> {
        self.report().map(|report| report.state)
    }

    /// Answers one agent for as long as it is there.
    pub(crate) async fn serve(&self, mut side: HubSide) {
        let mut messages = vec![FromHub::Up];
        loop {
            for message in messages.drain(..) {
                side.events.send(message).await.unwrap();
            }
            tokio::select! {
                command = side.commands.recv() => match command {
                    Some(ToHub::Publish { topic, bytes }) => messages = self.answer(topic, &bytes),
                    Some(ToHub::Acknowledge(_)) => {}
                    Some(ToHub::Reconnect) => {
                        messages = vec![FromHub::Down { reason: "asked to".into() }, FromHub::Up];
                    }
                    None => return,
                },
                () = self.changed.notified() => messages = self.news(None),
            }
        }
    }

    fn answer(&self, topic: Upward, bytes: &[u8]) -> Vec<FromHub> {
        let Fleet { id, cluster, agent, .. } = &*self.fleet;
        match topic {
            Upward::Hello => {
                let hello: Verified<Hello> = by_cluster(id, cluster, &agent.public(), bytes).unwrap();
                self.news(Some(hello.nonce))
            }
            Upward::Want => {
                let want: Verified<Want> = by_cluster(id, cluster, &agent.public(), bytes).unwrap();
                self.pieces(&want)
            }
            Upward::Report => {
                let report: Verified<Report> = by_cluster(id, cluster, &agent.public(), bytes).unwrap();
                vec![self.store(&report)]
            }
            Upward::Held => Vec::new(),
        }
    }

    fn news(&self, nonce: Option<Nonce>) -> Vec<FromHub> {
        let state = self.state.borrow();
        if state.seq == 0 {
            return Vec::new();
        }
        let permit = |app: &AppId| Permit { app: app.clone(), not_before: TIME, not_after: LATER };
        let head = Head {
            cluster: self.fleet.cluster.clone(),
            incarnation: Incarnation::new([1; 16]),
            order: Order { epoch: Epoch(1), seq: state.seq },
            desired: Digest::of(&state.desired),
            root_version: 1,
            hub_time: TIME,
            fresh_until: TIME.plus(limits::HEAD_FRESH_SECONDS),
            permits: state.apps.iter().map(permit).collect(),
            nonce,
        };
        vec![
            message(Downward::Head, self.fleet.sign(&head)),
            message(Downward::Desired, state.desired.clone()),
        ]
    }

    fn pieces(&self, want: &Want) -> Vec<FromHub> {
        let state = self.state.borrow();
        let content = &state.content[&(want.target, want.encoding)];
        let pieces = content[want.offset as usize..].chunks(limits::CHUNK_BYTES).enumerate();
        let pieces = pieces.take(limits::WINDOW_CHUNKS).map(|(index, bytes)| Chunk {
            target: want.target,
            encoding: want.encoding,
            total: content.len() as u64,
            offset: want.offset + (index * limits::CHUNK_BYTES) as u64,
            bytes: bytes.to_vec(),
        });
        pieces.map(|piece| message(Downward::Blob, piece.encode())).collect()
    }

    fn store(&self, report: &Report) -> FromHub {
        let mut state = self.state.borrow_mut();
        state.reports.extend(report.apps.iter().map(|app| (app.app.clone(), app.clone())));
        state.conditions = report.conditions.iter().map(|condition| condition.kind.to_string()).collect();
        let held = state.reports.values().filter(|report| report.state != AppState::Removed);
        let ack = Ack {
            cluster: self.fleet.cluster.clone(),
            journal: report.journal,
            report_seq: report.report_seq,
            digest: Report::digest_of(held),
        };
        message(Downward::Ack, self.fleet.sign(&ack))
    }
}

fn message(topic: Downward, bytes: Vec<u8>) -> FromHub {
    FromHub::Message { topic, bytes, receipt: Receipt::default() }
}

/// Waits until a level is reached; what stands in its way is said if it never is.
#[allow(clippy::disallowed_methods, reason = "looks at a level until it is reached, within a deadline")]
pub(crate) async fn reached(mut level: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3600);
    while let Err(found) = level().await {
        assert!(tokio::time::Instant::now() < deadline, "{found}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether a level is reached, or what there is instead.
pub(crate) fn expect(holds: bool, found: &impl std::fmt::Debug) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{found:#?}")) }
}
