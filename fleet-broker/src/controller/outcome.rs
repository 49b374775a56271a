//! Carries out what the fleet core decided: it is stored, then sent, then shown, then whoever waits is answered.

use bytes::Bytes;
use protocol::{
    documents::{Chunk, Encoding},
    enrol::JoinCode,
    ids::{ClusterId, Digest},
    limits,
    topics::Downward,
};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{ACTOR, Controller, Revoked, carry::CarryAnswer};
use crate::{
    logic::{
        fleet::{Document, DocumentKind, Effect, messages, recovery::Standing},
        occurrence::{Occurrence, Reason},
        registry::EVENTS_MAX,
    },
    store::{StoreError, Write},
};

/// Events told at once: whoever speaks to the hub waits for no more than these.
const TOLD_AT_ONCE: usize = 512;

/// A message to be acknowledged, or a question to be answered, once what it caused is durable.
pub(super) enum Waiting {
    Message(oneshot::Sender<()>),
    Answer(oneshot::Sender<Bytes>, Bytes),
    Code(oneshot::Sender<Result<JoinCode, String>>, Box<JoinCode>),
    Standing(oneshot::Sender<Option<Standing>>, Option<Box<Standing>>),
    Revoked(oneshot::Sender<Option<Revoked>>, Revoked),
    Carry(CarryAnswer),
}

impl Waiting {
    /// Whoever waited may have gone; what it asked for is done.
    fn answer(self) {
        match self {
            Self::Message(done) => drop(done.send(())),
            Self::Answer(answer, bytes) => drop(answer.send(bytes)),
            Self::Code(answer, code) => drop(answer.send(Ok(*code))),
            Self::Standing(answer, standing) => drop(answer.send(standing.map(|standing| *standing))),
            Self::Revoked(answer, revoked) => drop(answer.send(Some(revoked))),
            Self::Carry(answer) => answer.send(),
        }
    }
}

/// What one batch of events leads to.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    pub(super) effects: Vec<Effect>,
    pub(super) waiting: Vec<Waiting>,
}

/// What follows once a batch is durable.
#[derive(Default)]
struct Outcome {
    sent: Vec<Effect>,
    shown: Vec<Effect>,
    occurred: Vec<Occurrence>,
    waiting: Vec<Waiting>,
}

/// A batch on its way to the store.
pub(crate) struct Storing {
    stored: JoinHandle<Result<(), StoreError>>,
    outcome: Outcome,
}

impl Controller {
    /// Stores everything at once, then sends, then shows, then acknowledges: of the batch, the room alone is left.
    ///
    /// While a change goes on to more clusters, a batch is stored while the next is signed: what follows of it waits for
    /// the next call. The store takes one after the other.
    pub(super) async fn carry_out(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        let before = self.stored().await?;
        let (writes, occurred, outcome) = self.decided(batch);
        let hub = self.hub.clone();
        let stored =
            async move { if writes.is_empty() { Ok(()) } else { hub.commit(ACTOR, occurred, writes).await } };
        if self.fleet.has_more() {
            self.storing = Some(Storing { stored: tokio::spawn(stored), outcome });
            self.follow(before).await;
            // What waits to be written goes before the next are signed for.
            tokio::task::yield_now().await;
        } else {
            self.follow(before).await;
            stored.await?;
            self.follow(outcome).await;
        }
        Ok(())
    }

    /// Ends what is on its way.
    pub(super) async fn finish(&mut self) -> Result<(), StoreError> {
        let last = self.stored().await?;
        self.follow(last).await;
        Ok(())
    }

    /// What follows of the batch that was on its way to the store, and is there now; nothing, if there was none.
    async fn stored(&mut self) -> Result<Outcome, StoreError> {
        let Some(Storing { stored, outcome }) = self.storing.take() else { return Ok(Outcome::default()) };
        stored.await.map_err(|_| StoreError::Closed)??;
        Ok(outcome)
    }

    /// What of a batch is stored, with what happened, and what follows.
    fn decided(&mut self, batch: &mut Batch) -> (Vec<Write>, Vec<Occurrence>, Outcome) {
        let mut writes = std::mem::take(&mut batch.writes);
        let (mut sent, mut shown) = (Vec::new(), Vec::new());
        let mut clock_set = false;
        for effect in batch.effects.drain(..) {
            match effect {
                Effect::Store(documents) => writes.extend(documents.into_iter().map(write_of)),
                Effect::Push(..) | Effect::SendContent { .. } | Effect::Kick(_) => sent.push(effect),
                Effect::ClusterStatus(..) | Effect::ApplicationStatus(..) | Effect::Assignment(..) => {
                    shown.push(effect);
                }
                Effect::Occurred(occurrence) => {
                    // All applications are told of it; the log, once.
                    if occurrence.reason == Reason::ClockSet && !std::mem::replace(&mut clock_set, true) {
                        tracing::warn!("{}", occurrence.message);
                    }
                    self.untold.push(occurrence);
                }
            }
        }
        let recovers = |write: &Write| matches!(write, Write::PutDocument { kind, .. } if *kind == DocumentKind::Recovery.name());
        if writes.iter().any(recovers) {
            self.log_standing();
        }
        let occurred = self.next_told();
        // Events are seldom a commit of their own: what happened is told with the documents it came of, else with the
        // statuses.
        let (stored, occurred) =
            if writes.is_empty() { (Vec::new(), occurred) } else { (occurred, Vec::new()) };
        (writes, stored, Outcome { sent, shown, occurred, waiting: std::mem::take(&mut batch.waiting) })
    }

    /// Sends, shows and answers what is durable.
    async fn follow(&self, outcome: Outcome) {
        for effect in outcome.sent {
            self.send(effect).await;
        }
        self.show(outcome.shown, outcome.occurred).await;
        for waiting in outcome.waiting {
            waiting.answer();
        }
    }

    /// What is to be told now of what happened.
    fn next_told(&mut self) -> Vec<Occurrence> {
        self.untold.drain(..self.told_now()).collect()
    }

    pub(super) fn told_now(&self) -> usize {
        let waits = self.fleet.holds_back() && self.untold.len() < EVENTS_MAX;
        if waits { 0 } else { self.untold.len().min(TOLD_AT_ONCE) }
    }

    async fn send(&self, effect: Effect) {
        match effect {
            Effect::Push(cluster, topic, bytes) => self.push(&cluster, topic, bytes).await,
            Effect::SendContent { cluster, target, encoding, offset } => {
                self.send_content(&cluster, target, encoding, offset).await;
            }
            Effect::Kick(cluster) => drop(self.transport.kick(&cluster)),
            Effect::Store(_)
            | Effect::ClusterStatus(..)
            | Effect::ApplicationStatus(..)
            | Effect::Occurred(_)
            | Effect::Assignment(..) => {}
        }
    }

    async fn push(&self, cluster: &ClusterId, topic: Downward, bytes: Vec<u8>) {
        // Delivery is state: whoever misses this says hello again, or asks again.
        if let Err(error) = self.transport.push(cluster, topic, Bytes::from(bytes)).await {
            tracing::debug!(%cluster, ?topic, %error, "not pushed");
        }
    }

    async fn send_content(&self, cluster: &ClusterId, target: Digest, encoding: Encoding, offset: u64) {
        let chunks = match self.window(target, encoding, offset).await {
            Ok(chunks) => chunks,
            Err(error) => {
                tracing::error!(%cluster, %target, %error, "content cannot be read; publish its bundle again");
                // The cluster says so at once, and asks again later.
                messages::window(target, encoding, 0, 0, &[])
            }
        };
        for chunk in chunks {
            self.push(cluster, Downward::Blob, chunk.encode()).await;
        }
    }

    async fn window(
        &self,
        target: Digest,
        encoding: Encoding,
        offset: u64,
    ) -> Result<Vec<Chunk>, StoreError> {
        let store = self.hub.store();
        let Some(blob) = store.blob(*target.as_bytes()).await? else {
            return Ok(messages::window(target, encoding, 0, 0, &[]));
        };
        let len = limits::CHUNK_BYTES * limits::WINDOW_CHUNKS;
        let bytes = store.read_blob(*target.as_bytes(), offset, len).await?;
        let expected = blob.zstd_len.saturating_sub(offset).min(len as u64);
        if (bytes.len() as u64) < expected {
            return Err(StoreError::Corrupt { what: "a blob is shorter than its record".to_owned() });
        }
        Ok(messages::window(target, encoding, blob.zstd_len, offset, &bytes))
    }
}

fn write_of(document: Document) -> Write {
    let kind = DocumentKind::name(document.kind);
    match document.bytes {
        Some(bytes) => Write::PutDocument { kind, key: document.key, bytes },
        None => Write::DeleteDocument { kind, key: document.key },
    }
}
