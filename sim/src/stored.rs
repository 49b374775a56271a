//! What a hub sends, shows and writes, against what stands in its store: clusters and people rely on it after a power cut.

use std::collections::BTreeMap;

use fleet_broker::{
    logic::fleet::{Document, DocumentKind, recovery::Recovery},
    resources::ApplicationClusters,
};
use protocol::{
    codec::{self, Walk},
    cose::Envelope,
    documents::{Ack, Acks, Document as _, Head},
    ids::{ClusterId, Digest, JournalId},
    order::Order,
    together::Together,
    topics::Downward,
};

/// A hub's store.
pub type Store = BTreeMap<(DocumentKind, String), Vec<u8>>;

/// The number that ends a former life of a journal: more than was ever reported.
const ENDS_LIFE: u64 = u64::MAX;

/// What the store has of a cluster's reports, as far as it is looked at here.
struct Reported {
    journal: JournalId,
    past: Vec<JournalId>,
    seq: u64,
    order: Order,
}

impl Reported {
    fn of(stored: &[u8]) -> Option<Self> {
        let mut walk = Walk::new(stored);
        walk.map()?;
        let mut field = || walk.number().and_then(|_| walk.item());
        Some(Self {
            journal: codec::decode("journal", field()?).ok()?,
            past: codec::decode("former lives", field()?).ok()?,
            seq: codec::decode("number", field()?).ok()?,
            order: codec::decode("order", field()?).ok()?,
        })
    }
}

/// Looks at a message to a cluster: what it says is stored.
///
/// # Errors
/// What is wrong.
pub fn check_sent(store: &Store, id: &ClusterId, topic: Downward, bytes: &[u8]) -> Result<(), String> {
    let desired = || store.get(&(DocumentKind::Desired, id.to_string()));
    match topic {
        Downward::Desired => match desired() {
            Some(stored) if stored == bytes => Ok(()),
            Some(_) | None => Err(format!("the hub sends {id} a desired state that is not in its store")),
        },
        Downward::Head => {
            let head = head(bytes).ok_or_else(|| format!("the hub sends {id} a head that is none"))?;
            let is_newest = desired().is_some_and(|stored| Digest::of(stored) == head.desired);
            // One that asks a cluster for what it holds lets nothing start, and may name nothing.
            (is_newest || head.permits.is_empty()).then_some(()).ok_or_else(|| {
                format!("the hub sends {id} a head for {}, which is not the newest", head.order)
            })
        }
        Downward::Ack => {
            let ack =
                ack(bytes).ok_or_else(|| format!("the hub sends {id} an acknowledgement that is none"))?;
            let stored = store.get(&(DocumentKind::Report, id.to_string()));
            let stored = stored.and_then(|stored| Reported::of(stored));
            let is_stored = match &stored {
                Some(stored) if stored.journal == ack.journal => ack.report_seq <= stored.seq,
                Some(_) => ack.report_seq == ENDS_LIFE,
                None => false,
            };
            is_stored.then_some(()).ok_or_else(|| {
                let stored = stored.map_or(0, |stored| stored.seq);
                format!("the hub acknowledges report {} of {id} and has stored {stored}", ack.report_seq)
            })
        }
        Downward::Root | Downward::Blob | Downward::Ask => Ok(()),
    }
}

/// Looks at a document that is about to be stored: reports of a cluster do not go back.
///
/// # Errors
/// What is wrong.
pub fn check_stored(store: &Store, document: &Document) -> Result<(), String> {
    let key = (document.kind, document.key.clone());
    let (DocumentKind::Report, Some(bytes)) = (document.kind, &document.bytes) else { return Ok(()) };
    let news = Reported::of(bytes).ok_or_else(|| format!("the hub stores no report of {}", document.key))?;
    let Some(before) = store.get(&key).and_then(|before| Reported::of(before)) else { return Ok(()) };
    if before.past.contains(&news.journal) {
        return Err(format!("the hub takes a report of a former life of the journal of {}", document.key));
    }
    // A hub that was restored forgets what was reported to the one before.
    let is_older = news.seq < before.seq || news.order < before.order;
    if before.journal == news.journal && is_older && news.seq > 0 {
        let (before, news) = (before.seq, news.seq);
        return Err(format!("the hub takes report {news} of {} after {before}", document.key));
    }
    Ok(())
}

/// Whether an operator has yet to accept what the hub learns, as its store has it: what it sends was decided by then.
pub fn is_paused(store: &Store) -> bool {
    let mut recoveries = store.iter().filter(|((kind, _), _)| *kind == DocumentKind::Recovery);
    recoveries.any(|(_, bytes)| {
        codec::decode::<Recovery>("recovery", bytes).is_ok_and(|recovery| recovery.accepted.is_none())
    })
}

/// Looks at numbers that people see: nothing is counted twice.
///
/// # Errors
/// What is wrong.
pub fn check_counts(counts: &ApplicationClusters, clusters: usize) -> Result<(), String> {
    let ApplicationClusters { desired, updated, available, failed, offline, observed } = *counts;
    let parts = [updated, available, failed, offline, observed];
    let adds_up = desired <= clusters as u64
        && parts.iter().all(|part| *part <= desired)
        && available + failed + observed <= desired;
    adds_up.then_some(()).ok_or_else(|| format!("people see {counts:?} of {clusters} clusters"))
}

/// What a head claims to say. Who signed it is not looked at.
pub fn head(bytes: &[u8]) -> Option<Head> {
    let envelope = Envelope::parse_one(Head::TYPE, bytes).ok()?;
    codec::decode(Head::TYPE.name(), envelope.claimed_payload()).ok()
}

/// What an acknowledgement claims to say, signed by itself or together with others.
pub fn ack(bytes: &[u8]) -> Option<Ack> {
    if !Together::is_meant(bytes) {
        let envelope = Envelope::parse_one(Ack::TYPE, bytes).ok()?;
        return codec::decode(Ack::TYPE.name(), envelope.claimed_payload()).ok();
    }
    let together = Together::parse(bytes).ok()?;
    let envelope = Envelope::parse_many(Acks::TYPE, together.acks()).ok()?;
    let acks: Acks = codec::decode(Acks::TYPE.name(), envelope.claimed_payload()).ok()?;
    codec::decode(Ack::TYPE.name(), together.among(acks.root)?).ok()
}

#[cfg(test)]
mod tests {
    use protocol::{
        cose::{self, Binding},
        ids::FleetId,
        keys::SigningKey,
    };
    use zeroize::Zeroizing;

    use super::*;

    fn id() -> ClusterId {
        ClusterId::new("tower-1").unwrap()
    }

    /// The beginning of what a hub stores of reports.
    fn reported(life: u8, past: &[u8], seq: u64) -> Vec<u8> {
        let journal = |life: u8| JournalId::new([life; JournalId::LEN]);
        let past: Vec<JournalId> = past.iter().copied().map(journal).collect();
        let fields = [
            codec::encode(&journal(life)),
            codec::encode(&past),
            codec::encode(&seq),
            codec::encode(&Order::default()),
        ];
        let entries = fields.iter().enumerate().flat_map(|(place, field)| {
            let place = u8::try_from(place).unwrap();
            [vec![place], field.clone()].concat()
        });
        std::iter::once(0xa4).chain(entries).collect()
    }

    fn store(bytes: Vec<u8>) -> Store {
        Store::from([((DocumentKind::Report, id().to_string()), bytes)])
    }

    fn ack(life: u8, report_seq: u64) -> Vec<u8> {
        let (fleet, id) = (FleetId::new("north").unwrap(), id());
        let binding = Binding { kind: Ack::TYPE, fleet: &fleet, cluster: Some(&id) };
        let (journal, digest) = (JournalId::new([life; JournalId::LEN]), Digest::of(b""));
        let ack = Ack { cluster: id.clone(), journal, report_seq, digest };
        cose::sign_one(binding, &codec::encode(&ack), &SigningKey::from_seed(Zeroizing::new([1; 32])))
    }

    #[test]
    fn only_what_is_stored_is_acknowledged() {
        let store = store(reported(2, &[1], 5));
        for (life, seq, expected) in [
            (2, 4, true),
            (2, 5, true),
            (2, 6, false),
            (1, 5, false),
            (1, ENDS_LIFE, true),
            (2, ENDS_LIFE, false),
        ] {
            let sent = check_sent(&store, &id(), Downward::Ack, &ack(life, seq));
            assert_eq!(sent.is_ok(), expected, "{seq} of {life}: {sent:?}");
        }
        assert!(check_sent(&Store::new(), &id(), Downward::Ack, &ack(2, 1)).is_err());
    }

    #[test]
    fn reports_do_not_go_back() {
        let store = store(reported(2, &[1], 5));
        for (life, past, seq, expected) in [
            (2, vec![1], 5, true),
            (2, vec![1], 6, true),
            (2, vec![1], 0, true),
            (2, vec![1], 4, false),
            (3, vec![1, 2], 1, true),
            (1, vec![1, 2], 9, false),
        ] {
            let bytes = Some(reported(life, &past, seq));
            let document = Document { kind: DocumentKind::Report, key: id().to_string(), bytes };
            let stored = check_stored(&store, &document);
            assert_eq!(stored.is_ok(), expected, "{seq} of {life}: {stored:?}");
        }
    }

    #[test]
    fn numbers_add_up() {
        for (desired, available, failed, expected) in
            [(8, 8, 0, true), (8, 7, 1, true), (8, 8, 1, false), (9, 0, 0, false), (0, 1, 0, false)]
        {
            let counts = ApplicationClusters { desired, available, failed, ..Default::default() };
            assert_eq!(check_counts(&counts, 8).is_ok(), expected, "{counts:?}");
        }
    }
}
