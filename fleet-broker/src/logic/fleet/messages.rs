//! What clusters say. Whatever is not signed by the cluster's own key changes nothing.

use protocol::{
    documents::{self, Chunk, Encoding, Hello, Report, Want},
    ids::{AppId, ClusterId, Digest},
    keys::PublicKey,
    limits,
    time::{Now, UnixSeconds},
    topics::{Downward, Upward},
    verify::{self, ByCluster, Verified},
};

use super::{Changed, Cluster, Effect, Fleet, reported::Reported};

impl Fleet {
    pub(super) fn said(
        &mut self,
        now: Now,
        id: &ClusterId,
        topic: Upward,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        // What a connection that is being ended still says is not listened to.
        let member = self.clusters.get(id).filter(|cluster| cluster.connected && self.lets_in(cluster));
        let Some(key) = member.and_then(|cluster| cluster.identity) else { return };
        match topic {
            // The will: the connection is gone, which the transport says by itself.
            Upward::Hello if bytes.is_empty() => {}
            Upward::Hello => {
                if let Some(hello) = self.verify::<Hello>(id, &key, bytes) {
                    self.hello(now, id, &hello, effects);
                }
            }
            Upward::Want => {
                if let Some(want) = self.verify::<Want>(id, &key, bytes) {
                    self.want(id, &want, effects);
                }
            }
            Upward::Report => {
                if let Some(report) = self.verify::<Report>(id, &key, bytes) {
                    self.report(now, id, report, effects);
                }
            }
            Upward::Held => self.held_came(now, id, bytes, effects),
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
        let Some(cluster) = self.clusters.get(id) else { return };
        let behind = cluster.signed.as_ref().is_some_and(|signed| {
            let half = limits::INSTALL_BY_SECONDS / 2;
            let old = signed.desired.install_by.since(now.wall) < half;
            old && !self.is_paused() && hello.desired != Some(signed.desired.digest())
        });
        if cluster.signed.is_none() || behind {
            // The first desired state may be empty: the head needs one. An old one is signed anew to be installed;
            // it fitted before, and if its numbers outgrew it, the old one stays.
            drop(self.sign_desired(now, id, &[], effects));
        }
        let held = self.clusters.get(id).and_then(|cluster| cluster.signed.as_ref());
        let newer = held.is_some_and(|signed| hello.desired != Some(signed.desired.digest()));
        self.send_news(now, id, Some(hello.nonce), newer, effects);
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

    fn report(&mut self, now: Now, id: &ClusterId, report: Verified<Report>, effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        let before = cluster.report.as_ref();
        if before.is_some_and(|before| before.past.contains(&report.journal)) {
            return self.end_life(id, report.journal, effects);
        }
        if before.is_some_and(|before| before.is_newer_than(&report)) {
            self.changed.heard.insert(id.clone());
            return;
        }
        self.take_report(now, id, report, None, effects);
    }

    /// Takes a report that is not older than what is held: from the link, or made at a time and carried here.
    pub(super) fn take_report(
        &mut self,
        now: Now,
        id: &ClusterId,
        report: Verified<Report>,
        carried: Option<UnixSeconds>,
        effects: &mut Vec<Effect>,
    ) {
        // Clusters are looked up once: of ten thousand that takes as long as all else about a report.
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        self.changed.heard.insert(id.clone());
        if let Some(held) = cluster.report.as_mut().filter(|held| held.says_the_same(&report, carried)) {
            let drifted = held.say_again(&report, now);
            return self.heartbeat(now, id, drifted, effects);
        }
        let news = cluster.tell_report(id, &report);
        self.changed.touch_reported(id, cluster, &report);
        let held = Reported::new(cluster.report.take(), report.into_document(), now, carried);
        effects.push(Effect::Store(vec![held.document(id)]));
        effects.extend(news);
        cluster.report = Some(held);
    }

    fn heartbeat(&mut self, now: Now, id: &ClusterId, drifted: bool, effects: &mut Vec<Effect>) {
        if drifted {
            let said = self.said_last(id);
            self.show_cluster(id, said.as_ref(), effects);
        }
        let behind = self.clusters.get(id).is_some_and(|cluster| {
            let (signed, report) = (cluster.signed.as_ref(), cluster.report.as_ref());
            signed.map(|signed| signed.desired.order) > report.map(|report| report.order)
        });
        if behind {
            // It names an older desired state than was signed, so it missed the news.
            self.send_news(now, id, None, true, effects);
        }
    }
}

impl Changed {
    /// Applications that `report` speaks of are counted again, and those whose entry it now speaks of, unlike the one
    /// before it.
    fn touch_reported(&mut self, id: &ClusterId, cluster: &Cluster, report: &Report) {
        let same_life = cluster.report.as_ref().filter(|before| before.journal == report.journal);
        let last = same_life.map(|before| before.order);
        let entries = cluster.signed.iter().flat_map(|signed| signed.entries());
        let newly_told = entries.filter(|(_, since)| last.is_none_or(|last| last < *since));
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
