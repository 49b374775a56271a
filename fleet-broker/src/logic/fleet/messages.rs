//! What clusters say. Whatever is not signed by the cluster's own key changes nothing.

use protocol::{
    documents::{self, Chunk, Encoding, Hello, Report, Want},
    ids::{AppId, ClusterId, Digest},
    kept::ReportParts,
    keys::PublicKey,
    limits,
    planted::Bug,
    time::{Now, UnixSeconds},
    topics::{Downward, Upward},
    verify::{self, ByCluster, Verified},
};

use super::{
    Changed, Cluster, Effect, Event, Fleet,
    reported::{self, Reported},
};

/// Messages that are best verified together, before any of them is handled: what a signature needs stays in the
/// processor's nearest caches, as it does not beside a fleet's state, and so do as many verified reports.
pub const HEARD_AT_ONCE: usize = 32;

/// What a cluster said, and the key that signed it.
#[derive(Debug, Clone)]
pub struct Heard {
    key: PublicKey,
    message: Message,
    /// Its envelope, of which parts are kept.
    envelope: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Message {
    Hello(Verified<Hello>),
    Want(Verified<Want>),
    Report(Verified<Report>),
    /// What it says of itself is verified with what it is an answer to.
    Held,
}

impl Fleet {
    /// Verifies what a cluster said, if this is that, and changes nothing: see [`HEARD_AT_ONCE`].
    pub fn hear(&self, event: Event) -> Event {
        let Event::Said(id, topic, bytes) = event else { return event };
        match self.open(&id, topic, bytes) {
            Ok(heard) => Event::Heard(id, heard),
            Err(bytes) => Event::Said(id, topic, bytes),
        }
    }

    /// Whatever is not signed by the key that the cluster joined with is nothing, and of who is not let in no signature
    /// is looked at. The will, which is empty, is nothing too: that the connection is gone, the transport says by itself.
    ///
    /// # Errors
    /// The bytes, when they are nothing.
    fn open(&self, id: &ClusterId, topic: Upward, bytes: Vec<u8>) -> Result<Heard, Vec<u8>> {
        let cluster = self.clusters.get(id).filter(|cluster| cluster.is_let_in(&self.revoked));
        let Some(key) = cluster.and_then(|cluster| cluster.identity) else { return Err(bytes) };
        let message = match topic {
            Upward::Hello => self.verify(id, &key, &bytes).map(Message::Hello),
            Upward::Want => self.verify(id, &key, &bytes).map(Message::Want),
            Upward::Report => self.verify(id, &key, &bytes).map(Message::Report),
            Upward::Held => Some(Message::Held),
        };
        match message {
            Some(message) => Ok(Heard { key, message, envelope: bytes }),
            None => Err(bytes),
        }
    }

    pub(super) fn said(
        &mut self,
        now: Now,
        id: &ClusterId,
        topic: Upward,
        bytes: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        if let Ok(heard) = self.open(id, topic, bytes) {
            self.heard(now, id, heard, effects);
        }
    }

    /// What a connection that is being ended still says is not listened to, nor what was verified by a key that is the
    /// cluster's no longer.
    pub(super) fn heard(&mut self, now: Now, id: &ClusterId, heard: Heard, effects: &mut Vec<Effect>) {
        let Heard { key, message, envelope } = heard;
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        if !cluster.connected || !cluster.is_let_in(&self.revoked) || cluster.identity != Some(key) {
            return;
        }
        match message {
            Message::Hello(hello) => self.hello(now, id, &hello, effects),
            Message::Want(want) => self.want(id, &want, effects),
            Message::Held => self.held_came(now, id, &envelope, effects),
            // A cluster is looked up once for a report: of ten thousand, that takes a part of its time.
            Message::Report(report) => {
                let before = cluster.report.as_ref();
                let former = before.is_some_and(|before| before.past.contains(&report.journal));
                if former && !Bug::FormerLifeTaken.is_planted() {
                    return self.end_life(id, report.journal, effects);
                }
                let overtaken = before.is_some_and(|before| before.is_newer_than(&report));
                if overtaken && !Bug::OldReportTaken.is_planted() {
                    let unanswered = cluster.unanswered();
                    self.changed.acknowledge(id, cluster);
                    // An old disk reports less than was reported before: what it holds is still to be learned.
                    let Some(nonce) = unanswered else { return };
                    return self.ask_for_held(now, id, nonce, effects);
                }
                let signed = cluster.signed.as_ref().map(|signed| signed.desired.order);
                let is_unknown = !cluster.ahead && signed.unwrap_or_default() < report.order;
                let again =
                    cluster.take_report(&mut self.changed, now, id, (&report, &envelope), None, effects);
                self.heartbeat(now, id, again, effects);
                if is_unknown && self.clusters.get(id).is_some_and(|cluster| self.has_met(cluster)) {
                    // Somebody else signs with this hub's key. Who connects anew says what it holds.
                    effects.push(Effect::Kick(id.clone()));
                }
            }
        }
    }

    pub(super) fn verify<T: ByCluster>(
        &self,
        id: &ClusterId,
        key: &PublicKey,
        bytes: &[u8],
    ) -> Option<Verified<T>> {
        verify::by_cluster(&self.trust.root().fleet, id, key, bytes).ok()
    }

    fn hello(&mut self, now: Now, id: &ClusterId, hello: &Hello, effects: &mut Vec<Effect>) {
        self.touch_observed();
        if let Some(cluster) = self.clusters.get_mut(id) {
            cluster.reads_together = hello.documents.contains(&documents::WITH_ACKS_TOGETHER);
        }
        if !self.meet(now, id, hello, effects) {
            return;
        }
        self.renew_desired(now, id, hello.desired, effects);
        let held = self.clusters.get(id).and_then(|cluster| cluster.signed.as_ref());
        let newer = held.is_some_and(|signed| hello.desired != Some(signed.desired.digest()));
        self.send_news(now, id, Some(hello.nonce), newer, effects);
    }

    /// What a cluster does not hold is signed anew if it is too old to be installed, or soon will be.
    fn renew_desired(&mut self, now: Now, id: &ClusterId, held: Option<Digest>, effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get(id) else { return };
        let behind = cluster.signed.as_ref().is_some_and(|signed| {
            let half = limits::INSTALL_BY_SECONDS / 2;
            let old = signed.desired.install_by.since(now.wall) < half;
            old && !self.is_paused() && held != Some(signed.desired.digest())
        });
        if cluster.signed.is_none() || behind {
            // The first desired state may be empty: the head needs one. An old one fitted before, and if its numbers
            // outgrew it, it stays.
            drop(self.sign_desired(now, id, &[], effects));
        }
    }

    fn want(&self, id: &ClusterId, want: &Want, effects: &mut Vec<Effect>) {
        match want.encoding {
            Encoding::Plain => self.send_release(id, want, effects),
            Encoding::Zstd | Encoding::ZstdDelta => effects.push(Effect::SendContent {
                cluster: id.clone(),
                target: want.target,
                encoding: Encoding::Zstd,
                offset: want.offset,
            }),
        }
    }

    /// Release envelopes are at hand: no blob is read for them.
    fn send_release(&self, id: &ClusterId, want: &Want, effects: &mut Vec<Effect>) {
        let known = self.bundles.values().flatten().find(|release| release.verified.digest() == want.target);
        let bytes = known.map_or(&[][..], |release| &*release.bytes);
        let start = usize::try_from(want.offset).unwrap_or(usize::MAX).min(bytes.len());
        let chunks = window(want.target, Encoding::Plain, bytes.len() as u64, start as u64, &bytes[start..]);
        let push = |chunk: &Chunk| Effect::Push(id.clone(), Downward::Blob, chunk.encode());
        effects.extend(chunks.iter().map(push));
    }

    /// Takes a report that was made at a time and carried here, and is not older than what is held.
    pub(super) fn take_carried_report(
        &mut self,
        now: Now,
        id: &ClusterId,
        report: (&Verified<Report>, &[u8]),
        made: UnixSeconds,
        effects: &mut Vec<Effect>,
    ) {
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        let again = cluster.take_report(&mut self.changed, now, id, report, Some(made), effects);
        self.heartbeat(now, id, again, effects);
    }

    fn heartbeat(&mut self, now: Now, id: &ClusterId, again: Option<Again>, effects: &mut Vec<Effect>) {
        let Some(Again { drifted }) = again else { return };
        if drifted {
            let said = self.said_last(id);
            self.show_cluster(id, said.as_ref(), effects);
        }
        let Some(cluster) = self.clusters.get(id) else { return };
        if let Some(nonce) = cluster.unanswered().filter(|_| !Bug::HeldAskedOnce.is_planted()) {
            // What it was asked for may be lost, on a connection that stays up.
            return self.ask_for_held(now, id, nonce, effects);
        }
        let (signed, report) = (cluster.signed.as_ref(), cluster.report.as_ref());
        let behind = signed.map(|signed| signed.desired.order) > report.map(|report| report.order);
        if behind && self.has_met(cluster) && !Bug::NewsSaidOnce.is_planted() {
            // It names an older desired state than was signed, so it missed the news.
            self.renew_desired(now, id, None, effects);
            self.send_news(now, id, None, true, effects);
        }
    }
}

/// A report that says what the one before it said.
struct Again {
    /// Whether the cluster's clock is, or was, so far from the hub's that people are to see it.
    drifted: bool,
}

impl Cluster {
    /// Takes a report that is not older than what is held, and says if it is a heartbeat.
    fn take_report(
        &mut self,
        changed: &mut Changed,
        now: Now,
        id: &ClusterId,
        (report, envelope): (&Verified<Report>, &[u8]),
        carried: Option<UnixSeconds>,
        effects: &mut Vec<Effect>,
    ) -> Option<Again> {
        changed.acknowledge(id, self);
        let parts = ReportParts::of(report, envelope).expect("it was verified in this envelope");
        if let Some(held) = self.report.as_mut().filter(|held| held.says_the_same(report, &parts, carried)) {
            return Some(Again { drifted: held.say_again(report, now) });
        }
        changed.touch_reported(id, self, report);
        let (held, stored) = Reported::after(self.report.as_ref(), report, &parts, now, carried);
        if !Bug::AckWithoutStore.is_planted() {
            effects.push(Effect::Store(vec![reported::document(id, stored)]));
        }
        self.tell_report(id, report, effects);
        self.report = Some(held);
        None
    }
}

impl Changed {
    /// A cluster is to hear what is held of its reports.
    pub(super) fn acknowledge(&mut self, id: &ClusterId, cluster: &mut Cluster) {
        if !std::mem::replace(&mut cluster.awaits_ack, true) {
            self.heard.push(id.clone());
        }
    }

    /// Applications that `report` speaks of are counted again, and those whose entry it now speaks of, unlike the one
    /// before it.
    fn touch_reported(&mut self, id: &ClusterId, cluster: &Cluster, report: &Report) {
        let same_life = cluster.report.as_ref().filter(|before| before.journal == report.journal);
        let last = same_life.map(|before| before.order);
        let entries = cluster.signed.iter().flat_map(|signed| signed.entries());
        let newly_told = entries.filter(|(_, since)| {
            last.is_none_or(|last| last < *since && !Bug::NewlyToldUncounted.is_planted())
        });
        let apps = newly_told.map(|(app, _)| app).chain(report.apps.iter().map(|report| &report.app));
        // Most are there already: of those no copy is made.
        for app in apps {
            if !self.later.contains(app) {
                self.later.insert(app.clone());
            }
        }
        self.clusters.insert(id.clone());
    }
}

/// Cuts `bytes`, which stand at `offset` of content of `total` bytes, into pieces, one window at most. Content that
/// is not there has a total of zero. Beyond the end there is one empty piece: who asked hears how long it is.
pub fn window(target: Digest, encoding: Encoding, total: u64, offset: u64, bytes: &[u8]) -> Vec<Chunk> {
    if bytes.is_empty() {
        return vec![Chunk { target, encoding, total, offset: offset.min(total), bytes: Vec::new() }];
    }
    let pieces = bytes.chunks(limits::CHUNK_BYTES).take(limits::WINDOW_CHUNKS).enumerate();
    pieces
        .map(|(index, piece)| {
            let offset = offset + (index * limits::CHUNK_BYTES) as u64;
            Chunk { target, encoding, total, offset, bytes: piece.to_vec() }
        })
        .collect()
}

impl Cluster {
    /// Whether an application that was to be removed is. With no report of it, a cluster that holds the newest
    /// desired state has it removed, or never had it.
    pub(super) fn is_rid_of(&self, app: &AppId) -> bool {
        let (Some(signed), Some(report)) = (&self.signed, &self.report) else { return false };
        report.order >= signed.desired.order && report.app(app).is_none()
    }
}
