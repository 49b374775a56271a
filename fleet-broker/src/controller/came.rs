//! What comes from the transport: what clusters say, and who asks to be one.

use bytes::Bytes;
use protocol::{codec, ids::TokenId, renew::RenewAsk};
use tokio::sync::oneshot;

use super::{Batch, Controller, Waiting};
use crate::{
    clock,
    logic::fleet::{Event, messages::HEARD_AT_ONCE},
    transport::TransportEvent,
};

/// What came from the transport, verified where it is a cluster's.
enum Came {
    /// What the fleet is to handle; a message is acknowledged then.
    Event(Box<Event>, Option<oneshot::Sender<()>>),
    /// One that asks to join, or for a new certificate.
    Ask(TokenId, Bytes, oneshot::Sender<Bytes>),
}

impl Controller {
    /// What clusters said is verified first, some of it together.
    pub(super) fn transport_events(&mut self, came: Vec<TransportEvent>, batch: &mut Batch) {
        let mut came = came.into_iter();
        loop {
            let some = came.by_ref().take(HEARD_AT_ONCE).map(|event| self.came(event));
            let some: Vec<Came> = some.collect();
            if some.is_empty() {
                break;
            }
            some.into_iter().for_each(|came| self.handle_came(came, batch));
        }
    }

    fn handle_came(&mut self, came: Came, batch: &mut Batch) {
        match came {
            Came::Event(event, done) => {
                self.fleet_event(*event, batch);
                batch.waiting.extend(done.map(Waiting::Message));
            }
            Came::Ask(token, question, answer) => {
                let reply = match codec::decode::<RenewAsk>("renewal", &question) {
                    Ok(ask) => self.renewing(&ask),
                    Err(_) => self.enrolling(&token, &question, batch),
                };
                batch.waiting.push(Waiting::Answer(answer, Bytes::from(reply)));
            }
        }
    }

    fn came(&self, event: TransportEvent) -> Came {
        match event {
            TransportEvent::Connected { cluster, .. } => {
                Came::Event(Box::new(Event::Connected(cluster)), None)
            }
            TransportEvent::Gone { cluster, .. } => Came::Event(Box::new(Event::Gone(cluster)), None),
            TransportEvent::Message { cluster, topic, payload, done, .. } => {
                let said = Event::Said(cluster, topic, payload.to_vec());
                Came::Event(Box::new(self.fleet.hear(said)), Some(done))
            }
            TransportEvent::EnrolAsk { token, payload, answer, .. } => Came::Ask(token, payload, answer),
        }
    }

    fn renewing(&mut self, ask: &RenewAsk) -> Vec<u8> {
        let now = self.now();
        codec::encode(&self.renewals.answer(ask, &self.fleet, &self.authority, now, clock::now()))
    }

    fn enrolling(&mut self, token: &TokenId, question: &[u8], batch: &mut Batch) -> Vec<u8> {
        let (authority, root) = (&self.authority, &self.root);
        let granted = self.tokens.answer(token, question, authority, &self.fleet, root, clock::now());
        let reply = match granted {
            Ok(granted) => {
                batch.writes.extend(granted.writes);
                let cluster = granted.cluster.clone();
                self.fleet_event(Event::Enrolled(granted.cluster, granted.identity), batch);
                self.admit(&cluster);
                granted.answer
            }
            Err(refused) => refused,
        };
        codec::encode(&reply)
    }
}
