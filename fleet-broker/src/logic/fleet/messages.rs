//! What clusters say. Whatever is not signed by the cluster's own key changes nothing.

use protocol::{
    codec,
    documents::{AppReport, AppState, Chunk, Encoding, Hello, Report, Want},
    ids::{AppId, ClusterId, Digest},
    limits,
    time::Now,
    topics::{Downward, Upward},
    verify::{self, ByCluster, Verified},
};

use super::{Document, DocumentKind, Effect, Fleet, Reported};

impl Fleet {
    pub(super) fn said(
        &mut self,
        now: Now,
        id: &ClusterId,
        topic: Upward,
        bytes: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        match topic {
            // The will: the connection is gone, which the transport says by itself.
            Upward::Hello if bytes.is_empty() => {}
            Upward::Hello => {
                if let Some(hello) = self.verify::<Hello>(id, bytes) {
                    self.hello(now, id, &hello, effects);
                }
            }
            Upward::Want => {
                if let Some(want) = self.verify::<Want>(id, bytes) {
                    self.want(id, &want, effects);
                }
            }
            Upward::Report => {
                if let Some(report) = self.verify::<Report>(id, bytes) {
                    self.report(now, id, &report, effects);
                }
            }
        }
    }

    fn verify<T: ByCluster>(&self, id: &ClusterId, bytes: &[u8]) -> Option<Verified<T>> {
        let key = self.clusters.get(id)?.identity.as_ref()?;
        verify::by_cluster(&self.trust.root().fleet, id, key, bytes).ok()
    }

    fn hello(&mut self, now: Now, id: &ClusterId, hello: &Hello, effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get(id) else { return };
        if !cluster.accepted {
            return;
        }
        let behind = cluster.signed.as_ref().is_some_and(|signed| {
            let half = limits::INSTALL_BY_SECONDS / 2;
            let old = signed.desired.install_by.since(now.wall) < half;
            old && hello.desired != Some(signed.desired.digest())
        });
        if cluster.signed.is_none() || behind {
            // The first desired state may be empty: the head needs one. An old one is signed anew to be installed.
            self.tell_silently(now, id, effects);
        }
        let held = self.clusters.get(id).and_then(|cluster| cluster.signed.as_ref());
        let newer = held.is_some_and(|signed| hello.desired != Some(signed.desired.digest()));
        self.send_news(now, id, Some(hello.nonce), newer, effects);
    }

    /// Signs without sending: the answer to a hello follows, with its nonce.
    fn tell_silently(&mut self, now: Now, id: &ClusterId, effects: &mut Vec<Effect>) {
        let mut signing = Vec::new();
        self.tell(now, id, Vec::new(), &mut signing);
        effects.extend(signing.into_iter().filter(|effect| matches!(effect, Effect::Store(_))));
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
        let known = self.bundles.values().flatten().find(|release| release.digest == want.target);
        let bytes = known.map_or(&[][..], |release| release.bytes.as_slice());
        let start = usize::try_from(want.offset).unwrap_or(usize::MAX).min(bytes.len());
        let chunks = window(want.target, Encoding::Plain, bytes.len() as u64, start as u64, &bytes[start..]);
        let push = |chunk: &Chunk| Effect::Push(id.clone(), Downward::Blob, chunk.encode());
        effects.extend(chunks.iter().map(push));
    }

    fn report(&mut self, now: Now, id: &ClusterId, report: &Report, effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        let known = cluster.report.take();
        let before = known.clone();
        let held = match known.filter(|known| known.journal == report.journal) {
            Some(known) if known.seq > report.report_seq => known,
            known => Reported::new(known.map(|known| known.apps).unwrap_or_default(), report, now),
        };
        let changed = before.as_ref().is_none_or(|before| !before.says_the_same(&held));
        if changed {
            let bytes = Some(codec::encode(&held));
            effects.push(Effect::Store(vec![Document {
                kind: DocumentKind::Report,
                key: id.to_string(),
                bytes,
            }]));
        }
        let order = held.order;
        cluster.report = Some(held);
        self.acknowledge(id, report.journal, effects);
        // A heartbeat that names an older desired state than was signed missed the news: say it again.
        let behind = |signed: &super::Signed| signed.desired.order > order;
        let missed =
            !changed && self.clusters.get(id).and_then(|cluster| cluster.signed.as_ref()).is_some_and(behind);
        if missed {
            self.send_news(now, id, None, true, effects);
        }
        self.changed.clusters.insert(id.clone());
        self.changed.reports = true;
    }
}

/// Cuts `bytes`, which stand at `offset` of content of `total` bytes, into pieces, one window at most. Content that
/// is not there has a total of zero.
pub fn window(target: Digest, encoding: Encoding, total: u64, offset: u64, bytes: &[u8]) -> Vec<Chunk> {
    if total == 0 {
        return vec![Chunk { target, encoding, total, offset: 0, bytes: Vec::new() }];
    }
    let pieces = bytes.chunks(limits::CHUNK_BYTES).take(limits::WINDOW_CHUNKS).enumerate();
    pieces
        .map(|(index, piece)| {
            let offset = offset + (index * limits::CHUNK_BYTES) as u64;
            Chunk { target, encoding, total, offset, bytes: piece.to_vec() }
        })
        .collect()
}

impl Reported {
    fn new(mut apps: Vec<AppReport>, report: &Report, now: Now) -> Self {
        for app in &report.apps {
            apps.retain(|known| known.app != app.app);
            apps.push(app.clone());
        }
        apps.sort_by(|a, b| a.app.cmp(&b.app));
        apps.truncate(limits::APPLICATIONS);
        Self {
            journal: report.journal,
            seq: report.report_seq,
            order: report.order,
            apps,
            conditions: report.conditions.clone(),
            clock_skew: report.clock.since(now.wall).max(now.wall.since(report.clock)),
            kubernetes: report.kubernetes.clone(),
            agent: report.agent.clone(),
            at: now.wall,
        }
    }

    /// Whether nothing differs but the clocks: a heartbeat.
    fn says_the_same(&self, other: &Self) -> bool {
        let bare = |report: &Self| Self { at: Default::default(), clock_skew: 0, ..report.clone() };
        bare(self) == bare(other)
    }

    /// The digest of all that is held, as the agent computes it: what was removed counts on neither side.
    pub(super) fn digest(&self) -> Digest {
        Report::digest_of(self.apps.iter().filter(|app| app.state != AppState::Removed))
    }

    /// Whether the cluster says that `app` is removed.
    pub(super) fn is_removed(&self, app: &AppId) -> bool {
        self.apps.iter().any(|report| &report.app == app && report.state == AppState::Removed)
    }
}
