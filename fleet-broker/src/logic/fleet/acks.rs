//! Acknowledgements: what a cluster hears of its reports, once what they said is durable.

use protocol::{
    documents::{Ack, Document as _, Report},
    ids::{ClusterId, JournalId},
    topics::Downward,
};

use super::{Effect, Fleet};

impl Fleet {
    /// Tells every cluster that is to hear it what the hub holds, whatever it sent. One that is away hears it when it
    /// connects and says the same again.
    pub(super) fn acknowledge(&mut self, effects: &mut Vec<Effect>) {
        let heard = std::mem::take(&mut self.changed.heard);
        let acks = heard.into_iter().filter_map(|id| self.ack_for(id));
        effects.extend(acks.map(|ack| self.signed_ack(&ack)));
    }

    /// Ends a former life of a cluster's journal, if a disk was put back that still lives it: an acknowledgement of
    /// more than was ever sent makes the cluster begin another. To one that lives on, it says nothing.
    pub(super) fn end_life(&self, id: &ClusterId, journal: JournalId, effects: &mut Vec<Effect>) {
        let digest = Report::digest_of([]);
        effects.push(self.signed_ack(&Ack { cluster: id.clone(), journal, report_seq: u64::MAX, digest }));
    }

    fn ack_for(&self, cluster: ClusterId) -> Option<Ack> {
        let report = self.clusters.get(&cluster).filter(|cluster| cluster.connected)?.report.as_ref()?;
        Some(Ack { cluster, journal: report.journal, report_seq: report.seq, digest: report.digest() })
    }

    fn signed_ack(&self, ack: &Ack) -> Effect {
        Effect::Push(ack.cluster.clone(), Downward::Ack, self.sign(Ack::TYPE, &ack.cluster, ack))
    }
}
