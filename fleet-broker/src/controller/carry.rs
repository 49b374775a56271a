//! What the fleet is asked about files that are carried by hand.

use protocol::ids::ClusterId;
use tokio::sync::oneshot;

use super::{Batch, Controller, Waiting};
use crate::logic::fleet::carry::{CarryRefusal, Export};

/// What the API asks about such files.
#[derive(Debug)]
pub enum CarryQuestion {
    /// For what brings a cluster to its newest desired state.
    Export {
        /// Which cluster.
        cluster: ClusterId,
        /// Whether with the content that the cluster said it has.
        full: bool,
        /// Takes it, once what was signed for it is durable.
        answer: oneshot::Sender<Result<Box<Export>, CarryRefusal>>,
    },
    /// To take reports that were carried here.
    Reports {
        /// Of which cluster.
        cluster: ClusterId,
        /// Their envelopes.
        envelopes: Vec<Vec<u8>>,
        /// Takes how many were news, once they are durable.
        answer: oneshot::Sender<Result<usize, CarryRefusal>>,
    },
}

/// An answer that waits for what it speaks of to be durable.
pub(super) enum CarryAnswer {
    Export(oneshot::Sender<Result<Box<Export>, CarryRefusal>>, Result<Box<Export>, CarryRefusal>),
    Reports(oneshot::Sender<Result<usize, CarryRefusal>>, Result<usize, CarryRefusal>),
}

impl CarryAnswer {
    pub(super) fn send(self) {
        // Whoever asked may have gone; what was asked for is done.
        match self {
            Self::Export(answer, export) => drop(answer.send(export)),
            Self::Reports(answer, taken) => drop(answer.send(taken)),
        }
    }
}

impl Controller {
    pub(super) fn carrying(&mut self, question: CarryQuestion, batch: &mut Batch) {
        let (answer, effects) = match question {
            CarryQuestion::Export { cluster, full, answer } => {
                let (export, effects) = self.fleet.export(self.now(), &cluster, full);
                (CarryAnswer::Export(answer, export.map(Box::new)), effects)
            }
            CarryQuestion::Reports { cluster, envelopes, answer } => {
                let (taken, effects) = self.fleet.carried_reports(self.now(), &cluster, &envelopes);
                (CarryAnswer::Reports(answer, taken), effects)
            }
        };
        batch.effects.extend(effects);
        batch.waiting.push(Waiting::Carry(answer));
    }
}
