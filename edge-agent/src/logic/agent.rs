//! The agent's state machine. [`Agent::handle`] takes one event, brings the state up to date, and then looks at
//! levels only ([`Agent::settle`]): what is desired, what is there, what is under way, what time it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use protocol::{
    codec, cose,
    documents::{Condition, Desired, Document, DocumentType, Head},
    freshness::TrustedTime,
    ids::{AppId, ClusterId, Digest, FleetId, Incarnation, JournalId, Nonce},
    keys::SigningKey,
    limits,
    order::Held,
    planted::Bug,
    time::{Now, UnixSeconds},
    topics::Downward,
    verify::{Trust, Verified},
};

use super::{
    app::{App, Failed, Found, ObjectState},
    entry::{Entry, Hold, Key, Row},
    event::{Command, Effect, Event, How, Observation, StepId},
    object::{Gvk, ObjectRef},
    plan::{self},
    report::{self, Outbox},
    restore::Releases,
    transfer::Transfers,
};

/// Steps under way at once: enough to hide an API server's latency, few enough for a small one.
pub const STEPS: usize = 8;

/// Bytes of manifests in such steps together: an object stands in memory as a tree of several times its bytes when it
/// is sent, and again when the answer comes. One that is larger goes alone.
pub const STEP_BYTES: u64 = 1 << 20;

/// Kinds of refused documents that are remembered for the report.
const ALARMS: usize = 16;

/// What an agent is told once.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Which cluster it keeps.
    pub cluster: ClusterId,
    /// Which fleet it belongs to.
    pub fleet: FleetId,
    /// The key its reports are signed with.
    pub key: Arc<SigningKey>,
    /// Version of the program.
    pub version: &'static str,
    /// How often it reports when nothing changes.
    pub heartbeat: Duration,
}

/// The agent's state.
#[derive(Debug)]
pub struct Agent {
    pub(super) identity: Identity,
    pub(super) trust: Trust,
    pub(super) time: TrustedTime,
    pub(super) journal: JournalId,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) desired: Option<Verified<Desired>>,
    /// Its envelope: what a hub is shown that knows another.
    pub(super) envelope: Vec<u8>,
    pub(super) held: Option<Held>,
    pub(super) link: Link,
    /// The newest head that may start a change, for the desired state that is held.
    pub(super) head: Option<Verified<Head>>,
    /// A head that came by hand, and whose desired state has not come yet.
    pub(super) brought: Option<Verified<Head>>,
    pub(super) apps: BTreeMap<AppId, App>,
    pub(super) releases: Releases,
    pub(super) transfers: Transfers,
    pub(super) outbox: Outbox,
    pub(super) alarms: BTreeMap<&'static str, Alarm>,
    pub(super) hold: Option<Hold>,
    pub(super) steps: BTreeMap<StepId, Running>,
    pub(super) next_step: u64,
    pub(super) watched: Vec<Gvk>,
    /// Of these, the kinds that somebody has to do something about, and why.
    pub(super) blind: BTreeMap<Gvk, String>,
    pub(super) outage: Option<Failed>,
    /// Outages in a row without a step that succeeded between them.
    pub(super) outage_times: u32,
    /// When the next permit of what is staged begins, in monotonic time.
    pub(super) permit_at: Option<Duration>,
    /// Version of the API server, as it said last; empty while it did not.
    pub(super) kubernetes: String,
    /// Asking for its version is also how to find out whether it is there, while there is nothing else to ask for.
    pub(super) probe: Probe,
    pub(super) heartbeat_at: Duration,
    /// What is wrong with the journal.
    pub(super) journal_troubles: Vec<Condition>,
}

/// A connection to the hub.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The connection's challenge; none while there is no connection.
    pub(super) nonce: Option<Nonce>,
    /// The hub's time in the newest head of this connection.
    pub(super) last_head: Option<UnixSeconds>,
    /// A head whose desired state has not come yet.
    pub(super) awaited: Option<Verified<Head>>,
    /// Whether the hub was shown what is held since the last report: once is enough, however often a broker repeats the head.
    pub(super) shown: bool,
    /// Until a head answers the challenge, hello is said again: on a connection that stays up a lost answer would
    /// otherwise keep every change away.
    pub(super) unanswered: Option<Unanswered>,
}

/// A hello that no head has answered yet.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// When it is said again, in monotonic time.
    pub(super) at: Duration,
    /// How long was waited for an answer last.
    pub(super) waited: Duration,
}

/// Documents that were refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) count: u64,
    pub(super) message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    Due,
    Asked,
    Answered,
}

#[derive(Debug)]
pub(super) enum Running {
    Object { app: AppId, object: ObjectRef, work: Work },
    Parent(AppId),
    DeleteParent(AppId),
    Check(Digest),
    Version,
}

#[derive(Debug)]
pub(super) enum Work {
    Inspect,
    Apply { source: Digest, how: How },
    Delete,
}

impl Agent {
    /// A new agent with an empty journal, and the rows to write into it.
    pub fn new(identity: Identity, trust: Trust, journal: JournalId) -> (Self, Vec<Entry>) {
        let agent = Self {
            identity,
            trust,
            time: TrustedTime::restore(UnixSeconds(0)),
            journal,
            incarnation: None,
            desired: None,
            envelope: Vec::new(),
            held: None,
            link: Link::default(),
            head: None,
            brought: None,
            apps: BTreeMap::new(),
            releases: Releases::new(),
            transfers: Transfers::default(),
            outbox: Outbox::default(),
            alarms: BTreeMap::new(),
            hold: None,
            steps: BTreeMap::new(),
            next_step: 0,
            watched: Vec::new(),
            blind: BTreeMap::new(),
            outage: None,
            outage_times: 0,
            permit_at: None,
            kubernetes: String::new(),
            probe: Probe::Due,
            heartbeat_at: Duration::ZERO,
            journal_troubles: Vec::new(),
        };
        (agent, vec![Entry::Put(Row::Life(journal))])
    }

    /// What happened, and what is to be done about it.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Connected { nonce } => self.connected(now, nonce, &mut effects),
            Event::Disconnected { .. } => {
                let last_head = self.link.last_head.filter(|_| Bug::ConnectionRemembered.is_planted());
                self.link = Link { last_head, ..Link::default() };
            }
            Event::Received { topic, bytes } => self.received(now, topic, &bytes, &mut effects),
            Event::Observed(observation) => self.observed(now, observation),
            Event::StepDone { id, outcome } => self.step_done(now, id, outcome, &mut effects),
            Event::Command(command) => self.command(now, command, &mut effects),
            Event::Carried(carried) => self.carried(now, carried, &mut effects),
            Event::Journal(troubles) => {
                self.journal_troubles = troubles;
                self.outbox.gather(now.monotonic);
            }
            Event::Tick => {}
        }
        self.settle(now, &mut effects);
        effects
    }

    /// When to send a [`Event::Tick`] if nothing else happens, in monotonic time. What was due by `now`, the time
    /// of the last event, and is still open waits for something else than time.
    pub fn next_time(&self, now: Duration) -> Duration {
        let outage = self.outage.as_ref().map(|failed| failed.retry_at);
        let apps = self.apps.values().filter_map(|app| plan::next_time(app, now));
        let apps = apps.filter(|_| outage.is_none());
        let transfer = self.link.nonce.and_then(|_| self.transfers.next_time(&self.needs()));
        let resend = self.link.nonce.and(self.outbox.resend_at);
        let outbox = self.outbox.flush_at.into_iter().chain(resend);
        let hello = self.link.unanswered.as_ref().map(|hello| hello.at);
        let waits = outage.into_iter().chain(transfer).chain(outbox).chain(self.permit_at).chain(hello);
        let times = apps.chain(waits).chain([self.heartbeat_at]);
        times.filter(|at| *at > now).min().unwrap_or(Duration::MAX)
    }

    /// Rows of the inventory, over all applications.
    pub fn owned(&self) -> usize {
        self.apps.values().map(|app| app.inventory.len()).sum()
    }

    /// Why nobody changes this site, if somebody holds it.
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// The applications and how they are.
    pub fn apps(&self) -> &BTreeMap<AppId, App> {
        &self.apps
    }

    /// The desired state that is held.
    pub fn desired(&self) -> Option<&Verified<Desired>> {
        self.desired.as_ref()
    }

    /// Reports that the hub does not have yet; one for each application at most.
    pub fn reports_waiting(&self) -> usize {
        let rows = self.apps.values().filter_map(|app| app.report.as_ref());
        rows.filter(|row| row.seq > self.outbox.acked).count()
    }

    /// Whether there is a connection to the hub.
    pub fn is_connected(&self) -> bool {
        self.link.nonce.is_some()
    }

    /// The cluster's own conditions.
    pub fn conditions(&self) -> Vec<Condition> {
        let mut conditions = vec![match &self.outage {
            Some(failed) => {
                report::condition("KubernetesReady", false, &failed.failure.reason, &failed.failure.message)
            }
            None => report::condition("KubernetesReady", true, "Answering", ""),
        }];
        if let Some(hold) = &self.hold {
            conditions.push(report::condition("Held", true, "HeldAtSite", &hold.reason));
        }
        for (reason, alarm) in &self.alarms {
            let message = format!("{} times, last: {}", alarm.count, alarm.message);
            conditions.push(report::condition(&format!("Refused{reason}"), true, reason, &message));
        }
        if let Some((kind, why)) = self.blind.first_key_value() {
            let more = self.blind.len() - 1;
            let more = if more > 0 { format!(" (and of {more} more)") } else { String::new() };
            let message = report::cut(&format!("changes of {kind}{more} are not seen: {why}"));
            conditions.push(report::condition("WatchFailed", true, "NotWatched", &message));
        }
        conditions.extend(self.journal_troubles.iter().cloned());
        conditions
    }

    /// Remembers that a document was refused, and has it reported. Nothing else changes.
    pub(super) fn alarm(&mut self, now: Now, reason: &'static str, message: String) {
        if self.alarms.len() >= ALARMS && !self.alarms.contains_key(reason) {
            return;
        }
        let alarm = self.alarms.entry(reason).or_insert(Alarm { count: 0, message: String::new() });
        alarm.count += 1;
        alarm.message = report::cut(&message);
        self.outbox.gather(now.monotonic);
    }

    /// Signs a document of this cluster.
    pub(super) fn sign<T: Document>(&self, document: &T) -> Vec<u8> {
        let Identity { fleet, cluster, key, .. } = &self.identity;
        let kind: DocumentType = T::TYPE;
        cose::sign_one(cose::Binding { kind, fleet, cluster: Some(cluster) }, &codec::encode(document), key)
    }

    fn received(&mut self, now: Now, topic: Downward, bytes: &[u8], effects: &mut Vec<Effect>) {
        if bytes.len() > limits::MESSAGE_BYTES {
            return self.alarm(now, "Oversized", format!("{topic:?}: {} bytes", bytes.len()));
        }
        match topic {
            Downward::Head => self.head_came(now, bytes, effects),
            Downward::Desired => self.desired_came(now, bytes, effects),
            Downward::Blob => self.piece_came(now, bytes, effects),
            Downward::Ack => self.ack_came(now, bytes, effects),
            // Rotation is decided in the documents and comes with a later version of the agent.
            Downward::Root | Downward::Ask => {}
        }
    }

    fn command(&mut self, now: Now, command: Command, effects: &mut Vec<Effect>) {
        let entry = match command {
            Command::Hold { reason } => {
                let hold = Hold { reason: report::cut(&reason), since: self.time.now(now) };
                self.hold = Some(hold.clone());
                Entry::Put(Row::Hold(hold))
            }
            Command::Release => {
                self.hold = None;
                Entry::Drop(Key::Hold)
            }
        };
        effects.push(Effect::Record(vec![entry]));
        self.outbox.gather(now.monotonic);
    }

    fn observed(&mut self, now: Now, observation: Observation) {
        match observation {
            Observation::Listing(kind) => self.each_state(&kind, |_, state| {
                state.listed &= Bug::ListedBeforeCounts.is_planted();
            }),
            Observation::Synced(kind) => {
                self.each_state(&kind, |owned, state| {
                    // What is ours and was not named is gone; looking at it makes sure.
                    state.stale |= owned && !state.listed && !matches!(state.found, Found::Absent);
                });
                if self.blind.remove(&kind).is_some() {
                    self.outbox.gather(now.monotonic);
                }
            }
            Observation::Changed(seen) => self.each_named(&seen.object, |state| {
                state.listed = true;
                let known =
                    state.inspection().is_some_and(|found| found.resource_version == seen.resource_version);
                state.stale |= !known;
            }),
            Observation::Gone(_) if Bug::DeletionNotSeen.is_planted() => {}
            Observation::Gone(seen) => self.each_named(&seen.object, |state| state.stale = true),
            Observation::Interrupted => {
                if self.probe == Probe::Answered {
                    self.probe = Probe::Due;
                }
            }
            Observation::Blind(kind, why) => {
                let is_watched = self.watched.contains(&kind);
                if is_watched && self.blind.insert(kind, why.clone()).as_ref() != Some(&why) {
                    self.outbox.gather(now.monotonic);
                }
            }
        }
    }

    fn each_state(&mut self, kind: &Gvk, change: impl Fn(bool, &mut ObjectState)) {
        for app in self.apps.values_mut() {
            let (inventory, objects) = (&app.inventory, &mut app.objects);
            for (object, state) in objects.iter_mut().filter(|(object, _)| &object.gvk == kind) {
                change(inventory.contains_key(object), state);
            }
        }
    }

    fn each_named(&mut self, object: &ObjectRef, change: impl Fn(&mut ObjectState)) {
        self.apps.values_mut().filter_map(|app| app.objects.get_mut(object)).for_each(change);
    }
}
