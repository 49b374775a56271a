//! A cluster that believes only what is rightly signed, and answers as an agent would.

use std::collections::BTreeMap;

use protocol::{
    codec,
    cose::{self, Binding},
    documents::{
        self, Ack, AppReport, AppState, CarryHead, Chunk, Condition, ConditionStatus, Counts, Desired, Head,
        Hello, ObjectMessage, Preview, Rejection, ReleaseRef, Report,
    },
    ids::{AppId, ClusterId, Digest, Incarnation, JournalId, Nonce},
    keys::SigningKey,
    order::{self, Admission, Epoch, Held},
    time::UnixSeconds,
    topics::Downward,
    verify::{ByCluster, Trust, Verified},
};

use super::super::carry::Export;
use super::bench::{DAY, START, fleet_id, key, trust};

/// The half of an agent that talks to the hub. What it must not get fails the test.
pub(super) struct TestCluster {
    pub(super) id: ClusterId,
    pub(super) key: SigningKey,
    trust: Trust,
    pub(super) journal: JournalId,
    pub(super) seq: u64,
    acked: u64,
    nonces: u8,
    pub(super) connected: bool,
    /// Whether its hub may have lost its reports: then it says everything again.
    pub(super) forgiving: bool,
    /// What goes missing on the way: everything it is sent.
    pub(super) deaf: bool,
    challenge: Option<Nonce>,
    pub(super) head: Option<Verified<Head>>,
    awaited: Option<Verified<Head>>,
    pub(super) held: Option<Held>,
    pub(super) desired: Option<Verified<Desired>>,
    /// Its envelope.
    pub(super) envelope: Vec<u8>,
    /// The hub's life that it agrees with.
    pub(super) incarnation: Option<Incarnation>,
    /// What it has to show to the hub, which knows another desired state.
    pub(super) shows: Option<Vec<u8>>,
    /// How whatever it runs does.
    pub(super) mood: AppState,
    /// Versions of documents that its agent knows.
    pub(super) documents: Vec<u16>,
    pub(super) apps: BTreeMap<AppId, (u64, AppReport)>,
    pub(super) acks: Vec<Ack>,
    pub(super) chunks: Vec<Chunk>,
}

impl TestCluster {
    pub(super) fn new(id: ClusterId, seed: u8) -> Self {
        Self {
            id,
            key: key(seed),
            trust: trust(),
            journal: JournalId::new([seed; 16]),
            seq: 0,
            acked: 0,
            nonces: 0,
            connected: false,
            forgiving: false,
            deaf: false,
            challenge: None,
            head: None,
            awaited: None,
            held: None,
            desired: None,
            envelope: Vec::new(),
            incarnation: None,
            shows: None,
            mood: AppState::Available,
            documents: documents::VERSIONS.to_vec(),
            apps: BTreeMap::new(),
            acks: Vec::new(),
            chunks: Vec::new(),
        }
    }

    pub(super) fn sign<T: ByCluster + serde::Serialize>(&self, document: &T) -> Vec<u8> {
        self.sign_as(document, &self.key)
    }

    pub(super) fn sign_as<T: ByCluster + serde::Serialize>(&self, document: &T, key: &SigningKey) -> Vec<u8> {
        let binding = Binding { kind: T::TYPE, fleet: &fleet_id(), cluster: Some(&self.id) };
        cose::sign_one(binding, &codec::encode(document), key)
    }

    pub(super) fn cut(&mut self) {
        (self.connected, self.challenge, self.awaited, self.shows) = (false, None, None, None);
    }

    pub(super) fn permits(&self) -> Vec<String> {
        self.head.iter().flat_map(|head| &head.permits).map(|permit| permit.app.name.to_string()).collect()
    }

    pub(super) fn hello(&mut self) -> Vec<u8> {
        self.nonces += 1;
        let nonce = Nonce::new([self.nonces; 16]);
        self.challenge = Some(nonce);
        self.sign(&Hello {
            cluster: self.id.clone(),
            journal: self.journal,
            documents: self.documents.clone(),
            root_version: 1,
            incarnation: self.incarnation,
            order: self.held.map(|held| held.order).unwrap_or_default(),
            desired: self.held.map(|held| held.digest),
            nonce,
            clock: START,
            agent: "1".to_owned(),
        })
    }

    pub(super) fn take(&mut self, topic: Downward, bytes: &[u8]) {
        assert!(self.connected, "{} is sent {topic:?} while it is not connected", self.id);
        if self.deaf {
            return;
        }
        match topic {
            Downward::Head => self.take_head(self.trust.director(&self.id, bytes).unwrap()),
            Downward::Desired => self.take_desired(self.trust.director(&self.id, bytes).unwrap(), bytes),
            Downward::Ack => self.take_ack(&self.trust.ack(&self.id, bytes).unwrap()),
            Downward::Blob => self.chunks.push(Chunk::decode(bytes).unwrap()),
            Downward::Root | Downward::Ask => panic!("the hub sends no {topic:?} yet"),
        }
    }

    /// What somebody carried here comes.
    pub(super) fn bring(&mut self, export: &Export) {
        let head: Verified<CarryHead> = self.trust.director(&self.id, &export.head).unwrap();
        self.awaited = Some(head.into_head());
        self.take_desired(self.trust.director(&self.id, &export.desired).unwrap(), &export.desired);
    }

    fn take_head(&mut self, head: Verified<Head>) {
        assert!(head.nonce.is_none() || head.nonce == self.challenge, "answers another challenge");
        let named = Held { order: head.order, digest: head.desired };
        let other_life = self.incarnation.is_some_and(|known| known != head.incarnation);
        assert!(!other_life || head.nonce.is_some(), "another life that does not answer the challenge");
        match self.held {
            Some(held) if held == named => {
                self.incarnation = Some(head.incarnation);
                self.head = Some(head);
            }
            Some(held) if other_life || (held.order >= named.order && head.nonce.is_some()) => {
                self.shows = Some(self.envelope.clone());
                self.awaited = Some(head).filter(|_| named.order > held.order);
            }
            Some(held) => {
                assert!(named.order > held.order, "{:?} after {held:?}", named);
                self.awaited = Some(head);
            }
            None => self.awaited = Some(head),
        }
    }

    fn take_desired(&mut self, desired: Verified<Desired>, bytes: &[u8]) {
        let incoming = Held { order: desired.order, digest: desired.digest() };
        match order::admit(self.held, Epoch(1), incoming, desired.prev).unwrap() {
            Admission::Same => return,
            Admission::New { broken_chain } => assert!(!broken_chain, "prev names what is held"),
        }
        let head = self.awaited.take().expect("a head announces a desired state");
        assert_eq!((head.order, head.desired), (incoming.order, incoming.digest));
        assert_eq!(desired.install_by, desired.issued.plus(30 * DAY));
        self.incarnation = Some(head.incarnation);
        self.envelope = bytes.to_vec();
        (self.held, self.head) = (Some(incoming), Some(head));
        for release in &desired.releases {
            self.note(self.mood_of(&release.app, release.release));
        }
        for app in
            desired.remove.iter().filter(|app| self.apps.contains_key(*app)).cloned().collect::<Vec<_>>()
        {
            let removed = AppReport { state: AppState::Removed, ..self.apps[&app].1.clone() };
            self.note(removed);
        }
        self.desired = Some(desired);
    }

    fn take_ack(&mut self, ack: &Ack) {
        self.acks.push(ack.clone());
        if ack.journal != self.journal {
            return;
        }
        self.acked = self.acked.max(ack.report_seq);
        if self.acked == self.seq {
            if ack.digest != self.digest() {
                assert!(self.forgiving, "the hub holds what the cluster holds");
                self.acked = 0;
                return;
            }
            self.apps.retain(|_, (_, report)| report.state != AppState::Removed);
        }
    }

    /// Changes how an application is; nothing happens where that is as it was.
    pub(super) fn note(&mut self, report: AppReport) {
        if self.apps.get(&report.app).is_none_or(|(_, before)| before != &report) {
            self.seq += 1;
            self.apps.insert(report.app.clone(), (self.seq, report));
        }
    }

    /// Everything it runs now does as `mood` says.
    pub(super) fn feel(&mut self, mood: AppState) {
        self.mood = mood;
        let releases = self.desired.iter().flat_map(|desired| desired.releases.clone()).collect::<Vec<_>>();
        for release in releases {
            self.note(self.mood_of(&release.app, release.release));
        }
    }

    fn mood_of(&self, app: &AppId, release: Digest) -> AppReport {
        let reference = ReleaseRef { digest: release, version: "1".into(), counter: 1 };
        let refused = self.mood == AppState::Rejected;
        let worst = (self.mood == AppState::Degraded).then(|| ObjectMessage {
            object: "Deployment radio/gateway".to_owned(),
            reason: "ImagePullBackOff".to_owned(),
            message: "no such image".to_owned(),
        });
        let status = match self.mood {
            AppState::Available => ConditionStatus::True,
            AppState::Degraded | AppState::Rejected => ConditionStatus::False,
            AppState::Pending
            | AppState::Applying
            | AppState::Progressing
            | AppState::Removing
            | AppState::Removed
            | AppState::Observed => ConditionStatus::Unknown,
        };
        AppReport {
            app: app.clone(),
            state: self.mood,
            accepted: (!refused).then(|| reference.clone()),
            applied: (!refused).then_some(reference),
            reverted: None,
            rejected: refused.then(|| Rejection {
                digest: release,
                reason: "OutOfScope".to_owned(),
                message: "beyond its keys".to_owned(),
            }),
            conditions: vec![Condition {
                kind: "Available".into(),
                status,
                reason: "AsSaid".into(),
                message: String::new(),
            }],
            worst,
            counts: Counts::default(),
            drift: Vec::new(),
            preview: (self.mood == AppState::Observed).then(|| Preview { change: 2, ..Preview::default() }),
        }
    }

    fn digest(&self) -> Digest {
        let reports = self.apps.values().map(|(_, report)| report);
        Report::digest_of(reports.filter(|report| report.state != AppState::Removed))
    }

    /// All that was not acknowledged, signed.
    pub(super) fn next_report(&self, wall: UnixSeconds) -> Vec<u8> {
        self.sign(&self.unsigned_report(wall))
    }

    pub(super) fn unsigned_report(&self, wall: UnixSeconds) -> Report {
        let mut news: Vec<&(u64, AppReport)> =
            self.apps.values().filter(|(seq, _)| *seq > self.acked).collect();
        news.sort_by_key(|(seq, _)| *seq);
        news.truncate(Report::APPS);
        Report {
            cluster: self.id.clone(),
            journal: self.journal,
            report_seq: news.last().map_or(self.seq, |(seq, _)| *seq),
            order: self.held.map(|held| held.order).unwrap_or_default(),
            digest: self.digest(),
            apps: news.into_iter().map(|(_, report)| report.clone()).collect(),
            conditions: Vec::new(),
            clock: wall,
            kubernetes: "v1.35.1".into(),
            agent: "1".into(),
        }
    }

    /// Its disk was lost: another life, in which nothing was sent yet.
    pub(super) fn be_reborn(&mut self, life: u8) {
        self.journal = JournalId::new([life; 16]);
        self.acked = 0;
    }
}
