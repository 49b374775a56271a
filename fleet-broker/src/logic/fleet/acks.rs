//! Acknowledgements: what a cluster hears of its reports, once what they said is durable.

use protocol::{
    codec,
    cose::{self, Binding},
    documents::{Ack, Acks, Document as _, Report},
    ids::{ClusterId, JournalId},
    limits,
    planted::Bug,
    together::Tree,
    topics::Downward,
};

use super::{Cluster, Effect, Fleet};

/// Room for an acknowledgement of a cluster whose name is not unusually long.
const ACK_ROOM: usize = 128;

impl Fleet {
    /// Tells every cluster that is to hear it what the hub holds, whatever it sent. One that is away hears it when it
    /// connects and says the same again.
    pub(super) fn acknowledge(&mut self, effects: &mut Vec<Effect>) {
        let heard = std::mem::take(&mut self.changed.heard);
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for id in heard {
            let Some(cluster) = self.clusters.get_uncounted(&id) else { continue };
            cluster.awaits_ack = !cluster.connected && Bug::AckOwedForEver.is_planted();
            let acks = if cluster.reads_together { &mut together } else { &mut alone };
            acks.extend(cluster.ack(id));
        }
        effects.extend(alone.iter().map(|ack| self.signed_ack(ack)));
        for acks in together.chunks(limits::ACKS_TOGETHER) {
            match acks {
                // By itself it is shorter.
                [ack] => effects.push(self.signed_ack(ack)),
                acks => effects.extend(self.signed_together(acks)),
            }
        }
    }

    /// Ends a former life of a cluster's journal, if a disk was put back that still lives it: an acknowledgement of
    /// more than was ever sent makes the cluster begin another. To one that lives on, it says nothing.
    pub(super) fn end_life(&self, id: &ClusterId, journal: JournalId, effects: &mut Vec<Effect>) {
        let digest = Report::digest_of([]);
        effects.push(self.signed_ack(&Ack { cluster: id.clone(), journal, report_seq: u64::MAX, digest }));
    }

    /// One signature for all of them: it costs more than everything else about an acknowledgement.
    fn signed_together(&self, acks: &[Ack]) -> Vec<Effect> {
        let encoded: Vec<Vec<u8>> = acks.iter().map(encoded).collect();
        let tree = Tree::new(encoded.iter().map(Vec::as_slice));
        let binding = Binding { kind: Acks::TYPE, fleet: &self.trust.root().fleet, cluster: None };
        let signed = cose::sign_many(binding, &codec::encode(&Acks { root: tree.root() }), &[&self.director]);
        let messages = encoded.iter().enumerate().map(|(place, ack)| tree.message(&signed, ack, place));
        let push =
            |(ack, message): (&Ack, Vec<u8>)| Effect::Push(ack.cluster.clone(), Downward::Ack, message);
        acks.iter().zip(messages).map(push).collect()
    }

    fn signed_ack(&self, ack: &Ack) -> Effect {
        Effect::Push(ack.cluster.clone(), Downward::Ack, self.sign(Ack::TYPE, &ack.cluster, ack))
    }
}

/// An acknowledgement in little more room than it takes: hundreds are held at once.
fn encoded(ack: &Ack) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ACK_ROOM);
    codec::encode_into(&mut bytes, ack);
    bytes
}

impl Cluster {
    fn ack(&self, id: ClusterId) -> Option<Ack> {
        let report = self.report.as_ref().filter(|_| self.connected)?;
        Some(Ack { cluster: id, journal: report.journal, report_seq: report.seq, digest: report.digest })
    }
}
